//! An index edited by hand: manifests are added to it, and entries taken out.
//!
//! The index of a package follows from the tags of its targets, so an edit of it begins with them: what is added gets
//! its tag first, under the same rule that what was released stays, and what is taken out loses its tag first. Then the
//! index is written as a publication writes it. How an index of anybody else is changed is [`foreign_index`]'s to know.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use oci_registry::{
    Delete, Descriptor, Digest, ErrorKind, Failure, Hint, Identifier, Index, Manifest,
    Optional as _, Platform, Source, Tag, Target,
};
use snafu::{ResultExt, Snafu, ensure};

use super::error::LookUpSnafu;
use super::foreign_index::{self, display_name, read};
use super::publication::{OwnManifest, TagClaim, TargetPublication};
use super::{PublishObserver, PublishOptions, ReleaseWriter, TagAction};
use crate::annotation;
use crate::index::PackageIndex;
use crate::platform;
use crate::tag::ReleaseTag;
use crate::target::PackageTarget;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to find the index `{name}`"))]
    NoIndex { name: String },
    #[snafu(display("failed to find `{selector}` in the index `{name}`"))]
    NoMember {
        name: String,
        selector: EntrySelector,
        offered: Vec<String>,
    },
    #[snafu(display(
        "refused to add {digest} to `{name}`: it is not a package for one target, and the index is one of a package"
    ))]
    Foreign { name: String, digest: Digest },
    #[snafu(display(
        "refused to add both {first} and {second} to `{name}`: they are for the same target, `{target}`"
    ))]
    SameTarget {
        name: String,
        first: Digest,
        second: Digest,
        target: String,
    },
    #[snafu(display("failed to take the tag `{name}` away"))]
    DeleteTag {
        name: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoIndex { .. } | Self::NoMember { .. } => ErrorKind::NotFound,
            Self::Foreign { .. } | Self::SameTarget { .. } => ErrorKind::InvalidInput,
            Self::DeleteTag { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoMember { offered, .. } if !offered.is_empty() => {
                vec![format!("available: {}", offered.join(", ")).into()]
            }
            Self::Foreign { .. } => vec!["add it to another index".into()],
            Self::SameTarget { .. } => vec!["add one of the two only".into()],
            _ => Vec::new(),
        }
    }
}

/// Which entry of an index is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntrySelector {
    /// The one of this digest.
    Digest(Digest),
    /// Those for this platform.
    Platform(Platform),
    /// The one for this target triple.
    Target(String),
}

impl FromStr for EntrySelector {
    type Err = crate::Error;

    /// A digest has a colon, a platform a slash, and a target triple neither.
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

/// How to add to an index.
#[derive(Clone, Debug, Default)]
pub struct AddOptions {
    /// Whether a released version may get other files.
    pub overwrite: bool,
}

/// Adds manifests, which must be there, to the index under a tag, and returns the index.
///
/// The index of a package gets an entry for the target of each, and the tag of that target; so does a new index when all
/// of them are packages for one target. In any other index, each takes the place of what is there for the very same
/// platform, else comes last; one that is listed already stays as it is.
///
/// # Errors
///
/// [`ErrorKind::Conflict`] when a version was released with other files, or the index cannot be changed;
/// [`ErrorKind::InvalidInput`] when the tag names something else than an index, or a package's index would get what is
/// none. Otherwise what the target fails with.
pub async fn add(
    to: &dyn Target,
    tag: &Tag,
    added: &[Manifest],
    options: &AddOptions,
    observer: &PublishObserver<'_>,
) -> crate::Result<Manifest> {
    let name = to.describe(&tag.clone().into());
    let held = read(to, tag).await?;
    let foreign = added
        .iter()
        .find(|manifest| PackageTarget::read(manifest).is_none());
    let is_package = match &held {
        Some(held) => PackageIndex::read(held).is_some(),
        None => foreign.is_none() && ReleaseTag::new(tag.clone()).is_ok(),
    };
    if is_package {
        if let Some(foreign) = foreign {
            let digest = foreign.digest().clone();
            return Err(ForeignSnafu { name, digest }.build().into());
        }
        return add_targets(to, tag, added, options, observer).await;
    }
    let seed = seed(added.iter().map(Manifest::digest));
    let edited = foreign_index::put(to, tag, added, &seed, observer).await?;
    edited.ok_or_else(|| NoIndexSnafu { name }.build().into())
}

/// Adds packages for one target to the index of their version, by their tags.
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
    let mut publications: Vec<(OwnManifest, TagAction, String, Tag)> = Vec::new();
    // All refusals before the first tag.
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
        let mut own = OwnManifest {
            manifest: manifest.clone(),
            is_stored: true,
        };
        let seed = manifest.digest().clone();
        let mut publication = TargetPublication {
            writer: ReleaseWriter::new(to, &release, &options, observer, seed),
            artifact: None,
            tag: release.target(&target)?,
            target: &target,
        };
        let decision = publication.decide(&mut own).await?;
        let tag = publication.tag;
        publications.push((own, decision.action, target, tag));
    }
    let mut writer = ReleaseWriter::new(
        to,
        &release,
        &options,
        observer,
        seed(added.iter().map(Manifest::digest)),
    );
    for (own, action, target, tag) in &mut publications {
        if *action == TagAction::Keep {
            writer.set_tags.insert(tag.clone());
        } else {
            let mut claim = TagClaim {
                own,
                target,
                tag,
                is_set: true,
            };
            writer.set_tag(&mut claim).await?;
        }
    }
    let written = writer.converge(None).await?;
    let name = || writer.name(tag);
    written.ok_or_else(|| NoIndexSnafu { name: name() }.build().into())
}

/// What tells the waits of one who edits these entries from those of others.
fn seed<'a>(edited: impl IntoIterator<Item = &'a Digest>) -> Digest {
    let digests: String = edited.into_iter().map(Digest::as_str).collect();
    Digest::sha256(digests.as_bytes())
}

/// What was taken out of an index.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RemovedEntries {
    /// The entries that left.
    pub entries: Vec<Descriptor>,
    /// The tags of targets that went with them.
    pub tags: Vec<Tag>,
    /// The index; none when nothing was left of it, and its tag went too.
    pub index: Option<Manifest>,
    /// The digest of the index whose tag went, where it did.
    pub deleted_index: Option<Digest>,
}

/// The entry of a package's index that something is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryLocation {
    /// The tag of the index, which is the version's.
    pub index: Tag,
    /// The entry in it.
    pub selector: EntrySelector,
    /// The tags that go with it.
    pub tags: Vec<Tag>,
    /// The digest of the index.
    pub index_digest: Digest,
    /// The digests of what the index lists for this entry.
    pub entries: Vec<Digest>,
    /// The digests of what it lists besides: with the last of them, the index goes too.
    pub others: Vec<Digest>,
}

/// Finds the entry that the tag of a target stands for, or that the manifest of this digest is; nothing where it is no
/// entry of any index of its version.
///
/// # Errors
///
/// What the source fails with; a manifest that cannot be read is no entry.
pub async fn find_entry(
    place: &dyn Source,
    named: &Identifier,
) -> crate::Result<Option<EntryLocation>> {
    let (release, selector) = match named {
        Identifier::Tag(tag) => match crate::tag::split(tag) {
            (release, Some(target)) => (
                ReleaseTag::parse(release),
                EntrySelector::Target(target.to_owned()),
            ),
            (_, None) => return Ok(None),
        },
        Identifier::Digest(digest) => {
            let manifest = place.manifest(named).await.ok();
            let package = manifest.as_ref().and_then(PackageTarget::read);
            match package.and_then(|package| package.version) {
                Some(version) => (
                    ReleaseTag::from_version(&version),
                    EntrySelector::Digest(digest.clone()),
                ),
                None => return Ok(None),
            }
        }
    };
    let Ok(release) = release else {
        return Ok(None);
    };
    let index = release.index().clone();
    match find_removal(place, &index, std::slice::from_ref(&selector)).await {
        Ok(found) => Ok(Some(EntryLocation {
            index,
            selector,
            tags: found.tags,
            index_digest: found.index,
            entries: digests(&found.entries),
            others: digests(&found.others),
        })),
        // There is no such index, or it does not list it, or is none.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Finds out what [`remove`] would take out, reading only: the entries, and the tags that go with them.
///
/// # Errors
///
/// As [`remove`], for everything that can be known beforehand.
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

/// What would leave an index, and what would stay.
struct Removal {
    index: Digest,
    entries: Vec<Descriptor>,
    others: Vec<Descriptor>,
    tags: Vec<Tag>,
}

async fn find_removal(
    from: &dyn Source,
    tag: &Tag,
    selectors: &[EntrySelector],
) -> crate::Result<Removal> {
    let name = from.describe(&tag.clone().into());
    let Some(held) = read(from, tag).await? else {
        return Err(NoIndexSnafu { name }.build().into());
    };
    let index = foreign_index::expect_index(&held, &name)?;
    for selector in selectors {
        let is_there = index.manifests.iter().any(|entry| selector.matches(entry));
        let offered = || index.manifests.iter().map(display_name).collect();
        ensure!(
            is_there,
            NoMemberSnafu {
                name,
                selector: selector.clone(),
                offered: offered_once(offered()),
            }
        );
    }
    let entries = index.manifests.iter().cloned();
    let (entries, others): (Vec<_>, Vec<_>) =
        entries.partition(|entry| selectors.iter().any(|selector| selector.matches(entry)));
    let mut tags = Vec::new();
    if let (Some(_), Ok(release)) = (PackageIndex::read(&held), ReleaseTag::new(tag.clone())) {
        for entry in &entries {
            let Some(target) = entry.annotation(annotation::TARGET) else {
                continue;
            };
            let Ok(tag) = release.target(target) else {
                continue;
            };
            let identifier = Identifier::Tag(tag.clone());
            let named = from.resolve(&identifier).await.optional();
            let named = named.with_context(|_| LookUpSnafu {
                name: from.describe(&identifier),
            })?;
            if named.is_some() {
                tags.push(tag);
            }
        }
    }
    Ok(Removal {
        index: held.digest().clone(),
        entries,
        others,
        tags,
    })
}

fn offered_once(mut offered: Vec<String>) -> Vec<String> {
    offered.dedup();
    offered
}

/// Takes entries out of the index under a tag. Of a package's index, the tags of their targets go first; where those
/// cannot be deleted, nothing is changed. When nothing is left, the tag of the index goes too.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when the index or an entry is not there, [`ErrorKind::Unsupported`] where tags cannot be
/// deleted. Otherwise as [`add`].
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
    let held = read(target, tag).await?;
    let last = held.as_ref().map(|held| held.digest().clone());
    let is_package = held
        .as_ref()
        .is_some_and(|held| PackageIndex::read(held).is_some());
    let index = match ReleaseTag::new(tag.clone()) {
        Ok(release) if is_package => {
            let options = PublishOptions::default();
            let mut writer = ReleaseWriter::new(target, &release, &options, observer, seed);
            writer.last_index = held.map(|held| held.digest().clone());
            let leaving = entries.iter();
            let leaving = leaving.filter_map(|entry| entry.annotation(annotation::TARGET));
            writer.removed_targets = leaving.map(str::to_owned).collect();
            writer.removed_foreign_entries = digests;
            let left = writer.converge(None).await?;
            if left.is_some() {
                left
            } else {
                delete_tag(from, tag).await?;
                // Whoever published meanwhile has set the tag of his target, and misses the index now.
                writer.pause(1, false).await;
                writer.converge(None).await?
            }
        }
        _ => {
            let take = |index: &mut Index| {
                let before = index.manifests.len();
                index
                    .manifests
                    .retain(|entry| !digests.contains(&entry.digest));
                index.manifests.len() < before
            };
            let edited = foreign_index::edit(target, tag, take, &seed, observer).await?;
            if edited.is_none() {
                delete_tag(from, tag).await?;
            }
            edited
        }
    };
    let deleted_index = last.filter(|_| index.is_none());
    Ok(RemovedEntries {
        entries,
        tags,
        index,
        deleted_index,
    })
}

/// Takes a tag away; that it is gone already is as good.
async fn delete_tag(from: &dyn Delete, tag: &Tag) -> crate::Result<()> {
    let deleted = from.delete_tag(tag).await.optional();
    deleted.with_context(|_| DeleteTagSnafu {
        name: from.describe(&tag.clone().into()),
    })?;
    Ok(())
}
