//! Selection of a manifest: by tag or highest release, and for a target, a platform or this machine.

use std::path::Path;

use clap::Args;
use futures_util::TryStreamExt;
use oci_package::platform::{HOST_TUPLE, target_name};
use oci_package::{Machine, ManifestOrigin, ManifestSelector, tag};
use oci_registry::{Digest, ErrorKind, Identifier, Location, Manifest, Platform, Source, Tag};
use semver::Version;

use super::missing;
use crate::report::Error;

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Flags that select a manifest of an index.
#[derive(Debug, Args)]
pub(crate) struct Selector {
    /// Select the manifest for this target triple
    #[arg(long, value_name = "TRIPLE", conflicts_with = "platform")]
    target: Option<String>,

    /// Select the manifest for this platform: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", value_parser = platform)]
    platform: Option<Platform>,
}

fn platform(text: &str) -> Result<Platform, String> {
    oci_package::platform::parse(text).map_err(|error| error.to_string())
}

impl Selector {
    /// Returns the target or platform of the flags, if any.
    pub(crate) fn wanted(&self) -> Option<ManifestSelector> {
        let target = self.target.as_deref().map(target);
        target.or_else(|| self.platform.clone().map(ManifestSelector::Platform))
    }
}

/// Parses the value of `--target`, in the syntax of `cargo oci push`.
pub(crate) fn target(text: &str) -> ManifestSelector {
    let host = if text == HOST_TUPLE {
        machines().remove(0).target
    } else {
        BUILT_FOR.to_owned()
    };
    ManifestSelector::Target(target_name(text, &host))
}

/// Finds the requested manifest, or the best one for this machine, and checks that tag, index, manifest and config agree.
/// Also returns the digest of the index that the manifest was selected from, if any.
pub(crate) async fn for_use(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    requested: Option<ManifestSelector>,
) -> Result<(Manifest, Option<Digest>), Error> {
    let candidates = if let Some(requested) = requested {
        vec![requested]
    } else {
        machines()
            .into_iter()
            .map(ManifestSelector::Machine)
            .collect()
    };
    let mut first_error = None;
    for wanted in &candidates {
        match oci_package::find_listed(source, root, wanted).await {
            Ok((found, index)) => {
                let listing = ManifestOrigin::new(location, root).with_index(index.as_ref());
                oci_package::check(source, listing, &found).await?;
                return Ok((found, index.map(|index| index.digest().clone())));
            }
            Err(error) => {
                let error = Error::from(error);
                if !error.is_not_found() {
                    return Err(error);
                }
                first_error = first_error.or(Some(error));
            }
        }
    }
    let error = first_error.expect("at least one candidate");
    Err(missing::explain(source, location, error).await)
}

/// Returns the kinds of machine that this one is compatible with, the best first. Never empty.
fn machines() -> Vec<Machine> {
    Machine::detect(Path::new("/"), BUILT_FOR)
}

/// Finds a manifest.
pub(crate) async fn manifest(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<&ManifestSelector>,
) -> Result<Manifest, Error> {
    let (found, _) = listed(source, location, root, wanted).await?;
    Ok(found)
}

/// Finds a manifest, and the index that it was selected from.
pub(crate) async fn listed(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<&ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    match fetch(source, root, wanted).await {
        Err(error) => Err(missing::explain(source, location, error).await),
        found => found,
    }
}

async fn fetch(
    source: &dyn Source,
    root: &Identifier,
    wanted: Option<&ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    Ok(match wanted {
        Some(wanted) => oci_package::find_listed(source, root, wanted).await?,
        None => (source.manifest(root).await?, None),
    })
}

/// Returns the tag or digest of a location. The default is the highest release, or the only tag of an archive.
pub(crate) async fn root(source: &dyn Source, location: &Location) -> Result<Identifier, Error> {
    if let Some(identifier) = location.identifier() {
        return Ok(identifier);
    }
    let tags: oci_registry::Result<Vec<Tag>> = source.tags().try_collect().await;
    let tags = tags.map_err(|error| missing::repository(error.into(), location))?;
    if let (Location::Archive { .. }, [only]) = (location, &tags[..]) {
        return Ok(only.clone().into());
    }
    if let Some((tag, _)) = tag::highest(&tags) {
        return Ok(tag.clone().into());
    }
    let help = match (incomplete(&tags, location, |_| true), &tags[..]) {
        (Some(help), _) => help,
        (None, []) => missing::without_tags(source, location).await,
        (None, [only]) => format!("pass a tag: the only one, `{only}`, is not a version"),
        (None, _) => format!(
            "pass a tag: none of its {} tags is a version; `cargo oci tags {location}` lists them",
            tags.len()
        ),
    };
    let message = format!("failed to find a release in `{location}`");
    Err(Error::new(ErrorKind::NotFound, message).help(help))
}

/// Returns the hint for a repository in which no allowed version has an index: the highest version with some targets, and
/// how to select it.
pub(super) fn incomplete(
    tags: &[Tag],
    location: &Location,
    is_allowed: impl Fn(&Version) -> bool,
) -> Option<String> {
    let releases = tags.iter().filter_map(|tag| match tag::split(tag) {
        (version, Some(_)) => version.parse::<Tag>().ok(),
        (_, None) => None,
    });
    let releases: Vec<_> = releases
        .filter(|tag| tag::version(tag).is_some_and(|version| is_allowed(&version)))
        .collect();
    let (release, _) = tag::highest(&releases)?;
    let place = location.with(release.clone());
    Some(format!(
        "`{release}` is not complete, because other targets are missing: use `{place}` to get the available ones"
    ))
}
