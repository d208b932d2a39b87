//! `cargo oci blob`: download a blob.

use std::path::PathBuf;

use clap::Args;
use futures_util::TryStreamExt;
use oci_registry::{ErrorKind, LocationText};

use crate::figures::Size;
use crate::options::parse_location;
use crate::output;
use crate::report::{self, Error};
use crate::session::Session;

/// Maximum size of a text blob that is printed to a terminal, in bytes.
const MAX_TERMINAL_TEXT: u64 = 1 << 20;

/// Download a blob
///
/// The digest is verified during the download. A file gets its name only after verification. Output to stdout, a device
/// or a pipe may be incomplete when the exit code is 7 (digest or size mismatch). Only text is printed to a terminal.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci blob ghcr.io/acme/widgets@sha256:DIGEST --output widgets\n  cargo oci blob oci:widgets@sha256:DIGEST | tar --list"
)]
pub(crate) struct Flags {
    /// Blob to download: REGISTRY/REPOSITORY@DIGEST, oci:DIR@DIGEST or an archive
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    /// Write to FILE instead of stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(long, requires = "output")]
    force: bool,
}

/// Downloads the blob and writes it to the file or to stdout.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let Some(digest) = reference.digest().cloned() else {
        let name = format!("failed to fetch `{reference}`: missing digest");
        return Err(Error::usage(name).help(format!(
            "append `@DIGEST`; run `cargo oci manifest {reference}` to list the digests of its blobs"
        )));
    };
    if let Some(path) = &flags.output {
        output::check(&session.resolve(path), flags.force)?;
    }
    let source = session.open_source(&reference).await?;
    let descriptor = source.find_blob(&digest).await.map_err(|error| {
        let is_missing = error.kind() == ErrorKind::NotFound;
        let error = Error::from(error);
        if is_missing {
            error.help(format!(
                "run `cargo oci manifest {reference}` if this is the digest of a manifest"
            ))
        } else {
            error
        }
    })?;
    let mut content = source.blob(&descriptor).await?;
    if let Some(path) = flags.output {
        let output = output::create(session.resolve(&path), flags.force).await?;
        output.write(content).await?;
        let is_stdout = output.is_stdout();
        output::finish(output).await?;
        let object = format!("{} ({})", path.display(), Size(descriptor.size));
        session.reporter.status("Fetched", object);
        // If FILE refers to stdout, the reference is not printed, so that stdout contains only the blob.
        if is_stdout {
            return Ok(());
        }
        return session.report_finished(&reference, &digest, None);
    }
    if output::is_stdout_terminal() {
        let advice = "write it to a file with `--output FILE`, or pipe it to another program";
        let not_text = || {
            let name =
                format!("refusing to print `{reference}` to a terminal: the content is not text");
            Error::usage(name).help(advice)
        };
        if descriptor.size > MAX_TERMINAL_TEXT {
            return Err(not_text());
        }
        let limit = usize::try_from(MAX_TERMINAL_TEXT).unwrap_or(usize::MAX);
        let bytes = content.read_to_end(limit).await?;
        let needs_escape = |text: &str| {
            let mut characters = text.chars();
            characters.any(|character| {
                !matches!(character, '\n' | '\t') && oci_registry::needs_escape(character)
            })
        };
        let text = std::str::from_utf8(&bytes).ok();
        let text = text
            .filter(|text| !needs_escape(text))
            .ok_or_else(not_text)?;
        return report::write_bytes(text.as_bytes());
    }
    while let Some(chunk) = content.try_next().await? {
        report::write_bytes(&chunk)?;
    }
    Ok(())
}
