//! Which hosts and paths a cookie belongs to: RFC 6265bis §5.1.2 to §5.1.4, and the public suffixes.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use url::Url;

/// Whether a host is this domain or one below it: §5.1.3. Addresses have nothing below them.
pub fn domain_matches(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => true,
        Some(rest) => rest.ends_with('.') && !domain.is_empty() && !is_address(host),
        None => false,
    }
}

/// Whether a path is this one or below it: §5.1.4.
pub fn path_matches(path: &str, cookie_path: &str) -> bool {
    match path.strip_prefix(cookie_path) {
        Some(rest) => rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}

/// The path of a cookie that has none: §5.1.4.
pub fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(end) => url.path().get(..end).unwrap_or("/"),
    }
}

/// The host where there are cookies for it: of an address that HTTP or WebSocket is spoken to.
pub fn host_of(url: &Url) -> Option<&str> {
    let has_cookies = matches!(url.scheme(), "http" | "https" | "ws" | "wss");
    url.host_str().filter(|host| has_cookies && !host.is_empty())
}

/// Whether what an address is asked for is secret on its way.
pub fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "https" | "wss")
}

/// An IP address, in the form that `Url` gives to it.
pub fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

/// Whether under this domain anybody may have one of their own: §5.5. A name that the list does not know is one, if it
/// has no dot.
pub fn is_public_suffix(domain: &str) -> bool {
    !is_address(domain) && psl::suffix(domain.as_bytes()).is_some_and(|suffix| suffix.as_bytes() == domain.as_bytes())
}

/// The domain that somebody registered, of a host that is below or at one.
pub fn registrable(host: &str) -> Option<&str> {
    if is_address(host) { None } else { psl::domain_str(host) }
}

/// What cookies for this host are counted under: two hosts that can have a cookie in common have the same.
pub fn site_of(host: &str) -> &str {
    registrable(host).unwrap_or(host)
}

/// Whether a server at this host may set cookies for this domain: its own, or one above it that the same somebody
/// registered. Above a public suffix it may not, even where there is a registered domain above that.
pub fn may_set(host: &str, domain: &str) -> bool {
    domain_matches(host, domain) && (host == domain || same_site(host, domain))
}

/// Whether two hosts belong to the same owner, as far as can be seen.
pub fn same_site(host: &str, other: &str) -> bool {
    site_of(host) == site_of(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        for (host, domain, matches) in [
            ("example.com", "example.com", true),
            ("www.example.com", "example.com", true),
            ("a.b.example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("notexample.com", "example.com", false),
            ("example.com", "xample.com", false),
            ("example.com", "", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "0.0.1", false),
            ("127.0.0.1", "1", false),
            ("[::1]", "[::1]", true),
            ("example.com.", "example.com", false),
        ] {
            assert_eq!(domain_matches(host, domain), matches, "{host} and {domain}");
        }
    }

    #[test]
    fn paths() {
        for (path, cookie_path, matches) in [
            ("/", "/", true),
            ("/a", "/", true),
            ("/a", "/a", true),
            ("/a/", "/a", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/a", "/a/", false),
            ("/", "/a", false),
            ("/A", "/a", false),
        ] {
            assert_eq!(path_matches(path, cookie_path), matches, "{path} and {cookie_path}");
        }
        for (url, path) in [
            ("ws://a", "/"),
            ("ws://a/", "/"),
            ("ws://a/b", "/"),
            ("ws://a/b/", "/b"),
            ("ws://a/b/c?d=/e/f#/g/h", "/b"),
        ] {
            assert_eq!(default_path(&Url::parse(url).unwrap()), path, "{url}");
        }
    }

    #[test]
    fn public_suffixes() {
        for (domain, is_one) in [
            ("com", true),
            ("co.uk", true),
            ("kobe.jp", false),
            ("city.kobe.jp", false),
            ("b.kobe.jp", true),
            ("github.io", true),
            ("example.com", false),
            ("localhost", true),
            ("internal", true),
            ("printer.internal", false),
            ("xn--fiqs8s", true),
            ("co.uk.", true),
            ("example.co.uk.", false),
            ("127.0.0.1", false),
            ("[::1]", false),
        ] {
            assert_eq!(is_public_suffix(domain), is_one, "{domain}");
        }
        for (host, domain, may) in [
            ("www.example.com", "example.com", true),
            ("example.com", "example.com", true),
            ("github.io", "github.io", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("www.example.com", "other.example.com", false),
            ("www.example.com", "com", false),
            // There is a public suffix between the two.
            ("x.s3.amazonaws.com", "amazonaws.com", false),
            ("x.s3.amazonaws.com", "s3.amazonaws.com", false),
            ("a.b.kobe.jp", "kobe.jp", false),
            ("x.a.b.kobe.jp", "a.b.kobe.jp", true),
            // With a dot at its end it is another host, and as little below a public suffix.
            ("www.example.com.", "example.com.", true),
            ("www.example.com.", "example.com", false),
            ("www.example.com.", "com.", false),
            ("a.co.uk.", "co.uk.", false),
        ] {
            assert_eq!(may_set(host, domain), may, "{host} and {domain}");
        }
        assert_eq!(site_of("a.b.example.co.uk"), "example.co.uk");
        assert_eq!(site_of("co.uk"), "co.uk");
        assert_eq!(site_of("127.0.0.1"), "127.0.0.1");
        assert!(same_site("a.example.com", "b.example.com") && !same_site("a.github.io", "b.github.io"));
    }
}
