//! A server's side of a connection, behind TLS or not: one thread may read it while another writes. What its TLS came to
//! is written down.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};

use super::PATIENCE;

/// What a server knows of the TLS of one connection.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// Full or resumed, once the handshake is done.
    pub kind: Option<HandshakeKind>,
    pub version: Option<ProtocolVersion>,
    pub server_name: Option<String>,
    /// The client's certificates, leaf first, where it gave any.
    pub identity: Option<Vec<CertificateDer<'static>>>,
    /// Every byte that was inside the TLS.
    pub plaintext: Vec<u8>,
    /// What ended it, in the words of rustls.
    pub end: Option<String>,
}

impl Visit {
    /// The handshake was done.
    pub fn is_done(&self) -> bool {
        self.kind.is_some()
    }

    pub fn is_resumed(&self) -> bool {
        self.kind == Some(HandshakeKind::Resumed)
    }

    /// Fails where HTTP came through the TLS.
    #[track_caller]
    pub fn assert_nothing_said(&self) {
        assert!(self.plaintext.is_empty(), "the client said {:?}", String::from_utf8_lossy(&self.plaintext));
    }
}

struct Tls {
    connection: ServerConnection,
    /// What was decrypted and nobody has read: rustls holds no more than one record or two.
    decrypted: VecDeque<u8>,
    visits: Arc<Mutex<Vec<Visit>>>,
    number: usize,
}

impl Tls {
    fn note(&self, change: impl FnOnce(&mut Visit, &ServerConnection)) {
        change(&mut self.visits.lock().unwrap()[self.number], &self.connection);
    }

    fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut socket)?;
        }
        Ok(())
    }

    /// Takes what came from the network; nothing is its end.
    fn received(&mut self, mut bytes: &[u8], socket: &TcpStream) -> io::Result<()> {
        if bytes.is_empty() {
            self.connection.read_tls(&mut io::empty())?;
        }
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes)?;
            let processed = self.connection.process_new_packets();
            // What has failed says so with an alert.
            let flushed = self.flush(socket);
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            flushed?;
            self.decrypt();
            if !self.connection.is_handshaking() {
                self.note(|visit, connection| {
                    visit.kind = connection.handshake_kind();
                    visit.version = connection.protocol_version();
                    visit.server_name = connection.server_name().map(str::to_owned);
                    visit.identity = connection
                        .peer_certificates()
                        .map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect());
                });
            }
        }
        Ok(())
    }

    fn decrypt(&mut self) {
        let before = self.decrypted.len();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.connection.reader().read(&mut buffer) {
            self.decrypted.extend(&buffer[..count]);
        }
        self.note(|visit, _| visit.plaintext.extend(self.decrypted.range(before..)));
    }
}

/// The connection.
pub struct Link {
    socket: TcpStream,
    tls: Option<Mutex<Tls>>,
}

impl Link {
    pub fn plain(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        socket.set_write_timeout(Some(3 * PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, tls: None }
    }

    /// Writes into the visit with this number, which is there.
    pub fn secure(
        socket: TcpStream,
        config: &Arc<ServerConfig>,
        (visits, number): (&Arc<Mutex<Vec<Visit>>>, usize),
    ) -> Self {
        let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
        connection.set_buffer_limit(None);
        let tls = Tls { connection, decrypted: VecDeque::new(), visits: Arc::clone(visits), number };
        Self { tls: Some(Mutex::new(tls)), ..Self::plain(socket) }
    }

    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn lock(&self) -> Option<MutexGuard<'_, Tls>> {
        self.tls.as_ref().map(|tls| tls.lock().unwrap())
    }

    /// What the client said; 0 at its end.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.try_receive(buffer);
        if let (Err(error), Some(tls)) = (&received, self.lock()) {
            tls.note(|visit, _| visit.end = Some(error.to_string()));
            drop(tls);
            // An alert is not overtaken by a reset.
            let _ = self.socket.shutdown(Shutdown::Write);
            let _ = io::copy(&mut &self.socket, &mut io::sink());
        }
        received
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(mut tls) = self.lock() else { return (&self.socket).read(buffer) };
            if !tls.decrypted.is_empty() {
                return tls.decrypted.read(buffer);
            }
            // All of it was read: this tells whether more may come.
            match tls.connection.reader().read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                ended => return ended,
            }
            drop(tls);
            let mut ciphertext = [0; 4096];
            let count = (&self.socket).read(&mut ciphertext)?;
            if let Some(mut tls) = self.lock() {
                tls.received(&ciphertext[..count], &self.socket)?;
            }
        }
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(mut tls) = self.lock() else { return (&self.socket).write_all(bytes) };
        tls.connection.writer().write_all(bytes)?;
        tls.flush(&self.socket)
    }

    /// Each byte in a segment (and a record) of its own, as far as the kernel lets it.
    pub fn send_bytewise(&self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(1).try_for_each(|byte| self.send(byte))
    }

    /// Nothing more comes from here.
    pub fn finish(&self) {
        if let Some(mut tls) = self.lock() {
            tls.connection.send_close_notify();
            let _ = tls.flush(&self.socket);
        }
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// A head, to the empty line.
    pub fn head(&self) -> io::Result<String> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.receive(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
            assert!(head.len() < 100_000, "a request head without an end");
        }
        Ok(String::from_utf8(head).expect("a request in UTF-8"))
    }

    /// Waits until the client has ended the connection.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        while self.receive(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
