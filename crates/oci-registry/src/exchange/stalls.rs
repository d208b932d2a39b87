//! Count of consecutive idle timeouts. An operation fails if the server stalls again after the first timeout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use super::display::ShownUrl;
use super::error::{Error, IdleSnafu, StalledSnafu};

/// Number of consecutive idle timeouts, without a byte between them, after which an operation fails.
const MAX_IN_A_ROW: u32 = 2;

/// Consecutive idle timeouts of one operation. All requests of an operation, such as an upload, share the count, so
/// that the timeouts of several layers do not multiply.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Row>>);

#[derive(Debug, Default)]
struct Row {
    timeouts: u32,
    waited: Duration,
}

impl Stalls {
    fn row(&self) -> MutexGuard<'_, Row> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an idle timeout of any length and returns the error for it.
    pub(super) fn count(&self, method: Method, url: ShownUrl, after: Duration) -> Error {
        let waited = {
            let mut row = self.row();
            row.timeouts += 1;
            row.waited += after;
            row.waited
        };
        if self.is_over() {
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
        *self.row() = Row::default();
    }

    /// Whether the operation has reached the limit.
    pub(crate) fn is_over(&self) -> bool {
        self.row().timeouts >= MAX_IN_A_ROW
    }
}
