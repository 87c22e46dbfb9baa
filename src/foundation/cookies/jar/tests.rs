use std::time::Duration;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds)
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// A jar that received these lines, each a second after the one before.
fn jar(lines: &[(&str, &str)]) -> Jar {
    let mut jar = Jar::default();
    for (second, (from, line)) in (0..).zip(lines) {
        jar.receive(line, &url(from), at(second));
    }
    jar
}

#[track_caller]
fn sends(jar: &mut Jar, to: &str, second: u64, expected: &str) {
    assert_eq!(jar.field_for(&url(to), at(second)).unwrap_or_default(), expected, "{to}");
}

#[test]
fn the_longer_path_first_then_the_older_cookie_which_an_overwriting_leaves_old() {
    let mut jar = jar(&[
        ("ws://a.example.com/x/y/z", "root=1; path=/"),
        ("ws://a.example.com/x/y/z", "deep=1"),
        ("ws://a.example.com/x/y/z", "middle=1; path=/x"),
        ("ws://a.example.com/x/y/z", "second=1; path=/"),
        ("ws://a.example.com/x/y/z", "root=2; path=/"),
        ("ws://b.example.com/", "domain=1; domain=example.com"),
    ]);
    sends(&mut jar, "ws://a.example.com/x/y/z", 10, "deep=1; middle=1; root=2; second=1; domain=1");
    // Set anew, it is new.
    jar.receive("root=; path=/; max-age=0", &url("ws://a.example.com/"), at(11));
    jar.receive("root=3; path=/", &url("ws://a.example.com/"), at(12));
    sends(&mut jar, "ws://a.example.com/x/y/z", 13, "deep=1; middle=1; second=1; domain=1; root=3");
    jar.receive("second=2; path=/; max-age=1", &url("ws://a.example.com/"), at(13));
    jar.receive("second=3; path=/", &url("ws://a.example.com/"), at(14));
    sends(&mut jar, "ws://a.example.com/", 14, "domain=1; root=3; second=3");
    // A cookie of the host alone is another one than that of the domain, and so is one of another path.
    jar.receive("domain=2; domain=a.example.com; path=/", &url("ws://a.example.com/"), at(14));
    jar.receive("domain=3; path=/", &url("ws://a.example.com/"), at(15));
    sends(&mut jar, "ws://a.example.com/", 16, "domain=1; root=3; second=3; domain=2; domain=3");
}

#[test]
fn hosts_and_domains() {
    let mut jar = jar(&[
        ("wss://www.example.com", "host=1"),
        ("wss://www.example.com", "below=1; domain=www.example.com"),
        ("wss://www.example.com", "above=1; Domain=.EXAMPLE.com"),
        ("wss://www.example.com", "empty=1; domain=example.com; domain="),
        ("wss://www.example.com", "dot=1; domain=example.com; domain=."),
        ("wss://www.example.com", "other=1; domain=other.example.com"),
        ("wss://www.example.com", "suffix=1; domain=com"),
        ("wss://a.co.uk", "suffix=1; domain=co.uk"),
        ("wss://a.github.io", "suffix=1; domain=github.io"),
        ("wss://github.io", "itself=1; domain=github.io"),
        ("wss://x.s3.amazonaws.com", "across=1; domain=amazonaws.com"),
        ("wss://a.b.kobe.jp", "across=1; domain=kobe.jp"),
        ("ws://127.0.0.1", "address=1; domain=127.0.0.1"),
        ("ws://127.0.0.1", "part=1; domain=0.0.1"),
        ("ws://[::1]", "address=1; domain=[::1]"),
        ("ws://localhost", "local=1; domain=localhost"),
        ("ws://www.example.com", "letter=1; domain=\u{e4}.example.com"),
    ]);
    sends(&mut jar, "wss://www.example.com", 20, "host=1; below=1; above=1; empty=1; dot=1");
    sends(&mut jar, "wss://a.www.example.com", 20, "below=1; above=1; empty=1");
    sends(&mut jar, "wss://example.com", 20, "above=1; empty=1");
    sends(&mut jar, "wss://notexample.com", 20, "");
    sends(&mut jar, "wss://b.co.uk", 20, "");
    sends(&mut jar, "wss://a.github.io", 20, "");
    sends(&mut jar, "wss://github.io", 20, "itself=1");
    sends(&mut jar, "wss://amazonaws.com", 20, "");
    sends(&mut jar, "wss://kobe.jp", 20, "");
    sends(&mut jar, "ws://127.0.0.1:99/x", 20, "address=1");
    sends(&mut jar, "ws://1.0.0.1", 20, "");
    sends(&mut jar, "ws://[::1]/", 20, "address=1");
    sends(&mut jar, "ws://LOCALHOST/", 20, "local=1");
    sends(&mut jar, "ws://a.localhost/", 20, "");
    sends(&mut jar, "ftp://www.example.com", 20, "");
    let domains: Vec<String> = jar.cookies(at(20)).iter().map(|cookie| cookie.domain().to_owned()).collect();
    let of_example = ["www.example.com", ".www.example.com", ".example.com", ".example.com", "www.example.com"];
    assert_eq!(domains, [&of_example[..], &["github.io", "127.0.0.1", "[::1]", "localhost"]].concat());
}

#[test]
fn what_is_secure_is_not_for_those_who_are_not() {
    let mut jar = jar(&[
        ("ws://www.example.com", "no=1; secure"),
        ("http://www.example.com", "no=2; secure"),
        ("wss://www.example.com", "yes=1; secure"),
        ("https://www.example.com", "also=1; Secure=whatever"),
        ("wss://www.example.com", "deep=1; secure; path=/login; domain=example.com"),
        // None of these may stand in the place of one of those, or before it.
        ("ws://www.example.com", "yes=2"),
        ("ws://www.example.com", "also=2; path=/some/where"),
        ("ws://example.com", "yes=3"),
        ("ws://www.example.com", "yes=4; domain=example.com"),
        ("ws://a.example.com", "deep=2; path=/login/en"),
        ("ws://www.example.com", "yes=; max-age=0"),
        // This one is sent elsewhere.
        ("ws://a.example.com", "deep=3; path=/"),
        ("ws://www.example.com", "plain=1"),
    ]);
    sends(&mut jar, "ws://www.example.com/login", 20, "plain=1");
    sends(&mut jar, "wss://www.example.com/login", 20, "deep=1; yes=1; also=1; plain=1");
    sends(&mut jar, "ws://a.example.com/login/en", 20, "deep=3");
    // What has expired shields nothing.
    jar.receive("short=1; secure; max-age=5", &url("wss://www.example.com"), at(15));
    jar.receive("short=2", &url("ws://www.example.com"), at(19));
    sends(&mut jar, "wss://www.example.com/", 19, "yes=1; also=1; plain=1; short=1");
    jar.receive("short=3", &url("ws://www.example.com"), at(20));
    sends(&mut jar, "ws://www.example.com/", 20, "plain=1; short=3");
    jar.receive("short=; max-age=0", &url("ws://www.example.com"), at(21));
    // A secure server may, and the program.
    jar.receive("yes=5", &url("wss://www.example.com"), at(21));
    sends(&mut jar, "ws://www.example.com/", 22, "yes=5; plain=1");
}

#[test]
fn expiry() {
    let mut jar = jar(&[
        ("ws://example.com", "a=1; max-age=10"),
        ("ws://example.com", "b=1; expires=Sun, 09 Sep 2001 01:47:00 GMT"),
        ("ws://example.com", "c=1; expires=Sun, 09 Sep 2001 01:46:00 GMT; max-age=100"),
        ("ws://example.com", "d=1; max-age=1000; max-age=5"),
        ("ws://example.com", "e=1; max-age=5; max-age=five; max-age=; max-age=+7; max-age=1.5; expires=never"),
        ("ws://example.com", "f=1; max-age=99999999999999999999999"),
        ("ws://example.com", "g=1; expires=Fri, 31 Dec 9999 23:59:59 GMT"),
        ("ws://example.com", "h=1; max-age=-1"),
        ("ws://example.com", "i=1"),
        ("ws://example.com", "j=1; expires=Sun, 09 Sep 2001 01:46:50 GMT; expires=never; expires="),
    ]);
    sends(&mut jar, "ws://example.com", 8, "a=1; b=1; c=1; e=1; f=1; g=1; i=1; j=1");
    sends(&mut jar, "ws://example.com", 10, "b=1; c=1; f=1; g=1; i=1");
    sends(&mut jar, "ws://example.com", 19, "b=1; c=1; f=1; g=1; i=1");
    sends(&mut jar, "ws://example.com", 20, "c=1; f=1; g=1; i=1");
    let days = 400 * 24 * 60 * 60;
    sends(&mut jar, "ws://example.com", days + 4, "f=1; g=1; i=1");
    sends(&mut jar, "ws://example.com", days + 5, "g=1; i=1");
    sends(&mut jar, "ws://example.com", days + 6, "i=1");
    assert_eq!(jar.cookies(at(days + 6)).len(), 1);
    // It takes out what it would have replaced.
    jar.receive("i=2; expires=Thu, 01 Jan 1970 00:00:00 GMT", &url("ws://example.com"), at(days + 7));
    sends(&mut jar, "ws://example.com", days + 7, "");
}

#[test]
fn prefixes() {
    let long = format!("__Host-{}", "n".repeat(20));
    for (from, line, is_kept) in [
        ("wss://a.example.com/", "__Secure-a=1; secure", true),
        ("wss://a.example.com/", "__Secure-a=1", false),
        ("ws://a.example.com/", "__Secure-a=1; secure", false),
        ("wss://a.example.com/", "__sEcUrE-a=1", false),
        ("wss://a.example.com/", "__Secure-a=1; secure; domain=example.com; path=/x", true),
        ("wss://a.example.com/", "__Host-a=1; secure; path=/", true),
        ("wss://a.example.com/", "__HOST-a=1; secure; path=/", true),
        ("wss://a.example.com/", "__Host-a=1; secure", false),
        ("wss://a.example.com/", "__Host-a=1; path=/", false),
        ("wss://a.example.com/", "__host-a=1; secure; path=/x", false),
        ("wss://a.example.com/", "__host-a=1; secure; path=/; domain=a.example.com", false),
        ("wss://a.example.com/", "__Host-", true),
        ("wss://a.example.com/", "=__Host-a=1; secure; path=/", false),
        ("wss://a.example.com/", "__secure-a", false),
        ("wss://a.example.com/", &format!("{long}=1"), false),
        ("wss://a.example.com/", "__Hos\u{df}-a=1", true),
    ] {
        // Without a name, `__Host-` is a value that looks like a promise.
        let is_kept = is_kept && line != "__Host-";
        assert_eq!(!jar(&[(from, line)]).cookies(at(1)).is_empty(), is_kept, "{line}");
    }
}

#[test]
fn what_is_no_cookie() {
    let most = "v".repeat(4095);
    for (line, sent) in [
        ("", ""),
        ("=", ""),
        (";", ""),
        (" = ; path=/", ""),
        ("a", "a"),
        ("=a", "a"),
        ("a=", "a="),
        ("a = b = c ", "a=b = c"),
        ("\ta\t=\tb\tc\t", "a=b\tc"),
        ("a=\"b; c\"", "a=\"b"),
        ("a=b, c=d", "a=b, c=d"),
        ("a=\u{4e2d}", "a=\u{4e2d}"),
        ("a=b\0", ""),
        ("a=b\r\nX: 1", ""),
        ("a=b\u{7f}", ""),
        ("a=b; path=/\u{1}", ""),
        (&format!("a={most}"), &format!("a={most}")),
        (&format!("ab={most}"), ""),
        (&format!("a=b; path=/{}", "p".repeat(1023)), ""),
        (&format!("a=b; path=/{}", "p".repeat(1024)), "a=b"),
        (&format!("a=b; domain={}.com", "d".repeat(1024)), "a=b"),
    ] {
        let mut jar = jar(&[("ws://example.com/", line)]);
        sends(&mut jar, "ws://example.com/", 2, sent);
    }
}

#[test]
fn attributes_are_shown() {
    let line = "a=1; SameSite=lax; SAMESITE=Strict; HttpOnly; secure; path=x; Unknown=1; Max-Age=60";
    let cookie = jar(&[("wss://example.com/d/e", line)]).cookies(at(1)).remove(0);
    assert_eq!(cookie.same_site_policy().map(|policy| format!("{policy:?}")).as_deref(), Some("Strict"));
    assert!(cookie.is_http_only() && cookie.is_secure() && !cookie.is_session_only());
    assert_eq!((cookie.path(), cookie.expires_date()), ("/d", Some(at(60))));
    let cookie = jar(&[("wss://example.com", "a=1; SameSite=Strict; SameSite=None")]).cookies(at(1)).remove(0);
    assert_eq!(cookie.same_site_policy(), None);
    assert!(cookie.is_session_only() && !cookie.is_http_only());
}

#[test]
fn a_site_has_at_most_180_cookies() {
    let mut jar = Jar::default();
    let from = url("wss://www.example.com");
    for number in 0..OF_SITE as u64 {
        let more = if number < 2 { "; secure" } else { "" };
        jar.receive(&format!("c{number}=1{more}"), &from, at(number));
    }
    // That they are sent together makes none of them older than the others.
    assert_eq!(jar.cookies_for(&from, at(500)).len(), OF_SITE);
    jar.receive("new=1; domain=example.com", &url("wss://other.example.com"), at(501));
    let names = |jar: &mut Jar| -> Vec<String> {
        jar.cookies_for(&from, at(502)).iter().map(|cookie| cookie.name().to_owned()).collect()
    };
    let kept = names(&mut jar);
    assert_eq!(kept.len(), OF_SITE);
    // The secure ones stay, and of the others the oldest goes.
    assert!(["c0", "c1", "new"].iter().all(|name| kept.contains(&(*name).to_owned())));
    assert!(!kept.contains(&"c2".to_owned()) && kept.contains(&"c3".to_owned()));
    // One that was sent since is newer than one that was not.
    assert_eq!(jar.cookies_for(&url("wss://www.example.com/"), at(503)).len(), OF_SITE);
    jar.receive("late=1; max-age=1", &from, at(504));
    assert!(!names(&mut jar).contains(&"c3".to_owned()));
    // What has expired goes before everything else.
    jar.receive("later=1", &from, at(600));
    let kept = names(&mut jar);
    assert!(kept.contains(&"c4".to_owned()) && !kept.contains(&"late".to_owned()));
    // Other sites have their own.
    for number in 0..10 * OF_SITE {
        jar.receive(&format!("c{number}=1"), &url("wss://elsewhere.example.net"), at(700));
    }
    assert_eq!(jar.cookies(at(700)).len(), 2 * OF_SITE);
}

#[test]
fn a_jar_has_at_most_3000_cookies() {
    let mut jar = Jar::default();
    for number in 0..2 * IN_ALL as u64 {
        jar.receive("c=1", &url(&format!("wss://site{number}.com")), at(number));
        assert!(jar.count <= IN_ALL);
        // This one is in use.
        assert_eq!(jar.field_for(&url("wss://site7.com"), at(number)).is_some(), number >= 7, "{number}");
    }
    assert!(jar.count > IN_ALL - 2 * AT_ONCE && jar.count == jar.entries().count());
    assert!(jar.field_for(&url("wss://site5999.com"), at(40_000)).is_some());
    assert!(jar.field_for(&url("wss://site8.com"), at(40_000)).is_none());

    // What has expired goes before everything else.
    let mut jar = Jar::default();
    for number in 0..IN_ALL {
        jar.receive("c=1; max-age=100", &url(&format!("wss://site{number}.com")), at(0));
    }
    jar.receive("c=1; max-age=1", &url("wss://site2999.com"), at(1));
    jar.receive("c=1", &url("wss://another.com"), at(2));
    assert!(jar.count == IN_ALL && jar.field_for(&url("wss://site0.com"), at(3)).is_some());
}

#[test]
fn taking_out() {
    let mut jar = jar(&[
        ("wss://example.com", "a=1"),
        ("wss://example.com", "b=1; domain=example.com"),
        ("wss://example.com", "c=1; path=/c"),
        ("wss://example.com", "a=2"),
        ("wss://example.net", "d=1"),
    ]);
    // What counts is the name, the domain and the path.
    assert!(!jar.remove(&HttpCookie::new("b", "1", "example.com", "/"), at(9)));
    assert!(jar.remove(&HttpCookie::new("b", "other", ".example.com", "/"), at(9)));
    assert!(!jar.remove(&HttpCookie::new("b", "other", ".example.com", "/"), at(9)));
    let names = |jar: &Jar| -> String { jar.cookies(at(9)).iter().map(HttpCookie::name).collect() };
    assert_eq!(names(&jar), "acd");
    // It was set anew since.
    assert!(jar.remove_since(at(3), at(9)));
    assert_eq!(names(&jar), "c");
    assert!(!jar.remove_since(at(3), at(9)));
    jar.clear(at(9));
    assert_eq!((names(&jar).as_str(), jar.count, jar.sites.len()), ("", 0, 0));
}

#[test]
fn a_program_may_set_more_but_not_everything() {
    let set = |cookie: HttpCookie| Jar::default().set(cookie, Origin::Program, at(0));
    let new = |name: &str, value: &str, domain: &str, path: &str| HttpCookie::new(name, value, domain, path);
    assert!(set(new("a", "1", "example.com", "/")));
    assert!(set(new("a", "1", ".EXAMPLE.com", "")));
    assert!(set(new("a", "1", "localhost", "/")));
    assert!(set(new("", "1", "127.0.0.1", "/")));
    let addresses = ["::1", "[::1]", "[0:0::1]"].map(|domain| new("a", "1", domain, "/").domain().to_owned());
    assert_eq!(addresses, ["[::1]"; 3]);
    for (name, value, domain, path) in [
        ("", "", "example.com", "/"),
        ("a=b", "1", "example.com", "/"),
        ("a;b", "1", "example.com", "/"),
        ("a", "1; b=2", "example.com", "/"),
        ("a", "1\r\nX: 1", "example.com", "/"),
        ("a", "1\0", "example.com", "/"),
        ("a", " 1", "example.com", "/"),
        ("a", "1", "", "/"),
        ("a", "1", ".", "/"),
        ("a", "1", ".com", "/"),
        ("a", "1", ".co.uk", "/"),
        ("a", "1", "a\tb", "/"),
        ("a", "1", "example.com", "/\n"),
        ("__Host-a", "1", "example.com", "/"),
        ("__secure-a", "1", "example.com", "/"),
        ("", "__Secure-a=1", "example.com", "/"),
    ] {
        assert!(!set(new(name, value, domain, path)), "{name:?} {value:?} {domain:?} {path:?}");
    }
    let mut promised = new("__Host-a", "1", "example.com", "/");
    promised.set_secure(true);
    assert!(set(promised));
    assert!(!set(new("a", &"v".repeat(4096), "example.com", "/")));
    for (longer, is_set) in [(0, true), (1, false)] {
        assert_eq!(set(new("a", "1", "example.com", &"/".repeat(4096 + longer))), is_set);
        assert_eq!(set(new("a", "1", &format!("{}.com", "d".repeat(1020 + longer)), "/")), is_set);
    }
    // A field that cannot be sent is not made, either.
    assert_eq!(HttpCookie::request_header_fields_with(&[new("a", "1\r\nX: 1", "b", "/")]), None);
}

#[test]
fn a_field_has_at_most_32_kib() {
    let mut jar = Jar::default();
    for number in 10..99 {
        jar.receive(&format!("c{number}={}", "v".repeat(2000)), &url("ws://example.com"), at(number));
    }
    let field = jar.field_for(&url("ws://example.com"), at(100)).unwrap();
    assert!(field.len() <= 32 * 1024 && field.len() > 30 * 1024);
    assert!(field.starts_with("c10=v") && field.ends_with('v') && field.contains("; c11=v"));
}
