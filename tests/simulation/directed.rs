//! Moments that the network of a run brings about rarely, one by one.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use urlsession::internals::{
    Action, Common, Completion, Env, Epoch, Event, Loader, Output, Proxies, Random, Reply, Settings, Spare, Supply,
    Traces,
};
use urlsession::{CloseCode, Message, ProxyConfiguration, SessionConfiguration, Url, UrlRequest};

use crate::peer::{accept, accepted};

const ELSEWHERE: &str = "HTTP/1.1 302 Found\r\nLocation: ws://192.0.2.2/\r\nContent-Length: 0\r\n\r\n";

/// A task whose request is with the writer.
struct Road {
    loader: Loader,
    supply: Supply,
    spare: Spare,
    events: Vec<Event>,
    now: Instant,
}

impl Road {
    fn new(has_delegate: bool) -> (Self, Output) {
        let mut road = Self::started(&SessionConfiguration::ephemeral(), &[]);
        if has_delegate {
            road.loader.set_has_delegate(false);
        }
        let request = road.connect("192.0.2.1:80");
        (road, request)
    }

    /// A task that has begun its way, through these proxies.
    fn started(configuration: &SessionConfiguration, proxies: &[ProxyConfiguration]) -> Self {
        let now = Instant::now();
        let settings = Settings {
            request: Arc::new(UrlRequest::new(Url::parse("ws://192.0.2.1/").unwrap())),
            common: Arc::new(Common::new(configuration, Proxies::new(Some(proxies), |_| None))),
            epoch: Epoch { instant: now, date: SystemTime::UNIX_EPOCH },
        };
        let supply = Supply::new(Random::new(|pool| pool.fill(7)));
        let loader = Loader::new(settings, 1000);
        let mut road = Self { loader, supply, spare: Spare::default(), events: Vec::new(), now };
        road.step(|loader, env| loader.start(env, None));
        road
    }

    /// Time goes by, and somebody looks at the clock.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step(|loader, env| loader.handle_timeout(env));
    }

    fn step<R>(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>) -> R) -> R {
        let Self { loader, supply, spare, events, now } = self;
        step(loader, &mut Env { now: *now, supply, spare, events, traces: &mut Traces::default() })
    }

    /// The connection to this address stands, and the writer has the request.
    fn connect(&mut self, to: &str) -> Output {
        let Some(Action::Connect { attempt, address }) = self.loader.next_action() else { panic!("no connection") };
        assert_eq!(address.to_string(), to);
        self.step(|loader, env| loader.connected(env, attempt, None, Some(address)));
        self.step(|loader, env| loader.take_output(env)).expect("the request")
    }

    fn receive(&mut self, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        self.step(|loader, env| loader.receive(env, &mut bytes));
    }

    /// The request is written, and the server opens the WebSocket.
    fn opens(&mut self, request: Output) {
        let mut slices = [IoSlice::new(&[])];
        assert_eq!(request.slices(&mut slices), 1);
        let head = std::str::from_utf8(&slices[0]).unwrap().to_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        self.give_back(request, usize::MAX / 2);
        let extensions = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        self.receive(&accepted(&accept(key), "Upgrade: websocket\r\nConnection: Upgrade\r\n", extensions));
    }

    fn give_back(&mut self, mut output: Output, written: usize) {
        output.advance(written);
        self.step(|loader, env| loader.give_back(env, output));
    }

    /// The error and the code of the close that the end tells, if there is one.
    fn end(&self) -> Option<(Option<i32>, Option<CloseCode>)> {
        self.events.iter().find_map(|event| match event {
            Event::End(end) => {
                let error = end.error.as_ref().map(|error| error.raw_code());
                Some((error, end.close.as_ref().map(|(code, _)| *code)))
            }
            _ => None,
        })
    }
}

#[test]
fn no_http_while_the_request_is_with_the_writer() {
    let (mut road, request) = Road::new(false);
    road.receive("SSH-2.0-x\r\nand more\r\n\r\n");
    assert_eq!(road.end(), None);
    road.receive("and more");
    road.give_back(request, 10);
    assert_eq!(road.end(), Some((Some(-1017), None)));
}

#[test]
fn the_end_of_a_connection_that_was_left_says_nothing() {
    let (mut road, request) = Road::new(false);
    road.give_back(request, usize::MAX / 2);
    road.receive(ELSEWHERE);
    // Whoever read from it comes back.
    road.step(|loader, env| loader.end_of_stream(env));
    road.step(|loader, env| loader.read_failed(env, ErrorKind::ConnectionReset.into()));
    assert_eq!(road.end(), None);
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    road.connect("192.0.2.2:80");
}

#[test]
fn an_answer_before_the_request_is_written_counts() {
    let (mut road, request) = Road::new(true);
    road.step(|loader, env| loader.send(env, Message::String("a".to_owned()), Completion::new(|_| ())));
    road.give_back(request, 10);
    road.step(|loader, env| loader.write_failed(env, ErrorKind::BrokenPipe.into()));
    road.receive(ELSEWHERE);
    // What waits still waits, for another connection may come.
    assert!(matches!(road.events.as_slice(), [Event::Question(_)]));
    // What was started for the connection that broke is over.
    road.pass(Duration::from_secs(10));
    assert!(road.loader.waits_for_reply(1) && road.step(|loader, env| loader.take_output(env)).is_none());
    road.step(|loader, env| loader.reply(env, 1, Reply::Default));
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    let request = road.connect("192.0.2.2:80");
    road.opens(request);
    // Nothing is left of it: the socket compresses as any other.
    assert!(road.end().is_none() && road.loader.begin_compression(2000).is_some());
}

#[test]
fn what_cannot_be_written_behind_an_answer_is_not_tried_again() {
    let (mut road, request) = Road::new(true);
    road.give_back(request, 10);
    road.receive(ELSEWHERE);
    let rest = road.step(|loader, env| loader.take_output(env)).expect("the rest of the request");
    road.give_back(rest, 0);
    road.step(|loader, env| loader.write_failed(env, ErrorKind::BrokenPipe.into()));
    assert!(road.step(|loader, env| loader.take_output(env)).is_none());
    road.step(|loader, env| loader.reply(env, 1, Reply::Default));
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    road.connect("192.0.2.2:80");
}

#[test]
fn a_way_that_leads_nowhere_after_cancel_with_is_cancelled() {
    let (mut road, request) = Road::new(false);
    road.give_back(request, usize::MAX / 2);
    road.step(|loader, env| loader.send(env, Message::String("a".to_owned()), Completion::new(|_| ())));
    road.step(|loader, env| loader.cancel_with(env, CloseCode::GOING_AWAY, None));
    road.receive("HTTP/1.1 302 Found\r\nLocation: ftp://192.0.2.2/\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(road.end(), Some((None, Some(CloseCode::GOING_AWAY))));
}

#[test]
fn a_connection_is_left_before_the_next_address_has_its_turn() {
    let (mut road, request) = Road::new(false);
    road.give_back(request, usize::MAX / 2);
    road.receive(ELSEWHERE);
    // Nobody comes to it for longer than an attempt has the field for itself.
    road.pass(Duration::from_millis(250));
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    road.connect("192.0.2.2:80");
}

#[test]
fn the_addresses_of_a_proxy_that_was_left_are_not_those_of_the_next() {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(1);
    let proxies = ["one.test", "two.test"].map(|host| ProxyConfiguration::http_connect(host, 3128));
    let mut road = Road::started(&configuration, &proxies);
    let asked = |road: &mut Road| match road.loader.next_action() {
        Some(Action::Resolve { look_up, host, .. }) => (look_up, host),
        action => panic!("{action:?}"),
    };
    let one = asked(&mut road);
    road.pass(Duration::from_secs(1));
    let addresses = |last| Ok(vec![([192, 0, 2, last], 3128).into()]);
    // Before the first is left, and after the second was asked for.
    road.step(|loader, env| loader.resolved(env, one.0, addresses(1)));
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    let two = asked(&mut road);
    assert_eq!((one.1.as_str(), two.1.as_str()), ("one.test", "two.test"));
    road.step(|loader, env| loader.resolved(env, one.0, addresses(1)));
    assert!(!road.loader.has_action());
    road.step(|loader, env| loader.resolved(env, two.0, addresses(2)));
    road.connect("192.0.2.2:3128");
}

#[test]
fn nobody_is_told_of_a_missing_network_after_a_cancel() {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.waits_for_connectivity = true;
    let mut road = Road::started(&configuration, &[]);
    let request = road.connect("192.0.2.1:80");
    road.receive(ELSEWHERE);
    assert!(matches!(road.loader.next_action(), Some(Action::Disconnect)));
    let Some(Action::Connect { attempt, .. }) = road.loader.next_action() else { panic!("no connection") };
    // It waits for what is with the writer, which is of the connection before.
    road.step(|loader, env| loader.cancel(env));
    road.step(|loader, env| loader.connect_failed(env, attempt, ErrorKind::NetworkUnreachable.into()));
    assert!(!road.events.iter().any(|event| matches!(event, Event::WaitingForConnectivity)), "{:?}", road.events);
    road.give_back(request, 0);
    assert_eq!(road.end(), Some((Some(-999), None)));
}
