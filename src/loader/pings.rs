//! Pings that wait for their pong: RFC 6455 §5.5.2 and §5.5.3.

use std::collections::VecDeque;
use std::time::Instant;

use super::event::Event;
use crate::foundation::{Completion, UrlError};

struct Ping {
    number: u64,
    /// `None`: a ping of the keep-alive.
    handler: Option<Completion<()>>,
}

/// Pings in the order in which they go out.
///
/// The first of them is empty, as Apple's are; one that is sent while others wait has its number for a payload, so that
/// a pong says which ping it answers, and all earlier ones with it.
#[derive(Default)]
pub struct Pings(Option<Box<Queue>>);

/// There is one while a ping waits.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Ping>,
    /// The number of the last ping that has one; 0 is the empty ping's.
    last: u64,
    /// When bytes last went to the socket.
    progress: Option<Instant>,
}

/// The payload of a ping: nothing, or its number.
pub struct PingPayload {
    bytes: [u8; 8],
    length: usize,
}

impl PingPayload {
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Pings {
    /// A ping goes out; what it holds.
    pub fn send(&mut self, handler: Option<Completion<()>>) -> PingPayload {
        let queue = self.0.get_or_insert_default();
        if !queue.waiting.is_empty() {
            queue.last += 1;
        }
        let number = queue.last;
        queue.waiting.push_back(Ping { number, handler });
        PingPayload { bytes: number.to_be_bytes(), length: if number == 0 { 0 } else { 8 } }
    }

    /// A pong came. It answers its ping and all earlier ones; one that nobody asked for is ignored (§5.5.3).
    pub fn pong(&mut self, payload: &[u8], events: &mut Vec<Event>) {
        let number = match <[u8; 8]>::try_from(payload) {
            Ok(bytes) if bytes != [0; 8] => u64::from_be_bytes(bytes),
            Err(_) if payload.is_empty() => 0,
            _ => return,
        };
        let Some(queue) = &mut self.0 else { return };
        if let Ok(index) = queue.waiting.binary_search_by_key(&number, |ping| ping.number) {
            for handler in queue.waiting.drain(..=index).filter_map(|ping| ping.handler) {
                events.push(Event::Pong(handler, Ok(())));
            }
        }
        if queue.waiting.is_empty() {
            self.0 = None;
        }
    }

    /// No pong will come any more.
    pub fn fail(&mut self, error: &UrlError, events: &mut Vec<Event>) {
        let waiting = self.0.take().into_iter().flat_map(|queue| queue.waiting);
        for handler in waiting.filter_map(|ping| ping.handler) {
            events.push(Event::Pong(handler, Err(error.clone())));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes went to the socket.
    pub fn progressed(&mut self, now: Instant) {
        if let Some(queue) = &mut self.0 {
            queue.progress = Some(now);
        }
    }

    /// When bytes last went to the socket while a ping waited.
    pub fn progress(&self) -> Option<Instant> {
        self.0.as_ref()?.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(events: &mut Vec<Event>) -> usize {
        events.drain(..).filter(|event| matches!(event, Event::Pong(_, Ok(())))).count()
    }

    #[test]
    fn a_pong_answers_its_ping_and_earlier_ones() {
        let mut pings = Pings::default();
        let mut events = Vec::new();
        let payloads: Vec<Vec<u8>> =
            (0..5).map(|_| pings.send(Some(Completion::new(|_| ()))).as_slice().to_vec()).collect();
        assert!(payloads[0].is_empty());
        assert!(payloads[1..].iter().all(|payload| payload.len() == 8));
        pings.pong(b"unasked!", &mut events);
        pings.pong(b"unasked", &mut events);
        assert_eq!(answered(&mut events), 0);
        pings.pong(&payloads[2], &mut events);
        assert_eq!(answered(&mut events), 3);
        pings.pong(&payloads[1], &mut events);
        pings.pong(&[], &mut events);
        assert_eq!(answered(&mut events), 0);
        pings.pong(&payloads[4], &mut events);
        assert_eq!(answered(&mut events), 2);
        assert!(pings.is_empty() && pings.send(None).as_slice().is_empty());
    }

    #[test]
    fn the_empty_ping_and_number_zero_in_eight_bytes_are_different() {
        let mut pings = Pings::default();
        let mut events = Vec::new();
        pings.send(Some(Completion::new(|_| ())));
        pings.pong(&[0; 8], &mut events);
        assert_eq!(answered(&mut events), 0);
        pings.pong(&[], &mut events);
        assert_eq!(answered(&mut events), 1);
    }
}
