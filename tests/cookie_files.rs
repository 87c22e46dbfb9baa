//! Cookies that are kept in a file: across runs, by several storages and processes, through crashes and damage.
#![cfg(not(target_family = "wasm"))]

mod support;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use support::{PATIENCE, Server, field, recorded_session_with};
use urlsession::{ErrorStage, HttpCookie, HttpCookieStorage, SessionConfiguration, Url, UrlSession};

/// A folder of its own, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("urlsession-cookies-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("cookies")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> HttpCookieStorage {
    HttpCookieStorage::open(path).unwrap()
}

/// A cookie that lasts for an hour.
fn lasting(name: &str, value: &str) -> HttpCookie {
    let mut cookie = HttpCookie::new(name, value, "127.0.0.1", "/");
    cookie.set_expires_date(Some(SystemTime::now() + Duration::from_secs(3600)));
    cookie
}

fn shown(storage: &HttpCookieStorage) -> String {
    let cookies = storage.cookies();
    let mut all: Vec<String> = cookies.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
    all.sort();
    all.join(" ")
}

/// What somebody finds who comes anew.
fn kept(path: &Path) -> String {
    shown(&open(path))
}

#[test]
fn what_is_set_is_there_when_the_call_returns() {
    let folder = Folder::new();
    let storage = open(&folder.file());
    assert_eq!(folder.names(), Vec::<String>::new());
    storage.set_cookie(lasting("a", "1"));
    assert_eq!(kept(&folder.file()), "a=1");
    assert_eq!(folder.names(), ["cookies", "cookies.lock"]);
    let url = Url::parse("http://127.0.0.1/").unwrap();
    storage.set_cookies(vec![lasting("b", "2"), HttpCookie::new("session", "3", "127.0.0.1", "/")], &url, None);
    assert_eq!(kept(&folder.file()), "a=1 b=2");
    assert_eq!(shown(&storage), "a=1 b=2 session=3");
    storage.delete_cookie(&lasting("a", ""));
    assert_eq!(kept(&folder.file()), "b=2");
    storage.remove_cookies_since(SystemTime::UNIX_EPOCH);
    assert_eq!(kept(&folder.file()), "");
    // All of a cookie is kept.
    let mut cookie = HttpCookie::new("all", "\t\\\"x\u{e4}", ".example.com", "/a\\b");
    cookie.set_expires_date(lasting("", "").expires_date());
    cookie.set_secure(true);
    cookie.set_http_only(true);
    cookie.set_same_site_policy(Some(urlsession::SameSitePolicy::Lax));
    storage.set_cookie(HttpCookie::clone(&cookie));
    // White space at an end is no value.
    assert_eq!(kept(&folder.file()), "");
    let mut cookie = HttpCookie::new("all", "x\t\\\"x\u{e4}", ".example.com", "/a\\b");
    cookie.set_expires_date(lasting("", "").expires_date());
    cookie.set_secure(true);
    cookie.set_same_site_policy(Some(urlsession::SameSitePolicy::Lax));
    storage.set_cookie(HttpCookie::clone(&cookie));
    assert_eq!(open(&folder.file()).cookies(), [cookie]);
}

#[test]
fn what_a_session_ends_with_is_not_written() {
    let folder = Folder::new();
    let storage = open(&folder.file());
    storage.set_cookie(HttpCookie::new("session", "1", "127.0.0.1", "/"));
    storage.flush().unwrap();
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
#[cfg(unix)]
fn what_changes_nothing_writes_nothing() {
    use std::os::unix::fs::MetadataExt;

    let folder = Folder::new();
    let storage = open(&folder.file());
    storage.delete_cookie(&lasting("a", ""));
    storage.flush().unwrap();
    assert!(!folder.file().exists());
    storage.set_cookie(lasting("a", "1"));
    // While it is open, no other file has its number.
    let written = fs::File::open(folder.file()).unwrap();
    storage.flush().unwrap();
    storage.delete_cookie(&lasting("b", ""));
    storage.set_cookie(HttpCookie::new("session", "1", "127.0.0.1", "/"));
    storage.remove_cookies_since(SystemTime::now() + Duration::from_secs(60));
    storage.flush().unwrap();
    assert_eq!(fs::metadata(folder.file()).unwrap().ino(), written.metadata().unwrap().ino());
    storage.set_cookie(lasting("a", "2"));
    assert_ne!(fs::metadata(folder.file()).unwrap().ino(), written.metadata().unwrap().ino());
}

/// A task whose server sets a cookie; what the server was sent.
fn run_task(storage: &HttpCookieStorage, lines: &str) -> Option<String> {
    let mut configuration = SessionConfiguration::default();
    configuration.http_cookie_storage = Some(storage.clone());
    let (sender, requests) = mpsc::channel();
    let lines = lines.to_owned();
    let server = Server::one(move |mut peer| {
        sender.send(peer.open_with(&lines)).unwrap();
        peer.close(1000, "");
        peer.read_close();
    });
    let (session, _recorder, events) = recorded_session_with(configuration, None);
    session.web_socket_task(server.url()).resume();
    events.wait_for("complete");
    server.join();
    field(&requests.recv_timeout(PATIENCE).unwrap(), "Cookie").map(str::to_owned)
}

#[test]
fn what_servers_set_is_kept_across_storages() {
    let folder = Folder::new();
    let storage = open(&folder.file());
    assert_eq!(run_task(&storage, "Set-Cookie: a=1; Max-Age=60\r\nSet-Cookie: b=2\r\n"), None);
    // Whoever opens the file in this process finds it, and whoever flushes.
    assert_eq!(kept(&folder.file()), "a=1");
    storage.flush().unwrap();
    drop(storage);
    let storage = open(&folder.file());
    assert_eq!(run_task(&storage, "Set-Cookie: a=; Max-Age=0\r\n").as_deref(), Some("a=1"));
    storage.flush().unwrap();
    let text = fs::read_to_string(folder.file()).unwrap();
    assert!(text.contains("\ndeleted\t") && !text.contains("\ncookie\t"), "{text}");
    // One that another storage has set since.
    open(&folder.file()).set_cookie(lasting("c", "3"));
    assert_eq!(run_task(&storage, "Set-Cookie: c=; Path=/; Max-Age=0\r\n"), None);
    storage.flush().unwrap();
    assert_eq!(kept(&folder.file()), "");
}

#[test]
fn the_last_handle_waits_until_it_is_written() {
    let folder = Folder::new();
    for number in 0..20 {
        let storage = open(&folder.file());
        run_task(&storage, &format!("Set-Cookie: a={number}; Max-Age=60\r\n"));
        // The session may have another handle for a moment more, and the thread that writes has none.
        let other = storage.clone();
        drop(storage);
        other.flush().unwrap();
        drop(other);
        let text = fs::read_to_string(folder.file()).unwrap();
        assert!(text.contains(&format!("\ta\t{number}\n")), "{number}: {text}");
    }
}

#[test]
fn flush_and_reset_of_a_session_reach_the_disk() {
    let folder = Folder::new();
    let storage = open(&folder.file());
    run_task(&storage, "Set-Cookie: a=1; Max-Age=60\r\n");
    let mut configuration = SessionConfiguration::default();
    configuration.http_cookie_storage = Some(storage);
    let session = UrlSession::new(configuration);
    let read = |text: &str| fs::read_to_string(folder.file()).unwrap_or_default().contains(text);
    let (told, done) = mpsc::channel();
    let again = told.clone();
    session.flush(move || again.send(()).unwrap());
    done.recv_timeout(PATIENCE).unwrap();
    assert!(read("\ta\t1\n"));
    session.reset(move || told.send(()).unwrap());
    done.recv_timeout(PATIENCE).unwrap();
    assert!(read("urlsession cookies 1\n") && !read("\ncookie\t"));
    session.finish_tasks_and_invalidate();
}

/// Whoever resets does not wait for another process.
#[test]
#[cfg(unix)]
fn a_reset_forgets_at_once_and_the_disk_follows() {
    use rustix::fs::{FlockOperation, flock};

    let folder = Folder::new();
    let (storage, other) = (open(&folder.file()), open(&folder.file()));
    storage.set_cookie(lasting("a", "1"));
    other.set_cookie(lasting("b", "1"));
    let mut configuration = SessionConfiguration::default();
    configuration.http_cookie_storage = Some(storage.clone());
    let session = UrlSession::new(configuration);
    let lock = fs::File::open(folder.0.join("cookies.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (told, done) = mpsc::channel();
    session.reset(move || told.send(()).unwrap());
    assert!(storage.cookies().is_empty() && done.try_recv().is_err());
    assert!(fs::read_to_string(folder.file()).unwrap().contains("\ta\t1\n"));
    flock(&lock, FlockOperation::Unlock).unwrap();
    done.recv_timeout(PATIENCE).unwrap();
    // What it had not seen yet, too.
    assert_eq!(kept(&folder.file()), "");
    session.finish_tasks_and_invalidate();
}

#[test]
fn damage_is_an_error_and_stays_as_it_is() {
    let folder = Folder::new();
    open(&folder.file()).set_cookie(lasting("a", "secret"));
    let text = fs::read_to_string(folder.file()).unwrap();
    for damaged in [text.replace("secret", "Secret"), text[..text.len() - 9].to_owned(), "something else".to_owned()] {
        fs::write(folder.file(), &damaged).unwrap();
        let error = HttpCookieStorage::open(folder.file()).unwrap_err();
        assert!(error.reason().contains("damaged") && error.reason().contains("cookies"), "{error}");
        assert_eq!(error.stage(), ErrorStage::Request);
        assert!(!format!("{error} {error:?}").to_lowercase().contains("secret"), "{error:?}");
        assert_eq!(fs::read_to_string(folder.file()).unwrap(), damaged);
    }
    // One that is damaged while it is open is not overwritten either, and nothing is lost in memory.
    fs::write(folder.file(), &text).unwrap();
    let storage = open(&folder.file());
    fs::write(folder.file(), "something else").unwrap();
    storage.set_cookie(lasting("b", "2"));
    assert!(storage.flush().unwrap_err().reason().contains("damaged"));
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), "something else");
    assert_eq!(shown(&storage), "a=secret b=2");
    fs::write(folder.file(), &text).unwrap();
    storage.flush().unwrap();
    assert_eq!(kept(&folder.file()), "a=secret b=2");
    // It is damage if it loses its bytes, but without one it is new when it is opened; a folder is none.
    fs::write(folder.file(), "").unwrap();
    storage.set_cookie(lasting("c", "3"));
    assert!(storage.flush().unwrap_err().reason().contains("damaged"));
    fs::remove_file(folder.file()).unwrap();
    storage.flush().unwrap();
    assert!(kept(&folder.file()).contains("c=3"));
    drop(storage);
    fs::write(folder.file(), "").unwrap();
    let blank = open(&folder.file());
    assert_eq!(shown(&blank), "");
    blank.set_cookie(lasting("a", "1"));
    blank.flush().unwrap();
    drop(blank);
    fs::write(folder.file(), "urlsession cookies 2\n").unwrap();
    let error = HttpCookieStorage::open(folder.file()).unwrap_err();
    assert!(error.reason().contains("another version") && !error.reason().contains("damaged"), "{error}");
    fs::remove_file(folder.file()).unwrap();
    assert!(HttpCookieStorage::open(&folder.0).is_err());
    assert!(HttpCookieStorage::open(folder.0.join("absent").join("cookies")).is_err());
    assert!(HttpCookieStorage::open("").is_err());
}

#[test]
#[cfg(unix)]
fn only_the_user_may_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    fs::write(folder.file(), "").unwrap();
    fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o666)).unwrap();
    open(&folder.file()).set_cookie(lasting("a", "1"));
    for name in folder.names() {
        let mode = fs::metadata(folder.0.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn what_is_changed_by_a_call_is_what_the_others_have_written() {
    let folder = Folder::new();
    let (storage, other) = (open(&folder.file()), open(&folder.file()));
    other.set_cookie(lasting("a", "1"));
    storage.remove_cookies_since(SystemTime::UNIX_EPOCH);
    assert_eq!(kept(&folder.file()), "");
    let (open_url, secure_url) = (Url::parse("ws://127.0.0.1/").unwrap(), Url::parse("wss://127.0.0.1/").unwrap());
    let mut secure = lasting("b", "1");
    secure.set_secure(true);
    other.set_cookies(vec![secure], &secure_url, None);
    storage.set_cookies(vec![lasting("b", "2")], &open_url, None);
    assert_eq!((shown(&storage).as_str(), kept(&folder.file()).as_str()), ("b=1", "b=1"));
}

#[test]
fn what_another_set_for_a_short_time_does_not_leave_the_older_one() {
    let folder = Folder::new();
    let (storage, other) = (open(&folder.file()), open(&folder.file()));
    storage.set_cookie(lasting("a", "old"));
    let mut lifetime = Duration::from_millis(50);
    // However slow the disk is: it is written before it expires.
    while !fs::read_to_string(folder.file()).unwrap().contains("\ta\tnew\n") {
        assert!(lifetime < PATIENCE);
        lifetime *= 2;
        let mut short = lasting("a", "new");
        short.set_expires_date(Some(SystemTime::now() + lifetime));
        other.set_cookie(short);
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    while !other.cookies().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    storage.set_cookie(lasting("b", "1"));
    assert_eq!((shown(&storage).as_str(), kept(&folder.file()).as_str()), ("b=1", "b=1"));
}

#[test]
#[cfg(unix)]
fn links_lead_to_what_is_not_there_yet() {
    use std::os::unix::fs::symlink;

    let (folder, data) = (Folder::new(), Folder::new());
    let second = folder.0.join("second");
    // From the folder of the link, and from the root.
    fs::create_dir(folder.0.join("below")).unwrap();
    symlink("below/../second", folder.file()).unwrap();
    symlink(data.file(), &second).unwrap();
    let (storage, other) = (open(&folder.file()), open(&data.file()));
    storage.set_cookie(lasting("a", "1"));
    other.set_cookie(lasting("b", "1"));
    assert_eq!((kept(&data.file()).as_str(), kept(&folder.file()).as_str()), ("a=1 b=1", "a=1 b=1"));
    assert!([folder.file(), second].iter().all(|link| link.is_symlink()));
    assert_eq!(data.names(), ["cookies", "cookies.lock"]);
    assert_eq!(folder.names(), ["below", "cookies", "second"]);
    // To no folder, and to each other.
    for (name, target) in [("nowhere", "absent/cookies"), ("here", "there"), ("there", "here")] {
        symlink(target, folder.0.join(name)).unwrap();
    }
    for name in ["nowhere", "here"] {
        assert!(HttpCookieStorage::open(folder.0.join(name)).is_err(), "{name}");
    }
}

#[test]
fn storages_of_one_process_that_share_a_file_lose_nothing() {
    let folder = Folder::new();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let storage = open(&folder.file());
            std::thread::spawn(move || {
                for number in 0..10 {
                    storage.set_cookie(lasting(&format!("c{thread}{number}"), "1"));
                }
                storage.delete_cookie(&lasting(&format!("c{thread}0"), ""));
                write(&storage);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(open(&folder.file()).cookies().len(), 36);
}

/// How long a disk may take that others use, too.
const DISK: Duration = Duration::from_secs(120);

/// Waits until it is on disk, however many others want the lock: whoever waits for it too long is told so.
fn write(storage: &HttpCookieStorage) {
    let deadline = Instant::now() + DISK;
    while let Err(error) = storage.flush() {
        assert!(Instant::now() < deadline, "{error}");
    }
}

/// What the child is told: the file.
const TOLD: &str = "URLSESSION_TEST_COOKIES";

/// Another process with a storage: each line that it is sent is a command, and each is answered with a line.
struct Other {
    child: Child,
    input: ChildStdin,
    output: mpsc::Receiver<String>,
}

#[test]
#[ignore = "it is the child of other tests"]
fn a_child_with_a_storage() {
    let Ok(path) = env::var(TOLD) else { return };
    let storage = HttpCookieStorage::open(path).unwrap();
    println!("\nready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["set", name, value] => {
                storage.set_cookie(lasting(name, value));
                "ok".to_owned()
            }
            ["delete", name] => {
                storage.delete_cookie(&lasting(name, ""));
                "ok".to_owned()
            }
            ["many", name, count] => {
                for number in 0..count.parse::<usize>().unwrap() {
                    storage.set_cookie(lasting(&format!("{name}{number}"), "1"));
                    println!("{number}");
                }
                "ok".to_owned()
            }
            ["show"] => shown(&storage),
            _ => break,
        };
        write(&storage);
        println!("={answer}");
    }
}

/// Whole lines: one that is killed may leave half of one.
fn lines_of(output: ChildStdout) -> impl Iterator<Item = String> {
    BufReader::new(output).lines().map_while(Result::ok).map(|line| line.trim_end().to_owned())
}

impl Other {
    fn start(path: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "--ignored", "--nocapture", "a_child_with_a_storage"]).env(TOLD, path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || lines_of(output).try_for_each(|line| sender.send(line)));
        let mut other = Self { child, input, output: lines };
        while other.line() != "ready" {}
        other
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// The next line; a child that has died says nothing more.
    fn line(&mut self) -> String {
        self.output.recv_timeout(DISK).expect("the child says something, and lives")
    }

    fn answer(&mut self) -> String {
        loop {
            if let Some(answer) = self.line().strip_prefix('=') {
                return answer.to_owned();
            }
        }
    }

    fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_processes_lose_nothing_that_the_other_wrote() {
    let folder = Folder::new();
    let storage = open(&folder.file());
    storage.set_cookie(lasting("a", "1"));
    storage.set_cookie(lasting("b", "1"));
    let mut other = Other::start(&folder.file());
    assert_eq!(other.ask("show"), "a=1 b=1");
    storage.delete_cookie(&lasting("a", ""));
    assert_eq!(other.ask("set c 1"), "ok");
    assert_eq!(other.ask("show"), "b=1 c=1");
    assert_eq!(kept(&folder.file()), "b=1 c=1");
    assert_eq!(other.ask("set b 2"), "ok");
    storage.set_cookie(lasting("d", "1"));
    assert_eq!(shown(&storage), "b=2 c=1 d=1");
    // The one who deletes it has not seen it yet.
    assert_eq!(other.ask("delete d"), "ok");
    storage.set_cookie(lasting("e", "1"));
    assert_eq!(shown(&storage), "b=2 c=1 e=1");
    assert_eq!(other.ask("show"), "b=2 c=1");
}

#[test]
fn processes_that_write_at_the_same_time_lose_nothing() {
    let folder = Folder::new();
    let mut others: Vec<Other> = (0..3).map(|_| Other::start(&folder.file())).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.tell(&format!("many p{number}- 20"));
    }
    let storage = open(&folder.file());
    for number in 0..20 {
        storage.set_cookie(lasting(&format!("own{number}"), "1"));
    }
    write(&storage);
    others.iter_mut().for_each(|other| assert_eq!(other.answer(), "ok"));
    assert_eq!(open(&folder.file()).cookies().len(), 80);
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_a_whole_file() {
    let folder = Folder::new();
    for round in 0..10 {
        let mut other = Other::start(&folder.file());
        // Fewer than a site may have, if it should come to the end of them. It dies somewhere in a later write, each time
        // elsewhere.
        other.tell(&format!("many r{round}- 150"));
        let last = format!("{}", 2 + round);
        while other.line() != last {}
        other.kill();
        let storage = open(&folder.file());
        let cookies = storage.cookies();
        for number in 0..=2 + round {
            let name = format!("r{round}-{number}");
            assert!(cookies.iter().any(|cookie| cookie.name() == name), "{name} was set before");
        }
        // Its lock went with it.
        storage.remove_cookies_since(SystemTime::UNIX_EPOCH);
        storage.flush().unwrap();
    }
}

#[test]
fn a_child_ends_when_its_input_does() {
    let folder = Folder::new();
    let mut other = Other::start(&folder.file());
    other.tell("end");
    while !other.line().contains("1 passed") {}
}

/// Flushes of sessions while somebody else has the file.
#[cfg(unix)]
mod flushes {
    use std::sync::Arc;

    use rustix::fs::{FlockOperation, flock};
    use urlsession::OperationQueue;

    use super::support::hooks::eventually;
    use super::support::{Events, Recorder};
    use super::*;

    /// A session whose storage has a cookie, in a file that somebody else has locked until the result is dropped.
    fn locked_session(folder: &Folder, queue: OperationQueue) -> (fs::File, UrlSession, Arc<Recorder>, Events) {
        let storage = open(&folder.file());
        storage.set_cookie(lasting("a", "1"));
        let lock = fs::File::open(folder.0.join("cookies.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let mut configuration = SessionConfiguration::default();
        configuration.http_cookie_storage = Some(storage);
        let (session, recorder, events) = recorded_session_with(configuration, Some(queue));
        (lock, session, recorder, events)
    }

    /// The end of a session is its last word, whoever ends it, on every kind of queue.
    #[test]
    fn the_end_of_a_session_waits_for_its_flushes() {
        let queues = [
            OperationQueue::serial,
            OperationQueue::new,
            OperationQueue::immediate,
            || OperationQueue::with_executor(|job| job()),
            || OperationQueue::with_executor(|job| drop(std::thread::spawn(job))),
        ];
        let ends: [fn(&UrlSession); 3] =
            [UrlSession::finish_tasks_and_invalidate, UrlSession::invalidate_and_cancel, |_| ()];
        for (number, queue) in queues.into_iter().enumerate() {
            for end in ends {
                let folder = Folder::new();
                let (lock, session, recorder, events) = locked_session(&folder, queue());
                let (reset, flush, barrier) = (recorder.clone(), recorder.clone(), recorder.clone());
                let held = Arc::new(());
                let with_reset = Arc::clone(&held);
                session.reset(move || {
                    reset.note("reset");
                    drop(with_reset);
                });
                session.flush(move || flush.note("flush"));
                end(&session);
                // An end that is on its way by now is told before this.
                session.get_all_tasks(move |_| barrier.note("barrier"));
                assert_eq!(events.next(), "barrier", "{number}");
                assert!(session.delegate().is_some());
                // Where nothing else ended it, this does.
                drop(session);
                drop(lock);
                events.wait_for("invalid");
                assert_eq!(events.log(), ["barrier", "reset", "flush", "invalid None"], "{number}");
                assert_eq!(kept(&folder.file()), "");
                eventually("all is let go", || Arc::strong_count(&recorder) == 1 && Arc::strong_count(&held) == 1);
            }
        }
    }

    /// The last handle goes while a flush waits, and the flush is all that is left of the session.
    #[test]
    fn a_session_without_handles_still_flushes() {
        let folder = Folder::new();
        let queue = OperationQueue::serial();
        let (lock, session, recorder, events) = locked_session(&folder, queue.clone());
        let note = recorder.clone();
        session.reset(move || note.note("reset"));
        drop(session);
        // What the drop put on the queue stands before this.
        queue.add_operation(|| ());
        queue.wait_until_all_operations_are_finished();
        assert_eq!(events.log(), Vec::<String>::new());
        drop(lock);
        events.wait_for("invalid");
        assert_eq!(events.log(), ["reset", "invalid None"]);
        eventually("the delegate is let go", || Arc::strong_count(&recorder) == 1);
    }

    /// However many wait for the disk, one thread does it for them, and they are told in the order of their calls.
    #[test]
    #[cfg(target_os = "linux")]
    fn many_flushes_are_told_in_order_by_one_thread() {
        const COUNT: usize = 400;

        let threads = || fs::read_dir("/proc/self/task").unwrap().count();
        let folder = Folder::new();
        let (lock, session, _recorder, _events) = locked_session(&folder, OperationQueue::serial());
        let (told, done) = mpsc::channel();
        let before = threads();
        for number in 0..COUNT {
            let told = told.clone();
            let handler = move || told.send(number).unwrap();
            if number % 2 == 0 { session.flush(handler) } else { session.reset(handler) }
        }
        // Other tests have threads, too, but not so many.
        assert!(threads() < before + COUNT / 2, "{before}, then {}", threads());
        drop(lock);
        let expect = |numbers: std::ops::Range<usize>| {
            for number in numbers {
                assert_eq!(done.recv_timeout(PATIENCE), Ok(number));
            }
        };
        expect(0..COUNT);
        // And so it is where the disk keeps nobody waiting, and the thread ends and begins again.
        for _ in 0..100 {
            for number in 0..4 {
                let told = told.clone();
                session.flush(move || told.send(number).unwrap());
            }
            expect(0..4);
        }
        session.finish_tasks_and_invalidate();
    }
}
