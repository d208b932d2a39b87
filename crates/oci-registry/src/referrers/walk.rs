//! What is about a manifest in a place that keeps no lists of it: a layout, an archive.
//!
//! Referrers are found on a walk through all that the place lists. What others made is read as well, whether they list
//! referrers there themselves or under a fallback tag.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt;
use snafu::{Snafu, ensure};

use super::{DescriptorStream, entry_if};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Result};
use crate::manifest::{Descriptor, Manifest, MediaType};

/// More manifests than any such place has.
const MAX_MANIFESTS: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "gave up on the referrers of {subject} in `{place}`: it has more than {MAX_MANIFESTS} manifests"
    ))]
    TooMany { subject: Digest, place: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// A place that knows where everything in it begins.
pub(crate) trait Listed: Send + Sync + 'static {
    /// The manifests that lead to all others.
    fn roots(&self) -> impl Future<Output = Result<Vec<Descriptor>>> + Send;

    /// Reads a manifest that may be missing, although it is listed.
    fn read(&self, listed: &Descriptor) -> impl Future<Output = Result<Option<Manifest>>> + Send;

    /// How a person would write the place.
    fn name(&self) -> String;
}

/// A walk through the manifests of a place.
struct Walk<P> {
    place: P,
    subject: Digest,
    artifact_type: Option<MediaType>,
    /// What is still to be read; `None` before the place was asked what it lists.
    next: Option<VecDeque<Descriptor>>,
    seen: HashSet<Digest>,
}

/// Streams the entries of what is about `subject`.
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
    /// Goes on to the next manifest about the subject.
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
