//! `waits_for_connectivity`: a task without a network waits for one, or fails at once. Each test has a network of its own,
//! which comes up when the test wants it.

#![cfg(target_os = "linux")]

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use support::hooks::eventually;
use support::name_server::{NameServer, Reply};
use support::namespace::{Network, inside, ip};
use support::{Events, Recorder, Server, recorded_session_with};
use urlsession::{ErrorCode, ErrorStage, SessionConfiguration, TaskState, Url, UrlSession, WebSocketTask};

/// A moment in which something must not happen, longer than the timers that may not run out in it.
const MOMENT: Duration = Duration::from_millis(600);

const SHORT: Duration = Duration::from_millis(300);

/// An address of the documentation's (RFC 5737), to which there is no way until a test adds it.
const ELSEWHERE: &str = "192.0.2.1";

/// The loopback device is down: there is no way to anywhere.
const DOWN: Network<'static> = Network { up: false, addresses: &[], hosts: "127.0.0.1 known.test\n::1 known.test" };

fn waiting_configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::default();
    configuration.waits_for_connectivity = true;
    configuration
}

/// A task and what it needs to live.
struct Client {
    session: UrlSession,
    task: WebSocketTask,
    recorder: Arc<Recorder>,
    events: Events,
}

impl Client {
    /// Suspended.
    fn new(url: &str, configuration: SessionConfiguration) -> Self {
        let (session, recorder, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(Url::parse(url).unwrap());
        Self { session, task, recorder, events }
    }

    fn resumed(url: &str, configuration: SessionConfiguration) -> Self {
        let client = Self::new(url, configuration);
        client.task.resume();
        client
    }

    /// Its delegate knows that it waits.
    #[track_caller]
    fn waiting(url: &str, configuration: SessionConfiguration) -> Self {
        let client = Self::resumed(url, configuration);
        assert_eq!(client.events.next(), "waiting");
        assert_eq!(client.task.state(), TaskState::Running);
        assert!(client.task.error().is_none());
        client
    }
}

/// An echo at every address, those included that come later.
fn server() -> (Server, u16) {
    let server = Server::at((Ipv6Addr::UNSPECIFIED, 0), 100, |_, mut peer| {
        peer.open();
        peer.echo();
    });
    let port = server.address().port();
    (server, port)
}

/// There is a way to [`ELSEWHERE`] from now on.
fn add_elsewhere() {
    ip(&format!("address add {ELSEWHERE}/32 dev lo"));
}

#[test]
fn a_task_waits_and_opens_when_the_network_comes_up() {
    inside(DOWN, || {
        let (_server, port) = server();
        // Addresses; a name that needs no name server; one that does.
        let clients = ["127.0.0.1", "[::1]", "known.test", "asked.test"].map(|host| {
            let client = Client::new(&format!("ws://{host}:{port}/"), waiting_configuration());
            client.task.send("sent before", |_| ());
            client.task.receive(client.recorder.receiver("echo"));
            client.task.resume();
            client
        });
        for client in &clients {
            assert_eq!(client.events.next(), "waiting");
            assert_eq!(client.task.state(), TaskState::Running);
            assert!(client.task.error().is_none() && client.task.response().is_none());
        }
        // It is told once, however often it is tried again.
        clients[0].events.expect_silence(MOMENT);
        ip("link set lo up");
        let _names = NameServer::start(|_| Reply::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
        for client in clients {
            client.events.wait_for("echo");
            assert_eq!(client.events.log(), ["waiting", "open None", "echo string sent before"]);
            client.task.cancel();
            client.events.wait_for("complete -999");
            let waited = client.events.log().into_iter().filter(|event| event == "waiting").count();
            assert_eq!(waited, 1);
            drop(client.session);
        }
    });
}

#[test]
fn a_task_waits_for_a_way_to_its_address() {
    inside(Network::default(), || {
        let (_server, port) = server();
        let client = Client::waiting(&format!("ws://{ELSEWHERE}:{port}/"), waiting_configuration());
        // Meanwhile others have a network.
        let other = Client::resumed(&format!("ws://127.0.0.1:{port}/"), waiting_configuration());
        assert_eq!(other.events.next(), "open None");
        add_elsewhere();
        assert_eq!(client.events.next(), "open None");
    });
}

#[test]
fn a_task_waits_for_a_name_server() {
    inside(Network::default(), || {
        let (_server, port) = server();
        let client = Client::waiting(&format!("ws://asked.test:{port}/"), waiting_configuration());
        let unknown = Client::waiting(&format!("ws://unknown.test:{port}/"), waiting_configuration());
        let _names = NameServer::start(|name| match name {
            "asked.test" => Reply::Addresses(vec![Ipv4Addr::LOCALHOST.into()]),
            _ => Reply::Code(3),
        });
        assert_eq!(client.events.next(), "open None");
        unknown.events.expect(&["waiting", "complete -1003"]);
        assert_eq!(unknown.task.error().unwrap().stage(), ErrorStage::Resolve);
    });
}

#[test]
fn without_waiting_a_task_fails_at_once() {
    inside(DOWN, || {
        let (_server, port) = server();
        for (host, stage) in [
            ("127.0.0.1", ErrorStage::Connect),
            ("[::1]", ErrorStage::Connect),
            ("known.test", ErrorStage::Connect),
            ("asked.test", ErrorStage::Resolve),
        ] {
            let begun = Instant::now();
            let client = Client::resumed(&format!("ws://{host}:{port}/"), SessionConfiguration::default());
            client.events.expect(&["complete -1009"]);
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{host}: {took:?}");
            let error = client.task.error().unwrap();
            assert_eq!((error.code(), error.stage()), (ErrorCode::NotConnectedToInternet, stage), "{host}");
        }
    });
}

#[test]
fn the_request_timer_stands_still_and_starts_anew() {
    inside(Network::default(), || {
        // One that accepts and says nothing.
        let silent = Server::at((Ipv4Addr::UNSPECIFIED, 0), 100, |_, mut peer| drop(peer.read_to_end()));
        let (_server, port) = server();
        let mut configuration = waiting_configuration();
        configuration.timeout_interval_for_request = SHORT;
        let opens = Client::waiting(&format!("ws://{ELSEWHERE}:{port}/"), configuration.clone());
        let url = format!("ws://{ELSEWHERE}:{}/", silent.address().port());
        let fails = Client::waiting(&url, configuration);
        opens.events.expect_silence(MOMENT);
        assert_eq!(fails.events.log(), ["waiting"]);
        let begun = Instant::now();
        add_elsewhere();
        assert_eq!(opens.events.next(), "open None");
        fails.events.expect(&["waiting", "complete -1001"]);
        assert!(begun.elapsed() >= SHORT);
        assert_eq!(fails.task.error().unwrap().stage(), ErrorStage::Upgrade);
    });
}

#[test]
fn the_resource_timer_ends_the_waiting() {
    inside(DOWN, || {
        let mut configuration = waiting_configuration();
        configuration.timeout_interval_for_resource = SHORT;
        for host in ["127.0.0.1", "asked.test"] {
            let begun = Instant::now();
            let client = Client::resumed(&format!("ws://{host}/"), configuration.clone());
            client.task.receive(client.recorder.receiver("receive"));
            client.events.wait_for("complete");
            assert!(begun.elapsed() >= SHORT);
            assert_eq!(client.events.log(), ["waiting", "receive -1001", "metrics", "complete -1001"], "{host}");
            let error = client.task.error().unwrap();
            assert!(error.reason().contains("timeout_interval_for_resource"), "{error}");
        }
    });
}

#[test]
fn cancels_end_the_waiting() {
    type End = fn(&Client);
    let ends: [End; 3] = [
        |client| client.task.cancel(),
        |client| client.task.cancel_with(urlsession::CloseCode::NORMAL_CLOSURE, None),
        |client| client.session.invalidate_and_cancel(),
    ];
    inside(DOWN, move || {
        let (_server, port) = server();
        for end in ends {
            let client = Client::waiting(&format!("ws://127.0.0.1:{port}/"), waiting_configuration());
            client.task.receive(client.recorder.receiver("receive"));
            let begun = Instant::now();
            end(&client);
            client.events.wait_for("complete");
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{took:?}");
            let log = client.events.log();
            assert_eq!(log[..2], ["waiting", "receive -999"], "{log:?}");
            assert_eq!(client.task.state(), TaskState::Completed);
            // Nothing is left that would try again.
            let Client { session, task, recorder, events } = client;
            session.invalidate_and_cancel();
            events.wait_for("invalid None");
            drop((session, task));
            eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
        }
    });
}

#[test]
fn only_the_network_is_waited_for() {
    inside(Network::default(), || {
        let _names = NameServer::start(|_| Reply::Code(3));
        let nobody = Server::many(0, |_, _| ());
        let refusing = nobody.url();
        nobody.join();
        for (url, code) in [
            (refusing.as_str(), -1004),
            ("ws://unknown.test/", -1003),
            // A label of 64 characters is none that the DNS could hold.
            ("ws://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test/", -1003),
        ] {
            let client = Client::resumed(url, waiting_configuration());
            client.events.expect(&[format!("complete {code}")]);
        }
    });
}

#[test]
fn what_the_network_shows_when_it_comes_ends_the_waiting() {
    inside(Network::default(), || {
        let nobody = Server::many(0, |_, _| ());
        let port = nobody.address().port();
        nobody.join();
        let client = Client::waiting(&format!("ws://{ELSEWHERE}:{port}/"), waiting_configuration());
        add_elsewhere();
        client.events.expect(&["waiting", "complete -1004"]);
    });
}

#[test]
fn a_suspended_task_does_not_wait_and_goes_on_when_it_is_resumed() {
    inside(Network::default(), || {
        let (_server, port) = server();
        let url = format!("ws://{ELSEWHERE}:{port}/");
        let clients = [0, 1].map(|_| Client::waiting(&url, waiting_configuration()));
        for client in &clients {
            client.task.suspend();
            assert_eq!(client.task.state(), TaskState::Suspended);
        }
        // Resumed where there is still no network: it is told no second time.
        clients[0].task.resume();
        clients[0].events.expect_silence(MOMENT);
        add_elsewhere();
        assert_eq!(clients[0].events.next(), "open None");
        clients[1].events.expect_silence(MOMENT);
        clients[1].task.resume();
        assert_eq!(clients[1].events.next(), "open None");
        for client in &clients {
            assert_eq!(client.events.log(), ["waiting", "open None"]);
        }
    });
}

#[test]
fn a_cancel_of_a_suspended_task_that_waited() {
    inside(DOWN, || {
        let client = Client::waiting("ws://127.0.0.1/", waiting_configuration());
        client.task.suspend();
        client.task.cancel();
        client.events.expect(&["waiting", "complete -999"]);
    });
}

#[test]
fn where_one_family_has_no_network_the_other_is_taken() {
    let hosts =
        "192.0.2.1 half.test\n::1 half.test\n192.0.2.1 other.test\n2001:db8::9 other.test\n127.0.0.1 other.test";
    inside(Network { hosts, ..Network::default() }, || {
        let (_server, port) = server();
        for host in ["half.test", "other.test"] {
            let client = Client::resumed(&format!("ws://{host}:{port}/"), waiting_configuration());
            assert_eq!(client.events.next(), "open None", "{host}");
        }
    });
}
