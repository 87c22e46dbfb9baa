//! Where a server sends a client on instead of opening the WebSocket: RFC 9110 §10.2.2 and §15.4.

use url::{Host, Url};

use super::head::ResponseHead;
use crate::foundation::{UrlRequest, without_user};

/// The caller's fields that go to another origin, too: what the handshake is made of, what is the same for every server, and
/// what says who opens the socket. Any other may be, or hold, a secret that was meant for the first server. The session's
/// additional fields fall under it likewise.
const KEPT: [&str; 10] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cache-Control",
    "DNT",
    "Origin",
    "Pragma",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "User-Agent",
];

/// Whether a caller's field may go to another origin than the one that the caller named.
pub fn is_kept(name: &str) -> bool {
    KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name))
}

/// The request that an answer leads to, as the delegate is shown it; `None` where the answer is no redirect.
///
/// - 301, 302, 303 and 305 to 308 with a `Location` are redirects. It may be relative to the address of `request`. `http`
///   and `https` become `ws` and `wss`; what else it may be is for whoever sends the request to judge.
/// - The fragment is dropped, and so are a user and a password that the server puts into the address: those of `request`
///   stay where the origin does.
/// - Another origin gets no field but those of a short list, `KEPT`.
///
/// # Errors
/// There is no `Location`, or it is no address. The text says so, and shows nothing of it.
pub fn redirect(request: &UrlRequest, head: &ResponseHead) -> Option<Result<UrlRequest, String>> {
    matches!(head.status_code, 301..=303 | 305..=308).then(|| {
        let url = location(&request.url, head)?;
        let mut new = request.clone();
        if !is_same_origin(&request.url, &url) {
            new.retain_fields(is_kept);
        }
        new.url = url;
        new.set_proposed(true);
        Ok(new)
    })
}

/// The address that `Location` leads to from `from`.
fn location(from: &Url, head: &ResponseHead) -> Result<Url, String> {
    let status = head.status_code;
    let mut values = head.values("Location");
    // A field without a value says nothing, like one that is not there.
    let Some(location) = values.next().filter(|value| !value.is_empty()) else {
        return Err(format!("the server answered {status} and does not say where to go (Location)"));
    };
    if values.any(|other| other != location) {
        return Err(format!("the server answered {status} with several places to go to (Location)"));
    }
    let mut url = from
        .join(location)
        .map_err(|error| format!("the server answered {status}, and its Location is no address: {error}"))?;
    url.set_fragment(None);
    let web_socket = match url.scheme() {
        "http" => Some("ws"),
        "https" => Some("wss"),
        _ => None,
    };
    // None of these fails for an address that has a host; one that has none has no user either.
    if let Some(scheme) = web_socket {
        let _ = url.set_scheme(scheme);
    }
    let (user, password) = match is_same_origin(from, &url) {
        true => (from.username(), from.password()),
        false => ("", None),
    };
    let _ = url.set_username(user);
    let _ = url.set_password(password);
    Ok(url)
}

/// `request` as it may go to where a delegate has sent what a redirect `proposed`: where that was to stay in the origin of
/// `from` and the delegate chose another, what is still the caller's stays behind as it would have otherwise.
pub fn redirected(mut request: UrlRequest, from: &UrlRequest, proposed: &UrlRequest) -> UrlRequest {
    let is_led_away = is_same_origin(&from.url, &proposed.url) && !is_same_origin(&from.url, &request.url);
    if request.is_proposed() && is_led_away {
        let fields: Vec<(String, String)> =
            from.fields().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in fields {
            if !is_kept(&name) && request.value(&name) == Some(&value) {
                request.remove_value(&name);
            }
        }
        if (request.url.username(), request.url.password()) == (from.url.username(), from.url.password()) {
            request.url = without_user(&request.url);
        }
    }
    request
}

/// Whether both addresses have the scheme, the host and the port in common (RFC 6454 §4), where `http` stands for `ws` and
/// `https` for `wss`. Only the origins of WebSockets are ever the same.
pub fn is_same_origin(one: &Url, other: &Url) -> bool {
    matches!((origin(one), origin(other)), (Some(one), Some(other)) if one == other)
}

/// Whether a request that was to go through TLS would go without.
pub fn is_downgrade(from: &Url, to: &Url) -> bool {
    matches!(from.scheme(), "wss" | "https") && matches!(to.scheme(), "ws" | "http")
}

fn origin(url: &Url) -> Option<(bool, Host<&str>, u16)> {
    let is_secure = match url.scheme() {
        "ws" | "http" => false,
        "wss" | "https" => true,
        _ => return None,
    };
    Some((is_secure, url.host()?, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadParser;
    use super::*;

    fn head(text: &str) -> ResponseHead {
        HeadParser::default().parse(&mut format!("HTTP/1.1 {text}\r\n\r\n").as_bytes()).unwrap().unwrap()
    }

    fn request(url: &str) -> UrlRequest {
        let mut request = UrlRequest::new(Url::parse(url).unwrap());
        for name in ["Authorization", "Cookie", "Host", "Proxy-Authorization", "X-Api-Key", "X-Custom"] {
            request.set_value("secret", name);
        }
        for name in KEPT {
            request.set_value("open", &name.to_ascii_lowercase());
        }
        request
    }

    fn to(from: &str, location: &str) -> Option<Result<UrlRequest, String>> {
        redirect(&request(from), &head(&format!("302 Found\r\nLocation: {location}")))
    }

    #[test]
    fn which_answers_are_redirects() {
        let redirects = [301, 302, 303, 305, 306, 307, 308];
        for status in 200..600 {
            let head = head(&format!("{status} X\r\nLocation: /there"));
            let new = redirect(&request("ws://a.example/here"), &head);
            assert_eq!(new.is_some(), redirects.contains(&status), "{status}");
        }
    }

    #[test]
    fn addresses_are_resolved_and_become_those_of_web_sockets() {
        let table = [
            ("ws://a.example/b/c?d", "/e", "ws://a.example/e"),
            ("ws://a.example/b/c?d", "e", "ws://a.example/b/e"),
            ("ws://a.example/b/c?d", "?e", "ws://a.example/b/c?e"),
            ("ws://a.example/b/c?d", "../../e", "ws://a.example/e"),
            ("ws://a.example:81/b", "//other.example/e", "ws://other.example/e"),
            ("wss://a.example:444/b", "//other.example/e", "wss://other.example/e"),
            ("ws://a.example/", "http://b.example/e", "ws://b.example/e"),
            ("ws://a.example/", "https://b.example/e", "wss://b.example/e"),
            ("ws://a.example/", "https://b.example:80/e", "wss://b.example:80/e"),
            ("ws://a.example/", "HTTP://B.Example:080/e", "ws://b.example/e"),
            ("ws://a.example/", "wss://b.example/e", "wss://b.example/e"),
            ("http://a.example/", "/e", "ws://a.example/e"),
            ("https://a.example/", "e", "wss://a.example/e"),
            ("ws://a.example/#f", "/e#g", "ws://a.example/e"),
            ("ws://a.example/#f", "/e", "ws://a.example/e"),
            ("ws://a.example/", "ws://[::1]:8080/e", "ws://[::1]:8080/e"),
            ("ws://a.example/", "ftp://b.example/e", "ftp://b.example/e"),
            ("ws://a.example/", "my-app:done", "my-app:done"),
            ("ws://a.example/", "data:,HI", "data:,HI"),
            // White space of the field is none of the value.
            ("ws://a.example/", " \t/e ", "ws://a.example/e"),
            ("ws://a.example/", "/\u{e9}?\u{e9}", "ws://a.example/%C3%A9?%C3%A9"),
        ];
        for (from, location, url) in table {
            let new = to(from, location).unwrap().unwrap();
            assert_eq!(new.url.as_str(), url, "{from} {location}");
            assert!(new.is_proposed());
        }
    }

    #[test]
    fn a_location_that_leads_nowhere() {
        let table = [
            "301 X",
            "302 X\r\nLocation:",
            "302 X\r\nLocation: ws://",
            "302 X\r\nLocation: ws://a b/secret",
            "302 X\r\nLocation: http://[::1/secret",
            "302 X\r\nLocation: ws://a:70000/secret",
            "302 X\r\nLocation: /a\r\nLocation: /b",
        ];
        for text in table {
            let refused = redirect(&request("ws://a.example/"), &head(text)).unwrap();
            let reason = refused.expect_err(text);
            assert!(
                reason.contains(&text[..3]) && reason.contains("Location") && !reason.contains("secret"),
                "{reason}"
            );
        }
        let same = redirect(&request("ws://a.example/"), &head("302 X\r\nLocation: /a\r\nLocation: /a")).unwrap();
        assert!(same.is_ok());
    }

    #[test]
    fn another_origin_gets_no_secret() {
        let table = [
            ("ws://a.example/", "/b", true),
            ("ws://a.example/", "ws://a.example:80/", true),
            ("ws://a.example/", "http://A.EXAMPLE/", true),
            ("http://a.example/", "ws://a.example/", true),
            ("https://a.example/", "wss://a.example:443/", true),
            ("ws://a.example:8080/", "ws://a.example:8080/", true),
            ("ws://a.example/", "ws://a.example:81/", false),
            ("ws://a.example/", "wss://a.example/", false),
            ("ws://a.example/", "wss://a.example:80/", false),
            ("wss://a.example/", "ws://a.example:443/", false),
            ("ws://a.example/", "ws://sub.a.example/", false),
            ("ws://a.example/", "ws://a.example./", false),
            ("ws://a.example/", "ws://b.example/", false),
            ("ws://127.0.0.1/", "ws://127.1/", true),
            ("ws://127.0.0.1/", "ws://[::ffff:127.0.0.1]/", false),
            ("ws://a.example/", "my-app://a.example:80/", false),
        ];
        for (from, location, same) in table {
            let new = to(from, location).unwrap().unwrap();
            let shown = format!("{from} {location}");
            assert_eq!(is_same_origin(&request(from).url, &new.url), same, "{shown}");
            for name in ["Authorization", "cookie", "Host", "Proxy-Authorization", "X-Api-Key", "X-Custom"] {
                assert_eq!(new.value(name).is_some(), same, "{shown}: {name}");
            }
            for name in KEPT {
                assert_eq!(new.value(name), Some("open"), "{shown}: {name}");
            }
        }
    }

    #[test]
    fn users_of_addresses_stay_with_their_origin() {
        let table = [
            ("/b", "ws://me:word@a.example/b"),
            ("ws://a.example/b", "ws://me:word@a.example/b"),
            ("ws://you:other@a.example/b", "ws://me:word@a.example/b"),
            ("ws://a.example:81/b", "ws://a.example:81/b"),
            ("ws://you:other@b.example/b", "ws://b.example/b"),
            ("wss://a.example/b", "wss://a.example/b"),
        ];
        for (location, url) in table {
            assert_eq!(to("ws://me:word@a.example/", location).unwrap().unwrap().url.as_str(), url, "{location}");
        }
        assert_eq!(
            to("ws://a.example/", "ws://you:other@a.example/").unwrap().unwrap().url.as_str(),
            "ws://a.example/"
        );
    }

    #[test]
    fn what_a_delegate_leads_away_leaves_the_callers_secrets_behind() {
        let from = request("ws://me:word@a.example/");
        let proposed = |location: &str| to("ws://me:word@a.example/", location).unwrap().unwrap();
        let led = |location: &str, url: &str| {
            let mut request = proposed(location);
            request.url = Url::parse(url).unwrap();
            request.set_value("mine", "X-Api-Key");
            redirected(request, &from, &proposed(location))
        };
        let there = led("/b", "ws://me:word@b.example/");
        assert_eq!(there.url.as_str(), "ws://b.example/");
        assert_eq!((there.value("Authorization"), there.value("cookie"), there.value("X-Custom")), (None, None, None));
        assert_eq!((there.value("X-Api-Key"), there.value("Origin")), (Some("mine"), Some("open")));
        assert_eq!(led("/b", "ws://you:other@b.example/").url.as_str(), "ws://you:other@b.example/");
        // It stays, or it was the server that led away.
        assert_eq!(led("/b", "ws://me:word@a.example/c").value("Authorization"), Some("secret"));
        let mut again = proposed("ws://b.example/");
        again.set_value("secret", "Authorization");
        assert_eq!(redirected(again.clone(), &from, &again).value("Authorization"), Some("secret"));
        // It is the delegate's own.
        let own = request("ws://b.example/");
        assert_eq!(redirected(own, &from, &proposed("/b")).value("Authorization"), Some("secret"));
    }

    #[test]
    fn only_from_tls_to_none_is_a_downgrade() {
        let table = [
            ("wss", "ws", true),
            ("wss", "http", true),
            ("https", "ws", true),
            ("wss", "wss", false),
            ("wss", "https", false),
            ("ws", "ws", false),
            ("ws", "wss", false),
            ("wss", "ftp", false),
        ];
        for (from, to, expected) in table {
            let url = |scheme: &str| Url::parse(&format!("{scheme}://a.example/")).unwrap();
            assert_eq!(is_downgrade(&url(from), &url(to)), expected, "{from} {to}");
        }
    }
}
