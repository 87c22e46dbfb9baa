//! What a connection does after the upgrade, read from the path of the request.
//!
//! | path | |
//! |---|---|
//! | `/echo` | sends back every message |
//! | `/flood?count=&size=&kind=` | sends `count` messages of `size` bytes; `kind` is `text`, `binary` or `utf` |
//! | `/sink?count=&hold=` | reads and drops messages, answers once when `count` have come; reads nothing for `hold` milliseconds |
//! | `/idle` | nothing |
//!
//! All answer pings and Close frames.

use std::time::Duration;

use crate::workload::Kind;

/// What a connection does after the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends back every message.
    Echo,
    /// Sends messages.
    Flood { count: u64, size: usize, kind: Kind },
    /// Reads and drops, answers when all have come.
    Sink { count: u64, hold: Duration },
    /// Does nothing.
    Idle,
}

impl Behaviour {
    /// `None` where the path is none of the table.
    pub fn from_target(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
        match path {
            "/echo" => Some(Self::Echo),
            "/flood" => Some(Self::Flood {
                count: number("count")?,
                size: usize::try_from(number("size")?).ok()?,
                kind: Kind::from_name(value("kind")?)?,
            }),
            "/sink" => Some(Self::Sink {
                count: number("count")?,
                hold: Duration::from_millis(number("hold").unwrap_or_default()),
            }),
            "/idle" => Some(Self::Idle),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        let table = [
            ("/echo", Some(Behaviour::Echo)),
            ("/idle", Some(Behaviour::Idle)),
            ("/flood?count=3&size=9&kind=utf", Some(Behaviour::Flood { count: 3, size: 9, kind: Kind::Utf })),
            ("/sink?count=3", Some(Behaviour::Sink { count: 3, hold: Duration::ZERO })),
            ("/sink?count=3&hold=20", Some(Behaviour::Sink { count: 3, hold: Duration::from_millis(20) })),
            ("/flood?count=3&size=9", None),
            ("/", None),
        ];
        for (target, expected) in table {
            assert_eq!(Behaviour::from_target(target), expected, "{target}");
        }
    }
}
