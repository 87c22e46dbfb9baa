//! Values that every storey speaks of: messages, close codes, requests, responses, errors, configuration.
//!
//! Nothing here does anything by itself: no sockets, no threads, no clock, no generator of random bytes.

mod close_code;
mod error;
mod message;
mod random;
mod request;
mod response;

pub use close_code::CloseCode;
pub use error::{ErrorCode, ErrorDomain, ErrorStage, UrlError};
pub use message::Message;
pub use random::Random;
pub use request::UrlRequest;
pub use response::HttpUrlResponse;
