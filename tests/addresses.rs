//! From a name to a connection: look-ups that hang or fail, and the race between a host's addresses (RFC 8305). Each test
//! has a network of its own, with a file of hosts and a name server.

#![cfg(target_os = "linux")]

mod support;

use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::black_hole::BlackHole;
use support::hooks::eventually;
use support::name_server::{NameServer, Reply};
use support::namespace::{self, Network, being_connected};
use support::proxy::{self, HttpProxy};
use support::{Events, PATIENCE, Peer, Server, field, recorded_session, recorded_session_with};
use urlsession::{
    ErrorStage, OperationQueue, ProxyConfiguration, SessionConfiguration, Url, UrlSession, WebSocketTask,
};

/// The head start of an address: RFC 8305 §5.
const HEAD_START: Duration = Duration::from_millis(250);

/// What clocks may differ by.
const TOLERANCE: Duration = Duration::from_millis(30);

const LOCAL_4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCAL_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// An address of the documentation's (RFC 3849), which a test's network has.
const fn six(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

const fn four(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// What there is at one port of several addresses. Elsewhere connections are refused.
struct Place {
    port: u16,
    holes: Vec<BlackHole>,
    opened: Receiver<IpAddr>,
    opens: Sender<IpAddr>,
}

impl Place {
    fn new() -> Self {
        let (opens, opened) = mpsc::channel();
        // One that nobody connects to, for a port that is free everywhere.
        let port = Server::at((four(99), 0), 0, |_, _| ()).address().port();
        Self { port, holes: Vec::new(), opened, opens }
    }

    fn with_holes(mut self, addresses: &[IpAddr]) -> Self {
        self.holes.extend(addresses.iter().map(|ip| BlackHole::at((*ip, self.port))));
        self
    }

    /// A server that opens the WebSockets of all that come, and says where.
    fn with_server(self, ip: IpAddr) -> Self {
        let opens = Mutex::new(self.opens.clone());
        Server::at((ip, self.port), 1000, move |_, mut peer| {
            peer.open();
            opens.lock().unwrap().send(ip).unwrap();
            peer.read_to_end();
        });
        self
    }

    fn url(&self, host: &str) -> Url {
        Url::parse(&format!("ws://{host}:{}/", self.port)).unwrap()
    }

    /// Opens `times` tasks, one after the other: the quickest of them, and the address that it came to.
    #[track_caller]
    fn quickest(&self, host: &str, times: usize) -> (Duration, IpAddr) {
        let mut all = Vec::new();
        for _ in 0..times {
            let (session, _, events) = recorded_session();
            let task = session.web_socket_task(self.url(host));
            let begun = Instant::now();
            task.resume();
            assert_eq!(events.next(), "open None");
            all.push((begun.elapsed(), self.opened.recv_timeout(PATIENCE).unwrap()));
            task.cancel();
            events.wait_for("complete -999");
        }
        all.into_iter().min().unwrap()
    }
}

/// A task on its way.
fn resumed(url: Url, configuration: SessionConfiguration) -> (UrlSession, WebSocketTask, Events) {
    let (session, _, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(url);
    task.resume();
    (session, task, events)
}

/// What the tests below stand on.
#[test]
fn a_black_hole_lets_nobody_in_until_it_accepts() {
    namespace::inside(Network::default(), || {
        for ip in [LOCAL_4, four(7), LOCAL_6] {
            let mut hole = BlackHole::at((ip, 0));
            let address = hole.address();
            let error = TcpStream::connect_timeout(&address, HEAD_START).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{address}");
            assert!(being_connected().is_empty());
            let client = thread::spawn(move || TcpStream::connect_timeout(&address, PATIENCE));
            eventually("it is being connected", || being_connected() == [address]);
            let peer = hole.accept(Instant::now() + PATIENCE).expect("the next SYN");
            assert_eq!(client.join().unwrap().unwrap().local_addr().unwrap(), peer.peer_addr().unwrap());
            assert!(being_connected().is_empty());
        }
    });
}

#[test]
fn ipv6_comes_first() {
    // Whatever the order of the lines.
    let hosts = "127.0.0.1 both.test\n::1 both.test\n::1 turned.test\n127.0.0.1 turned.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let place = Place::new().with_server(LOCAL_4).with_server(LOCAL_6);
        for host in ["both.test", "turned.test"] {
            assert_eq!(place.quickest(host, 1).1, LOCAL_6, "{host}");
        }
    });
}

#[test]
fn an_address_that_refuses_costs_nothing() {
    let hosts = "::1 several.test\n127.0.0.1 several.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let place = Place::new().with_server(LOCAL_4);
        let (took, address) = place.quickest("several.test", 5);
        assert_eq!(address, LOCAL_4);
        assert!(took < HEAD_START, "{took:?}");
    });
}

#[test]
fn an_address_that_is_dead_costs_its_head_start() {
    let hosts = "::1 several.test\n127.0.0.1 several.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let place = Place::new().with_server(LOCAL_4).with_holes(&[LOCAL_6]);
        let (took, address) = place.quickest("several.test", 3);
        assert_eq!(address, LOCAL_4);
        assert!((HEAD_START - TOLERANCE..3 * HEAD_START).contains(&took), "{took:?}");
    });
}

#[test]
fn a_dead_address_that_was_refused_before_costs_no_more() {
    // The first is refused at once, the second is dead, the third is a server.
    let hosts = "2001:db8::1 several.test\n127.0.0.2 several.test\n2001:db8::2 several.test";
    let network = Network { addresses: &["2001:db8::1/128", "2001:db8::2/128"], hosts, ..Network::default() };
    namespace::inside(network, || {
        let place = Place::new().with_holes(&[four(2)]).with_server(six(2)).with_server(six(1));
        // Whichever of the two comes first.
        assert!(place.quickest("several.test", 3).0 < HEAD_START);
        let place = Place::new().with_holes(&[four(2)]).with_server(six(2));
        let (took, address) = place.quickest("several.test", 3);
        assert_eq!(address, six(2));
        assert!(took < 2 * HEAD_START, "{took:?}");
    });
}

#[test]
fn families_alternate_with_a_head_start_for_each_address() {
    let hosts = "2001:db8::1 dead.test\n2001:db8::2 dead.test\n2001:db8::3 dead.test\n127.0.0.2 dead.test";
    let addresses = &["2001:db8::1/128", "2001:db8::2/128", "2001:db8::3/128"];
    namespace::inside(Network { addresses, hosts, ..Network::default() }, || {
        let place = Place::new().with_holes(&[six(1), six(2), six(3), four(2)]);
        let begun = Instant::now();
        let (_session, task, events) = resumed(place.url("dead.test"), SessionConfiguration::default());
        // Each look finds none, one or, where this thread was held up, several more.
        let mut looks: Vec<Vec<SocketAddr>> = vec![Vec::new()];
        eventually("all four are tried at once", || {
            let now = being_connected();
            assert!(looks.last().unwrap().iter().all(|address| now.contains(address)), "one was given up: {looks:?}");
            if now.len() > looks.last().unwrap().len() {
                looks.push(now);
            }
            looks.last().unwrap().len() == 4
        });
        let took = begun.elapsed();
        assert!(took >= 3 * HEAD_START - TOLERANCE, "{took:?}");
        assert!(looks[1].iter().any(SocketAddr::is_ipv6), "IPv4 came first: {looks:?}");
        let first_4 = looks.iter().position(|look| look.iter().any(SocketAddr::is_ipv4)).unwrap();
        assert!(looks[first_4 - 1].len() <= 1, "two of one family in turn: {looks:?}");
        let second_6 =
            looks.iter().position(|look| look.iter().filter(|address| address.is_ipv6()).count() > 1).unwrap();
        assert!(second_6 >= first_4, "IPv4 comes after the first of IPv6: {looks:?}");
        task.cancel();
        events.wait_for("complete -999");
        eventually("the sockets are closed", || being_connected().is_empty());
    });
}

#[test]
fn the_first_to_connect_wins_and_the_others_are_closed() {
    let hosts = "::1 slow.test\n127.0.0.1 slow.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        for winner in [LOCAL_4, LOCAL_6] {
            let mut place = Place::new().with_holes(&[LOCAL_4, LOCAL_6]);
            let (_session, task, events) = resumed(place.url("slow.test"), SessionConfiguration::default());
            eventually("both are tried", || being_connected().len() == 2);
            let hole = place.holes.iter_mut().find(|hole| hole.address().ip() == winner).unwrap();
            let mut peer = Peer::new(hole.accept(Instant::now() + PATIENCE).expect("the next SYN"));
            peer.open();
            assert_eq!(events.next(), "open None");
            eventually("the other socket is closed", || being_connected().is_empty());
            task.cancel();
            events.wait_for("complete -999");
        }
    });
}

/// All of it may have come by the time that the loop looks at the connection.
#[test]
fn a_winner_that_has_said_everything_is_read_to_its_end() {
    let hosts = "::1 slow.test\n127.0.0.1 slow.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let mut place = Place::new().with_holes(&[LOCAL_4, LOCAL_6]);
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.close_timeout = 3 * PATIENCE;
        let queue = OperationQueue::immediate();
        let (session, recorder, events) = recorded_session_with(configuration, Some(queue));
        let task = session.web_socket_task(place.url("slow.test"));
        task.resume();
        eventually("both are tried", || being_connected().len() == 2);
        // The reactor's thread is held up by a callback.
        let (release, released) = mpsc::channel::<()>();
        let held_up = recorder.handler("held up");
        let server = Server::one(|mut peer| drop(peer.open()));
        let other = session.web_socket_task(server.url());
        other.send("x", move |result| {
            held_up(result);
            let _ = released.recv_timeout(PATIENCE);
        });
        other.resume();
        events.wait_for("held up");
        let hole = place.holes.iter_mut().find(|hole| hole.address().ip() == LOCAL_4).unwrap();
        let mut peer = hole.accept(Instant::now() + PATIENCE).expect("the next SYN");
        peer.write_all(b"HTTP/1.1 503 Busy\r\n\r\nlater").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        drop(release);
        events.wait_for("complete -1011");
        assert_eq!(task.response().unwrap().body(), b"later");
    });
}

#[test]
fn a_cancel_ends_the_race() {
    let hosts = "::1 dead.test\n127.0.0.1 dead.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let place = Place::new().with_holes(&[LOCAL_4, LOCAL_6]);
        let (_session, task, events) = resumed(place.url("dead.test"), SessionConfiguration::default());
        eventually("both are tried", || being_connected().len() == 2);
        task.cancel();
        events.expect(&["complete -999"]);
        eventually("the sockets are closed", || being_connected().is_empty());
    });
}

#[test]
fn where_all_refuse_the_task_fails_with_an_address() {
    let hosts = "::1 closed.test\n127.0.0.1 closed.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        let place = Place::new();
        let (_session, task, events) = resumed(place.url("closed.test"), SessionConfiguration::default());
        events.expect(&["complete -1004"]);
        let error = task.error().unwrap();
        assert_eq!(error.stage(), ErrorStage::Connect);
        let addresses = [LOCAL_6, LOCAL_4].map(|ip| SocketAddr::new(ip, place.port).to_string());
        assert!(addresses.iter().any(|address| error.reason().contains(address)), "{error}");
    });
}

#[test]
fn addresses_in_the_url_and_names_beyond_ascii() {
    let hosts = "127.0.0.1 xn--bcher-kva.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        for (ip, host, sent) in [
            (LOCAL_4, "127.0.0.1", "127.0.0.1"),
            (LOCAL_6, "[::1]", "[::1]"),
            (LOCAL_4, "bücher.test", "xn--bcher-kva.test"),
            (LOCAL_4, "B\u{dc}CHER.test", "xn--bcher-kva.test"),
            (LOCAL_4, "localhost", "localhost"),
        ] {
            let server = Server::at((ip, 0), 1, |_, mut peer| {
                let request = peer.open();
                peer.text(field(&request, "Host").unwrap());
                peer.read_close();
            });
            let port = server.address().port();
            let (session, recorder, events) = recorded_session();
            let task = session.web_socket_task(Url::parse(&format!("ws://{host}:{port}/")).unwrap());
            task.receive(recorder.receiver("host"));
            task.resume();
            assert_eq!(events.wait_for("host"), format!("host string {sent}:{port}"));
            task.cancel();
            events.wait_for("complete");
            server.join();
        }
    });
}

#[test]
fn a_name_server_is_asked_and_its_answers_told_apart() {
    namespace::inside(Network::default(), || {
        let server = Place::new().with_server(LOCAL_4).with_server(LOCAL_6);
        let names = NameServer::start(|name| match name.split('.').next().unwrap() {
            "both" => Reply::Addresses(vec![LOCAL_4, LOCAL_6]),
            "four" => Reply::Addresses(vec![LOCAL_4]),
            "unknown" => Reply::Code(3),
            "empty" => Reply::Code(0),
            _ => Reply::Code(2),
        });
        assert_eq!(server.quickest("both.test", 1).1, LOCAL_6);
        assert_eq!(server.quickest("four.test", 1).1, LOCAL_4);
        let fails = |host: &str, code: i32, kind: io::ErrorKind| {
            let (_session, task, events) = resumed(server.url(host), SessionConfiguration::default());
            events.expect(&[format!("complete {code}")]);
            let error = task.error().unwrap();
            assert_eq!(error.stage(), ErrorStage::Resolve, "{host}");
            assert!(error.reason().contains(host), "{error}");
            let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(source.map(io::Error::kind), Some(kind), "{host}: {error:?}");
        };
        fails("unknown.test", -1003, io::ErrorKind::NotFound);
        fails("empty.test", -1003, io::ErrorKind::NotFound);
        // A server that cannot find out, and none.
        fails("broken.test", -1009, io::ErrorKind::NetworkUnreachable);
        drop(names);
        fails("nobody.test", -1009, io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn a_look_up_that_hangs_delays_its_own_task_only() {
    let hosts = "127.0.0.1 quick.test";
    namespace::inside(Network { hosts, ..Network::default() }, || {
        const HANGING: usize = 30;
        let place = Place::new().with_server(LOCAL_4);
        let names = NameServer::start(|_| Reply::Silence);
        let (session, recorder, events) = recorded_session();
        let tasks: Vec<WebSocketTask> =
            (0..HANGING).map(|number| session.web_socket_task(place.url(&format!("hangs-{number}.test")))).collect();
        let (own, own_events) = support::recorder();
        tasks[0].set_delegate(Some(own.clone()));
        for (number, task) in tasks.iter().enumerate() {
            task.resume();
            names.wait_for(&format!("hangs-{number}.test"));
        }
        // Far sooner than the resolver gives up.
        let quick = session.web_socket_task(place.url("quick.test"));
        quick.resume();
        assert_eq!(events.next(), "open None");
        quick.cancel();
        events.wait_for("complete -999");

        // What ends waits for no look-up, and nor does the delegate.
        let begun = Instant::now();
        tasks[0].cancel();
        own_events.expect(&["complete -999"]);
        eventually("the task's delegate is let go", || Arc::strong_count(&own) == 1);
        session.invalidate_and_cancel();
        events.wait_for("invalid None");
        drop((session, tasks));
        eventually("the session's delegate is let go", || Arc::strong_count(&recorder) == 1);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(events.log().iter().filter(|event| *event == "complete -999").count(), HANGING);
    });
}

#[test]
fn the_request_timer_ends_a_look_up_that_hangs() {
    namespace::inside(Network::default(), || {
        let names = NameServer::start(|_| Reply::Silence);
        let mut configuration = SessionConfiguration::default();
        configuration.timeout_interval_for_request = Duration::from_millis(300);
        let (_session, task, events) = resumed(Url::parse("ws://hangs.test/").unwrap(), configuration);
        names.wait_for("hangs.test");
        events.expect(&["complete -1001"]);
        assert_eq!(task.error().unwrap().stage(), ErrorStage::Resolve);
    });
}

#[test]
fn tasks_that_ask_for_one_name_at_the_same_time_are_one_look_up() {
    namespace::inside(Network::default(), || {
        const TASKS: usize = 20;
        let place = Place::new().with_server(LOCAL_4);
        let (release, released) = mpsc::channel::<()>();
        let names = NameServer::start(move |_| {
            // Until the sender goes, and at once from then on.
            let _ = released.recv_timeout(PATIENCE);
            Reply::Code(3)
        });
        let (session, _, events) = recorded_session();
        let tasks: Vec<WebSocketTask> = (0..TASKS)
            .map(|number| {
                let port = 1000 + number;
                session.web_socket_task(Url::parse(&format!("ws://shared.test:{port}/")).unwrap())
            })
            .collect();
        tasks.iter().for_each(|task| task.resume());
        // Tasks begin in their order: when this one is open, all have asked.
        let last = session.web_socket_task(place.url("127.0.0.1"));
        last.resume();
        assert_eq!(events.next(), "open None");
        drop(release);
        for _ in 0..TASKS {
            events.wait_for("complete -1003");
        }
        // Once for each family, and once more with the empty search domain at most.
        let asked = names.times_asked("shared.test");
        assert!((1..=4).contains(&asked), "{asked} questions");
    });
}

/// Asserts nothing: how long it takes to open a socket, by what is in the way.
#[test]
fn how_long_it_takes() {
    let hosts = "::1 both.test\n127.0.0.1 both.test\n::1 refused.test\n127.0.0.2 refused.test\n\
                 2001:db8::1 dead.test\n127.0.0.1 dead.test\n\
                 2001:db8::1 two.test\n127.0.0.3 two.test\n2001:db8::2 two.test";
    let addresses = &["2001:db8::1/128", "2001:db8::2/128"];
    namespace::inside(Network { addresses, hosts, ..Network::default() }, || {
        let place = Place::new().with_server(LOCAL_4).with_server(LOCAL_6).with_holes(&[six(1), four(3)]);
        let place = place.with_server(six(2));
        let refusing = Place::new().with_server(four(2));
        for (place, host, what) in [
            (&place, "127.0.0.1", "an address"),
            (&place, "both.test", "a name"),
            (&refusing, "refused.test", "the first address refuses"),
            (&place, "dead.test", "the first address is dead"),
            (&place, "two.test", "two of three addresses are dead"),
        ] {
            let (took, address) = place.quickest(host, 3);
            println!("{what:32} {:8.1} ms, at {address}", took.as_secs_f64() * 1e3);
        }
    });
}

/// A proxy whose name cannot be looked up is passed by; where that is found out all the same, nobody waits for it any more.
#[test]
fn a_look_up_that_comes_late_is_not_taken_for_the_next_one() {
    namespace::inside(Network::default(), || {
        const LIMIT: Duration = Duration::from_secs(1);
        let [first, second] = [(); 2].map(|()| HttpProxy::new(|_| proxy::Reply::Tunnel));
        let (_never, hangs) = mpsc::channel::<()>();
        let is_late = AtomicBool::new(false);
        // The second is asked for behind the first, which is found when the task has turned to the second.
        let names = NameServer::start(move |name| {
            if name == "first.test" && !is_late.swap(true, Ordering::Relaxed) {
                let _ = hangs.recv_timeout(LIMIT + LIMIT / 2);
            }
            Reply::Addresses(vec![LOCAL_4])
        });
        let place = Place::new().with_server(LOCAL_4);
        let mut configuration = SessionConfiguration::default();
        configuration.timeout_interval_for_request = LIMIT;
        configuration.proxy_configurations = Some(vec![
            ProxyConfiguration::http_connect("first.test", first.port()),
            ProxyConfiguration::http_connect("second.test", second.port()),
        ]);
        let (_session, task, events) = resumed(place.url("127.0.0.1"), configuration);
        assert_eq!(events.next(), "open None");
        assert_eq!((first.seen().len(), second.seen().len()), (0, 1));
        task.cancel();
        drop(names);
    });
}
