//! What must be true of a run, said without the crate's code: which end follows from what, and who is told what when.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use urlsession::TransactionMetrics;

use crate::calls::{Kind, Line, Sending};
use crate::peer::{Fatal, Peer, Plain};
use crate::plan::Plan;
use crate::wire::close_payload;

/// How long the server has to close TCP after the end, and how long a connection that cannot be written is still read.
const LINGER: u64 = 2_000;

/// How long the rest of an answer is waited for, so that the next request can go out on the same connection.
const DRAIN: u64 = 1_000;

/// How late somebody looks at the clock.
pub const TICK: u64 = 20;

/// What the step was that an event came out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Start,
    Resolved,
    Connected,
    ConnectFailed,
    Received,
    EndOfStream,
    ReadFailed(ErrorKind),
    WriteFailed(ErrorKind),
    Timeout,
    Cancel,
    CancelWith,
    /// The messages before the server's fault are told.
    GiveUp,
    /// The writer gives an output back: what waited for it happens.
    GivenBack,
    /// The delegate's reply.
    Reply,
    /// A step that never ends a task.
    Other,
}

/// Where the loader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    Created,
    Resolving,
    /// The network is missing.
    Waiting,
    Connecting,
    Securing,
    Upgrading,
    /// The answer did not open the socket.
    Answered,
    Open,
    Over,
}

impl Stage {
    /// There is no connection, and there is to be one.
    pub fn is_unconnected(self) -> bool {
        matches!(self, Self::Resolving | Self::Waiting | Self::Connecting)
    }
}

/// A row of the table of ends; errors are Apple's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub waiting: i32,
    pub later: i32,
    pub close: Option<(u16, Option<Vec<u8>>)>,
    pub error: Option<i32>,
}

/// The calls of `cancel_with` that counts.
#[derive(Clone, Debug)]
pub struct Closing {
    pub code: u16,
    pub reason: Option<Vec<u8>>,
    pub at: u64,
}

impl Closing {
    /// What its frame holds (RFC 6455 §5.5.1, §7.4.1): nothing where the code may not be on the wire, and a reason of at
    /// most 123 bytes, cut between characters.
    pub fn payload(&self) -> Vec<u8> {
        if self.code < 1000 || [1005, 1006, 1015].contains(&self.code) {
            return Vec::new();
        }
        let reason = self.reason.as_deref().unwrap_or_default();
        let mut end = reason.len().min(123);
        while end < reason.len() && end > 0 && reason[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        close_payload(Some(self.code), &reason[..end])
    }
}

#[derive(Default)]
pub struct Model {
    pub now: u64,
    pub started: Option<u64>,
    pub opened: bool,
    pub stage: Stage,
    /// The next request is decided on, and has waited so long for the rest of the answer.
    pub going_on: Option<u64>,
    /// The connection was used before, and nothing has come since.
    pub kept: bool,
    pub untouched: bool,
    /// The task wants another connection.
    pub leaving: bool,
    /// How many messages waited for that.
    pub early: usize,
    pub suspended: bool,
    pub reading: bool,
    /// Reading was stopped at some time.
    pub stopped: bool,
    pub closing: Option<Closing>,
    /// `cancel` or `cancel_with` was called.
    pub cancelled: bool,
    pub ended: Option<(u64, Row, Cause)>,
    /// A write failed with this number.
    pub broken: Option<i32>,
    broken_for: u64,
    /// How long nothing was heard on the way to the open socket.
    pub quiet: u64,
    /// There is no connection, with this number, in the step that is made.
    pub way_code: Option<i32>,
    /// Bytes that the client read, of a connection without TLS.
    pub read: usize,
    /// Messages that came out of the loader.
    pub received: usize,
    /// Those of them that no receive holds.
    pub available: BTreeSet<usize>,
    /// Messages that a receive had once.
    pub came_back: BTreeSet<usize>,
    /// Messages were dropped that nobody had taken; none is handed out any more.
    pub discarded: bool,
    /// Bytes of the messages that are available, with 64 for each.
    pub unread: usize,
    /// The smallest and the largest limit there ever was.
    pub limits: Option<(usize, usize)>,
    pub sends: Vec<Sending>,
    pub buffered: usize,
    /// How many sends and pings the loader has answered.
    pub sends_answered: usize,
    pub pings_answered: usize,
    /// How many sends were answered with Ok.
    pub sends_good: usize,
    pub pings_good: usize,
    pub send_line: Line,
    pub receive_line: Line,
    pub ping_line: Line,
    pub told: Told,
    /// A message was taken since the loader last asked whether somebody takes them.
    pub taken: bool,
    /// An output is with the writer.
    pub is_out: bool,
    /// How the task may have ended since.
    pending: Vec<(Row, Cause)>,
    /// What the end said of the way.
    pub metrics: Option<TransactionMetrics>,
    /// When the server broke the protocol, and how that ends.
    pub fault: Option<(u64, Vec<Row>)>,
    /// How many calls of each kind had been made when the end was known, or at the last step of telling it.
    due: [usize; 3],
    /// How many messages had come before each pong.
    pongs: Vec<usize>,
}

/// Which callbacks have been given out.
#[derive(Debug, Default)]
pub struct Told {
    pub informational: usize,
    pub open: bool,
    pub receive_failed: bool,
    pub close: bool,
    pub metrics: bool,
    pub complete: bool,
}

impl Model {
    pub fn new(plan: &Plan) -> Self {
        let mut model = Self { reading: true, ..Self::default() };
        model.set_limit(plan.limit);
        model
    }

    pub fn set_limit(&mut self, limit: usize) {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (least, most) = self.limits.unwrap_or((limit, limit));
        self.limits = Some((least.min(limit), most.max(limit)));
    }

    /// How many bytes may be unread when the socket is read.
    pub fn read_ahead(&self) -> usize {
        match self.limits {
            Some((_, usize::MAX)) | None => 1 << 20,
            Some((_, most)) => most,
        }
    }

    pub fn later(&self) -> Option<i32> {
        self.ended.as_ref().map(|(_, row, _)| row.later)
    }

    /// Time goes by.
    pub fn pass(&mut self, time: u64) {
        self.now += time;
        if self.suspended || self.ended.is_some() {
            return;
        }
        // While somebody is asked, and while the rest of an answer is read, the clock stands still.
        if self.started.is_some() && !self.opened && !matches!(self.stage, Stage::Answered | Stage::Waiting) {
            self.quiet += time;
        }
        if self.stage == Stage::Answered
            && let Some(going_on) = &mut self.going_on
        {
            *going_on += time;
        }
        if self.broken.is_some() {
            self.broken_for += time;
        }
    }

    /// What `send` has to be refused with now, if it must be.
    pub fn refusal(&self, length: usize, plan: &Plan) -> Option<i32> {
        if let Some(later) = self.later() {
            return Some(later);
        }
        if self.closing.is_some() {
            return Some(-999);
        }
        let full = plan.maximum_send_queue.is_some_and(|most| self.buffered + length > most);
        // A request that could not be written may be answered all the same, and lead on.
        let broken = self.broken.filter(|_| self.stage != Stage::Upgrading);
        broken.or_else(|| full.then_some(55))
    }

    /// A message came out of the loader.
    pub fn message(&mut self, message: &Plain, peer: &Peer) {
        let open = self.opened && self.ended.is_none() && self.closing.is_none() && self.fault.is_none();
        assert!(open, "a message of a socket that is not open");
        let (_, most) = self.limits.unwrap();
        assert!(message.1.len() < most, "a message of {} bytes, the limit is {most}", message.1.len());
        let sent = peer.sent.get(self.received).expect("as many messages as the server sent");
        assert!(same(message, sent), "message {} is not what the server sent", self.received);
        self.received += 1;
        // After a cancel, while the end waits for bytes that are with the writer, messages go nowhere.
        if !self.discarded {
            self.available.insert(self.received - 1);
            self.unread += message.1.len() + 64;
        }
    }

    pub fn discard(&mut self) {
        assert!(self.cancelled || self.ended.is_some(), "unread messages are dropped, and nobody cancelled");
        self.available.clear();
        self.unread = 0;
        self.discarded = true;
    }

    /// The loader answered a send.
    pub fn sent(&mut self, result: Result<(), i32>, cause: Cause, seen: Option<&[Plain]>) {
        let index = self.sends_answered;
        self.sends_answered += 1;
        let send = self.sends.get(index).expect("no more answers than sends");
        if let Some(refused) = send.refused {
            return assert_eq!(result, Err(refused), "send {index}");
        }
        if self.ended.is_none() || result.is_ok() {
            self.buffered -= send.message.1.len();
        }
        match result {
            Ok(()) => {
                assert!(self.opened && self.ended.is_none(), "send {index} went well on a socket that is not open");
                self.sends_good += 1;
                if let Some(seen) = seen {
                    assert!(seen.len() >= self.sends_good, "send {index} went well and is not with the kernel");
                }
            }
            Err(code) => match (&self.ended, cause) {
                (Some((_, row, _)), _) => assert_eq!(code, row.waiting, "send {index}"),
                (None, Cause::WriteFailed(kind)) => {
                    let expected = if self.closing.is_some() { -999 } else { io_code(kind) };
                    assert_eq!(code, expected, "send {index}, of a connection that cannot be written");
                    if !self.opened {
                        // It does not go to another connection either.
                        self.sends[index].refused = Some(code);
                    }
                }
                (None, _) if self.broken == Some(code) => {}
                (None, cause) => panic!("send {index} failed with {code}, and nothing ended: {cause:?}"),
            },
        }
    }

    /// The loader answered a ping.
    pub fn ponged(&mut self, result: Result<(), i32>, peer: &Peer) {
        self.pings_answered += 1;
        assert!(self.pings_answered <= self.ping_line.made, "no more answers than pings");
        match (result, &self.ended) {
            (Ok(()), None) => {
                self.pings_good += 1;
                self.pongs.push(self.received);
                assert!(peer.pongs_unasked || peer.pings_seen >= self.pings_good, "a pong that the server never sent");
            }
            (Err(code), Some((_, row, _))) => {
                assert!(code == row.waiting || code == row.later, "a ping failed: {code}")
            }
            (result, ended) => panic!("a ping got {result:?}, the end is {ended:?}"),
        }
    }

    /// The task ends; whether that follows from what happened.
    pub fn end(&mut self, row: Row, cause: Cause, peer: &Peer, plan: &Plan, seen: Option<&[Plain]>) {
        assert!(self.ended.is_none(), "the end is told once");
        if let Some(seen) = seen {
            assert_eq!(self.sends_good, seen.len(), "what is with the kernel was sent");
        }
        let mut expected: Vec<(Row, Cause)> = Vec::new();
        if cause == Cause::GivenBack {
            expected.append(&mut self.pending);
        } else {
            expected.extend(self.rows(cause, peer, plan).into_iter().map(|row| (row, cause)));
        }
        // Of several steps that explain it, one that lost the connection, of which less is expected; else the latest.
        let lost = |cause: &Cause| matches!(cause, Cause::EndOfStream | Cause::ReadFailed(_));
        let found = expected.iter().filter(|(expected, _)| *expected == row).max_by_key(|(_, cause)| lost(cause));
        let Some(&(_, cause)) = found else { panic!("{cause:?} ends with {row:?}; expected one of {expected:?}") };
        if self.closing.is_none() && row.error.is_none() {
            assert_eq!(self.received, peer.sent.len(), "every message before the server's Close came");
        }
        self.ended = Some((self.now, row, cause));
        self.buffered = 0;
        self.due = self.made();
    }

    /// The answer is there: whether the request could be written does not matter any more.
    pub fn heal(&mut self) {
        (self.broken, self.broken_for) = (None, 0);
    }

    /// The end waits for what is with the writer: the task was cancelled.
    pub fn has_pending_cancel(&self) -> bool {
        self.closing.is_none() && self.pending.iter().any(|(_, cause)| *cause == Cause::Cancel)
    }

    /// It may wait, for another reason.
    pub fn may_have_ended(&self) -> bool {
        !self.pending.is_empty() && !self.has_pending_cancel()
    }

    pub fn is_suspended(&self) -> bool {
        self.suspended && self.ended.is_none()
    }

    /// While bytes are with the writer, the end waits for them: a step that may have led to one.
    pub fn may_end(&mut self, cause: Cause, peer: &Peer, plan: &Plan) {
        if self.is_out && self.ended.is_none() {
            let rows = self.rows(cause, peer, plan);
            self.pending.extend(rows.into_iter().map(|row| (row, cause)));
        }
    }

    /// What was with the writer is back, and nothing ended.
    pub fn nothing_is_out(&mut self) {
        self.pending.clear();
    }

    /// The server broke the protocol, and will be told when the messages before that are.
    pub fn broke(&mut self, cause: Cause, peer: &Peer) {
        assert!(self.opened && self.ended.is_none() && self.closing.is_none() && self.fault.is_none());
        assert_eq!(cause, Cause::Received);
        let rows = self.fault_rows(peer);
        assert!(!rows.is_empty(), "the server did nothing wrong");
        if matches!(rows.as_slice(), [row] if row.error == Some(100)) {
            assert_eq!(self.received, peer.sent.len(), "every message before the server's fault came");
        }
        self.fault = Some((self.now, rows));
    }

    /// The ends that a step may have.
    fn rows(&self, cause: Cause, peer: &Peer, plan: &Plan) -> Vec<Row> {
        if matches!(cause, Cause::Other | Cause::WriteFailed(_) | Cause::Connected) {
            return Vec::new();
        }
        if let Some(Closing { code, reason, .. }) = &self.closing {
            let close = Some((*code, reason.clone()));
            return vec![Row { waiting: -999, later: -999, close, error: None }];
        }
        let refusing = self.is_refusing(peer, plan);
        let fault = self.fault.as_ref();
        let lost = |code: i32| {
            if let Some((_, rows)) = fault {
                return rows.clone();
            }
            let lost = self.failed(self.broken.unwrap_or(code));
            match refusing {
                Some(true) => vec![self.failed(-1011)],
                Some(false) => vec![lost],
                None => vec![lost, self.failed(-1011)],
            }
        };
        match cause {
            Cause::Cancel => vec![self.failed_with(-999, -999)],
            Cause::Start if plan.bad_request => vec![self.failed(-1000)],
            Cause::Resolved | Cause::ConnectFailed => match self.way_code {
                Some(-1009) if plan.waits => Vec::new(),
                code => code.map(|code| self.failed(code)).into_iter().collect(),
            },
            // Behind its fault the server may end TLS.
            Cause::Received | Cause::GiveUp if fault.is_some() => fault.map_or_else(Vec::new, |(_, rows)| rows.clone()),
            Cause::Received => {
                let mut rows = self.fatal_rows(peer);
                // What comes behind an answer may be taken for the next.
                if peer.surplus && (self.kept || plan.tls.is_some()) && self.stage == Stage::Upgrading {
                    rows.push(self.failed(-1017));
                }
                rows
            }
            Cause::Reply => self.fatal_rows(peer),
            // What was decided, or is asked, does not need the connection; another has not come to be.
            Cause::EndOfStream | Cause::ReadFailed(_) if self.stage.is_unconnected() => Vec::new(),
            Cause::EndOfStream | Cause::ReadFailed(_) if self.stage == Stage::Answered => match refusing {
                Some(false) => Vec::new(),
                _ => vec![self.failed(-1011)],
            },
            Cause::EndOfStream => lost(-1005),
            Cause::ReadFailed(kind) => lost(io_code(kind)),
            Cause::Timeout if refusing == Some(true) => vec![self.failed(-1011)],
            Cause::Timeout => {
                let mut rows = Vec::new();
                if self.is_due(plan) || self.may_miss_a_pong(plan) {
                    rows.push(self.failed(-1001));
                }
                let broken = self.broken.filter(|_| self.broken_for >= LINGER);
                match fault {
                    Some((at, fault)) if broken.is_some() || self.now - at >= plan.close_timeout => {
                        rows.extend_from_slice(fault);
                    }
                    None => rows.extend(broken.map(|code| self.failed(code))),
                    _ => {}
                }
                if refusing.is_none() {
                    rows.push(self.failed(-1011));
                }
                rows
            }
            _ => Vec::new(),
        }
    }

    /// What the server sent that ends the task of whoever reads it.
    fn fatal_rows(&self, peer: &Peer) -> Vec<Row> {
        match &peer.fatal {
            Some(Fatal::Close(code, reason)) => {
                let close = (code.unwrap_or(1005), Some(reason.clone()));
                vec![Row { waiting: 57, later: 57, close: Some(close), error: None }]
            }
            Some(Fatal::Refusal(..)) => vec![self.failed(-1011)],
            Some(Fatal::Code(code)) => vec![self.failed(*code)],
            Some(Fatal::Notify) => vec![self.failed(self.broken.unwrap_or(-1005))],
            Some(Fatal::Violation(_)) | None => Vec::new(),
        }
    }

    /// What the server did wrong.
    fn fault_rows(&self, peer: &Peer) -> Vec<Row> {
        let (least, _) = self.limits.unwrap();
        let mut rows = Vec::new();
        if matches!(peer.fatal, Some(Fatal::Violation(_))) {
            rows.push(self.failed(100));
        }

        if self.is_tiny(peer) || peer.sent.get(self.received).is_some_and(|(_, payload)| payload.len() >= least) {
            rows.push(self.failed(40));
        }
        rows
    }

    /// A broken message of a byte or two may be too long before it is broken.
    fn is_tiny(&self, peer: &Peer) -> bool {
        let (least, _) = self.limits.unwrap();
        least <= 5 && matches!(peer.fatal, Some(Fatal::Violation(_)))
    }

    fn failed(&self, code: i32) -> Row {
        self.failed_with(code, if self.opened { 57 } else { code })
    }

    fn failed_with(&self, code: i32, later: i32) -> Row {
        Row { waiting: code, later, close: None, error: Some(code) }
    }

    /// Whether the client knows that it is refused. `None`: that cannot be seen from outside.
    fn is_refusing(&self, peer: &Peer, plan: &Plan) -> Option<bool> {
        match peer.refusal_at {
            None => Some(false),
            Some(_) if plan.tls.is_some() => None,
            Some(at) => Some(self.read >= at),
        }
    }

    /// Whether a clock of the caller's ran out.
    fn is_due(&self, plan: &Plan) -> bool {
        self.started.is_some_and(|started| self.now - started >= plan.resource_timeout)
            || (!self.opened && !self.is_quiet_allowed() && self.quiet >= plan.request_timeout)
    }

    /// The clock of the request stands still.
    fn is_quiet_allowed(&self) -> bool {
        matches!(self.stage, Stage::Answered | Stage::Waiting)
    }

    fn may_miss_a_pong(&self, plan: &Plan) -> bool {
        self.opened && plan.ping_interval.is_some() && self.reading && !self.suspended && self.fault.is_none()
    }

    /// Nothing that had to end the task by now has left it alive. To be asked when every deadline was looked at.
    pub fn check_deadlines(&self, peer: &Peer, plan: &Plan) {
        // Nothing ends while bytes are with the writer.
        if self.ended.is_some() || self.is_out {
            return;
        }
        let refused = self.is_refusing(peer, plan) != Some(false);
        let started = self.started.unwrap_or(self.now);
        assert!(self.now - started < plan.resource_timeout, "timeout_interval_for_resource");
        let halted = self.opened || self.is_quiet_allowed();
        assert!(halted || refused || self.quiet < plan.request_timeout, "timeout_interval_for_request");
        let goes_on = self.going_on.is_none_or(|waited| waited < DRAIN) || self.stage != Stage::Answered;
        assert!(goes_on, "the rest of an answer is waited for too long");
        // Where reading had stopped, because nobody takes what was read before, it is waited for once more: from the moment
        // at which somebody looked at the clock.
        // And once where what was read is held.
        let times = if plan.deflate.agreed().is_some() { 2 } else { 1 };
        let prolonged = if self.stopped { times * (plan.close_timeout + TICK) } else { 0 };
        assert!(refused || self.broken_for < LINGER + prolonged, "a broken connection lives on");
        if let Some(closing) = &self.closing {
            assert!(self.now - closing.at < plan.close_timeout, "close_timeout");
        }
        if let Some((at, _)) = &self.fault {
            assert!(self.now - at < plan.close_timeout, "close_timeout after the server's fault");
        }
    }

    /// The longest that a socket may live after the end.
    pub fn last_moment(&self) -> Option<u64> {
        self.ended.as_ref().map(|(at, _, _)| at + LINGER)
    }

    /// Whether the client's Close may hold this.
    pub fn may_say(&self, close: &[u8], peer: &Peer) -> bool {
        let Some((_, row, cause)) = &self.ended else { return false };
        let (least, _) = self.limits.unwrap();
        let violation = matches!(&peer.fatal, Some(Fatal::Violation(code)) if close.starts_with(&code.to_be_bytes()));
        let too_long = close.starts_with(&1009_u16.to_be_bytes())
            && (self.is_tiny(peer) || peer.sent.iter().any(|(_, payload)| payload.len() >= least));
        // A cancel while the end waits for the writer comes too late.
        if let Some(closing) = self.closing.as_ref().filter(|_| row.waiting == -999 && row.error.is_none()) {
            // What the server did wrong meanwhile may be told in its place.
            return close == closing.payload() || violation || too_long;
        }
        match (&row.close, row.error, cause) {
            (Some(_), ..) => match &peer.fatal {
                Some(Fatal::Close(code, _)) => close == close_payload(*code, b""),
                _ => false,
            },
            (None, Some(100), _) => violation,
            (None, Some(40), _) => too_long,
            (None, _, Cause::Cancel | Cause::Timeout) => close.is_empty(),
            _ => false,
        }
    }

    /// The end: what led to it, whether the socket was open, and what the task is told.
    pub fn end_in_words(&self) -> String {
        let Some((_, row, cause)) = &self.ended else { return "no end".to_owned() };
        let open = if self.opened { "open" } else { "not open" };
        let close = if row.close.is_some() { "close" } else { "no close" };
        format!("{cause:?}, {open}: {close}, {:?}", row.error)
    }

    /// How many calls of each kind there were.
    fn made(&self) -> [usize; 3] {
        [self.send_line.made, self.receive_line.made, self.ping_line.made]
    }

    /// A handler was told of a failure.
    pub fn failed_callback(&mut self, kind: Kind, index: usize, code: i32) {
        if kind != Kind::Receive {
            return;
        }
        let (_, row, _) = self.ended.as_ref().expect("a receive fails because of the end");
        assert!(self.available.is_empty(), "a receive fails before a message that came before the end");
        let first = !self.told.close && !self.told.metrics;
        assert!(code == row.later || (first && code == row.waiting), "receive {index} fails with {code}");
        assert!(
            !first || index >= self.due[1] || code == row.waiting,
            "receive {index}, that waited, fails with {code}"
        );
        self.told.receive_failed = true;
    }

    /// The close, the metrics or the completion is told: everything before it was. Calls that were made since the step
    /// before come behind this one.
    pub fn step_of_the_end(&mut self) {
        assert!(self.ended.is_some(), "an end is told that there is not");
        assert!(self.available.is_empty(), "the end is told before the messages that came before it");
        for (line, due) in [&self.send_line, &self.receive_line, &self.ping_line].iter().zip(self.due) {
            let next = line.waiting().front();
            assert!(next.is_none_or(|next| *next >= due), "the end is told, and a handler has not been called");
        }
        self.due = self.made();
    }

    /// Whether the ping `index` may be told of its pong now: behind the messages before it, unless nobody receives them.
    pub fn may_tell_pong(&self, index: usize) -> bool {
        let before = self.pongs.get(index).copied().unwrap_or(0);
        let mut earlier = self.available.range(..before);
        self.receive_line.waiting().is_empty() || earlier.all(|message| self.came_back.contains(message))
    }

    /// Nothing waits: neither a send, nor a receive, nor a ping.
    pub fn nothing_waits(&self) -> bool {
        [&self.send_line, &self.receive_line, &self.ping_line].iter().all(|line| line.waiting().is_empty())
    }
}

pub fn same(one: &Plain, other: &Plain) -> bool {
    one.0 == other.0 && one.1 == other.1
}

pub fn io_code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::BrokenPipe => 32,
        ErrorKind::ConnectionAborted => 53,
        ErrorKind::ConnectionReset => 54,
        ErrorKind::TimedOut => -1001,
        _ => -1005,
    }
}
