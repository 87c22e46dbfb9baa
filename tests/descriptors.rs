//! A process without a free file descriptor. The limit counts for the whole process, so nothing else runs beside it: one
//! test.

#![cfg(unix)]

mod support;

use std::fs::File;
use std::thread;

use support::{Server, recorded_session_with};
use urlsession::{Message, OperationQueue, SessionConfiguration, TaskState, Url};

/// Opens files until there is no descriptor left, of which there are few from now on.
fn take_all_descriptors() -> Vec<File> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives while the calls read and write it.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.min(256);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                return files;
            }
        }
    }
}

#[test]
fn without_descriptors_a_task_fails_and_every_queue_tells_it() {
    for queue in [OperationQueue::immediate(), OperationQueue::serial(), OperationQueue::new()] {
        let configuration = SessionConfiguration::default();
        let (session, recorder, events) = recorded_session_with(configuration, Some(queue.clone()));
        let files = take_all_descriptors();

        // No callback runs inside the call, even where the queue has no thread of its own.
        let (caller, recorder2) = (thread::current().id(), recorder.clone());
        let task = session.web_socket_task(Url::parse("ws://127.0.0.1:9/").unwrap());
        task.receive(move |result| {
            assert_ne!(thread::current().id(), caller);
            recorder2.handler::<Message>("receive")(result);
        });
        task.resume();
        let complete = events.wait_for("complete");
        let code = task.error().expect("an error").raw_code();
        assert_eq!(events.log(), [format!("receive {code}"), "metrics".to_owned(), format!("complete {code}")]);
        assert_eq!((complete, task.state()), (format!("complete {code}"), TaskState::Completed));

        // One that was never started.
        let task = session.web_socket_task(Url::parse("ws://127.0.0.1:9/").unwrap());
        task.cancel();
        assert_eq!(events.wait_for("complete"), "complete -999");

        // The session goes on when there are descriptors again.
        drop(files);
        let server = Server::one(|mut peer| {
            peer.open();
            peer.echo();
        });
        let task = session.web_socket_task(server.url());
        task.send("hello", recorder.handler("send"));
        task.receive(recorder.receiver("receive"));
        task.resume();
        assert_eq!(events.wait_for("receive"), "receive string hello");

        let files = take_all_descriptors();
        session.invalidate_and_cancel();
        assert_eq!(events.wait_for("complete"), "complete -999");
        assert_eq!(events.wait_for("invalid"), "invalid None");
        drop(files);
    }
}
