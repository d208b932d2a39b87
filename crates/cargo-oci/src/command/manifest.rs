//! `cargo oci manifest`: print a manifest as JSON, or its exact bytes.

use clap::Args;
use oci_registry::{LocationText, Manifest};

use super::find::{self, SelectorFlags};
use crate::options::parse_location;
use crate::report::{self, Error};
use crate::session::Session;

/// Show a manifest or index
///
/// For a multi-platform index, the index itself is shown unless `--target` or `--platform` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci manifest ghcr.io/acme/widgets:1.2.3\n  cargo oci manifest ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl\n  cargo oci manifest oci:target/oci/widgets:1.2.3 --raw | sha256sum"
)]
pub(crate) struct Flags {
    /// Manifest to show (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,

    /// Print the exact bytes of the manifest, without formatting
    #[arg(long)]
    raw: bool,
}

/// Fetches the manifest and prints it.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (manifest, index) =
        find::resolve_manifest_with_index(&*source, &reference, &root, selector.as_ref()).await?;
    if selector.is_some() {
        let selected = (&manifest, index.as_ref().map(Manifest::digest));
        find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    }
    if flags.raw {
        return report::write_bytes(manifest.bytes());
    }
    let bytes = manifest.bytes();
    let shown = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => format!("{value:#}"),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    report::write_json(&shown)
}
