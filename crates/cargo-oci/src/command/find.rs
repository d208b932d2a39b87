//! Selection of the manifest that a command reads, by its flags or for this machine.

use std::path::Path;

use clap::Args;
use oci_package::{ManifestOrigin, ManifestSelector};
use oci_registry::{Digest, Identifier, Location, Manifest, Platform, Source};

use crate::report::Error;

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Root directory of this machine.
const ROOT: &str = "/";

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
    /// Returns the target or platform of the flags, if one is given.
    pub(crate) fn wanted(&self) -> Option<ManifestSelector> {
        let target = self.target.as_deref().map(target);
        target.or_else(|| self.platform.clone().map(ManifestSelector::Platform))
    }
}

/// Parses the value of `--target`, in the syntax of `cargo oci push`.
pub(crate) fn target(text: &str) -> ManifestSelector {
    ManifestSelector::from_target(text, Path::new(ROOT), BUILT_FOR)
}

/// Finds the wanted manifest, by default the best for this machine, and checks that its documents agree. Also returns the
/// digest of the index, if the manifest was selected in one.
pub(crate) async fn for_use(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<ManifestSelector>,
) -> Result<(Manifest, Option<Digest>), Error> {
    let candidates = match wanted {
        Some(wanted) => vec![wanted],
        None => ManifestSelector::for_machine(Path::new(ROOT), BUILT_FOR),
    };
    let found = oci_package::resolve_manifest(source, location, root, &candidates).await;
    let (manifest, index) = found?;
    let origin = ManifestOrigin::new(location, root).with_index(index.as_ref());
    oci_package::check(source, origin, &manifest).await?;
    Ok((manifest, index.map(|index| index.digest().clone())))
}

/// Finds the manifest that a location identifies, or the wanted one in an index. Also returns that index.
pub(crate) async fn listed(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<&ManifestSelector>,
) -> Result<(Manifest, Option<Manifest>), Error> {
    let candidates = wanted.map_or(&[][..], std::slice::from_ref);
    Ok(oci_package::resolve_manifest(source, location, root, candidates).await?)
}

/// Finds a manifest as [`listed`] does, without its index.
pub(crate) async fn manifest(
    source: &dyn Source,
    location: &Location,
    root: &Identifier,
    wanted: Option<&ManifestSelector>,
) -> Result<Manifest, Error> {
    let (found, _) = listed(source, location, root, wanted).await?;
    Ok(found)
}

/// Returns the identifier of a location, or the tag of its highest release.
pub(crate) async fn root(source: &dyn Source, location: &Location) -> Result<Identifier, Error> {
    Ok(oci_package::resolve_identifier(source, location, None).await?)
}
