//! When what happened on a task's road: what the metrics are made of.
//!
//! On the way to the open socket everything is noted as it is. An open task keeps it until its end, which may be days, and
//! there may be ten thousand of them: so then it is [packed](Opened), and what can be made again is made when it is asked for.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Settings;
use super::detour::Hop;
use crate::foundation::{HttpUrlResponse, TaskMetrics, TlsProtocolVersion, TransactionMetrics};
use crate::http::{self, Added, OpeningHead, Upgrade};

/// One moment on both clocks, so that moments of one can be told as dates of the other.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// The moment on the clock that never goes back.
    pub instant: Instant,
    /// The same moment as a date.
    pub date: SystemTime,
}

impl Epoch {
    fn date(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.date + after,
            None => self.date.checked_sub(self.instant - instant).unwrap_or(self.date),
        }
    }
}

/// What the metrics have a date for, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    FetchStart,
    LookupStart,
    LookupEnd,
    ConnectStart,
    SecureStart,
    SecureEnd,
    ConnectEnd,
    RequestStart,
    RequestEnd,
    ResponseStart,
    ResponseEnd,
}

const MARKS: usize = Mark::ResponseEnd as usize + 1;

/// The facts of one request and its response.
pub enum Timeline {
    /// On the way, or at the end of a way that did not get there.
    Underway(Box<Underway>),
    Opened(Opened),
    /// What the metrics are made from is handed over; this is the response that came, if one did.
    Told(Answer),
}

/// The server's answer.
pub enum Answer {
    /// The head that opened the socket, and what the key of the request was made from.
    Opening(Arc<OpeningHead>, [u8; 16]),
    /// None, or a refusal.
    Other(Option<HttpUrlResponse>),
}

impl Answer {
    fn response(&self, settings: &Settings) -> Option<HttpUrlResponse> {
        match self {
            Self::Opening(head, nonce) => Some(opening(head, *nonce, settings)),
            Self::Other(response) => response.clone(),
        }
    }
}

/// What the metrics of a task that has ended are made from: most programs never ask.
pub struct Collected {
    settings: Settings,
    hops: Vec<Hop>,
    redirects: usize,
    way: Way,
    end: Instant,
    body: BodyBytes,
}

/// Payload bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyBytes {
    /// Written, as they were given…
    pub before_encoding: u64,
    /// …and as they went out.
    pub sent: u64,
    /// Arrived, as they came…
    pub received: u64,
    /// …and as they were told.
    pub after_decoding: u64,
}

enum Way {
    Noted(Box<Underway>),
    Packed(Opened),
}

impl Collected {
    /// What `did_finish_collecting_metrics` tells.
    pub fn metrics(&self) -> TaskMetrics {
        let Settings { common, epoch, .. } = &self.settings;
        let mut metrics = TaskMetrics::new(epoch.date);
        metrics.task_interval.1 = self.end.saturating_duration_since(epoch.instant);
        metrics.redirect_count = self.redirects;
        let hops = self.hops.iter().filter_map(|Hop { request, underway }| {
            let settings = Settings { request: Arc::clone(request), common: Arc::clone(common), epoch: *epoch };
            underway.transaction(&settings)
        });
        metrics.transaction_metrics.extend(hops);
        metrics.transaction_metrics.extend(match &self.way {
            Way::Noted(underway) => underway.transaction(&self.settings),
            Way::Packed(opened) => opened.unpacked(*epoch).transaction(&self.settings),
        });
        // Messages belong to the request that opened the socket.
        if let Some(transaction) = metrics.transaction_metrics.last_mut() {
            let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            transaction.count_of_request_body_bytes_before_encoding = count(self.body.before_encoding);
            transaction.count_of_request_body_bytes_sent = count(self.body.sent);
            transaction.count_of_response_body_bytes_received = count(self.body.received);
            transaction.count_of_response_body_bytes_after_decoding = count(self.body.after_decoding);
        }
        metrics
    }

    /// How long the socket was open; `None` where it never was.
    pub fn was_open(&self) -> Option<Duration> {
        let opened = match &self.way {
            Way::Noted(underway) => underway.opening.as_ref().and(underway.marks[Mark::ResponseEnd as usize]),
            Way::Packed(opened) => opened.unpacked(self.settings.epoch).marks[Mark::ResponseEnd as usize],
        };
        opened.map(|opened| self.end.saturating_duration_since(opened))
    }
}

impl fmt::Debug for Collected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Collected").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What was noted on the way.
#[derive(Default)]
pub struct Underway {
    marks: [Option<Instant>; MARKS],
    /// The request, while it waits to be sent, and what its key was made from.
    pub upgrade: Option<([u8; 16], Upgrade)>,
    /// The `Cookie` field of the request, where the storage had one.
    pub cookies: Option<Arc<String>>,
    /// What the key of the request was made from, once it is sent.
    pub nonce: Option<[u8; 16]>,
    /// The length of the request, once it is sent.
    pub request_bytes: usize,
    /// The length of its `Authorization` where that is not the caller's: the answer to a challenge.
    pub authorization: Option<usize>,
    /// A redirect has led it to another origin than the caller's.
    pub led_away: bool,
    /// It went out on the connection of the request before it.
    pub is_reused: bool,
    /// The connection is to a proxy.
    pub is_proxied: bool,
    /// The bytes of the heads that came, informational ones too.
    pub response_bytes: usize,
    /// The fields of the head that opened the socket…
    opening: Option<Arc<OpeningHead>>,
    /// …or the refusal.
    pub refusal: Option<HttpUrlResponse>,
    pub local_address: Option<SocketAddr>,
    pub remote_address: Option<SocketAddr>,
    pub tls_version: Option<TlsProtocolVersion>,
    pub cipher_suite: Option<u16>,
}

/// An [`Underway`] that reached the open socket, packed.
pub struct Opened {
    /// From the making of the task to [`Mark::FetchStart`], in nanoseconds.
    start: u64,
    /// Each of [`KEPT`] in [`TICK`]s after that, or [`ABSENT`].
    marks: [u32; KEPT.len()],
    nonce: [u8; 16],
    cookies: Option<Arc<String>>,
    head: Arc<OpeningHead>,
    addresses: Addresses,
    response_bytes: u16,
    /// 0: none.
    authorization: u16,
    tls: Option<(TlsProtocolVersion, u16)>,
}

/// The marks that say all: what ends begins what comes next. (So [`Underway::packed`] has it, or does not pack.)
const KEPT: [Mark; 6] = [
    // And the beginning of the connection; without a look-up, that is the beginning of all.
    Mark::LookupEnd,
    Mark::SecureStart,
    // And the end of TLS, and the beginning of the request.
    Mark::ConnectEnd,
    Mark::RequestEnd,
    Mark::ResponseStart,
    Mark::ResponseEnd,
];

/// As exact as Apple's dates, which are seconds since 2001 in 53 bits, and wide enough for a way of 7 minutes.
const TICK: Duration = Duration::from_nanos(100);

const ABSENT: u32 = u32::MAX;

/// The local and the remote address.
enum Addresses {
    V4([SocketAddrV4; 2]),
    Other(Box<[Option<SocketAddr>; 2]>),
}

impl Default for Timeline {
    fn default() -> Self {
        Self::Underway(Box::default())
    }
}

impl Timeline {
    /// What is noted, before the socket is open.
    pub fn underway(&mut self) -> Option<&mut Underway> {
        match self {
            Self::Underway(underway) => Some(underway),
            Self::Opened(_) | Self::Told(_) => None,
        }
    }

    /// Notes a moment. Threads look at the clock by themselves: what comes later on the way is not noted as earlier.
    pub fn mark(&mut self, mark: Mark, now: Instant) {
        if let Some(underway) = self.underway() {
            let before = underway.marks.iter().take(mark as usize).flatten().max();
            underway.marks[mark as usize] = Some(before.map_or(now, |before| now.max(*before)));
        }
    }

    /// Notes the first moment of several.
    pub fn mark_first(&mut self, mark: Mark, now: Instant) {
        if self.underway().is_some_and(|underway| underway.marks[mark as usize].is_none()) {
            self.mark(mark, now);
        }
    }

    /// The way to a connection begins, perhaps again: through a proxy or not.
    pub fn set_out(&mut self, is_proxied: bool) {
        let Some(underway) = self.underway() else { return };
        for mark in underway.marks.iter_mut().take(Mark::ConnectEnd as usize + 1).skip(Mark::LookupStart as usize) {
            *mark = None;
        }
        underway.is_proxied = is_proxied;
        (underway.local_address, underway.remote_address) = (None, None);
        (underway.tls_version, underway.cipher_suite) = (None, None);
    }

    /// The socket is open: what is noted is packed, where it fits.
    pub fn opened(&mut self, head: Arc<OpeningHead>, epoch: Epoch) {
        let Self::Underway(underway) = self else { return };
        match underway.packed(&head, epoch) {
            Some(opened) => *self = Self::Opened(opened),
            None => underway.opening = Some(head),
        }
    }

    /// `task.response()`.
    pub fn response(&self, settings: &Settings) -> Option<HttpUrlResponse> {
        match self {
            Self::Underway(underway) => underway.answer().response(settings),
            Self::Opened(opened) => Some(opening(&opened.head, opened.nonce, settings)),
            Self::Told(answer) => answer.response(settings),
        }
    }

    /// What was noted of the current request; from now on it is the next one's.
    pub fn next(&mut self) -> Option<Box<Underway>> {
        match self {
            Self::Underway(underway) => Some(std::mem::take(underway)),
            Self::Opened(_) | Self::Told(_) => None,
        }
    }

    /// The end: what the metrics are made from, with the requests before the last and the number of redirects. Of all this, the
    /// response is kept.
    pub fn collect(
        &mut self,
        settings: &Settings,
        end: Instant,
        body: BodyBytes,
        (hops, redirects): (Vec<Hop>, usize),
    ) -> Collected {
        let (way, answer) = match std::mem::replace(self, Self::Told(Answer::Other(None))) {
            Self::Underway(underway) => {
                let answer = underway.answer();
                (Way::Noted(underway), answer)
            }
            Self::Opened(opened) => {
                let answer = Answer::Opening(Arc::clone(&opened.head), opened.nonce);
                (Way::Packed(opened), answer)
            }
            Self::Told(answer) => (Way::Noted(Box::default()), answer),
        };
        *self = Self::Told(answer);
        Collected { settings: settings.clone(), hops, redirects, way, end, body }
    }
}

/// The response that opened the socket.
fn opening(head: &OpeningHead, nonce: [u8; 16], settings: &Settings) -> HttpUrlResponse {
    head.response(settings.request.url.clone(), http::accept(nonce).as_str())
}

impl Underway {
    /// `None` where it does not fit, or has more to tell than nearly all have.
    fn packed(&self, head: &Arc<OpeningHead>, epoch: Epoch) -> Option<Opened> {
        if self.led_away || self.is_reused || self.is_proxied {
            return None;
        }
        let start = self.marks[Mark::FetchStart as usize]?;
        let mut marks = [ABSENT; KEPT.len()];
        for (packed, mark) in marks.iter_mut().zip(KEPT) {
            if let Some(mark) = self.marks[mark as usize] {
                let ticks = mark.checked_duration_since(start)?.as_nanos() / TICK.as_nanos();
                *packed = u32::try_from(ticks).ok().filter(|ticks| *ticks != ABSENT)?;
            }
        }
        let kept = KEPT.map(|mark| self.marks[mark as usize]);
        if self.marks != filled_in(start, kept) {
            return None;
        }
        let addresses = match [self.local_address, self.remote_address] {
            [Some(SocketAddr::V4(local)), Some(SocketAddr::V4(remote))] => Addresses::V4([local, remote]),
            addresses => Addresses::Other(Box::new(addresses)),
        };
        Some(Opened {
            start: start.checked_duration_since(epoch.instant)?.as_nanos().try_into().ok()?,
            marks,
            nonce: self.nonce?,
            cookies: self.cookies.clone(),
            head: Arc::clone(head),
            addresses,
            response_bytes: self.response_bytes.try_into().ok()?,
            authorization: self.authorization.unwrap_or_default().try_into().ok()?,
            tls: self.tls_version.zip(self.cipher_suite),
        })
    }

    fn answer(&self) -> Answer {
        match (&self.opening, self.nonce) {
            (Some(head), Some(nonce)) => Answer::Opening(Arc::clone(head), nonce),
            _ => Answer::Other(self.refusal.clone()),
        }
    }

    /// `None` for a task that did nothing.
    fn transaction(&self, settings: &Settings) -> Option<TransactionMetrics> {
        let Settings { request, common, epoch } = settings;
        let date = |mark: Mark| self.marks[mark as usize].map(|instant| epoch.date(instant));
        date(Mark::FetchStart)?;
        // As it went out, with the fields of the handshake, but for what was made from a password.
        let cookies = self.cookies.as_ref().map(|cookies| cookies.as_str());
        let added = Added { cookies, authorization: None, led_away: self.led_away };
        let upgrade = self
            .nonce
            .and_then(|nonce| http::upgrade(request, &common.additional_headers, &common.options, added, nonce).ok());
        let mut sent = request.as_ref().clone();
        for (name, value) in upgrade.iter().flat_map(Upgrade::fields) {
            sent.set_value(value, name);
        }
        if self.authorization.is_some() {
            sent.remove_value("Authorization");
        }
        let mut transaction = TransactionMetrics::new(sent);
        transaction.response = self.answer().response(settings);
        transaction.fetch_start_date = date(Mark::FetchStart);
        transaction.domain_lookup_start_date = date(Mark::LookupStart);
        transaction.domain_lookup_end_date = date(Mark::LookupEnd);
        transaction.connect_start_date = date(Mark::ConnectStart);
        transaction.secure_connection_start_date = date(Mark::SecureStart);
        transaction.secure_connection_end_date = date(Mark::SecureEnd);
        transaction.connect_end_date = date(Mark::ConnectEnd);
        transaction.request_start_date = date(Mark::RequestStart);
        transaction.request_end_date = date(Mark::RequestEnd);
        transaction.response_start_date = date(Mark::ResponseStart);
        transaction.response_end_date = date(Mark::ResponseEnd);
        transaction.network_protocol_name = date(Mark::ResponseStart).map(|_| "http/1.1".to_owned());
        transaction.is_reused_connection = self.is_reused;
        transaction.is_proxy_connection = self.is_proxied;
        let authorization = self.authorization.map_or(0, |length| "Authorization: \r\n".len() + length);
        transaction.count_of_request_header_bytes_sent = match self.request_bytes {
            0 => upgrade.map_or(0, |upgrade| (upgrade.head.len() + authorization) as i64),
            bytes => bytes as i64,
        };
        transaction.count_of_response_header_bytes_received = self.response_bytes as i64;
        transaction.local_address = self.local_address;
        transaction.remote_address = self.remote_address;
        transaction.negotiated_tls_protocol_version = self.tls_version;
        transaction.negotiated_tls_cipher_suite = self.cipher_suite;
        Some(transaction)
    }
}

/// All marks, where the way began at `start` and these are [`KEPT`].
fn filled_in(start: Instant, kept: [Option<Instant>; KEPT.len()]) -> [Option<Instant>; MARKS] {
    let mut marks = [None; MARKS];
    for (mark, moment) in KEPT.into_iter().zip(kept) {
        marks[mark as usize] = moment;
    }
    let [lookup_end, secure_start, connect_end, ..] = kept;
    marks[Mark::FetchStart as usize] = Some(start);
    marks[Mark::LookupStart as usize] = lookup_end.map(|_| start);
    marks[Mark::ConnectStart as usize] = Some(lookup_end.unwrap_or(start));
    marks[Mark::SecureEnd as usize] = secure_start.and(connect_end);
    marks[Mark::RequestStart as usize] = connect_end;
    marks
}

impl Opened {
    fn unpacked(&self, epoch: Epoch) -> Underway {
        let start = epoch.instant + Duration::from_nanos(self.start);
        let mark = |ticks: u32| (ticks != ABSENT).then(|| start + TICK * ticks);
        let [local_address, remote_address] = match &self.addresses {
            Addresses::V4(addresses) => addresses.map(|address| Some(SocketAddr::V4(address))),
            Addresses::Other(addresses) => **addresses,
        };
        Underway {
            marks: filled_in(start, self.marks.map(mark)),
            upgrade: None,
            cookies: self.cookies.clone(),
            nonce: Some(self.nonce),
            request_bytes: 0,
            authorization: (self.authorization > 0).then_some(self.authorization.into()),
            led_away: false,
            is_reused: false,
            is_proxied: false,
            response_bytes: self.response_bytes.into(),
            opening: Some(Arc::clone(&self.head)),
            refusal: None,
            local_address,
            remote_address,
            tls_version: self.tls.map(|(version, _)| version),
            cipher_suite: self.tls.map(|(_, suite)| suite),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use url::Url;

    use super::*;
    use crate::foundation::{Random, SessionConfiguration, UrlRequest};
    use crate::http::{HeadParser, Proxies};
    use crate::loader::Common;

    const NONCE: [u8; 16] = [7; 16];
    const COOKIES: &str = "a=1; b=2";

    fn settings() -> Settings {
        let mut configuration = SessionConfiguration::default();
        configuration.http_additional_headers.insert("X-Common".to_owned(), "yes".to_owned());
        let request = UrlRequest::new(Url::parse("ws://192.0.2.1/chat").unwrap());
        let epoch = Epoch { instant: Instant::now(), date: SystemTime::UNIX_EPOCH };
        let common = Arc::new(Common::new(&configuration, Proxies::new(Some(&[]), |_| None)));
        Settings { request: Arc::new(request), common, epoch }
    }

    /// Of a task that did nothing.
    pub fn collected() -> Collected {
        let settings = settings();
        Timeline::default().collect(&settings, settings.epoch.instant, BodyBytes::default(), Default::default())
    }

    fn head() -> Arc<OpeningHead> {
        let text = format!(
            "HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nSec-Websocket-Accept: {}\r\nX-A: b: c\r\nX-A: d\r\n\r\n",
            http::accept(NONCE).as_str()
        );
        let head = HeadParser::default().parse(&mut text.as_bytes()).unwrap().unwrap();
        Arc::new(OpeningHead::new(&head))
    }

    /// Each mark a second and a tick behind the one before; without TLS and without a look-up.
    fn opened(settings: &Settings, step: Duration, address: &str) -> Timeline {
        let mut timeline = Timeline::default();
        let marks = [
            (Mark::FetchStart, 0),
            (Mark::ConnectStart, 0),
            (Mark::ConnectEnd, 1),
            (Mark::RequestStart, 1),
            (Mark::RequestEnd, 2),
            (Mark::ResponseStart, 3),
            (Mark::ResponseEnd, 4),
        ];
        for (mark, number) in marks {
            timeline.mark(mark, settings.epoch.instant + Duration::from_secs(3600) + step * number);
        }
        let underway = timeline.underway().unwrap();
        underway.nonce = Some(NONCE);
        underway.cookies = Some(Arc::new(COOKIES.to_owned()));
        underway.response_bytes = 123;
        underway.local_address = Some(address.parse().unwrap());
        underway.remote_address = Some("192.0.2.1:80".parse().unwrap());
        timeline.opened(head(), settings.epoch);
        timeline
    }

    #[test]
    fn what_is_packed_tells_the_same_metrics() {
        let settings = settings();
        let step = Duration::from_secs(1) + TICK;
        let long = Duration::from_secs(1000);
        for (step, address, packs) in
            [(step, "192.0.2.7:5", true), (step, "[::1]:5", true), (long, "192.0.2.7:5", false)]
        {
            let mut timeline = opened(&settings, step, address);
            assert_eq!(matches!(timeline, Timeline::Opened(_)), packs);
            let response = timeline.response(&settings).unwrap();
            assert_eq!((response.status_code(), response.http_version()), (101, "HTTP/1.1"));
            let accept = http::accept(NONCE);
            let fields =
                [("upgrade", "websocket"), ("Sec-Websocket-Accept", accept.as_str()), ("X-A", "b: c"), ("X-A", "d")];
            assert_eq!(response.header_fields().collect::<Vec<_>>(), fields);

            let end = settings.epoch.instant + Duration::from_secs(9000);
            let body = BodyBytes { before_encoding: 4, sent: 3, received: 2, after_decoding: 1 };
            let collected = timeline.collect(&settings, end, body, Default::default());
            assert_eq!(collected.was_open(), Some(Duration::from_secs(5400) - 4 * step));
            let metrics = collected.metrics();
            assert_eq!(metrics.task_interval, (settings.epoch.date, Duration::from_secs(9000)));
            let [transaction] = metrics.transaction_metrics.as_slice() else { panic!("{metrics:?}") };
            let start = settings.epoch.date + Duration::from_secs(3600);
            assert_eq!(transaction.fetch_start_date, Some(start));
            assert_eq!(transaction.domain_lookup_start_date, None);
            assert_eq!(transaction.secure_connection_end_date, None);
            assert_eq!(transaction.connect_start_date, Some(start));
            assert_eq!(transaction.connect_end_date, Some(start + step));
            assert_eq!(transaction.request_end_date, Some(start + 2 * step));
            assert_eq!(transaction.response_end_date, Some(start + 4 * step));
            assert_eq!(transaction.count_of_response_header_bytes_received, 123);
            assert_eq!(transaction.count_of_request_body_bytes_before_encoding, 4);
            assert_eq!(transaction.count_of_request_body_bytes_sent, 3);
            assert_eq!(transaction.count_of_response_body_bytes_received, 2);
            assert_eq!(transaction.count_of_response_body_bytes_after_decoding, 1);
            assert_eq!(transaction.local_address, Some(address.parse().unwrap()));
            assert_eq!(transaction.remote_address, Some("192.0.2.1:80".parse().unwrap()));
            assert_eq!(transaction.request.value("X-Common"), Some("yes"));
            assert_eq!(transaction.request.value("Cookie"), Some(COOKIES));
            let mut random = Random::new(|bytes| bytes.fill(7));
            let sent = http::upgrade(
                &settings.request,
                &settings.common.additional_headers,
                &settings.common.options,
                Added { cookies: Some(COOKIES), ..Added::default() },
                random.bytes(),
            )
            .unwrap();
            assert_eq!(transaction.count_of_request_header_bytes_sent, sent.head.len() as i64);
            let told = transaction.response.as_ref().unwrap();
            assert!(told.header_fields().eq(timeline.response(&settings).unwrap().header_fields()));
        }
    }

    #[test]
    fn a_refusal_opens_nothing() {
        let settings = settings();
        let mut timeline = Timeline::default();
        timeline.mark(Mark::FetchStart, settings.epoch.instant);
        timeline.mark(Mark::ResponseEnd, settings.epoch.instant);
        let end = settings.epoch.instant + Duration::from_secs(1);
        let collected = timeline.collect(&settings, end, BodyBytes::default(), Default::default());
        assert_eq!(collected.was_open(), None);
        assert_eq!(self::collected().was_open(), None);
    }

    #[test]
    fn every_way_to_the_open_socket_is_packed_whole() {
        let settings = settings();
        let start = settings.epoch.instant + Duration::from_secs(5);
        let at = |seconds: u32| Some(start + (Duration::from_secs(1) + TICK) * seconds);
        for (looked_up, secured) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut underway = Underway { nonce: Some(NONCE), ..Underway::default() };
            let mut mark = |mark: Mark, moment: Option<Instant>| underway.marks[mark as usize] = moment;
            mark(Mark::FetchStart, at(0));
            mark(Mark::LookupStart, at(0).filter(|_| looked_up));
            mark(Mark::LookupEnd, at(1).filter(|_| looked_up));
            mark(Mark::ConnectStart, at(u32::from(looked_up)));
            mark(Mark::SecureStart, at(2).filter(|_| secured));
            mark(Mark::SecureEnd, at(3).filter(|_| secured));
            mark(Mark::ConnectEnd, at(3));
            mark(Mark::RequestStart, at(3));
            mark(Mark::RequestEnd, at(4));
            mark(Mark::ResponseStart, at(5));
            mark(Mark::ResponseEnd, at(6));
            let opened = underway.packed(&head(), settings.epoch).expect("it can be packed");
            assert_eq!(opened.unpacked(settings.epoch).marks, underway.marks, "{looked_up}, {secured}");
            // What would not come back is left as it is.
            underway.marks[Mark::RequestStart as usize] = at(4);
            assert!(underway.packed(&head(), settings.epoch).is_none());
        }
    }
}
