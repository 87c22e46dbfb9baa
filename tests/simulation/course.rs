//! Where a task has to be on its way: what the servers said, what the caller and the delegate want, and so which request comes
//! next, and with what. Said once more, and not with the crate's own code.

use std::collections::{HashMap, HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha2::{Sha256, Sha512_256};
use url::{Position, Url};

use crate::plan::{Body, Plan};
use crate::rng::Rng;
use crate::tls;
use crate::way::{Method, Offered, Stop};

/// How many redirects are followed, and how many challenges answered.
const MOST: usize = 20;

/// How often in a row a nonce may be stale.
const STALE: usize = 3;

/// The fields that may go to another origin.
pub const OPEN: [&str; 1] = ["sec-websocket-protocol"];

/// The user and the password of the address.
const OWN: (&str, &str) = ("me", "word");

/// Who is in the storage from the start.
pub const STORED: (&str, &str) = ("ann", "kept");

/// A part of a server: its origin, the method, the realm.
pub type Space = (String, Method, Option<String>);

/// A request.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub url: Url,
    /// The fields that are not the handshake's own, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The answer to a challenge, in the place of a field.
    attempt: Option<Attempt>,
    /// The storage's cookie.
    cookie: bool,
    led_away: bool,
}

#[derive(Clone, Debug)]
struct Attempt {
    space: Space,
    user: String,
    password: String,
    keeps: bool,
    by: By,
    challenge: Challenge,
}

/// Who said that it is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// It is known where it was good before.
    Nobody,
    /// The same, with a new nonce.
    NobodyAgain,
    Default,
    Delegate,
}

/// An offer, with its nonce.
type Challenge = (Offered, String);

/// What a server said, and how.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    said: Said,
    cookie: bool,
    /// What was sent of the body.
    pub body: Vec<u8>,
    /// Where the head and the body end in what the server wrote, without TLS.
    pub head_end: usize,
    pub end: usize,
    /// Whether another request may come on the same connection.
    pub keeps: bool,
}

#[derive(Clone, Debug)]
enum Said {
    Redirect(Option<Url>),
    Challenge(Vec<Challenge>),
}

/// A question as it has to be.
#[derive(Clone, Debug)]
pub enum Asked {
    Redirect(Wanted),
    Challenge(Space, Challenge),
}

/// What a reply says.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Replied {
    Default,
    Follow(Wanted, bool),
    Stay,
    Credential(String, String, bool),
    NoCredential,
    Cancel,
    Reject,
}

/// What comes of an answer, or of a reply.
#[derive(Debug)]
pub enum Decision {
    Ask,
    GoOn,
    /// The answer is the last.
    Stand,
    Fail(i32, Option<Url>),
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum State {
    /// The server has not answered the current request.
    Wanted,
    /// It has, and the client may not know it.
    Answered(Answered),
    Asked(Answered, Asked),
    /// The connection ended in place of an answer.
    Lost,
    Last,
}

/// What the task knows of its challenges.
#[derive(Debug, Default)]
struct Authentication {
    offers: VecDeque<Challenge>,
    /// With whether it was an answer.
    refused: Vec<(Space, String, String, bool)>,
    rejected: Vec<Space>,
    answers: usize,
    stale: usize,
}

pub struct Course {
    pub current: Wanted,
    pub state: State,
    pub stops: VecDeque<Stop>,
    /// The answer before the current request.
    pub before: Option<(Answered, Url)>,
    before_url: Option<Url>,
    /// There are many stops.
    pub is_long: bool,
    has_delegate: bool,
    offers: bool,
    authentication: Authentication,
    stored: Vec<(Space, String, String)>,
    known: Vec<(Space, String, Challenge)>,
    cookies: HashSet<String>,
    keys: HashSet<String>,
    counts: HashMap<String, u32>,
    pub redirects: usize,
    answers: usize,
    /// Requests that were made.
    pub hops: usize,
    /// Of so many of them nobody outside knows.
    pub unsure: usize,
    pub questions: u32,
    number: usize,
}

impl Course {
    pub fn new(plan: &Plan, url: &Url) -> Self {
        let way = &plan.way;
        let mut fields = Vec::new();
        let mut add = |add: bool, name: &str, value: &str| {
            if add {
                fields.push((name.to_owned(), value.to_owned()));
            }
        };
        add(plan.offers(), "sec-websocket-protocol", "chat, other");
        add(way.authorization, "authorization", "Bearer secret");
        add(way.cookie, "cookie", "hand=secret");
        add(way.secret, "x-secret", "secret");
        let mut stored = Vec::new();
        if let Some((method, realm)) = way.stored {
            stored.push(((origin(url), method, Some(realm.to_owned())), STORED.0.to_owned(), STORED.1.to_owned()));
        }
        let mut url = url.clone();
        url.set_fragment(None);
        Self {
            current: Wanted { url, fields, attempt: None, cookie: false, led_away: false },
            state: State::Wanted,
            stops: way.stops.clone().into(),
            before: None,
            before_url: None,
            is_long: way.stops.len() > 6,
            has_delegate: way.has_delegate,
            offers: plan.offers(),
            authentication: Authentication::default(),
            stored,
            known: Vec::new(),
            cookies: HashSet::new(),
            keys: HashSet::new(),
            counts: HashMap::new(),
            redirects: 0,
            answers: 0,
            hops: 1,
            unsure: 0,
            questions: 0,
            number: 0,
        }
    }

    // The server's side.

    /// A request came over a connection to `at`: it is the one that has to come, and whole (RFC 6455 §4.1).
    pub fn check(&mut self, wanted: &Wanted, head: &str, at: &Url, extensions: Option<&str>) {
        assert!(is_same_origin(at, &wanted.url), "a request for {} at {at}", wanted.url);
        let url = &wanted.url;
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let start = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n");
        assert!(head.starts_with(&start), "{head}\nexpected {start}");
        let mut fields = HashMap::new();
        for line in head.split_terminator("\r\n").skip(2).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a field");
            let twice = fields.insert(name.to_ascii_lowercase(), value.to_owned());
            assert!(twice.is_none(), "{name} is there twice");
        }
        let mut take = |name: &str| fields.remove(name);
        let is =
            |value: Option<String>, expected: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(expected));
        assert!(is(take("upgrade"), "websocket") && is(take("connection"), "upgrade"), "{head}");
        assert_eq!(take("sec-websocket-version").as_deref(), Some("13"));
        let key = take("sec-websocket-key").expect("a key");
        assert_eq!(STANDARD.decode(&key).expect("a key in base64").len(), 16);
        assert!(self.keys.insert(key), "a key is used twice");
        assert_eq!(take("sec-websocket-extensions").as_deref(), extensions);
        if let Some(attempt) = &wanted.attempt {
            let authorization = take("authorization").expect("an answer to the challenge");
            self.check_authorization(attempt, &authorization, target);
        }
        let mut expected: HashMap<String, String> = wanted.fields.iter().cloned().collect();
        if !wanted.led_away {
            expected.insert("x-common".to_owned(), "yes".to_owned());
        }
        if wanted.attempt.is_some() {
            expected.remove("authorization");
        }
        if wanted.cookie {
            expected.insert("cookie".to_owned(), cookie(url));
        }
        assert_eq!(fields, expected, "what a request to {url} has");
    }

    fn check_authorization(&mut self, attempt: &Attempt, value: &str, target: &str) {
        let Attempt { user, password, challenge: (offered, nonce), space, .. } = attempt;
        if offered.method == Method::Basic {
            return assert_eq!(value, format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))));
        }
        let parameters: HashMap<&str, &str> = value
            .strip_prefix("Digest ")
            .expect("Digest")
            .split(", ")
            .filter_map(|parameter| parameter.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        let of = |name: &str| *parameters.get(name).unwrap_or_else(|| panic!("{name} in {value}"));
        let realm = space.2.as_deref().unwrap_or_default();
        assert_eq!((of("username"), of("realm"), of("uri"), of("nonce")), (&**user, realm, target, &**nonce));
        assert_eq!((of("algorithm"), of("qop")), (offered.algorithm, "auth"));
        let count = u32::from_str_radix(of("nc"), 16).unwrap();
        let last = self.counts.insert(nonce.clone(), count).unwrap_or(0);
        assert!(count > last, "a count of a nonce comes once (RFC 7616 §3.4)");
        let hash = |text: String| hash(offered.algorithm, &text);
        let mut key = hash(format!("{user}:{realm}:{password}"));
        if offered.algorithm.ends_with("-sess") {
            key = hash(format!("{key}:{nonce}:{}", of("cnonce")));
        }
        let request = hash(format!("GET:{target}"));
        let response = hash(format!("{key}:{nonce}:{}:{}:auth:{request}", of("nc"), of("cnonce")));
        assert_eq!(of("response"), response, "{value}");
    }

    /// A redirect: the lines of its head that say where to.
    pub fn redirect(&mut self, clean: bool, rng: &mut Rng) -> (String, Option<Url>) {
        self.number += 1;
        let number = self.number;
        let current = &self.current.url;
        let secure = current.scheme() == "wss";
        let broken = |line: &str| (line.to_owned(), None);
        // A long chain is to reach its end.
        let clean = clean || self.is_long;
        match rng.below(if clean { 12 } else { 40 }) {
            0..6 => {
                let expected = current.join(&format!("/p{number}?r=1")).unwrap();
                let host = &current[Position::BeforeHost..Position::AfterPort];
                let scheme = current.scheme();
                let location = match rng.below(5) {
                    0 => format!("p{number}?r=1#part"),
                    1 => format!("//{host}/p{number}?r=1"),
                    2 => format!("{scheme}://you:evil@{host}/p{number}?r=1"),
                    3 => format!("{}://{host}/x/../p{number}?r=1", scheme.replace("ws", "http")),
                    _ => format!("/p{number}?r=1"),
                };
                (format!("Location: {location}\r\n"), Some(expected))
            }
            36 => broken(""),
            37 => broken("Location: \r\n"),
            38 => broken("Location: ws://\r\n"),
            39 => broken("Location: /a\r\nLocation: /b\r\n"),
            34 | 35 => {
                let foreign = rng.pick(&["ftp://away.test/x", "my-app:done", "data:,HI"]);
                (format!("Location: {foreign}\r\n"), Some(Url::parse(foreign).unwrap()))
            }
            _ => {
                let secure = if clean { secure || rng.one_in(4) } else { rng.one_in(if secure { 2 } else { 4 }) };
                let url = elsewhere(secure, number, rng);
                let mut location = url.to_string();
                if rng.one_in(3) {
                    location = location.replacen("ws", "http", 1);
                }
                if rng.one_in(4) {
                    location = location.replacen("//", "//you:evil@", 1);
                }
                (format!("Location: {location}\r\n"), Some(url))
            }
        }
    }

    /// Challenges: the lines of their head.
    pub fn challenge(&mut self, offers: &[Offered], rng: &mut Rng) -> (String, Vec<Challenge>) {
        let mut values = Vec::new();
        let mut challenges = Vec::new();
        for offered in offers {
            self.number += 1;
            let nonce = format!("nonce{}", self.number);
            let realm = offered.realm.unwrap_or_default();
            values.push(match offered.method {
                Method::Negotiate => "Negotiate".to_owned(),
                Method::Ntlm => "NTLM".to_owned(),
                Method::Basic => format!("Basic realm=\"{realm}\""),
                Method::Digest => {
                    let (algorithm, stale) = (offered.algorithm, if offered.stale { ", stale=true" } else { "" });
                    format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}")
                }
            });
            challenges.push((*offered, nonce));
        }
        let lines = match rng.one_in(2) {
            true if !values.is_empty() => format!("WWW-Authenticate: {}\r\n", values.join(", ")),
            _ => values.iter().map(|value| format!("WWW-Authenticate: {value}\r\n")).collect(),
        };
        challenges.sort_by_key(|(offered, _)| offered.method);
        (lines, challenges)
    }

    /// The server said where else to go.
    pub fn redirected(&mut self, stop: &Stop, status: u16, target: Option<Url>) {
        self.answered(stop, status, Said::Redirect(target));
    }

    /// The server wants to know who asks.
    pub fn challenged(&mut self, stop: &Stop, challenges: Vec<Challenge>) {
        self.answered(stop, 401, Said::Challenge(challenges));
    }

    fn answered(&mut self, stop: &Stop, status: u16, said: Said) {
        let keeps = match stop.body {
            Body::Length(length) | Body::Chunked(length) => length <= 64 << 10,
            Body::Short(..) | Body::UntilEnd(_) => false,
        };
        let keeps = keeps && !stop.close && !stop.old && !stop.surplus;
        let cookie = stop.cookie;
        let (body, head_end, end) = (Vec::new(), 0, 0);
        self.state = State::Answered(Answered { status, said, cookie, body, head_end, end, keeps });
    }

    // The client's side.

    /// The client read the head of the answer.
    pub fn take_up(&mut self) -> (Answered, Decision) {
        let State::Answered(answered) = std::mem::replace(&mut self.state, State::Last) else { unreachable!() };
        if answered.cookie {
            self.cookies.insert(self.current.url.host_str().unwrap_or_default().to_owned());
        }
        let decision = match answered.said.clone() {
            Said::Redirect(target) => {
                self.was_good();
                match target {
                    None => Decision::Stand,
                    Some(url) if self.redirects >= MOST => Decision::Fail(-1007, Some(url)),
                    Some(url) => {
                        let proposed = self.proposed(url);
                        if self.has_delegate {
                            self.state = State::Asked(answered.clone(), Asked::Redirect(proposed));
                            Decision::Ask
                        } else {
                            self.follow(proposed, false)
                        }
                    }
                }
            }
            Said::Challenge(challenges) => self.refused(&answered, challenges),
        };
        self.note(&answered, &decision);
        (answered, decision)
    }

    fn note(&mut self, answered: &Answered, decision: &Decision) {
        if let Decision::GoOn = decision {
            self.before = Some((answered.clone(), self.before_url.take().expect("where it came from")));
        }
    }

    /// The delegate's reply.
    pub fn reply(&mut self, replied: Replied) -> (Answered, Decision) {
        let state = std::mem::replace(&mut self.state, State::Last);
        let State::Asked(answered, asked) = state else { panic!("a reply to nothing: {state:?}") };
        let decision = match asked {
            Asked::Redirect(proposed) => match replied {
                Replied::Stay => Decision::Stand,
                Replied::Follow(wanted, is_own) => self.follow(wanted, is_own),
                _ => self.follow(proposed, false),
            },
            Asked::Challenge(space, challenge) => match replied {
                Replied::Credential(user, password, keeps) if takes_password(&space) => {
                    self.answer(space, (user, password, keeps), By::Delegate, challenge)
                }
                Replied::Credential(..) => self.next_offer(&answered),
                Replied::NoCredential => Decision::Stand,
                Replied::Cancel => Decision::Fail(-999, None),
                Replied::Reject => {
                    self.authentication.rejected.push(space);
                    self.next_offer(&answered)
                }
                _ => match self.stored_for(&space) {
                    Some(stored) => self.answer(space, stored, By::Default, challenge),
                    None if takes_password(&space) => self.by_default(),
                    None => self.next_offer(&answered),
                },
            },
        };
        self.note(&answered, &decision);
        (answered, decision)
    }

    /// A connection that was kept is lost before anything was heard on it: the same request once more.
    pub fn again(&mut self) {
        self.hops += 1;
        self.state = State::Wanted;
        self.before = None;
    }

    fn proposed(&self, url: Url) -> Wanted {
        let from = &self.current;
        let mut wanted = Wanted { url, fields: from.fields.clone(), attempt: None, cookie: false, led_away: false };
        if is_same_origin(&from.url, &wanted.url) {
            let _ = wanted.url.set_username(from.url.username());
            let _ = wanted.url.set_password(from.url.password());
        } else {
            wanted.fields.retain(|(name, _)| OPEN.contains(&&**name));
        }
        wanted
    }

    /// A request of the delegate's own, to another place.
    pub fn own(&mut self, rng: &mut Rng) -> Wanted {
        self.number += 1;
        let url = match rng.one_in(3) {
            true => self.current.url.join(&format!("/own{}", self.number)).unwrap(),
            false => elsewhere(rng.one_in(4), self.number, rng),
        };
        let mut fields = vec![("x-own".to_owned(), self.number.to_string())];
        if self.offers {
            fields.push(("sec-websocket-protocol".to_owned(), "chat, other".to_owned()));
        }
        Wanted { url, fields, attempt: None, cookie: false, led_away: false }
    }

    fn follow(&mut self, mut wanted: Wanted, is_own: bool) -> Decision {
        let from = self.current.url.clone();
        let is_downgrade = from.scheme() == "wss" && wanted.url.scheme() == "ws";
        if is_downgrade && !is_own {
            return Decision::Fail(-1200, Some(wanted.url));
        }
        let stays = is_same_origin(&from, &wanted.url);
        wanted.led_away = self.current.led_away || !stays;
        self.redirects += 1;
        self.hops += 1;
        if !matches!(wanted.url.scheme(), "ws" | "wss") {
            return Decision::Fail(-1002, Some(wanted.url));
        }
        self.go_on(wanted, from)
    }

    fn go_on(&mut self, mut wanted: Wanted, from: Url) -> Decision {
        let url = &wanted.url;
        wanted.cookie = self.cookies.contains(url.host_str().unwrap_or_default());
        let has_own = wanted.fields.iter().any(|(name, _)| name == "authorization") || !url.username().is_empty();
        if wanted.attempt.is_none() && !has_own {
            let at = origin(url);
            let known = self.known.iter().rev().find(|(space, ..)| space.0 == at);
            wanted.attempt = known.map(|(space, user, challenge)| {
                let stored = self.stored.iter().find(|(other, other_user, _)| other == space && other_user == user);
                let (_, _, password) = stored.expect("what is known is stored");
                let (space, user, password, challenge) =
                    (space.clone(), user.clone(), password.clone(), challenge.clone());
                Attempt { space, user, password, keeps: true, by: By::Nobody, challenge }
            });
        }
        self.current = wanted;
        self.before_url = Some(from);
        self.state = State::Wanted;
        Decision::GoOn
    }

    /// An answer came that is no 401.
    pub fn was_good(&mut self) {
        let Some(Attempt { space, user, password, keeps, by, challenge }) = self.current.attempt.take() else { return };
        self.authentication.refused.retain(|(refused, ..)| *refused != space);
        self.authentication.stale = 0;
        if keeps {
            if by == By::Delegate {
                self.stored.retain(|(other, other_user, _)| *other != space || *other_user != user);
                self.stored.push((space.clone(), user.clone(), password));
            }
            self.known.retain(|(other, ..)| *other != space);
            self.known.push((space, user, challenge));
        }
    }

    fn refused(&mut self, answered: &Answered, challenges: Vec<Challenge>) -> Decision {
        if let Some(attempt) = self.current.attempt.take() {
            let Attempt { space, user, password, keeps, by, .. } = attempt;
            let unasked = by == By::Nobody;
            let is_same = |(offered, _): &&Challenge| offered.method == space.1 && offered.realm == space.2.as_deref();
            let same = challenges.iter().find(is_same);
            // The nonce is too old, or its count came too late.
            let is_stale = |(offered, _): &&Challenge| offered.stale || (unasked && offered.method == Method::Digest);
            if let Some(challenge) = same.filter(is_stale).filter(|_| self.authentication.stale < STALE) {
                self.authentication.stale += 1;
                let by = if unasked { By::NobodyAgain } else { by };
                return self.answer(space, (user, password, keeps), by, challenge.clone());
            }
            self.authentication.stale = 0;
            if !unasked || challenges.is_empty() || same.is_some() {
                self.known.retain(|(other, other_user, _)| *other != space || *other_user != user);
                let was_asked = !matches!(by, By::Nobody | By::NobodyAgain);
                self.authentication.refused.push((space, user, password, was_asked));
            }
        }
        self.authentication.offers = challenges.into();
        self.next_offer(answered)
    }

    fn next_offer(&mut self, answered: &Answered) -> Decision {
        while let Some((space, challenge)) = self.take_offer() {
            let url = &self.current.url;
            let has_user = takes_password(&space) && !url.username().is_empty();
            if has_user && !self.was_refused(|refused| refused.0 == space.0, OWN) {
                return self.answer(space, (OWN.0.to_owned(), OWN.1.to_owned(), false), By::Default, challenge);
            }
            if self.has_delegate {
                self.state = State::Asked(answered.clone(), Asked::Challenge(space, challenge));
                return Decision::Ask;
            }
            if let Some(stored) = self.stored_for(&space) {
                return self.answer(space, stored, By::Default, challenge);
            }
        }
        Decision::Stand
    }

    fn by_default(&mut self) -> Decision {
        while let Some((space, challenge)) = self.take_offer() {
            if let Some(stored) = self.stored_for(&space) {
                return self.answer(space, stored, By::Default, challenge);
            }
        }
        Decision::Stand
    }

    fn answer(&mut self, space: Space, who: (String, String, bool), by: By, challenge: Challenge) -> Decision {
        if self.authentication.answers >= MOST {
            return Decision::Stand;
        }
        self.authentication.answers += 1;
        self.answers += 1;
        assert!(self.answers <= MOST);
        self.hops += 1;
        let (user, password, keeps) = who;
        let mut wanted = self.current.clone();
        wanted.attempt = Some(Attempt { space, user, password, keeps, by, challenge });
        let from = wanted.url.clone();
        self.go_on(wanted, from)
    }

    fn take_offer(&mut self) -> Option<(Space, Challenge)> {
        while let Some((offered, nonce)) = self.authentication.offers.pop_front() {
            let space = (origin(&self.current.url), offered.method, offered.realm.map(str::to_owned));
            if !self.authentication.rejected.contains(&space) {
                return Some((space, (offered, nonce)));
            }
        }
        None
    }

    /// Who is in the storage for the space, where the server has not refused him.
    pub fn stored_for(&self, space: &Space) -> Option<(String, String, bool)> {
        let mut all = self.stored.iter().filter(|(other, ..)| other == space && takes_password(space));
        // Who was the last that the server took, or the only one.
        let (_, user, password) = all.next_back()?;
        let who = (&**user, &**password);
        (!self.was_refused(|refused| refused == space, who)).then(|| (user.clone(), password.clone(), true))
    }

    fn was_refused(&self, is_space: impl Fn(&Space) -> bool, (user, password): (&str, &str)) -> bool {
        let mut refused = self.authentication.refused.iter();
        refused.any(|(other, other_user, other_password, _)| {
            is_space(other) && (&**other_user, &**other_password) == (user, password)
        })
    }

    /// How often an answer to the space was refused.
    pub fn failures(&self, space: &Space) -> usize {
        let refused = self.authentication.refused.iter();
        refused.filter(|(refused, _, _, was_asked)| *was_asked && refused == space).count()
    }
}

fn takes_password(space: &Space) -> bool {
    matches!(space.1, Method::Digest | Method::Basic)
}

/// An address on another server, or on another port, or of another scheme.
fn elsewhere(secure: bool, number: usize, rng: &mut Rng) -> Url {
    let host = match secure {
        true => rng.pick(&[tls::HOST, tls::OTHER]),
        false => rng.pick(&[tls::HOST, tls::OTHER, "192.0.2.77"]),
    };
    let (scheme, port) = (if secure { "wss" } else { "ws" }, rng.pick(&["", "", ":8080", ":8443"]));
    Url::parse(&format!("{scheme}://{host}{port}/e{number}?r=2")).unwrap()
}

/// What a server's cookie is.
pub fn cookie(url: &Url) -> String {
    format!("at={}", url.host_str().unwrap_or_default())
}

pub fn origin(url: &Url) -> String {
    format!("{}://{}:{:?}", url.scheme(), url.host_str().unwrap_or_default(), url.port_or_known_default())
}

pub fn is_same_origin(one: &Url, other: &Url) -> bool {
    origin(one) == origin(other)
}

fn hash(algorithm: &str, text: &str) -> String {
    let bytes = match algorithm {
        "SHA-256" => Sha256::digest(text).to_vec(),
        "SHA-512-256" => Sha512_256::digest(text).to_vec(),
        _ => Md5::digest(text).to_vec(),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
