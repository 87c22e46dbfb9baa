//! Cookies by RFC 6265bis: what a server may set, what is kept, and what is sent.
//!
//! Nothing here asks for the time or touches a file: the date comes in as an argument, and so does the text that is
//! kept on disk.

mod cookie;
mod date;
mod domain;
mod jar;
mod merge;
mod set_cookie;
mod text;

pub use cookie::{HttpCookie, SameSitePolicy};
pub use date::parsed as cookie_date;
#[cfg(feature = "__internals")]
pub use domain::registrable;
pub use domain::{may_set, same_site};
pub use jar::{Jar, Origin};
pub use merge::Kept;
pub use set_cookie::received;
pub use text::{MAXIMUM_FILE, kept_in};
