//! Challenges and what answers them: `http_auth_challenges.json`, `http_digest.json`, `http_basic.json`, and the forms of
//! challenges in `http_auth_exchanges.json`.

use std::collections::BTreeSet;

use serde_json::Value;
use urlsession::AuthenticationMethod;
use urlsession::internals::HeadParser;
use urlsession::internals::authentication::{Challenge, Content, Digest, Offer, basic, challenges, offers};

use super::{cases, equal, hex, id, latin1, run_all, text};

/// The values of `WWW-Authenticate` as they come out of a head with these lines.
fn values(lines: &[Vec<u8>]) -> Result<Vec<String>, String> {
    let mut head = b"HTTP/1.1 401 No\r\n".to_vec();
    for line in lines {
        head.extend([b"WWW-Authenticate: ", line.as_slice(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    let head = HeadParser::default().parse(&mut head.as_slice()).map_err(|error| error.to_string())?;
    Ok(head.expect("a whole head").values("www-authenticate").map(str::to_owned).collect())
}

/// The same of a case: code points are bytes, and `_hex` has them where that would not be clear.
fn values_of(case: &Value) -> Result<Vec<String>, String> {
    let lines = |key: &str, read: fn(&str) -> Vec<u8>| {
        let lines = case[key].as_array()?;
        Some(lines.iter().map(|line| read(line.as_str().unwrap())).collect::<Vec<_>>())
    };
    let lines = lines("www_authenticate_hex", hex).or_else(|| lines("www_authenticate", latin1));
    values(&lines.expect("lines"))
}

fn offers_of(case: &Value) -> Result<Vec<Offer>, String> {
    Ok(offers(values_of(case)?.iter().map(String::as_str)))
}

fn method(scheme: &str) -> AuthenticationMethod {
    match scheme {
        "Basic" => AuthenticationMethod::HttpBasic,
        "Digest" => AuthenticationMethod::HttpDigest,
        "NTLM" => AuthenticationMethod::Ntlm,
        "Negotiate" => AuthenticationMethod::Negotiate,
        other => panic!("{other}"),
    }
}

/// `scheme[token68]` or `scheme(name=value;…)`, schemes and names in lower case.
fn shown(challenge: &Challenge<'_>, sorted: bool) -> String {
    let scheme = challenge.scheme.to_ascii_lowercase();
    match &challenge.content {
        Content::Token68(token68) => format!("{scheme}[{token68}]"),
        Content::Parameters(list) => {
            let list = list.iter().map(|one| format!("{}={}", one.name.to_ascii_lowercase(), one.value));
            of_parameters(&scheme, list.collect(), sorted)
        }
    }
}

fn of_parameters(scheme: &str, mut list: Vec<String>, sorted: bool) -> String {
    if sorted {
        list.sort();
    }
    format!("{scheme}({})", list.join(";"))
}

/// The same of an element of `parsed`.
fn expected(challenge: &Value, sorted: bool) -> String {
    let scheme = challenge[0].as_str().unwrap().to_ascii_lowercase();
    match &challenge[1] {
        Value::String(token68) => format!("{scheme}[{token68}]"),
        list => {
            let one = |one: &Value| {
                format!("{}={}", one[0].as_str().unwrap().to_ascii_lowercase(), one[1].as_str().unwrap_or("(none)"))
            };
            of_parameters(&scheme, list.as_array().unwrap().iter().map(one).collect(), sorted)
        }
    }
}

const FOLDED: &str = "a folded line is refused with the whole head: RFC 9112 §5.2";
const NO_END: &str = "quotes without an end are malformed: RFC 9110 §5.6.4; other sources have it so, too";
const TOKEN68: &str = "a name with `=` behind a scheme is a token68: RFC 9110 §11.2; other sources have it so, too";
const PADS: &str = "a token68 may end with any number of `=`: RFC 9110 §11.2";
const SCHEME: &str = "behind a comma, what has no `=` is the next scheme: RFC 9110 §11.6.1";
const EMPTY_ELEMENT: &str = "empty elements of a list are passed over: RFC 9110 §5.6.1.2";
const TWICE: &str = "no parameter may be there twice: RFC 9110 §11.2; other sources have it so, too";
const REALM: &str = "a realm is required: RFC 7617 §2, RFC 7616 §3.3";
const AUTH_INT: &str = "where only auth-int will do, the answer of RFC 2069 would be refused";

const CHALLENGE_DIFFERENCES: [(&str, &str); 14] = [
    ("greenbytes/simplebasiclf", FOLDED),
    ("chromium/MismatchedQuotes", NO_END),
    ("chromium/MismatchedQuotesNoValue", NO_END),
    ("chromium/MismatchedQuotesSpaces", NO_END),
    ("chromium/MismatchedQuotesMultiple", NO_END),
    ("chromium/NoValue", TOKEN68),
    ("chromium/Base64", PADS),
    ("apache/testParseMultipleAuthChallengeWithParams", SCHEME),
    ("apache/testParseValidAuthChallenge2", SCHEME),
    ("apache/testParseMalformedAuthChallenge1", EMPTY_ELEMENT),
    ("chromium/basic-InitFromChallenge-0", REALM),
    ("chromium/digest-ParseChallenge-2", REALM),
    ("chromium/basic-InitFromChallenge-6", TWICE),
    ("chromium/digest-ParseChallenge-15", AUTH_INT),
];

#[test]
fn the_challenges() {
    let Some(cases) = cases("http_auth_challenges.json", "cases", 130) else { return };
    assert_eq!(cases.iter().filter(|case| case.get("parsed").is_some()).count(), 95);
    run_all(&cases, &CHALLENGE_DIFFERENCES, |case| {
        if case.get("parsed").is_some() {
            parsed(case)
        } else if case.get("as_scheme").is_some() {
            usable(case)
        } else {
            chosen(case)
        }
    });
}

/// What the lines are read as; nothing, or something malformed among it, where the source has nothing.
fn parsed(case: &Value) -> Result<(), String> {
    let values = values_of(case)?;
    let sorted = case["parameter_order"].is_string();
    let list: Vec<_> = challenges(values.iter().map(String::as_str)).collect();
    let found: Vec<_> = list.iter().flatten().map(|challenge| shown(challenge, sorted)).collect();
    match &case["parsed"] {
        Value::Null if list.is_empty() || list.iter().any(Result::is_err) => Ok(()),
        Value::Null => Err(format!("nothing malformed in {found:?}")),
        list => {
            let list: Vec<_> = list.as_array().unwrap().iter().map(|one| expected(one, sorted)).collect();
            equal("the challenges", found, list)?;
            // What Firefox shows has been read as Latin-1.
            let prompt = case["firefox_prompt_realm"].as_str().filter(|_| case.get("www_authenticate_hex").is_none());
            let Some(prompt) = prompt else { return Ok(()) };
            let offers = offers(values.iter().map(String::as_str));
            let first = offers.first().and_then(|offer| offer.realm.as_deref()).unwrap_or_default();
            equal("the realm", first, prompt)
        }
    }
}

/// Whether the scheme is offered, and what the source says of it.
fn usable(case: &Value) -> Result<(), String> {
    let offers = offers_of(case)?;
    let offer = offers.iter().find(|offer| offer.method == method(text(case, "as_scheme")));
    equal("usable", offer.is_some(), case["usable"].as_bool().unwrap())?;
    let Some(offer) = offer else { return Ok(()) };
    equal("the realm", offer.realm.as_deref(), case["realm"].as_str())?;
    let Some(digest) = offer.digest() else { return Ok(()) };
    equal("stale", offer.is_stale(), case["stale"].as_bool().unwrap())?;
    let field = digest.clone().authorization("me", "secret", "GET", "/", [0; 16])?;
    let algorithm = match text(case, "algorithm") {
        "UNSPECIFIED" => None,
        "MD5" => Some("MD5"),
        "MD5_SESS" => Some("MD5-sess"),
        "SHA256" => Some("SHA-256"),
        "SHA256_SESS" => Some("SHA-256-sess"),
        other => panic!("{other}"),
    };
    let opaque = Some(text(case, "opaque")).filter(|opaque| !opaque.is_empty());
    let qop = (text(case, "qop") == "QOP_AUTH").then_some("auth");
    equal("nonce", parameter(&field, "nonce").as_deref(), case["nonce"].as_str())?;
    equal("algorithm", parameter(&field, "algorithm").as_deref(), algorithm)?;
    equal("opaque", parameter(&field, "opaque").as_deref(), opaque)?;
    equal("qop", parameter(&field, "qop").as_deref(), qop)
}

fn chosen(case: &Value) -> Result<(), String> {
    let offers = offers_of(case)?;
    let first = offers.first();
    equal("the method", first.map(|offer| offer.method), case["chosen_scheme"].as_str().map(method))?;
    equal("the realm", first.and_then(|offer| offer.realm.as_deref()).unwrap_or_default(), text(case, "chosen_realm"))
}

/// The parameters of a field as they are written, quotes included. No vector has a comma with a space in a value.
fn written(field: &str) -> Result<BTreeSet<&str>, String> {
    let list = field.strip_prefix("Digest ").ok_or("another scheme")?;
    Ok(list.split(", ").collect())
}

/// The value of a parameter of a field, without quotes.
fn parameter(field: &str, name: &str) -> Option<String> {
    let list = field.strip_prefix("Digest ")?;
    let value = list.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// What answers the first offer.
fn digest(challenge: &str) -> Result<Digest, String> {
    let values = values(&[challenge.as_bytes().to_vec()])?;
    let offers = offers(values.iter().map(String::as_str));
    offers.first().and_then(Offer::digest).cloned().ok_or_else(|| "no Digest is offered".to_owned())
}

const DIGEST_DIFFERENCES: [(&str, &str); 0] = [];

#[test]
fn answers_of_digest() {
    let Some(cases) = cases("http_digest.json", "cases", 26) else { return };
    run_all(&cases, &DIGEST_DIFFERENCES, |case| {
        let mut digest = digest(text(case, "challenge"))?;
        let field = digest.authorization_with(
            text(case, "username"),
            text(case, "password"),
            text(case, "method"),
            text(case, "uri"),
            case["cnonce"].as_str().unwrap_or("not to be sent"),
            case["nc"].as_str().map_or(1, |count| u32::from_str_radix(count, 16).unwrap()),
        );
        equal("response", parameter(&field, "response").as_deref(), case["expected_response"].as_str())?;
        for name in ["realm", "nonce", "algorithm", "qop", "nc", "cnonce"] {
            equal(name, parameter(&field, name).as_deref(), case[name].as_str())?;
        }
        let Some(expected) = case["expected_authorization"].as_str() else { return Ok(()) };
        equal("the field", written(&field)?, written(expected)?)
    });
}

const INTEGRITY: &str = "auth-int is not answered: there is no body";
const HASHED_USER: &str = "the source hashes the user first; RFC 7616 §3.4.4 hashes it for the field only";

const BEHAVIOUR_DIFFERENCES: [(&str, &str); 3] = [
    ("apache-auth-int-body", INTEGRITY),
    ("apache-username-star", INTEGRITY),
    ("apache-userhash (do not use)", HASHED_USER),
];

#[test]
fn behaviour_of_digest() {
    let Some(cases) = cases("http_digest.json", "cases_behaviour", 20) else { return };
    run_all(&cases, &BEHAVIOUR_DIFFERENCES, behaviour);
}

fn behaviour(case: &Value) -> Result<(), String> {
    if case.get("first").is_some() {
        return after_another(case);
    }
    let answer = |digest: &mut Digest, random: u8| digest.authorization("me", "secret", "GET", "/", [random; 16]);
    let count = |field: &str| parameter(field, "nc");
    let challenge = case["challenge"].as_str().unwrap_or_default();
    match id(case) {
        "apache-nonce-count" => {
            let challenge = |nonce: &str| format!("Digest realm=\"realm1\", nonce=\"{nonce}\", qop=auth");
            let mut first = digest(&challenge("f2a3f18799759d4f1a1c068b92b573cb"))?;
            equal("the first", count(&answer(&mut first, 1)?).as_deref(), Some("00000001"))?;
            equal("the second", count(&answer(&mut first, 2)?).as_deref(), Some("00000002"))?;
            let mut same = digest(&challenge("f2a3f18799759d4f1a1c068b92b573cb"))?;
            same.go_on(&first);
            equal("challenged again", count(&answer(&mut same, 3)?).as_deref(), Some("00000003"))?;
            let mut new = digest(&challenge("e273f1776275974f1a120d8b92c5b3cb"))?;
            new.go_on(&same);
            equal("with a new nonce", count(&answer(&mut new, 4)?).as_deref(), Some("00000001"))
        }
        "apache-md5-sess-consistency" => {
            let challenge = case["challenges"][0].as_str().unwrap();
            let mut digest = digest(challenge)?;
            for (random, expected) in [(1, "00000001"), (2, "00000002"), (3, "00000003")] {
                let field = answer(&mut digest, random)?;
                equal("nc", count(&field).as_deref(), Some(expected))?;
                equal("cnonce", parameter(&field, "cnonce").as_deref(), Some(&*"01".repeat(16)))?;
            }
            Ok(())
        }
        "apache-unknown-algorithm"
        | "apache-algorithm-SHA"
        | "apache-unknown-qop"
        | "apache-no-realm"
        | "apache-no-nonce"
        | "apache-empty" => equal("offered", digest(challenge).is_ok(), false),
        "apache-no-algorithm-echo" => {
            equal("algorithm", parameter(&answer(&mut digest(challenge)?, 1)?, "algorithm"), None)
        }
        "apache-algorithm-echo" => {
            let field = answer(&mut digest(challenge)?, 1)?;
            equal("algorithm", written(&field)?.contains("algorithm=MD5"), true)
        }
        "apache-qop-auth-preferred" => {
            let field = answer(&mut digest(challenge)?, 1)?;
            let written = written(&field)?;
            for part in ["qop=auth", "nc=00000001", "opaque=\"SomeString\""] {
                equal(part, written.contains(part), true)?;
            }
            Ok(())
        }
        "apache-auth-int-body" => digest(challenge).map(|_| ()),
        "apache-param-case" => {
            let field = answer(&mut digest("Digest Realm=\"-\", nONCE=a, Qop=auth, ALGORITHM=MD5, opaquE=b")?, 1)?;
            for (name, value) in
                [("realm", "-"), ("nonce", "a"), ("qop", "auth"), ("algorithm", "MD5"), ("opaque", "b")]
            {
                equal(name, parameter(&field, name).as_deref(), Some(value))?;
            }
            Ok(())
        }
        "apache-username-star" => {
            let field = digest(challenge)?.authorization("é", "secret", "GET", "/", [1; 16])?;
            equal("username*", field.contains("username*="), true)
        }
        "apache-userhash (do not use)" => {
            let (user, password) = (text(case, "username"), text(case, "password"));
            let field = digest(challenge)?.authorization(user, password, "Simple", "/", [1; 16])?;
            let response = parameter(&field, "response");
            // What the note of the case says that it is.
            assert_eq!(response.as_deref(), Some("e95a7ddf37c2eab009568b1ed134f89a"));
            equal("response", response.as_deref(), Some("3b6561ceb73e5ffe9314a695179f23f9"))
        }
        "apache-nextnonce" => {
            let mut digest = digest(challenge)?;
            answer(&mut digest, 1)?;
            digest.update(text(case, "authentication_info"));
            let field = answer(&mut digest, 2)?;
            equal("nonce", parameter(&field, "nonce").as_deref(), Some("sampleNextNonce"))
        }
        other => Err(format!("{other} is not known")),
    }
}

/// What a challenge says to credentials that were sent in answer to another one.
fn after_another(case: &Value) -> Result<(), String> {
    let offer = |key: &str| {
        let values = values(&[text(case, key).as_bytes().to_vec()])?;
        let mut offers = offers(values.iter().map(String::as_str));
        if offers.is_empty() { Err(format!("{key}: nothing is offered")) } else { Ok(offers.remove(0)) }
    };
    let (first, second) = (offer("first")?, offer("second")?);
    let verdict = match (first.method, &first.realm) == (second.method, &second.realm) {
        false => "different realm",
        true if second.is_stale() => "stale",
        true => "reject",
    };
    let expected = text(case, "expected");
    equal("the verdict", verdict, expected.split(" (").next().unwrap_or_default())
}

#[test]
fn answers_of_basic() {
    let Some(cases) = cases("http_basic.json", "cases", 7) else { return };
    run_all(&cases, &[], |case| {
        let field = basic(text(case, "username"), text(case, "password"))?;
        equal("the field", &*field, text(case, "expected_authorization"))
    });
}

const BASIC_DIFFERENCES: [(&str, &str); 2] = [("http_basic-behaviour-003", TWICE), ("http_basic-behaviour-004", TWICE)];

#[test]
fn behaviour_of_basic() {
    let Some(cases) = cases("http_basic.json", "cases_behaviour", 4) else { return };
    run_all(&cases, &BASIC_DIFFERENCES, after_another);
}

const SINGLE_QUOTES: &str = "single quotes are part of a token: RFC 9110 §5.6.2; other sources have it so, too";

const FORM_DIFFERENCES: [(&str, &str); 1] = [("cpython-basic-02", SINGLE_QUOTES)];

/// Only Basic is looked at, as in the source.
#[test]
fn forms_of_challenges() {
    let Some(cases) = cases("http_auth_exchanges.json", "cases_challenge_forms", 12) else { return };
    run_all(&cases, &FORM_DIFFERENCES, |case| {
        let offers = offers_of(case)?;
        let mut of_basic = offers.iter().filter(|offer| offer.method == AuthenticationMethod::HttpBasic);
        let expected = text(case, "expect").strip_prefix("the Basic challenge is found, realm ").unwrap();
        let (realm, field) = expected.split_once("; retry carries Authorization: ").unwrap();
        equal("the realm", of_basic.next().and_then(|offer| offer.realm.as_deref()), Some(realm))?;
        equal("others", of_basic.count(), 0)?;
        let credentials = &case["credentials"];
        equal("the field", &*basic(text(credentials, "user"), text(credentials, "password"))?, field)
    });
}
