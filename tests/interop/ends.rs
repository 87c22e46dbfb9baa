//! Ends of TLS that others wrote: nginx, HAProxy and `openssl s_server`, with each version, certificates of clients, sessions that
//! are resumed, and servers that the delegate has to judge.

use std::fs;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use urlsession::{
    AuthChallengeDisposition, AuthenticationMethod, ClientIdentity, CloseCode, ErrorStage, ProxyConfiguration,
    SessionConfiguration, TaskState, Url, UrlCredential, UrlError, UrlSession,
};

use crate::houses::Houses;
use crate::support::guide::{Guide, run};
use crate::support::hooks::eventually;
use crate::support::proxy::proxied;
use crate::support::{Events, Frame, PATIENCE, accept_for, field, frame};

use AuthChallengeDisposition::{PerformDefaultHandling, UseCredential};

/// The questions as they are noted.
const CERTIFICATE: &str = "session challenge certificate - 0 -";
const TRUST: &str = "session challenge trust - 0 -";

/// Ports, with the versions that they speak; nobody there insists on a certificate.
const OPTIONAL: [(&str, &str); 3] = [("nginx_12", "TLSv1.2"), ("nginx_13", "TLSv1.3"), ("haproxy", "TLSv1.3")];

fn url(houses: &Houses, name: &str) -> Url {
    Url::parse(&format!("wss://localhost:{}/", houses.port(name))).unwrap()
}

/// `client` or `stranger`.
fn identity(houses: &Houses, name: &str) -> UrlCredential {
    let file = |kind: &str| fs::read(houses.folder.join(format!("{name}.{kind}"))).expect("a file");
    UrlCredential::with_identity(ClientIdentity::from_pem(&file("pem"), &file("key")).expect("an identity"))
}

/// A session that is this client, or nobody.
fn session_of(houses: &Houses, name: Option<&str>) -> (UrlSession, Events) {
    let credential = name.map(|name| identity(houses, name));
    let (guide, events) = Guide::new();
    let guide = guide.challenge(move |challenge, handler| {
        assert_eq!(challenge.protection_space().authentication_method(), AuthenticationMethod::ClientCertificate);
        assert_eq!(challenge.protection_space().host(), "localhost");
        match &credential {
            Some(credential) => handler(UseCredential, Some(credential.clone())),
            None => handler(PerformDefaultHandling, None),
        }
    });
    (guide.session(houses.configuration()), events)
}

/// Opens a socket and closes it: what nginx and HAProxy say of it.
struct Seen {
    protocol: String,
    is_resumed: bool,
    client: String,
}

#[track_caller]
fn visit(session: &UrlSession, url: &Url) -> Seen {
    let task = session.web_socket_task(url);
    run(&task).unwrap_or_else(|error| panic!("{url}: {error}"));
    let response = task.response().expect("an answer");
    let said = |name: &str| response.value(name).unwrap_or_default();
    task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    eventually("the end of the task", || task.state() == TaskState::Completed);
    Seen {
        protocol: said("X-Protocol"),
        is_resumed: ["r", "1"].contains(&&*said("X-Reused")),
        client: said("X-Client").trim_start_matches("CN=").to_owned(),
    }
}

fn questions(events: &Events) -> Vec<String> {
    events.log().into_iter().filter(|event| event.contains("challenge")).collect()
}

/// Without a delegate nobody is asked, and a server that would take a certificate gets none.
#[test]
fn versions_and_resumption() {
    let Some(houses) = Houses::find() else { return };
    for (name, version) in OPTIONAL {
        let session = UrlSession::new(houses.configuration());
        for is_resumed in [false, true, true] {
            let seen = visit(&session, &url(&houses, name));
            assert_eq!((&*seen.protocol, seen.is_resumed, &*seen.client), (version, is_resumed, ""), "{name}");
        }
    }
}

/// The delegate judges each connection, whether it is resumed or not. Who has no certificate for a server that would take one is asked
/// again, which a session that is resumed would not do.
#[test]
fn resumption_before_a_delegate() {
    let Some(houses) = Houses::find() else { return };
    let (guide, events) = Guide::new();
    let session = guide.trust(|_, handler| handler(PerformDefaultHandling, None)).session(houses.configuration());
    for is_resumed in [false, true, true] {
        let seen = visit(&session, &houses.echo("localhost", "nginx_tls"));
        assert_eq!(seen.is_resumed, is_resumed);
    }
    assert_eq!(questions(&events), [TRUST; 3]);
    for (name, _) in OPTIONAL {
        let (session, events) = session_of(&houses, None);
        for _ in 0..3 {
            let seen = visit(&session, &url(&houses, name));
            assert_eq!((seen.is_resumed, &*seen.client), (false, ""), "{name}");
        }
        assert_eq!(questions(&events), [CERTIFICATE; 3], "{name}");
    }
}

#[test]
fn certificates_of_clients() {
    let Some(houses) = Houses::find() else { return };
    for name in ["nginx_12", "nginx_13", "nginx_required", "haproxy", "haproxy_12", "haproxy_13"] {
        let (session, events) = session_of(&houses, Some("client"));
        let seen = visit(&session, &url(&houses, name));
        assert_eq!((seen.is_resumed, &*seen.client), (false, "the client"), "{name}");
        assert_eq!(questions(&events), [CERTIFICATE], "{name}");
        // Each connection asks, and the delegate may be somebody else on the next one.
        let seen = visit(&session, &url(&houses, name));
        assert_eq!(seen.client, "the client", "{name}");
        assert_eq!(questions(&events), [CERTIFICATE; 2], "{name}");
    }
}

/// The error of a task, and the status of the answer where there was one.
#[track_caller]
fn failure(session: &UrlSession, url: &Url) -> (UrlError, Option<u16>) {
    let task = session.web_socket_task(url);
    let error = run(&task).expect_err("the task fails");
    (error, task.response().map(|response| response.status_code()))
}

#[test]
fn certificates_that_are_not_taken() {
    let Some(houses) = Houses::find() else { return };
    // nginx answers in HTTP, HAProxy by an alert.
    let table = [
        (None, "nginx_required", -1011, Some(400)),
        (None, "haproxy_12", -1206, None),
        (None, "haproxy_13", -1206, None),
        (Some("stranger"), "nginx_12", -1011, Some(400)),
        (Some("stranger"), "nginx_13", -1011, Some(400)),
        (Some("stranger"), "nginx_required", -1011, Some(400)),
        (Some("stranger"), "haproxy", -1205, None),
        (Some("stranger"), "haproxy_12", -1205, None),
        (Some("stranger"), "haproxy_13", -1205, None),
    ];
    for (client, name, code, status) in table {
        let (session, events) = session_of(&houses, client);
        let (error, answered) = failure(&session, &url(&houses, name));
        assert_eq!((error.raw_code(), answered), (code, status), "{client:?} at {name}: {error}");
        assert_eq!(questions(&events), [CERTIFICATE], "{client:?} at {name}");
        if status.is_none() {
            assert_eq!(error.stage(), ErrorStage::Tls, "{client:?} at {name}: {error}");
        }
    }
}

// Trust.

/// A session that knows no authority of these servers. The delegate takes every certificate, if it is to.
fn trusting(mut configuration: SessionConfiguration, accepts: bool) -> (UrlSession, Events) {
    configuration.root_certificates = SessionConfiguration::ephemeral().root_certificates;
    let (guide, events) = Guide::new();
    let guide = guide.trust(move |challenge, handler| {
        let space = challenge.protection_space();
        let trust = space.server_trust().expect("certificates");
        // Squid sends it twice.
        assert!(trust.certificate_chain().iter().all(|certificate| *certificate == trust.certificate_chain()[0]));
        assert_eq!(trust.host(), space.host());
        assert!(trust.evaluate().is_err());
        match accepts {
            true => handler(UseCredential, Some(UrlCredential::for_trust(trust))),
            false => handler(PerformDefaultHandling, None),
        }
    });
    (guide.session(configuration), events)
}

#[test]
fn servers_that_the_delegate_trusts() {
    let Some(houses) = Houses::find() else { return };
    for (name, _) in OPTIONAL {
        let url = url(&houses, name);
        let (session, events) = trusting(houses.configuration(), true);
        visit(&session, &url);
        assert_eq!(questions(&events), [TRUST, CERTIFICATE], "{name}");
        let (session, _events) = trusting(houses.configuration(), false);
        let (error, status) = failure(&session, &url);
        assert_eq!((error.raw_code(), error.stage(), status), (-1203, ErrorStage::Tls, None), "{name}: {error}");
    }
}

/// The proxy's certificate first, then, within its TLS, the server's.
#[test]
fn proxies_that_the_delegate_trusts() {
    let Some(houses) = Houses::find() else { return };
    let proxy = ProxyConfiguration::https_connect("localhost", houses.port("squid_tls"));
    let configuration = proxied(houses.configuration(), vec![proxy]);
    let (session, events) = trusting(configuration.clone(), true);
    visit(&session, &houses.echo("judged.behind.test", "nginx_tls"));
    assert_eq!(questions(&events), [TRUST, TRUST]);
    let (session, events) = trusting(configuration, false);
    let (error, status) = failure(&session, &houses.echo("misjudged.behind.test", "nginx_tls"));
    assert_eq!((error.raw_code(), status), (-1203, None), "{error}");
    assert_eq!(questions(&events), [TRUST]);
}

// OpenSSL.

/// `openssl s_server`: what it prints, which is also what the client has sent, and where it is told what to say.
struct OpenSsl {
    process: Child,
    input: Option<ChildStdin>,
    printed: Receiver<Vec<u8>>,
    all: Vec<u8>,
}

impl OpenSsl {
    /// Serves one connection, with a certificate of the client that it insists on.
    fn new(houses: &Houses, options: &[&str]) -> Self {
        let mut process = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-naccept",
                "1",
                "-cert",
                "certificate.pem",
                "-key",
                "key.pem",
            ])
            .args(["-CAfile", "clients.pem", "-Verify", "2", "-verify_return_error"])
            .args(options)
            .current_dir(&houses.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let mut output = process.stdout.take().unwrap();
        let (sender, printed) = mpsc::channel();
        // It ends with the process.
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = std::io::Read::read(&mut output, &mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = process.stdin.take();
        Self { process, input, printed, all: Vec::new() }
    }

    /// What was printed between two texts, when both are there; where the second one ends.
    #[track_caller]
    fn between(&mut self, begin: &str, end: &str) -> (String, usize) {
        let find = |all: &[u8], text: &str| all.windows(text.len()).position(|window| window == text.as_bytes());
        loop {
            if let Some(begins) = find(&self.all, begin)
                && let Some(length) = find(&self.all[begins + begin.len()..], end)
            {
                let inside = begins + begin.len();
                return (
                    String::from_utf8_lossy(&self.all[inside..inside + length]).into_owned(),
                    inside + length + end.len(),
                );
            }
            self.more(begin);
        }
    }

    #[track_caller]
    fn more(&mut self, awaited: &str) {
        match self.printed.recv_timeout(PATIENCE) {
            Ok(more) => self.all.extend_from_slice(&more),
            Err(error) => panic!("no {awaited:?}: {error}: {}", String::from_utf8_lossy(&self.all)),
        }
    }

    #[track_caller]
    fn url(&mut self) -> Url {
        let (port, _) = self.between("ACCEPT 127.0.0.1:", "\n");
        Url::parse(&format!("wss://localhost:{port}/from-here")).unwrap()
    }

    fn say(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("it still listens");
        input.write_all(bytes).and_then(|()| input.flush()).expect("it listens");
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Each version, with records as they come, and as short as OpenSSL makes them: the certificate is in several, and so is what
/// asks for the client's.
const WAYS: [&[&str]; 4] = [
    &["-tls1_2"],
    &["-tls1_3"],
    &["-tls1_2", "-max_send_frag", "512", "-split_send_frag", "512"],
    &["-tls1_3", "-max_send_frag", "512", "-split_send_frag", "512", "-num_tickets", "8"],
];

#[test]
fn a_certificate_for_openssl() {
    let Some(houses) = Houses::find() else { return };
    for options in WAYS {
        let mut server = OpenSsl::new(&houses, options);
        let (session, events) = session_of(&houses, Some("client"));
        let task = session.web_socket_task(server.url());
        task.resume();
        let (rest, end) = server.between("GET /from-here HTTP/1.1", "\r\n\r\n");
        let head = format!("GET /from-here HTTP/1.1{rest}\r\n\r\n");
        assert_eq!(questions(&events), [CERTIFICATE], "{options:?}");
        let shown = String::from_utf8_lossy(&server.all).replace(" = ", "=");
        assert!(shown.contains("subject=CN=the client"), "{options:?}: {shown}");
        // More than fits into one record of 512 bytes.
        let text = "from OpenSSL ".repeat(300);
        let accept = accept_for(field(&head, "Sec-WebSocket-Key").expect("a key"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        server.say(answer.as_bytes());
        events.wait_for("open");
        server.say(&frame(0x81, text.as_bytes()));
        let (sender, receiver) = mpsc::channel();
        task.receive(move |message| sender.send(message).unwrap());
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().unwrap(), text.as_str().into(), "{options:?}");
        task.send("to OpenSSL", |_| ());
        let sent = loop {
            match Frame::read(&mut &server.all[end..]) {
                Ok(frame) => break frame,
                Err(_) => server.more("a frame"),
            }
        };
        assert_eq!((sent.opcode(), &*sent.payload), (1, &b"to OpenSSL"[..]), "{options:?}");
        task.cancel();
    }
}

#[test]
fn no_certificate_for_openssl() {
    let Some(houses) = Houses::find() else { return };
    for options in WAYS {
        for (client, code) in [(None, -1206), (Some("stranger"), -1205)] {
            let mut server = OpenSsl::new(&houses, options);
            let (session, events) = session_of(&houses, client);
            let (error, status) = failure(&session, &server.url());
            let expected = (code, ErrorStage::Tls, None);
            assert_eq!((error.raw_code(), error.stage(), status), expected, "{client:?}, {options:?}: {error}");
            assert_eq!(questions(&events), [CERTIFICATE], "{client:?}, {options:?}");
            eventually("the end of openssl", || server.process.try_wait().unwrap().is_some());
        }
    }
}
