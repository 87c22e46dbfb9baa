//! What the command line says.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use percent_encoding::percent_decode_str;
use url::ParseError;
use urlsession::{CloseCode, ProxyConfiguration, Url};

pub const HELP: &str = "\
wscat talks to a WebSocket from the terminal.

Usage: wscat [OPTIONS] ws[s]://SERVER/PATH

The way to the server:
  -H, --header 'NAME: VALUE'     a header field of the request; may come several times
  -s, --subprotocol NAME         a subprotocol to offer; may come several times
      --proxy URL                http://, https:// or socks5://[USER:PASSWORD@]HOST[:PORT]
      --no-proxy                 no proxy, whatever the environment says
  -u, --user NAME:PASSWORD       where the server of the address asks for it (Basic, Digest)
      --connect-timeout SECONDS  how long the way may be without a byte of an answer (60)

TLS:
  -k, --insecure                 trust any certificate
      --ca FILE                  trust these root certificates (PEM) and no others
      --cert FILE --key FILE     a certificate chain and its key (PEM), for a server that asks

The socket:
      --no-compression           do not offer permessage-deflate
      --max-size BYTES           a message must be smaller (1048576); 0: no limit
      --ping SECONDS             keep-alive: a ping so often, and an end where no pong comes
      --close CODE[:REASON]      what to close with (1000)

What is said:
  -x, --execute MESSAGE          send this, print the first answer, close
  -w, --wait SECONDS             print answers for so long behind -x, or behind the end of input (1)
  -v, --verbose                  heads, redirects, challenges and times, on standard error;
                                 passwords and the like are left out of what is sent
  -h, --help                     this text
  -V, --version                  the version

Without -x, each line of standard input is sent as a text, but one with a slash is a command:
  /ping                          send a ping and tell how long the pong took
  /data HEX                      send data
  /text TEXT                     send a text; //TEXT sends one that begins with a slash
  /close [CODE [REASON]]         close
  /help                          these commands

Messages go to standard output: a text as it is, but for control characters, data as (data) HEX.
The exit code is 0 where the WebSocket was closed by this side, or by the server with 1000, 1001 or
no code; 1 where anything else ended it; 2 where the command line cannot be understood.
";

const ADDRESS: &str = "an address begins with ws:// or wss://";
const PROXY: &str = "a proxy begins with http://, https:// or socks5://";

/// What is to be done.
pub enum Command {
    Connect(Box<Arguments>),
    Help,
    Version,
}

/// How to connect, and what to say.
pub struct Arguments {
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub subprotocols: Vec<String>,
    pub proxy: Proxy,
    pub user: Option<(String, String)>,
    pub connect_timeout: Option<Duration>,
    pub insecure: bool,
    pub ca: Option<PathBuf>,
    /// A certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub compression: bool,
    pub max_size: Option<usize>,
    pub ping: Option<Duration>,
    pub close: (CloseCode, String),
    pub execute: Option<String>,
    pub wait: Option<Duration>,
    pub verbose: bool,
}

pub enum Proxy {
    /// What the environment says.
    Environment,
    None,
    This(ProxyConfiguration),
}

impl Command {
    /// Reads the arguments behind the program's name; an error is a line for its user.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        Self::read(lexopt::Parser::from_args(arguments)).map_err(|error| error.to_string())
    }

    fn read(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let mut url = None;
        let (mut cert, mut key) = (None, None);
        let mut arguments = Arguments::default()?;
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::Help),
                Short('V') | Long("version") => return Ok(Self::Version),
                Short('H') | Long("header") => arguments.headers.push(secret(&parser.value()?, header)?),
                Short('s') | Long("subprotocol") => arguments.subprotocols.push(parser.value()?.string()?),
                Long("proxy") => arguments.proxy = Proxy::This(secret(&parser.value()?, proxy)?),
                Long("no-proxy") => arguments.proxy = Proxy::None,
                Short('u') | Long("user") => arguments.user = Some(secret(&parser.value()?, user)?),
                Long("connect-timeout") => arguments.connect_timeout = Some(parser.value()?.parse_with(some_time)?),
                Short('k') | Long("insecure") => arguments.insecure = true,
                Long("ca") => arguments.ca = Some(parser.value()?.into()),
                Long("cert") => cert = Some(parser.value()?.into()),
                Long("key") => key = Some(parser.value()?.into()),
                Long("no-compression") => arguments.compression = false,
                Long("max-size") => arguments.max_size = Some(parser.value()?.parse()?),
                Long("ping") => arguments.ping = Some(parser.value()?.parse_with(some_time)?),
                Long("close") => arguments.close = parser.value()?.parse_with(|text| close(text, ':'))?,
                Short('x') | Long("execute") => arguments.execute = Some(parser.value()?.string()?),
                Short('w') | Long("wait") => arguments.wait = Some(parser.value()?.parse_with(seconds)?),
                Short('v') | Long("verbose") => arguments.verbose = true,
                Value(value) if url.is_none() => url = Some(secret(&value, address)?),
                Value(_) => return Err("unexpected argument: there is one address".into()),
                _ => return Err(argument.unexpected()),
            }
        }
        arguments.identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err("--cert and --key belong together".into()),
        };
        arguments.url = url.ok_or("the address of a server is missing")?;
        Ok(Self::Connect(Box::new(arguments)))
    }
}

impl Arguments {
    /// Without any option. The address is there in place of one.
    fn default() -> Result<Self, lexopt::Error> {
        Ok(Self {
            url: address("ws://localhost/")?,
            headers: Vec::new(),
            subprotocols: Vec::new(),
            proxy: Proxy::Environment,
            user: None,
            connect_timeout: None,
            insecure: false,
            ca: None,
            identity: None,
            compression: true,
            max_size: None,
            ping: None,
            close: (CloseCode::NORMAL_CLOSURE, String::new()),
            execute: None,
            wait: None,
            verbose: false,
        })
    }
}

/// Reads what may hold a password: where it cannot be understood, it is not repeated.
fn secret<T, E: ToString>(value: &OsStr, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, lexopt::Error> {
    let text = value.to_str().ok_or("an argument is not in UTF-8")?;
    read(text).map_err(|error| error.to_string().into())
}

fn address(text: &str) -> Result<Url, String> {
    let url = parsed(text, ADDRESS)?;
    match (url.scheme(), url.has_host()) {
        ("ws" | "wss" | "http" | "https", true) => Ok(url),
        _ => Err(ADDRESS.to_owned()),
    }
}

/// `no_scheme`: what to say of a text that does not begin with a scheme.
fn parsed(text: &str, no_scheme: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => no_scheme.to_owned(),
        error => error.to_string(),
    })
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("a header field is NAME: VALUE"),
    }
}

fn user(text: &str) -> Result<(String, String), &'static str> {
    let (name, password) = text.split_once(':').ok_or("a user is NAME:PASSWORD")?;
    Ok((name.to_owned(), password.to_owned()))
}

/// A proxy as the environment's variables write it.
fn proxy(text: &str) -> Result<ProxyConfiguration, String> {
    let url = parsed(text, PROXY)?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("a proxy has a host")?;
    let mut proxy = match url.scheme() {
        "http" => ProxyConfiguration::http_connect(host, url.port().unwrap_or(80)),
        "https" => ProxyConfiguration::https_connect(host, url.port().unwrap_or(443)),
        "socks5" | "socks5h" => ProxyConfiguration::socks_v5(host, url.port().unwrap_or(1080)),
        _ => return Err(PROXY.to_owned()),
    };
    let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|error| error.to_string());
    if !url.username().is_empty() {
        proxy.apply_credential(&decoded(url.username())?, &decoded(url.password().unwrap_or_default())?);
    }
    Ok(proxy)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// As [`seconds`], and not none.
fn some_time(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|time| if time.is_zero() { Err("that is no time at all".to_owned()) } else { Ok(time) })
}

/// A code that a client may send (RFC 6455 §7.4), and a reason where there is one.
pub fn close(text: &str, separator: char) -> Result<(CloseCode, String), &'static str> {
    let (code, reason) = text.split_once(separator).unwrap_or((text, ""));
    match code.parse() {
        Ok(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) if reason.len() <= 123 => {
            Ok((CloseCode::new(code), reason.to_owned()))
        }
        Ok(1000..=1003 | 1007..=1014 | 3000..=4999) => Err("a reason has at most 123 bytes"),
        _ => Err("a code is 1000 to 1003, 1007 to 1014 or 3000 to 4999"),
    }
}
