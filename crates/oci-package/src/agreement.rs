//! Consistency checks for the documents that describe one package: tag, index, index entry, manifest and config.
//!
//! Several documents state the same value, such as the version. A client may select a manifest by its index entry and
//! then display the values of its config, so all documents must state equal values. A value that a document does not
//! state is not compared. Artifacts that are not packages are not checked.

use std::fmt;

use oci_registry::{
    Descriptor, Digest, ErrorKind, Failure, Identifier, Location, Manifest, Optional as _,
    Platform, Source, Tag, escape,
};
use snafu::{ResultExt, Snafu, ensure};

use crate::config::{self, PackageConfig};
use crate::index::PackageIndex;
use crate::platform::{self, Libc};
use crate::target::PackageTarget;
use crate::{annotation, concurrent, media, tag};

/// Maximum number of index entries whose manifests are read.
pub(crate) const MAX_ENTRIES: usize = 256;

/// Maximum number of concurrent reads of manifests.
pub(crate) const MAX_CONCURRENT_READS: usize = 8;

/// Maximum number of characters of a value in an error message.
const MAX_VALUE: usize = 200;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the config of `{name}`"))]
    ReadConfig {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display("refusing to use `{name}`: {}", join_conflicts(conflicts)))]
    ConflictingDocuments {
        name: String,
        conflicts: Vec<Conflict>,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadConfig { source, .. } => source.kind(),
            Self::ConflictingDocuments { .. } => ErrorKind::Mismatch,
        }
    }
}

fn join_conflicts(conflicts: &[Conflict]) -> String {
    let conflicts: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
    conflicts.join("; ")
}

/// Tag and index through which a manifest was selected.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManifestOrigin<'a> {
    /// Requested tag. Only the tag of a version is compared.
    pub tag: Option<&'a Tag>,
    /// Index from which the manifest was selected.
    pub index: Option<&'a Manifest>,
}

impl<'a> ManifestOrigin<'a> {
    /// Creates the origin of `identifier` at a location. For a reference of the form `REPOSITORY:TAG@DIGEST`, the tag
    /// is part of the origin.
    pub fn new(location: &'a Location, identifier: &'a Identifier) -> Self {
        let tag = match identifier {
            Identifier::Tag(tag) => Some(tag),
            Identifier::Digest(_) => location.tag(),
        };
        Self { tag, index: None }
    }

    /// Sets the index.
    #[must_use]
    pub fn with_index(self, index: Option<&'a Manifest>) -> Self {
        Self { index, ..self }
    }
}

/// Conflict between two documents of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// Two documents state different values.
    Value {
        /// Name of the value: `name`, `version`, `target`, `platform`, `libc` or `glibc`.
        name: &'static str,
        /// The two documents and their values.
        values: [StatedValue; 2],
    },
    /// An index has two manifests for one target.
    Duplicate {
        /// The target triple.
        target: String,
        /// Digests of the manifests, in the order of the index.
        manifests: [Digest; 2],
    },
    /// The config of a package is invalid, so the values in it are unknown.
    InvalidConfig {
        /// Message of the parser.
        reason: String,
    },
}

/// Value that one document states.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatedValue {
    /// The document: `tag`, `index`, `index entry`, `manifest` or `config`.
    pub document: &'static str,
    /// The value.
    pub value: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { name, values } => {
                let [first, second] = values;
                write!(f, "the {name} is {first} and {second}")
            }
            Self::Duplicate { target, manifests } => {
                let (target, [first, second]) = (escape(target, MAX_VALUE), manifests);
                write!(
                    f,
                    "the index has two entries for `{target}`, {first} and {second}"
                )
            }
            Self::InvalidConfig { reason } => {
                write!(f, "invalid config: {}", escape(reason, MAX_VALUE))
            }
        }
    }
}

impl fmt::Display for StatedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = escape(&self.value, MAX_VALUE);
        write!(f, "`{value}` in the {}", self.document)
    }
}

/// Checks that a manifest is consistent with its config, and with the tag and the index through which it was selected.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] if two documents state different values, or if the index lists another manifest for the same
/// target. Otherwise the error of the source. A missing config is not an error.
pub async fn check(
    source: &dyn Source,
    origin: ManifestOrigin<'_>,
    manifest: &Manifest,
) -> crate::Result<()> {
    let conflicts = find_conflicts(source, origin, manifest).await?;
    ensure!(
        conflicts.is_empty(),
        ConflictingDocumentsSnafu {
            name: source.describe(&manifest.digest().clone().into()),
            conflicts
        }
    );
    Ok(())
}

/// Returns the conflicts of a manifest, or of the manifests in an index, each with the descriptor of its manifest. Only
/// the first 256 entries of an index are read.
///
/// # Errors
///
/// The error of the source. Missing manifests and configs are not errors.
pub async fn conflicts(
    source: &dyn Source,
    origin: ManifestOrigin<'_>,
    manifest: &Manifest,
) -> crate::Result<Vec<(Descriptor, Conflict)>> {
    let find_described = async |origin, manifest: &Manifest| {
        let conflicts = find_conflicts(source, origin, manifest).await?;
        let conflicts = conflicts.into_iter();
        Ok(conflicts
            .map(|conflict| (manifest.descriptor(), conflict))
            .collect())
    };
    let Some(index) = manifest.as_index() else {
        return find_described(origin, manifest).await;
    };
    let entries = index.manifests.iter().take(MAX_ENTRIES);
    let entries = entries.filter(|entry| !entry.media_type.is_index());
    let reads = entries.map(async |entry| {
        let identifier = Identifier::Digest(entry.digest.clone());
        match source.manifest(&identifier).await.optional()? {
            Some(found) => find_described(origin.with_index(Some(manifest)), &found).await,
            None => Ok(Vec::new()),
        }
    });
    let found = concurrent::run_all(MAX_CONCURRENT_READS, reads.collect()).await?;
    Ok(found.into_iter().flatten().collect())
}

/// Returns the conflicts between a manifest, its config, and its origin.
pub(crate) async fn find_conflicts(
    source: &dyn Source,
    origin: ManifestOrigin<'_>,
    manifest: &Manifest,
) -> crate::Result<Vec<Conflict>> {
    let Some(package) = PackageTarget::read(manifest) else {
        return Ok(Vec::new());
    };
    let (config, invalid) = match read_config(source, manifest).await? {
        Some(Ok(config)) => (Some(config), None),
        Some(Err(reason)) => (None, Some(Conflict::InvalidConfig { reason })),
        None => (None, None),
    };
    let index = origin
        .index
        .filter(|index| PackageIndex::read(index).is_some());
    let entries = origin
        .index
        .and_then(Manifest::as_index)
        .map_or(&[][..], |index| &index.manifests);
    let own = entries
        .iter()
        .filter(|entry| entry.digest == *manifest.digest());
    let documents: Vec<_> = origin
        .tag
        .map(DocumentValues::from_tag)
        .into_iter()
        .chain(index.map(DocumentValues::from_index))
        .chain(own.map(DocumentValues::from_entry))
        .chain([DocumentValues::from_manifest(manifest)])
        .chain(config.as_ref().map(DocumentValues::from_config))
        .collect();
    let duplicate = find_duplicate(entries, &package.target);
    let conflicts = duplicate.into_iter().chain(invalid);
    Ok(conflicts.chain(find_different_values(&documents)).collect())
}

/// Returns the first two entries that list different manifests for a target.
fn find_duplicate(entries: &[Descriptor], target: &str) -> Option<Conflict> {
    let mut same = entries
        .iter()
        .filter(|entry| entry.annotation(annotation::TARGET) == Some(target));
    let first = same.next()?;
    let second = same.find(|entry| entry.digest != first.digest)?;
    Some(Conflict::Duplicate {
        target: target.to_owned(),
        manifests: [first.digest.clone(), second.digest.clone()],
    })
}

/// Returns a conflict for each value that differs between two documents.
fn find_different_values(documents: &[DocumentValues]) -> impl Iterator<Item = Conflict> {
    VALUE_NAMES
        .iter()
        .enumerate()
        .filter_map(move |(at, name)| {
            let mut stated = documents.iter().filter_map(|document| {
                Some(StatedValue {
                    document: document.document,
                    value: document.values[at].clone()?,
                })
            });
            let first = stated.next()?;
            let second = stated.find(|second| second.value != first.value)?;
            Some(Conflict::Value {
                name,
                values: [first, second],
            })
        })
}

/// Names of the compared values, in the order of [`DocumentValues::values`].
const VALUE_NAMES: [&str; 6] = ["name", "version", "target", "platform", "libc", "glibc"];

/// Values that one document states.
struct DocumentValues {
    document: &'static str,
    values: [Option<String>; VALUE_NAMES.len()],
}

impl DocumentValues {
    fn from_tag(tag: &Tag) -> Self {
        let (version, target) = tag::split(tag);
        let version = tag::parse_version(version);
        Self {
            document: "tag",
            values: [
                None,
                version.map(|version| version.to_string()),
                target.map(str::to_owned),
                None,
                None,
                None,
            ],
        }
    }

    fn from_index(index: &Manifest) -> Self {
        let stated = |key: &str| index.annotations().get(key).cloned();
        Self {
            document: "index",
            values: [
                stated(annotation::TITLE),
                stated(annotation::VERSION),
                None,
                None,
                None,
                None,
            ],
        }
    }

    fn from_entry(entry: &Descriptor) -> Self {
        let stated = |key| entry.annotation(key).map(str::to_owned);
        let target = stated(annotation::TARGET);
        let platform = entry.platform.clone();
        let platform = platform.filter(platform::is_known);
        // Other tools omit `os.features`. A missing field means a static binary only in an entry of a package.
        let is_linux = |platform: &&Platform| platform.os == "linux" && target.is_some();
        let libc = platform.as_ref().filter(is_linux).map(Libc::from_platform);
        Self {
            document: "index entry",
            values: [
                None,
                None,
                target,
                platform.map(format_platform),
                libc.map(|libc| libc.to_string()),
                stated(annotation::GLIBC),
            ],
        }
    }

    fn from_manifest(manifest: &Manifest) -> Self {
        let stated = |key: &str| manifest.annotations().get(key).cloned();
        let platform = stated(annotation::PLATFORM);
        let libc = stated(annotation::LIBC).filter(|name| Libc::from_name(name).is_some());
        Self {
            document: "manifest",
            values: [
                stated(annotation::TITLE),
                stated(annotation::VERSION),
                stated(annotation::TARGET),
                platform.map(|text| platform::parse(&text).map_or(text, format_platform)),
                libc,
                stated(annotation::GLIBC),
            ],
        }
    }

    fn from_config(config: &PackageConfig) -> Self {
        Self {
            document: "config",
            values: [
                Some(config.name.clone()),
                Some(config.version.clone()),
                Some(config.target.clone()),
                None,
                None,
                None,
            ],
        }
    }
}

/// Formats a platform in its canonical form, for comparison.
fn format_platform(platform: Platform) -> String {
    platform::normalize(platform).to_string()
}

/// Reads the config of a package. Returns `None` if the config does not exist or has a different media type, and the
/// message of the parser if the config is invalid.
async fn read_config(
    source: &dyn Source,
    manifest: &Manifest,
) -> crate::Result<Option<Result<PackageConfig, String>>> {
    let config = manifest.as_image().map(|image| &image.config);
    let Some(config) = config.filter(|config| config.media_type == media::CONFIG) else {
        return Ok(None);
    };
    let context = || ReadConfigSnafu {
        name: source.describe(&manifest.digest().clone().into()),
    };
    let blob = source.blob(config).await.optional();
    let Some(blob) = blob.with_context(|_| context())? else {
        return Ok(None);
    };
    let bytes = blob.read_to_end(config::MAX_SIZE).await;
    let config = serde_json::from_slice(&bytes.with_context(|_| context())?);
    Ok(Some(config.map_err(|error| error.to_string())))
}

#[cfg(test)]
mod tests;
