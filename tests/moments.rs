//! The moments at which what tasks and sessions hold is let go: handlers when they have been called, a task's delegate with its end,
//! and everything with the session's last word.

mod support;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Weak};

use support::echo::EchoServer;
use support::hooks::{Called, eventually, hooks};
use support::{PATIENCE, Peer, Server, recorded_session};
use urlsession::{OperationQueue, SessionConfiguration, UrlSession, WebSocketTask};

fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it comes")
}

/// Made in the session's last callback, a task can still be asked everything, and says that it is cancelled.
#[test]
fn a_task_that_is_made_in_the_last_callback_is_late() {
    for queue in [OperationQueue::serial(), OperationQueue::new(), OperationQueue::immediate()] {
        let server = EchoServer::start();
        let (sender, answers) = mpsc::channel();
        let url = server.url();
        let delegate = hooks(move |session, _, called| {
            if let Called::Invalid(_) = called {
                let task = session.web_socket_task(&url);
                let [one, two, three] = [(); 3].map(|()| sender.clone());
                task.receive(move |result| one.send(result.map(drop)).unwrap());
                task.send("late", move |result| two.send(result).unwrap());
                task.send_ping(move |result| three.send(result).unwrap());
                task.resume();
            }
        });
        let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), Some(queue));
        let open = session.web_socket_task(server.url());
        open.resume();
        session.invalidate_and_cancel();
        for _ in 0..3 {
            assert_eq!(wait(&answers).unwrap_err().raw_code(), -999);
        }
        assert!(answers.recv_timeout(PATIENCE).is_err(), "each handler is called once, and let go");
    }
}

/// What a handler holds goes when it has been called, before anything else is told.
#[test]
fn handlers_are_let_go_when_they_have_been_called() {
    let server = EchoServer::start();
    let held = Arc::new(());
    let (sender, counted) = mpsc::channel();
    let (session, _recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.resume();
    events.wait_for("open");
    let kinds: [fn(&WebSocketTask, Arc<()>); 3] = [
        |task, held| task.send("x", move |_| drop(Arc::clone(&held))),
        |task, held| task.receive(move |_| drop(Arc::clone(&held))),
        |task, held| task.send_ping(move |_| drop(Arc::clone(&held))),
    ];
    for kind in kinds {
        kind(&task, Arc::clone(&held));
        // Behind it on the serial queue, once it has been answered.
        eventually("it was called", || Arc::strong_count(&held) == 1);
    }
    // On the queue itself: the operation before has been let go when the next one runs.
    let queue = session.delegate_queue();
    for _ in 0..2 {
        let (one, weak, sender) = (Arc::new(()), Arc::downgrade(&held), sender.clone());
        let gone = Arc::downgrade(&one);
        queue.add_operation(move || drop(Arc::clone(&one)));
        queue.add_operation(move || sender.send((gone.upgrade().is_none(), weak.strong_count())).unwrap());
    }
    assert_eq!((wait(&counted), wait(&counted)), ((true, 1), (true, 1)));
    // Each of a row of receives finds the one before it gone.
    let (sender, seen) = mpsc::channel();
    let mut before: Option<Weak<()>> = None;
    for number in 0..20 {
        let mine = Arc::new(());
        let (weak, sender, last) = (Arc::downgrade(&mine), sender.clone(), before.take());
        task.receive(move |_| {
            let _mine = &mine;
            sender.send((number, last.is_none_or(|last| last.upgrade().is_none()))).unwrap();
        });
        before = Some(weak);
    }
    (0..20).for_each(|_| task.send("y", |_| {}));
    for number in 0..20 {
        assert_eq!(wait(&seen), (number, true));
    }
}

/// The task's own delegate is let go when its last method has returned: before the session says its last word.
#[test]
fn a_tasks_delegate_is_let_go_before_the_sessions_last_word() {
    let server = Server::one(|mut peer: Peer| {
        peer.open();
        peer.close(1000, "");
        peer.read_close();
    });
    let own = hooks(|_, _, _| {});
    let weak = Arc::downgrade(&own);
    let (sender, at_the_end) = mpsc::channel();
    let seen = weak.clone();
    let delegate = hooks(move |_, _, called| {
        if let Called::Invalid(_) = called {
            sender.send(seen.upgrade().is_none()).unwrap();
        }
    });
    let session = UrlSession::with_delegate(SessionConfiguration::default(), Some(delegate), None);
    let task = session.web_socket_task(server.url());
    task.set_delegate(Some(own));
    assert!(weak.upgrade().is_some());
    session.finish_tasks_and_invalidate();
    task.resume();
    assert!(wait(&at_the_end), "the task's delegate is still held");
    assert!(task.delegate().is_none());
    server.join();
}
