use url::Url;

use super::*;
use crate::foundation::AuthenticationMethod::{HttpBasic, HttpDigest};

/// A realm of the server that most tests speak with.
fn space(realm: &str) -> UrlProtectionSpace {
    UrlProtectionSpace::new("example.com", 80, Some("ws"), Some(realm), HttpBasic)
}

/// Each realm's state is its own name.
fn known(entries: &[(&str, &str)]) -> KnownSpaces<String> {
    let mut known = KnownSpaces::default();
    remember(&mut known, entries);
    known
}

fn remember(known: &mut KnownSpaces<String>, entries: &[(&str, &str)]) {
    for (realm, path) in entries {
        known.remember(space(realm), path, format!("user of {realm}"), (*realm).to_owned());
    }
}

/// The realm that is found for the path.
fn found(known: &mut KnownSpaces<String>, path: &str) -> Option<String> {
    let (space, user, state) = known.find("example.com", 80, "ws", path)?;
    let realm = space.realm().unwrap();
    assert_eq!((user, state.as_str()), (format!("user of {realm}").as_str(), realm));
    Some(realm.to_owned())
}

fn check(known: &mut KnownSpaces<String>, table: &[(&str, Option<&str>)]) {
    for (path, realm) in table {
        assert_eq!(found(known, path).as_deref(), *realm, "{path}");
    }
}

/// The paths are those of URLs, as they are after parsing.
#[test]
fn a_scope_is_what_stands_before_the_last_slash() {
    let path = |url: &str| Url::parse(url).unwrap().path().to_owned();
    let table = [
        // RFC 7617 §2.2, the example.
        ("ws://a/docs/index.html", "ws://a/docs/", true),
        ("ws://a/docs/index.html", "ws://a/docs/test.doc", true),
        ("ws://a/docs/index.html", "ws://a/docs/?page=1", true),
        ("ws://a/docs/index.html", "ws://a/docs/deep/er", true),
        ("ws://a/docs/index.html", "ws://a/docs", false),
        ("ws://a/docs/index.html", "ws://a/docsx/", false),
        ("ws://a/docs/index.html", "ws://a/", false),
        ("ws://a/docs/index.html", "ws://a/Docs/", false),
        ("ws://a/docs", "ws://a/other", true),
        ("ws://a", "ws://a/docs/x", true),
        ("ws://a/x", "ws://a", true),
        // A query is no part of it, wherever a slash stands.
        ("ws://a/docs/x?to=/deep/er/", "ws://a/docs/y", true),
        ("ws://a/docs/x#/deep/er/", "ws://a/docs/y", true),
        ("ws://a/docs/x", "ws://a/other?to=/docs/x", false),
        // Dots are resolved before, in either spelling.
        ("ws://a/docs/x", "ws://a/docs/../other", false),
        ("ws://a/docs/x", "ws://a/docs/%2e%2E/other", false),
        ("ws://a/docs/x", "ws://a/other/../docs/y", true),
        ("ws://a/docs/../x", "ws://a/other", true),
        ("ws://a/docs/x", r"ws://a/docs\..\other", false),
        // What is escaped is no slash.
        ("ws://a/docs%2Fx", "ws://a/other", true),
        ("ws://a/docs/x", "ws://a/docs%2Fx", false),
        ("ws://a/docs%2F..%2Fx/y", "ws://a/x/y", false),
        ("ws://a/docs//x", "ws://a/docs/x", false),
        ("ws://a/docs/x", "ws://a/docs//x", true),
    ];
    for (asked, next, covered) in table {
        let mut known = known(&[("a", &path(asked))]);
        assert_eq!(found(&mut known, &path(next)).is_some(), covered, "{asked} {next}");
    }
    for (asked, scope_of_it) in
        [("", "/"), ("*", "/"), ("/", "/"), ("/a", "/"), ("/a/", "/a/"), ("/\u{fc}/b", "/\u{fc}/")]
    {
        assert_eq!(scope(asked), scope_of_it);
    }
}

#[test]
fn the_longest_scope_counts_and_of_equals_the_latest() {
    let mut known = known(&[("root", "/"), ("deep", "/a/b/x"), ("a", "/a/x"), ("later", "/a/y")]);
    let table = [("/", "root"), ("/b/c", "root"), ("/a/x", "later"), ("/a/b", "later"), ("/a/b/", "deep")];
    check(&mut known, &table.map(|(path, realm)| (path, Some(realm))));
    // To be used is not to be remembered.
    assert!(known.get_mut(&space("a")).is_some());
    check(&mut known, &[("/a/x", Some("later"))]);
    remember(&mut known, &[("a", "/a/z")]);
    check(&mut known, &[("/a/x", Some("a"))]);
    // The server asked below what is known of the space, where another space is deeper.
    remember(&mut known, &[("root", "/a/b/c/x")]);
    check(&mut known, &[("/a/b/c/y", Some("root")), ("/a/b/y", Some("deep")), ("/b", Some("root"))]);
}

#[test]
fn servers_and_proxies_are_apart() {
    let mut known = KnownSpaces::default();
    let server = |host, port, protocol| UrlProtectionSpace::new(host, port, Some(protocol), Some("r"), HttpBasic);
    let proxy = |kind| UrlProtectionSpace::of_proxy(kind, "example.com", 80, Some("r"), HttpBasic);
    let spaces = [
        server("example.com", 80, "http"),
        server("example.com", 443, "https"),
        server("example.com", 80, "https"),
        server("example.com", 8080, "http"),
        server("www.example.com", 80, "http"),
        server("[::1]", 80, "http"),
        proxy(ProxyKind::HttpConnect),
        proxy(ProxyKind::HttpsConnect),
    ];
    for (number, space) in spaces.iter().enumerate() {
        known.remember(space.clone(), "/deep/er/", "me".to_owned(), number);
    }
    let table = [
        (("example.com", 0, "ws"), 0),
        (("EXAMPLE.com", 80, "HTTP"), 0),
        (("example.com", 0, "wss"), 1),
        (("example.com", 80, "wss"), 2),
        (("example.com", 8080, "ws"), 3),
        (("www.example.com", 80, "ws"), 4),
        (("::1", 80, "ws"), 5),
    ];
    for ((host, port, protocol), number) in table {
        let (space, user, state) = known.find(host, port, protocol, "/deep/er/x").unwrap();
        assert_eq!((space, user, *state), (&spaces[number], "me", number));
        // A server's space has a path, and nothing of a proxy comes in its place.
        assert!(known.find(host, port, protocol, "/").is_none());
    }
    for (kind, number) in [(ProxyKind::HttpConnect, 6), (ProxyKind::HttpsConnect, 7)] {
        let (space, _, state) = known.find_proxy(kind, "example.com", 80).unwrap();
        assert_eq!((space, *state), (&spaces[number], number));
        assert!(known.find_proxy(kind, "example.com", 81).is_none());
    }
    assert!(known.find_proxy(ProxyKind::SocksV5, "example.com", 80).is_none());
}

#[test]
fn what_is_known_is_replaced_and_forgotten() {
    let mut known = known(&[("a", "/a/"), ("b", "/a/")]);
    let digest = UrlProtectionSpace::new("example.com", 0, Some("http"), Some("a"), HttpDigest);
    assert_eq!(known.get_mut(&digest), None);
    *known.get_mut(&UrlProtectionSpace::new("example.com", 0, Some("ws"), Some("a"), HttpBasic)).unwrap() =
        "new".into();
    assert_eq!(known.get_mut(&space("a")).map(|state| &**state), Some("new"));
    // Another user: the other paths stay.
    known.remember(space("a"), "/other/", "you".to_owned(), "newer".to_owned());
    for path in ["/a/x", "/other/x"] {
        let (space, user, state) = known.find("example.com", 0, "ws", path).unwrap();
        assert_eq!((space.realm(), user, state.as_str()), (Some("a"), "you", "newer"), "{path}");
    }
    known.forget(&space("a"), "user of a");
    known.forget(&digest, "you");
    assert!(known.get_mut(&space("a")).is_some());
    known.forget(&space("a"), "you");
    assert_eq!(known.get_mut(&space("a")), None);
    check(&mut known, &[("/other/x", None)]);
    check(&mut known, &[("/a/x", Some("b"))]);
    known.clear();
    check(&mut known, &[("/a/x", None)]);
}

#[test]
fn a_server_has_so_many_spaces() {
    let names: Vec<_> = (0..=OF_ORIGIN).map(|number| number.to_string()).collect();
    let mut known = known(&[]);
    let other = UrlProtectionSpace::new("other.example", 80, Some("ws"), Some("other"), HttpBasic);
    known.remember(other.clone(), "/", "me".to_owned(), "other".to_owned());
    for name in &names[..OF_ORIGIN] {
        remember(&mut known, &[(name, &format!("/{name}/"))]);
    }
    // One is found by its path, one by its space, one is met again.
    assert!(found(&mut known, "/0/x").is_some() && known.get_mut(&space("1")).is_some());
    remember(&mut known, &[("2", "/2/")]);
    assert_eq!(known.spaces.len(), OF_ORIGIN + 1);
    remember(&mut known, &[(&names[OF_ORIGIN], "/")]);
    assert_eq!(known.spaces.len(), OF_ORIGIN + 1);
    let gone: Vec<_> = names.iter().filter(|name| known.get_mut(&space(name)).is_none()).collect();
    assert_eq!(gone, ["3"]);
    // That of another server has not been used for longer.
    assert!(known.get_mut(&other).is_some());
}

#[test]
fn there_are_so_many_spaces_in_all() {
    let space =
        |number: usize| UrlProtectionSpace::new(&format!("{number}.example"), 80, Some("ws"), Some("r"), HttpBasic);
    let mut known = KnownSpaces::default();
    (0..IN_ALL).for_each(|number| known.remember(space(number), "/", String::new(), number));
    assert!(known.find("0.example", 80, "ws", "/").is_some());
    known.remember(space(1), "/", String::new(), 1);
    assert_eq!(known.spaces.len(), IN_ALL);
    known.remember(space(IN_ALL), "/", String::new(), IN_ALL);
    assert_eq!(known.spaces.len(), IN_ALL);
    let gone: Vec<_> = (0..=IN_ALL).filter(|number| known.get_mut(&space(*number)).is_none()).collect();
    assert_eq!(gone, [2]);
}

#[test]
fn a_space_has_so_many_paths() {
    let mut known = known(&[]);
    for number in 0..SCOPES {
        remember(&mut known, &[("a", &format!("/{number}/"))]);
    }
    // One was of use, one is met again; both stay, and there are no more of them.
    check(&mut known, &[("/0/x", Some("a"))]);
    remember(&mut known, &[("a", "/1/y"), ("a", "/x/")]);
    assert_eq!(known.spaces[0].scopes.len(), SCOPES);
    check(&mut known, &[("/0/", Some("a")), ("/1/", Some("a")), ("/2/", None), ("/3/", Some("a")), ("/x/", Some("a"))]);
    // What is covered needs no place.
    remember(&mut known, &[("a", "/x/deeper/"), ("a", "/x/still/deeper/")]);
    check(&mut known, &[("/3/", Some("a")), ("/x/deeper/", Some("a"))]);
}

#[test]
fn long_paths_and_realms() {
    let mut known = known(&[]);
    let path = |length: usize| format!("/{}/", "p".repeat(length - 2));
    // The last part of a path does not count.
    remember(&mut known, &[("a", &format!("{}{}", path(MAXIMUM_SCOPE), "q".repeat(5000)))]);
    check(&mut known, &[(&path(MAXIMUM_SCOPE), Some("a")), ("/", None)]);
    remember(&mut known, &[("b", &path(MAXIMUM_SCOPE + 1))]);
    check(&mut known, &[(&path(MAXIMUM_SCOPE + 1), None), ("/", None)]);
    assert!(known.get_mut(&space("b")).is_some());
    for (length, kept) in [(1024, true), (1025, false)] {
        let realm = "r".repeat(length);
        remember(&mut known, &[(&realm, "/")]);
        assert_eq!(known.get_mut(&space(&realm)).is_some(), kept);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:?}", known(&[("realm", "/path/")]));
    assert_eq!(shown, "KnownSpaces { count: 1, .. }");
}
