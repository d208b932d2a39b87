//! `cargo oci verify`: verify the digests of an artifact, and compare a directory with it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use oci_package::{Comparison, ManifestOrigin, PackageFile};
use oci_registry::{
    Descriptor, ErrorKind, Identifier, Location, LocationText, Manifest, Source, VerifyEvent,
    VerifyOptions,
};

use super::find::{self, SelectorFlags};
use crate::figures::{Size, format_count};
use crate::message::FormatFlag;
use crate::options::parse_location;
use crate::query_result::QueryResult;
use crate::report::Error;
use crate::session::Session;
use crate::table::short_digest;
use crate::{contents, naming};

/// Verify every digest of an artifact, or compare a directory with it
///
/// Downloads the whole artifact and checks digests, sizes and media types. Name, version and target of a package must
/// be the same in its tag, index, manifest and config. Every mismatch is printed, and the exit code is 7. With a
/// directory, its files are then compared with those of the artifact, under the names that `cargo oci pull` gives them
/// or under their published names. The files are those for this machine unless `--target` or `--platform` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci verify ghcr.io/acme/widgets:1.2.3\n  cargo oci verify ghcr.io/acme/widgets:1.2.3 ~/.cargo/bin\n  cargo oci verify oci-archive:backup.tar:1.2.3"
)]
pub(crate) struct Flags {
    /// Artifact to verify (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    /// Directory to compare with the files of the artifact
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    #[command(flatten)]
    selector: SelectorFlags,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Verifies the artifact, and compares the directory with its files.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    if let Some(directory) = &flags.directory
        && !session.resolve(directory).is_dir()
    {
        let message = format!(
            "failed to compare files with `{reference}`: `{}` is not a directory",
            directory.display()
        );
        let help = format!(
            "run `cargo oci pull {reference} --output {}` first",
            directory.display()
        );
        return Err(Error::usage(message).help(help));
    }
    let source = session.open_source(&reference).await?;
    let identifier = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (root, index) = if selector.is_some() {
        let selector = selector.as_ref();
        let (manifest, index) =
            find::resolve_manifest_with_index(&*source, &reference, &identifier, selector).await?;
        (Identifier::Digest(manifest.digest().clone()), index)
    } else {
        (identifier.clone(), None)
    };
    let reporter = session.reporter;
    let report_mismatch = |descriptor: &Descriptor, message: String| {
        reporter.status(
            "Mismatch",
            format_args!("{}: {message}", display_name(descriptor)),
        );
        reporter.emit_query_result(&QueryResult::Mismatch {
            reference: reference.with(descriptor.digest.clone()).to_string(),
            title: descriptor.annotation(oci_package::annotation::TITLE),
            message,
            size: descriptor.size,
            digest: &descriptor.digest,
        });
    };
    let observer = |event: VerifyEvent<'_>| match event {
        VerifyEvent::Wrong(descriptor, error) => report_mismatch(descriptor, error.to_string()),
        VerifyEvent::Skipped(descriptor) => {
            let reason = "non-distributable layer that does not exist";
            reporter.status(
                "Skipped",
                format_args!("{}: {reason}", display_name(descriptor)),
            );
        }
        _ => {}
    };
    reporter.status("Verifying", reference.with(root.clone()));
    let options = VerifyOptions {
        concurrency: session.concurrency,
        observer: &observer,
    };
    let verified = oci_registry::verify(&*source, &root, options).await;
    let verified = match verified {
        Ok(verified) => verified,
        Err(error) => {
            let error = oci_package::explain(&*source, &reference, error).await;
            return Err(error.into());
        }
    };
    let digest = verified.manifest.digest();
    let origin = ManifestOrigin::new(&reference, &identifier).with_index(index.as_ref());
    let conflicts = oci_package::conflicts(&*source, origin, &verified.manifest).await?;
    for (manifest, conflict) in &conflicts {
        report_mismatch(manifest, conflict.to_string());
    }
    if !conflicts.is_empty() {
        return Err(conflict_error(&reference.with(root), conflicts.len()));
    }
    reporter.status(
        "VerifiedArtifact",
        format_args!(
            "{} and {} ({})",
            format_count(verified.manifests, "manifest"),
            format_count(verified.blobs, "blob"),
            Size(verified.size)
        ),
    );
    if let Some(directory) = &flags.directory {
        compare_directory(
            session,
            &source,
            &flags,
            &reference.with(digest.clone()),
            directory,
        )
        .await?;
    }
    session.report_finished(&reference.with(digest.clone()), digest, None)
}

/// Returns the title and the digest of a descriptor for a status line, or only the digest if there is no title. The
/// digest is short if stderr is a terminal.
fn display_name(descriptor: &Descriptor) -> String {
    let digest = if std::io::stderr().is_terminal() {
        short_digest(&descriptor.digest)
    } else {
        descriptor.digest.as_str()
    };
    let title = descriptor.annotation(oci_package::annotation::TITLE);
    let title = title.map_or_else(String::new, |title| format!("{title}, "));
    format!("{title}{digest}")
}

/// Returns the error for a package whose tag, index, manifest and config contradict each other.
fn conflict_error(name: &Location, count: usize) -> Error {
    let count = format_count(count, "conflict");
    Error::new(
        ErrorKind::Mismatch,
        format!("tag, index, manifest and config of `{name}` contradict each other ({count})"),
    )
    .help(format!(
        "run `cargo oci inspect {name}` to list the conflicts of each target"
    ))
}

/// Compares each file of the artifact with a directory. `reference` contains the digest of the verified manifest.
async fn compare_directory(
    session: &Session,
    source: &Arc<dyn Source>,
    flags: &Flags,
    reference: &Location,
    directory: &Path,
) -> Result<(), Error> {
    let selector = flags.selector.manifest_selector();
    let found = naming::require_identifier(reference, "verify")?;
    let (manifest, _) = find::select_manifest(&**source, reference, &found, selector).await?;
    let directory = session.resolve(directory);
    let compared = compare_files(session, source, &manifest, &directory).await?;
    let name = reference.with(manifest.digest().clone());
    let is_same = |compared: &&Comparison| matches!(compared, Comparison::Same(_));
    let same = compared.iter().filter(is_same).count();
    for comparison in &compared {
        let verb = match comparison {
            Comparison::Same(_) => "OK",
            Comparison::Missing(_) => "Missing",
            _ => "Changed",
        };
        session.reporter.status(verb, comparison.name());
        session
            .reporter
            .emit_query_result(&QueryResult::from_comparison(comparison));
    }
    if compared.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("failed to compare `{name}`: the artifact contains no files"),
        )
        .help(format!("run `cargo oci manifest {name}` to see its layers")));
    }
    if same < compared.len() {
        let shown = directory.display();
        return Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "{} of {} files in `{shown}` differ from `{name}`",
                compared.len() - same,
                compared.len()
            ),
        )
        .help(format!(
            "run `cargo oci pull {name} --output {shown}`; `--force` overwrites changed files"
        )));
    }
    Ok(())
}

/// Compares the files of an artifact with a directory. If a file is an archive, the directory may contain either the
/// archive or the unpacked files.
async fn compare_files(
    session: &Session,
    source: &Arc<dyn Source>,
    manifest: &Manifest,
    directory: &Path,
) -> Result<Vec<Comparison>, Error> {
    let is_unpacked = |file: &PackageFile| {
        let mut names = std::iter::once(&file.name).chain(&file.title);
        file.is_bundle() && !names.any(|name| directory.join(name.as_str()).is_file())
    };
    let files = oci_package::files(manifest)?;
    let (unpacked, plain): (Vec<_>, Vec<_>) = files.into_iter().partition(is_unpacked);
    let mut compared = oci_package::compare(&plain, directory).await?;
    if !unpacked.is_empty() {
        let scratch = tempfile::tempdir().map_err(|error| {
            Error::from_io("failed to create a temporary directory", error)
                .help("set `TMPDIR` to another directory")
        })?;
        let groups =
            contents::open_archives(session, Arc::clone(source), unpacked, scratch.path()).await?;
        for (_, files) in &groups {
            compared.extend(oci_package::compare(files, directory).await?);
        }
    }
    Ok(compared)
}
