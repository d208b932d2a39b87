//! `cargo oci digest`: print the digest of an artifact.

use clap::Args;
use oci_registry::{LocationText, Manifest};

use super::find::{self, SelectorFlags};
use crate::options::parse_location;
use crate::report::{self, Error};
use crate::session::Session;

/// Print the digest of an artifact
///
/// For a multi-platform index, the digest of the index itself is printed unless `--target` or `--platform` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci digest ghcr.io/acme/widgets:1.2.3\n  cargo oci digest ghcr.io/acme/widgets --target x86_64-unknown-linux-musl\n  cargo oci digest oci-archive:widgets.tar:1.2.3"
)]
pub(crate) struct Flags {
    /// Artifact to print the digest of (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,
}

/// Resolves the reference and prints the digest. The manifest is fetched only if a target or platform is selected.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let digest = match flags.selector.manifest_selector() {
        Some(selector) => {
            let selector = Some(&selector);
            let (manifest, index) =
                find::resolve_manifest_with_index(&*source, &reference, &root, selector).await?;
            let selected = (&manifest, index.as_ref().map(Manifest::digest));
            find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
            manifest.digest().clone()
        }
        None => match source.resolve(&root).await {
            Ok(found) => found.digest,
            Err(error) => {
                return Err(oci_package::explain(&*source, &reference, error)
                    .await
                    .into());
            }
        },
    };
    report::write_line(digest)
}
