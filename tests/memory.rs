//! How much memory an open task and a queued message take: bytes of the heap, counted by this binary's allocator.
//!
//! The server keeps a socket for each connection and nothing else. The bounds leave some room above what was measured;
//! whoever passes one has made every connection, or every message, dearer.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod support;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use support::counting::{Counting, IN_USE, PEAK, settled};
use support::deflate::{Codec, accepts};
use support::{PATIENCE, Peer, frame};
use urlsession::{
    HttpCookie, HttpCookieStorage, Message, SessionConfiguration, SessionDelegate, TaskDelegate, Url, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

/// Bytes of the heap for one open `ws` task of many to one address, which waits for a message.
const IDLE: usize = 896;

/// The same where compression was negotiated, and nothing has been compressed yet.
const IDLE_NEGOTIATED: usize = 1152;

/// What is added by messages that were compressed, each way, and that the next may refer to.
const DEFLATE: usize = 285_000;
const INFLATE: usize = 50_000;

/// Bytes of the heap for one queued message, above its payload.
const QUEUED: usize = 64;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: all share the count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Tells when a task is open.
struct Opened(SyncSender<()>);

impl SessionDelegate for Opened {}

impl TaskDelegate for Opened {}

impl WebSocketDelegate for Opened {
    fn did_open_with_protocol(&self, _: &UrlSession, _: &WebSocketTask, _: Option<&str>) {
        self.0.send(()).unwrap();
    }
}

fn session() -> (UrlSession, Receiver<()>) {
    let (opened, receiver) = mpsc::sync_channel(16);
    (UrlSession::with_delegate(SessionConfiguration::default(), Some(Arc::new(Opened(opened))), None), receiver)
}

#[test]
fn an_idle_open_task() {
    let _alone = alone();
    idle_task(String::new(), IDLE);
    idle_task(accepts(""), IDLE_NEGOTIATED);
}

/// Tasks that sent the same cookies keep them once.
#[test]
fn an_idle_open_task_that_sent_cookies() {
    let _alone = alone();
    let cookie = HttpCookie::new("long", &"x".repeat(4000), "127.0.0.1", "/");
    HttpCookieStorage::shared().set_cookie(cookie.clone());
    idle_task(String::new(), IDLE);
    HttpCookieStorage::shared().delete_cookie(&cookie);
}

/// `more`: lines of the server's answer.
fn idle_task(more: String, most: usize) {
    const FIRST: usize = 16;
    const MORE: usize = 1000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let mut streams: Vec<TcpStream> = Vec::with_capacity(FIRST + MORE);
        for _ in 0..FIRST + MORE {
            let mut peer = Peer::new(listener.accept().unwrap().0);
            peer.open_with(&more);
            streams.push(peer.stream);
        }
        streams
    });
    let (session, opened) = session();
    let mut tasks = Vec::with_capacity(FIRST + MORE);
    let mut open = |count: usize| {
        for _ in 0..count {
            let task = session.web_socket_task(&url);
            let again = task.clone();
            task.receive(move |_| drop(again));
            task.resume();
            tasks.push(task);
            opened.recv_timeout(PATIENCE).expect("the task opens");
        }
    };
    // What a session needs once is there when these are open.
    open(FIRST);
    let before = IN_USE.load(Ordering::Relaxed);
    open(MORE);
    let bytes = settled(before, most * MORE) / MORE;
    println!("{bytes} bytes for each open task");
    assert!(bytes <= most, "{bytes} bytes for each open task");
    session.invalidate_and_cancel();
    drop(server.join().unwrap());
}

/// A server for so many connections, each answered with these parameters, which then says what it is told to say.
struct Compressing {
    url: Url,
    orders: mpsc::Sender<Vec<u8>>,
    seen: Receiver<usize>,
    thread: thread::JoinHandle<()>,
}

impl Compressing {
    /// Each order is sent to all connections; then one frame of each client is waited for, if `hears`.
    fn start(connections: usize, parameters: &'static str, hears: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
        let (orders, ordered) = mpsc::channel::<Vec<u8>>();
        let (sender, seen) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut peers = Vec::with_capacity(connections);
            for _ in 0..connections {
                let mut peer = Peer::new(listener.accept().unwrap().0);
                peer.open_with(&accepts(parameters));
                peers.push(peer);
            }
            for bytes in ordered {
                for peer in &mut peers {
                    peer.write(&bytes);
                    if hears {
                        let frame = peer.read_frame();
                        assert!(frame.first == 0xc2 || frame.first == 0xc1, "it is compressed");
                        sender.send(frame.payload.len()).unwrap();
                    }
                }
            }
        });
        Self { url, orders, seen, thread }
    }
}

/// What an open task costs where compression was negotiated, before and after a message each way.
fn idle_task_that_compresses(parameters: &'static str, most: usize) {
    const TASKS: usize = 60;
    let server = Compressing::start(TASKS, parameters, true);
    let (session, opened) = session();
    let mut tasks = Vec::with_capacity(TASKS);
    let mut open = |count: usize| {
        for _ in 0..count {
            let task = session.web_socket_task(&server.url);
            task.resume();
            tasks.push(task);
            opened.recv_timeout(PATIENCE).expect("the task opens");
        }
    };
    open(TASKS);
    let before = IN_USE.load(Ordering::Relaxed);
    let text = "something that compresses ".repeat(100);
    let (done, answers) = mpsc::channel();
    for task in &tasks {
        let (sent, received) = (done.clone(), done.clone());
        task.send(&text, move |result| sent.send(result.is_ok()).unwrap());
        task.receive(move |result| received.send(result.is_ok()).unwrap());
    }
    server.orders.send(Codec::default().text(&text)).unwrap();
    for _ in 0..2 * TASKS {
        assert!(answers.recv_timeout(PATIENCE).expect("each is answered"));
    }
    (0..TASKS).for_each(|_| assert!(server.seen.recv_timeout(PATIENCE).unwrap() < text.len()));
    // The session keeps a few of each kind for all.
    let pools = 4 * (DEFLATE + INFLATE) + 256 * 1024;
    let above = settled(before, TASKS * most + pools);
    println!("{} bytes more for each that has compressed{parameters}", above / TASKS);
    assert!(above <= TASKS * most + pools, "{} bytes for each task", above / TASKS);
    session.invalidate_and_cancel();
    drop((server.orders, tasks));
    server.thread.join().unwrap();
}

#[test]
fn an_idle_open_task_that_compresses() {
    let _alone = alone();
    idle_task_that_compresses("", DEFLATE + INFLATE);
    idle_task_that_compresses("; client_no_context_takeover", INFLATE);
    idle_task_that_compresses("; server_no_context_takeover", DEFLATE);
    idle_task_that_compresses("; client_no_context_takeover; server_no_context_takeover", 512);
    // A smaller window takes less.
    idle_task_that_compresses("; client_max_window_bits=10", DEFLATE + INFLATE - 100_000);
}

/// What nobody has taken stays as it came, but for a megabyte.
#[test]
fn messages_that_nobody_takes_stay_compressed() {
    const MESSAGES: usize = 60;
    let _alone = alone();
    let server = Compressing::start(1, "", false);
    let (session, opened) = session();
    let task = session.web_socket_task(&server.url);
    task.resume();
    opened.recv_timeout(PATIENCE).expect("the task opens");
    let (received, messages) = mpsc::channel();
    let mut codec = Codec::default();
    let mut bytes: Vec<u8> = (0..MESSAGES).flat_map(|_| codec.data(&[0; 1_000_000])).collect();
    bytes.extend(frame(0x81, b"the last"));
    assert!(bytes.len() < 65_536, "it comes by one read: {}", bytes.len());
    drop(codec);
    let before = IN_USE.load(Ordering::Relaxed);
    // That something was inflated is seen by the first message; then the task reads ahead.
    server.orders.send(bytes).unwrap();
    let receive = || {
        let received = received.clone();
        task.receive(move |message| received.send(message.unwrap()).unwrap());
        messages.recv_timeout(PATIENCE).expect("it is there")
    };
    for number in 0..MESSAGES {
        let message = receive();
        assert!(matches!(&message, Message::Data(data) if data.len() == 1_000_000), "{number}");
        drop(message);
        let above = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
        assert!(above < 5_000_000, "{above} bytes are in use, {number} messages were taken");
    }
    assert_eq!(receive(), Message::from("the last"));
    session.invalidate_and_cancel();
    drop(server.orders);
    server.thread.join().unwrap();
}

/// A bomb of 256 MiB costs the limit, not more.
#[test]
fn a_bomb() {
    let _alone = alone();
    let mut codec = Codec::default();
    let chunk = vec![0; 1 << 20];
    let bomb: Vec<u8> =
        (0..256).flat_map(|_| [&codec.compress(&chunk)[..], &[0x00, 0x00, 0xff, 0xff]].concat()).collect();
    drop((codec, chunk));
    let server = Compressing::start(1, "", false);
    let (session, opened) = session();
    let task = session.web_socket_task(&server.url);
    task.resume();
    opened.recv_timeout(PATIENCE).expect("the task opens");
    let (received, result) = mpsc::channel();
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    task.receive(move |message| received.send(message.unwrap_err().raw_code()).unwrap());
    server.orders.send(frame(0xc2, &bomb)).unwrap();
    assert_eq!(result.recv_timeout(PATIENCE).expect("the bomb is refused"), 40);
    let most = PEAK.load(Ordering::Relaxed) - before;
    println!("{most} bytes for a bomb of {} bytes, compressed to {}", 256 << 20, bomb.len());
    // The limit is a megabyte; and while it grows, what it outgrew. The frame that the server sends is in use, too.
    assert!(most < 3_000_000 + 2 * bomb.len(), "{most}");
    session.invalidate_and_cancel();
    drop(server.orders);
    // It may not have written all of it.
    let _ = server.thread.join();
}

#[test]
fn a_message_that_waits_to_be_sent() {
    const MESSAGES: usize = 100_000;
    const BYTES: usize = 128;
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let (read, may_read) = mpsc::channel();
    let server = thread::spawn(move || {
        let mut peer = Peer::new(listener.accept().unwrap().0);
        peer.open();
        may_read.recv_timeout(PATIENCE).unwrap();
        let mut buffer = vec![0; 65536];
        while let Ok(1..) = peer.stream.read(&mut buffer) {}
    });
    let (session, opened) = session();
    let task = session.web_socket_task(&url);
    task.resume();
    opened.recv_timeout(PATIENCE).expect("the task opens");
    let (all_sent, end) = mpsc::channel();
    let sent = Arc::new(AtomicUsize::new(0));
    let send = |count: usize| {
        for _ in 0..count {
            let (sent, all_sent) = (Arc::clone(&sent), all_sent.clone());
            task.send(vec![7; BYTES], move |result| {
                result.unwrap();
                if sent.fetch_add(1, Ordering::Relaxed) + 1 == 2 * MESSAGES {
                    all_sent.send(()).unwrap();
                }
            });
        }
    };
    let empty = IN_USE.load(Ordering::Relaxed);
    // These fill the kernel's memory, and the crate's begins to fill.
    send(MESSAGES);
    let before = IN_USE.load(Ordering::Relaxed);
    send(MESSAGES);
    let bytes = settled(before, MESSAGES * (BYTES + QUEUED)) as f64 / MESSAGES as f64;
    println!("{bytes} bytes for each message of {BYTES} bytes");
    assert!(bytes >= BYTES as f64, "{bytes}: the messages do not wait");
    assert!(bytes <= (BYTES + QUEUED) as f64, "{bytes} bytes for each message of {BYTES} bytes");
    let full = IN_USE.load(Ordering::Relaxed) - empty;
    read.send(()).unwrap();
    end.recv_timeout(PATIENCE).expect("all messages leave");
    let left = settled(empty, full / 20);
    assert!(left <= full / 20, "{left} of {full} bytes are kept when all messages have left");
    session.invalidate_and_cancel();
    server.join().unwrap();
}
