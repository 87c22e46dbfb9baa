//! The workloads on one blocking socket after the other.

use std::thread;
use std::time::{Duration, Instant};

use super::stream::Opener;
use super::{Socket, many};
use crate::fail;
use crate::job::Job;
use crate::meter::{Latencies, Meter, Report, resident};
use crate::server::THANKS;
use crate::workload::{Kind, Shape};

pub fn run<S: Socket>(job: &Job) -> Report {
    let opener = Opener::new(job);
    match job.workload.shape {
        Shape::Echo { kind, size } => echo::<S>(&opener, kind, size),
        Shape::Pipe { size, window, batch } => pipe::<S>(&opener, size, window, batch),
        Shape::Flood { kind, size } => flood::<S>(&opener, kind, size),
        Shape::Sink { size, kind, batch, .. } => sink::<S>(&opener, kind, size, batch),
        Shape::Many { size, connections } => many::run::<S>(&opener, size, connections),
        Shape::Idle { .. } => idle::<S>(&opener),
        Shape::Connect => connect::<S>(&opener),
        Shape::Backlog { .. } => fail("this client has no queue of sends"),
    }
}

fn echo<S: Socket>(opener: &Opener<'_>, kind: Kind, size: usize) -> Report {
    let mut socket = S::open(opener, 0);
    let message = S::message(kind, size);
    let mut there_and_back = || {
        socket.write(&message);
        socket.flush();
        socket.receive(kind, size);
    };
    (0..opener.job.warm).for_each(|_| there_and_back());
    let mut latencies = Latencies::new(opener.job.count);
    let meter = Meter::start();
    for _ in 0..opener.job.count {
        let sent_at = Instant::now();
        there_and_back();
        latencies.add(sent_at.elapsed());
    }
    let mut report = meter.stop(opener.job.count);
    latencies.tell(&mut report);
    report
}

fn pipe<S: Socket>(opener: &Opener<'_>, size: usize, window: u64, batch: u64) -> Report {
    let mut socket = S::open(opener, 0);
    let message = S::message(Kind::Text, size);
    let total = opener.job.warm + opener.job.count;
    let mut meter = Meter::start();
    let send = |socket: &mut S, messages| {
        (0..messages).for_each(|_| socket.write(&message));
        socket.flush();
    };
    send(&mut socket, window);
    let mut sent = window;
    for received in 1..=total {
        socket.receive(Kind::Text, size);
        if received == opener.job.warm {
            meter = Meter::start();
        }
        if received.is_multiple_of(batch) && sent < total {
            send(&mut socket, batch);
            sent += batch;
        }
    }
    meter.stop(opener.job.count)
}

fn flood<S: Socket>(opener: &Opener<'_>, kind: Kind, size: usize) -> Report {
    let mut socket = S::open(opener, 0);
    for _ in 0..opener.job.warm {
        socket.receive(kind, size);
    }
    let meter = Meter::start();
    for _ in 0..opener.job.count {
        socket.receive(kind, size);
    }
    meter.stop(opener.job.count)
}

fn sink<S: Socket>(opener: &Opener<'_>, kind: Kind, size: usize, batch: u64) -> Report {
    let mut socket = S::open(opener, 0);
    let message = S::message(kind, size);
    let send = |socket: &mut S, count| {
        for sent in 1..=count {
            socket.write(&message);
            if sent % batch == 0 || sent == count {
                socket.flush();
            }
        }
    };
    send(&mut socket, opener.job.warm);
    let meter = Meter::start();
    send(&mut socket, opener.job.count);
    socket.receive(Kind::Text, THANKS.len());
    meter.stop(opener.job.count)
}

fn idle<S: Socket>(opener: &Opener<'_>) -> Report {
    let mut sockets = Vec::with_capacity(usize::try_from(opener.job.warm + opener.job.count).unwrap_or_default());
    let mut open = |until: u64| {
        while (sockets.len() as u64) < until {
            let mut socket = S::open(opener, sockets.len());
            // Each has tried to read once, as sockets do that wait for a message.
            if let Err(error) = socket.stream().socket().set_nonblocking(true) {
                fail(error);
            }
            if socket.receive(Kind::Text, 0) {
                fail("an unexpected message");
            }
            sockets.push(socket);
        }
    };
    open(opener.job.warm);
    thread::sleep(Duration::from_millis(100));
    let before = resident();
    let meter = Meter::start();
    open(opener.job.warm + opener.job.count);
    let mut report = meter.stop(opener.job.count);
    thread::sleep(Duration::from_millis(100));
    report.resident = Some(resident() - before);
    report
}

fn connect<S: Socket>(opener: &Opener<'_>) -> Report {
    let open_and_close = |_| S::open(opener, 0).close();
    (0..opener.job.warm).for_each(open_and_close);
    let meter = Meter::start();
    (0..opener.job.count).for_each(open_and_close);
    meter.stop(opener.job.count)
}
