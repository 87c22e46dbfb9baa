//! The floor: the bytes that a WebSocket client would send and read, made before and not looked at.

use std::io::{ErrorKind, Read, Write};

use super::Socket;
use super::stream::{Opener, Stream};
use crate::workload::Kind;
use crate::{fail, payload};

/// As much as one read may bring.
const BUFFER: usize = 256 * 1024;

thread_local! {
    static INPUT: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; BUFFER]);
}

/// A stream.
pub struct RawTcp {
    stream: Stream,
    output: Vec<u8>,
    /// Bytes that were read and not yet counted as messages.
    have: usize,
}

impl RawTcp {
    /// Reads; false if there is nothing now.
    fn read(&mut self) -> bool {
        INPUT.with_borrow_mut(|input| match self.stream.read(input) {
            Ok(0) => fail("the server closed the connection"),
            Ok(length) => {
                self.have += length;
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => fail(error),
        })
    }
}

impl Socket for RawTcp {
    type Message = Vec<u8>;

    fn open(opener: &Opener<'_>, connection: usize) -> Self {
        let mut stream = opener.open(connection);
        let target = opener.job.target();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut open = || {
            stream.write_all(request.as_bytes())?;
            stream.flush()?;
            // The server's answer is the same for the same key. Reading just that leaves the frames behind it alone.
            let mut answer = [0; 129];
            stream.read_exact(&mut answer)?;
            Ok::<_, std::io::Error>(answer.ends_with(b"\r\n\r\n"))
        };
        match open() {
            Ok(true) => Self { stream, output: Vec::new(), have: 0 },
            Ok(false) => fail("the server's answer is not as it was"),
            Err(error) => fail(error),
        }
    }

    fn message(kind: Kind, size: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        crate::server::put_head(&mut frame, true, kind.opcode(), size as u64);
        // A mask of zeros: the bytes on the wire are as many, and the server is none the wiser.
        frame[1] |= 0x80;
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&payload::bytes(kind, size));
        frame
    }

    fn write(&mut self, message: &Vec<u8>) {
        self.output.extend_from_slice(message);
    }

    fn flush(&mut self) {
        if let Err(error) = self.stream.write_all(&self.output).and_then(|()| self.stream.flush()) {
            fail(error);
        }
        self.output.clear();
    }

    fn receive(&mut self, _kind: Kind, size: usize) -> bool {
        let frame = size
            + match size {
                0..=125 => 2,
                126..=65_535 => 4,
                _ => 10,
            };
        while self.have < frame {
            if !self.read() {
                return false;
            }
        }
        self.have -= frame;
        true
    }

    fn close(mut self) {
        let result = self.stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).and_then(|()| self.stream.flush());
        if let Err(error) = result {
            fail(error);
        }
        while self.have < 2 {
            self.read();
        }
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }
}
