//! The HTTP exchange that opens the WebSocket: RFC 6455 §4.1.

use super::{Env, Event, Linger, Loader, Mark, Raw, Stage, Timer};
use crate::foundation::{ErrorCode, ErrorStage, HttpUrlResponse, UrlError};
use crate::http::{BodyReader, HeadParser, Offer, OpeningHead, ResponseHead};
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
        let Some(underway) = self.timeline.underway() else { return };
        let Some((nonce, upgrade)) = underway.upgrade.take() else { return };
        underway.nonce = Some(nonce);
        self.timeline.mark(Mark::RequestStart, env.now);
        match &mut self.tls {
            Some(tls) => {
                if let Err(error) = tls.send(upgrade.head.len(), std::iter::once(upgrade.head.as_bytes())) {
                    return self.lose(env, error);
                }
            }
            None => self.raw = Some(Box::new(Raw { bytes: upgrade.head.into_bytes(), written: 0 })),
        }
        self.stage = Stage::Upgrading(Box::new(Upgrading { parser: HeadParser::default(), offer: upgrade.offer }));
    }

    /// A part of the answer's head came.
    pub(super) fn read_head(&mut self, env: &mut Env<'_>, input: &mut &[u8]) {
        let Stage::Upgrading(upgrading) = &mut self.stage else { return };
        self.timeline.mark_first(Mark::ResponseStart, env.now);
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
        if let Some(underway) = self.timeline.underway() {
            underway.response_bytes += head.bytes;
        }
        if (100..200).contains(&head.status_code) && head.status_code != 101 {
            return env
                .events
                .push(Event::Informational(head.into_response(self.settings.request.url.clone(), Vec::new())));
        }
        self.timeline.mark(Mark::ResponseEnd, env.now);
        // Whoever is told of the answer finds them.
        self.settings.store_cookies(&head);
        match upgrading.offer.check(&head) {
            Ok(accepted) => {
                let heads = &self.settings.common.heads;
                let mark = head.bytes as u64;
                let head = heads.share_made(mark, &head, |known, head| known.is_of(head), OpeningHead::new);
                self.timeline.opened(head, self.settings.epoch);
                self.opened(env, accepted);
            }
            Err(reason) => {
                let body = BodyReader::new(&head);
                let complete = body.is_complete();
                self.stage = Stage::Refused(Box::new(Refused { head, body, reason }));
                self.timers.cancel(Timer::Request);
                self.start_clock(Timer::Rest, env.now, self.settings.common.options.close_timeout);
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
                if let Some(underway) = self.timeline.underway() {
                    underway.refusal = Some(response.clone());
                }
                self.timeline.mark(Mark::ResponseEnd, env.now);
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
