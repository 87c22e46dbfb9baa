//! Looks up the addresses of hosts, on threads of its own: the system's look-up blocks.
//!
//! A thread lives while there is something to look up. An answer that nobody waits for any more is dropped by the road
//! that it was for.

use std::collections::VecDeque;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::Mutex;

use super::client::Client;
use super::{Command, Shared};

/// How many look-ups run at the same time; one that hangs leaves room for the others.
const THREADS: usize = 8;

/// Look-ups of one reactor.
#[derive(Default)]
pub struct Resolver {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Question>,
    threads: usize,
}

struct Question {
    client: Arc<dyn Client>,
    host: String,
    port: u16,
}

impl Resolver {
    /// Asks for the addresses of `host`; the answer is a command to the reactor.
    pub fn ask(self: &Arc<Self>, shared: &Arc<Shared>, client: Arc<dyn Client>, host: String, port: u16) {
        let mut state = self.state.lock();
        state.waiting.push_back(Question { client, host, port });
        if state.threads < THREADS {
            let resolver = Arc::clone(self);
            let reactor = Arc::downgrade(shared);
            let spawned =
                thread::Builder::new().name("urlsession-resolver".to_owned()).spawn(move || resolver.run(&reactor));
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    for Question { client, .. } in std::mem::take(&mut state.waiting) {
                        shared.notify(Command::Resolved(client, Err(io::Error::from(error.kind()))));
                    }
                }
                // One of those that run takes it.
                Err(_) => {}
            }
        }
    }

    fn run(&self, reactor: &Weak<Shared>) {
        loop {
            let question = {
                let mut state = self.state.lock();
                let Some(question) = state.waiting.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                question
            };
            let Question { client, host, port } = question;
            let answer = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            if let Some(reactor) = reactor.upgrade() {
                reactor.notify(Command::Resolved(client, answer));
            }
        }
    }
}
