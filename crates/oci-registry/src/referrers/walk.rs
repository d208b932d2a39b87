//! Search for referrers in layouts and archives, which do not have the referrers API.
//!
//! The search visits all manifests that are reachable from the listed ones. It also finds referrers of other tools,
//! whether these tools list them directly or under a fallback tag.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt;
use snafu::{Snafu, ensure};

use super::{DescriptorStream, entry_if};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Result};
use crate::manifest::{Descriptor, Manifest, MediaType};

/// Maximum number of manifests in a layout or archive.
const MAX_MANIFESTS: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to list the referrers of {subject} in `{place}`: it has more than {MAX_MANIFESTS} manifests"
    ))]
    TooMany { subject: Digest, place: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// Storage that lists the roots of its content.
pub(crate) trait Listed: Send + Sync + 'static {
    /// Returns the manifests from which all others are reachable.
    fn roots(&self) -> impl Future<Output = Result<Vec<Descriptor>>> + Send;

    /// Reads a listed manifest; `None` if it is missing.
    fn read(&self, listed: &Descriptor) -> impl Future<Output = Result<Option<Manifest>>> + Send;

    /// Returns the location in the form that users write.
    fn name(&self) -> String;
}

/// Traversal of the manifests of a layout or archive.
struct Walk<P> {
    place: P,
    subject: Digest,
    artifact_type: Option<MediaType>,
    /// Queue of manifests to read; `None` before the roots are requested.
    next: Option<VecDeque<Descriptor>>,
    seen: HashSet<Digest>,
}

/// Streams the referrers of `subject`.
pub(crate) fn list(
    place: impl Listed,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let walk = Walk {
        place,
        subject,
        artifact_type,
        next: None,
        seen: HashSet::new(),
    };
    futures_util::stream::try_unfold(walk, |mut walk| async move {
        let found = walk.find().await?;
        Ok(found.map(|entry| (entry, walk)))
    })
    .boxed()
}

impl<P: Listed> Walk<P> {
    /// Continues to the next referrer of the subject.
    async fn find(&mut self) -> Result<Option<Descriptor>> {
        if self.next.is_none() {
            self.next = Some(self.place.roots().await?.into());
        }
        while let Some(descriptor) = self.next.as_mut().and_then(VecDeque::pop_front) {
            let media_type = &descriptor.media_type;
            if !media_type.is_manifest() || !self.seen.insert(descriptor.digest.clone()) {
                continue;
            }
            ensure!(
                self.seen.len() <= MAX_MANIFESTS,
                TooManySnafu {
                    subject: self.subject.clone(),
                    place: self.place.name(),
                }
            );
            let Some(manifest) = self.place.read(&descriptor).await? else {
                continue;
            };
            let children = manifest.successors().into_iter().cloned();
            self.next.get_or_insert_default().extend(children);
            if let Some(entry) = entry_if(&manifest, &self.subject, self.artifact_type.as_ref()) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
