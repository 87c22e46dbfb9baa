use super::*;

/// `method realm`, with `*` behind what is stale and the nonce of Digest in brackets.
fn read(fields: &[&str]) -> String {
    let one = |offer: Offer| {
        let method = match offer.method {
            AuthenticationMethod::Negotiate => "Negotiate",
            AuthenticationMethod::Ntlm => "NTLM",
            AuthenticationMethod::HttpDigest => "Digest",
            AuthenticationMethod::HttpBasic => "Basic",
            other => panic!("{other:?}"),
        };
        let realm = offer.realm.as_ref().map(|realm| format!(" {realm}")).unwrap_or_default();
        let nonce = offer.digest().map(|digest| {
            let field = digest.clone().authorization("me", "secret", "GET", "/", [0; 16]).unwrap();
            let sent = challenges([&*field].into_iter()).next().unwrap().unwrap();
            format!(" [{}]", sent.parameter("nonce").unwrap())
        });
        format!("{method}{realm}{}{}", nonce.unwrap_or_default(), if offer.is_stale() { "*" } else { "" })
    };
    offers(fields.iter().copied()).into_iter().map(one).collect::<Vec<_>>().join(" | ")
}

#[test]
fn the_strongest_first() {
    let all = [
        "Basic realm=b, Digest realm=a, nonce=md5, Digest realm=b, nonce=sha, algorithm=SHA-256, NTLM",
        "Digest realm=c, nonce=long, algorithm=\"sha-512-256\", Negotiate, Digest realm=d, nonce=md5s, algorithm=MD5-sess",
        "Digest realm=e, nonce=shas, algorithm=SHA-256-SESS, Digest realm=f, nonce=longs, algorithm=SHA-512-256-sess",
    ];
    let expected = "Negotiate | NTLM | Digest c [long] | Digest f [longs] | Digest b [sha] | Digest e [shas] | \
        Digest a [md5] | Digest d [md5s] | Basic b";
    assert_eq!(read(&all), expected);
}

#[test]
fn what_is_passed_over() {
    let table: [(&[&str], &str); 40] = [
        (&[], ""),
        (&["Bearer realm=a, Newauth"], ""),
        (&["Basic"], ""),
        (&["Basic a=b"], ""),
        (&["Basic realm"], ""),
        (&["bAsIc ReAlM=a"], "Basic a"),
        (&["Basic realm=\"\""], "Basic "),
        (&["Basic realm=a, charset=\"UTF-8\""], "Basic a"),
        (&["Basic realm=a, realm=b"], ""),
        (&["Basic realm=a, realm=b, Basic realm=c"], "Basic c"),
        (&["Digest realm=a"], ""),
        (&["Digest nonce=a"], ""),
        (&["Digest realm=a, nonce=\"\""], ""),
        (&["Digest realm=\"\", nonce=b"], "Digest  [b]"),
        (&["Digest nonce=b, realm=a, stale=TRUE"], "Digest a [b]*"),
        (&["Digest nonce=b, realm=a, stale=\"true\""], "Digest a [b]*"),
        (&["Digest nonce=b, realm=a, stale=false"], "Digest a [b]"),
        (&["Digest nonce=b, realm=a, stale=yes"], "Digest a [b]"),
        (&["Basic realm=a, stale=true"], "Basic a"),
        (&["Digest realm=a, nonce=b, algorithm=SHA"], ""),
        (&["Digest realm=a, nonce=b, algorithm=SHA-512"], ""),
        (&["Digest realm=a, nonce=b, algorithm=MD5-"], ""),
        (&["Digest realm=a, nonce=b, algorithm=-sess"], ""),
        (&["Digest realm=a, nonce=b, algorithm=\"é-sess\""], ""),
        (&["Digest realm=a, nonce=b, algorithm=\"\""], ""),
        (&["Digest realm=a, nonce=b, qop=auth-int"], ""),
        (&["Digest realm=a, nonce=b, qop=\"\""], ""),
        (&["Digest realm=a, nonce=b, qop=\"auth-int,\tAUTH ,x\""], "Digest a [b]"),
        (&["Digest realm=a, nonce=b, qop=\"auth-int; auth\""], ""),
        // The same method and the same realm.
        (&["Basic realm=a", "Basic realm=a, x=y, Basic realm=A"], "Basic a | Basic A"),
        (&["Digest realm=a, nonce=b", "Digest realm=a, nonce=c"], "Digest a [b]"),
        (&["Digest realm=a, nonce=b", "Digest realm=a, nonce=c, algorithm=SHA-256"], "Digest a [c]"),
        (&["Digest realm=a, nonce=b, stale=true, Digest realm=a, nonce=c, algorithm=SHA-256"], "Digest a [c]"),
        (
            &["Digest realm=a, nonce=b, algorithm=SHA-256-sess, Digest realm=a, nonce=c, algorithm=SHA-256"],
            "Digest a [b]",
        ),
        (&["Digest realm=a, nonce=b, algorithm=SHA-1, Digest realm=a, nonce=c"], "Digest a [c]"),
        (&["NTLM", "Negotiate, NTLM"], "Negotiate | NTLM"),
        (&["Negotiate oRQwEqADCgEB", "nTLM TlRMTVNTUAAC"], "Negotiate | NTLM"),
        (&["Negotiate realm=a"], "Negotiate"),
        (&["Basic realm=\"a\", Basic realm=\"b"], "Basic a"),
        (&["Basic realm=\"b", "Basic realm=\"a\""], "Basic a"),
    ];
    for (fields, expected) in table {
        assert_eq!(read(fields), expected, "{fields:?}");
    }
}

#[test]
fn the_limits() {
    let count = |field: String| offers([&*field].into_iter()).len();
    for (length, expected) in [(1024, 1), (1025, 0)] {
        let realm = "r".repeat(length);
        assert_eq!(count(format!("Basic realm=\"{realm}\"")), expected, "{length}");
        assert_eq!(count(format!("Digest nonce=n, realm=\"{realm}\"")), expected, "{length}");
    }
    for (length, expected) in [(4096, 1), (4097, 0)] {
        let text = "r".repeat(length);
        assert_eq!(count(format!("Digest realm=a, nonce=\"{text}\"")), expected, "{length}");
        assert_eq!(count(format!("Digest realm=a, nonce=n, opaque=\"{text}\"")), expected, "{length}");
    }
    let many: Vec<String> = (0..100).map(|index| format!("Basic realm={index}")).collect();
    assert_eq!(count(many.join(", ")), 32);
}

/// Whatever comes, there is an end, and what is offered can be answered with a field of one line.
#[test]
fn damaged_challenges() {
    let samples = [
        "Basic realm=\"a\\\"b, é\", NTLM YWJj==, X",
        "Digest realm=\"a\", qop=\"auth, b\", nonce=\"n\", opaque=\"\"",
        "X , Digest nonce = n,, realm=a, Basic realm=\"a\"",
    ];
    // As a head reads bytes.
    let read = |bytes: &[u8]| match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    let check = |bytes: &[u8]| {
        let field = read(bytes);
        for challenge in challenges([&*field].into_iter()).flatten() {
            assert!(field.contains(challenge.scheme));
        }
        for offer in offers([&*field].into_iter()) {
            let Some(digest) = offer.digest() else { continue };
            let mut digest = digest.clone();
            digest.update(&field);
            let value = digest.authorization("me", "secret", "GET", "/", [0; 16]).unwrap();
            assert!(value.chars().all(|character| character == '\t' || !character.is_ascii_control()), "{value:?}");
        }
    };
    for sample in samples {
        let whole = sample.as_bytes();
        for end in 0..whole.len() {
            check(&whole[..end]);
            check(&whole[end..]);
        }
        let mut changed = whole.to_vec();
        for position in 0..whole.len() {
            for byte in 0..=u8::MAX {
                changed[position] = byte;
                check(&changed);
            }
            changed[position] = whole[position];
        }
    }
}
