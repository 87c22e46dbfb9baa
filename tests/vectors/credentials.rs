//! Credentials and where they are sent unasked: `http_auth_exchanges.json`.
//!
//! What goes over the wire in these exchanges is not here.

use serde_json::Value;
use urlsession::internals::{KnownSpaces, proxy_space};
use urlsession::{
    AuthenticationMethod, CredentialPersistence, Url, UrlCredential, UrlCredentialStorage, UrlProtectionSpace,
};

use super::{cases, equal, run_all, text};

const FILE: &str = "http_auth_exchanges.json";

/// Host, port and protocol.
fn origin(value: &Value) -> (String, u16, String) {
    let url = Url::parse(text(value, "origin")).unwrap();
    (url.host_str().unwrap().to_owned(), url.port_or_known_default().unwrap(), url.scheme().to_owned())
}

fn space(value: &Value) -> UrlProtectionSpace {
    let method = match text(value, "scheme") {
        "Basic" => AuthenticationMethod::HttpBasic,
        "Digest" => AuthenticationMethod::HttpDigest,
        scheme => panic!("{scheme}"),
    };
    let (host, port, protocol) = origin(value);
    match text(value, "target") {
        "server" => UrlProtectionSpace::new(&host, port, Some(&protocol), Some(text(value, "realm")), method),
        "proxy" => proxy_space(&host, port, Some(text(value, "realm")), method),
        target => panic!("{target}"),
    }
}

/// The state of each space is its password.
fn known(entries: &[Value]) -> KnownSpaces<String> {
    let mut known = KnownSpaces::default();
    for entry in entries {
        known.remember(space(entry), text(entry, "path"), text(entry, "user").into(), text(entry, "password").into());
    }
    known
}

/// The user by the path.
fn found(known: &mut KnownSpaces<String>, origin: (String, u16, String), path: &str) -> Option<String> {
    let (_, user, password) = known.find(&origin.0, origin.1, &origin.2, path)?;
    assert_eq!(user.replace("user", "password"), *password);
    Some(user.to_owned())
}

const NO_PATH: &str = "no path is `/` (RFC 9110 §4.2.3): two realms ask there, and the later one counts";

const CACHE_DIFFERENCES: [(&str, &str); 1] = [("chromium-cache-19", NO_PATH)];

#[test]
fn spaces_by_realm_and_by_path() {
    let Some(entries) = cases(FILE, "cache_entries", 7) else { return };
    let Some(cases) = cases(FILE, "cases_cache", 19) else { return };
    assert_eq!(cases.iter().filter(|case| case["lookup"]["by"] == "path").count(), 12);
    run_all(&cases, &CACHE_DIFFERENCES, |case| {
        let (mut known, lookup) = (known(&entries), &case["lookup"]);
        let user = match text(lookup, "by") {
            "realm" => known.get_mut(&space(lookup)).map(|password| password.replace("password", "user")),
            "path" => found(&mut known, origin(lookup), text(lookup, "path")),
            by => return Err(by.to_owned()),
        };
        match case.get("expect_user_not") {
            Some(other) if user.as_deref() == other.as_str() => Err(format!("found {user:?}")),
            Some(_) => Ok(()),
            None => equal("the user", user.as_deref(), case["expect_user"].as_str()),
        }
    });
}

/// What is expected is in words there.
#[test]
fn servers_and_proxies_are_apart() {
    let Some(cases) = cases(FILE, "cases_cache_other", 1) else { return };
    run_all(&cases, &[], |case| {
        assert!(text(case, "expect").starts_with("lookups for target server give server_user, for target proxy give"));
        let entries = case["entries"].as_array().unwrap();
        let [server, proxy] = entries.as_slice() else { panic!("{entries:?}") };
        for (removed, left) in [(server, proxy), (proxy, server)] {
            let mut known = known(entries);
            for entry in entries {
                equal("the state", known.get_mut(&space(entry)).map(|state| &**state), entry["password"].as_str())?;
            }
            known.forget(&space(removed), text(left, "user"));
            equal("another user", known.get_mut(&space(removed)).is_some(), true)?;
            known.forget(&space(removed), text(removed, "user"));
            equal("removed", known.get_mut(&space(removed)), None)?;
            equal("left", known.get_mut(&space(left)).map(|state| &**state), left["password"].as_str())?;
            let (host, port, protocol) = origin(server);
            let user = known.find(&host, port, &protocol, text(server, "path")).map(|(_, user, _)| user);
            equal("by path", user, (left == server).then_some("server_user"))?;
        }
        Ok(())
    });
}

/// `NSURLProtectionSpace` has no path.
const PATHS: &str = "the source keeps credentials by path; a space is a realm of the whole server";
/// As `NSURLCredentialStorage` has it.
const USERS: &str = "the source has one user of an address; a space has several, and the first is the default";
const PORTS: &str = "without a port the protocol's own is meant, and so it is the same space";

const STORAGE_DIFFERENCES: [(&str, &str); 10] = [
    ("cpython-space-08", PATHS),
    ("cpython-space-12", PATHS),
    ("cpython-space-13", PATHS),
    ("cpython-space-14", PATHS),
    ("cpython-space-15", PATHS),
    ("cpython-space-16", USERS),
    ("cpython-space-26", PORTS),
    ("cpython-space-33", PORTS),
    ("cpython-space-37", PORTS),
    ("cpython-space-39", PORTS),
];

/// The space of a realm at an address, which may lack the protocol. The protocol's own port is 0 where none is given.
fn space_at(value: &Value) -> UrlProtectionSpace {
    let uri = text(value, "uri").trim_start_matches("http://");
    let authority = uri.split('/').next().unwrap();
    let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
    let port = port.parse().unwrap();
    UrlProtectionSpace::new(host, port, Some("http"), Some(text(value, "realm")), AuthenticationMethod::HttpBasic)
}

#[test]
fn stored_credentials() {
    let Some(cases) = cases(FILE, "cases_password_manager", 39) else { return };
    assert_eq!(cases.iter().filter(|case| case["expect"].is_null()).count(), 10);
    run_all(&cases, &STORAGE_DIFFERENCES, |case| {
        let storage = UrlCredentialStorage::new();
        let credential = |value: &Value| {
            UrlCredential::new(text(value, "user"), text(value, "password"), CredentialPersistence::ForSession)
        };
        for stored in case["stored"].as_array().unwrap() {
            storage.set(credential(stored), &space_at(stored));
        }
        let (query, expect) = (&case["query"], &case["expect"]);
        let expected = (!expect.is_null()).then(|| credential(expect));
        equal("the default", storage.default_credential_for(&space_at(query)), expected.clone())?;
        let all = storage.credentials_for(&space_at(query));
        equal("one of them", expected.as_ref().and_then(|one| all.get(one.user()?)), expected.as_ref())
    });
}
