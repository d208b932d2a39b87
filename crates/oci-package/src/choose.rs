//! Choosing: the one manifest of an index that a target, a platform or a machine asks for, and fetching it.
//!
//! Owns what fits what, and in which order of preference; for indexes of packages and for anyone else's. A target that an
//! index does not list may still be there under a tag of its own, because indexes are written last: [`find`] asks for
//! that too before it says no.

use std::fmt;

use futures_util::future::{BoxFuture, FutureExt};
use oci_registry::{
    Descriptor, Digest, ErrorKind, Failure, Hint, Identifier, Index, Manifest, Optional as _,
    Platform, Source, Tag,
};
use snafu::{ResultExt, Snafu, ensure};

use crate::annotation;
use crate::platform::{self, GlibcVersion, Libc};
use crate::tag::ReleaseTag;
use crate::target::PackageTarget;

/// How deep indexes within an index are looked into, as deep as they are copied.
const MAX_DEPTH: usize = 4;

/// How many indexes within an index are looked into.
const MAX_INDEXES: usize = 32;

/// How many tags are asked for at most where an index does not help.
const MAX_FALLBACKS: usize = 4;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `{name}`"))]
    ReadManifest {
        name: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "gave up looking for `{wanted}` in `{name}`: it has more than {MAX_INDEXES} indexes, or they are nested more than {MAX_DEPTH} deep"
    ))]
    Maze { name: String, wanted: String },
    #[snafu(display("refused {digest}: `{name}` lists it as {listed}, and it is {found}"))]
    Lie {
        name: String,
        digest: Digest,
        listed: String,
        found: String,
    },
    #[snafu(display("failed to find `{wanted}` in `{name}`"))]
    NotOffered {
        name: String,
        wanted: String,
        offered: Vec<String>,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadManifest { source, .. } => source.kind(),
            Self::Maze { .. } => ErrorKind::Protocol,
            Self::Lie { .. } => ErrorKind::Mismatch,
            Self::NotOffered { .. } => ErrorKind::NotFound,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::NotOffered { offered, .. } if !offered.is_empty() => {
                let offered: Vec<_> = offered
                    .iter()
                    .map(|offer| format!("`{}`", offer.escape_debug()))
                    .collect();
                vec![format!("available: {}", offered.join(", ")).into()]
            }
            _ => Vec::new(),
        }
    }
}

/// A machine that is to run something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The target triple that is native to it.
    pub target: String,
    /// The version of glibc that it has. Nothing that needs a newer one is chosen; if it is unknown, what needs no glibc is
    /// preferred.
    pub glibc: Option<GlibcVersion>,
}

/// What is asked of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What was built for this very target triple; in an index that names no targets, what is for its platform.
    Target(String),
    /// The first that is for this platform.
    Platform(Platform),
    /// What runs on this machine: what was built for its own triple, else the most portable for its platform.
    Machine(Machine),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => f.write_str(target),
            Self::Platform(platform) => platform.fmt(f),
            Self::Machine(machine) => f.write_str(&machine.target),
        }
    }
}

/// Chooses the manifest of an index that fits best; `None` when none does.
pub fn choose<'a>(index: &'a Index, wanted: &Wanted) -> Option<&'a Descriptor> {
    let names_targets = index
        .manifests
        .iter()
        .any(|entry| entry.annotations.contains_key(annotation::TARGET));
    let wanted = match wanted {
        Wanted::Target(target) if !names_targets => {
            &Wanted::Platform(platform::of_target(target, None).ok()?)
        }
        other => other,
    };
    let ranked = index
        .manifests
        .iter()
        .filter_map(|entry| Some((rank(&Offer::of_entry(entry), wanted)?, entry)));
    // Of equals the first in the index, as every client takes it.
    ranked
        .min_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, entry)| entry)
}

/// The tags under which a fitting manifest may stand when the index `tag` is not there or does not list it.
pub fn fallback_tags(tag: &Tag, wanted: &Wanted) -> Vec<Tag> {
    let Ok(release) = ReleaseTag::new(tag.clone()) else {
        return Vec::new();
    };
    let mut triples = Vec::new();
    let platform = match wanted {
        Wanted::Target(target) => {
            triples.push(target.as_str());
            None
        }
        Wanted::Platform(platform) => Some(platform.clone()),
        Wanted::Machine(machine) => {
            triples.push(&machine.target);
            platform::of_target(&machine.target, None).ok()
        }
    };
    for triple in platform.iter().flat_map(platform::triples_for) {
        if !triples.contains(&triple) {
            triples.push(triple);
        }
    }
    if matches!(wanted, Wanted::Machine(machine) if machine.glibc.is_none()) {
        // As `rank_for` prefers: builds without glibc first.
        triples.sort_by_key(|triple| !triple.contains("musl"));
    }
    triples
        .into_iter()
        .take(MAX_FALLBACKS)
        .filter_map(|triple| release.target(triple).ok())
        .collect()
}

/// Fetches the manifest that `identifier` names, or of an index the one that fits best. An entry that is an index itself
/// is looked into: the one that fits, and where none does those that do not say what they are for, in their order.
///
/// Where there is no index under a tag, or it lists nothing that fits, the tags of single targets are asked. A manifest
/// that is named directly is returned for whatever machine it is; only a target or platform that was asked for is held
/// against it.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] when nothing fits, with what there is as advice; otherwise what the source fails with.
pub async fn find(
    source: &dyn Source,
    identifier: &Identifier,
    wanted: &Wanted,
) -> crate::Result<Manifest> {
    let (found, _) = find_listed(source, identifier, wanted).await?;
    Ok(found)
}

/// [`find`], and the index that `identifier` names, when that led to the manifest.
///
/// # Errors
///
/// As [`find`].
pub async fn find_listed(
    source: &dyn Source,
    identifier: &Identifier,
    wanted: &Wanted,
) -> crate::Result<(Manifest, Option<Manifest>)> {
    let root = source.manifest(identifier).await;
    let offered = match &root {
        Ok(root) => match root.as_index() {
            Some(index) => {
                let mut search = Search {
                    source,
                    name: source.describe(identifier),
                    wanted,
                    indexes: 0,
                    offered: Vec::new(),
                };
                if let Some(manifest) = search.within(index, 0).await? {
                    return Ok((manifest, Some(root.clone())));
                }
                search.offered
            }
            None => match PackageTarget::read(root) {
                Some(package)
                    if !matches!(wanted, Wanted::Machine(_)) && !fits(&package, wanted) =>
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
            let manifest = read(source, &tag.into()).await?;
            let is_fitting = |manifest: &Manifest| {
                PackageTarget::read(manifest).is_some_and(|package| fits(&package, wanted))
            };
            if let Some(manifest) = manifest.filter(is_fitting) {
                return Ok((manifest, None));
            }
        }
    }
    let name = source.describe(identifier);
    root.with_context(|_| ReadManifestSnafu { name: &name })?;
    let wanted = wanted.to_string();
    Err(NotOfferedSnafu {
        name,
        wanted,
        offered,
    }
    .build()
    .into())
}

/// A search through an index and the indexes within it.
struct Search<'a> {
    source: &'a dyn Source,
    name: String,
    wanted: &'a Wanted,
    /// How many indexes were looked into.
    indexes: usize,
    /// What there is, as far as was looked.
    offered: Vec<String>,
}

impl Search<'_> {
    fn within<'b>(
        &'b mut self,
        index: &'b Index,
        depth: usize,
    ) -> BoxFuture<'b, crate::Result<Option<Manifest>>> {
        async move {
            let names = index.manifests.iter();
            let names = names
                .filter(|entry| !entry.media_type.is_index() && !platform::is_attestation(entry));
            self.offered
                .extend(names.filter_map(|entry| Offer::of_entry(entry).name()));
            let fitting = choose(index, self.wanted);
            let silent = index.manifests.iter().filter(|entry| {
                entry.media_type.is_index() && Offer::of_entry(entry).name().is_none()
            });
            for entry in fitting.into_iter().chain(silent) {
                if entry.media_type.is_index() {
                    // Each try is counted, whatever comes of it.
                    self.indexes += 1;
                    ensure!(
                        depth < MAX_DEPTH && self.indexes <= MAX_INDEXES,
                        MazeSnafu {
                            name: &self.name,
                            wanted: self.wanted.to_string()
                        }
                    );
                }
                let read = read(self.source, &entry.digest.clone().into()).await?;
                let Some(manifest) = read else {
                    continue;
                };
                self.hold_to(entry, &manifest)?;
                let Some(inner) = manifest.as_index() else {
                    return Ok(Some(manifest));
                };
                if let Some(found) = self.within(inner, depth + 1).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
        .boxed()
    }
}

impl Search<'_> {
    /// Refuses what is another thing than its entry says, or than was wanted.
    fn hold_to(&self, entry: &Descriptor, found: &Manifest) -> crate::Result<()> {
        let lie = |listed: &str, found: &str| LieSnafu {
            name: &self.name,
            digest: entry.digest.clone(),
            listed: format!("`{}`", listed.escape_debug()),
            found: format!("`{}`", found.escape_debug()),
        };
        let (listed, actual) = (&entry.media_type, found.media_type());
        ensure!(
            listed.is_index() == actual.is_index(),
            lie(listed.as_str(), actual.as_str())
        );
        if let Some(package) = PackageTarget::read(found) {
            let wanted = self.wanted.to_string();
            // One that does not say for which platform it is contradicts nothing but a target.
            let is_silent = package.platform.is_none() && !matches!(self.wanted, Wanted::Target(_));
            ensure!(
                is_silent || fits(&package, self.wanted),
                lie(&wanted, &package.target)
            );
        }
        Ok(())
    }
}

async fn read(source: &dyn Source, identifier: &Identifier) -> crate::Result<Option<Manifest>> {
    let read = source.manifest(identifier).await.optional();
    Ok(read.with_context(|_| ReadManifestSnafu {
        name: source.describe(identifier),
    })?)
}

fn fits(package: &PackageTarget, wanted: &Wanted) -> bool {
    let offer = Offer {
        target: Some(&package.target),
        platform: package.platform.as_ref(),
        glibc: package.glibc,
    };
    rank(&offer, wanted).is_some()
}

/// What is known of a manifest before it is fetched.
struct Offer<'a> {
    target: Option<&'a str>,
    platform: Option<&'a Platform>,
    glibc: Option<GlibcVersion>,
}

impl<'a> Offer<'a> {
    fn of_entry(entry: &'a Descriptor) -> Self {
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

/// Preference among offers that fit, the least first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether it needs glibc, of which the machine's version is unknown.
    is_uncertain: bool,
    is_foreign: bool,
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

/// Returns the preference of an offer; `None` if it does not fit.
fn rank(offer: &Offer<'_>, wanted: &Wanted) -> Option<Rank> {
    match wanted {
        Wanted::Target(target) => (offer.target == Some(target)).then_some(Rank::EXACT),
        Wanted::Platform(platform) => Some(Rank {
            distance: distance(offer.platform?, platform)?,
            ..Rank::EXACT
        }),
        Wanted::Machine(machine) => rank_for(offer, machine),
    }
}

fn rank_for(offer: &Offer<'_>, machine: &Machine) -> Option<Rank> {
    let is_native = offer.target == Some(machine.target.as_str());
    let libc = offer.platform.map_or(Libc::Static, Libc::from_platform);
    let is_too_new =
        matches!((offer.glibc, machine.glibc), (Some(needed), Some(has)) if needed > has);
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
    let own = platform::of_target(&machine.target, None).ok()?;
    // A loader for the other floating-point convention is another loader.
    let is_hard_float = |triple: &str| triple.ends_with("hf");
    let is_same_abi = offer
        .target
        .is_none_or(|target| is_hard_float(target) == is_hard_float(&machine.target));
    if libc != Libc::Static && (libc != Libc::from_platform(&own) || !is_same_abi) {
        return None;
    }
    Some(Rank {
        is_uncertain,
        is_foreign: true,
        distance: distance(offer.platform?, &own)?,
        libc,
        glibc: offer.glibc,
    })
}

/// How far the variant of a platform is from the wanted one; `None` for another platform.
///
/// A newer machine runs what is for an older one of its kind, so the newest that is not too new is nearest. Where no
/// variant is asked for, the oldest is.
fn distance(offered: &Platform, wanted: &Platform) -> Option<u32> {
    if (&offered.os, &offered.architecture) != (&wanted.os, &wanted.architecture) {
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
    match (level(offered), level(wanted)) {
        (Some(offered), Some(_)) if wanted.variant.is_none() => Some(offered),
        (Some(offered), Some(wanted)) => wanted.checked_sub(offered),
        _ => (offered.variant == wanted.variant).then_some(0),
    }
}

#[cfg(test)]
mod tests;
