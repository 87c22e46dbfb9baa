//! Certificates of the client: when they are asked for, what goes out and to whom, and what a server's refusal comes to.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use support::authority::{ClientPem, Clients, asking, self_signed};
use support::guide::{Guide, Kept, run};
use support::hooks::eventually;
use support::origin::{Answer, Origin, Request, redirect};
use support::proxy::{HttpProxy, Reply, proxied};
use support::tls::{Authority, BOTH, Identity, ONLY_12, ONLY_13, TRUSTED, provider};
use support::{Events, recorded_session_with};
use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, ClientIdentity,
    CloseCode, CredentialPersistence, ErrorCode, SessionConfiguration, UrlCredential, UrlSession,
};

use AuthChallengeDisposition::{
    CancelAuthenticationChallenge, PerformDefaultHandling, RejectProtectionSpace, UseCredential,
};

/// Long enough for what must not happen to have happened.
const MOMENT: Duration = Duration::from_millis(150);

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [ONLY_12, ONLY_13];

/// The questions as they are noted.
const TRUST: &str = "session challenge trust - 0 -";
const CERTIFICATE: &str = "session challenge certificate - 0 -";

/// Whose clients are let in.
static CLIENTS: LazyLock<Authority> = LazyLock::new(|| Authority::new("clients"));
static STRANGERS: LazyLock<Authority> = LazyLock::new(|| Authority::new("strangers"));

fn configuration() -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

fn host() -> Identity {
    TRUSTED.sign(&["localhost", "127.0.0.1"], |_| ())
}

fn requiring(versions: &[&'static SupportedProtocolVersion]) -> Origin {
    Origin::secure(asking(versions, host(), &Clients::required(&[&CLIENTS])), opens)
}

fn requesting(versions: &[&'static SupportedProtocolVersion]) -> Origin {
    Origin::secure(asking(versions, host(), &Clients::requested(&[&CLIENTS])), opens)
}

fn identity(client: &ClientPem) -> UrlCredential {
    let identity = ClientIdentity::from_pem(client.chain.as_bytes(), client.key.as_bytes());
    UrlCredential::with_identity(identity.expect("an identity"))
}

/// A session whose delegate leaves trust to the evaluation, noted, and replies so to what is asked of the client.
fn replying(
    reply: impl Fn(&AuthenticationChallenge, ChallengeHandler) + Send + Sync + 'static,
) -> (UrlSession, Events) {
    let (guide, events) = Guide::new();
    let guide = guide.trust(|_, handler| handler(PerformDefaultHandling, None)).challenge(reply);
    (guide.session(configuration()), events)
}

/// A session whose delegate has this identity for everybody.
fn known_as(client: &ClientPem) -> (UrlSession, Events) {
    let credential = identity(client);
    replying(move |_, handler| handler(UseCredential, Some(credential.clone())))
}

/// What the server was shown on its connection of this number, leaf only.
fn shown(origin: &Origin, connection: usize) -> Option<Vec<u8>> {
    origin.visits()[connection].identity.as_ref().map(|chain| chain[0].to_vec())
}

fn questions(events: &Events) -> Vec<String> {
    events.log().into_iter().filter(|event| event.contains("challenge")).collect()
}

#[test]
fn asked_for_when_the_server_wants_one_and_after_its_trust() {
    for versions in VERSIONS {
        let origin = requiring(versions);
        let port = origin.port();
        let client = CLIENTS.client("somebody");
        let credential = identity(&client);
        let (session, events) = replying(move |challenge, handler| {
            let space = challenge.protection_space();
            assert_eq!(space.authentication_method(), AuthenticationMethod::ClientCertificate);
            assert_eq!((space.host(), space.port(), space.protocol()), ("127.0.0.1", port, Some("https")));
            assert_eq!((space.realm(), space.is_proxy()), (None, false));
            assert_eq!(space.distinguished_names(), Some(&[CLIENTS.subject()][..]));
            assert!(space.server_trust().is_none() && space.receives_credential_securely());
            assert_eq!(challenge.previous_failure_count(), 0);
            assert!(challenge.proposed_credential().is_none() && challenge.failure_response().is_none());
            handler(UseCredential, Some(credential.clone()));
        });
        run(&session.web_socket_task(origin.url("/"))).unwrap();
        events.expect_to_open(&[TRUST, CERTIFICATE]);
        // On the very connection that asked.
        assert_eq!(origin.connections(), 1);
        assert_eq!(shown(&origin, 0).as_deref(), Some(&client.leaf[..]));
        assert_eq!(origin.seen().len(), 1);
    }
    // Who wants none is given none.
    let origin = Origin::secure(support::tls::trusted_server(BOTH), opens);
    let (session, events) = known_as(&CLIENTS.client("somebody"));
    run(&session.web_socket_task(origin.url("/"))).unwrap();
    events.expect_to_open(&[TRUST]);
}

/// A delegate that leaves trust to the evaluation without being noted is asked for the certificate alone.
#[test]
fn the_authorities_that_are_accepted() {
    let both: &[&Authority] = &[&CLIENTS, &STRANGERS];
    let table = [
        (Clients::required(both), vec![CLIENTS.subject(), STRANGERS.subject()]),
        (Clients { named: false, ..Clients::required(both) }, Vec::new()),
    ];
    for (clients, names) in table {
        for versions in VERSIONS {
            let origin = Origin::secure(asking(versions, host(), &clients), opens);
            let (credential, names) = (identity(&STRANGERS.client("somebody")), names.clone());
            let (session, events) = replying(move |challenge, handler| {
                assert_eq!(challenge.protection_space().distinguished_names(), Some(&names[..]));
                handler(UseCredential, Some(credential.clone()));
            });
            run(&session.web_socket_task(origin.url("/"))).unwrap();
            events.expect_to_open(&[TRUST, CERTIFICATE]);
        }
    }
}

#[test]
fn keys_of_every_form() {
    let clients = [
        ("PKCS #8", CLIENTS.client("a")),
        ("SEC 1", CLIENTS.sec1_client("b")),
        ("RSA, PKCS #8", CLIENTS.rsa_client("c", false)),
        ("RSA, PKCS #1", CLIENTS.rsa_client("d", true)),
    ];
    for (name, client) in clients {
        for versions in VERSIONS {
            let origin = requiring(versions);
            let (session, events) = known_as(&client);
            run(&session.web_socket_task(origin.url("/"))).unwrap_or_else(|error| panic!("{name}: {error}"));
            events.expect_to_open(&[TRUST, CERTIFICATE]);
            assert_eq!(origin.connections(), 1, "{name}");
            assert_eq!(shown(&origin, 0).as_deref(), Some(&client.leaf[..]), "{name}");
        }
    }
}

/// What leads from the client's certificate to an authority goes along.
#[test]
fn the_whole_chain_is_shown() {
    let between = CLIENTS.intermediate("in between");
    let mut client = between.client("somebody");
    for versions in VERSIONS {
        let origin = requiring(versions);
        let (session, _events) = known_as(&client);
        assert_eq!(
            run(&session.web_socket_task(origin.url("/"))).unwrap_err().code(),
            ErrorCode::ClientCertificateRejected
        );
    }
    client.chain += &between.pem;
    for versions in VERSIONS {
        let origin = requiring(versions);
        let (session, _events) = known_as(&client);
        run(&session.web_socket_task(origin.url("/"))).unwrap();
        let chain = origin.visits()[0].identity.clone().unwrap();
        assert_eq!(chain, [client.leaf.clone(), between.certificate.clone()]);
    }
}

/// A server that merely asks opens for those that give nothing; one that insists does not.
#[test]
fn without_a_certificate() {
    type Answering = fn(&AuthenticationChallenge, ChallengeHandler);
    let table: [(&str, Answering); 5] = [
        ("default", |_, handler| handler(PerformDefaultHandling, None)),
        ("no credential", |_, handler| handler(UseCredential, None)),
        ("reject", |_, handler| handler(RejectProtectionSpace, None)),
        ("no answer", |_, handler| drop(handler)),
        ("a password", |_, handler| {
            let password = UrlCredential::new("me", "secret", CredentialPersistence::ForSession);
            handler(UseCredential, Some(password));
        }),
    ];
    for (name, reply) in table {
        for versions in VERSIONS {
            let origin = requesting(versions);
            let (session, events) = replying(reply);
            run(&session.web_socket_task(origin.url("/"))).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(questions(&events)[..2], [TRUST, CERTIFICATE], "{name}");
            assert_eq!((origin.connections(), shown(&origin, 0)), (1, None), "{name}");

            let origin = requiring(versions);
            let (session, events) = replying(reply);
            let task = session.web_socket_task(origin.url("/"));
            let error = run(&task).expect_err(name);
            assert_eq!(error.code(), ErrorCode::ClientCertificateRequired, "{name}: {error}");
            assert_eq!(events.wait_for("complete"), "complete -1206", "{name}");
            assert!(origin.seen().is_empty(), "{name}");
        }
    }
}

#[test]
fn nobody_to_ask() {
    for versions in VERSIONS {
        let origin = requesting(versions);
        run(&UrlSession::new(configuration()).web_socket_task(origin.url("/"))).unwrap();
        assert_eq!(shown(&origin, 0), None);
        let origin = requiring(versions);
        let (session, _, events) = recorded_session_with(configuration(), None);
        session.web_socket_task(origin.url("/")).resume();
        events.wait_for("complete -1206");
        assert!(origin.seen().is_empty());
    }
}

#[test]
fn certificates_that_the_server_does_not_accept() {
    for versions in VERSIONS {
        for client in [STRANGERS.client("a stranger"), CLIENTS.intermediate("cut off").client("one without a chain")] {
            let origin = requiring(versions);
            let (session, events) = known_as(&client);
            let error = run(&session.web_socket_task(origin.url("/"))).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ClientCertificateRejected, "{error}");
            assert_eq!(events.wait_for("complete"), "complete -1205");
            assert!(origin.seen().is_empty());
        }
    }
}

#[test]
fn a_cancel_by_the_answer_and_while_the_delegate_is_asked() {
    for versions in VERSIONS {
        let origin = requiring(versions);
        let (session, events) = replying(|_, handler| handler(CancelAuthenticationChallenge, None));
        session.web_socket_task(origin.url("/")).resume();
        events.expect(&[TRUST, CERTIFICATE, "complete -999"]);
        eventually("the end of the connection", || origin.ended() == 1);
        origin.visits()[0].assert_nothing_said();
        assert!(!origin.visits()[0].is_done());

        let origin = requiring(versions);
        let kept: Kept<ChallengeHandler> = Kept::default();
        let keep = kept.clone();
        let (session, events) = replying(move |_, handler| keep.push(handler));
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.wait_for(CERTIFICATE);
        events.expect_silence(MOMENT);
        origin.visits()[0].assert_nothing_said();
        task.cancel();
        events.expect(&[TRUST, CERTIFICATE, "complete -999"]);
        kept.wait()(UseCredential, Some(identity(&CLIENTS.client("too late"))));
        events.expect_silence(MOMENT);
        eventually("the end of the connection", || origin.ended() == 1);
        assert_eq!((origin.connections(), shown(&origin, 0)), (1, None));
    }
}

/// The answer may come at any time and from any thread; the request's timer stands still meanwhile.
#[test]
fn an_answer_from_another_thread() {
    for versions in VERSIONS {
        let origin = requiring(versions);
        let kept: Kept<ChallengeHandler> = Kept::default();
        let keep = kept.clone();
        let (guide, events) = Guide::new();
        let mut short = configuration();
        short.timeout_interval_for_request = MOMENT;
        let session = guide.challenge(move |_, handler| keep.push(handler)).session(short);
        session.web_socket_task(origin.url("/")).resume();
        events.wait_for(CERTIFICATE);
        events.expect_silence(3 * MOMENT);
        let (client, handler) = (CLIENTS.client("somebody"), kept.wait());
        let credential = identity(&client);
        thread::spawn(move || handler(UseCredential, Some(credential))).join().unwrap();
        events.expect_to_open(&[CERTIFICATE]);
        assert_eq!((origin.connections(), shown(&origin, 0).as_deref()), (1, Some(&client.leaf[..])));
    }
}

/// The answer to a task that is suspended is taken, and goes out when it is resumed. No clock of the request's runs meanwhile.
#[test]
fn an_answer_while_the_task_is_suspended() {
    for versions in VERSIONS {
        let origin = requiring(versions);
        let kept: Kept<ChallengeHandler> = Kept::default();
        let keep = kept.clone();
        let (guide, events) = Guide::new();
        let mut short = configuration();
        short.timeout_interval_for_request = MOMENT;
        let session = guide.challenge(move |_, handler| keep.push(handler)).session(short);
        let task = session.web_socket_task(origin.url("/"));
        task.resume();
        events.wait_for(CERTIFICATE);
        task.suspend();
        kept.wait()(UseCredential, Some(identity(&CLIENTS.client("somebody"))));
        events.expect_silence(3 * MOMENT);
        origin.visits()[0].assert_nothing_said();
        assert!(!origin.visits()[0].is_done());
        task.resume();
        events.expect_to_open(&[CERTIFICATE]);
        assert_eq!(origin.connections(), 1);
    }
}

/// Who is not trusted does not learn who the client is, and nobody is asked on their behalf.
#[test]
fn an_untrusted_server_is_shown_nothing() {
    for versions in VERSIONS {
        let origin = Origin::secure(asking(versions, self_signed(), &Clients::requested(&[&CLIENTS])), opens);
        let (session, events) = known_as(&CLIENTS.client("somebody"));
        assert_eq!(run(&session.web_socket_task(origin.url("/"))).unwrap_err().raw_code(), -1203);
        assert_eq!(questions(&events), [TRUST]);
        eventually("the end of the connection", || origin.ended() == 1);
        assert_eq!(shown(&origin, 0), None);
        origin.visits()[0].assert_nothing_said();
    }
}

/// An accepted one does.
#[test]
fn an_accepted_server() {
    for versions in VERSIONS {
        let origin = Origin::secure(asking(versions, self_signed(), &Clients::required(&[&CLIENTS])), opens);
        let client = CLIENTS.client("somebody");
        let credential = identity(&client);
        let (guide, events) = Guide::new();
        let session = guide
            .trust(|challenge, handler| {
                let trust = challenge.protection_space().server_trust().unwrap();
                handler(UseCredential, Some(UrlCredential::for_trust(trust)));
            })
            .credential(credential)
            .session(configuration());
        run(&session.web_socket_task(origin.url("/"))).unwrap();
        events.expect_to_open(&[TRUST, CERTIFICATE]);
        assert_eq!((origin.connections(), shown(&origin, 0).as_deref()), (1, Some(&client.leaf[..])));
    }
}

/// The identity is an answer to one server: where a redirect leads elsewhere, the question is a new one.
#[test]
fn a_redirect_asks_again() {
    for versions in VERSIONS {
        let second = requesting(versions);
        let target = second.url("/").to_string();
        let config = asking(versions, host(), &Clients::required(&[&CLIENTS]));
        let first = Origin::secure(config, move |_| Answer::Keep(redirect(302, &target)));
        let client = CLIENTS.client("somebody");
        let (credential, port) = (identity(&client), first.port());
        let (session, events) = replying(move |challenge, handler| match challenge.protection_space().port() == port {
            true => handler(UseCredential, Some(credential.clone())),
            false => handler(PerformDefaultHandling, None),
        });
        run(&session.web_socket_task(first.url("/"))).unwrap();
        events.expect_to_open(&[TRUST, CERTIFICATE, "redirect 302 /", TRUST, CERTIFICATE]);
        assert_eq!(shown(&first, 0).as_deref(), Some(&client.leaf[..]));
        assert_eq!((second.connections(), shown(&second, 0)), (1, None));
    }
}

/// So it is with the next task, whatever the last one answered: no ticket brings an identity along.
#[test]
fn the_next_task_is_asked_again() {
    for versions in VERSIONS {
        let origin = requesting(versions);
        let clients = [Some(CLIENTS.client("one")), None, Some(CLIENTS.client("two")), None];
        let answers: Kept<Option<UrlCredential>> = Kept::default();
        let next = answers.clone();
        let (session, events) = replying(move |_, handler| match next.wait() {
            Some(credential) => handler(UseCredential, Some(credential)),
            None => handler(PerformDefaultHandling, None),
        });
        for (number, client) in clients.iter().enumerate() {
            answers.push(client.as_ref().map(identity));
            let task = session.web_socket_task(origin.url("/"));
            run(&task).unwrap();
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            events.wait_for("complete None");
            assert_eq!(questions(&events).len(), 2 * (number + 1), "task {number}");
            let expected = client.as_ref().map(|client| client.leaf.to_vec());
            assert_eq!(shown(&origin, number), expected, "task {number}");
        }
        assert_eq!(origin.connections(), 4);
    }
}

/// Two sessions, two identities: neither has the other's.
#[test]
fn sessions_have_their_own() {
    let origin = requiring(BOTH);
    let clients = [CLIENTS.client("one"), CLIENTS.client("two")];
    let sessions = [known_as(&clients[0]), known_as(&clients[1])];
    for round in 0..2 {
        for (number, (session, _)) in sessions.iter().enumerate() {
            run(&session.web_socket_task(origin.url("/"))).unwrap();
            assert_eq!(shown(&origin, 2 * round + number).as_deref(), Some(&clients[number].leaf[..]));
            // Each connection is a question, also where the answer is the same.
            assert!(!origin.visits()[2 * round + number].is_resumed());
        }
    }
}

/// The proxy asks for itself; the server behind it is another question, and neither gets the other's answer.
#[test]
fn a_proxy_that_wants_a_certificate() {
    for versions in VERSIONS {
        let origin = requiring(versions);
        let proxy = HttpProxy::secure(asking(versions, host(), &Clients::required(&[&STRANGERS])), |_| Reply::Tunnel);
        let (for_proxy, for_origin) = (STRANGERS.client("for the proxy"), CLIENTS.client("for the origin"));
        let credentials = [identity(&for_proxy), identity(&for_origin)];
        let ports = [proxy.port(), origin.port()];
        let (guide, events) = Guide::new();
        let session = guide
            .challenge(move |challenge, handler| {
                let space = challenge.protection_space();
                let behind = usize::from(!space.is_proxy());
                assert_eq!((space.host(), space.port()), ("127.0.0.1", ports[behind]));
                handler(UseCredential, Some(credentials[behind].clone()));
            })
            .session(proxied(configuration(), vec![proxy.configuration()]));
        run(&session.web_socket_task(origin.url("/"))).unwrap();
        events.expect_to_open(&[CERTIFICATE, CERTIFICATE]);
        assert_eq!((proxy.connections(), origin.connections()), (1, 1));
        let of_proxy = proxy.visits()[0].identity.clone().unwrap();
        assert_eq!(of_proxy, std::slice::from_ref(&for_proxy.leaf));
        assert_eq!(shown(&origin, 0).as_deref(), Some(&for_origin.leaf[..]));
    }
    // One that insists and is given nothing.
    let proxy = HttpProxy::secure(asking(BOTH, host(), &Clients::required(&[&STRANGERS])), |_| Reply::Tunnel);
    let origin = requesting(BOTH);
    let session = UrlSession::new(proxied(configuration(), vec![proxy.configuration()]));
    let error = run(&session.web_socket_task(origin.url("/"))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ClientCertificateRequired, "{error}");
    assert!(proxy.seen().is_empty() && origin.connections() == 0);
}

#[test]
fn identities_that_are_none() {
    let (one, other) = (CLIENTS.client("one"), CLIENTS.client("other"));
    let cut = one.key.replacen("-----END", "-----OVER", 1);
    let table: [(&str, &str, &str); 5] = [
        ("no certificate", "", &one.key),
        ("no key", &one.chain, ""),
        ("a key where the certificate should be", &one.key, &one.key),
        ("another's key", &one.chain, &other.key),
        ("half a key", &one.chain, &cut),
    ];
    for (name, chain, key) in table {
        let error = ClientIdentity::from_pem(chain.as_bytes(), key.as_bytes()).expect_err(name);
        assert!(!error.reason().is_empty(), "{name}");
        let shown = format!("{error} {error:?}");
        assert!(key.lines().skip(1).all(|line| line.starts_with('-') || !shown.contains(line)), "{name}: {shown}");
    }
    let identity = ClientIdentity::from_pem(one.chain.as_bytes(), one.key.as_bytes()).unwrap();
    let shown = format!("{identity:?} {:?}", UrlCredential::with_identity(identity.clone()));
    assert!(!shown.contains(one.key.lines().nth(1).unwrap()), "{shown}");
    let credential = UrlCredential::with_identity(identity);
    assert!(credential.user().is_none() && credential.password().is_none());
}

/// A server that begins to want certificates, and knows none of its tickets any more, when it is told to.
#[derive(Debug)]
struct Changing {
    has_changed: Arc<AtomicBool>,
    clients: Arc<dyn ClientCertVerifier>,
    tickets: Arc<dyn StoresServerSessions>,
}

impl Changing {
    fn origin(versions: &[&'static SupportedProtocolVersion]) -> (Origin, Arc<AtomicBool>) {
        let has_changed = Arc::new(AtomicBool::new(false));
        let mut roots = RootCertStore::empty();
        roots.add(CLIENTS.certificate.clone()).unwrap();
        let changing = Arc::new(Self {
            has_changed: Arc::clone(&has_changed),
            clients: WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap(),
            tickets: ServerSessionMemoryCache::new(32),
        });
        let (chain, key) = host();
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_client_cert_verifier(Arc::clone(&changing) as _);
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.session_storage = changing;
        (Origin::secure(Arc::new(config), opens), has_changed)
    }

    fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::SeqCst)
    }
}

impl ClientCertVerifier for Changing {
    fn offer_client_auth(&self) -> bool {
        self.has_changed()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.clients.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.clients.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

impl StoresServerSessions for Changing {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.tickets.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.has_changed() { None } else { self.tickets.get(key) }
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.has_changed() { None } else { self.tickets.take(key) }
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// What was offered to resume is of no use, so that the certificate goes out on a new connection: to whom it is for, and not
/// to the proxy that is on the way there.
#[test]
fn a_certificate_that_needs_another_connection() {
    for versions in VERSIONS {
        for is_proxied in [false, true] {
            let (origin, has_changed) = Changing::origin(versions);
            let proxy =
                HttpProxy::secure(asking(versions, host(), &Clients::requested(&[&CLIENTS])), |_| Reply::Tunnel);
            let client = CLIENTS.client("for the origin");
            let credential = identity(&client);
            let (guide, events) = Guide::new();
            let guide = guide.challenge(move |challenge, handler| match challenge.protection_space().is_proxy() {
                true => handler(PerformDefaultHandling, None),
                false => handler(UseCredential, Some(credential.clone())),
            });
            let proxies = if is_proxied { vec![proxy.configuration()] } else { Vec::new() };
            let session = guide.session(proxied(configuration(), proxies));
            let task = session.web_socket_task(origin.url("/"));
            run(&task).unwrap();
            task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
            events.wait_for("complete None");
            has_changed.store(true, Ordering::SeqCst);
            run(&session.web_socket_task(origin.url("/"))).unwrap();
            assert_eq!(shown(&origin, 2).as_deref(), Some(&client.leaf[..]), "proxied: {is_proxied}");
            assert_eq!(origin.connections(), 3);
            let to_proxy: Vec<_> = proxy.visits().into_iter().map(|visit| visit.identity).collect();
            assert_eq!(to_proxy, vec![None; if is_proxied { 3 } else { 0 }]);
        }
    }
}
