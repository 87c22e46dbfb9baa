//! Where credentials were asked for, so that later requests there carry them unasked: RFC 9110 §11.5, RFC 7617 §2.2.
//!
//! What is known is what challenges and their answers have shown: the space, and the paths under which it was met. The
//! `domain` of a Digest challenge (RFC 7616 §3.3), which may name more, is optional and passed over: a request that it
//! would have covered is challenged once.
#![forbid(unsafe_code)]

use std::fmt;

use crate::foundation::{AuthenticationMethod, ProxyKind, UrlProtectionSpace};

/// How many spaces one server or proxy may have, and how many there are in all. The one that was of no use for the
/// longest time goes first.
const OF_ORIGIN: usize = 16;
const IN_ALL: usize = 128;

/// How many scopes are kept of a space, and how long one may be in bytes. Of those, too, the one without use goes
/// first.
const SCOPES: usize = 8;
const MAXIMUM_SCOPE: usize = 1024;

/// The protection spaces whose challenges were answered, each with its user and with what the scheme needs for the next
/// answer (`T`: the nonce and the counter of Digest, nothing for Basic).
///
/// Spaces are told apart by their canonical form, and this is what comes out. A realm of more than 1 KiB is not kept.
pub struct KnownSpaces<T> {
    spaces: Vec<Known<T>>,
    /// Grows with everything that happens.
    tick: u64,
}

struct Known<T> {
    space: UrlProtectionSpace,
    /// What stands before everything that the space covers, with a `/` at its end; the latest used last.
    scopes: Vec<String>,
    user: String,
    state: T,
    remembered: u64,
    used: u64,
}

impl<T> Default for KnownSpaces<T> {
    fn default() -> Self {
        Self { spaces: Vec::new(), tick: 0 }
    }
}

impl<T> KnownSpaces<T> {
    /// The space has asked at this path, and was answered with a credential of this user. It takes the place of what
    /// was known of the space, but for the other paths.
    ///
    /// `path` is that of a [`Url`](url::Url), without the query, so there is no `..` in it, and what is escaped is no
    /// slash. The scope is all of it up to the last slash (RFC 7617 §2.2), and everything where a proxy asks. A scope
    /// of more than 1 KiB is not kept, for a shorter one would cover what nobody asked for: the space is known then,
    /// and found by [`get_mut`](Self::get_mut) only.
    pub fn remember(&mut self, space: UrlProtectionSpace, path: &str, user: String, state: T) {
        let space = space.canonical();
        if !space.has_short_realm() {
            return;
        }
        let path = if space.is_proxy() { "/" } else { path };
        let tick = self.tick();
        let scopes = match self.position(&space) {
            Some(position) => self.spaces.swap_remove(position).scopes,
            None => {
                self.make_room(&space);
                Vec::new()
            }
        };
        let mut known = Known { space, scopes, user, state, remembered: tick, used: tick };
        // Where this space is what is found there, the path tells nothing new.
        let found = known.touch(path);
        let of_others = self.of_origin(&known.space).filter_map(|(_, other)| Some(other.covering(path)?.0)).max();
        if found.is_none() || found < of_others {
            known.add(scope(path));
        }
        self.spaces.push(known);
    }

    /// The space that a request to this server probably falls into, its user, and its state: the one with the longest
    /// scope that covers the path, and of several the one that was remembered last. A port of 0 is the protocol's own.
    pub fn find(
        &mut self,
        host: &str,
        port: u16,
        protocol: &str,
        path: &str,
    ) -> Option<(&UrlProtectionSpace, &str, &mut T)> {
        let origin = UrlProtectionSpace::new(host, port, Some(protocol), None, AuthenticationMethod::Default);
        self.find_like(&origin, path)
    }

    /// The space of this proxy that was remembered last.
    pub(crate) fn find_proxy(
        &mut self,
        kind: ProxyKind,
        host: &str,
        port: u16,
    ) -> Option<(&UrlProtectionSpace, &str, &mut T)> {
        let origin = UrlProtectionSpace::of_proxy(kind, host, port, None, AuthenticationMethod::Default);
        self.find_like(&origin, "/")
    }

    /// The state of this space.
    pub fn get_mut(&mut self, space: &UrlProtectionSpace) -> Option<&mut T> {
        let tick = self.tick();
        let position = self.position(&space.canonical())?;
        let known = self.spaces.get_mut(position)?;
        known.used = tick;
        Some(&mut known.state)
    }

    /// The user's credential opens the space no longer: what is known goes, if it is about this user.
    pub fn forget(&mut self, space: &UrlProtectionSpace, user: &str) {
        let space = space.canonical();
        self.spaces.retain(|known| known.space != space || known.user != user);
    }

    /// Whether nothing has asked yet.
    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.spaces = Vec::new();
    }

    fn find_like(&mut self, origin: &UrlProtectionSpace, path: &str) -> Option<(&UrlProtectionSpace, &str, &mut T)> {
        let tick = self.tick();
        let best = self
            .of_origin(&origin.canonical())
            .filter_map(|(position, known)| Some((known.covering(path)?.0, known.remembered, position)))
            .max();
        let (_, _, position) = best?;
        let known = self.spaces.get_mut(position)?;
        known.used = tick;
        known.touch(path);
        Some((&known.space, &known.user, &mut known.state))
    }

    /// A new space of this origin is to come.
    fn make_room(&mut self, space: &UrlProtectionSpace) {
        let unused = |(position, known): (usize, &Known<T>)| (known.used, position);
        let leaving = if self.of_origin(space).count() >= OF_ORIGIN {
            self.of_origin(space).map(unused).min()
        } else if self.spaces.len() >= IN_ALL {
            self.spaces.iter().enumerate().map(unused).min()
        } else {
            None
        };
        if let Some((_, position)) = leaving {
            self.spaces.swap_remove(position);
        }
    }

    fn of_origin<'a>(&'a self, space: &'a UrlProtectionSpace) -> impl Iterator<Item = (usize, &'a Known<T>)> {
        self.spaces.iter().enumerate().filter(|(_, known)| known.space.has_origin_of(space))
    }

    fn position(&self, space: &UrlProtectionSpace) -> Option<usize> {
        self.spaces.iter().position(|known| known.space == *space)
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

impl<T> Known<T> {
    /// How long the longest scope is that covers the path, and where it stands.
    fn covering(&self, path: &str) -> Option<(usize, usize)> {
        let path = rooted(path);
        let covering = self.scopes.iter().enumerate().filter(|(_, scope)| path.starts_with(scope.as_str()));
        covering.map(|(position, scope)| (scope.len(), position)).max()
    }

    /// The same, and this scope was of use.
    fn touch(&mut self, path: &str) -> Option<usize> {
        let (length, position) = self.covering(path)?;
        let scope = self.scopes.remove(position);
        self.scopes.push(scope);
        Some(length)
    }

    fn add(&mut self, scope: &str) {
        if scope.len() <= MAXIMUM_SCOPE {
            if self.scopes.len() >= SCOPES {
                self.scopes.remove(0);
            }
            self.scopes.push(scope.to_owned());
        }
    }
}

/// Everything up to the last slash, with it: RFC 7617 §2.2.
fn scope(path: &str) -> &str {
    path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or("/")
}

/// An empty path is `/`: RFC 9110 §4.2.3.
fn rooted(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

impl<T> fmt::Debug for KnownSpaces<T> {
    /// Shows how many there are, for the state may hold what stands for a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KnownSpaces").field("count", &self.spaces.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
