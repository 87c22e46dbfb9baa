//! `messages()`: what arrives, as a stream.
#![cfg(feature = "futures-core")]

mod support;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_core::stream::{FusedStream, Stream};
use smol::stream::StreamExt;
use support::executor::{Count, block_on, counting_server, feed, run_all, text};
use support::hooks::{Dice, eventually};
use support::rows::{LIMIT, ROWS};
use support::{Events, PATIENCE, Recorder, Server, closed_port, describe, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, Message, Messages, OperationQueue, SessionConfiguration, TaskState, Url, UrlError, UrlSession,
    WebSocketTask,
};

/// A moment in which something must not happen.
const MOMENT: Duration = Duration::from_millis(50);

/// An open task, and what it needs to live.
fn open(url: Url) -> (UrlSession, Arc<Recorder>, Events, WebSocketTask) {
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(url);
    task.resume();
    events.wait_for("open");
    (session, recorder, events, task)
}

/// Polls a stream once.
fn poll(stream: &mut Messages, count: &Arc<Count>) -> Poll<Option<Result<Message, UrlError>>> {
    Pin::new(stream).poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

/// Polls a stream that has nothing yet: from now on it has asked for a message.
#[track_caller]
fn ask(stream: &mut Messages) {
    assert!(poll(stream, &Arc::default()).is_pending());
}

/// What the stream gives next, in words.
#[track_caller]
fn next(stream: &mut Messages) -> Option<String> {
    block_on(stream.next()).map(|result| describe(&result))
}

/// What the stream gives from now on, in words. Behind its end it has nothing more, however often it is asked.
#[track_caller]
fn rest(stream: &mut Messages) -> Vec<String> {
    let mut given = Vec::new();
    loop {
        let was_over = stream.is_terminated();
        let Some(words) = next(stream) else { break };
        assert!(!was_over && words != "57", "{given:?}, {words}");
        given.push(words);
    }
    for _ in 0..3 {
        let count = Arc::default();
        assert!(stream.is_terminated() && matches!(poll(stream, &count), Poll::Ready(None)));
        assert_eq!(Arc::strong_count(&count), 1);
    }
    given
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("string {number}")).collect()
}

#[test]
fn what_a_stream_promises() {
    fn is_stream<T>()
    where
        T: Stream<Item = Result<Message, UrlError>> + FusedStream + Send + Sync + Unpin + Debug + 'static,
    {
    }
    is_stream::<Messages>();
}

#[test]
fn a_stream_ends_as_its_task_does() {
    for row in ROWS {
        println!("{}", row.name);
        let (server, url) = row.start();
        let (session, _, events) = recorded_session();
        let task = session.web_socket_task(url);
        task.set_maximum_message_size(LIMIT);
        let mut stream = task.messages();
        task.resume();
        let failure = Vec::from_iter((row.error != 0).then(|| row.error.to_string()));
        let mut given = Vec::new();
        if !row.messages.is_empty() {
            given.push(next(&mut stream).unwrap());
            (row.act)(&session, &task);
        }
        given.extend(rest(&mut stream));
        let expected: Vec<String> = row.messages.iter().map(|words| (*words).to_owned()).collect();
        assert_eq!(given, [&expected[..], &failure[..]].concat());
        events.wait_for("complete");
        // Who asks behind the end is told of it likewise, and of no message.
        assert_eq!(rest(&mut task.messages()), failure);
        assert_eq!(task.error().map_or(0, |error| error.raw_code()), row.error);
        if let Some(server) = server {
            server.join();
        }
    }
}

#[test]
fn a_stream_of_a_task_that_never_opens_has_its_end_only() {
    type Act = fn(&WebSocketTask);
    let nowhere = Url::parse(&format!("ws://127.0.0.1:{}/", closed_port())).unwrap();
    let acts: [(Act, &[&str]); 3] = [
        (|task| task.resume(), &["-1004"]),
        (|task| task.cancel(), &["-999"]),
        (|task| task.cancel_with(CloseCode::NORMAL_CLOSURE, None), &[]),
    ];
    for (act, gives) in acts {
        let (session, _, events) = recorded_session();
        let task = session.web_socket_task(&nowhere);
        let (mut asked, mut unasked) = (task.messages(), task.messages());
        ask(&mut asked);
        act(&task);
        assert_eq!(rest(&mut asked), gives);
        events.wait_for("complete");
        assert_eq!(rest(&mut unasked), gives);
    }
}

#[test]
fn a_stream_waits_for_its_task() {
    let (server, orders) = counting_server();
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    let (mut stream, count) = (task.messages(), Arc::new(Count::default()));
    assert!(poll(&mut stream, &count).is_pending());
    events.expect_silence(MOMENT);
    assert!(poll(&mut stream, &count).is_pending() && !stream.is_terminated());
    assert_eq!((count.get(), task.state()), (0, TaskState::Suspended));
    task.resume();
    orders.send(1).unwrap();
    assert_eq!(next(&mut stream).unwrap(), "string 0");
    // Suspended, it is pending again.
    task.suspend();
    orders.send(1).unwrap();
    assert!(poll(&mut stream, &count).is_pending());
    thread::park_timeout(MOMENT);
    assert!(poll(&mut stream, &count).is_pending());
    task.resume();
    drop(orders);
    assert_eq!(rest(&mut stream), ["string 1"]);
    server.join();
}

#[test]
fn a_stream_asks_for_one_message_when_it_is_polled() {
    let (server, orders) = counting_server();
    let (_session, recorder, events, task) = open(server.url());
    // Unpolled, it has asked for nothing.
    let mut stream = task.messages();
    orders.send(1).unwrap();
    task.receive(recorder.receiver("first"));
    assert_eq!(events.next(), "first string 0");
    // Polled again and again, it has asked for one.
    for _ in 0..3 {
        ask(&mut stream);
    }
    task.receive(recorder.receiver("second"));
    orders.send(3).unwrap();
    assert_eq!(events.next(), "second string 2");
    assert_eq!(next(&mut stream).unwrap(), "string 1");
    task.receive(recorder.receiver("third"));
    assert_eq!(events.next(), "third string 3");
    // Taken, a message is not asked for in advance.
    orders.send(1).unwrap();
    task.receive(recorder.receiver("fourth"));
    assert_eq!(events.next(), "fourth string 4");
    drop(orders);
    assert!(rest(&mut stream).is_empty());
    server.join();
}

#[test]
fn a_stream_that_is_not_polled_holds_the_server_back() {
    const SIZE: usize = 32 * 1024;
    const COUNT: usize = 1024;
    const LIMIT: usize = 1024 * 1024;
    let server = Server::one(|mut peer| {
        peer.open();
        for number in 0..COUNT {
            peer.binary(&[number as u8; SIZE]);
        }
        peer.close(1000, "");
        peer.read_close();
    });
    let (_session, _recorder, _events, task) = open(server.url());
    let mut stream = task.messages();
    let read = || usize::try_from(task.count_of_bytes_received()).unwrap();
    for taken in 0..COUNT {
        // Ahead of what was taken there is no more than without a stream: the limit of one message, and the last read.
        if [0, 300, 600].contains(&taken) {
            eventually("it reads ahead", || taken > 0 || read() >= LIMIT - SIZE);
            thread::park_timeout(MOMENT);
            assert!(read() <= taken * SIZE + LIMIT + 300 * 1024, "{} read, {taken} taken", read());
        }
        let Message::Data(data) = block_on(stream.next()).unwrap().unwrap() else { panic!("message {taken}") };
        assert_eq!((data.len(), data[0]), (SIZE, taken as u8));
    }
    assert!(rest(&mut stream).is_empty());
    server.join();
}

#[test]
fn streams_and_receives_stand_in_one_line() {
    let (server, orders) = counting_server();
    let (_session, recorder, events, task) = open(server.url());
    let mut streams: Vec<Messages> = (0..3).map(|_| task.messages()).collect();
    ask(&mut streams[2]);
    let future = task.receive_async();
    ask(&mut streams[0]);
    task.receive(recorder.receiver("receive"));
    ask(&mut streams[1]);
    orders.send(5).unwrap();
    assert_eq!(events.next(), "receive string 3");
    assert_eq!([1, 0, 2].map(|index| next(&mut streams[index]).unwrap()), ["string 4", "string 2", "string 0"]);
    assert_eq!(text(block_on(future)), "1");
    // Who asks again stands behind the others.
    ask(&mut streams[1]);
    ask(&mut streams[0]);
    orders.send(2).unwrap();
    assert_eq!([0, 1].map(|index| next(&mut streams[index]).unwrap()), ["string 6", "string 5"]);
    // Each is told of the end.
    ask(&mut streams[1]);
    drop(orders);
    for stream in &mut streams {
        assert!(rest(stream).is_empty());
    }
    server.join();
}

#[test]
fn many_streams_share_the_messages_of_a_task() {
    let (server, orders) = counting_server();
    let (_session, _recorder, _events, task) = open(server.url());
    for _ in 0..500 {
        orders.send(1).unwrap();
    }
    drop(orders);
    let takers = (0..5).map(|_| {
        let mut stream = task.messages();
        async move {
            let mut taken: Vec<usize> = Vec::new();
            while let Some(result) = stream.next().await {
                taken.push(text(result).parse().unwrap());
            }
            taken
        }
    });
    let taken = run_all(takers);
    assert!(taken.iter().all(|taken| taken.is_sorted()), "{taken:?}");
    let mut all = taken.concat();
    all.sort();
    assert_eq!(all, (0..500).collect::<Vec<_>>());
    server.join();
}

#[test]
fn a_dropped_stream_gives_its_message_to_the_next_receive() {
    let (server, orders) = counting_server();
    let (_session, _recorder, _events, task) = open(server.url());
    let is_there = |stream: &Messages| {
        let words = format!("{stream:?}");
        assert!(words.starts_with("Messages") && words.contains("is_over: false"), "{words}");
    };
    // Dropped before the message is there, and when it is.
    for first in [0, 2, 4, 6] {
        let mut stream = task.messages();
        let count = Arc::new(Count::default());
        assert!(poll(&mut stream, &count).is_pending());
        is_there(&stream);
        let later = (first % 4 == 0).then(|| {
            orders.send(2).unwrap();
            eventually("the stream is woken", || count.get() == 1);
            task.receive_async()
        });
        match later {
            // One that asked later has the message behind it.
            Some(later) => {
                assert_eq!(text(block_on(later)), (first + 1).to_string());
                drop(stream);
                assert_eq!(next(&mut task.messages()).unwrap(), format!("string {first}"));
            }
            None => {
                let mut waiting = task.messages();
                ask(&mut waiting);
                drop(stream);
                assert_eq!(Arc::strong_count(&count), 1);
                orders.send(2).unwrap();
                assert_eq!(next(&mut waiting).unwrap(), format!("string {first}"));
                assert_eq!(text(block_on(task.receive_async())), (first + 1).to_string());
            }
        }
    }
    drop(orders);
    server.join();
}

/// Takes messages with streams that are dropped at any moment; what was taken, in order.
fn take_all(task: &WebSocketTask, total: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut taken = Vec::new();
    while taken.len() < total {
        let mut stream = task.messages();
        for _ in 0..dice.below(4).min((total - taken.len()) as u64) {
            taken.push(text(block_on(stream.next()).unwrap()));
        }
        if taken.len() == total {
            break;
        }
        match dice.below(5) {
            // Dropped at once; after a poll; some time after a poll; on another thread; and a future in between.
            0 => {}
            1 => taken.extend(match poll(&mut stream, &Arc::default()) {
                Poll::Ready(result) => Some(text(result.unwrap())),
                Poll::Pending => None,
            }),
            2 => {
                if let Poll::Ready(result) = poll(&mut stream, &Arc::default()) {
                    taken.push(text(result.unwrap()));
                }
                (0..dice.below(50)).for_each(|_| thread::yield_now());
            }
            3 => {
                if let Poll::Ready(result) = poll(&mut stream, &Arc::default()) {
                    taken.push(text(result.unwrap()));
                }
                thread::spawn(move || drop(stream)).join().unwrap();
            }
            _ => taken.push(text(block_on(task.receive_async()))),
        }
    }
    taken
}

#[test]
fn streams_dropped_at_any_moment_lose_no_message_and_keep_the_order() {
    const TOTAL: usize = 400;
    for seed in 0..8 {
        let (server, orders) = counting_server();
        let (_session, _recorder, _events, task) = open(server.url());
        let feeder = feed(orders, TOTAL, seed + 1000);
        let taken = take_all(&task, TOTAL, seed);
        assert_eq!(taken, (0..TOTAL).map(|number| number.to_string()).collect::<Vec<_>>(), "seed {seed}");
        drop(feeder.join().unwrap());
        assert!(rest(&mut task.messages()).is_empty());
        server.join();
    }
}

/// A server that sends two messages and then closes, or drops the connection.
fn two_and_the_end(closes: bool) -> (Server, mpsc::Receiver<()>) {
    let (told, over) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.text("0");
        peer.text("1");
        if closes {
            peer.close(1000, "");
            peer.read_close();
        }
        drop(peer);
        told.send(()).unwrap();
    });
    (server, over)
}

#[test]
fn a_stream_behind_the_end_has_what_is_unread() {
    for closes in [true, false] {
        let (server, over) = two_and_the_end(closes);
        let (_session, _recorder, events, task) = open(server.url());
        over.recv_timeout(PATIENCE).unwrap();
        events.expect_silence(MOMENT);
        let mut expected = numbers(0..2);
        if !closes {
            expected.push("-1005".to_owned());
        }
        assert_eq!(rest(&mut task.messages()), expected);
        events.wait_for("complete");
        server.join();
    }
}

#[test]
fn a_stream_behind_the_close_timeout_has_the_end_only() {
    for closes in [true, false] {
        let (server, _over) = two_and_the_end(closes);
        let mut configuration = SessionConfiguration::default();
        configuration.web_socket.close_timeout = Duration::from_millis(20);
        let (session, _, events) = recorded_session_with(configuration, None);
        let task = session.web_socket_task(server.url());
        let mut early = task.messages();
        task.resume();
        events.wait_for("complete");
        let expected: &[&str] = if closes { &[] } else { &["-1005"] };
        assert_eq!(rest(&mut task.messages()), expected);
        assert_eq!(rest(&mut early), expected);
        server.join();
    }
}

#[test]
fn a_stream_is_woken_once_and_by_its_last_waker() {
    let (server, orders) = counting_server();
    let (_session, _recorder, _events, task) = open(server.url());
    let (early, late) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut stream = task.messages();
    assert!(poll(&mut stream, &early).is_pending());
    for woken in 1..=3 {
        assert!(poll(&mut stream, &late).is_pending());
        assert!(poll(&mut stream, &late).is_pending());
        orders.send(1).unwrap();
        eventually("the waker is called", || late.get() == woken);
        let Poll::Ready(Some(result)) = poll(&mut stream, &late) else { panic!("it was woken") };
        assert_eq!(text(result), (woken - 1).to_string());
    }
    assert!(poll(&mut stream, &late).is_pending());
    drop(orders);
    eventually("the end wakes it", || late.get() == 4);
    assert!(matches!(poll(&mut stream, &late), Poll::Ready(None)));
    assert_eq!(early.get(), 0);
    eventually("the wakers are let go", || Arc::strong_count(&early) == 1 && Arc::strong_count(&late) == 1);
    server.join();
}

#[test]
fn a_stream_goes_on_with_the_delegate_queue() {
    let (server, orders) = counting_server();
    let queue = OperationQueue::serial();
    let (session, _recorder, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    queue.set_suspended(true);
    let (mut stream, count) = (task.messages(), Arc::new(Count::default()));
    assert!(poll(&mut stream, &count).is_pending());
    orders.send(2).unwrap();
    eventually("both are there", || task.count_of_bytes_received() == 2);
    thread::park_timeout(MOMENT);
    assert!(poll(&mut stream, &count).is_pending());
    assert_eq!(count.get(), 0);
    queue.set_suspended(false);
    drop(orders);
    assert_eq!(rest(&mut stream), numbers(0..2));
    server.join();
}

#[test]
fn a_stream_is_a_handle_of_its_task() {
    let (server, orders) = counting_server();
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    let mut stream = task.messages();
    ask(&mut stream);
    // No other handle is left, and the session lets its tasks finish.
    let resumes = task.clone();
    drop((session, task));
    resumes.resume();
    drop(resumes);
    orders.send(3).unwrap();
    drop(orders);
    assert_eq!(rest(&mut stream), numbers(0..3));
    assert!(format!("{stream:?}").contains("is_over: true"));
    events.wait_for("invalid");
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    assert!(rest(&mut stream).is_empty());
    server.join();
}
