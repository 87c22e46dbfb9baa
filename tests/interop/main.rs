//! permessage-deflate (RFC 7692) against servers that others wrote: by `ws` of node and by `websockets` of Python; and
//! what comes before the open socket: passwords by nginx and Apache httpd (`authentication.rs`), proxies by Squid, Dante and
//! microsocks (`proxies.rs`), TLS by nginx, HAProxy and OpenSSL (`ends.rs`).
//!
//! `tests/interop/run` starts them, and says in `URLSESSION_INTEROP_WS` and `URLSESSION_INTEROP_WEBSOCKETS` and others
//! where they are. Without that there is nothing to run, and the tests pass.

mod authentication;
mod ends;
mod exchange;
mod houses;
mod messages;
mod proxies;
#[path = "../support/mod.rs"]
mod support;

use std::iter;

use exchange::{Exchange, Passed, Setup, exchange, libraries, refusal};
use messages::{THRESHOLD, first_of_the_same, incompressible, length, mixed, short};
use urlsession::{Message, WebSocketOptions};

/// The parameters of RFC 7692 §7.1.
#[derive(Clone, Copy, Debug, Default)]
struct Parameters {
    client_no_context_takeover: bool,
    client_max_window_bits: Option<u8>,
    server_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
}

impl Parameters {
    /// Each combination.
    fn all() -> impl Iterator<Item = Self> {
        (0..2 * 5 * 2 * 4).map(|number| Self {
            client_no_context_takeover: number % 2 == 1,
            client_max_window_bits: [None, Some(9), Some(10), Some(12), Some(15)][number / 2 % 5],
            server_no_context_takeover: number / 10 % 2 == 1,
            server_max_window_bits: [None, Some(9), Some(12), Some(15)][number / 20],
        })
    }

    /// As they are written, sorted.
    fn written(&self) -> Vec<String> {
        let flag = |name: &str, set: bool| set.then(|| name.to_owned());
        let number = |name: &str, value: Option<u8>| value.map(|value| format!("{name}={value}"));
        [
            number("client_max_window_bits", self.client_max_window_bits),
            flag("client_no_context_takeover", self.client_no_context_takeover),
            number("server_max_window_bits", self.server_max_window_bits),
            flag("server_no_context_takeover", self.server_no_context_takeover),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What asks for them.
    fn options(&self) -> WebSocketOptions {
        let mut options = WebSocketOptions::default();
        options.client_no_context_takeover = self.client_no_context_takeover;
        options.server_no_context_takeover = self.server_no_context_takeover;
        options.client_max_window_bits = self.client_max_window_bits.unwrap_or(15);
        options.server_max_window_bits = self.server_max_window_bits.unwrap_or(15);
        options
    }

    /// Both ways are as the parameters allow, and compressed at all.
    #[track_caller]
    fn check(&self, exchange: &Exchange, messages: &[Message]) {
        assert_eq!(exchange.agreed.as_ref(), Some(&self.written()));
        check_way(&exchange.sent, messages, self.client_no_context_takeover, self.client_max_window_bits);
        check_way(&exchange.received, messages, self.server_no_context_takeover, self.server_max_window_bits);
        for (passed, message) in iter::zip(&exchange.sent, messages) {
            let length = length(message);
            assert!(!passed.compressed || length >= THRESHOLD, "{passed:?} of {length} bytes");
            assert!(passed.bytes <= length + length / 40, "{passed:?} of {length} bytes");
        }
    }
}

/// Long messages are compressed, and what is the same again is much shorter where it may refer to what was before it.
#[track_caller]
fn check_way(way: &[Passed], messages: &[Message], no_context_takeover: bool, max_window_bits: Option<u8>) {
    assert_eq!(way.len(), messages.len());
    for (passed, message) in iter::zip(way, messages) {
        let length = length(message);
        let shorter = passed.compressed && passed.bytes < length;
        assert!(shorter || length < THRESHOLD || *message == incompressible(), "{passed:?} of {length} bytes");
    }
    let first = first_of_the_same(messages);
    let [once, again] = [way[first].bytes, way[first + 1].bytes];
    if no_context_takeover {
        assert_eq!(again, once, "each message begins anew");
    } else if max_window_bits.is_none_or(|bits| bits == 15) {
        assert!(again < once / 8, "{once} bytes, the same again {again}");
    }
}

/// Nothing is compressed.
#[track_caller]
fn check_plain(way: &[Passed], messages: &[Message]) {
    let plain = |message: &Message| Passed { compressed: false, frames: 1, bytes: length(message) };
    assert_eq!(way, messages.iter().map(plain).collect::<Vec<_>>());
}

#[test]
fn what_the_options_ask_for() {
    let messages = mixed();
    for library in libraries() {
        for asked in Parameters::all() {
            let setup = Setup { options: asked.options(), ..Setup::default() };
            // 15 is the default, which is not asked for.
            let agreed = Parameters {
                client_max_window_bits: asked.client_max_window_bits.filter(|bits| *bits < 15),
                server_max_window_bits: asked.server_max_window_bits.filter(|bits| *bits < 15),
                ..asked
            };
            agreed.check(&exchange(&library, &setup, &messages), &messages);
        }
    }
}

#[test]
fn what_the_server_imposes() {
    let messages = mixed();
    for library in libraries() {
        for imposed in Parameters::all() {
            let setup = Setup { query: &imposed.written().join("&"), ..Setup::default() };
            imposed.check(&exchange(&library, &setup, &messages), &messages);
        }
    }
}

#[test]
fn the_smaller_window_holds() {
    let messages = mixed();
    for library in libraries() {
        let setup = Setup {
            query: "client_max_window_bits=9&server_max_window_bits=10",
            ..Setup::with_options(|options| {
                options.client_max_window_bits = 12;
                options.server_max_window_bits = 12;
            })
        };
        let agreed =
            Parameters { client_max_window_bits: Some(9), server_max_window_bits: Some(10), ..Parameters::default() };
        agreed.check(&exchange(&library, &setup, &messages), &messages);
    }
}

/// A server that would rather have a larger window than it is asked for: `websockets` gives way; `ws` opens no
/// WebSocket, unless there is another offer.
#[test]
fn a_server_insists_on_a_larger_window() {
    let messages = mixed();
    for library in libraries() {
        for (query, change) in [
            ("client_max_window_bits=12", (|options| options.client_max_window_bits = 9) as fn(&mut WebSocketOptions)),
            ("server_max_window_bits=12", |options| options.server_max_window_bits = 9),
        ] {
            let setup = Setup { query, ..Setup::with_options(change) };
            if library.name == "ws" {
                assert_eq!(refusal(&library, &setup), 400);
            } else {
                let agreed = Some(vec![query.replace("12", "9")]);
                assert_eq!(exchange(&library, &setup, &messages).agreed, agreed);
            }
        }
        let offer =
            Some("permessage-deflate; server_max_window_bits=9, permessage-deflate; server_no_context_takeover");
        let setup = Setup { query: "server_max_window_bits=12", offer, ..Setup::default() };
        let agreed = if library.name == "ws" {
            Parameters { server_no_context_takeover: true, server_max_window_bits: Some(12), ..Parameters::default() }
        } else {
            Parameters { server_max_window_bits: Some(9), ..Parameters::default() }
        };
        agreed.check(&exchange(&library, &setup, &messages), &messages);
    }
}

/// No zlib compresses with a window of 256 bytes; what the client sends stays as it is.
#[test]
fn a_window_of_256_bytes() {
    let messages = mixed();
    for library in libraries() {
        let setup = Setup { query: "client_max_window_bits=8", ..Setup::default() };
        let exchange = exchange(&library, &setup, &messages);
        assert_eq!(exchange.agreed, Some(vec!["client_max_window_bits=8".to_owned()]));
        check_plain(&exchange.sent, &messages);
        check_way(&exchange.received, &messages, false, None);
    }
    // Of a server, it is read. `websockets` has none.
    for library in libraries().iter().filter(|library| library.name == "ws") {
        let setup = Setup { query: "server_max_window_bits=8", ..Setup::default() };
        let agreed = Parameters { server_max_window_bits: Some(8), ..Parameters::default() };
        agreed.check(&exchange(library, &setup, &messages), &messages);
    }
}

#[test]
fn nothing_is_compressed_unless_both_sides_want_it() {
    let messages = mixed();
    let declined = Setup { query: "deflate=off", ..Setup::default() };
    let switched_off = Setup::with_options(|options| options.permessage_deflate = false);
    let not_offered = Setup { offer: Some("x-unknown"), ..Setup::default() };
    for library in libraries() {
        for setup in [&declined, &switched_off, &not_offered] {
            let exchange = exchange(&library, setup, &messages);
            assert_eq!(exchange.agreed, None);
            check_plain(&exchange.sent, &messages);
            check_plain(&exchange.received, &messages);
        }
    }
}

#[test]
fn thresholds_of_both_sides() {
    let messages = mixed();
    for library in libraries() {
        let all = Setup {
            query: "threshold=0&server_no_context_takeover",
            ..Setup::with_options(|options| options.compression_threshold = 0)
        };
        let exchanged = exchange(&library, &all, &messages);
        for (passed, message) in iter::zip(&exchanged.sent, &messages) {
            let right = passed.compressed == (length(message) > 0) || *message == incompressible();
            assert!(right, "{passed:?} of {} bytes", length(message));
        }
        assert!(exchanged.received.iter().all(|passed| passed.compressed));

        let none = Setup::with_options(|options| options.compression_threshold = usize::MAX);
        let exchanged = exchange(&library, &none, &messages);
        check_plain(&exchanged.sent, &messages);
        check_way(&exchanged.received, &messages, false, None);
    }
}

/// Compressed messages of the server in fragments, in the middle of characters too.
#[test]
fn fragments() {
    for library in libraries() {
        for (size, messages) in [(1, short()), (1000, mixed()), (65_536, mixed())] {
            for takeover in ["", "&server_no_context_takeover"] {
                let query = format!("fragment={size}&threshold=0{takeover}");
                let setup = Setup { query: &query, ..Setup::default() };
                let exchange = exchange(&library, &setup, &messages);
                for (passed, message) in iter::zip(&exchange.received, &messages) {
                    let length = length(message);
                    assert!(passed.frames > 1 || length <= size, "{passed:?} of {length} bytes");
                    assert!(passed.compressed, "{passed:?} of {length} bytes");
                }
            }
        }
    }
}

/// Blocks of every kind: stored, with fixed and with dynamic codes; without matches, and with as many as can be found.
#[test]
fn ways_to_compress() {
    let messages = mixed();
    let (stored, best, huffman_only, run_length, fixed) =
        ("level=0", "level=9", "strategy=2", "strategy=3", "strategy=4");
    for library in libraries() {
        for query in [stored, best, huffman_only, run_length, fixed] {
            let exchange = exchange(&library, &Setup { query, ..Setup::default() }, &messages);
            assert_eq!(exchange.agreed, Some(vec![]));
            assert!(exchange.received.iter().all(|passed| passed.compressed));
        }
    }
}
