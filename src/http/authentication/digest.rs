//! Digest: RFC 7616, and RFC 2069 for servers that send no `qop`.
//!
//! Not done, as nobody gains by it here:
//! - `qop=auth-int`: a request that opens a WebSocket, and one to a proxy, has no body to protect.
//! - `rspauth` of `Authentication-Info` is not checked: behind the head of a 101 the connection is no HTTP any more, and most
//!   servers send none.
//! - `domain` is not looked at: where else the credentials hold is for who keeps them.
//!
//! Text is hashed as UTF-8, whether or not the server says `charset=UTF-8` (RFC 7616 §4); it is the only one that there is a
//! name for. So is a realm that came in Latin-1, which a server that hashes its own bytes refuses. Values are hashed without
//! their quotes and backslashes.

use std::fmt;

use md5::{Digest as Hash, Md5};
use sha2::{Sha256, Sha512_256};

use super::super::tokens;
use super::challenges::{Challenge, parameters, value};
use super::has_control;

/// How many bytes a nonce or an opaque may have: both go back to the server with every request.
const ECHOED: usize = 4096;

/// What answers a challenge, once or more often: RFC 7616 §3.4. Neither the password nor anything made from it is kept.
#[derive(Clone)]
pub struct Digest {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// Whether the server named the algorithm: only then it is named to the server.
    names_algorithm: bool,
    /// `-sess`.
    has_session: bool,
    /// Whether `qop=auth` is what the server wants. Otherwise it is RFC 2069.
    has_qop: bool,
    userhash: bool,
    /// The server knows `username*`, which is as old as `charset` and as the hashes that are not MD5.
    knows_extended: bool,
    session: Option<Session>,
    /// How often the nonce was used.
    count: u32,
}

/// What the key of a session is made from besides user and password: RFC 7616 §3.4.2. Both are those of the first request
/// after the challenge, and stay while there are new nonces by way of `nextnonce`.
#[derive(Clone)]
struct Session {
    nonce: String,
    client_nonce: String,
}

/// The strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
    Sha512256,
}

impl Digest {
    /// `None` where the challenge has something that this crate cannot answer, or lacks what an answer needs.
    pub(super) fn new(realm: &str, challenge: &Challenge<'_>) -> Option<Self> {
        let nonce = challenge.parameter("nonce").filter(|nonce| is_nonce(nonce))?;
        let opaque = challenge.parameter("opaque");
        if opaque.is_some_and(|opaque| opaque.len() > ECHOED) {
            return None;
        }
        let name = challenge.parameter("algorithm");
        let (algorithm, has_session) = Algorithm::named(name.unwrap_or("MD5"))?;
        let qop = challenge.parameter("qop");
        if qop.is_some_and(|list| !tokens::list([list].into_iter()).any(|qop| qop.eq_ignore_ascii_case("auth"))) {
            return None;
        }
        Some(Self {
            realm: realm.to_owned(),
            nonce: nonce.to_owned(),
            opaque: opaque.map(str::to_owned),
            algorithm,
            names_algorithm: name.is_some(),
            has_session,
            has_qop: qop.is_some(),
            knows_extended: algorithm != Algorithm::Md5
                || challenge.parameter("charset").is_some_and(|charset| charset.eq_ignore_ascii_case("UTF-8")),
            userhash: challenge.parameter("userhash").is_some_and(|userhash| userhash.eq_ignore_ascii_case("true")),
            session: None,
            count: 0,
        })
    }

    /// The smaller, the stronger.
    pub(super) fn rank(&self) -> u8 {
        match self.algorithm {
            Algorithm::Sha512256 => 0,
            Algorithm::Sha256 => 1,
            Algorithm::Md5 => 2,
        }
    }

    /// The value of `Authorization` or `Proxy-Authorization` for the next request with this nonce: RFC 7616 §3.4.
    ///
    /// `method` and `uri` are those of the request line as it is sent: `GET` and the path with the query, or `CONNECT` and host
    /// with port. `client_nonce` is 16 unpredictable bytes, fresh for each request. With `-sess` those of the first one stay:
    /// a server needs them to make the key, and not every server remembers them.
    ///
    /// # Errors
    /// A control character in the user, the password or the `uri`: it cannot be sent. A nonce that was used 4,294,967,295
    /// times. The text tells nothing of either.
    pub fn authorization(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
        client_nonce: [u8; 16],
    ) -> Result<String, String> {
        if has_control(user) || has_control(password) {
            return Err("a user or a password with a control character cannot be sent".to_owned());
        }
        if has_control(uri) {
            return Err("an address with a control character cannot be sent".to_owned());
        }
        let Some(count) = self.count.checked_add(1) else {
            return Err("the nonce of the server has been used as often as it can be counted".to_owned());
        };
        Ok(self.answer(user, password, method, uri, &hex(&client_nonce), count))
    }

    /// As [`authorization`](Self::authorization), but for the checks, with `client_nonce` as it is sent and with the count.
    #[cfg(any(test, feature = "__internals"))]
    pub fn authorization_with(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
        client_nonce: &str,
        count: u32,
    ) -> String {
        self.answer(user, password, method, uri, client_nonce, count)
    }

    /// Takes `nextnonce` out of a line of `Authentication-Info` or `Proxy-Authentication-Info`: the nonce for the next request,
    /// counted from the start (RFC 7616 §3.5). A line that is malformed, or without one, or with one above 4 KiB, changes
    /// nothing. Whether there was a new one.
    pub fn update(&mut self, authentication_info: &str) -> bool {
        let parameters = parameters(authentication_info).unwrap_or_default();
        match value(&parameters, "nextnonce") {
            // The same one goes on: no count may come twice.
            Some(nonce) if is_nonce(nonce) && nonce != self.nonce => {
                self.nonce = nonce.to_owned();
                self.count = 0;
                true
            }
            _ => false,
        }
    }

    /// Whether it is about the same nonce.
    pub(super) fn has_nonce_of(&self, other: &Self) -> bool {
        self.realm == other.realm && self.nonce == other.nonce
    }

    /// Goes on where `earlier` is, if this is another challenge with the same nonce: RFC 7616 §3.4, no count may come twice. For
    /// a new nonce nothing changes.
    pub fn go_on(&mut self, earlier: &Self) {
        if self.has_nonce_of(earlier) {
            self.count = self.count.max(earlier.count);
            if self.algorithm == earlier.algorithm && self.has_session == earlier.has_session {
                self.session.clone_from(&earlier.session);
            }
        }
    }

    fn answer(
        &mut self,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
        client_nonce: &str,
        count: u32,
    ) -> String {
        self.count = count;
        let count = format!("{count:08x}");
        let algorithm = self.algorithm;
        if self.has_session && self.session.is_none() {
            self.session = Some(Session { nonce: self.nonce.clone(), client_nonce: client_nonce.to_owned() });
        }
        // RFC 7616 §3.4.2.
        let key = algorithm.hash(&[user, &self.realm, password]);
        let (key, client_nonce) = match &self.session {
            Some(session) => (algorithm.hash(&[&key, &session.nonce, &session.client_nonce]), &*session.client_nonce),
            None => (key, client_nonce),
        };
        // §3.4.3 and §3.4.1; RFC 2069 §2.1.2 without `qop`.
        let request = algorithm.hash(&[method, uri]);
        let response = match self.has_qop {
            true => algorithm.hash(&[&key, &self.nonce, &count, client_nonce, "auth", &request]),
            false => algorithm.hash(&[&key, &self.nonce, &request]),
        };

        // RFC 7616 §3.4: which are quoted and which are not is not for us to choose. The order is that of §3.9.
        let mut parts = vec![self.username(user), quoted("realm", &self.realm), quoted("uri", uri)];
        if self.names_algorithm {
            let session = if self.has_session { "-sess" } else { "" };
            parts.push(format!("algorithm={}{session}", algorithm.name()));
        }
        parts.push(quoted("nonce", &self.nonce));
        if self.has_qop {
            parts.push(format!("nc={count}"));
        }
        // Without it no server could make the key of a session.
        if self.has_qop || self.has_session {
            parts.push(quoted("cnonce", client_nonce));
        }
        if self.has_qop {
            parts.push("qop=auth".to_owned());
        }
        parts.push(quoted("response", &response));
        parts.extend(self.opaque.as_deref().map(|opaque| quoted("opaque", opaque)));
        if self.userhash {
            parts.push("userhash=true".to_owned());
        }
        format!("Digest {}", parts.join(", "))
    }

    /// RFC 7616 §3.4 and §3.4.4.
    fn username(&self, user: &str) -> String {
        if self.userhash {
            return quoted("username", &self.algorithm.hash(&[user, &self.realm]));
        }
        // Older servers compare bytes, and those of RFC 7616 §3.4's quoted string may be any.
        if user.is_ascii() || !self.knows_extended {
            return quoted("username", user);
        }
        let mut text = "username*=UTF-8''".to_owned();
        for byte in user.bytes() {
            match is_attribute_byte(byte) {
                true => text.push(byte.into()),
                false => text.push_str(&format!("%{byte:02X}")),
            }
        }
        text
    }
}

impl fmt::Debug for Digest {
    /// Without the nonces and the opaque: they are between the client and the server.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Digest")
            .field("realm", &self.realm)
            .field("algorithm", &self.algorithm)
            .field("has_session", &self.has_session)
            .field("has_qop", &self.has_qop)
            .field("userhash", &self.userhash)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl Algorithm {
    /// With whether it has `-sess` behind it; names compare without case.
    fn named(name: &str) -> Option<(Self, bool)> {
        let (base, has_session) = match name.len().checked_sub(5).and_then(|start| name.split_at_checked(start)) {
            Some((base, end)) if end.eq_ignore_ascii_case("-sess") => (base, true),
            _ => (name, false),
        };
        let is_base = |algorithm: &Self| base.eq_ignore_ascii_case(algorithm.name());
        [Self::Md5, Self::Sha256, Self::Sha512256].into_iter().find(is_base).map(|algorithm| (algorithm, has_session))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512256 => "SHA-512-256",
        }
    }

    /// What these are hashed to with a colon between any two, as hexadecimal digits.
    fn hash(self, parts: &[&str]) -> String {
        match self {
            Self::Md5 => hashed::<Md5>(parts),
            Self::Sha256 => hashed::<Sha256>(parts),
            Self::Sha512256 => hashed::<Sha512_256>(parts),
        }
    }
}

fn hashed<H: Hash>(parts: &[&str]) -> String {
    let mut hash = H::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hash.update(":");
        }
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A parameter with a quoted string: RFC 9110 §5.6.4.
fn quoted(name: &str, value: &str) -> String {
    let mut text = format!("{name}=\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// What a value of RFC 8187 §3.2.1 has as it is.
const fn is_attribute_byte(byte: u8) -> bool {
    tokens::is_token_byte(byte) && !matches!(byte, b'*' | b'\'' | b'%')
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.len() <= ECHOED
}

#[cfg(test)]
mod tests;
