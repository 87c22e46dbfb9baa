//! How much memory an open task and a queued message take: bytes of the heap, counted by this binary's allocator.
//!
//! The server keeps a socket for each connection and nothing else. The bounds leave some room above what was measured;
//! whoever passes one has made every connection, or every message, dearer.

#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use support::{PATIENCE, Peer};
use urlsession::{
    SessionConfiguration, SessionDelegate, TaskDelegate, Url, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// Bytes of the heap for one open `ws` task of many to one address, which waits for a message.
const IDLE: usize = 896;

/// Bytes of the heap for one queued message, above its payload.
const QUEUED: usize = 64;

/// The system's allocator, with a count of the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all of it is the system's allocator; the count takes no part in it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_add(size, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: all share the count.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// How far the count is above `before`, once that is no more than `bound`; what it was last, if that takes too long. For
/// what the threads of the session hold for a moment is counted, too.
fn settled(before: usize, bound: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let above = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
        if above <= bound || Instant::now() > deadline {
            return above;
        }
        thread::yield_now();
    }
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
    const FIRST: usize = 16;
    const MORE: usize = 1000;
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let mut streams: Vec<TcpStream> = Vec::with_capacity(FIRST + MORE);
        for _ in 0..FIRST + MORE {
            let mut peer = Peer::new(listener.accept().unwrap().0);
            peer.open();
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
    let bytes = settled(before, IDLE * MORE) / MORE;
    println!("{bytes} bytes for each open task");
    assert!(bytes <= IDLE, "{bytes} bytes for each open task");
    session.invalidate_and_cancel();
    drop(server.join().unwrap());
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
