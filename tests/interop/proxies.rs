//! Proxies that others wrote: Squid with CONNECT, in the clear and behind TLS, with Basic and Digest; Dante and microsocks
//! with SOCKS 5. Each test tells its tunnels apart in Squid's log by the name of the server, which Squid alone knows,
//! and has a user of its own there: while Squid (5.7) checks one request with Digest, it lets in another one of the same user,
//! whatever its password.

use urlsession::{CredentialPersistence, ErrorStage, ProxyConfiguration, SessionConfiguration, Url, UrlError};

use crate::houses::{Houses, OTHER_USER, PASSWORD, Visit, parameter};
use crate::support::proxy::proxied;

const NOBODY: &[&str] = &[];

/// Squid's port of this name.
fn squid(houses: &Houses, name: &str) -> ProxyConfiguration {
    match name.contains("tls") {
        true => ProxyConfiguration::https_connect("localhost", houses.port(name)),
        false => ProxyConfiguration::http_connect("127.0.0.1", houses.port(name)),
    }
}

fn socks(houses: &Houses, name: &str) -> ProxyConfiguration {
    ProxyConfiguration::socks_v5("127.0.0.1", houses.port(name))
}

fn knowing(mut proxy: ProxyConfiguration, user: &str, password: &str) -> ProxyConfiguration {
    proxy.apply_credential(user, password);
    proxy
}

fn through(houses: &Houses, proxy: ProxyConfiguration) -> SessionConfiguration {
    proxied(houses.configuration(), vec![proxy])
}

/// A visit by which the delegate is asked for nothing.
fn unasked(houses: &Houses, proxy: ProxyConfiguration) -> Visit {
    Visit::of("guest", through(houses, proxy), NOBODY, CredentialPersistence::None)
}

#[track_caller]
fn assert_of_proxy((error, status): &(UrlError, Option<u16>), code: i32, expected: Option<u16>) {
    assert_eq!((error.raw_code(), error.stage(), *status), (code, ErrorStage::Proxy, expected), "{error}");
}

/// The addresses of a server that a proxy can reach: by name, of both families.
fn servers(houses: &Houses, name: &str) -> Vec<Url> {
    let mut hosts = vec![name, "127.0.0.1"];
    if houses.v6 {
        hosts.push("[::1]");
    }
    hosts.into_iter().flat_map(|host| ["nginx", "nginx_tls"].map(|port| houses.echo(host, port))).collect()
}

// Squid.

#[test]
fn tunnels_of_squid() {
    let Some(houses) = Houses::find() else { return };
    for (name, host) in [("squid", "plain.behind.test"), ("squid_tls", "secure.behind.test")] {
        let visit = unasked(&houses, squid(&houses, name));
        for url in servers(&houses, host) {
            let (asked, reached) = visit.call(&url);
            assert_eq!((asked.as_slice(), &reached), (&[][..], &url), "{name}");
            let metrics = visit.last();
            let transaction = metrics.transaction_metrics.last().unwrap();
            assert!(transaction.is_proxy_connection && metrics.transaction_metrics.len() == 1, "{name}, {url}");
            assert_eq!(transaction.remote_address.map(|address| address.port()), Some(houses.port(name)));
            assert_eq!(transaction.negotiated_tls_protocol_version.is_some(), url.scheme() == "wss");
        }
        // One for each scheme, and nobody has said who it is.
        for line in houses.logged("squid.access", host, 2) {
            assert!(line.starts_with("200 ") && line.ends_with(" - \"-\""), "{line}");
        }
    }
}

#[test]
fn what_squid_refuses() {
    let Some(houses) = Houses::find() else { return };
    let closed = Url::parse("ws://closed.behind.test:1/").unwrap();
    for name in ["squid", "squid_tls"] {
        let visit = unasked(&houses, squid(&houses, name));
        let table = [
            (houses.echo("forbidden.behind.test", "nginx"), 403),
            (houses.echo("unknown.behind.test", "nginx_tls"), 500),
            (closed.clone(), 503),
        ];
        for (url, status) in table {
            assert_of_proxy(&visit.fail(&url), -1011, Some(status));
        }
    }
}

/// The ports of Squid that ask for a password, how they ask, and the log's name of those who come.
const DOORS: [(&str, &str, &str); 4] = [
    ("squid_basic", "challenge basic the upper house", "basic.behind.test"),
    ("squid_digest", "challenge digest the lower house", "digest.behind.test"),
    // Of two ways the better one.
    ("squid_both", "challenge digest the lower house", "both.behind.test"),
    ("squid_tls_digest", "challenge digest the lower house", "inside.behind.test"),
];

#[test]
fn passwords_of_squid() {
    let Some(houses) = Houses::find() else { return };
    for (name, challenge, host) in DOORS {
        let url = houses.echo(host, "nginx_tls");
        let visit = Visit::of(
            "guest",
            through(&houses, squid(&houses, name)),
            &["", "open", PASSWORD],
            CredentialPersistence::ForSession,
        );
        let (asked, _) = visit.call(&url);
        assert_eq!(asked, [0, 1, 2].map(|failures| format!("{challenge} {failures} -")), "{name}");
        // The right one was kept. Squid takes a nonce three times, and the next one unasked, too.
        for _ in 0..4 {
            assert_eq!(visit.call(&url).0, NOBODY, "{name}");
        }
        let configured = unasked(&houses, knowing(squid(&houses, name), "guest", PASSWORD));
        assert_eq!(configured.call(&url).0, NOBODY, "{name}");
        assert_eq!(configured.call(&url).0, NOBODY, "{name}");
    }
}

#[test]
fn a_password_that_squid_does_not_take() {
    let Some(houses) = Houses::find() else { return };
    for (name, challenge, host) in DOORS {
        let wrong = Visit::of(
            "visitor",
            through(&houses, knowing(squid(&houses, name), "visitor", "open")),
            &[PASSWORD],
            CredentialPersistence::None,
        );
        // The delegate is asked when what was configured was wrong.
        assert_eq!(wrong.call(houses.echo(host, "nginx")).0, [format!("{challenge} 1 -")], "{name}");
        // Neither server has said `charset=UTF-8`.
        let other = unasked(&houses, knowing(squid(&houses, name), OTHER_USER, PASSWORD));
        assert_eq!(other.call(houses.echo(host, "nginx")).0, NOBODY, "{name}");
    }
}

/// Squid takes a nonce four times, of which it knows the counts. The request whose nonce it calls stale is repeated with its
/// new one, and nobody is asked.
#[test]
fn nonces_of_squid() {
    let Some(houses) = Houses::find() else { return };
    let visit = unasked(&houses, knowing(squid(&houses, "squid_digest"), "regular", PASSWORD));
    for _ in 0..6 {
        assert_eq!(visit.call(houses.echo("nonces.behind.test", "nginx")).0, NOBODY);
    }
    let lines = houses.logged("squid.access", "nonces.behind.test", 8);
    // A tunnel is logged when it ends.
    let mut said: Vec<_> =
        lines.iter().map(|line| (parameter(line, " nonce"), parameter(line, " nc"), &line[..3])).collect();
    said.sort_by_key(|(_, count, _)| *count);
    let stale = said.last().unwrap().0;
    let of = |nonces: &dyn Fn(Option<&str>) -> bool| -> Vec<_> {
        said.iter()
            .filter(|(nonce, ..)| nonces(*nonce))
            .map(|(_, count, status)| (count.unwrap_or("-"), *status))
            .collect()
    };
    assert_eq!(of(&|nonce| nonce.is_none()), [("-", "407")]);
    let counts = ["00000001", "00000002", "00000003", "00000004"].map(|count| (count, "200"));
    assert_eq!(of(&|nonce| nonce == stale), [&counts[..], &[("00000005", "407")]].concat());
    assert_eq!(of(&|nonce| nonce.is_some() && nonce != stale), counts[..2]);
}

// SOCKS.

#[test]
fn tunnels_of_socks() {
    let Some(houses) = Houses::find() else { return };
    for proxy in [socks(&houses, "dante"), knowing(socks(&houses, "microsocks"), "guest", PASSWORD)] {
        let visit = unasked(&houses, proxy);
        for url in servers(&houses, "localhost") {
            let (asked, reached) = visit.call(&url);
            assert_eq!((asked.as_slice(), &reached), (&[][..], &url));
            assert!(visit.last().transaction_metrics[0].is_proxy_connection);
        }
    }
}

#[test]
fn what_socks_refuses() {
    let Some(houses) = Houses::find() else { return };
    let nobody_there = Url::parse("ws://127.0.0.1:1/").unwrap();
    for name in ["dante", "microsocks"] {
        let visit = unasked(&houses, knowing(socks(&houses, name), "guest", PASSWORD));
        assert_of_proxy(&visit.fail(&nobody_there), -1004, None);
        if name == "dante" {
            // By its rules.
            let error = visit.fail(houses.echo("127.0.0.9", "nginx"));
            assert_of_proxy(&error, -1004, None);
            assert!(error.0.to_string().contains("rule"), "{}", error.0);
        }
    }
}

#[test]
fn who_microsocks_does_not_know() {
    let Some(houses) = Houses::find() else { return };
    let proxy = || socks(&houses, "microsocks");
    for proxy in [proxy(), knowing(proxy(), "guest", "open"), knowing(proxy(), OTHER_USER, PASSWORD)] {
        assert_of_proxy(&unasked(&houses, proxy).fail(houses.echo("localhost", "nginx")), -1013, None);
    }
}
