//! What waits to be told of each task, and the words for it.

use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Level, event};

use super::{Client, Traces};
use crate::loader::{Record, TraceStep, Watch};
use crate::reactor::guarded;

/// How much waits for a subscriber that takes its time. What comes beyond that is lost, and counted.
const MOST: usize = 16 * 1024;

/// What waits to be told.
#[derive(Default)]
pub struct Untold {
    is_due: AtomicBool,
    /// Nothing while nothing waits: there may be ten thousand of them.
    waiting: Mutex<Option<Box<Waiting>>>,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Record>,
    lost: usize,
    /// Somebody tells, and goes on until nothing is left.
    telling: bool,
}

impl Untold {
    #[inline]
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    #[cold]
    pub fn put(&self, traces: &mut Traces) {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.get_or_insert_default();
        let mut new = traces.take();
        let surplus = (waiting.records.len() + new.len()).saturating_sub(MOST).min(new.len());
        new.truncate(new.len() - surplus);
        waiting.lost += surplus;
        waiting.records.append(&mut new);
        self.is_due.store(true, Ordering::Relaxed);
    }

    /// `most`: how many batches. Whether something is left, which nobody tells.
    #[cold]
    pub fn tell(&self, client: &dyn Client, most: usize) -> bool {
        let (session, task) = client.numbers();
        match &mut *self.waiting.lock() {
            Some(waiting) if !waiting.telling => waiting.telling = true,
            _ => return false,
        }
        for _ in 0..most {
            let Some((records, lost)) = self.take() else { return false };
            // A panic of the subscriber ends here: whoever tells has more to do, for the task and for others.
            for record in records {
                guarded(|| emit(session, task, record));
            }
            if lost > 0 {
                guarded(|| event!(target: TASK, Level::DEBUG, session, task, lost, "the subscriber was too slow"));
            }
        }
        self.leave()
    }

    /// Whoever tells does not go on. Whether something is left.
    fn leave(&self) -> bool {
        let mut place = self.waiting.lock();
        let Some(waiting) = &mut *place else { return false };
        waiting.telling = false;
        if !waiting.records.is_empty() || waiting.lost > 0 {
            return true;
        }
        *place = None;
        self.is_due.store(false, Ordering::Relaxed);
        false
    }

    /// What waits; where that is nothing, whoever tells is done.
    fn take(&self) -> Option<(Vec<Record>, usize)> {
        let mut place = self.waiting.lock();
        let taken = place.as_mut().map(|waiting| (take(&mut waiting.records), take(&mut waiting.lost)));
        let taken = taken.filter(|(records, lost)| !records.is_empty() || *lost > 0);
        if taken.is_none() {
            *place = None;
            self.is_due.store(false, Ordering::Relaxed);
        }
        taken
    }
}

const TASK: &str = "urlsession::task";
const FRAME: &str = "urlsession::frame";

/// How much anybody at all may want to see. The subscriber itself is asked when it is told.
#[inline]
pub fn watch() -> Watch {
    match LevelFilter::current() {
        level if level >= LevelFilter::TRACE => Watch::Frames,
        level if level >= LevelFilter::DEBUG => Watch::Steps,
        _ => Watch::Nothing,
    }
}

fn emit(session: u64, task: usize, record: Record) {
    match record {
        Record::Step(step) => emit_step(session, task, step),
        Record::Frame { sent, head } => event!(
            target: FRAME,
            Level::TRACE,
            session,
            task,
            direction = if sent { "sent" } else { "received" },
            opcode = head.name(),
            fin = head.fin,
            compressed = head.compressed,
            length = head.length,
            "frame"
        ),
    }
}

/// An event of a task at the level DEBUG.
macro_rules! step {
    ($session:ident $task:ident $name:literal $($field:tt)*) => {
        event!(target: TASK, Level::DEBUG, session = $session, task = $task, $($field)* $name)
    };
}

fn emit_step(session: u64, task: usize, step: TraceStep) {
    match step {
        TraceStep::Resumed { origin } => step!(session task "resumed" origin,),
        TraceStep::ThroughProxy { proxy } => step!(session task "through a proxy" proxy,),
        TraceStep::Resolving { host } => step!(session task "resolving" host,),
        TraceStep::Resolved { addresses } => step!(session task "resolved" addresses,),
        TraceStep::Connecting { address } => step!(session task "connecting" %address,),
        TraceStep::ConnectFailed { address, error } => step!(session task "connection failed" %address, error,),
        TraceStep::Connected { address } => {
            step!(session task "connected" address = address.map(tracing::field::display),)
        }
        TraceStep::Waiting { delay } => step!(session task "waiting for connectivity" ?delay,),
        TraceStep::Securing { host } => step!(session task "TLS handshake" host,),
        TraceStep::Secured { version, cipher_suite } => step!(
            session task "secured" version = version.map(tracing::field::debug), cipher_suite,
        ),
        TraceStep::TunnelOpen => step!(session task "tunnel open"),
        TraceStep::Requested { origin } => step!(session task "request" origin,),
        TraceStep::Answered { status, of_proxy } => step!(session task "response" status, of_proxy,),
        TraceStep::Redirected { origin } => step!(session task "redirected" origin,),
        TraceStep::Asking { about } => step!(session task "asking the delegate" about,),
        TraceStep::Open { compressed } => step!(session task "open" compressed,),
        TraceStep::Cancelled { code } => {
            step!(session task "cancelled" code = code.map(|code| code.raw_value()),)
        }
        TraceStep::Ended { code, error } => step!(
            session task "ended"
            code = code.map(|code| code.raw_value()),
            error = error.map(|(number, _)| number),
            stage = error.map(|(_, stage)| tracing::field::display(stage)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_subscriber_leaves_is_bounded() {
        let untold = Untold::default();
        let mut traces = Traces::default();
        traces.set_watch(Watch::Steps);
        assert!(!untold.is_due() && untold.take().is_none());
        for count in [MOST - 1, 3, 5] {
            (0..count).for_each(|_| traces.step(|| TraceStep::TunnelOpen));
            untold.put(&mut traces);
        }
        assert!(untold.is_due());
        let (records, lost) = untold.take().unwrap();
        assert_eq!((records.len(), lost), (MOST, 7));
        assert!(untold.take().is_none() && !untold.is_due());
    }
}
