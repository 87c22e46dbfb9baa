//! Ways through proxies. A run of its own, on a network without faults of its own: what a plan leads to does not depend on how
//! the bytes are cut, so all that happens is known beforehand, word by word. The proxies are not made with the crate's code.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rustls::ServerConnection;
use sha1::Sha1;
use urlsession::internals::{
    Action, Common, Env, Epoch, Event, Loader, Output, Proxies, Random, Reply, Settings, Spare, Subject, Supply, Traces,
};
use urlsession::{
    AuthChallengeDisposition, AuthenticationMethod, CredentialPersistence, ErrorStage, ProxyConfiguration,
    SessionConfiguration, Url, UrlCredential, UrlError, UrlRequest,
};

use crate::plan::{Certificate, Tls};
use crate::rng::Rng;
use crate::tls;

const RUNS: u64 = 3_000;

/// The user, with a password that is right, and one that is not.
const USER: &str = "me";
const RIGHT: &str = "right";
const WRONG: &str = "wrong";

const BY_HAND: &str = "Basic aGFuZDpoYW5k";

#[derive(Clone, Debug)]
struct Plan {
    /// Where the servers are, one for each request that comes to one.
    turns: Vec<Turn>,
    first: Url,
    proxies: Vec<Proxy>,
    /// What becomes of a direct connection.
    direct: Reach,
    delegate: Delegate,
    trust: Trust,
    /// What servers behind TLS show.
    certificate: Certificate,
    /// They would like to see a certificate of the client's; the delegate has one, or not.
    identity: Option<bool>,
    /// `Proxy-Authorization` is set by the caller.
    by_hand: bool,
    suspends: bool,
    grain: usize,
}

/// What a server says to a request.
#[derive(Clone, Debug)]
enum Turn {
    Opens,
    Refuses(u16),
    Redirects { to: Url, keeps: bool },
}

#[derive(Clone, Debug)]
struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    /// The program has user and password for it, right or not.
    credential: Option<bool>,
    failover: bool,
    reach: Reach,
    exchange: Exchange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Socks,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Works,
    Unknown,
    Refused,
    Hangs,
    /// The certificate is not to be trusted.
    Untrusted,
}

#[derive(Clone, Debug)]
enum Exchange {
    /// It leads on; `wants`: to those that it knows.
    Opens {
        wants: Option<Wants>,
        interim: usize,
        surplus: bool,
    },
    /// HTTP: a status and the length of a body. SOCKS: a code.
    Refuses(u16, usize),
    /// SOCKS: none of the methods.
    NoMethod,
    Garbage,
    /// So many bytes of its answer, then the end.
    Cut(usize),
    Silent,
    /// It hangs up at once.
    Leaves,
}

#[derive(Clone, Copy, Debug)]
struct Wants {
    digest: bool,
    /// The connection stays; or it was said to, and does not.
    keeps: bool,
    lies: bool,
    body: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delegate {
    None,
    Knows,
    HasNothing,
    Cancels,
}

/// What the delegate says of the certificates of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    NotAsked,
    Default,
    Accepts,
    Rejects,
    Cancels,
    Never,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Redirect,
    Password,
    Trust,
    Identity,
}

/// How it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Opens,
    /// The number, and at which proxy it was.
    Fails(i32, Option<String>),
}

impl Plan {
    fn new(rng: &mut Rng) -> Self {
        let first = url(rng);
        let mut turns = Vec::new();
        let mut at = first.clone();
        while turns.len() < 3 && rng.one_in(3) {
            let to = match rng.one_in(3) {
                true => at.join("/again").unwrap(),
                // Not from TLS to none.
                false if at.scheme() == "wss" => Url::parse("wss://away.test/other").unwrap(),
                false => url(rng),
            };
            at.clone_from(&to);
            turns.push(Turn::Redirects { to, keeps: rng.one_in(2) });
        }
        turns.push(if rng.one_in(6) { Turn::Refuses(rng.pick(&[404, 503])) } else { Turn::Opens });
        let delegate = rng.pick(&[Delegate::None, Delegate::Knows, Delegate::HasNothing, Delegate::Cancels]);
        let trust = rng.pick(&[
            Trust::NotAsked,
            Trust::Default,
            Trust::Default,
            Trust::Accepts,
            Trust::Accepts,
            Trust::Rejects,
            Trust::Cancels,
            Trust::Never,
        ]);
        Self {
            turns,
            first,
            proxies: (0..rng.below(4)).map(|index| Proxy::new(index, rng)).collect(),
            direct: rng.pick(&[Reach::Works, Reach::Works, Reach::Refused, Reach::Unknown, Reach::Hangs]),
            trust: if delegate == Delegate::None { Trust::NotAsked } else { trust },
            certificate: if rng.one_in(5) { Certificate::UnknownRoot } else { Certificate::Good },
            identity: rng.one_in(3).then(|| rng.one_in(2)),
            delegate,
            by_hand: rng.one_in(6),
            suspends: rng.one_in(3),
            grain: rng.pick(&[1, 7, 60, 100_000]),
        }
    }
}

fn url(rng: &mut Rng) -> Url {
    let text = rng.pick(&[
        "ws://sim.test/a",
        "ws://192.0.2.7:8080/b?c",
        "ws://[2001:db8::7]/v",
        "wss://sim.test/d",
        "wss://away.test:8443/e",
    ]);
    Url::parse(text).unwrap()
}

impl Proxy {
    fn new(index: usize, rng: &mut Rng) -> Self {
        let kind = rng.pick(&[Kind::Http, Kind::Https, Kind::Socks]);
        let host = match (rng.one_in(2), kind) {
            (true, Kind::Http | Kind::Socks) => format!("198.51.100.{}", index + 1),
            (_, Kind::Https) => rng.pick(&[tls::HOST, tls::OTHER]).to_owned(),
            _ => format!("p{index}.test"),
        };
        let wants =
            Wants { digest: rng.one_in(2), keeps: rng.one_in(2), lies: rng.one_in(5), body: rng.pick(&[0, 9, 3000]) };
        let exchange = match rng.below(14) {
            0 if kind == Kind::Socks => Exchange::Refuses(rng.pick(&[1, 2, 5, 9]), 0),
            0 | 1 => Exchange::Refuses(rng.pick(&[302, 401, 403, 502]), rng.pick(&[0, 20])),
            2 if kind == Kind::Socks => Exchange::NoMethod,
            3 => Exchange::Garbage,
            4 => Exchange::Cut(rng.below(9)),
            5 => Exchange::Silent,
            6 => Exchange::Leaves,
            _ => Exchange::Opens {
                wants: rng.one_in(2).then_some(wants),
                interim: if rng.one_in(4) { 2 } else { 0 },
                surplus: rng.one_in(10),
            },
        };
        let exchange = match exchange {
            Exchange::Refuses(200.., _) if kind == Kind::Socks => Exchange::Garbage,
            exchange => exchange,
        };
        Self {
            kind,
            host,
            port: 3128 + index as u16,
            credential: rng.one_in(2).then(|| rng.one_in(2)),
            failover: rng.one_in(2),
            reach: match rng.below(12) {
                0 => Reach::Unknown,
                1 => Reach::Refused,
                2 => Reach::Hangs,
                3 if kind == Kind::Https => Reach::Untrusted,
                _ => Reach::Works,
            },
            exchange,
        }
    }

    fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn configuration(&self) -> ProxyConfiguration {
        let mut configuration = match self.kind {
            Kind::Http => ProxyConfiguration::http_connect(&self.host, self.port),
            Kind::Https => ProxyConfiguration::https_connect(&self.host, self.port),
            Kind::Socks => ProxyConfiguration::socks_v5(&self.host, self.port),
        };
        if let Some(right) = self.credential {
            configuration.apply_credential(USER, if right { RIGHT } else { WRONG });
        }
        configuration.allow_failover = self.failover;
        configuration
    }
}

fn target(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}

// What has to happen.

/// What follows from a plan.
struct Oracle<'a> {
    plan: &'a Plan,
    log: Vec<String>,
    /// The way that is taken: a proxy, or none.
    at: usize,
    allows_direct: bool,
    is_first: bool,
    /// A redirect has led to another server; the caller's fields stay behind, also what was for the proxy.
    led_away: bool,
    /// Where the program's user and password were good.
    known: Vec<bool>,
}

/// Why a connection did not come to be.
enum Failure {
    /// Another way may do better.
    Lost(i32),
    Final(i32),
}

impl Oracle<'_> {
    fn expected(plan: &Plan) -> (Vec<String>, Outcome) {
        let known = vec![false; plan.proxies.len()];
        let mut oracle =
            Oracle { plan, log: Vec::new(), at: 0, allows_direct: true, is_first: true, led_away: false, known };
        let outcome = oracle.follow();
        (oracle.log, outcome)
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
    }

    fn follow(&mut self) -> Outcome {
        let mut url = self.plan.first.clone();
        let mut stands = false;
        for turn in &self.plan.turns {
            if !stands && let Err(outcome) = self.reach(&url) {
                return outcome;
            }
            let is_asked = url.scheme() == "wss" && self.plan.trust != Trust::NotAsked;
            let is_shown = is_asked && self.plan.identity == Some(true);
            self.note(format!(
                "server: GET {} at {}, secret: {}, identity: {}",
                url.path(),
                target(&url),
                !self.led_away,
                is_shown
            ));
            match turn {
                Turn::Opens => return Outcome::Opens,
                Turn::Refuses(_) => return Outcome::Fails(-1011, None),
                Turn::Redirects { to, keeps } => {
                    let is_same = (target(to), to.scheme()) == (target(&url), url.scheme());
                    stands = *keeps && is_same;
                    self.led_away |= !is_same;
                    if !stands {
                        self.note("leaves".to_owned());
                    }
                    if !is_same {
                        (self.at, self.allows_direct, self.is_first) = (0, true, true);
                    }
                    url.clone_from(to);
                }
            }
        }
        unreachable!("the last turn ends it")
    }

    /// To a server, one way after the other.
    fn reach(&mut self, url: &Url) -> Result<(), Outcome> {
        loop {
            let Some(proxy) = self.plan.proxies.get(self.at) else {
                let host = url.host_str().unwrap();
                let port = url.port_or_known_default().unwrap();
                self.connect(host, port, self.plan.direct).map_err(|code| Outcome::Fails(code, None))?;
                return self.reached(url);
            };
            let proxied = self.connect(&proxy.host, proxy.port, proxy.reach).map_err(Failure::Lost).and_then(|()| {
                if proxy.kind == Kind::Https && !matches!(proxy.exchange, Exchange::Leaves) {
                    self.secure(&proxy.name(), proxy.reach == Reach::Untrusted)?;
                }
                match proxy.kind {
                    Kind::Socks => self.socks(proxy, url),
                    Kind::Http | Kind::Https => self.http(proxy, url),
                }
            });
            match proxied {
                Ok(()) => {
                    let surplus = matches!(proxy.exchange, Exchange::Opens { surplus: true, .. });
                    return match (surplus, url.scheme()) {
                        (false, _) => self.reached(url),
                        (true, "ws") => Err(Outcome::Fails(-1011, None)),
                        (true, _) => Err(Outcome::Fails(-1200, None)),
                    };
                }
                Err(Failure::Final(code)) => return Err(Outcome::Fails(code, Some(proxy.name()))),
                Err(Failure::Lost(code)) => {
                    self.allows_direct &= proxy.failover;
                    self.is_first = false;
                    if self.at + 1 == self.plan.proxies.len() && !self.allows_direct {
                        return Err(Outcome::Fails(code, Some(proxy.name())));
                    }
                    self.at += 1;
                    self.note("leaves".to_owned());
                }
            }
        }
    }

    /// The other end is the server.
    fn reached(&mut self, url: &Url) -> Result<(), Outcome> {
        if url.scheme() == "ws" {
            return Ok(());
        }
        let name = target(url);
        match self.secure(&name, self.plan.certificate != Certificate::Good) {
            Ok(()) if self.plan.trust == Trust::NotAsked || self.plan.identity.is_none() => Ok(()),
            Ok(()) => {
                self.note(format!("identity for {name}"));
                Ok(())
            }
            Err(Failure::Final(code) | Failure::Lost(code)) => Err(Outcome::Fails(code, None)),
        }
    }

    /// TLS, and what the delegate says of it.
    fn secure(&mut self, name: &str, is_bad: bool) -> Result<(), Failure> {
        if self.plan.trust != Trust::NotAsked {
            self.note(format!("trust in {name}"));
        }
        match self.plan.trust {
            Trust::Accepts => Ok(()),
            Trust::Cancels => Err(Failure::Final(-999)),
            // The clock of the resource is the only one that runs.
            Trust::Never => Err(Failure::Final(-1001)),
            _ if is_bad => Err(Failure::Lost(-1203)),
            Trust::Rejects => Err(Failure::Lost(-1202)),
            Trust::NotAsked | Trust::Default => Ok(()),
        }
    }

    fn connect(&mut self, host: &str, port: u16, reach: Reach) -> Result<(), i32> {
        let is_name = host.ends_with(".test");
        if is_name {
            self.note(format!("looks up {host}"));
        }
        match reach {
            Reach::Unknown if is_name => return Err(-1003),
            _ => self.note(format!("connects to {host}:{port}")),
        }
        match reach {
            Reach::Works => Ok(()),
            // An address is not looked up.
            Reach::Refused | Reach::Unknown => Err(-1004),
            Reach::Hangs => Err(-1001),
            Reach::Untrusted => Ok(()),
        }
    }

    fn socks(&mut self, proxy: &Proxy, url: &Url) -> Result<(), Failure> {
        let name = proxy.name();
        match &proxy.exchange {
            Exchange::Leaves | Exchange::Cut(0) => return Err(Failure::Lost(-1005)),
            Exchange::Silent => {
                self.note(format!("{name}: methods, login: {}", proxy.credential.is_some()));
                return Err(Failure::Lost(-1001));
            }
            _ => self.note(format!("{name}: methods, login: {}", proxy.credential.is_some())),
        }
        match proxy.exchange {
            Exchange::NoMethod => return Err(Failure::Final(-1013)),
            Exchange::Garbage => return Err(Failure::Lost(-1017)),
            Exchange::Cut(1) => return Err(Failure::Lost(-1005)),
            Exchange::Opens { wants: Some(_), .. } => match proxy.credential {
                None => return Err(Failure::Final(-1013)),
                Some(right) => {
                    self.note(format!("{name}: login, right: {right}"));
                    if !right {
                        return Err(Failure::Final(-1013));
                    }
                }
            },
            _ => {}
        }
        self.note(format!("{name}: {}", target(url)));
        match proxy.exchange {
            Exchange::Refuses(..) => Err(Failure::Final(-1004)),
            Exchange::Cut(_) => Err(Failure::Lost(-1005)),
            _ => Ok(()),
        }
    }

    fn http(&mut self, proxy: &Proxy, url: &Url) -> Result<(), Failure> {
        if matches!(proxy.exchange, Exchange::Leaves) {
            return Err(Failure::Lost(-1005));
        }
        let (name, target) = (proxy.name(), target(url));
        let shown = if self.known[self.at] {
            "right"
        } else if self.plan.by_hand && self.is_first && !self.led_away {
            "by hand"
        } else {
            "nothing"
        };
        self.note(format!("{name}: CONNECT {target}, {shown}"));
        let wants = match &proxy.exchange {
            Exchange::Refuses(..) => return Err(Failure::Final(-1011)),
            Exchange::Garbage => return Err(Failure::Lost(-1017)),
            Exchange::Cut(_) => return Err(Failure::Lost(-1005)),
            Exchange::Silent => return Err(Failure::Lost(-1001)),
            Exchange::Opens { wants: Some(wants), .. } if shown != "right" => *wants,
            _ => return Ok(()),
        };
        let mut answers = Vec::new();
        answers.extend(proxy.credential.map(|right| if right { "right" } else { "wrong" }));
        if proxy.credential != Some(true) {
            match self.plan.delegate {
                Delegate::None => {}
                Delegate::Knows => answers.extend(["asks", "right"]),
                Delegate::HasNothing => answers.extend(["asks", "nothing"]),
                Delegate::Cancels => answers.extend(["asks", "cancel"]),
            }
        }
        for answer in answers {
            match answer {
                "asks" => {
                    self.note(format!("asked for {name}"));
                    continue;
                }
                "nothing" => return Err(Failure::Final(-1011)),
                "cancel" => return Err(Failure::Final(-999)),
                _ => {}
            }
            if !wants.keeps || wants.lies {
                self.note("leaves".to_owned());
                self.connect(&proxy.host, proxy.port, proxy.reach).map_err(Failure::Lost)?;
                if proxy.kind == Kind::Https {
                    self.secure(&name, proxy.reach == Reach::Untrusted)?;
                }
            }
            self.note(format!("{name}: CONNECT {target}, {answer}"));
            if answer == "right" {
                self.known[self.at] = proxy.credential == Some(true);
                return Ok(());
            }
        }
        Err(Failure::Final(-1011))
    }
}

// What happens.

/// TLS, or none, on the far side.
struct Layer {
    tls: Option<Box<ServerConnection>>,
    is_over: bool,
}

impl Layer {
    fn new(certificate: Option<Certificate>, is_curious: bool) -> Self {
        let server = |certificate| {
            let tls = Tls { old: false, certificate };
            Box::new(if is_curious { tls::curious_server(tls) } else { tls::server(tls) })
        };
        Self { tls: certificate.map(server), is_over: false }
    }

    fn open(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return bytes.to_vec() };
        let (mut bytes, mut plaintext) = (bytes, Vec::new());
        while !bytes.is_empty() && !self.is_over {
            self.is_over = tls.read_tls(&mut bytes).is_err() || tls.process_new_packets().is_err();
            let _ = tls.reader().read_to_end(&mut plaintext);
        }
        plaintext
    }

    fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return bytes.to_vec() };
        let mut sealed = Vec::new();
        tls.writer().write_all(bytes).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut sealed).unwrap();
        }
        sealed
    }
}

/// Who is at the other end of the connection.
struct Far {
    proxy: Option<Gate>,
    server: Option<Server>,
    /// It says nothing more.
    ends: bool,
}

struct Gate {
    proxy: Proxy,
    layer: Layer,
    read: Vec<u8>,
    /// How many messages of SOCKS came.
    messages: usize,
}

struct Server {
    layer: Layer,
    /// It said so before it was asked, and listens to nobody.
    is_busy: bool,
    read: Vec<u8>,
}

struct World {
    plan: Plan,
    rng: Rng,
    loader: Loader,
    supply: Supply,
    spare: Spare,
    now: Instant,
    log: Vec<String>,
    turns: VecDeque<Turn>,
    far: Option<Far>,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    read_end: bool,
    connecting: Option<(u32, SocketAddr)>,
    resolving: Option<(u32, String, u16)>,
    question: Option<(u32, Asked)>,
    old_questions: Vec<u32>,
    trusted: Option<UrlCredential>,
    out: Option<Output>,
    suspended: bool,
    outcome: Option<(Outcome, Option<UrlError>)>,
    names: HashMap<SocketAddr, (String, Reach)>,
    nonces: usize,
    counts: HashMap<String, u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x9a0c_51ed);
        let plan = Plan::new(&mut rng);
        let mut bytes = rng.fork();
        let mut configuration = SessionConfiguration::ephemeral();
        configuration.root_certificates = tls::roots();
        configuration.timeout_interval_for_request = Duration::from_secs(30);
        let proxies: Vec<ProxyConfiguration> = plan.proxies.iter().map(Proxy::configuration).collect();
        let mut request = UrlRequest::new(plan.first.clone());
        request.set_value("s", "X-Secret");
        if plan.by_hand {
            request.set_value(BY_HAND, "Proxy-Authorization");
        }
        let now = Instant::now();
        let settings = Settings {
            request: Arc::new(request),
            common: Arc::new(Common::new(&configuration, Proxies::new(Some(&proxies), |_| None))),
            epoch: Epoch { instant: now, date: SystemTime::UNIX_EPOCH },
        };
        let mut loader = Loader::new(settings, 1000);
        if plan.delegate != Delegate::None {
            loader.set_has_delegate(plan.trust != Trust::NotAsked);
        }
        let supply = Supply::new(Random::new(move |pool| bytes.fill(pool)));
        Self {
            turns: plan.turns.clone().into(),
            plan,
            rng,
            loader,
            supply,
            spare: Spare::default(),
            now,
            log: Vec::new(),
            far: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            read_end: false,
            connecting: None,
            resolving: None,
            question: None,
            old_questions: Vec::new(),
            trusted: None,
            out: None,
            suspended: false,
            outcome: None,
            names: HashMap::new(),
            nonces: 0,
            counts: HashMap::new(),
        }
    }

    fn step<R>(&mut self, step: impl FnOnce(&mut Loader, &mut Env<'_>) -> R) -> R {
        let mut events = Vec::new();
        let Self { loader, supply, spare, now, .. } = self;
        let result =
            step(loader, &mut Env { now: *now, supply, spare, events: &mut events, traces: &mut Traces::default() });
        for event in events {
            match event {
                Event::Open { .. } => self.outcome = Some((Outcome::Opens, None)),
                Event::End(end) => {
                    let error = end.error.expect("an error");
                    let at = (error.stage() == ErrorStage::Proxy).then(|| {
                        let proxy = self.plan.proxies.iter().find(|proxy| error.reason().contains(&proxy.name()));
                        proxy.expect("a name").name()
                    });
                    self.outcome = Some((Outcome::Fails(error.raw_code(), at), Some(error)));
                }
                Event::Question(question) => {
                    let asked = match &question.subject {
                        Subject::Challenge(challenge) => {
                            let space = challenge.protection_space();
                            let name = format!("{}:{}", space.host(), space.port());
                            let is_of_proxy = self.plan.proxies.iter().any(|proxy| proxy.name() == name);
                            assert_eq!(space.is_proxy(), is_of_proxy);
                            let (words, asked) = match space.authentication_method() {
                                AuthenticationMethod::ServerTrust => {
                                    self.trusted = space.server_trust().map(UrlCredential::for_trust);
                                    ("trust in", Asked::Trust)
                                }
                                AuthenticationMethod::ClientCertificate => ("identity for", Asked::Identity),
                                _ => ("asked for", Asked::Password),
                            };
                            self.log.push(format!("{words} {name}"));
                            asked
                        }
                        Subject::Redirect { .. } => Asked::Redirect,
                    };
                    assert!(self.question.is_none(), "two questions at a time");
                    self.question = Some((question.number, asked));
                }
                event => panic!("{event:?}"),
            }
        }
        result
    }

    /// Until it opens or ends.
    fn run(&mut self) {
        self.step(|loader, env| loader.start(env, None));
        for _ in 0..100_000 {
            if self.outcome.is_some() {
                return;
            }
            if self.plan.suspends && self.rng.one_in(20) {
                self.suspended = !self.suspended;
                match self.suspended {
                    true => self.loader.suspend(self.now),
                    false => self.loader.resume(self.now),
                }
            }
            let moved = match self.rng.below(7) {
                0 => self.act(),
                1 => self.resolve(),
                2 => self.connect(),
                3 => self.write(),
                4 => self.far_reads(),
                5 => self.read(),
                _ => self.reply(),
            };
            let any = [Self::act, Self::resolve, Self::connect, Self::write, Self::far_reads, Self::read, Self::reply];
            if !moved && !any.iter().any(|one| one(self)) && self.outcome.is_none() {
                if self.suspended {
                    self.suspended = false;
                    self.loader.resume(self.now);
                    continue;
                }
                // Nobody moves before time does.
                self.now = self.loader.next_deadline().expect("a deadline").max(self.now);
                self.step(|loader, env| loader.handle_timeout(env));
            }
        }
        panic!("it does not end: {:?}", self.loader);
    }

    fn act(&mut self) -> bool {
        let Some(action) = self.loader.next_action() else { return false };
        match action {
            Action::Resolve { look_up, host, port } => {
                self.log.push(format!("looks up {host}"));
                self.resolving = Some((look_up, host, port));
            }
            Action::Connect { attempt, address } => {
                let at = self.names.get(&address).cloned().unwrap_or_else(|| {
                    let host = address.ip().to_string();
                    let reach = self.plan.proxies.iter().find(|proxy| proxy.host == host).map(|proxy| proxy.reach);
                    let host = if address.is_ipv6() { format!("[{host}]") } else { host };
                    (host, reach.unwrap_or(self.plan.direct))
                });
                self.log.push(format!("connects to {}:{}", at.0, address.port()));
                self.names.insert(address, at);
                self.connecting = Some((attempt, address));
            }
            Action::Disconnect => {
                self.log.push("leaves".to_owned());
                (self.far, self.read_end) = (None, false);
                (self.connecting, self.resolving) = (None, None);
                self.up.clear();
                self.down.clear();
            }
        }
        true
    }

    fn reach_of(&self, host: &str, port: u16) -> Reach {
        let proxy = self.plan.proxies.iter().find(|proxy| (&*proxy.host, proxy.port) == (host, port));
        proxy.map_or(self.plan.direct, |proxy| proxy.reach)
    }

    fn resolve(&mut self) -> bool {
        let Some((look_up, host, port)) = self.resolving.take() else { return false };
        let reach = self.reach_of(&host, port);
        if reach == Reach::Unknown {
            self.step(|loader, env| loader.resolved(env, look_up, Err(ErrorKind::NotFound.into())));
            return true;
        }
        let next = self.names.len() as u8;
        let address: SocketAddr = ([203, 0, 113, next], port).into();
        self.names.insert(address, (host, reach));
        self.step(|loader, env| loader.resolved(env, look_up, Ok(vec![address])));
        true
    }

    fn connect(&mut self) -> bool {
        let Some((attempt, address)) = self.connecting.take() else { return false };
        let (host, reach) = self.names[&address].clone();
        match reach {
            Reach::Hangs => {}
            Reach::Refused | Reach::Unknown => {
                self.step(|loader, env| loader.connect_failed(env, attempt, ErrorKind::ConnectionRefused.into()));
            }
            Reach::Works | Reach::Untrusted => {
                let proxies = self.plan.proxies.iter();
                let proxy =
                    proxies.into_iter().find(|proxy| proxy.host == host && proxy.port == address.port()).cloned();
                let certificate =
                    |reach| if reach == Reach::Untrusted { Certificate::UnknownRoot } else { Certificate::Good };
                let gate = proxy.map(|proxy| {
                    let layer = Layer::new((proxy.kind == Kind::Https).then(|| certificate(reach)), false);
                    Gate { proxy, layer, read: Vec::new(), messages: 0 }
                });
                let mut far = Far { proxy: gate, server: None, ends: false };
                match &far.proxy {
                    None => far.server = Some(self.server()),
                    Some(gate) => {
                        let ends = matches!(gate.proxy.exchange, Exchange::Leaves)
                            || (gate.proxy.kind == Kind::Socks && matches!(gate.proxy.exchange, Exchange::Cut(0)));
                        far.ends = ends;
                    }
                }
                self.far = Some(far);
                self.step(|loader, env| loader.connected(env, attempt, None, Some(address)));
            }
        }
        true
    }

    fn server(&self) -> Server {
        let is_secure = self.loader.request().url.scheme() == "wss";
        Server {
            layer: Layer::new(is_secure.then_some(self.plan.certificate), self.plan.identity.is_some()),
            is_busy: false,
            read: Vec::new(),
        }
    }

    fn write(&mut self) -> bool {
        if self.out.is_none() {
            self.out = self.step(|loader, env| loader.take_output(env));
        }
        let Some(mut output) = self.out.take() else { return false };
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        let count = self.rng.within(1, self.plan.grain).min(bytes.len());
        if !self.loader.output_is_stale() {
            self.up.extend(&bytes[..count]);
        }
        output.advance(count);
        self.step(|loader, env| loader.give_back(env, output));
        true
    }

    fn read(&mut self) -> bool {
        if !self.loader.wants_read() {
            return false;
        }
        let count = self.rng.within(1, self.plan.grain).min(self.down.len());
        if count > 0 {
            let mut bytes: Vec<u8> = self.down.drain(..count).collect();
            self.step(|loader, env| loader.receive(env, &mut bytes));
            return true;
        }
        if self.far.as_ref().is_some_and(|far| far.ends) && !std::mem::replace(&mut self.read_end, true) {
            self.step(|loader, env| loader.end_of_stream(env));
            return true;
        }
        false
    }

    fn reply(&mut self) -> bool {
        use AuthChallengeDisposition::{CancelAuthenticationChallenge, RejectProtectionSpace, UseCredential};
        if !self.old_questions.is_empty() && self.rng.one_in(3) {
            // It was answered.
            let number = self.old_questions[self.rng.below(self.old_questions.len())];
            self.step(|loader, env| loader.reply(env, number, Reply::Challenge(CancelAuthenticationChallenge, None)));
        }
        let is_never = |asked| asked == Asked::Trust && self.plan.trust == Trust::Never;
        let Some((number, asked)) = self.question.take_if(|(_, asked)| !is_never(*asked)) else { return false };
        assert!(self.loader.waits_for_reply(number));
        self.old_questions.push(number);
        let reply = match self.plan.delegate {
            _ if asked == Asked::Redirect => Reply::Default,
            _ if asked == Asked::Identity => {
                let identity = self.plan.identity == Some(true);
                let credential = identity.then(|| UrlCredential::with_identity(tls::identity()));
                Reply::Challenge(UseCredential, credential)
            }
            _ if asked == Asked::Trust => match self.plan.trust {
                Trust::Accepts => Reply::Challenge(UseCredential, self.trusted.take()),
                Trust::Rejects => Reply::Challenge(RejectProtectionSpace, None),
                Trust::Cancels => Reply::Challenge(CancelAuthenticationChallenge, None),
                _ => Reply::Default,
            },
            Delegate::Cancels => Reply::Challenge(CancelAuthenticationChallenge, None),
            Delegate::Knows => {
                let credential = UrlCredential::new(USER, RIGHT, CredentialPersistence::None);
                Reply::Challenge(UseCredential, Some(credential))
            }
            _ => Reply::Challenge(UseCredential, None),
        };
        self.step(|loader, env| loader.reply(env, number, reply));
        true
    }

    // The far side.

    fn far_reads(&mut self) -> bool {
        let Some(mut far) = self.far.take() else { return false };
        let count = self.rng.within(1, self.plan.grain).min(self.up.len());
        if count == 0 || far.ends {
            self.far = Some(far);
            return false;
        }
        let bytes: Vec<u8> = self.up.drain(..count).collect();
        let answer = match &mut far.proxy {
            None => self.at_server(&bytes, far.server.as_mut().expect("a server"), &mut far.ends),
            Some(gate) => {
                let plaintext = gate.layer.open(&bytes);
                let answer = match &mut far.server {
                    None => self.at_gate(gate, &plaintext, &mut far.server, &mut far.ends),
                    Some(server) => {
                        if server.layer.tls.is_some() {
                            let is_http = plaintext.windows(4).any(|part| part == b"GET " || part == b"ocke");
                            assert!(!is_http, "a proxy sees what is for the server");
                        }
                        self.at_server(&plaintext, server, &mut far.ends)
                    }
                };
                gate.layer.seal(&answer)
            }
        };
        self.down.extend(answer);
        self.far = Some(far);
        true
    }

    fn at_gate(&mut self, gate: &mut Gate, bytes: &[u8], server: &mut Option<Server>, ends: &mut bool) -> Vec<u8> {
        gate.read.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while !*ends {
            let (said, opens) = match gate.proxy.kind {
                Kind::Socks => self.at_socks(gate, ends),
                Kind::Http | Kind::Https => self.at_http(gate, ends),
            };
            let Some(said) = said else { break };
            answer.extend(said);
            if opens {
                assert!(gate.read.is_empty(), "something is behind the last word to the proxy");
                if let Exchange::Opens { surplus: true, .. } = gate.proxy.exchange {
                    answer.extend(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
                }
                let is_busy = matches!(gate.proxy.exchange, Exchange::Opens { surplus: true, .. });
                *server = Some(Server { is_busy, ..self.server() });
                break;
            }
        }
        answer
    }

    /// RFC 1928: the next answer, if there is one, and whether the way is open behind it.
    fn at_socks(&mut self, gate: &mut Gate, ends: &mut bool) -> (Option<Vec<u8>>, bool) {
        let Gate { proxy, read, messages, .. } = gate;
        let name = proxy.name();
        let wants = matches!(proxy.exchange, Exchange::Opens { wants: Some(_), .. });
        let step = match *messages {
            1 if !wants || proxy.credential.is_none() => 2,
            messages => messages,
        };
        let (answer, opens) = match step {
            0 => {
                let has_login = proxy.credential.is_some();
                let greeting: &[u8] = if has_login { &[5, 2, 0, 2] } else { &[5, 1, 0] };
                if read.len() < greeting.len() {
                    return (None, false);
                }
                assert_eq!(read.drain(..greeting.len()).collect::<Vec<_>>(), greeting);
                self.log.push(format!("{name}: methods, login: {has_login}"));
                let answer = match proxy.exchange {
                    Exchange::NoMethod => vec![5, 0xff],
                    Exchange::Garbage => b"HTTP/1.1 400".to_vec(),
                    Exchange::Cut(1) => vec![5],
                    Exchange::Silent => Vec::new(),
                    _ if wants && has_login => vec![5, 2],
                    _ if wants => vec![5, 0xff],
                    _ => vec![5, 0],
                };
                (answer, false)
            }
            1 => {
                let right = proxy.credential == Some(true);
                let password = if right { RIGHT } else { WRONG };
                let login =
                    [&[1, USER.len() as u8], USER.as_bytes(), &[password.len() as u8], password.as_bytes()].concat();
                if read.len() < login.len() {
                    return (None, false);
                }
                assert_eq!(read.drain(..login.len()).collect::<Vec<_>>(), login, "user and password (RFC 1929)");
                self.log.push(format!("{name}: login, right: {right}"));
                (vec![1, u8::from(!right)], false)
            }
            _ => {
                let Some((target, length)) = socks_target(read) else { return (None, false) };
                read.drain(..length);
                self.log.push(format!("{name}: {target}"));
                let bound = self.rng.pick(&[
                    &[1, 0, 0, 0, 0, 0, 0][..],
                    &[3, 2, b'a', b'b', 1, 1],
                    &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80],
                ]);
                let code = if let Exchange::Refuses(code, _) = proxy.exchange { code as u8 } else { 0 };
                let mut answer = [&[5, code, 0], bound].concat();
                if let Exchange::Cut(count) = proxy.exchange {
                    answer.truncate(count - 2);
                }
                (answer, code == 0 && matches!(proxy.exchange, Exchange::Opens { .. }))
            }
        };
        *messages = step + 1;
        *ends = matches!((&proxy.exchange, step), (Exchange::Cut(1), 0) | (Exchange::Cut(2..), 2));
        (Some(answer), opens)
    }

    /// RFC 9110 §9.3.6.
    fn at_http(&mut self, gate: &mut Gate, ends: &mut bool) -> (Option<Vec<u8>>, bool) {
        let Gate { proxy, read, .. } = gate;
        let Some(end) = read.windows(4).position(|part| part == b"\r\n\r\n") else { return (None, false) };
        let head = String::from_utf8(read.drain(..end + 4).collect()).expect("text");
        let target = target(&self.loader.request().url);
        let start = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        let rest = head.strip_prefix(&start).unwrap_or_else(|| panic!("{head}")).strip_suffix("\r\n").unwrap();
        let shown = match rest.strip_suffix("\r\n") {
            None => "nothing".to_owned(),
            Some(field) => {
                let value = field.strip_prefix("Proxy-Authorization: ").unwrap_or_else(|| panic!("{head}"));
                assert!(!value.contains('\n'), "a proxy sees what is for the server: {head}");
                self.shown(value, &target)
            }
        };
        self.log.push(format!("{}: CONNECT {target}, {shown}", proxy.name()));
        let answer = match &proxy.exchange {
            Exchange::Opens { wants: Some(wants), .. } if shown != "right" => {
                let challenge = if wants.digest {
                    self.nonces += 1;
                    format!("Digest realm=\"p\", nonce=\"n{}\", algorithm=MD5, qop=\"auth\"", self.nonces)
                } else {
                    "Basic realm=\"p\"".to_owned()
                };
                *ends = !wants.keeps || wants.lies;
                let close = if wants.keeps { "" } else { "Connection: close\r\n" };
                let (length, body) = (wants.body, "x".repeat(wants.body));
                format!(
                    "HTTP/1.1 407 Who\r\nProxy-Authenticate: {challenge}\r\nContent-Length: {length}\r\n{close}\r\n{body}"
                )
            }
            Exchange::Opens { interim, .. } => {
                let interim = "HTTP/1.1 103 Wait\r\nLink: </a>\r\n\r\n".repeat(*interim);
                let answer = format!("{interim}HTTP/1.1 200 Well\r\nSet-Cookie: p=1\r\nContent-Length: 7\r\n\r\n");
                return (Some(answer.into_bytes()), true);
            }
            Exchange::Refuses(status, length) => {
                let body = "x".repeat(*length);
                let more = "Location: ws://192.0.2.99/\r\nWWW-Authenticate: Basic realm=\"q\"\r\n";
                format!("HTTP/1.1 {status} No\r\n{more}Content-Length: {length}\r\n\r\n{body}")
            }
            Exchange::Garbage => "SSH-2.0-x\r\n\r\n".to_owned(),
            Exchange::Cut(count) => {
                *ends = true;
                "HTTP/1.1 200 Well\r\n\r\n"[..*count].to_owned()
            }
            _ => String::new(),
        };
        (Some(answer.into_bytes()), false)
    }

    /// Which user and password a field shows.
    fn shown(&mut self, value: &str, target: &str) -> String {
        if value == BY_HAND {
            return "by hand".to_owned();
        }
        for password in [RIGHT, WRONG] {
            if value == format!("Basic {}", STANDARD.encode(format!("{USER}:{password}"))) {
                return password.to_owned();
            }
        }
        let parameters = value.strip_prefix("Digest ").unwrap_or_else(|| panic!("{value}"));
        let parameters: HashMap<&str, &str> = parameters
            .split(", ")
            .filter_map(|parameter| parameter.split_once('='))
            .map(|(name, value)| (name, value.trim_matches('"')))
            .collect();
        let of = |name: &str| *parameters.get(name).unwrap_or_else(|| panic!("{name} in {value}"));
        assert_eq!((of("username"), of("realm"), of("uri"), of("qop")), (USER, "p", target, "auth"));
        let count = u32::from_str_radix(of("nc"), 16).unwrap();
        assert!(
            self.counts.insert(of("nonce").to_owned(), count).is_none_or(|last| last < count),
            "a count comes once"
        );
        let hash = |text: String| Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let request = hash(format!("CONNECT:{target}"));
        let right = [RIGHT, WRONG].into_iter().find(|password| {
            let key = hash(format!("{USER}:p:{password}"));
            of("response") == hash(format!("{key}:{}:{}:{}:auth:{request}", of("nonce"), of("nc"), of("cnonce")))
        });
        right.unwrap_or_else(|| panic!("nobody's password: {value}")).to_owned()
    }

    fn at_server(&mut self, bytes: &[u8], server: &mut Server, ends: &mut bool) -> Vec<u8> {
        if server.is_busy {
            return Vec::new();
        }
        let plaintext = server.layer.open(bytes);
        server.read.extend(plaintext);
        let end = server.read.windows(4).position(|part| part == b"\r\n\r\n");
        let Some(end) = end else { return server.layer.seal(b"") };
        let head = String::from_utf8(server.read.drain(..end + 4).collect()).expect("text");
        assert!(!head.to_ascii_lowercase().contains("proxy-"), "a server sees what is for the proxy: {head}");
        let url = self.loader.request().url.clone();
        let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
        let secret = head.contains("X-Secret: s\r\n");
        let identity = server.layer.tls.as_ref().is_some_and(|tls| tls.peer_certificates().is_some());
        self.log.push(format!("server: GET {path} at {}, secret: {secret}, identity: {identity}", target(&url)));
        let answer = match self.turns.pop_front().expect("a turn") {
            Turn::Opens => {
                let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
                let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
                format!(
                    "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                )
            }
            Turn::Refuses(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno"),
            Turn::Redirects { to, keeps } => {
                *ends = !keeps;
                let close = if keeps { "" } else { "Connection: close\r\n" };
                format!("HTTP/1.1 307 There\r\nLocation: {to}\r\nContent-Length: 1\r\n{close}\r\nx")
            }
        };
        server.layer.seal(answer.as_bytes())
    }
}

/// The server that a request of SOCKS names, and the length of the request.
fn socks_target(bytes: &[u8]) -> Option<(String, usize)> {
    let (host, end) = match bytes.get(..5)? {
        [5, 1, 0, 1, _] => (bytes.get(4..8)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."), 8),
        [5, 1, 0, 3, length] => {
            let end = 5 + usize::from(*length);
            (String::from_utf8(bytes.get(5..end)?.to_vec()).unwrap(), end)
        }
        [5, 1, 0, 4, _] => {
            let ip: [u8; 16] = bytes.get(4..20)?.try_into().unwrap();
            (format!("[{}]", std::net::Ipv6Addr::from(ip)), 20)
        }
        other => panic!("no request of SOCKS: {other:?}"),
    };
    let port = u16::from_be_bytes(bytes.get(end..end + 2)?.try_into().unwrap());
    Some((format!("{host}:{port}"), end + 2))
}

#[test]
fn every_way_through_proxies_is_the_one_that_has_to_be() {
    let only = crate::variable("SIMULATION_SEED");
    let runs = crate::variable("SIMULATION_RUNS").unwrap_or(RUNS);
    let mut kinds = std::collections::BTreeMap::new();
    for seed in only.map_or(0..runs, |seed| seed..seed + 1) {
        let mut world = World::new(seed);
        let (log, outcome) = Oracle::expected(&world.plan);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        let what = format!("seed {seed}: {:#?}\n{:#?}\n{:?}", world.plan, world.log, world.outcome);
        assert!(ran.is_ok(), "{what}");
        assert_eq!(world.log, log, "{what}");
        let (happened, _) = world.outcome.take().expect("an outcome");
        assert_eq!(happened, outcome, "{what}");
        let kind = match outcome {
            Outcome::Opens => "opens".to_owned(),
            Outcome::Fails(code, at) => format!("{code}, at a proxy: {}", at.is_some()),
        };
        *kinds.entry((kind, world.plan.proxies.len())).or_insert(0) += 1;
    }
    println!("{kinds:#?}");
    assert!(only.is_some() || runs < RUNS || kinds.len() >= 30, "fewer kinds of ends than there should be: {kinds:?}");
}
