//! Servers that are and are not what they seem, over loopback: `tls_badssl.json`.
//!
//! The source says who may connect, and no codes: those are this crate's. A server that speaks only what the client does not is
//! its first answer, in bytes.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA384, PKCS_RSA_SHA512};
use rustls::ServerConfig;
use urlsession::Url;

use super::support::authority::{Clients, asking, forging, rsa_key, self_signed};
use super::support::tls::{Authority, BOTH, Identity, ONLY_12, TRUSTED, TlsPeer, server_with};
use super::support::{Server, recorded_session_with};
use super::{cases, equal, id, run_all};

/// What is at the other end.
enum Other {
    Tls(Arc<ServerConfig>),
    /// With a root of its own that is trusted.
    Rooted(Arc<ServerConfig>, Box<Authority>),
    /// It answers the client's first message with this.
    Bytes(Vec<u8>),
}

const FAILED: i32 = -1200;
const BAD_DATE: i32 = -1201;
const UNTRUSTED: i32 = -1202;
const UNKNOWN_ROOT: i32 = -1203;
const WANTS_CLIENT: i32 = -1206;

const NO_SHA1: &str = "nothing here signs with SHA-1";
const NO_RULE: &str = "it is about what browsers do with plain HTTP";

/// Those that are not played.
const ELSEWHERE: [(&str, &str); 13] = [
    ("badssl/captive-portal", "it is about what browsers show"),
    ("badssl/rsa8192", "the server's side has no such key"),
    ("badssl/sha1", NO_SHA1),
    ("badssl/sha1-2016", NO_SHA1),
    ("badssl/sha1-2017", NO_SHA1),
    ("badssl/sha1-intermediate", NO_SHA1),
    ("badssl/xn--n1aae7f7o", "its name would have to be looked up"),
    ("badssl/ssl-v2", "no server here is like it"),
    ("badssl/hsts", NO_RULE),
    ("badssl/https-everywhere", NO_RULE),
    ("badssl/preloaded-hsts", NO_RULE),
    ("badssl/subdomain.preloaded-hsts", NO_RULE),
    ("badssl/upgrade", NO_RULE),
];

const NAMES: [&str; 1] = ["localhost"];

fn shows(identity: Identity) -> Other {
    Other::Tls(server_with(BOTH, identity))
}

/// A good certificate, but for the subject.
fn with_subject(organization: Option<&str>) -> Other {
    shows(TRUSTED.sign(&NAMES, |params| {
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
    }))
}

fn with_key(key: &KeyPair) -> Other {
    shows(TRUSTED.sign_key(key, &NAMES, |_| ()))
}

/// So many names, the server's among them.
fn with_names(count: usize) -> Other {
    let others: Vec<String> = (1..count).map(|number| format!("{number}.san.test")).collect();
    let names: Vec<&str> = others.iter().map(String::as_str).chain(NAMES).collect();
    let (chain, key) = TRUSTED.sign(&names, |_| ());
    Other::Tls(forging(BOTH, chain, key))
}

/// The signature on the certificate is of this kind.
fn signed_with(algorithm: &'static rcgen::SignatureAlgorithm) -> Other {
    let key = KeyPair::from_pem_and_sign_algo(&rsa_key(2048), algorithm).unwrap();
    let root = Authority::with_key("another root of these tests", key);
    Other::Rooted(server_with(BOTH, root.sign(&NAMES, |_| ())), Box::new(root))
}

/// The certificate of who signed stands where the server's is to stand.
fn reversed() -> Other {
    let between = TRUSTED.intermediate("in between");
    let (leaf, _) = between.sign(&NAMES, |_| ());
    let key = between.issuer.key().serialize_der().try_into().unwrap();
    Other::Tls(forging(BOTH, [vec![between.certificate], leaf].concat(), key))
}

/// A server that wants a certificate of clients that this authority has signed.
fn wants(authority: &Authority) -> Other {
    Other::Tls(asking(BOTH, TRUSTED.sign(&NAMES, |_| ()), &Clients::required(&[authority])))
}

/// The ServerHello of an older version, which has been chosen without asking.
fn chooses(minor: u8) -> Other {
    let mut hello = vec![0x16, 3, minor, 0, 42, 2, 0, 0, 38, 3, minor];
    hello.extend([7; 32]);
    // No session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression.
    hello.extend([0, 0xc0, 0x13, 0]);
    Other::Bytes(hello)
}

/// A server that has no cipher suite in common with the client: handshake_failure, RFC 5246 §7.2.2.
fn finds_no_suite() -> Other {
    Other::Bytes(vec![0x15, 3, 3, 0, 2, 2, 40])
}

/// The other end of a case, and Apple's code where the task fails.
fn scene(id: &str) -> Option<(Other, Option<i32>)> {
    let scene = match id.strip_prefix("badssl/").unwrap() {
        "1000-sans" => (with_names(1000), None),
        "10000-sans" => (with_names(10_000), Some(FAILED)),
        "ecc384" => (with_key(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()), None),
        "rsa2048" => (with_key(&KeyPair::from_pem(&rsa_key(2048)).unwrap()), None),
        "rsa4096" => (with_key(&KeyPair::from_pem(&rsa_key(4096)).unwrap()), None),
        "sha384" => (signed_with(&PKCS_RSA_SHA384), None),
        "sha512" => (signed_with(&PKCS_RSA_SHA512), None),
        "no-common-name" => (with_subject(Some("these tests")), None),
        "no-subject" => (with_subject(None), None),
        // Certificates with nothing wrong, of which no list of revoked, pinned or logged ones is asked.
        "badssl.com"
        | "ecc256"
        | "extended-validation"
        | "invalid-expected-sct"
        | "mozilla-intermediate"
        | "mozilla-modern"
        | "mozilla-old"
        | "no-sct"
        | "pinning-test"
        | "preloaded-expect-ct"
        | "revoked"
        | "sha256"
        | "spoof"
        | "www" => (shows(TRUSTED.sign(&NAMES, |_| ())), None),
        "tls-v1-2" => (Other::Tls(server_with(ONLY_12, TRUSTED.sign(&NAMES, |_| ()))), None),
        "expired" => (shows(TRUSTED.expired(&NAMES)), Some(BAD_DATE)),
        "wrong.host" => (shows(TRUSTED.sign(&["elsewhere.test"], |_| ())), Some(UNTRUSTED)),
        "reversed-chain" => (reversed(), Some(UNTRUSTED)),
        "self-signed" => (shows(self_signed()), Some(UNKNOWN_ROOT)),
        "incomplete-chain" => (shows(TRUSTED.without_intermediate(&NAMES)), Some(UNKNOWN_ROOT)),
        // Their roots came with software that put them among the system's.
        "untrusted-root"
        | "blocked-interception"
        | "known-interception"
        | "dsdtestprovider"
        | "edellroot"
        | "mitm-software"
        | "preact-cli"
        | "superfish"
        | "webpack-dev-server" => (shows(Authority::new("nobody's root").sign(&NAMES, |_| ())), Some(UNKNOWN_ROOT)),
        "client" => (wants(&TRUSTED), Some(WANTS_CLIENT)),
        "client-cert-missing" => (wants(&Authority::new("clients")), Some(WANTS_CLIENT)),
        "ssl-v3" => (chooses(0), Some(FAILED)),
        "tls-v1-0" => (chooses(1), Some(FAILED)),
        "tls-v1-1" => (chooses(2), Some(FAILED)),
        "3des" | "cbc" | "null" | "rc4" | "rc4-md5" | "dh-composite" | "dh-small-subgroup" | "dh480" | "dh512"
        | "dh1024" | "dh2048" | "static-rsa" => (finds_no_suite(), Some(FAILED)),
        _ => return None,
    };
    Some(scene)
}

/// What the delegate is told first of a task with this server.
fn played(other: Other, opens: bool) -> String {
    let configuration = match &other {
        Other::Rooted(_, root) => root.configuration(),
        _ => TRUSTED.configuration(),
    };
    let server = Server::one(move |mut peer| match other {
        Other::Tls(config) | Other::Rooted(config, _) => {
            let mut peer = TlsPeer::new(peer, &config);
            if opens {
                peer.open();
                peer.echo();
            } else if peer.handshake().is_ok() {
                let mut rest = Vec::new();
                let _ = peer.read_to_end(&mut rest);
                assert!(rest.is_empty(), "HTTP to a server that is not trusted");
            }
        }
        Other::Bytes(bytes) => {
            let mut head = [0; 5];
            peer.stream.read_exact(&mut head).unwrap();
            let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
            peer.stream.read_exact(&mut hello).unwrap();
            peer.stream.write_all(&bytes).unwrap();
            peer.read_to_end();
        }
    });
    let (session, _, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(Url::parse(&format!("wss://localhost:{}/", server.address().port())).unwrap());
    task.resume();
    let mut first = events.next();
    if first == "metrics" {
        first = events.next();
    }
    task.cancel();
    server.join();
    first
}

#[test]
fn servers_good_and_bad() {
    let Some(cases) = cases("tls_badssl.json", "cases", 68) else { return };
    let differences = [
        ("badssl/10000-sans", "rustls takes no message of a handshake that is longer than 64 KiB"),
        ("badssl/incomplete-chain", "a certificate that a server does not show is fetched from nowhere"),
    ];
    let differences = [&differences[..], &ELSEWHERE[..]].concat();
    run_all(&cases, &differences, |case| {
        let (other, code) = scene(id(case)).ok_or("it is not played")?;
        let expected = code.map_or_else(|| "open None".to_owned(), |code| format!("complete {code}"));
        // Whatever the source says.
        assert_eq!(played(other, code.is_none()), expected, "{}", id(case));
        match case["connect_is_acceptable"].as_str() {
            Some("should connect") => equal("connected", code.is_none(), true),
            Some("must fail") => equal("connected", code.is_none(), false),
            Some("either") | None => Ok(()),
            Some(other) => Err(other.to_owned()),
        }
    });
}
