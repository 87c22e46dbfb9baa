use std::sync::{Arc, Mutex};

use super::super::sends::{Sends, TOGETHER};
use super::*;
use crate::foundation::{CloseCode, ErrorCode, ErrorStage};

/// A mailbox, and in words what its callbacks told.
#[derive(Default)]
struct Desk {
    mailbox: Mailbox,
    /// What goes to a receive that may be withdrawn is not taken at once.
    holds: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Desk {
    fn note<T: 'static>(&self, name: &str, words: fn(T) -> String) -> Completion<T> {
        let (log, name) = (Arc::clone(&self.log), name.to_owned());
        Completion::new(move |result: Result<T, UrlError>| {
            let result = result.map_or_else(|error| error.raw_code().to_string(), words);
            log.lock().unwrap().push(format!("{name} {result}"));
        })
    }

    fn receive(&mut self, name: &str) -> u64 {
        let handler = self.note(name, words);
        self.mailbox.receive(|_| handler)
    }

    /// A receive that stays.
    fn ask(&mut self, name: &str) {
        let handler = self.note(name, words);
        self.mailbox.receive_for_good(handler);
    }

    fn message(&mut self, text: &str) {
        self.mailbox.deliver(Event::Message(text.into()));
    }

    fn sent(&mut self, name: &str, result: Result<(), UrlError>) {
        let handler = self.note(name, |()| "ok".to_owned());
        self.mailbox.deliver(Event::Sent(handler, result));
    }

    fn pong(&mut self, name: &str, result: Result<(), UrlError>) {
        let handler = self.note(name, |()| "ok".to_owned());
        self.mailbox.deliver(Event::Pong(handler, result));
    }

    /// The server's Close: 1000, "bye".
    fn end(&mut self) {
        let end = End {
            waiting: error(ErrorCode::Cancelled),
            later: error(ErrorCode::NotConnected),
            close: Some((CloseCode::NORMAL_CLOSURE, Some(b"bye".to_vec()))),
            server_close: Some((CloseCode::NORMAL_CLOSURE, b"bye".to_vec())),
            error: None,
            metrics: Some(Box::new(crate::loader::timeline::tests::collected())),
        };
        self.mailbox.deliver(Event::End(Box::new(end)));
    }

    /// Short messages that came together.
    fn bundle(&mut self, texts: &[&str]) {
        let mut bundle = Bundle::default();
        assert!(texts.iter().all(|text| bundle.push_text(text)));
        self.mailbox.deliver(Event::Messages(bundle));
    }

    /// Messages that came together, each with memory of its own.
    fn long(&mut self, texts: &[&str]) {
        let messages = texts.iter().map(|text| Message::from(*text)).collect();
        self.mailbox.deliver(Event::Messages(Bundle::of_long(messages)));
    }

    /// Sends that were written together: `<name>0 ok` and so on.
    fn all_sent(&mut self, name: &str) {
        let (mut sends, mut events, mut spare) = (Sends::default(), Vec::new(), Spare::default());
        for number in 0..TOGETHER {
            sends.framed(1, number as u64, self.note(&format!("{name}{number}"), |()| "ok".to_owned()), &mut spare);
        }
        sends.written(TOGETHER as u64, &mut events, &mut spare);
        assert!(matches!(events[..], [Event::AllSent(_)]), "{events:?}");
        events.into_iter().for_each(|event| self.mailbox.deliver(event));
    }

    /// One callback; whether there was one.
    fn run_one(&mut self) -> bool {
        let has_next = self.mailbox.has_next();
        let next = self.mailbox.next();
        assert_eq!(has_next, next.is_some(), "{next:?}");
        next.is_some_and(|next| self.tell(next))
    }

    fn tell(&mut self, callback: Callback) -> bool {
        let told = match callback {
            Callback::Sent(handler, result) | Callback::Pong(handler, result) => return done(handler, result),
            Callback::Received(receive, result) => {
                if result.is_ok() && receive.number != FOR_GOOD && !self.holds {
                    self.mailbox.taken();
                }
                return done(receive.handler, result);
            }
            Callback::WaitingForConnectivity => "waiting".to_owned(),
            Callback::Informational(response) => format!("informational {}", response.status_code()),
            Callback::Question(question, passed_on) => format!("question {} {passed_on}", question.number),
            Callback::Open(protocol) => format!("open {protocol:?}"),
            Callback::Fault => "fault".to_owned(),
            Callback::Close(code, _) => format!("close {code}"),
            Callback::Metrics(_) => "metrics".to_owned(),
            Callback::Complete(error) => format!("complete {:?}", error.map(|error| error.raw_code())),
        };
        self.log.lock().unwrap().push(told);
        true
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Everything that can be told now.
    fn run(&mut self) -> Vec<String> {
        while self.run_one() {}
        self.told()
    }
}

fn words(message: Message) -> String {
    match message {
        Message::String(text) => text,
        Message::Data(data) => format!("{} bytes", data.len()),
    }
}

fn done<T: 'static>(handler: Completion<T>, result: Result<T, UrlError>) -> bool {
    handler.call(result);
    true
}

fn error(code: ErrorCode) -> UrlError {
    UrlError::new(code, ErrorStage::Open, "why")
}

const END: [&str; 3] = ["close 1000", "metrics", "complete None"];

mod turns;

#[test]
fn messages_then_failures_then_the_end() {
    let mut desk = Desk::default();
    desk.receive("r0");
    desk.receive("r1");
    desk.receive("r2");
    desk.mailbox.deliver(Event::Open { protocol: None });
    desk.message("one");
    desk.message("two");
    desk.sent("s0", Ok(()));
    desk.end();
    desk.sent("s1", Err(error(ErrorCode::Cancelled)));
    desk.pong("p0", Err(error(ErrorCode::Cancelled)));
    assert!(!desk.mailbox.is_ending());
    let told = desk.run();
    assert_eq!(told[..7], ["open None", "s0 ok", "r0 one", "r1 two", "s1 -999", "p0 -999", "r2 -999"]);
    assert_eq!(told[7..], END);
    assert!(desk.mailbox.is_told() && desk.mailbox.is_ending());
    desk.receive("r3");
    desk.sent("s2", Err(error(ErrorCode::NotConnected)));
    assert_eq!(desk.run(), ["r3 57", "s2 57"]);
}

#[test]
fn the_end_waits_behind_messages_that_nobody_took_and_failures_do_not() {
    let mut desk = Desk::default();
    desk.message("one");
    desk.end();
    desk.sent("s0", Err(error(ErrorCode::Cancelled)));
    assert_eq!(desk.run(), ["s0 -999"]);
    desk.receive("r0");
    let told = desk.run();
    assert_eq!(told[0], "r0 one");
    assert_eq!(told[1..], END);
}

#[test]
fn an_end_without_a_close_is_told_without_one() {
    let mut desk = Desk::default();
    let lost = error(ErrorCode::NetworkConnectionLost);
    let metrics = Some(Box::new(crate::loader::timeline::tests::collected()));
    let end =
        End { waiting: lost.clone(), later: lost.clone(), close: None, server_close: None, error: Some(lost), metrics };
    desk.mailbox.deliver(Event::End(Box::new(end)));
    assert_eq!(desk.run(), ["metrics", "complete Some(-1005)"]);
}

#[test]
fn a_handler_that_asks_again_whenever_it_fails_cannot_hold_the_end_back() {
    let mut desk = Desk::default();
    desk.receive("r");
    desk.end();
    let mut told = 0;
    while !desk.mailbox.is_told() {
        assert!(desk.run_one());
        desk.receive("r");
        desk.sent("s", Err(error(ErrorCode::NotConnected)));
        told += 1;
        assert!(told < 40, "{:?}", desk.log);
    }
    // What was asked for before a step is told before it.
    let log = desk.run();
    let place = |what: &str| log.iter().position(|told| told == what).unwrap();
    assert_eq!(log[0], "r -999");
    assert!(place("close 1000") < place("metrics") && place("metrics") < place("complete None"));
    assert!(log[..place("complete None")].iter().filter(|told| *told == "r 57").count() >= 2);
}

#[test]
fn after_a_cancel_nothing_unread_is_handed_out_or_stands_before_the_end() {
    let mut desk = Desk::default();
    desk.message("one");
    desk.message("two");
    let taken = desk.receive("r0");
    assert_eq!(desk.run(), ["r0 one"]);
    desk.mailbox.deliver(Event::DiscardUnread);
    // The receiver of the first is gone; the third was on its way.
    desk.mailbox.give_back(taken, "one".into());
    desk.message("three");
    desk.receive("r1");
    assert_eq!(desk.run(), [""; 0]);
    desk.end();
    let told = desk.run();
    assert_eq!(told[0], "r1 -999");
    assert_eq!(told[1..], END);
}

#[test]
fn unread_messages_are_dropped_in_time_unless_somebody_takes_them() {
    let mut desk = Desk::default();
    desk.receive("r0");
    for text in ["one", "two", "three"] {
        desk.message(text);
    }
    desk.end();
    assert_eq!(desk.run(), ["r0 one"]);
    // One was taken since.
    desk.mailbox.deliver(Event::UnreadDue);
    assert_eq!(desk.run(), [""; 0]);
    desk.receive("r1");
    assert_eq!(desk.run(), ["r1 two"]);
    desk.mailbox.deliver(Event::UnreadDue);
    assert_eq!(desk.run(), [""; 0]);
    // Nobody took one since.
    desk.mailbox.deliver(Event::UnreadDue);
    assert_eq!(desk.run(), END);
}

#[test]
fn the_end_waits_for_messages_that_may_come_back() {
    let held = || {
        let mut desk = Desk { holds: true, ..Desk::default() };
        desk.message("one");
        let first = desk.receive("r0");
        assert_eq!(desk.run(), ["r0 one"]);
        desk.end();
        desk.sent("s0", Err(error(ErrorCode::Cancelled)));
        desk.receive("r1");
        // What fails because of the end waits for nothing.
        assert_eq!(desk.mailbox.waiting(), 1);
        assert_eq!(desk.run(), ["s0 -999"]);
        (desk, first)
    };
    // The message is taken.
    let (mut desk, _) = held();
    desk.mailbox.taken();
    assert_eq!(desk.mailbox.waiting(), 1);
    let told = desk.run();
    assert_eq!((&*told[0], &told[1..]), ("r1 -999", &END.map(str::to_owned)[..]));
    // It comes back, and is taken by the one that waits.
    let (mut desk, first) = held();
    desk.mailbox.give_back(first, "one".into());
    assert_eq!(desk.run(), ["r1 one"]);
    desk.mailbox.taken();
    assert_eq!(desk.run(), END);
    // Neither, for too long, although a receive waits; and it comes back too late.
    let (mut desk, first) = held();
    assert_eq!(desk.run(), [""; 0]);
    desk.mailbox.deliver(Event::UnreadDue);
    desk.mailbox.give_back(first, "one".into());
    assert_eq!(desk.run()[1..], END);
    // The task is cancelled.
    let (mut desk, _) = held();
    desk.mailbox.deliver(Event::DiscardUnread);
    assert_eq!(desk.run()[1..], END);
}

#[test]
fn messages_that_come_back_keep_their_order() {
    let mut desk = Desk::default();
    for text in ["a", "b", "c", "d"] {
        desk.message(text);
    }
    let first = desk.receive("r0");
    let second = desk.receive("r1");
    assert_eq!(desk.run(), ["r0 a", "r1 b"]);
    desk.mailbox.give_back(second, "b".into());
    desk.mailbox.give_back(first, "a".into());
    let again = desk.receive("r2");
    let then = desk.receive("r3");
    assert_eq!(desk.run(), ["r2 a", "r3 b"]);
    let third = desk.receive("r4");
    assert_eq!(desk.run(), ["r4 c"]);
    // The third, and then the two of which each has come back once.
    desk.mailbox.give_back(third, "c".into());
    desk.mailbox.give_back(then, "b".into());
    desk.mailbox.give_back(again, "a".into());
    for name in ["r5", "r6", "r7", "r8"] {
        desk.receive(name);
    }
    assert_eq!(desk.run(), ["r5 a", "r6 b", "r7 c", "r8 d"]);
}

#[test]
fn what_comes_back_without_end_is_remembered_within_bounds() {
    let mut desk = Desk::default();
    for _ in 0..10 * RETAKEN {
        desk.message("x");
        let taken = desk.receive("r");
        desk.run();
        desk.mailbox.give_back(taken, "x".into());
        desk.receive("r");
        desk.run();
    }
    assert_eq!(desk.mailbox.seldom().retaken.len(), RETAKEN);
    assert_eq!(desk.mailbox.unread, 0);
}

#[test]
fn a_withdrawn_receive_takes_nothing() {
    let mut desk = Desk::default();
    let first = desk.receive("r0");
    let second = desk.receive("r1");
    desk.receive("r2");
    assert_eq!(desk.mailbox.withdraw_receive(second).map(|receive| receive.number), Some(second));
    assert!(desk.mailbox.withdraw_receive(second).is_none());
    desk.message("one");
    desk.message("two");
    assert_eq!(desk.run(), ["r0 one", "r2 two"]);
    assert!(desk.mailbox.withdraw_receive(first).is_none());
}

#[test]
fn reading_stops_at_the_limit_and_goes_on_when_half_is_free() {
    let mut desk = Desk::default();
    let cost = 100 + MESSAGE_OVERHEAD;
    desk.mailbox.set_maximum_message_size(4 * cost);
    for count in 1..=4 {
        desk.mailbox.deliver(Event::Message(vec![0; 100].into()));
        assert_eq!(desk.mailbox.may_read_on(), count < 4);
        assert!(!desk.mailbox.must_read_on());
    }
    desk.receive("r0");
    desk.run();
    assert!(!desk.mailbox.must_read_on() && !desk.mailbox.may_read_on());
    desk.receive("r1");
    desk.run();
    assert!(desk.mailbox.must_read_on() && desk.mailbox.may_read_on());
    assert!(!desk.mailbox.must_read_on());
}

#[test]
fn a_flood_of_empty_messages_stops_reading_too() {
    for (limit, most) in [(1, 1), (0, DEFAULT_READ_AHEAD / MESSAGE_OVERHEAD), (4 * MESSAGE_OVERHEAD, 4)] {
        let mut desk = Desk::default();
        desk.mailbox.set_maximum_message_size(limit);
        let mut count = 0;
        while desk.mailbox.may_read_on() {
            desk.message("");
            count += 1;
        }
        assert_eq!(count, most, "limit {limit}");
        for _ in 0..count {
            desk.receive("r");
        }
        assert_eq!(desk.run().len(), count);
        assert!(desk.mailbox.must_read_on());
    }
}

#[test]
fn a_pong_comes_behind_the_messages_before_it_unless_nobody_receives_them() {
    let mut desk = Desk::default();
    desk.message("one");
    desk.pong("p0", Ok(()));
    desk.message("two");
    desk.receive("r0");
    desk.receive("r1");
    assert_eq!(desk.run(), ["r0 one", "p0 ok", "r1 two"]);
    desk.message("three");
    desk.pong("p1", Ok(()));
    assert_eq!(desk.run(), ["p1 ok"]);
}

#[test]
fn a_fault_comes_behind_the_messages_before_it_unless_nobody_receives_them() {
    let mut desk = Desk::default();
    desk.receive("r0");
    desk.receive("r1");
    desk.message("one");
    desk.mailbox.deliver(Event::Fault);
    assert_eq!(desk.run(), ["r0 one", "fault"]);
    let mut desk = Desk::default();
    desk.message("one");
    desk.mailbox.deliver(Event::Fault);
    assert_eq!(desk.run(), ["fault"]);
    desk.end();
    desk.receive("r0");
    assert_eq!(desk.run()[0], "r0 one");
}

#[test]
fn the_memory_of_a_long_line_goes_with_its_last_callback() {
    use crate::loader::sends::Sends;

    let mut desk = Desk::default();
    for number in 0..5000 {
        desk.sent(&number.to_string(), Ok(()));
        desk.message("x");
        desk.receive("y");
    }
    let (mut sends, mut spare, mut events) = (Sends::default(), Spare::default(), Vec::new());
    for position in 1..=8 {
        sends.framed(1, position, Completion::new(|_| ()), &mut spare);
    }
    sends.written(8, &mut events, &mut spare);
    events.into_iter().for_each(|event| desk.mailbox.deliver(event));
    // As a turn takes them: the last ones of the line together.
    let mut batch = VecDeque::new();
    while batch.len() < 5000 {
        batch.extend(desk.mailbox.next());
    }
    assert_eq!(desk.mailbox.take_sent().map(|sent| sent.len()), Some(8));
    assert!(desk.mailbox.prompt.capacity() <= PLACES_KEPT, "{}", desk.mailbox.prompt.capacity());
    desk.run();
    assert!(desk.mailbox.stream.capacity() <= PLACES_KEPT, "{}", desk.mailbox.stream.capacity());
}
