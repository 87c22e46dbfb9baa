//! What must be true when everything is at rest, and when everything is over.

use std::io;
use std::io::ErrorKind;

use crate::calls::Kind;
use crate::model::{Cause, Closing, same};
use crate::network::End;
use crate::peer::{Fatal, Plain};
use crate::plan::{Finale, Receives};
use crate::world::World;

impl World {
    /// Nobody can move before time does: on an open socket without obstacles, nothing may wait.
    pub fn check_rest(&self) {
        let model = &self.model;
        let network = &self.network;
        let read = self.connected
            && network.down.is_empty()
            && network.down.end().is_none()
            && !network.down.is_black_hole()
            && !model.suspended;
        if read && self.peer.is_open && self.peer.fatal.is_some() && (model.reading || model.closing.is_some()) {
            let known = model.ended.is_some() || model.fault.is_some();
            assert!(known, "the client read what ends the task, and goes on: {:?}", self.peer.fatal);
        }
        let at_rest = self.connected
            && model.opened
            && model.ended.is_none()
            && model.broken.is_none()
            && !model.suspended
            && network.up.is_empty()
            && network.down.is_empty()
            && network.up.end().is_none()
            && !network.up.is_black_hole()
            && network.down.end().is_none()
            && !network.down.is_black_hole();
        if !at_rest {
            return;
        }
        assert_eq!(self.loader.buffered_amount(), 0, "the network is idle, and messages wait");
        if model.closing.is_none() && model.reading && model.fault.is_none() {
            let last = self.peer.pings_sent.last();
            assert_eq!(self.peer.pongs_seen.last(), last, "the last ping of the server has its pong (§5.5.2)");
            if self.plan.ping_interval.is_none() {
                assert!(model.pings_good >= self.peer.pings_answered, "a pong answers all pings before it (§5.5.3)");
            }
        }
        if model.closing.is_some() && self.plan.tls.is_none() {
            assert!(self.tap.close.is_some(), "the network is idle, and the Close has not left");
        }
        assert_eq!(self.peer.unread(), 0, "the network is idle, and a frame is not complete");
    }

    /// After the last move.
    pub fn check_end(&mut self) {
        assert!(self.model.told.complete && self.model.nothing_waits());
        self.check_sent();
        self.check_wires();
        self.check_counts();
        self.check_close();
        self.check_clean();
        self.check_silence();
    }

    /// The server saw what was sent, in order, and as much as was said to be with the kernel.
    fn check_sent(&mut self) {
        let sends = self.model.sends.iter().filter(|send| send.refused.is_none());
        let accepted: Vec<&Plain> = sends.map(|send| &send.message).collect();
        for seen in [&self.peer.seen, &self.tap.messages] {
            assert!(seen.len() <= accepted.len(), "the server saw messages that nobody sent");
            for (index, (seen, sent)) in seen.iter().zip(&accepted).enumerate() {
                assert!(same(seen, sent), "message {index} of the client is not what was sent");
            }
        }
        if self.plan.tls.is_none() {
            assert!(self.tap.messages.len() >= self.model.sends_good);
        }
        let pongs = if self.plan.tls.is_none() { &self.tap.pongs } else { &self.peer.pongs_seen };
        let mut pings = self.peer.pings_sent.iter();
        for pong in pongs {
            // What comes behind an end is no ping any more, and chatter is not in the list.
            assert!(pings.any(|ping| ping == pong), "a pong for a ping that was not sent, or out of order (§5.5.3)");
        }
    }

    /// The client's Close: there is one where there has to be, and it says what it has to.
    fn check_close(&mut self) {
        let close = if self.plan.tls.is_none() { self.tap.close.clone() } else { self.peer.close_seen.clone() };
        let (_, row, cause) = self.model.ended.clone().unwrap();
        if let Some(close) = &close {
            assert!(self.model.may_say(close, &self.peer), "the client closes with {close:?}: {cause:?}, {row:?}");
        }
        let down_fails = matches!(self.plan.finale, Finale::Ends(End::Failure(_)));
        let free = self.model.opened
            && self.model.broken.is_none()
            && self.plan.up_fault.is_none()
            && self.plan.down_fault.is_none()
            && self.plan.write_fault.is_none()
            && !down_fails
            && self.plan.manners.deaf_after.is_none()
            && self.plan.pause <= 100
            && self.plan.capacity >= 5_000
            && self.largest_message < 2_000
            && self.plan.tls.is_none();
        // `close_timeout` closes TCP, whether or not the Close has left.
        let late = self.model.closing.is_some() && cause == Cause::Timeout;
        let ends = matches!(cause, Cause::EndOfStream | Cause::ReadFailed(_)) || row.error == Some(-1005);
        if free && !ends && !late {
            assert!(close.is_some(), "{cause:?} ends without a Close on an open socket");
        }
        let own = self.model.closing.as_ref().map(Closing::payload);
        if own.is_some()
            && own == close
            && self.peer.answered_close
            && cause == Cause::Received
            && self.plan.tls.is_none()
        {
            let accepted = self.model.sends.iter().filter(|send| send.refused.is_none()).count();
            assert_eq!(self.tap.messages.len(), accepted, "cancel_with sends what send took before it");
        }
    }

    /// Where nothing went wrong, nothing is lost.
    fn check_clean(&self) {
        if !self.plan.clean {
            return;
        }
        let (_, row, cause) = self.model.ended.as_ref().unwrap();
        let Finale::Close { code, reason } = &self.plan.finale else {
            let answered = self.model.opened && self.peer.answered_close && *cause == Cause::Received;
            // Before the opening, and with nothing to send, `cancel_with` has nobody to say anything to.
            let early = !self.model.opened && *cause == Cause::CancelWith;
            // A way with many stops, or a delegate, may take longer than `close_timeout`.
            let late = *cause == Cause::Timeout && !self.plan.way.is_straight();
            // With the code 0 it is `cancel`.
            return assert!(
                answered || early || late || *cause == Cause::Cancel,
                "a clean cancel_with ends with the server's answer: {cause:?}, {row:?}"
            );
        };
        assert_eq!(
            row.close,
            Some((code.unwrap_or(1005), Some(reason.clone()))),
            "a clean run ends with the server's Close"
        );
        assert_eq!(row.error, None);
        assert_eq!(self.model.received, self.peer.sent.len());
        let takes_all = self.plan.caller.receives == Receives::Loop && self.held.is_empty();
        assert!(!(self.model.discarded && takes_all), "messages were dropped");
        assert!(matches!(self.peer.fatal, Some(Fatal::Close(..))));
    }

    /// Whatever still comes changes nothing, and every call fails with the same.
    fn check_silence(&mut self) {
        let error = self.error.clone().expect("an error");
        for what in 0..11 {
            let address = ([192, 0, 2, 9], 80).into();
            self.step(Cause::Other, |loader, env| match what {
                0 => loader.receive(env, &mut b"\x81\x05hello\x88\x00".to_owned()),
                1 => loader.end_of_stream(env),
                2 => loader.read_failed(env, ErrorKind::ConnectionReset.into()),
                3 => loader.write_failed(env, ErrorKind::BrokenPipe.into()),
                4 => loader.connected(env, 0, None, Some(address)),
                5 => loader.connect_failed(env, 0, io::Error::from(ErrorKind::TimedOut)),
                6 => loader.resolved(env, 1, Ok(vec![address])),
                7 => loader.suspend(env.now),
                8 => loader.start(env, None),
                9 => loader.fail(env, error.clone()),
                _ => loader.handle_timeout(env),
            });
            assert!(self.loader.next_action().is_none_or(|_| false), "an action after the end");
            let output = self.step(Cause::Other, |loader, env| loader.take_output(env));
            assert!(output.is_none() && !self.loader.wants_read() && self.loader.next_deadline().is_none());
            assert!(!self.mailbox.has_next(), "a callback after the last one");
        }
        let later = self.model.later();
        for kind in [Kind::Send, Kind::Receive, Kind::Ping] {
            match kind {
                Kind::Send => self.send(3),
                Kind::Receive => self.receive(),
                Kind::Ping => self.ping(),
            }
            self.run_callback();
            assert!(self.model.nothing_waits(), "a {kind:?} after the end fails at once");
        }
        assert_eq!(later, self.model.later());
        assert!(self.loader.is_finished());
    }
}
