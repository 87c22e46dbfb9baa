//! A run: the loader and the mailbox of one task, and around them everything that the reactor, the session, the network, the
//! server and the caller would do, one move at a time.
//!
//! The moves keep the orders that the crate itself keeps: what a step tells reaches the mailbox before the next step; one
//! thread reads, and others may call between its look at `wants_read` and its bytes; one writer writes, and others may
//! call while it does.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use urlsession::internals::{
    Action, Callback, Common, Env, Epoch, Event, Loader, Mailbox, Output, Proxies, Random, Settings, Spare, Supply,
    Traces,
};
use urlsession::{
    AuthenticationMethod, CredentialPersistence, SessionConfiguration, TlsProtocolVersion, Url, UrlCredential,
    UrlError, UrlProtectionSpace, WebSocketOptions,
};

use crate::asked::{self, Pending};
use crate::calls::{Handlers, Kind, Outcome, message, plain};
use crate::compressed::Pressed;
use crate::course::{self, Course, State};
use crate::deflate::Wire;
use crate::missing::Missing;
use crate::model::{Cause, Model, Row, same};
use crate::network::Network;
use crate::peer::{Fatal, Peer, Plain};
use crate::plan::{Plan, Receives};
use crate::race::Race;
use crate::rng::Rng;
use crate::tls;
use crate::way::Method;
use crate::wire::{Reader, Seen};

/// The moment at which every run begins.
static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What happened in a run, a line for each thing; kept only where somebody wants to read it.
pub type Trace = Option<Rc<RefCell<Vec<String>>>>;

macro_rules! note {
    ($world:expr, $($words:tt)*) => {
        if let Some(trace) = &$world.trace {
            let line = format!("{:>8} {}", $world.model.now, format_args!($($words)*));
            trace.borrow_mut().push(line);
        }
    };
}
pub(crate) use note;

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub trace: Trace,
    pub loader: Loader,
    pub mailbox: Mailbox,
    pub supply: Supply,
    spare: Spare,
    pub network: Network,
    pub peer: Peer,
    pub model: Model,
    pub handlers: Handlers,
    /// What the client gave to the kernel, where it can be read.
    pub tap: Tap,
    /// There is a socket.
    pub connected: bool,
    /// A read said that there is no more; there is no other.
    pub read_to_end: bool,
    /// The server knows that the client is gone.
    pub hung_up: bool,
    /// An output is with the writer.
    pub out: Option<Output>,
    /// The kernel took no more.
    pub blocked: bool,
    /// There may be something to write, or to do.
    pub may_write: bool,
    pub may_act: bool,
    /// Which actions wait for their answer.
    pub resolving: Option<(u32, u64)>,
    /// The addresses that are tried, and how it is going.
    pub race: Option<Race>,
    pub missing: Missing,
    /// The addresses are to be looked up.
    pub look_up_is_due: bool,
    /// What the resolver said.
    pub addresses: Option<Vec<SocketAddr>>,
    /// Attempts that were given up.
    pub losers: Vec<u32>,
    /// There was an answer to an attempt.
    pub attempted: bool,
    /// Reading may go on, and the loader has not been told yet.
    pub read_on: bool,
    /// The completion has been told, and the loader does not know it yet.
    pub end_is_told: bool,
    /// When the worker, the caller and the server move again.
    pub worker_at: u64,
    pub caller_at: u64,
    pub peer_at: u64,
    pub calls: usize,
    /// Messages that were taken by a receive whose receiver may go: its number, the message, and which it is.
    pub held: Vec<(u64, Plain, usize)>,
    /// The numbers of the receives that wait, by their index.
    pub numbers: HashMap<usize, u64>,
    /// The largest number of bytes that came in with one step.
    pub largest_input: usize,
    /// Bytes of messages that were given back.
    pub given_back: usize,
    pub largest_message: usize,
    /// A message that is compressed, away from the loader; others wait until that is done.
    pub pressed: Option<Pressed>,
    pub to_press: VecDeque<Plain>,
    /// What happened to compressed messages.
    pub situations: BTreeSet<&'static str>,
    /// The last error that there was.
    pub error: Option<UrlError>,
    /// What the delegate has not replied to, and what it is not asked any more.
    pub question: Option<Pending>,
    pub old_questions: Vec<u32>,
    /// The connection that was left while the writer wrote to it.
    pub left: Option<Network>,
    /// Which version of TLS there is in the run.
    pub old_tls: Option<bool>,
    /// Something was with the writer when the step began.
    pub was_out: bool,
    /// How many events there were.
    pub told: usize,
    /// The address that the failure of a redirect names.
    pub failing_url: Option<Url>,
    /// The step that is made.
    cause: Cause,
}

/// A reader of the bytes that the network took.
#[derive(Default)]
pub struct Tap {
    pub reader: Reader,
    pub messages: Vec<Plain>,
    pub wires: Vec<Wire>,
    pub pongs: Vec<Vec<u8>>,
    pub close: Option<Vec<u8>>,
}

impl Tap {
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
        while let Some(seen) = self.reader.next() {
            match seen {
                Seen::Message(text, payload, wire) => {
                    self.messages.push((text, payload));
                    self.wires.push(wire);
                }
                Seen::Pong(payload) => self.pongs.push(payload),
                Seen::Close(payload) => self.close = Some(payload),
                Seen::Ping(_) | Seen::Request(_) => {}
            }
        }
    }
}

impl World {
    pub fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let mut bytes = rng.fork();
        let mut network = Network::new(plan.capacity, plan.grain);
        network.up.fault = plan.up_fault;
        network.down.fault = plan.down_fault;
        network.write_fault = plan.write_fault;
        let mut mailbox = Mailbox::default();
        // The session gives a mailbox its limit with the loader's.
        mailbox.set_maximum_message_size(plan.limit);
        let old_tls = plan.tls.map(|tls| tls.old);
        let (settings, course) = settings(&plan);
        let tap = Tap { reader: Reader::new(plan.deflate.strict()), ..Tap::default() };
        let mut world = Self {
            peer: Peer::new(&plan, course, &mut rng),
            model: Model::new(&plan),
            loader: Loader::new(settings, plan.limit),
            calls: plan.caller.calls,
            missing: Missing::new(plan.missing),
            plan,
            rng,
            trace,
            mailbox,
            supply: Supply::new(Random::new(move |pool| bytes.fill(pool))),
            spare: Spare::default(),
            network,
            handlers: Handlers::default(),
            tap,
            connected: false,
            read_to_end: false,
            hung_up: false,
            out: None,
            blocked: false,
            may_write: false,
            may_act: false,
            resolving: None,
            race: None,
            look_up_is_due: false,
            addresses: None,
            losers: Vec::new(),
            attempted: false,
            read_on: false,
            end_is_told: false,
            worker_at: 0,
            caller_at: 0,
            peer_at: 0,
            held: Vec::new(),
            numbers: HashMap::new(),
            largest_input: 0,
            given_back: 0,
            largest_message: 0,
            pressed: None,
            to_press: VecDeque::new(),
            situations: BTreeSet::new(),
            error: None,
            question: None,
            old_questions: Vec::new(),
            left: None,
            old_tls,
            was_out: false,
            told: 0,
            failing_url: None,
            cause: Cause::Other,
        };
        if world.plan.way.has_delegate {
            world.loader.set_has_delegate(false);
        }
        note!(world, "{:?}", world.plan);
        if world.plan.caller.starts_first {
            world.start();
        }
        if world.plan.caller.receives == Receives::Loop {
            world.receive();
        }
        world
    }

    pub fn instant(&self) -> Instant {
        *BASE + Duration::from_millis(self.model.now)
    }

    /// A step of the loader; what it tells reaches the mailbox before anything else happens.
    pub fn step<R>(&mut self, cause: Cause, step: impl FnOnce(&mut Loader, &mut Env<'_>) -> R) -> R {
        self.cause = cause;
        let mut events = Vec::new();
        self.was_out = self.model.is_out || cause == Cause::GivenBack;
        let now = match cause {
            Cause::GivenBack if !self.loader.asks_for_time() => {
                // It says that it does not look at the clock: then it may be one that stands still.
                assert!(self.model.opened && !self.model.cancelled && self.model.ended.is_none());
                assert_eq!(self.model.pings_answered, self.model.ping_line.made, "a ping's clock runs");
                *BASE
            }
            _ => self.instant(),
        };
        let Self { loader, supply, spare, .. } = self;
        let result = step(loader, &mut Env { now, supply, spare, events: &mut events, traces: &mut Traces::default() });
        self.told += events.len();
        for event in events {
            self.event(event);
        }
        self.look(cause);
        match cause {
            Cause::GivenBack => self.model.nothing_is_out(),
            _ => self.model.may_end(cause, &self.peer, &self.plan),
        }
        self.hold_back();
        self.may_write = true;
        self.may_act = true;
        assert_eq!(self.loader.is_ended(), self.model.ended.is_some());
        assert_eq!(self.loader.buffered_amount(), self.model.buffered, "buffered_amount");
        let read = self.model.fault.is_none() || self.model.ended.is_some() || !self.loader.wants_read();
        assert!(read, "nothing is read behind the server's fault");
        if self.model.suspended && self.model.ended.is_none() {
            let still = !self.loader.wants_read() && !self.loader.has_action();
            assert!(still, "a suspended task moves");
        }
        self.check_mailbox();
        self.check_held();
        result
    }

    /// Reading stops where too much is unread.
    pub fn hold_back(&mut self) {
        if !self.mailbox.may_read_on() {
            self.loader.set_reading(false, self.instant());
            self.model.reading = false;
            self.model.stopped = true;
        }
    }

    /// One thing that the loader tells, before it goes to the mailbox.
    fn event(&mut self, event: Event) {
        note!(self, "  tells {:.120}", format!("{event:?}"));
        let cause = self.cause;
        match &event {
            Event::WaitingForConnectivity => self.says_missing(),
            Event::Informational(response) => assert_eq!(response.status_code(), 103),
            Event::Question(question) => self.asks(&question.clone()),
            Event::Open { .. } => {
                assert!(self.peer.is_open && !self.model.opened && self.model.ended.is_none());
                self.model.opened = true;
                self.model.early = self.model.sends.iter().filter(|send| send.refused.is_none()).count();
            }
            Event::Message(message) => self.model.message(&plain(message.clone()), &self.peer),
            Event::Messages(messages) => {
                let mut messages = messages.clone();
                assert!(!messages.is_empty());
                while let Some(message) = messages.pop() {
                    self.model.message(&plain(message), &self.peer);
                }
            }
            Event::Sent(_, result) => {
                let result = result.as_ref().copied().map_err(|error| self.code(error));
                let breaks = matches!(self.peer.fatal, Some(Fatal::Code(code)) if result == Err(code));
                if breaks && self.loader.has_held() && self.model.ended.is_none() && self.model.broken.is_none() {
                    // TLS is broken behind what is told bit by bit: nothing more can be sent.
                    self.model.broken = result.err();
                }
                let seen = self.plan.tls.is_none().then_some(self.tap.messages.as_slice());
                self.model.sent(result, cause, seen);
            }
            Event::AllSent(sent) => {
                for _ in 0..sent.len() {
                    let seen = self.plan.tls.is_none().then_some(self.tap.messages.as_slice());
                    self.model.sent(Ok(()), cause, seen);
                }
            }
            Event::Pong(_, result) => {
                let result = result.as_ref().copied().map_err(|error| self.code(error));
                self.model.ponged(result, &self.peer);
            }
            Event::End(end) => {
                if let (State::Answered(_), true) = (&self.peer.course.state, self.plan.tls.is_some()) {
                    // The client may know it, or not.
                    let (hops, redirects) = (self.peer.course.hops, self.peer.course.redirects);
                    self.take_up();
                    if end.metrics.as_ref().is_some_and(|end| end.metrics().redirect_count == redirects) {
                        let course = &mut self.peer.course;
                        course.redirects = redirects;
                        course.unsure += course.hops - hops;
                        course.hops = hops;
                    }
                }
                self.check_lost(cause);
                if let (Some(url), Some(error)) = (&self.failing_url, &end.error)
                    && matches!(error.raw_code(), -1007 | -1002)
                {
                    assert_eq!(error.failing_url(), Some(url), "{error:?}");
                }
                let row = Row {
                    waiting: self.code(&end.waiting),
                    later: self.code(&end.later),
                    close: end.close.as_ref().map(|(code, reason)| (code.raw_value(), reason.clone())),
                    error: end.error.as_ref().map(|error| self.code(error)),
                };
                if row.error == Some(-1011) {
                    let response = end.error.as_ref().and_then(UrlError::response).expect("the refusal");
                    self.check_refusal(response.status_code(), response.body());
                }
                let metrics = end.metrics.as_ref().expect("metrics");
                let metrics = metrics.metrics();
                let mut transaction_metrics = metrics.transaction_metrics;
                match self.model.started {
                    Some(_) => self.check_way(transaction_metrics.len(), metrics.redirect_count),
                    None => assert!(transaction_metrics.is_empty() && metrics.redirect_count == 0),
                }
                self.model.metrics = transaction_metrics.pop();
                let seen = self.plan.tls.is_none().then_some(self.tap.messages.as_slice());
                self.model.end(row, cause, &self.peer, &self.plan, seen);
            }
            Event::Fault => self.model.broke(cause, &self.peer),
            Event::DiscardUnread => self.model.discard(),
            Event::UnreadDue => {
                assert!(self.model.ended.is_some() && cause == Cause::Timeout);
                if self.mailbox.has_next() {
                    // As the session: callbacks run or are about to, and may take what is unread.
                    return;
                }
                let waits = !self.model.receive_line.waiting().is_empty() && !self.holds_end();
                if !(std::mem::take(&mut self.model.taken) || waits) {
                    if self.holds_end() {
                        self.situations.insert("a message that a receiver kept held the end up for too long");
                    }
                    self.model.discard();
                }
            }
        }
        self.mailbox.deliver(event);
    }

    fn check_refusal(&self, status: u16, body: &[u8]) {
        let Some(Fatal::Refusal(expected, sent)) = &self.peer.fatal else { panic!("nobody refused") };
        assert_eq!(status, *expected);
        assert!(sent.starts_with(body) && body.len() <= 64 * 1024, "another body than the server's");
    }

    /// Apple's number of an error that says what it failed at.
    pub fn code(&mut self, error: &UrlError) -> i32 {
        self.error = Some(error.clone());
        assert!(error.failing_url().is_some() && !error.reason().is_empty(), "{error:?}");
        error.raw_code()
    }

    /// What the mailbox says of itself agrees with what was put into it.
    fn check_mailbox(&self) {
        let model = &self.model;
        if model.available.is_empty() && model.ended.is_some() {
            let told = self.mailbox.is_told();
            let next = told || self.mailbox.has_next();
            assert!(next || self.holds_end(), "nothing stands before the end, and it is not told");
        }
        if !model.available.is_empty() && !model.receive_line.waiting().is_empty() {
            assert!(self.mailbox.has_next(), "a message and a receive wait for one another");
        }
    }

    /// Whether only a message that may still come back stands before the end.
    fn holds_end(&self) -> bool {
        !self.held.is_empty() && !self.model.discarded && self.model.available.is_empty()
    }

    /// The worker of the queue runs one callback.
    pub fn run_callback(&mut self) {
        let has_next = self.mailbox.has_next();
        assert!(!has_next || self.mailbox.waiting() > 0 || self.model.fault.is_some());
        let callback = self.mailbox.next();
        assert_eq!(has_next, callback.is_some(), "has_next() says whether there is a next(): {callback:?}");
        self.read_on |= self.mailbox.must_read_on();
        let Some(callback) = callback else { return };
        note!(self, "calls {:.120}", format!("{callback:?}"));
        match callback {
            Callback::Fault => {
                let told = self.model.available.is_empty() || self.model.receive_line.waiting().is_empty();
                assert!(told || self.model.ended.is_some(), "a fault before the messages that came before it");
                self.step(Cause::GiveUp, |loader, env| loader.give_up(env));
            }
            Callback::WaitingForConnectivity => {
                assert!(!std::mem::replace(&mut self.missing.told, true), "the delegate is told once");
                let told = &self.model.told;
                assert!(!told.open && !told.close && !told.metrics && self.question.is_none());
            }
            Callback::Informational(_) => {
                assert!(!self.model.told.open && !self.model.told.close && !self.model.told.metrics);
                self.model.told.informational += 1;
            }
            Callback::Question(question, passed_on) => self.is_asked(question, passed_on),
            Callback::Open(protocol) => {
                let told = &mut self.model.told;
                assert!(!std::mem::replace(&mut told.open, true) && !told.close && !told.metrics);
                let offered = if self.plan.offers() { Some("chat") } else { None };
                assert_eq!(protocol.as_deref(), offered);
            }
            Callback::Sent(handler, result) => handler.call(result),
            Callback::Pong(handler, result) => handler.call(result),
            Callback::Received(receive, result) => {
                receive.handler.call(result);
                return self.answers(Some(receive.number));
            }
            Callback::Close(code, reason) => {
                self.model.step_of_the_end();
                let told = &mut self.model.told;
                assert!(!std::mem::replace(&mut told.close, true) && !told.metrics);
                let (_, row, _) = self.model.ended.as_ref().unwrap();
                assert_eq!(row.close, Some((code.raw_value(), reason)));
            }
            Callback::Metrics(_) => {
                self.model.step_of_the_end();
                let told = &mut self.model.told;
                assert!(!std::mem::replace(&mut told.metrics, true) && !told.complete);
                let (_, row, _) = self.model.ended.as_ref().unwrap();
                assert_eq!(told.close, row.close.is_some(), "did_close_with before the metrics");
            }
            Callback::Complete(error) => {
                self.model.step_of_the_end();
                let code = error.map(|error| self.code(&error));
                let told = &mut self.model.told;
                assert!(told.metrics && !std::mem::replace(&mut told.complete, true));
                assert_eq!(told.open, self.model.opened, "did_open_with_protocol");
                let (_, row, _) = self.model.ended.as_ref().unwrap();
                assert_eq!(code, row.error);
                self.end_is_told = true;
            }
        }
        self.answers(None);
    }

    /// What handlers were called with. `receive`: the number of the receive that was answered.
    fn answers(&mut self, receive: Option<u64>) {
        for (kind, index, outcome) in self.handlers.take() {
            note!(self, "  {kind:?} {index}: {}", describe(&outcome));
            match kind {
                Kind::Send => self.model.send_line.answered(kind, index),
                Kind::Ping => self.model.ping_line.answered(kind, index),
                Kind::Receive => self.model.receive_line.answered(kind, index),
            }
            let told = &self.model.told;
            match outcome {
                Outcome::Dropped => panic!("the handler of {kind:?} {index} was dropped and never called"),
                Outcome::Failed(error) => {
                    assert!(kind != Kind::Receive || !self.holds_end(), "the end did not wait for a message");
                    let code = self.code(&error);
                    self.model.failed_callback(kind, index, code);
                }
                Outcome::Done(Some(plain)) => {
                    assert!(
                        told.open && !told.receive_failed && !told.close && !told.metrics,
                        "a message after the end"
                    );
                    self.message(receive.expect("a receive"), plain);
                }
                Outcome::Done(None) => {
                    assert!(told.open && !told.close && !told.metrics, "{kind:?} went well after the end");
                    let in_order = kind != Kind::Ping || self.model.may_tell_pong(index);
                    assert!(in_order, "a pong before a message that came before it");
                }
            }
        }
        if self.rng.one_in(3) {
            // What a handler calls.
            self.call();
        }
    }

    /// A receive has a message.
    fn message(&mut self, receive: u64, plain: Plain) {
        assert!(!self.model.discarded, "a message after a cancel, or after it was dropped");
        let index = self.model.available.pop_first().expect("a message that is not available");
        assert!(same(&plain, &self.peer.sent[index]), "messages come in order: this is not message {index}");
        self.model.unread -= plain.1.len() + 64;
        self.held.push((receive, plain, index));
        match self.plan.caller.gives_back {
            Some(of) if self.rng.one_in(of) => {
                if self.rng.one_in(2) {
                    self.give_back();
                }
            }
            _ => self.take(),
        }
        if self.plan.caller.receives == Receives::Loop {
            self.receive();
        }
    }

    /// A receiver is gone that had a message and did not take it.
    pub fn give_back(&mut self) {
        let Some((receive, plain, index)) = self.held.pop() else { return };
        note!(self, "gives back message {index} of receive {receive}");
        if !self.model.discarded {
            let told = &self.model.told;
            let begun = told.receive_failed || told.close || told.metrics;
            assert!(!begun, "the end did not wait for message {index}, which comes back");
            if self.model.ended.is_some() {
                self.situations.insert("a message came back behind the end");
            }
            self.model.available.insert(index);
            self.model.came_back.insert(index);
            self.model.unread += plain.1.len() + 64;
            self.given_back += plain.1.len() + 64;
        }
        self.mailbox.give_back(receive, message(plain));
        self.check_mailbox();
    }

    /// A receiver takes the message that it had.
    pub fn take(&mut self) {
        let Some((receive, _, index)) = self.held.pop() else { return };
        note!(self, "takes message {index} of receive {receive}");
        self.model.taken = true;
        self.mailbox.taken();
        self.check_mailbox();
    }

    pub fn receive(&mut self) {
        let index = self.model.receive_line.call();
        note!(self, "receive {index}");
        let handler = self.handlers.message(index);
        let number = self.mailbox.receive(|_| handler);
        self.numbers.insert(index, number);
        self.check_mailbox();
    }

    /// The next thing that the loader asks for.
    pub fn act(&mut self) {
        let has_action = self.loader.has_action();
        let action = self.loader.next_action();
        assert_eq!(has_action, action.is_some());
        let Some(action) = action else {
            self.may_act = false;
            return;
        };
        note!(self, "{action:?}");
        match action {
            Action::Resolve { look_up, host, port } => {
                assert_eq!((Some(host.as_str()), port), (self.peer.course.current.url.host_str(), self.port()));
                assert!(std::mem::take(&mut self.look_up_is_due), "a look-up again");
                assert!(self.resolving.is_none() && self.race.is_none() && !self.connected);
                self.resolving = Some((look_up, self.model.now + self.pause()));
            }
            Action::Connect { attempt, address } => {
                assert_eq!(address.port(), self.port());
                if self.plan.literal && self.plan.tls.is_none() {
                    assert_eq!(self.peer.course.current.url.host_str(), Some(&*address.ip().to_string()));
                }
                self.begin_attempt(attempt, address);
            }
            Action::Disconnect if self.model.ended.is_none() => self.disconnected(),
            Action::Disconnect => {
                self.connected = false;
                self.losers.clear();
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.peer.course.current.url.port_or_known_default().unwrap()
    }

    pub fn pause(&mut self) -> u64 {
        self.plan.pause(&mut self.rng)
    }

    /// The first `resume()`.
    pub fn start(&mut self) {
        note!(self, "start");
        self.model.started = Some(self.model.now);
        self.step(Cause::Start, |loader, env| loader.start(env, None));
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(None) => "Ok".to_owned(),
        Outcome::Done(Some((_, payload))) => format!("{} bytes", payload.len()),
        Outcome::Failed(error) => error.raw_code().to_string(),
        Outcome::Dropped => "dropped".to_owned(),
    }
}

fn settings(plan: &Plan) -> (Settings, Course) {
    let scheme = if plan.tls.is_some() { "wss" } else { "ws" };
    // A literal address has no certificate here.
    let host = if plan.literal && plan.tls.is_none() { "192.0.2.1" } else { tls::HOST };
    let user = if plan.way.user { "me:word@" } else { "" };
    let url = Url::parse(&format!("{scheme}://{user}{host}/chat?x=1#part")).unwrap();
    let course = Course::new(plan, &url);
    let mut request = asked::request(&course.current);
    request.url = url.clone();
    if plan.bad_request {
        request.set_value("split\r\nme", "X-Bad");
    }
    let mut options = WebSocketOptions::default();
    options.close_timeout = Duration::from_millis(plan.close_timeout);
    options.pong_timeout = Duration::from_millis(plan.pong_timeout);
    options.ping_interval = plan.ping_interval.map(Duration::from_millis);
    options.maximum_send_queue = plan.maximum_send_queue;
    let deflate = &plan.deflate;
    options.permessage_deflate = deflate.offers;
    options.compression_threshold = deflate.threshold;
    options.client_no_context_takeover = deflate.client.forgets;
    options.server_no_context_takeover = deflate.server.forgets;
    options.client_max_window_bits = deflate.client.bits.unwrap_or(15);
    options.server_max_window_bits = deflate.server.bits.unwrap_or(15);
    let mut configuration = SessionConfiguration::ephemeral();
    if plan.tls.is_some() || !plan.way.is_straight() {
        configuration.root_certificates = tls::roots();
        let version = plan.tls.map_or(TlsProtocolVersion::TlsV13, |tls| tls::version(tls.old));
        configuration.tls_minimum_supported_protocol_version = version;
        configuration.tls_maximum_supported_protocol_version = version;
    }
    if let (Some((method, realm)), Some(storage)) = (plan.way.stored, &configuration.url_credential_storage) {
        let method = match method {
            Method::Digest => AuthenticationMethod::HttpDigest,
            _ => AuthenticationMethod::HttpBasic,
        };
        let port = url.port_or_known_default().unwrap();
        let space = UrlProtectionSpace::new(url.host_str().unwrap(), port, Some(scheme), Some(realm), method);
        let (user, password) = course::STORED;
        storage.set(UrlCredential::new(user, password, CredentialPersistence::ForSession), &space);
    }
    configuration.timeout_interval_for_request = Duration::from_millis(plan.request_timeout);
    configuration.waits_for_connectivity = plan.waits;
    configuration.timeout_interval_for_resource = Duration::from_millis(plan.resource_timeout);
    configuration.http_additional_headers.insert("X-Common".to_owned(), "yes".to_owned());
    configuration.web_socket = options;
    let settings = Settings {
        request: Arc::new(request),
        common: Arc::new(Common::new(&configuration, Proxies::new(None, |_| None))),
        epoch: Epoch { instant: *BASE, date: SystemTime::UNIX_EPOCH },
    };
    (settings, course)
}
