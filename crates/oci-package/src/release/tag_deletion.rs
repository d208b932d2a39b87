//! Deletion of a tag, together with its target tags.
//!
//! The tag of a package is deleted after its target tags and after the floating tags of its version. The same deletion
//! therefore completes an interrupted one. A tag of another artifact is deleted alone, without a list of the
//! repository's tags.

use std::collections::BTreeSet;
use std::fmt;

use futures_util::TryStreamExt as _;
use oci_registry::{Delete, Digest, ErrorKind, Failure, Identifier, Optional as _, Source, Tag};
use semver::Version;
use snafu::{Snafu, ensure};

use super::existing_tags::{TaggedDigest, find_other_version_tags, listed_targets, resolve_tags};
use super::{DeletedSet, MAX_CONCURRENT_READS, floating, pause};
use crate::concurrent;
use crate::index::PackageIndex;
use crate::tag::{self, ReleaseTag};
use crate::target::PackageTarget;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to delete {}: the registry confirmed the deletion but still serves the tags",
        quote(tags)
    ))]
    StillServed { tags: Vec<Tag> },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }
}

/// Tags that are deleted with one tag.
#[derive(Clone, Debug, Default)]
pub struct TagDeletion {
    /// The named tag; `None` if only its target tags exist.
    own: Option<TaggedDigest>,
    /// Tags of the targets.
    targets: Vec<TaggedDigest>,
    /// Floating tags that refer to the version.
    floating: Vec<TaggedDigest>,
    /// Other tags of the version. The floating tags are kept while one of them exists.
    other_version_tags: Vec<TaggedDigest>,
    /// The release whose targets are deleted; `None` if the named tag is deleted alone.
    release: Option<ReleaseTag>,
    /// Tags of the form of a target tag that are kept, because their manifests are not packages.
    foreign: BTreeSet<Tag>,
    notes: Vec<DeletionNote>,
}

/// Information about a deletion that is not an error. `Display` writes one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeletionNote {
    /// Manifests of the deleted tags are kept.
    ManifestsKept,
    /// These target tags are kept, as requested.
    TargetsKept(Vec<Tag>),
    /// These tags were set during the deletion, and are kept.
    SetMeanwhile(Vec<Tag>),
    /// The tags could not be listed, so targets that are not in the index are not found.
    TagListFailed {
        /// The error.
        reason: String,
    },
}

impl fmt::Display for DeletionNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManifestsKept => f.write_str("the manifests stay reachable by digest"),
            Self::TargetsKept(tags) => {
                write!(f, "kept target tags: {}", quote(tags))
            }
            Self::SetMeanwhile(tags) => {
                write!(
                    f,
                    "kept tags that were set during the deletion: {}",
                    quote(tags)
                )
            }
            Self::TagListFailed { reason } => write!(
                f,
                "failed to list tags, so only the targets in the index are deleted: {reason}"
            ),
        }
    }
}

fn quote(tags: &[Tag]) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| format!("`{tag}`")).collect();
    tags.join(", ")
}

/// Finds the tags to delete with `named`. Sends read requests only.
///
/// The tag of a package is deleted with its target tags, unless `keep_targets` is set: the tags `NAMED__TRIPLE` of the
/// entries of the index, and the tags `NAMED__*` that the source lists. If the tag does not exist or its manifest cannot
/// be read, only those listed tags are deleted that refer to a package for one target. If it is the last tag of a
/// version, the floating tags that refer to the version are deleted, too. Tags that do not exist are omitted.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if neither the tag nor a target tag of it exists. Otherwise the error of the source.
pub async fn plan_tag_deletion(
    from: &dyn Source,
    named: &Tag,
    keep_targets: bool,
) -> crate::Result<TagDeletion> {
    let (own, manifest, missing) = match from.manifest(&named.clone().into()).await {
        Ok(manifest) => (Some(manifest.digest().clone()), Some(manifest), None),
        Err(error) if error.kind() == ErrorKind::NotFound => (None, None, Some(error)),
        // The tag of a manifest that cannot be parsed can be deleted if the source resolves the tag without the
        // content. A registry does not resolve the tag of a schema 1 manifest, so the error is returned.
        Err(error) if is_unreadable(error.kind()) => {
            let resolved = from.resolve(&named.clone().into()).await?;
            (Some(resolved.digest), None, None)
        }
        Err(error) => return Err(error),
    };
    let mut deletion = TagDeletion {
        own: own.map(|digest| TaggedDigest {
            tag: named.clone(),
            digest,
        }),
        ..TagDeletion::default()
    };
    let is_of_other_tool = manifest.as_ref().is_some_and(|manifest| {
        PackageIndex::read(manifest).is_none() && PackageTarget::read(manifest).is_none()
    });
    let release = ReleaseTag::new(named.clone()).ok();
    let Some(release) = release.filter(|_| !is_of_other_tool) else {
        return missing.map_or(Ok(deletion), Err);
    };

    let listed = match from.tags().try_collect::<BTreeSet<_>>().await {
        Ok(listed) => listed,
        Err(error) if missing.is_none() && is_refusal(error.kind()) => {
            let reason = error.in_one_line();
            deletion.notes.push(DeletionNote::TagListFailed { reason });
            BTreeSet::new()
        }
        // The error of the tag is more specific than the error of the list.
        Err(error) => {
            return Err(missing
                .filter(|_| is_refusal(error.kind()))
                .unwrap_or(error));
        }
    };
    let index = manifest.as_ref().and_then(PackageIndex::read);
    let mut targets = listed_targets(&release, &listed);
    // A target whose tag would be invalid has no tag.
    let entries = index.iter().flat_map(PackageIndex::entries);
    targets.extend(entries.filter_map(|entry| release.target(entry.target()).ok()));
    if manifest.is_none() {
        // Nothing shows that the named tag is the tag of a package, and other tools also write tags of this form.
        let packages = package_targets(from, targets.clone()).await?;
        deletion.foreign = targets.difference(&packages).cloned().collect();
        targets = packages;
    }
    let targets = resolve_tags(from, targets).await?;
    if let Some(missing) = missing.filter(|_| keep_targets || targets.is_empty()) {
        return Err(missing);
    }
    if keep_targets {
        if !targets.is_empty() {
            let kept = targets.into_iter().map(|target| target.tag).collect();
            deletion.notes.push(DeletionNote::TargetsKept(kept));
        }
        return Ok(deletion);
    }
    deletion.targets = targets;
    if let Some(version) = tag::version(named) {
        deletion.other_version_tags =
            find_other_version_tags(from, named, &version, &listed).await?;
        deletion.floating = find_floating_tags(from, &version, &listed).await?;
    }
    deletion.release = Some(release);
    Ok(deletion)
}

/// Tags of a version that are affected if its index is deleted by digest.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct IndexTags {
    /// Tags of the version and floating tags that refer to the index. The registry deletes them with the index.
    pub deleted: Vec<Tag>,
    /// Target tags of the version, which are kept.
    pub kept_targets: Vec<Tag>,
}

impl IndexTags {
    /// Returns the note about the kept target tags, if there are any.
    pub fn note(&self) -> Option<DeletionNote> {
        let kept = self.kept_targets.clone();
        (!kept.is_empty()).then_some(DeletionNote::TargetsKept(kept))
    }
}

/// Finds the tags that are affected if the index of a version is deleted by digest. Other tags that refer to the index
/// are not searched, because that requires one request for each tag.
///
/// # Errors
///
/// The error of the source. A manifest that is not the index of a package, or that cannot be read, has no such tags.
pub async fn find_index_tags(from: &dyn Source, digest: &Digest) -> crate::Result<IndexTags> {
    let manifest = match from.manifest(&digest.clone().into()).await {
        Ok(manifest) => manifest,
        Err(error) if is_unreadable(error.kind()) => return Ok(IndexTags::default()),
        Err(error) => return Err(error),
    };
    let index = PackageIndex::read(&manifest);
    let (Some(index), Some(version)) = (index, floating::version(&manifest)) else {
        return Ok(IndexTags::default());
    };
    let releases = tag::version_tags(&version)?;
    let mut candidates: BTreeSet<_> = releases
        .iter()
        .map(|release| release.index().clone())
        .collect();
    for text in floating::names(&version) {
        candidates.insert(ReleaseTag::parse(&text)?.index().clone());
    }
    let mut deleted = resolve_tags(from, candidates).await?;
    deleted.retain(|tagged| tagged.digest == *digest);
    let is_deleted = |release: &&ReleaseTag| deleted.iter().any(|one| one.tag == *release.index());
    let mut targets = BTreeSet::new();
    for release in releases.iter().filter(is_deleted) {
        let entries = index.entries();
        targets.extend(entries.filter_map(|entry| release.target(entry.target()).ok()));
    }
    let kept = resolve_tags(from, targets).await?;
    let names = |tags: Vec<TaggedDigest>| tags.into_iter().map(|tagged| tagged.tag).collect();
    Ok(IndexTags {
        deleted: names(deleted),
        kept_targets: names(kept),
    })
}

impl TagDeletion {
    /// Creates the deletion of one tag alone.
    pub fn single(tag: Tag, digest: Digest) -> Self {
        Self {
            own: Some(TaggedDigest { tag, digest }),
            ..Self::default()
        }
    }

    /// Returns the existing tags in the order of their deletion: the target tags, the floating tags of the version,
    /// and the named tag.
    pub fn tags(&self) -> impl Iterator<Item = &TaggedDigest> {
        let floating = self
            .floating
            .iter()
            .filter(|_| self.other_version_tags.is_empty());
        self.targets.iter().chain(floating).chain(&self.own)
    }

    /// Returns the notes about the plan.
    pub fn notes(&self) -> &[DeletionNote] {
        &self.notes
    }

    /// Removes the tags that are already deleted. Returns `None` if no tag is left to delete.
    #[must_use]
    pub fn without_deleted(mut self, deleted: &DeletedSet) -> Option<Self> {
        let exists = |tagged: &TaggedDigest| {
            !deleted.contains(&tagged.tag.clone().into(), Some(&tagged.digest))
        };
        self.own = self.own.filter(exists);
        for tags in [
            &mut self.targets,
            &mut self.floating,
            &mut self.other_version_tags,
        ] {
            tags.retain(exists);
        }
        self.notes.retain_mut(|note| match note {
            DeletionNote::TargetsKept(kept) => {
                kept.retain(|tag| !deleted.contains(&tag.clone().into(), None));
                !kept.is_empty()
            }
            _ => true,
        });
        let is_empty = self.tags().next().is_none();
        (!is_empty).then_some(self)
    }

    /// Deletes the tags. Each deleted tag is added to `deleted` and reported to `observer`. Returns a note if tags
    /// remain that were set since the plan was made.
    ///
    /// Target tags and floating tags are kept if they were moved since then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the registry cannot delete tags, or if it confirms a deletion and does not delete
    /// the tag. No tag is deleted if this is the error of the first tag. Otherwise the error of the source.
    pub async fn delete(
        &self,
        from: &dyn Delete,
        deleted: &mut DeletedSet,
        mut observer: impl FnMut(&TaggedDigest) + Send,
    ) -> crate::Result<Option<DeletionNote>> {
        let mut is_started = false;
        for tagged in self.tags() {
            let identifier = Identifier::Tag(tagged.tag.clone());
            // A concurrent push of a target rewrites the index, so the named tag is deleted whichever digest it has.
            if self.own.as_ref() != Some(tagged) {
                let current = from.resolve(&identifier).await.optional()?;
                if current.is_none_or(|current| current.digest != tagged.digest) {
                    continue;
                }
            }
            match from.delete_tag(&tagged.tag).await.optional() {
                Ok(Some(())) => observer(tagged),
                // Another client deleted the tag.
                Ok(None) => {}
                Err(error) if is_started => {
                    return Err(error.with_hints([
                        "run the same command again to delete the remaining tags".into(),
                    ]));
                }
                Err(error) => return Err(error),
            }
            is_started = true;
            deleted.insert(identifier);
        }
        let mut remaining = self.find_remaining(from).await?;
        if let Some(served) = remaining.iter().find(|found| self.is_planned(found)) {
            // A registry may serve a deleted tag from a cache for a short time.
            pause(&served.digest, 0, false).await;
            remaining = self.find_remaining(from).await?;
        }
        let (served, set): (Vec<_>, Vec<_>) = remaining
            .into_iter()
            .partition(|found| self.is_planned(found));
        let [served, set] = [served, set].map(|found| {
            let tags = found.into_iter().map(|found| found.tag);
            tags.collect::<Vec<_>>()
        });
        ensure!(served.is_empty(), StillServedSnafu { tags: served });
        Ok((!set.is_empty()).then_some(DeletionNote::SetMeanwhile(set)))
    }

    /// Whether the deletion includes the tag with this digest.
    fn is_planned(&self, found: &TaggedDigest) -> bool {
        self.tags().any(|planned| planned == found)
    }

    /// Returns those of the deleted tags, and of the tags of the version and of its targets, that exist.
    async fn find_remaining(&self, from: &dyn Source) -> crate::Result<Vec<TaggedDigest>> {
        let mut names: BTreeSet<_> = self.tags().map(|tagged| tagged.tag.clone()).collect();
        if let Some(release) = &self.release {
            // The deletion is complete, so an error of the list is not an error of the deletion.
            let listed = from.tags().try_collect::<BTreeSet<_>>().await;
            names.extend(listed_targets(release, &listed.unwrap_or_default()));
            names.insert(release.index().clone());
        }
        names.retain(|tag| !self.foreign.contains(tag));
        resolve_tags(from, names).await
    }
}

/// Returns those of the tags that refer to a package for one target.
async fn package_targets(from: &dyn Source, tags: BTreeSet<Tag>) -> crate::Result<BTreeSet<Tag>> {
    let reads = tags.into_iter().map(async |tag| {
        let is_package = match from.manifest(&tag.clone().into()).await {
            Ok(manifest) => PackageTarget::read(&manifest).is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound || is_unreadable(error.kind()) => {
                false
            }
            Err(error) => return Err(error),
        };
        Ok(is_package.then_some(tag))
    });
    let found = concurrent::run_all(MAX_CONCURRENT_READS, reads.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the floating tags whose index states this version. A tag that has its own target tags was pushed under this
/// name, so it is a moving tag and is omitted.
async fn find_floating_tags(
    from: &dyn Source,
    version: &Version,
    listed: &BTreeSet<Tag>,
) -> crate::Result<Vec<TaggedDigest>> {
    let mut found = Vec::new();
    for text in floating::names(version) {
        let release = ReleaseTag::parse(&text)?;
        if !listed_targets(&release, listed).is_empty() {
            continue;
        }
        let tag = release.index();
        let manifest = match from.manifest(&tag.clone().into()).await {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound || is_unreadable(error.kind()) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let is_package = PackageIndex::read(&manifest).is_some();
        if is_package && floating::version(&manifest).as_ref() == Some(version) {
            found.push(TaggedDigest {
                tag: tag.clone(),
                digest: manifest.digest().clone(),
            });
        }
    }
    Ok(found)
}

fn is_unreadable(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Mismatch | ErrorKind::Protocol | ErrorKind::Unsupported
    )
}

/// Whether a registry refuses to list tags.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unauthenticated
            | ErrorKind::Denied
            | ErrorKind::NotFound
            | ErrorKind::Protocol
            | ErrorKind::Unsupported
    )
}
