//! Basic: RFC 7617.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::has_control;

/// The value of `Authorization` or `Proxy-Authorization`: RFC 7617 §2.
///
/// User and password go out as UTF-8 whatever `charset` the server named: UTF-8 is all that it may name (§2.1). Whoever types
/// them brings them into NFC; here they stay as they are.
///
/// # Errors
/// The user has a colon, or one of the two a control character: neither can be sent. The text tells nothing of either.
pub fn basic(user: &str, password: &str) -> Result<String, String> {
    if user.contains(':') {
        return Err("a user with a colon cannot be sent with Basic".to_owned());
    }
    if has_control(user) || has_control(password) {
        return Err("a user or a password with a control character cannot be sent".to_owned());
    }
    Ok(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_7617() {
        let table = [
            // §2
            ("Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            // §2.1
            ("test", "123\u{a3}", "Basic dGVzdDoxMjPCow=="),
            ("", "", "Basic Og=="),
            ("me", "a:b", "Basic bWU6YTpi"),
        ];
        for (user, password, value) in table {
            assert_eq!(basic(user, password).as_deref(), Ok(value), "{user}");
        }
    }

    #[test]
    fn what_cannot_be_sent() {
        for user in ["a:b", ":", "a\0", "a\r\nb", "\u{7f}", "\u{85}", "\t"] {
            let reason = basic(user, "unspoken").unwrap_err();
            assert!(!reason.contains(user) && !reason.contains("unspoken"), "{reason}");
        }
        for password in ["\n", "unspoken\0", "a\u{9f}", "\t"] {
            let reason = basic("Mufasa", password).unwrap_err();
            assert!(!reason.contains(password) && !reason.contains("Mufasa"), "{reason}");
        }
    }
}
