use url::Url;

use super::*;
use crate::foundation::cookies::jar::Origin;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds)
}

fn cookie(name: &str, value: &str) -> HttpCookie {
    let mut cookie = HttpCookie::new(name, value, "example.com", "/");
    cookie.set_expires_date(Some(at(1_000_000)));
    cookie
}

fn set(jar: &mut Jar, name: &str, value: &str, second: u64) {
    jar.set(cookie(name, value), Origin::Program, at(second));
}

fn set_for_session(jar: &mut Jar, name: &str, value: &str, second: u64) {
    jar.set(HttpCookie::new(name, value, "example.com", "/"), Origin::Program, at(second));
}

fn remove(jar: &mut Jar, name: &str, second: u64) {
    assert!(jar.remove(&cookie(name, ""), at(second)), "{name} is there");
}

/// A jar meets the file, as a process does that writes.
fn write(jar: &mut Jar, file: &mut String, second: u64) {
    jar.read_text(file.as_bytes(), at(second)).unwrap();
    let (text, tick) = jar.to_text(at(second));
    jar.note_saved(tick);
    assert!(!jar.has_unsaved());
    *file = text;
}

/// A jar that has read the file.
fn opened(file: &str, second: u64) -> Jar {
    let mut jar = Jar::kept();
    jar.read_text(file.as_bytes(), at(second)).unwrap();
    assert!(!jar.has_unsaved());
    jar
}

fn shown(jar: &Jar, second: u64) -> String {
    let cookies = jar.cookies(at(second));
    let mut all: Vec<String> = cookies.iter().map(|cookie| format!("{}{}", cookie.name(), cookie.value())).collect();
    all.sort();
    all.join(" ")
}

#[track_caller]
fn has(file: &str, second: u64, expected: &str) {
    assert_eq!(shown(&opened(file, second), second), expected);
}

#[test]
fn what_both_set_is_there() {
    let mut file = String::new();
    let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
    set(&mut one, "a", "1", 1);
    set(&mut other, "b", "1", 2);
    write(&mut one, &mut file, 3);
    has(&file, 3, "a1");
    write(&mut other, &mut file, 4);
    has(&file, 4, "a1 b1");
    assert!(file.find("\ta\t1\n") < file.find("\tb\t1\n"), "the oldest first, wherever it was set");
    assert_eq!((shown(&one, 5), shown(&other, 5)), ("a1".to_owned(), "a1 b1".to_owned()));
    write(&mut one, &mut file, 6);
    assert_eq!(shown(&one, 6), "a1 b1");
}

#[test]
fn of_each_cookie_the_last_counts_whoever_writes_first() {
    for late_writes_first in [false, true] {
        let mut file = String::new();
        let (mut early, mut late) = (opened(&file, 0), opened(&file, 0));
        set(&mut early, "a", "early", 1);
        set(&mut late, "a", "late", 2);
        for turn in [late_writes_first, !late_writes_first] {
            write(if turn { &mut late } else { &mut early }, &mut file, 3);
        }
        has(&file, 4, "alate");
    }
}

#[test]
fn what_is_deleted_stays_so() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    set(&mut one, "a", "1", 1);
    set(&mut one, "b", "1", 1);
    write(&mut one, &mut file, 2);
    let mut other = opened(&file, 3);
    remove(&mut one, "a", 4);
    write(&mut one, &mut file, 5);
    // The other knows it from before, and has something of its own to write.
    set(&mut other, "c", "1", 6);
    write(&mut other, &mut file, 7);
    has(&file, 8, "b1 c1");
    assert_eq!(shown(&other, 8), "b1 c1");
    // Set again, it is there again.
    set(&mut other, "a", "2", 9);
    write(&mut other, &mut file, 10);
    write(&mut one, &mut file, 11);
    assert_eq!(shown(&one, 11), "a2 b1 c1");
}

/// Nothing says any more that it was deleted, but the file does not have it.
#[test]
fn what_was_deleted_long_ago_does_not_come_back() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    set(&mut one, "a", "1", 1);
    write(&mut one, &mut file, 2);
    let mut other = opened(&file, 3);
    remove(&mut one, "a", 4);
    write(&mut one, &mut file, 5);
    let later = 6 + 2 * KNOWN.as_secs();
    set(&mut one, "b", "1", later);
    write(&mut one, &mut file, later);
    assert!(!file.contains("deleted\t"));
    write(&mut other, &mut file, later);
    has(&file, later, "b1");
    assert_eq!(shown(&other, later), "b1");
}

#[test]
fn of_a_setting_and_a_deletion_the_last_counts() {
    for (set_at, deleted_at, expected) in [(5, 6, ""), (6, 5, "anew")] {
        for set_first in [false, true] {
            let mut file = String::new();
            let mut one = opened(&file, 0);
            set(&mut one, "a", "old", 1);
            write(&mut one, &mut file, 2);
            let mut other = opened(&file, 3);
            set(&mut other, "a", "new", set_at);
            remove(&mut one, "a", deleted_at);
            for turn in [set_first, !set_first] {
                write(if turn { &mut other } else { &mut one }, &mut file, 7);
            }
            has(&file, 8, expected);
            write(&mut one, &mut file, 9);
            write(&mut other, &mut file, 9);
            assert_eq!((shown(&one, 9).as_str(), shown(&other, 9).as_str()), (expected, expected), "{set_first}");
        }
    }
}

#[test]
fn what_ends_with_the_process_is_not_written() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    set(&mut one, "a", "1", 1);
    set_for_session(&mut one, "b", "1", 1);
    write(&mut one, &mut file, 2);
    has(&file, 2, "a1");
    assert_eq!(shown(&one, 2), "a1 b1");
    // It takes the place of one that was kept: that is gone, for everybody.
    let mut other = opened(&file, 3);
    set_for_session(&mut one, "a", "2", 4);
    assert!(one.has_unsaved());
    write(&mut one, &mut file, 5);
    write(&mut other, &mut file, 6);
    has(&file, 6, "");
    assert_eq!((shown(&one, 6).as_str(), shown(&other, 6).as_str()), ("a2 b1", ""));
    // What was set in the file before that does not come back, what was set since does.
    set(&mut other, "b", "3", 7);
    write(&mut other, &mut file, 7);
    write(&mut one, &mut file, 8);
    assert_eq!(shown(&one, 8), "a2 b3");
    // And the other way round.
    set_for_session(&mut one, "c", "5", 10);
    set(&mut other, "c", "4", 9);
    write(&mut other, &mut file, 11);
    write(&mut one, &mut file, 11);
    assert_eq!(shown(&one, 11), "a2 b3 c5");
    has(&file, 11, "b3");
    // Neither do those that were set before it and come into the file long after.
    let mut late = opened("", 8);
    set(&mut late, "e", "4", 8);
    set_for_session(&mut one, "e", "5", 9);
    write(&mut one, &mut file, 11);
    write(&mut late, &mut file, 12);
    write(&mut one, &mut file, 12);
    assert_eq!(shown(&one, 12), "a2 b3 c5 e5");
    // Nor does one bring it back that set it earlier still.
    let mut late = opened("", 8);
    set(&mut late, "c", "3", 8);
    write(&mut late, &mut file, 12);
    has(&file, 12, "b3");
}

#[test]
fn what_expires_leaves_the_file_and_is_not_known_for_long() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    let mut short = cookie("a", "1");
    short.set_expires_date(Some(at(100)));
    one.set(short, Origin::Program, at(1));
    set(&mut one, "b", "1", 1);
    write(&mut one, &mut file, 2);
    assert!(file.contains("\tb\t1\n") && file.contains("\ta\t1\n"));
    remove(&mut one, "b", 3);
    write(&mut one, &mut file, 100);
    assert!(!file.contains("cookie\t") && file.contains("deleted\t"), "{file}");
    write(&mut one, &mut file, 3 + KNOWN.as_secs());
    assert!(file.contains("deleted\t"));
    write(&mut one, &mut file, 4 + KNOWN.as_secs());
    assert!(!file.contains("deleted\t"));
    for number in 0..DELETED as u64 + 100 {
        set(&mut one, &number.to_string(), "1", 100_000 + number);
        remove(&mut one, &number.to_string(), 100_001 + number);
    }
    write(&mut one, &mut file, 102_000);
    assert_eq!(file.matches("deleted\t").count(), DELETED);
    assert!(file.contains("\t/\t1099\n") && !file.contains("\t/\t99\n"));
}

#[test]
fn a_clock_that_was_set_back_brings_nothing_back() {
    let mut file = String::new();
    let mut one = opened(&file, 100);
    set(&mut one, "a", "1", 100);
    write(&mut one, &mut file, 100);
    set(&mut one, "a", "2", 50);
    write(&mut one, &mut file, 50);
    has(&file, 50, "a2");
    remove(&mut one, "a", 40);
    write(&mut one, &mut file, 40);
    has(&file, 40, "");
    set(&mut one, "a", "3", 30);
    write(&mut one, &mut file, 30);
    has(&file, 30, "a3");
    set_for_session(&mut one, "a", "4", 20);
    write(&mut one, &mut file, 20);
    has(&file, 20, "");
    assert_eq!(shown(&one, 20), "a4");
}

#[test]
fn what_changes_while_a_text_is_written_is_written_next() {
    let mut jar = Jar::kept();
    set(&mut jar, "a", "1", 1);
    set(&mut jar, "b", "1", 1);
    let (text, tick) = jar.to_text(at(2));
    set(&mut jar, "a", "2", 3);
    remove(&mut jar, "b", 3);
    jar.note_saved(tick);
    assert!(jar.has_unsaved());
    let mut file = text;
    write(&mut jar, &mut file, 4);
    has(&file, 4, "a2");
    // A deletion alone, too.
    let (_, tick) = jar.to_text(at(5));
    remove(&mut jar, "a", 6);
    jar.note_saved(tick);
    assert!(jar.has_unsaved());
}

#[test]
fn those_that_have_to_go_go_from_the_file_too() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    for number in 100..400u64 {
        set(&mut one, &number.to_string(), "", number);
    }
    write(&mut one, &mut file, 500);
    let mut other = opened(&file, 501);
    assert_eq!(other.cookies(at(501)).len(), 180);
    for number in 400..450u64 {
        set(&mut other, &number.to_string(), "", number + 200);
    }
    write(&mut other, &mut file, 700);
    write(&mut one, &mut file, 701);
    assert_eq!((one.cookies(at(701)).len(), other.cookies(at(701)).len()), (180, 180));
    assert_eq!(shown(&one, 701), shown(&other, 701));
}

#[test]
fn a_jar_in_memory_knows_nothing_of_files() {
    let mut jar = Jar::default();
    jar.receive("a=1", &Url::parse("ws://example.com").unwrap(), at(0));
    jar.clear(at(1));
    assert!(jar.deleted.is_none());
}

#[test]
fn deletions_do_not_grow_without_a_file() {
    let mut jar = Jar::kept();
    for number in 0..2 * NOTED as u64 {
        set(&mut jar, &number.to_string(), "1", number);
        remove(&mut jar, &number.to_string(), number);
        assert!(jar.deleted.as_ref().unwrap().0.len() <= NOTED);
    }
}

#[test]
fn deletions_that_are_on_disk_go_first_and_equal_dates_are_cut_too() {
    let mut deleted = Deleted::default();
    let key = |number: usize| (String::new(), String::new(), number.to_string());
    for number in 0..2 * DELETED {
        // The latter half is newer and on disk.
        let (date, tick) = if number < DELETED { (at(1), 1) } else { (at(2), 0) };
        deleted.0.insert(key(number), (date, tick));
    }
    deleted.prune(at(3));
    assert!(deleted.0.len() == DELETED && deleted.0.values().all(|(_, tick)| *tick == 1));
    deleted.0.extend((0..2 * DELETED).map(|number| (key(number), (at(2), 1))));
    deleted.prune(at(3));
    assert_eq!(deleted.0.len(), DELETED);
}

#[test]
fn what_was_emptied_takes_with_it_what_it_did_not_know() {
    let mut file = String::new();
    let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
    set(&mut other, "a", "1", 1);
    set(&mut other, "b", "1", 1);
    write(&mut other, &mut file, 2);
    one.clear(at(3));
    assert!(one.has_unsaved());
    set(&mut one, "b", "2", 4);
    write(&mut one, &mut file, 5);
    assert_eq!(shown(&one, 5), "b2");
    has(&file, 5, "b2");
    write(&mut other, &mut file, 6);
    assert_eq!(shown(&other, 6), "b2");
    // Once.
    set(&mut other, "a", "3", 7);
    write(&mut other, &mut file, 7);
    write(&mut one, &mut file, 8);
    assert_eq!(shown(&one, 8), "a3 b2");
}

#[test]
fn what_others_write_after_an_emptying_stays() {
    let mut file = String::new();
    let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
    set(&mut one, "b", "1", 1);
    set(&mut other, "a", "1", 2);
    set(&mut other, "c", "1", 4);
    write(&mut other, &mut file, 5);
    one.clear(at(3));
    write(&mut one, &mut file, 6);
    assert_eq!(shown(&one, 6), "c1");
    has(&file, 6, "c1");
    // With a clock that was set back, what is set after it is newer all the same.
    set(&mut other, "d", "1", 9);
    write(&mut other, &mut file, 9);
    one.clear(at(10));
    set(&mut one, "d", "2", 8);
    assert!(one.entries().all(|entry| entry.changed > at(10)));
    write(&mut one, &mut file, 11);
    write(&mut other, &mut file, 12);
    has(&file, 12, "d2");
    assert_eq!((shown(&one, 12), shown(&other, 12)), ("d2".to_owned(), "d2".to_owned()));
}

#[test]
fn what_is_deleted_without_being_known_is_looked_for_in_the_file() {
    let (open, secure) = (Url::parse("ws://example.com/").unwrap(), Url::parse("wss://example.com/").unwrap());
    for (lines, url, expected) in [
        // A program, as it comes, and servers.
        (["", ""], &open, "plain1 secure1"),
        (["plain=; max-age=0", "secure=; secure; max-age=0"], &secure, ""),
        (["plain=; max-age=0", "secure=; max-age=0"], &secure, ""),
        (["plain=; max-age=0", "secure=; max-age=0"], &open, "secure1"),
    ] {
        let mut file = String::new();
        let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
        set(&mut other, "plain", "1", 1);
        let mut cookie = cookie("secure", "1");
        cookie.set_secure(true);
        other.set(cookie, Origin::Program, at(1));
        write(&mut other, &mut file, 2);
        for line in lines {
            assert_eq!(one.receive(line, url, at(3)), !line.is_empty(), "{line}");
        }
        assert_eq!(one.has_unsaved(), !lines[0].is_empty());
        write(&mut one, &mut file, 4);
        has(&file, 4, expected);
        write(&mut other, &mut file, 5);
        assert_eq!((shown(&one, 5).as_str(), shown(&other, 5).as_str()), (expected, expected), "{lines:?}");
    }
}

#[test]
fn what_is_deleted_without_being_known_is_asked_for_once_and_up_to_then() {
    let mut file = String::new();
    let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
    // Set later than it was deleted, by another and here.
    set(&mut other, "a", "1", 5);
    set(&mut other, "b", "1", 5);
    write(&mut other, &mut file, 6);
    assert!(one.remove(&cookie("a", ""), at(4)) && one.remove(&cookie("b", ""), at(7)));
    set(&mut one, "b", "2", 8);
    write(&mut one, &mut file, 9);
    has(&file, 9, "a1 b2");
    // Nothing is left of it, and nothing of what was not in the file, changed or not.
    for changed in [false, true] {
        assert!(one.remove(&cookie("d", ""), at(10)) && one.has_unsaved());
        if changed {
            one.read_text(file.as_bytes(), at(10)).unwrap();
        } else {
            one.note_unchanged();
        }
        assert!(!one.has_unsaved());
    }
    set(&mut other, "d", "1", 9);
    write(&mut other, &mut file, 11);
    write(&mut one, &mut file, 12);
    assert_eq!(shown(&one, 12), "a1 b2 d1");
    // One that ended with the process is not in the file, and does not come into it.
    set_for_session(&mut one, "e", "1", 13);
    assert!(one.remove(&cookie("e", ""), at(14)));
    write(&mut one, &mut file, 15);
    assert!(!file.contains("\t/\te"), "{file}");
    // There is a limit, and what who is secure wants is not taken back by others.
    for number in 0..2 * DELETED {
        one.remove(&cookie(&number.to_string(), ""), at(20));
    }
    assert_eq!(one.unwanted.single.len(), DELETED);
    one.receive("0=; max-age=0", &Url::parse("ws://example.com/").unwrap(), at(21));
    assert_eq!(one.unwanted.single.get(&key_of(&cookie("0", ""))), Some(&(at(20), false)));
}

#[test]
fn what_is_secure_in_the_file_shields_what_a_jar_did_not_know() {
    let open = Url::parse("ws://example.com/").unwrap();
    let secure = Url::parse("wss://example.com/").unwrap();
    for (theirs, ours, url, expected) in [
        ("a=1; secure", "a=2", &open, "a1"),
        ("a=1; secure", "a=2; path=/login", &open, "a1"),
        ("a=1; secure", "a=2; domain=example.com", &open, "a1"),
        ("a=1; secure", "a=; max-age=0", &open, "a1"),
        // One that a server may set.
        ("a=1; secure", "a=2", &secure, "a2"),
        ("a=1; secure; path=/login", "a=2", &open, "a1 a2"),
        ("a=1; secure", "b=2", &open, "a1 b2"),
        ("a=1", "a=2", &open, "a2"),
    ] {
        let lasting =
            |line: &str| if line.contains("max-age") { line.to_owned() } else { format!("{line}; max-age=99") };
        let mut file = String::new();
        let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
        other.receive(&lasting(theirs), &secure, at(1));
        write(&mut other, &mut file, 2);
        one.receive(&lasting(ours), url, at(3));
        write(&mut one, &mut file, 4);
        has(&file, 4, expected);
        assert_eq!(shown(&one, 4), expected, "{ours}");
    }
    // What was there before, what has expired and what was deleted shield nothing.
    for (second, forget) in [(5, ""), (200, ""), (3, "one"), (3, "all")] {
        let mut file = String::new();
        let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
        other.receive("a=1; secure; max-age=99; path=/x", &secure, at(3));
        write(&mut other, &mut file, 3);
        match forget {
            "one" => drop(one.receive("a=; max-age=0; path=/x", &secure, at(4))),
            "all" => one.clear(at(4)),
            _ => {}
        }
        let (set_at, expected) = if second == 5 { (2, "a1 a2") } else { (second.max(4), "a2") };
        one.receive("a=2; max-age=99; path=/x/y", &open, at(set_at));
        write(&mut one, &mut file, second.max(5));
        assert_eq!(shown(&one, second.max(5)), expected, "{second} {forget}");
    }
    // Once it is in the file, it is as any other.
    let mut file = String::new();
    let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
    one.receive("a=2; max-age=99; path=/x/y", &open, at(1));
    write(&mut one, &mut file, 2);
    other.receive("a=1; secure; max-age=99; path=/x", &secure, at(1));
    write(&mut other, &mut file, 3);
    write(&mut one, &mut file, 4);
    assert_eq!(shown(&one, 4), "a1 a2");
}

#[test]
fn what_was_deleted_long_ago_and_could_not_be_written_is_still_known() {
    let mut file = String::new();
    let mut one = opened(&file, 0);
    set(&mut one, "a", "1", 1);
    set(&mut one, "b", "1", 1);
    write(&mut one, &mut file, 2);
    remove(&mut one, "a", 3);
    let later = 4 + KNOWN.as_secs();
    // It meets the file, and does not write.
    let mut other = opened(&file, 4);
    set(&mut other, "c", "1", 4);
    write(&mut other, &mut file, 4);
    one.read_text(file.as_bytes(), at(later)).unwrap();
    assert!(one.has_unsaved());
    write(&mut one, &mut file, later);
    has(&file, later, "b1 c1");
}

#[test]
fn what_was_set_last_counts_when_it_has_expired_too() {
    let mut short = cookie("a", "new");
    short.set_expires_date(Some(at(6)));
    // In the file, while the older one is known, or not written yet.
    for is_late in [false, true] {
        let mut file = String::new();
        let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
        set(&mut one, "a", "old", 1);
        if !is_late {
            write(&mut one, &mut file, 2);
        }
        write(&mut other, &mut file, 3);
        other.set(short.clone(), Origin::Program, at(4));
        write(&mut other, &mut file, 5);
        assert!(file.contains("\ta\tnew\n"));
        write(&mut one, &mut file, 7);
        has(&file, 7, "");
        assert_eq!(shown(&one, 7), "");
        assert!(!file.contains("cookie\t"), "{file}");
    }
    // In a jar that has not written it, and does not have it any more. What another has set since stays.
    for (second, expected) in [(3, ""), (5, "aother")] {
        let mut file = String::new();
        let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
        set(&mut one, "a", "old", 1);
        write(&mut one, &mut file, 2);
        one.set(short.clone(), Origin::Program, at(4));
        assert!(one.remove_since(at(4), at(7)));
        set(&mut other, "a", "other", second);
        write(&mut other, &mut file, 7);
        write(&mut one, &mut file, 8);
        has(&file, 8, expected);
    }
}

#[test]
fn a_deletion_counts_as_of_when_it_was_asked_for() {
    let delete: fn(&mut Jar) = |jar| remove(jar, "a", 5);
    let clear: fn(&mut Jar) = |jar| jar.clear(at(5));
    // Who is not secure takes out no secure one, later either.
    let clear_and_ask: fn(&mut Jar) = |jar| {
        jar.clear(at(5));
        assert!(jar.receive("a=; max-age=0", &Url::parse("ws://example.com/").unwrap(), at(7)));
    };
    // One of its own before, which was not written either.
    let again: fn(&mut Jar) = |jar| {
        set(jar, "a", "0", 3);
        remove(jar, "a", 3);
        remove(jar, "a", 5);
    };
    for (name, deletion) in [("delete", delete), ("clear", clear), ("ask", clear_and_ask), ("again", again)] {
        for (second, expected) in [(4, ""), (6, "a2")] {
            let mut file = String::new();
            let (mut one, mut other) = (opened(&file, 0), opened(&file, 0));
            let set = |jar: &mut Jar, value, second| {
                let mut cookie = cookie("a", value);
                cookie.set_secure(true);
                jar.set(cookie, Origin::Program, at(second));
            };
            set(&mut other, "1", 2);
            write(&mut other, &mut file, 2);
            // Not known here.
            deletion(&mut one);
            set(&mut other, "2", second);
            write(&mut one, &mut file, 8);
            has(&file, 8, "");
            write(&mut other, &mut file, 9);
            has(&file, 9, expected);
            assert_eq!(shown(&other, 9), expected, "{name} {second}");
        }
    }
}
