//! Cookies that are kept in a file, across runs and by several processes at once.
//!
//! What the program changes is written before its call returns. What servers set is written by a thread of its own,
//! which lives while there is something to write: nobody who reads sockets waits for a disk. Whoever writes takes the
//! lock that all processes take, reads what the others have written, puts both together, and puts a new file in the
//! place of the old one.

mod disk;

use std::fs;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as JarMutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::foundation::{ErrorCode, ErrorStage, HttpCookieStorage, Jar, Keeper, Kept, UrlError, kept_in};

/// How long the thread that writes waits after a failure, the first time and later ones.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// A file, and the jar whose cookies are in it.
struct CookieFile {
    path: PathBuf,
    jar: Arc<JarMutex<Jar>>,
    /// Held while the file is read and written.
    disk: Mutex<Disk>,
    writer: Arc<Writer>,
}

/// What is known of the file.
#[derive(Default)]
struct Disk {
    /// As the jar met it last.
    seen: Option<disk::Seen>,
    /// It was there without a byte when it was opened, and nobody has written to it since.
    is_blank: bool,
}

/// What the thread that writes shares with those who have something for it.
#[derive(Default)]
struct Writer {
    state: Mutex<Writing>,
    wake: Condvar,
}

#[derive(Default)]
struct Writing {
    /// There is a thread, and it looks once more before it ends.
    is_running: bool,
    /// How often something has changed.
    changes: u64,
    /// How often in a row it could not be written.
    failures: usize,
    /// The storage is gone.
    has_ended: bool,
}

/// The files that this process has open.
static OPEN: Mutex<Vec<Weak<CookieFile>>> = Mutex::new(Vec::new());

impl HttpCookieStorage {
    /// Beyond Apple: a storage that is kept in a file, across runs. The file is made with the first cookie; the folder
    /// has to be there. Apple's shared storage keeps its cookies by itself; here a program says where.
    ///
    /// Cookies with a date of expiry are kept, those without one end with the process. What is set or deleted by a call
    /// is on disk when the call returns; what servers set is written soon after, at the latest when the last handle is
    /// dropped, which waits for the disk. [`flush`](Self::flush) and [`UrlSession::flush`](crate::UrlSession::flush)
    /// wait for it, too. A program that ends by `exit`, or returns from `main` while a session with the storage lives,
    /// drops no last handle, and calls one of them before. What could not be written is tried again after 1, 5 and then
    /// each 30 seconds, and with every change. A call that writes waits for the disk, as long as that takes: with
    /// [`OperationQueue::immediate`](crate::OperationQueue::immediate) the network waits with it.
    ///
    /// Storages, in several processes too, may share a file: of each cookie, what was set or deleted last counts; only
    /// one that another storage has set and not written yet, and that nobody else has, cannot be deleted by this one. A
    /// storage sees what the others have written when something of it is changed, or when it is opened. Beside the file
    /// are `.lock`, which is locked by who writes, and for a moment `.new`, which takes its place; a crash leaves the
    /// old file or the new one. On Unix only the user may read those that it makes; a file that is there keeps its
    /// permissions until the first change replaces it. A link to a file is followed, whether or not that is there.
    ///
    /// The file is a text: a line with the version, a line of tab-separated fields for each cookie, and a check sum.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or another version wrote it: it is left as it is. A file without a byte is
    /// a new one when it is opened, and damage if it loses its bytes later.
    ///
    /// ```no_run
    /// use urlsession::{HttpCookieStorage, SessionConfiguration};
    ///
    /// let mut configuration = SessionConfiguration::default();
    /// configuration.http_cookie_storage = Some(HttpCookieStorage::open("cookies")?);
    /// # Ok::<(), urlsession::UrlError>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, UrlError> {
        let path = path.as_ref();
        let path = disk::resolved(path).map_err(|error| failure(path, error))?;
        flush_others(&path);
        let file = CookieFile {
            path,
            jar: Arc::new(JarMutex::new(Jar::kept())),
            disk: Mutex::default(),
            writer: Arc::default(),
        };
        file.read().map_err(|error| failure(&file.path, error))?;
        let file = Arc::new(file);
        OPEN.lock().push(Arc::downgrade(&file));
        Ok(Self::with_keeper(Arc::clone(&file.jar), file))
    }
}

/// What other storages of this process have not written yet is written now.
fn flush_others(path: &Path) {
    let mut same = Vec::new();
    OPEN.lock().retain(|file| {
        let file = file.upgrade();
        same.extend(file.clone().filter(|file| file.path == *path));
        file.is_some()
    });
    for file in same {
        // They say so themselves if they cannot.
        let _ = file.flush();
    }
}

/// Those who wait until a session's storage is on disk. However many they are, one thread waits for all of them, and
/// lives while there is somebody.
pub struct Flushes {
    /// `None` where there is nothing to wait for.
    storage: Option<HttpCookieStorage>,
    state: Mutex<Flushing>,
}

#[derive(Default)]
struct Flushing {
    /// In the order of their calls.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    /// Somebody flushes, and looks once more before that ends.
    is_running: bool,
}

impl Flushes {
    /// Nobody waits yet.
    pub fn new(storage: Option<&HttpCookieStorage>) -> Self {
        let storage = storage.filter(|storage| storage.is_kept()).cloned();
        Self { storage, state: Mutex::default() }
    }

    /// Calls this when the storage was written, or could not be, in the order of the calls: at once where there is no
    /// file, else not on the thread of the caller.
    pub fn after(self: &Arc<Self>, then: impl FnOnce() + Send + 'static) {
        if self.storage.is_none() {
            return then();
        }
        {
            let mut state = self.state.lock();
            state.waiting.push(Box::new(then));
            if mem::replace(&mut state.is_running, true) {
                return;
            }
        }
        let flushes = Arc::clone(self);
        if spawn(move || flushes.run()).is_err() {
            // Where there is no thread for it, it is the caller who waits.
            self.run();
        }
    }

    fn run(&self) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.is_running = false;
                    return;
                }
                mem::take(&mut state.waiting)
            };
            // Once for all who asked before it. If it panics they are told nevertheless, and so are those who come later.
            let _ = catch_unwind(AssertUnwindSafe(|| self.storage.as_ref().map(HttpCookieStorage::flush)));
            batch.into_iter().for_each(|then| then());
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("urlsession-cookies".to_owned()).spawn(run).map(drop)
}

impl Keeper for CookieFile {
    fn refresh(&self) {
        // Whoever writes says so, where it cannot be read.
        let _ = self.meet(&mut self.disk.lock());
    }

    fn note_change(self: Arc<Self>) {
        let mut state = self.writer.state.lock();
        state.changes += 1;
        if state.is_running {
            self.writer.wake.notify_one();
        } else {
            let (file, writer) = (Arc::downgrade(&self), Arc::clone(&self.writer));
            // Where there is no thread, the next change tries again, or who flushes.
            state.is_running = spawn(move || run(&file, &writer)).is_ok();
        }
    }

    fn flush(&self) -> Result<(), UrlError> {
        if !self.jar().has_unsaved() {
            return Ok(());
        }
        self.write().map_err(|error| failure(&self.path, error))
    }
}

/// The thread that writes. It keeps no storage alive.
fn run(file: &Weak<CookieFile>, writer: &Arc<Writer>) {
    let _running = Running(writer);
    loop {
        let changes = writer.state.lock().changes;
        // The last handle has written what was left.
        let is_done = file.upgrade().is_none_or(|file| file.flush().is_ok());
        let mut state = writer.state.lock();
        if state.has_ended || (is_done && state.changes == changes) {
            (state.is_running, state.failures) = (false, 0);
            return;
        }
        state.failures = if is_done { 0 } else { state.failures.saturating_add(1) };
        let pause = state.failures.checked_sub(1).and_then(|last| PAUSES.get(last).or(PAUSES.last()));
        if let Some(pause) = pause {
            let deadline = Instant::now() + *pause;
            while state.changes == changes && !state.has_ended {
                if writer.wake.wait_until(&mut state, deadline).timed_out() {
                    break;
                }
            }
        }
    }
}

/// A thread that panics writes no more, and another one may.
struct Running<'a>(&'a Writer);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.state.lock().is_running = false;
        }
    }
}

impl Drop for CookieFile {
    fn drop(&mut self) {
        self.writer.state.lock().has_ended = true;
        self.writer.wake.notify_one();
    }
}

impl CookieFile {
    /// For the first time.
    fn read(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.is_blank = fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0);
        self.meet(&mut disk)
    }

    /// The jar meets the file. It is locked for as long as that takes, not while the file is read and understood: who
    /// reads sockets asks it, too.
    fn meet(&self, disk: &mut Disk) -> io::Result<()> {
        if disk.seen.as_ref().is_some_and(|seen| seen.is_still_at(&self.path)) {
            self.jar().note_unchanged();
            return Ok(());
        }
        disk.seen = None;
        let (kept, seen) = match disk::read(&self.path)? {
            None => (Kept::default(), None),
            Some((bytes, seen)) if bytes.is_empty() && disk.is_blank => (Kept::default(), Some(seen)),
            Some((bytes, seen)) => {
                let kept = kept_in(&bytes).map_err(|error| {
                    let other = error.is_of_another_version;
                    let kind = if other { io::ErrorKind::Unsupported } else { io::ErrorKind::InvalidData };
                    io::Error::new(kind, error)
                })?;
                disk.is_blank = false;
                (kept, Some(seen))
            }
        };
        let now = SystemTime::now();
        self.jar().merge(kept, now);
        disk.seen = seen;
        Ok(())
    }

    fn write(&self) -> io::Result<()> {
        // Other processes may take their time, and so may other threads of this one: that is nothing to lock for.
        let _lock = disk::lock(&self.path)?;
        let mut disk = self.disk.lock();
        self.meet(&mut disk)?;
        if !self.jar().has_unsaved() {
            return Ok(());
        }
        let kept = self.jar().for_file(SystemTime::now());
        let tick = kept.tick;
        let seen = disk::replace(&self.path, kept.text().as_bytes(), |_| ())?;
        (disk.seen, disk.is_blank) = (seen, false);
        self.jar().note_saved(tick);
        Ok(())
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(path: &Path, error: io::Error) -> UrlError {
    let reason = match error.kind() {
        io::ErrorKind::InvalidData => format!("the file of cookies {} is damaged: {error}", path.display()),
        _ => format!("the file of cookies {} cannot be used: {error}", path.display()),
    };
    UrlError::new(ErrorCode::Unknown, ErrorStage::Request, reason).with_source(error)
}

#[cfg(test)]
mod tests;
