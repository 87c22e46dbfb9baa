//! The proxies that the environment names, much as curl reads them.
//!
//! Other than curl, `HTTP_PROXY` counts (but not for a CGI program), a port that is not there is the scheme's own (curl: 1080
//! unless it is `https`), `socks5` leaves the look-up of names to the proxy as `socks5h` does, and a scheme that is not
//! known is an error.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::hosts::{Hosts, host_and_port};
use super::{Proxy, bad};
use crate::foundation::ProxyConfiguration;

/// What the environment says about proxies.
#[derive(Debug)]
pub struct Environment {
    /// For `ws`.
    plain: Option<Proxy>,
    /// For `wss`.
    secure: Option<Proxy>,
    /// `NO_PROXY`.
    bypassing: Hosts,
}

impl Environment {
    /// `variable` gives the value of a variable. An empty one counts as one that is not set.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: &[&'static str]| names.iter().find_map(|&name| Some((name, value(name)?)));
        let proxy = |names: &[&'static str]| first(names).map(|(name, value)| proxy_of(name, &value));
        // A web server hands the field `Proxy` of whoever asks to a CGI program as HTTP_PROXY (CVE-2016-5385). Where names have
        // no case (Windows), `http_proxy` is the same variable.
        let plain: &[_] = match (variable("REQUEST_METHOD"), variable("request_method")) {
            (None, None) => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
            (_, None) => &["http_proxy", "all_proxy", "ALL_PROXY"],
            (_, Some(_)) => &["all_proxy", "ALL_PROXY"],
        };
        let bypassing = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
        Self {
            plain: proxy(plain),
            secure: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            bypassing: Hosts::new(bypassing.split([',', ' ', '\t', '\r', '\n'])),
        }
    }

    /// The proxy for an address; `None`: no proxy.
    pub fn proxy(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "ws" | "http" => self.plain.as_ref(),
            "wss" | "https" => self.secure.as_ref(),
            _ => None,
        };
        proxy.filter(|_| !self.bypassing.have(url))
    }
}

fn proxy_of(variable: &str, value: &str) -> Proxy {
    // Nothing of the value is shown: it may have a password, and that at any place if it is written wrongly.
    parsed(value).map(Arc::new).map_err(|reason| bad(format!("the environment's {variable} names no proxy: {reason}")))
}

/// `[scheme://][user[:password]@]host[:port][/]`
fn parsed(value: &str) -> Result<ProxyConfiguration, &'static str> {
    let value = value.trim();
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let (proxy, default): (fn(&str, u16) -> ProxyConfiguration, _) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (ProxyConfiguration::http_connect, 80),
        "https" => (ProxyConfiguration::https_connect, 443),
        "socks5" | "socks5h" => (ProxyConfiguration::socks_v5, 1080),
        _ => return Err("its scheme is not http, https, socks5 or socks5h"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err("there is more behind the host (in a user or a password, /, ? and # are %2F, %3F and %23)");
    }
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let (host, port) = host_and_port(place).ok_or("its port is not a number from 1 to 65535")?;
    let port = port.unwrap_or(default);
    if port == 0 {
        return Err("its port is 0");
    }
    let host = Host::parse(host).map_err(|_| "its host is no name and no address (an IPv6 address is in brackets)")?;
    let mut proxy = proxy(&host.to_string(), port);
    if let Some(login) = login.filter(|login| !login.is_empty()) {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        proxy.apply_credential(&decoded(user)?, &decoded(password)?);
    }
    Ok(proxy)
}

fn decoded(text: &str) -> Result<Cow<'_, str>, &'static str> {
    percent_decode_str(text).decode_utf8().map_err(|_| "its user or its password is not in UTF-8")
}
