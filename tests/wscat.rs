//! The example `wscat` as a whole: its arguments, what it sends and prints, and its exit codes.
#![cfg(unix)] // Where a program finds the examples that were built is another matter elsewhere.

mod support;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use support::echo::EchoServer;
use support::hooks::eventually;
use support::origin::{Answer, Origin, redirect, unauthorized};
use support::proxy::{HttpProxy, Reply, proxy_unauthorized};
use support::tls::{BOTH, TRUSTED, asking_server, trusted_server};
use support::{PATIENCE, Peer, Server, closed_port, field};

/// The program. `cargo test` builds the examples; where only this file is tested, it is built here if it is older than its code.
static WSCAT: LazyLock<PathBuf> = LazyLock::new(|| {
    let tests = env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    let program = profile.join("examples/wscat");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = newest(&root.join("examples/wscat")).max(newest(&root.join("src")));
    let built = fs::metadata(&program).and_then(|data| data.modified());
    if built.is_ok_and(|built| built >= code) {
        return program;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--example", "wscat"]).current_dir(root);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the example cannot be built");
    program
});

/// When something in a folder was changed last.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let times = entries.map(|path| match path.is_dir() {
        true => newest(&path),
        false => fs::metadata(&path).unwrap().modified().unwrap(),
    });
    times.max().unwrap()
}

/// The program while it runs. It is ended where a test gives up.
struct Running {
    child: Child,
}

impl Running {
    fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(&*WSCAT);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        Self { child: command.spawn().unwrap() }
    }

    fn write(&mut self, text: &str) {
        // A program that has ended reads no more.
        let _ = self.child.stdin.as_mut().unwrap().write_all(text.as_bytes());
    }

    /// Waits until it has ended.
    #[track_caller]
    fn end(mut self) -> Output {
        let (tell, told) = mpsc::channel();
        let (mut output, mut errors) = (self.child.stdout.take().unwrap(), self.child.stderr.take().unwrap());
        let (first, second) = (tell.clone(), tell);
        thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            first.send((true, text)).unwrap();
        });
        thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).unwrap();
            second.send((false, text)).unwrap();
        });
        let mut both = [String::new(), String::new()];
        for _ in 0..2 {
            let (is_output, text) = told.recv_timeout(2 * PATIENCE).expect("wscat ends");
            both[usize::from(!is_output)] = text;
        }
        let code = self.child.wait().unwrap().code().expect("wscat ends by itself");
        let [output, errors] = both;
        Output { code, output, errors }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Output {
    code: i32,
    output: String,
    errors: String,
}

impl Output {
    #[track_caller]
    fn expect(&self, code: i32, output: &str) {
        assert_eq!((self.code, self.output.as_str()), (code, output), "{}", self.errors);
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.errors.contains(word), "{word:?} is missing in {}", self.errors);
        }
    }
}

/// Runs with an input that is over at once behind these lines.
#[track_caller]
fn run(arguments: &[&str], input: &str) -> Output {
    let mut running = Running::new(arguments);
    running.write(input);
    drop(running.child.stdin.take());
    running.end()
}

/// Runs without any input.
#[track_caller]
fn wscat(arguments: &[&str]) -> Output {
    run(arguments, "")
}

/// A file of a test, gone with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = env::temp_dir().join(format!("urlsession-wscat-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn help_and_version_are_told_and_nothing_is_connected() {
    for option in ["-h", "--help"] {
        let told = wscat(&[option]);
        assert_eq!(told.code, 0);
        for option in [
            "--header",
            "--subprotocol",
            "--proxy",
            "--no-proxy",
            "--user",
            "--connect-timeout",
            "--insecure",
            "--ca",
            "--cert",
            "--key",
            "--no-compression",
            "--max-size",
            "--ping",
            "--close",
            "--execute",
            "--wait",
            "--verbose",
            "--help",
            "--version",
            "/ping",
            "/data",
            "/text",
            "/close",
            "/help",
        ] {
            assert!(told.output.contains(option), "{option} is missing");
        }
        assert!(told.output.lines().all(|line| line.len() <= 100), "too wide");
    }
    for option in ["-V", "--version"] {
        wscat(&[option]).expect(0, concat!("wscat ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn what_cannot_be_understood_is_told_with_code_2() {
    let url = "ws://127.0.0.1:9/";
    let table: &[(&[&str], &str)] = &[
        (&[], "missing"),
        (&["--nothing", url], "--nothing"),
        (&[url, url], "unexpected argument"),
        (&["127.0.0.1:9"], "ws:// or wss://"),
        (&["ftp://127.0.0.1/"], "ws:// or wss://"),
        (&["-H", "no colon", url], "NAME: VALUE"),
        (&["-H", ": nameless", url], "NAME: VALUE"),
        (&["-H"], "missing argument"),
        (&["-u", "nobody", url], "NAME:PASSWORD"),
        (&["--proxy", "ftp://127.0.0.1:9", url], "socks5://"),
        (&["--proxy", "127.0.0.1:9", url], "socks5://"),
        (&["--proxy", "socks5://", url], "host"),
        (&["--connect-timeout", "soon", url], "seconds"),
        (&["--connect-timeout", "-1", url], "negative"),
        (&["--ping", "0", url], "no time"),
        (&["-w", "NaN", url], "parse"),
        (&["--max-size", "many", url], "many"),
        (&["--close", "1005", url], "1000 to 1003"),
        (&["--close", "bye", url], "1000 to 1003"),
        (&["--cert", "x.pem", url], "--cert and --key"),
        (&["--key", "x.pem", url], "--cert and --key"),
        (&["--ca", "/there/is/no/such.pem", url], "/there/is/no/such.pem"),
        (&["--cert", "/there/is/no/such.pem", "--key", "x", url], "/there/is/no/such.pem"),
    ];
    for (arguments, word) in table {
        let told = wscat(arguments);
        assert_eq!((told.code, told.output.as_str()), (2, ""), "{arguments:?}: {told:?}");
        assert!(told.errors.contains(word), "{arguments:?}: {told:?}");
        assert!(told.errors.ends_with("`wscat --help` lists what it can do.\n"), "{told:?}");
    }
    let empty = File::new("empty.pem", "nothing");
    let told = wscat(&["--ca", empty.path(), url]);
    assert_eq!(told.code, 2);
    told.says(&["empty.pem", "no certificate"]);
    let reason = format!("1000:{}", "x".repeat(124));
    let told = wscat(&["--close", &reason, url]);
    assert_eq!(told.code, 2);
    told.says(&["123 bytes"]);
}

#[test]
fn a_message_is_sent_and_its_answer_printed() {
    let server = EchoServer::start();
    let url = server.url();
    wscat(&["-x", "Grüße", url.as_str()]).expect(0, "Grüße\n");
    wscat(&["--execute=a b", url.as_str()]).expect(0, "a b\n");
    // A message is a message, whatever it begins with.
    wscat(&["-x", "/data 00", url.as_str()]).expect(0, "/data 00\n");
    assert_eq!(server.accepted(), 3);
}

#[test]
fn answers_come_as_long_as_they_are_waited_for() {
    let (closed, code) = mpsc::channel();
    let server = Server::many(2, move |_, mut peer| {
        peer.open();
        assert_eq!(peer.read_frame().payload, b"begin");
        peer.text("one");
        peer.text("two");
        closed.send(peer.read_close()).unwrap();
    });
    let url = server.url();
    let start = Instant::now();
    wscat(&["-x", "begin", "-w", "0.3", url.as_str()]).expect(0, "one\ntwo\n");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(code.recv_timeout(PATIENCE).unwrap(), (Some(1000), Vec::new()));
    // The first is enough; whether the second is printed is a race.
    let told = wscat(&["-x", "begin", "--close", "3001:so:long", url.as_str()]);
    assert!(told.code == 0 && told.output.starts_with("one\n"), "{told:?}");
    assert_eq!(code.recv_timeout(PATIENCE).unwrap(), (Some(3001), b"so:long".to_vec()));
    server.join();
}

#[test]
fn a_wait_that_is_longer_than_the_clock_can_tell_ends_with_the_server() {
    let url = |server: &Server| server.url().to_string();
    for arguments in [&["-x", "begin"][..], &[]] {
        let server = Server::one(|mut peer| {
            peer.open();
            assert_eq!(peer.read_frame().payload, b"begin");
            peer.text("one");
            peer.close(1000, "");
            peer.read_to_end();
        });
        let url = url(&server);
        let told = run(&[arguments, &["-w", "1e19", &url]].concat(), "begin\n");
        told.expect(0, "one\n");
        server.join();
    }
}

#[test]
fn lines_of_input_are_sent_and_commands_obeyed() {
    let (seen, frames) = mpsc::channel();
    let server = Server::one(move |mut peer| {
        peer.open();
        loop {
            let frame = peer.read_frame();
            seen.send((frame.opcode(), frame.payload.clone())).unwrap();
            match frame.opcode() {
                8 => return peer.write(&support::frame(0x88, &frame.payload)),
                9 => peer.write(&support::frame(0x8a, &frame.payload)),
                _ => peer.write(&support::frame(frame.first, &frame.payload)),
            }
        }
    });
    let input = "first\n/data 00 ff7F\n/data 0\n/data xy\n/text /slash \n//double\n/text \n\n/ping\n/nothing\n/close 1\n\
                 /help\n/close 4002 good bye\nnot sent\n";
    let told = run(&["--no-compression", server.url().as_str()], input);
    assert_eq!(told.code, 0, "{told:?}");
    told.says(&[
        "these are no bytes in hex",
        "no command: /nothing",
        "a code is 1000",
        "/data HEX",
        "closed: 4002 good bye",
    ]);
    server.join();
    let frames: Vec<_> = frames.iter().collect();
    let expected: [(u8, &[u8]); 8] = [
        (1, b"first"),
        (2, b"\x00\xff\x7f"),
        (1, b"/slash "),
        (1, b"/double"),
        (1, b""),
        (1, b""),
        (9, b""),
        (8, b"\x0f\xa2good bye"),
    ];
    assert_eq!(frames, expected.map(|(opcode, payload)| (opcode, payload.to_vec())));
}

#[test]
fn the_end_of_input_closes_when_all_is_sent_and_answered() {
    let server = EchoServer::start();
    let lines: String = (0..2000).map(|number| format!("line {number}\n")).collect();
    let told = run(&["-w", "1", server.url().as_str()], &lines);
    told.expect(0, &lines);
    told.says(&["closed: 1000"]);
    // Data, and a line without an end.
    run(&["-w", "0.5", server.url().as_str()], "/data 0102ff\nlast").expect(0, "(data) 0102ff\nlast\n");
}

#[test]
fn what_the_server_says_to_a_close_is_shown() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.read_close();
        peer.close(4007, "\u{1b}mine");
    });
    let told = run(&[server.url().as_str()], "hello\n/close 4002 yours\n");
    assert_eq!(told.code, 0, "{told:?}");
    told.says(&["closed: 4002 yours; the server: 4007 \u{241b}mine"]);
    server.join();
}

#[test]
fn input_that_is_no_text_is_a_failure() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.echo();
    });
    let mut wscat = Running::new(&[server.url().as_str()]);
    wscat.child.stdin.as_mut().unwrap().write_all(b"one\n\xff two\nthree\n").unwrap();
    let told = wscat.end();
    assert_eq!(told.code, 1, "{told:?}");
    told.says(&["standard input: ", "UTF-8"]);
    server.join();
}

#[test]
fn nothing_is_closed_before_it_is_open() {
    let server = Server::one(|mut peer| {
        let request = peer.read_request();
        // Longer than the program waits behind the end of its input.
        thread::park_timeout(Duration::from_millis(400));
        peer.write(&Peer::switching_protocols(&request, ""));
        peer.text("late");
        peer.read_close();
    });
    wscat(&["-w", "0.2", server.url().as_str()]).expect(0, "late\n");
    server.join();
}

#[test]
fn pings_are_told_of_and_sent_to_keep_alive() {
    let server = EchoServer::start();
    let told = run(&["-w", "0.3", server.url().as_str()], "/ping\n");
    told.expect(0, "");
    told.says(&["pong after ", " ms"]);

    let server = Server::one(|mut peer| {
        peer.open();
        for _ in 0..3 {
            let frame = peer.read_frame();
            assert_eq!(frame.opcode(), 9);
            peer.write(&support::frame(0x8a, &frame.payload));
        }
        peer.close(1000, "enough");
        peer.read_close();
    });
    let mut running = Running::new(&["--ping", "0.05", server.url().as_str()]);
    running.write("");
    server.join();
    running.end().says(&["closed by the server: 1000 enough"]);
}

#[test]
fn the_request_is_as_the_arguments_say() {
    let (seen, heads) = mpsc::channel();
    let server = Server::many(2, move |_, mut peer| {
        let head = peer.read_request();
        let protocol = field(&head, "Sec-WebSocket-Protocol").map(|_| "Sec-WebSocket-Protocol: v2\r\n");
        peer.write(&Peer::switching_protocols(&head, protocol.unwrap_or_default()));
        seen.send(head).unwrap();
        peer.echo();
    });
    let url = server.url_with("/chat?room=1");
    let arguments = [
        "-v",
        "-H",
        "X-One: 1",
        "--header",
        "X-Two:two: 2",
        "-H",
        "Origin: https://example.com",
        "-s",
        "v1",
        "--subprotocol",
        "v2",
        "--no-compression",
        "-x",
        "hello",
        url.as_str(),
    ];
    let told = wscat(&arguments);
    told.expect(0, "hello\n");
    told.says(&[
        "open, subprotocol v2",
        "< HTTP/1.1 101",
        "> X-One: 1",
        "answer ",
        "closed: 1000",
        "5 bytes sent, 5 received",
    ]);
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "X-One"), Some("1"));
    assert_eq!(field(&head, "X-Two"), Some("two: 2"));
    assert_eq!(field(&head, "Origin"), Some("https://example.com"));
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("v1, v2"));
    assert_eq!(field(&head, "Sec-WebSocket-Extensions"), None);
    // Without any option there is compression, and little to read.
    let told = wscat(&["-x", "hello", url.as_str()]);
    told.expect(0, "hello\n");
    assert_eq!(told.errors, "");
    let head = heads.recv_timeout(PATIENCE).unwrap();
    assert!(field(&head, "Sec-WebSocket-Extensions").unwrap().starts_with("permessage-deflate"), "{head}");
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), None);
    server.join();
}

#[test]
fn the_code_of_the_server_decides() {
    let table: [(&[u8], i32, &str); 7] = [
        (&support::close_frame(1000, "done"), 0, "closed by the server: 1000 done"),
        (&support::close_frame(1001, ""), 0, "closed by the server: 1001\n"),
        (&support::frame(0x88, b""), 0, "closed by the server: 1005\n"),
        (&support::close_frame(1011, "broken"), 1, "wscat: closed by the server: 1011 broken"),
        (&support::close_frame(4000, "\u{1b}[2Jgone\nclosed: 1000"), 1, "4000 \u{241b}[2Jgone\u{240a}closed: 1000\n"),
        (b"", 1, "NSURLErrorDomain -1005 (NetworkConnectionLost) on the open socket"),
        (b"\xf1\x01x", 1, "NSPOSIXErrorDomain 100 (ProtocolError) on the open socket"),
    ];
    for (bytes, code, words) in table {
        let bytes = bytes.to_vec();
        let server = Server::one(move |mut peer| {
            peer.open();
            peer.text("last words");
            peer.write(&bytes);
            if !bytes.is_empty() {
                peer.read_to_end();
            }
        });
        // Its input stays open: the server ends it.
        let told = Running::new(&[server.url().as_str()]).end();
        told.expect(code, "last words\n");
        told.says(&[words]);
        server.join();
    }
}

#[test]
fn failures_name_the_code_the_stage_and_the_reason() {
    let refused = format!("ws://127.0.0.1:{}/", closed_port());
    let told = wscat(&["-x", "a", &refused]);
    told.expect(1, "");
    told.says(&["wscat: NSURLErrorDomain -1004 (CannotConnectToHost) at the connection: "]);

    let server = Origin::new(|_| Answer::Close("HTTP/1.1 503 No\r\nX-Why: \r\nContent-Length: 0\r\n\r\n".to_owned()));
    let told = wscat(&["-v", server.url("/").as_str()]);
    told.expect(1, "");
    told.says(&["-1011 (BadServerResponse) at the upgrade", "503", "< HTTP/1.1 503", "< X-Why: "]);

    let server = Server::one(|mut peer| {
        peer.read_request();
        peer.read_to_end();
    });
    let told = wscat(&["--connect-timeout", "0.2", server.url().as_str()]);
    told.expect(1, "");
    told.says(&["-1001 (TimedOut)"]);
    server.join();

    let told = wscat(&["-H", "a b: c", &refused]);
    told.expect(1, "");
    told.says(&["-1000 (BadUrl) in the request"]);
}

#[test]
fn a_message_must_be_smaller_than_the_limit() {
    let server = EchoServer::start();
    let told = wscat(&["--max-size", "10", "-x", "0123456789", server.url().as_str()]);
    told.expect(1, "");
    told.says(&["NSPOSIXErrorDomain 40 (MessageTooLong)"]);
    wscat(&["--max-size", "11", "-x", "0123456789", server.url().as_str()]).expect(0, "0123456789\n");
}

#[test]
fn a_server_does_not_drive_the_terminal() {
    let server = Server::one(|mut peer| {
        peer.open();
        peer.text("\u{1b}]0;title\u{7}\u{9b}2J\r\u{7f}\ta\nb \u{202e}ebolg \u{2066}ä\u{0}");
        peer.binary(b"\x1b[2J");
        peer.close(1000, "");
        peer.read_to_end();
    });
    let told = Running::new(&[server.url().as_str()]).end();
    let expected = "\u{241b}]0;title\u{2407}\u{fffd}2J\u{240d}\u{2421}\ta\nb \u{fffd}ebolg \u{fffd}ä\u{2400}\n";
    told.expect(0, &format!("{expected}(data) 1b5b324a\n"));
    server.join();
}

#[test]
fn what_is_not_seen_is_shown_as_something() {
    let unseen = "\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\
                  \u{2060}\u{2064}\u{206f}\u{3164}\u{feff}\u{ffa0}\u{fff9}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e0100}";
    let server = Server::one(move |mut peer| {
        peer.open();
        peer.text(&format!("a{unseen}b ❤\u{fe0f} e\u{301} \u{5d0}"));
        peer.close(4000, unseen);
        peer.read_to_end();
    });
    let told = Running::new(&[server.url().as_str()]).end();
    let shown = "\u{fffd}".repeat(unseen.chars().count());
    told.expect(1, &format!("a{shown}b ❤\u{fe0f} e\u{301} \u{5d0}\n"));
    told.says(&[&format!("closed by the server: 4000 {shown}\n")]);
    server.join();
}

#[test]
fn passwords_answer_challenges_and_redirects_are_followed() {
    let server = Origin::new(|request| match (request.target(), request.field("Authorization")) {
        ("/old", _) => Answer::Keep(redirect(302, "/new")),
        (_, Some("Basic bWU6c2VjcmV0OnRvbw==")) => Answer::Open(String::new()),
        _ => Answer::Keep(unauthorized(&["Basic realm=\"here\""])),
    });
    let url = server.url("/old");
    let told = wscat(&["-v", "-u", "me:secret:too", "-x", "hi", url.as_str()]);
    told.expect(0, "hi\n");
    told.says(&["< HTTP/1.1 302", "* led on to ws://", "asks: HttpBasic, realm \"here\""]);
    assert!(!told.errors.contains("secret") && !told.errors.contains("bWU6"), "{}", told.errors);
    // What was wrong is not tried again.
    let before = server.seen().len();
    let told = wscat(&["--user", "me:wrong", server.url("/new").as_str()]);
    told.expect(1, "");
    told.says(&["-1011", "401"]);
    assert_eq!(server.seen().len() - before, 2);
}

#[test]
fn a_password_is_for_the_server_that_was_named_and_no_other() {
    let asks = |_: &support::origin::Request| Answer::Keep(unauthorized(&["Basic realm=\"elsewhere\""]));
    let other = Origin::new(asks);
    let leads = other.url("/").to_string();
    let server = Origin::new(move |_| Answer::Keep(redirect(302, &leads)));
    let told = wscat(&["-u", "me:secret", "-x", "hi", server.url("/").as_str()]);
    told.expect(1, "");
    told.says(&["-1011", "401"]);
    let seen: Vec<_> = other.seen().iter().map(|request| request.field("Authorization").map(str::to_owned)).collect();
    assert_eq!(seen, [None]);
}

#[test]
fn secrets_are_not_shown() {
    let server = Server::many(2, |_, mut peer| {
        peer.open();
        peer.echo();
    });
    let url = server.url();
    let with_user = format!("ws://me:s3cret@{}/", url.authority());
    for arguments in [
        vec!["-v", "-x", "hi", &with_user],
        vec![
            "-v",
            "-H",
            "Authorization: Bearer s3cret",
            "-H",
            "cookie: id=s3cret",
            "-H",
            "Proxy-Authorization: s3cret",
            "-x",
            "hi",
            url.as_str(),
        ],
    ] {
        let told = wscat(&arguments);
        told.expect(0, "hi\n");
        assert!(!told.errors.contains("s3cret"), "{}", told.errors);
    }
    server.join();
    for arguments in [
        ["-u", "s3cret"],
        ["-H", "s3cret"],
        ["--proxy", "http://me:s3cret@host:port"],
        ["--proxy", "ftp://me:s3cret@host"],
        ["-x", "hi"],
    ] {
        let told = wscat(&[arguments[0], arguments[1], "wss://me:s3cret@host:port/"]);
        told.expect(2, "");
        assert!(!told.errors.contains("s3cret"), "{arguments:?}: {}", told.errors);
    }
}

#[test]
fn the_way_leads_through_the_proxy_that_was_named() {
    let server = EchoServer::start();
    let proxy = HttpProxy::new(|request| match request.field("Proxy-Authorization") {
        Some("Basic QGxpOnBhOnNz") => Reply::Tunnel,
        _ => Reply::Keep(proxy_unauthorized(&["Basic realm=\"wall\""], "")),
    });
    // `@` and `:` are written as URLs have them.
    let named = format!("http://%40li:pa%3Ass@127.0.0.1:{}", proxy.port());
    let told = wscat(&["-v", "--proxy", &named, "-x", "through", server.url().as_str()]);
    told.expect(0, "through\n");
    told.says(&["through a proxy"]);
    assert_eq!(proxy.lines().last().unwrap(), &format!("CONNECT {} HTTP/1.1", server.url().authority()));

    // The password of the server is not for the proxy.
    let before = proxy.seen().len();
    let other = format!("http://127.0.0.1:{}", proxy.port());
    let told = wscat(&["--proxy", &other, "-u", "@li:pa:ss", server.url().as_str()]);
    told.expect(1, "");
    told.says(&["at the proxy", "407"]);
    assert!(proxy.authorizations()[before..].iter().all(Option::is_none));

    // What the environment names is used, and not with `--no-proxy`.
    let in_environment = |arguments: &[&str]| {
        let mut command = Command::new(&*WSCAT);
        command
            .args(arguments)
            .args(["-x", "a", server.url().as_str()])
            .env("http_proxy", &named)
            .env_remove("no_proxy");
        command.env_remove("NO_PROXY").stdin(Stdio::null()).output().unwrap().status.code()
    };
    let before = proxy.seen().len();
    assert_eq!(in_environment(&["--no-proxy"]), Some(0));
    assert_eq!(proxy.seen().len(), before);
    assert_eq!(in_environment(&[]), Some(0));
    assert!(proxy.seen().len() > before);

    let socks = support::socks::SocksProxy::open();
    let named = format!("socks5://127.0.0.1:{}", socks.address().port());
    wscat(&["--proxy", &named, "-x", "through", server.url().as_str()]).expect(0, "through\n");
    assert_eq!(socks.connections(), 1);
}

#[test]
fn a_certificate_is_checked_unless_it_shall_not_be() {
    let server = Origin::secure(trusted_server(BOTH), |_| Answer::Open(String::new()));
    let url = format!("wss://localhost:{}/", server.port());
    let told = wscat(&["-x", "a", &url]);
    told.expect(1, "");
    told.says(&["-1203 (ServerCertificateHasUnknownRoot) at the TLS handshake"]);
    assert!(server.seen().is_empty());

    let told = wscat(&["-k", "-x", "a", &url]);
    told.expect(0, "a\n");
    // Not in red where nobody sees colours.
    assert!(told.errors.starts_with("no certificate is checked"), "{}", told.errors);

    let ca = File::new("ca.pem", &TRUSTED.pem);
    let told = wscat(&["-v", "--ca", ca.path(), "-x", "a", &url]);
    told.expect(0, "a\n");
    told.says(&["TLS ", "asks: ServerTrust"]);
}

#[test]
fn a_certificate_of_the_client_is_shown_to_a_server_that_asks() {
    let server = Origin::secure(asking_server(BOTH), |_| Answer::Open(String::new()));
    let client = TRUSTED.client("me");
    let (ca, cert) = (File::new("mtls-ca.pem", &TRUSTED.pem), File::new("cert.pem", &client.chain));
    let key = File::new("key.pem", &client.key);
    let url = format!("wss://localhost:{}/", server.port());
    let told = wscat(&["--ca", ca.path(), "-x", "me", &url]);
    told.expect(1, "");
    told.says(&["-1206 (ClientCertificateRequired)"]);
    wscat(&["--ca", ca.path(), "--cert", cert.path(), "--key", key.path(), "-x", "me", &url]).expect(0, "me\n");
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let server = EchoServer::start();
    let mut running = Running::new(&["-w", "0.3", server.url().as_str()]);
    drop(running.child.stdout.take());
    running.write("one\ntwo\n");
    drop(running.child.stdin.take());
    eventually("wscat ends", || running.child.try_wait().unwrap().is_some());
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}
