//! Blob whose content is read from the source of a copy.
//!
//! The target reads this content, so an error of the source is returned as an error of the target. This module detects
//! such an error and attributes it to the source.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt};
use snafu::Snafu;

use crate::blob::{BlobStream, Content};
use crate::manifest::Descriptor;
use crate::storage::Source;

/// Content that is fetched from the source each time it is opened.
#[derive(Debug)]
pub(super) struct SourceBlob {
    source: Arc<dyn Source>,
    descriptor: Descriptor,
    /// Last error of the source since the content was opened.
    failure: Arc<Mutex<Option<crate::Error>>>,
}

impl SourceBlob {
    pub(super) fn new(source: &Arc<dyn Source>, descriptor: &Descriptor) -> Self {
        Self {
            source: Arc::clone(source),
            descriptor: descriptor.clone(),
            failure: Arc::default(),
        }
    }

    /// Returns the error of the source if it caused this error of the target.
    pub(super) fn take_source_error(&self, error: &crate::Error) -> Option<crate::Error> {
        lock(&self.failure)
            .take()
            .filter(|_| SourceError::is_cause_of(error))
    }
}

impl Content for SourceBlob {
    fn open(&self) -> BoxFuture<'_, crate::Result<BlobStream>> {
        async move {
            let failure = Arc::clone(&self.failure);
            lock(&failure).take();
            let relay = move |error| {
                let relayed = SourceError::from_error(&error);
                *lock(&failure) = Some(error);
                relayed
            };
            match self.source.blob(&self.descriptor).await {
                Ok(stream) => Ok(stream.map_read_errors(relay)),
                Err(error) => Err(relay(error)),
            }
        }
        .boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replacement for an error of the source, with the same kind and message. Its cause is a [`SourceMarker`]. The target
/// returns the replacement to the caller.
#[derive(Debug, Snafu)]
#[snafu(display("{message}"))]
struct SourceError {
    message: String,
    source: SourceMarker,
}

/// Marker in the cause chain of an error of the source.
#[derive(Debug, Snafu)]
#[snafu(display("an error of the source of the copy"))]
struct SourceMarker;

impl SourceError {
    fn from_error(error: &crate::Error) -> crate::Error {
        let message = error.to_string();
        let relayed = Self {
            message,
            source: SourceMarker,
        };
        crate::Error::new(error.kind(), relayed)
    }

    fn is_cause_of(error: &crate::Error) -> bool {
        let first: &(dyn std::error::Error + 'static) = error;
        let mut chain = std::iter::successors(Some(first), |error| error.source());
        chain.any(<dyn std::error::Error>::is::<SourceMarker>)
    }
}
