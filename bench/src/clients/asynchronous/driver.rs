//! The workloads on one asynchronous socket or many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use super::Socket;
use super::stream::Opener;
use crate::fail;
use crate::job::Job;
use crate::meter::{Latencies, Meter, Report, resident};
use crate::payload::{self, Ring};
use crate::server::THANKS;
use crate::workload::{Kind, Shape};

pub async fn run<S: Socket>(job: &Job) -> Report {
    let opener = Opener::new(job.clone());
    match job.workload.shape {
        Shape::Echo { kind, size } => echo::<S>(&opener, kind, size).await,
        Shape::Pipe { size, window, batch } => pipe::<S>(&opener, size, window, batch).await,
        Shape::Flood { kind, size } => flood::<S>(&opener, kind, size).await,
        Shape::Sink { size, kind, batch, .. } => sink::<S>(&opener, kind, size, batch).await,
        Shape::Many { size, connections } => many::<S>(&opener, size, connections).await,
        Shape::Idle { .. } => idle::<S>(&opener).await,
        Shape::Connect => connect::<S>(&opener).await,
        Shape::Backlog { .. } => fail("this client has no queue of sends"),
    }
}

async fn there_and_back<S: Socket>(socket: &mut S, message: &S::Message, kind: Kind, size: usize) {
    socket.write(message).await;
    socket.flush().await;
    socket.receive(kind, size).await;
}

async fn echo<S: Socket>(opener: &Opener, kind: Kind, size: usize) -> Report {
    let mut socket = S::open(opener, 0).await;
    let message = S::message(kind, payload::bytes(kind, size));
    for _ in 0..opener.job.warm {
        there_and_back(&mut socket, &message, kind, size).await;
    }
    let mut latencies = Latencies::new(opener.job.count);
    let meter = Meter::start();
    for _ in 0..opener.job.count {
        let sent_at = Instant::now();
        there_and_back(&mut socket, &message, kind, size).await;
        latencies.add(sent_at.elapsed());
    }
    let mut report = meter.stop(opener.job.count);
    latencies.tell(&mut report);
    report
}

async fn pipe<S: Socket>(opener: &Opener, size: usize, window: u64, batch: u64) -> Report {
    let mut socket = S::open(opener, 0).await;
    let messages = Ring::new(Kind::Text, size, |payload| S::message(Kind::Text, payload));
    let total = opener.job.warm + opener.job.count;
    let mut meter = Meter::start();
    send(&mut socket, &messages, window, window).await;
    let mut sent = window;
    for received in 1..=total {
        socket.receive(Kind::Text, size).await;
        if received == opener.job.warm {
            meter = Meter::start();
        }
        if received.is_multiple_of(batch) && sent < total {
            send(&mut socket, &messages, batch, batch).await;
            sent += batch;
        }
    }
    meter.stop(opener.job.count)
}

/// Sends, and flushes after each `batch`.
async fn send<S: Socket>(socket: &mut S, messages: &Ring<S::Message>, count: u64, batch: u64) {
    for sent in 1..=count {
        socket.write(messages.next()).await;
        if sent % batch == 0 || sent == count {
            socket.flush().await;
        }
    }
}

async fn flood<S: Socket>(opener: &Opener, kind: Kind, size: usize) -> Report {
    let mut socket = S::open(opener, 0).await;
    for _ in 0..opener.job.warm {
        socket.receive(kind, size).await;
    }
    let meter = Meter::start();
    for _ in 0..opener.job.count {
        socket.receive(kind, size).await;
    }
    meter.stop(opener.job.count)
}

async fn sink<S: Socket>(opener: &Opener, kind: Kind, size: usize, batch: u64) -> Report {
    let mut socket = S::open(opener, 0).await;
    let messages = Ring::new(kind, size, |payload| S::message(kind, payload));
    send(&mut socket, &messages, opener.job.warm, batch).await;
    let meter = Meter::start();
    send(&mut socket, &messages, opener.job.count, batch).await;
    socket.receive(Kind::Text, THANKS.len()).await;
    meter.stop(opener.job.count)
}

async fn many<S: Socket>(opener: &Opener, size: usize, connections: usize) -> Report {
    let message = S::message(Kind::Text, payload::bytes(Kind::Text, size));
    let (warm, count) = (opener.job.warm / connections as u64, opener.job.count / connections as u64);
    let ready = Arc::new(Barrier::new(connections + 1));
    let mut tasks = Vec::new();
    for connection in 0..connections {
        let mut socket = S::open(opener, connection).await;
        let (message, ready) = (message.clone(), Arc::clone(&ready));
        tasks.push(tokio::spawn(async move {
            for _ in 0..warm {
                there_and_back(&mut socket, &message, Kind::Text, size).await;
            }
            // Once for the warm-up, once for the meter.
            ready.wait().await;
            ready.wait().await;
            for _ in 0..count {
                there_and_back(&mut socket, &message, Kind::Text, size).await;
            }
            socket
        }));
    }
    ready.wait().await;
    let meter = Meter::start();
    ready.wait().await;
    for task in &mut tasks {
        if let Err(error) = task.await {
            fail(error);
        }
    }
    meter.stop(opener.job.count)
}

async fn idle<S: Socket>(opener: &Opener) -> Report {
    let mut connection = 0;
    let mut open = async |until: u64| {
        while (connection as u64) < until {
            let mut socket = S::open(opener, connection).await;
            // Each waits for a message that never comes.
            tokio::spawn(async move { socket.receive(Kind::Text, 0).await });
            connection += 1;
        }
    };
    let settle = || tokio::time::sleep(Duration::from_millis(100));
    open(opener.job.warm).await;
    settle().await;
    let before = resident();
    let meter = Meter::start();
    open(opener.job.warm + opener.job.count).await;
    let mut report = meter.stop(opener.job.count);
    settle().await;
    report.resident = Some(resident() - before);
    report
}

async fn connect<S: Socket>(opener: &Opener) -> Report {
    for _ in 0..opener.job.warm {
        S::open(opener, 0).await.close().await;
    }
    let meter = Meter::start();
    for _ in 0..opener.job.count {
        S::open(opener, 0).await.close().await;
    }
    meter.stop(opener.job.count)
}
