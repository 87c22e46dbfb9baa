//! The server of a run: it follows its plan, keeps a record of what it sent and saw, and checks every byte of the client.

use std::collections::VecDeque;
use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConnection;
use sha1::{Digest, Sha1};
use url::Url;

use crate::course::{Course, State, Wanted, cookie};
use crate::deflate::{Codec, Deflate, Wire};
use crate::network::End;
use crate::plan::{Answer, Body, Finale, HangsUp, Manners, Op, Plan, Pongs, Press, Wrong};
use crate::rng::Rng;
use crate::tls;
use crate::way::{Stop, Turn};
use crate::wire::{Reader, Seen, close_payload, frame};

/// A message: whether it is text, and its payload.
pub type Plain = (bool, Vec<u8>);

/// Something that ends the task of a client that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    Close(Option<u16>, Vec<u8>),
    /// The handshake is refused: the status, and the body as far as it is sent.
    Refusal(u16, Vec<u8>),
    /// The client fails with this number.
    Code(i32),
    /// The client fails with 100 and sends a Close with this code.
    Violation(u16),
    /// TLS ends where a frame may begin, or the handshake has not ended.
    Notify,
}

pub struct Peer {
    tls: Option<Box<ServerConnection>>,
    reader: Reader,
    answer: Answer,
    script: VecDeque<Op>,
    finale: Option<Finale>,
    manners: Manners,
    /// Where it is.
    at: Url,
    pub course: Course,
    clean: bool,
    /// How many requests came.
    pub requests: usize,
    /// The rest of this one is to come, and has its answer.
    early: Option<Wanted>,
    deflate: Deflate,
    codec: Option<Codec>,
    rng: Rng,
    read: usize,
    /// Bytes for the network.
    pub out: Vec<u8>,
    /// What stands behind them.
    pub ends: Option<End>,
    pub sent: Vec<Plain>,
    /// How many bytes each of them was on the wire.
    pub sent_bytes: Vec<usize>,
    pub seen: Vec<Plain>,
    /// How each of them came.
    pub wires: Vec<Wire>,
    pub pings_sent: Vec<Vec<u8>>,
    pub pongs_seen: Vec<Vec<u8>>,
    /// Pongs that nobody asked for were sent.
    pub pongs_unasked: bool,
    pub pings_seen: usize,
    /// The number of the last of them that was answered.
    pub pings_answered: usize,
    pub close_seen: Option<Vec<u8>>,
    pub close_sent: bool,
    /// Its Close is an answer to the client's.
    pub answered_close: bool,
    pub fatal: Option<Fatal>,
    /// It answered with a good 101.
    pub is_open: bool,
    /// The position in `out`'s stream behind the head of a refusal, of a connection without TLS.
    pub refusal_at: Option<usize>,
    written: usize,
    /// It said all that it has to say.
    pub gave_up: bool,
    /// The client has left for another connection: what still comes changes nothing.
    pub is_left: bool,
    /// It said something behind an answer.
    pub surplus: bool,
}

impl Peer {
    pub fn new(plan: &Plan, course: Course, rng: &mut Rng) -> Self {
        Self {
            tls: plan.tls.map(|tls| Box::new(tls::server(tls))),
            reader: Reader::new(plan.deflate.other()),
            answer: plan.answer.clone(),
            script: plan.script.clone().into(),
            finale: Some(plan.finale.clone()),
            manners: plan.manners.clone(),
            at: course.current.url.clone(),
            course,
            clean: plan.clean,
            requests: 0,
            early: None,
            codec: plan.deflate.agreed().map(Codec::new),
            deflate: plan.deflate.clone(),
            rng: rng.fork(),
            read: 0,
            out: Vec::new(),
            ends: None,
            sent: Vec::new(),
            sent_bytes: Vec::new(),
            seen: Vec::new(),
            wires: Vec::new(),
            pings_sent: Vec::new(),
            pongs_seen: Vec::new(),
            pongs_unasked: false,
            pings_seen: 0,
            pings_answered: 0,
            close_seen: None,
            close_sent: false,
            answered_close: false,
            fatal: plan.tls.and_then(|tls| tls::fault(tls.certificate)).map(Fatal::Code),
            is_open: false,
            refusal_at: None,
            written: 0,
            gave_up: false,
            is_left: false,
            surplus: false,
        }
    }

    /// Whether it reads.
    pub fn listens(&self) -> bool {
        self.manners.deaf_after.is_none_or(|after| self.read < after)
    }

    /// It answered before it had the request.
    pub fn is_early(&self) -> bool {
        self.early.is_some()
    }

    /// Whether it wants to do the next thing of its own accord.
    pub fn has_plans(&self) -> bool {
        self.is_open && !self.gave_up && self.finale.is_some()
    }

    /// How many bytes of a frame it waits for the rest of.
    pub fn unread(&self) -> usize {
        self.reader.rest()
    }

    /// Bytes of the client.
    pub fn receive(&mut self, mut bytes: &[u8]) {
        self.read += bytes.len();
        let Some(tls) = &mut self.tls else {
            self.reader.push(bytes);
            self.handle();
            return self.interrupt();
        };
        let mut plaintext = Vec::new();
        while !bytes.is_empty() {
            let done = tls.read_tls(&mut bytes).is_err() || tls.process_new_packets().is_err();
            let _ = tls.reader().read_to_end(&mut plaintext);
            if done {
                // An alert of the client's, for instance; or the other way round.
                self.gave_up = true;
                self.ends.get_or_insert(End::Stream);
                break;
            }
        }
        self.reader.push(&plaintext);
        self.handle();
        self.interrupt();
        self.collect();
    }

    /// The client sends nothing more.
    pub fn client_is_gone(&mut self) {
        self.gave_up = true;
        if self.manners.hangs_up != HangsUp::Never {
            self.ends.get_or_insert(End::Stream);
        }
    }

    /// The next thing of the script.
    pub fn act(&mut self) {
        match self.script.pop_front() {
            Some(Op::Message { text, length, fragments, pings, press }) => {
                let payload = match press {
                    Press::Dull => dull(length, &mut self.rng),
                    _ => content(text, length, &mut self.rng),
                };
                self.message((text, payload), fragments, pings, press);
            }
            Some(Op::Ping(length)) => self.ping(length),
            Some(Op::Pong(payload)) => {
                self.pongs_unasked = true;
                self.send(&frame(0x8a, &payload));
            }
            None => {
                if let Some(finale) = self.finale.take() {
                    self.end(finale);
                }
            }
        }
    }

    fn end(&mut self, finale: Finale) {
        match finale {
            Finale::Close { code, reason } => self.close(code, reason),
            Finale::Ends(end) => self.ends = Some(end),
            // TCP stays, here: the client has to hang up.
            Finale::Notify => self.notify(),
            Finale::Violation(bytes, code) => {
                self.fatal = Some(Fatal::Violation(code));
                self.send(&bytes);
                self.chatter();
            }
            Finale::BadRecord if self.tls.is_some() => {
                self.fatal = Some(Fatal::Code(-1200));
                self.put(&[&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat());
            }
            Finale::BadRecord => self.ends = Some(End::Stream),
            Finale::Nothing => return,
        }
        self.gave_up = true;
    }

    fn close(&mut self, code: Option<u16>, reason: Vec<u8>) {
        self.send(&frame(0x88, &close_payload(code, &reason)));
        self.fatal = Some(Fatal::Close(code, reason));
        self.close_sent = true;
        self.gave_up = true;
        self.chatter();
        if self.manners.hangs_up == HangsUp::AtOnce {
            self.hang_up(true);
        }
    }

    /// What comes behind the end means nothing.
    fn chatter(&mut self) {
        if self.manners.chatters {
            self.send(&[frame(0x81, b"more"), frame(0x89, b"and"), frame(0xff, b"more")].concat());
        }
    }

    fn hang_up(&mut self, notify: bool) {
        if notify {
            self.notify();
        }
        self.ends.get_or_insert(End::Stream);
    }

    fn notify(&mut self) {
        match &mut self.tls {
            Some(tls) => {
                tls.send_close_notify();
                self.fatal.get_or_insert(Fatal::Notify);
                self.collect();
            }
            None => self.ends = self.ends.or(Some(End::Stream)),
        }
    }

    fn handle(&mut self) {
        while let Some(seen) = self.reader.next() {
            match seen {
                Seen::Request(head) => self.request(&head),
                Seen::Message(text, payload, wire) => {
                    if self.manners.echoes && self.can_talk() {
                        let press = if wire.compressed { Press::Yes } else { Press::No };
                        self.message((text, payload.clone()), 1, false, press);
                    }
                    self.seen.push((text, payload));
                    self.wires.push(wire);
                }
                Seen::Ping(payload) => {
                    self.pings_seen += 1;
                    let answers = match self.manners.pongs {
                        Pongs::All => true,
                        Pongs::Some => self.rng.one_in(2),
                        Pongs::None => false,
                    };
                    if answers && self.can_talk() {
                        self.send(&frame(0x8a, &payload));
                        self.pings_answered = self.pings_seen;
                    }
                }
                Seen::Pong(payload) => self.pongs_seen.push(payload),
                Seen::Close(payload) => self.closed(payload),
            }
        }
    }

    fn closed(&mut self, payload: Vec<u8>) {
        if self.can_talk() && !self.close_sent && self.fatal.is_none() && self.manners.answers_close {
            self.send(&frame(0x88, &payload));
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            self.fatal = Some(Fatal::Close(code, payload.get(2..).unwrap_or_default().to_vec()));
            self.close_sent = true;
            self.answered_close = true;
        }
        self.gave_up = true;
        self.close_seen = Some(payload);
        if self.manners.hangs_up != HangsUp::Never && self.manners.answers_close {
            self.hang_up(self.rng.clone().one_in(2));
        }
    }

    fn can_talk(&self) -> bool {
        self.is_open && !self.gave_up
    }

    fn message(&mut self, message: Plain, fragments: usize, pings: bool, press: Press) {
        let text = message.0;
        let (payload, mark) = match &mut self.codec {
            Some(codec) if press != Press::No => (codec.compress(&message.1, press == Press::Finally), 0x40),
            _ => (message.1.clone(), 0),
        };
        let mut cuts: Vec<usize> = (1..fragments).map(|_| self.rng.below(payload.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(payload.len());
        let mut start = 0;
        for (index, cut) in cuts.iter().copied().enumerate() {
            let opcode = match (index, text) {
                (0, true) => 1 | mark,
                (0, false) => 2 | mark,
                _ => 0,
            };
            let fin = if index + 1 == cuts.len() { 0x80 } else { 0 };
            let part = frame(fin | opcode, &payload[start..cut]);
            self.send(&part);
            start = cut;
            if pings && fin == 0 {
                self.ping(index);
            }
        }
        self.sent.push(message);
        self.sent_bytes.push(payload.len());
    }

    fn ping(&mut self, length: usize) {
        let mut payload = vec![0; length];
        self.rng.fill(&mut payload);
        self.send(&frame(0x89, &payload));
        self.pings_sent.push(payload);
    }

    /// A request is there whole.
    fn request(&mut self, head: &str) {
        if self.is_left {
            return;
        }
        let extensions = self.deflate.offer();
        if let Some(wanted) = self.early.take() {
            return self.course.check(&wanted, head, &self.at, extensions.as_deref());
        }
        self.is_next();
        let wanted = self.course.current.clone();
        self.course.check(&wanted, head, &self.at, extensions.as_deref());
        if self.gave_up {
            // It has hung up, and the client did not know.
            self.course.state = State::Lost;
            return;
        }
        // A connection that is new is not lost.
        if self.clean && self.requests == 1 {
            while matches!(self.course.stops.front(), Some(Stop { turn: Turn::Lost(_), .. })) {
                self.course.stops.pop_front();
            }
        }
        match self.course.stops.pop_front() {
            Some(stop) => self.send_away(&stop),
            None => self.reply(head),
        }
    }

    /// A request comes: it may.
    fn is_next(&mut self) {
        self.requests += 1;
        if let (State::Answered(_), true) = (&self.course.state, self.tls.is_some()) {
            // What TLS told the client, this tells the server.
            self.course.take_up();
        }
        assert!(matches!(self.course.state, State::Wanted), "a request comes at {:?}", self.course.state);
        if self.requests > 1 {
            let (before, from) = self.course.before.as_ref().expect("an answer before");
            // Of what is behind an answer the client may not know yet.
            assert!(before.keeps || self.surplus, "a request on a connection that is of no use any more");
            assert!(crate::course::is_same_origin(from, &self.course.current.url));
        }
    }

    /// The answer to a request of which a part is there.
    fn interrupt(&mut self) {
        let is_early = self.course.stops.front().is_some_and(|stop| stop.early && !matches!(stop.turn, Turn::Lost(_)));
        if !is_early || !self.reader.is_in_request() || self.early.is_some() || self.gave_up || self.is_left {
            return;
        }
        self.is_next();
        let Some(stop) = self.course.stops.pop_front() else { return };
        self.early = Some(self.course.current.clone());
        self.send_away(&stop);
    }

    /// Anything but the last answer.
    fn send_away(&mut self, stop: &Stop) {
        let (status, lines) = match &stop.turn {
            Turn::Lost(end) => {
                self.course.state = State::Lost;
                self.gave_up = true;
                self.ends = Some(*end);
                return;
            }
            Turn::Redirect(status) => {
                let (lines, target) = self.course.redirect(self.clean, &mut self.rng);
                self.course.redirected(stop, *status, target);
                (*status, lines)
            }
            Turn::Challenge(offers) => {
                let (lines, challenges) = self.course.challenge(offers, &mut self.rng);
                self.course.challenged(stop, challenges);
                (401, lines)
            }
        };
        let (Body::Length(length) | Body::Short(length, _) | Body::Chunked(length) | Body::UntilEnd(length)) =
            stop.body;
        let mut body = content(true, length, &mut self.rng);
        let framing = match stop.body {
            Body::Length(_) | Body::Short(..) => format!("Content-Length: {length}\r\n"),
            Body::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Body::UntilEnd(_) => String::new(),
        };
        let version = if stop.old { "HTTP/1.0" } else { "HTTP/1.1" };
        let close = if stop.close { "Connection: close\r\n" } else { "" };
        let cookie = if stop.cookie { format!("Set-Cookie: {}\r\n", cookie(&self.at)) } else { String::new() };
        let head = format!("{version} {status} Because\r\n{lines}{framing}{close}{cookie}\r\n");
        let head_end = self.written + head.len();
        self.send(head.as_bytes());
        match stop.body {
            Body::Chunked(_) => self.send(&chunked(&body)),
            Body::Short(..) => {
                body.truncate(length / 2);
                self.send(&body);
            }
            _ => self.send(&body),
        }
        let end = self.written;
        if stop.old && matches!(stop.body, Body::Chunked(_)) {
            // RFC 9112 §6.1: nobody knows how long it is.
            body.clear();
        }
        if let State::Answered(answered) = &mut self.course.state {
            (answered.body, answered.head_end, answered.end) = (body, head_end, end);
        }
        if stop.surplus {
            self.send(b"\x00surplus");
            self.surplus = true;
        }
        let ends = match stop.body {
            Body::UntilEnd(_) | Body::Short(_, true) => Some(End::Stream),
            // Of what TLS has not told yet nobody can say whether the client has it.
            _ if self.tls.is_some() => stop.hangs_up.map(|_| End::Stream),
            _ => stop.hangs_up,
        };
        if let Some(end) = ends {
            self.gave_up = true;
            self.ends = Some(end);
        }
    }

    fn reply(&mut self, request: &str) {
        self.course.state = State::Last;
        let key = field(request, "Sec-WebSocket-Key").expect("a key");
        let informational = match &self.answer {
            Answer::Accept { informational, .. } | Answer::Refuse { informational, .. } => *informational,
            _ => 0,
        };
        for _ in 0..informational {
            self.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n");
        }
        match self.answer.clone() {
            Answer::Accept { protocol, .. } => {
                let protocol = protocol.map_or_else(String::new, |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
                self.is_open = true;
                let more = protocol + &self.deflate.line();
                self.send(accepted(&accept(key), "Upgrade: websocket\r\nConnection: Upgrade\r\n", &more).as_bytes());
            }
            Answer::Refuse { status, body, .. } => self.refuse(status, body),
            Answer::Wrong(wrong) => {
                let good = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
                let accept = accept(key);
                let head = match wrong {
                    Wrong::Accept => accepted("AAAAAAAAAAAAAAAAAAAAAAAAAAA=", good, ""),
                    Wrong::NoUpgrade => accepted(&accept, "Connection: Upgrade\r\n", ""),
                    Wrong::NoConnection => accepted(&accept, "Upgrade: websocket\r\n", ""),
                    Wrong::Version => accepted(&accept, good, "").replace("HTTP/1.1", "HTTP/1.0"),
                    Wrong::Protocol => accepted(&accept, good, "Sec-WebSocket-Protocol: other\r\n"),
                    Wrong::Extension => accepted(&accept, good, "Sec-WebSocket-Extensions: x-zip\r\n"),
                    Wrong::Deflate(answer) => {
                        accepted(&accept, good, &format!("Sec-WebSocket-Extensions: {answer}\r\n"))
                    }
                };
                self.fatal = Some(Fatal::Refusal(101, Vec::new()));
                self.refusal_at = Some(self.written + head.len());
                self.send(head.as_bytes());
            }
            Answer::Garbage(bytes) => {
                self.fatal = Some(Fatal::Code(-1017));
                self.send(&bytes);
            }
            Answer::Silence => {}
            Answer::Ends(end) => self.ends = Some(end),
        }
    }

    fn refuse(&mut self, status: u16, body: Body) {
        let (Body::Length(length) | Body::Short(length, _) | Body::Chunked(length) | Body::UntilEnd(length)) = body;
        let bytes = content(true, length, &mut self.rng);
        let framing = match body {
            Body::Length(_) | Body::Short(..) => format!("Content-Length: {length}\r\n"),
            Body::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
            Body::UntilEnd(_) => String::new(),
        };
        let head = format!("HTTP/1.1 {status} Because\r\n{framing}\r\n");
        self.refusal_at = Some(self.written + head.len());
        self.send(head.as_bytes());
        let sent = match body {
            Body::Length(_) => bytes,
            Body::Short(_, ends) => {
                if ends {
                    self.ends = Some(End::Stream);
                }
                bytes[..length / 2].to_vec()
            }
            Body::Chunked(_) => {
                let coded = chunked(&bytes);
                self.fatal = Some(Fatal::Refusal(status, bytes));
                return self.send(&coded);
            }
            Body::UntilEnd(_) => {
                self.ends = Some(End::Stream);
                bytes
            }
        };
        self.send(&sent);
        self.fatal = Some(Fatal::Refusal(status, sent));
    }

    /// Bytes of HTTP or WebSocket.
    fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(bytes).unwrap();
                self.collect();
            }
            None => self.put(bytes),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.written += bytes.len();
        self.out.extend_from_slice(bytes);
    }

    fn collect(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out).unwrap();
            }
        }
    }
}

pub fn accepted(accept: &str, upgrade: &str, more: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}Sec-WebSocket-Accept: {accept}\r\n{more}\r\n")
}

pub fn accept(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// A body in the chunked coding.
fn chunked(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in bytes.chunks(3_000) {
        coded.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// The payload of a message that says the same again and again.
fn dull(length: usize, rng: &mut Rng) -> Vec<u8> {
    vec![b'a' + rng.below(20) as u8; length]
}

/// The payload of a message. Text has characters of every length, so that cuts fall inside them.
pub fn content(text: bool, length: usize, rng: &mut Rng) -> Vec<u8> {
    if !text {
        let mut payload = vec![0; length];
        rng.fill(&mut payload);
        return payload;
    }
    let mut payload = Vec::with_capacity(length);
    while payload.len() < length {
        let characters = ["a", "é", "€", "🌍", "plain words, and many of them; "];
        let character = characters[rng.below(characters.len())].as_bytes();
        match length - payload.len() {
            room if room >= character.len() => payload.extend_from_slice(character),
            _ => payload.push(b'.'),
        }
    }
    payload
}
