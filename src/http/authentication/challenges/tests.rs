use super::*;

/// `scheme name=value; name=value | scheme token68 | ! reason`, each value without its quotes, a token68 in brackets.
fn read(lines: &[&str]) -> String {
    let one = |challenge: Challenge<'_>| {
        let content = match challenge.content {
            Content::Token68(token68) => format!("[{token68}]"),
            Content::Parameters(list) => {
                let list: Vec<String> = list.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
                list.join("; ")
            }
        };
        format!("{} {content}", challenge.scheme).trim_end().to_owned()
    };
    let parts: Vec<String> = challenges(lines.iter().copied())
        .map(|challenge| challenge.map_or_else(|reason| format!("! {reason}"), one))
        .collect();
    parts.join(" | ")
}

#[test]
fn lists_of_rfc_9110_11_6_1() {
    let table: [(&[&str], &str); 39] = [
        (&[], ""),
        (&["Basic"], "Basic"),
        (&["Basic "], "Basic"),
        (&["Basic realm=\"foo\""], "Basic realm=foo"),
        (&["bAsIc\tReAlM=Foo"], "bAsIc ReAlM=Foo"),
        (&["Basic   realm \t=\t \"foo\"\t, \ta =b "], "Basic realm=foo; a=b"),
        // The example of RFC 9110.
        (
            &["Basic realm=\"simple\", Newauth realm=\"apps\", type=1, title=\"Login to \\\"apps\\\"\""],
            "Basic realm=simple | Newauth realm=apps; type=1; title=Login to \"apps\"",
        ),
        (&["Newauth realm=\"a\", basic=foo, Basic realm=\"b\""], "Newauth realm=a; basic=foo | Basic realm=b"),
        (&["A, B"], "A | B"),
        (&["A , B a=b"], "A | B a=b"),
        // Several lines are one list of whole challenges.
        (&["A", "B a=b, C", "B"], "A | B a=b | C | B"),
        (&["A a=b", "c=d"], "A a=b | ! a parameter belongs to no challenge"),
        // Quoted strings.
        (&["A a=\"\""], "A a="),
        (&["A a=\"b, C d=\\\"e\\\",\", F"], "A a=b, C d=\"e\", | F"),
        (&["A a=\"\\f\\o\\o\""], "A a=foo"),
        (&["A a=\"\\\\\\\"\\é\\\t\té\""], "A a=\\\"é\t\té"),
        (&["A a=\"foo-é\", b=\"\u{e4}\""], "A a=foo-é; b=\u{e4}"),
        // Token68, with as many pads as there are.
        (&["A abc"], "A [abc]"),
        (&["A a="], "A [a=]"),
        (&["A  a-._~+/0==\t, B"], "A [a-._~+/0==] | B"),
        (&["A a=b"], "A a=b"),
        (&["A a==b"], "A a==b"),
        (&["A abc=, B abc, C a=b"], "A [abc=] | B [abc] | C a=b"),
        (&["A abc, realm=b, B"], "A [abc] | ! a parameter belongs to no challenge | B"),
        // Empty elements, and none but those.
        (&[""], ""),
        (&[" \t"], ""),
        (&[",", " , \t,,"], ""),
        (&[",A,, ,B a=b,, c=d ,"], "A | B a=b; c=d"),
        (&["A , a=b"], "A a=b"),
        (&["A,,,, B ,,,a=\"b, c,\""], "A | B a=b, c,"),
        // A list follows only behind a space.
        (&["A, a=b"], "A | ! a parameter belongs to no challenge"),
        (&["A, a=b, c=d, B"], "A | ! a parameter belongs to no challenge | B"),
        // More than the grammar has.
        (&["A realm=me@example.com, domain=/"], "A realm=me@example.com; domain=/"),
        (&["A nonce=abc==, b=c"], "A nonce=abc==; b=c"),
        (&["A a='b'"], "A a='b'"),
        (&["A a='b c'"], "! something follows the value of a parameter"),
        // What has no `=` is a scheme, whatever it looks like.
        (&["A a=b, stale, c=d"], "A a=b | stale | ! a parameter belongs to no challenge"),
        (&["A a=b, stale , c=d"], "A a=b | stale c=d"),
        (&["A realm=\"x\", realm2=\"y\""], "A realm=x; realm2=y"),
    ];
    for (lines, expected) in table {
        assert_eq!(read(lines), expected, "{lines:?}");
    }
}

#[test]
fn malformed_challenges_hide_no_others() {
    let scheme = "the name of a scheme is no token";
    let stray = "a parameter belongs to no challenge";
    let content = "what follows a scheme is neither a token68 nor a parameter";
    let behind = "something follows the value of a parameter";
    let quoted = "a quoted value has no end, or a control character in it";
    let no_value = "a parameter has no value";
    let twice = "a parameter is there twice";
    let table = [
        ("=", scheme),
        ("\"foo\"", scheme),
        ("@foo", scheme),
        ("A@ a=b", scheme),
        ("Aé", scheme),
        ("A\r\n a=b", scheme),
        ("A\u{b} a=b", scheme),
        ("A;a=b", scheme),
        ("a=b", stray),
        ("A = b", stray),
        ("A a b", content),
        ("A a b, c=d, e=f", content),
        ("A @, c=d", content),
        ("A =b", stray),
        ("A \"b, C\"", content),
        ("A a=b c", behind),
        ("A a=b c=d", behind),
        ("A a=\"b\"c", behind),
        ("A a=\"b\" c=\"d, E f=g\"", behind),
        ("A a=\"b\"\"c\", d=\"e, F\"", behind),
        ("A a=b\"c\"", behind),
        ("A a=b, c=é", no_value),
        ("A a=\\b", no_value),
        ("A a=, b=c", stray),
        ("A b=c, a=, d=e", no_value),
        ("A a=b, A=b", twice),
        ("A a=b, c=\"d, E\", a=\"f\", g=h", twice),
        ("A a=\"b\u{1}\"", quoted),
        ("A a=\"b\\\u{7f}\"", quoted),
        ("A a=\"b\r\n\"", quoted),
    ];
    for (element, reason) in table {
        let found = read(&[&format!("X, {element}, Y z=\"0\", Z")]);
        let before = if element == "A a=, b=c" { "X | A [a=]" } else { "X" };
        assert_eq!(found, format!("{before} | ! {reason} | Y z=0 | Z"), "{element:?}");
    }
    // Where quotes have no end, nobody knows where the next challenge would be. The next line is another matter.
    let table = [
        "A a=\"",
        "A a=\"b, C d=e",
        "A a=\"b\\",
        "A a=\"b\\\"",
        "A a=\"b\\\\\\\", C",
        "A a=\"b\"c\", C d=e",
        "A a=b, a=\"c, C",
        "\"A, C",
    ];
    for line in table {
        let found = read(&["X a=b", line, "Y"]);
        assert!(found.starts_with("X a=b | ! ") && found.ends_with(" | Y"), "{line:?}: {found}");
        assert_eq!(found.matches('|').count(), 2, "{line:?}: {found}");
    }
}

#[test]
fn the_limits() {
    let many = vec!["A a=b"; 100];
    assert_eq!(challenges(many.iter().copied()).count(), 32);
    assert_eq!(challenges([&*many.join(",")].into_iter()).count(), 32);
    assert_eq!(challenges(std::iter::repeat_n("@", 100)).count(), 32);
    let list = |count: usize| (0..count).map(|index| format!("a{index}=b")).collect::<Vec<_>>().join(",");
    let longest = format!("A {}", list(64));
    let accepted = challenges([&*longest].into_iter()).next().unwrap().unwrap();
    assert_eq!((accepted.parameter("A63"), accepted.parameter("a64")), (Some("b"), None));
    let refused = read(&[&format!("A {}, B", list(65))]);
    assert_eq!(refused, "! a challenge has more than 64 parameters | B");
}

#[test]
fn lists_of_parameters() {
    let list = |line| {
        let parameters = parameters(line)?;
        Ok(parameters.iter().map(|one| format!("{}={}", one.name, one.value)).collect::<Vec<_>>().join("; "))
    };
    let table = [
        ("", Ok("")),
        (", ,", Ok("")),
        ("nextnonce=\"a\\\"b\", qop=auth,, nc=00000001", Ok("nextnonce=a\"b; qop=auth; nc=00000001")),
        ("Digest nextnonce=\"a\"", Err("what is no parameter is in a list of them")),
        ("a=b, c", Err("what is no parameter is in a list of them")),
        ("a=b, a=c", Err("a parameter is there twice")),
        ("a=\"b", Err("a quoted value has no end, or a control character in it")),
    ];
    for (line, expected) in table {
        assert_eq!(list(line), expected.map(str::to_owned).map_err(Malformed), "{line:?}");
    }
}

#[test]
fn no_value_is_shown() {
    let shown: Vec<String> =
        challenges(["NTLM TlRMTVNTUAAC, Digest nonce=\"TlRMTVNTUAAC\", realm=TlRMTVNTUAAC"].into_iter())
            .map(|challenge| format!("{challenge:?}"))
            .collect();
    assert!(shown.iter().all(|shown| !shown.contains("TlRM")), "{shown:?}");
    assert!(shown[1].contains("Digest") && shown[1].contains("nonce"), "{shown:?}");
}

#[test]
fn only_what_is_escaped_is_copied() {
    let line = r#"A a="b", c=d, e="\f", g="h\i""#;
    let challenge = challenges([line].into_iter()).next().unwrap().unwrap();
    let Content::Parameters(parameters) = challenge.content else { panic!("a token68") };
    let copied: Vec<bool> = parameters.iter().map(|one| matches!(one.value, Cow::Owned(_))).collect();
    assert_eq!(copied, [false, false, false, true]);
}

/// Counted, not measured: how often a byte is looked at does not depend on how many there are.
#[test]
fn every_byte_is_looked_at_a_bounded_number_of_times() {
    const SIZE: usize = 64 * 1024;
    let filled = |before: &str, unit: &str, behind: &str| format!("{before}{}{behind}", unit.repeat(SIZE / unit.len()));
    let bombs = [
        filled("A a=\"", "\\a", "\""),
        filled("A a=\"", "\\a", ""),
        filled("A a=\"", "a", "\""),
        filled("A a=\"", "\\\"", ""),
        filled("A a=\"", "\\", ""),
        filled("A a=\"", "é", ""),
        filled("A a=", "\"", ""),
        filled("A a=", "\"\" ", ""),
        filled("A ", "a", ""),
        filled("A ", "a", " b"),
        filled("A ", "=", ""),
        filled("A a", "=", ""),
        filled("A ", "a=b,", ""),
        filled("A ", "a=\"b\",", ""),
        filled("A ", "a ", ""),
        filled("", "A ", ""),
        filled("", "A,", ""),
        filled("", "A ,", ""),
        filled("", "A a=b,", "\""),
        filled("", "A a=\"", ""),
        filled("", ",", ""),
        filled("", ", ", ""),
        filled("", "a=b,", ""),
        filled("A", " ", ""),
        filled("A", " ", "a"),
        filled("", "A", ""),
        filled("", "@,", ""),
    ];
    for bomb in bombs {
        let shown: String = bomb.chars().take(16).collect();
        // Without the limit on challenges.
        let mut rest = Rest::new(&bomb);
        let mut copied = 0;
        for challenge in rest.by_ref().flatten() {
            let Content::Parameters(parameters) = challenge.content else { continue };
            copied += parameters.iter().map(capacity).sum::<usize>();
        }
        assert!(rest.line.visited <= 8 * bomb.len(), "{shown}: {} of {}", rest.line.visited, bomb.len());
        assert!(copied <= 2 * bomb.len(), "{shown}: {copied} of {}", bomb.len());
    }
}

fn capacity(parameter: &Parameter<'_>) -> usize {
    match &parameter.value {
        Cow::Owned(value) => value.capacity(),
        Cow::Borrowed(_) => 0,
    }
}
