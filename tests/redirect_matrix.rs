//! What each origin sees of a task that is led from one to another: nothing that was meant for somebody else.
//!
//! An origin is a scheme, a host and a port (RFC 6454). Two servers, each for `ws` and `wss` on one port and under two names, are
//! eight of them; every pair is tried.

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use support::guide::Guide;
use support::origin::{Answer, Origin, Request, redirect, unauthorized};
use support::tls::{BOTH, TRUSTED, trusted_server};
use urlsession::{HttpCookie, SessionConfiguration, Url, UrlRequest, UrlSession};

/// Each of them is a secret of the first origin's.
const SECRETS: [(&str, &str); 6] = [
    ("Authorization", "Bearer by-hand"),
    ("Cookie", "by-hand=1"),
    ("Host", "by-hand.example"),
    ("Proxy-Authorization", "Basic by-hand"),
    ("X-Api-Key", "by-hand"),
    ("Sec-WebSocket-Key", "by-hand"),
];

/// What any server may see.
const OPEN: [(&str, &str); 4] =
    [("User-Agent", "tests"), ("Origin", "https://app.example"), ("Accept-Language", "cy"), ("Pragma", "no-cache")];

/// The user and the password of the address, as Basic has them.
const USER: &str = "Basic dXNlcjpwYXNzd29yZA==";

/// Where a task is led.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    scheme: &'static str,
    host: &'static str,
    server: usize,
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}:{}", self.scheme, self.host, ["A", "B"][self.server])
    }
}

impl Place {
    fn is_secure(self) -> bool {
        self.scheme == "wss"
    }

    fn url(self, servers: &[Origin; 2], path: &str) -> Url {
        servers[self.server].url_with(self.scheme, self.host, path)
    }

    /// The cookies of the storage for this origin: they know no ports.
    fn cookies(self) -> String {
        let host = if self.host == "localhost" { "name" } else { "address" };
        match self.is_secure() {
            true => format!("{host}=1; {host}-secure=1"),
            false => format!("{host}=1"),
        }
    }

    fn came_to(self, servers: &[Origin; 2], request: &Request) -> bool {
        let host = format!("{}:{}", self.host, servers[self.server].port());
        request.secure == self.is_secure()
            && [host.as_str(), "by-hand.example"].contains(&request.field("Host").unwrap())
    }
}

fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for scheme in ["ws", "wss"] {
        for host in ["127.0.0.1", "localhost"] {
            for server in 0..2 {
                places.push(Place { scheme, host, server });
            }
        }
    }
    places
}

/// Every way from one to another, and from each to itself.
fn pairs() -> Vec<(Place, Place)> {
    let places = places();
    places.iter().flat_map(|&from| places.iter().map(move |&to| (from, to))).collect()
}

/// What the servers answer, once, to a target.
type Plan = Arc<Mutex<BTreeMap<String, Answer>>>;

/// Two servers for both schemes. What is not planned asks for the user of the address under `/closed`, and opens else.
fn servers(plan: &Plan) -> [Origin; 2] {
    [(); 2].map(|()| {
        let plan = Arc::clone(plan);
        Origin::both(trusted_server(BOTH), move |request| {
            if let Some(answer) = plan.lock().unwrap().remove(request.target()) {
                return answer;
            }
            match (request.target(), request.field("Authorization")) {
                ("/closed", authorization) if authorization != Some(USER) => {
                    Answer::Keep(unauthorized(&["Basic realm=\"closed\""]))
                }
                _ => Answer::Open("Sec-WebSocket-Protocol: b\r\n".to_owned()),
            }
        })
    })
}

/// With fields for all requests, and without compression, whose offer is of no interest here.
fn configuration(stores_cookies: bool, servers: &[Origin; 2]) -> SessionConfiguration {
    let mut configuration = SessionConfiguration::ephemeral();
    configuration.root_certificates = TRUSTED.configuration().root_certificates;
    configuration.web_socket.permessage_deflate = false;
    let common = [
        ("Authorization", "Bearer common"),
        ("X-Session", "common"),
        ("Cookie", "common=1"),
        ("Accept", "text/common"),
    ];
    configuration.http_additional_headers =
        common.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    if stores_cookies {
        let storage = configuration.http_cookie_storage.as_ref().unwrap();
        for (host, name) in [("127.0.0.1", "address"), ("localhost", "name")] {
            let url = servers[0].url_with("wss", host, "/");
            let fields = [("Set-Cookie", &*format!("{name}=1")), ("Set-Cookie", &*format!("{name}-secure=1; Secure"))];
            let cookies = HttpCookie::cookies_with_response_header_fields(&fields, &url);
            assert_eq!(cookies.len(), 2);
            storage.set_cookies(cookies, &url, None);
        }
    }
    configuration
}

fn request(url: Url) -> UrlRequest {
    let mut request = UrlRequest::new(url);
    request.url.set_username("user").unwrap();
    request.url.set_password(Some("password")).unwrap();
    for (name, value) in SECRETS.iter().chain(&OPEN) {
        request.set_value(value, name);
    }
    request.set_value("a, b", "Sec-WebSocket-Protocol");
    request
}

/// The fields of a request, by their names in small letters; the key is another one each time.
fn fields(request: &Request) -> BTreeMap<String, String> {
    let lines = request.head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    let mut fields = BTreeMap::new();
    for (name, value) in lines {
        let before = fields.insert(name.to_ascii_lowercase(), value.to_owned());
        assert_eq!(before, None, "{name} came twice");
    }
    let key = fields.remove("sec-websocket-key").expect("a key");
    assert_eq!(key.len(), 24, "a key of the caller's");
    fields
}

/// What an origin is to see.
struct Expected {
    /// No redirect has led to another origin yet.
    at_home: bool,
    stores_cookies: bool,
    /// The answer to a challenge.
    authorization: Option<&'static str>,
}

impl Expected {
    fn fields(&self, place: Place, servers: &[Origin; 2]) -> BTreeMap<String, String> {
        let port = servers[place.server].port();
        let mut fields = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        };
        set("Host", &format!("{}:{port}", place.host));
        for (name, value) in [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Protocol", "a, b"),
            ("Accept", "text/common"),
        ] {
            set(name, value);
        }
        for (name, value) in OPEN {
            set(name, value);
        }
        if self.at_home {
            for (name, value) in SECRETS {
                set(name, value);
            }
            set("X-Session", "common");
        }
        if self.stores_cookies {
            set("Cookie", &place.cookies());
        }
        if let Some(authorization) = self.authorization {
            set("Authorization", authorization);
        }
        // It never is the caller's, …
        fields.remove("sec-websocket-key");
        // …and this is for a proxy.
        fields.remove("proxy-authorization");
        fields
    }
}

/// What each place on a way is to see, in order.
fn assert_seen(context: &str, servers: &[Origin; 2], before: [usize; 2], expected: &[(Place, Expected)]) {
    let mut seen = [0, 1].map(|index| servers[index].seen().into_iter().skip(before[index]));
    for (place, expected) in expected {
        let request = seen[place.server].next().unwrap_or_else(|| panic!("{context}: nothing came to {place:?}"));
        assert!(place.came_to(servers, &request), "{context}: {place:?}, but {request:?}");
        assert_eq!(fields(&request), expected.fields(*place, servers), "{context}: {place:?}");
    }
    for rest in &mut seen {
        assert!(rest.next().is_none(), "{context}: a request too many");
    }
}

fn seen(servers: &[Origin; 2]) -> [usize; 2] {
    [0, 1].map(|index| servers[index].seen().len())
}

fn is_downgrade(from: Place, to: Place) -> bool {
    from.is_secure() && !to.is_secure()
}

#[test]
fn from_every_origin_to_every_other() {
    let plan = Plan::default();
    let servers = servers(&plan);
    for stores_cookies in [false, true] {
        let (guide, events) = Guide::new();
        let session = guide.session(configuration(stores_cookies, &servers));
        let mut refused = 0;
        for (from, to) in pairs() {
            for closed in [false, true] {
                let context = format!("{from:?} to {to:?}, cookies: {stores_cookies}, closed: {closed}");
                let before = seen(&servers);
                let target = to.url(&servers, if closed { "/closed" } else { "/open" });
                let answer = Answer::Keep(redirect(307, target.as_str()));
                plan.lock().unwrap().insert("/start".to_owned(), answer);
                let task = session.web_socket_task(request(from.url(&servers, "/start")));
                task.resume();
                assert_eq!(events.next(), format!("redirect 307 {}", target.path()), "{context}");
                let at_home = from == to;
                let expected = |at_home, authorization| Expected { at_home, stores_cookies, authorization };
                let mut way = vec![(from, expected(true, None))];
                if is_downgrade(from, to) {
                    refused += 1;
                    assert_eq!(events.next(), "complete -1200", "{context}");
                    assert_seen(&context, &servers, before, &way);
                    continue;
                }
                way.push((to, expected(at_home, None)));
                if !closed {
                    assert_eq!(events.next(), "open Some(\"b\")", "{context}");
                } else if at_home {
                    way.push((to, expected(true, Some(USER))));
                    assert_eq!(events.next(), "open Some(\"b\")", "{context}");
                } else {
                    // Somebody has to say who is asked for here: nobody has.
                    assert_eq!(events.next(), "challenge basic closed 0 -", "{context}");
                    assert_eq!(events.next(), "complete -1011", "{context}");
                }
                assert_seen(&context, &servers, before, &way);
                // The password is kept where the origin is.
                assert_eq!(task.current_request().url.password(), at_home.then_some("password"), "{context}");
                assert_eq!(task.original_request().url.password(), Some("password"));
                task.cancel();
                if at_home || !closed {
                    assert_eq!(events.next(), "complete -999");
                }
            }
        }
        assert_eq!(refused, 2 * 16);
        session.invalidate_and_cancel();
    }
}

#[test]
fn what_was_dropped_on_the_way_stays_dropped() {
    let plan = Plan::default();
    let servers = servers(&plan);
    let session = UrlSession::new(configuration(true, &servers));
    for (from, over) in pairs().into_iter().filter(|(from, over)| from != over && from.scheme == over.scheme) {
        for closed in [false, true] {
            let context = format!("{from:?} over {over:?} and back, closed: {closed}");
            let before = seen(&servers);
            let back = from.url(&servers, if closed { "/closed" } else { "/open" });
            let mut own = over.url(&servers, "/over");
            // Those of a Location are not used.
            own.set_username("user").unwrap();
            own.set_password(Some("password")).unwrap();
            {
                let mut plan = plan.lock().unwrap();
                plan.insert("/start".to_owned(), Answer::Keep(redirect(302, "/again")));
                plan.insert("/again".to_owned(), Answer::Keep(redirect(302, own.as_str())));
                plan.insert("/over".to_owned(), Answer::Keep(redirect(302, back.as_str())));
            }
            let task = session.web_socket_task(request(from.url(&servers, "/start")));
            task.resume();
            let status = if closed { 401 } else { 101 };
            support::hooks::eventually(&context, || {
                task.response().is_some_and(|response| response.status_code() == status)
            });
            let expected = |at_home| Expected { at_home, stores_cookies: true, authorization: None };
            let way = [(from, true), (from, true), (over, false), (from, false)];
            assert_seen(&context, &servers, before, &way.map(|(place, at_home)| (place, expected(at_home))));
            assert_eq!(task.current_request().url, back, "{context}");
            task.cancel();
        }
    }
}

#[test]
fn the_delegate_is_shown_no_secret_of_another_origin() {
    let plan = Plan::default();
    let servers = servers(&plan);
    let (guide, events) = Guide::new();
    let (sender, shown) = std::sync::mpsc::channel();
    let guide = guide.redirect(move |_, _, request, handler| {
        sender.send(request).unwrap();
        handler(None);
    });
    let session = guide.session(configuration(true, &servers));
    for (from, to) in pairs() {
        let target = to.url(&servers, "/open");
        plan.lock().unwrap().insert("/start".to_owned(), Answer::Keep(redirect(307, target.as_str())));
        session.web_socket_task(request(from.url(&servers, "/start"))).resume();
        let proposed = shown.recv_timeout(support::PATIENCE).unwrap();
        for (name, value) in SECRETS {
            assert_eq!(proposed.value(name), (from == to).then_some(value), "{from:?} to {to:?}: {name}");
        }
        for (name, value) in OPEN {
            assert_eq!(proposed.value(name), Some(value), "{from:?} to {to:?}: {name}");
        }
        assert_eq!(proposed.url.username(), if from == to { "user" } else { "" }, "{from:?} to {to:?}");
        events.wait_for("complete -1011");
    }
}

#[test]
fn what_the_delegate_adds_goes_where_it_says_and_no_further() {
    let plan = Plan::default();
    let servers = servers(&plan);
    let [first, second, third] = [("127.0.0.1", 0), ("127.0.0.1", 1), ("localhost", 1)].map(|(host, server)| Place {
        scheme: "ws",
        host,
        server,
    });
    let (guide, events) = Guide::new();
    let guide = guide.redirect(|_, _, mut request, handler| {
        if request.url.path() == "/second" {
            request.set_value("Bearer given", "Authorization");
        }
        handler(Some(request));
    });
    let session = guide.session(configuration(false, &servers));
    {
        let mut plan = plan.lock().unwrap();
        let to = |place: Place, path| Answer::Keep(redirect(308, place.url(&servers, path).as_str()));
        plan.insert("/start".to_owned(), to(second, "/second"));
        plan.insert("/second".to_owned(), to(second, "/same"));
        plan.insert("/same".to_owned(), to(third, "/third"));
    }
    let task = session.web_socket_task(request(first.url(&servers, "/start")));
    task.resume();
    events.wait_for("open");
    let expected = |at_home, authorization| Expected { at_home, stores_cookies: false, authorization };
    let way = [
        (first, expected(true, None)),
        (second, expected(false, Some("Bearer given"))),
        (second, expected(false, Some("Bearer given"))),
        (third, expected(false, None)),
    ];
    assert_seen("given by the delegate", &servers, [0, 0], &way);
}
