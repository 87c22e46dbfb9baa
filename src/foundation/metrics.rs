//! When the parts of a task's way began and ended, and what they went over.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::request::UrlRequest;
use super::response::HttpUrlResponse;
use super::tls_protocol_version::TlsProtocolVersion;

/// `URLSessionTaskMetrics`: what a task did until its WebSocket was open, or until it failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskMetrics {
    /// `taskInterval`: when the task was made, and how long it lasted.
    pub task_interval: (SystemTime, Duration),
    /// `redirectCount`: how many redirects were followed.
    pub redirect_count: usize,
    /// `transactionMetrics`: one for each request with its response; redirects and answers to challenges each count.
    pub transaction_metrics: Vec<TransactionMetrics>,
}

impl TaskMetrics {
    /// Of a task that was made at `creation` and has done nothing.
    pub(crate) fn new(creation: SystemTime) -> Self {
        Self { task_interval: (creation, Duration::ZERO), redirect_count: 0, transaction_metrics: Vec::new() }
    }
}

/// `URLSessionTaskTransactionMetrics`: one request and its response.
///
/// A part that did not end has no end, and what would have come after it has no dates. A `ws` address has none of TLS. Where a
/// request needed several connections (a proxy failed, the network was missing, a certificate of the client came too late), the
/// dates from the look-up to the connection are those of the last; what was before lies between them and `fetch_start_date`. On
/// a connection that was used before there are none of these.
///
/// Through a proxy the look-up and the connection are to the proxy; `connect_end_date` comes when the proxy has led on, and TLS
/// with the server is done. What the proxy is told and answers is no transaction of its own, and its bytes are not counted;
/// where it refuses, its answer is the `response`. TLS with the proxy has no dates: those of TLS are the server's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransactionMetrics {
    /// `request`, with the header fields that were added to it, but without the answer to a challenge.
    pub request: UrlRequest,
    /// `response`, where one came. Of those before the last, as many are kept as have heads of 256 KiB together.
    pub response: Option<HttpUrlResponse>,
    /// `fetchStartDate`: the beginning.
    pub fetch_start_date: Option<SystemTime>,
    /// `domainLookupStartDate`: the look-up of the host's addresses began. None where the host is an address.
    pub domain_lookup_start_date: Option<SystemTime>,
    /// `domainLookupEndDate`: the look-up was over, with addresses or without.
    pub domain_lookup_end_date: Option<SystemTime>,
    /// `connectStartDate`: the connection was begun; of several addresses, with the first of them.
    pub connect_start_date: Option<SystemTime>,
    /// `secureConnectionStartDate`: the TLS handshake with the server began.
    pub secure_connection_start_date: Option<SystemTime>,
    /// `secureConnectionEndDate`: the TLS handshake was done; what a delegate took to answer is in between.
    pub secure_connection_end_date: Option<SystemTime>,
    /// `connectEndDate`: the connection could be used, a proxy and TLS included.
    pub connect_end_date: Option<SystemTime>,
    /// `requestStartDate`: the first byte of the request was written.
    pub request_start_date: Option<SystemTime>,
    /// `requestEndDate`: the last byte of the request was written.
    pub request_end_date: Option<SystemTime>,
    /// `responseStartDate`: the first byte of the response arrived.
    pub response_start_date: Option<SystemTime>,
    /// `responseEndDate`: the last byte of the response's head arrived.
    pub response_end_date: Option<SystemTime>,
    /// `networkProtocolName`: `http/1.1`, once an answer to the request began.
    pub network_protocol_name: Option<String>,
    /// `isProxyConnection`: the connection is, or was to be, to a proxy.
    pub is_proxy_connection: bool,
    /// `isReusedConnection`: the request went out on the connection of the one before it.
    pub is_reused_connection: bool,
    /// `countOfRequestHeaderBytesSent`: bytes, before TLS.
    pub count_of_request_header_bytes_sent: i64,
    /// `countOfRequestBodyBytesBeforeEncoding`: payload bytes of the messages that were handed to the kernel, before they were
    /// compressed.
    pub count_of_request_body_bytes_before_encoding: i64,
    /// `countOfRequestBodyBytesSent`: the same bytes as they went out, compressed or not, without the headers of frames.
    pub count_of_request_body_bytes_sent: i64,
    /// `countOfResponseHeaderBytesReceived`: bytes, after TLS.
    pub count_of_response_header_bytes_received: i64,
    /// `countOfResponseBodyBytesReceived`: payload bytes of the messages that arrived whole, as they came, compressed or not,
    /// without the headers of frames.
    pub count_of_response_body_bytes_received: i64,
    /// `countOfResponseBodyBytesAfterDecoding`: the same bytes after they were decompressed.
    pub count_of_response_body_bytes_after_decoding: i64,
    /// `localAddress` and `localPort`, of the address that won; `None` until one did.
    pub local_address: Option<SocketAddr>,
    /// `remoteAddress` and `remotePort`; the proxy's where there is one.
    pub remote_address: Option<SocketAddr>,
    /// `negotiatedTLSProtocolVersion`, with the server.
    pub negotiated_tls_protocol_version: Option<TlsProtocolVersion>,
    /// `negotiatedTLSCipherSuite`: the number in the registry of TLS cipher suites (RFC 8446 §11).
    pub negotiated_tls_cipher_suite: Option<u16>,
}

impl TransactionMetrics {
    /// Of a request that nothing was done for yet.
    pub(crate) fn new(request: UrlRequest) -> Self {
        Self {
            request,
            response: None,
            fetch_start_date: None,
            domain_lookup_start_date: None,
            domain_lookup_end_date: None,
            connect_start_date: None,
            secure_connection_start_date: None,
            secure_connection_end_date: None,
            connect_end_date: None,
            request_start_date: None,
            request_end_date: None,
            response_start_date: None,
            response_end_date: None,
            network_protocol_name: None,
            is_proxy_connection: false,
            is_reused_connection: false,
            count_of_request_header_bytes_sent: 0,
            count_of_request_body_bytes_before_encoding: 0,
            count_of_request_body_bytes_sent: 0,
            count_of_response_header_bytes_received: 0,
            count_of_response_body_bytes_received: 0,
            count_of_response_body_bytes_after_decoding: 0,
            local_address: None,
            remote_address: None,
            negotiated_tls_protocol_version: None,
            negotiated_tls_cipher_suite: None,
        }
    }
}
