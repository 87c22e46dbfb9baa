//! Cookies of the session's storage: what a request carries, and what its answer sets.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::Settings;
use crate::foundation::HttpCookieStorage;
use crate::http::ResponseHead;

impl Settings {
    /// The storage, unless the request wants nothing of it.
    fn cookie_storage(&self) -> Option<&HttpCookieStorage> {
        self.common.cookie_storage.as_ref().filter(|_| self.request.http_should_handle_cookies)
    }

    /// The `Cookie` field of a request that is made now; `None` where the storage has none to send.
    pub(super) fn cookies_to_send(&self) -> Option<Arc<String>> {
        let storage = self.cookie_storage().filter(|_| self.common.sends_cookies)?;
        let field = storage.field_for(&self.request.url)?;
        let mut mark = DefaultHasher::new();
        field.hash(&mut mark);
        Some(self.common.cookies.share(mark.finish(), field))
    }

    /// Stores what a final answer sets.
    pub(super) fn store_cookies(&self, head: &ResponseHead) {
        if let Some(storage) = self.cookie_storage() {
            let document = self.request.main_document_url.as_ref();
            storage.receive(head.values("Set-Cookie"), &self.request.url, document, self.common.cookie_policy);
        }
    }
}
