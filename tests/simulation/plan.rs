//! What a run is about, chosen from its seed before it begins.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use crate::deflate::{self, Deflate};
use crate::network::{End, Fault};
use crate::rng::Rng;
use crate::way::Way;
use crate::wire::{close_payload, frame};

/// Everything that is decided beforehand. What happens when is decided on the way.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nothing goes wrong and everybody is quick: the run must end with the server's Close and nothing lost.
    pub clean: bool,
    pub tls: Option<Tls>,
    /// The address is a literal: nothing is looked up.
    pub literal: bool,
    /// The request cannot be sent.
    pub bad_request: bool,
    pub look_up: LookUp,
    /// `waits_for_connectivity`.
    pub waits: bool,
    /// How often the network is missing, before anything else happens.
    pub missing: usize,
    /// The addresses of the host, in the resolver's order.
    pub addresses: Vec<Address>,
    pub request_timeout: u64,
    pub resource_timeout: u64,
    pub close_timeout: u64,
    pub pong_timeout: u64,
    pub ping_interval: Option<u64>,
    pub maximum_send_queue: Option<usize>,
    pub limit: usize,
    pub deflate: Deflate,
    /// What comes before the answer.
    pub way: Way,
    pub answer: Answer,
    pub script: Vec<Op>,
    pub finale: Finale,
    pub manners: Manners,
    /// Room on the way to the server.
    pub capacity: usize,
    pub grain: usize,
    pub up_fault: Option<(usize, Fault)>,
    pub down_fault: Option<(usize, Fault)>,
    pub write_fault: Option<(usize, ErrorKind)>,
    /// The longest that anybody pauses, in milliseconds.
    pub pause: u64,
    /// How many of a thousand things are paused before.
    pub pauses: usize,
    pub caller: Caller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    pub old: bool,
    pub certificate: Certificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    OtherHost,
    UnknownRoot,
    Expired,
    NotYet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUp {
    Answers,
    Fails,
    /// It is not known whether there is such a host.
    Breaks,
    Nothing,
    /// No answer ever comes.
    Hangs,
}

/// One of them: what becomes of a connection to it, and after how long.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub six: bool,
    pub connect: Connect,
    pub after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    Works,
    Fails(ErrorKind),
    Hangs,
}

/// What the server says to the request.
#[derive(Clone, Debug)]
pub enum Answer {
    Accept {
        protocol: Option<&'static str>,
        informational: usize,
    },
    Refuse {
        status: u16,
        body: Body,
        informational: usize,
    },
    /// A 101 with something wrong: its lines in place of the right ones.
    Wrong(Wrong),
    /// What is no HTTP, or too much of it.
    Garbage(Vec<u8>),
    Silence,
    Ends(End),
}

#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Accept,
    NoUpgrade,
    NoConnection,
    Version,
    Protocol,
    Extension,
    /// This, in answer to the offer of compression.
    Deflate(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub enum Body {
    Length(usize),
    /// Less comes than was announced, then the end of the stream or nothing.
    Short(usize, bool),
    Chunked(usize),
    UntilEnd(usize),
}

/// What the server does on the open socket.
#[derive(Clone, Debug)]
pub enum Op {
    Message { text: bool, length: usize, fragments: usize, pings: bool, press: Press },
    Ping(usize),
    Pong(Vec<u8>),
}

/// How the server compresses a message, where that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    No,
    Yes,
    /// With a final block at its end.
    Finally,
    /// It says the same again and again, so that next to nothing is left of it.
    Dull,
}

/// How the server ends it.
#[derive(Clone, Debug)]
pub enum Finale {
    Close {
        code: Option<u16>,
        reason: Vec<u8>,
    },
    /// TCP ends, of TLS without close_notify.
    Ends(End),
    /// TLS ends, the WebSocket does not.
    Notify,
    /// These bytes break the protocol; what the client's Close has to say then.
    Violation(Vec<u8>, u16),
    BadRecord,
    Nothing,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    pub echoes: bool,
    pub pongs: Pongs,
    pub answers_close: bool,
    /// What becomes of TCP after its Close.
    pub hangs_up: HangsUp,
    /// It says more behind its Close.
    pub chatters: bool,
    /// After so many bytes it reads no more.
    pub deaf_after: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangsUp {
    /// With the Close.
    AtOnce,
    /// When the client's Close is there.
    Afterwards,
    Never,
}

/// Which pings the server answers: one pong may answer all that came before it (RFC 6455 §5.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pongs {
    All,
    Some,
    None,
}

/// What the caller does.
#[derive(Clone, Debug)]
pub struct Caller {
    /// How many calls at random moments.
    pub calls: usize,
    pub receives: Receives,
    /// A received message is given back, once in so many times.
    pub gives_back: Option<usize>,
    pub starts_first: bool,
    pub cancels: bool,
    pub suspends: bool,
    pub changes_limit: bool,
    /// What it does when it has nothing more to do.
    pub last: Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receives {
    /// Receive, handle, receive.
    Loop,
    /// At random moments.
    Sometimes,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Waits,
    Cancels,
    CancelsWith,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Self {
        let clean = rng.one_in(4);
        let mut deflate = Deflate::new(rng);
        // Much comes out of little: more than is read ahead.
        let is_dull = deflate.agreed().is_some() && rng.one_in(16);
        let limits: &[usize] = match is_dull {
            true => &[4096, 70_000, 70_000, 1 << 20, 0],
            false => &[1, 70, 130, 130, 1000, 1000, 4096, 4096, 70_000, 1 << 20, 1 << 20, 0],
        };
        let limit = rng.pick(limits);
        let rare = |rng: &mut Rng, of: usize| !clean && rng.one_in(of);
        let large = rng.one_in(250);
        let long_pauses = !clean && rng.one_in(3);
        let may_fault = !clean && rng.one_in(2);
        let mut script: Vec<Op> = (0..rng.below(12)).map(|_| Op::new(limit, large, clean, rng)).collect();
        if rare(rng, 20) {
            // More than anybody wants to keep.
            let length = if limit == 0 { 100 } else { limit.saturating_sub(1).min(200) };
            script.extend((0..rng.within(20, 100)).map(|_| Op::message(length, rng)));
        }
        if is_dull {
            script.extend((0..rng.within(2, 25)).map(|_| Op::dull(limit, clean, rng)));
        }
        // A clean run ends with the server's Close, or with a `cancel_with` that the server answers.
        let clean_cancel = clean && rng.one_in(5);
        let finale = if clean_cancel { Finale::Nothing } else { Finale::new(clean, &deflate, rng) };
        let resource_timeout = if clean { 7 * 24 * 3_600_000 } else { rng.pick(&[3_000, 100_000, 100_000, 1_000_000]) };
        // Pings without a pause in between: not for long.
        let intervals: &[u64] = match resource_timeout {
            3_000 => &[0, 400, 3_000],
            1_000_000 => &[10_000, 30_000],
            _ => &[400, 3_000, 30_000],
        };
        let queued = if deflate.agreed().is_some() { 2 } else { 5 };
        let maximum_send_queue = if rare(rng, queued) { Some(rng.pick(&[0, 100, 300, 300, 1000])) } else { None };
        if let Some(queue) = maximum_send_queue
            && !rng.one_in(3)
        {
            // Short messages fill the queue while a long one is compressed.
            deflate.threshold = queue / 3;
        }
        let clean_end = clean && matches!(finale, Finale::Close { .. });
        let tls = if rng.one_in(6) { Some(Tls::new(clean, rng)) } else { None };
        let way = Way::new(clean, tls.is_some(), rng);
        // Of what TLS has not told yet nobody can say whether the client has it: such a way is not lost in the middle.
        let may_fault = may_fault && (way.is_straight() || tls.is_none());
        let mut plan = Self {
            clean,
            tls,
            way,
            literal: rng.one_in(3),
            bad_request: rare(rng, 150),
            look_up: if rare(rng, 20) {
                rng.pick(&[LookUp::Fails, LookUp::Fails, LookUp::Breaks, LookUp::Nothing, LookUp::Hangs])
            } else {
                LookUp::Answers
            },
            waits: rng.one_in(2),
            missing: 0,
            addresses: Address::several(clean, rng),
            request_timeout: if clean { 60_000 } else { rng.pick(&[500, 5_000, 60_000]) },
            resource_timeout,
            close_timeout: if clean { 30_000 } else { rng.pick(&[300, 2_500, 10_000]) },
            pong_timeout: if clean { 20_000 } else { rng.pick(&[300, 300, 5_000, 20_000]) },
            ping_interval: if rng.one_in(3) { Some(rng.pick(intervals)) } else { None },
            maximum_send_queue,
            limit,
            deflate,
            answer: Answer::new(clean, rng),
            script,
            finale,
            manners: Manners::new(clean, rng),
            capacity: if clean { 3_000_000 } else { rng.pick(&[300, 5_000, 100_000, 100_000, 3_000_000]) },
            grain: rng.pick(&[1, 8, 60, 400, 3_000, 300_000]),
            up_fault: if may_fault && rng.one_in(4) { Some(fault(rng)) } else { None },
            down_fault: if may_fault && rng.one_in(4) { Some(fault(rng)) } else { None },
            write_fault: if may_fault && rng.one_in(4) {
                // Of a request, or later.
                let most = rng.pick(&[250, 1500]);
                Some((rng.below(most), rng.pick(&[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset])))
            } else {
                None
            },
            pause: if long_pauses { 15_000 } else { 100 },
            pauses: rng.pick(&[0, 20, 200, 500]),
            caller: Caller::new(clean, clean_end, rng),
        };
        if rng.one_in(8) && (clean_end || !clean) {
            plan.missing = rng.pick(&[1, 1, 2, 3, 8, 1000]);
            if clean {
                (plan.waits, plan.missing) = (true, plan.missing.min(8));
            }
        }
        plan
    }

    /// Whether the request offers subprotocols, as it does where the server chooses one.
    pub fn offers(&self) -> bool {
        matches!(self.answer, Answer::Accept { protocol: Some(_), .. })
    }

    /// What becomes of a connection to this address. A literal is one address, whatever the plan has for others.
    pub fn address_of(&self, address: &SocketAddr) -> Address {
        let last = match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        match self.literal && self.tls.is_none() {
            true => *self.addresses.iter().find(|one| one.connect == Connect::Works).unwrap_or(&self.addresses[0]),
            false => self.addresses[usize::from(last) - 1],
        }
    }

    /// A pause at this moment, in milliseconds; mostly none.
    pub fn pause(&self, rng: &mut Rng) -> u64 {
        if rng.below(1000) < self.pauses { rng.below(self.pause as usize) as u64 } else { 0 }
    }
}

impl Tls {
    fn new(clean: bool, rng: &mut Rng) -> Self {
        use Certificate::{Expired, Good, NotYet, OtherHost, UnknownRoot};
        let certificate =
            if !clean && rng.one_in(8) { rng.pick(&[OtherHost, UnknownRoot, Expired, NotYet]) } else { Good };
        Self { old: rng.one_in(3), certificate }
    }
}

impl Address {
    pub fn several(clean: bool, rng: &mut Rng) -> Vec<Self> {
        let count = if rng.one_in(3) { rng.within(1, 6) } else { 1 };
        let hang = if clean || rng.one_in(2) { 4 } else { 1000 };
        let one = |rng: &mut Rng| Self {
            six: rng.one_in(2),
            connect: if rng.one_in(hang) { Connect::Hangs } else { Connect::Fails(connect_failure(rng)) },
            after: rng.pick(&[0, 0, 0, 30, 240, 249, 250, 251, 700]),
        };
        let mut all: Vec<Self> = (0..count).map(|_| one(rng)).collect();
        if clean || !rng.one_in(10) {
            // One of them works, and now and then another.
            let index = rng.below(count);
            all[index].connect = if !clean && rng.one_in(30) { Connect::Hangs } else { Connect::Works };
            if rng.one_in(2) {
                let index = rng.below(count);
                all[index].connect = Connect::Works;
            }
        }
        all
    }

    pub fn works() -> Vec<Self> {
        vec![Self { six: false, connect: Connect::Works, after: 0 }]
    }
}

fn connect_failure(rng: &mut Rng) -> ErrorKind {
    rng.pick(&[
        ErrorKind::ConnectionRefused,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::NetworkDown,
        ErrorKind::AddrNotAvailable,
        ErrorKind::TimedOut,
    ])
}

pub fn broken(rng: &mut Rng) -> End {
    let kind =
        rng.pick(&[ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted, ErrorKind::TimedOut, ErrorKind::Other]);
    if rng.one_in(2) { End::Stream } else { End::Failure(kind) }
}

pub fn fault(rng: &mut Rng) -> (usize, Fault) {
    let after = rng.pick(&[200, 600, 3000]);
    let fault = if rng.one_in(4) { Fault::BlackHole } else { Fault::End(broken(rng)) };
    (rng.below(after), fault)
}

/// Mostly short, with a liking for the lengths at which the header changes.
pub fn length(limit: usize, large: bool, rng: &mut Rng) -> usize {
    if large && rng.one_in(4) {
        return rng.within(10_000, 300_000);
    }
    let length = match rng.below(40) {
        0..10 => rng.below(4),
        10..36 => rng.below(300),
        36..38 => rng.within(120, 130),
        38 => rng.within(900, 5_000),
        _ => rng.within(16_380, 16_390),
    };
    if limit > 0 && !rng.one_in(40) { length.min(limit.saturating_sub(1)) } else { length }
}

impl Op {
    fn new(limit: usize, large: bool, clean: bool, rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 => Self::Ping(rng.pick(&[0, 1, 8, 125])),
            1 if !clean => {
                let mut payload = vec![0; rng.pick(&[0, 3, 8, 125])];
                rng.fill(&mut payload);
                Self::Pong(payload)
            }
            _ => {
                let length = length(limit, large, rng);
                let length = if clean && limit > 0 { length.min(limit.saturating_sub(1)) } else { length };
                Self::message(length, rng)
            }
        }
    }

    fn message(length: usize, rng: &mut Rng) -> Self {
        let fragments = if rng.one_in(4) { rng.within(1, 6) } else { 1 };
        let press = rng.pick(&[Press::No, Press::No, Press::Yes, Press::Yes, Press::Yes, Press::Finally, Press::Dull]);
        Self::Message { text: rng.one_in(2), length, fragments, pings: rng.one_in(3), press }
    }

    /// What is a few bytes on the wire; now and then too much.
    fn dull(limit: usize, clean: bool, rng: &mut Rng) -> Self {
        let most = match limit {
            0 => 300_000,
            _ if !clean && rng.one_in(60) => limit * 3,
            _ => limit - 1,
        };
        let length = rng.pick(&[1000, 20_000, 60_000, 65_535, 65_536, 69_990, 300_000, usize::MAX]).min(most);
        let fragments = if rng.one_in(8) { 3 } else { 1 };
        Self::Message { text: rng.one_in(2), length, fragments, pings: rng.one_in(3), press: Press::Dull }
    }
}

impl Answer {
    fn new(clean: bool, rng: &mut Rng) -> Self {
        let informational = if rng.one_in(8) { rng.within(1, 3) } else { 0 };
        if clean || !rng.one_in(6) {
            return Self::Accept { protocol: if rng.one_in(4) { Some("chat") } else { None }, informational };
        }
        match rng.below(8) {
            0..3 => {
                let length = rng.pick(&[1, 100, 5_000, 70_000]);
                let length = rng.below(length);
                let body = match rng.below(4) {
                    0 => Body::Length(length),
                    1 => Body::Short(length, rng.one_in(2)),
                    2 => Body::Chunked(length),
                    _ => Body::UntilEnd(length),
                };
                Self::Refuse { status: rng.pick(&[200, 302, 401, 404, 503]), body, informational }
            }
            3 if rng.one_in(3) => Self::Wrong(Wrong::Deflate(rng.pick(&deflate::WRONG))),
            3 => Self::Wrong(rng.pick(&[
                Wrong::Accept,
                Wrong::NoUpgrade,
                Wrong::NoConnection,
                Wrong::Version,
                Wrong::Protocol,
                Wrong::Extension,
            ])),
            4 => Self::Garbage(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
            5 if rng.one_in(4) => Self::Garbage([b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 66_000]].concat()),
            5 => Self::Garbage(b"HTTP/1.1 200 OK\nA: b\n\n".to_vec()),
            6 => Self::Silence,
            _ => Self::Ends(broken(rng)),
        }
    }
}

impl Finale {
    fn new(clean: bool, deflate: &Deflate, rng: &mut Rng) -> Self {
        if clean || rng.one_in(2) {
            if rng.one_in(4) {
                return Self::Close { code: None, reason: Vec::new() };
            }
            let code = rng.pick(&[1000, 1001, 1011, 1013, 3000, 4999]);
            let reasons = ["", "bye", "wegen Überfüllung geschlossen – bitte später"];
            let reason = reasons[rng.below(reasons.len())].as_bytes().to_vec();
            return Self::Close { code: Some(code), reason };
        }
        match rng.below(9) {
            0 | 1 => Self::Ends(broken(rng)),
            2 => Self::Notify,
            3 => Self::BadRecord,
            4..7 => {
                let (bytes, code) = match rng.one_in(2) {
                    true => deflate::violation(deflate.agreed(), rng),
                    false => violation(rng),
                };
                Self::Violation(bytes, code)
            }
            _ => Self::Nothing,
        }
    }
}

/// Something that RFC 6455 forbids a server, and the code of the Close that answers it.
fn violation(rng: &mut Rng) -> (Vec<u8>, u16) {
    let half_text = [frame(0x01, "é".as_bytes().get(..1).unwrap_or_default()), frame(0x80, b"x")].concat();
    let all: [(Vec<u8>, u16); 15] = [
        (frame(0xa2, b""), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x8b, b""), 1002),
        (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], 1002),
        (frame(0x89, &[b'x'; 126]), 1002),
        (frame(0x09, b""), 1002),
        (frame(0x80, b"x"), 1002),
        ([frame(0x01, b""), frame(0x81, b"")].concat(), 1002),
        (vec![0x82, 126, 0, 5], 1002),
        ([vec![0x82, 127], vec![0x80; 8]].concat(), 1002),
        (frame(0x88, &close_payload(Some(1005), b"")), 1002),
        (frame(0x88, &[3]), 1002),
        (frame(0x88, &close_payload(Some(1000), &[0xff])), 1007),
        (half_text, 1007),
        ([frame(0x01, b""), frame(0x80, &[0xe2, 0x82])].concat(), 1007),
    ];
    all[rng.below(all.len())].clone()
}

impl Manners {
    fn new(clean: bool, rng: &mut Rng) -> Self {
        Self {
            echoes: rng.one_in(4),
            pongs: match rng.below(6) {
                0 | 1 => Pongs::Some,
                2 if !clean => Pongs::None,
                _ => Pongs::All,
            },
            answers_close: clean || !rng.one_in(4),
            hangs_up: match rng.below(8) {
                0 => HangsUp::AtOnce,
                1 if !clean => HangsUp::Never,
                _ => HangsUp::Afterwards,
            },
            chatters: !clean && rng.one_in(8),
            deaf_after: if !clean && rng.one_in(12) { Some(rng.within(300, 3_000)) } else { None },
        }
    }
}

impl Caller {
    fn new(clean: bool, clean_end: bool, rng: &mut Rng) -> Self {
        let receives = match rng.below(4) {
            _ if clean_end => Receives::Loop,
            0 => Receives::Sometimes,
            1 if rng.one_in(3) => Receives::Never,
            _ => Receives::Loop,
        };
        Self {
            calls: rng.within(1, 30),
            receives,
            gives_back: if rng.one_in(4) { Some(rng.within(2, 6)) } else { None },
            starts_first: !rng.one_in(4),
            cancels: !clean && rng.one_in(3),
            suspends: !clean && rng.one_in(4),
            changes_limit: !clean && rng.one_in(8),
            last: match rng.below(6) {
                _ if clean && !clean_end => Last::CancelsWith,
                _ if clean => Last::Waits,
                0 => Last::Cancels,
                1 => Last::CancelsWith,
                _ => Last::Waits,
            },
        }
    }
}
