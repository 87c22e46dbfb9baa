//! A pinned public key: `cargo run --example pinning`.
//!
//! It starts a server behind TLS on this machine, with a certificate that no public authority has signed, and connects
//! twice. The delegate knows the key that the server must have (its SHA-256, as pins are written), and nothing else counts:
//! the first visit is answered, the second, with a pin of another key, ends before a byte of HTTP has left. It exits with
//! 0 if all went well, and with 1 if not.

use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CloseCode, ErrorCode,
    Message, SessionConfiguration, SessionDelegate, SessionTask, TaskDelegate, UrlCredential, UrlError, UrlSession,
    WebSocketDelegate, WebSocketTask,
};

/// Trusts the servers that have one of these keys, and no others.
struct Pinned {
    /// Of each key the SHA-256, in base64. A program has at least two: the one in use, and one for the day when that is lost.
    pins: Vec<String>,
    told: mpsc::Sender<Result<String, UrlError>>,
}

impl Pinned {
    fn tell(&self, told: Result<String, UrlError>) {
        // Where main has given up, nobody listens.
        let _ = self.told.send(told);
    }
}

impl SessionDelegate for Pinned {
    // func urlSession(_ session: URLSession, didReceive challenge: URLAuthenticationChallenge,
    //                 completionHandler: @escaping (URLSession.AuthChallengeDisposition, URLCredential?) -> Void)
    fn did_receive_challenge(
        &self,
        _session: &UrlSession,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let space = challenge.protection_space();
        // Without a `ServerTrust` it is another kind of challenge.
        let (AuthenticationMethod::ServerTrust, Some(trust)) = (space.authentication_method(), space.server_trust())
        else {
            return completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None);
        };
        // That the server has the key was proved by the handshake. A program whose server has a certificate of a public
        // authority asks for more: `trust.evaluate().is_ok()`, and the pin.
        let key = trust.public_key().map(|key| BASE64_STANDARD.encode(Sha256::digest(key)));
        match key {
            Some(key) if self.pins.contains(&key) => {
                println!("{}:{} has the key sha256/{key}", space.host(), space.port());
                completion_handler(AuthChallengeDisposition::UseCredential, Some(UrlCredential::for_trust(trust)));
            }
            _ => {
                println!("{}:{} has another key", space.host(), space.port());
                completion_handler(AuthChallengeDisposition::CancelAuthenticationChallenge, None);
            }
        }
    }
}

impl TaskDelegate for Pinned {
    fn did_complete_with_error(&self, _session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        if let Some(error) = error {
            self.tell(Err(error.clone()));
        }
    }
}

impl WebSocketDelegate for Pinned {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        let (told, receiving) = (self.told.clone(), task.clone());
        task.receive(move |result| {
            if let Ok(Message::String(greeting)) = result {
                let _ = told.send(Ok(greeting));
            }
            // Of a failure the delegate hears.
            receiving.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        });
    }
}

/// The greeting of the server at this port, if it has one of these keys.
fn visit(port: u16, pins: &[&str]) -> Result<String, UrlError> {
    let (told, listen) = mpsc::channel();
    let delegate = Arc::new(Pinned { pins: pins.iter().map(|&pin| pin.to_owned()).collect(), told });
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.timeout_interval_for_request = Duration::from_secs(20);
    configuration.proxy_configurations = Some(Vec::new());
    let session = UrlSession::with_delegate(configuration, Some(delegate), None);
    let url = format!("wss://localhost:{port}/").parse::<urlsession::Url>().expect("an address");
    session.web_socket_task(url).resume();
    let told = listen.recv_timeout(Duration::from_secs(60)).expect("the task ends within a minute");
    session.finish_tasks_and_invalidate();
    told
}

fn run() -> Result<(), String> {
    let server = server::start().map_err(|error| format!("cannot start a server: {error}"))?;
    let spare = BASE64_STANDARD.encode(Sha256::digest("a key in a safe"));

    let greeting = visit(server.port, &[&server.pin, &spare]).map_err(|error| error.to_string())?;
    println!("the server says {greeting:?}");
    if !server.was_spoken_to() {
        return Err("somebody else has answered".to_owned());
    }

    match visit(server.port, &[&spare]) {
        Ok(_) => return Err("a server with another key was trusted".to_owned()),
        Err(error) if error.code() == ErrorCode::Cancelled => println!("not trusted: {error}"),
        Err(error) => return Err(error.to_string()),
    }
    match server.was_spoken_to() {
        true => Err("a server with another key has heard something".to_owned()),
        false => Ok(()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The server, by another WebSocket library than this one.
mod server {
    use std::cell::Cell;
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use rcgen::{CertifiedKey, PublicKeyData, generate_simple_self_signed};
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use sha2::{Digest, Sha256};

    type Failure = Box<dyn std::error::Error>;

    pub struct Server {
        pub port: u16,
        /// The SHA-256 of its public key.
        pub pin: String,
        heard: mpsc::Receiver<bool>,
    }

    impl Server {
        /// Whether something came through TLS on its last connection.
        pub fn was_spoken_to(&self) -> bool {
            self.heard.recv_timeout(Duration::from_secs(60)).expect("the connection ends within a minute")
        }
    }

    fn provider() -> CryptoProvider {
        #[cfg(feature = "ring")]
        return rustls::crypto::ring::default_provider();
        #[cfg(not(feature = "ring"))]
        return rustls::crypto::aws_lc_rs::default_provider();
    }

    /// Serves until the program ends.
    pub fn start() -> Result<Server, Failure> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
        let pin = BASE64_STANDARD.encode(Sha256::digest(signing_key.subject_public_key_info()));
        let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (hear, heard) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = hear.send(serve(stream, &config).unwrap_or(false));
            }
        });
        Ok(Server { port, pin, heard })
    }

    /// Greets who comes; whether something was heard.
    fn serve(stream: TcpStream, config: &Arc<ServerConfig>) -> Result<bool, Failure> {
        let stream = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream);
        let heard = Cell::new(false);
        if let Ok(mut socket) = tungstenite::accept(Ear { stream, heard: &heard }) {
            socket.send("Hello".into())?;
            // Until the visitor has closed.
            while socket.read().is_ok() {}
        }
        Ok(heard.get())
    }

    /// Notes whether something is read.
    struct Ear<'a> {
        stream: StreamOwned<ServerConnection, TcpStream>,
        heard: &'a Cell<bool>,
    }

    impl Read for Ear<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.stream.read(into)?;
            self.heard.set(self.heard.get() || count > 0);
            Ok(count)
        }
    }

    impl Write for Ear<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.stream.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.stream.flush()
        }
    }
}
