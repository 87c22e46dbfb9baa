use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const LOGIN: Option<(&str, &str)> = Some(("me", "secret"));

fn socks(credential: Option<(&str, &str)>) -> Socks {
    Socks::new(Host::Domain("a.example"), 443, credential).unwrap()
}

/// One that has sent its request.
fn asked() -> Socks {
    let mut socks = socks(None);
    assert!(matches!(socks.received(&mut &[5, 0][..]), Ok(Step::Send(_))));
    socks
}

/// Everything that comes of these bytes; what is left of them.
fn all<'a>(socks: &mut Socks, mut bytes: &'a [u8]) -> (Vec<Vec<u8>>, Result<Step, SocksError>, &'a [u8]) {
    let mut sent = Vec::new();
    loop {
        match socks.received(&mut bytes) {
            Ok(Step::Send(message)) => sent.push(message),
            other => return (sent, other, bytes),
        }
    }
}

/// The same, byte by byte.
fn each(socks: &mut Socks, mut bytes: &[u8]) -> (Vec<Vec<u8>>, Result<Step, SocksError>, usize) {
    let mut sent = Vec::new();
    while let Some((byte, rest)) = bytes.split_first() {
        let mut one = std::slice::from_ref(byte);
        match socks.received(&mut one) {
            Ok(Step::Read) => {}
            Ok(Step::Send(message)) => sent.push(message),
            end => return (sent, end, rest.len()),
        }
        assert!(one.is_empty());
        bytes = rest;
    }
    (sent, Ok(Step::Read), 0)
}

const REQUEST: &[u8] = b"\x05\x01\x00\x03\x09a.example\x01\xbb";

#[test]
fn conversations() {
    let name = [&[5, 0, 0, 3, 255][..], &[7; 255 + 2]].concat();
    let replies: [&[u8]; 5] = [
        &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 1, 255, 255, 255, 255, 255, 255],
        &[5, 0, 0, 4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
        &[5, 0, 0, 3, 0, 1, 2],
        &name,
    ];
    type Talk<'a> = (Option<(&'a str, &'a str)>, &'a [u8], &'a [u8], &'a [&'a [u8]]);
    let talks: [Talk; 3] = [
        (None, &[5, 1, 0], &[5, 0], &[REQUEST]),
        (LOGIN, &[5, 2, 0, 2], &[5, 0], &[REQUEST]),
        (LOGIN, &[5, 2, 0, 2], &[5, 2, 1, 0], &[b"\x01\x02me\x06secret", REQUEST]),
    ];
    for (credential, greeting, answers, messages) in talks {
        for reply in replies {
            let bytes = [answers, reply, b"tunnel"].concat();
            let mut whole = socks(credential);
            assert_eq!(whole.greeting(), greeting);
            assert_eq!(
                all(&mut whole, &bytes),
                (messages.iter().map(|m| m.to_vec()).collect(), Ok(Step::Done), &b"tunnel"[..])
            );
            // It takes nothing of the tunnel later, either.
            assert_eq!(all(&mut whole, b"more"), (vec![], Ok(Step::Done), &b"more"[..]));
            let mut cut = socks(credential);
            assert_eq!(each(&mut cut, &bytes), (messages.iter().map(|m| m.to_vec()).collect(), Ok(Step::Done), 6));
            for length in 0..bytes.len() - 6 {
                let (_, step, rest) = all(&mut socks(credential), &bytes[..length]);
                assert_eq!((step, rest.len()), (Ok(Step::Read), 0), "{length} of {reply:?}");
            }
        }
    }
}

#[test]
fn hosts() {
    let table = [
        (Host::Ipv4(Ipv4Addr::new(1, 2, 3, 4)), vec![5, 1, 0, 1, 1, 2, 3, 4, 31, 144]),
        (Host::Ipv6(Ipv6Addr::LOCALHOST), [&[5, 1, 0, 4][..], &[0; 15], &[1, 31, 144]].concat()),
        (Host::Domain("a"), vec![5, 1, 0, 3, 1, b'a', 31, 144]),
    ];
    for (host, request) in table {
        let mut socks = Socks::new(host, 8080, None).unwrap();
        assert_eq!(socks.received(&mut &[5, 0][..]), Ok(Step::Send(request)));
    }
}

#[test]
fn what_cannot_be_said() {
    let (long, longest) = ("s".repeat(256), "s".repeat(255));
    let table = [
        (long.as_str(), None, "the name of a host for a SOCKS proxy has 256 bytes, not at most 255"),
        ("", None, "a SOCKS proxy cannot connect to a host without a name"),
        ("a", Some(("", "secret")), "a SOCKS proxy cannot be told of a user without a name"),
        ("a", Some((long.as_str(), "secret")), "the user for a SOCKS proxy has 256 bytes, not at most 255"),
        ("a", Some(("me", long.as_str())), "the password for a SOCKS proxy has 256 bytes, not at most 255"),
    ];
    for (host, credential, reason) in table {
        assert_eq!(Socks::new(Host::Domain(host), 80, credential).unwrap_err(), reason);
    }
    for (host, credential) in
        [(longest.as_str(), None), ("a", Some((longest.as_str(), longest.as_str()))), ("a", Some(("me", "")))]
    {
        assert!(Socks::new(Host::Domain(host), 80, credential).is_ok());
    }
}

#[test]
fn refusals_and_what_is_no_socks() {
    let no_socks = |what, byte| SocksError::Malformed { what, byte };
    let method = "the method, which was not offered,";
    let mut table: Vec<(Socks, Vec<u8>, SocksError)> = vec![
        (socks(None), vec![5, 255], SocksError::NoMethod { with_login: false }),
        (socks(LOGIN), vec![5, 255], SocksError::NoMethod { with_login: true }),
        (socks(None), vec![5, 2], no_socks(method, 2)),
        (socks(LOGIN), vec![5, 1], no_socks(method, 1)),
        (socks(None), b"H".to_vec(), no_socks("the version", b'H')),
        (socks(None), vec![4], no_socks("the version", 4)),
        (socks(LOGIN), vec![5, 2, 5], no_socks("the version", 5)),
        (socks(LOGIN), vec![5, 2, 1, 1], SocksError::WrongLogin),
        (socks(LOGIN), vec![5, 2, 1, 255], SocksError::WrongLogin),
        (asked(), vec![0], no_socks("the version", 0)),
        (asked(), vec![5, 0, 1], no_socks("the reserved byte", 1)),
        (asked(), vec![5, 0, 0, 0], no_socks("the type of the address", 0)),
        (asked(), vec![5, 0, 0, 2], no_socks("the type of the address", 2)),
        (asked(), vec![5, 0, 0, 5], no_socks("the type of the address", 5)),
    ];
    table.extend((1..=255).map(|code| (asked(), vec![5, code], SocksError::Refused(code))));
    for (mut socks, mut bytes, error) in table {
        // What makes it fail is the last byte of its answer that it takes.
        bytes.extend(b"more");
        let (_, found, rest) = all(&mut socks, &bytes);
        assert_eq!((found, rest), (Err(error.clone()), &b"more"[..]));
        assert_eq!(all(&mut socks, b"\x05\x00"), (vec![], Err(error), &b"\x05\x00"[..]));
    }
}

#[test]
fn errors_of_a_task() {
    use ErrorCode::{CannotConnectToHost, CannotParseResponse, UserAuthenticationRequired};
    let malformed = SocksError::Malformed { what: "the version", byte: 0x48 };
    let table = [
        (
            SocksError::NoMethod { with_login: false },
            UserAuthenticationRequired,
            "the SOCKS proxy wants to know who asks, and there is no user for it",
        ),
        (
            SocksError::NoMethod { with_login: true },
            UserAuthenticationRequired,
            "the SOCKS proxy wants to know who asks, and not by user and password",
        ),
        (SocksError::WrongLogin, UserAuthenticationRequired, "the SOCKS proxy refused user and password"),
        (SocksError::Refused(1), CannotConnectToHost, "the SOCKS proxy answered 1, general failure"),
        (
            SocksError::Refused(2),
            CannotConnectToHost,
            "the SOCKS proxy answered 2, connection not allowed by its rules",
        ),
        (SocksError::Refused(3), CannotConnectToHost, "the SOCKS proxy answered 3, network unreachable"),
        (SocksError::Refused(4), CannotConnectToHost, "the SOCKS proxy answered 4, host unreachable"),
        (SocksError::Refused(5), CannotConnectToHost, "the SOCKS proxy answered 5, connection refused"),
        (SocksError::Refused(6), CannotConnectToHost, "the SOCKS proxy answered 6, time to live expired"),
        (SocksError::Refused(7), CannotConnectToHost, "the SOCKS proxy answered 7, command not supported"),
        (SocksError::Refused(8), CannotConnectToHost, "the SOCKS proxy answered 8, type of address not supported"),
        (SocksError::Refused(9), CannotConnectToHost, "the SOCKS proxy answered 9, which RFC 1928 does not know"),
        (malformed, CannotParseResponse, "the proxy does not speak SOCKS 5: the version in its answer is 0x48"),
    ];
    for (error, code, reason) in table {
        assert_eq!(error.is_answer(), code != CannotParseResponse);
        let error = error.to_url_error();
        assert_eq!((error.code(), error.stage(), error.reason()), (code, ErrorStage::Proxy, reason));
    }
}

#[test]
fn nothing_shows_user_or_password() {
    let mut socks = socks(Some(("hidden", "hidden")));
    assert!(!format!("{socks:?}").contains("hidden"));
    let step = socks.received(&mut &[5, 2][..]).unwrap();
    assert_eq!(format!("{socks:?} {step:?}"), "Socks { awaited: \"verdict\", .. } Send(..)");
}
