//! Proxies: whom they serve (`proxy_bypass.json`), which of them is taken (`proxy_selection.json`), and what is said to them
//! (`proxy_socks.json`, `proxy_connect.json`).
//!
//! Not run, because there is nothing here that it is about: Chromium's own rules for hosts and lists of proxies, scripts that
//! choose a proxy, dictionaries of macOS, SOCKS 4. What needs a clock or a whole task is not here either.

use std::collections::BTreeMap;

use serde_json::Value;
use urlsession::internals::authentication::{basic, offers};
use urlsession::internals::{
    BodyReader, HeadParser, Proxies, Socks, SocksError, SocksStep, connect, is_interim, is_tunnel, proxy_parts,
};
use urlsession::{AuthenticationMethod, ProxyConfiguration, Url, UrlError};

use super::{cases, equal, hex, id, latin1, run_all, text};

const BYPASS: &str = "proxy_bypass.json";
const SELECTION: &str = "proxy_selection.json";
const SOCKS: &str = "proxy_socks.json";
const CONNECT: &str = "proxy_connect.json";

fn environment(variables: &[(&str, &str)]) -> Proxies {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    Proxies::new(None, |name| variables.get(name).map(|value| (*value).to_owned()))
}

type Credential = (String, String);

/// The proxy of an address with scheme and port, and its user and password.
fn chosen(proxies: &Proxies, url: &str) -> Result<Option<(String, Option<Credential>)>, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let list = proxies.for_url(&url).map_err(|error: UrlError| error.reason().to_owned())?;
    assert!(list.len() < 2);
    Ok(list.first().map(|proxy| {
        let (scheme, host, port, credential) = proxy_parts(proxy);
        let credential = credential.map(|(user, password)| (user.to_owned(), password.to_owned()));
        (in_full(&format!("{scheme}://{}", bracketed(host, port))), credential)
    }))
}

fn bracketed(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The address of a proxy in one form.
fn in_full(proxy: &str) -> String {
    let (scheme, place) = proxy.split_once("://").unwrap();
    let (scheme, port) = match scheme {
        "http" => ("http", 80),
        "https" => ("https", 443),
        "socks5" | "socks5h" => ("socks5", 1080),
        other => (other, 0),
    };
    let place = place.rsplit('@').next().unwrap();
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { format!("{scheme}://{place}") } else { format!("{scheme}://{place}:{port}") }
}

/// Whether an address is reached without the proxy, where `NO_PROXY` is this list.
fn bypasses(list: &str, url: &str) -> Result<bool, String> {
    Ok(chosen(&environment(&[("no_proxy", list), ("http_proxy", "p.example")]), url)?.is_none())
}

fn bypass_of_host(case: &Value) -> Result<(), String> {
    let host = text(case, "host");
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let port = case["port"].as_u64().unwrap_or(80);
    let bypasses = bypasses(text(case, "no_proxy"), &format!("ws://{host}:{port}/"))?;
    equal("bypass", bypasses, case["bypass"].as_bool().unwrap())
}

const SPACES: &str = "a space separates, too: so it is in many environments, and curl had it so for long";
const EVERYTHING: &str = "a network of no bits has every address; curl takes it for an address";
const LOOPBACK: &str = "no host is an exception by itself: curl has it so, too";
const DOT: &str = "with or without a dot in front, a domain is itself and what is below it; curl has it so, too";

#[test]
fn exceptions_of_curl() {
    let Some(cases) = cases(BYPASS, "cases_curl", 78) else { return };
    run_all(&cases, &[("curl-noproxy-01", SPACES)], bypass_of_host);
}

#[test]
fn networks_of_curl() {
    let Some(cases) = cases(BYPASS, "cases_curl_cidr", 17) else { return };
    run_all(&cases, &[("curl-cidr-12", EVERYTHING)], |case| {
        let (address, network) = (text(case, "address"), text(case, "network"));
        let list = format!("{network}/{}", case["bits"]);
        let bypasses = bypasses(&list, &format!("ws://{}/", bracketed(address, 80)))?;
        equal("match", bypasses, case["match"].as_bool().unwrap())
    });
}

#[test]
fn exceptions_of_go() {
    let Some(cases) = cases(BYPASS, "cases_go", 55) else { return };
    let differences = [
        ("go-noproxy-01", LOOPBACK),
        ("go-noproxy-02", LOOPBACK),
        ("go-noproxy-03", LOOPBACK),
        ("go-noproxy-04", LOOPBACK),
        ("go-noproxy-16", DOT),
        ("go-noproxy-25", DOT),
    ];
    run_all(&cases, &differences, bypass_of_host);
}

#[test]
fn exceptions_of_hyper() {
    let Some(cases) = cases(BYPASS, "cases_hyper_util", 38) else { return };
    run_all(&cases, &[], bypass_of_host);
}

#[test]
fn exceptions_of_requests() {
    let Some(cases) = cases(BYPASS, "cases_requests", 43) else { return };
    run_all(&cases, &[], |case| {
        let bypasses = bypasses(text(case, "no_proxy"), text(case, "url"))?;
        equal("bypass", bypasses, case["bypass"].as_bool().unwrap())
    });
}

const BELOW: &str = "`excludedDomains` names a domain with its subdomains, and the list of macOS one without";
const PREFIX: &str = "the beginning of an address is none: `10.10.0.0/16` is how to write it";
const SIMPLE: &str = "there is no setting for names without a dot";

#[test]
fn exceptions_of_macos() {
    let Some(cases) = cases(BYPASS, "cases_macos", 13) else { return };
    let differences = [
        ("cpython-macos-04", PREFIX),
        ("cpython-macos-05", PREFIX),
        ("cpython-macos-06", BELOW),
        ("cpython-macos-07", BELOW),
        ("cpython-macos-11", SIMPLE),
    ];
    run_all(&cases, &differences, |case| {
        let mut proxy = ProxyConfiguration::http_connect("p.example", 80);
        let exceptions = case["exceptions"].as_array().unwrap();
        proxy.excluded_domains = exceptions.iter().map(|entry| entry.as_str().unwrap().to_owned()).collect();
        let proxies = Proxies::new(Some(&[proxy]), |_| None);
        let proxy = chosen(&proxies, &format!("ws://{}/", text(case, "host")))?;
        equal("bypass", proxy.is_none(), case["bypass"].as_bool().unwrap())
    });
}

const NAMES: &str = "this variable is read by Python programs only";
const SCHEMES: &str = "each scheme has its own variable, as in curl; nobody prefers one for `ws` to HTTP_PROXY there";
const UNASKED: &str = "it is no error that nobody uses the variable";
const UNKNOWN: &str = "a scheme that nobody speaks is an error before the connection";
const ZONE: &str = "an address with a zone is none: RFC 3986 §3.2.2";

/// Whether the proxy is the one of the source, which has `null` for none.
fn equal_proxy(proxies: &Proxies, url: &str, expected: &Value) -> Result<(), String> {
    let proxy = chosen(proxies, url)?.map(|(proxy, _)| proxy);
    equal("the proxy", proxy, expected.as_str().map(in_full))
}

#[test]
fn environments_of_python_websockets() {
    let Some(cases) = cases(SELECTION, "cases_py_websockets_env", 17) else { return };
    let differences = [
        ("py-websockets-env-01", NAMES),
        ("py-websockets-env-04", NAMES),
        ("py-websockets-env-07", SCHEMES),
        ("py-websockets-env-09", NAMES),
        ("py-websockets-env-10", NAMES),
        ("py-websockets-env-11", NAMES),
        ("py-websockets-env-12", NAMES),
        ("py-websockets-env-13", SCHEMES),
        ("py-websockets-env-15", NAMES),
        ("py-websockets-env-16", NAMES),
    ];
    run_all(&cases, &differences, |case| {
        let variables = case["environment"].as_object().unwrap();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
        equal_proxy(&environment(&variables), text(case, "url"), &case["proxy"])
    });
}

/// The environment of `config`.
fn configured(case: &Value, names: [&'static str; 4]) -> Proxies {
    let variables = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].into_iter().zip(names);
    let mut variables: Vec<_> =
        variables.filter_map(|(name, key)| Some((name, case["config"].get(key)?.as_str().unwrap()))).collect();
    assert_eq!(variables.len(), case["config"].as_object().unwrap().len());
    if case["cgi"].as_bool() == Some(true) {
        variables.push(("REQUEST_METHOD", "GET"));
    }
    environment(&variables)
}

#[test]
fn environments_of_go() {
    let Some(cases) = cases(SELECTION, "cases_go", 26) else { return };
    let differences = [
        ("go-proxyforurl-09", UNKNOWN),
        ("go-proxyforurl-15", UNASKED),
        ("go-proxyforurl-19", DOT),
        ("go-proxyforurl-26", ZONE),
    ];
    run_all(&cases, &differences, |case| {
        let proxies = configured(case, ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]);
        match case.get("error") {
            Some(_) => equal("an error", chosen(&proxies, text(case, "url")).is_err(), true),
            None => equal_proxy(&proxies, text(case, "url"), &case["proxy"]),
        }
    });
}

#[test]
fn environments_of_hyper() {
    let Some(cases) = cases(SELECTION, "cases_hyper_util", 12) else { return };
    run_all(&cases, &[], |case| {
        let proxies = configured(case, ["http", "https", "all", "no"]);
        equal_proxy(&proxies, text(case, "url"), &case["proxy"])?;
        let credential = chosen(&proxies, text(case, "url"))?.and_then(|(_, credential)| credential);
        if let Some(expected) = case["socks_credentials"].as_array() {
            let (user, password) = credential.ok_or("no credential")?;
            return equal("the credential", &[Value::from(user), password.into()][..], &expected[..]);
        }
        let field = credential.map(|(user, password)| basic(&user, &password)).transpose()?;
        equal("Proxy-Authorization", field.as_deref(), case["proxy_authorization"].as_str())
    });
}

/// What a value of `ALL_PROXY` is: a proxy, or why it is none.
fn value(value: &str) -> Result<(String, Option<Credential>), String> {
    chosen(&environment(&[("ALL_PROXY", value)]), "wss://example.com/")?.ok_or_else(|| "no value".to_owned())
}

#[test]
fn values_of_python_websockets() {
    let Some(cases) = cases(SELECTION, "cases_py_websockets_valid", 8) else { return };
    let decoded = "user and password are decoded, not encoded, before they are used";
    run_all(&cases, &[("py-websockets-uri-08", decoded)], |case| {
        let (proxy, credential) = value(text(case, "proxy_uri"))?;
        let parsed = &case["parsed"];
        let expected = format!("{}://{}:{}", text(parsed, "scheme"), text(parsed, "host"), parsed["port"]);
        equal("the proxy", proxy, expected)?;
        let (user, password) = credential.unzip();
        equal("the user", user.as_deref(), parsed["username"].as_str())?;
        equal("the password", password.as_deref(), parsed["password"].as_str())
    });
    let Some(cases) = self::cases(SELECTION, "cases_py_websockets_invalid", 7) else { return };
    let no_password = "a user without a password has an empty one; curl has it so, too";
    run_all(&cases, &[("py-websockets-invalid-06", no_password)], |case| {
        equal("valid", value(text(case, "proxy_uri")).is_ok(), case["valid"].as_bool().unwrap())
    });
}

const SOCKS_4: &str = "SOCKS 4 is not spoken, and `socks` is what curl calls it";
const DIRECT: &str = "no variable means a direct connection by its value";

#[test]
fn values_of_chromium() {
    let Some(cases) = cases(SELECTION, "cases_chromium_uri", 41) else { return };
    let differences = [
        ("chromium-uri-06", SOCKS_4),
        ("chromium-uri-07", SOCKS_4),
        ("chromium-uri-10", SOCKS_4),
        ("chromium-uri-11", SOCKS_4),
        ("chromium-uri-21", DIRECT),
        ("chromium-uri-22", DIRECT),
        ("chromium-uri-23", DIRECT),
    ];
    run_all(&cases, &differences, |case| {
        let found = value(text(case, "input"));
        if case.get("valid").is_some() {
            return equal("valid", found.is_ok(), case["valid"].as_bool().unwrap());
        }
        // With the scheme `http` left out.
        let expected = case["uri"].as_str().ok_or("not a proxy")?;
        let expected = if expected.contains("://") { expected.to_owned() } else { format!("http://{expected}") };
        equal("the proxy", found?.0, expected)
    });
}

const PREFERS: &str =
    "each scheme has its own variable, as in curl; RFC 6455 §4.1 only advises to prefer SOCKS, then HTTPS";
const LOCAL: &str = "a rule of Chromium's own";

/// `http=…; https=…; socks=…` as variables.
#[test]
fn web_sockets_of_chromium() {
    let Some(cases) = cases(SELECTION, "cases_chromium_websocket", 11) else { return };
    let differences = [
        ("chromium-ws-PrefersSocksV4", PREFERS),
        ("chromium-ws-PrefersSocksV5", PREFERS),
        ("chromium-ws-PrefersNonSocksFallbackOverHttps", PREFERS),
        ("chromium-ws-PrefersHttpsEvenForWs", PREFERS),
        ("chromium-ws-PrefersHttpToDirect", PREFERS),
        ("chromium-ws-ObeysLocalBypass", LOCAL),
    ];
    run_all(&cases, &differences, |case| {
        let rules = text(case, "rules").split(';').map(|rule| rule.trim().split_once('=').unwrap_or(("all", rule)));
        let mut variables: Vec<_> = rules
            .filter_map(|(scheme, proxy)| match scheme {
                "http" => Some(("HTTP_PROXY", proxy)),
                "https" => Some(("HTTPS_PROXY", proxy)),
                "socks" | "all" => Some(("ALL_PROXY", proxy)),
                _ => None,
            })
            .collect();
        variables.extend(case["bypass_rule"].as_str().map(|rule| ("NO_PROXY", rule)));
        let expected = match text(case, "result").split_once(' ') {
            Some(("PROXY", place)) => Some(format!("http://{place}")),
            Some(("SOCKS5", place)) => Some(format!("socks5://{place}")),
            Some((scheme, place)) => Some(format!("{}://{place}", scheme.to_lowercase())),
            None => None,
        };
        let proxy = chosen(&environment(&variables), text(case, "url"))?.map(|(proxy, _)| proxy);
        equal("the proxy", proxy, expected)
    });
}

#[test]
fn lists_the_other_way_round() {
    let Some(cases) = cases(SELECTION, "cases_chromium_bypass_flag", 4) else { return };
    run_all(&cases, &[], |case| {
        let mut proxy = ProxyConfiguration::http_connect("httpproxy", 80);
        let domains = vec![text(case, "bypass_rule").to_owned()];
        match case["reverse_bypass"].as_bool().unwrap() {
            true => proxy.match_domains = domains,
            false => proxy.excluded_domains = domains,
        }
        let proxy = chosen(&Proxies::new(Some(&[proxy]), |_| None), text(case, "url"))?;
        equal("direct", proxy.is_none(), text(case, "result") == "DIRECT")
    });
}

/// A conversation for `target`.
fn socks(target: &str, credential: Option<(&str, &str)>) -> Result<Socks, String> {
    let (host, port) = target.rsplit_once(':').unwrap();
    let host = url::Host::parse(host).unwrap();
    let host = match &host {
        url::Host::Domain(name) => url::Host::Domain(name.as_str()),
        url::Host::Ipv4(address) => url::Host::Ipv4(*address),
        url::Host::Ipv6(address) => url::Host::Ipv6(*address),
    };
    Socks::new(host, port.parse().unwrap(), credential)
}

/// Gives the proxy's bytes in these pieces; what was said, and the rest of the bytes once there is a connection.
fn said(socks: &mut Socks, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), SocksError> {
    let (mut said, mut tunnel) = (socks.greeting().to_vec(), None);
    for mut piece in pieces.iter().copied() {
        loop {
            match socks.received(&mut piece)? {
                SocksStep::Read => break,
                SocksStep::Send(message) => said.extend(message),
                SocksStep::Done => {
                    tunnel.get_or_insert_with(Vec::new).extend(piece);
                    break;
                }
            }
        }
    }
    Ok((said, tunnel))
}

const RESOLVED: &str = "names go to the proxy: nobody else is to know them";

#[test]
fn conversations_with_socks() {
    let Some(cases) = cases(SOCKS, "cases_socks5", 14) else { return };
    let differences = [("hyper-test_socks_v5_with_locally_resolved_domain_works", RESOLVED)];
    run_all(&cases, &differences, |case| {
        let options = &case["options"];
        let credential = options["user"].as_str().map(|user| (user, text(options, "password")));
        let target = text(case, "target").replace("PORT", "8080");
        if text(case, "expect").starts_with("fails before any byte") {
            return equal("an error", socks(&target, credential).is_err(), true);
        }
        let (mut expected, mut pieces) = (String::new(), Vec::new());
        for event in case["events"].as_array().unwrap() {
            if event.get("client_sends_pattern").is_some() {
                return Err("the host as an address".to_owned());
            }
            expected.push_str(event["client_sends"].as_str().unwrap_or_default());
            pieces.extend(event["server_sends"].as_str().map(|bytes| hex(&bytes.replace("{{PORT}}", "1f90"))));
        }
        // User and password are offered beside nothing.
        let expected = hex(&expected.replace("{{PORT}}", "1f90").replacen("050102", "05020002", 1));
        let whole: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let bytes = pieces.concat();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        for pieces in [whole, single] {
            let found = said(&mut socks(&target, credential)?, &pieces).map_err(|error| error.to_string())?;
            let (said, tunnel) = (found.0, found.1.ok_or("no connection")?);
            // What else the client says, goes through the tunnel.
            let payload = expected.strip_prefix(&said[..]).ok_or_else(|| format!("said {said:02x?}"))?;
            equal("payload both ways", payload.is_empty(), tunnel.is_empty())?;
            equal("the tunnel", bytes.ends_with(&tunnel), true)?;
        }
        Ok(())
    });
}

/// Without a user, and the method of none is chosen.
fn asked(target: &str) -> Socks {
    let mut socks = socks(target, None).unwrap();
    assert!(matches!(socks.received(&mut &[5, 0][..]), Ok(SocksStep::Send(_))));
    socks
}

#[test]
fn messages_of_socks() {
    let Some(cases) = cases(SOCKS, "cases_message", 11) else { return };
    let differences = [
        ("hyper-message-08", SOCKS_4),
        ("hyper-message-09", SOCKS_4),
        ("hyper-message-10", SOCKS_4),
        ("hyper-message-11", SOCKS_4),
    ];
    run_all(&cases, &differences, |case| {
        let bytes = hex(text(case, "bytes"));
        let mut input = &bytes[..];
        let mut with_login = socks("a.example:80", Some(("user", "pass")))?;
        match text(case, "kind") {
            "greeting" => equal("the greeting", socks("a.example:80", None)?.greeting(), &bytes),
            "greeting reply" => {
                let step = with_login.received(&mut input).map_err(|error| error.to_string())?;
                equal("a message follows", matches!(step, SocksStep::Send(_)), true)
            }
            "user/password request" => {
                equal("the message", with_login.received(&mut &[5, 2][..]), Ok(SocksStep::Send(bytes)))
            }
            "user/password reply" => {
                let _ = with_login.received(&mut &[5, 2][..]);
                let goes_on = with_login.received(&mut input).is_ok();
                equal("success", goes_on, case["parsed"]["success"].as_bool().unwrap())
            }
            "request" => {
                let step = socks(text(case, "target"), None)?.received(&mut &[5, 0][..]);
                equal("the message", step, Ok(SocksStep::Send(bytes)))
            }
            "reply" => equal("the end", asked("a.example:80").received(&mut input), Ok(SocksStep::Done)),
            kind => Err(kind.to_owned()),
        }
    });
}

/// The rest of the list is about what a proxy has to refuse.
#[test]
fn requests_of_socks() {
    let Some(cases) = cases(SOCKS, "cases_wire_request", 15) else { return };
    let valid = |case: &Value| case["valid"] == true && case["kind"] == "request";
    let cases: Vec<_> = cases.into_iter().filter(valid).collect();
    assert_eq!(cases.len(), 2);
    run_all(&cases, &[], |case| {
        let parsed = &case["parsed"];
        let host = parsed["address"].as_str().unwrap_or_else(|| text(parsed, "name"));
        let step = socks(&format!("{host}:{}", parsed["port"]), None)?.received(&mut &[5, 0][..]);
        let SocksStep::Send(request) = step.unwrap() else { return Err("nothing to send".to_owned()) };
        // A name in an address is in lower case.
        equal("the request", request.to_ascii_lowercase(), hex(text(case, "bytes")).to_ascii_lowercase())
    });
}

#[test]
fn rogue_replies_of_socks() {
    let Some(cases) = cases(SOCKS, "cases_rogue_reply", 5) else { return };
    run_all(&cases, &[], |case| {
        let bytes = hex(text(case, "server_sends"));
        let step = asked("a.example:80").received(&mut &bytes[..]);
        // Where something is missing, the timer of the request runs out.
        let is_short = text(case, "why").contains("missing") || text(case, "why").contains("truncated");
        match step {
            Err(SocksError::Malformed { .. }) if !is_short => Ok(()),
            Ok(SocksStep::Read) if is_short => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn codes_of_socks() {
    let Some(cases) = cases(SOCKS, "cases_reply_code", 11) else { return };
    run_all(&cases, &[], |case| match id(case) {
        "rfc1928-method-ff" => {
            let step = socks("a.example:80", None)?.received(&mut &[5, 255][..]);
            equal("the end", step, Err(SocksError::NoMethod { with_login: false }))
        }
        "rfc1929-status" => {
            for status in 1..=255 {
                let step = said(&mut socks("a.example:80", Some(("me", "secret")))?, &[&[5, 2, 1, status]]);
                equal("the end", step, Err(SocksError::WrongLogin))?;
            }
            Ok(())
        }
        _ => {
            let code = hex(text(case, "rep"))[0];
            let step = asked("a.example:80").received(&mut &[5, code, 0, 1, 0, 0, 0, 0, 0, 0][..]);
            let opens = text(case, "expect") == "tunnel open";
            equal("the end", step, if opens { Ok(SocksStep::Done) } else { Err(SocksError::Refused(code)) })
        }
    });
}

/// The first line, `Host` and `Proxy-Authorization` of a request.
fn parts(request: &str) -> (&str, Option<&str>, Option<&str>) {
    let field = |name: &str| {
        let mut fields = request.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    (request.lines().next().unwrap_or_default(), field("Host"), field("Proxy-Authorization"))
}

/// The request for a tunnel to the server of an address.
fn tunnel_to(url: &str, authorization: Option<&str>) -> String {
    let url = Url::parse(url).unwrap();
    connect(url.host().unwrap(), url.port_or_known_default().unwrap(), authorization)
}

const HOST: &str = "`Host` is what the request is for, the port included: RFC 9110 §7.2";
const CASE: &str = "the same scheme in other letters";

#[test]
fn requests_for_a_tunnel() {
    let Some(cases) = cases(CONNECT, "cases_connect_request", 9) else { return };
    let differences = [
        ("py-websockets-connect-1", HOST),
        ("py-websockets-connect-2", HOST),
        ("py-websockets-connect-3", HOST),
        ("py-websockets-connect-ua-1", HOST),
        ("py-websockets-connect-ua-2", HOST),
        ("rfc9110-connect-1", HOST),
        ("rfc9110-connect-2", CASE),
        ("rfc6455-proxy-connect-1", HOST),
        ("rfc6455-proxy-connect-2", HOST),
    ];
    run_all(&cases, &differences, |case| {
        let expected = parts(text(case, "connect_request"));
        let server = expected.0.strip_prefix("CONNECT ").and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap();
        let url = case["url"].as_str().map_or_else(|| format!("ws://{server}/"), str::to_owned);
        let credential = match (case["environment"]["https_proxy"].as_str(), case["note"].as_str()) {
            (Some(proxy), _) => value(proxy)?.1,
            (None, Some(note)) => note.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned())),
            (None, None) => None,
        };
        let field = credential.filter(|(user, _)| !user.contains(' ')).map(|(user, password)| basic(&user, &password));
        let request = tunnel_to(&url, field.transpose()?.as_deref());
        let found = parts(&request);
        // Whatever else differs, this does not.
        assert_eq!((found.0, found.1), (expected.0, Some(server)));
        let lower = |field: Option<&str>| field.map(|field| field.replacen("basic", "Basic", 1));
        assert_eq!(lower(found.2), lower(expected.2));
        equal("the request", found, expected)
    });
}

#[test]
fn answers_to_a_tunnel() {
    let Some(cases) = cases(CONNECT, "cases_status", 41) else { return };
    run_all(&cases, &[], |case| {
        let expected = parts(text(case, "client_sends"));
        equal("the request", parts(&tunnel_to(text(case, "url"), None)), expected)?;
        let bytes = latin1(text(case, "server_sends"));
        let head = HeadParser::default().parse(&mut &bytes[..]).unwrap().unwrap();
        equal("refused", !is_tunnel(&head) && !is_interim(&head), text(case, "expect") == "fail")
    });
}

const PLAIN: &str = "a WebSocket goes through a tunnel, never as a request that the proxy passes on: RFC 6455 §4.1";
const OLD: &str = "a connection is not used again after an answer in HTTP/1.0: RFC 9112 §9.3";

#[test]
fn conversations_with_proxies() {
    let Some(cases) = cases(CONNECT, "cases_transcripts", 21) else { return };
    let differences = [
        ("chromium-BasicAuthProxyKeepAliveHttp10", OLD),
        ("chromium-UnexpectedProxyAuth", PLAIN),
        ("chromium-BasicAuthProxyMatchesServerAuthNoTunnel", PLAIN),
        ("chromium-BasicAuthProxyThenServer", PLAIN),
        ("chromium-HttpsProxyAuthRetry", PLAIN),
        ("chromium-HttpsProxyAuthRetryNoKeepAlive", PLAIN),
    ];
    run_all(&cases, &differences, conversation);
}

fn conversation(case: &Value) -> Result<(), String> {
    let credential =
        case["credentials"][0]["user"].as_str().map(|user| (user, text(&case["credentials"][0], "password")));
    let field = credential.map(|(user, password)| basic(user, password)).transpose()?;
    let mut authorization = field.as_deref().filter(|_| id(case) == "chromium-HaveAuth");
    let mut exchanges = Vec::new();
    for (number, connection) in case["connections"].as_array().unwrap().iter().enumerate() {
        let events = connection["events"].as_array().unwrap();
        for pair in events.windows(2) {
            if let (Some(request), Some(answer)) = (pair[0]["client_sends"].as_str(), pair[1]["server_sends"].as_str())
            {
                exchanges.push((number, request, latin1(answer)));
            }
        }
    }
    let mut is_open = false;
    for (index, (connection, request, answer)) in exchanges.iter().enumerate() {
        if is_open {
            // The server's own request: no proxy is told of it.
            equal("inside the tunnel", parts(request).2, None)?;
            break;
        }
        equal("the request", parts(&tunnel_to(text(case, "url"), authorization)), parts(request))?;
        let (mut parser, mut input) = (HeadParser::default(), &answer[..]);
        let mut head = parser.parse(&mut input).unwrap();
        while head.as_ref().is_some_and(is_interim) {
            head = parser.parse(&mut input).unwrap();
        }
        let Some(head) = head else { break };
        is_open = is_tunnel(&head);
        if head.status_code == 407 {
            let offers = offers(head.values("Proxy-Authenticate"));
            equal("offered", offers.first().map(|offer| offer.method), Some(AuthenticationMethod::HttpBasic))?;
            equal("the realm", offers[0].realm.as_deref(), Some("MyRealm1"))?;
            authorization = field.as_deref();
            let mut body = BodyReader::new(&head);
            body.read(input);
            if let Some((next, _, _)) = exchanges.get(index + 1) {
                equal("the same connection", body.leaves_connection(), next == connection)?;
            }
        }
    }
    let refused = [
        "chromium-BasicAuthProxyKeepAliveHttp10",
        "chromium-BasicAuthProxyKeepAliveHttp11",
        "chromium-BasicAuthProxyCancelTunnel",
        "chromium-SanitizeProxyAuthHeaders",
        "chromium-TunnelUnexpectedClose",
        "chromium-TunnelSetupError",
        "chromium-TunnelSetupRedirect",
    ];
    equal("a tunnel", is_open, !refused.contains(&id(case)))
}

/// The others need a whole task.
#[test]
fn a_web_socket_that_is_refused() {
    let Some(cases) = cases(CONNECT, "cases_websocket", 5) else { return };
    let case = &cases[0];
    assert_eq!(id(case), "chromium-ws-HandleErrTunnelConnectionFailed");
    assert_eq!(parts(&tunnel_to(text(case, "url"), None)), parts(text(case, "client_sends")));
    let bytes = latin1(text(case, "server_sends"));
    let mut input = &bytes[..];
    let head = HeadParser::default().parse(&mut input).unwrap().unwrap();
    assert!(!is_tunnel(&head) && !is_interim(&head));
    let mut body = BodyReader::new(&head);
    assert!(body.read(input));
    assert_eq!(body.into_body(), b"Forbidden");
}
