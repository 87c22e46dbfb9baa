//! Twenty thousand connections, one after the other, that end in every way: what the process holds after the first
//! thousand it holds after the last.

// Elsewhere a reset may overtake what was sent before it.
#![cfg(target_os = "linux")]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::counting::{Counting, IN_USE, settled};
use support::hooks::{Called, eventually, hooks};
use support::{Frame, PATIENCE, Peer, close_frame, frame};
use urlsession::{CloseCode, SessionConfiguration, Url, UrlError, UrlSession};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many connections there are, and after how many of them everything is there that a session needs once.
const CONNECTIONS: usize = 20_000;
const FIRST: usize = 1000;

/// How many bytes more may be in use at the end: a list here or there that had not reached its size.
const SLACK: usize = 1024;

/// How connections end, one after the other, and the number of the error that is told.
const ENDS: [(End, Option<i32>); 4] =
    [(End::Server, None), (End::Client, None), (End::Refused, Some(-1011)), (End::Lost, Some(54))];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server closes, behind a message.
    Server,
    /// The client does.
    Client,
    /// The server wants no WebSocket.
    Refused,
    /// Nobody closes.
    Lost,
}

/// One connection of the server, which leaves it with a reset: an address that waited out its time would be missing soon.
fn serve(mut stream: TcpStream, end: End) {
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
    match end {
        End::Server => answer.extend([frame(0x81, b"hello"), close_frame(1000, "bye")].concat()),
        End::Refused => {
            answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnone".to_vec()
        }
        End::Client | End::Lost => {}
    }
    stream.write_all(&answer).expect("the client reads");
    match end {
        End::Server => assert_eq!(Frame::read(&mut stream).expect("an echo of the Close").opcode(), 8),
        End::Client => {
            let close = Frame::read(&mut stream).expect("a Close");
            stream.write_all(&frame(0x88, &close.payload)).expect("the client reads");
        }
        End::Lost => assert_eq!(Frame::read(&mut stream).expect("a message").payload, b"here"),
        End::Refused => {}
    }
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The threads and the open files of this process.
fn counts() -> [usize; 2] {
    ["/proc/self/task", "/proc/self/fd"].map(|path| std::fs::read_dir(path).unwrap().count())
}

#[test]
fn twenty_thousand_connections_leave_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("ws://{}/", listener.local_addr().unwrap())).unwrap();
    let ends = (0..CONNECTIONS).map(|number| ENDS[number % ENDS.len()]);
    let served = ends.clone();
    let server = thread::spawn(move || served.for_each(|(end, _)| serve(listener.accept().unwrap().0, end)));

    let (sender, completed) = mpsc::sync_channel(1);
    let delegate = hooks(move |_, task, called| match (called, task) {
        (Called::Complete(error), _) => sender.send(error.map(UrlError::raw_code)).unwrap(),
        (Called::Open(_), Some(task)) => match ENDS[(task.task_identifier() - 1) % ENDS.len()].0 {
            End::Client => task.cancel_with(CloseCode::GOING_AWAY, Some(b"bye")),
            End::Lost => task.send("here", |_| ()),
            End::Server | End::Refused => {}
        },
        _ => {}
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let mut numbered = ends.enumerate();
    let mut connect = |count: usize| {
        for (number, (end, error)) in numbered.by_ref().take(count) {
            let task = session.web_socket_task(&url);
            task.receive(move |message| assert_eq!(message.is_ok(), end == End::Server));
            task.resume();
            let told = completed.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no end of {number}: {task:?}"));
            assert_eq!(told, error, "{number}: {end:?}");
        }
    };
    connect(FIRST);
    let (bytes, before) = (IN_USE.load(Ordering::Relaxed), counts());
    connect(CONNECTIONS - FIRST);
    server.join().unwrap();
    let more = settled(bytes, SLACK);
    assert!(more <= SLACK, "{more} bytes more are in use");
    // The server's thread and listener are gone.
    eventually("threads and files are no more than before", || {
        let now = counts();
        now[0] < before[0] && now[1] < before[1]
    });
}
