//! The opening handshake of a client: the request (RFC 6455 §4.1, §4.2.1) and the check of the answer to it (§4.1,
//! §4.2.2).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use url::Position;

use super::deflate::{self, Deflate, Head};
use super::extensions::extensions;
use super::head::ResponseHead;
use super::redirect::is_kept;
use super::shown::{shown, shown_of};
use super::tokens;
use crate::foundation::{DeflateParameters, ErrorCode, ErrorStage, UrlError, UrlRequest, WebSocketOptions};

/// How long the head of a request may be.
const BYTES: usize = 64 * 1024;

/// Room for the head of a request that has few fields of its own.
const HEAD: usize = 320;

/// What RFC 6455 §1.3 appends to the key before it is hashed.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The fields that are the handshake itself. Where a caller sets one of them, the caller's is left out.
const OWN: [&str; 4] = ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"];

/// The fields that announce a body, or that only `Connection` could carry: a request that opens a WebSocket has
/// neither.
const FORBIDDEN: [&str; 5] = ["Content-Length", "Transfer-Encoding", "Expect", "Trailer", "TE"];

const AUTHORIZATION: &str = "Authorization";
const PROXY_AUTHORIZATION: &str = "Proxy-Authorization";
const COOKIE: &str = "Cookie";
const HOST: &str = "Host";
const PROTOCOL: &str = "Sec-WebSocket-Protocol";
const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// A request that opens a WebSocket, and what the answer is checked against.
pub struct Upgrade {
    /// The text of the request; there is no body.
    pub head: String,
    /// What was offered.
    pub offer: Offer,
}

impl Upgrade {
    /// The header fields as they are sent.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        // Nothing that is sent has a line end, and no name a colon.
        self.head.split_terminator("\r\n").skip(1).filter_map(|line| line.split_once(": "))
    }
}

impl fmt::Debug for Upgrade {
    /// Field names only: values may hold cookies and credentials.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Upgrade")
            .field("head_bytes", &self.head.len())
            .field("fields", &self.fields().map(|(name, _)| name).collect::<Vec<_>>())
            .field("offer", &self.offer)
            .finish()
    }
}

/// What the way to the server adds to a caller's request.
#[derive(Clone, Copy, Default)]
pub struct Added<'a> {
    /// The value of `Cookie`.
    pub cookies: Option<&'a str>,
    /// The value of `Authorization`.
    pub authorization: Option<&'a str>,
    /// A redirect led to another origin than the one that the caller named.
    pub led_away: bool,
}

impl fmt::Debug for Added<'_> {
    /// What there is, and nothing of it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Added")
            .field("cookies", &self.cookies.is_some())
            .field("authorization", &self.authorization.is_some())
            .field("led_away", &self.led_away)
            .finish()
    }
}

/// The request of RFC 6455 §4.1 for `request`, with the session's `additional` fields behind those of the request.
///
/// - A field of the request wins over an additional one, names compared without case. Of additional ones that differ
///   in case only, the first in the order of their bytes is sent.
/// - `Upgrade`, `Connection`, `Sec-WebSocket-Key` and `Sec-WebSocket-Version` are always ours: a caller's are left
///   out.
/// - `Proxy-Authorization` is a proxy's, and left out.
/// - `Host`, `Authorization`, `Sec-WebSocket-Protocol` and `Sec-WebSocket-Extensions` are sent as they were set; the
///   last two not at all where they are empty.
/// - permessage-deflate is offered as `options` have it, but for a request that has `Sec-WebSocket-Extensions` of its own:
///   that is all it offers, if it is empty nothing at all.
/// - `Cookie` and `Authorization` of `added` take the place of what the caller has there; of cookies that would not fit
///   into the 64 KiB the last are left out.
/// - Of the additional fields only those of `KEPT` go to another origin.
/// - The fragment, the user and the password of the address are not sent.
///
/// `nonce` is 16 unpredictable bytes, fresh for each request: RFC 6455 §4.1, item 7.
///
/// # Errors
/// `UnsupportedUrl` for a scheme that is not `ws`, `wss`, `http` or `https`, an address without a host, and a method
/// that is not GET. `BadUrl` for a field that cannot be sent, for subprotocols that are not distinct tokens, for
/// extensions or window bits that no answer could fit, and where all of it would pass 64 KiB.
pub fn upgrade(
    request: &UrlRequest,
    additional: &HashMap<String, String>,
    options: &WebSocketOptions,
    added: Added<'_>,
    nonce: [u8; 16],
) -> Result<Upgrade, UrlError> {
    build(request, additional, options, added, nonce).map_err(|error| error.with_failing_url(&request.url))
}

fn build(
    request: &UrlRequest,
    additional: &HashMap<String, String>,
    options: &WebSocketOptions,
    added: Added<'_>,
    nonce: [u8; 16],
) -> Result<Upgrade, UrlError> {
    let host = host(request)?;
    let mut caller = caller_fields(request, additional, added.led_away)?;
    for (own, value) in [(COOKIE, added.cookies), (AUTHORIZATION, added.authorization)] {
        if let Some(value) = value {
            caller.retain(|(name, _)| !name.eq_ignore_ascii_case(own));
            // What a server has said may come back to it: RFC 9110 §5.5 lets bytes above 127 be anything.
            if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
                return Err(control_character(own));
            }
        }
    }
    let own_host =
        caller.iter().position(|(name, _)| name.eq_ignore_ascii_case(HOST)).map(|index| caller.remove(index));
    let protocols = offered_protocols(value(&caller, PROTOCOL).unwrap_or_default())?;
    let by_hand = value(&caller, EXTENSIONS);
    let (extensions, deflate) = offered_extensions(by_hand, options)?;

    let mut head = String::with_capacity(HEAD);
    head.extend(["GET ", target(request)?, " HTTP/1.1\r\n"]);
    match own_host {
        Some((name, value)) => head.extend([name, ": ", value]),
        None => head.extend(["Host: ", host]),
    }
    // `port()` is `None` for the port that the scheme implies.
    if let (None, Some(port)) = (own_host, request.url.port()) {
        head.extend([":", &port.to_string()]);
    }
    head.push_str("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ");
    head.push_str(key(nonce).as_str());
    head.push_str("\r\nSec-WebSocket-Version: 13\r\n");
    if let (None, Some(ours)) = (by_hand, deflate.first()) {
        head.extend([EXTENSIONS, ": "]);
        ours.write(&mut head);
        head.push_str("\r\n");
    }
    for (name, value) in caller {
        // RFC 6455 §4.1, items 10 and 11: each of the two lists has at least one element.
        let is_empty = match is_one_of(name, &[EXTENSIONS]) {
            true => extensions.is_empty() && deflate.is_empty(),
            false => value.is_empty() && is_one_of(name, &[PROTOCOL]),
        };
        if !is_empty {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    if let Some(authorization) = added.authorization {
        head.extend([AUTHORIZATION, ": ", authorization, "\r\n"]);
    }
    let room = BYTES.saturating_sub(head.len() + COOKIE.len() + ": \r\n\r\n".len());
    if let Some(cookies) = added.cookies.and_then(|cookies| fitting(tokens::trim(cookies), room)) {
        head.extend([COOKIE, ": ", cookies, "\r\n"]);
    }
    head.push_str("\r\n");
    if head.len() > BYTES {
        return Err(bad(format!("the head of the request would have {} bytes, {BYTES} is the limit", head.len())));
    }
    Ok(Upgrade { head, offer: Offer { nonce, protocols, extensions, deflate } })
}

/// The first cookies of a field, as many as there is room for.
fn fitting(cookies: &str, room: usize) -> Option<&str> {
    if cookies.len() <= room {
        return Some(cookies);
    }
    // The separator may begin where the room ends.
    let end = cookies.match_indices("; ").map(|(end, _)| end).take_while(|end| *end <= room).last()?;
    cookies.get(..end)
}

/// Checks what kind of request it is; its host, for the value of `Host`: RFC 6455 §4.1, item 4.
fn host(request: &UrlRequest) -> Result<&str, UrlError> {
    let unsupported = |reason| UrlError::new(ErrorCode::UnsupportedUrl, ErrorStage::Request, reason);
    let scheme = request.url.scheme();
    if !matches!(scheme, "ws" | "wss" | "http" | "https") {
        return Err(unsupported(format!("the scheme of the address is {}, not ws or wss", shown(scheme))));
    }
    if !request.http_method.eq_ignore_ascii_case("GET") {
        return Err(unsupported(format!("a WebSocket opens with a GET, not with {}", shown(&request.http_method))));
    }
    match request.url.host_str() {
        None | Some("") => Err(unsupported("the address has no host".to_owned())),
        Some(host) => Ok(host),
    }
}

/// Path and query: RFC 9112 §3.2.1.
pub fn target(request: &UrlRequest) -> Result<&str, UrlError> {
    let target = &request.url[Position::BeforePath..Position::AfterQuery];
    // `Url` has encoded everything else. A request line that can be split must not depend on that alone.
    if target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(target)
    } else {
        Err(bad("the path or the query of the address has a character that cannot be sent"))
    }
}

/// The fields of the request, then the additional ones by name; each name once, each of them fit to be sent.
fn caller_fields<'a>(
    request: &'a UrlRequest,
    additional: &'a HashMap<String, String>,
    led_away: bool,
) -> Result<Vec<(&'a str, &'a str)>, UrlError> {
    let mut sorted: Vec<(&str, &str)> = additional
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .filter(|(name, _)| !led_away || is_kept(name))
        .collect();
    sorted.sort_unstable_by_key(|&(name, _)| (name.to_ascii_lowercase(), name));
    let mut names = HashSet::new();
    let mut fields = Vec::new();
    for (name, value) in request.fields().chain(sorted) {
        if is_one_of(name, &OWN) || !names.insert(name.to_ascii_lowercase()) {
            continue;
        }
        let value = checked(name, value)?;
        // It is for a proxy on the way, which gets it with CONNECT: RFC 9110 §11.7.2.
        if !is_one_of(name, &[PROXY_AUTHORIZATION]) {
            fields.push((name, value));
        }
    }
    Ok(fields)
}

/// The value of a caller's field as it is sent: RFC 9110 §5.1 and §5.5. No text shows a value: it may be a secret.
fn checked<'a>(name: &str, value: &'a str) -> Result<&'a str, UrlError> {
    if !tokens::is_token(name) {
        return Err(bad(format!("{} cannot be the name of a header field", shown(name))));
    }
    if is_one_of(name, &FORBIDDEN) {
        return Err(bad(format!("the header field {} cannot be part of an upgrade", shown(name))));
    }
    let value = tokens::trim(value);
    if value.chars().any(|character| character.is_control() && character != '\t') {
        return Err(control_character(name));
    }
    Ok(value)
}

fn control_character(name: &str) -> UrlError {
    bad(format!("the value of the header field {} has a control character", shown(name)))
}

/// The subprotocols in the order of preference.
fn offered_protocols(value: &str) -> Result<Vec<String>, UrlError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let protocols: Vec<&str> = value.split(',').map(tokens::trim).collect();
    check_protocols(&protocols)?;
    Ok(protocols.into_iter().map(str::to_owned).collect())
}

/// Whether subprotocols can be offered: distinct tokens, RFC 6455 §4.1, item 10. Otherwise `BadUrl`. No text shows one:
/// some hold a bearer token.
pub fn check_protocols(protocols: &[&str]) -> Result<(), UrlError> {
    let mut seen = HashSet::new();
    for (index, protocol) in protocols.iter().enumerate() {
        if !tokens::is_token(protocol) {
            return Err(bad(format!("subprotocol {} of {} is not a token", index + 1, protocols.len())));
        }
        if !seen.insert(protocol) {
            return Err(bad(format!("subprotocol {} of {} is offered twice", index + 1, protocols.len())));
        }
    }
    Ok(())
}

/// The extensions that are offered: the names of those that a caller set by hand, and permessage-deflate, apart from them.
/// A caller's field that cannot be understood fails here: whatever a server answered to it would have to be refused.
fn offered_extensions(
    by_hand: Option<&str>,
    options: &WebSocketOptions,
) -> Result<(Vec<String>, Vec<Deflate>), UrlError> {
    let (mut names, mut offers) = (Vec::new(), Vec::new());
    match by_hand {
        Some(value) => {
            for extension in extensions([value].into_iter()) {
                let extension =
                    extension.map_err(|reason| bad(format!("the header field {EXTENSIONS} is malformed: {reason}")))?;
                if extension.name.eq_ignore_ascii_case(deflate::NAME) {
                    let offer = Deflate::read(&extension.parameters, Head::Request).map_err(|reason| {
                        bad(format!("the header field {EXTENSIONS} offers what cannot be: {reason}"))
                    })?;
                    offers.push(offer);
                } else {
                    names.push(extension.name.to_owned());
                }
            }
        }
        None if options.permessage_deflate => offers.push(Deflate::offered_by(options).map_err(bad)?),
        None => {}
    }
    Ok((names, offers))
}

fn value<'a>(fields: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn bad(reason: impl Into<Cow<'static, str>>) -> UrlError {
    UrlError::new(ErrorCode::BadUrl, ErrorStage::Request, reason)
}

/// What a request offered, and so what the answer to it may hold.
pub struct Offer {
    /// What our key is made from.
    nonce: [u8; 16],
    protocols: Vec<String>,
    /// The names of the extensions that the caller offered, but for permessage-deflate.
    extensions: Vec<String>,
    /// permessage-deflate; several are fallbacks.
    deflate: Vec<Deflate>,
}

impl fmt::Debug for Offer {
    /// The number of subprotocols only: some hold a bearer token.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Offer")
            .field("protocols", &self.protocols.len())
            .field("extensions", &self.extensions)
            .field("deflate", &self.deflate)
            .finish()
    }
}

/// What the server chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol.
    pub protocol: Option<String>,
    /// permessage-deflate, as it holds for the connection.
    pub deflate: Option<DeflateParameters>,
}

impl Offer {
    /// Checks the answer: RFC 6455 §4.1, the items behind "once the client's opening handshake has been sent".
    ///
    /// # Errors
    /// The text says what is wrong with the answer, and must lead to the end of the connection.
    pub fn check(&self, head: &ResponseHead) -> Result<Accepted, String> {
        if head.status_code != 101 {
            return Err(format!("the server answered {}, not 101", head.status_code));
        }
        if head.http_version != "HTTP/1.1" {
            return Err(format!("the server answered in {}, not in HTTP/1.1", head.http_version));
        }
        // `Upgrade` is the one protocol that is spoken from here on: a list of several would be another one.
        let mut upgrade = tokens::list(head.values("Upgrade"));
        if !matches!((upgrade.next(), upgrade.next()), (Some(protocol), None) if protocol.eq_ignore_ascii_case("websocket"))
        {
            return Err(wrong(head, "Upgrade", "websocket"));
        }
        if !tokens::list(head.values("Connection")).any(|option| option.eq_ignore_ascii_case("upgrade")) {
            return Err(wrong(head, "Connection", "Upgrade"));
        }
        // The only value that answers our key.
        let accept = accept(self.nonce);
        let accept = accept.as_str();
        let mut accepts = head.values("Sec-WebSocket-Accept");
        if accepts.next() != Some(accept) || accepts.next().is_some() {
            return Err(wrong(head, "Sec-WebSocket-Accept", accept));
        }
        let deflate = self.chosen_deflate(head)?;
        Ok(Accepted { protocol: self.chosen_protocol(head)?, deflate })
    }

    /// A server may choose none of the subprotocols: RFC 6455 §4.2.2, item 5.5. Compared exactly, by §4.1, item 6.
    fn chosen_protocol(&self, head: &ResponseHead) -> Result<Option<String>, String> {
        let mut chosen = head.values(PROTOCOL);
        let Some(protocol) = chosen.next() else { return Ok(None) };
        if chosen.next().is_some() {
            return Err(format!("the server chose several subprotocols: {}", all_shown(head, PROTOCOL)));
        }
        match self.protocols.iter().find(|offered| *offered == protocol) {
            Some(protocol) => Ok(Some(protocol.clone())),
            None => Err(format!("the server chose the subprotocol {}, which was not offered", shown(protocol))),
        }
    }

    /// A server may choose of the extensions what was offered, and none of them: RFC 6455 §4.1, item 5, and §9.1.
    /// permessage-deflate it may choose once, with parameters that fit the offer: RFC 7692 §5.1, §7.1.
    fn chosen_deflate(&self, head: &ResponseHead) -> Result<Option<DeflateParameters>, String> {
        let mut chosen = None;
        for extension in extensions(head.values(EXTENSIONS)) {
            let extension = extension.map_err(|reason| {
                format!("the server's extensions are malformed, {reason}: {}", all_shown(head, EXTENSIONS))
            })?;
            let is_deflate = extension.name.eq_ignore_ascii_case(deflate::NAME);
            let was_offered = match is_deflate {
                true => !self.deflate.is_empty(),
                false => self.extensions.iter().any(|offered| offered.eq_ignore_ascii_case(extension.name)),
            };
            if !was_offered {
                let name = shown(extension.name);
                return Err(format!("the server chose the extension {name}, which was not offered"));
            }
            if is_deflate {
                let agreed = Deflate::read(&extension.parameters, Head::Response)
                    .and_then(|answer| answer.agreed(&self.deflate))
                    .map_err(|reason| format!("the server's {reason}"))?;
                if chosen.replace(agreed).is_some() {
                    return Err(format!("the server chose the extension \"{}\" twice", deflate::NAME));
                }
            }
        }
        Ok(chosen)
    }
}

/// The `Sec-WebSocket-Key` of a nonce: RFC 6455 §4.1, item 7.
fn key(nonce: [u8; 16]) -> Base64<24> {
    Base64::of(&nonce)
}

/// The `Sec-WebSocket-Accept` that answers the key of a nonce, `base64(SHA-1(key + GUID))`: RFC 6455 §4.2.2, item 5.4.
pub fn accept(nonce: [u8; 16]) -> Base64<28> {
    Base64::of(&Sha1::new().chain_update(key(nonce).as_str()).chain_update(GUID).finalize())
}

/// Base64 of `N` characters.
pub struct Base64<const N: usize>([u8; N]);

impl<const N: usize> Base64<N> {
    fn of(bytes: &[u8]) -> Self {
        let mut characters = [0; N];
        let length = STANDARD.encode_slice(bytes, &mut characters);
        debug_assert_eq!(length, Ok(N));
        Self(characters)
    }

    /// It is ASCII.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn wrong(head: &ResponseHead, name: &str, expected: &str) -> String {
    match head.values(name).next() {
        Some(_) => format!("the server's {name} is {}, not \"{expected}\"", all_shown(head, name)),
        None => format!("the server's answer has no {name}"),
    }
}

/// The values of a field, as [`shown`].
fn all_shown(head: &ResponseHead, name: &str) -> String {
    shown_of(head.values(name).enumerate().flat_map(|(index, value)| {
        let separator = if index == 0 { "" } else { ", " };
        separator.chars().chain(value.chars())
    }))
}

#[cfg(test)]
mod tests;
