//! The upgrade exchange without I/O: the request that opens a WebSocket, and what a server answers to it.
//!
//! In come a [`UrlRequest`](crate::UrlRequest), a nonce and the bytes of the server; out go the bytes of the request,
//! the heads of the answers, the verdict on a 101, and the body of a refusal. Every buffer here has a limit, and
//! every byte is looked at a bounded number of times however the bytes arrive.

pub mod authentication;
mod body;
mod connect;
mod cursor;
mod deflate;
mod extensions;
mod head;
mod known_spaces;
mod proxies;
mod redirect;
mod shown;
mod socks;
mod tokens;
mod upgrade;

pub use authentication::{Digest, Offer as AuthenticationOffer, UsedNonces, basic, offers};
pub use body::BodyReader;
pub use connect::{connect, is_interim, is_tunnel};
#[cfg(feature = "__internals")]
pub use extensions::{Extension, extensions};
pub use head::{HeadParser, OpeningHead, ResponseHead};
pub use known_spaces::KnownSpaces;
pub use proxies::Proxies;
pub use redirect::{is_downgrade, is_same_origin, redirect, redirected};
#[cfg(feature = "__internals")]
pub use socks::SocksError;
pub use socks::{Socks, Step as SocksStep};
pub use upgrade::{Accepted, Added, Offer, Upgrade, accept, check_protocols, target, upgrade};
