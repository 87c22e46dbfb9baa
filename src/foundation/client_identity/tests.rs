use std::collections::HashSet;
use std::error::Error as _;

use base64::Engine;
use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A key of 2,048 bits in PKCS#1, made for this test, and a certificate of it.
const RSA: &str = include_str!("rsa.pem");
const RSA_CERTIFICATE: &str = include_str!("rsa_certificate.pem");

/// A certificate of version 1 and its key, as `openssl x509 -req` makes them where nothing else is said.
const VERSION_1: &str = include_str!("version_1.pem");

fn generated() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["client.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A key in SEC1: what PKCS#8 has in its last string of octets.
fn sec1(key: &KeyPair) -> String {
    let pkcs8 = key.serialize_der();
    let (_, inner) = pkcs8.split_at(pkcs8.windows(3).rposition(|window| window == [0x30, 0x6b, 0x02]).unwrap());
    let text = base64::engine::general_purpose::STANDARD.encode(inner);
    format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
}

#[test]
fn kinds_of_keys() {
    let (certificate, key) = generated();
    let of_other = KeyPair::generate().unwrap();
    let other = CertificateParams::new(Vec::new()).unwrap().self_signed(&of_other).unwrap().pem();
    let both = format!("words\n{key}\n{certificate}");
    let table = [
        (certificate.clone(), key.clone(), 1),
        (format!("{certificate}\n{other}"), key.replace('\n', "\r\n"), 2),
        (both.clone(), both, 1),
        (RSA_CERTIFICATE.to_owned(), RSA.to_owned(), 1),
        (other, sec1(&of_other), 1),
        (VERSION_1.to_owned(), VERSION_1.to_owned(), 1),
    ];
    for (chain, key, count) in table {
        let identity = ClientIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(identity.certified_key().cert.len(), count);
        assert_eq!(format!("{identity:?}"), format!("ClientIdentity {{ certificates: {count}, .. }}"));
    }
}

#[test]
fn says_what_is_wrong() {
    let (certificate, key) = generated();
    let (other, _) = generated();
    let label = |pem: &str, name: &str| {
        pem.replace("BEGIN PRIVATE", &format!("BEGIN {name}PRIVATE"))
            .replace("END PRIVATE", &format!("END {name}PRIVATE"))
    };
    let old_kind = RSA.replacen("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
    let cut = certificate.split("-----END").next().unwrap().to_owned();
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let nonsense_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
    let table = [
        (String::new(), key.clone(), "no certificate"),
        (key.clone(), key.clone(), "no certificate"),
        (format!("{certificate}{cut}"), key.clone(), "certificate 2 of the PEM text is broken"),
        (certificate.clone(), String::new(), "no private key"),
        (certificate.clone(), certificate.clone(), "no private key"),
        (certificate.clone(), label(&key, "ENCRYPTED "), "is encrypted"),
        (certificate.clone(), old_kind, "is encrypted"),
        (certificate.clone(), key.replacen("MI", "*I", 1), "private key of the PEM text is broken"),
        (certificate.clone(), nonsense_key, "cannot be used"),
        (other, key.clone(), "not that of the first certificate"),
        (certificate, RSA.to_owned(), "not that of the first certificate"),
        (nonsense, key.clone(), "first certificate cannot be read"),
    ];
    for (chain, given, reason) in table {
        let error = ClientIdentity::from_pem(chain.as_bytes(), given.as_bytes()).unwrap_err();
        assert_eq!((error.code(), error.stage()), (ErrorCode::SecureConnectionFailed, ErrorStage::Request), "{error}");
        assert!(error.reason().contains(reason), "{error}: {reason}");
        let secret = key.lines().nth(1).unwrap();
        assert!(!format!("{error:?} {:?}", error.source()).contains(secret));
    }
}

#[test]
fn an_identity_is_an_object() {
    let (certificate, key) = generated();
    let make = || ClientIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let (one, other) = (make(), make());
    assert_eq!(one, one.clone());
    assert_ne!(one, other);
    assert_eq!(HashSet::from([one.clone(), other, one]).len(), 2);
}
