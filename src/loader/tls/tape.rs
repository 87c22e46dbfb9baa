//! How a handshake is done over, so that its first messages are the same bytes again.
//!
//! rustls asks for the client's certificate when the server asks, and cannot wait for an answer. Where somebody is to be asked
//! first, the handshake is run without a certificate, and nothing of what rustls then wants to say goes out. If there is to be
//! one, a second connection of rustls takes the place of the first: it draws the same random bytes and the same keys, so that
//! its ClientHello is the one that was sent, and is given the same bytes of the server.
//!
//! Random bytes and keys come from a [`CryptoProvider`], which belongs to the whole process. So the tape of a stream lies where
//! they find it while rustls is called for that stream, on the thread that calls, and nowhere else.

use std::cell::RefCell;
use std::fmt;
use std::sync::OnceLock;

use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, ProtocolVersion, SignatureScheme, SupportedProtocolVersion};

use crate::foundation::{Asked, provider};

thread_local! {
    /// The tape of the stream that rustls is called for.
    static CURRENT: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// What rustls drew for one handshake, and what it was asked in it.
#[derive(Default)]
pub struct Tape {
    mode: Mode,
    random: Vec<u8>,
    exchanges: Vec<Exchange>,
    /// How much of both was played.
    played: (usize, usize),
    /// Whether the server has asked for a certificate of the client.
    pub asked: Asked,
    /// The authorities that it accepts, and the signatures.
    pub request: Option<(Vec<Vec<u8>>, Vec<SignatureScheme>)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Only what is asked is noted.
    #[default]
    Off,
    Recording,
    Replaying {
        /// The server's certificate is to be refused.
        refuses: bool,
    },
}

/// One key exchange: RFC 8446 §4.2.8.
struct Exchange {
    group: NamedGroup,
    public: Vec<u8>,
    /// Of a hybrid group, the classical half.
    component: Option<(NamedGroup, Vec<u8>)>,
    /// The server's share, and what came out. A [`SharedSecret`] is wiped when it is dropped.
    done: Option<(Vec<u8>, SharedSecret)>,
}

impl Tape {
    pub fn recording() -> Self {
        Self { mode: Mode::Recording, ..Self::default() }
    }

    /// What was recorded, for another connection. Where `refuses` is set, that will find the server's certificate bad.
    pub fn rewound(self, refuses: bool) -> Self {
        Self { mode: Mode::Replaying { refuses }, played: (0, 0), asked: Asked::No, request: None, ..self }
    }

    /// It has served: of what was drawn and asked nothing stays but whether there was a request.
    pub fn wipe(&mut self) {
        *self = Self { asked: self.asked, ..Self::default() };
    }

    /// Calls rustls with this tape.
    pub fn under<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let _playing = Playing::new(self);
        call()
    }
}

/// The tape lies in its place until this is dropped.
struct Playing<'a>(&'a mut Tape);

impl<'a> Playing<'a> {
    fn new(tape: &'a mut Tape) -> Self {
        let before = CURRENT.replace(Some(std::mem::take(tape)));
        debug_assert!(before.is_none(), "rustls is called within a call of rustls");
        Self(tape)
    }
}

impl Drop for Playing<'_> {
    fn drop(&mut self) {
        if let Some(tape) = CURRENT.take() {
            *self.0 = tape;
        }
    }
}

fn with<R>(act: impl FnOnce(&mut Tape) -> R) -> Option<R> {
    CURRENT.with_borrow_mut(|tape| tape.as_mut().map(act))
}

/// The server asks for a certificate.
pub fn note_request(authorities: &[&[u8]], schemes: &[SignatureScheme], asked: Asked) {
    with(|tape| {
        tape.asked = asked;
        // Nobody is shown them where nothing is recorded.
        let authorities = match tape.mode {
            Mode::Recording => authorities.iter().map(|name| name.to_vec()).collect(),
            Mode::Off | Mode::Replaying { .. } => Vec::new(),
        };
        tape.request = Some((authorities, schemes.to_vec()));
    });
}

/// Whether the server's certificate is to be refused.
pub fn refuses() -> bool {
    with(|tape| tape.mode == Mode::Replaying { refuses: true }).unwrap_or(false)
}

/// The group of the first key exchange, where a handshake is done over; then no ticket is offered, either.
pub fn replayed() -> Option<Option<NamedGroup>> {
    with(|tape| match tape.mode {
        Mode::Replaying { .. } => Some(tape.exchanges.first().map(|exchange| exchange.group)),
        Mode::Off | Mode::Recording => None,
    })?
}

/// The cryptography of the crate, on tape where there is one.
pub fn taped_provider() -> CryptoProvider {
    static RANDOM: OnceLock<TapedRandom> = OnceLock::new();
    static GROUPS: OnceLock<Vec<TapedGroup>> = OnceLock::new();
    let inner = provider();
    let groups = GROUPS.get_or_init(|| inner.kx_groups.iter().copied().map(TapedGroup).collect());
    CryptoProvider {
        secure_random: RANDOM.get_or_init(|| TapedRandom(inner.secure_random)),
        kx_groups: groups.iter().map(|group| group as &dyn SupportedKxGroup).collect(),
        ..inner
    }
}

#[derive(Debug)]
struct TapedRandom(&'static dyn SecureRandom);

impl SecureRandom for TapedRandom {
    fn fill(&self, into: &mut [u8]) -> Result<(), GetRandomFailed> {
        let is_played = with(|tape| {
            let start = tape.played.0;
            match tape.random.get(start..start.saturating_add(into.len())) {
                Some(bytes) if matches!(tape.mode, Mode::Replaying { .. }) => {
                    into.copy_from_slice(bytes);
                    tape.played.0 = start + into.len();
                    true
                }
                _ => false,
            }
        });
        if is_played == Some(true) {
            return Ok(());
        }
        self.0.fill(into)?;
        with(|tape| {
            if tape.mode == Mode::Recording {
                tape.random.extend_from_slice(into);
            }
        });
        Ok(())
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

#[derive(Debug)]
struct TapedGroup(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for TapedGroup {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let played = with(|tape| match (tape.mode, tape.exchanges.get_mut(tape.played.1)) {
            (Mode::Replaying { .. }, Some(exchange)) if exchange.group == self.0.name() => {
                tape.played.1 += 1;
                Some(Replayed {
                    group: exchange.group,
                    ffdhe: self.0,
                    public: exchange.public.clone(),
                    component: exchange.component.clone(),
                    done: exchange.done.take(),
                })
            }
            _ => None,
        });
        if let Some(Some(played)) = played {
            return Ok(Box::new(played));
        }
        let inner = self.0.start()?;
        let recorded = with(|tape| {
            (tape.mode == Mode::Recording).then(|| {
                tape.exchanges.push(Exchange {
                    group: inner.group(),
                    public: inner.pub_key().to_vec(),
                    component: inner.hybrid_component().map(|(group, share)| (group, share.to_vec())),
                    done: None,
                });
                tape.exchanges.len() - 1
            })
        });
        Ok(match recorded.flatten() {
            Some(place) => Box::new(Recorded { inner, place }),
            None => inner,
        })
    }

    // `start_and_complete` is the server's.

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.0.ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.0.name()
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        self.0.usable_for_version(version)
    }
}

/// A key exchange that goes onto the tape when it is complete.
struct Recorded {
    inner: Box<dyn ActiveKeyExchange>,
    place: usize,
}

/// The server's share is the other half of what the secret depends on.
fn record(place: usize, share: &[u8], secret: Result<SharedSecret, Error>) -> Result<SharedSecret, Error> {
    let secret = secret?;
    with(|tape| {
        if let Some(exchange) = tape.exchanges.get_mut(place) {
            exchange.done = Some((share.to_vec(), SharedSecret::from(secret.secret_bytes())));
        }
    });
    Ok(secret)
}

impl ActiveKeyExchange for Recorded {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        record(self.place, share, self.inner.complete(share))
    }

    fn complete_for_tls_version(
        self: Box<Self>,
        share: &[u8],
        version: &SupportedProtocolVersion,
    ) -> Result<SharedSecret, Error> {
        record(self.place, share, self.inner.complete_for_tls_version(share, version))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        self.inner.hybrid_component()
    }

    fn complete_hybrid_component(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        record(self.place, share, self.inner.complete_hybrid_component(share))
    }

    fn pub_key(&self) -> &[u8] {
        self.inner.pub_key()
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.inner.ffdhe_group()
    }

    fn group(&self) -> NamedGroup {
        self.inner.group()
    }
}

/// A key exchange from the tape.
struct Replayed {
    group: NamedGroup,
    ffdhe: &'static dyn SupportedKxGroup,
    public: Vec<u8>,
    component: Option<(NamedGroup, Vec<u8>)>,
    done: Option<(Vec<u8>, SharedSecret)>,
}

impl Replayed {
    fn secret(self, share: &[u8]) -> Result<SharedSecret, Error> {
        match self.done {
            Some((recorded, secret)) if recorded == share => Ok(secret),
            _ => Err(Error::General("another key than that of the first time".to_owned())),
        }
    }
}

impl ActiveKeyExchange for Replayed {
    fn complete(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        self.secret(share)
    }

    fn complete_for_tls_version(
        self: Box<Self>,
        share: &[u8],
        _: &SupportedProtocolVersion,
    ) -> Result<SharedSecret, Error> {
        self.secret(share)
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        self.component.as_ref().map(|(group, share)| (*group, share.as_slice()))
    }

    fn complete_hybrid_component(self: Box<Self>, share: &[u8]) -> Result<SharedSecret, Error> {
        self.secret(share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.ffdhe.ffdhe_group()
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

impl fmt::Debug for Tape {
    /// Nothing that was drawn.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tape").field("asked", &self.asked).finish_non_exhaustive()
    }
}
