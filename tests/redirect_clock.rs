//! Redirects of a slow server, without sockets and on a clock that the test sets.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use urlsession::internals::{
    Action, Common, Completion, Env, Epoch, Event, Loader, Output, Proxies, Question, Random, Reply, Settings, Spare,
    Subject, Supply, Traces,
};
use urlsession::{CloseCode, SessionConfiguration, TaskMetrics, Url, UrlError, UrlRequest};

/// The moment at which every test begins.
static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

const SECOND: Duration = Duration::from_secs(1);

/// `timeout_interval_for_request`.
const REQUEST: Duration = Duration::from_secs(60);

/// `timeout_interval_for_resource`.
const RESOURCE: Duration = Duration::from_secs(24 * 3600);

/// A task that is led through, a step at a time.
struct Rig {
    loader: Loader,
    supply: Supply,
    spare: Spare,
    now: Instant,
    events: Vec<Event>,
}

impl Rig {
    /// Connected, and the request is written.
    fn new(url: &str, has_delegate: bool) -> Self {
        let mut configuration = SessionConfiguration::ephemeral();
        configuration.timeout_interval_for_request = REQUEST;
        configuration.timeout_interval_for_resource = RESOURCE;
        let request = Arc::new(UrlRequest::new(Url::parse(url).unwrap()));
        let epoch = Epoch { instant: *BASE, date: SystemTime::UNIX_EPOCH };
        let settings =
            Settings { request, common: Arc::new(Common::new(&configuration, Proxies::new(None, |_| None))), epoch };
        let mut pool = 0_u8;
        let random = Random::new(move |bytes: &mut [u8]| {
            bytes.iter_mut().for_each(|byte| {
                pool = pool.wrapping_mul(5).wrapping_add(17);
                *byte = pool;
            });
        });
        let mut rig = Self {
            loader: Loader::new(settings, 1 << 20),
            supply: Supply::new(random),
            spare: Spare::default(),
            now: *BASE,
            events: Vec::new(),
        };
        if has_delegate {
            rig.loader.set_has_delegate(false);
        }
        rig.step(|loader, env| loader.start(env, None));
        rig
    }

    /// The same with the first request written.
    fn asked(url: &str, has_delegate: bool) -> Self {
        let mut rig = Self::new(url, has_delegate);
        rig.expect_connect(false);
        rig.request("/");
        rig
    }

    fn step<R>(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>) -> R) -> R {
        let Self { loader, supply, spare, events, .. } = self;
        step(loader, &mut Env { now: self.now, supply, spare, events, traces: &mut Traces::default() })
    }

    /// Time goes by; deadlines are looked at where they stand.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.loader.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.step(|loader, env| loader.handle_timeout(env));
        }
        self.now = end;
    }

    /// The task wants a connection, after it has left the old one or not; it gets it.
    #[track_caller]
    fn expect_connect(&mut self, leaves: bool) {
        if leaves {
            assert!(matches!(self.loader.next_action(), Some(Action::Disconnect)));
        }
        let action = self.loader.next_action();
        let Some(Action::Connect { attempt, address }) = action else { panic!("{action:?}") };
        let local: SocketAddr = "127.0.0.1:1".parse().unwrap();
        self.step(|loader, env| loader.connected(env, attempt, Some(local), Some(address)));
    }

    #[track_caller]
    fn expect_no_action(&mut self) {
        let action = self.loader.next_action();
        assert!(action.is_none(), "{action:?}");
    }

    fn take(&mut self) -> Option<Output> {
        self.step(|loader, env| loader.take_output(env))
    }

    fn give_back(&mut self, mut output: Output, written: usize) {
        output.advance(written);
        self.step(|loader, env| loader.give_back(env, output));
    }

    /// A request for this target goes out, and all of it is written; it.
    #[track_caller]
    fn request(&mut self, target: &str) -> String {
        let output = self.take().expect("a request");
        let head = String::from_utf8(output.single().unwrap().to_vec()).unwrap();
        assert_eq!(head.split(' ').nth(1), Some(target));
        self.give_back(output, usize::MAX / 2);
        head
    }

    /// Bytes come, if they are wanted.
    #[track_caller]
    fn receive(&mut self, text: &str) {
        assert!(self.loader.wants_read(), "nothing is read");
        let mut bytes = text.as_bytes().to_vec();
        self.step(|loader, env| loader.receive(env, &mut bytes));
    }

    /// The 101 to this request comes, and the task is open.
    #[track_caller]
    fn open(&mut self, head: &str) {
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        self.receive(&format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        assert!(self.events.iter().any(|event| matches!(event, Event::Open { .. })), "it did not open");
    }

    /// The question that was asked last.
    #[track_caller]
    fn question(&self) -> Arc<Question> {
        let mut questions = self.events.iter().rev().filter_map(|event| match event {
            Event::Question(question) => Some(question),
            _ => None,
        });
        Arc::clone(questions.next().expect("a question"))
    }

    fn reply(&mut self, question: &Question, reply: Reply) {
        let number = question.number;
        self.step(|loader, env| loader.reply(env, number, reply));
    }

    /// The delegate follows.
    #[track_caller]
    fn follow(&mut self) {
        let question = self.question();
        let Subject::Redirect { new_request, .. } = &question.subject else { panic!("{question:?}") };
        let request = new_request.clone();
        self.reply(&question, Reply::Redirect(Some(request)));
    }

    /// Apple's number of the error that the task ended with, and its metrics.
    #[track_caller]
    fn end(&self) -> (i32, TaskMetrics) {
        let mut ends = self.events.iter().filter_map(|event| match event {
            Event::End(end) => Some(end),
            _ => None,
        });
        let end = ends.next().expect("an end");
        assert!(ends.next().is_none(), "it ended twice");
        let code = end.error.as_ref().map_or(0, UrlError::raw_code);
        (code, end.metrics.as_ref().unwrap().metrics())
    }

    fn has_ended(&self) -> bool {
        self.loader.is_ended()
    }

    /// Closes at once.
    fn metrics(mut self) -> TaskMetrics {
        self.step(|loader, env| loader.cancel(env));
        self.end().1
    }
}

const HERE: &str = "ws://192.0.2.1/";

/// A redirect with such lines.
fn redirect(location: &str, lines: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n{lines}\r\n")
}

fn of_length(length: usize) -> String {
    redirect("/there", &format!("Content-Length: {length}\r\n"))
}

#[test]
fn the_rest_of_a_body_has_a_second() {
    for has_delegate in [false, true] {
        for (late, stays) in [(Duration::ZERO, true), (SECOND * 99 / 100, true), (SECOND, false)] {
            let mut rig = Rig::asked(HERE, has_delegate);
            rig.receive(&of_length(4));
            if has_delegate {
                // The second begins with the reply.
                rig.pass(REQUEST * 100);
                rig.follow();
            }
            rig.receive("Bo");
            rig.expect_no_action();
            assert!(rig.take().is_none());
            rig.pass(late);
            if stays {
                rig.receive("dy");
                rig.expect_no_action();
            } else {
                rig.expect_connect(true);
            }
            let head = rig.request("/there");
            rig.open(&head);
            let metrics = rig.metrics();
            assert_eq!(metrics.transaction_metrics[1].is_reused_connection, stays);
        }
    }
}

#[test]
fn a_server_that_trickles_gets_no_more_than_that_second() {
    let mut rig = Rig::asked(HERE, false);
    rig.receive(&redirect("/there", "Transfer-Encoding: chunked\r\n"));
    for _ in 0..9 {
        rig.pass(SECOND / 10);
        rig.receive("1\r\nx\r\n");
        rig.expect_no_action();
    }
    rig.pass(SECOND / 10);
    rig.expect_connect(true);
    rig.request("/there");
}

#[test]
fn what_is_too_long_is_left_at_once() {
    for (length, leaves) in [(64 * 1024, false), (64 * 1024 + 1, true)] {
        let mut rig = Rig::asked(HERE, false);
        rig.receive(&of_length(length));
        if leaves {
            rig.expect_connect(true);
        } else {
            rig.expect_no_action();
        }
    }
    // Nobody knew that it would be: chunk after chunk.
    let mut rig = Rig::asked(HERE, false);
    rig.receive(&redirect("/there", "Transfer-Encoding: chunked\r\n"));
    for _ in 0..15 {
        rig.receive(&format!("1000\r\n{}\r\n", "x".repeat(0x1000)));
        rig.expect_no_action();
    }
    rig.receive(&format!("1000\r\n{}\r\n", "x".repeat(0x1000)));
    rig.expect_connect(true);
}

#[test]
fn the_request_clock_stands_still_while_the_delegate_is_asked() {
    let mut rig = Rig::asked(HERE, true);
    rig.pass(REQUEST * 9 / 10);
    rig.receive(&of_length(0));
    rig.pass(100 * REQUEST);
    assert!(!rig.has_ended());
    rig.follow();
    rig.request("/there");
    // It begins anew, and with every byte.
    for byte in "HTTP/1.1 302 Found\r\n".chars() {
        rig.pass(REQUEST * 9 / 10);
        rig.receive(&byte.to_string());
    }
    rig.pass(REQUEST * 9 / 10);
    assert!(!rig.has_ended());
    rig.pass(REQUEST / 10);
    assert_eq!(rig.end().0, -1001);
}

#[test]
fn the_clock_of_the_resource_runs_while_the_delegate_is_asked() {
    let mut rig = Rig::asked(HERE, true);
    rig.pass(SECOND);
    rig.receive(&of_length(0));
    rig.pass(RESOURCE - 2 * SECOND);
    assert!(!rig.has_ended());
    rig.pass(SECOND);
    let (code, metrics) = rig.end();
    assert_eq!((code, metrics.task_interval.1), (-1001, RESOURCE));
    rig.follow();
    assert!(rig.take().is_none());
}

#[test]
fn the_request_clock_runs_for_a_new_connection() {
    for leaves in [false, true] {
        let mut rig = Rig::asked(HERE, true);
        rig.receive(&redirect(if leaves { "ws://192.0.2.2/there" } else { "/there" }, "Content-Length: 0\r\n"));
        rig.follow();
        if leaves {
            // The connection does not come to be.
            assert!(matches!(rig.loader.next_action(), Some(Action::Disconnect)));
            assert!(matches!(rig.loader.next_action(), Some(Action::Connect { .. })));
        }
        rig.pass(REQUEST - Duration::from_millis(1));
        assert!(!rig.has_ended());
        rig.pass(Duration::from_millis(1));
        assert_eq!(rig.end().0, -1001);
    }
}

#[test]
fn a_suspended_task_has_all_the_time() {
    // While it is asked, and while the rest of the body is waited for.
    for early in [false, true] {
        let mut rig = Rig::asked(HERE, true);
        rig.receive(&of_length(4));
        if early {
            rig.follow();
            rig.pass(SECOND / 2);
        }
        let now = rig.now;
        rig.loader.suspend(now);
        assert!(!rig.loader.wants_read());
        rig.pass(100 * REQUEST);
        if !early {
            rig.follow();
        }
        rig.pass(100 * REQUEST);
        rig.expect_no_action();
        let now = rig.now;
        rig.loader.resume(now);
        rig.pass(SECOND / 2 - Duration::from_millis(1));
        rig.expect_no_action();
        if early {
            rig.pass(Duration::from_millis(1));
            rig.expect_connect(true);
        } else {
            rig.receive("Body");
        }
        rig.request("/there");
    }
}

#[test]
fn what_comes_behind_the_end_while_the_delegate_is_asked_reaches_nobody() {
    for surplus in ["x", "HTTP/1.1 403 Forbidden\r\n\r\n"] {
        let mut rig = Rig::asked(HERE, true);
        rig.receive(&of_length(0));
        rig.pass(SECOND);
        rig.receive(surplus);
        rig.follow();
        rig.expect_connect(true);
        let head = rig.request("/there");
        rig.open(&head);
    }
}

#[test]
fn the_answer_may_come_before_the_request_is_known_to_be_written() {
    let mut rig = Rig::asked(HERE, true);
    rig.receive(&of_length(0));
    rig.pass(SECOND);
    rig.follow();
    let output = rig.take().expect("a request");
    let bytes = output.single().unwrap().len();
    rig.pass(SECOND);
    rig.receive(&redirect("/last", "Content-Length: 0\r\n"));
    rig.pass(SECOND);
    // The reply may come first, too.
    rig.follow();
    assert!(rig.take().is_none());
    rig.expect_no_action();
    rig.pass(SECOND / 2);
    rig.give_back(output, bytes);
    rig.expect_no_action();
    let head = rig.request("/last");
    rig.open(&head);
    let metrics = rig.metrics();
    let seconds = |date: Option<SystemTime>| date.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let dates = metrics.transaction_metrics.iter().map(|hop| {
        [
            hop.fetch_start_date,
            hop.request_start_date,
            hop.request_end_date,
            hop.response_start_date,
            hop.response_end_date,
        ]
        .map(seconds)
    });
    assert_eq!(dates.collect::<Vec<_>>(), [[0; 5], [1, 1, 2, 2, 2], [3, 3, 3, 3, 3]]);
}

#[test]
fn dates_are_in_order_though_threads_look_at_the_clock_by_themselves() {
    let mut rig = Rig::asked(HERE, true);
    rig.receive(&of_length(0));
    rig.follow();
    let output = rig.take().expect("a request");
    // The writer's look was later than the reader's, and its news is the first.
    rig.pass(SECOND / 2);
    rig.give_back(output, usize::MAX / 2);
    rig.now -= SECOND / 4;
    rig.receive(&redirect("/last", "Content-Length: 0\r\n"));
    let metrics = rig.metrics();
    let hop = &metrics.transaction_metrics[1];
    assert!(hop.request_end_date <= hop.response_start_date && hop.response_start_date <= hop.response_end_date);
    let end = hop.request_end_date.unwrap();
    assert_eq!(end.duration_since(SystemTime::UNIX_EPOCH).unwrap(), SECOND / 2);
}

#[test]
fn an_answer_to_half_a_request() {
    // The kernel took a part; the server does not read the rest, and the connection is of no use.
    let mut rig = Rig::new(HERE, true);
    rig.expect_connect(false);
    let output = rig.take().expect("a request");
    rig.give_back(output, 10);
    rig.receive(&of_length(0));
    rig.follow();
    rig.expect_connect(true);
    let head = rig.request("/there");
    rig.open(&head);
    let metrics = rig.metrics();
    assert!(metrics.transaction_metrics[0].request_end_date.is_none());
    assert_eq!(metrics.transaction_metrics[0].response.as_ref().unwrap().status_code(), 302);
}

#[test]
fn an_answer_to_a_request_of_which_a_part_is_with_the_writer() {
    // The kernel takes no more of it, or says why it cannot.
    for fails in [false, true] {
        let mut rig = Rig::asked(HERE, true);
        rig.receive(&of_length(0));
        rig.follow();
        let output = rig.take().expect("a request");
        rig.receive(&redirect("/last", "Content-Length: 0\r\n"));
        rig.follow();
        rig.give_back(output, 10);
        if fails {
            rig.step(|loader, env| loader.write_failed(env, io::ErrorKind::BrokenPipe.into()));
        }
        rig.expect_connect(true);
        let head = rig.request("/last");
        rig.open(&head);
    }
}

#[test]
fn a_request_that_is_still_being_written_when_the_connection_is_left() {
    let mut rig = Rig::new(HERE, true);
    rig.expect_connect(false);
    let output = rig.take().expect("a request");
    rig.receive(&redirect("ws://192.0.2.2/there", "Content-Length: 0\r\n"));
    rig.follow();
    rig.expect_connect(true);
    // The new request waits for its writer; what is left of the old one is not for this connection.
    assert!(rig.take().is_none());
    assert!(rig.loader.output_is_stale());
    rig.give_back(output, 10);
    let head = rig.request("/there");
    rig.open(&head);
}

#[test]
fn a_write_that_fails_before_the_redirect_comes() {
    // A server that has said where to go need not read the rest of the request. What waits still waits.
    let mut rig = Rig::new(HERE, false);
    let handler = || Completion::new(|_: Result<(), UrlError>| ());
    rig.step(|loader, env| loader.send(env, "first".into(), handler()));
    rig.expect_connect(false);
    let output = rig.take().expect("a request");
    rig.give_back(output, 10);
    rig.step(|loader, env| loader.write_failed(env, io::ErrorKind::BrokenPipe.into()));
    rig.step(|loader, env| loader.send(env, "second".into(), handler()));
    rig.receive(&redirect("/last", "Content-Length: 0\r\n"));
    assert!(!rig.events.iter().any(|event| matches!(event, Event::Sent(..))));
    rig.expect_connect(true);
    let head = rig.request("/last");
    rig.open(&head);
    assert_eq!(rig.loader.buffered_amount(), "first".len() + "second".len());
}

#[test]
fn a_kept_connection_that_cannot_be_written_to_is_replaced() {
    let mut rig = Rig::asked(HERE, true);
    rig.receive(&of_length(0));
    rig.follow();
    let output = rig.take().expect("a request");
    rig.give_back(output, 0);
    rig.step(|loader, env| loader.write_failed(env, io::ErrorKind::BrokenPipe.into()));
    rig.expect_connect(true);
    let head = rig.request("/there");
    rig.open(&head);
    assert_eq!(rig.metrics().transaction_metrics.len(), 3);
}

#[test]
fn a_cancel_between_two_requests() {
    type Act = fn(&mut Loader, &mut Env<'_>);
    let acts: [(Act, i32); 2] = [
        (|loader, env| loader.cancel(env), -999),
        (|loader, env| loader.cancel_with(env, CloseCode::GOING_AWAY, None), 0),
    ];
    for (act, code) in acts {
        for (location, body) in [("/there", 4), ("ws://192.0.2.2/", 0)] {
            let mut rig = Rig::asked(HERE, true);
            rig.receive(&redirect(location, &format!("Content-Length: {body}\r\n")));
            rig.follow();
            rig.step(act);
            assert_eq!(rig.end().0, code);
            assert!(matches!(rig.loader.next_action(), Some(Action::Disconnect)));
            rig.expect_no_action();
            assert!(rig.take().is_none());
        }
    }
}

#[test]
fn a_reply_to_an_earlier_question_changes_nothing() {
    let mut rig = Rig::asked(HERE, true);
    rig.receive(&of_length(0));
    let first = rig.question();
    rig.follow();
    rig.request("/there");
    rig.receive(&redirect("/last", "Content-Length: 0\r\n"));
    let second = rig.question();
    assert_ne!(first.number, second.number);
    for late in [Reply::Redirect(None), Reply::Default] {
        rig.reply(&first, late);
        assert!(rig.take().is_none() && !rig.has_ended());
    }
    assert!(!rig.loader.waits_for_reply(first.number) && rig.loader.waits_for_reply(second.number));
    rig.follow();
    rig.reply(&second, Reply::Redirect(None));
    rig.request("/last");
    assert!(!rig.has_ended());
}

#[test]
fn the_user_of_the_address_answers_while_the_request_is_still_being_written() {
    let mut rig = Rig::asked("ws://me:secret@192.0.2.1/", true);
    rig.receive(&of_length(0));
    rig.follow();
    let output = rig.take().expect("a request");
    rig.receive("HTTP/1.1 401 X\r\nContent-Length: 0\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\r\n");
    rig.expect_no_action();
    rig.give_back(output, usize::MAX / 2);
    rig.expect_no_action();
    let head = rig.request("/there");
    assert!(head.contains("Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
}

#[test]
fn what_cannot_be_written_is_not_tried_again_and_again() {
    let mut rig = Rig::new(HERE, true);
    rig.expect_connect(false);
    let output = rig.take().expect("a request");
    rig.receive(&of_length(0));
    rig.give_back(output, 10);
    rig.step(|loader, env| loader.write_failed(env, io::ErrorKind::BrokenPipe.into()));
    assert!(rig.take().is_none(), "the delegate is asked");
    rig.follow();
    rig.expect_connect(true);
    let head = rig.request("/there");
    rig.open(&head);

    let mut rig = Rig::new(HERE, true);
    rig.expect_connect(false);
    let output = rig.take().expect("a request");
    rig.receive("HTTP/1.1 403 X\r\nContent-Length: 10\r\n\r\n");
    rig.give_back(output, 10);
    rig.step(|loader, env| loader.write_failed(env, io::ErrorKind::BrokenPipe.into()));
    assert!(rig.take().is_none(), "the body of a refusal is read");
}

/// RFC 9110 §15.5.9.
#[test]
fn a_408_of_an_idle_connection_that_crosses_the_next_request() {
    let late = "HTTP/1.1 408 Request Time-out\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let mut rig = Rig::asked(HERE, true);
    rig.receive(&of_length(0));
    rig.follow();
    rig.request("/there");
    rig.receive(late);
    rig.expect_connect(true);
    rig.request("/there");
    // On a new connection it is an answer.
    rig.receive(late);
    assert_eq!(rig.end().0, -1011);
}
