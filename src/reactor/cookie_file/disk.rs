//! A file that is replaced as a whole, by one process at a time.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::foundation::MAXIMUM_FILE;

/// How long another process may hold the lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is asked for.
const PAUSE: Duration = Duration::from_millis(2);

/// How many links may lead to a file that is not there yet: as many as Linux follows.
const LINKS: usize = 40;

/// What [`replace`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Created,
    HalfWritten,
    Written,
    Synced,
    Replaced,
    Done,
}

/// The file that is meant, whatever links lead to it, and whether or not it is there. The folder has to be there.
pub fn resolved(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        resolved => return resolved,
    }
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            // It is none. What else there is to say of it, its folder says.
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                return Ok(fs::canonicalize(folder_of(&path))?.join(name));
            }
        }
    }
    Err(io::Error::other(format!("more than {LINKS} links lead to it")))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// A file as it was when it was read or written. Elsewhere than on Unix files have no number to know them by, and are read
/// again each time; an open one would be in the way of its replacement.
pub struct Seen {
    /// While it is open no other file has its number.
    #[cfg(unix)]
    _file: File,
    #[cfg(unix)]
    metadata: Metadata,
}

impl Seen {
    #[cfg(unix)]
    fn new(file: File, metadata: Metadata) -> Self {
        Self { _file: file, metadata }
    }

    #[cfg(not(unix))]
    fn new(_file: File, _metadata: Metadata) -> Self {
        Self {}
    }

    /// Whether the file at this path is that one, and as it was.
    #[cfg(unix)]
    pub fn is_still_at(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;

        let stamp = |metadata: &Metadata| {
            let changed = (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec());
            (metadata.dev(), metadata.ino(), metadata.len(), changed)
        };
        fs::metadata(path).is_ok_and(|now| stamp(&now) == stamp(&self.metadata))
    }

    #[cfg(not(unix))]
    pub fn is_still_at(&self, _path: &Path) -> bool {
        false
    }
}

/// What is in the file; `None` where there is none.
pub fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Seen)>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // Whoever writes to it while it is read makes it another one.
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    (&mut file).take(MAXIMUM_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAXIMUM_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {MAXIMUM_FILE} bytes")));
    }
    Ok(Some((bytes, Seen::new(file, metadata))))
}

/// Puts a new file in the place of the old one: who reads, and who comes after a crash, finds the one or the other.
pub fn replace(path: &Path, bytes: &[u8], mut reached: impl FnMut(Step)) -> io::Result<Option<Seen>> {
    if bytes.len() as u64 > MAXIMUM_FILE {
        let reason = format!("it would be longer than {MAXIMUM_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    let new = beside(path, ".new");
    // One that a crash has left, or a link that somebody has laid.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&new, bytes, &mut reached).and_then(|file| fs::rename(&new, path).map(|()| file));
    let file = match written {
        Ok(file) => file,
        Err(error) => {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
    };
    reached(Step::Replaced);
    sync_folder(path)?;
    reached(Step::Done);
    // Renaming it has changed it, too.
    let metadata = file.metadata().ok();
    Ok(metadata.map(|metadata| Seen::new(file, metadata)))
}

fn write_new(path: &Path, bytes: &[u8], reached: &mut impl FnMut(Step)) -> io::Result<File> {
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(path)?;
    reached(Step::Created);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    reached(Step::HalfWritten);
    file.write_all(second)?;
    reached(Step::Written);
    file.sync_all()?;
    reached(Step::Synced);
    Ok(file)
}

/// The name of the file is on disk, too, where that can be asked for.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => {
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.or_else(|error| if cannot_be_asked(&error) { Ok(()) } else { Err(error) })
        }
        _ => Ok(()),
    }
}

/// Some file systems sync no folders, and some folders may be written to but not read.
pub fn cannot_be_asked(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Held while the file is read and replaced. It is let go with its process, however that ends.
pub struct Lock(#[cfg_attr(not(unix), allow(dead_code, reason = "closing it lets it go"))] pub File);

#[cfg(unix)]
impl Drop for Lock {
    /// A child that was forked meanwhile has the same open file, and must not hold the lock any longer.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Waits until no other process has the lock.
pub fn lock(path: &Path) -> io::Result<Lock> {
    let path = beside(path, ".lock");
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_lock(&path) {
            Ok(file) => return Ok(Lock(file)),
            Err(error) if !is_held(&error) => return Err(error),
            Err(_) if Instant::now() > deadline => {
                let reason = format!("another process has had {} locked for {PATIENCE:?}", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(unix)]
fn try_lock(path: &Path) -> io::Result<File> {
    let file = private(OpenOptions::new().write(true).create(true).truncate(false)).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

#[cfg(unix)]
fn is_held(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Open for one at a time.
#[cfg(windows)]
fn try_lock(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt;

    OpenOptions::new().write(true).create(true).truncate(false).share_mode(0).open(path)
}

#[cfg(windows)]
fn is_held(error: &io::Error) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    error.raw_os_error() == Some(ERROR_SHARING_VIOLATION)
}

#[cfg(not(any(unix, windows)))]
fn try_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

#[cfg(not(any(unix, windows)))]
fn is_held(_: &io::Error) -> bool {
    false
}

/// For this user alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// A file in the same folder.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}
