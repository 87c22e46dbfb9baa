//! The rows of the table of ends, each as a server and what the client does, for tests that go through all of them.

#![allow(dead_code, reason = "each test file uses a part")]

use urlsession::{CloseCode, Url, UrlSession, WebSocketTask};

use super::{Peer, Server, closed_port, frame};

/// How a task comes to its end, and what is to be seen of it.
pub struct Row {
    pub name: &'static str,
    /// None: nobody listens.
    script: Option<fn(Peer)>,
    /// What the client does when it has the first message.
    pub act: fn(&UrlSession, &WebSocketTask),
    /// What is received, in words.
    pub messages: &'static [&'static str],
    /// What a receive fails with then.
    pub waiting: i32,
    /// The error of the task; 0: none.
    pub error: i32,
    pub close_code: u16,
    /// Of the response; 0: there is none.
    pub status: u16,
}

/// A field of every response of [`ROWS`].
pub const FIELD: (&str, &str) = ("X-Room", "7");

/// The limit of a task of row G.
pub const LIMIT: usize = 1000;

impl Row {
    /// The server of the row, where there is one, and its address.
    pub fn start(&self) -> (Option<Server>, Url) {
        match self.script {
            Some(script) => {
                let server = Server::one(script);
                let url = server.url();
                (Some(server), url)
            }
            None => (None, Url::parse(&format!("ws://127.0.0.1:{}/", closed_port())).unwrap()),
        }
    }

    /// What a receive that fails is told, in words.
    pub fn failure(&self) -> String {
        self.waiting.to_string()
    }
}

/// Opens and sends `one`; waits for what the client does then.
fn opened(mut peer: Peer) -> Peer {
    peer.open_with("X-Room: 7\r\n");
    peer.text("one");
    assert_eq!(peer.read_frame().payload, b"go on");
    peer
}

fn go_on(_session: &UrlSession, task: &WebSocketTask) {
    task.send("go on", |_| ());
}

fn until_closed(mut peer: Peer) {
    peer.open_with("X-Room: 7\r\n");
    peer.text("one");
    let (code, _) = peer.read_close();
    peer.close(code.unwrap_or(1000), "");
}

fn nothing(_session: &UrlSession, _task: &WebSocketTask) {}

/// A row whose task opens and receives one message.
const OPENED: Row = Row {
    name: "",
    script: Some(until_closed),
    act: go_on,
    messages: &["string one"],
    waiting: -999,
    error: -999,
    close_code: 0,
    status: 101,
};

/// A row whose task never opens.
const REFUSED: Row = Row { act: nothing, messages: &[], waiting: -1011, error: -1011, ..OPENED };

pub const ROWS: &[Row] = &[
    Row {
        name: "A: the server's Close with code and reason",
        script: Some(|peer| {
            let mut peer = opened(peer);
            peer.text("two");
            peer.close(4000, "bye");
            peer.read_close();
        }),
        messages: &["string one", "string two"],
        waiting: 57,
        error: 0,
        close_code: 4000,
        ..OPENED
    },
    Row {
        name: "A0: the server's Close, empty",
        script: Some(|peer| {
            let mut peer = opened(peer);
            peer.write(&frame(0x88, b""));
            peer.read_close();
        }),
        waiting: 57,
        error: 0,
        close_code: 1005,
        ..OPENED
    },
    Row {
        name: "B: cancel_with",
        act: |_, task| task.cancel_with(CloseCode::GOING_AWAY, None),
        error: 0,
        close_code: 1001,
        ..OPENED
    },
    Row { name: "C: cancel", act: |_, task| task.cancel(), ..OPENED },
    Row { name: "C: cancel_with INVALID", act: |_, task| task.cancel_with(CloseCode::INVALID, None), ..OPENED },
    Row {
        name: "D: the end of the connection",
        script: Some(|peer| opened(peer).text("two")),
        messages: &["string one", "string two"],
        waiting: -1005,
        error: -1005,
        ..OPENED
    },
    Row { name: "D: a reset", script: Some(|peer| opened(peer).reset()), waiting: 54, error: 54, ..OPENED },
    Row {
        name: "E: a refusal",
        script: Some(|mut peer| {
            peer.read_request();
            peer.write(b"HTTP/1.1 403 Forbidden\r\nX-Room: 7\r\nContent-Length: 0\r\n\r\n");
            peer.read_to_end();
        }),
        status: 403,
        ..REFUSED
    },
    Row {
        name: "F: a subprotocol that was not offered",
        script: Some(|mut peer| {
            peer.open_with("X-Room: 7\r\nSec-WebSocket-Protocol: chat\r\n");
            peer.read_to_end();
        }),
        ..REFUSED
    },
    Row {
        name: "G: a message that reaches the limit",
        script: Some(|peer| {
            let mut peer = opened(peer);
            peer.binary(&[0; LIMIT]);
            assert_eq!(peer.read_close().0, Some(1009));
        }),
        waiting: 40,
        error: 40,
        ..OPENED
    },
    Row {
        name: "H: an opcode that is not",
        script: Some(|peer| {
            let mut peer = opened(peer);
            peer.text("two");
            peer.write(&frame(0x83, b""));
            assert_eq!(peer.read_close().0, Some(1002));
        }),
        messages: &["string one", "string two"],
        waiting: 100,
        error: 100,
        ..OPENED
    },
    Row { name: "I: a port that is closed", script: None, waiting: -1004, error: -1004, status: 0, ..REFUSED },
    Row { name: "J: invalidate_and_cancel", act: |session, _| session.invalidate_and_cancel(), ..OPENED },
];
