use super::super::offers;
use super::*;

fn digest(challenge: &str) -> Digest {
    let offers = offers([challenge].into_iter());
    offers.first().and_then(|offer| offer.digest()).unwrap_or_else(|| panic!("not offered: {challenge}")).clone()
}

/// The value of one parameter of a field.
fn part<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    field.strip_prefix("Digest ")?.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// A challenge of RFC 7616 §3.9.1 with this algorithm, what answers it, and what it is.
fn of_3_9_1(algorithm: &str, response: &str) -> (String, String) {
    let challenge = format!(
        "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
    let answer = format!(
        "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
         cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
         opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
    (challenge, answer)
}

#[test]
fn examples_of_rfc_7616_3_9_1() {
    let table = [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ];
    for (algorithm, response) in table {
        let (challenge, answer) = of_3_9_1(algorithm, response);
        let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let mut digest = digest(&challenge);
        let found = digest.authorization_with("Mufasa", "Circle of Life", "GET", "/dir/index.html", client_nonce, 1);
        assert_eq!(found, answer);
    }
}

/// With the values of erratum 4897: the printed ones are not what the RFC's own text gives.
#[test]
fn examples_of_rfc_7616_3_9_2() {
    let challenge = "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, \
        nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", \
        opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", charset=UTF-8";
    let answer = |username: &str, end: &str| {
        format!(
            "Digest {username}, realm=\"api@example.org\", uri=\"/doe.json\", algorithm=SHA-512-256, \
             nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", nc=00000001, \
             cnonce=\"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v\", qop=auth, \
             response=\"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5\", \
             opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\"{end}"
        )
    };
    let hashed = "username=\"793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b\"";
    let plain = "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe";
    let table = [
        (format!("{challenge}, userhash=true"), answer(hashed, ", userhash=true")),
        (challenge.to_owned(), answer(plain, "")),
        (format!("{challenge}, userhash=false"), answer(plain, "")),
    ];
    for (challenge, answer) in table {
        let client_nonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v";
        let (user, password) = ("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
        let found = digest(&challenge).authorization_with(user, password, "GET", "/doe.json", client_nonce, 1);
        assert_eq!(found, answer);
    }
}

#[test]
fn older_examples() {
    let challenge = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
        opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
    // RFC 2617 §3.5.
    let mut with_qop = digest(&format!("{challenge}, qop=\"auth,auth-int\""));
    let found = with_qop.authorization_with("Mufasa", "Circle Of Life", "GET", "/dir/index.html", "0a4f113b", 1);
    assert_eq!(
        found,
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", uri=\"/dir/index.html\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", nc=00000001, cnonce=\"0a4f113b\", qop=auth, \
         response=\"6629fae49393a05397450978507c4ef1\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
    // RFC 2069 §2.4, with the response of erratum 749.
    let found = digest(challenge).authorization("Mufasa", "CircleOfLife", "GET", "/dir/index.html", [7; 16]).unwrap();
    assert_eq!(
        found,
        "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", uri=\"/dir/index.html\", \
         nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", response=\"1949323746fe6a43ef61f9606e7febea\", \
         opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""
    );
}

#[test]
fn the_nonce_is_counted() {
    let mut digest = digest("Digest realm=a, nonce=b, qop=auth");
    for (count, client_nonce) in [("00000001", [0x0a; 16]), ("00000002", [0xff; 16])] {
        let field = digest.authorization("c", "d", "GET", "/", client_nonce).unwrap();
        assert_eq!(part(&field, "nc"), Some(count));
        assert_eq!(part(&field, "cnonce"), Some(&*format!("\"{}\"", hex(&client_nonce))));
    }
    digest.count = u32::MAX - 1;
    let field = digest.authorization("c", "d", "GET", "/", [0; 16]).unwrap();
    assert_eq!(part(&field, "nc"), Some("ffffffff"));
    let reason = digest.authorization("c", "d", "GET", "/", [0; 16]).unwrap_err();
    assert!(reason.contains("as often as it can be counted"), "{reason}");
    digest.update("nextnonce=\"new\"");
    let field = digest.authorization("c", "d", "GET", "/", [0; 16]).unwrap();
    assert_eq!((part(&field, "nc"), part(&field, "nonce")), (Some("00000001"), Some("\"new\"")));
}

#[test]
fn what_a_next_nonce_is() {
    let long = format!("nextnonce=\"{}\"", "n".repeat(4097));
    let longest = format!("nextnonce=\"{}\"", "n".repeat(4096));
    let table = [
        ("nextnonce=\"new\"", true),
        ("NextNonce=new, qop=auth, rspauth=\"6629\", cnonce=\"0a\", nc=00000001", true),
        (&longest, true),
        (&long, false),
        ("nextnonce=\"old\"", false),
        ("nextnonce=\"\"", false),
        ("nextnonce=\"new", false),
        ("nextnonce=\"new\", nextnonce=\"newer\"", false),
        ("Digest nextnonce=\"new\"", false),
        ("qop=auth", false),
        ("", false),
    ];
    for (line, is_new) in table {
        let mut digest = digest("Digest realm=a, nonce=old, qop=auth");
        digest.authorization("c", "d", "GET", "/", [0; 16]).unwrap();
        digest.update(line);
        let field = digest.authorization("c", "d", "GET", "/", [0; 16]).unwrap();
        assert_eq!(part(&field, "nonce") != Some("\"old\""), is_new, "{line}");
        assert_eq!(part(&field, "nc"), Some(if is_new { "00000001" } else { "00000002" }), "{line}");
    }
}

/// The keys of a server that remembers, and of one that does not while it sends no `nextnonce`.
#[test]
fn a_session_keeps_its_key() {
    for (name, algorithm) in
        [("MD5-sess", Algorithm::Md5), ("sha-256-SESS", Algorithm::Sha256), ("SHA-512-256-sess", Algorithm::Sha512256)]
    {
        let mut digest = digest(&format!("Digest realm=\"a\", nonce=\"b\", qop=\"auth\", algorithm={name}"));
        let first = hex(&[1; 16]);
        let key = algorithm.hash(&["me", "a", "secret"]);
        let key = algorithm.hash(&[&key, "b", &first]);
        for (nonce, count, client_nonce) in
            [("b", "00000001", [1; 16]), ("b", "00000002", [2; 16]), ("new", "00000001", [3; 16])]
        {
            digest.update(&format!("nextnonce={nonce}"));
            let field = digest.authorization("me", "secret", "GET", "/", client_nonce).unwrap();
            let request = algorithm.hash(&["GET", "/"]);
            let response = algorithm.hash(&[&key, nonce, count, &first, "auth", &request]);
            assert_eq!(part(&field, "response"), Some(&*format!("\"{response}\"")), "{name}, {nonce}, {count}");
            assert_eq!(part(&field, "cnonce"), Some(&*format!("\"{first}\"")));
            assert_eq!(part(&field, "nonce"), Some(&*format!("\"{nonce}\"")));
            assert_eq!(part(&field, "algorithm"), Some(&*format!("{}-sess", algorithm.name())));
        }
    }
    // Without `qop` the server needs the client's nonce all the same.
    let mut digest = digest("Digest realm=a, nonce=b, algorithm=MD5-sess");
    let field = digest.authorization("me", "secret", "GET", "/", [1; 16]).unwrap();
    let first = hex(&[1; 16]);
    let key = Algorithm::Md5.hash(&[&Algorithm::Md5.hash(&["me", "a", "secret"]), "b", &first]);
    let response = Algorithm::Md5.hash(&[&key, "b", &Algorithm::Md5.hash(&["GET", "/"])]);
    assert_eq!(part(&field, "response"), Some(&*format!("\"{response}\"")));
    assert_eq!((part(&field, "nc"), part(&field, "qop")), (None, None));
    assert_eq!(part(&field, "cnonce"), Some(&*format!("\"{first}\"")));
}

#[test]
fn another_challenge_with_the_same_nonce_goes_on() {
    let table = [
        ("Digest realm=a, nonce=b, qop=auth, algorithm=MD5-sess", "00000003", true),
        ("Digest realm=a, nonce=b, qop=auth, algorithm=MD5-sess, stale=true, opaque=new", "00000003", true),
        ("Digest realm=a, nonce=b, qop=auth, algorithm=SHA-256-sess", "00000003", false),
        ("Digest realm=a, nonce=b, qop=auth", "00000003", false),
        ("Digest realm=a, nonce=c, qop=auth, algorithm=MD5-sess", "00000001", false),
        ("Digest realm=c, nonce=b, qop=auth, algorithm=MD5-sess", "00000001", false),
    ];
    for (challenge, count, keeps_session) in table {
        let mut earlier = digest("Digest realm=a, nonce=b, qop=auth, algorithm=MD5-sess");
        earlier.authorization("c", "d", "GET", "/", [1; 16]).unwrap();
        earlier.authorization("c", "d", "GET", "/", [2; 16]).unwrap();
        let mut digest = digest(challenge);
        digest.go_on(&earlier);
        let field = digest.authorization("c", "d", "GET", "/", [3; 16]).unwrap();
        assert_eq!(part(&field, "nc"), Some(count), "{challenge}");
        let client_nonce = hex(&[if keeps_session { 1 } else { 3 }; 16]);
        assert_eq!(part(&field, "cnonce"), Some(&*format!("\"{client_nonce}\"")), "{challenge}");
    }
}

#[test]
fn what_is_quoted_is_escaped() {
    let mut digest = digest("Digest realm=\"a\\\"\\\\b é\", nonce=\"\\\"n\", opaque=\"o\\\\\"");
    let field = digest.authorization("m\"e\\", "secret", "GET", "/\"", [0; 16]).unwrap();
    let expected = "Digest username=\"m\\\"e\\\\\", realm=\"a\\\"\\\\b é\", uri=\"/\\\"\", nonce=\"\\\"n\", ";
    assert!(field.starts_with(expected), "{field}");
    assert!(field.ends_with(", opaque=\"o\\\\\""), "{field}");
    // Hashed is what the quotes and backslashes stand for.
    let key = Algorithm::Md5.hash(&["m\"e\\", "a\"\\b é", "secret"]);
    let response = Algorithm::Md5.hash(&[&key, "\"n", &Algorithm::Md5.hash(&["GET", "/\""])]);
    assert_eq!(part(&field, "response"), Some(&*format!("\"{response}\"")));
    // What comes back is what was sent.
    let sent = super::super::challenges([&*field].into_iter()).next().unwrap().unwrap();
    for (name, value) in [("username", "m\"e\\"), ("realm", "a\"\\b é"), ("nonce", "\"n"), ("opaque", "o\\")] {
        assert_eq!(sent.parameter(name), Some(value));
    }
}

/// RFC 8187 §3.2.1.
#[test]
fn users_that_are_not_ascii() {
    let user = "é!#$&+-.^_`|~aZ09*'%\"\\ \u{20ac}";
    for knows in [", charset=utf-8", ", algorithm=SHA-256", ", algorithm=SHA-512-256-sess"] {
        let challenge = format!("Digest realm=a, nonce=b{knows}");
        let field = digest(&challenge).authorization(user, "", "GET", "/", [0; 16]).unwrap();
        assert_eq!(part(&field, "username*"), Some("UTF-8''%C3%A9!#$&+-.^_`|~aZ09%2A%27%25%22%5C%20%E2%82%AC"));
        assert_eq!(part(&field, "username"), None);
    }
    for old in ["", ", algorithm=MD5", ", algorithm=MD5-sess, charset=latin"] {
        let challenge = format!("Digest realm=a, nonce=b{old}");
        let field = digest(&challenge).authorization("é\"", "", "GET", "/", [0; 16]).unwrap();
        assert!(field.starts_with(r#"Digest username="é\"", "#), "{field}");
    }
}

#[test]
fn what_cannot_be_sent() {
    let table = [
        ("a\0", "unspoken", "/"),
        ("a\r\nX: y", "unspoken", "/"),
        ("\u{85}", "unspoken", "/"),
        ("Mufasa", "unspoken\n", "/"),
        ("Mufasa", "\u{7f}", "/"),
        ("Mufasa", "unspoken", "/\r\n"),
    ];
    for (user, password, uri) in table {
        let mut digest = digest("Digest realm=a, nonce=b, qop=auth");
        let reason = digest.authorization(user, password, "GET", uri, [0; 16]).unwrap_err();
        assert!(!reason.contains(user) && !reason.contains(password), "{reason}");
        // What was not sent is not counted.
        let field = digest.authorization("c:d", "e:f", "GET", "/", [0; 16]).unwrap();
        assert_eq!(part(&field, "nc"), Some("00000001"));
    }
}

#[test]
fn nothing_secret_is_kept_or_shown() {
    let mut digest = digest("Digest realm=\"the realm\", nonce=n0n, opaque=0paque, qop=auth, algorithm=MD5-sess");
    digest.authorization("Mufasa", "unspoken", "GET", "/", [0xab; 16]).unwrap();
    let shown = format!("{digest:?}");
    assert!(shown.contains("the realm") && shown.contains("count: 1"), "{shown}");
    for hidden in ["n0n", "0paque", "Mufasa", "unspoken", "abab"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}
