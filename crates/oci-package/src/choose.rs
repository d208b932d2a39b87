//! Selection of a manifest from an index, by target, platform or machine.
//!
//! The selection works for indexes of packages and for all other indexes. The index of a version is written after its
//! target tags, so a target may have a tag before the index lists it. [`find`] therefore also tries the target tags.

use std::fmt;

use futures_util::future::{BoxFuture, FutureExt};
use oci_registry::{
    Descriptor, Digest, ErrorKind, Failure, Hint, Identifier, Index, Manifest, Optional as _,
    Platform, Source, Tag,
};
use snafu::{Snafu, ensure};

use crate::annotation;
use crate::platform::{self, GlibcVersion, Libc};
use crate::tag::ReleaseTag;
use crate::target::PackageTarget;

/// Maximum depth of nested indexes. Copies have the same limit.
const MAX_DEPTH: usize = 4;

/// Maximum number of nested indexes that are read.
const MAX_INDEXES: usize = 32;

/// Maximum number of tags that are tried if no entry of the index matches.
const MAX_FALLBACK_TAGS: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to find `{wanted}` in `{name}`: it has more than {MAX_INDEXES} nested indexes, or more than {MAX_DEPTH} levels"
    ))]
    IndexTooDeep { name: String, wanted: String },
    #[snafu(display("refusing to use {digest}: `{name}` lists it as {listed}, but it is {found}"))]
    DescriptorMismatch {
        name: String,
        digest: Digest,
        listed: String,
        found: String,
    },
    #[snafu(display("failed to find `{wanted}` in `{name}`"))]
    NoMatch {
        name: String,
        wanted: String,
        available: Vec<String>,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::IndexTooDeep { .. } => ErrorKind::Protocol,
            Self::DescriptorMismatch { .. } => ErrorKind::Mismatch,
            Self::NoMatch { .. } => ErrorKind::NotFound,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NoMatch { available, .. } if !available.is_empty() => {
                let available: Vec<_> = available
                    .iter()
                    .map(|candidate| format!("`{}`", candidate.escape_debug()))
                    .collect();
                vec![format!("choose an available target: {}", available.join(", ")).into()]
            }
            _ => Vec::new(),
        }
    }
}

/// Machine for which programs are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Native target triple of the machine.
    pub target: String,
    /// Version of the installed glibc. Programs that require a newer version are not selected. If the version is
    /// unknown, programs that do not require glibc are preferred.
    pub glibc: Option<GlibcVersion>,
}

/// Criterion for selecting a manifest from an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestSelector {
    /// The manifest for this target triple. In an index without targets: the manifest for its platform.
    Target(String),
    /// The first manifest for this platform.
    Platform(Platform),
    /// The best manifest for this machine: the manifest for its target triple, otherwise the most portable manifest for
    /// its platform.
    Machine(Machine),
}

impl fmt::Display for ManifestSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => f.write_str(target),
            Self::Platform(platform) => platform.fmt(f),
            Self::Machine(machine) => f.write_str(&machine.target),
        }
    }
}

/// Returns the index entry that matches best; `None` if no entry matches.
pub fn choose<'a>(index: &'a Index, wanted: &ManifestSelector) -> Option<&'a Descriptor> {
    let names_targets = index
        .manifests
        .iter()
        .any(|entry| entry.annotations.contains_key(annotation::TARGET));
    let wanted = match wanted {
        ManifestSelector::Target(target) if !names_targets => {
            &ManifestSelector::Platform(platform::from_triple(target, None).ok()?)
        }
        other => other,
    };
    let ranked = index
        .manifests
        .iter()
        .filter_map(|entry| Some((rank(&Candidate::from_entry(entry), wanted)?, entry)));
    // If several entries are equally good, the first of them in the index is selected, as other clients do.
    ranked
        .min_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, entry)| entry)
}

/// Returns the target tags that may match the selector. [`find`] reads these tags if the index `tag` does not
/// exist or has no matching entry.
pub fn fallback_tags(tag: &Tag, wanted: &ManifestSelector) -> Vec<Tag> {
    let Ok(release) = ReleaseTag::new(tag.clone()) else {
        return Vec::new();
    };
    let mut triples = Vec::new();
    let platform = match wanted {
        ManifestSelector::Target(target) => {
            triples.push(target.as_str());
            None
        }
        ManifestSelector::Platform(platform) => Some(platform.clone()),
        ManifestSelector::Machine(machine) => {
            triples.push(&machine.target);
            platform::from_triple(&machine.target, None).ok()
        }
    };
    for triple in platform.iter().flat_map(platform::triples_for) {
        if !triples.contains(&triple) {
            triples.push(triple);
        }
    }
    if matches!(wanted, ManifestSelector::Machine(machine) if machine.glibc.is_none()) {
        // Builds without glibc come first, as in `rank_for_machine`.
        triples.sort_by_key(|triple| !triple.contains("musl"));
    }
    triples
        .into_iter()
        .take(MAX_FALLBACK_TAGS)
        .filter_map(|triple| release.target(triple).ok())
        .collect()
}

/// Fetches a manifest. If `identifier` is an index, the entry that matches best is fetched.
///
/// Nested indexes are searched, too: first the nested index that matches, then the nested indexes that state neither
/// target nor platform, in the order of the index. If the index of a tag does not exist or has no matching entry, the
/// target tags are read. If `identifier` is a single manifest, this manifest is returned for every machine. If a target
/// or platform is requested, the manifest must match it.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if nothing matches; the hint lists the available targets and platforms. Otherwise the error
/// of the source.
pub async fn find(
    source: &dyn Source,
    identifier: &Identifier,
    wanted: &ManifestSelector,
) -> crate::Result<Manifest> {
    let (found, _) = find_with_index(source, identifier, wanted).await?;
    Ok(found)
}

/// Fetches a manifest as [`find`] does. If the manifest was selected from the index that `identifier` refers to, also
/// returns this index.
///
/// # Errors
///
/// As [`find`].
pub async fn find_with_index(
    source: &dyn Source,
    identifier: &Identifier,
    wanted: &ManifestSelector,
) -> crate::Result<(Manifest, Option<Manifest>)> {
    let root = source.manifest(identifier).await;
    let available = match &root {
        Ok(root) => match root.as_index() {
            Some(index) => {
                let mut search = IndexSearch {
                    source,
                    name: source.describe(identifier),
                    wanted,
                    indexes: 0,
                    available: Vec::new(),
                };
                if let Some(manifest) = search.find_in(index, 0).await? {
                    return Ok((manifest, Some(root.clone())));
                }
                search.available
            }
            None => match PackageTarget::read(root) {
                Some(package)
                    if !matches!(wanted, ManifestSelector::Machine(_))
                        && !is_match(&package, wanted) =>
                {
                    vec![package.target]
                }
                _ => return Ok((root.clone(), None)),
            },
        },
        Err(_) => Vec::new(),
    };
    let is_absent = root
        .as_ref()
        .err()
        .is_none_or(|error| error.kind() == ErrorKind::NotFound);
    if let (Identifier::Tag(tag), true) = (identifier, is_absent) {
        for tag in fallback_tags(tag, wanted) {
            let manifest = read_manifest(source, &tag.into()).await?;
            let matches_selector = |manifest: &Manifest| {
                PackageTarget::read(manifest).is_some_and(|package| is_match(&package, wanted))
            };
            if let Some(manifest) = manifest.filter(matches_selector) {
                return Ok((manifest, None));
            }
        }
    }
    let name = source.describe(identifier);
    root?;
    let wanted = wanted.to_string();
    Err(NoMatchSnafu {
        name,
        wanted,
        available,
    }
    .build()
    .into())
}

/// State of a search through nested indexes.
struct IndexSearch<'a> {
    source: &'a dyn Source,
    name: String,
    wanted: &'a ManifestSelector,
    /// Number of nested indexes that were requested.
    indexes: usize,
    /// Targets and platforms of the entries that were read so far, for the hint.
    available: Vec<String>,
}

impl IndexSearch<'_> {
    fn find_in<'b>(
        &'b mut self,
        index: &'b Index,
        depth: usize,
    ) -> BoxFuture<'b, crate::Result<Option<Manifest>>> {
        async move {
            let names = index.manifests.iter();
            let names = names
                .filter(|entry| !entry.media_type.is_index() && !platform::is_attestation(entry));
            self.available
                .extend(names.filter_map(|entry| Candidate::from_entry(entry).name()));
            let best = choose(index, self.wanted);
            let unlabelled = index.manifests.iter().filter(|entry| {
                entry.media_type.is_index() && Candidate::from_entry(entry).name().is_none()
            });
            for entry in best.into_iter().chain(unlabelled) {
                if entry.media_type.is_index() {
                    // Requests that fail count towards the limit, too.
                    self.indexes += 1;
                    ensure!(
                        depth < MAX_DEPTH && self.indexes <= MAX_INDEXES,
                        IndexTooDeepSnafu {
                            name: &self.name,
                            wanted: self.wanted.to_string()
                        }
                    );
                }
                let manifest = read_manifest(self.source, &entry.digest.clone().into()).await?;
                let Some(manifest) = manifest else {
                    continue;
                };
                self.check_entry(entry, &manifest)?;
                let Some(inner) = manifest.as_index() else {
                    return Ok(Some(manifest));
                };
                if let Some(found) = self.find_in(inner, depth + 1).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

impl IndexSearch<'_> {
    /// Checks that a fetched manifest matches its entry and the selector.
    fn check_entry(&self, entry: &Descriptor, found: &Manifest) -> crate::Result<()> {
        let mismatch = |listed: &str, found: &str| DescriptorMismatchSnafu {
            name: &self.name,
            digest: entry.digest.clone(),
            listed: format!("`{}`", listed.escape_debug()),
            found: format!("`{}`", found.escape_debug()),
        };
        let (listed, actual) = (&entry.media_type, found.media_type());
        ensure!(
            listed.is_index() == actual.is_index(),
            mismatch(listed.as_str(), actual.as_str())
        );
        if let Some(package) = PackageTarget::read(found) {
            let wanted = self.wanted.to_string();
            // A manifest that states no platform can conflict only with a requested target.
            let has_no_platform =
                package.platform.is_none() && !matches!(self.wanted, ManifestSelector::Target(_));
            ensure!(
                has_no_platform || is_match(&package, self.wanted),
                mismatch(&wanted, &describe_package(&package))
            );
        }
        Ok(())
    }
}

/// Returns the target of a package and the glibc version that it requires, for messages.
fn describe_package(package: &PackageTarget) -> String {
    let glibc = package.glibc;
    let glibc = glibc.map_or_else(String::new, |version| format!(" with glibc {version}"));
    format!("{}{glibc}", package.target)
}

async fn read_manifest(
    source: &dyn Source,
    identifier: &Identifier,
) -> crate::Result<Option<Manifest>> {
    source.manifest(identifier).await.optional()
}

fn is_match(package: &PackageTarget, wanted: &ManifestSelector) -> bool {
    let candidate = Candidate {
        target: Some(&package.target),
        platform: package.platform.as_ref(),
        glibc: package.glibc,
    };
    rank(&candidate, wanted).is_some()
}

/// Properties of a manifest, as stated by its index entry.
struct Candidate<'a> {
    target: Option<&'a str>,
    platform: Option<&'a Platform>,
    glibc: Option<GlibcVersion>,
}

impl<'a> Candidate<'a> {
    fn from_entry(entry: &'a Descriptor) -> Self {
        Self {
            target: entry.annotation(annotation::TARGET),
            platform: entry.platform.as_ref(),
            glibc: entry
                .annotation(annotation::GLIBC)
                .and_then(|text| text.parse().ok()),
        }
    }

    fn name(&self) -> Option<String> {
        let platform = || self.platform.map(Platform::to_string);
        self.target.map(str::to_owned).or_else(platform)
    }
}

/// Rank of a matching candidate. The lowest rank is the best.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether the candidate requires glibc and the version on the machine is unknown.
    is_uncertain: bool,
    /// Whether the candidate was built for another target triple.
    is_foreign: bool,
    /// Distance from the requested variant of the architecture ([`distance`]).
    distance: u32,
    libc: Libc,
    glibc: Option<GlibcVersion>,
}

impl Rank {
    const EXACT: Self = Self {
        is_uncertain: false,
        is_foreign: false,
        distance: 0,
        libc: Libc::Static,
        glibc: None,
    };
}

/// Returns the rank of a candidate; `None` if it does not match.
fn rank(candidate: &Candidate<'_>, wanted: &ManifestSelector) -> Option<Rank> {
    match wanted {
        ManifestSelector::Target(target) => {
            (candidate.target == Some(target)).then_some(Rank::EXACT)
        }
        ManifestSelector::Platform(platform) => Some(Rank {
            distance: distance(candidate.platform?, platform)?,
            ..Rank::EXACT
        }),
        ManifestSelector::Machine(machine) => rank_for_machine(candidate, machine),
    }
}

fn rank_for_machine(candidate: &Candidate<'_>, machine: &Machine) -> Option<Rank> {
    let is_native = candidate.target == Some(machine.target.as_str());
    let libc = candidate.platform.map_or(Libc::Static, Libc::from_platform);
    let is_too_new =
        matches!((candidate.glibc, machine.glibc), (Some(needed), Some(has)) if needed > has);
    if libc == Libc::Glibc && is_too_new {
        return None;
    }
    let is_uncertain = libc == Libc::Glibc && machine.glibc.is_none();
    if is_native {
        return Some(Rank {
            is_uncertain,
            ..Rank::EXACT
        });
    }
    let native = platform::from_triple(&machine.target, None).ok()?;
    // Programs for hard-float and soft-float ABIs use different loaders.
    let is_hard_float = |triple: &str| triple.ends_with("hf");
    let is_same_abi = candidate
        .target
        .is_none_or(|target| is_hard_float(target) == is_hard_float(&machine.target));
    if libc != Libc::Static && (libc != Libc::from_platform(&native) || !is_same_abi) {
        return None;
    }
    Some(Rank {
        is_uncertain,
        is_foreign: true,
        distance: distance(candidate.platform?, &native)?,
        libc,
        glibc: candidate.glibc,
    })
}

/// Returns the distance between the variant of a platform and the requested variant; `None` if the platform does not
/// match.
///
/// Processors run programs for all older variants, so the newest variant that is not newer than the requested variant
/// has the smallest distance. If no variant is requested, the oldest variant has the smallest distance.
fn distance(available: &Platform, wanted: &Platform) -> Option<u32> {
    if (&available.os, &available.architecture) != (&wanted.os, &wanted.architecture) {
        return None;
    }
    let level = |platform: &Platform| -> Option<u32> {
        let baseline = match platform.architecture.as_str() {
            "arm64" => 8,
            "amd64" => 1,
            _ => 0,
        };
        match &platform.variant {
            None => Some(baseline),
            Some(variant) => variant.strip_prefix('v')?.parse().ok(),
        }
    };
    match (level(available), level(wanted)) {
        (Some(available), Some(_)) if wanted.variant.is_none() => Some(available),
        (Some(available), Some(wanted)) => wanted.checked_sub(available),
        _ => (available.variant == wanted.variant).then_some(0),
    }
}

#[cfg(test)]
mod tests;
