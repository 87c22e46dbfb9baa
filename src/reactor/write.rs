//! Writing to a socket.

use std::io::{self, Write};

use mio::net::TcpStream;

use crate::loader::Output;

/// How many pieces of memory are written by one system call.
const SLICES: usize = 32;

/// One system call for all that is given, again only where there are many pieces, or the kernel took a part of it.
pub(super) fn write_output(mut socket: &TcpStream, output: &mut Output) -> io::Result<()> {
    while !output.is_empty() {
        let (offered, result) = match output.single() {
            Some(slice) => (slice.len(), socket.write(slice)),
            None => write_parts(socket, output),
        };
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) if written > offered => return Err(io::ErrorKind::InvalidData.into()),
            Ok(written) => output.advance(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_parts(socket: &TcpStream, output: &Output) -> (usize, io::Result<usize>) {
    let mut slices = [io::IoSlice::new(&[]); SLICES];
    let count = output.slices(&mut slices);
    let slices = slices.get(..count).unwrap_or_default();
    (slices.iter().map(|slice| slice.len()).sum(), write_vectored(socket, slices))
}

/// `writev` raises SIGPIPE where the peer is gone, and a host that is not a Rust program may not ignore it. On Apple's
/// systems mio has told the socket not to.
fn write_vectored(socket: &TcpStream, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd"
    ))]
    return socket2::SockRef::from(socket).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL);
    #[cfg(not(any(
        target_os = "android",
        target_os = "dragonfly",
        target_os = "freebsd",
        target_os = "linux",
        target_os = "netbsd",
        target_os = "openbsd"
    )))]
    return (&*socket).write_vectored(slices);
}
