use std::collections::HashMap;

use super::*;
use crate::foundation::ProxyKind::{self, HttpConnect, HttpsConnect, SocksV5};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn environment(variables: &[(&str, &str)]) -> Proxies {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Proxies::new(None, |name| variables.get(name).map(|value| (*value).to_owned()))
}

/// The only proxy for an address.
fn one(proxies: &Proxies, address: &str) -> Option<Arc<ProxyConfiguration>> {
    let mut list = proxies.for_url(&url(address)).unwrap();
    assert!(list.len() < 2);
    list.pop()
}

fn host(variables: &[(&str, &str)], address: &str) -> Option<String> {
    one(&environment(variables), address).map(|proxy| proxy.host().to_owned())
}

#[test]
fn variables_by_scheme() {
    let table: [(&[_], Option<&str>, Option<&str>); 14] = [
        (&[], None, None),
        (&[("http_proxy", "a")], Some("a"), None),
        (&[("https_proxy", "a")], None, Some("a")),
        (&[("HTTP_PROXY", "a")], Some("a"), None),
        (&[("HTTPS_PROXY", "a")], None, Some("a")),
        (&[("all_proxy", "a")], Some("a"), Some("a")),
        (&[("ALL_PROXY", "a")], Some("a"), Some("a")),
        (&[("all_proxy", "a"), ("ALL_PROXY", "b")], Some("a"), Some("a")),
        (&[("http_proxy", "a"), ("HTTP_PROXY", "b"), ("all_proxy", "c")], Some("a"), Some("c")),
        (&[("HTTPS_PROXY", "b"), ("https_proxy", "a"), ("all_proxy", "c")], Some("c"), Some("a")),
        // Empty is not set.
        (&[("http_proxy", ""), ("HTTP_PROXY", "b"), ("https_proxy", " \t"), ("ALL_PROXY", "c")], Some("b"), Some("c")),
        // A program behind a web server.
        (&[("HTTP_PROXY", "a"), ("HTTPS_PROXY", "b"), ("REQUEST_METHOD", "GET")], None, Some("b")),
        (&[("HTTP_PROXY", "a"), ("http_proxy", "b"), ("REQUEST_METHOD", "")], Some("b"), None),
        // The same where names have no case.
        (
            &[("http_proxy", "a"), ("request_method", "GET"), ("REQUEST_METHOD", "GET"), ("all_proxy", "c")],
            Some("c"),
            Some("c"),
        ),
    ];
    for (variables, plain, secure) in table {
        for (scheme, expected) in [("ws", plain), ("http", plain), ("wss", secure), ("https", secure), ("ftp", None)] {
            let found = host(variables, &format!("{scheme}://example.com/"));
            assert_eq!(found.as_deref(), expected, "{scheme}: {variables:?}");
        }
    }
}

#[test]
fn values() {
    type Parts<'a> = (ProxyKind, &'a str, u16, Option<(&'a str, &'a str)>);
    let table: [(&str, Parts); 22] = [
        ("p.example", (HttpConnect, "p.example", 80, None)),
        (" p.example:3128/ ", (HttpConnect, "p.example", 3128, None)),
        ("http://p.example", (HttpConnect, "p.example", 80, None)),
        ("HTTPS://P.Example", (HttpsConnect, "p.example", 443, None)),
        ("https://p.example:3129/", (HttpsConnect, "p.example", 3129, None)),
        ("socks5://p.example", (SocksV5, "p.example", 1080, None)),
        ("socks5h://p.example:1", (SocksV5, "p.example", 1, None)),
        ("[::1]:65535", (HttpConnect, "::1", 65535, None)),
        ("http://[0:0::1]/", (HttpConnect, "::1", 80, None)),
        ("127.0.0.1:8080", (HttpConnect, "127.0.0.1", 8080, None)),
        ("http://0x7f.1", (HttpConnect, "127.0.0.1", 80, None)),
        ("h\u{f8}st", (HttpConnect, "xn--hst-0na", 80, None)),
        ("http://me:secret@p.example", (HttpConnect, "p.example", 80, Some(("me", "secret")))),
        ("me:secret@[::1]:81", (HttpConnect, "::1", 81, Some(("me", "secret")))),
        ("me@p.example", (HttpConnect, "p.example", 80, Some(("me", "")))),
        ("http://me:@p.example", (HttpConnect, "p.example", 80, Some(("me", "")))),
        ("http://:key@p.example", (HttpConnect, "p.example", 80, Some(("", "key")))),
        ("http://@p.example", (HttpConnect, "p.example", 80, None)),
        ("socks5://a%40b:%3a%2F%3F%23%25@p.example", (SocksV5, "p.example", 1080, Some(("a@b", ":/?#%")))),
        ("http://a@b:c:d@p.example", (HttpConnect, "p.example", 80, Some(("a@b", "c:d")))),
        ("http://\u{fc}ser:p%C3%A5ss@p.example", (HttpConnect, "p.example", 80, Some(("\u{fc}ser", "p\u{e5}ss")))),
        ("http://me:100%@p.example", (HttpConnect, "p.example", 80, Some(("me", "100%")))),
    ];
    for (value, expected) in table {
        let proxy = one(&environment(&[("ALL_PROXY", value)]), "wss://example.com/").unwrap();
        assert_eq!((proxy.kind(), proxy.host(), proxy.port(), proxy.credential()), expected, "{value}");
        assert!(!proxy.allow_failover);
    }
}

const SCHEME: &str = "its scheme is not http, https, socks5 or socks5h";
const HOST: &str = "its host is no name and no address (an IPv6 address is in brackets)";
const PORT: &str = "its port is not a number from 1 to 65535";
const MORE: &str = "there is more behind the host (in a user or a password, /, ? and # are %2F, %3F and %23)";

#[test]
fn values_that_are_no_proxy() {
    let table = [
        ("ftp://secret", SCHEME),
        ("socks4://secret", SCHEME),
        ("://secret", SCHEME),
        ("me:secret://p.example", SCHEME),
        ("http://", HOST),
        ("http://me:secret@", HOST),
        ("http://a secret", HOST),
        ("secret.111", HOST),
        ("[secret]", HOST),
        ("[::1", PORT),
        ("[::1]secret", PORT),
        ("::1", PORT),
        ("me:secret", PORT),
        ("p.example:", PORT),
        ("p.example:+80", PORT),
        ("p.example:65536", PORT),
        ("p.example:0", "its port is 0"),
        ("http://me:se/cret@p.example", MORE),
        ("http://p.example/secret", MORE),
        ("http://p.example?secret", MORE),
        ("http://p.example/#secret", MORE),
        ("http://p.example//", MORE),
        ("http://me:secret%FF@p.example", "its user or its password is not in UTF-8"),
    ];
    for (value, reason) in table {
        let proxies = environment(&[("HTTPS_PROXY", value), ("all_proxy", "p.example"), ("no_proxy", "localhost")]);
        let error = proxies.for_url(&url("wss://example.com/")).unwrap_err();
        assert_eq!((error.code(), error.stage()), (ErrorCode::BadUrl, ErrorStage::Request));
        assert_eq!(error.reason(), format!("the environment's HTTPS_PROXY names no proxy: {reason}"), "{value}");
        assert!(!format!("{error:?} {proxies:?}").contains("secret"), "{value}");
        // Who does not use it, does not fail.
        assert_eq!(one(&proxies, "ws://example.com/").unwrap().host(), "p.example");
        assert_eq!(one(&proxies, "wss://localhost/"), None);
    }
}

#[test]
fn hosts_that_bypass_the_proxy() {
    let table: [(&str, &[&str], &[&str]); 28] = [
        ("", &[], &["a.example", "localhost", "127.0.0.1", "[::1]"]),
        ("*", &["a.example", "127.0.0.1", "[::1]"], &[]),
        ("*:81", &["a.example:81"], &["a.example"]),
        (
            "a.example",
            &["a.example", "A.EXAMPLE.", "b.a.example", "a.example:81"],
            &["ba.example", "example", "a.example.org"],
        ),
        (".a.example", &["a.example", "b.a.example"], &["ba.example", "example"]),
        ("*.a.example", &["a.example", "b.a.example"], &["ba.example", "example"]),
        ("A.Example.", &["a.example", "b.a.example."], &["a.example.b"]),
        (".example", &["a.example"], &["a.examples"]),
        ("h\u{f8}st.example", &["xn--hst-0na.example", "H\u{d8}ST.example"], &["host.example"]),
        ("xn--hst-0na.example", &["h\u{f8}st.example"], &[]),
        ("a.example:80, b.example:81", &["a.example", "a.example:80", "b.example:81"], &["a.example:81", "b.example"]),
        ("a.example b.example,,\tc.example ,", &["a.example", "b.example", "c.example"], &["d.example"]),
        ("10.0.0.1", &["10.0.0.1", "10.1", "[::ffff:10.0.0.1]"], &["10.0.0.2", "a.10.0.0.1.example"]),
        ("10.0.0.1:81", &["10.0.0.1:81"], &["10.0.0.1"]),
        ("10.0.0.0/30", &["10.0.0.3", "[::ffff:a00:3]"], &["10.0.0.4", "[::a00:3]"]),
        ("10.9.8.7/8", &["10.0.0.3"], &["11.0.0.3"]),
        ("0.0.0.0/0", &["10.0.0.3", "255.255.255.255"], &["[::1]", "a.example"]),
        ("::/0", &["[::1]", "[::ffff:10.0.0.1]"], &["10.0.0.1", "a.example"]),
        ("::1", &["[::1]", "[0:0::1]:81"], &["[::2]", "127.0.0.1"]),
        ("[::1]", &["[::1]", "[::1]:81"], &["[::2]"]),
        ("[::1]:81", &["[::1]:81"], &["[::1]"]),
        ("2001:DB8::/33", &["[2001:db8:7fff::1]"], &["[2001:db8:8000::1]"]),
        ("::1/128", &["[::1]"], &["[::]"]),
        ("::ffff:0:0/96", &["10.1.2.3", "[::ffff:10.1.2.3]"], &["[::1]", "[::fffe:10.1.2.3]"]),
        ("::ffff:10.0.0.0/104", &["10.1.2.3", "[::ffff:10.1.2.3]"], &["11.1.2.3"]),
        ("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]),
        ("::ffff:0:0/95", &["[::ffff:10.1.2.3]", "[::fffe:10.1.2.3]"], &["10.1.2.3", "[::fffd:0:0]"]),
        ("127.0.0.1.", &["127.0.0.1"], &["127.0.0.2"]),
    ];
    for (list, inside, outside) in table {
        let proxies = environment(&[("no_proxy", list), ("http_proxy", "p.example")]);
        for host in inside {
            assert_eq!(one(&proxies, &format!("ws://{host}/")), None, "{list}: {host}");
        }
        for host in outside {
            assert!(one(&proxies, &format!("ws://{host}/")).is_some(), "{list}: {host}");
        }
    }
}

#[test]
fn what_is_no_entry_names_nobody() {
    let broken = [
        ".",
        "*.",
        "..",
        ":80",
        ":",
        "*:",
        "a.example:",
        "a.example:x",
        "a.example:+80",
        "a.example:65536",
        "a.example/",
        "a.example/8",
        "*/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/x",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0.0/8:80",
        "10",
        "10.0",
        "0x7f.0.0.1",
        "127.0.0.256",
        "010.0.0.1",
        "::1/129",
        "::/x",
        "[::]",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[a.example]",
        "[10.0.0.1]",
        "::1:x",
        "fe80::1%eth0",
        "a b",
        "\u{0}",
        "%",
        "a*.example",
        "*a.example",
        "http://a.example",
        "/",
        "*.10.0.0.1",
    ];
    let list = broken.map(|entry| entry.replace(' ', "\u{a0}")).join(",");
    let proxies = environment(&[("no_proxy", &list), ("http_proxy", "p.example")]);
    for host in [
        "a.example",
        "10.0.0.1",
        "127.0.0.1",
        "0.0.0.10",
        "10.0.0.0",
        "8.0.0.1",
        "[::1]",
        "b.a.example",
        "example:8080",
    ] {
        assert!(one(&proxies, &format!("ws://{host}/")).is_some(), "{host}");
    }
    // The rest of the list counts.
    let proxies = environment(&[("NO_PROXY", &format!("{list},c.example")), ("http_proxy", "p.example")]);
    assert_eq!(one(&proxies, "ws://c.example/"), None);
}

#[test]
fn the_list_of_lower_case_goes_first() {
    let table: [(&[_], bool); 3] = [
        (&[("no_proxy", "a.example"), ("NO_PROXY", "b.example")], true),
        (&[("NO_PROXY", "b.example")], false),
        (&[("no_proxy", ""), ("NO_PROXY", "b.example")], false),
    ];
    for (lists, proxied) in table {
        let proxies = environment(&[lists, &[("all_proxy", "p.example")]].concat());
        assert_eq!(one(&proxies, "ws://b.example/").is_some(), proxied, "{lists:?}");
    }
}

fn configured(proxies: &[ProxyConfiguration]) -> Proxies {
    Proxies::new(Some(proxies), |name| panic!("{name} is asked for"))
}

#[test]
fn configured_proxies_by_domain() {
    let mut domain = ProxyConfiguration::http_connect("First.Example", 1);
    domain.match_domains = vec!["a.example".into(), "10.0.0.0/8".into()];
    domain.excluded_domains = vec!["no.a.example".into(), "10.0.0.1".into()];
    let mut all = ProxyConfiguration::socks_v5("[::1]", 2);
    all.excluded_domains = vec!["c.example.".into(), "no entry".into()];
    all.allow_failover = true;
    all.apply_credential("me", "secret");
    let mut nobody = ProxyConfiguration::https_connect("never.example", 3);
    nobody.match_domains = vec!["no entry".into()];
    let proxies = configured(&[domain, all.clone(), nobody]);
    let table: [(&str, &[u16]); 9] = [
        ("ws://a.example/", &[1, 2]),
        ("wss://B.A.Example./", &[1, 2]),
        ("wss://no.a.example/", &[2]),
        ("wss://x.no.a.example/", &[2]),
        ("wss://10.255.0.0/", &[1, 2]),
        ("wss://10.0.0.1/", &[2]),
        ("wss://b.example/", &[2]),
        ("wss://c.example/", &[]),
        ("wss://d.c.example/", &[]),
    ];
    for (address, ports) in table {
        let found = proxies.for_url(&url(address)).unwrap();
        assert_eq!(found.iter().map(|proxy| proxy.port()).collect::<Vec<_>>(), ports, "{address}");
    }
    let found = proxies.for_url(&url("wss://a.example/")).unwrap();
    assert_eq!((found[0].kind(), found[0].host()), (HttpConnect, "first.example"));
    // But for the brackets it is as it was.
    assert_eq!(*found[1], all);
}

#[test]
fn an_empty_configuration_is_a_direct_connection() {
    assert_eq!(one(&configured(&[]), "wss://example.com/"), None);
}

#[test]
fn a_configured_proxy_that_is_none_fails_whom_it_serves() {
    let mut broken = ProxyConfiguration::http_connect("me:secret@p.example", 80);
    broken.excluded_domains = vec!["localhost".into()];
    let mut without_port = ProxyConfiguration::http_connect("p.example", 0);
    without_port.match_domains = vec!["b.example".into()];
    let proxies = configured(&[ProxyConfiguration::http_connect("p.example", 80), broken, without_port.clone()]);
    let error = proxies.for_url(&url("wss://example.com/")).unwrap_err();
    assert_eq!((error.code(), error.stage()), (ErrorCode::BadUrl, ErrorStage::Request));
    assert_eq!(error.reason(), "proxy 2 of 3 has a host that is no name and no address, or the port 0");
    assert_eq!(one(&proxies, "wss://localhost/").unwrap().port(), 80);
    assert!(configured(&[without_port]).for_url(&url("wss://b.example/")).is_err());
}
