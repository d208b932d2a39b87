//! Resolution of a location to a tag or digest, and of an index to the manifest for a target.

use std::cmp::Reverse;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_registry::{
    Digest, Error, ErrorKind, Failure, Hint, Identifier, Location, Manifest, Optional as _, Side,
    Source, Tag, escape,
};
use semver::{Version, VersionReq};
use snafu::{Snafu, ensure};

use crate::choose::{Machine, ManifestSelector, find_with_index};
use crate::platform::{HOST_TUPLE, target_name};
use crate::similar_name::find_similar_name;
use crate::tag::{self, ReleaseTag};
use crate::target::PackageTarget;

/// Maximum duration of the search for similar tags after a failed operation.
const SUGGESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of tags that are compared with the missing tag.
const MAX_TAGS: usize = 10_000;

/// Maximum number of characters of a name in a hint.
const MAX_NAME: usize = 300;

#[derive(Debug, Snafu)]
enum ResolveError {
    #[snafu(display("failed to find a release in `{location}`"))]
    NoRelease { location: Location, advice: Hint },
    #[snafu(display("failed to find a release that matches `{requirement}` in `{location}`"))]
    NoMatchingRelease {
        location: Location,
        requirement: VersionReq,
        advice: Hint,
    },
    #[snafu(display(
        "failed to verify `{location}`: the tag `{tag}` does not refer to the digest"
    ))]
    OtherDigest { location: Location, tag: Tag },
}

impl Failure for ResolveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRelease { .. } | Self::NoMatchingRelease { .. } => ErrorKind::NotFound,
            Self::OtherDigest { .. } => ErrorKind::Mismatch,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::OtherDigest { tag, .. } => {
                vec![format!("remove `:{tag}` from the source, or add a tag to the target").into()]
            }
            Self::NoRelease { advice, .. } | Self::NoMatchingRelease { advice, .. } => {
                vec![advice.clone()]
            }
        }
    }
}

impl ManifestSelector {
    /// Returns the selectors for this machine, the preferred selector first. The list is never empty. `root` is the
    /// root directory of the machine. `built_for` is the target triple that the client was compiled for.
    ///
    /// Blocks while it reads.
    pub fn for_machine(root: &Path, built_for: &str) -> Vec<Self> {
        let machines = Machine::detect(root, built_for);
        machines.into_iter().map(Self::Machine).collect()
    }

    /// Creates the selector for a target that the user specified in one of the forms of [`target_name`]. `root` and
    /// `built_for` determine the target of [`HOST_TUPLE`], as in [`ManifestSelector::for_machine`].
    pub fn from_target(text: &str, root: &Path, built_for: &str) -> Self {
        let host = if text == HOST_TUPLE {
            Machine::detect(root, built_for).swap_remove(0).target
        } else {
            built_for.to_owned()
        };
        Self::Target(target_name(text, &host))
    }
}

/// Returns the tag or digest of a location. If the location has neither, returns the tag of the highest release that
/// meets `requirement`. For an archive with a single tag and no `requirement`, returns that tag even if it is not a
/// release.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if the location has no such release, and the errors of [`Source::tags`].
pub async fn resolve_identifier(
    source: &dyn Source,
    location: &Location,
    requirement: Option<&VersionReq>,
) -> crate::Result<Identifier> {
    if let Some(identifier) = location.identifier() {
        return Ok(identifier);
    }
    let tags: crate::Result<Vec<Tag>> = source.tags().try_collect().await;
    let tags = tags.map_err(|error| explain_repository(location, error))?;
    if let (Location::Archive { .. }, None, [only]) = (location, requirement, &tags[..]) {
        return Ok(only.clone().into());
    }
    let is_allowed =
        |version: &Version| requirement.is_none_or(|requirement| requirement.matches(version));
    let allowed = tags
        .iter()
        .filter(|tag| tag::version(tag).is_some_and(|version| is_allowed(&version)));
    if let Some((tag, _)) = tag::highest(allowed) {
        return Ok(tag.clone().into());
    }
    let location = location.clone();
    let incomplete = incomplete_release_hint(&tags, &location, requirement.is_some(), is_allowed);
    let error = match requirement {
        Some(requirement) => ResolveError::NoMatchingRelease {
            advice: incomplete.unwrap_or_else(|| list_tags_hint(&location)),
            requirement: requirement.clone(),
            location,
        },
        None => ResolveError::NoRelease {
            advice: match incomplete {
                Some(advice) => advice,
                None => missing_release_hint(source, &location, &tags).await,
            },
            location,
        },
    };
    Err(error.into())
}

/// Returns the existing tag of a version, `1.2.3` before `v1.2.3`. If neither exists, returns the one with target tags,
/// or else `1.2.3`.
///
/// Sends one request if the source has the tag without `v`.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if the version is too long for a tag. Otherwise the error of the source. A tag that does
/// not exist is not an error, and neither is a failure to list the tags.
pub async fn resolve_version(source: &dyn Source, version: &Version) -> crate::Result<Tag> {
    let [plain, prefixed] = tag::version_tags(version)?;
    for release in [&plain, &prefixed] {
        let identifier = Identifier::Tag(release.index().clone());
        if source.resolve(&identifier).await.optional()?.is_some() {
            return Ok(release.index().clone());
        }
    }
    let tags = source.tags().try_collect::<Vec<Tag>>().await;
    let tags = tags.unwrap_or_default();
    let has_targets =
        |release: &ReleaseTag| tags.iter().any(|tag| release.parse_target(tag).is_some());
    let release = if !has_targets(&plain) && has_targets(&prefixed) {
        prefixed
    } else {
        plain
    };
    Ok(release.index().clone())
}

/// Checks that the tag of a reference `REPOSITORY:TAG@DIGEST` refers to the digest. A copy to a location without a tag
/// sets this tag there. Locations without a tag or digest, and layouts and archives, are not checked.
///
/// # Errors
///
/// [`ErrorKind::Mismatch`] if the tag does not exist or refers to another manifest. Otherwise the error of the source.
pub async fn check_tag_of_digest(source: &dyn Source, location: &Location) -> crate::Result<()> {
    // Several names in an archive may share one tag, so such a tag does not identify the manifest.
    let Location::Registry(reference) = location else {
        return Ok(());
    };
    let (Some(tag), Some(digest)) = (reference.tag(), reference.digest()) else {
        return Ok(());
    };
    let current = source.resolve(&tag.clone().into()).await.optional()?;
    ensure!(
        current.is_some_and(|current| current.digest == *digest),
        OtherDigestSnafu {
            location: location.clone(),
            tag: tag.clone(),
        }
    );
    Ok(())
}

/// Release of which only some targets are published, so that its tag does not exist yet. `Display` writes one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncompleteRelease {
    /// Tag that does not exist yet.
    pub tag: ReleaseTag,
    /// Number of published targets.
    pub targets: usize,
}

impl fmt::Display for IncompleteRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, targets } = self;
        let noun = if tag.is_released() {
            "version tag"
        } else {
            "index"
        };
        write!(
            f,
            "{tag} has no {noun} yet (targets published so far: {targets})"
        )
    }
}

/// Returns the incomplete release to which a selected manifest belongs: the manifest has a target tag, and the tag
/// `identifier` does not exist. `index` is the index from which the manifest was selected.
///
/// Sends no request if there is an index, or if the manifest is not the manifest of a package target. Returns `None` if
/// the tags cannot be listed.
pub async fn find_incomplete_release(
    source: &dyn Source,
    identifier: &Identifier,
    manifest: &Manifest,
    index: Option<&Digest>,
) -> Option<IncompleteRelease> {
    let (Identifier::Tag(tag), None) = (identifier, index) else {
        return None;
    };
    PackageTarget::read(manifest)?;
    let release = ReleaseTag::new(tag.clone()).ok()?;
    if source.resolve(identifier).await.is_ok() {
        return None;
    }
    let tags: Vec<Tag> = source.tags().try_collect().await.ok()?;
    if tags.contains(tag) {
        return None;
    }
    let targets = tags.iter().filter_map(|tag| release.parse_target(tag));
    let targets = targets.count();
    (targets > 0).then_some(IncompleteRelease {
        tag: release,
        targets,
    })
}

/// Whether a source has a tag of this version, or a tag of one of its targets.
///
/// # Errors
///
/// As [`Source::tags`].
pub async fn has_version(source: &dyn Source, version: &Version) -> crate::Result<bool> {
    let mut tags = source.tags();
    while let Some(tag) = tags.try_next().await? {
        if version_of(&tag).as_ref() == Some(version) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the version in the tag of a version or of one of its targets.
fn version_of(tag: &Tag) -> Option<Version> {
    let (release, _) = tag::split(tag);
    tag::parse_version(release)
}

/// Fetches the manifest that `identifier` refers to. If `wanted` is not empty and the manifest is an index, the entry
/// for the first selector that matches is fetched, and the index is returned, too.
///
/// # Errors
///
/// As [`find_with_index`] for the first selector. If the manifest does not exist, the error has the hints of
/// [`explain`].
pub async fn resolve_manifest(
    source: &dyn Source,
    location: &Location,
    identifier: &Identifier,
    wanted: &[ManifestSelector],
) -> crate::Result<(Manifest, Option<Manifest>)> {
    let requested = match (location.identifier(), identifier) {
        (None, Identifier::Tag(tag)) => location.with(tag.clone()),
        _ => location.clone(),
    };
    let Some((first, others)) = wanted.split_first() else {
        let found = source.manifest(identifier).await;
        return match found {
            Ok(manifest) => Ok((manifest, None)),
            Err(error) => Err(explain(source, &requested, error).await),
        };
    };
    let error = match find_with_index(source, identifier, first).await {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    for candidate in others {
        match find_with_index(source, identifier, candidate).await {
            Err(other) if other.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
    }
    Err(explain_selection(source, &requested, Some(first), error).await)
}

/// Fetches the manifest or index that `identifier` refers to. If it does not exist, fetches the manifest of a target as
/// [`resolve_manifest`] does, because the target tags exist before the index of a version.
///
/// # Errors
///
/// As [`resolve_manifest`].
pub async fn resolve_manifest_or_target(
    source: &dyn Source,
    location: &Location,
    identifier: &Identifier,
    wanted: &[ManifestSelector],
) -> crate::Result<(Manifest, Option<Manifest>)> {
    match source.manifest(identifier).await {
        Ok(manifest) => Ok((manifest, None)),
        Err(error) if error.kind() == ErrorKind::NotFound && !wanted.is_empty() => {
            resolve_manifest(source, location, identifier, wanted).await
        }
        Err(error) => Err(explain(source, location, error).await),
    }
}

/// Adds hints to an error that reports missing content of a source: the target tags of a version that has no index
/// yet, or else a similar tag, and how to list the existing tags. Other errors, and errors that already have hints, are
/// returned unchanged.
///
/// Sends one request for tags, with a timeout of two seconds.
pub async fn explain(source: &dyn Source, location: &Location, error: Error) -> Error {
    explain_selection(source, location, None, error).await
}

/// Adds hints as [`explain`]. If a target was requested of a version that has no index yet, the hint lists the targets
/// instead of their tags.
async fn explain_selection(
    source: &dyn Source,
    location: &Location,
    selector: Option<&ManifestSelector>,
    error: Error,
) -> Error {
    if !is_missing_in_source(&error) || !error.hints().is_empty() {
        return error;
    }
    let repository = location.whole_repository();
    let tags = source.tags().take(MAX_TAGS).try_collect::<Vec<Tag>>();
    let tags = match tokio::time::timeout(SUGGESTION_TIMEOUT, tags).await {
        Ok(Ok(tags)) => tags,
        Ok(Err(list_error)) if list_error.kind() == ErrorKind::NotFound => {
            return explain_repository(location, error);
        }
        Ok(Err(_)) | Err(_) => return error.with_hints([list_tags_hint(&repository)]),
    };
    if tags.is_empty() {
        let advice = missing_tags_hint(source, &repository).await;
        return error.with_hints([advice]);
    }
    // If the tag exists, its index has no matching entry, so a similar tag is no help.
    let wanted = location.tag().filter(|tag| !tags.contains(tag));
    let targets = wanted.and_then(|tag| match selector {
        Some(selector) => missing_target_hint(tag, selector, &tags),
        None => target_tags_hint(tag, &repository, &tags),
    });
    if let Some(advice) = targets {
        return error.with_hints([advice]);
    }
    // Among equally similar tags, the highest version is suggested.
    let mut candidates: Vec<_> = tags.iter().collect();
    candidates.sort_by_cached_key(|tag| Reverse(version_of(tag)));
    let candidates = candidates.into_iter().map(Tag::as_str);
    let similar = wanted
        .and_then(|tag| find_similar_name(tag.as_str(), candidates))
        .and_then(|similar| similar.parse::<Tag>().ok());
    let similar = similar.map(|similar| {
        let reference = repository.with(similar);
        Hint::from(format!("a tag with a similar name exists: `{reference}`"))
    });
    error.with_hints(similar.into_iter().chain([list_tags_hint(&repository)]))
}

/// Adds the hint to check the repository name to an error that reports missing content of a registry. Other errors are
/// returned unchanged.
pub fn explain_repository(location: &Location, error: Error) -> Error {
    match location {
        Location::Registry(reference) if is_missing_in_source(&error) => {
            error.with_hints([Hint::CheckRepository {
                registry: reference.registry().to_string(),
                repository: reference.repository().to_string(),
            }])
        }
        _ => error,
    }
}

/// Whether an error reports that content of the source does not exist. An error of a copy may concern the target of the
/// copy instead.
fn is_missing_in_source(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.side() != Some(Side::Target)
}

/// Returns the hint that lists the target tags of `wanted`, if there are any.
fn target_tags_hint(wanted: &Tag, repository: &Location, tags: &[Tag]) -> Option<Hint> {
    let release = ReleaseTag::new(wanted.clone()).ok()?;
    let targets = tags
        .iter()
        .filter(|tag| release.parse_target(tag).is_some())
        .map(|tag| format!("`{}`", repository.with(tag.clone())));
    let targets: Vec<_> = targets.collect();
    (!targets.is_empty()).then(|| {
        let targets = targets.join(", ");
        format!("use a target tag: {targets}; `{wanted}` is incomplete").into()
    })
}

/// Returns the hint that a target of `wanted` is not published yet, if other targets are.
fn missing_target_hint(wanted: &Tag, selector: &ManifestSelector, tags: &[Tag]) -> Option<Hint> {
    let release = ReleaseTag::new(wanted.clone()).ok()?;
    let targets = tags.iter().filter_map(|tag| release.parse_target(tag));
    let targets: Vec<_> = targets.collect();
    (!targets.is_empty()).then(|| {
        let targets = targets.join(", ");
        format!(
            "`{wanted}` is not published for `{selector}` yet; targets published so far: {targets}"
        )
        .into()
    })
}

fn list_tags_hint(location: &Location) -> Hint {
    Hint::ListTags {
        location: location.whole_repository().to_string(),
    }
}

/// Returns the hint for a location that has no release.
async fn missing_release_hint(source: &dyn Source, location: &Location, tags: &[Tag]) -> Hint {
    match tags {
        [] => missing_tags_hint(source, location).await,
        [only] => {
            format!("pass the tag `{only}`: it is the only tag, and it is not a version").into()
        }
        _ => list_tags_hint(location),
    }
}

/// Returns the hint for a location that has no tags. An entry of a layout or archive may have a name that is not a tag.
async fn missing_tags_hint(source: &dyn Source, location: &Location) -> Hint {
    let others = source.other_names().await.unwrap_or_default();
    let advice = match others.first() {
        Some(other) => {
            let name = escape(&other.name, MAX_NAME);
            format!("use the full name of an entry, such as `{location}:{name}`")
        }
        None => format!("check the location: `{location}` is empty"),
    };
    advice.into()
}

/// Returns the hint for the highest allowed version that has target tags but no index yet.
fn incomplete_release_hint(
    tags: &[Tag],
    location: &Location,
    is_restricted: bool,
    is_allowed: impl Fn(&Version) -> bool,
) -> Option<Hint> {
    let releases = tags.iter().filter_map(|tag| match tag::split(tag) {
        (version, Some(_)) => version.parse::<Tag>().ok(),
        (_, None) => None,
    });
    let releases: Vec<_> = releases
        .filter(|tag| tag::version(tag).is_some_and(|version| is_allowed(&version)))
        .collect();
    let (release, version) = tag::highest(&releases)?;
    let targets = tags.iter().filter_map(|tag| match tag::split(tag) {
        (version, Some(target)) if version == release.as_str() => Some(target),
        _ => None,
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    let rank = if releases.iter().all(|other| other == release) {
        "only"
    } else {
        "highest"
    };
    let noun = if is_restricted {
        "matching release"
    } else {
        "release"
    };
    let reference = location.with(release.clone());
    let advice = format!(
        "the {rank} {noun}, {version}, is incomplete; `{reference}` selects what is published: {targets}"
    );
    Some(advice.into())
}

#[cfg(test)]
mod tests;
