//! The moves of a run: which are possible, and what each does.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use urlsession::CloseCode;
use urlsession::internals::Output;

use crate::calls::{Handler, Kind, Sending, message};
use crate::missing;
use crate::model::{Cause, Closing, Stage, TICK, io_code};
use crate::network::End;
use crate::peer::{Plain, content};
use crate::plan::{Address, Last, LookUp, Receives, length};
use crate::race::{Race, address};
use crate::world::{World, note};

/// How many moves a run may have.
const MOVES: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Write,
    TakeOutput,
    Act,
    Resolved,
    Connected,
    ConnectedLate,
    Up,
    Down,
    PeerReads,
    PeerActs,
    Read,
    ReadHeld,
    Push,
    Work,
    ReadOn,
    EndIsTold,
    Call,
    Reply,
    ReplyLate,
    Tick,
}

impl World {
    /// Until nothing is left to do.
    pub fn run(&mut self) {
        for _ in 0..MOVES {
            if self.is_over() {
                return;
            }
            self.make(self.possible());
        }
        panic!("the run does not end: {:?}", self.loader);
    }

    fn is_over(&self) -> bool {
        self.loader.is_finished()
            && self.out.is_none()
            && self.mailbox.is_told()
            && !self.mailbox.has_next()
            && !self.end_is_told
            && self.calls == 0
            && self.pressed.is_none()
    }

    fn possible(&self) -> ([Move; 48], usize) {
        let now = self.model.now;
        let mut moves = [Move::Tick; 48];
        let mut count = 1;
        let mut add = |add: bool, what: Move, weight: usize| {
            for place in moves.iter_mut().skip(count).take(if add { weight } else { 0 }) {
                *place = what;
                count += 1;
            }
        };
        let readable = self.network.down.is_readable() && self.connected && !self.read_to_end;
        add(self.out.is_some(), Move::Write, 5);
        add(self.out.is_none() && self.may_write && !self.blocked && self.connected, Move::TakeOutput, 5);
        add(self.may_act, Move::Act, 5);
        add(self.resolving.is_some_and(|(_, at)| at <= now), Move::Resolved, 2);
        let attempt = self.race.as_ref().and_then(Race::next);
        add(attempt.is_some_and(|at| at <= now), Move::Connected, 2);
        add(!self.losers.is_empty(), Move::ConnectedLate, 1);
        add(self.network.up.is_moving() && self.network.up.at <= now, Move::Up, 2);
        add(self.network.down.is_moving() && self.network.down.at <= now, Move::Down, 2);
        add(self.peer_may_read(), Move::PeerReads, 2);
        add(self.peer.has_plans() && self.peer_at <= now, Move::PeerActs, 1);
        let (wants_read, has_held) = (self.loader.wants_read(), self.loader.has_held());
        add(readable && wants_read && !has_held, Move::Read, 4);
        add(wants_read && has_held && self.connected, Move::ReadHeld, 3);
        add(self.pressed.is_some(), Move::Push, 2);
        add(self.mailbox.has_next() && self.worker_at <= now, Move::Work, 3);
        add(self.read_on, Move::ReadOn, 1);
        add(self.end_is_told, Move::EndIsTold, 2);
        let replies = self.question.as_ref().is_some_and(|question| question.at <= now) && !self.plan.way.is_mute;
        add(replies, Move::Reply, 2);
        add(!self.old_questions.is_empty(), Move::ReplyLate, 1);
        add(self.calls > 0 && self.caller_at <= now, Move::Call, if self.pressed.is_some() { 3 } else { 1 });
        (moves, count)
    }

    fn make(&mut self, (moves, count): ([Move; 48], usize)) {
        if count == 1 {
            return self.sleep();
        }
        match moves[self.rng.below(count)] {
            Move::Write => self.write(),
            Move::TakeOutput => self.take_output(),
            Move::Act => self.act(),
            Move::Resolved => self.resolved(),
            Move::Connected => self.finish_attempt(),
            Move::ConnectedLate => self.attempt_is_late(),
            Move::Up => {
                self.network.up.arrive(self.network.grain, &mut self.rng);
                self.network.up.at = self.model.now + self.pause();
            }
            Move::Down => {
                self.network.down.arrive(self.network.grain, &mut self.rng);
                self.network.down.at = self.model.now + self.pause();
            }
            Move::PeerReads => self.peer_reads(),
            Move::PeerActs => {
                self.peer.act();
                self.peer_at = self.model.now + self.pause();
                self.peer_wrote();
            }
            Move::Read => self.read(),
            Move::ReadHeld => self.read_held(),
            Move::Push => self.push_pressed(),
            Move::Work => {
                self.run_callback();
                self.worker_at = self.model.now + self.pause();
            }
            Move::ReadOn => {
                self.read_on = false;
                self.model.reading = true;
                self.step(Cause::Other, |loader, env| loader.set_reading(true, env.now));
            }
            Move::EndIsTold => {
                self.end_is_told = false;
                self.loader.end_is_told();
            }
            Move::Call => {
                self.call();
                self.caller_at = self.model.now + self.pause();
            }
            Move::Reply => self.replies(),
            Move::ReplyLate => self.replies_late(),
            Move::Tick => {
                let time = self.rng.below(TICK as usize) as u64;
                self.pass(time);
            }
        }
    }

    /// Nobody has anything to do now: until somebody has.
    fn sleep(&mut self) {
        self.check_rest();
        let now = self.model.now;
        let deadline = self.loader.next_deadline().map(|at| {
            let left = at.saturating_duration_since(self.instant());
            now + left.as_nanos().div_ceil(1_000_000) as u64
        });
        let moments = [
            deadline,
            self.resolving.map(|(_, at)| at),
            self.race.as_ref().and_then(Race::next),
            Some(self.network.up.at).filter(|_| self.network.up.is_moving()),
            Some(self.network.down.at).filter(|_| self.network.down.is_moving()),
            Some(self.peer_at).filter(|_| self.peer.has_plans()),
            Some(self.worker_at).filter(|_| self.mailbox.has_next()),
            Some(self.caller_at).filter(|_| self.calls > 0),
            self.question.as_ref().map(|question| question.at).filter(|_| !self.plan.way.is_mute),
        ];
        let next = moments.into_iter().flatten().filter(|at| *at > now).min();
        let Some(next) = next else { panic!("nothing will ever happen again: {:?}, {:?}", self.loader, self.mailbox) };
        self.pass(next - now);
    }

    /// Time goes by; a deadline that has passed is looked at.
    fn pass(&mut self, time: u64) {
        self.model.pass(time);
        if self.model.stage == Stage::Waiting && !self.model.suspended {
            self.missing.pass(time);
        }
        if let Some(race) = self.race.as_mut().filter(|_| !self.model.suspended) {
            race.pass(time);
        }
        let now = self.instant();
        if self.loader.next_deadline().is_some_and(|deadline| deadline <= now) {
            note!(self, "timeout");
            self.step(Cause::Timeout, |loader, env| loader.handle_timeout(env));
            let next = self.loader.next_deadline();
            assert!(next.is_none_or(|deadline| deadline > now), "a deadline in the past");
        }
        self.check_race();
        self.check_missing();
        self.model.check_deadlines(&self.peer, &self.plan);
        if self.model.last_moment().is_some_and(|last| self.model.now >= last) {
            assert!(!self.loader.wants_read(), "the socket lives on after the end");
        }
    }

    fn resolved(&mut self) {
        let Some((look_up, _)) = self.resolving.take() else { return };
        if self.plan.look_up == LookUp::Hangs && self.missing.rounds == 0 {
            return;
        }
        let mut addresses: Vec<SocketAddr> = Vec::new();
        if self.plan.look_up == LookUp::Answers {
            let all = self.plan.addresses.iter().enumerate();
            addresses.extend(all.map(|(number, Address { six, .. })| address(number, *six, self.port())));
            if self.rng.one_in(8) {
                // One of them twice.
                addresses.push(addresses[self.rng.below(addresses.len())]);
            }
        }
        let answer = match self.plan.look_up {
            _ if self.missing.rounds > 0 && self.missing.at_look_up => Err(missing::error(&mut self.rng)),
            LookUp::Fails => Err(ErrorKind::NotFound.into()),
            LookUp::Breaks => Err(ErrorKind::Other.into()),
            _ => Ok(addresses),
        };
        self.model.way_code = match &answer {
            // The task has ended meanwhile.
            _ if self.model.stage != Stage::Resolving => None,
            Ok(addresses) if addresses.is_empty() => Some(-1003),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::NotFound => Some(-1003),
            Err(error) if error.kind() == ErrorKind::Other => Some(-1006),
            Err(_) => Some(-1009),
        };
        note!(self, "look-up: {answer:?}");
        self.addresses = answer.as_ref().ok().cloned();
        self.step(Cause::Resolved, |loader, env| loader.resolved(env, look_up, answer));
        self.model.way_code = None;
    }

    // The socket.

    fn take_output(&mut self) {
        let output = self.step(Cause::Other, |loader, env| loader.take_output(env));
        match output {
            Some(output) => {
                assert!(!self.model.suspended || self.model.ended.is_some(), "a suspended task writes");
                let bytes = size(&output);
                assert!(bytes > 0, "an output without a byte");
                let budget = if self.plan.tls.is_some() { 64 << 10 } else { 1 << 20 };
                // One part may go beyond it: a buffer of short messages, or a long message with its header.
                let part = (80 << 10).max(self.largest_message + 14);
                assert!(bytes <= (budget + part) * 101 / 100 + 200, "{bytes} bytes are given out at once");
                self.out = Some(output);
                self.model.is_out = true;
            }
            None => self.may_write = false,
        }
    }

    fn write(&mut self) {
        let Some(mut output) = self.out.take() else { return };
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.slices(&mut slices);
        if self.loader.output_is_stale() {
            return self.write_stale(output);
        }
        let result = self.network.write(&slices[..count], &mut self.rng);
        note!(self, "write: {:?}", result.as_ref().map(Vec::len));
        match result {
            Ok(bytes) => {
                output.advance(bytes.len());
                if self.plan.tls.is_none() {
                    self.tap.push(&bytes);
                }
                if !output.is_empty() && !self.rng.one_in(8) {
                    self.out = Some(output);
                    return;
                }
                self.model.is_out = false;
                self.step(Cause::GivenBack, |loader, env| loader.give_back(env, output));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.blocked = true;
                self.model.is_out = false;
                self.step(Cause::GivenBack, |loader, env| loader.give_back(env, output));
            }
            Err(error) => {
                let kind = error.kind();
                self.model.is_out = false;
                self.step(Cause::GivenBack, |loader, env| loader.give_back(env, output));
                self.step(Cause::WriteFailed(kind), |loader, env| loader.write_failed(env, error));
                // It may make another connection, or be content with the answer that it has.
                let goes_on = self.model.stage.is_unconnected() || self.model.stage == Stage::Answered;
                if self.model.ended.is_none() && self.model.broken.is_none() && !goes_on {
                    self.model.broken = Some(io_code(kind));
                }
            }
        }
    }

    /// The task has left the connection that this is for: how it goes says nothing.
    fn write_stale(&mut self, mut output: Output) {
        self.situations.insert("old output came back");
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.slices(&mut slices);
        let network = self.left.as_mut().unwrap_or(&mut self.network);
        let result = network.write(&slices[..count], &mut self.rng);
        note!(self, "write to the old connection: {:?}", result.as_ref().map(Vec::len));
        if let Ok(bytes) = result {
            output.advance(bytes.len());
            if !output.is_empty() && !self.rng.one_in(4) {
                self.out = Some(output);
                return;
            }
        }
        self.left = None;
        self.model.is_out = false;
        self.step(Cause::GivenBack, |loader, env| loader.give_back(env, output));
    }

    /// What other threads call while this one is about to read.
    pub fn others_call(&mut self, rarely: usize) {
        while self.rng.one_in(rarely) {
            self.call();
        }
        if self.plan.caller.suspends && self.rng.one_in(8) {
            self.suspend_or_resume();
        }
        if self.question.is_some() && self.rng.one_in(8) {
            self.replies();
        }
    }

    fn read(&mut self) {
        let payload = self.loader.take_payload_buffer();
        self.others_call(16);
        let received = match payload {
            Some(mut payload) => {
                let result = self.network.down.read(payload.space());
                let count = result.as_ref().copied().unwrap_or(0);
                note!(self, "read into the message: {result:?}");
                self.input(count);
                self.step(Cause::Received, |loader, env| loader.payload_received(env, payload, count));
                result.map(drop)
            }
            None => {
                let size =
                    if self.rng.one_in(2) { 256 << 10 } else { self.rng.within(1, self.network.grain.min(4096)) };
                let mut buffer = vec![0; size.min(self.network.down.ready()).max(1)];
                let result = self.network.down.read(&mut buffer);
                note!(self, "read: {result:?}");
                result.map(|count| {
                    self.input(count);
                    self.step(Cause::Received, |loader, env| loader.receive(env, &mut buffer[..count]));
                })
            }
        };
        self.check_read_ahead();
        self.read_to_end = matches!(&received, Err(error) if error.kind() != ErrorKind::WouldBlock);
        match received {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.step(Cause::EndOfStream, |loader, env| loader.end_of_stream(env));
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                let kind = error.kind();
                self.step(Cause::ReadFailed(kind), |loader, env| loader.read_failed(env, error));
            }
            _ => {}
        }
    }

    fn input(&mut self, count: usize) {
        self.model.read += count;
        self.largest_input = self.largest_input.max(count);
        if count > 0 {
            if self.model.stage != Stage::Answered {
                self.model.quiet = 0;
            }
            self.take_up_read();
            self.model.untouched = false;
        }
    }

    // The server.

    fn peer_may_read(&self) -> bool {
        let closed = !self.connected && self.attempted && self.model.ended.is_some() && self.out.is_none();
        let readable = self.network.up.is_readable() && self.peer.listens();
        !self.hung_up && (readable || (closed && !self.network.up.is_moving()))
    }

    fn peer_reads(&mut self) {
        let grain = self.network.grain;
        let mut buffer = vec![0; if self.rng.one_in(2) { 64 << 10 } else { self.rng.within(1, grain) }];
        match self.network.up.read(&mut buffer) {
            Ok(count) => self.peer.receive(&buffer[..count]),
            // The client closed its socket, or the network did.
            Err(_) => {
                self.hung_up = true;
                self.peer.client_is_gone();
            }
        }
        self.blocked = false;
        self.may_write = true;
        self.peer_wrote();
    }

    fn peer_wrote(&mut self) {
        let bytes = std::mem::take(&mut self.peer.out);
        if !bytes.is_empty() {
            note!(self, "the server writes {} bytes", bytes.len());
            self.network.down.put(&bytes);
        }
        match self.peer.ends.take() {
            Some(End::Stream) => self.network.down.finish(End::Stream),
            Some(End::Failure(kind)) => {
                note!(self, "the server resets: {kind:?}");
                self.network.reset(kind);
                self.peer.gave_up = true;
            }
            None => {}
        }
    }

    // The caller.

    /// One call, of those that are left.
    pub fn call(&mut self) {
        if self.calls == 0 {
            return;
        }
        self.calls -= 1;
        if self.calls == 0 {
            // Others are kept for good.
            if self.rng.one_in(2) {
                while !self.held.is_empty() {
                    self.take();
                }
            }
            if self.model.started.is_none() && !self.model.cancelled {
                self.start();
            }
            if self.model.suspended && self.rng.one_in(2) {
                self.resume();
            }
            match self.plan.caller.last {
                Last::Waits => {}
                Last::Cancels => self.cancel(),
                Last::CancelsWith => self.cancel_with(),
            }
            return;
        }
        let caller = &self.plan.caller;
        match self.rng.below(12) {
            0 if caller.cancels && self.rng.one_in(4) => self.cancel(),
            1 if caller.cancels && self.rng.one_in(3) => self.cancel_with(),
            2 if caller.suspends => self.suspend_or_resume(),
            3 if caller.changes_limit => self.change_limit(),
            4 => self.withdraw(),
            5 if self.rng.one_in(2) => self.take(),
            5 => self.give_back(),
            6 => self.ping(),
            7 | 8 if caller.receives != Receives::Never => self.receive(),
            9 if self.model.started.is_none() && !self.model.cancelled => self.start(),
            10 if self.plan.limit == 0 && self.rng.one_in(60) => {
                for _ in 0..30 {
                    self.send(50_000);
                }
            }
            _ => {
                let large = self.rng.one_in(2000);
                let limit = if self.plan.clean { self.plan.limit } else { 0 };
                let most = if limit == 0 { usize::MAX } else { limit - 1 };
                let mut length = length(limit, large, &mut self.rng).min(most);
                if let (Some(_), Some(queue)) = (&self.pressed, self.plan.maximum_send_queue) {
                    // It fills the queue, and need not be compressed.
                    length = length.max(queue / 2).min(self.plan.deflate.threshold.saturating_sub(1));
                }
                self.send(length);
            }
        }
    }

    pub fn send(&mut self, length: usize) {
        let text = self.rng.one_in(2);
        let plain = (text, content(text, length, &mut self.rng));
        if self.loader.compresses(length) && (self.pressed.is_some() || self.rng.one_in(2)) {
            self.to_press.push_back(plain);
            return self.press();
        }
        self.send_plain(plain);
    }

    pub fn send_plain(&mut self, plain: Plain) {
        let handler = self.sends(plain.clone());
        self.step(Cause::Other, |loader, env| loader.send(env, message(plain), handler));
    }

    /// A message is about to be given to the loader; its handler.
    pub fn sends(&mut self, plain: Plain) -> Handler<()> {
        let length = plain.1.len();
        let refused = self.model.refusal(length, &self.plan);
        let index = self.model.send_line.call();
        note!(self, "send {index}: {length} bytes, refused: {refused:?}");
        let handler = self.handlers.unit(Kind::Send, index);
        if refused.is_none() {
            self.model.buffered += length;
            self.largest_message = self.largest_message.max(length);
        }
        self.model.sends.push(Sending { message: plain, refused });
        handler
    }

    pub fn ping(&mut self) {
        let index = self.model.ping_line.call();
        note!(self, "ping {index}");
        let handler = self.handlers.unit(Kind::Ping, index);
        self.step(Cause::Other, |loader, env| loader.send_ping(env, handler));
    }

    fn withdraw(&mut self) {
        let waiting = self.model.receive_line.waiting();
        if waiting.is_empty() {
            return;
        }
        let index = waiting[self.rng.below(waiting.len())];
        note!(self, "withdraws receive {index}");
        let Some(receive) = self.mailbox.withdraw_receive(self.numbers[&index]) else {
            assert!(self.mailbox.is_ending(), "only a receive that fails already cannot be withdrawn");
            return;
        };
        drop(receive);
        self.model.receive_line.withdraw(index);
        self.handlers.take();
        if self.plan.caller.receives == Receives::Loop {
            self.receive();
        }
    }

    fn cancel(&mut self) {
        note!(self, "cancel");
        self.model.cancelled = true;
        self.model.suspended = false;
        let was_closing = self.model.closing.is_some();
        self.step(Cause::Cancel, |loader, env| loader.cancel(env));
        assert!(was_closing || self.model.is_out || self.model.ended.is_some(), "cancel() ends the task at once");
    }

    fn cancel_with(&mut self) {
        let code = self.rng.pick(&[0, 999, 1000, 1001, 1005, 1006, 1015, 3000, 4999, 65535]);
        let reasons = [None, Some(""), Some("bye"), Some("€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€€")];
        let reason = reasons[self.rng.below(reasons.len())].map(str::as_bytes);
        note!(self, "cancel_with {code}");
        if code == 0 {
            self.model.cancelled = true;
            self.model.suspended = false;
            let was_closing = self.model.closing.is_some();
            self.step(Cause::Cancel, |loader, env| loader.cancel_with(env, CloseCode::INVALID, reason));
            assert!(was_closing || self.model.is_out || self.model.ended.is_some());
            return;
        }
        self.model.cancelled = true;
        if self.model.ended.is_none() && self.model.closing.is_none() {
            self.model.suspended = false;
            self.model.closing = Some(Closing { code, reason: reason.map(<[u8]>::to_vec), at: self.model.now });
        }
        self.step(Cause::CancelWith, |loader, env| loader.cancel_with(env, CloseCode::new(code), reason));
    }

    /// As the session does it: not after a cancel, and `suspend()` only of a task that was started.
    fn suspend_or_resume(&mut self) {
        if self.model.cancelled {
            return;
        }
        if self.model.suspended {
            self.resume();
        } else if self.model.started.is_some() || self.rng.one_in(4) {
            note!(self, "suspend");
            if self.model.stage == Stage::Waiting {
                self.situations.insert("missing: suspended meanwhile");
            }
            if self.race.as_ref().is_some_and(Race::has_waiting) {
                self.situations.insert("raced: suspended while addresses wait");
            }
            self.model.suspended = self.model.ended.is_none();
            self.step(Cause::Other, |loader, env| loader.suspend(env.now));
        }
    }

    fn resume(&mut self) {
        note!(self, "resume");
        self.model.suspended = false;
        self.step(Cause::Other, |loader, env| loader.resume(env.now));
    }

    fn change_limit(&mut self) {
        let limit = self.rng.pick(&[1, 100, 1000, 70_000, 0]);
        note!(self, "limit {limit}");
        self.model.set_limit(limit);
        self.loader.set_maximum_message_size(limit);
        assert_eq!(self.loader.maximum_message_size(), limit);
        self.mailbox.set_maximum_message_size(limit);
        self.read_on |= self.mailbox.must_read_on();
    }
}

fn size(output: &Output) -> usize {
    let mut slices = vec![IoSlice::new(&[]); 10_000];
    let count = output.slices(&mut slices);
    assert!(count < slices.len());
    slices[..count].iter().map(|slice| slice.len()).sum()
}
