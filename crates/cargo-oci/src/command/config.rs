//! `cargo oci config`: what the config of an artifact says.

use clap::Args;
use oci_registry::{ErrorKind, LocationText};

use super::find::{self, Selector};
use crate::options::location;
use crate::report::{self, Error};
use crate::session::Session;

/// Largest config that is shown, in bytes.
const MAX_SIZE: usize = 8 << 20;

/// Show the config of an artifact as JSON
///
/// For a multi-platform index, `--target` or `--platform` selects the manifest.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci config ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl\n  cargo oci config docker.io/library/alpine:3.20 --platform linux/arm64\n  cargo oci config oci:widgets:1.2.3__x86_64-unknown-linux-gnu"
)]
pub(crate) struct Flags {
    /// Artifact to read the config of (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = location)]
    reference: LocationText,

    #[command(flatten)]
    selector: Selector,
}

/// Fetches the config and prints it.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.source(&reference).await?;
    let root = find::root(&*source, &reference).await?;
    let wanted = flags.selector.wanted();
    let manifest = find::manifest(&*source, &reference, &root, wanted.as_ref()).await?;
    let name = reference.with(manifest.digest().clone());
    let Some(image) = manifest.as_image() else {
        let what = if manifest.as_index().is_some() {
            "it is an index, and only the manifests in it have configs"
        } else {
            "it is of a kind that has none"
        };
        return Err(
            Error::usage(format!("failed to show the config of `{name}`: {what}"))
                .help("choose a manifest with `--target` or `--platform`"),
        );
    };
    let content = source.blob(&image.config).await?;
    let bytes = content.read_to_end(MAX_SIZE).await?;
    match serde_json::from_slice::<serde_json::Value>(&bytes) {
        Ok(value) => report::json(&format!("{value:#}")),
        Err(_) => Err(Error::new(
            ErrorKind::Protocol,
            format!(
                "failed to read the config of `{name}` as JSON: it is `{}`",
                image.config.media_type
            ),
        )
        .help(format!(
            "`cargo oci blob {}` gives its bytes",
            reference.with(image.config.digest.clone())
        ))),
    }
}
