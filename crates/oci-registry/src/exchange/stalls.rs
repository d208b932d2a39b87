//! Idle timeouts in a row: a server that stalls again after one of them is given up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use super::display::ShownUrl;
use super::error::{Error, IdleSnafu, StalledSnafu};

/// Idle timeouts in a row, without a byte between them, after which an operation fails.
const MAX_IN_A_ROW: u32 = 2;

/// Idle timeouts in a row of one operation. The requests of an operation that sends several, such as an upload, share it,
/// so that no layer multiplies the wait of another.
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

    /// Counts an idle timeout, whatever its length, and returns the error that stands for it.
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

    /// Ends the row: something moved, or failed in another way.
    pub(crate) fn reset(&self) {
        *self.row() = Row::default();
    }

    /// Whether the operation is to be given up.
    pub(crate) fn is_over(&self) -> bool {
        self.row().timeouts >= MAX_IN_A_ROW
    }
}
