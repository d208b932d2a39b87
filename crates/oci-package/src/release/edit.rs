//! Manual edits of an index: adding manifests and removing entries.
//!
//! The index of a package is computed from its target tags, so an edit changes these tags first. Adding a manifest sets
//! its tag, with the same protection of released versions as a publication. Removing an entry deletes its tag. The
//! index is then written as in a publication. The module [`foreign_index`] edits all other indexes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use oci_registry::{
    Delete, Descriptor, Digest, ErrorKind, Failure, Hint, Identifier, Index, Manifest,
    Optional as _, Platform, Source, Tag, Target,
};
use snafu::{ResultExt, Snafu, ensure};

use super::error::LookUpSnafu;
use super::foreign_index::{self, display_name, read_manifest};
use super::publication::{OwnManifest, TagAssignment, TagDecision, TargetPublication};
use super::{PublishObserver, PublishOptions, ReleaseWriter, TagAction, floating};
use crate::annotation;
use crate::index::PackageIndex;
use crate::platform;
use crate::tag::{self, ReleaseTag};
use crate::target::PackageTarget;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find the index `{name}`"))]
    NoIndex { name: String },
    #[snafu(display("failed to find `{selector}` in the index `{name}`"))]
    NoEntry {
        name: String,
        selector: EntrySelector,
        available: Vec<String>,
    },
    #[snafu(display(
        "refusing to add {digest} to `{name}`: the index belongs to a package, and the manifest is not a package for one target"
    ))]
    NotAPackage { name: String, digest: Digest },
    #[snafu(display(
        "refusing to add both {first} and {second} to `{name}`: both are for the target `{target}`"
    ))]
    SameTarget {
        name: String,
        first: Digest,
        second: Digest,
        target: String,
    },
    #[snafu(display("failed to delete the tag `{name}`"))]
    DeleteTag {
        name: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoIndex { .. } | Self::NoEntry { .. } => ErrorKind::NotFound,
            Self::NotAPackage { .. } | Self::SameTarget { .. } => ErrorKind::InvalidInput,
            Self::DeleteTag { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoEntry { available, .. } if !available.is_empty() => {
                vec![format!("choose an existing entry: {}", available.join(", ")).into()]
            }
            Self::NotAPackage { .. } => {
                vec!["add the manifest to an index with another tag".into()]
            }
            Self::SameTarget { .. } => vec!["add only one of the manifests".into()],
            _ => Vec::new(),
        }
    }
}

/// Selector for entries of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntrySelector {
    /// The entry with this digest.
    Digest(Digest),
    /// The entries for this platform.
    Platform(Platform),
    /// The entry for this target triple.
    Target(String),
}

impl FromStr for EntrySelector {
    type Err = crate::Error;

    /// Parses a selector. A digest contains a colon, a platform contains a slash, and a target triple contains neither.
    fn from_str(text: &str) -> crate::Result<Self> {
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        if text.contains(['/', ':']) {
            return platform::parse(text).map(Self::Platform);
        }
        Ok(Self::Target(text.to_owned()))
    }
}

impl fmt::Display for EntrySelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Platform(platform) => platform.fmt(f),
            Self::Target(target) => target.escape_debug().fmt(f),
        }
    }
}

impl EntrySelector {
    fn matches(&self, entry: &Descriptor) -> bool {
        match self {
            Self::Digest(digest) => entry.digest == *digest,
            Self::Target(target) => entry.annotation(annotation::TARGET) == Some(target),
            Self::Platform(wanted) => entry.platform.as_ref().is_some_and(|platform| {
                let names = |platform: &Platform| {
                    let Platform {
                        os,
                        architecture,
                        variant,
                        ..
                    } = platform.clone();
                    (os, architecture, variant)
                };
                names(platform) == names(wanted)
            }),
        }
    }
}

/// Options of [`add`].
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// Whether the manifest of a released version is replaced if it differs, also if it has the same files.
    pub overwrite: bool,
}

/// Adds manifests to the index that `tag` refers to, or to a new index, and returns the index. The manifests must exist
/// in the target.
///
/// In the index of a package, and in a new index if all manifests are packages for one target, each manifest gets an
/// entry and a target tag. In any other index, a manifest replaces the entry for the same platform or is appended. A
/// manifest that is already in the index is not changed.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] if a released version has other files, or if the index cannot be changed.
/// [`ErrorKind::InvalidInput`] if the tag points to a manifest that is not an index, or if the index belongs to a
/// package and a manifest does not. Otherwise the error of the target.
pub async fn add(
    to: &dyn Target,
    tag: &Tag,
    added: &[Manifest],
    options: &AddOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<Manifest> {
    let name = to.describe(&tag.clone().into());
    let current = read_manifest(to, tag).await?;
    let foreign = added
        .iter()
        .find(|manifest| PackageTarget::read(manifest).is_none());
    let is_package = match &current {
        Some(current) => PackageIndex::read(current).is_some(),
        None => foreign.is_none() && ReleaseTag::new(tag.clone()).is_ok(),
    };
    if is_package {
        if let Some(foreign) = foreign {
            let digest = foreign.digest().clone();
            return Err(NotAPackageSnafu { name, digest }.build().into());
        }
        return add_targets(to, tag, added, options, observer).await;
    }
    let seed = seed(added.iter().map(Manifest::digest));
    let edited = foreign_index::put_entries(to, tag, added, &seed, observer).await?;
    edited.ok_or_else(|| NoIndexSnafu { name }.build().into())
}

/// Adds packages for one target to the index of their version, by setting their tags.
async fn add_targets(
    to: &dyn Target,
    tag: &Tag,
    added: &[Manifest],
    options: &AddOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<Manifest> {
    let release = ReleaseTag::new(tag.clone())?;
    let options = PublishOptions {
        overwrite: options.overwrite,
        ..PublishOptions::default()
    };
    let mut replaced = None;
    let mut publications: Vec<(OwnManifest, TagDecision, String, Tag)> = Vec::new();
    // All checks precede the first change, so a rejected manifest causes no partial edit.
    for manifest in added {
        let target = PackageTarget::read(manifest).map(|package| package.target);
        let target = target.unwrap_or_default();
        let same = publications
            .iter()
            .find(|(_, _, before, _)| *before == target);
        if let Some((before, ..)) = same {
            let (first, second) = (before.manifest.digest(), manifest.digest());
            ensure!(
                first == second,
                SameTargetSnafu {
                    name: to.describe(&tag.clone().into()),
                    first: first.clone(),
                    second: second.clone(),
                    target,
                }
            );
            continue;
        }
        let mut own = OwnManifest::stored(manifest.clone());
        let seed = manifest.digest().clone();
        let mut publication = TargetPublication {
            writer: ReleaseWriter::new(to, &release, &options, observer, seed),
            artifact: None,
            tag: release.target(&target)?,
            target: &target,
        };
        let mut decision = publication.decide(&mut own).await?;
        let own = decision.kept_manifest.take().unwrap_or(own);
        replaced = publication.writer.last_index.take();
        let tag = publication.tag;
        publications.push((own, decision, target, tag));
    }
    let mut writer = ReleaseWriter::new(
        to,
        &release,
        &options,
        observer,
        seed(added.iter().map(Manifest::digest)),
    );
    for (own, decision, target, tag) in &mut publications {
        if decision.action == TagAction::Keep {
            writer.set_tags.insert(tag.clone());
        } else {
            let mut assignment = TagAssignment {
                own,
                target,
                tag,
                is_already_assigned: true,
                overwritten: decision.overwritten.take(),
            };
            writer.set_tag(&mut assignment).await?;
        }
    }
    let written = writer.update_index(None).await?;
    let Some(written) = written else {
        let name = writer.full_name(tag);
        return Err(NoIndexSnafu { name }.build().into());
    };
    if let Some(replaced) = replaced.filter(|_| options.overwrite) {
        floating::move_from_replaced(to, &release, &replaced, &written, observer).await?;
    }
    Ok(written)
}

/// Returns the seed for the random delays of an edit. Concurrent edits of different entries have different seeds.
fn seed<'a>(edited: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let digests: String = edited.into_iter().map(Digest::as_str).collect();
    Digest::sha256(digests.as_bytes())
}

/// Outcome of [`remove`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RemovedEntries {
    /// Entries that were removed.
    pub entries: Vec<Descriptor>,
    /// Target tags that were deleted with the entries.
    pub tags: Vec<Tag>,
    /// The remaining index; `None` if no entries remained and the tag of the index was deleted.
    pub index: Option<Manifest>,
    /// Digest of the index whose tag was deleted; `None` if the index remains.
    pub deleted_index: Option<Digest>,
    /// Floating tags that referred to the index of the version. They were moved to the remaining index, or deleted with
    /// the index.
    pub floating_tags: Vec<Tag>,
}

/// Location of an entry in the index of a package.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryLocation {
    /// Tag of the index: the tag of the version.
    pub index: Tag,
    /// Selector for the entry.
    pub selector: EntrySelector,
    /// Existing tags of the entry's target. They are deleted with the entry.
    pub tags: Vec<Tag>,
    /// Digest of the index.
    pub index_digest: Digest,
    /// Digests of the selected entries.
    pub entries: Vec<Digest>,
    /// Digests of all other entries. If the list is empty, the index is deleted with the entry.
    pub other_entries: Vec<Digest>,
    /// Floating tags that refer to the index. They are moved to the remaining index, or deleted with the index.
    pub floating_tags: Vec<Tag>,
    /// Whether the version has another tag, such as `v1.2.3`. The floating tags are then not deleted with the index.
    pub has_other_version_tag: bool,
}

impl EntryLocation {
    /// Returns the floating tags that are moved to the remaining index.
    pub fn moved_floating_tags(&self) -> impl Iterator<Item = &Tag> {
        let is_moved = !self.other_entries.is_empty();
        self.floating_tags.iter().filter(move |_| is_moved)
    }

    /// Returns the floating tags that are deleted with the index.
    pub fn deleted_floating_tags(&self) -> impl Iterator<Item = &Tag> {
        let is_deleted = self.other_entries.is_empty() && !self.has_other_version_tag;
        self.floating_tags.iter().filter(move |_| is_deleted)
    }
}

/// Finds the index entry for a target tag, or for the digest of a manifest. Returns `None` if the index of the version
/// does not list the manifest. If the version has two tags, the index of the tag without `v` is read first.
///
/// # Errors
///
/// The error of the source. A manifest that cannot be read is not an error; in this case, the result is `None`.
pub async fn find_entry(
    source: &dyn Source,
    identifier: &Identifier,
) -> crate::Result<Option<EntryLocation>> {
    let (releases, selector) = match identifier {
        Identifier::Tag(target_tag) => match tag::split(target_tag) {
            (release, Some(target)) => (
                ReleaseTag::parse(release).map(|release| vec![release]),
                EntrySelector::Target(target.to_owned()),
            ),
            (_, None) => return Ok(None),
        },
        Identifier::Digest(digest) => {
            let manifest = source.manifest(identifier).await.ok();
            let package = manifest.as_ref().and_then(PackageTarget::read);
            match package.and_then(|package| package.version) {
                Some(version) => (
                    tag::version_tags(&version).map(Vec::from),
                    EntrySelector::Digest(digest.clone()),
                ),
                None => return Ok(None),
            }
        }
    };
    for release in releases.unwrap_or_default() {
        let index = release.index().clone();
        match find_removal(source, &index, std::slice::from_ref(&selector)).await {
            Ok(found) => {
                let floating_tags = floating::tags_at(source, &release, &found.index).await?;
                return Ok(Some(EntryLocation {
                    has_other_version_tag: !floating_tags.is_empty()
                        && floating::has_other_version_tag(source, &release).await?,
                    floating_tags,
                    index,
                    selector,
                    tags: found.tags,
                    index_digest: found.index,
                    entries: digests(&found.entries),
                    other_entries: digests(&found.remaining),
                }));
            }
            // The index does not exist, does not list the entry, or is not an index.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns the entries that [`remove`] would remove and the tags that it would delete. Sends read requests only.
///
/// # Errors
///
/// As [`remove`], except for errors that only a change can cause.
pub async fn plan_removal(
    from: &dyn Source,
    tag: &Tag,
    selectors: &[EntrySelector],
) -> crate::Result<(Vec<Descriptor>, Vec<Tag>)> {
    let found = find_removal(from, tag, selectors).await?;
    Ok((found.entries, found.tags))
}

fn digests(entries: &[Descriptor]) -> Vec<Digest> {
    entries.iter().map(|entry| entry.digest.clone()).collect()
}

/// Entries and tags that a removal deletes, and the entries that remain.
struct RemovalPlan {
    index: Digest,
    entries: Vec<Descriptor>,
    remaining: Vec<Descriptor>,
    tags: Vec<Tag>,
}

async fn find_removal(
    from: &dyn Source,
    tag: &Tag,
    selectors: &[EntrySelector],
) -> crate::Result<RemovalPlan> {
    let name = from.describe(&tag.clone().into());
    let Some(current) = read_manifest(from, tag).await? else {
        return Err(NoIndexSnafu { name }.build().into());
    };
    let index = foreign_index::expect_index(&current, &name)?;
    for selector in selectors {
        let exists = index.manifests.iter().any(|entry| selector.matches(entry));
        let available = || index.manifests.iter().map(display_name).collect();
        ensure!(
            exists,
            NoEntrySnafu {
                name,
                selector: selector.clone(),
                available: deduplicate(available()),
            }
        );
    }
    let entries = index.manifests.iter().cloned();
    let (entries, remaining): (Vec<_>, Vec<_>) =
        entries.partition(|entry| selectors.iter().any(|selector| selector.matches(entry)));
    let mut tags = Vec::new();
    if let (Some(_), Ok(release)) = (PackageIndex::read(&current), ReleaseTag::new(tag.clone())) {
        for entry in &entries {
            let Some(target) = entry.annotation(annotation::TARGET) else {
                continue;
            };
            let Ok(tag) = release.target(target) else {
                continue;
            };
            let identifier = Identifier::Tag(tag.clone());
            let resolved = from.resolve(&identifier).await.optional();
            let resolved = resolved.with_context(|_| LookUpSnafu {
                name: from.describe(&identifier),
            })?;
            if resolved.is_some() {
                tags.push(tag);
            }
        }
    }
    Ok(RemovalPlan {
        index: current.digest().clone(),
        entries,
        remaining,
        tags,
    })
}

fn deduplicate(mut available: Vec<String>) -> Vec<String> {
    available.dedup();
    available
}

/// Removes entries from the index that `tag` refers to. In the index of a package, the target tags are deleted
/// first. If a deletion fails, the index is not changed. If no entries remain, the tag of the index is deleted, too. The
/// floating tags that refer to the index of a version are moved to the remaining index, or deleted with the index.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the index or an entry does not exist. [`ErrorKind::Unsupported`] if the registry cannot
/// delete tags. Otherwise as [`add`].
pub async fn remove(
    from: &dyn Delete,
    tag: &Tag,
    selectors: &[EntrySelector],
    observer: &PublishObserver<'_>,
) -> crate::Result<RemovedEntries> {
    let target: &dyn Target = from;
    let (entries, tags) = plan_removal(target, tag, selectors).await?;
    for tag in &tags {
        delete_tag(from, tag).await?;
    }
    let digests: BTreeSet<_> = entries.iter().map(|entry| entry.digest.clone()).collect();
    let seed = seed(&digests);
    let current = read_manifest(target, tag).await?;
    let last_index = current.as_ref().map(|current| current.digest().clone());
    let is_package = current
        .as_ref()
        .is_some_and(|current| PackageIndex::read(current).is_some());
    let release = ReleaseTag::new(tag.clone()).ok().filter(|_| is_package);
    let index = if let Some(release) = &release {
        let options = PublishOptions::default();
        let mut writer = ReleaseWriter::new(target, release, &options, observer, seed);
        writer.last_index = current.map(|current| current.digest().clone());
        let removed = entries.iter();
        let removed = removed.filter_map(|entry| entry.annotation(annotation::TARGET));
        writer.removed_targets = removed.map(str::to_owned).collect();
        writer.removed_foreign_entries = digests;
        let remaining = writer.update_index(None).await?;
        if remaining.is_some() {
            remaining
        } else {
            delete_tag(from, tag).await?;
            // Another job may have set the target tag in the meantime. Then the index is written again.
            writer.pause(1, false).await;
            writer.update_index(None).await?
        }
    } else {
        let remove_selected = |index: &mut Index| {
            let before = index.manifests.len();
            index
                .manifests
                .retain(|entry| !digests.contains(&entry.digest));
            index.manifests.len() < before
        };
        let edited =
            foreign_index::edit_index(target, tag, remove_selected, &seed, observer).await?;
        if edited.is_none() {
            delete_tag(from, tag).await?;
        }
        edited
    };
    let floating_tags = match (&release, &last_index, &index) {
        (Some(release), Some(replaced), Some(index)) => {
            floating::move_from_replaced(target, release, replaced, index, observer).await?
        }
        (Some(release), Some(deleted), None) => {
            floating::delete_with_index(from, release, deleted).await?
        }
        _ => Vec::new(),
    };
    let deleted_index = last_index.filter(|_| index.is_none());
    Ok(RemovedEntries {
        entries,
        tags,
        index,
        deleted_index,
        floating_tags,
    })
}

/// Deletes a tag. A tag that does not exist is not an error.
async fn delete_tag(from: &dyn Delete, tag: &Tag) -> crate::Result<()> {
    let deleted = from.delete_tag(tag).await.optional();
    deleted.with_context(|_| DeleteTagSnafu {
        name: from.describe(&tag.clone().into()),
    })?;
    Ok(())
}
