//! The versions of TLS that this crate speaks.

/// `tls_protocol_version_t`: a version of TLS, with the number that stands on the wire (RFC 8446 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum TlsProtocolVersion {
    /// `.TLSv12`: RFC 5246.
    TlsV12 = 771,
    /// `.TLSv13`: RFC 8446.
    TlsV13 = 772,
}
