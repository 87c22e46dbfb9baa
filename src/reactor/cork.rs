//! The cork: while a thread runs callbacks, what they send on the connections of their reactor gathers, and leaves in one write.

use std::cell::Cell;
use std::ptr;
use std::time::Instant;

use super::Shared;

thread_local! {
    static CORK: Corked = const { Corked { place: Cell::new(NOWHERE), gathered: Cell::new(false), alone: Cell::new(false) } };
}

/// What a thread that runs callbacks sends gathers.
struct Corked {
    place: Cell<Place>,
    /// A connection has something to be written when the cork goes.
    gathered: Cell<bool>,
    /// One callback runs, and no other is waiting: its first send has nobody to wait for.
    alone: Cell<bool>,
}

/// Where what a thread sends gathers.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The reactor whose connections gather; null: each send is written at once.
    shared: *const Shared,
    since: Option<Instant>,
}

const NOWHERE: Place = Place { shared: ptr::null(), since: None };

/// Whether this thread runs callbacks of the reactor's connections.
pub(super) fn is_for(shared: &Shared) -> bool {
    CORK.try_with(|cork| ptr::eq(cork.place.get().shared, shared)).unwrap_or(false)
}

/// Since when this thread runs callbacks, whose sends leave together, if it does: near enough to the time for what is
/// sent. And whether this is the first send of a callback that has nobody to wait for.
#[inline]
pub(super) fn next_send(shared: &Shared) -> Option<(Instant, bool)> {
    let corked = CORK.try_with(|cork| {
        let place = cork.place.get();
        let since = place.since.filter(|_| ptr::eq(place.shared, shared))?;
        Some((since, cork.alone.replace(false)))
    });
    corked.ok().flatten()
}

/// A connection has something to be written when the cork goes.
pub(super) fn gathers() {
    let _ = CORK.try_with(|cork| cork.gathered.set(true));
}

/// While it lives, what this thread sends on connections of one reactor gathers; when it goes, all of it is written.
#[derive(Debug)]
pub struct Cork<'a> {
    shared: &'a Shared,
    since: Instant,
    before: (Place, bool, bool),
}

impl<'a> Cork<'a> {
    /// `now` is asked unless this is inside another cork.
    pub(super) fn new(shared: &'a Shared, now: impl FnOnce() -> Instant) -> Self {
        let before = CORK.try_with(Corked::get).unwrap_or((NOWHERE, false, false));
        let within = before.0.since.filter(|_| ptr::eq(before.0.shared, shared));
        let since = within.unwrap_or_else(now);
        let place = Place { shared, since: Some(since) };
        let _ = CORK.try_with(|cork| cork.set((place, false, false)));
        Self { shared, since, before }
    }

    /// Whether the next callback is the only one there is: the first that it sends is written at once, and only what it
    /// sends behind that gathers.
    pub fn set_alone(&self, alone: bool) {
        let _ = CORK.try_with(|cork| cork.alone.set(alone));
    }

    /// Whether something waits to be written.
    pub fn has_gathered(&self) -> bool {
        CORK.try_with(|cork| cork.gathered.get()).unwrap_or(true)
    }
}

impl Corked {
    fn get(&self) -> (Place, bool, bool) {
        (self.place.get(), self.gathered.get(), self.alone.get())
    }

    fn set(&self, (place, gathered, alone): (Place, bool, bool)) {
        self.place.set(place);
        self.gathered.set(gathered);
        self.alone.set(alone);
    }
}

impl Drop for Cork<'_> {
    fn drop(&mut self) {
        let gathered = self.has_gathered();
        let _ = CORK.try_with(|cork| cork.set(self.before));
        if gathered {
            self.shared.uncork(self.since);
        }
    }
}
