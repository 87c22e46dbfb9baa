use std::error::Error;

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;
use crate::foundation::ErrorStage;
use ErrorCode::*;

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn named(name: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    fn new(name: &str, parent: Option<&Self>) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = match parent {
            Some(parent) => params.signed_by(&key, &parent.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> RootCertificates {
        RootCertificates::from_pem(self.certificate.pem().as_bytes()).unwrap()
    }

    fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = named("leaf", names);
        change(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().to_vec()
    }
}

#[test]
fn verdicts() {
    let root = Authority::new("root", None);
    let other = Authority::new("other", None);
    let middle = Authority::new("middle", Some(&root));
    let fine = |_: &mut CertificateParams| ();
    let old = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    };
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let of_client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let leaf = |names: &[&str]| root.sign(names, fine);
    let good = middle.sign(&["a.example"], fine);
    type Case = (&'static str, Vec<Vec<u8>>, Option<(ErrorCode, &'static str)>);
    let table: Vec<Case> = vec![
        ("a.example", vec![leaf(&["a.example"])], None),
        ("A.Example.", vec![leaf(&["*.example", "a.example"])], None),
        ("127.0.0.1", vec![leaf(&["127.0.0.1"])], None),
        ("::1", vec![leaf(&["::1"])], None),
        ("[::1]", vec![leaf(&["::1"])], None),
        ("a.example", vec![good.clone(), middle.der()], None),
        // What else is shown, and in which order, does not matter.
        ("a.example", vec![good.clone(), other.der(), vec![7], middle.der(), root.der()], None),
        ("a.example", vec![good], Some((ServerCertificateHasUnknownRoot, "none of the root"))),
        ("b.example", vec![leaf(&["a.example"])], Some((ServerCertificateUntrusted, "not for `b.example`"))),
        ("::2", vec![leaf(&["::1"])], Some((ServerCertificateUntrusted, "not for `::2`"))),
        ("a.example", vec![root.sign(&["a.example"], old)], Some((ServerCertificateHasBadDate, " days ago"))),
        ("a.example", vec![root.sign(&["a.example"], future)], Some((ServerCertificateNotYetValid, "from now"))),
        (
            "a.example",
            vec![other.sign(&["a.example"], fine)],
            Some((ServerCertificateHasUnknownRoot, "none of the root")),
        ),
        ("a.example", vec![root.sign(&["a.example"], of_client)], Some((ServerCertificateUntrusted, "not good"))),
        // Of two faults the date comes before the root, and the root before the host.
        ("b.example", vec![other.sign(&["a.example"], old)], Some((ServerCertificateHasBadDate, ""))),
        ("b.example", vec![root.sign(&["a.example"], old)], Some((ServerCertificateHasBadDate, ""))),
        ("b.example", vec![other.sign(&["a.example"], fine)], Some((ServerCertificateHasUnknownRoot, ""))),
        ("a.example", vec![], Some((ServerCertificateUntrusted, "no certificate"))),
        ("a.example", vec![vec![1, 2, 3]], Some((ServerCertificateUntrusted, "not good"))),
        ("a b", vec![leaf(&["a.example"])], Some((ServerCertificateUntrusted, "no certificate can be for"))),
    ];
    for (host, chain, expected) in table {
        let trust = ServerTrust::new(chain.clone(), host, root.roots());
        let own = ServerTrust::new(chain.clone(), host, other.roots());
        assert_eq!(trust.certificate_chain(), chain);
        let Some((code, reason)) = expected else {
            trust.evaluate().unwrap();
            own.evaluate_with_anchors(&root.roots()).unwrap();
            own.evaluate().unwrap_err();
            continue;
        };
        for result in [trust.evaluate(), own.evaluate_with_anchors(&root.roots())] {
            let error = result.unwrap_err();
            assert_eq!((error.code(), error.stage()), (code, ErrorStage::Tls), "{error}");
            assert!(error.reason().contains(reason), "{error}");
        }
    }
}

#[test]
fn a_certificate_as_its_own_anchor() {
    let key = KeyPair::generate().unwrap();
    let roots = |certificate: &Certificate| RootCertificates::from_pem(certificate.pem().as_bytes()).unwrap();
    let certificate = named("own", &["a.example"]).self_signed(&key).unwrap();
    let trust = |certificate: &Certificate, host| {
        ServerTrust::new(vec![certificate.der().to_vec()], host, RootCertificates::webpki())
    };
    let own = trust(&certificate, "a.example");
    assert_eq!(own.evaluate().unwrap_err().code(), ServerCertificateHasUnknownRoot);
    own.evaluate_with_anchors(&roots(&certificate)).unwrap();
    let error = trust(&certificate, "b.example").evaluate_with_anchors(&roots(&certificate)).unwrap_err();
    assert_eq!(error.code(), ServerCertificateUntrusted);
    let mut params = named("own", &["a.example"]);
    params.not_after = date_time_ymd(2002, 1, 1);
    params.not_before = date_time_ymd(2001, 1, 1);
    let old = params.self_signed(&key).unwrap();
    let error = trust(&old, "a.example").evaluate_with_anchors(&roots(&old)).unwrap_err();
    assert_eq!(error.code(), ServerCertificateHasBadDate);
    // Another one of the same name and another key.
    let impostor = named("own", &["a.example"]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let error = trust(&impostor, "a.example").evaluate_with_anchors(&roots(&certificate)).unwrap_err();
    assert_eq!(error.code(), ServerCertificateUntrusted);
    // One that is marked as an authority is none for a server.
    let mut params = named("own", &["a.example"]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let error = trust(&authority, "a.example").evaluate_with_anchors(&roots(&authority)).unwrap_err();
    assert_eq!(error.code(), ServerCertificateUntrusted);
    assert!(error.source().is_some() && error.reason().contains("CaUsedAsEndEntity"), "{error}");
}

#[test]
fn what_is_shown_and_what_is_equal() {
    let trust = ServerTrust::new(vec![vec![1], vec![2]], "[::1]", RootCertificates::webpki());
    assert_eq!(trust.host(), "::1");
    assert_eq!(format!("{trust:?}"), "ServerTrust { host: \"::1\", certificates: 2 }");
    assert_eq!(trust, trust.clone());
    assert_ne!(trust, ServerTrust::new(vec![vec![1], vec![2]], "::1", RootCertificates::webpki()));
}
