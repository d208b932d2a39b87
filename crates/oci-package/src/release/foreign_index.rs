//! Edits of an index that is not the index of a package.
//!
//! An edit is applied with optimistic concurrency: the index is read, changed, written, and read again after a delay.
//! If another writer overwrote the edit, it is applied again. An index has one entry per platform. An edit keeps the
//! annotations of the index and all other entries.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use oci_registry::{
    Descriptor, Digest, ErrorKind, Failure, Hint, Identifier, Index, Manifest, MediaType,
    Optional as _, Platform, Source, Tag, Target,
};
use snafu::{OptionExt, ResultExt, Snafu, ensure};

use super::error::{LookUpSnafu, WriteIndexSnafu};
use super::index_update::MAX_ATTEMPTS;
use super::{Note, PublishEvent, PublishObserver};
use crate::annotation;
use crate::index::IndexEntry;
use crate::platform;

/// Maximum size of an image config that is read for its platform, in bytes.
const MAX_CONFIG: usize = 1 << 20;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("refusing to change `{name}`: it is not an index"))]
    NotAnIndex { name: String },
    #[snafu(display(
        "refusing to add both {first} and {second} to `{name}`: both are for the platform {platform}"
    ))]
    SamePlatform {
        name: String,
        first: Digest,
        second: Digest,
        platform: String,
    },
    #[snafu(display(
        "failed to change the index `{name}`: other jobs changed it in each of {MAX_ATTEMPTS} attempts"
    ))]
    AttemptsExhausted { name: String },
    #[snafu(display(
        "failed to add {digest} to `{name}`: another job added a different manifest for {platform} at the same time"
    ))]
    ReplacedConcurrently {
        name: String,
        digest: Digest,
        platform: String,
    },
    #[snafu(display("failed to read the config of {digest}"))]
    ReadConfig {
        digest: Digest,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAnIndex { .. } | Self::SamePlatform { .. } => ErrorKind::InvalidInput,
            Self::AttemptsExhausted { .. } | Self::ReplacedConcurrently { .. } => {
                ErrorKind::Conflict
            }
            Self::ReadConfig { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotAnIndex { .. } => {
                vec!["pass the tag of an index, such as the version of a package".into()]
            }
            Self::SamePlatform { .. } => vec!["add only one of the manifests".into()],
            Self::AttemptsExhausted { .. } => {
                vec!["run the command again when no other job writes the index".into()]
            }
            Self::ReplacedConcurrently { .. } => {
                vec!["inspect the current entry, or add your manifest again to replace it".into()]
            }
            Self::ReadConfig { .. } => Vec::new(),
        }
    }
}

/// Returns the name of an entry for messages: its target, platform or digest.
pub(super) fn display_name(entry: &Descriptor) -> String {
    let target = entry
        .annotation(annotation::TARGET)
        .map(|target| target.escape_debug().to_string());
    let platform = entry.platform.as_ref().map(ToString::to_string);
    let name = target.or(platform);
    format!("`{}`", name.unwrap_or_else(|| entry.digest.to_string()))
}

/// Reads the manifest that a tag points to. Returns `None` if the tag does not exist.
pub(super) async fn read_manifest(from: &dyn Source, tag: &Tag) -> crate::Result<Option<Manifest>> {
    let identifier = Identifier::Tag(tag.clone());
    let read = from.manifest(&identifier).await.optional();
    Ok(read.with_context(|_| LookUpSnafu {
        name: from.describe(&identifier),
    })?)
}

/// Returns the index in a manifest, or an error if the manifest is not an index.
pub(super) fn expect_index<'a>(current: &'a Manifest, name: &str) -> crate::Result<&'a Index> {
    Ok(current.as_index().context(NotAnIndexSnafu { name })?)
}

/// Adds manifests to the index that `tag` refers to. Each manifest replaces the entry for the same platform, or is
/// appended if there is no such entry. The manifests must exist in the target.
pub(super) async fn put_entries(
    to: &dyn Target,
    tag: &Tag,
    added: &[Manifest],
    seed: &Digest,
    observer: &PublishObserver<'_>,
) -> crate::Result<Option<Manifest>> {
    let mut entries: Vec<Descriptor> = Vec::new();
    for manifest in added {
        let entry = create_entry(to, manifest).await?;
        let before = entries
            .iter()
            .find(|before| has_same_platform(before, &entry));
        if let Some(before) = before.filter(|before| before.digest != entry.digest) {
            return Err(SamePlatformSnafu {
                name: to.describe(&tag.clone().into()),
                first: before.digest.clone(),
                second: entry.digest.clone(),
                platform: display_name(&entry),
            }
            .build()
            .into());
        }
        entries.push(entry);
    }
    // Only entries that existed at the start are replaced. Entries that other writers add later are kept.
    let replaceable: Mutex<Option<BTreeSet<Digest>>> = Mutex::default();
    let change = |index: &mut Index| {
        let mut replaceable = replaceable.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = index.manifests.iter().map(|entry| entry.digest.clone());
        let replaceable = replaceable.get_or_insert_with(|| listed.collect());
        let mut is_changed = false;
        for entry in &entries {
            is_changed |= put_entry(index, entry, replaceable, observer);
        }
        is_changed
    };
    let index = edit_index(to, tag, change, seed, observer).await?;
    let listed = index.as_ref().and_then(Manifest::as_index);
    for entry in &entries {
        let is_same = |listed: &Descriptor| listed.digest == entry.digest;
        ensure!(
            listed.is_none_or(|index| index.manifests.iter().any(is_same)),
            ReplacedConcurrentlySnafu {
                name: to.describe(&tag.clone().into()),
                digest: entry.digest.clone(),
                platform: display_name(entry),
            }
        );
    }
    Ok(index)
}

/// Adds one entry to an index. Returns whether the index changed.
fn put_entry(
    index: &mut Index,
    entry: &Descriptor,
    replaceable: &BTreeSet<Digest>,
    observer: &PublishObserver<'_>,
) -> bool {
    let entries = &mut index.manifests;
    if entries.iter().any(|listed| listed.digest == entry.digest) {
        return false;
    }
    let Some(at) = entries
        .iter()
        .position(|listed| has_same_platform(listed, entry))
    else {
        entries.push(entry.clone());
        return true;
    };
    if !replaceable.contains(&entries[at].digest) {
        return false;
    }
    let old = std::mem::replace(&mut entries[at], entry.clone());
    observer(PublishEvent::Note(Note::EntryReplaced {
        entry: display_name(&old),
        digest: old.digest,
    }));
    true
}

/// Whether two entries have the same platform, so that a new entry replaces the existing entry. An entry without a
/// platform matches only itself.
fn has_same_platform(first: &Descriptor, second: &Descriptor) -> bool {
    if first.digest == second.digest {
        return true;
    }
    let key = |entry: &Descriptor| {
        let platform = entry.platform.clone().filter(platform::is_known)?;
        let target = entry.annotation(annotation::TARGET).map(str::to_owned);
        Some((
            platform::normalize(platform),
            target,
            entry.artifact_type.clone(),
        ))
    };
    matches!((key(first), key(second)), (Some(first), Some(second)) if first == second)
}

/// Creates the entry for a manifest in an index that is not the index of a package.
async fn create_entry(to: &dyn Target, manifest: &Manifest) -> crate::Result<Descriptor> {
    if let Some(entry) = IndexEntry::from_manifest(manifest) {
        return Ok(entry.descriptor().clone());
    }
    let mut entry = manifest.descriptor();
    let config = manifest.as_image().map(|image| &image.config);
    let config = config
        .filter(|config| config.media_type.is_image_config() && config.size <= MAX_CONFIG as u64);
    if let Some(config) = config {
        let digest = &config.digest;
        let context = || ReadConfigSnafu {
            digest: digest.clone(),
        };
        let blob = to.blob(config).await.with_context(|_| context())?;
        let read = blob.read_to_end(MAX_CONFIG).await;
        let bytes = read.with_context(|_| context())?;
        // A config that has no `os` belongs to an artifact that has no platform.
        entry.platform = serde_json::from_slice::<Platform>(&bytes)
            .ok()
            .filter(|platform| !platform.os.is_empty());
    }
    Ok(entry)
}

/// Applies a change to an index, and repeats it until a later read confirms it. `change` returns whether it changed the
/// index. `seed` determines the random delays of this writer.
///
/// Returns `None` and writes nothing if the change would remove the last entry.
pub(super) async fn edit_index(
    to: &dyn Target,
    tag: &Tag,
    change: impl Fn(&mut Index) -> bool,
    seed: &Digest,
    observer: &PublishObserver<'_>,
) -> crate::Result<Option<Manifest>> {
    let identifier = Identifier::Tag(tag.clone());
    let name = || to.describe(&identifier);
    for attempt in 0..=MAX_ATTEMPTS {
        if attempt > 0 {
            super::pause(seed, attempt, attempt > 1).await;
        }
        let current = read_manifest(to, tag).await?;
        let mut index = match &current {
            Some(current) => expect_index(current, &name())?.clone(),
            None => Index::new(None, Vec::new()),
        };
        if !change(&mut index) {
            return Ok(current);
        }
        if index.manifests.is_empty() {
            return Ok(None);
        }
        if attempt == MAX_ATTEMPTS {
            break;
        }
        index.media_type.get_or_insert(MediaType::INDEX);
        let wanted = Manifest::from_index(index);
        let wanted = wanted.with_context(|_| WriteIndexSnafu { name: name() })?;
        let pushed = to.push_manifest(&wanted).await;
        pushed.with_context(|_| WriteIndexSnafu { name: name() })?;
        let tagged = to.tag_once(&wanted, tag).await;
        match tagged {
            Ok(()) => observer(PublishEvent::Index(tag, &wanted)),
            // The next attempt reads the index and detects whether the request took effect.
            Err(error) if error.kind() == ErrorKind::Network => {}
            Err(error) => {
                return Err(error).with_context(|_| WriteIndexSnafu { name: name() })?;
            }
        }
    }
    Err(AttemptsExhaustedSnafu { name: name() }.build().into())
}
