//! The WebSocket: how it is configured, and what its delegate does.

use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::SystemTime;

use urlsession::{
    AuthChallengeDisposition, AuthenticationChallenge, AuthenticationMethod, ChallengeHandler, ClientIdentity,
    CloseCode, CredentialPersistence, HttpUrlResponse, RedirectionHandler, RootCertificates, SessionConfiguration,
    SessionDelegate, SessionTask, TaskDelegate, TaskMetrics, Url, UrlCredential, UrlError, UrlProtectionSpace,
    UrlRequest, UrlSession, WebSocketDelegate, WebSocketTask,
};

use super::Event;
use super::arguments::{Arguments, Proxy};
use super::terminal::Terminal;

/// A task that is to be resumed. An error is a line for the user.
pub fn task(arguments: &Arguments, terminal: Terminal, events: mpsc::Sender<Event>) -> Result<WebSocketTask, String> {
    let client = Client {
        terminal,
        events,
        insecure: arguments.insecure,
        identity: identity(arguments)?,
        user: arguments.user.clone(),
        server: arguments.url.clone(),
        verbose: arguments.verbose,
    };
    let session = UrlSession::with_delegate(configuration(arguments)?, Some(Arc::new(client)), None);
    let mut request = UrlRequest::new(arguments.url.clone());
    for (name, value) in &arguments.headers {
        request.add_value(value, name);
    }
    let subprotocols: Vec<&str> = arguments.subprotocols.iter().map(String::as_str).collect();
    let task = session.web_socket_task_with_protocols(request, &subprotocols);
    if let Some(bytes) = arguments.max_size {
        task.set_maximum_message_size(bytes);
    }
    Ok(task)
}

fn configuration(arguments: &Arguments) -> Result<SessionConfiguration, String> {
    let mut configuration = SessionConfiguration::ephemeral();
    if let Some(timeout) = arguments.connect_timeout {
        configuration.timeout_interval_for_request = timeout;
    }
    configuration.proxy_configurations = match &arguments.proxy {
        Proxy::Environment => None,
        Proxy::None => Some(Vec::new()),
        Proxy::This(proxy) => Some(vec![proxy.clone()]),
    };
    if let Some(path) = &arguments.ca {
        configuration.root_certificates = RootCertificates::from_pem(&read(path)?)
            .map_err(|error| format!("{}: {}", path.display(), error.reason()))?;
    }
    configuration.web_socket.permessage_deflate = arguments.compression;
    configuration.web_socket.ping_interval = arguments.ping;
    Ok(configuration)
}

fn identity(arguments: &Arguments) -> Result<Option<ClientIdentity>, String> {
    let Some((chain, key)) = &arguments.identity else { return Ok(None) };
    let identity = ClientIdentity::from_pem(&read(chain)?, &read(key)?);
    identity.map(Some).map_err(|error| format!("{}, {}: {}", chain.display(), key.display(), error.reason()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

struct Client {
    terminal: Terminal,
    events: mpsc::Sender<Event>,
    insecure: bool,
    identity: Option<ClientIdentity>,
    user: Option<(String, String)>,
    /// Whom the user named.
    server: Url,
    verbose: bool,
}

impl Client {
    fn tell(&self, event: Event) {
        // Where main has given up, nobody listens.
        let _ = self.events.send(event);
    }

    /// Whether it asks that was named on the command line.
    fn is_server(&self, space: &UrlProtectionSpace) -> bool {
        let host = self.server.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_host = space.host().trim_matches(['[', ']']).eq_ignore_ascii_case(host);
        let is_secure = space.protocol() == Some("https");
        let is_same = is_secure == matches!(self.server.scheme(), "wss" | "https");
        !space.is_proxy() && is_host && is_same && Some(space.port()) == self.server.port_or_known_default()
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if self.verbose {
            self.terminal.note(&text());
        }
    }

    /// A response as it came.
    fn note_response(&self, response: &HttpUrlResponse) {
        self.note(|| format!("< {} {}", response.http_version(), response.status_code()));
        for (name, value) in response.header_fields() {
            self.note(|| format!("< {name}: {value}"));
        }
    }

    fn note_request(&self, request: &UrlRequest) {
        self.note(|| format!("> {} {}", request.http_method, without_user(&request.url)));
        let mut fields: Vec<_> = request.all_http_header_fields().into_iter().collect();
        fields.sort();
        for (name, value) in fields {
            let hidden = ["authorization", "proxy-authorization", "cookie"].contains(&&*name.to_ascii_lowercase());
            self.note(|| format!("> {name}: {}", if hidden { "..." } else { &value }));
        }
    }
}

fn without_user(url: &Url) -> Url {
    let mut url = url.clone();
    // An address without a host has no user.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

/// Shows messages until the end, of which the delegate is told. The next is asked for when one is shown: a server that sends
/// faster than that has to wait.
fn receive(task: &WebSocketTask, terminal: Terminal, events: mpsc::Sender<Event>) {
    let receiving = task.clone();
    task.receive(move |result| {
        if let Ok(message) = result {
            terminal.message(&message);
            let _ = events.send(Event::Shown);
            receive(&receiving, terminal, events);
        }
    });
}

impl SessionDelegate for Client {
    fn did_receive_challenge(
        &self,
        _session: &UrlSession,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let space = challenge.protection_space();
        self.note(|| format!("* {}:{} asks: {:?}", space.host(), space.port(), space.authentication_method()));
        let credential = match (space.authentication_method(), space.server_trust(), &self.identity) {
            (AuthenticationMethod::ServerTrust, Some(trust), _) if self.insecure => {
                Some(UrlCredential::for_trust(trust))
            }
            (AuthenticationMethod::ClientCertificate, _, Some(identity)) if self.is_server(space) => {
                Some(UrlCredential::with_identity(identity.clone()))
            }
            _ => None,
        };
        match credential {
            Some(credential) => completion_handler(AuthChallengeDisposition::UseCredential, Some(credential)),
            None => completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        }
    }
}

impl TaskDelegate for Client {
    fn task_did_receive_challenge(
        &self,
        _session: &UrlSession,
        _task: &SessionTask,
        challenge: &AuthenticationChallenge,
        completion_handler: ChallengeHandler,
    ) {
        let space = challenge.protection_space();
        self.note(|| {
            let (host, method) = (space.host(), space.authentication_method());
            format!("* {host}:{} asks: {method:?}, realm {:?}", space.port(), space.realm().unwrap_or_default())
        });
        if let Some(response) = challenge.failure_response() {
            self.note_response(response);
        }
        // The password is for the server that was named, and not for one that a redirect leads to; the proxy's is in its
        // address. One that was wrong is wrong again.
        match &self.user {
            Some((user, password)) if self.is_server(space) && challenge.previous_failure_count() == 0 => {
                let credential = UrlCredential::new(user, password, CredentialPersistence::ForSession);
                completion_handler(AuthChallengeDisposition::UseCredential, Some(credential));
            }
            _ => completion_handler(AuthChallengeDisposition::PerformDefaultHandling, None),
        }
    }

    fn will_perform_http_redirection(
        &self,
        _session: &UrlSession,
        _task: &SessionTask,
        response: &HttpUrlResponse,
        new_request: UrlRequest,
        completion_handler: RedirectionHandler,
    ) {
        self.note_response(response);
        self.note(|| format!("* led on to {}", without_user(&new_request.url)));
        completion_handler(Some(new_request));
    }

    fn did_finish_collecting_metrics(&self, _session: &UrlSession, _task: &SessionTask, metrics: &TaskMetrics) {
        for transaction in &metrics.transaction_metrics {
            // What went out is known whole only now.
            self.note_request(&transaction.request);
            self.note(|| {
                let part = |name: &str, start: Option<SystemTime>, end: Option<SystemTime>| match (start, end) {
                    (Some(start), Some(end)) => {
                        format!(", {name} {:.1} ms", end.duration_since(start).unwrap_or_default().as_secs_f64() * 1e3)
                    }
                    _ => String::new(),
                };
                let address = transaction.remote_address.map(|address| format!(" at {address}")).unwrap_or_default();
                let proxy = if transaction.is_proxy_connection { ", through a proxy" } else { "" };
                let look_up = part("look-up", transaction.domain_lookup_start_date, transaction.domain_lookup_end_date);
                let connection = part("connection", transaction.connect_start_date, transaction.connect_end_date);
                let tls = part("TLS", transaction.secure_connection_start_date, transaction.secure_connection_end_date);
                let answer = part("answer", transaction.request_start_date, transaction.response_end_date);
                format!(
                    "* {}{address}{proxy}{look_up}{connection}{tls}{answer}",
                    without_user(&transaction.request.url)
                )
            });
        }
    }

    fn did_complete_with_error(&self, _session: &UrlSession, task: &SessionTask, error: Option<&UrlError>) {
        if let Some(response) = error.and_then(UrlError::response) {
            self.note_response(response);
        }
        self.note(|| {
            let (sent, received) = (task.count_of_bytes_sent(), task.count_of_bytes_received());
            format!("* {sent} bytes sent, {received} received")
        });
        self.tell(Event::Over(error.cloned()));
    }
}

impl WebSocketDelegate for Client {
    fn did_open_with_protocol(&self, _session: &UrlSession, task: &WebSocketTask, protocol: Option<&str>) {
        if let Some(response) = task.response() {
            self.note_response(&response);
        }
        self.tell(Event::Open(protocol.map(str::to_owned)));
        receive(task, self.terminal.clone(), self.events.clone());
    }

    fn did_close_with(&self, _session: &UrlSession, _task: &WebSocketTask, code: CloseCode, reason: Option<&[u8]>) {
        self.tell(Event::Closed(code, String::from_utf8_lossy(reason.unwrap_or_default()).into_owned()));
    }
}
