//! Count of consecutive idle timeouts. An operation fails after the second consecutive timeout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use super::error::{Error, IdleSnafu, StalledSnafu};
use crate::redact::RedactedUrl;

/// Number of consecutive idle timeouts after which an operation fails. They are consecutive if no byte was transferred
/// between them.
const MAX_CONSECUTIVE: u32 = 2;

/// Consecutive idle timeouts of one operation. All requests of an operation, such as an upload, share the count, so
/// that retries in several layers do not multiply the number of timeouts.
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

    /// Counts an idle timeout that lasted `after`, and returns its error.
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

    /// Whether the operation has reached the limit of consecutive idle timeouts.
    pub(crate) fn has_reached_limit(&self) -> bool {
        self.lock().timeouts >= MAX_CONSECUTIVE
    }
}
