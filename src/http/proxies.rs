//! Which proxies stand between the client and a server: those of the session's configuration, or of the environment.
//!
//! In come the configuration, or the environment as a function; out go, for an address, the proxies that serve it. Everything
//! is read once, when the [`Proxies`] are made.
#![forbid(unsafe_code)]

mod environment;
mod hosts;

use std::sync::Arc;

use url::Url;

use self::environment::Environment;
use self::hosts::Hosts;
use crate::foundation::{ErrorCode, ErrorStage, ProxyConfiguration, UrlError};

/// The proxies of a session.
#[derive(Debug)]
pub struct Proxies(Source);

#[derive(Debug)]
enum Source {
    /// `proxy_configurations`, in their order.
    Configuration(Vec<Listed>),
    Environment(Environment),
}

/// A proxy, or why it is none.
type Proxy = Result<Arc<ProxyConfiguration>, UrlError>;

/// A proxy and whom it serves.
#[derive(Debug)]
struct Listed {
    proxy: Proxy,
    /// `None`: everybody.
    matching: Option<Hosts>,
    excluded: Hosts,
}

impl Proxies {
    /// The configured ones, be there none; where nothing is configured, those of the environment, whose variables `variable`
    /// gives. Values that cannot be understood fail the tasks that would use them, and are no error here.
    pub fn new(configured: Option<&[ProxyConfiguration]>, variable: impl Fn(&str) -> Option<String>) -> Self {
        Self(match configured {
            Some(list) => {
                let number = |(index, proxy)| Listed::new(proxy, index + 1, list.len());
                Source::Configuration(list.iter().enumerate().map(number).collect())
            }
            None => Source::Environment(Environment::new(variable)),
        })
    }

    /// The proxies that serve an address, in the order in which they are tried; none: the connection is a direct one. Their
    /// hosts are names in ASCII or addresses, and their ports are not 0.
    ///
    /// Where all of them fail and all have `allow_failover`, a direct connection comes last. Those of the environment have not.
    ///
    /// # Errors
    /// `BadUrl`: what stands for one of them is no proxy. A connection without it would show what it was to hide.
    pub fn for_url(&self, url: &Url) -> Result<Vec<Arc<ProxyConfiguration>>, UrlError> {
        match &self.0 {
            Source::Configuration(list) => {
                list.iter().filter(|listed| listed.serves(url)).map(|listed| listed.proxy.clone()).collect()
            }
            Source::Environment(environment) => environment.proxy(url).cloned().into_iter().collect(),
        }
    }
}

impl Listed {
    fn new(proxy: &ProxyConfiguration, number: usize, count: usize) -> Self {
        let canonical = proxy.canonical().ok_or_else(|| {
            bad(format!("proxy {number} of {count} has a host that is no name and no address, or the port 0"))
        });
        let hosts = |domains: &[String]| Hosts::new(domains.iter().map(String::as_str));
        Self {
            proxy: canonical.map(Arc::new),
            matching: (!proxy.match_domains.is_empty()).then(|| hosts(&proxy.match_domains)),
            excluded: hosts(&proxy.excluded_domains),
        }
    }

    fn serves(&self, url: &Url) -> bool {
        self.matching.as_ref().is_none_or(|hosts| hosts.have(url)) && !self.excluded.have(url)
    }
}

fn bad(reason: String) -> UrlError {
    UrlError::new(ErrorCode::BadUrl, ErrorStage::Request, reason)
}

#[cfg(test)]
mod tests;
