//! Lists of hosts: `NO_PROXY`, and the domains of a configured proxy.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// The hosts that a list names. An entry is one of
///
/// - `*`: every host;
/// - a domain, `example.com`: that name and all names below it, the same as `.example.com` and `*.example.com`;
/// - an address, IPv6 with or without brackets;
/// - a network, `10.0.0.0/8` or `2001:db8::/32`: the addresses with so many leading bits in common;
///
/// each but the last with a port, where it is for this port only: `example.com:8080`, `[::1]:8080`.
///
/// Case, a dot at the end, and whether a domain is written in Unicode or in ASCII are all one; so are an IPv4 address and the
/// IPv6 address that it is mapped to. Names are not looked up: an address is not the name that leads to it. Whatever is not an
/// entry names nobody.
#[derive(Debug)]
pub struct Hosts(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    which: Which,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Debug)]
enum Which {
    All,
    /// As it stands in a [`Url`], without a dot at the end.
    Domain(String),
    /// An address, and how many of its leading bits count.
    Network(IpAddr, u32),
}

impl Hosts {
    pub fn new<'a>(entries: impl Iterator<Item = &'a str>) -> Self {
        Self(entries.filter_map(|text| Entry::new(text.trim())).collect())
    }

    /// Whether the host of an address is among them.
    pub fn have(&self, url: &Url) -> bool {
        let (Some(host), port) = (url.host(), url.port_or_known_default()) else { return false };
        self.0.iter().any(|entry| (entry.port.is_none() || entry.port == port) && entry.which.has(&host))
    }
}

impl Entry {
    fn new(text: &str) -> Option<Self> {
        let of_every_port = |which| Some(Self { which, port: None });
        if let Some((address, bits)) = text.split_once('/') {
            return of_every_port(Which::network(address.parse().ok()?, digits(bits)?)?);
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return of_every_port(Which::network(address.into(), 128)?);
        }
        let (host, port) = host_and_port(text)?;
        Some(Self { which: Which::new(host)?, port })
    }
}

impl Which {
    fn new(host: &str) -> Option<Self> {
        if host == "*" {
            return Some(Self::All);
        }
        let host = without_dot(host);
        if let Ok(address) = host.parse() {
            return Self::network(IpAddr::V4(address), 32);
        }
        let domain = ["*.", "."].iter().find_map(|prefix| host.strip_prefix(prefix)).unwrap_or(host);
        match Host::parse(domain).ok()? {
            Host::Domain(domain) => Some(Self::Domain(without_dot(&domain).to_owned())),
            Host::Ipv6(address) if domain == host => Self::network(address.into(), 128),
            // `10.10` and the like: an address to some, the beginning of one to others.
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    fn network(address: IpAddr, bits: u32) -> Option<Self> {
        match address {
            IpAddr::V4(_) if bits > 32 => None,
            IpAddr::V6(_) if bits > 128 => None,
            IpAddr::V6(v6) if bits >= 96 && v6.to_ipv4_mapped().is_some() => {
                Some(Self::Network(v6.to_canonical(), bits - 96))
            }
            _ => Some(Self::Network(address, bits)),
        }
    }

    fn has(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Self::All, _) => true,
            (Self::Domain(domain), Host::Domain(name)) => {
                let below = without_dot(name).strip_suffix(domain.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            (Self::Network(network, bits), Host::Ipv4(address)) => is_in(*network, *bits, IpAddr::from(*address)),
            (Self::Network(network, bits), Host::Ipv6(address)) => {
                is_in(*network, *bits, IpAddr::from(*address)) || is_in(*network, *bits, address.to_canonical())
            }
            _ => false,
        }
    }
}

fn is_in(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        // A shift by the whole width leaves nothing to differ.
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let difference = network.to_bits() ^ address.to_bits();
            difference.checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let difference = network.to_bits() ^ address.to_bits();
            difference.checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// `host[:port]`, an IPv6 address in brackets, which stay. `None` where what is behind the host is no port.
pub fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(digits(port)?))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// A number without a sign.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
