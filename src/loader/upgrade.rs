//! The HTTP exchange that opens the WebSocket: RFC 6455 §4.1.

use super::{Env, Event, Linger, Loader, Raw, Stage, Timer};
use crate::foundation::{ErrorCode, ErrorStage, HttpUrlResponse, UrlError};
use crate::http::{self, BodyReader, HeadParser, Offer, ResponseHead};
use crate::loader::end::Cause;

/// The request is on its way, or the answer is.
pub struct Upgrading {
    parser: HeadParser,
    offer: Offer,
}

/// The server refused; what it has to say about that is read.
pub struct Refused {
    head: ResponseHead,
    pub(super) body: BodyReader,
    reason: String,
}

impl Loader {
    /// The connection stands, and the server may be told what is wanted.
    pub(super) fn begin_upgrade(&mut self, env: &mut Env<'_>) {
        let nonce = env.supply.random.bytes::<16>();
        let upgrade = match http::upgrade(&self.settings.request, &self.settings.additional_headers, nonce) {
            Ok(upgrade) => upgrade,
            Err(error) => return self.lose(env, error),
        };
        self.timeline.request_start = Some(env.now);
        self.timeline.request_bytes = upgrade.head.len();
        self.timeline.request_fields = upgrade.fields;
        match &mut self.tls {
            Some(tls) => {
                if let Err(error) = tls.send(upgrade.head.len(), std::iter::once(upgrade.head.as_slice())) {
                    return self.lose(env, error);
                }
            }
            None => self.raw = Raw { bytes: upgrade.head, written: 0 },
        }
        self.stage = Stage::Upgrading(Box::new(Upgrading { parser: HeadParser::default(), offer: upgrade.offer }));
    }

    /// A part of the answer's head came.
    pub(super) fn read_head(&mut self, env: &mut Env<'_>, input: &mut &[u8]) {
        let Stage::Upgrading(upgrading) = &mut self.stage else { return };
        self.timeline.response_start.get_or_insert(env.now);
        match upgrading.parser.parse(input) {
            Ok(None) => {}
            Ok(Some(head)) => self.decide(env, head),
            Err(error) => {
                let reason = format!("the server's answer cannot be read: {error}");
                self.lose(env, UrlError::new(ErrorCode::CannotParseResponse, ErrorStage::Upgrade, reason));
            }
        }
    }

    /// A head is whole: what becomes of the task.
    fn decide(&mut self, env: &mut Env<'_>, head: ResponseHead) {
        let Stage::Upgrading(upgrading) = &mut self.stage else { return };
        self.timeline.response_bytes += head.bytes;
        let url = &self.settings.request.url;
        if (100..200).contains(&head.status_code) && head.status_code != 101 {
            return env.events.push(Event::Informational(head.into_response(url.clone(), Vec::new())));
        }
        self.timeline.response_end = Some(env.now);
        match upgrading.offer.check(&head) {
            Ok(accepted) => {
                let response = head.into_response(url.clone(), Vec::new());
                self.opened(env, response, accepted.protocol);
            }
            Err(reason) => {
                let body = BodyReader::new(&head);
                let complete = body.is_complete();
                self.stage = Stage::Refused(Box::new(Refused { head, body, reason }));
                self.timers.cancel(Timer::Request);
                self.start_clock(Timer::Rest, env.now, self.settings.options.close_timeout);
                if complete {
                    self.refuse(env);
                }
            }
        }
    }

    /// The refusal is read as far as it is kept; the task ends with it.
    pub(super) fn refuse(&mut self, env: &mut Env<'_>) {
        let response = match std::mem::replace(&mut self.stage, Stage::Closed) {
            Stage::Refused(refused) => {
                let Refused { head, body, reason } = *refused;
                let response = head.into_response(self.settings.request.url.clone(), body.into_body());
                self.timeline.response = Some(response.clone());
                self.timeline.response_end = Some(env.now);
                Some((response, reason))
            }
            other => {
                self.stage = other;
                None
            }
        };
        let Some((response, reason)) = response else { return };
        let error = refusal(response, reason);
        let cause = self.cancelled_with().unwrap_or(Cause::Failed(error));
        self.end(env, cause, Linger::No);
    }
}

/// Why a server's answer did not open the WebSocket.
fn refusal(response: HttpUrlResponse, reason: String) -> UrlError {
    UrlError::new(ErrorCode::BadServerResponse, ErrorStage::Upgrade, reason).with_response(response)
}
