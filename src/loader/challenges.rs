//! What a 401 asks for, and how the task answers: RFC 9110 §11, routing and dispositions as on Apple's (reference 2.12).
//!
//! Each way that the server offers is a protection space of its own, and the strongest has the first turn. The user and the
//! password of the address answer by themselves; otherwise the delegate is asked, where there is one, and the credentials
//! of the session's storage are the default. What was good is kept there, if it wants to be, and the session knows where: later
//! requests to the same place carry it unasked.

use std::collections::VecDeque;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::Url;

use super::question::{Reply, Subject};
use super::upgrade::Step;
use super::{Common, Env, Loader, Stage};
use crate::foundation::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, CredentialPersistence, ErrorCode,
    ErrorStage, UrlCredential, UrlCredentialStorage, UrlError, UrlProtectionSpace,
};
use crate::http::{self, AuthenticationOffer, Digest, ResponseHead};

/// How many answers to challenges a task sends.
const ANSWERS: usize = 20;

/// How often in a row a server may call a nonce stale.
const STALE: usize = 3;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// By a 401.
    Server,
    /// By a 407. What it is told, no server sees, and the other way round.
    Proxy,
}

impl Asker {
    /// RFC 9110 §11.6.1 and §11.7.1.
    fn challenge_field(self) -> &'static str {
        match self {
            Self::Server => "WWW-Authenticate",
            Self::Proxy => "Proxy-Authenticate",
        }
    }

    /// How it asked.
    fn asked(self) -> &'static str {
        match self {
            Self::Server => "the server answered 401",
            Self::Proxy => "it answered 407 to CONNECT",
        }
    }

    /// RFC 9110 §11.6.3 and §11.7.3.
    fn info_field(self) -> &'static str {
        match self {
            Self::Server => "Authentication-Info",
            Self::Proxy => "Proxy-Authentication-Info",
        }
    }
}

/// What a task knows of the challenges of one asker.
#[derive(Default)]
pub struct Authentication {
    /// What the last 401 offers, and nobody has been asked about.
    offers: VecDeque<AuthenticationOffer>,
    /// What the current request carries.
    attempt: Option<Attempt>,
    /// Credentials that the server did not take, and whether they were an answer to it.
    refused: Vec<(UrlProtectionSpace, UrlCredential, bool)>,
    /// Spaces that the delegate does not want.
    rejected: Vec<UrlProtectionSpace>,
    /// How many answers were sent.
    answers: usize,
    /// How many of them, the last ones, met a stale nonce.
    stale: usize,
}

/// An answer to a challenge.
struct Attempt {
    space: UrlProtectionSpace,
    credential: UrlCredential,
    /// Basic has none.
    digest: Option<Digest>,
    source: Source,
}

/// Where the credential of an answer comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The storage; the server has not asked for it, the space is known.
    Unasked,
    /// The same, once more with a new nonce.
    Renewed,
    /// The storage, or the address.
    Default,
    /// The delegate: it is new, and is stored if it wants to be.
    Delegate,
}

/// What the delegate was asked about.
pub struct Challenged {
    space: UrlProtectionSpace,
    digest: Option<Digest>,
    /// What default handling answers.
    proposed: Option<UrlCredential>,
    asker: Asker,
}

impl Attempt {
    /// The value of `Authorization` or `Proxy-Authorization`.
    fn field(
        &mut self,
        common: &Common,
        (method, target): (&str, &str),
        client_nonce: [u8; 16],
    ) -> Result<String, String> {
        let user = self.credential.user().unwrap_or_default();
        let password = self.credential.password().unwrap_or_default();
        let Some(digest) = &mut self.digest else { return http::basic(user, password) };
        common
            .used_nonces
            .lock()
            .count_on(&self.space, digest, |digest| digest.authorization(user, password, method, target, client_nonce))
    }
}

impl Authentication {
    /// Nothing that was meant for one origin goes to another, whatever led there.
    pub(super) fn forget_attempt(&mut self) {
        self.attempt = None;
    }

    fn failures(&self, space: &UrlProtectionSpace) -> usize {
        self.refused.iter().filter(|(refused, _, was_asked)| *was_asked && refused == space).count()
    }

    fn was_refused(&self, is_space: impl Fn(&UrlProtectionSpace) -> bool, credential: &UrlCredential) -> bool {
        let same =
            |known: &UrlCredential| (known.user(), known.password()) == (credential.user(), credential.password());
        self.refused.iter().any(|(refused, known, _)| is_space(refused) && same(known))
    }
}

impl Loader {
    fn authentication(&mut self, asker: Asker) -> &mut Authentication {
        match asker {
            Asker::Server => self.detour().authentication.get_or_insert_default(),
            Asker::Proxy => self.way().authentication.get_or_insert_default(),
        }
    }

    fn known_authentication(&mut self, asker: Asker) -> Option<&mut Authentication> {
        match asker {
            Asker::Server => self.detour.as_mut()?.authentication.as_deref_mut(),
            Asker::Proxy => self.prepared.as_mut()?.way.authentication.as_deref_mut(),
        }
    }

    fn storage(&self) -> Option<&UrlCredentialStorage> {
        self.settings.common.credential_storage.as_ref()
    }

    /// What says to the asker who the client is: the answer to its challenge, or what a space that is known wants.
    pub(super) fn authorization(&mut self, env: &mut Env<'_>, asker: Asker) -> Result<Option<String>, UrlError> {
        if self.known_authentication(asker).is_none_or(|known| known.attempt.is_none()) {
            match self.known_attempt(asker) {
                Some(attempt) => self.authentication(asker).attempt = Some(attempt),
                None => return Ok(None),
            }
        }
        let nonce = env.supply.random.bytes::<16>();
        let (method, target) = match (asker, self.server()) {
            (Asker::Proxy, Some((host, port))) => ("CONNECT", format!("{host}:{port}")),
            _ => ("GET", http::target(&self.settings.request)?.to_owned()),
        };
        let common = Arc::clone(&self.settings.common);
        let Some(attempt) = &mut self.authentication(asker).attempt else { return Ok(None) };
        match attempt.field(&common, (method, &target), nonce) {
            Ok(field) => Ok(Some(field)),
            // What the storage has by now cannot be sent. Who is asked may have something better.
            Err(_) if attempt.source == Source::Unasked => {
                self.authentication(asker).attempt = None;
                Ok(None)
            }
            Err(reason) => Err(UrlError::new(ErrorCode::UserAuthenticationRequired, ErrorStage::Request, reason)),
        }
    }

    /// What goes to the asker unasked. A user in the address, or a field of the caller's, comes first.
    fn known_attempt(&self, asker: Asker) -> Option<Attempt> {
        let common = &self.settings.common;
        let request = &self.settings.request;
        let mut known = common.known.lock();
        if known.is_empty() {
            return None;
        }
        let found = match (asker, self.proxy()) {
            (Asker::Proxy, None) => return None,
            (Asker::Proxy, Some(proxy)) => known.find_proxy(proxy.kind(), proxy.host(), proxy.port()),
            (Asker::Server, _) if self.sets_authorization() || url_credential(&request.url).is_some() => return None,
            (Asker::Server, _) => {
                let (host, port, protocol) = place(&request.url);
                known.find(host, port, protocol, request.url.path())
            }
        };
        let (space, user, digest) = found?;
        let (space, user, digest) = (space.clone(), user.to_owned(), digest.clone());
        let configured = self.configured_credential(asker);
        let is_configured = configured.is_some();
        let credential = match configured {
            Some(configured) => configured,
            None => match common.credential_storage.as_ref()?.proposed_for(&space) {
                Some(credential) => credential,
                None => {
                    known.forget(&space, &user);
                    return None;
                }
            },
        };
        // The program may have chosen somebody else meanwhile.
        if let Some(other) = credential.user().filter(|other| *other != user) {
            if is_configured {
                return None;
            }
            known.remember(space.clone(), request.url.path(), other.to_owned(), digest.clone());
        }
        Some(Attempt { space, credential, digest, source: Source::Unasked })
    }

    /// What the program has said beforehand of this proxy.
    fn configured_credential(&self, asker: Asker) -> Option<UrlCredential> {
        let (user, password) = self.proxy().filter(|_| asker == Asker::Proxy)?.credential()?;
        Some(UrlCredential::new(user, password, CredentialPersistence::None))
    }

    /// Whether the caller says by himself who he is.
    fn sets_authorization(&self) -> bool {
        let additional = &self.settings.common.additional_headers;
        self.settings.request.value("Authorization").is_some()
            || (!self.was_led_away() && additional.keys().any(|name| name.eq_ignore_ascii_case("Authorization")))
    }

    /// An answer came that is no 401. Where it is what the task wanted, or leads on, the request's credential was good, and is
    /// kept if it wants to be; of any other nobody knows whether the server has looked at it.
    pub(super) fn challenge_is_over(&mut self, head: &ResponseHead, was_good: bool, asker: Asker) {
        let is_configured = self.configured_credential(asker).is_some();
        let Some(authentication) = self.known_authentication(asker) else { return };
        let attempt = authentication.attempt.take().filter(|_| was_good);
        if let Some(Attempt { space, credential, mut digest, source }) = attempt {
            let mut is_new = source != Source::Unasked;
            if let Some(digest) = &mut digest {
                head.values(asker.info_field()).for_each(|info| is_new |= digest.update(info));
            }
            authentication.refused.retain(|(refused, ..)| *refused != space);
            authentication.stale = 0;
            let common = &self.settings.common;
            let storage = common.credential_storage.as_ref();
            let is_kept = storage.is_some() && credential.persistence() != CredentialPersistence::None;
            // What is configured is known as long as the session lives.
            if let Some(user) = credential.user().filter(|_| is_kept || (is_configured && source != Source::Delegate)) {
                let user = user.to_owned();
                // What was taken out of the storage meanwhile stays out.
                if let (Source::Delegate, Some(storage)) = (source, storage) {
                    storage.store_used(credential, &space);
                }
                let mut known = common.known.lock();
                if let (Some(digest), Some(shared)) =
                    (&mut digest, known.get_mut(&space).and_then(|shared| shared.as_ref()))
                {
                    // Another task may have a newer nonce by now.
                    if is_new { digest.go_on(shared) } else { digest.clone_from(shared) }
                }
                known.remember(space, self.settings.request.url.path(), user, digest);
            }
        }
    }

    /// The head of a 401 or a 407 came: what was said before was not good, and what is offered has its turn.
    pub(super) fn challenged(&mut self, env: &mut Env<'_>, asker: Asker) {
        let Stage::Answered(answered) = &self.stage else { return };
        let offers = http::offers(answered.head.values(asker.challenge_field()));
        if let Some(attempt) = self.authentication(asker).attempt.take() {
            let is_same = |offer: &&AuthenticationOffer| {
                offer.method == attempt.space.authentication_method() && offer.realm.as_deref() == attempt.space.realm()
            };
            // The counts of tasks that open at once may come in another order than they were made. Servers that take only
            // rising ones refuse those that come late like a wrong password, so that refusal says nothing of the password.
            let is_unasked = attempt.source == Source::Unasked;
            let is_late = |offer: &AuthenticationOffer| is_unasked && offer.digest().is_some();
            let stale = offers.iter().find(is_same).filter(|offer| offer.is_stale() || is_late(offer));
            let authentication = self.authentication(asker);
            if let (Some(offer), true) = (stale, authentication.stale < STALE) {
                authentication.stale += 1;
                let digest = offer.digest().cloned();
                let source = if is_unasked { Source::Renewed } else { attempt.source };
                return self.answer_challenge(env, asker, Attempt { digest, source, ..attempt });
            }
            authentication.stale = 0;
            // What went unasked into another space than it was for, nobody has refused.
            if !is_unasked || offers.is_empty() || offers.iter().any(|offer| is_same(&offer)) {
                let user = attempt.credential.user().unwrap_or_default();
                self.settings.common.known.lock().forget(&attempt.space, user);
                let was_asked = !matches!(attempt.source, Source::Unasked | Source::Renewed);
                self.authentication(asker).refused.push((attempt.space, attempt.credential, was_asked));
            }
        }
        self.authentication(asker).offers = offers.into();
        self.next_offer(env, asker);
    }

    /// The next way that the server offers, if there is one left.
    fn next_offer(&mut self, env: &mut Env<'_>, asker: Asker) {
        while let Some((space, digest)) = self.take_offer(asker) {
            if let Some(credential) = self.own_credential(&space, digest.as_ref(), asker) {
                return self.answer_challenge(
                    env,
                    asker,
                    Attempt { space, credential, digest, source: Source::Default },
                );
            }
            let proposed = self.stored_credential(&space, digest.as_ref(), asker);
            if !self.has_delegate {
                if let Some(credential) = proposed {
                    return self.answer_challenge(
                        env,
                        asker,
                        Attempt { space, credential, digest, source: Source::Default },
                    );
                }
                continue;
            }
            let failures = self.authentication(asker).failures(&space);
            let response = self.timeline.response(&self.settings);
            let challenge = AuthenticationChallenge::new(space.displayed(), proposed.clone(), failures, response, None);
            if let Stage::Answered(answered) = &mut self.stage {
                answered.step = Step::AskChallenge(Box::new(Challenged { space, digest, proposed, asker }));
                self.ask(env, Subject::Challenge(challenge));
            }
            return;
        }
        self.stand(env, None);
    }

    /// The next offer that was not rejected.
    fn take_offer(&mut self, asker: Asker) -> Option<(UrlProtectionSpace, Option<Digest>)> {
        let proxy = self.proxy().filter(|_| asker == Asker::Proxy).cloned();
        let request = Arc::clone(&self.settings.request);
        let space = |offer: &AuthenticationOffer| {
            let (realm, method) = (offer.realm.as_deref(), offer.method);
            match &proxy {
                Some(proxy) => UrlProtectionSpace::of_proxy(proxy.kind(), proxy.host(), proxy.port(), realm, method),
                None => {
                    let (host, port, protocol) = place(&request.url);
                    UrlProtectionSpace::new(host, port, Some(protocol), realm, method)
                }
            }
        };
        let authentication = self.authentication(asker);
        while let Some(offer) = authentication.offers.pop_front() {
            let space = space(&offer);
            if !authentication.rejected.contains(&space) {
                return Some((space, offer.digest().cloned()));
            }
        }
        None
    }

    /// The user and the password of the address, or those that are configured for the proxy, where they were not refused,
    /// whatever was asked for: what Digest has kept from the asker does not go there in clear.
    fn own_credential(
        &mut self,
        space: &UrlProtectionSpace,
        digest: Option<&Digest>,
        asker: Asker,
    ) -> Option<UrlCredential> {
        let credential = match asker {
            Asker::Server => url_credential(&self.settings.request.url)?,
            Asker::Proxy => self.configured_credential(asker)?,
        };
        let is_here = |refused: &UrlProtectionSpace| refused.has_origin_of(space);
        let is_good = takes_password(space)
            && unsendable(&credential, digest).is_none()
            && !self.authentication(asker).was_refused(is_here, &credential);
        is_good.then_some(credential)
    }

    /// What the storage has for the space, where the server has not refused it.
    fn stored_credential(
        &mut self,
        space: &UrlProtectionSpace,
        digest: Option<&Digest>,
        asker: Asker,
    ) -> Option<UrlCredential> {
        let credential = self.storage()?.proposed_for(space)?;
        let is_good = takes_password(space)
            && unsendable(&credential, digest).is_none()
            && !self.authentication(asker).was_refused(|refused| refused == space, &credential);
        is_good.then_some(credential)
    }

    /// The delegate's reply.
    pub(super) fn challenge_answered(&mut self, env: &mut Env<'_>, challenged: Challenged, reply: Reply) {
        let Challenged { space, digest, proposed, asker } = challenged;
        let (disposition, credential) = match reply {
            Reply::Challenge(disposition, credential) => (disposition, credential),
            Reply::Default | Reply::Redirect(_) => (AuthChallengeDisposition::PerformDefaultHandling, None),
        };
        match disposition {
            AuthChallengeDisposition::UseCredential => match credential {
                Some(credential) if takes_password(&space) => {
                    self.answer_challenge(env, asker, Attempt { space, credential, digest, source: Source::Delegate })
                }
                // A method that this crate does not speak.
                Some(_) => self.next_offer(env, asker),
                None => self.stand(env, Some(format!("{}, and the delegate has no credential", asker.asked()))),
            },
            AuthChallengeDisposition::PerformDefaultHandling => match proposed {
                Some(credential) => {
                    self.answer_challenge(env, asker, Attempt { space, credential, digest, source: Source::Default })
                }
                None if takes_password(&space) => self.answer_by_default(env, asker),
                None => self.next_offer(env, asker),
            },
            AuthChallengeDisposition::CancelAuthenticationChallenge => {
                let reason = "the delegate cancelled the authentication";
                self.fail_answered(env, UrlError::new(ErrorCode::Cancelled, ErrorStage::Cancel, reason));
            }
            AuthChallengeDisposition::RejectProtectionSpace => {
                self.authentication(asker).rejected.push(space);
                self.next_offer(env, asker);
            }
        }
    }

    /// There is nothing for what the delegate was asked about. Another way may have a credential in the storage.
    fn answer_by_default(&mut self, env: &mut Env<'_>, asker: Asker) {
        while let Some((space, digest)) = self.take_offer(asker) {
            if let Some(credential) = self.stored_credential(&space, digest.as_ref(), asker) {
                return self.answer_challenge(
                    env,
                    asker,
                    Attempt { space, credential, digest, source: Source::Default },
                );
            }
        }
        self.stand(env, None);
    }

    /// The request goes out once more, with this.
    fn answer_challenge(&mut self, env: &mut Env<'_>, asker: Asker, attempt: Attempt) {
        if let Some(reason) = unsendable(&attempt.credential, attempt.digest.as_ref()) {
            return self.stand(env, Some(format!("{}: {reason}", asker.asked())));
        }
        let authentication = self.authentication(asker);
        if authentication.answers >= ANSWERS {
            return self.stand(env, Some(format!("{} to {ANSWERS} credentials", asker.asked())));
        }
        authentication.answers += 1;
        authentication.attempt = Some(attempt);
        // A proxy is asked again for the same request, which has not left yet. What it has said is no answer to that.
        if let (Asker::Proxy, Some(underway)) = (asker, self.timeline.underway()) {
            underway.refusal = None;
        }
        if asker == Asker::Proxy || self.begin_hop(env, None) {
            self.will_go_on(env, true);
        }
    }
}

/// Why a credential cannot be sent, if it cannot.
fn unsendable(credential: &UrlCredential, digest: Option<&Digest>) -> Option<String> {
    let Some(user) = credential.user() else { return Some("the credential has no user and password".to_owned()) };
    let password = credential.password().unwrap_or_default();
    match digest.cloned() {
        Some(mut digest) => digest.authorization(user, password, "GET", "/", [0; 16]).err(),
        None => http::basic(user, password).err(),
    }
}

/// Whether this crate answers such a challenge.
fn takes_password(space: &UrlProtectionSpace) -> bool {
    matches!(space.authentication_method(), AuthenticationMethod::HttpBasic | AuthenticationMethod::HttpDigest)
}

/// Host, port and protocol of a server, as a protection space has them.
fn place(url: &Url) -> (&str, u16, &str) {
    (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default(), url.scheme())
}

/// The user and the password of an address, where there are both.
fn url_credential(url: &Url) -> Option<UrlCredential> {
    let decoded = |text| percent_decode_str(text).decode_utf8().ok();
    let (user, password) = (decoded(url.username())?, decoded(url.password()?)?);
    Some(UrlCredential::new(&user, &password, CredentialPersistence::None))
}
