//! The cookies that are kept, and which of them are sent: RFC 6265bis §5.7, §5.8.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use super::cookie::HttpCookie;
use super::domain::{domain_matches, host_of, is_secure, path_matches, site_of};
use super::merge::{Deleted, Unwanted};
use super::set_cookie::received;

/// How many cookies one site may have, and how many there are in all: RFC 6265bis §6.1 wants at least 50 and 3,000.
const OF_SITE: usize = 180;
const IN_ALL: usize = 3000;

/// How many go when there are too many in all: each time, all have to be looked at.
const AT_ONCE: usize = 30;

/// Who sets a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The program, for whomever it likes.
    Program,
    /// A server, over TLS…
    Secure,
    /// …or not, so that it may have been anybody.
    Insecure,
}

impl Origin {
    /// A server at this address.
    pub fn of(url: &Url) -> Self {
        if is_secure(url) { Self::Secure } else { Self::Insecure }
    }
}

/// Cookies, none of them twice. The time comes in as an argument.
#[derive(Default)]
pub struct Jar {
    /// By [site](site_of): those of one host are never under two.
    sites: HashMap<Box<str>, Vec<Entry>>,
    count: usize,
    /// Grows with everything that happens.
    tick: u64,
    /// What was deleted, of cookies that are kept on disk.
    pub(super) deleted: Option<Deleted>,
    /// What was deleted and may be on disk, unknown here.
    pub(super) unwanted: Unwanted,
}

pub(super) struct Entry {
    /// Shared with who writes it to disk.
    pub(super) cookie: Arc<HttpCookie>,
    /// When it was first set, which an overwriting does not change…
    pub(super) created: SystemTime,
    /// …and which was first, of those at the same time.
    pub(super) order: u64,
    /// When it was last set.
    pub(super) changed: SystemTime,
    /// The tick at which it was last set here; 0: it is as it is on disk.
    pub(super) change: u64,
    /// The tick at which it was last sent or set.
    accessed: u64,
    /// It was set without TLS, and has not met the file since.
    pub(super) is_open: bool,
}

impl Entry {
    /// As it is on disk.
    pub(super) fn kept(cookie: HttpCookie, created: SystemTime, changed: SystemTime) -> Self {
        Self { cookie: Arc::new(cookie), created, order: 0, changed, change: 0, accessed: 0, is_open: false }
    }

    pub(super) fn age(&self) -> (SystemTime, u64) {
        (self.created, self.order)
    }

    /// Whether a server that is not secure may not set that cookie for this one: it would stand before it, or in its place.
    pub(super) fn shields(&self, cookie: &HttpCookie, now: SystemTime) -> bool {
        let ((domain, _), (own, _)) = (cookie.scope(), self.cookie.scope());
        self.cookie.is_secure()
            && !self.cookie.is_expired(now)
            && self.cookie.name() == cookie.name()
            && (domain_matches(domain, own) || domain_matches(own, domain))
            && path_matches(cookie.path(), self.cookie.path())
    }

    /// When it was last sent or set; no two have the same.
    fn last_use(&self) -> (u64, u64) {
        (self.accessed, self.order)
    }
}

impl Jar {
    /// What a server sets with the value of a `Set-Cookie` field; whether something changed.
    pub fn receive(&mut self, set_cookie: &str, url: &Url, now: SystemTime) -> bool {
        received(set_cookie, url, now).is_some_and(|cookie| self.set(cookie, Origin::of(url), now))
    }

    /// Takes a cookie in, or, where it has expired, out; whether something changed.
    pub fn set(&mut self, cookie: HttpCookie, origin: Origin, now: SystemTime) -> bool {
        if !cookie.is_storable()
            || (origin == Origin::Insecure && (cookie.is_secure() || self.is_shielded(&cookie, now)))
        {
            return false;
        }
        if cookie.is_expired(now) {
            return self.take_out(&cookie, origin, now);
        }
        // A clock that was set back does not make it older than what it replaces.
        let changed = self.note_replaced(&cookie, now);
        self.tick += 1;
        let tick = self.tick;
        let cookie = Arc::new(cookie);
        let is_open = origin == Origin::Insecure;
        let mut entry = Entry { cookie, created: now, order: tick, changed, change: tick, accessed: tick, is_open };
        let site: Box<str> = site_of(entry.cookie.scope().0).into();
        let entries = self.sites.entry(site.clone()).or_default();
        match entries.iter_mut().find(|known| known.cookie.has_key_of(&entry.cookie)) {
            Some(known) => {
                // What has expired is not there any more.
                if !known.cookie.is_expired(now) {
                    (entry.created, entry.order) = known.age();
                }
                *known = entry;
            }
            None => {
                entries.push(entry);
                self.count += 1;
                self.make_room(&site, now);
            }
        }
        true
    }

    /// Whether a server that is not secure may not set this.
    fn is_shielded(&self, cookie: &HttpCookie, now: SystemTime) -> bool {
        self.entries_of(cookie.scope().0).iter().any(|entry| entry.shields(cookie, now))
    }

    /// What is sent to an address, in this order: §5.8.3.
    pub fn cookies_for(&mut self, url: &Url, now: SystemTime) -> Vec<HttpCookie> {
        self.matching(url, now).into_iter().map(|entry| HttpCookie::clone(&entry.cookie)).collect()
    }

    /// What is sent to an address, as the value of the `Cookie` field.
    pub fn field_for(&mut self, url: &Url, now: SystemTime) -> Option<String> {
        HttpCookie::field_of(self.matching(url, now).into_iter().map(|entry| &*entry.cookie))
    }

    fn matching(&mut self, url: &Url, now: SystemTime) -> Vec<&Entry> {
        let Some(host) = host_of(url) else { return Vec::new() };
        self.tick += 1;
        let tick = self.tick;
        let mut matching = Vec::new();
        for entry in self.sites.get_mut(site_of(host)).into_iter().flatten() {
            let (domain, below) = entry.cookie.scope();
            if (host == domain || (below && domain_matches(host, domain)))
                && path_matches(url.path(), entry.cookie.path())
                && (is_secure(url) || !entry.cookie.is_secure())
                && !entry.cookie.is_expired(now)
            {
                entry.accessed = tick;
                matching.push(&*entry);
            }
        }
        matching.sort_by_key(|entry| (std::cmp::Reverse(entry.cookie.path().len()), entry.age()));
        matching
    }

    /// All of them, the oldest first.
    pub fn cookies(&self, now: SystemTime) -> Vec<HttpCookie> {
        let mut entries: Vec<&Entry> = self.entries().filter(|entry| !entry.cookie.is_expired(now)).collect();
        entries.sort_by_key(|entry| entry.age());
        entries.into_iter().map(|entry| HttpCookie::clone(&entry.cookie)).collect()
    }

    /// Takes the cookie of this name, domain and path out; whether there was one, or may be one on disk.
    pub fn remove(&mut self, cookie: &HttpCookie, now: SystemTime) -> bool {
        self.take_out(cookie, Origin::Program, now)
    }

    fn take_out(&mut self, cookie: &HttpCookie, origin: Origin, now: SystemTime) -> bool {
        let site = site_of(cookie.scope().0);
        let was_here = self.remove_of(site, now, |entry| entry.cookie.has_key_of(cookie)) > 0;
        let may_be_kept = self.note_unwanted(cookie, origin, now);
        was_here || may_be_kept
    }

    /// Takes out what was set at this time or later; whether there was any.
    pub fn remove_since(&mut self, date: SystemTime, now: SystemTime) -> bool {
        self.remove_all(now, |entry| entry.changed >= date) > 0
    }

    /// Takes out everything, and what is on disk with the next meeting.
    pub fn clear(&mut self, now: SystemTime) {
        self.remove_all(now, |_| true);
        self.note_all_unwanted(now);
    }

    fn make_room(&mut self, site: &str, now: SystemTime) {
        if self.entries_of(site).len() > OF_SITE {
            self.remove_of(site, now, |entry| entry.cookie.is_expired(now));
        }
        while self.entries_of(site).len() > OF_SITE {
            // Those that anybody may have set go first, and then those that were not asked for for the longest time.
            let last = |entry: &Entry| (entry.cookie.is_secure(), entry.last_use());
            let Some(least) = self.entries_of(site).iter().map(last).min() else { break };
            self.remove_of(site, now, |entry| last(entry) == least);
        }
        if self.count > IN_ALL {
            self.remove_all(now, |entry| entry.cookie.is_expired(now));
        }
        if self.count > IN_ALL {
            let mut uses: Vec<(u64, u64)> = self.entries().map(Entry::last_use).collect();
            uses.sort_unstable();
            let bound = uses.get(self.count.saturating_sub(IN_ALL) + AT_ONCE).copied().unwrap_or_default();
            self.remove_all(now, |entry| entry.last_use() < bound);
        }
    }

    pub(super) fn remove_of(&mut self, site: &str, now: SystemTime, is_gone: impl Fn(&Entry) -> bool) -> usize {
        let Some(entries) = self.sites.get_mut(site) else { return 0 };
        let before = entries.len();
        self.tick += 1;
        let (tick, deleted) = (self.tick, &mut self.deleted);
        entries.retain(|entry| {
            let is_gone = is_gone(entry);
            if let (true, Some(deleted)) = (is_gone, deleted.as_mut()) {
                deleted.note(entry, now, tick);
            }
            !is_gone
        });
        let removed = before - entries.len();
        self.count = self.count.saturating_sub(removed);
        if entries.is_empty() {
            self.sites.remove(site);
        }
        removed
    }

    pub(super) fn remove_all(&mut self, now: SystemTime, is_gone: impl Fn(&Entry) -> bool) -> usize {
        let sites: Vec<Box<str>> = self.sites.keys().cloned().collect();
        sites.iter().map(|site| self.remove_of(site, now, &is_gone)).sum()
    }

    /// Puts in what is on disk, in the place of what has the same name, domain and path.
    pub(super) fn put(&mut self, mut entry: Entry, now: SystemTime) {
        self.tick += 1;
        (entry.order, entry.accessed) = (self.tick, self.tick);
        let site: Box<str> = site_of(entry.cookie.scope().0).into();
        let entries = self.sites.entry(site.clone()).or_default();
        match entries.iter_mut().find(|known| known.cookie.has_key_of(&entry.cookie)) {
            Some(known) => {
                (entry.order, entry.accessed) = (known.order, known.accessed);
                *known = entry;
            }
            None => {
                entries.push(entry);
                self.count += 1;
                self.make_room(&site, now);
            }
        }
    }

    /// What was set up to this tick is on disk.
    pub(super) fn saved(&mut self, tick: u64) {
        for entry in self.sites.values_mut().flatten() {
            if entry.change <= tick && !entry.cookie.is_session_only() {
                (entry.change, entry.is_open) = (0, false);
            }
        }
    }

    /// Something happens.
    pub(super) fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// The last that happened.
    pub(super) fn tick(&self) -> u64 {
        self.tick
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.sites.values().flatten()
    }

    /// Those of the site of this host.
    pub(super) fn entries_of(&self, host: &str) -> &[Entry] {
        self.sites.get(site_of(host)).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Jar {
    /// How many cookies there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jar").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
