//! What in a layout is about a manifest.
//!
//! A layout keeps no lists of referrers: they are found on a walk through all that `index.json` leads to. Layouts of
//! others are read as well, whether they list referrers there themselves or under a fallback tag.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt;
use snafu::{Snafu, ensure};

use super::{Layout, Listed};
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};
use crate::manifest::{Descriptor, MediaType};
use crate::referrers::{self, DescriptorStream};

/// More manifests than any layout has.
const MAX_MANIFESTS: usize = 100_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "gave up on the referrers of {subject} in the layout `{layout}`: it has more than {MAX_MANIFESTS} manifests"
    ))]
    TooMany { subject: Digest, layout: String },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// A walk through the manifests of a layout.
struct Walk {
    layout: Layout,
    /// What is still to be read; `None` before `index.json` was.
    next: Option<VecDeque<Descriptor>>,
    seen: HashSet<Digest>,
}

/// Streams the entries of what is about `subject`.
pub(super) fn list(
    layout: Layout,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let walk = Walk {
        layout,
        next: None,
        seen: HashSet::new(),
    };
    let state = (walk, subject, artifact_type);
    futures_util::stream::try_unfold(state, |(mut walk, subject, artifact_type)| async move {
        let found = walk.find(&subject, artifact_type.as_ref()).await?;
        Ok(found.map(|entry| (entry, (walk, subject, artifact_type))))
    })
    .boxed()
}

impl Walk {
    /// Goes on to the next manifest about `subject`.
    async fn find(
        &mut self,
        subject: &Digest,
        artifact_type: Option<&MediaType>,
    ) -> crate::Result<Option<Descriptor>> {
        if self.next.is_none() {
            let listing = self.layout.read_listing().await?;
            let entries = listing.manifests.into_iter();
            self.next = Some(entries.map(Listed::into_descriptor).collect());
        }
        while let Some(descriptor) = self.next.as_mut().and_then(VecDeque::pop_front) {
            let media_type = &descriptor.media_type;
            if !media_type.is_manifest() || !self.seen.insert(descriptor.digest.clone()) {
                continue;
            }
            ensure!(
                self.seen.len() <= MAX_MANIFESTS,
                TooManySnafu {
                    subject: subject.clone(),
                    layout: self.layout.directory.display().to_string(),
                }
            );
            // What an index lists may be missing from a layout.
            let read = self
                .layout
                .read_manifest(&descriptor.digest, Some(media_type));
            let Some(manifest) = read.await? else {
                continue;
            };
            let children = manifest.successors().into_iter().cloned();
            self.next.get_or_insert_default().extend(children);
            if let Some(entry) = referrers::entry_if(&manifest, subject, artifact_type) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}
