//! What the servers say before the plan's answer: redirects and challenges, in every kind of wrapping.

use crate::network::End;
use crate::plan::{Body, broken};
use crate::rng::Rng;

/// The way to the open socket, if it is not a straight one.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Somebody is asked.
    pub has_delegate: bool,
    pub stops: Vec<Stop>,
    /// The caller's request has secrets: `Authorization`, `Cookie`, and a field of its own.
    pub authorization: bool,
    pub cookie: bool,
    pub secret: bool,
    /// There is a user with a password in the address.
    pub user: bool,
    /// The storage has somebody for the first server: for which method and realm.
    pub stored: Option<(Method, &'static str)>,
    /// The delegate never replies.
    pub is_mute: bool,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Stop {
    pub turn: Turn,
    pub body: Body,
    /// `Connection: close`, and what it says.
    pub close: bool,
    /// HTTP/1.0.
    pub old: bool,
    /// Bytes behind the answer that nobody asked for.
    pub surplus: bool,
    /// Before the request is there whole.
    pub early: bool,
    /// The server hangs up behind it, announced or not.
    pub hangs_up: Option<End>,
    pub cookie: bool,
}

#[derive(Clone, Debug)]
pub enum Turn {
    Redirect(u16),
    Challenge(Vec<Offered>),
    /// No answer: the connection ends when the request is there.
    Lost(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Negotiate,
    Ntlm,
    Digest,
    Basic,
}

/// One of the ways that a 401 offers; without a nonce as yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    pub method: Method,
    pub realm: Option<&'static str>,
    pub algorithm: &'static str,
    pub stale: bool,
}

const REALMS: [&str; 2] = ["here", "there"];

impl Way {
    pub fn new(clean: bool, has_tls: bool, rng: &mut Rng) -> Self {
        if !rng.one_in(4) {
            return Self::default();
        }
        let has_delegate = rng.one_in(2) || rng.one_in(3);
        let most = if clean { 20 } else { 26 };
        let count = if rng.one_in(10) { rng.within(18, most) } else { rng.within(1, 6) };
        // Long chains are of one kind.
        let kind = if count > 6 { Some(rng.one_in(2)) } else { None };
        let stops = (0..count).map(|_| Stop::new(clean, has_tls, has_delegate, kind, rng)).collect();
        Self {
            has_delegate,
            stops,
            authorization: rng.one_in(4),
            cookie: rng.one_in(4),
            secret: rng.one_in(2),
            user: rng.one_in(4),
            stored: if rng.one_in(3) {
                Some((rng.pick(&[Method::Digest, Method::Basic]), rng.pick(&REALMS)))
            } else {
                None
            },
            is_mute: !clean && has_delegate && rng.one_in(12),
        }
    }

    pub fn is_straight(&self) -> bool {
        self.stops.is_empty()
    }
}

impl Stop {
    fn new(clean: bool, has_tls: bool, has_delegate: bool, kind: Option<bool>, rng: &mut Rng) -> Self {
        let turn = match rng.below(10) {
            // Nobody knows what to answer.
            0..5 if clean && !has_delegate => Turn::redirect(rng),
            0..5 if kind == Some(true) => Turn::redirect(rng),
            0..9 if kind == Some(false) && (has_delegate || !clean) => Turn::challenge(clean, kind.is_some(), rng),
            0..5 if kind.is_none() && (has_delegate || !clean) => Turn::challenge(clean, kind.is_some(), rng),
            // Of what TLS has not told yet nobody can say whether the client has it.
            9 if kind.is_none() => Turn::Lost(if has_tls { End::Stream } else { broken(rng) }),
            _ => Turn::redirect(rng),
        };
        let length = rng.pick(&[1, 1, 100, 5_000]);
        let length = if rng.one_in(30) { rng.below(200_000) } else { rng.below(length) };
        let body = match rng.below(10) {
            0..4 => Body::Length(length),
            4..8 => Body::Chunked(length),
            8 => Body::Short(length + 2, rng.one_in(2)),
            _ => Body::UntilEnd(length),
        };
        let (close, old) = (rng.one_in(8), rng.one_in(16));
        let hangs_up = match () {
            () if close || old || rng.one_in(12) => Some(End::Stream),
            () if !clean && !has_tls && rng.one_in(16) => Some(broken(rng)),
            () => None,
        };
        // Where the body ends with the connection, nothing is behind it.
        let surplus = !clean && rng.one_in(12) && matches!(body, Body::Length(_) | Body::Chunked(_));
        Self { turn, body, close, old, surplus, early: rng.one_in(5), hangs_up, cookie: rng.one_in(4) }
    }
}

impl Turn {
    fn redirect(rng: &mut Rng) -> Self {
        Self::Redirect(rng.pick(&[301, 302, 303, 305, 306, 307, 308]))
    }

    fn challenge(clean: bool, is_long: bool, rng: &mut Rng) -> Self {
        let mut offers = Vec::new();
        for method in [Method::Negotiate, Method::Ntlm] {
            if rng.one_in(5) {
                offers.push(Offered { method, realm: None, algorithm: "", stale: false });
            }
        }
        let must = clean || !rng.one_in(10);
        let only_basic = !is_long && rng.one_in(2);
        if must && !only_basic || rng.one_in(4) {
            let algorithm = rng.pick(&["MD5", "SHA-256", "SHA-512-256", "MD5-sess"]);
            // A nonce that is stale is one of the same realm.
            let realms = if is_long { &REALMS[..1] } else { &REALMS };
            let (realm, stale) = (Some(rng.pick(realms)), rng.one_in(if is_long { 2 } else { 3 }));
            offers.push(Offered { method: Method::Digest, realm, algorithm, stale });
        }
        if must && only_basic || rng.one_in(4) {
            for realm in REALMS.into_iter().take(rng.within(1, 2)) {
                offers.push(Offered { method: Method::Basic, realm: Some(realm), algorithm: "", stale: false });
            }
        }
        // In no order.
        for index in 1..offers.len() {
            offers.swap(index, rng.below(index + 1));
        }
        Self::Challenge(offers)
    }
}
