//! A TCP connection without a kernel: two pipes that cut, hold, delay and lose what goes through them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use crate::rng::Rng;

/// What stands behind the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stream,
    Failure(ErrorKind),
}

/// One direction.
pub struct Pipe {
    bytes: VecDeque<u8>,
    /// How many of them the receiver can read.
    arrived: usize,
    end: Option<End>,
    end_arrived: bool,
    /// How many bytes may be on the way.
    capacity: usize,
    /// After so many bytes in all, this happens to the connection.
    pub fault: Option<(usize, Fault)>,
    total: usize,
    /// Nothing arrives any more.
    black_hole: bool,
    /// Nothing arrives before this moment of the run.
    pub at: u64,
}

/// What goes wrong with one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends there.
    End(End),
    /// What comes later never arrives, and nobody is told.
    BlackHole,
}

impl Pipe {
    pub fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            arrived: 0,
            end: None,
            end_arrived: false,
            capacity,
            fault: None,
            total: 0,
            black_hole: false,
            at: 0,
        }
    }

    /// As much of `bytes` as there is room for; how much. What comes behind an end or a fault goes nowhere.
    pub fn put(&mut self, mut bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        bytes = &bytes[..count];
        if self.end.is_some() || self.black_hole {
            return count;
        }
        if let Some((after, fault)) = self.fault
            && self.total + count >= after
        {
            bytes = &bytes[..after.saturating_sub(self.total).min(count)];
            match fault {
                Fault::End(end) => self.end = Some(end),
                Fault::BlackHole => self.black_hole = true,
            }
        }
        self.total += count;
        self.bytes.extend(bytes);
        count
    }

    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    pub fn finish(&mut self, end: End) {
        if !self.black_hole {
            self.end.get_or_insert(end);
        }
    }

    /// The end of the stream, or its failure, whatever is on the way.
    pub fn break_off(&mut self, end: End) {
        self.bytes.truncate(self.arrived);
        self.finish(end);
    }

    /// How the stream ends, if it does.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    pub fn is_black_hole(&self) -> bool {
        self.black_hole
    }

    /// Whether something is on the way.
    pub fn is_moving(&self) -> bool {
        self.arrived < self.bytes.len() || (self.end.is_some() && !self.end_arrived)
    }

    /// Whether the receiver would get something from a read.
    pub fn is_readable(&self) -> bool {
        self.arrived > 0 || self.end_arrived
    }

    /// How many bytes the receiver can read.
    pub fn ready(&self) -> usize {
        self.arrived
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Some of what is on the way arrives.
    pub fn arrive(&mut self, grain: usize, rng: &mut Rng) {
        let moving = self.bytes.len() - self.arrived;
        if moving > 0 {
            self.arrived += piece(moving, grain, rng);
        } else if self.end.is_some() {
            self.end_arrived = true;
        }
    }

    /// A read into `space`.
    pub fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = self.arrived.min(space.len());
        if count == 0 && !space.is_empty() {
            return match (self.end_arrived, self.end) {
                (true, Some(End::Stream)) => Err(ErrorKind::UnexpectedEof.into()),
                (true, Some(End::Failure(kind))) => Err(kind.into()),
                _ => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let (front, back) = self.bytes.as_slices();
        let of_front = front.len().min(count);
        space[..of_front].copy_from_slice(&front[..of_front]);
        space[of_front..count].copy_from_slice(&back[..count - of_front]);
        self.bytes.drain(..count);
        self.arrived -= count;
        Ok(count)
    }
}

/// A part of `all`: mostly a few bytes, now and then everything, so that large amounts get through in few steps.
pub fn piece(all: usize, grain: usize, rng: &mut Rng) -> usize {
    if rng.one_in(6) { all } else { rng.within(1, grain).min(all) }
}

/// One connection.
pub struct Network {
    /// From the client to the server.
    pub up: Pipe,
    /// From the server to the client. It holds what the server writes, however much.
    pub down: Pipe,
    /// How many bytes move at a time.
    pub grain: usize,
    /// After so many bytes the client's writes fail with this, while what the server sent can still be read.
    pub write_fault: Option<(usize, ErrorKind)>,
    written: usize,
}

impl Network {
    pub fn new(capacity: usize, grain: usize) -> Self {
        Self { up: Pipe::new(capacity), down: Pipe::new(usize::MAX), grain, write_fault: None, written: 0 }
    }

    /// A vectored write of the client: some bytes of the front, or why not.
    pub fn write(&mut self, slices: &[IoSlice<'_>], rng: &mut Rng) -> io::Result<Vec<u8>> {
        if let Some((after, kind)) = self.write_fault
            && self.written >= after
        {
            return Err(kind.into());
        }
        if let Some(End::Failure(kind)) = self.up.end() {
            return Err(kind.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = self.up.room();
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = piece(offered.min(room), self.grain, rng);
        if let Some((after, _)) = self.write_fault {
            count = count.min(after - self.written);
        }
        let mut bytes = Vec::with_capacity(count);
        for slice in slices {
            let missing = count - bytes.len();
            bytes.extend_from_slice(&slice[..slice.len().min(missing)]);
        }
        self.written += count;
        self.up.put(&bytes);
        Ok(bytes)
    }

    /// Neither side hears of the other again, but for this.
    pub fn reset(&mut self, kind: ErrorKind) {
        self.down.break_off(End::Failure(kind));
        self.up.break_off(End::Failure(kind));
    }
}
