use super::super::extensions::extensions;
use super::*;

/// All of an element `permessage-deflate…`.
fn read(element: &str, head: Head) -> Result<Deflate, String> {
    let extension =
        extensions([element].into_iter()).next().unwrap().unwrap_or_else(|error| panic!("{element}: {error}"));
    assert!(extension.name.eq_ignore_ascii_case(NAME), "{element}");
    Deflate::read(&extension.parameters, head)
}

fn offer(element: &str) -> Deflate {
    read(element, Head::Request).unwrap()
}

/// What `answer` comes to where these were offered, as `server_no client_no server_bits client_bits`, or why it does not.
fn agreed(offers: &[&str], answer: &str) -> String {
    let offers: Vec<Deflate> = offers.iter().map(|element| offer(element)).collect();
    match read(answer, Head::Response).and_then(|answer| answer.agreed(&offers)) {
        Ok(parameters) => format!(
            "{} {} {} {}",
            u8::from(parameters.server_no_context_takeover),
            u8::from(parameters.client_no_context_takeover),
            parameters.server_max_window_bits,
            parameters.client_max_window_bits
        ),
        Err(reason) => reason,
    }
}

fn options(server_no: bool, client_no: bool, server_bits: u8, client_bits: u8) -> WebSocketOptions {
    WebSocketOptions {
        server_no_context_takeover: server_no,
        client_no_context_takeover: client_no,
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
        ..WebSocketOptions::default()
    }
}

#[test]
fn what_options_offer() {
    let table = [
        (options(false, false, 15, 15), "permessage-deflate; client_max_window_bits"),
        (options(false, false, 15, 14), "permessage-deflate; client_max_window_bits=14"),
        (options(false, false, 15, 9), "permessage-deflate; client_max_window_bits=9"),
        (options(false, false, 14, 15), "permessage-deflate; server_max_window_bits=14; client_max_window_bits"),
        (options(false, false, 9, 15), "permessage-deflate; server_max_window_bits=9; client_max_window_bits"),
        (options(true, false, 15, 15), "permessage-deflate; server_no_context_takeover; client_max_window_bits"),
        (options(false, true, 15, 15), "permessage-deflate; client_no_context_takeover; client_max_window_bits"),
        (
            options(true, true, 10, 11),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; \
             client_max_window_bits=11",
        ),
    ];
    for (options, expected) in table {
        let deflate = Deflate::offered_by(&options).unwrap();
        let mut text = String::new();
        deflate.write(&mut text);
        assert_eq!(text, expected);
        // A server that reads it finds the same.
        assert_eq!(offer(&text), deflate);
    }
    assert_eq!(
        Deflate::offered_by(&WebSocketOptions::default()),
        Ok(offer("permessage-deflate; client_max_window_bits"))
    );
}

#[test]
fn options_that_cannot_be_offered() {
    for bits in 0..=u8::MAX {
        let is_fine = (9..=15).contains(&bits);
        for (name, options) in [
            ("server_max_window_bits", options(false, false, bits, 15)),
            ("client_max_window_bits", options(false, false, 15, bits)),
        ] {
            match Deflate::offered_by(&options) {
                Ok(_) => assert!(is_fine, "{name} {bits}"),
                Err(reason) => {
                    assert_eq!(reason, format!("the option {name} is {bits}, which is not one of 9 to 15"));
                    assert!(!is_fine);
                }
            }
        }
    }
}

/// Each parameter in each head, with what may be and what is one beside it.
#[test]
fn parameters_and_their_values() {
    let [takes_none, takes_bits] = [
        ["server_no_context_takeover", "client_no_context_takeover"],
        ["server_max_window_bits", "client_max_window_bits"],
    ];
    for head in [Head::Request, Head::Response] {
        assert_eq!(read(NAME, head), Ok(Deflate::default()));
        for name in takes_none {
            assert!(read(&format!("{NAME}; {name}"), head).is_ok(), "{name}");
            for value in ["0", "1", "15", "true", "\"10\""] {
                let reason = format!(
                    "{NAME} has the parameter {name} with the value \"{}\", where none may be",
                    value.trim_matches('"')
                );
                assert_eq!(read(&format!("{NAME}; {name}={value}"), head), Err(reason));
            }
        }
        for name in takes_bits {
            for value in ["8", "9", "10", "11", "12", "13", "14", "15", "\"8\"", "\"10\"", "\"1\\5\""] {
                assert!(read(&format!("{NAME}; {name}={value}"), head).is_ok(), "{name}={value}");
            }
            for value in [
                "0",
                "1",
                "7",
                "16",
                "80",
                "100",
                "255",
                "256",
                "264",
                "265",
                "08",
                "008",
                "09",
                "010",
                "+9",
                "-9",
                "-8",
                "9.0",
                "9a",
                "0x9",
                "a",
                "1O",
                "1e1",
                "999999999999999999999999",
                "\"16\"",
                "\"08\"",
            ] {
                let reason = format!(
                    "{NAME} has the parameter {name} with the value \"{}\", which is not one of 8 to 15",
                    value.trim_matches('"')
                );
                assert_eq!(read(&format!("{NAME}; {name}={value}"), head), Err(reason));
            }
        }
        for (names, value) in [(takes_none, ""), (takes_bits, "=15")] {
            for name in names {
                // In another spelling it is still the same.
                let other = name.to_ascii_uppercase();
                for second in [name, &other] {
                    let text = format!("{NAME}; {name}{value}; {second}{value}");
                    assert_eq!(read(&text, head), Err(format!("{NAME} has the parameter {name} twice")), "{text}");
                }
            }
        }
        for (parameter, shown) in [
            ("unknown", "unknown"),
            ("unknown=1", "unknown"),
            ("max_window_bits=10", "max_window_bits"),
            ("server_no_context_takeover_", "server_no_context_takeover_"),
            ("server-no-context-takeover", "server-no-context-takeover"),
            ("server_no_context_takeover; x", "x"),
        ] {
            let reason = format!("{NAME} has the parameter \"{shown}\", which RFC 7692 does not know");
            assert_eq!(read(&format!("{NAME}; {parameter}"), head), Err(reason));
        }
    }
}

#[test]
fn who_needs_a_value() {
    let without = |name: &str| Err(format!("{NAME} has the parameter {name} without a value"));
    // RFC 7692 §7.1.2.2: only that of a client, and only in an offer.
    let client = "permessage-deflate; client_max_window_bits";
    assert_eq!(offer(client).client_max_window_bits, Some(ClientBits::Any));
    assert_eq!(read(client, Head::Response), without("client_max_window_bits"));
    for head in [Head::Request, Head::Response] {
        assert_eq!(read("permessage-deflate; server_max_window_bits", head), without("server_max_window_bits"));
    }
    let twice = read("permessage-deflate; client_max_window_bits; client_max_window_bits=10", Head::Request);
    assert_eq!(twice, Err(format!("{NAME} has the parameter client_max_window_bits twice")));
}

#[test]
fn names_are_compared_without_case() {
    let text = "Permessage-Deflate; SERVER_no_context_takeover; Client_No_Context_Takeover; Server_Max_Window_Bits=9; \
                CLIENT_MAX_WINDOW_BITS=10";
    assert_eq!(agreed(&["permessage-deflate; client_max_window_bits"], text), "1 1 9 10");
}

/// Names as short as `sn` stand for the four parameters.
fn spelled(text: &str) -> String {
    let element = text
        .replace("sn", "server_no_context_takeover")
        .replace("cn", "client_no_context_takeover")
        .replace("sb", "server_max_window_bits")
        .replace("cb", "client_max_window_bits");
    if element.is_empty() { NAME.to_owned() } else { format!("{NAME}; {element}") }
}

#[test]
fn answers_to_one_offer() {
    let no = |name: &str| format!("{NAME} has no {name}, which was asked for");
    let not_offered = format!("{NAME} has the parameter client_max_window_bits, which was not offered");
    let more = |name: &str, bits: u8, most: u8| {
        format!("{NAME} has the parameter {name} with the value {bits}, which is more than the offered {most}")
    };
    let table = [
        // What is offered by default.
        ("cb", "", "0 0 15 15".to_owned()),
        ("cb", "cb=15", "0 0 15 15".to_owned()),
        ("cb", "cb=8", "0 0 15 8".to_owned()),
        ("cb", "cb=\"10\"", "0 0 15 10".to_owned()),
        // Unasked, yet about the server itself: RFC 7692 §7.1.1.1, §7.1.2.1.
        ("cb", "sn", "1 0 15 15".to_owned()),
        ("cb", "sb=8", "0 0 8 15".to_owned()),
        ("cb", "sb=15", "0 0 15 15".to_owned()),
        // Or what a client always has to bear: §7.1.1.2.
        ("cb", "cn", "0 1 15 15".to_owned()),
        ("cb", "cb=11; sb=10; cn; sn", "1 1 10 11".to_owned()),
        // §7.1.1.1
        ("sn; cb", "sn", "1 0 15 15".to_owned()),
        ("sn; cb", "", no("server_no_context_takeover")),
        ("sn; cb", "cn; sb=9", no("server_no_context_takeover")),
        // §7.1.1.2: this side begins anew whether or not the server says so.
        ("cn; cb", "cn", "0 1 15 15".to_owned()),
        ("cn; cb", "", "0 1 15 15".to_owned()),
        // §7.1.2.1
        ("sb=12; cb", "sb=12", "0 0 12 15".to_owned()),
        ("sb=12; cb", "sb=8", "0 0 8 15".to_owned()),
        ("sb=12; cb", "sb=13", more("server_max_window_bits", 13, 12)),
        ("sb=12; cb", "", no("server_max_window_bits")),
        ("sb=15", "", no("server_max_window_bits")),
        ("sb=15", "sb=15", "0 0 15 15".to_owned()),
        // §7.1.2.2
        ("cb=12", "cb=12", "0 0 15 12".to_owned()),
        ("cb=12", "cb=9", "0 0 15 9".to_owned()),
        ("cb=12", "", "0 0 15 12".to_owned()),
        ("cb=12", "cb=13", more("client_max_window_bits", 13, 12)),
        ("cb=8", "", "0 0 15 8".to_owned()),
        ("", "", "0 0 15 15".to_owned()),
        ("", "cb=15", not_offered.clone()),
        ("sn; cn; sb=12", "sn; cn; sb=12; cb=12", not_offered),
        ("sn; cn; sb=12; cb=12", "sn; sb=10", "1 1 10 12".to_owned()),
    ];
    for (offer, answer, expected) in table {
        let found = agreed(&[&spelled(offer)], &spelled(answer));
        assert_eq!(found, expected, "{offer:?} answered with {answer:?}");
    }
}

#[test]
fn answers_to_several_offers() {
    let table: [(&[&str], &str, &str); 9] = [
        (&["sn; cb", ""], "", "0 0 15 15"),
        (&["sn; cb", ""], "sn", "1 0 15 15"),
        (&["sn; cb", ""], "sn; cb=9", "1 0 15 9"),
        (&["sb=10", "sb=12; cb=9"], "sb=11", "0 0 11 9"),
        // Which of them it is to nobody knows: what either promised is kept.
        (&["cb=10", "cn; cb"], "", "0 1 15 10"),
        (&["cn; cb", "cb=10", "cb=12"], "cb=9", "0 1 15 9"),
        (&["cb=10", "cb=12"], "cb=11", "0 0 15 11"),
        // It fits none, and is told why not the first.
        (&["sn; cb", ""], "cb=9", "permessage-deflate has no server_no_context_takeover, which was asked for"),
        (&["", "sb=9"], "cb=9", "permessage-deflate has the parameter client_max_window_bits, which was not offered"),
    ];
    for (offers, answer, expected) in table {
        let offers: Vec<String> = offers.iter().map(|offer| spelled(offer)).collect();
        let offers: Vec<&str> = offers.iter().map(String::as_str).collect();
        assert_eq!(agreed(&offers, &spelled(answer)), expected, "{offers:?} answered with {answer:?}");
    }
    assert_eq!(agreed(&[], NAME), "permessage-deflate was not offered");
}

#[test]
fn what_is_shown_of_a_server_is_cut() {
    let long = "x".repeat(10_000);
    for parameter in [&*long, &format!("server_max_window_bits={long}"), &format!("client_no_context_takeover={long}")]
    {
        let reason = read(&format!("{NAME}; {parameter}"), Head::Response).unwrap_err();
        assert!(reason.contains("xxx…\"") && reason.len() < 250, "{reason}");
    }
}
