//! Floating tags `MAJOR.MINOR`, `MAJOR` and `latest`, which point to the highest release.
//!
//! A floating tag is never moved to a lower version. Callers update floating tags only for an index that is complete.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use oci_registry::{
    Delete, Digest, ErrorKind, Failure, Manifest, Optional as _, Source, Tag, Target,
};
use semver::Version;
use snafu::{IntoError, ResultExt, Snafu, ensure};

use super::existing_tags::{find_other_version_tags, listed_targets};
use super::{PublishEvent, PublishObserver};
use crate::annotation;
use crate::index::PackageIndex;
use crate::tag::{self, ReleaseTag};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("invalid tag `{text}`"))]
    ParseTag {
        text: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to look up `{name}`"))]
    LookUp {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("refusing to move `{name}`: it does not point to the index of a package"))]
    NotAPackage { name: String },
    #[snafu(display("failed to move the tag `{name}`"))]
    Move {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to delete the tag `{name}`"))]
    Delete {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to find the target tags of `{name}`"))]
    ListTargets {
        name: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ParseTag { source, .. }
            | Self::LookUp { source, .. }
            | Self::Move { source, .. }
            | Self::Delete { source, .. }
            | Self::ListTargets { source, .. } => source.kind(),
            Self::NotAPackage { .. } => ErrorKind::Conflict,
        }
    }
}

/// Outcome of updating a floating tag.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatingTagUpdate {
    /// The tag was created.
    Created(Tag),
    /// The tag pointed to another index and was moved.
    Moved(Tag),
    /// The tag already pointed to the index.
    Current(Tag),
    /// The tag points to a higher version and was not moved.
    Skipped(Tag, Version),
}

/// Sets the floating tags of a version, `MAJOR.MINOR`, `MAJOR` and `latest`, to its index.
///
/// A tag that points to a higher version is not moved. No tag is moved if the version is a pre-release or if the index
/// does not state its version.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] if one of the tags does not point to the index of a package; no tag is moved in this case.
/// Otherwise the error of the target.
pub async fn update_floating_tags(
    to: &dyn Target,
    index: &Manifest,
    observer: &PublishObserver<'_>,
) -> crate::Result<Vec<FloatingTagUpdate>> {
    let updates = plan_floating_tags(to, index).await?;
    for update in &updates {
        if let FloatingTagUpdate::Created(tag) | FloatingTagUpdate::Moved(tag) = update {
            // The request is not retried, because another job may move the tag to a higher version between two
            // attempts.
            if let Err(error) = to.tag_once(index, tag).await {
                let now = plan_update(to, index, tag.clone()).await;
                if !matches!(
                    now,
                    Ok(FloatingTagUpdate::Current(_) | FloatingTagUpdate::Skipped(..))
                ) {
                    let name = to.describe(&tag.clone().into());
                    return Err(MoveSnafu { name }.into_error(error).into());
                }
            }
            observer(PublishEvent::Index(tag, index));
        }
    }
    Ok(updates)
}

/// Returns the outcome that [`update_floating_tags`] would have. Sends read requests only. The index need not be stored.
///
/// # Errors
///
/// As [`update_floating_tags`], except for errors that only a write can cause.
pub async fn plan_floating_tags(
    from: &dyn Source,
    index: &Manifest,
) -> crate::Result<Vec<FloatingTagUpdate>> {
    let Some(version) = version(index).filter(|version| version.pre.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut updates = Vec::new();
    for text in names(&version) {
        let tag: Tag = text.parse().with_context(|_| ParseTagSnafu { text })?;
        updates.push(plan_update(from, index, tag).await?);
    }
    Ok(updates)
}

/// Returns the outcome that updating one tag would have.
async fn plan_update(
    to: &dyn Source,
    index: &Manifest,
    tag: Tag,
) -> crate::Result<FloatingTagUpdate> {
    let identifier = tag.clone().into();
    let name = || to.describe(&identifier);
    let current = to.manifest(&identifier).await.optional();
    let Some(current) = current.with_context(|_| LookUpSnafu { name: name() })? else {
        return Ok(FloatingTagUpdate::Created(tag));
    };
    ensure!(
        PackageIndex::read(&current).is_some(),
        NotAPackageSnafu { name: name() }
    );
    let version = self::version(index);
    let higher = self::version(&current).filter(|current| Some(current) > version.as_ref());
    Ok(match higher {
        _ if current == *index => FloatingTagUpdate::Current(tag),
        Some(higher) => FloatingTagUpdate::Skipped(tag, higher),
        None => FloatingTagUpdate::Moved(tag),
    })
}

/// Returns the floating tags of a release that refer to the index with this digest. A tag with target tags of its own was
/// pushed under this name, so it is a moving tag and is omitted.
pub(super) async fn tags_at(
    from: &dyn Source,
    release: &ReleaseTag,
    index: &Digest,
) -> crate::Result<Vec<Tag>> {
    let Some(version) = release.version().filter(|version| version.pre.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for text in names(&version) {
        let floating = ReleaseTag::parse(&text)?;
        let identifier = floating.index().clone().into();
        let resolved = from.resolve(&identifier).await.optional();
        let resolved = resolved.with_context(|_| LookUpSnafu {
            name: from.describe(&identifier),
        })?;
        if resolved.is_some_and(|resolved| resolved.digest == *index) {
            found.push(floating);
        }
    }
    let Some(first) = found.first() else {
        return Ok(Vec::new());
    };
    let listed = list_tags(from, first).await?;
    found.retain(|floating| listed_targets(floating, &listed).is_empty());
    Ok(found
        .into_iter()
        .map(|floating| floating.index().clone())
        .collect())
}

/// Moves the floating tags that refer to the replaced index of a release to the new index, and returns them.
///
/// A floating tag refers to the index by digest. If it stayed, it would still offer the files that were removed from the
/// release.
pub(super) async fn move_from_replaced(
    to: &dyn Target,
    release: &ReleaseTag,
    replaced: &Digest,
    index: &Manifest,
    observer: &PublishObserver<'_>,
) -> crate::Result<Vec<Tag>> {
    if replaced == index.digest() {
        return Ok(Vec::new());
    }
    let tags = tags_at(to, release, replaced).await?;
    for tag in &tags {
        let moved = to.tag_once(index, tag).await;
        moved.with_context(|_| MoveSnafu {
            name: to.describe(&tag.clone().into()),
        })?;
        observer(PublishEvent::FloatingTag(tag, index));
    }
    Ok(tags)
}

/// Deletes the floating tags that refer to the deleted index of a release, and returns them. They are kept if the version
/// has another tag, such as `v1.2.3`.
pub(super) async fn delete_with_index(
    from: &dyn Delete,
    release: &ReleaseTag,
    index: &Digest,
) -> crate::Result<Vec<Tag>> {
    let tags = tags_at(from, release, index).await?;
    if tags.is_empty() || has_other_version_tag(from, release).await? {
        return Ok(Vec::new());
    }
    for tag in &tags {
        let deleted = from.delete_tag(tag).await.optional();
        deleted.with_context(|_| DeleteSnafu {
            name: from.describe(&tag.clone().into()),
        })?;
    }
    Ok(tags)
}

/// Lists the tags of a repository to find the target tags of a release.
async fn list_tags(from: &dyn Source, release: &ReleaseTag) -> crate::Result<BTreeSet<Tag>> {
    let listed = from.tags().try_collect().await;
    Ok(listed.with_context(|_| ListTargetsSnafu {
        name: from.describe(&release.index().clone().into()),
    })?)
}

/// Whether the version of a release, or one of its targets, has another tag: with a `v` before the version, or without
/// it.
pub(super) async fn has_other_version_tag(
    from: &dyn Source,
    release: &ReleaseTag,
) -> crate::Result<bool> {
    let Some(version) = release.version() else {
        return Ok(false);
    };
    let listed = list_tags(from, release).await?;
    let others = find_other_version_tags(from, release.index(), &version, &listed).await?;
    Ok(!others.is_empty())
}

/// Returns the targets of a version and of the highest earlier release, except `target`. The targets are read from the
/// target tags and from the indexes.
///
/// If there are none, floating tags may follow an index without declared targets.
///
/// # Errors
///
/// The error of the source. A repository that does not exist has no targets.
pub async fn other_release_targets(
    source: &dyn Source,
    release: &ReleaseTag,
    target: &str,
) -> crate::Result<BTreeSet<String>> {
    let tags: Option<Vec<Tag>> = source.tags().try_collect().await.optional()?;
    let tags = tags.unwrap_or_default();
    let own = release.version();
    let earlier = tags
        .iter()
        .filter(|tag| tag::version(tag).is_some_and(|version| Some(version) < own));
    let earlier = tag::highest(earlier).map(|(tag, _)| ReleaseTag::new(tag.clone()));
    let releases = [Some(release.clone()), earlier.transpose()?];
    let mut others = BTreeSet::new();
    for release in releases.into_iter().flatten() {
        others.extend(
            tags.iter()
                .filter_map(|tag| release.parse_target(tag))
                .map(str::to_owned),
        );
        let identifier = release.index().clone().into();
        let index = source.manifest(&identifier).await.optional();
        let index = index.with_context(|_| LookUpSnafu {
            name: source.describe(&identifier),
        })?;
        let index = index.as_ref().and_then(PackageIndex::read);
        let index = index.unwrap_or_default();
        others.extend(index.entries().map(|entry| entry.target().to_owned()));
    }
    others.remove(target);
    Ok(others)
}

/// Returns the names of the floating tags of a version.
pub(super) fn names(version: &Version) -> [String; 3] {
    [
        format!("{}.{}", version.major, version.minor),
        version.major.to_string(),
        "latest".to_owned(),
    ]
}

/// Returns the version that an index states in its annotation.
pub(super) fn version(index: &Manifest) -> Option<Version> {
    Version::parse(index.annotations().get(annotation::VERSION)?).ok()
}
