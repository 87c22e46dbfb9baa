//! Twenty thousand connections, one after the other: what the process holds after the first thousand it holds after the last.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::counting::{Counting, IN_USE, settled};
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Peer, close_frame};
use urlsession::{SessionConfiguration, Url, UrlSession};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many connections there are, and after how many of them everything is there that a session needs once.
const CONNECTIONS: usize = 20_000;
const FIRST: usize = 1000;

/// How many bytes more may be in use at the end: a list here or there that had not reached its size.
const SLACK: usize = 16 * 1024;

/// Opens the WebSocket, closes it, and leaves with a reset: an address that waited out its time would be missing soon.
fn serve(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    let mut size = 0;
    while !buffer[..size].ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer[size..]).expect("a request") {
            0 => panic!("a request without an end"),
            count => size += count,
        }
    }
    let mut answer = Peer::switching_protocols(std::str::from_utf8(&buffer[..size]).unwrap(), "");
    answer.extend(close_frame(1000, ""));
    stream.write_all(&answer).expect("the client reads");
    // Six bytes of header, two of the code.
    stream.read_exact(&mut buffer[..8]).expect("an echo of the Close");
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The threads and the open files of this process, where the system tells.
fn counts() -> Option<[usize; 2]> {
    let count = |path| std::fs::read_dir(path).ok().map(Iterator::count);
    cfg!(target_os = "linux").then_some([count("/proc/self/task")?, count("/proc/self/fd")?])
}

#[test]
fn twenty_thousand_connections_leave_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || (0..CONNECTIONS).for_each(|_| serve(listener.accept().unwrap().0)));

    let (sender, completed) = mpsc::sync_channel(1);
    let delegate = hooks(move |_, _, called| {
        if let Called::Complete(error) = called {
            sender.send(error.cloned()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let connect = |count: usize| {
        for number in 0..count {
            let task = session.web_socket_task(&url);
            task.receive(|message| assert!(message.is_err()));
            task.resume();
            let error = completed.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no end of {number}: {task:?}"));
            assert!(error.is_none(), "{number}: {error:?}");
        }
    };
    connect(FIRST);
    let (bytes, before) = (IN_USE.load(Ordering::Relaxed), counts());
    connect(CONNECTIONS - FIRST);
    server.join().unwrap();
    let more = settled(bytes, SLACK);
    assert!(more <= SLACK, "{more} bytes more are in use");
    if let Some([threads, files]) = before {
        // The server's thread and listener are gone.
        eventually("threads and files are no more than before", || {
            counts().is_some_and(|now| now[0] < threads && now[1] < files)
        });
    }
}
