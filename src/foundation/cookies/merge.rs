//! Two that keep their cookies in one file: of each cookie, what was set or deleted last counts.
//!
//! A jar remembers what it has set or deleted since it last met the file. When they meet, the file is right about
//! everything else: a cookie that it does not have any more, somebody deleted. What was deleted stands in the file for
//! a day, so that who set such a cookie before that, and meets the file later, does not bring it back. What a jar deletes
//! without knowing it, it looks for in the file; and what the file has of a secure server, it shields as if it had been here.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::cookie::HttpCookie;
use super::domain::site_of;
use super::jar::{Entry, Jar, Origin};

/// How long it is known that a cookie was deleted, and of how many.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);
const DELETED: usize = 1000;

/// How many deletions there are at most before they meet the file: all the cookies of a jar may go at once, and would be
/// back with a deletion that is forgotten before that.
const NOTED: usize = 4 * DELETED;

/// The least that makes a date a later one, on every system.
const MOMENT: Duration = Duration::from_micros(1);

/// What a jar has one cookie of: domain, path, name.
pub(super) type Key = (String, String, String);

pub(super) fn key_of(cookie: &HttpCookie) -> Key {
    (cookie.domain().to_owned(), cookie.path().to_owned(), cookie.name().to_owned())
}

/// When what was deleted: each with the tick at which it was deleted here; 0: it is as it is on disk.
#[derive(Default)]
pub(super) struct Deleted(HashMap<Key, (SystemTime, u64)>);

impl Deleted {
    /// Of what is kept on disk, and would come back from there. What has expired does not, but what it took the place of,
    /// until it is on disk itself.
    pub(super) fn note(&mut self, entry: &Entry, now: SystemTime, tick: u64) {
        let has_expired = entry.cookie.is_expired(now);
        if !entry.cookie.is_session_only() && (entry.change > 0 || !has_expired) {
            // What somebody has set since stays, where it went by itself.
            let date = if has_expired { entry.changed } else { now.max(entry.changed) };
            self.0.insert(key_of(&entry.cookie), (date, tick));
            if self.0.len() > NOTED {
                self.prune(now);
            }
        }
    }

    fn since(&self, key: &Key) -> Option<SystemTime> {
        self.0.get(key).map(|(date, _)| *date)
    }

    /// The latest of them, as far as they are still of use; those that are on disk go first.
    fn prune(&mut self, now: SystemTime) {
        let oldest = now.checked_sub(KNOWN).unwrap_or(SystemTime::UNIX_EPOCH);
        self.0.retain(|_, (date, tick)| *tick > 0 || *date >= oldest);
        if self.0.len() > DELETED {
            let mut all: Vec<_> = self.0.drain().collect();
            all.sort_unstable_by_key(|(_, (date, tick))| std::cmp::Reverse((*tick > 0, *date)));
            self.0.extend(all.into_iter().take(DELETED));
        }
    }
}

/// What was deleted here and not found, but may be on disk, where others have put it: the next meeting takes it out.
#[derive(Default)]
pub(super) struct Unwanted {
    /// All that was set before the jar was emptied.
    all: Option<SystemTime>,
    /// Since when, and whether those who are not secure want it.
    single: HashMap<Key, (SystemTime, bool)>,
}

impl Unwanted {
    fn is_empty(&self) -> bool {
        self.all.is_none() && self.single.is_empty()
    }

    /// Since when a cookie is not to be there.
    fn since(&self, key: &Key) -> Option<SystemTime> {
        self.all.max(self.single.get(key).map(|(date, _)| *date))
    }

    /// Since when this one is not to be there; `None`: it may, or was set later.
    fn out_since(&self, key: &Key, entry: &Entry) -> Option<SystemTime> {
        let single = self.single.get(key).filter(|(_, is_open)| !(*is_open && entry.cookie.is_secure()));
        self.all.max(single.map(|(date, _)| *date)).filter(|date| entry.changed <= *date)
    }
}

/// What is on disk.
#[derive(Default)]
pub struct Kept {
    /// The oldest first.
    pub(super) entries: Vec<Entry>,
    pub(super) keys: HashSet<Key>,
    pub(super) deleted: HashMap<Key, SystemTime>,
}

impl fmt::Debug for Kept {
    /// How much there is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").field("count", &self.entries.len()).finish_non_exhaustive()
    }
}

/// What is to be on disk: a copy, so that nobody waits for the jar while a text is made of it.
pub struct ToKeep {
    pub(super) cookies: Vec<Copied>,
    pub(super) deleted: Vec<(Key, SystemTime)>,
    /// For [`Jar::note_saved`] when it is on disk.
    pub tick: u64,
}

impl fmt::Debug for ToKeep {
    /// How much there is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ToKeep").field("count", &self.cookies.len()).finish_non_exhaustive()
    }
}

pub(super) struct Copied {
    pub(super) cookie: Arc<HttpCookie>,
    pub(super) created: SystemTime,
    pub(super) order: u64,
    pub(super) changed: SystemTime,
}

impl Jar {
    /// A jar whose cookies are kept on disk.
    pub fn kept() -> Self {
        let mut jar = Self::default();
        jar.deleted = Some(Deleted::default());
        jar
    }

    /// Whether something was set or deleted that is not on disk.
    pub fn has_unsaved(&self) -> bool {
        let deleted = self.deleted.as_ref().is_some_and(|deleted| deleted.0.values().any(|(_, tick)| *tick > 0));
        deleted
            || !self.unwanted.is_empty()
            || self.entries().any(|entry| entry.change > 0 && !entry.cookie.is_session_only())
    }

    /// What was set or deleted up to this tick is on disk.
    pub fn note_saved(&mut self, tick: u64) {
        self.saved(tick);
        for (_, deleted) in self.deleted.iter_mut().flat_map(|deleted| deleted.0.values_mut()) {
            if *deleted <= tick {
                *deleted = 0;
            }
        }
    }

    /// A cookie takes the place of what there is or was; the date of that, which is behind what is replaced.
    pub(super) fn note_replaced(&mut self, cookie: &HttpCookie, now: SystemTime) -> SystemTime {
        let tick = self.tick() + 1;
        let mut deleted = self.deleted.take();
        let known = self.entries_of(cookie.scope().0).iter().find(|known| known.cookie.has_key_of(cookie));
        let mut date = known.map_or(now, |known| now.max(known.changed));
        if let Some(unwanted) = self.unwanted.since(&key_of(cookie)).and_then(|unwanted| unwanted.checked_add(MOMENT)) {
            date = date.max(unwanted);
        }
        match &mut deleted {
            Some(deleted) if !cookie.is_session_only() => {
                let gone = deleted.0.remove(&key_of(cookie)).and_then(|(gone, _)| gone.checked_add(MOMENT));
                date = gone.map_or(date, |gone| date.max(gone));
            }
            Some(deleted) => known.into_iter().for_each(|known| deleted.note(known, now, tick)),
            None => {}
        }
        self.deleted = deleted;
        date
    }

    /// A cookie was taken out; whether it may be on disk all the same.
    pub(super) fn note_unwanted(&mut self, cookie: &HttpCookie, origin: Origin, now: SystemTime) -> bool {
        let Some(deleted) = &self.deleted else { return false };
        let key = key_of(cookie);
        if deleted.since(&key).is_some_and(|date| date >= now) {
            return false;
        }
        let single = &mut self.unwanted.single;
        let has_room = single.len() < DELETED || single.contains_key(&key);
        let is_open = origin == Origin::Insecure;
        // Who is not secure takes nothing from what somebody else wants.
        if has_room && !(is_open && single.get(&key).is_some_and(|(_, is_open)| !is_open)) {
            single.insert(key, (now, is_open));
        }
        has_room
    }

    /// Everything was taken out.
    pub(super) fn note_all_unwanted(&mut self, now: SystemTime) {
        if self.deleted.is_some() {
            self.unwanted.all = Some(now);
        }
    }

    /// Meets the file, which is as it was when they last met.
    pub fn note_unchanged(&mut self) {
        self.unwanted = Unwanted::default();
    }

    /// Meets the file.
    pub fn merge(&mut self, kept: Kept, now: SystemTime) {
        // What goes now is not deleted by this jar.
        let Some(mut deleted) = self.deleted.take() else { return };
        self.remove_all(now, |entry| {
            let key = key_of(&entry.cookie);
            let was_deleted = || kept.deleted.get(&key).is_some_and(|date| *date >= entry.changed);
            !entry.cookie.is_session_only() && !kept.keys.contains(&key) && (entry.change == 0 || was_deleted())
        });
        let unwanted = std::mem::take(&mut self.unwanted);
        let is_out = |deleted: &Deleted, key: &Key, entry: &Entry| {
            unwanted.out_since(key, entry).is_some() || deleted.since(key).is_some_and(|date| date >= entry.changed)
        };
        for entry in kept.entries.iter().filter(|entry| entry.cookie.is_secure()) {
            let key = key_of(&entry.cookie);
            if !is_out(&deleted, &key, entry) {
                // What is on disk was not known when a server set this that may not, beside it.
                let site = site_of(entry.cookie.scope().0);
                self.remove_of(site, now, |here| {
                    here.is_open && here.changed >= entry.changed && entry.shields(&here.cookie, now)
                });
            }
        }
        let tick = self.next_tick();
        for entry in kept.entries {
            let key = key_of(&entry.cookie);
            let here =
                self.entries_of(entry.cookie.scope().0).iter().find(|here| here.cookie.has_key_of(&entry.cookie));
            let newer = here.filter(|here| here.change > 0 && here.changed >= entry.changed);
            if let Some(newer) = newer.filter(|newer| newer.cookie.is_session_only()) {
                deleted.0.insert(key, (newer.changed, newer.change));
            } else if newer.is_none() && !is_out(&deleted, &key, &entry) {
                if entry.cookie.is_expired(now) {
                    // What it took the place of is gone, too.
                    self.remove_of(site_of(entry.cookie.scope().0), now, |here| here.cookie.has_key_of(&entry.cookie));
                } else {
                    self.put(entry, now);
                }
            } else if newer.is_none()
                && let Some(date) = unwanted.out_since(&key, &entry)
                && deleted.since(&key).is_none_or(|known| known < date)
            {
                // As of then: what somebody has set since stays.
                deleted.note(&entry, date, tick);
            }
        }
        for (key, date) in kept.deleted {
            if deleted.since(&key).is_none_or(|known| known < date) {
                deleted.0.insert(key, (date, 0));
            }
        }
        deleted.prune(now);
        self.deleted = Some(deleted);
    }

    /// What is to be on disk.
    pub fn for_file(&mut self, now: SystemTime) -> ToKeep {
        if let Some(deleted) = &mut self.deleted {
            deleted.prune(now);
        }
        let is_kept = |entry: &&Entry| !entry.cookie.is_session_only() && !entry.cookie.is_expired(now);
        let copied = |entry: &Entry| Copied {
            cookie: Arc::clone(&entry.cookie),
            created: entry.created,
            order: entry.order,
            changed: entry.changed,
        };
        let deleted = self.deleted.iter().flat_map(|deleted| &deleted.0);
        ToKeep {
            cookies: self.entries().filter(is_kept).map(copied).collect(),
            deleted: deleted.map(|(key, (date, _))| (key.clone(), *date)).collect(),
            tick: self.tick(),
        }
    }
}

#[cfg(test)]
mod tests;
