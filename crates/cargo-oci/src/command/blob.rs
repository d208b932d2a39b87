//! `cargo oci blob`: download a blob.

use std::path::PathBuf;

use clap::Args;
use futures_util::TryStreamExt;
use oci_registry::{ErrorKind, LocationText};

use crate::figures::Size;
use crate::options::location;
use crate::report::{self, Error};
use crate::session::Session;
use crate::{naming, output};

/// Maximum size of text that is printed to a terminal, in bytes.
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
    #[arg(value_name = "REFERENCE", value_parser = location)]
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
    let Some(digest) = naming::digest(&reference) else {
        let name = format!("failed to fetch `{reference}`: missing digest");
        return Err(Error::usage(name).help(format!(
            "`cargo oci manifest {reference}` lists the digests of its blobs"
        )));
    };
    if let Some(path) = &flags.output {
        output::check(&session.resolve(path), flags.force)?;
    }
    let source = session.source(&reference).await?;
    let found = source.find_blob(&digest).await.map_err(|error| {
        let is_absent = error.kind() == ErrorKind::NotFound;
        let error = Error::from(error);
        if is_absent {
            error.help(format!(
                "if it is the digest of a manifest, run `cargo oci manifest {reference}`"
            ))
        } else {
            error
        }
    })?;
    let mut content = source.blob(&found).await?;
    if let Some(path) = flags.output {
        let output = output::create(session.resolve(&path), flags.force).await?;
        output.write(content).await?;
        let is_stdout = output.is_stdout();
        output::finish(output).await?;
        let what = format!("{} ({})", path.display(), Size(found.size));
        session.reporter.status("Fetched", what);
        // As without `--output`, stdout contains the blob only.
        if is_stdout {
            return Ok(());
        }
        return session.finished(&reference, &digest, None);
    }
    if output::is_terminal() {
        let advice = "write it to a file with `--output FILE`, or pipe it to another program";
        let not_text = || {
            let name =
                format!("refusing to print `{reference}` to a terminal: the content is not text");
            Error::usage(name).help(advice)
        };
        if found.size > MAX_TERMINAL_TEXT {
            return Err(not_text());
        }
        let limit = usize::try_from(MAX_TERMINAL_TEXT).unwrap_or(usize::MAX);
        let bytes = content.read_to_end(limit).await?;
        let is_active = |text: &str| {
            let mut characters = text.chars();
            characters.any(|character| {
                !matches!(character, '\n' | '\t') && oci_registry::is_active(character)
            })
        };
        let text = std::str::from_utf8(&bytes).ok();
        let text = text.filter(|text| !is_active(text)).ok_or_else(not_text)?;
        return report::bytes(text.as_bytes());
    }
    while let Some(piece) = content.try_next().await? {
        report::bytes(&piece)?;
    }
    Ok(())
}
