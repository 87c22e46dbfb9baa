//! What a server sets: `Set-Cookie` by RFC 6265bis §5.6, and of §5.7 what depends on the server alone.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime};

use url::Url;

use super::cookie::{HttpCookie, Prefix, SameSitePolicy};
use super::date;
use super::domain::{default_path, host_of, is_address, is_public_suffix, is_secure, may_set};

/// How long the value of an attribute may be, in bytes; a longer one is passed over.
const ATTRIBUTE: usize = 1024;

/// How long a cookie lasts at most: RFC 6265bis §5.5.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// The attributes as they count, the last of each name.
#[derive(Default)]
struct Attributes<'a> {
    expires: Option<SystemTime>,
    max_age: Option<SystemTime>,
    domain: &'a str,
    /// `None`: the default.
    path: Option<&'a str>,
    is_secure: bool,
    is_http_only: bool,
    same_site_policy: Option<SameSitePolicy>,
}

/// The cookie that the server at `url` sets with the value of a `Set-Cookie` field; `None` where it may not set it, or
/// not so.
pub fn received(set_cookie: &str, url: &Url, now: SystemTime) -> Option<HttpCookie> {
    let host = host_of(url)?;
    // §5.6, step 1.
    if set_cookie.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return None;
    }
    let (pair, attributes) = set_cookie.split_once(';').unwrap_or((set_cookie, ""));
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    let (name, value) = (trim(name), trim(value));
    let attributes = Attributes::read(attributes, now);

    let domain = attributes.domain_for(host)?;
    let path = attributes.path.unwrap_or_else(|| default_path(url));
    let mut cookie = HttpCookie::received(name, value, domain, path);
    cookie.set_expires_date(attributes.max_age.or(attributes.expires));
    cookie.set_secure(attributes.is_secure);
    cookie.set_http_only(attributes.is_http_only);
    cookie.set_same_site_policy(attributes.same_site_policy);
    // A path that was not asked for is not what this promises.
    let promised = Prefix::of(name) != Some(Prefix::Host) || attributes.path.is_some();
    (promised && (is_secure(url) || !attributes.is_secure) && cookie.is_storable()).then_some(cookie)
}

impl<'a> Attributes<'a> {
    fn read(text: &'a str, now: SystemTime) -> Self {
        let mut attributes = Self::default();
        for attribute in text.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (name, value) = (trim(name), trim(value));
            // An empty domain is passed over, too: RFC 6265 §5.2.3, and browsers.
            if value.len() > ATTRIBUTE || (value.is_empty() && name.eq_ignore_ascii_case("Domain")) {
                continue;
            }
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("Expires") {
                attributes.expires = date::parsed(value).map(|date| date.min(latest(now))).or(attributes.expires);
            } else if is("Max-Age") {
                attributes.max_age = end_of(value, now).or(attributes.max_age);
            } else if is("Domain") {
                attributes.domain = value.strip_prefix('.').unwrap_or(value);
            } else if is("Path") {
                attributes.path = Some(value).filter(|path| path.starts_with('/'));
            } else if is("Secure") {
                attributes.is_secure = true;
            } else if is("HttpOnly") {
                attributes.is_http_only = true;
            } else if is("SameSite") {
                attributes.same_site_policy = match value {
                    value if value.eq_ignore_ascii_case("Lax") => Some(SameSitePolicy::Lax),
                    value if value.eq_ignore_ascii_case("Strict") => Some(SameSitePolicy::Strict),
                    _ => None,
                };
            }
        }
        attributes
    }

    /// The domain as a cookie shows it: §5.7. `None` where this host may not set it.
    fn domain_for(&self, host: &str) -> Option<String> {
        let domain = self.domain.to_ascii_lowercase();
        if !domain.is_ascii() || (!domain.is_empty() && !may_set(host, &domain)) {
            return None;
        }
        if domain.is_empty() || is_address(host) || (domain == host && is_public_suffix(&domain)) {
            return Some(host.to_owned());
        }
        Some(format!(".{domain}"))
    }
}

/// When a cookie ends that lasts so many seconds: §5.6.2.
fn end_of(seconds: &str, now: SystemTime) -> Option<SystemTime> {
    let digits = seconds.strip_prefix('-').unwrap_or(seconds);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // More than a number can be is more than the most.
    let seconds = if digits.len() == seconds.len() { digits.parse().unwrap_or(u64::MAX) } else { 0 };
    match seconds {
        0 => Some(SystemTime::UNIX_EPOCH),
        seconds => now.checked_add(LONGEST.min(Duration::from_secs(seconds))),
    }
}

fn latest(now: SystemTime) -> SystemTime {
    now.checked_add(LONGEST).unwrap_or(now)
}

/// Without the white space that may stand around names and values.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
