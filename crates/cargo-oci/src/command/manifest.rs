//! `cargo oci manifest`: print a manifest as JSON, or its exact bytes.

use clap::Args;
use oci_registry::LocationText;

use super::find::{self, Selector};
use crate::options::location;
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
    #[arg(value_name = "REFERENCE", value_parser = location)]
    reference: LocationText,

    #[command(flatten)]
    selector: Selector,

    /// Print the exact bytes of the manifest, without formatting
    #[arg(long)]
    raw: bool,
}

/// Finds and prints the manifest.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.source(&reference).await?;
    let root = find::root(&*source, &reference).await?;
    let wanted = flags.selector.wanted();
    let manifest = find::manifest(&*source, &reference, &root, wanted.as_ref()).await?;
    if flags.raw {
        return report::bytes(manifest.bytes());
    }
    let bytes = manifest.bytes();
    let shown = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(value) => format!("{value:#}"),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    report::json(&shown)
}
