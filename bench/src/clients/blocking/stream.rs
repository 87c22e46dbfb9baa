//! A TCP stream, plain or TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::job::Job;
use crate::{fail, tls};

/// Opens streams to the server.
pub struct Opener<'a> {
    pub job: &'a Job,
    tls: Option<Arc<ClientConfig>>,
}

impl<'a> Opener<'a> {
    pub fn new(job: &'a Job) -> Self {
        Self { job, tls: job.is_tls().then(tls::client_config) }
    }

    /// A stream of its own for a connection.
    pub fn open(&self, connection: usize) -> Stream {
        let address = self.job.address(connection);
        let open = || {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            let Some(config) = &self.tls else { return Ok(Stream::Plain(socket)) };
            let tls =
                ClientConnection::new(Arc::clone(config), ServerName::from(address.ip())).map_err(io::Error::other)?;
            Ok(Stream::Tls(Box::new(StreamOwned::new(tls, socket))))
        };
        open().unwrap_or_else(|error: io::Error| fail(format_args!("{address}: {error}")))
    }
}

/// A stream.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
