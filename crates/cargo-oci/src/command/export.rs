//! `cargo oci export`: export the root filesystem of an image as one tar archive.

use std::path::PathBuf;

use clap::Args;
use oci_registry::{ErrorKind, ExportOptions, Location, LocationText};

use super::find::{self, SelectorFlags};
use crate::options::parse_location;
use crate::output;
use crate::report::Error;
use crate::session::Session;

/// Export the root filesystem of an image as a tar archive
///
/// All layers are downloaded and verified before the first byte is written. Owners, modes and modification times are
/// kept, and the same image always produces the same bytes. For a multi-platform index, the image for this machine is
/// selected unless `--target` or `--platform` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci export docker.io/library/alpine:3.20 | tar --list\n  cargo oci export ghcr.io/acme/image:1 --platform linux/arm64 --output root.tar\n  cargo oci export docker-archive:image.tar:acme/image:1 --output root.tar"
)]
pub(crate) struct Flags {
    /// Image to export: REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    #[command(flatten)]
    selector: SelectorFlags,

    /// Write to FILE instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(long, requires = "output")]
    force: bool,
}

/// Downloads and verifies all layers, and writes the root filesystem as a tar archive.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    if flags.output.is_none() && output::is_stdout_terminal() {
        return Err(Error::usage("refusing to write an archive to a terminal")
            .help("write it to a file with `--output FILE`, or pipe it to another program"));
    }
    if let Some(path) = &flags.output {
        output::check(&session.resolve(path), flags.force)?;
    }
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (manifest, index) = find::select_manifest(&*source, &reference, &root, selector).await?;
    let selected = (&manifest, index.as_ref());
    find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    let name = reference.with(manifest.digest().clone());
    session.reporter.status("Exporting", &name);
    let options = ExportOptions::default();
    if let Some(path) = flags.output {
        let output = output::create(session.resolve(&path), flags.force).await?;
        let file = tokio::fs::File::from_std(output.file()?);
        let exported = oci_registry::export(&*source, &manifest, file, options).await;
        exported.map_err(|error| with_pull_hint(error, &name))?;
        let is_stdout = output.is_stdout();
        output::finish(output).await?;
        session.reporter.status("Exported", path.display());
        // If FILE refers to stdout, the reference is not printed, so that stdout contains only the archive.
        if is_stdout {
            return Ok(());
        }
        return session.report_finished(&name, manifest.digest(), None);
    }
    let exported = oci_registry::export(&*source, &manifest, tokio::io::stdout(), options).await;
    exported.map_err(|error| {
        if is_broken_pipe(&error) {
            // A closed pipe counts as success, because a reader such as `head` may stop early.
            std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
        } else {
            with_pull_hint(error, &name)
        }
    })
}

/// Adds a hint about `cargo oci pull` to the error for an artifact that is not an image.
fn with_pull_hint(error: oci_registry::Error, name: &Location) -> Error {
    let is_unsupported = error.kind() == ErrorKind::Unsupported;
    let error = Error::from(error);
    if is_unsupported && !error.has_help() {
        return error.help(format!(
            "run `cargo oci pull {name}` to download the files of an artifact that is not an image"
        ));
    }
    error
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            return true;
        }
        current = error.source();
    }
    false
}
