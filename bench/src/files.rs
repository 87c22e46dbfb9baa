//! How many files a process may have open: a connection is one.

/// Raises the limit as far as the system lets this process, and returns it.
pub fn raise_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid `rlimit` for the kernel to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    // A process with privileges may go beyond the hard limit; for others this fails, and changes nothing.
    for (soft, hard) in [(WANTED, limit.rlim_max.max(WANTED)), (limit.rlim_max, limit.rlim_max)] {
        let raised = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: `raised` is a valid `rlimit` for the kernel to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return raised.rlim_cur;
        }
    }
    limit.rlim_cur
}

/// Enough for 50,000 connections.
const WANTED: u64 = 60_000;
