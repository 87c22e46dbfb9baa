//! Callbacks on the main thread, between the other events of an application's own loop: `cargo run --example event_loop`.
//!
//! The delegate queue of the session is `OperationQueue::main()`, which runs nothing by itself. The loop (here calloop's; it has a
//! timer too, as a window has frames to draw) sleeps until something happens. When a callback is to be run, the queue
//! calls its wake hook, on whatever thread it happens to be; the hook wakes the loop, and the loop calls `run_pending()`.
//! Nobody polls. The program counts: every callback ran on the main thread, and the loop never woke without a reason. A server
//! of its own on this machine sends twelve messages; then it ends, with 0 if all went well and with 1 if not.
//!
//! Other loops are woken in the same way:
//!
//! - winit: `let proxy = event_loop.create_proxy(); queue.set_wake_hook(move || proxy.wake_up())` (in older versions
//!   `send_event(Wake)`), and `queue.run_pending()` in the handler's `proxy_wake_up` (`user_event`).
//! - glib and GTK: `queue.set_wake_hook(|| { MainContext::default().invoke(|| { OperationQueue::main().run_pending(); }) })`.
//! - A game, or anything else that draws anyway: no hook, and `queue.run_pending()` once a frame.
//! - No loop at all: `queue.run_until(deadline, || done)` sleeps and runs what comes.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    match application::run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(unix))]
fn main() {
    println!("calloop, whose loop this example uses, is for Unix. Its first lines say how other loops are woken.");
}

#[cfg(unix)]
mod application {
    use std::cell::RefCell;
    use std::error::Error;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{EventLoop, ping};
    use urlsession::{
        CloseCode, Message, OperationQueue, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, UrlError,
        UrlSession, WebSocketDelegate, WebSocketTask,
    };

    use super::server;

    /// A frame of the user interface is drawn so often.
    const FRAME: Duration = Duration::from_millis(16);

    /// By then all is over.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What the window shows.
    #[derive(Default)]
    struct Screen {
        lines: Vec<String>,
        /// How many of the lines were drawn already.
        drawn: usize,
        over: bool,
    }

    thread_local! {
        /// Without a lock: callbacks and frames are on the main thread, and on any other this would be another screen.
        static SCREEN: RefCell<Screen> = RefCell::default();
    }

    /// The delegate. What it is told goes to the screen.
    struct Window {
        main: ThreadId,
        callbacks: AtomicUsize,
        /// Callbacks that came on another thread than the main one.
        astray: AtomicUsize,
    }

    impl Window {
        /// In every callback.
        fn show(&self, line: String) {
            self.callbacks.fetch_add(1, Ordering::Relaxed);
            if thread::current().id() != self.main {
                self.astray.fetch_add(1, Ordering::Relaxed);
            }
            SCREEN.with_borrow_mut(|screen| screen.lines.push(line));
        }
    }

    /// A handle that handlers can take with them.
    #[derive(Clone)]
    struct Application(Arc<Window>);

    impl Application {
        /// Shows messages until the server closes.
        fn receive(&self, task: &WebSocketTask) {
            let (application, receiving) = (self.clone(), task.clone());
            task.receive(move |result| match result {
                Ok(Message::String(text)) => {
                    application.0.show(format!("message: {text}"));
                    application.receive(&receiving);
                }
                Ok(_) => application.receive(&receiving),
                Err(error) => application.0.show(format!("no more messages: {}", error.reason())),
            });
        }
    }

    impl SessionDelegate for Application {
        fn did_become_invalid_with_error(&self, _session: &UrlSession, _error: Option<&UrlError>) {
            self.0.show("the session is over".to_owned());
            SCREEN.with_borrow_mut(|screen| screen.over = true);
        }
    }

    impl TaskDelegate for Application {
        fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
            self.0.show(match error {
                None => "the task has ended".to_owned(),
                Some(error) => format!("the task has failed: {error}"),
            });
            session.finish_tasks_and_invalidate();
        }
    }

    impl WebSocketDelegate for Application {
        fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
            self.0.show("open".to_owned());
            let application = self.clone();
            task.send("begin", move |result| {
                application.0.show(format!("asked for messages: {}", result.is_ok()));
            });
            self.receive(task);
        }

        fn did_close_with(
            &self,
            _session: &UrlSession,
            _task: &WebSocketTask,
            code: CloseCode,
            _reason: Option<&[u8]>,
        ) {
            self.0.show(format!("the server has closed with {code}"));
        }
    }

    /// What the loop counts.
    #[derive(Default)]
    struct Counts {
        frames: usize,
        wakes: usize,
        /// Callbacks that the wakes ran.
        ran: usize,
    }

    pub fn run() -> Result<(), Box<dyn Error>> {
        let mut event_loop: EventLoop<'_, Counts> = EventLoop::try_new()?;
        let queue = OperationQueue::main();

        // The hook may be called on any thread. It does nothing but wake the loop; several wakes may become one.
        let (waker, wakes) = ping::make_ping()?;
        queue.set_wake_hook(move || waker.ping());
        let pumped = queue.clone();
        let insert_wakes = event_loop.handle().insert_source(wakes, move |(), (), counts| {
            counts.wakes += 1;
            counts.ran += pumped.run_pending();
        });
        insert_wakes.map_err(|error| error.error)?;

        // Another source of events. All that was shown since the last frame is drawn.
        let insert_frames = event_loop.handle().insert_source(Timer::from_duration(FRAME), |_, (), counts| {
            counts.frames += 1;
            SCREEN.with_borrow_mut(|screen| {
                let lines = screen.lines.iter().skip(screen.drawn);
                lines.for_each(|line| println!("frame {:>3}: {line}", counts.frames));
                screen.drawn = screen.lines.len();
            });
            TimeoutAction::ToDuration(FRAME)
        });
        insert_frames.map_err(|error| error.error)?;

        let window = Arc::new(Window {
            main: thread::current().id(),
            callbacks: AtomicUsize::new(0),
            astray: AtomicUsize::new(0),
        });
        let delegate = Arc::new(Application(Arc::clone(&window)));
        let mut configuration = SessionConfiguration::ephemeral();
        configuration.timeout_interval_for_request = Duration::from_secs(20);
        configuration.proxy_configurations = Some(Vec::new());
        let session = UrlSession::with_delegate(configuration, Some(delegate), Some(queue));
        session.web_socket_task(server::start()?).resume();

        // Until the last line is drawn. `dispatch` without a time sleeps until a source has something.
        let (mut counts, mut turns) = (Counts::default(), 0);
        while !SCREEN.with_borrow(|screen| screen.over && screen.drawn == screen.lines.len()) {
            event_loop.dispatch(None, &mut counts)?;
            turns += 1;
            if FRAME * u32::try_from(counts.frames)? > PATIENCE {
                return Err("nothing was heard for a minute".into());
            }
        }

        let (callbacks, astray) = (window.callbacks.load(Ordering::Relaxed), window.astray.load(Ordering::Relaxed));
        let Counts { frames, wakes, ran } = counts;
        println!("{turns} turns of the loop: {frames} frames, {wakes} wakes, which ran {ran} callbacks");
        let messages =
            SCREEN.with_borrow(|screen| screen.lines.iter().filter(|line| line.starts_with("message: ")).count());
        if messages != server::MESSAGES {
            return Err(format!("{messages} messages of {} came", server::MESSAGES).into());
        }
        // The metrics have a callback, too, which this delegate leaves at its default.
        if astray != 0 || ran < callbacks {
            return Err(format!("of {callbacks} callbacks {astray} ran elsewhere, and {ran} between events").into());
        }
        // A loop that polled, or was woken for nothing, would have turned thousands of times. A timer may be early once.
        if turns > 2 * (frames + wakes) || wakes > 2 * ran {
            return Err("the loop did not sleep".into());
        }
        match frames {
            0..3 => Err("the frames had to wait for the messages".into()),
            _ => Ok(()),
        }
    }
}

/// A server for one connection, by another library than this one.
#[cfg(unix)]
mod server {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    use urlsession::Url;

    pub const MESSAGES: usize = 12;

    /// Sends its messages, with time for some frames between them, and closes.
    pub fn start() -> std::io::Result<Url> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("ws://{}/", listener.local_addr()?);
        thread::spawn(move || {
            let (stream, _) = listener.accept().expect("the example connects");
            let mut socket = tungstenite::accept(stream).expect("the example opens a WebSocket");
            socket.read().expect("the example begins");
            for number in 1..=MESSAGES {
                thread::sleep(Duration::from_millis(40));
                socket.send(format!("{number} of {MESSAGES}").into()).expect("the example reads");
            }
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "that was all".into() }));
            while socket.read().is_ok() {}
        });
        Ok(Url::parse(&url).expect("an address is a host and a port"))
    }
}
