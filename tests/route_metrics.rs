//! What the metrics tell of the way to the open socket, whichever way it was and wherever it ended: `did_finish_collecting_metrics` once,
//! before the task's last word, with dates in their order.

mod support;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use support::authority::{Clients, asking, self_signed};
use support::guide::{Guide, run};
use support::origin::{Answer, Origin, Request, head, redirect, unauthorized};
use support::proxy::{HttpProxy, Reply, proxied, proxy_unauthorized};
use support::socks::{SocksProxy, SocksRules};
use support::tls::{Authority, BOTH, ONLY_12, TRUSTED, server_with, trusted_server};
use support::{PATIENCE, closed_port};
use urlsession::{
    AuthChallengeDisposition, CloseCode, CredentialPersistence, ProxyConfiguration, SessionConfiguration, TaskMetrics,
    TlsProtocolVersion, TransactionMetrics, Url, UrlCredential,
};

use AuthChallengeDisposition::{CancelAuthenticationChallenge, PerformDefaultHandling};

/// How long a delegate thinks, where that is to be seen in the dates.
const MOMENT: Duration = Duration::from_millis(150);

fn configuration(proxies: Vec<ProxyConfiguration>) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    proxied(configuration, proxies)
}

fn opens(_: &Request) -> Answer {
    Answer::Open(String::new())
}

fn secure() -> Origin {
    Origin::secure(server_with(BOTH, TRUSTED.sign(&["origin.test", "localhost", "127.0.0.1"], |_| ())), opens)
}

/// Who answers a 401 or a 407, and leaves trust to the evaluation.
fn guide() -> Guide {
    let me = UrlCredential::new("me", "secret", CredentialPersistence::None);
    Guide::new().0.credential(me)
}

/// Takes a task to its end, closing it where it opens, and fails unless the metrics come once and before the last word; they,
/// and the number of the end.
#[track_caller]
fn collect(guide: Guide, configuration: SessionConfiguration, url: &Url) -> (TaskMetrics, Option<i32>) {
    let (sender, receiver) = mpsc::channel();
    let (recorder, events) = support::recorder();
    let notes = Arc::clone(&recorder);
    let mut guide = guide.metrics(move |metrics| {
        notes.note("metrics");
        sender.send(metrics.clone()).unwrap();
    });
    guide.recorder = recorder;
    let session = guide.session(configuration);
    let task = session.web_socket_task(url);
    let before = SystemTime::now();
    if run(&task).is_ok() {
        task.cancel_with(CloseCode::NORMAL_CLOSURE, None);
    }
    let completed = events.wait_for("complete");
    session.invalidate_and_cancel();
    events.wait_for("invalid");
    let log = events.log();
    let position = |beginning: &str| log.iter().position(|event| event.starts_with(beginning)).expect(beginning);
    assert_eq!(position("metrics") + 1, position("complete"), "{log:?}");
    assert_eq!(log.iter().filter(|event| event.starts_with("metrics")).count(), 1, "{log:?}");
    let metrics = receiver.recv_timeout(PATIENCE).unwrap();
    in_order(&metrics, before);
    (metrics, completed.strip_prefix("complete ").unwrap().parse().ok())
}

fn dates(transaction: &TransactionMetrics) -> [Option<SystemTime>; 11] {
    [
        transaction.fetch_start_date,
        transaction.domain_lookup_start_date,
        transaction.domain_lookup_end_date,
        transaction.connect_start_date,
        transaction.secure_connection_start_date,
        transaction.secure_connection_end_date,
        transaction.connect_end_date,
        transaction.request_start_date,
        transaction.request_end_date,
        transaction.response_start_date,
        transaction.response_end_date,
    ]
}

/// The dates that are there rise, within each transaction and from one to the next, and lie within the task's.
#[track_caller]
fn in_order(metrics: &TaskMetrics, before: SystemTime) {
    let (start, duration) = metrics.task_interval;
    // The task was made a moment before this test looked at the clock.
    assert!(start <= before + MOMENT && before <= start + duration + MOMENT);
    let mut last = start;
    for (number, transaction) in metrics.transaction_metrics.iter().enumerate() {
        let dates: Vec<SystemTime> = dates(transaction).into_iter().flatten().collect();
        assert!(dates.is_sorted(), "transaction {number}: {transaction:#?}");
        assert!(transaction.fetch_start_date.is_some_and(|fetch| fetch >= last), "transaction {number}");
        last = *dates.last().unwrap();
        assert!(last <= start + duration, "transaction {number} outlives its task");
        let pairs = [
            (transaction.domain_lookup_start_date, transaction.domain_lookup_end_date),
            (transaction.connect_start_date, transaction.connect_end_date),
            (transaction.secure_connection_start_date, transaction.secure_connection_end_date),
            (transaction.request_start_date, transaction.request_end_date),
            (transaction.response_start_date, transaction.response_end_date),
        ];
        let is_whole = pairs.iter().all(|(start, end)| start.is_some() || end.is_none());
        assert!(is_whole, "an end without a beginning: {transaction:#?}");
    }
    assert!(!metrics.transaction_metrics.is_empty());
}

fn last(metrics: &TaskMetrics) -> &TransactionMetrics {
    metrics.transaction_metrics.last().unwrap()
}

#[test]
fn the_direct_way() {
    for (origin, host) in [(Origin::new(opens), "127.0.0.1"), (secure(), "localhost"), (secure(), "127.0.0.1")] {
        let (metrics, code) = collect(guide(), configuration(Vec::new()), &origin.url_of(host, "/"));
        assert_eq!((code, metrics.redirect_count, metrics.transaction_metrics.len()), (None, 0, 1));
        let transaction = last(&metrics);
        let is_secure = origin.seen()[0].secure;
        assert_eq!(transaction.secure_connection_end_date.is_some(), is_secure);
        assert_eq!(transaction.negotiated_tls_protocol_version.is_some(), is_secure);
        assert_eq!(transaction.domain_lookup_end_date.is_some(), host == "localhost");
        for date in [transaction.connect_end_date, transaction.request_end_date, transaction.response_end_date] {
            assert!(date.is_some());
        }
        assert!(!transaction.is_proxy_connection && !transaction.is_reused_connection);
        assert_eq!(transaction.remote_address.unwrap().port(), origin.port());
        assert!(transaction.local_address.is_some());
        let sent = i64::try_from(origin.seen()[0].head.len()).unwrap();
        assert_eq!(transaction.count_of_request_header_bytes_sent, sent);
        assert!(transaction.count_of_response_header_bytes_received > 0);
    }
}

/// The tunnel is a part of connecting: the request is the one that the server gets, and the counts are of that.
#[test]
fn the_way_through_a_proxy() {
    let http = HttpProxy::open();
    let https = HttpProxy::secure(trusted_server(ONLY_12), |_| Reply::Tunnel);
    let socks = SocksProxy::open();
    let proxies = [
        (http.configuration(), http.address()),
        (https.configuration(), https.address()),
        (socks.configuration(), socks.address()),
    ];
    for (proxy, address) in proxies {
        for origin in [Origin::new(opens), secure()] {
            let url = origin.url_of("origin.test", "/");
            let (metrics, code) = collect(guide(), configuration(vec![proxy.clone()]), &url);
            assert_eq!((code, metrics.redirect_count), (None, 0));
            let transaction = last(&metrics);
            assert!(transaction.is_proxy_connection);
            assert_eq!(transaction.remote_address, Some(address));
            // Nobody here has looked up what the proxy was to look up.
            assert_eq!(transaction.domain_lookup_start_date, None);
            assert_eq!(transaction.request.url.host_str(), Some("origin.test"));
            assert_eq!(transaction.request.value("Proxy-Authorization"), None);
            assert_eq!(transaction.response.as_ref().unwrap().status_code(), 101);
            let sent = i64::try_from(origin.seen()[0].head.len()).unwrap();
            assert_eq!(transaction.count_of_request_header_bytes_sent, sent);
            // The TLS that is told of is the one with the server.
            let expected = origin.seen()[0].secure.then_some(TlsProtocolVersion::TlsV13);
            assert_eq!(transaction.negotiated_tls_protocol_version, expected);
            assert!(transaction.connect_end_date.is_some() && transaction.request_end_date.is_some());
        }
    }
}

#[test]
fn redirects_and_challenges() {
    for through in [false, true] {
        let proxy = HttpProxy::open();
        let host = if through { "origin.test" } else { "127.0.0.1" };
        let proxies = || if through { vec![proxy.configuration()] } else { Vec::new() };
        let second =
            Origin::secure(server_with(BOTH, TRUSTED.sign(&["origin.test", "127.0.0.1"], |_| ())), |request| {
                match request.field("Authorization") {
                    Some(_) => opens(request),
                    None => Answer::Keep(unauthorized(&["Basic realm=here"])),
                }
            });
        let target = second.url_of(host, "/").to_string();
        let first = Origin::new(move |request| match request.target() {
            "/" => Answer::Keep(redirect(302, "/kept")),
            _ => Answer::Keep(redirect(302, &target)),
        });
        let (metrics, code) = collect(guide(), configuration(proxies()), &first.url_of(host, "/"));
        assert_eq!((code, metrics.redirect_count, metrics.transaction_metrics.len()), (None, 2, 4));
        let statuses: Vec<u16> = metrics
            .transaction_metrics
            .iter()
            .map(|transaction| transaction.response.as_ref().unwrap().status_code())
            .collect();
        assert_eq!(statuses, [302, 302, 401, 101]);
        let reused: Vec<bool> =
            metrics.transaction_metrics.iter().map(|transaction| transaction.is_reused_connection).collect();
        assert_eq!(reused, [false, true, false, true]);
        for transaction in &metrics.transaction_metrics {
            assert_eq!(transaction.is_proxy_connection, through);
            assert_eq!(transaction.connect_start_date.is_some(), !transaction.is_reused_connection);
        }
    }
}

/// The time in which a delegate looks at a certificate is a part of the TLS handshake.
#[test]
fn a_delegate_that_thinks() {
    let origin = secure();
    let (sender, receiver) = mpsc::channel();
    let guide = guide().trust(move |_, handler| {
        let receiver = std::thread::spawn(move || {
            std::thread::park_timeout(MOMENT);
            handler(PerformDefaultHandling, None);
        });
        sender.send(receiver).unwrap();
    });
    let (metrics, code) = collect(guide, configuration(Vec::new()), &origin.url("/"));
    receiver.recv_timeout(PATIENCE).unwrap().join().unwrap();
    assert_eq!(code, None);
    let transaction = last(&metrics);
    let (start, end) =
        (transaction.secure_connection_start_date.unwrap(), transaction.secure_connection_end_date.unwrap());
    assert!(end.duration_since(start).unwrap() >= MOMENT);
    assert!(transaction.request_start_date.unwrap() >= end);
}

#[test]
fn a_407_on_the_way() {
    for keeps in [true, false] {
        let proxy = HttpProxy::new(move |request| match request.field("Proxy-Authorization") {
            Some(_) => Reply::Tunnel,
            None if keeps => Reply::Keep(proxy_unauthorized(&["Basic realm=proxy"], "")),
            None => Reply::Close(proxy_unauthorized(&["Basic realm=proxy"], "Connection: close\r\n")),
        });
        let origin = secure();
        let url = origin.url_of("origin.test", "/");
        let (metrics, code) = collect(guide(), configuration(vec![proxy.configuration()]), &url);
        assert_eq!((code, metrics.redirect_count), (None, 0));
        let transaction = last(&metrics);
        assert_eq!(transaction.response.as_ref().unwrap().status_code(), 101);
        for transaction in &metrics.transaction_metrics {
            assert!(transaction.is_proxy_connection);
            assert_eq!(transaction.request.value("Proxy-Authorization"), None, "the password is nobody's to read");
        }
    }
}

/// What is told of the connection is that of the way that was taken in the end.
#[test]
fn a_proxy_that_is_passed_by() {
    let closed = closed_port();
    let mut missing = ProxyConfiguration::http_connect("127.0.0.1", closed);
    missing.allow_failover = true;
    let (origin, proxy) = (Origin::new(opens), HttpProxy::open());
    for (others, is_proxied) in [(vec![], false), (vec![proxy.configuration()], true)] {
        let proxies = [vec![missing.clone()], others].concat();
        let (metrics, code) = collect(guide(), configuration(proxies), &origin.url("/"));
        let address = if is_proxied { proxy.address().port() } else { origin.port() };
        assert_eq!((code, metrics.transaction_metrics.len()), (None, 1));
        let transaction = last(&metrics);
        assert_eq!(transaction.is_proxy_connection, is_proxied);
        assert_eq!(transaction.remote_address.map(|remote| remote.port()), Some(address));
    }
}

/// How far a task came.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Reached {
    /// No connection to the server, nor to what is between.
    Nothing,
    /// A connection, but no TLS that is done.
    Connection,
    /// The server was sent a request.
    Request,
    /// It has answered.
    Response,
}

/// A delegate, proxies and an address, the numbers that it may end with, and how far it came.
type Failure = (&'static str, Guide, Vec<ProxyConfiguration>, Url, &'static [i32], Reached);

/// Wherever it ends, the metrics come, and what did not happen has no date.
#[test]
fn failures_at_every_stage() {
    use Reached::{Connection, Nothing, Request, Response};
    let closed = closed_port();
    let dead = ProxyConfiguration::http_connect("127.0.0.1", closed);
    let address = |text: &str| Url::parse(text).unwrap();
    let nobody = address(&format!("ws://127.0.0.1:{closed}/"));
    let test = address("ws://origin.test/");

    let untrusted = Origin::secure(server_with(BOTH, self_signed()), opens);
    let strangers = Authority::new("strangers");
    let identity = TRUSTED.sign(&["127.0.0.1"], |_| ());
    let insisting = Origin::secure(asking(ONLY_12, identity, &Clients::required(&[&strangers])), opens);
    let refusing = Origin::new(|_| Answer::Close(head("404 Not Found", "")));
    let silent = Origin::new(|_| Answer::Nothing);
    let forbids = HttpProxy::new(|_| Reply::Close(head("403 Forbidden", "")));
    let asks = HttpProxy::new(|_| Reply::Close(proxy_unauthorized(&["Negotiate"], "")));
    let garbage = HttpProxy::new(|_| Reply::Hang(b"what?\r\n\r\n".to_vec()));
    let ends = HttpProxy::new(|_| Reply::Nothing);
    let refuses = SocksProxy::new(SocksRules { reply: 4, ..SocksRules::default() });
    let untrusted_proxy = HttpProxy::secure(server_with(BOTH, self_signed()), |_| Reply::Tunnel);

    let trusts_nobody = || guide().trust(|_, handler| handler(CancelAuthenticationChallenge, None));
    let table: Vec<Failure> = vec![
        ("nobody listens", guide(), vec![], nobody, &[-1004], Nothing),
        ("no proxy listens", guide(), vec![dead], test.clone(), &[-1004], Nothing),
        ("no such name", guide(), vec![], address("ws://nobody.invalid/"), &[-1003, -1006, -1009], Nothing),
        ("an untrusted server", guide(), vec![], untrusted.url("/"), &[-1203], Connection),
        ("a cancelled trust", trusts_nobody(), vec![], untrusted.url("/"), &[-999], Connection),
        ("no certificate", guide(), vec![], insisting.url("/"), &[-1206], Connection),
        ("an untrusted proxy", guide(), vec![untrusted_proxy.configuration()], test.clone(), &[-1203], Connection),
        ("a 403 of a proxy", guide(), vec![forbids.configuration()], test.clone(), &[-1011], Connection),
        ("a 407 that stands", guide(), vec![asks.configuration()], test.clone(), &[-1011], Connection),
        ("no proxy at all", guide(), vec![garbage.configuration()], test.clone(), &[-1017], Connection),
        ("a proxy that ends", guide(), vec![ends.configuration()], test.clone(), &[-1005, 54], Connection),
        ("a SOCKS refusal", guide(), vec![refuses.configuration()], test, &[-1004], Connection),
        ("a 404", guide(), vec![], refusing.url("/"), &[-1011], Response),
        ("no answer", guide(), vec![], silent.url("/"), &[-1005, 54], Request),
    ];
    for (name, guide, proxies, url, codes, reached) in table {
        let through = !proxies.is_empty();
        let (metrics, code) = collect(guide, configuration(proxies), &url);
        assert!(code.is_some_and(|code| codes.contains(&code)), "{name}: {code:?}");
        let transaction = last(&metrics);
        assert_eq!(transaction.request_start_date.is_some(), reached >= Request, "{name}: {transaction:#?}");
        assert_eq!(transaction.response_end_date.is_some(), reached >= Response, "{name}");
        assert_eq!(transaction.connect_end_date.is_some(), reached >= Request, "{name}: {transaction:#?}");
        assert_eq!(transaction.secure_connection_end_date, None, "{name}");
        assert_eq!(transaction.remote_address.is_some(), reached >= Connection, "{name}");
        if reached >= Connection {
            assert!(transaction.connect_start_date.is_some(), "{name}");
            assert_eq!(transaction.is_proxy_connection, through, "{name}");
        }
    }
}

/// A redirect that cannot be followed, and a way that ends in a circle: what was before is told as well.
#[test]
fn failures_behind_a_redirect() {
    let closed = closed_port();
    let origin = Origin::new(move |_| Answer::Keep(redirect(302, &format!("ws://127.0.0.1:{closed}/"))));
    let (metrics, code) = collect(guide(), configuration(Vec::new()), &origin.url("/"));
    assert_eq!((code, metrics.redirect_count, metrics.transaction_metrics.len()), (Some(-1004), 1, 2));
    assert!(metrics.transaction_metrics[0].response.is_some() && last(&metrics).response.is_none());
    let origin = Origin::new(|_| Answer::Keep(redirect(302, "/")));
    let (metrics, code) = collect(guide(), configuration(Vec::new()), &origin.url("/"));
    assert_eq!((code, metrics.redirect_count, metrics.transaction_metrics.len()), (Some(-1007), 20, 21));
    // Behind a proxy: the way of the second hop ends at it.
    let proxy = HttpProxy::script(vec![Reply::Tunnel, Reply::Close(head("502 Bad Gateway", ""))]);
    let origin = Origin::new(|_| Answer::Keep(redirect(302, "ws://elsewhere.test/")));
    let (metrics, code) =
        collect(guide(), configuration(vec![proxy.configuration()]), &origin.url_of("origin.test", "/"));
    assert_eq!((code, metrics.redirect_count), (Some(-1011), 1));
    assert_eq!(metrics.transaction_metrics[0].response.as_ref().unwrap().status_code(), 302);
    assert_eq!(last(&metrics).request_start_date, None);
}

#[test]
fn a_cancel_while_somebody_thinks() {
    let origin = secure();
    let (guide, events) = Guide::new();
    let notes = Arc::clone(&guide.recorder);
    let (sender, receiver) = mpsc::channel();
    let (kept_sender, kept) = mpsc::channel();
    let session = guide
        .trust(move |_, handler| kept_sender.send(handler).unwrap())
        .metrics(move |metrics| {
            notes.note("metrics");
            sender.send(metrics.clone()).unwrap();
        })
        .session(configuration(Vec::new()));
    let task = session.web_socket_task(origin.url("/"));
    task.resume();
    let handler = kept.recv_timeout(PATIENCE).unwrap();
    task.cancel();
    events.wait_for("complete -999");
    drop(handler);
    assert_eq!(events.log(), ["session challenge trust - 0 -", "metrics", "complete -999"]);
    let metrics = receiver.recv_timeout(PATIENCE).unwrap();
    let transaction = last(&metrics);
    assert!(transaction.secure_connection_start_date.is_some());
    assert_eq!((transaction.secure_connection_end_date, transaction.request_start_date), (None, None));
}
