use url::Url;

use super::*;
use crate::foundation::cookies::jar::Jar;

impl Jar {
    /// Meets a file; an empty text is one that is not there.
    pub fn read_text(&mut self, text: &[u8], now: SystemTime) -> Result<(), Malformed> {
        let kept = if text.is_empty() { Kept::default() } else { kept_in(text)? };
        self.merge(kept, now);
        Ok(())
    }

    /// The text of the file, and the tick for `note_saved`.
    pub fn to_text(&mut self, now: SystemTime) -> (String, u64) {
        let kept = self.for_file(now);
        let tick = kept.tick;
        (kept.text(), tick)
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + seconds, 7)
}

/// A jar with one of everything.
fn jar() -> Jar {
    let mut jar = Jar::kept();
    let lines = [
        "a=1; max-age=100",
        "b=\\ \t\\t\"\u{e4}\u{4e2d}; max-age=100; domain=example.com; path=/x\\y; secure; httponly; samesite=lax",
        "nameless; max-age=100; samesite=strict",
        "gone=1; max-age=100",
        "session=1",
    ];
    for line in lines {
        assert!(jar.receive(line, &Url::parse("wss://www.example.com/").unwrap(), at(0)), "{line}");
    }
    jar.receive("gone=; max-age=0", &Url::parse("wss://www.example.com/").unwrap(), at(1));
    jar
}

#[test]
fn the_file_has_this_form() {
    let text = jar().to_text(at(2)).0;
    let dates = "1000000000.000000007\t1000000000.000000007\t1000000100.000000007";
    let body = format!(
        "urlsession cookies 1\n\
         cookie\t{dates}\t-\twww.example.com\t/\ta\t1\n\
         cookie\t{dates}\tSHL\t.example.com\t/x\\\\y\tb\t\\\\ \\t\\\\t\"\u{e4}\u{4e2d}\n\
         cookie\t{dates}\tT\twww.example.com\t/\t\tnameless\n\
         deleted\t1000000001.000000007\twww.example.com\t/\tgone\n"
    );
    assert_eq!(text, format!("{body}sha1\t{}\n", sum_of(&body)));
}

#[test]
fn what_was_written_is_read() {
    let (text, _) = jar().to_text(at(2));
    let mut again = Jar::kept();
    again.read_text(text.as_bytes(), at(3)).unwrap();
    let mut expected = jar().cookies(at(3));
    expected.retain(|cookie| !cookie.is_session_only());
    assert_eq!(again.cookies(at(3)), expected);
    assert_eq!(again.to_text(at(3)).0, text);
    let mut empty = Jar::kept();
    empty.read_text(b"", at(3)).unwrap();
    let text = empty.to_text(at(3)).0;
    empty.read_text(text.as_bytes(), at(3)).unwrap();
    assert!(empty.cookies(at(3)).is_empty());
}

#[test]
fn damage_is_found_wherever_it_is() {
    let text = jar().to_text(at(2)).0.into_bytes();
    let fails = |text: &[u8]| {
        let mut jar = Jar::kept();
        let failed = jar.read_text(text, at(3)).is_err();
        assert!(jar.cookies(at(3)).is_empty() || !failed, "nothing of it is taken");
        failed
    };
    assert!(!fails(&text));
    for end in 1..text.len() {
        assert!(fails(&text[..end]), "cut at {end}");
    }
    for position in 0..text.len() {
        let mut damaged = text.clone();
        damaged[position] ^= 1;
        assert!(fails(&damaged), "changed at {position}");
    }
    assert!(fails(&[&text[..], b"\n"].concat()) && fails(&[&text[..], &text].concat()) && fails(&[0; 4096]));
}

#[test]
fn an_error_says_what_is_wrong_and_shows_no_cookie() {
    let signed = |body: &str| format!("{body}sha1\t{}\n", sum_of(body));
    for (text, expected) in [
        (String::new(), "it is not a file of cookies (line 1)"),
        ("secret".to_owned(), "it is not a file of cookies (line 1)"),
        (signed("urlsession cookies 2\n"), "another version of this program wrote it (line 1)"),
        ("urlsession cookies 1\n".to_owned(), "its check sum is not that of its text (line 1)"),
        ("urlsession cookies 1\nsecret\n".to_owned(), "its check sum is not that of its text (line 2)"),
        (signed("urlsession cookies 1\nsecret\n"), "the line cannot be read (line 2)"),
        (signed("urlsession cookies 1\n\n"), "the line cannot be read (line 2)"),
        (
            signed("urlsession cookies 1\ncookie\t1.0\t1.0\t9.0\t?\ta\t/\ta\tsecret\n"),
            "the line cannot be read (line 2)",
        ),
        (signed("urlsession cookies 1\ncookie\t1\t1.0\t9.0\t-\ta\t/\ta\tsecret\n"), "the line cannot be read (line 2)"),
        (signed("urlsession cookies 1\ndeleted\t1.0\t1.0\ta\t/\\x\n"), "the line cannot be read (line 2)"),
    ] {
        let error = kept_in(text.as_bytes()).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(Jar::kept().read_text(&[0xff, 0xfe], at(0)).unwrap_err().to_string(), "it is not a text (line 1)");
}

#[test]
fn what_no_server_could_have_set_is_passed_over() {
    let line = |domain: &str, name: &str, value: &str| {
        format!("cookie\t1.0\t1.0\t9999999999.0\t-\t{domain}\t/\t{name}\t{value}\n")
    };
    let (suffix, address) = (line(".com", "a", "1"), line(".127.0.0.1", "a", "1"));
    let (promise, whole) = (line("a.com", "__Host-a", "1"), line("a.com", "b", "1"));
    let body = ["urlsession cookies 1\n", &suffix, &address, &promise, &whole].concat();
    let mut jar = Jar::kept();
    jar.read_text(format!("{body}sha1\t{}\n", sum_of(&body)).as_bytes(), at(0)).unwrap();
    assert_eq!(jar.cookies(at(0)).len(), 1);
}

#[test]
fn a_text_that_would_be_too_long_goes_without_the_oldest_deletions() {
    let mut jar = jar();
    for number in 0..10 {
        jar.receive(&format!("d{number}=1; max-age=100"), &Url::parse("wss://example.com/").unwrap(), at(2));
        jar.receive(&format!("d{number}=1; max-age=0"), &Url::parse("wss://example.com/").unwrap(), at(10 + number));
    }
    let whole = jar.for_file(at(30)).text();
    assert_eq!(whole.matches("deleted\t").count(), 11);
    assert_eq!(jar.for_file(at(30)).text_within(whole.len()), whole);
    let shorter = jar.for_file(at(30)).text_within(whole.len() - 1);
    assert!(shorter.len() < whole.len() && !shorter.contains("\tgone\n") && shorter.contains("\td0\n"));
    assert!(kept_in(shorter.as_bytes()).is_ok());
    let shortest = jar.for_file(at(30)).text_within(0);
    assert!(!shortest.contains("deleted\t") && shortest.matches("cookie\t").count() == 3);
}
