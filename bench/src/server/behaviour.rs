//! What a connection does after the upgrade, read from the path of the request.
//!
//! | path | |
//! |---|---|
//! | `/echo` | sends back every message |
//! | `/flood?count=&size=&kind=&compression=` | sends `count` messages of `size` bytes |
//! | `/sink?count=&hold=&compression=` | reads and drops messages, answers once when `count` have come |
//! | `/idle` | nothing |
//! | `/traffic` | no upgrade: answers how many bytes the frames of the last flood or sink had |
//!
//! All answer pings and Close frames. `kind` is `text`, `utf`, `binary` or `json`. A sink reads nothing for `hold` milliseconds.
//! `compression` is `off`, `takeover`, `level` or `anew`; where it is not off, the client has to offer permessage-deflate.

use std::time::Duration;

use crate::workload::{Compression, Kind};

/// What a connection does after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends back every message.
    Echo,
    /// Sends messages.
    Flood { count: u64, size: usize, kind: Kind, compression: Compression },
    /// Reads and drops, answers when all have come.
    Sink { count: u64, hold: Duration, compression: Compression },
    /// Does nothing.
    Idle,
    /// Tells of another connection.
    Traffic,
}

impl Behaviour {
    /// `None` where the path is none of the table.
    pub fn from_target(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
        let compression = || value("compression").map_or(Some(Compression::Off), Compression::from_name);
        match path {
            "/echo" => Some(Self::Echo),
            "/flood" => Some(Self::Flood {
                count: number("count")?,
                size: usize::try_from(number("size")?).ok()?,
                kind: Kind::from_name(value("kind")?)?,
                compression: compression()?,
            }),
            "/sink" => Some(Self::Sink {
                count: number("count")?,
                hold: Duration::from_millis(number("hold").unwrap_or_default()),
                compression: compression()?,
            }),
            "/idle" => Some(Self::Idle),
            "/traffic" => Some(Self::Traffic),
            _ => None,
        }
    }

    /// How its messages are compressed.
    pub fn compression(self) -> Compression {
        match self {
            Self::Flood { compression, .. } | Self::Sink { compression, .. } => compression,
            Self::Echo | Self::Idle | Self::Traffic => Compression::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        let flood = |kind, compression| Some(Behaviour::Flood { count: 3, size: 9, kind, compression });
        let sink =
            |hold, compression| Some(Behaviour::Sink { count: 3, hold: Duration::from_millis(hold), compression });
        let table = [
            ("/echo", Some(Behaviour::Echo)),
            ("/idle", Some(Behaviour::Idle)),
            ("/traffic", Some(Behaviour::Traffic)),
            ("/flood?count=3&size=9&kind=utf", flood(Kind::Utf, Compression::Off)),
            ("/flood?count=3&size=9&kind=json&compression=anew", flood(Kind::Json, Compression::Anew)),
            ("/sink?count=3", sink(0, Compression::Off)),
            ("/sink?count=3&hold=20", sink(20, Compression::Off)),
            ("/sink?count=3&compression=takeover", sink(0, Compression::Takeover)),
            ("/sink?count=3&compression=much", None),
            ("/flood?count=3&size=9", None),
            ("/", None),
        ];
        for (target, expected) in table {
            assert_eq!(Behaviour::from_target(target), expected, "{target}");
        }
    }
}
