//! Apple's `URLSessionWebSocketTask` for every platform.
#![deny(unsafe_op_in_unsafe_fn)]
mod foundation;
pub use foundation::*;
pub use url::Url;
