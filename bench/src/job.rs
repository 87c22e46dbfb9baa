//! What a client process is asked to do.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use crate::tls::HOSTS;
use crate::workload::{Compression, Security, Shape, Workload};

/// A workload against a server.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to do.
    pub workload: &'static Workload,
    /// The server's port for it.
    pub port: u16,
    /// Messages (or connections) to measure.
    pub count: u64,
    /// Messages (or connections) before those.
    pub warm: u64,
}

impl Job {
    /// A run of `count`, behind its warm-up.
    pub fn new(workload: &'static Workload, port: u16, count: u64) -> Self {
        let count = match workload.shape {
            // Every connection has the same number of messages, every window is full.
            Shape::Many { connections, .. } => count.next_multiple_of(connections as u64),
            Shape::Pipe { window: multiple, .. } | Shape::Sink { batch: multiple, .. } => {
                count.next_multiple_of(multiple)
            }
            _ => count,
        };
        Self { workload, port, count, warm: workload.warm_up(count) }
    }

    /// Whether the connections are `wss`.
    pub fn is_tls(&self) -> bool {
        self.workload.security != Security::Plain
    }

    /// Where a connection goes: they take turns with the addresses, because each of those has ports for some ten
    /// thousand only. A run with few connections at a time stays at one, so that TLS sessions can be resumed.
    pub fn address(&self, connection: usize) -> SocketAddr {
        let host = match self.workload.shape {
            Shape::Idle { .. } | Shape::Many { .. } if !self.is_tls() => {
                1 + u8::try_from(connection % HOSTS).unwrap_or_default()
            }
            _ => 1,
        };
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), self.port)
    }

    /// The URL of a connection.
    pub fn url(&self, connection: usize) -> String {
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.address(connection), self.target())
    }

    /// The path and the query, which tell the server what to do.
    pub fn target(&self) -> String {
        let compression = match self.workload.compression {
            Compression::Off => String::new(),
            compression => format!("&compression={}", compression.name()),
        };
        match self.workload.shape {
            Shape::Echo { .. } | Shape::Pipe { .. } | Shape::Many { .. } => "/echo".to_owned(),
            Shape::Flood { size, kind } => {
                format!("/flood?count={}&size={size}&kind={}{compression}", self.warm + self.count, kind.name())
            }
            Shape::Sink { .. } => format!("/sink?count={}{compression}", self.warm + self.count),
            Shape::Backlog { .. } => format!("/sink?count={}&hold=4000", self.count),
            Shape::Idle { .. } | Shape::Connect => "/idle".to_owned(),
        }
    }

    /// Bytes of frames for a byte of messages, by the server, when a flood or a sink is over.
    pub fn wire(&self) -> io::Result<f64> {
        let mut socket = TcpStream::connect(self.address(0))?;
        socket.write_all(b"GET /traffic HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let traffic = answer.split("\r\n\r\n").nth(1).and_then(|body| body.parse::<u64>().ok());
        let traffic = traffic.ok_or_else(|| io::Error::other("the server does not tell"))?;
        let messages = (self.warm + self.count) * self.workload.size() as u64;
        Ok(traffic as f64 / messages as f64)
    }
}
