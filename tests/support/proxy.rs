//! A proxy for CONNECT that knows nothing of the crate's code: RFC 9110 §9.3.6. It resolves every name to this machine, so
//! that a name which nobody else can resolve shows who did.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;
use urlsession::{ProxyConfiguration, SessionConfiguration};

use super::PATIENCE;
use super::link::{Link, Visit};
use super::origin::Request;

/// Accepts until it is dropped, each connection on a thread of its own.
pub struct Acceptor {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    pub fn new(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().unwrap();
        let (connections, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (connections, over, serve) = (Arc::clone(&connections), Arc::clone(&over), Arc::new(serve));
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { return };
                    let (number, serve) = (connections.fetch_add(1, Ordering::SeqCst), Arc::clone(&serve));
                    thread::spawn(move || serve(number, stream));
                }
            }
        });
        Self { address, connections, over, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What becomes of a request to the proxy.
pub enum Reply {
    /// A 200; then bytes go both ways.
    Tunnel,
    /// These bytes in place of the 200; then bytes go both ways.
    TunnelWith(String),
    /// The same, one byte at a time.
    TunnelBytewise(String),
    /// These bytes; then the next request of the connection.
    Keep(String),
    /// The same, one byte at a time.
    Bytewise(String),
    /// These bytes; then the end of the connection.
    Close(String),
    /// These bytes; then nothing, until the client ends the connection.
    Hang(Vec<u8>),
    /// The end of the connection.
    Nothing,
    /// A reset of the connection.
    Reset,
    /// A 200 when the test says so; then bytes go both ways.
    Staged(Receiver<()>),
}

pub const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A 407 with these challenges, and a body.
pub fn proxy_unauthorized(challenges: &[&str], more: &str) -> String {
    let lines: String = challenges.iter().map(|challenge| format!("Proxy-Authenticate: {challenge}\r\n")).collect();
    format!("HTTP/1.1 407 Proxy Authentication Required\r\n{lines}{more}Content-Length: 9\r\n\r\nwho is it")
}

/// The proxy. It ends when it is dropped; its connections end with those of its clients.
pub struct HttpProxy {
    acceptor: Acceptor,
    secure: bool,
    seen: Arc<Mutex<Vec<Request>>>,
    visits: Arc<Mutex<Vec<Visit>>>,
    through: Arc<Mutex<Vec<u8>>>,
}

impl HttpProxy {
    /// Over TCP.
    pub fn new(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(None, reply)
    }

    /// Over TLS.
    pub fn secure(config: Arc<ServerConfig>, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(Some(config), reply)
    }

    /// Opens a tunnel for everybody.
    pub fn open() -> Self {
        Self::new(|_| Reply::Tunnel)
    }

    /// Each request in its turn gets the next of these replies, and behind the last the connection ends.
    pub fn script(replies: Vec<Reply>) -> Self {
        let replies = Mutex::new(replies.into_iter().collect::<std::collections::VecDeque<_>>());
        Self::new(move |_| replies.lock().unwrap().pop_front().unwrap_or(Reply::Nothing))
    }

    fn with(config: Option<Arc<ServerConfig>>, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let secure = config.is_some();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let visits = Arc::new(Mutex::new(Vec::new()));
        let through = Arc::new(Mutex::new(Vec::new()));
        let acceptor = Acceptor::new({
            let (seen, visits, through) = (Arc::clone(&seen), Arc::clone(&visits), Arc::clone(&through));
            move |connection, socket| {
                let link = {
                    let mut list = visits.lock().unwrap();
                    let length = list.len().max(connection + 1);
                    list.resize(length, Visit::default());
                    drop(list);
                    match &config {
                        Some(config) => Link::secure(socket, config, (&visits, connection)),
                        None => Link::plain(socket),
                    }
                };
                // A client may go at any time.
                let _ = serve(&Arc::new(link), connection, &seen, &through, &reply);
            }
        });
        Self { acceptor, secure, seen, visits, through }
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    /// How a session is told of it; `127.0.0.1` is its name.
    pub fn configuration(&self) -> ProxyConfiguration {
        match self.secure {
            false => ProxyConfiguration::http_connect("127.0.0.1", self.port()),
            true => ProxyConfiguration::https_connect("127.0.0.1", self.port()),
        }
    }

    /// What was asked so far, whole heads only.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|request| request.head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// `Proxy-Authorization` of each request.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.seen().iter().map(|request| request.field("Proxy-Authorization").map(str::to_owned)).collect()
    }

    /// What came of each connection's TLS, by their numbers.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// What clients sent through its tunnels, as it came.
    pub fn through(&self) -> Vec<u8> {
        self.through.lock().unwrap().clone()
    }
}

/// A session's configuration with these proxies and storages of its own.
pub fn proxied(mut configuration: SessionConfiguration, proxies: Vec<ProxyConfiguration>) -> SessionConfiguration {
    configuration.proxy_configurations = Some(proxies);
    configuration
}

fn serve(
    link: &Arc<Link>,
    connection: usize,
    seen: &Mutex<Vec<Request>>,
    through: &Arc<Mutex<Vec<u8>>>,
    reply: &dyn Fn(&Request) -> Reply,
) -> io::Result<()> {
    loop {
        let head = link.head()?;
        let request = {
            let mut seen = seen.lock().unwrap();
            let request = Request { connection, number: seen.len(), secure: link.is_secure(), head };
            seen.push(request.clone());
            request
        };
        match reply(&request) {
            Reply::Tunnel => return tunnel(link, request.target(), through, |link| link.send(ESTABLISHED.as_bytes())),
            Reply::TunnelWith(head) => {
                return tunnel(link, request.target(), through, |link| link.send(head.as_bytes()));
            }
            Reply::TunnelBytewise(head) => {
                return tunnel(link, request.target(), through, |link| link.send_bytewise(head.as_bytes()));
            }
            Reply::Staged(go) => {
                return tunnel(link, request.target(), through, |link| {
                    let _ = go.recv_timeout(PATIENCE);
                    link.send(ESTABLISHED.as_bytes())
                });
            }
            Reply::Keep(text) => link.send(text.as_bytes())?,
            Reply::Bytewise(text) => link.send_bytewise(text.as_bytes())?,
            Reply::Close(text) => {
                link.send(text.as_bytes())?;
                link.finish();
                link.drain();
                return Ok(());
            }
            Reply::Hang(bytes) => {
                link.send(&bytes)?;
                link.drain();
                return Ok(());
            }
            Reply::Nothing => return Ok(()),
            Reply::Reset => return socket2::SockRef::from(link.socket()).set_linger(Some(Duration::ZERO)),
        }
    }
}

/// Connects to what `target` names: every name is this machine's.
pub fn dial(target: &str) -> io::Result<TcpStream> {
    let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
    let host = if host.starts_with('[') { host.trim_matches(['[', ']']) } else { "127.0.0.1" };
    let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    TcpStream::connect((host, port))
}

/// Connects, says so, and carries bytes both ways until both sides have ended.
pub fn tunnel(
    link: &Arc<Link>,
    target: &str,
    through: &Arc<Mutex<Vec<u8>>>,
    established: impl FnOnce(&Link) -> io::Result<()>,
) -> io::Result<()> {
    let server = dial(target)?;
    server.set_nodelay(true)?;
    server.set_read_timeout(Some(3 * PATIENCE))?;
    server.set_write_timeout(Some(3 * PATIENCE))?;
    established(link)?;
    let back = thread::spawn({
        let (link, mut server) = (Arc::clone(link), server.try_clone()?);
        move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(count @ 1..) = server.read(&mut buffer) {
                if link.send(&buffer[..count]).is_err() {
                    break;
                }
            }
            link.finish();
        }
    });
    let mut buffer = [0; 16 << 10];
    loop {
        match link.receive(&mut buffer) {
            Ok(count @ 1..) => {
                through.lock().unwrap().extend_from_slice(&buffer[..count]);
                if (&server).write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Ok(_) => {
                let _ = server.shutdown(Shutdown::Write);
                break;
            }
            Err(_) => {
                let _ = server.shutdown(Shutdown::Both);
                break;
            }
        }
    }
    let _ = back.join();
    Ok(())
}
