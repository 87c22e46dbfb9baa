//! What is watched goes to `tracing`: called without any lock, for a subscriber may do what it likes, and use this crate too.
//! What a subscriber panics with ends there. Of one task it is told in order, by one thread at a time.

#[cfg(feature = "tracing")]
mod events;

use super::client::Client;
#[cfg(feature = "tracing")]
use crate::loader::Traces;

/// What was written down of a task and is not told yet.
#[derive(Default)]
pub struct Untold {
    #[cfg(feature = "tracing")]
    inner: events::Untold,
}

impl Untold {
    /// Takes what a step wrote down. Called under the connection's lock, so that it stands in order.
    #[cfg(feature = "tracing")]
    #[inline]
    pub fn put(&self, traces: &mut Traces) {
        if !traces.is_empty() {
            self.inner.put(traces);
        }
    }

    /// Tells it, unless somebody is about to. Called without any lock.
    ///
    /// Others may note more than one thread can tell, and it has other things to do: when it has told what waits now, the rest is
    /// left to a later turn of the reactor.
    #[inline(always)]
    pub fn tell(&self, client: &dyn Client) {
        #[cfg(feature = "tracing")]
        if self.inner.is_due() && self.inner.tell(client, 1) && !client.connection().look_again(client) {
            self.inner.tell(client, usize::MAX);
        }
        #[cfg(not(feature = "tracing"))]
        let _ = client;
    }
}

#[cfg(feature = "tracing")]
pub use events::watch;
