//! Floods of numbered messages, and who receives them on which queue.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use urlsession::{Message, OperationQueue, SessionConfiguration, UrlError, UrlSession, WebSocketTask};

use super::hooks::{Dice, eventually};
use super::{Events, PATIENCE, Recorder, Server, frame, recorded_session_with};

/// The main queue is one for all tests of this file.
pub static MAIN: Mutex<()> = Mutex::new(());

/// A queue of each kind.
pub const KINDS: [&str; 6] = ["default", "concurrent", "main", "immediate", "executor", "inline"];

pub struct Queue {
    pub kind: &'static str,
    pub queue: Option<OperationQueue>,
    _main: Option<MutexGuard<'static, ()>>,
}

impl Queue {
    pub fn new(kind: &'static str) -> Self {
        let main = (kind == "main").then(|| MAIN.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        let queue = match kind {
            "default" => None,
            "concurrent" => {
                let queue = OperationQueue::new();
                queue.set_max_concurrent_operation_count(4);
                Some(queue)
            }
            "main" => Some(OperationQueue::main()),
            "immediate" => Some(OperationQueue::immediate()),
            "inline" => Some(OperationQueue::with_executor(|operation| operation())),
            _ => {
                let (sender, receiver) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
                thread::spawn(move || receiver.into_iter().for_each(|operation| operation()));
                Some(OperationQueue::with_executor(move |operation| sender.send(operation).unwrap()))
            }
        };
        Self { kind, queue, _main: main }
    }

    /// Waits, and pumps where that is needed.
    #[track_caller]
    pub fn wait(&self, what: &str, done: impl FnMut() -> bool) {
        match self.kind {
            "main" => assert!(OperationQueue::main().run_until(Instant::now() + PATIENCE, done), "no {what} on main"),
            kind => eventually(&format!("{what} on {kind}"), done),
        }
    }
}

/// A task of its own session that receives numbered messages: which receive got which.
pub struct Flood {
    pub session: UrlSession,
    pub task: WebSocketTask,
    asked: AtomicUsize,
    most: usize,
    pub told: Mutex<Vec<(usize, Result<usize, i32>)>>,
    pub recorder: Arc<Recorder>,
}

impl Flood {
    pub fn new(server: &Server, queue: &Queue, most: usize) -> (Arc<Self>, Events) {
        let (session, recorder, events) = recorded_session_with(SessionConfiguration::default(), queue.queue.clone());
        let task = session.web_socket_task(server.url());
        let (asked, told) = (AtomicUsize::new(0), Mutex::default());
        (Arc::new(Self { session, task, asked, most, told, recorder }), events)
    }

    pub fn count(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    /// Asks for a message, if not for enough; `then` runs in the handler, with the number of the receive.
    pub fn ask(self: &Arc<Self>, then: impl FnOnce(&Arc<Self>, usize) + Send + 'static) {
        if let Some(number) = self.next() {
            let flood = Arc::clone(self);
            self.task.receive(move |result| {
                flood.note(number, result);
                then(&flood, number);
            });
        }
    }

    pub fn next(&self) -> Option<usize> {
        let number = self.asked.fetch_add(1, SeqCst);
        (number < self.most).then_some(number)
    }

    pub fn note(&self, number: usize, result: Result<Message, UrlError>) {
        let result = result.map(|message| number_of(&message)).map_err(|error| error.raw_code());
        if result.is_err() {
            self.recorder.note(format!("fail {number}"));
        }
        self.told.lock().unwrap().push((number, result));
    }

    /// The usual loop.
    pub fn again(self: &Arc<Self>) {
        self.ask(|flood, _| flood.again());
    }

    /// Every receive was answered once, in the order of the calls, and each with the message of its number up to one from
    /// which on they failed. How many did not.
    #[track_caller]
    pub fn expect_in_order(&self, context: &str) -> usize {
        let told = self.told.lock().unwrap();
        let good = told.iter().take_while(|(_, result)| result.is_ok()).count();
        for (index, (number, result)) in told.iter().enumerate() {
            assert_eq!(*number, index, "{context}: a receive was answered out of turn, or not once");
            match result {
                Ok(message) => assert_eq!(*message, index, "{context}: {result:?}"),
                Err(_) => assert!(index >= good),
            }
        }
        assert!(told[good..].iter().all(|(_, result)| result.is_err()), "{context}: a message after a failure");
        good
    }
}

/// The messages of a flood begin with their number and repeat its last byte.
pub fn message(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = format!("{number:08}").into_bytes();
    bytes.resize(length.max(8), b'a' + (number % 26) as u8);
    bytes
}

#[track_caller]
pub fn number_of(received: &Message) -> usize {
    let (bytes, is_text) = match received {
        Message::String(text) => (text.as_bytes(), true),
        Message::Data(data) => (&data[..], false),
        _ => panic!("{received:?}"),
    };
    let number = std::str::from_utf8(&bytes[..8]).unwrap().parse().unwrap();
    assert!(message(number, bytes.len()) == bytes && is_text == (number % 70 < 40), "message {number} was damaged");
    number
}

/// Frames of a message: mostly short ones, some long, some in fragments with pings between these.
pub fn frames(number: usize, dice: &mut Dice, plain: bool) -> Vec<u8> {
    let length = match dice.below(1000) {
        _ if plain => 8 + number as u64 % 40,
        0..900 => dice.below(130),
        900..995 => dice.below(6000),
        _ => 60_000 + dice.below(100_000),
    };
    let payload = message(number, length as usize);
    let opcode = if number % 70 < 40 { 1 } else { 2 };
    if plain || dice.below(20) > 0 {
        return frame(0x80 | opcode, &payload);
    }
    let (first, second) = (dice.below(8) as usize, 8);
    let ping = frame(0x89, b"between");
    let last = frame(0x80, &payload[second..]);
    [frame(opcode, &payload[..first]), ping.clone(), frame(0, &payload[first..second]), ping, last].concat()
}

/// Opens, and sends numbered messages in pieces of any size, and when it is told to those from `gap` on. Ends when the
/// client does, or is told to.
pub fn flood(total: usize, plain: bool, gap: usize, go: Receiver<()>) -> Server {
    let go = Mutex::new(go);
    Server::many(1, move |_, mut peer| {
        peer.open();
        let mut dice = Dice(total as u64);
        for range in [0..gap, gap..total] {
            let bytes: Vec<u8> = range.clone().flat_map(|number| frames(number, &mut dice, plain)).collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(1 + dice.below(90_000) as usize));
                // A client that has cancelled does not read on.
                if peer.stream.write_all(piece).is_err() {
                    return;
                }
                rest = more;
            }
            if range.end < total {
                let _ = go.lock().unwrap().recv_timeout(PATIENCE);
            }
        }
        let _ = peer.stream.write_all(&frame(0x89, b"the last"));
        while let Ok(frame) = peer.try_read_frame() {
            if frame.opcode() == 8 {
                let _ = peer.stream.write_all(&super::frame(0x88, &frame.payload));
                return;
            } else if frame.opcode() == 10 && frame.payload == b"the last" {
                peer.text("pong");
            }
        }
    })
}

pub fn whole_flood(total: usize) -> Server {
    flood(total, false, total, mpsc::channel().1)
}

/// The last message of a flood says that its last ping was answered. Then the end.
#[track_caller]
pub fn finish(flood: Arc<Flood>, queue: &Queue, server: Server) {
    let (sender, answered) = mpsc::channel();
    flood.task.receive(move |result| sender.send(result.unwrap()).unwrap());
    let mut last = None;
    queue.wait("last pong", || {
        last = last.take().or_else(|| answered.try_recv().ok());
        last.is_some()
    });
    assert_eq!(last, Some("pong".into()));
    flood.task.cancel();
    flood.session.finish_tasks_and_invalidate();
    server.join();
}

/// Work for another thread, and whom to tell when it is done.
type Errand = (Box<dyn FnOnce() + Send>, Sender<()>);

/// Another thread that does what it is told and says when it is done.
pub struct Other(Sender<Errand>);

impl Other {
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel::<Errand>();
        thread::spawn(move || {
            for (work, done) in receiver {
                work();
                done.send(()).unwrap();
            }
        });
        Self(sender)
    }

    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        self.0.send((Box::new(work), done)).unwrap();
        is_done.recv_timeout(PATIENCE).unwrap();
    }
}
