//! A SOCKS proxy that knows nothing of the crate's code: RFC 1928, with users and passwords as RFC 1929 has them.

#![allow(dead_code, reason = "each test file uses a part")]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use urlsession::ProxyConfiguration;

use super::link::Link;
use super::proxy::{Acceptor, tunnel};

/// What a client said on one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocksAsked {
    /// The methods that it offered.
    pub methods: Vec<u8>,
    pub credential: Option<(String, String)>,
    /// How it named the server: 1 an IPv4 address, 3 a name, 4 an IPv6 address. 0 where it did not come to that.
    pub kind: u8,
    /// The server, `host:port`.
    pub target: String,
}

/// What a proxy does. By default it opens a tunnel for everybody.
#[derive(Clone, Debug)]
pub struct SocksRules {
    /// Whom it lets in; `None`: everybody, unasked.
    pub user: Option<(&'static str, &'static str)>,
    /// The method that it chooses in place of the right one.
    pub method: Option<u8>,
    /// The reply to the request: 0 opens.
    pub reply: u8,
    /// Where it says that it is bound, with its kind and its port.
    pub bound: Vec<u8>,
    /// One byte at a time.
    pub bytewise: bool,
    /// After so many messages of its own the connection ends.
    pub ends_after: Option<usize>,
    /// The last message before that is cut to this length.
    pub cut: Option<usize>,
    /// In place of its message of this number: 0 the method, then the verdict (where a user is asked), then the reply.
    pub instead: Option<(usize, Vec<u8>)>,
}

impl Default for SocksRules {
    fn default() -> Self {
        Self {
            user: None,
            method: None,
            reply: 0,
            bound: vec![1, 0, 0, 0, 0, 0, 0],
            bytewise: false,
            ends_after: None,
            cut: None,
            instead: None,
        }
    }
}

/// The proxy. It ends when it is dropped.
pub struct SocksProxy {
    acceptor: Acceptor,
    asked: Arc<Mutex<Vec<SocksAsked>>>,
    through: Arc<Mutex<Vec<u8>>>,
}

impl SocksProxy {
    pub fn new(rules: SocksRules) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let through = Arc::new(Mutex::new(Vec::new()));
        let acceptor = Acceptor::new({
            let (asked, through) = (Arc::clone(&asked), Arc::clone(&through));
            move |number, socket| {
                {
                    let mut list = asked.lock().unwrap();
                    let length = list.len().max(number + 1);
                    list.resize(length, SocksAsked::default());
                }
                let note = |change: &dyn Fn(&mut SocksAsked)| change(&mut asked.lock().unwrap()[number]);
                // A client may go at any time.
                let _ = serve(&Arc::new(Link::plain(socket)), &rules, &note, &through);
            }
        });
        Self { acceptor, asked, through }
    }

    pub fn open() -> Self {
        Self::new(SocksRules::default())
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.address()
    }

    pub fn connections(&self) -> usize {
        self.acceptor.connections()
    }

    pub fn configuration(&self) -> ProxyConfiguration {
        ProxyConfiguration::socks_v5("127.0.0.1", self.address().port())
    }

    /// What was asked so far, by the numbers of the connections.
    pub fn asked(&self) -> Vec<SocksAsked> {
        self.asked.lock().unwrap().clone()
    }

    /// What clients sent through its tunnels, as it came.
    pub fn through(&self) -> Vec<u8> {
        self.through.lock().unwrap().clone()
    }
}

/// Sends the messages of a proxy as its rules want them.
struct Voice<'a> {
    link: &'a Link,
    rules: &'a SocksRules,
    sent: usize,
}

impl Voice<'_> {
    fn say(&mut self, message: &[u8]) -> io::Result<()> {
        let number = self.sent;
        self.sent += 1;
        let message = match &self.rules.instead {
            Some((instead, bytes)) if *instead == number => bytes,
            _ => message,
        };
        let is_last = self.rules.ends_after == Some(self.sent);
        let message = match self.rules.cut {
            Some(cut) if is_last => &message[..cut.min(message.len())],
            _ => message,
        };
        match self.rules.bytewise {
            true => self.link.send_bytewise(message)?,
            false => self.link.send(message)?,
        }
        if is_last {
            self.link.finish();
            self.link.drain();
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn take(link: &Link, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match link.receive(&mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
    }
    Ok(bytes)
}

/// A length, then so many bytes.
fn counted(link: &Link) -> io::Result<Vec<u8>> {
    let length = take(link, 1)?[0];
    take(link, usize::from(length))
}

/// Changes what is noted of a connection.
type Note<'a> = dyn Fn(&dyn Fn(&mut SocksAsked)) + 'a;

fn serve(link: &Arc<Link>, rules: &SocksRules, note: &Note<'_>, through: &Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    if rules.ends_after == Some(0) {
        return Ok(());
    }
    let mut voice = Voice { link, rules, sent: 0 };
    assert_eq!(take(link, 1)?, [5], "the version");
    let methods = counted(link)?;
    note(&|asked| asked.methods.clone_from(&methods));
    let right = if rules.user.is_some() { 2 } else { 0 };
    let chosen = if methods.contains(&right) { right } else { 0xff };
    let method = rules.method.unwrap_or(chosen);
    voice.say(&[5, method])?;
    if method == 0xff {
        link.drain();
        return Ok(());
    }
    if method == 2 {
        assert_eq!(take(link, 1)?, [1], "the version of the sub-negotiation");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let given = (text(counted(link)?), text(counted(link)?));
        note(&|asked| asked.credential = Some(given.clone()));
        let is_right = rules.user.is_none_or(|(user, password)| (user, password) == (&*given.0, &*given.1));
        voice.say(&[1, if is_right { 0 } else { 1 }])?;
        if !is_right {
            link.drain();
            return Ok(());
        }
    }
    assert_eq!(take(link, 3)?, [5, 1, 0], "the version, CONNECT, and what is reserved");
    let kind = take(link, 1)?[0];
    let host = match kind {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(take(link, 4)?).unwrap()).to_string(),
        3 => String::from_utf8(counted(link)?).expect("UTF-8"),
        4 => format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(take(link, 16)?).unwrap())),
        other => panic!("an address of kind {other}"),
    };
    let port = take(link, 2)?;
    let target = format!("{host}:{}", u16::from_be_bytes([port[0], port[1]]));
    note(&|asked| (asked.kind, asked.target) = (kind, target.clone()));
    let mut reply = vec![5, rules.reply, 0];
    reply.extend(&rules.bound);
    if rules.reply != 0 {
        voice.say(&reply)?;
        link.finish();
        link.drain();
        return Ok(());
    }
    tunnel(link, &target, through, |_| voice.say(&reply))
}
