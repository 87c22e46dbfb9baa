//! One connection: the upgrade, then its behaviour.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::behaviour::Behaviour;
use super::channel::Channel;
use super::flood::{Flood, Stock};
use super::frames::{CLOSE, Frames, Head, PING, PONG, Piece, put_head, unmask_into};
use super::upgrade::{self, Request};

/// How many reads of one connection before the others have their turn.
const READS: usize = 8;
/// What a sink says when all has come.
pub const THANKS: &[u8] = b"done";

/// Buffers that all connections share, one at a time.
pub struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
    stock: Stock,
    /// Bytes of the last flood or sink.
    traffic: u64,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { input: vec![0; 512 * 1024].into(), output: Vec::new(), stock: Stock::default(), traffic: 0 }
    }
}

/// What a connection wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An event of its socket.
    Event,
    /// Another turn, without one.
    Turn,
    /// Another turn at that time.
    At(Instant),
    /// To be dropped.
    Drop,
}

/// One connection.
pub struct Connection {
    pub channel: Channel,
    state: State,
    frames: Frames,
    flood: Option<Flood>,
    /// Written when the socket takes more.
    waiting: Vec<u8>,
    /// How much of it is written.
    written: usize,
    readable: bool,
    held_until: Option<Instant>,
}

/// What the bytes of the client mean.
struct State {
    /// The request, until all of it is there.
    request: Vec<u8>,
    /// `None` before the upgrade.
    behaviour: Option<Behaviour>,
    /// Messages of a sink that have come.
    messages: u64,
    /// Bytes that have come after the upgrade.
    received: u64,
    closing: bool,
}

impl Connection {
    pub fn new(channel: Channel) -> Self {
        let state = State { request: Vec::new(), behaviour: None, messages: 0, received: 0, closing: false };
        Self {
            channel,
            state,
            frames: Frames::default(),
            flood: None,
            waiting: Vec::new(),
            written: 0,
            readable: false,
            held_until: None,
        }
    }

    /// The kernel says that there is something to read.
    pub fn set_readable(&mut self) {
        self.readable = true;
    }

    /// Does what can be done now.
    pub fn turn(&mut self, scratch: &mut Scratch) -> Next {
        // A client that is gone is as good as one that said so.
        self.try_turn(scratch).unwrap_or(Next::Drop)
    }

    fn try_turn(&mut self, scratch: &mut Scratch) -> io::Result<Next> {
        if !self.write_waiting()? {
            return Ok(Next::Event);
        }
        let mut next = Next::Event;
        if let Some(flood) = &mut self.flood
            && flood.write(&mut self.channel)?
        {
            next = Next::Turn;
        }
        if let Some(until) = self.held_until {
            if Instant::now() < until {
                return Ok(Next::At(until));
            }
            self.held_until = None;
        }
        let upgraded = self.state.behaviour.is_some();
        for _ in 0..READS {
            if !self.readable || !self.waiting.is_empty() {
                return Ok(next);
            }
            match self.channel.read(&mut scratch.input) {
                Ok(0) => return Ok(Next::Drop),
                Ok(length) => self.take(length, scratch)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Err(error),
            }
            if self.state.closing && self.waiting.is_empty() {
                self.channel.end();
                if self.channel.flush()? {
                    return Ok(Next::Drop);
                }
            }
            if self.state.behaviour.is_some() != upgraded {
                // The behaviour begins with a turn.
                return Ok(Next::Turn);
            }
        }
        Ok(Next::Turn)
    }

    /// Takes what was read, and writes the answers to all of it at once.
    fn take(&mut self, length: usize, scratch: &mut Scratch) -> io::Result<()> {
        let Scratch { input, output, stock, traffic } = scratch;
        let mut bytes = &input[..length];
        output.clear();
        let rest;
        if self.state.behaviour.is_none() {
            self.state.request.extend_from_slice(bytes);
            let Some(end) = upgrade::end_of_head(&self.state.request) else {
                return if self.state.request.len() > upgrade::LARGEST_REQUEST { Err(refused()) } else { Ok(()) };
            };
            let request = std::mem::take(&mut self.state.request);
            let answer = self.begin(&request[..end], stock, traffic)?;
            output.extend_from_slice(answer.as_bytes());
            rest = request[end..].to_vec();
            bytes = &rest;
        }
        let state = &mut self.state;
        state.received += bytes.len() as u64;
        let messages = state.messages;
        self.frames.feed(bytes, |piece| state.on_piece(&piece, output)).map_err(io::Error::other)?;
        if state.messages > messages && state.is_full() {
            *traffic = state.received;
        }
        self.write(output)
    }

    /// Does what the request asks for, and returns the answer.
    fn begin(&mut self, head: &[u8], stock: &mut Stock, traffic: &mut u64) -> io::Result<String> {
        let request = Request::parse(head).ok_or_else(refused)?;
        let behaviour = Behaviour::from_target(request.target).ok_or_else(refused)?;
        self.state.behaviour = Some(behaviour);
        match behaviour {
            Behaviour::Flood { count, size, kind, compression } => {
                let flood = stock.flood(count, size, kind, compression)?;
                *traffic = flood.remaining();
                self.flood = Some(flood);
            }
            Behaviour::Sink { hold, .. } if hold > Duration::ZERO => {
                self.held_until = Some(Instant::now() + hold);
            }
            Behaviour::Traffic => {
                self.state.closing = true;
                return Ok(format!("HTTP/1.1 200 OK\r\n\r\n{traffic}"));
            }
            _ => {}
        }
        request.answer(behaviour.compression()).ok_or_else(refused)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.channel.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waiting.extend_from_slice(bytes);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// True if nothing waits any more.
    fn write_waiting(&mut self) -> io::Result<bool> {
        while self.written < self.waiting.len() {
            match self.channel.write(&self.waiting[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.waiting = Vec::new();
        self.written = 0;
        self.channel.flush()
    }
}

impl State {
    /// Appends to `output` what a piece of a frame asks for.
    fn on_piece(&mut self, piece: &Piece<'_>, output: &mut Vec<u8>) {
        match *piece {
            Piece::Head(head) if self.is_answered(head) => {
                let opcode = if head.opcode == PING { PONG } else { head.opcode };
                put_head(output, head.last, opcode, head.length);
            }
            Piece::Payload(head, payload, key) if self.is_answered(head) => unmask_into(output, payload, key),
            Piece::End(head) if head.opcode == CLOSE => self.closing = true,
            Piece::End(head) if head.last && head.opcode < CLOSE => {
                self.messages += 1;
                if self.is_full() {
                    put_head(output, true, 1, THANKS.len() as u64);
                    output.extend_from_slice(THANKS);
                }
            }
            _ => {}
        }
    }

    /// Whether a sink has got everything.
    fn is_full(&self) -> bool {
        matches!(self.behaviour, Some(Behaviour::Sink { count, .. }) if count == self.messages)
    }

    /// Whether the server sends a frame like this one.
    fn is_answered(&self, head: Head) -> bool {
        match head.opcode {
            CLOSE | PING => true,
            PONG => false,
            _ => self.behaviour == Some(Behaviour::Echo),
        }
    }
}

fn refused() -> io::Error {
    io::Error::other("no request that this server knows")
}
