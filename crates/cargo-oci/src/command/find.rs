//! Selection of the manifest that a command reads: for `--target`, for `--platform`, or for this machine.

use std::path::Path;

use clap::Args;
use oci_package::{ManifestOrigin, ManifestSelector};
use oci_registry::{Digest, Identifier, Location, Manifest, Platform, Source};

use crate::report::{Error, Reporter};

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Root directory that is searched to detect the libc of this machine.
const FILE_SYSTEM_ROOT: &str = "/";

/// Flags that select a manifest of an index.
#[derive(Debug, Args)]
pub(crate) struct SelectorFlags {
    /// Select the manifest for this target triple
    #[arg(long, value_name = "TRIPLE", conflicts_with = "platform")]
    target: Option<String>,

    /// Select the manifest for this platform: OS/ARCHITECTURE[/VARIANT]
    #[arg(long, value_name = "PLATFORM", value_parser = parse_platform)]
    platform: Option<Platform>,
}

fn parse_platform(text: &str) -> Result<Platform, String> {
    oci_package::platform::parse(text).map_err(|error| error.to_string())
}

impl SelectorFlags {
    /// Returns the target or platform that the flags select, if any.
    pub(crate) fn manifest_selector(&self) -> Option<ManifestSelector> {
        let target = self.target.as_deref().map(parse_target);
        target.or_else(|| self.platform.clone().map(ManifestSelector::Platform))
    }
}

/// Parses the value of `--target`, in the syntax of `cargo oci push`.
pub(crate) fn parse_target(text: &str) -> ManifestSelector {
    ManifestSelector::from_target(text, Path::new(FILE_SYSTEM_ROOT), BUILT_FOR)
}

/// Selects the manifest whose files are downloaded, and checks that its tag, index and config do not contradict it.
///
/// If `selector` is `None`, the best manifest for this machine is selected. If the manifest was selected from an index,
/// the digest of the index is returned as well.
pub(crate) async fn select_manifest(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    selector: Option<ManifestSelector>,
) -> Result<(Manifest, Option<Digest>), Error> {
    let (manifest, index) = resolve_for_machine(source, location, root, selector).await?;
    let origin = ManifestOrigin::new(location, root).with_index(index.as_ref());
    oci_package::check(source, origin, &manifest).await?;
    Ok((manifest, index.map(|index| index.digest().clone())))
}

/// Returns the selected manifest, and the index that lists it. If `selector` is `None`, the best manifest for this
/// machine is selected.
pub(crate) async fn resolve_for_machine(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    selector: Option<ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    let candidates = selector.map_or_else(machine_selectors, |selector| vec![selector]);
    Ok(oci_package::resolve_manifest(source, location, root, &candidates).await?)
}

/// Returns the selectors for this machine, the preferred selector first.
fn machine_selectors() -> Vec<ManifestSelector> {
    ManifestSelector::for_machine(Path::new(FILE_SYSTEM_ROOT), BUILT_FOR)
}

/// Prints a warning if a selected manifest belongs to an incomplete release. `index` is the index from which the manifest
/// was selected.
pub(crate) async fn warn_if_incomplete(
    reporter: Reporter,
    source: &dyn Source,
    root: &Identifier,
    (manifest, index): (&Manifest, Option<&Digest>),
) {
    let found = oci_package::find_incomplete_release(source, root, manifest, index).await;
    if let Some(release) = found {
        reporter.warn(release);
    }
}

/// Returns the manifest or index with this tag or digest. If it does not exist, or if a selector is given, returns the
/// manifest that [`resolve_for_machine`] selects.
pub(crate) async fn resolve_manifest_or_target(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    selector: Option<ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    if selector.is_some() {
        return resolve_for_machine(source, location, root, selector).await;
    }
    Ok(
        oci_package::resolve_manifest_or_target(source, location, root, &machine_selectors())
            .await?,
    )
}

/// Returns the manifest with this tag or digest. If a selector is given and the manifest is an index, returns the
/// selected manifest and the index.
pub(crate) async fn resolve_manifest_with_index(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    selector: Option<&ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    let candidates = selector.map_or(&[][..], std::slice::from_ref);
    Ok(oci_package::resolve_manifest(source, location, root, candidates).await?)
}

/// Like [`resolve_manifest_with_index`], but returns only the manifest.
pub(crate) async fn resolve_manifest(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    selector: Option<&ManifestSelector>,
) -> Result<Manifest, Error> {
    let (found, _) = resolve_manifest_with_index(source, location, root, selector).await?;
    Ok(found)
}

/// Returns the tag or digest of a location. The default is the tag of the highest release.
pub(crate) async fn resolve_identifier(
    source: &dyn Source,
    location: &Location,
) -> Result<Identifier, Error> {
    Ok(oci_package::resolve_identifier(source, location, None).await?)
}
