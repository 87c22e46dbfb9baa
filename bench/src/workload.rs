//! What is measured: the table of workloads. Every client runs the same.

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Text in ASCII.
    Text,
    /// Text in which a quarter of the characters has more than one byte.
    Utf,
    /// Data.
    Binary,
    /// Text: records of JSON, which differ from message to message.
    Json,
}

impl Kind {
    /// As in the path of a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Utf => "utf",
            Self::Binary => "binary",
            Self::Json => "json",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Utf, Self::Binary, Self::Json].into_iter().find(|kind| kind.name() == name)
    }

    /// The opcode of its frames.
    pub fn opcode(self) -> u8 {
        if self == Self::Binary { 2 } else { 1 }
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One message there and back, then the next.
    Echo { size: usize, kind: Kind },
    /// Echo with `window` messages on the way. A client sends `batch` when `batch` have come back, and flushes then.
    Pipe { size: usize, window: u64, batch: u64 },
    /// Receives.
    Flood { size: usize, kind: Kind },
    /// Sends, and flushes after each `batch`. Where a client's sends are asynchronous, `window` may be on their way.
    Sink { size: usize, kind: Kind, window: u64, batch: u64 },
    /// One message there and back on each of many connections at a time.
    Many { size: usize, connections: usize },
    /// Open connections on which nothing happens. Where a client's openings are asynchronous, `wave` are on their way.
    Idle { connections: usize, wave: u64 },
    /// Sends at once everything to a server that does not read yet. Only this crate's clients do that.
    Backlog { size: usize },
    /// Opens a connection and closes it with both Close frames, then the next.
    Connect,
}

/// How the connections are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `ws`
    Plain,
    /// `wss` with resumption
    Tls,
    /// `wss` whose every handshake is a full one
    TlsFull,
}

/// How messages are compressed (permessage-deflate, RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    Off,
    /// A message may refer to the ones before it.
    Takeover,
    /// The same, and peers compress as hard as this crate does: at its level.
    Level,
    /// Each message begins anew: no context takeover.
    Anew,
}

impl Compression {
    /// As in the path of a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Takeover => "takeover",
            Self::Level => "level",
            Self::Anew => "anew",
        }
    }

    /// The compression of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Takeover, Self::Level, Self::Anew].into_iter().find(|compression| compression.name() == name)
    }
}

/// What the figures of a workload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// CPU time for a message, in nanoseconds.
    CpuNanoseconds,
    /// CPU time for a message, in microseconds.
    CpuMicroseconds,
    /// Resident bytes for a connection.
    Resident,
}

/// One row of the table.
#[derive(Debug)]
pub struct Workload {
    /// What it is called on the command line and in the results.
    pub name: &'static str,
    /// What it is, for readers.
    pub about: &'static str,
    /// What the client does.
    pub shape: Shape,
    /// How its connections are secured.
    pub security: Security,
    /// How its messages are compressed.
    pub compression: Compression,
    /// Messages (or connections) in a run.
    pub count: u64,
    /// What is reported.
    pub unit: Unit,
}

impl Workload {
    /// The workload of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().chain(SCALE).find(|workload| workload.name == name)
    }

    /// A count that shows no more than that it works.
    pub fn quick_count(&self) -> u64 {
        (self.count / 100).clamp(1, 10_000)
    }

    /// How many files a process needs for it, about.
    pub fn files(&self) -> u64 {
        let connections = match self.shape {
            Shape::Many { connections, .. } | Shape::Idle { connections, .. } => connections as u64,
            _ => 1,
        };
        connections + 300
    }

    /// The size of its messages.
    pub fn size(&self) -> usize {
        match self.shape {
            Shape::Echo { size, .. }
            | Shape::Pipe { size, .. }
            | Shape::Flood { size, .. }
            | Shape::Sink { size, .. }
            | Shape::Many { size, .. }
            | Shape::Backlog { size } => size,
            Shape::Idle { .. } | Shape::Connect => 0,
        }
    }

    /// Messages before those that are measured, for a run of `count`: enough to have every buffer in place.
    pub fn warm_up(&self, count: u64) -> u64 {
        match self.shape {
            Shape::Pipe { window, .. } => (count / 10).next_multiple_of(window),
            Shape::Sink { batch, .. } => (count / 10).clamp(1, 50_000).next_multiple_of(batch),
            Shape::Many { connections, .. } => (count / 10).max(1).next_multiple_of(connections as u64),
            Shape::Idle { .. } => (count / 10).clamp(1, 200),
            Shape::Backlog { .. } => 0,
            Shape::Connect => (count / 10).clamp(1, 200),
            Shape::Echo { .. } | Shape::Flood { .. } => (count / 10).max(1),
        }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const RTT: Shape = Shape::Echo { size: 32, kind: Kind::Text };
const FLOOD: Shape = Shape::Flood { size: 128, kind: Kind::Text };
const FLOOD_16K: Shape = Shape::Flood { size: 16 * KIB, kind: Kind::Binary };

/// JSON received, compressed.
const fn flood_deflate(
    name: &'static str,
    about: &'static str,
    size: usize,
    compression: Compression,
    count: u64,
) -> Workload {
    deflate(name, about, Shape::Flood { size, kind: Kind::Json }, compression, count)
}

/// JSON sent, compressed.
const fn sink_deflate(
    name: &'static str,
    about: &'static str,
    size: usize,
    compression: Compression,
    count: u64,
) -> Workload {
    // Writing is little of the cost, whatever the size.
    let batch = if size < 128 * KIB { (128 * KIB / size) as u64 } else { 1 };
    let window = 4 * batch;
    deflate(name, about, Shape::Sink { size, kind: Kind::Json, window, batch }, compression, count)
}

const fn deflate(
    name: &'static str,
    about: &'static str,
    shape: Shape,
    compression: Compression,
    count: u64,
) -> Workload {
    Workload { name, about, shape, security: Security::Plain, compression, count, unit: Unit::CpuMicroseconds }
}

/// All workloads, in the order of the results.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "rtt",
        about: "ping-pong of 32 B of text",
        shape: RTT,
        security: Security::Plain,
        compression: Compression::Off,
        count: 30_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "pipe",
        about: "echo of 64 B of text, 256 on the way, sent in batches of 128",
        shape: Shape::Pipe { size: 64, window: 256, batch: 128 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 1_000_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "pipe1",
        about: "the same, each sent by itself when one has come back",
        shape: Shape::Pipe { size: 64, window: 256, batch: 1 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 200_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "flood",
        about: "text of 128 B received",
        shape: FLOOD,
        security: Security::Plain,
        compression: Compression::Off,
        count: 2_000_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "flood16k",
        about: "data of 16 KiB received",
        shape: FLOOD_16K,
        security: Security::Plain,
        compression: Compression::Off,
        count: 200_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "floodtext1m",
        about: "ASCII text of 1 MiB received",
        shape: Shape::Flood { size: MIB, kind: Kind::Text },
        security: Security::Plain,
        compression: Compression::Off,
        count: 2_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "floodutf1m",
        about: "text of 1 MiB received, a quarter of its characters of several bytes",
        shape: Shape::Flood { size: MIB, kind: Kind::Utf },
        security: Security::Plain,
        compression: Compression::Off,
        count: 2_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "sink",
        about: "data of 128 B sent, flushed when it suits",
        shape: Shape::Sink { size: 128, kind: Kind::Binary, window: 2048, batch: 1024 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 1_024_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "sink1",
        about: "data of 128 B sent, each by itself",
        shape: Shape::Sink { size: 128, kind: Kind::Binary, window: 256, batch: 1 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 200_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "sink1m",
        about: "data of 1 MiB sent",
        shape: Shape::Sink { size: MIB, kind: Kind::Binary, window: 4, batch: 1 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 2_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "bulk",
        about: "echo of 4 MiB of data",
        shape: Shape::Echo { size: 4 * MIB, kind: Kind::Binary },
        security: Security::Plain,
        compression: Compression::Off,
        count: 200,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "many",
        about: "ping-pong of 128 B of text on 1,000 connections",
        shape: Shape::Many { size: 128, connections: 1_000 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 100_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "idle",
        about: "10,000 open connections",
        shape: Shape::Idle { connections: 10_000, wave: 200 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 10_000,
        unit: Unit::Resident,
    },
    Workload {
        name: "connect",
        about: "opened and closed, one after the other",
        shape: Shape::Connect,
        security: Security::Plain,
        compression: Compression::Off,
        count: 3_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "rtttls",
        about: "`rtt` over TLS 1.3",
        shape: RTT,
        security: Security::Tls,
        compression: Compression::Off,
        count: 30_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "floodtls",
        about: "`flood` over TLS 1.3",
        shape: FLOOD,
        security: Security::Tls,
        compression: Compression::Off,
        count: 2_000_000,
        unit: Unit::CpuNanoseconds,
    },
    Workload {
        name: "flood16ktls",
        about: "`flood16k` over TLS 1.3",
        shape: FLOOD_16K,
        security: Security::Tls,
        compression: Compression::Off,
        count: 100_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "idletls",
        about: "2,000 open connections over TLS 1.3",
        shape: Shape::Idle { connections: 2_000, wave: 200 },
        security: Security::Tls,
        compression: Compression::Off,
        count: 2_000,
        unit: Unit::Resident,
    },
    Workload {
        name: "connecttls",
        about: "`connect` over TLS 1.3, resumed",
        shape: Shape::Connect,
        security: Security::Tls,
        compression: Compression::Off,
        count: 1_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "connecttlsfull",
        about: "`connect` over TLS 1.3, full handshakes",
        shape: Shape::Connect,
        security: Security::TlsFull,
        compression: Compression::Off,
        count: 1_000,
        unit: Unit::CpuMicroseconds,
    },
    flood_deflate("flooddeflate", "JSON of 128 B received, compressed", 128, Compression::Takeover, 200_000),
    flood_deflate("flooddeflateanew", "`flooddeflate` without context takeover", 128, Compression::Anew, 200_000),
    flood_deflate("flood1kdeflate", "JSON of 1 KiB received, compressed", KIB, Compression::Takeover, 100_000),
    flood_deflate("flood1kdeflateanew", "`flood1kdeflate` without context takeover", KIB, Compression::Anew, 100_000),
    flood_deflate("flood16kdeflate", "JSON of 16 KiB received, compressed", 16 * KIB, Compression::Takeover, 10_000),
    flood_deflate(
        "flood16kdeflateanew",
        "`flood16kdeflate` without context takeover",
        16 * KIB,
        Compression::Anew,
        10_000,
    ),
    flood_deflate("flood1mdeflate", "JSON of 1 MiB received, compressed", MIB, Compression::Takeover, 200),
    flood_deflate("flood1mdeflateanew", "`flood1mdeflate` without context takeover", MIB, Compression::Anew, 200),
    sink_deflate("sinkdeflate", "JSON of 128 B sent, compressed", 128, Compression::Takeover, 102_400),
    sink_deflate("sinkdeflateanew", "`sinkdeflate` without context takeover", 128, Compression::Anew, 102_400),
    sink_deflate("sink1kdeflate", "JSON of 1 KiB sent, compressed", KIB, Compression::Takeover, 25_600),
    sink_deflate("sink1kdeflateanew", "`sink1kdeflate` without context takeover", KIB, Compression::Anew, 25_600),
    sink_deflate("sink1kdeflatelevel", "`sink1kdeflate`, peers at this crate's level", KIB, Compression::Level, 25_600),
    sink_deflate("sink16kdeflate", "JSON of 16 KiB sent, compressed", 16 * KIB, Compression::Takeover, 2_000),
    sink_deflate("sink16kdeflateanew", "`sink16kdeflate` without context takeover", 16 * KIB, Compression::Anew, 2_000),
    sink_deflate("sink1mdeflate", "JSON of 1 MiB sent, compressed", MIB, Compression::Takeover, 40),
    sink_deflate("sink1mdeflateanew", "`sink1mdeflate` without context takeover", MIB, Compression::Anew, 40),
];

const fn many(name: &'static str, connections: usize, count: u64) -> Workload {
    Workload {
        name,
        about: "ping-pong of 128 B of text on many connections",
        shape: Shape::Many { size: 128, connections },
        security: Security::Plain,
        compression: Compression::Off,
        count,
        unit: Unit::CpuMicroseconds,
    }
}

/// What is measured of this crate alone: how its costs grow with what a session has to do.
pub const SCALE: &[Workload] = &[
    many("many-1", 1, 20_000),
    many("many-10", 10, 50_000),
    many("many-100", 100, 100_000),
    many("many-1000", 1_000, 100_000),
    many("many-10000", 10_000, 200_000),
    many("many-50000", 50_000, 500_000),
    Workload {
        name: "open-10000",
        about: "10,000 tasks resumed at once, until the last is open",
        shape: Shape::Idle { connections: 10_000, wave: 10_000 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 10_000,
        unit: Unit::CpuMicroseconds,
    },
    Workload {
        name: "backlog",
        about: "1,000,000 sends of 128 B to a server that does not read yet",
        shape: Shape::Backlog { size: 128 },
        security: Security::Plain,
        compression: Compression::Off,
        count: 1_000_000,
        unit: Unit::Resident,
    },
];
