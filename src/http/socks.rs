//! SOCKS version 5, the client's side, without I/O: RFC 1928, and user and password by RFC 1929.
//!
//! In come the server and the bytes of the proxy, out go the messages to the proxy. Names go to the proxy as they are: what a
//! client looks up itself, its resolver knows. The longest answer has 262 bytes, and nothing of it is kept.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt;

use url::Host;

use crate::foundation::{ErrorCode, ErrorStage, UrlError};

/// A request to a proxy for a connection to a server. It begins with [`greeting`](Self::greeting); each answer then goes into
/// [`received`](Self::received).
pub struct Socks {
    awaited: Awaited,
    /// How many bytes of the answer came.
    position: usize,
    /// How many are left of the address and the port of the last one.
    left: usize,
}

/// What the proxy has to say next, with what it will be sent then.
enum Awaited {
    /// Which method it takes.
    Method { login: Option<Vec<u8>>, request: Vec<u8> },
    /// Whether user and password are right.
    Verdict { request: Vec<u8> },
    /// Whether there is a connection.
    Reply,
    /// Nothing.
    End(Result<(), SocksError>),
}

/// What follows bytes of the proxy.
#[derive(PartialEq, Eq)]
pub enum Step {
    /// The answer is not complete.
    Read,
    /// These bytes go to the proxy. What it said already behind its answer belongs to the next one.
    Send(Vec<u8>),
    /// The proxy is connected to the server. All further bytes are the server's.
    Done,
}

impl Socks {
    /// For a connection to this server. With a credential, the proxy may choose whether it wants to see it.
    ///
    /// # Errors
    /// The host, the user or the password is longer than 255 bytes, or one of the first two is empty. The text tells nothing of
    /// user and password.
    pub fn new(host: Host<&str>, port: u16, credential: Option<(&str, &str)>) -> Result<Self, String> {
        let login = match credential {
            Some(("", _)) => return Err("a SOCKS proxy cannot be told of a user without a name".to_owned()),
            Some((user, password)) => {
                let mut login = vec![1];
                push(&mut login, user, "the user for a SOCKS proxy")?;
                push(&mut login, password, "the password for a SOCKS proxy")?;
                Some(login)
            }
            None => None,
        };
        // Version, CONNECT, reserved.
        let mut request = vec![5, 1, 0];
        match host {
            Host::Ipv4(address) => {
                request.push(1);
                request.extend(address.octets());
            }
            Host::Domain("") => return Err("a SOCKS proxy cannot connect to a host without a name".to_owned()),
            Host::Domain(name) => {
                request.push(3);
                push(&mut request, name, "the name of a host for a SOCKS proxy")?;
            }
            Host::Ipv6(address) => {
                request.push(4);
                request.extend(address.octets());
            }
        }
        request.extend(port.to_be_bytes());
        Ok(Self { awaited: Awaited::Method { login, request }, position: 0, left: 0 })
    }

    /// What goes to the proxy first: version, and the methods that are offered (none; user and password).
    pub fn greeting(&self) -> &'static [u8] {
        match self.awaited {
            Awaited::Method { login: Some(_), .. } => &[5, 2, 0, 2],
            _ => &[5, 1, 0],
        }
    }

    /// Takes from the front of `input` what belongs to the proxy's answer, up to its end or to the byte that fails.
    ///
    /// # Errors
    /// The proxy refused, or what it said is not SOCKS 5. It stays so.
    pub fn received(&mut self, input: &mut &[u8]) -> Result<Step, SocksError> {
        loop {
            if let Awaited::End(end) = &self.awaited {
                return end.clone().map(|()| Step::Done);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(Step::Read) };
            *input = rest;
            let step = self.take(byte).inspect_err(|error| self.awaited = Awaited::End(Err(error.clone())))?;
            self.position += 1;
            if let Some(step) = step {
                self.position = 0;
                return Ok(step);
            }
        }
    }

    /// The next byte of the answer; the step that its last one leads to.
    fn take(&mut self, byte: u8) -> Result<Option<Step>, SocksError> {
        let malformed = |what| Err(SocksError::Malformed { what, byte });
        match (&mut self.awaited, self.position, byte) {
            (Awaited::Verdict { .. }, 0, 1) | (Awaited::Method { .. } | Awaited::Reply, 0, 5) => Ok(None),
            (_, 0, _) => malformed("the version"),

            // RFC 1928 §3.
            (Awaited::Method { request, .. }, 1, 0) => {
                let request = std::mem::take(request);
                self.awaited = Awaited::Reply;
                Ok(Some(Step::Send(request)))
            }
            (Awaited::Method { login: Some(login), request }, 1, 2) => {
                let (login, request) = (std::mem::take(login), std::mem::take(request));
                self.awaited = Awaited::Verdict { request };
                Ok(Some(Step::Send(login)))
            }
            (Awaited::Method { login, .. }, 1, 0xFF) => Err(SocksError::NoMethod { with_login: login.is_some() }),
            (Awaited::Method { .. }, _, _) => malformed("the method, which was not offered,"),

            // RFC 1929 §2.
            (Awaited::Verdict { request }, 1, 0) => {
                let request = std::mem::take(request);
                self.awaited = Awaited::Reply;
                Ok(Some(Step::Send(request)))
            }
            (Awaited::Verdict { .. }, _, _) => Err(SocksError::WrongLogin),

            // RFC 1928 §6. What the proxy connects from says nothing to anybody.
            (Awaited::Reply, 1 | 2, 0) => Ok(None),
            (Awaited::Reply, 1, _) => Err(SocksError::Refused(byte)),
            (Awaited::Reply, 2, _) => malformed("the reserved byte"),
            (Awaited::Reply, 3, 1) => self.then(4 + 2),
            // The length of the name comes first.
            (Awaited::Reply, 3, 3) => self.then(0),
            (Awaited::Reply, 3, 4) => self.then(16 + 2),
            (Awaited::Reply, 3, _) => malformed("the type of the address"),
            (Awaited::Reply, 4, _) if self.left == 0 => self.then(usize::from(byte) + 2),
            (Awaited::Reply, _, _) if self.left > 1 => self.then(self.left - 1),
            (Awaited::Reply, _, _) => {
                self.awaited = Awaited::End(Ok(()));
                Ok(Some(Step::Done))
            }
            (Awaited::End(_), _, _) => Ok(None),
        }
    }

    fn then(&mut self, left: usize) -> Result<Option<Step>, SocksError> {
        self.left = left;
        Ok(None)
    }
}

/// A text behind its length.
fn push(message: &mut Vec<u8>, text: &str, what: &str) -> Result<(), String> {
    let length = u8::try_from(text.len()).map_err(|_| format!("{what} has {} bytes, not at most 255", text.len()))?;
    message.push(length);
    message.extend(text.as_bytes());
    Ok(())
}

impl fmt::Debug for Socks {
    /// Without user and password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let awaited = match self.awaited {
            Awaited::Method { .. } => "method",
            Awaited::Verdict { .. } => "verdict",
            Awaited::Reply => "reply",
            Awaited::End(_) => "nothing",
        };
        formatter.debug_struct("Socks").field("awaited", &awaited).finish_non_exhaustive()
    }
}

impl fmt::Debug for Step {
    /// Without what is sent: it may be user and password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => formatter.write_str("Read"),
            Self::Send(_) => formatter.write_str("Send(..)"),
            Self::Done => formatter.write_str("Done"),
        }
    }
}

/// Why there is no connection through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocksError {
    /// It takes none of the methods that were offered; whether user and password were among them.
    NoMethod {
        /// They were.
        with_login: bool,
    },
    /// It does not take user and password.
    WrongLogin,
    /// It does not connect, for the reason that the code stands for.
    Refused(u8),
    /// What it says is not SOCKS 5.
    Malformed {
        /// The part of the answer.
        what: &'static str,
        /// What is there.
        byte: u8,
    },
}

impl SocksError {
    /// Whether the proxy has spoken its protocol, and this is its answer.
    pub fn is_answer(&self) -> bool {
        !matches!(self, Self::Malformed { .. })
    }

    /// The error of the task.
    pub fn to_url_error(&self) -> UrlError {
        let code = match self {
            Self::NoMethod { .. } | Self::WrongLogin => ErrorCode::UserAuthenticationRequired,
            Self::Refused(_) => ErrorCode::CannotConnectToHost,
            Self::Malformed { .. } => ErrorCode::CannotParseResponse,
        };
        UrlError::new(code, ErrorStage::Proxy, self.to_string())
    }
}

impl fmt::Display for SocksError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMethod { with_login: false } => {
                formatter.write_str("the SOCKS proxy wants to know who asks, and there is no user for it")
            }
            Self::NoMethod { with_login: true } => {
                formatter.write_str("the SOCKS proxy wants to know who asks, and not by user and password")
            }
            Self::WrongLogin => formatter.write_str("the SOCKS proxy refused user and password"),
            Self::Refused(code) => write!(formatter, "the SOCKS proxy answered {code}, {}", meaning(*code)),
            Self::Malformed { what, byte } => {
                write!(formatter, "the proxy does not speak SOCKS 5: {what} in its answer is 0x{byte:02x}")
            }
        }
    }
}

impl Error for SocksError {}

/// The codes of RFC 1928 §6.
fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure",
        2 => "connection not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "type of address not supported",
        _ => "which RFC 1928 does not know",
    }
}

#[cfg(test)]
mod tests;
