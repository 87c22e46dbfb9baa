//! Swift's async forms as futures, polled by hand: no runtime is needed.

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use support::echo::EchoServer;
use support::executor::{Count, block_on, counting_server, feed, poll, run_all, text};
use support::hooks::{Dice, eventually};
use support::{PATIENCE, Server, recorded_session, recorded_session_with};
use urlsession::{
    CloseCode, ErrorCode, Message, OperationQueue, SessionConfiguration, TaskFuture, UrlError, UrlSession,
    WebSocketTask,
};

/// An open task.
fn open(url: urlsession::Url) -> (UrlSession, WebSocketTask) {
    let session = UrlSession::new(SessionConfiguration::default());
    let task = session.web_socket_task(url);
    task.resume();
    eventually("the opening", || task.response().is_some());
    (session, task)
}

#[test]
fn messages_and_pings_go_there_and_back() {
    let server = EchoServer::start();
    let session = UrlSession::new(SessionConfiguration::default());
    let task = session.web_socket_task(server.url());
    task.resume();
    let result: Result<(), UrlError> = block_on(async {
        for number in 0..20 {
            task.send_async(format!("message {number}")).await?;
            assert_eq!(text(task.receive_async().await), format!("message {number}"));
            task.send_async(vec![number]).await?;
            assert_eq!(task.receive_async().await?, Message::Data(vec![number]));
            task.send_ping_async().await?;
        }
        Ok(())
    });
    result.unwrap();
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    assert_eq!(block_on(task.receive_async()).unwrap_err().code(), ErrorCode::Cancelled);
}

#[test]
fn they_act_when_called() {
    let (sender, receiver) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"unpolled");
        assert_eq!(peer.read_frame().opcode(), 9);
        sender.send(()).unwrap();
        peer.text("for the first receive");
        peer.text("for the second receive");
        peer.read_close();
    });
    let session = UrlSession::new(SessionConfiguration::default());
    let task = session.web_socket_task(server.url());
    // Before the task is resumed, and never polled before all has happened.
    let first = task.receive_async();
    let sent = task.send_async("unpolled");
    let pinged = task.send_ping_async();
    let (later, second) = mpsc::channel();
    task.receive(move |result| later.send(result).unwrap());
    task.resume();
    receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!(text(second.recv_timeout(PATIENCE).unwrap()), "for the second receive");
    assert_eq!(text(block_on(first)), "for the first receive");
    block_on(sent).unwrap();
    task.cancel();
    assert_eq!(block_on(pinged).unwrap_err().code(), ErrorCode::Cancelled);
    server.join();
}

#[test]
fn a_dropped_send_or_ping_happens_all_the_same() {
    let server = Server::one(move |mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"dropped");
        assert_eq!(peer.read_frame().opcode(), 9);
        assert_eq!(peer.read_close().0, Some(1000));
        peer.close(1000, "");
    });
    let (session, _, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    drop(task.send_async("dropped"));
    drop(task.send_ping_async());
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    events.wait_for("complete None");
    server.join();
}

#[test]
fn a_waiting_future_is_woken_once_and_by_its_last_waker() {
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    let (early, late) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut future = task.receive_async();
    assert!(poll(&mut future, &early).is_pending());
    assert!(poll(&mut future, &late).is_pending());
    assert!(poll(&mut future, &late).is_pending());
    orders.send(1).unwrap();
    eventually("the waker is called", || late.0.load(Ordering::SeqCst) > 0);
    let Poll::Ready(result) = poll(&mut future, &late) else { panic!("it was woken") };
    assert_eq!(text(result), "0");
    assert_eq!((early.0.load(Ordering::SeqCst), late.0.load(Ordering::SeqCst)), (0, 1));
    // Polled again, it has nothing more to say, and does not panic.
    assert!(poll(&mut future, &late).is_pending());
    // Its wakers are let go with it.
    drop(future);
    eventually("the wakers are let go", || Arc::strong_count(&early) == 1 && Arc::strong_count(&late) == 1);
    drop(orders);
    server.join();
}

#[test]
fn a_future_dropped_before_its_message_leaves_it_to_the_next() {
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    let count = Arc::new(Count::default());
    let mut polled = task.receive_async();
    let unpolled = task.receive_async();
    assert!(poll(&mut polled, &count).is_pending());
    drop(unpolled);
    drop(polled);
    assert_eq!(Arc::strong_count(&count), 1);
    let (first, dropped, third) = (task.receive_async(), task.receive_async(), task.receive_async());
    drop(dropped);
    orders.send(3).unwrap();
    assert_eq!((text(block_on(first)), text(block_on(third))), ("0".to_owned(), "1".to_owned()));
    assert_eq!(text(block_on(task.receive_async())), "2");
    drop(orders);
    assert_eq!(block_on(task.receive_async()).unwrap_err().code(), ErrorCode::NotConnected);
    server.join();
}

#[test]
fn futures_dropped_with_their_messages_give_them_back_in_order() {
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    let futures: Vec<TaskFuture<Message>> = (0..4).map(|_| task.receive_async()).collect();
    orders.send(6).unwrap();
    eventually("four messages are in their futures", || {
        futures.iter().all(|future| format!("{future:?}").contains("done"))
    });
    // In whichever order they are dropped.
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    for index in [2, 0, 3] {
        futures[index] = None;
    }
    let kept = futures.remove(1).unwrap();
    for number in [0, 2, 3, 4, 5] {
        assert_eq!(text(block_on(task.receive_async())), number.to_string());
    }
    assert_eq!(text(block_on(kept)), "1");
    drop(orders);
    server.join();
}

#[test]
fn a_message_that_is_given_back_goes_to_a_receive_that_waits() {
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    let future = task.receive_async();
    orders.send(1).unwrap();
    eventually("the message is in its future", || format!("{future:?}").contains("done"));
    let (sender, receiver) = mpsc::channel();
    let waiting = task.receive_async();
    task.receive(move |result| sender.send(text(result)).unwrap());
    drop(future);
    assert_eq!(text(block_on(waiting)), "0");
    orders.send(1).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "1");
    drop(orders);
    server.join();
}

#[test]
fn messages_that_nobody_took_are_there_before_the_end() {
    let (server, orders) = counting_server();
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    // The server sends two and closes; what a dropped future leaves behind comes before the end all the same.
    orders.send(2).unwrap();
    drop(orders);
    eventually("both are there", || task.count_of_bytes_received() == 2);
    let future = task.receive_async();
    eventually("the message is in its future", || format!("{future:?}").contains("done"));
    drop(future);
    // All three ask before the first is answered.
    session.delegate_queue().set_suspended(true);
    for name in ["first", "second", "third"] {
        task.receive(recorder.receiver(name));
    }
    session.delegate_queue().set_suspended(false);
    let told = ["open None", "first string 0", "second string 1", "third 57", "close 1000 Some(\"\")", "complete None"];
    events.expect(&told);
    server.join();
}

/// A future that has its message, the last before the server's Close, and the end is known.
fn last_message(
    close_timeout: Duration,
) -> (UrlSession, Arc<support::Recorder>, support::Events, WebSocketTask, TaskFuture<Message>) {
    let (server, orders) = counting_server();
    let mut configuration = SessionConfiguration::default();
    configuration.web_socket.close_timeout = close_timeout;
    let (session, recorder, events) = recorded_session_with(configuration, None);
    let task = session.web_socket_task(server.url());
    let future = task.receive_async();
    task.resume();
    orders.send(1).unwrap();
    eventually("the message is in its future", || format!("{future:?}").contains("done"));
    drop(orders);
    server.join();
    // A send fails as soon as the end is known.
    eventually("the end is known", || block_on(task.send_async("x")).is_err());
    (session, recorder, events, task, future)
}

#[test]
fn the_last_message_before_the_end_is_not_lost_with_its_future() {
    let (_session, recorder, events, task, future) = last_message(2 * PATIENCE);
    task.receive(recorder.receiver("receive"));
    drop(future);
    let next = task.receive_async();
    events.expect(&["open None", "receive string 0", "close 1000 Some(\"\")", "complete None"]);
    assert_eq!(block_on(next).unwrap_err().code(), ErrorCode::NotConnected);
}

#[test]
fn the_end_comes_behind_a_message_that_a_future_holds() {
    let (_session, recorder, events, task, future) = last_message(2 * PATIENCE);
    task.receive(recorder.receiver("receive"));
    assert_eq!(events.next(), "open None");
    events.expect_silence(Duration::from_millis(50));
    assert_eq!(text(block_on(future)), "0");
    events.expect(&["open None", "receive 57", "close 1000 Some(\"\")", "complete None"]);

    // One that is not polled holds it up for `close_timeout`, and has its message all the same.
    let (_session, _, events, _task, future) = last_message(Duration::from_millis(50));
    events.expect(&["open None", "close 1000 Some(\"\")", "complete None"]);
    assert_eq!(text(block_on(future)), "0");
}

#[test]
fn futures_and_closures_stand_in_one_line() {
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    let (sender, receiver) = mpsc::channel();
    let mut futures = Vec::new();
    for number in 0..20 {
        match number % 3 {
            0 => futures.push((number, task.receive_async())),
            1 => {
                let sender = sender.clone();
                task.receive(move |result| sender.send((number, text(result))).unwrap());
            }
            _ => drop(task.receive_async()),
        }
    }
    orders.send(14).unwrap();
    let mut got: Vec<(usize, String)> =
        futures.into_iter().map(|(number, future)| (number, text(block_on(future)))).collect();
    got.extend((0..7).map(|_| receiver.recv_timeout(PATIENCE).unwrap()));
    got.sort();
    let texts: Vec<String> = got.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (0..14).map(|number| number.to_string()).collect::<Vec<_>>());
    drop(orders);
    server.join();
}

/// What was taken, in the order in which it was taken.
fn take_all(task: &WebSocketTask, total: usize, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut taken = Vec::new();
    while taken.len() < total {
        let mut future = task.receive_async();
        let count = Arc::new(Count::default());
        match dice.below(4) {
            // Dropped at once; dropped after a poll; dropped some time later, perhaps with its message.
            0 => {}
            1 => taken.extend(match poll(&mut future, &count) {
                Poll::Ready(result) => Some(text(result)),
                Poll::Pending => None,
            }),
            2 => (0..dice.below(50)).for_each(|_| thread::yield_now()),
            _ => taken.push(text(block_on(future))),
        }
    }
    taken
}

#[test]
fn futures_dropped_at_any_moment_lose_no_message_and_keep_the_order() {
    const TOTAL: usize = 400;
    for seed in 0..8 {
        let (server, orders) = counting_server();
        let (_session, task) = open(server.url());
        let feeder = feed(orders, TOTAL, seed + 1000);
        let taken = take_all(&task, TOTAL, seed);
        assert_eq!(taken, (0..TOTAL).map(|number| number.to_string()).collect::<Vec<_>>(), "seed {seed}");
        drop(feeder.join().unwrap());
        assert_eq!(block_on(task.receive_async()).unwrap_err().code(), ErrorCode::NotConnected);
        server.join();
    }
}

#[test]
fn back_pressure_counts_what_was_given_back() {
    // Dropped futures take messages out and put them back: reading must neither stop for ever nor run away.
    let (server, orders) = counting_server();
    let (_session, task) = open(server.url());
    task.set_maximum_message_size(1000);
    orders.send(500).unwrap();
    for _ in 0..200 {
        let future = task.receive_async();
        eventually("the message is in its future", || format!("{future:?}").contains("done"));
    }
    let first: Vec<String> = (0..500).map(|_| text(block_on(task.receive_async()))).collect();
    assert_eq!(first, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
    drop(orders);
    server.join();
}

#[test]
fn the_end_fails_them_as_it_fails_handlers() {
    let server = Server::one(|mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().opcode(), 9);
    });
    let (session, _, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    let (receive, ping) = (task.receive_async(), task.send_ping_async());
    assert_eq!(block_on(receive).unwrap_err().code(), ErrorCode::NetworkConnectionLost);
    assert_eq!(block_on(ping).unwrap_err().code(), ErrorCode::NetworkConnectionLost);
    events.wait_for("complete -1005");
    for code in [
        block_on(task.receive_async()).unwrap_err().code(),
        block_on(task.send_async("late")).unwrap_err().code(),
        block_on(task.send_ping_async()).unwrap_err().code(),
    ] {
        assert_eq!(code, ErrorCode::NotConnected);
    }
    // Futures of a failure may be dropped, too, taken or not.
    drop((task.receive_async(), task.send_async("late"), task.send_ping_async()));
    server.join();
}

#[test]
fn futures_outlive_their_task_and_their_session() {
    let server = EchoServer::start();
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    // The task is never resumed; its last handle goes.
    let (receive, send, ping) = (task.receive_async(), task.send_async("x"), task.send_ping_async());
    let unpolled = task.receive_async();
    drop(task);
    assert_eq!(block_on(receive).unwrap_err().code(), ErrorCode::Cancelled);
    assert_eq!(block_on(send).unwrap_err().code(), ErrorCode::Cancelled);
    assert_eq!(block_on(ping).unwrap_err().code(), ErrorCode::Cancelled);
    drop(session);
    events.wait_for("invalid");
    eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    drop(unpolled);
}

#[test]
fn futures_may_be_sent_between_threads() {
    fn is_send_and_unpin<T: Future + Send + Unpin + 'static>(future: T) -> T {
        future
    }
    let server = EchoServer::start();
    let (_session, task) = open(server.url());
    let receive = is_send_and_unpin(task.receive_async());
    let receiving = thread::spawn(move || text(block_on(receive)));
    let send = is_send_and_unpin(task.send_async("from thread to thread"));
    thread::spawn(move || block_on(send)).join().unwrap().unwrap();
    assert_eq!(receiving.join().unwrap(), "from thread to thread");
    thread::spawn({
        let ping = is_send_and_unpin(task.send_ping_async());
        move || block_on(ping)
    })
    .join()
    .unwrap()
    .unwrap();
}

#[test]
fn an_executor_of_tasks_drives_many_at_once() {
    let server = EchoServer::start();
    let queue = OperationQueue::new();
    let (session, _, events) = recorded_session_with(SessionConfiguration::default(), Some(queue));
    let jobs = (0..50).map(|number| {
        let task = session.web_socket_task(server.url());
        task.resume();
        async move {
            for round in 0..20 {
                task.send_async(format!("{number} {round}")).await.unwrap();
                assert_eq!(text(task.receive_async().await), format!("{number} {round}"));
                task.send_ping_async().await.unwrap();
            }
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            20
        }
    });
    assert_eq!(run_all(jobs).into_iter().sum::<usize>(), 1000);
    session.finish_tasks_and_invalidate();
    events.wait_for("invalid");
    assert_eq!(events.log().iter().filter(|event| *event == "complete None").count(), 50);
}

#[test]
fn a_future_completes_on_the_delegate_queue() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    let (session, _, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    queue.set_suspended(true);
    let count = Arc::new(Count::default());
    let mut future = task.receive_async();
    assert!(poll(&mut future, &count).is_pending());
    task.send("x", |_| ());
    eventually("the message is back", || task.count_of_bytes_received() == 1);
    thread::park_timeout(Duration::from_millis(20));
    assert!(poll(&mut future, &count).is_pending());
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    queue.set_suspended(false);
    assert_eq!(text(block_on(future)), "x");
    session.invalidate_and_cancel();
}

/// A waker that, when it is let go, sets a queue going again and waits until it has run.
struct Waits(OperationQueue);

impl Wake for Waits {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.set_suspended(false);
        self.0.wait_until_all_operations_are_finished();
    }
}

#[test]
fn a_waker_that_is_replaced_may_wait_for_the_very_result() {
    let server = EchoServer::start();
    let queue = OperationQueue::serial();
    let (session, _, events) = recorded_session_with(SessionConfiguration::default(), Some(queue.clone()));
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    queue.set_suspended(true);
    let mut future = task.receive_async();
    task.send("x", |_| ());
    eventually("the message is back", || task.count_of_bytes_received() == 1);
    let (sender, polled) = mpsc::channel();
    thread::spawn(move || {
        let waker = Waker::from(Arc::new(Waits(queue)));
        assert!(Pin::new(&mut future).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let count = Arc::new(Count::default());
        assert!(poll(&mut future, &count).is_pending());
        sender.send((count.get(), poll(&mut future, &count).is_ready())).unwrap();
    });
    // The new one was in its place when the old one went.
    assert_eq!(polled.recv_timeout(PATIENCE).expect("the poll does not return"), (1, true));
    session.invalidate_and_cancel();
}
