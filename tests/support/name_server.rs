//! A DNS server (RFC 1035) for [`namespace`](super::namespace)s: what it answers is a function's affair.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::PATIENCE;
use super::namespace::NAME_SERVER;

/// What a name server does with a question.
pub enum Reply {
    /// Nothing, ever.
    Silence,
    /// A response code (RFC 1035 §4.1.1) without addresses; 0: the name has none.
    Code(u8),
    /// Those of the family that was asked for.
    Addresses(Vec<IpAddr>),
}

/// Answers until it is dropped.
pub struct NameServer {
    asked: Receiver<String>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl NameServer {
    /// `reply`: what is answered to a question for a name. It may take its time: others wait meanwhile.
    pub fn start(reply: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind(NAME_SERVER).expect("the port of a name server");
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (sender, asked) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut packet = [0; 1500];
            while !over.load(Ordering::Relaxed) {
                let (length, from) = match socket.recv_from(&mut packet) {
                    Ok(received) => received,
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                        continue;
                    }
                    Err(error) => panic!("receive: {error}"),
                };
                let query = &packet[..length];
                let (name, end) = name_of(query);
                let _ = sender.send(name.clone());
                let kind = u16::from_be_bytes([query[end], query[end + 1]]);
                let (code, addresses) = match reply(&name) {
                    Reply::Silence => continue,
                    Reply::Code(code) => (code, Vec::new()),
                    Reply::Addresses(addresses) => (0, addresses),
                };
                let _ = socket.send_to(&response(query, end + 4, kind, code, &addresses), from);
            }
        });
        Self { asked, is_over, thread: Some(thread) }
    }

    /// Waits for a question for that name.
    #[track_caller]
    pub fn wait_for(&self, name: &str) {
        while self.asked.recv_timeout(PATIENCE).expect("a question") != name {}
    }

    /// How often it was asked for a name, of what nobody waited for.
    pub fn times_asked(&self, name: &str) -> usize {
        self.asked.try_iter().filter(|asked| asked == name).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The name of the first question, and where it ends.
fn name_of(query: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn response(query: &[u8], end: usize, kind: u16, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
    let data = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) if kind == A => Some(address.octets().to_vec()),
        IpAddr::V6(address) if kind == AAAA => Some(address.octets().to_vec()),
        _ => None,
    });
    let data: Vec<Vec<u8>> = data.collect();
    let mut packet = query[..2].to_vec();
    // A response to a question that wanted recursion, and had it.
    packet.extend([0x81, 0x80 | code, 0, 1, 0, data.len() as u8, 0, 0, 0, 0]);
    packet.extend(&query[12..end]);
    for data in data {
        // The name of the question; class IN, 60 seconds.
        packet.extend([0xc0, 12]);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
        packet.extend(data);
    }
    packet
}
