//! Cookies: `cookies_http_state.json`, `cookie_dates.json`, `cookies_wpt.json`, `cookies_websocket.json`,
//! `cookies_go_cookiejar.json`, `public_suffix.json`.
//!
//! Where RFC 6265bis, browsers and Apple differ, RFC 6265bis counts. The 14 behaviours in `cookies_websocket.json` are
//! in words, and are among the tests of `tests/cookies.rs`.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use urlsession::internals::{Jar, cookie_date, registrable};
use urlsession::{HttpCookie, HttpCookieStorage, Url};

use super::{cases, equal, hex, run_all, text};

/// A date in seconds since 1970.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn url(case: &Value, key: &str) -> Url {
    Url::parse(text(case, key)).unwrap()
}

/// The values of the fields, read as the head of a response is.
fn set_cookies(case: &Value) -> Vec<String> {
    if let Some(lines) = case["set_cookie_hex"].as_array() {
        let lines = lines.iter().map(|line| hex(line.as_str().unwrap()));
        return lines.map(|bytes| String::from_utf8(bytes.clone()).unwrap_or_else(|_| latin1(&bytes))).collect();
    }
    strings(&case["set_cookie"])
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What a storage sends after an answer with these fields, all by the public interface.
fn sent_after(set_cookies: &[String], set_url: &Url, query_url: &Url) -> String {
    let storage = HttpCookieStorage::new();
    let fields: Vec<(&str, &str)> = set_cookies.iter().map(|line| ("set-cookie", line.as_str())).collect();
    let cookies = HttpCookie::cookies_with_response_header_fields(&fields, set_url);
    storage.set_cookies(cookies, set_url, None);
    HttpCookie::request_header_fields_with(&storage.cookies_for(query_url)).unwrap_or_default()
}

const NAMELESS: &str =
    "RFC 6265bis §5.6, step 3: what has no `=` is the value of a cookie without a name; RFC 6265 dropped it";
const CONTROL: &str = "RFC 6265bis §5.6, step 1: a control character makes all of it void, and does not cut it off";
const ENCODED: &str = "paths compare as they are written; the source has switched it off";
const SECURE: &str = "RFC 6265bis §5.7: an address without TLS may not set a Secure cookie";
const ADDRESS: &str = "RFC 6265bis §5.6.3 cuts the dot off, and what is left is the address itself";
const DOT: &str =
    "RFC 6265bis §5.6.3 cuts the dot off, and what is left is no domain: the cookie is for the host alone";

const HTTP_STATE_DIFFERENCES: [(&str, &str); 26] = [
    ("0004", NAMELESS),
    ("0021", NAMELESS),
    ("0023", NAMELESS),
    ("0024", NAMELESS),
    ("0025", NAMELESS),
    ("0026", NAMELESS),
    ("0027", NAMELESS),
    ("0028", NAMELESS),
    ("chromium0009", NAMELESS),
    ("chromium0010", NAMELESS),
    ("chromium0012", NAMELESS),
    ("mozilla0012", NAMELESS),
    ("mozilla0014", NAMELESS),
    ("mozilla0015", NAMELESS),
    ("mozilla0016", NAMELESS),
    ("mozilla0017", NAMELESS),
    ("name0017", NAMELESS),
    ("name0023", NAMELESS),
    ("name0025", NAMELESS),
    ("name0028", NAMELESS),
    ("name0031", NAMELESS),
    ("name0032", NAMELESS),
    ("name0033", NAMELESS),
    ("disabled-chromium0022", CONTROL),
    ("disabled-chromium0023", CONTROL),
    ("disabled-path0029", ENCODED),
];

#[test]
fn http_state() {
    let Some(cases) = cases("cookies_http_state.json", "cases", 222) else { return };
    // 2011-01-01.
    let now = at(1_293_840_000);
    run_all(&cases, &HTTP_STATE_DIFFERENCES, |case| {
        let mut jar = Jar::default();
        for set_cookie in set_cookies(case) {
            jar.receive(&set_cookie, &url(case, "set_url"), now);
        }
        let sent = jar.field_for(&url(case, "query_url"), now).unwrap_or_default();
        equal("sent", sent.as_str(), text(case, "expected_cookie_header"))
    });
}

#[test]
fn dates() {
    let Some(cases) = cases("cookie_dates.json", "cases", 70) else { return };
    assert_eq!(cases.iter().filter(|case| case["expected"].is_null()).count(), 9);
    run_all(&cases, &[], |case| {
        // The expected ones have one form of all.
        let expected = case["expected"].as_str().map(|date| cookie_date(date).expect("an IMF-fixdate"));
        equal("the date", cookie_date(text(case, "input")), expected)
    });
}

const WPT_DIFFERENCES: [(&str, &str); 2] = [("attributes/attributes-ctl#127", SECURE), ("value/value#13", CONTROL)];

#[test]
fn web_platform_tests() {
    let Some(cases) = cases("cookies_wpt.json", "cases", 920) else { return };
    run_all(&cases, &WPT_DIFFERENCES, |case| {
        let sent = sent_after(&set_cookies(case), &url(case, "set_url"), &url(case, "query_url"));
        if case["also_accept"].as_str().is_some_and(|other| other.ends_with("no cookie stored")) && sent.is_empty() {
            return Ok(());
        }
        let expected = text(case, "expected_cookie_header");
        // Where the bytes are given, the text is one of bytes, too.
        match case["set_cookie_hex"].is_array() {
            true => equal("sent", sent.as_bytes(), &super::latin1(expected)),
            false => equal("sent", sent.as_str(), expected),
        }
    });
}

#[test]
fn websockets_send() {
    let Some(cases) = cases("cookies_websocket.json", "cases_use", 32) else { return };
    run_all(&cases, &[], |case| {
        let line = text(case, "stored_set_cookie").to_owned();
        let sent = sent_after(&[line], &url(case, "stored_from_url"), &url(case, "websocket_url"));
        equal("sent", sent.as_str(), case["expect_cookie_header"].as_str().unwrap_or_default())
    });
}

#[test]
fn websockets_set() {
    let Some(cases) = cases("cookies_websocket.json", "cases_set", 24) else { return };
    run_all(&cases, &[], |case| {
        let lines = strings(&case["set_cookie_on_101"]);
        let sent = sent_after(&lines, &url(case, "websocket_url"), &url(case, "then_query_url"));
        equal("sent", sent.as_str(), text(case, "expect_cookies_for_query"))
    });
}

const GO_DIFFERENCES: [(&str, &str); 7] = [
    ("basicsTests#1", SECURE),
    ("basicsTests#11", ADDRESS),
    ("chromiumBasicsTests#3", DOT),
    ("chromiumBasicsTests#9", ADDRESS),
    ("updateAndDeleteTests#0", SECURE),
    ("updateAndDeleteTests#1", SECURE),
    ("updateAndDeleteTests#2", SECURE),
];

#[test]
fn go_cookiejar() {
    let Some(cases) = cases("cookies_go_cookiejar.json", "cases", 71) else { return };
    // 2013-01-01T12:00:00Z, and the clock goes on by this much from one look to the next.
    let (start, step) = (at(1_357_041_600), Duration::from_millis(1001));
    let run = |jar: &mut Jar, case: &Value| {
        for set_cookie in strings(&case["set_cookie"]) {
            jar.receive(&set_cookie, &url(case, "from_url"), start);
        }
        let shown = |cookie: &HttpCookie| format!("{}={}", cookie.name(), cookie.value());
        let mut all: Vec<String> = jar.cookies(start + step).iter().map(shown).collect();
        all.sort();
        equal("kept", all, strings(&case["jar_content_sorted"]))?;
        for (number, query) in (2..).zip(case["queries"].as_array().unwrap()) {
            let sent: Vec<String> =
                jar.cookies_for(&url(query, "url"), start + step * number).iter().map(shown).collect();
            equal(text(query, "url"), sent, strings(&query["expected"]))?;
        }
        Ok(())
    };
    let jar = std::cell::RefCell::new(Jar::default());
    run_all(&cases, &GO_DIFFERENCES, |case| {
        if case["shared_jar_with_previous_in_group"] != true {
            jar.replace(Jar::default());
        }
        run(&mut jar.borrow_mut(), case)
    });
}

#[test]
fn public_suffixes() {
    let Some(cases) = cases("public_suffix.json", "cases", 78) else { return };
    run_all(&cases, &[], |case| {
        // As hosts are written in addresses.
        let canonical = |host: &Value| {
            let host = host.as_str()?;
            Some(Url::parse(&format!("ws://{host}/")).ok()?.host_str()?.to_owned())
        };
        let host = canonical(&case["host"]).filter(|host| !host.starts_with('.'));
        let found = host.as_deref().and_then(registrable);
        equal("what was registered", found, canonical(&case["registrable_domain"]).as_deref())
    });
}
