//! How often nonces of Digest were used, over all tasks of a session: RFC 7616 §3.4, no count may come twice.

use std::collections::VecDeque;
use std::fmt;

use super::Digest;
use crate::foundation::UrlProtectionSpace;

/// How many nonces are remembered; the one that was not used for the longest time is forgotten first.
const KEPT: usize = 64;

/// The nonces that were used of late. A server may give one to several tasks, and one more than once.
#[derive(Default)]
pub struct UsedNonces(VecDeque<(UrlProtectionSpace, Digest)>);

impl UsedNonces {
    /// Makes an answer with `digest`, counting on where others have used its nonce.
    pub fn count_on<R>(
        &mut self,
        space: &UrlProtectionSpace,
        digest: &mut Digest,
        answer: impl FnOnce(&mut Digest) -> R,
    ) -> R {
        let place = self.0.iter().position(|(known, earlier)| known == space && digest.has_nonce_of(earlier));
        if let Some((_, earlier)) = place.and_then(|place| self.0.remove(place)) {
            digest.go_on(&earlier);
        }
        let answer = answer(digest);
        self.0.push_back((space.clone(), digest.clone()));
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
        answer
    }
}

impl fmt::Debug for UsedNonces {
    /// How many there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("UsedNonces").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::offers;
    use super::*;
    use crate::foundation::AuthenticationMethod;

    fn space(host: &str) -> UrlProtectionSpace {
        UrlProtectionSpace::new(host, 80, Some("http"), Some("r"), AuthenticationMethod::HttpDigest)
    }

    /// The count that an answer to a challenge with this nonce has.
    fn count(used: &mut UsedNonces, host: &str, nonce: &str) -> String {
        let challenge = format!("Digest realm=r, nonce={nonce}, qop=auth");
        let mut digest = offers([&*challenge].into_iter()).remove(0).digest().unwrap().clone();
        let field = used
            .count_on(&space(host), &mut digest, |digest| digest.authorization("me", "", "GET", "/", [0; 16]))
            .unwrap();
        field.split("nc=").nth(1).unwrap()[..8].to_owned()
    }

    #[test]
    fn one_nonce_is_counted_by_all() {
        let mut used = UsedNonces::default();
        let counts = ["a b", "a b", "a c", "d b", "a b"].map(|both| {
            let (host, nonce) = both.split_once(' ').unwrap();
            count(&mut used, host, nonce)
        });
        assert_eq!(counts, ["00000001", "00000002", "00000001", "00000001", "00000003"]);
    }

    #[test]
    fn what_was_used_of_late_is_remembered() {
        let mut used = UsedNonces::default();
        assert_eq!(count(&mut used, "a", "first"), "00000001");
        (1..KEPT).for_each(|number| drop(count(&mut used, "a", &number.to_string())));
        assert_eq!(count(&mut used, "a", "first"), "00000002");
        (0..KEPT).for_each(|number| drop(count(&mut used, "b", &number.to_string())));
        assert_eq!((count(&mut used, "a", "first").as_str(), used.0.len()), ("00000001", KEPT));
    }
}
