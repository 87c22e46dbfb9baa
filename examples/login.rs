//! A login with a password, and by cookie the next time: `cargo run --example login -- basic` or `-- digest`, then once
//! more.
//!
//! It starts a server of its own on this machine, which wants a password (Basic or Digest, which is the default) and
//! then sets a cookie. The cookies are in a file, for which a second argument may name a place; without, it is in the
//! folder for temporary files. The first run shows the challenge and answers it; those after it bring the cookie, and are
//! greeted without a challenge, for an hour. It exits with 0 if all went well, and with 1 if not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, CloseCode,
    CredentialPersistence, HttpCookie, HttpCookieStorage, Message, SessionConfiguration, SessionDelegate, SessionTask,
    TaskDelegate, Url, UrlCredential, UrlError, UrlSession, WebSocketDelegate, WebSocketTask,
};

/// What a person would type.
const USER: &str = "Ali";
const PASSWORD: &str = "open sesame";

/// What the session tells main.
enum Told {
    Greeting(String),
    Failure(String),
    Over,
}

/// Answers the challenge, prints the greeting, and ends.
struct Visitor {
    told: mpsc::Sender<Told>,
    /// How many challenges there were.
    asked: Arc<AtomicUsize>,
}

impl Visitor {
    fn tell(&self, told: Told) {
        // Where main has given up, nobody listens.
        let _ = self.told.send(told);
    }
}

impl SessionDelegate for Visitor {
    fn did_become_invalid_with_error(&self, _session: &UrlSession, _error: Option<&UrlError>) {
        self.tell(Told::Over);
    }
}

impl TaskDelegate for Visitor {
    // func urlSession(_ session: URLSession, task: URLSessionTask, didReceive challenge: URLAuthenticationChallenge,
    //                 completionHandler: @escaping (URLSession.AuthChallengeDisposition, URLCredential?) -> Void)
    fn task_did_receive_challenge(
        &self,
        _session: &UrlSession,
        _task: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let space = challenge.protection_space();
        println!(
            "challenge: {:?} for the realm {:?} of {}:{}, {} failures before",
            space.authentication_method(),
            space.realm().unwrap_or_default(),
            space.host(),
            space.port(),
            challenge.previous_failure_count()
        );
        match space.authentication_method() {
            AuthenticationMethod::HttpBasic | AuthenticationMethod::HttpDigest => {
                if challenge.previous_failure_count() > 0 {
                    // The password is wrong, and there is nobody to ask for another.
                    completion_handler(AuthChallengeDisposition::CancelAuthenticationChallenge, None);
                } else {
                    let credential = UrlCredential::new(USER, PASSWORD, CredentialPersistence::ForSession);
                    completion_handler(AuthChallengeDisposition::UseCredential, Some(credential));
                }
            }
            _ => completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        }
    }

    fn did_complete_with_error(&self, session: &UrlSession, _task: &SessionTask, error: Option<&UrlError>) {
        if let Some(error) = error {
            self.tell(Told::Failure(format!("{} ({:?}): {}", error.raw_code(), error.code(), error.reason())));
        }
        session.finish_tasks_and_invalidate();
    }
}

impl WebSocketDelegate for Visitor {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, _protocol: Option<&str>) {
        println!("the socket is open");
        let (told, receiving) = (self.told.clone(), task.clone());
        task.receive(move |result| {
            if let Ok(Message::String(greeting)) = &result {
                println!("the server says {greeting:?}");
                let _ = told.send(Told::Greeting(greeting.to_string()));
            }
            // Of a failure the delegate hears.
            receiving.cancel_with(CloseCode::NORMAL_CLOSURE, None);
        });
    }
}

/// The cookie by which the server knows who comes.
fn visitor_cookie(storage: &HttpCookieStorage, url: &Url) -> Option<HttpCookie> {
    storage.cookies_for(url).into_iter().find(|cookie| cookie.name() == server::COOKIE)
}

/// Visits the server, and checks that it was as it has to be.
fn run(way: server::Way, file: PathBuf) -> Result<(), String> {
    let url = server::start(way).map_err(|error| format!("cannot start a server: {error}"))?;
    let storage = HttpCookieStorage::open(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let is_known = visitor_cookie(&storage, &url).is_some();
    println!("connecting to {url}, {} a cookie of {}", if is_known { "with" } else { "without" }, file.display());

    let (told, listen) = mpsc::channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.http_cookie_storage = Some(storage.clone());
    configuration.timeout_interval_for_request = Duration::from_secs(20);
    let delegate = Arc::new(Visitor { told, asked: Arc::clone(&asked) });
    let session = UrlSession::with_delegate(configuration, Some(delegate), None);
    session.web_socket_task(url.clone()).resume();

    let mut greeting = None;
    loop {
        match listen.recv_timeout(Duration::from_secs(60)) {
            Ok(Told::Greeting(text)) => greeting = Some(text),
            Ok(Told::Failure(failure)) => return Err(failure),
            Ok(Told::Over) => break,
            Err(_) => return Err("the server did not answer for a minute".to_owned()),
        }
    }
    // What the server has set is on disk before the program ends.
    storage.flush().map_err(|error| format!("{}: {error}", file.display()))?;

    let greeting = greeting.ok_or("the server has closed without a greeting")?;
    let expected = if is_known { format!("Welcome back, {USER}") } else { format!("Hello, {USER}") };
    if !greeting.starts_with(&expected) {
        return Err(format!("{expected:?} was to be expected"));
    }
    if (asked.load(Ordering::Relaxed) == 0) != is_known {
        return Err("a password is needed once, and not again while there is the cookie".to_owned());
    }
    match visitor_cookie(&storage, &url) {
        Some(cookie) if cookie.expires_date().is_some() => Ok(()),
        _ => Err("the cookie of the server was not kept".to_owned()),
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "digest".to_owned());
    let way = match name.as_str() {
        "basic" => server::Way::Basic,
        "digest" => server::Way::Digest,
        _ => {
            eprintln!("login [basic | digest] [FILE OF COOKIES]");
            return ExitCode::FAILURE;
        }
    };
    let file = match arguments.next() {
        Some(path) => path.into(),
        None => std::env::temp_dir().join(format!("urlsession-login-{name}.cookies")),
    };
    match run(way, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The server, by another WebSocket library than this one. It knows one user.
mod server {
    use std::collections::HashMap;
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;
    use std::thread;

    use base64::{Engine, prelude::BASE64_STANDARD};
    use sha2::{Digest, Sha256};
    use tungstenite::handshake::server::{ErrorResponse, Request, Response};
    use tungstenite::http::StatusCode;
    use urlsession::Url;

    pub const COOKIE: &str = "visitor";
    const REALM: &str = "the cave";
    const USER: &str = "Ali";
    const PASSWORD: &str = "open sesame";

    /// What signs the cookies. That of a real server is random, and nobody else has it.
    const KEY: &str = "forty thieves";

    /// How it asks for the password: RFC 7617 or RFC 7616.
    #[derive(Clone, Copy)]
    pub enum Way {
        Basic,
        Digest,
    }

    struct Server {
        way: Way,
        /// The nonces that were given out, and how often each was used.
        nonces: Mutex<HashMap<String, u32>>,
    }

    /// Serves until the program ends.
    pub fn start(way: Way) -> io::Result<Url> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            let server = Server { way, nonces: Mutex::default() };
            // One after the other: there is one visitor. One that leaves early is none of our business.
            listener.incoming().flatten().for_each(|stream| drop(server.serve(stream)));
        });
        Ok(Url::parse(&format!("ws://{address}/")).expect("an address is a host and a port"))
    }

    impl Server {
        fn serve(&self, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
            let mut greeting = String::new();
            #[allow(clippy::result_large_err, reason = "it is what tungstenite wants")]
            let answer = |request: &Request, mut response: Response| {
                if let Some(user) = field(request, "Cookie").and_then(visitor) {
                    greeting = format!("Welcome back, {user}");
                    return Ok(response);
                }
                let authorization = field(request, "Authorization");
                if !authorization.is_some_and(|value| self.is_right(value, &request.uri().to_string())) {
                    return Err(self.challenge());
                }
                greeting = format!("Hello, {USER}");
                let cookie =
                    format!("{COOKIE}={USER}.{}; Max-Age=3600; Path=/; HttpOnly; SameSite=Strict", signature(USER));
                response.headers_mut().insert("Set-Cookie", cookie.parse().expect("letters and digits"));
                Ok(response)
            };
            let mut socket = tungstenite::accept_hdr(stream, answer).map_err(|error| error.to_string())?;
            socket.send(greeting.into())?;
            // Until the visitor has closed.
            loop {
                socket.read()?;
            }
        }

        /// The 401 that asks for the password.
        fn challenge(&self) -> ErrorResponse {
            let challenge = match self.way {
                Way::Basic => format!("Basic realm=\"{REALM}\", charset=\"UTF-8\""),
                Way::Digest => {
                    let mut random = [0; 16];
                    getrandom::fill(&mut random).expect("random bytes");
                    let nonce = hex(&random);
                    let challenge =
                        format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm=SHA-256, qop=\"auth\"");
                    self.nonces.lock().unwrap().insert(nonce, 0);
                    challenge
                }
            };
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let headers = response.headers_mut();
            headers.insert("WWW-Authenticate", challenge.parse().expect("letters and digits"));
            headers.insert("Content-Length", 0.into());
            headers.insert("Connection", "close".parse().expect("a token"));
            response
        }

        /// Whether the value of `Authorization` proves that the user knows the password.
        fn is_right(&self, authorization: &str, uri: &str) -> bool {
            match (self.way, authorization.split_once(' ')) {
                (Way::Basic, Some(("Basic", told))) => told == BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")),
                (Way::Digest, Some(("Digest", told))) => self.is_right_digest(told, uri).unwrap_or(false),
                _ => false,
            }
        }

        /// RFC 7616 §3.4.1, with a nonce of ours and a count that was not there before. `None`: something is missing.
        fn is_right_digest(&self, told: &str, uri: &str) -> Option<bool> {
            // No value has a comma or a quote in it.
            let told: HashMap<&str, &str> = told
                .split(',')
                .filter_map(|part| part.trim().split_once('='))
                .map(|(name, value)| (name, value.trim_matches('"')))
                .collect();
            let (nonce, count, client_nonce) = (*told.get("nonce")?, *told.get("nc")?, *told.get("cnonce")?);
            let key = sha256(&format!("{USER}:{REALM}:{PASSWORD}"));
            let request = sha256(&format!("GET:{uri}"));
            let response = sha256(&format!("{key}:{nonce}:{count}:{client_nonce}:auth:{request}"));
            let is_right = *told.get("username")? == USER
                && *told.get("realm")? == REALM
                && *told.get("uri")? == uri
                && *told.get("qop")? == "auth"
                && *told.get("response")? == response;

            let count = u32::from_str_radix(count, 16).ok()?;
            let mut nonces = self.nonces.lock().unwrap();
            let used = nonces.get_mut(nonce)?;
            let is_new = count > *used;
            if is_right && is_new {
                *used = count;
            }
            Some(is_right && is_new)
        }
    }

    fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
        request.headers().get(name)?.to_str().ok()
    }

    /// Who brings these cookies, if it is us who have said so.
    fn visitor(cookies: &str) -> Option<&str> {
        let mut pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
        let (user, signed) = value.split_once('.')?;
        (signed == signature(user)).then_some(user)
    }

    fn signature(user: &str) -> String {
        sha256(&format!("{user}:{KEY}"))
    }

    fn sha256(text: &str) -> String {
        hex(&Sha256::digest(text))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
