//! Reading from a socket. The end of the stream is an error, so that no count means two things.

use std::io::{self, Read};
use std::mem::MaybeUninit;

use mio::net::TcpStream;
use socket2::SockRef;

use crate::websocket::PayloadBuffer;

/// What one read brought of a long message.
pub(super) struct Received {
    pub(super) count: usize,
    /// It filled its room: there may be more.
    pub(super) is_full: bool,
}

/// One read into a buffer.
pub(super) fn receive(mut socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
    let room = into.len();
    once_more_if_interrupted(room, || socket.read(into))
}

/// One read into a long message.
pub(super) fn receive_payload(socket: &TcpStream, payload: &mut PayloadBuffer) -> io::Result<Received> {
    let vacancy: &mut [MaybeUninit<u8>] = payload.vacancy();
    let room = vacancy.len();
    let count = once_more_if_interrupted(room, || SockRef::from(socket).recv(vacancy))?;
    // SAFETY: the kernel has written `count` bytes to the front of the vacancy, and `count` is at most its length.
    unsafe { payload.assume_written(count) };
    Ok(Received { count, is_full: count == room })
}

fn once_more_if_interrupted(room: usize, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Ok(0) if room > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => return Ok(count.min(room)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
