//! Search for referrers in layouts and archives, which do not have the referrers API.
//!
//! The search visits all manifests that are reachable from the list of manifests. It therefore also finds referrers
//! that other tools have written to this list or under a fallback tag.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt;
use snafu::{Snafu, ensure};

use super::{DescriptorStream, matching_entry};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Result};
use crate::manifest::{Descriptor, Manifest, MediaType};

/// Maximum number of manifests in a layout or archive.
const MAX_MANIFESTS: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to list the referrers of {subject} in `{location}`: it has more than {MAX_MANIFESTS} manifests"
    ))]
    TooMany { subject: Digest, location: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// Layout or archive that is searched for referrers.
pub(crate) trait ManifestStore: Send + Sync + 'static {
    /// Returns the manifests from which all other manifests are reachable.
    fn roots(&self) -> impl Future<Output = Result<Vec<Descriptor>>> + Send;

    /// Reads a manifest. Returns `None` if the manifest is missing.
    fn read(&self, listed: &Descriptor) -> impl Future<Output = Result<Option<Manifest>>> + Send;

    /// Returns the location in the form that users write.
    fn name(&self) -> String;
}

/// Search for the referrers of a manifest in a layout or archive.
struct ReferrerSearch<P> {
    store: P,
    subject: Digest,
    artifact_type: Option<MediaType>,
    /// Queue of manifests to read; `None` before the roots are requested.
    next: Option<VecDeque<Descriptor>>,
    seen: HashSet<Digest>,
}

/// Streams the referrers of `subject`.
pub(crate) fn list(
    store: impl ManifestStore,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let search = ReferrerSearch {
        store,
        subject,
        artifact_type,
        next: None,
        seen: HashSet::new(),
    };
    futures_util::stream::try_unfold(search, |mut search| async move {
        let found = search.next_referrer().await?;
        Ok(found.map(|entry| (entry, search)))
    })
    .boxed()
}

impl<P: ManifestStore> ReferrerSearch<P> {
    /// Searches for the next referrer of the subject.
    async fn next_referrer(&mut self) -> Result<Option<Descriptor>> {
        if self.next.is_none() {
            self.next = Some(self.store.roots().await?.into());
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
                    location: self.store.name(),
                }
            );
            let Some(manifest) = self.store.read(&descriptor).await? else {
                continue;
            };
            let children = manifest.successors().into_iter().cloned();
            self.next.get_or_insert_default().extend(children);
            if let Some(entry) =
                matching_entry(&manifest, &self.subject, self.artifact_type.as_ref())
            {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
