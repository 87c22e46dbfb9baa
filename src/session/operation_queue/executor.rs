//! A queue whose operations the application's executor runs.

use std::sync::Arc;

use super::{
    current::Place,
    state::{Execute, Finished, Job, Shared, Started, State, Ticket, caught},
};

/// A job that the executor has. Dropped without being run, it was refused.
struct HandedOver {
    shared: Arc<Shared>,
    started: Option<Started>,
}

impl Shared {
    /// Gives the executor what may start, in order.
    ///
    /// One thread at a time does so, until the job that it hands over has started: later jobs cannot overtake that one any
    /// more, and an executor that runs it on the calling thread blocks nobody else. A thread that is inside the executor
    /// already leaves the work to the loop further up its stack, so that the stack does not grow.
    pub(super) fn hand_over_waiting(self: &Arc<Self>, execute: &Execute) {
        if self.is_in(Place::HandOver) {
            return;
        }
        while let Some(started) = { self.state.lock().start_handing_over() } {
            let ticket = started.ticket;
            let handed_over = HandedOver { shared: Arc::clone(self), started: Some(started) };
            {
                let _stay = self.enter(Place::HandOver);
                caught(|| execute(Box::new(move || handed_over.run())));
            }
            self.state.lock().end_handing_over(ticket);
        }
    }
}

impl State {
    fn start_handing_over(&mut self) -> Option<Started> {
        if self.handing_over.is_some() {
            return None;
        }
        let started = self.start_next()?;
        self.handing_over = Some(started.ticket);
        Some(started)
    }

    fn end_handing_over(&mut self, ticket: Ticket) {
        if self.handing_over == Some(ticket) {
            self.handing_over = None;
        }
    }
}

impl HandedOver {
    fn run(mut self) {
        if let Some(started) = self.started.take() {
            self.shared.state.lock().end_handing_over(started.ticket);
            self.shared.run_here(started);
            self.shared.start_waiting(self.shared.state.lock(), usize::MAX);
        }
    }
}

impl Drop for HandedOver {
    /// A lane that the executor refused is kept for the next arrival. To offer it again at once would never end with an
    /// executor that was shut down; to lose it would leave its task without callbacks for ever.
    fn drop(&mut self) {
        let Some(Started { ticket, job }) = self.started.take() else { return };
        let lane = match job {
            Job::Lane(lane) => Some(lane),
            Job::Operation(operation) => {
                caught(|| drop(operation));
                None
            }
        };
        let mut state = self.shared.state.lock();
        state.refused.extend(lane);
        state.end_handing_over(ticket);
        self.shared.finish(&mut state, Finished { ticket, ran: 0, again: None });
        self.shared.start_waiting(state, usize::MAX);
    }
}
