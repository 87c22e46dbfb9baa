use super::*;

/// `name; name=value, …`, each value without its quotes; a list that is malformed ends in `!` and the reason.
fn read(lines: &[&str]) -> String {
    let one = |extension: Extension<'_>| {
        let mut text = extension.name.to_owned();
        for parameter in extension.parameters {
            text.extend(["; ", parameter.name]);
            if let Some(value) = parameter.value {
                text.extend(["=", &value]);
            }
        }
        text
    };
    let parts: Vec<String> = extensions(lines.iter().copied())
        .map(|extension| extension.map_or_else(|reason| format!("! {reason}"), one))
        .collect();
    parts.join(", ")
}

#[test]
fn lists_of_rfc_6455_9_1() {
    let table: [(&[&str], &str); 22] = [
        (&[], ""),
        (&["foo"], "foo"),
        (&["foo;bar"], "foo; bar"),
        (&["foo;bar=baz"], "foo; bar=baz"),
        (&["foo; bar=\"baz\""], "foo; bar=baz"),
        (&["foo; bar=\"\\b\\a\\z\""], "foo; bar=baz"),
        (&["foo; bar=\"b\\az\";bar"], "foo; bar=baz; bar"),
        (&["foo;a=1;a=\"1\", foo"], "foo; a=1; a=1, foo"),
        (&["mux; max-channels=4; flow-control, deflate-stream"], "mux; max-channels=4; flow-control, deflate-stream"),
        (&["FOO; Bar=BaZ"], "FOO; Bar=BaZ"),
        (&["!#$%&'*+-.^_`|~; 0=9"], "!#$%&'*+-.^_`|~; 0=9"),
        // White space at every place.
        (&["\tfoo ; \t bar\t =  baz  , \tqux \t; a = \"b\" \t"], "foo; bar=baz, qux; a=b"),
        // Several lines are one list.
        (&["foo", "bar; a"], "foo, bar; a"),
        (&["foo; a=b, bar", "foo"], "foo; a=b, bar, foo"),
        // Empty elements, and none but those.
        (&[""], ""),
        (&[" \t"], ""),
        (&[",", " , \t,,"], ""),
        (&[",foo, ,bar,"], "foo, bar"),
        (&["foo", "", "bar"], "foo, bar"),
        (&["foo, ", ",bar"], "foo, bar"),
        // A separator means nothing between quotes, where it must not stand anyway.
        (&["foo; a=\"b,c\", bar"], "! a quoted value has no end, or is no token"),
        (&["foo; a=\"b;c\", bar"], "! a quoted value has no end, or is no token"),
    ];
    for (lines, expected) in table {
        assert_eq!(read(lines), expected, "{lines:?}");
    }
}

#[test]
fn malformed_lists() {
    let no_name = "an extension has no name";
    let bad_name = "the name of an extension is no token";
    let no_parameter = "a parameter has no name";
    let bad_parameter = "a parameter or its value is no token";
    let no_value = "the value of a parameter is no token";
    let quoted = "a quoted value has no end, or is no token";
    let table = [
        (";", no_name),
        (";foo", no_name),
        ("=", no_name),
        ("\"foo\"", no_name),
        ("@foo", no_name),
        ("é", no_name),
        ("\u{b}foo", no_name),
        ("foo bar", bad_name),
        ("foo=bar", bad_name),
        ("f@o", bad_name),
        ("f\\oo", bad_name),
        ("f\"oo\"", bad_name),
        ("fé", bad_name),
        ("foo\r\n", bad_name),
        ("foo;", no_parameter),
        ("foo; ", no_parameter),
        ("foo;;a", no_parameter),
        ("foo; =b", no_parameter),
        ("foo; \"a\"", no_parameter),
        ("foo; é", no_parameter),
        ("foo; a b", bad_parameter),
        ("foo; a@", bad_parameter),
        ("foo; aé", bad_parameter),
        ("foo; a=b c", bad_parameter),
        ("foo; a=b@", bad_parameter),
        ("foo; a=b\"c\"", bad_parameter),
        ("foo; a=\"b\"c", bad_parameter),
        ("foo; a=\"b\" c", bad_parameter),
        ("foo; a=\"b\"\"c\"", bad_parameter),
        ("foo; a=b=c", bad_parameter),
        ("foo; a=", no_value),
        ("foo; a= ", no_value),
        ("foo; a=;b", no_value),
        ("foo; a==b", no_value),
        ("foo; a=é", no_value),
        ("foo; a=\\b", no_value),
        ("foo; a=\"", quoted),
        ("foo; a=\"\"", quoted),
        ("foo; a=\"b", quoted),
        ("foo; a=\"b\\", quoted),
        ("foo; a=\"b\\\"", quoted),
        ("foo; a=\"b\\\"\"", quoted),
        ("foo; a=\"b\\\\\"", quoted),
        ("foo; a=\"b \"", quoted),
        ("foo; a=\" 9\"", quoted),
        ("foo; a=\"b\tc\"", quoted),
        ("foo; a=\"\\é\"", quoted),
        ("foo; a=\"é\"", quoted),
    ];
    for (line, reason) in table {
        assert_eq!(read(&[line]), format!("! {reason}"), "{line:?}");
        // What came before it is told, and nothing behind it.
        assert_eq!(read(&["x", line, "y"]), format!("x, ! {reason}"), "{line:?}");
    }
    // No line goes on in the next one.
    assert_eq!(read(&["foo; a=\"b", "c\""]), format!("! {quoted}"));
    assert_eq!(read(&["foo;", "a"]), format!("! {no_parameter}"));
}

#[test]
fn only_what_is_escaped_is_copied() {
    let line = r#"foo; a="b"; c=d; e="\f"; g="h\i""#.to_owned();
    let extension = extensions([&*line].into_iter()).next().unwrap().unwrap();
    let copied: Vec<bool> =
        extension.parameters.iter().map(|parameter| matches!(parameter.value, Some(Cow::Owned(_)))).collect();
    assert_eq!(copied, [false, false, false, true]);
}

/// Counted, not measured: how often a byte is looked at does not depend on how many there are.
#[test]
fn every_byte_is_looked_at_a_bounded_number_of_times() {
    const SIZE: usize = 64 * 1024;
    let filled = |before: &str, unit: &str, behind: &str| format!("{before}{}{behind}", unit.repeat(SIZE / unit.len()));
    let bombs = [
        filled("foo; a=\"", "\\a", "\""),
        filled("foo; a=\"", "\\a", ""),
        filled("foo; a=\"", "a", "\""),
        filled("foo; a=\"", "\\\"", ""),
        filled("foo; a=\"", "\\", ""),
        filled("foo; a=", "\"", ""),
        filled("foo", ";a", ""),
        filled("foo", "; a = \"\\b\"", ""),
        filled("", "a,", ""),
        filled("", ",", ""),
        filled("", ", ", ""),
        filled("foo", " ", ""),
        filled("foo", " ", ";a"),
        filled("", "a", ""),
        filled("", "a;b=c,", "\""),
        filled("foo; a=\"", "é", ""),
    ];
    for bomb in bombs {
        let shown = &bomb[..16];
        let mut list = extensions([&*bomb].into_iter());
        let mut copied = 0;
        for extension in list.by_ref().flatten() {
            assert!(extension.parameters.capacity() <= bomb.len().max(4), "{shown}");
            copied += extension.parameters.iter().map(capacity).sum::<usize>();
        }
        assert!(list.rest.visited <= 6 * bomb.len(), "{shown}: {} of {}", list.rest.visited, bomb.len());
        assert!(copied <= 2 * bomb.len(), "{shown}: {copied} of {}", bomb.len());
    }
    // As many lines instead of one.
    let mut list = extensions(std::iter::repeat_n("a;b=\"\\c\"", SIZE));
    assert_eq!(list.by_ref().count(), SIZE);
    assert!(list.rest.visited <= 6 * 8 * SIZE, "{}", list.rest.visited);
}

fn capacity(parameter: &Parameter<'_>) -> usize {
    match &parameter.value {
        Some(Cow::Owned(value)) => value.capacity(),
        _ => 0,
    }
}
