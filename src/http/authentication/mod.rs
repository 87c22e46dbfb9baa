//! Authentication without I/O: RFC 9110 §11, Basic (RFC 7617) and Digest (RFC 7616, and RFC 2069 where a server is that old).
//!
//! In come the values of `WWW-Authenticate` or `Proxy-Authenticate`, then a user, a password and random bytes; out go what
//! the server offers, strongest first, and the value of `Authorization` or `Proxy-Authorization`. No password stays here.
//!
//! What a server can make long has a limit: 32 challenges are looked at, a challenge with more than 64 parameters is
//! malformed, and one with a realm above 1 KiB, or a nonce or an opaque above 4 KiB, is passed over. The fields themselves
//! end with the head: 64 KiB.
#![forbid(unsafe_code)]

mod basic;
mod challenges;
mod digest;
mod used_nonces;

pub use basic::basic;
#[cfg(feature = "__internals")]
pub use challenges::{Challenge, Content, Malformed, Parameter, challenges};
#[cfg(not(feature = "__internals"))]
use challenges::{Challenge, challenges};
pub use digest::Digest;
pub use used_nonces::UsedNonces;

use crate::foundation::AuthenticationMethod;

/// How many bytes of UTF-8 a realm may have: it is shown to a user, and credentials are looked up by it.
const REALM: usize = 1024;

/// One way to authenticate that a server, or a proxy, offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// `Negotiate`, `Ntlm`, `HttpDigest` or `HttpBasic`.
    pub method: AuthenticationMethod,
    /// The part of the server that asks, in the server's words; `None` for Negotiate and NTLM.
    pub realm: Option<String>,
    digest: Option<Digest>,
    is_stale: bool,
}

impl Offer {
    /// `None` for what this crate does not know, and for what is incomplete.
    fn new(challenge: &Challenge<'_>) -> Option<Self> {
        let is_scheme = |name: &str| challenge.scheme.eq_ignore_ascii_case(name);
        let realm = || challenge.parameter("realm").filter(|realm| realm.len() <= REALM).map(str::to_owned);
        let of = |method| Self { method, realm: None, digest: None, is_stale: false };
        if is_scheme("Negotiate") {
            Some(of(AuthenticationMethod::Negotiate))
        } else if is_scheme("NTLM") {
            Some(of(AuthenticationMethod::Ntlm))
        } else if is_scheme("Digest") {
            let realm = realm()?;
            let digest = Digest::new(&realm, challenge)?;
            let is_stale = challenge.parameter("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
            Some(Self { realm: Some(realm), digest: Some(digest), is_stale, ..of(AuthenticationMethod::HttpDigest) })
        } else if is_scheme("Basic") {
            Some(Self { realm: Some(realm()?), ..of(AuthenticationMethod::HttpBasic) })
        } else {
            None
        }
    }

    /// Whether only the nonce was too old: then the same user and password may be sent again, with the new one, and nobody
    /// has to be asked (RFC 7616 §3.3). A server says so of Digest only.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// What answers it, with a nonce that was not used yet; `None` where it is not Digest. Use one copy of it: each counts for
    /// itself.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The smaller, the stronger.
    fn rank(&self) -> (u8, u8) {
        match (self.method, &self.digest) {
            (AuthenticationMethod::Negotiate, _) => (0, 0),
            (AuthenticationMethod::Ntlm, _) => (1, 0),
            (_, Some(digest)) => (2, digest.rank()),
            _ => (3, 0),
        }
    }
}

/// What is offered by the challenges in `fields`, the values of all `WWW-Authenticate` or all `Proxy-Authenticate` of one
/// answer: Negotiate, NTLM, Digest with SHA-512-256, with SHA-256, with MD5, and Basic, in this order, and of equals the
/// first first. `-sess` counts as what it is made of.
///
/// Passed over are:
/// - schemes that are not among these, and challenges that are malformed;
/// - Basic without a realm; Digest without a realm or a nonce, with an algorithm that is not among these, or with a list of
///   `qop` that lacks `auth`. Without any `qop` it is the one of RFC 2069;
/// - what has the same method and the same realm as a stronger or an earlier one;
/// - what passes a [limit](self).
pub fn offers<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<Offer> {
    let mut offers: Vec<Offer> = challenges(fields).filter_map(|challenge| Offer::new(&challenge.ok()?)).collect();
    offers.sort_by_key(Offer::rank);
    let mut kept: Vec<Offer> = Vec::with_capacity(offers.len());
    for offer in offers {
        if !kept.iter().any(|other| (other.method, &other.realm) == (offer.method, &offer.realm)) {
            kept.push(offer);
        }
    }
    kept
}

/// Whether a user or a password may not be sent: RFC 7617 §2, and RFC 7616 §4 by way of RFC 8265.
fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
