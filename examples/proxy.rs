//! Through a proxy that wants a password: `cargo run --example proxy`, or with a proxy and a server of your own
//! `cargo run --example proxy -- http://127.0.0.1:3128 wss://echo.example.com/`.
//!
//! Without arguments it starts an echo server and an HTTP proxy on this machine; the proxy (CONNECT) leads to whatever it is
//! asked for, and wants to know who asks. The delegate answers its challenge, a greeting goes through and comes back, and the
//! metrics show the way. With arguments, the proxy is `http`, `https` or `socks5`, with `user:password@` where it wants one.
//! It exits with 0 if all went well, and with 1 if not.

use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, ChallengeHandler, CloseCode, CredentialPersistence, Message,
    ProxyConfiguration, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, Url,
    UrlCredential, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

const USER: &str = "Ali";
const PASSWORD: &str = "open sesame";
const GREETING: &str = "Is anybody behind this wall?";

/// What the session tells main.
enum Told {
    Echo(String),
    Failure(String),
    Over,
}

struct Traveller {
    told: mpsc::Sender<Told>,
}

impl Traveller {
    fn tell(&self, told: Told) {
        // Where main has given up, nobody listens.
        let _ = self.told.send(told);
    }
}

impl SessionDelegate for Traveller {
    fn did_become_invalid_with_error(&self, _session: &UrlSession, _error: Option<&UrlError>) {
        self.tell(Told::Over);
    }
}

impl TaskDelegate for Traveller {
    // func urlSession(_ session: URLSession, task: URLSessionTask, didReceive challenge: URLAuthenticationChallenge,
    //                 completionHandler: @escaping (URLSession.AuthChallengeDisposition, URLCredential?) -> Void)
    fn task_did_receive_challenge(
        &self,
        _session: &UrlSession,
        _task: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let space = challenge.protection_space();
        // The password is for the proxy alone. The server would ask for another.
        if !space.is_proxy() || space.realm().is_none() {
            return completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None);
        }
        println!(
            "the proxy {}:{} asks who we are ({:?}), {} failures before",
            space.host(),
            space.port(),
            space.authentication_method(),
            challenge.previous_failure_count()
        );
        if challenge.previous_failure_count() > 0 {
            return completion_handler(AuthChallengeDisposition::CancelAuthenticationChallenge, None);
        }
        let credential = UrlCredential::new(USER, PASSWORD, CredentialPersistence::ForSession);
        completion_handler(AuthChallengeDisposition::UseCredential, Some(credential));
    }

    fn did_finish_collecting_metrics(&self, _session: &UrlSession, _task: &SessionTask, metrics: &TaskMetrics) {
        for transaction in &metrics.transaction_metrics {
            println!(
                "{} connected to {:?}, {} proxy",
                transaction.request.url,
                transaction.remote_address,
                if transaction.is_proxy_connection { "a" } else { "no" }
            );
        }
    }

    fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        if let Some(error) = error {
            self.tell(Told::Failure(error.to_string()));
        }
        session.finish_tasks_and_invalidate();
    }
}

impl WebSocketDelegate for Traveller {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        println!("the socket is open");
        // Of failures the delegate hears.
        task.send(GREETING, |_| ());
        let (told, receiving) = (self.told.clone(), task.clone());
        task.receive(move |result| {
            if let Ok(Message::String(echo)) = result {
                let _ = told.send(Told::Echo(echo));
            }
            receiving.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        });
    }
}

/// A proxy as the environment's variables write it.
fn proxy_of(text: &str) -> Option<ProxyConfiguration> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let mut proxy = match url.scheme() {
        "http" => ProxyConfiguration::http_connect(host, url.port().unwrap_or(80)),
        "https" => ProxyConfiguration::https_connect(host, url.port().unwrap_or(443)),
        "socks5" => ProxyConfiguration::socks_v5(host, url.port().unwrap_or(1080)),
        _ => return None,
    };
    if let Some(password) = url.password() {
        proxy.apply_credential(url.username(), password);
    }
    Some(proxy)
}

fn run(proxy: ProxyConfiguration, url: Url) -> Result<(), String> {
    println!("connecting to {url} through {proxy:?}");
    let (told, listen) = mpsc::channel();
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(20);
    configuration.proxy_configurations = Some(vec![proxy]);
    let session = UrlSession::with_delegate(configuration, Some(Arc::new(Traveller { told })), None);
    session.web_socket_task(url).resume();
    let mut answer = None;
    loop {
        match listen.recv_timeout(Duration::from_secs(60)) {
            Ok(Told::Echo(echo)) => answer = Some(echo),
            Ok(Told::Failure(failure)) => return Err(failure),
            Ok(Told::Over) => break,
            Err(_) => return Err("nothing was heard for a minute".to_owned()),
        }
    }
    println!("the server says {answer:?}");
    answer.map(drop).ok_or_else(|| "the server has closed without a word".to_owned())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let way = match arguments.as_slice() {
        [] => wall::start().map_err(|error| format!("cannot start a server: {error}")),
        [proxy, url] => match (proxy_of(proxy), Url::parse(url)) {
            (Some(proxy), Ok(url)) => Ok((proxy, url)),
            _ => Err("proxy [http|https|socks5]://[USER:PASSWORD@]HOST[:PORT] ws[s]://SERVER/".to_owned()),
        },
        _ => Err("proxy [PROXY SERVER]".to_owned()),
    };
    match way.and_then(|(proxy, url)| run(proxy, url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// An echo server, and the proxy in front of it.
mod wall {
    use std::io::{self, BufRead, BufReader, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use urlsession::{ProxyConfiguration, Url};

    use super::{PASSWORD, USER};

    /// Serves until the program ends.
    pub fn start() -> io::Result<(ProxyConfiguration, Url)> {
        let (server, proxy) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let url = Url::parse(&format!("ws://{}/", server.local_addr()?)).expect("an address is a host and a port");
        let configuration = ProxyConfiguration::http_connect("127.0.0.1", proxy.local_addr()?.port());
        thread::spawn(move || server.incoming().flatten().for_each(echo));
        thread::spawn(move || {
            for client in proxy.incoming().flatten() {
                // Who leaves early is none of its business.
                thread::spawn(move || tunnel(client));
            }
        });
        Ok((configuration, url))
    }

    fn echo(stream: TcpStream) {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    }

    /// RFC 9110 §9.3.6.
    fn tunnel(client: TcpStream) -> io::Result<()> {
        let known = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let mut reader = BufReader::new(client.try_clone()?);
        let mut writer = client;
        loop {
            let Some((target, authorization)) = request(&mut reader)? else { return Ok(()) };
            if authorization.as_ref() == Some(&known) {
                let server = TcpStream::connect(target)?;
                writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                return join(reader, writer, server);
            }
            writer.write_all(
                b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=\"the wall\"\r\nContent-Length: 0\r\n\r\n",
            )?;
        }
    }

    /// Where a CONNECT leads, and the value of `Proxy-Authorization`.
    fn request(reader: &mut impl BufRead) -> io::Result<Option<(String, Option<String>)>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut authorization = None;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("Proxy-Authorization") => {
                    authorization = Some(value.to_owned());
                }
                Some(_) => {}
                None => return Ok(Some((target, authorization))),
            }
        }
    }

    /// Hands on what each side says.
    fn join(mut reader: BufReader<TcpStream>, mut writer: TcpStream, server: TcpStream) -> io::Result<()> {
        let mut answers = server.try_clone()?;
        let back = thread::spawn(move || {
            let _ = io::copy(&mut answers, &mut writer);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut server = server;
        io::copy(&mut reader, &mut server)?;
        server.shutdown(Shutdown::Write)?;
        let _ = back.join();
        Ok(())
    }
}
