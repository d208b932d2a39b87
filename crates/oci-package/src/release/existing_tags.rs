//! Tags of a release that exist in a repository.

use std::collections::BTreeSet;

use oci_registry::{Digest, Optional as _, Source, Tag};
use semver::Version;

use super::MAX_CONCURRENT_READS;
use crate::concurrent;
use crate::tag::{self, ReleaseTag};

/// Existing tag, and the digest of the manifest that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaggedDigest {
    /// The tag.
    pub tag: Tag,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// Returns the target tags of a release that are in `listed`.
pub(super) fn listed_targets(release: &ReleaseTag, listed: &BTreeSet<Tag>) -> BTreeSet<Tag> {
    let targets = listed.iter();
    let targets = targets.filter(|tag| release.parse_target(tag).is_some());
    targets.cloned().collect()
}

/// Resolves tags, and omits those that do not exist.
pub(super) async fn resolve_tags(
    from: &dyn Source,
    tags: BTreeSet<Tag>,
) -> crate::Result<Vec<TaggedDigest>> {
    let reads = tags.into_iter().map(async |tag| {
        let resolved = from.resolve(&tag.clone().into()).await.optional()?;
        Ok(resolved.map(|resolved| TaggedDigest {
            tag,
            digest: resolved.digest,
        }))
    });
    let found = concurrent::run_all(MAX_CONCURRENT_READS, reads.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the other tags of a version and of its targets: those with a `v` before the version, or those without it.
pub(super) async fn find_other_version_tags(
    from: &dyn Source,
    named: &Tag,
    version: &Version,
    listed: &BTreeSet<Tag>,
) -> crate::Result<Vec<TaggedDigest>> {
    let mut candidates = BTreeSet::new();
    for other in tag::version_tags(version)? {
        if other.index() != named {
            candidates.extend(listed_targets(&other, listed));
            candidates.insert(other.index().clone());
        }
    }
    resolve_tags(from, candidates).await
}
