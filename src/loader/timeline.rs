//! When what happened on a task's road: what the metrics are made of.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crate::foundation::{HttpUrlResponse, TaskMetrics, TlsProtocolVersion, TransactionMetrics, UrlRequest};

/// One moment on both clocks, so that moments of one can be told as dates of the other.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// The moment on the clock that never goes back.
    pub instant: Instant,
    /// The same moment as a date.
    pub date: SystemTime,
}

impl Epoch {
    fn date(self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.date + after,
            None => self.date.checked_sub(self.instant - instant).unwrap_or(self.date),
        }
    }
}

/// The moments and facts of one request and its response.
#[derive(Debug, Default)]
pub struct Timeline {
    pub fetch_start: Option<Instant>,
    pub lookup_start: Option<Instant>,
    pub lookup_end: Option<Instant>,
    pub connect_start: Option<Instant>,
    pub secure_start: Option<Instant>,
    pub secure_end: Option<Instant>,
    pub connect_end: Option<Instant>,
    pub request_start: Option<Instant>,
    pub request_end: Option<Instant>,
    pub response_start: Option<Instant>,
    pub response_end: Option<Instant>,
    pub request_fields: Vec<(String, String)>,
    pub request_bytes: usize,
    pub response_bytes: usize,
    pub response: Option<HttpUrlResponse>,
    pub local_address: Option<SocketAddr>,
    pub remote_address: Option<SocketAddr>,
    pub tls_version: Option<TlsProtocolVersion>,
    pub cipher_suite: Option<u16>,
}

impl Timeline {
    /// `request` as it went out, with the fields of the handshake.
    pub fn into_metrics(self, epoch: Epoch, request: &UrlRequest, now: Instant) -> TaskMetrics {
        let date = |instant: Option<Instant>| instant.map(|instant| epoch.date(instant));
        let mut metrics = TaskMetrics::new(epoch.date);
        metrics.task_interval.1 = now.saturating_duration_since(epoch.instant);
        if self.fetch_start.is_none() {
            return metrics;
        }
        let mut sent = request.clone();
        for (name, value) in &self.request_fields {
            sent.set_value(value, name);
        }
        let mut transaction = TransactionMetrics::new(sent);
        transaction.response = self.response;
        transaction.fetch_start_date = date(self.fetch_start);
        transaction.domain_lookup_start_date = date(self.lookup_start);
        transaction.domain_lookup_end_date = date(self.lookup_end);
        transaction.connect_start_date = date(self.connect_start);
        transaction.secure_connection_start_date = date(self.secure_start);
        transaction.secure_connection_end_date = date(self.secure_end);
        transaction.connect_end_date = date(self.connect_end);
        transaction.request_start_date = date(self.request_start);
        transaction.request_end_date = date(self.request_end);
        transaction.response_start_date = date(self.response_start);
        transaction.response_end_date = date(self.response_end);
        transaction.network_protocol_name = self.response_start.map(|_| "http/1.1".to_owned());
        transaction.count_of_request_header_bytes_sent = self.request_bytes as i64;
        transaction.count_of_response_header_bytes_received = self.response_bytes as i64;
        transaction.local_address = self.local_address;
        transaction.remote_address = self.remote_address;
        transaction.negotiated_tls_protocol_version = self.tls_version;
        transaction.negotiated_tls_cipher_suite = self.cipher_suite;
        metrics.transaction_metrics.push(transaction);
        metrics
    }
}
