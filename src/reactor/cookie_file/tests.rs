//! The file at a crash. What programs see of it is in `tests/cookie_files.rs`.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use url::Url;

use super::disk::{Step, lock, replace, resolved};
use super::*;
use crate::foundation::HttpCookieAcceptPolicy;

const STEPS: [Step; 6] = [Step::Created, Step::HalfWritten, Step::Written, Step::Synced, Step::Replaced, Step::Done];

/// A folder of its own, which goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("urlsession-disk-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the child is told: the file, and the number of the step after which it dies.
const TOLD: &str = "URLSESSION_TEST_DIES_AT";

#[test]
#[ignore = "it is the child of another test, and dies"]
fn a_child_that_dies() {
    let Ok(told) = env::var(TOLD) else { return };
    let (step, path) = told.split_once(' ').unwrap();
    let last = STEPS[step.parse::<usize>().unwrap()];
    let path = Path::new(path);
    let _lock = lock(path).unwrap();
    let _ = replace(path, b"new and longer", |step| {
        if step == last {
            std::process::abort();
        }
    });
}

#[test]
fn a_crash_leaves_the_old_file_or_the_new_one() {
    for (number, step) in STEPS.into_iter().enumerate() {
        for old in [None, Some(&b"old"[..])] {
            let folder = Folder::new();
            let path = folder.0.join("cookies");
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--exact", "--ignored", "reactor::cookie_file::tests::a_child_that_dies"]);
            child.env(TOLD, format!("{number} {}", path.display()));
            let output = child.output().unwrap();
            assert!(!output.status.success(), "it dies: {}", String::from_utf8_lossy(&output.stdout));
            let is_new = matches!(step, Step::Replaced | Step::Done);
            let expected = if is_new { Some(&b"new and longer"[..]) } else { old };
            assert_eq!(fs::read(&path).ok().as_deref(), expected, "{step:?}");
            // The lock went with the child, and what it left behind is in nobody's way.
            let _lock = lock(&path).unwrap();
            replace(&path, b"next", |_| ()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"next");
            let mut names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["cookies", "cookies.lock"], "{step:?}");
        }
    }
}

fn file_of(path: &Path, jar: &Arc<JarMutex<Jar>>) -> Arc<CookieFile> {
    let (disk, writer) = (Mutex::default(), Arc::default());
    Arc::new(CookieFile { path: path.to_owned(), jar: Arc::clone(jar), disk, writer })
}

#[test]
fn the_last_handle_writes_what_no_thread_has_written() {
    let folder = Folder::new();
    let path = resolved(&folder.0.join("cookies")).unwrap();
    let jar = Arc::new(JarMutex::new(Jar::kept()));
    // It looks as if a thread wrote, and so none is started.
    let file = file_of(&path, &jar);
    file.writer.state.lock().is_running = true;
    let storage = HttpCookieStorage::with_keeper(jar, file);
    let url = Url::parse("ws://example.com/").unwrap();
    storage.receive(["a=1; max-age=60"].into_iter(), &url, None, HttpCookieAcceptPolicy::Always);
    let other = storage.clone();
    drop(storage);
    assert!(!path.exists());
    drop(other);
    assert!(fs::read_to_string(&path).unwrap().contains("\ta\t1\n"));
}

#[test]
fn the_steps_come_in_order() {
    let folder = Folder::new();
    let mut steps = Vec::new();
    replace(&folder.0.join("cookies"), b"text", |step| steps.push(step)).unwrap();
    assert_eq!(steps, STEPS);
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let folder = Folder::new();
    let path = folder.0.join("cookies");
    // A folder in the place of the file cannot be replaced.
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "").unwrap();
    assert!(replace(&path, b"text", |_| ()).is_err());
    assert!(path.is_dir() && !folder.0.join("cookies.new").exists());
    // Neither can one be made where there is no folder.
    assert!(resolved(&folder.0.join("absent").join("cookies")).is_err());
    assert!(replace(&folder.0.join("absent").join("cookies"), b"text", |_| ()).is_err());
}

#[test]
#[cfg(unix)]
fn links_are_followed_to_the_file_and_not_where_the_new_one_is_made() {
    let folder = Folder::new();
    let (file, link, other) = (folder.0.join("cookies"), folder.0.join("link"), folder.0.join("other"));
    fs::write(&file, "old").unwrap();
    fs::write(&other, "untouched").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::os::unix::fs::symlink(&other, folder.0.join("cookies.new")).unwrap();
    replace(&resolved(&link).unwrap(), b"new", |_| ()).unwrap();
    assert!(link.is_symlink() && fs::read(&file).unwrap() == b"new" && fs::read(&other).unwrap() == b"untouched");
}

#[test]
#[cfg(unix)]
fn a_file_is_read_again_only_when_it_is_another_one() {
    let folder = Folder::new();
    let path = folder.0.join("cookies");
    let written = replace(&path, b"text", |_| ()).unwrap().unwrap();
    let (_, read) = disk::read(&path).unwrap().unwrap();
    assert!(written.is_still_at(&path) && read.is_still_at(&path));
    // However quickly it comes, and of whatever length.
    for _ in 0..20 {
        let next = replace(&path, b"TEXT", |_| ()).unwrap().unwrap();
        assert!(!written.is_still_at(&path) && !read.is_still_at(&path) && next.is_still_at(&path));
    }
    fs::write(&path, b"longer").unwrap();
    assert!(!disk::read(&path).unwrap().unwrap().1.is_still_at(&folder.0.join("absent")));
}

#[test]
#[cfg(unix)]
fn a_lock_that_a_child_inherited_is_let_go() {
    let folder = Folder::new();
    let path = folder.0.join("cookies");
    let first = lock(&path).unwrap();
    // What a forked child has.
    let _same = first.0.try_clone().unwrap();
    drop(first);
    lock(&path).unwrap();
}

#[test]
#[cfg(unix)]
fn folders_that_cannot_be_synced_are_passed_over() {
    use super::disk::{cannot_be_asked, sync_folder};

    for number in [libc::EINVAL, libc::ENOTSUP, libc::EACCES] {
        assert!(cannot_be_asked(&io::Error::from_raw_os_error(number)), "{number}");
    }
    assert!(!cannot_be_asked(&io::Error::from_raw_os_error(libc::EIO)));
    assert!(sync_folder(Path::new("/absent/cookies")).is_err());
    #[cfg(target_os = "linux")]
    sync_folder(Path::new("/proc/cookies")).unwrap();
}

#[test]
fn what_is_too_long_is_neither_read_nor_written() {
    let folder = Folder::new();
    let path = folder.0.join("cookies");
    let bytes = vec![b'x'; crate::foundation::MAXIMUM_FILE as usize + 1];
    let error = replace(&path, &bytes, |_| ()).err().unwrap();
    assert!(error.to_string().contains("longer than") && !path.exists());
    fs::File::create(&path).unwrap().set_len(bytes.len() as u64).unwrap();
    assert!(disk::read(&path).err().unwrap().to_string().contains("longer than"));
}

#[test]
fn what_could_not_be_written_is_tried_again() {
    let folder = Folder::new();
    let path = resolved(&folder.0.join("cookies")).unwrap();
    fs::write(&path, "damage").unwrap();
    let jar = Arc::new(JarMutex::new(Jar::kept()));
    let file = file_of(&path, &jar);
    let url = Url::parse("ws://example.com/").unwrap();
    jar.lock().unwrap().receive("a=1; max-age=60", &url, SystemTime::now());
    assert!(file.flush().is_err());
    Arc::clone(&file).note_change();
    wait_for(&file.writer, "the first failure", |writing| writing.failures > 0);
    fs::remove_file(&path).unwrap();
    // It tries again by itself, and the thread ends when there is nothing left.
    wait_for(&file.writer, "the end of the thread", |writing| !writing.is_running);
    assert!(fs::read_to_string(&path).unwrap().contains("\ta\t1\n"));
    assert_eq!(file.writer.state.lock().failures, 0);

    // With each change it tries at once, and it ends with the storage: the last of the pauses is longer than our patience.
    fs::write(&path, "damage").unwrap();
    jar.lock().unwrap().receive("a=2; max-age=60", &url, SystemTime::now());
    for failures in 1..=PAUSES.len() + 1 {
        Arc::clone(&file).note_change();
        wait_for(&file.writer, "a failure", |writing| writing.failures >= failures);
    }
    let writer = Arc::clone(&file.writer);
    drop(file);
    wait_for(&writer, "the end of the thread", |writing| !writing.is_running);
}

/// How long a thread may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the thread that writes is so far.
#[track_caller]
fn wait_for(writer: &Writer, what: &str, is_so: impl Fn(&Writing) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut state = writer.state.lock();
    while !is_so(&state) {
        assert!(Instant::now() < deadline, "{what} does not come");
        // Nobody tells of it: the storage has no use for that.
        writer.wake.wait_for(&mut state, Duration::from_millis(5));
    }
}

#[test]
fn a_thread_that_panics_leaves_room_for_the_next() {
    let writer = Arc::new(Writer::default());
    writer.state.lock().is_running = true;
    let other = Arc::clone(&writer);
    let panicked = thread::spawn(move || {
        let _running = Running(&other);
        panic!("as if a write had");
    });
    assert!(panicked.join().is_err() && !writer.state.lock().is_running);
}
