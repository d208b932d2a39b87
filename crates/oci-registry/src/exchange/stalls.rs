//! Count of consecutive idle timeouts. An operation fails after the second consecutive timeout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use super::error::{Error, IdleSnafu, StalledSnafu};
use crate::redact::RedactedUrl;

/// Number of consecutive idle timeouts, without a byte between them, after which an operation fails.
const MAX_CONSECUTIVE: u32 = 2;

/// Consecutive idle timeouts of one operation. All requests of an operation, such as an upload, share the count, so
/// that the timeouts of several layers do not multiply.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<StallCount>>);

#[derive(Debug, Default)]
struct StallCount {
    timeouts: u32,
    waited: Duration,
}

impl Stalls {
    fn lock(&self) -> MutexGuard<'_, StallCount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an idle timeout of any length and returns the error for it.
    pub(super) fn record_timeout(
        &self,
        method: Method,
        url: RedactedUrl,
        after: Duration,
    ) -> Error {
        let waited = {
            let mut count = self.lock();
            count.timeouts += 1;
            count.waited += after;
            count.waited
        };
        if self.has_reached_limit() {
            StalledSnafu {
                method,
                url,
                waited,
            }
            .build()
        } else {
            IdleSnafu { method, url, after }.build()
        }
    }

    /// Resets the count, because bytes were transferred or the request failed for another reason.
    pub(crate) fn reset(&self) {
        *self.lock() = StallCount::default();
    }

    /// Whether the operation has reached the limit.
    pub(crate) fn has_reached_limit(&self) -> bool {
        self.lock().timeouts >= MAX_CONSECUTIVE
    }
}
