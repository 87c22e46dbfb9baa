//! The clients. Each does every workload in the way of its library, and checks what comes by kind and length.

mod asynchronous;
mod blocking;
mod urlsession;

use crate::job::Job;
use crate::meter::Report;
use crate::workload::{Compression, Workload};

/// A client.
#[derive(Debug)]
pub struct Client {
    /// What it is called on the command line and in the results.
    pub name: &'static str,
    /// Whose it is.
    pub side: Side,
    /// Whether it can compress messages.
    pub deflates: bool,
    /// Does a job.
    pub run: fn(&Job) -> Report,
}

/// Whose a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This crate.
    Own,
    /// The same bytes without a protocol: what nobody can do without.
    Floor,
    /// Another library.
    Peer,
}

/// All clients, in the order of the results.
pub const CLIENTS: &[Client] = &[
    Client { name: "urlsession", side: Side::Own, deflates: true, run: urlsession::serial },
    Client { name: "immediate", side: Side::Own, deflates: true, run: urlsession::immediate },
    Client { name: "rawtcp", side: Side::Floor, deflates: false, run: blocking::raw_tcp },
    Client { name: "tungstenite", side: Side::Peer, deflates: false, run: blocking::tungstenite },
    Client { name: "tokio-tungstenite", side: Side::Peer, deflates: false, run: asynchronous::tokio_tungstenite },
    Client { name: "tokio-websockets", side: Side::Peer, deflates: false, run: asynchronous::tokio_websockets },
    Client { name: "fastwebsockets", side: Side::Peer, deflates: false, run: asynchronous::fastwebsockets },
    Client { name: "yawc", side: Side::Peer, deflates: true, run: asynchronous::yawc },
];

impl Client {
    /// The client of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CLIENTS.iter().find(|client| client.name == name)
    }

    /// Whether it can do a workload.
    pub fn can_do(&self, workload: &Workload) -> bool {
        self.deflates || workload.compression == Compression::Off
    }
}
