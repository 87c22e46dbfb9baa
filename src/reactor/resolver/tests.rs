//! Look-ups that hang, fail and are shared. What the system answers is in `tests/addresses.rs`.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The task of a test.
struct Probe {
    name: &'static str,
    /// The program has it; it may have ended.
    held: Weak<()>,
    ended: bool,
    answers: Sender<(&'static str, Answer)>,
}

impl Asker for Probe {
    fn is_gone(&self) -> bool {
        self.held.strong_count() == 0
    }

    fn waits(&self) -> bool {
        !self.is_gone() && !self.ended
    }

    fn tell(self, answer: Answer) {
        if self.waits() {
            self.answers.send((self.name, answer)).unwrap();
        }
    }
}

/// A resolver whose look-ups hang where the name begins with "hang", until the test lets one go.
struct Scene {
    resolver: Arc<Resolver<Probe>>,
    now: Instant,
    held: Arc<()>,
    told: Sender<(&'static str, Answer)>,
    answers: Receiver<(&'static str, Answer)>,
    begun: Receiver<String>,
    release: Sender<()>,
}

impl Scene {
    fn new() -> Self {
        let ((told, answers), (begins, begun), (release, released)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let released = Mutex::new(released);
        let resolver = Arc::new(Resolver::new(move |host: &str| {
            begins.send(host.to_owned()).unwrap();
            if host.starts_with("hang") {
                released.lock().recv().unwrap();
            }
            match host {
                "unknown" => Err(io::Error::new(ErrorKind::NotFound, "no such name")),
                "broken" => Err(io::Error::from_raw_os_error(libc::EMFILE)),
                "panic" => panic!("as the test wants it"),
                _ => Ok(vec![(Ipv4Addr::LOCALHOST, 0).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 0).into()]),
            }
        }));
        Self { resolver, now: Instant::now(), held: Arc::new(()), told, answers, begun, release }
    }

    fn probe(&self, name: &'static str) -> Probe {
        Probe { name, held: Arc::downgrade(&self.held), ended: false, answers: self.told.clone() }
    }

    fn ask(&self, name: &'static str, host: &str, port: u16) {
        self.resolver.ask_at(self.now, self.probe(name), host, port);
    }

    fn begun(&self) -> String {
        within_patience(self.begun.recv_timeout(PATIENCE))
    }

    /// Who is told next, and its ports or the kind of its failure.
    fn told(&self) -> (&'static str, Result<Vec<u16>, ErrorKind>) {
        let (name, answer) = within_patience(self.answers.recv_timeout(PATIENCE));
        (name, answer.map(|addresses| addresses.iter().map(SocketAddr::port).collect()).map_err(|error| error.kind()))
    }

    /// The threads end, and nothing is left of what they did.
    fn is_over(&self) {
        let deadline = Instant::now() + PATIENCE;
        while Arc::strong_count(&self.resolver) > 1 {
            assert!(Instant::now() < deadline, "threads are left");
            thread::yield_now();
        }
        let state = self.resolver.state.lock();
        assert_eq!((state.threads, state.look_ups.len(), state.latest.len(), state.queue.len()), (0, 0, 0, 0));
    }
}

fn within_patience<T: Debug>(received: Result<T, RecvTimeoutError>) -> T {
    received.expect("it came in time")
}

#[test]
fn one_look_up_for_those_who_ask_at_the_same_time() {
    let scene = Scene::new();
    for (name, port) in [("first", 1), ("second", 2), ("third", 3)] {
        scene.ask(name, "hanging", port);
    }
    assert_eq!(scene.begun(), "hanging");
    scene.ask("late", "hanging", 4);
    scene.release.send(()).unwrap();
    for (name, port) in [("first", 1), ("second", 2), ("third", 3), ("late", 4)] {
        assert_eq!(scene.told(), (name, Ok(vec![port, port])));
    }
    // An answer is not kept.
    scene.ask("again", "hanging", 5);
    assert_eq!(scene.begun(), "hanging");
    scene.release.send(()).unwrap();
    assert_eq!(scene.told(), ("again", Ok(vec![5, 5])));
    scene.is_over();
    assert!(scene.begun.try_recv().is_err(), "there was another look-up");
}

#[test]
fn a_look_up_that_is_old_is_not_shared() {
    let mut scene = Scene::new();
    scene.ask("first", "hanging", 1);
    scene.begun();
    scene.now = Instant::now() + SHARED_FOR;
    scene.ask("second", "hanging", 2);
    scene.begun();
    scene.now = Instant::now();
    scene.ask("third", "hanging", 3);
    scene.release.send(()).unwrap();
    scene.release.send(()).unwrap();
    let mut told: Vec<_> = (0..3).map(|_| scene.told()).collect();
    told.sort_by_key(|(_, ports)| ports.clone().unwrap());
    assert_eq!(told, [("first", Ok(vec![1, 1])), ("second", Ok(vec![2, 2])), ("third", Ok(vec![3, 3]))]);
    scene.is_over();
    assert!(scene.begun.try_recv().is_err(), "there was another look-up");
}

#[test]
fn failures_reach_everybody_who_asked() {
    let scene = Scene::new();
    let table = [
        ("unknown", ErrorKind::NotFound, "no such name"),
        ("broken", io::Error::from_raw_os_error(libc::EMFILE).kind(), "os error"),
        ("panic", ErrorKind::Other, "the look-up of the system failed"),
    ];
    for (host, kind, text) in table {
        // A look-up that is not begun takes both, whatever the threads are at.
        {
            let mut state = scene.resolver.state.lock();
            assert!(state.add(scene.now, host, scene.probe("first"), 1));
            assert!(!state.add(scene.now, host, scene.probe("second"), 1));
        }
        scene.ask("other", &format!("next to {host}"), 1);
        let mut told = Vec::new();
        for _ in 0..3 {
            let (name, answer) = within_patience(scene.answers.recv_timeout(PATIENCE));
            told.push(name);
            if name != "other" {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), kind, "{host}");
                assert!(error.to_string().contains(text), "{host}: {error}");
            }
        }
        told.sort_unstable();
        assert_eq!(told, ["first", "other", "second"]);
    }
    scene.is_over();
}

#[test]
fn a_name_that_hangs_holds_up_nobody_below_the_bound() {
    let scene = Scene::new();
    for number in 1..THREADS {
        scene.ask("hangs", &format!("hanging {number}"), 1);
        scene.begun();
    }
    for name in ["one", "two", "three"] {
        scene.ask(name, name, 7);
        assert_eq!(scene.begun(), name);
        assert_eq!(scene.told(), (name, Ok(vec![7, 7])));
    }
    scene.ask("hangs", "hanging, and the last", 1);
    scene.begun();
    scene.ask("hangs", "hanging beyond the bound", 1);
    scene.ask("waits", "waits", 8);
    assert_eq!(scene.resolver.state.lock().threads, THREADS);
    assert!(scene.begun.try_recv().is_err(), "it does not wait for a thread");
    for _ in 0..=THREADS {
        scene.release.send(()).unwrap();
    }
    let told: Vec<_> = (0..THREADS + 2).map(|_| scene.told()).collect();
    assert!(told.contains(&("waits", Ok(vec![8, 8]))));
    scene.is_over();
}

#[test]
fn nobody_is_looked_up_for_who_waits_no_more() {
    let mut scene = Scene::new();
    for number in 0..THREADS {
        scene.ask("hangs", &format!("hanging {number}"), 1);
        scene.begun();
    }
    // Ended, but the program has a handle; gone, of a look-up with another asker; gone.
    scene.resolver.ask(Probe { ended: true, ..scene.probe("ended") }, "ended", 1);
    let gone = Arc::new(());
    let (first, second) = (scene.probe("gone"), scene.probe("gone"));
    scene.resolver.ask(Probe { held: Arc::downgrade(&gone), ..first }, "shared", 1);
    scene.resolver.ask(Probe { held: Arc::downgrade(&gone), ..second }, "gone", 1);
    scene.ask("waits", "shared", 2);
    drop(gone);
    scene.release.send(()).unwrap();
    assert_eq!(scene.begun(), "shared");
    assert_eq!(scene.told().0, "hangs");
    assert_eq!(scene.told(), ("waits", Ok(vec![2, 2])));
    // Nobody is told who is gone when the answer comes.
    scene.held = Arc::new(());
    for _ in 1..THREADS {
        scene.release.send(()).unwrap();
    }
    scene.is_over();
    assert!(scene.begun.try_recv().is_err(), "there was another look-up");
    assert!(scene.answers.try_recv().is_err(), "one was told that is gone");
}

#[test]
fn what_waits_is_bounded_by_the_tasks_that_there_are() {
    let scene = Scene::new();
    for number in 0..THREADS {
        scene.ask("hangs", &format!("hanging {number}"), 1);
        scene.begun();
    }
    // Kept for the one that waits, without all those that did.
    scene.ask("waits", "one and the same", 1);
    for number in 0..10_000 {
        let task = Arc::new(());
        for host in [format!("{number}"), "one and the same".to_owned()] {
            let probe = scene.probe("brief");
            scene.resolver.ask(Probe { held: Arc::downgrade(&task), ..probe }, &host, 1);
        }
    }
    {
        let state = scene.resolver.state.lock();
        let askers: usize = state.look_ups.iter().map(|(_, look_up)| look_up.askers.len()).sum();
        assert!(state.queue.len() < 100 && state.latest.len() < THREADS + 100 && askers < THREADS + 100);
    }
    for _ in 0..THREADS {
        scene.release.send(()).unwrap();
    }
    scene.is_over();
}

#[test]
fn who_comes_while_the_first_is_asked_is_told_with_it() {
    /// Asks for somebody else as it is asked.
    struct Pair {
        second: Mutex<Option<Box<Self>>>,
        resolver: Weak<Resolver<Self>>,
        told: Sender<u16>,
    }
    impl Asker for Pair {
        fn is_gone(&self) -> bool {
            false
        }
        fn waits(&self) -> bool {
            if let Some(second) = self.second.lock().take() {
                self.resolver.upgrade().unwrap().ask(*second, "host", 2);
            }
            true
        }
        fn tell(self, answer: Answer) {
            self.told.send(answer.unwrap()[0].port()).unwrap();
        }
    }
    let (looked_up, look_ups) = mpsc::channel();
    let resolver = Arc::new(Resolver::new(move |_: &str| {
        looked_up.send(()).unwrap();
        Ok(vec![(Ipv4Addr::LOCALHOST, 0).into()])
    }));
    let (told, ports) = mpsc::channel();
    let pair = |second| Pair { second: Mutex::new(second), resolver: Arc::downgrade(&resolver), told: told.clone() };
    resolver.ask(pair(Some(Box::new(pair(None)))), "host", 1);
    for port in [1, 2] {
        assert_eq!(within_patience(ports.recv_timeout(PATIENCE)), port);
    }
    assert_eq!(look_ups.try_iter().count(), 1);
}

#[test]
fn a_task_that_throws_as_it_goes_does_not_take_the_thread_with_it() {
    struct Throws(Arc<AtomicUsize>);
    impl Asker for Throws {
        fn is_gone(&self) -> bool {
            false
        }
        fn waits(&self) -> bool {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("as the test wants it"),
                _ => true,
            }
        }
        fn tell(self, _: Answer) {
            self.0.fetch_add(100, Ordering::Relaxed);
            panic!("as the test wants it");
        }
    }
    let resolver = Arc::new(Resolver::new(|_: &str| Ok(Vec::new())));
    let calls = Arc::new(AtomicUsize::new(0));
    {
        // Both are there before a thread begins.
        let mut state = resolver.state.lock();
        state.add(Instant::now(), "one", Throws(Arc::clone(&calls)), 1);
        state.add(Instant::now(), "two", Throws(Arc::clone(&calls)), 1);
    }
    resolver.ask(Throws(Arc::clone(&calls)), "three", 1);
    let deadline = Instant::now() + PATIENCE;
    while Arc::strong_count(&resolver) > 1 {
        assert!(Instant::now() < deadline, "threads are left");
        thread::yield_now();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 203);
    assert_eq!(resolver.state.lock().threads, 0);
}

#[test]
fn codes_of_the_system_say_whether_the_name_or_the_network_is_to_blame() {
    use LookupErrorKind as Kind;
    let text = || io::Error::other("the words of the system");
    let table = [
        (Kind::NoName, text(), ErrorKind::NotFound),
        (Kind::NoData, text(), ErrorKind::NotFound),
        (Kind::Again, text(), ErrorKind::NetworkUnreachable),
        (Kind::System, ErrorKind::NetworkDown.into(), ErrorKind::NetworkUnreachable),
        (Kind::System, ErrorKind::NetworkUnreachable.into(), ErrorKind::NetworkUnreachable),
        (Kind::System, ErrorKind::ConnectionRefused.into(), ErrorKind::NetworkUnreachable),
        (Kind::IO, ErrorKind::HostUnreachable.into(), ErrorKind::NetworkUnreachable),
        (Kind::IO, ErrorKind::TimedOut.into(), ErrorKind::NetworkUnreachable),
        (Kind::System, ErrorKind::PermissionDenied.into(), ErrorKind::PermissionDenied),
        (Kind::IO, text(), ErrorKind::Other),
        (Kind::Memory, text(), ErrorKind::OutOfMemory),
        (Kind::Fail, text(), ErrorKind::Other),
        (Kind::Badflags, text(), ErrorKind::Other),
    ];
    for (kind, error, expected) in table {
        let words = error.to_string();
        let failure = failure(kind, error);
        assert_eq!(failure.kind(), expected, "{kind:?}, {words}");
        assert_eq!(failure.to_string(), words);
    }
}

#[test]
fn the_system_answers() {
    let localhost = system("localhost").unwrap();
    assert!(!localhost.is_empty() && localhost.iter().all(|address| address.ip().is_loopback() && address.port() == 0));
    // A label of 64 characters is none that the DNS could hold: no server has to be asked.
    assert_eq!(system(&"a".repeat(64)).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(system("a\0b").is_err());
    #[cfg(target_os = "linux")]
    match system("fe80::1%lo").as_deref() {
        Ok([SocketAddr::V6(address)]) => assert_ne!(address.scope_id(), 0),
        answer => panic!("{answer:?}"),
    }
}
