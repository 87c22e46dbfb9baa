//! The house as `docs/architecture.md` draws it, checked against the sources: a file uses its own storey and those below,
//! and below the reactor nothing names a socket, a thread, a channel, a clock or a source of random bytes.
//!
//! Comments, texts and test modules are passed over. `Instant`, `Duration` and `SocketAddr` are values, and may stand
//! anywhere: only to ask what time it is belongs to the reactor. The exceptions are files': programs ask a storage for the
//! cookies that have not expired, and whether a server's certificates are good, and give no time; and rustls can be given its
//! random bytes once more only by what it finds by itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each storey, and those below it that it may use.
const STOREYS: [(&str, &[&str]); 7] = [
    ("foundation", &[]),
    ("http", &["foundation"]),
    ("websocket", &["foundation"]),
    ("loader", &["foundation", "http", "websocket"]),
    ("reactor", &["foundation", "http", "websocket", "loader"]),
    ("session", &["foundation", "http", "websocket", "loader", "reactor"]),
    ("reconnector", &["foundation", "reactor", "session"]),
];

/// Those that do nothing by themselves.
const WITHOUT_IO: [&str; 4] = ["foundation", "http", "websocket", "loader"];

/// Where such a name begins, it is the kernel's business, another thread's, or chance.
const FORBIDDEN_PATHS: [&[&str]; 17] = [
    &["crossbeam"],
    &["crossbeam_channel"],
    &["getrandom"],
    &["libc"],
    &["mio"],
    &["polling"],
    &["rand"],
    &["rustix"],
    &["socket2"],
    &["std", "fs"],
    &["std", "net", "*"],
    &["std", "os"],
    &["std", "sync", "Barrier"],
    &["std", "sync", "Condvar"],
    &["std", "sync", "mpsc"],
    &["std", "thread"],
    &["tokio"],
];

/// Wherever such a name stands, behind whatever.
const FORBIDDEN_NAMES: [&str; 14] = [
    "Condvar",
    "RandomState",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "elapsed",
    "mpsc",
    "secure_random",
    "thread_local",
    "to_socket_addrs",
];

/// Locks are for what several threads share: the stores of the foundation, and nothing else down there.
const LOCKS: [&str; 4] = ["Mutex", "RwLock", "ReentrantMutex", "parking_lot"];

/// The files below the reactor that may say what no other may.
const EXCEPTIONS: [(&str, &[&str]); 4] = [
    ("src/foundation/cookie_storage.rs", &["SystemTime", "now"]),
    ("src/foundation/server_trust.rs", &["UnixTime", "now"]),
    ("src/loader/tls/tape.rs", &["secure_random"]),
    ("src/loader/tls/tape.rs", &["thread_local"]),
];

#[test]
fn every_file_keeps_to_its_storey() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    list(&root, &mut files);
    let sources: Vec<Source> = files.iter().map(|path| Source::read(&root, path)).collect();
    let of_tests: BTreeSet<&[String]> =
        sources.iter().flat_map(|source| source.test_modules.iter().map(Vec::as_slice)).collect();

    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for source in &sources {
        let is_of_tests = (1..=source.module.len()).any(|depth| of_tests.contains(&source.module[..depth]));
        if source.module.is_empty() || is_of_tests {
            continue;
        }
        seen.insert(source.module[0].as_str());
        findings.extend(source.findings().into_iter().map(|finding| format!("{}:{finding}", source.name)));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
    let storeys: BTreeSet<&str> = STOREYS.iter().map(|(storey, _)| *storey).collect();
    assert_eq!(seen, storeys, "the storeys in src/");
    assert!(sources.len() > 40, "only {} files were found", sources.len());
}

#[test]
fn each_kind_of_breach_is_found() {
    let breaches = [
        ("websocket", "use mio::Poll;", "mio"),
        ("http", "use std::net::TcpStream;", "std::net::TcpStream"),
        ("http", "use std::net::{IpAddr, UdpSocket as Datagrams};", "std::net::UdpSocket"),
        ("loader", "use std::net::*;", "std::net::*"),
        ("loader", "fn f() { (\"a\", 1).to_socket_addrs(); }", "to_socket_addrs"),
        ("foundation", "use std::{fmt, thread};", "std::thread"),
        ("foundation", "fn f() { std::thread::sleep(SECOND) }", "std::thread::sleep"),
        ("loader", "let now = Instant::now();", "Instant::now"),
        ("loader", "let now = ::std::time::SystemTime::now ();", "std::time::SystemTime::now"),
        ("loader", "let clock = UnixTime::now;", "UnixTime::now"),
        ("foundation", "fn now() { SystemTime::now() }", "SystemTime::now"),
        ("foundation", "use std::fs::File;", "std::fs::File"),
        ("loader", "let age = start.elapsed();", "elapsed"),
        ("http", "crossbeam_channel::bounded(1);", "crossbeam_channel::bounded"),
        ("http", "use std::sync::{Arc, mpsc::{Sender}};", "std::sync::mpsc::Sender"),
        ("websocket", "getrandom::fill(&mut bytes)?;", "getrandom::fill"),
        ("websocket", "extern crate rand;", "rand"),
        ("websocket", "static LAST: parking_lot::Mutex<u8> = x;", "parking_lot::Mutex"),
        ("loader", "use std::sync::Mutex;", "std::sync::Mutex"),
        ("websocket", "thread_local! { static A: u8 = 1; }", "thread_local"),
        ("foundation", "use crate::session::UrlSession;", "crate::session::UrlSession"),
        ("foundation", "type A = crate::http::ResponseHead;", "crate::http::ResponseHead"),
        ("http", "use crate::{foundation::Url, websocket::Decoder};", "crate::websocket::Decoder"),
        ("websocket", "use crate::loader::Loader;", "crate::loader::Loader"),
        ("loader", "fn f() -> crate::reactor::Reactor { }", "crate::reactor::Reactor"),
        ("loader", "use super::super::reactor::Reactor;", "crate::reactor::Reactor"),
        ("reactor", "use crate::session::{UrlSession};", "crate::session::UrlSession"),
        ("reactor", "use crate::UrlSession;", "crate::UrlSession"),
        ("http", "use crate::*;", "crate::*"),
        ("http", "macro_rules! a { () => { $crate::session::A } }", "crate::session::A"),
        ("http", "#[cfg(not(test))] use mio::Poll;", "mio::Poll"),
        ("http", "#[cfg(test)] mod tests { } use mio::Poll;", "mio::Poll"),
        ("http", "mod hidden { use super::super::A; }", "mod hidden"),
    ];
    for (storey, text, expected) in breaches {
        let found = source(storey, text).findings();
        assert!(found.len() == 1 && found[0].contains(expected), "{storey}: {text}\n{found:?}");
    }
}

#[test]
fn what_may_stand_there_is_no_breach() {
    let allowed = [
        ("loader", "use std::net::{IpAddr, SocketAddr}; use std::time::{Duration, Instant, SystemTime};"),
        ("loader", "use crate::{foundation::Message, http::HeadParser, websocket::{Decoder, Outgoing}};"),
        ("loader", "fn f(env: &Env) -> Instant { env.now } // Instant::now() is the reactor's"),
        ("loader", "/* mio /* and */ getrandom */ const A: &str = \"std::thread\"; const B: &[u8] = br#\"\"mio\"\"#;"),
        ("loader", "const A: char = '\"'; fn f<'a>(a: &'a str) -> char { '\\'' } // \" mio::Poll"),
        ("loader", "use super::end::Cause; use super::super::foundation::Message;"),
        ("loader", "pub(in crate::loader) fn f() {} pub(crate) fn g() {} fn now() {}"),
        ("foundation", "use std::sync::{Arc, Mutex, OnceLock};"),
        ("http", "#[cfg(test)] mod tests { use std::thread; use crate::session::UrlSession; }"),
        ("http", "#[cfg(test)] #[allow(dead_code)] fn f(a: A, b: B) -> C { Instant::now() }"),
        ("http", "struct A { #[cfg(test)] seen: mio::Token, b: u8 }"),
        ("reactor", "use mio::Poll; use std::thread; fn f() { Instant::now(); } use crate::loader::Loader;"),
        ("session", "use crate::{foundation::Message, loader::Loader, reactor::Reactor}; use parking_lot::Mutex;"),
    ];
    for (storey, text) in allowed {
        assert_eq!(source(storey, text).findings(), Vec::<String>::new(), "{storey}: {text}");
    }
    let outside = source("http", "#[cfg(test)]\npub(crate) mod tests; mod head;");
    assert_eq!(outside.test_modules, [["http", "a", "tests"]]);
}

/// A file of one storey, for the tests of the check itself.
fn source(storey: &str, text: &str) -> Source {
    Source::new(format!("{storey}/a.rs"), vec![storey.to_owned(), "a".to_owned()], text)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A source file without its comments, texts and tests.
struct Source {
    name: String,
    /// Of `src/http/head.rs` it is `http`, `head`; of `src/lib.rs` nothing.
    module: Vec<String>,
    tokens: Vec<Token>,
    /// Modules in files of their own that are compiled for tests only.
    test_modules: Vec<Vec<String>>,
}

struct Token {
    line: usize,
    /// A name or a number; `::`; or one character.
    text: String,
}

/// A name with what stands before it, `use` groups taken apart.
struct Name {
    line: usize,
    path: Vec<String>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let relative = path.strip_prefix(root).unwrap().with_extension("");
        let mut module: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let name = format!("src/{}.rs", relative.display());
        Self::new(name, module, &fs::read_to_string(path).unwrap())
    }

    fn new(name: String, module: Vec<String>, text: &str) -> Self {
        let mut tokens = tokens(text);
        let test_modules = remove_tests(&mut tokens).into_iter().map(|name| [module.clone(), vec![name]].concat());
        Self { name, test_modules: test_modules.collect(), module, tokens }
    }

    fn findings(&self) -> Vec<String> {
        let storey = self.module[0].as_str();
        let Some((_, below)) = STOREYS.iter().find(|(name, _)| *name == storey) else {
            return vec![format!("1: {storey} is no storey")];
        };
        let mut findings = Vec::new();
        // Where a module stands inside a file, `super` is not what it is elsewhere in the file.
        for window in self.tokens.windows(3) {
            if window[0].text == "mod" && window[2].text == "{" {
                findings.push(format!("{}: mod {} belongs in a file of its own", window[0].line, window[1].text));
                return findings;
            }
        }
        for name in names(&self.tokens) {
            let path = self.resolved(&name.path);
            let shown = path.join("::");
            if let [first, target, ..] = &*path
                && first == "crate"
                && target != storey
                && !below.contains(&target.as_str())
            {
                findings.push(format!("{}: {shown} is not below {storey}", name.line));
            } else if EXCEPTIONS.iter().any(|(file, name)| self.name == *file && path == **name) {
                continue;
            } else if WITHOUT_IO.contains(&storey) && is_forbidden(&path, storey) {
                findings.push(format!("{}: {shown} belongs to the reactor", name.line));
            }
        }
        findings
    }

    /// `super` and `self` as seen from the root of the crate.
    fn resolved(&self, path: &[String]) -> Vec<String> {
        let supers = path.iter().take_while(|part| *part == "super" || *part == "self").count();
        if supers == 0 || path.len() == supers {
            return path.to_vec();
        }
        let up = path[..supers].iter().filter(|part| *part == "super").count();
        let stays = self.module.len().saturating_sub(up);
        let crate_root = ["crate".to_owned()];
        [&crate_root[..], &self.module[..stays], &path[supers..]].concat()
    }
}

fn is_forbidden(path: &[String], storey: &str) -> bool {
    let asks_the_time = path.len() > 1 && path.last().is_some_and(|last| last == "now");
    let begins = FORBIDDEN_PATHS.iter().any(|forbidden| {
        path.len() >= forbidden.len() && path.iter().zip(*forbidden).all(|(part, forbidden)| part == forbidden)
    });
    let locks = storey != "foundation" && path.iter().any(|part| LOCKS.contains(&part.as_str()));
    asks_the_time || begins || locks || path.iter().any(|part| FORBIDDEN_NAMES.contains(&part.as_str()))
}

/// Every path in the tokens.
fn names(tokens: &[Token]) -> Vec<Name> {
    let mut names = Vec::new();
    let mut position = 0;
    while position < tokens.len() {
        if is_name(&tokens[position].text) {
            position = path(tokens, position, &[], &mut names);
        } else {
            position += 1;
        }
    }
    names
}

/// Reads one path from `position` on, with a group at its end if it has one; where it ends.
fn path(tokens: &[Token], mut position: usize, before: &[String], names: &mut Vec<Name>) -> usize {
    let text = |position: usize| tokens.get(position).map_or("", |token| token.text.as_str());
    let line = tokens[position].line;
    let mut path = before.to_vec();
    path.push(text(position).to_owned());
    position += 1;
    while text(position) == "::" {
        match text(position + 1) {
            "{" => {
                position += 2;
                while !matches!(text(position), "}" | "") {
                    position = match text(position) {
                        name if is_name(name) || name == "*" => self::path(tokens, position, &path, names),
                        _ => position + 1,
                    };
                    // The new name of an import says nothing.
                    if text(position) == "as" {
                        position += 2;
                    }
                }
                return position + 1;
            }
            name if is_name(name) || name == "*" => {
                path.push(name.to_owned());
                position += 2;
            }
            _ => break,
        }
    }
    names.push(Name { line, path });
    position
}

fn is_name(text: &str) -> bool {
    text.starts_with(|character: char| character.is_alphabetic() || character == '_')
}

/// Cuts out what is compiled for tests only; the names of modules that are so in files of their own.
fn remove_tests(tokens: &mut Vec<Token>) -> Vec<String> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut modules = Vec::new();
    let mut position = 0;
    while position + ATTRIBUTE.len() <= tokens.len() {
        let is_attribute = tokens[position..].iter().zip(ATTRIBUTE).all(|(token, expected)| token.text == expected);
        if is_attribute {
            let end = end_of_item(tokens, position + ATTRIBUTE.len());
            if let [.., keyword, name, semicolon] = &tokens[position..end]
                && keyword.text == "mod"
                && semicolon.text == ";"
            {
                modules.push(name.text.clone());
            }
            tokens.drain(position..end);
        } else {
            position += 1;
        }
    }
    modules
}

/// Behind the item, statement or field that begins at `start`: its block, or its `;` or `,` outside of brackets.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (position, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" if depth <= 1 => return position + usize::from(depth == 1),
            "}" => depth -= 1,
            ";" | "," if depth == 0 => return position + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Names, numbers, `::` and single characters; no comments, and of texts and characters nothing.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |position: usize| characters.get(position).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut position, mut line) = (0, 1);
    while position < characters.len() {
        let start = position;
        match (at(position), at(position + 1)) {
            ('/', '/') => position = find(&characters, position, "\n"),
            ('/', '*') => position = end_of_comment(&characters, position),
            ('"', _) => position = end_of_quoted(&characters, position + 1, '"'),
            // A lifetime has no second quote.
            ('\'', next) if next == '\\' || at(position + 2) == '\'' => {
                position = end_of_quoted(&characters, position + 1, '\'');
            }
            (':', ':') => position += 2,
            (first, _) if first.is_alphanumeric() || first == '_' => {
                position += characters[position..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                let word: String = characters[start..position].iter().collect();
                let hashes = characters[position..].iter().take_while(|character| **character == '#').count();
                if matches!(&*word, "r" | "br" | "cr") && at(position + hashes) == '"' {
                    let end = format!("\"{}", "#".repeat(hashes));
                    position = find(&characters, position + hashes + 1, &end) + end.len();
                    line += lines(&characters, start, position);
                    continue;
                }
            }
            _ => position += 1,
        }
        let word: String = characters[start..position.min(characters.len())].iter().collect();
        let is_comment = word.starts_with("//") || word.starts_with("/*");
        let is_quoted = word.len() > 1 && word.starts_with(['"', '\'']);
        if !is_comment && !is_quoted && !word.trim().is_empty() {
            tokens.push(Token { line, text: word });
        }
        line += lines(&characters, start, position);
    }
    tokens
}

fn lines(characters: &[char], from: usize, to: usize) -> usize {
    characters[from..to.min(characters.len())].iter().filter(|character| **character == '\n').count()
}

fn find(characters: &[char], from: usize, text: &str) -> usize {
    let text: Vec<char> = text.chars().collect();
    (from..characters.len()).find(|position| characters[*position..].starts_with(&text)).unwrap_or(characters.len())
}

/// Comments may stand in comments.
fn end_of_comment(characters: &[char], start: usize) -> usize {
    let (mut position, mut depth) = (start, 0);
    while position < characters.len() {
        match characters.get(position..position + 2) {
            Some(['/', '*']) => (depth, position) = (depth + 1, position + 2),
            Some(['*', '/']) => (depth, position) = (depth - 1, position + 2),
            _ => position += 1,
        }
        if depth == 0 {
            break;
        }
    }
    position
}

fn end_of_quoted(characters: &[char], mut position: usize, quote: char) -> usize {
    while position < characters.len() && characters[position] != quote {
        position += if characters[position] == '\\' { 2 } else { 1 };
    }
    position + 1
}
