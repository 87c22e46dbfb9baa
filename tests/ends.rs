//! How a task ends: the rows A to J of the table of ends, against scripted servers.

mod support;

use support::{Server, recorded_session};
use urlsession::{CloseCode, TaskState};

#[test]
fn row_a_the_server_closes_with_code_and_reason() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.close(4999, "fun");
        assert_eq!(peer.read_close(), (Some(4999), Vec::new()));
    });
    let (session, recorder, events) = recorded_session();
    let task = session.web_socket_task(server.url());
    task.receive(recorder.receiver("receive"));
    task.resume();
    events.expect(&["open None", "receive 57", "close 4999 Some(\"fun\")", "complete None"]);
    assert_eq!(task.close_code(), CloseCode::new(4999));
    assert_eq!(task.close_reason().as_deref(), Some(&b"fun"[..]));
    assert_eq!(task.state(), TaskState::Completed);
    assert!(task.error().is_none());
    server.join();
}
