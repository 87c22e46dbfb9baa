//! Executors written by hand, and what futures and streams are polled with.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use urlsession::{Message, UrlError};

use super::hooks::Dice;
use super::{PATIENCE, Peer, Server};

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is, with patience.
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "a future that nobody wakes");
        thread::park_timeout(left);
    }
}

/// Tells an executor which of its futures can go on.
struct Ready(Sender<usize>, usize);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(self.1);
    }
}

/// An executor of one thread, told through a channel which of its futures to poll: what an application's runtime does.
#[track_caller]
pub fn run_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let (sender, ready) = mpsc::channel();
    let mut jobs: Vec<(Pin<Box<F>>, Waker)> = Vec::new();
    for (number, future) in futures.into_iter().enumerate() {
        jobs.push((Box::pin(future), Waker::from(Arc::new(Ready(sender.clone(), number)))));
        sender.send(number).unwrap();
    }
    let mut outputs: Vec<Option<F::Output>> = jobs.iter().map(|_| None).collect();
    while outputs.iter().any(Option::is_none) {
        let number = ready.recv_timeout(PATIENCE).expect("a future that goes on");
        let (future, waker) = &mut jobs[number];
        if outputs[number].is_some() {
            continue;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            outputs[number] = Some(output);
        }
    }
    outputs.into_iter().flatten().collect()
}

/// A waker that counts how often it is woken.
#[derive(Default)]
pub struct Count(pub AtomicUsize);

impl Count {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a future once.
pub fn poll<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(count))))
}

#[track_caller]
pub fn text(result: Result<Message, UrlError>) -> String {
    match result {
        Ok(Message::String(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// A server that sends the numbers from 0, as many as it is told to, and closes when told no more.
pub fn counting_server() -> (Server, Sender<usize>) {
    let (sender, orders) = mpsc::channel();
    let server = Server::one(move |mut peer: Peer| {
        peer.open();
        let mut next = 0;
        for count in orders {
            for number in next..next + count {
                peer.text(&number.to_string());
            }
            next += count;
        }
        peer.close(1000, "");
        peer.read_close();
    });
    (server, sender)
}

/// Orders of a [`counting_server`] so many messages, a few at a time.
pub fn feed(orders: Sender<usize>, total: usize, seed: u64) -> JoinHandle<Sender<usize>> {
    thread::spawn(move || {
        let mut dice = Dice(seed);
        let mut left = total;
        while left > 0 {
            let count = left.min(dice.below(5) as usize);
            orders.send(count).unwrap();
            left -= count;
            (0..dice.below(100)).for_each(|_| thread::yield_now());
        }
        orders
    })
}
