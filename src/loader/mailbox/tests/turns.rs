//! What a turn takes out of the mailbox, and puts back.

use super::*;

/// How the callbacks of a mailbox are run.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// With [`Mailbox::next`].
    OneByOne,
    /// In batches of so many, of which so many are told before the rest is put back.
    Batches(usize, usize),
    /// As the turns of a task do, each of so many callbacks.
    Turns(usize),
}

impl Desk {
    /// Runs what can be told; of the messages that are told, so many let their handler ask for another.
    fn run_as(&mut self, way: Way, again: &mut usize) -> Vec<String> {
        match way {
            Way::OneByOne => while self.next_asks(again) {},
            Way::Batches(most, told) => {
                let mut batch = VecDeque::new();
                loop {
                    self.mailbox.next_batch(&mut batch, most);
                    assert!(batch.len() <= most);
                    if batch.is_empty() {
                        break;
                    }
                    for _ in 0..told {
                        if batch.pop_front().is_some_and(|callback| self.asks(callback, again)) {
                            self.ask("r");
                        }
                    }
                    self.mailbox.put_back(&mut batch);
                    assert!(batch.is_empty());
                }
            }
            Way::Turns(length) => while self.turn(length, again) {},
        }
        assert!(!self.mailbox.has_next());
        self.told()
    }

    fn next_asks(&mut self, again: &mut usize) -> bool {
        let Some(callback) = self.mailbox.next() else { return false };
        if self.asks(callback, again) {
            self.ask("r");
        }
        true
    }

    /// Tells one; whether its handler asks for another message.
    fn asks(&mut self, callback: Callback, again: &mut usize) -> bool {
        let asks = *again > 0 && matches!(callback, Callback::Received(_, Ok(_)));
        *again -= usize::from(asks);
        self.tell(callback);
        asks
    }

    /// As `session/turn.rs` does it: sent handlers, lent messages, batches. Whether there was anything.
    fn turn(&mut self, length: usize, again: &mut usize) -> bool {
        let (mut batch, mut kept, mut ran) = (VecDeque::new(), false, 0);
        while ran < length {
            let asked = std::mem::take(&mut kept);
            if asked {
                let handler = self.note("r", words);
                self.mailbox.receive_first(handler);
            }
            if let Some(mut sent) = self.mailbox.take_sent() {
                while ran < length && !sent.is_empty() {
                    ran += 1;
                    sent.pop().unwrap().call(Ok(()));
                }
                self.mailbox.put_back_sent(sent);
                continue;
            }
            self.mailbox.next_batch(&mut batch, length - ran);
            let lent = if asked && batch.len() == 1 { self.mailbox.lend() } else { None };
            if batch.is_empty() {
                break;
            }
            while let Some(callback) = batch.pop_front() {
                ran += 1;
                if !self.asks(callback, again) || !std::mem::replace(&mut kept, true) {
                    continue;
                }
                // The second goes to the mailbox, and the first before it.
                kept = false;
                let handler = self.note("r", words);
                self.mailbox.receive_first(handler);
                self.ask("r");
            }
            if let Some(mut lent) = lent {
                let (count, bytes) = (lent.len(), lent.bytes());
                while ran < length && kept && !lent.is_empty() {
                    let message = lent.pop().unwrap();
                    ran += 1;
                    self.note("r", words).call(Ok(message));
                    kept = *again > 0;
                    *again -= usize::from(kept);
                }
                self.mailbox.take_back(lent, count, bytes);
            }
        }
        self.mailbox.put_back(&mut batch);
        if kept {
            let handler = self.note("r", words);
            self.mailbox.receive_first(handler);
        }
        ran > 0
    }
}

/// What happens: receives, messages, bundles of two, one send, many, a pong, a fault, a cancel, the end.
fn happen(desk: &mut Desk, script: &str) {
    for (number, what) in script.chars().enumerate() {
        let name = |kind: &str| format!("{kind}{number}");
        match what {
            'r' => desk.ask("r"),
            'w' => assert!(desk.receive("w") < FOR_GOOD),
            'm' => desk.message(&name("m")),
            'b' if number % 2 == 1 => desk.long(&[&name("b"), &name("c")]),
            'b' => desk.bundle(&[&name("b"), &name("c")]),
            's' => desk.sent(&name("s"), Ok(())),
            'S' => desk.all_sent(&name("S")),
            'p' => desk.pong(&name("p"), Ok(())),
            'f' => desk.mailbox.deliver(Event::Fault),
            'x' => desk.mailbox.deliver(Event::DiscardUnread),
            'e' => desk.end(),
            other => panic!("{other}"),
        }
    }
}

/// Asserts that a script is told the same, however its callbacks are run.
fn same_however(script: &str, again: usize) {
    let mut ways = vec![Way::OneByOne];
    ways.extend((1..=4).flat_map(|most| (1..=most).map(move |told| Way::Batches(most, told))));
    ways.extend([256, 1, 2, 3, 5].map(Way::Turns));
    let mut expected = None;
    for way in ways {
        let (mut desk, mut left, mut told) = (Desk::default(), again, Vec::new());
        for phase in script.split(' ') {
            happen(&mut desk, phase);
            told.push(desk.run_as(way, &mut left));
        }
        let told = (told, left, desk.mailbox.unread, desk.mailbox.arrived - desk.mailbox.departed);
        let expected = expected.get_or_insert_with(|| told.clone());
        assert_eq!(told, *expected, "{script}, asking again {again} times, {way:?}");
    }
}

#[test]
fn what_is_told_and_its_order_do_not_depend_on_how_much_is_taken_at_a_time() {
    let scripts = [
        "rrmmmm",
        "rbbb",
        "rbmbSsb",
        "rrrbsbSmb rrr",
        // A pong comes behind the messages before it, which the handler of the first asks for.
        "rbbpb",
        "rmpmpp sbp rrb",
        "rrbpbp rbp",
        "rbbf rr e",
        "rbfe rrrr",
        "rbbe rrrr",
        "rrbSspe rrs",
        "rbbx rm e",
        "rmbbpx p e rr",
        "rb b b rb e",
        "SSrbS",
        "e rr SsSp",
    ];
    for script in scripts {
        for again in [0, 1, 2, 3, 100] {
            same_however(script, again);
        }
    }
}

#[test]
fn scripts_that_nobody_thought_of_are_told_the_same_however() {
    let mut state: u64 = 20_251_126;
    let mut dice = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for _ in 0..2000 {
        let mut script: String = (0..4 + dice(16)).map(|_| char::from(b"rrrmmbbbsSpp  "[dice(14)])).collect();
        script.push_str(["", " e rr", "fe", "x e", "e rrrr"][dice(5)]);
        same_however(&script, dice(12));
    }
}

#[test]
fn a_batch_ends_where_a_callback_of_it_may_change_what_comes_next() {
    // What happens, what the first batch tells, what the second does.
    let table: [(&str, &[&str], &[&str]); 8] = [
        ("rmm", &["r m1"], &[]),
        ("rbp", &["r b1"], &["p2 ok"]),
        ("rrbp", &["r b2", "r c2", "p3 ok"], &[]),
        ("rmf", &["r m1"], &["fault"]),
        ("rme", &["r m1"], &["close 1000"]),
        ("rsme", &["s1 ok", "r m2"], &["close 1000"]),
        ("pmp", &["p0 ok"], &["p2 ok"]),
        ("smp", &["s0 ok"], &["p2 ok"]),
    ];
    for (script, first, second) in table {
        let mut desk = Desk::default();
        happen(&mut desk, script);
        for expected in [first, second] {
            let mut batch = VecDeque::new();
            desk.mailbox.next_batch(&mut batch, 100);
            batch.into_iter().for_each(|callback| assert!(desk.tell(callback)));
            assert_eq!(desk.told(), expected, "{script}");
        }
    }
}

#[test]
fn what_was_put_back_is_told_first_whatever_happened_meanwhile() {
    for meanwhile in ["s", "mS", "p", "e", "f", "rm"] {
        let mut desk = Desk::default();
        happen(&mut desk, "srrb");
        let mut batch = VecDeque::new();
        desk.mailbox.next_batch(&mut batch, 100);
        assert_eq!((batch.len(), desk.mailbox.waiting()), (3, 0));
        assert!(desk.tell(batch.pop_front().unwrap()));
        happen(&mut desk, meanwhile);
        let besides = desk.mailbox.waiting();
        desk.mailbox.put_back(&mut batch);
        assert_eq!(desk.mailbox.waiting(), besides + 2, "{meanwhile}");
        assert_eq!(desk.run()[..3], ["s0 ok", "r b3", "r c3"], "{meanwhile}");
    }
}

#[test]
fn only_a_bundle_that_comes_next_and_that_nobody_waits_for_is_lent() {
    let table = [
        ("b", 2),
        ("bm", 2),
        ("bf", 2),
        ("be", 2),
        ("", 0),
        ("m", 0),
        ("mb", 0),
        ("rb", 0),
        ("sb", 0),
        ("Sb", 0),
        ("bp", 0),
        ("bx", 0),
        ("e", 0),
        ("er", 0),
    ];
    for (script, lent) in table {
        let mut desk = Desk::default();
        happen(&mut desk, script);
        assert_eq!(desk.mailbox.lend().map_or(0, |bundle| bundle.len()), lent, "{script}");
    }
    let mut desk = Desk::default();
    happen(&mut desk, "mb");
    let taken = desk.receive("r");
    assert_eq!(desk.run(), ["r m0"]);
    desk.mailbox.give_back(taken, "m0".into());
    assert!(desk.mailbox.lend().is_none(), "what came back is next");
}

#[test]
fn lent_messages_come_back_to_their_place_whatever_happened_meanwhile() {
    // What happens while they are lent, and what is told when they are back and four more receives ask.
    let table: [(&str, &[&str]); 10] = [
        ("", &["r two", "r three"]),
        ("b", &["r two", "r three", "r b0", "r c0"]),
        ("m", &["r two", "r three", "r m0"]),
        ("p", &["r two", "r three", "p0 ok"]),
        ("s", &["s0 ok", "r two", "r three"]),
        ("f", &["r two", "r three", "fault"]),
        ("e", &["r two", "r three", "r -999", "r -999", "close 1000", "metrics", "complete None"]),
        ("x", &[]),
        ("mx", &[]),
        ("xe", &["r -999", "r -999", "r -999", "r -999", "close 1000", "metrics", "complete None"]),
    ];
    for (meanwhile, expected) in table {
        for (taken, long) in [(0, false), (1, false), (0, true), (1, true)] {
            let mut desk = Desk::default();
            let texts = ["one", "two", "three"];
            let texts = texts.get(1 - taken..).unwrap();
            if long {
                desk.long(texts)
            } else {
                desk.bundle(texts)
            }
            let mut lent = desk.mailbox.lend().unwrap();
            let unread = desk.mailbox.unread;
            assert_eq!(unread, lent.bytes() + lent.len() * MESSAGE_OVERHEAD, "what is lent is unread");
            let (count, bytes) = (lent.len(), lent.bytes());
            (0..taken).for_each(|_| drop(lent.pop()));
            happen(&mut desk, meanwhile);
            desk.mailbox.take_back(lent, count, bytes);
            if meanwhile.is_empty() {
                assert_eq!(desk.mailbox.unread, "twothree".len() + 2 * MESSAGE_OVERHEAD);
            }
            assert_eq!(desk.mailbox.taken, taken > 0);
            happen(&mut desk, "rrrr");
            assert_eq!(desk.run(), expected, "{meanwhile}, {taken} taken");
            assert_eq!(desk.mailbox.unread, 0, "{meanwhile}");
        }
    }
}

#[test]
fn a_message_that_comes_back_while_others_are_lent_is_before_them() {
    let mut desk = Desk::default();
    let first = desk.receive("r");
    desk.bundle(&["one", "two", "three"]);
    assert_eq!(desk.run(), ["r one"]);
    let mut lent = desk.mailbox.lend().unwrap();
    assert_eq!(lent.pop(), Some("two".into()));
    desk.mailbox.give_back(first, "one".into());
    desk.mailbox.take_back(lent, 2, 8);
    happen(&mut desk, "rr");
    assert_eq!(desk.run(), ["r one", "r three"]);
}

#[test]
fn lent_messages_hold_reading_back_until_they_are_taken() {
    let mut desk = Desk::default();
    desk.mailbox.set_maximum_message_size(2 * (1 + MESSAGE_OVERHEAD));
    desk.bundle(&["a", "b"]);
    let mut lent = desk.mailbox.lend().unwrap();
    assert!(!desk.mailbox.may_read_on() && !desk.mailbox.must_read_on());
    drop(lent.pop());
    desk.mailbox.take_back(lent, 2, 2);
    assert!(desk.mailbox.must_read_on() && desk.mailbox.may_read_on());
}

#[test]
fn a_receive_that_was_asked_for_first_is_served_first() {
    let mut desk = Desk::default();
    happen(&mut desk, "rr");
    let handler = desk.note("first", |_| "message".to_owned());
    desk.mailbox.receive_first(handler);
    happen(&mut desk, "mmme");
    assert_eq!(desk.run()[0], "first message");
    let handler = desk.note("late", |_| "message".to_owned());
    desk.mailbox.receive_first(handler);
    assert_eq!(desk.run(), ["late 57"]);
}

#[test]
fn once_the_end_is_told_no_receive_may_be_kept_from_the_mailbox() {
    // It fails there, and those of other threads do, too: the order is that in which the mailbox hears of them.
    let mut desk = Desk::default();
    assert!(!desk.mailbox.has_receive());
    desk.end();
    while desk.run_one() {
        assert!(desk.mailbox.has_receive());
    }
}

#[test]
fn sends_that_were_written_together_are_told_in_order_in_pieces_too() {
    for pieces in 0..=TOGETHER {
        let mut desk = Desk::default();
        happen(&mut desk, "sSs");
        assert!(desk.mailbox.take_sent().is_none(), "another is first");
        assert!(desk.run_one());
        let mut sent = desk.mailbox.take_sent().unwrap();
        assert_eq!((sent.len(), desk.mailbox.waiting()), (TOGETHER, 1));
        (0..pieces).for_each(|_| sent.pop().unwrap().call(Ok(())));
        happen(&mut desk, "Sm");
        desk.mailbox.put_back_sent(sent);
        assert_eq!(desk.mailbox.waiting(), TOGETHER - pieces + 1 + TOGETHER);
        let told = desk.run();
        let mut expected = vec!["s0 ok".to_owned()];
        expected.extend((0..TOGETHER).map(|number| format!("S1{number} ok")));
        expected.push("s2 ok".to_owned());
        expected.extend((0..TOGETHER).map(|number| format!("S0{number} ok")));
        assert_eq!(told, expected);
    }
}

#[test]
fn a_receive_that_may_be_withdrawn_is_taken_only_when_it_is_next() {
    for (script, first) in [("rwrmmm", 1), ("wrrmmm", 3), ("swrmm", 1), ("rrwmmm", 2), ("pwm", 1)] {
        let mut desk = Desk::default();
        happen(&mut desk, script);
        let mut batch = VecDeque::new();
        desk.mailbox.next_batch(&mut batch, 100);
        assert_eq!(batch.len(), first, "{script}");
    }
}
