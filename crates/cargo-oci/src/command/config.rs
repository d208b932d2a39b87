//! `cargo oci config`: print the config of an artifact.

use clap::Args;
use oci_registry::{ErrorKind, LocationText, Manifest};

use super::find::{self, SelectorFlags};
use crate::options::parse_location;
use crate::report::{self, Error};
use crate::session::Session;

/// Maximum size of a config, in bytes.
const MAX_SIZE: usize = 8 << 20;

/// Show the config of an artifact as JSON
///
/// For a multi-platform index, the config of the manifest for this machine is shown unless `--target` or `--platform`
/// selects another one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci config ghcr.io/acme/widgets\n  cargo oci config ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl\n  cargo oci config docker.io/library/alpine:3.20 --platform linux/arm64\n  cargo oci config oci:widgets:1.2.3__x86_64-unknown-linux-gnu"
)]
pub(crate) struct Flags {
    /// Artifact to read the config of (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,
}

/// Downloads the config and prints it as formatted JSON.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (manifest, index) =
        find::resolve_for_machine(&*source, &reference, &root, selector).await?;
    let selected = (&manifest, index.as_ref().map(Manifest::digest));
    find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    let name = reference.with(manifest.digest().clone());
    let Some(image) = manifest.as_image() else {
        return Err(Error::usage(format!(
            "failed to show the config of `{name}`: the manifest has no config"
        )));
    };
    let content = source.blob(&image.config).await?;
    let bytes = content.read_to_end(MAX_SIZE).await?;
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(value) => report::write_json(&format!("{value:#}")),
        Err(_) => Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "failed to parse the config of `{name}` as JSON: its media type is `{}`",
                image.config.media_type
            ),
        )
        .help(format!(
            "run `cargo oci blob {}` to download its bytes",
            reference.with(image.config.digest.clone())
        ))),
    }
}
