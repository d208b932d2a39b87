//! `cargo oci verify`: verify the digests of an artifact, and compare a directory with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use oci_package::{Comparison, ManifestOrigin, PackageFile};
use oci_registry::{
    Descriptor, ErrorKind, Identifier, Location, LocationText, Manifest, Source, VerifyEvent,
    VerifyOptions,
};

use super::find::{self, Selector};
use crate::figures::{Size, plural};
use crate::finding::Finding;
use crate::message::FormatFlag;
use crate::options::location;
use crate::report::Error;
use crate::session::Session;
use crate::{contents, naming};

/// Verify every digest of an artifact, or compare a directory with it
///
/// Downloads the whole artifact and checks digests, sizes and media types. Name, version and target of a package must be
/// the same in its tag, index, manifest and config. Every mismatch is printed, and the exit code is 7. With a directory,
/// its files are then compared with those of the artifact, under the names that `cargo oci pull` gives them or under their
/// published names. The files are those for this machine unless `--target` or `--platform` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci verify ghcr.io/acme/widgets:1.2.3\n  cargo oci verify ghcr.io/acme/widgets:1.2.3 ~/.cargo/bin\n  cargo oci verify oci-archive:backup.tar:1.2.3"
)]
pub(crate) struct Flags {
    /// Artifact to verify (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG] or an archive. An archive is oci-archive:FILE[:TAG] or
    /// docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "REFERENCE", value_parser = location)]
    reference: LocationText,

    /// Directory to compare with the files of the artifact
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,

    #[command(flatten)]
    selector: Selector,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Verifies the artifact, and compares the directory.
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
    let source = session.source(&reference).await?;
    let named = find::root(&*source, &reference).await?;
    let wanted = flags.selector.wanted();
    let (root, index) = if wanted.is_some() {
        let wanted = wanted.as_ref();
        let (chosen, index) = find::listed(&*source, &reference, &named, wanted).await?;
        (Identifier::Digest(chosen.digest().clone()), index)
    } else {
        (named.clone(), None)
    };
    let reporter = session.reporter;
    let name = |piece: &Descriptor| {
        let title = piece.annotation(oci_package::annotation::TITLE);
        let title = title.map_or_else(String::new, |title| format!("{title}, "));
        format!("{title}{}", piece.digest)
    };
    let report_mismatch = |piece: &Descriptor, message: String| {
        reporter.status("Mismatch", format_args!("{}: {message}", name(piece)));
        reporter.emit_finding(&Finding::Mismatch {
            reference: reference.with(piece.digest.clone()).to_string(),
            title: piece.annotation(oci_package::annotation::TITLE),
            message,
            size: piece.size,
            digest: &piece.digest,
        });
    };
    let observer = |event: VerifyEvent<'_>| match event {
        VerifyEvent::Wrong(piece, error) => report_mismatch(piece, error.to_string()),
        VerifyEvent::Skipped(piece) => {
            let reason = "non-distributable layer that does not exist";
            reporter.status("Skipped", format_args!("{}: {reason}", name(piece)));
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
    let listing = ManifestOrigin::new(&reference, &named).with_index(index.as_ref());
    let conflicts = oci_package::conflicts(&*source, listing, &verified.manifest).await?;
    for (manifest, conflict) in &conflicts {
        report_mismatch(manifest, conflict.to_string());
    }
    if !conflicts.is_empty() {
        let name = reference.with(root);
        let count = plural(conflicts.len(), "fact");
        return Err(Error::new(
            ErrorKind::Mismatch,
            format!("tag, index, manifest and config of `{name}` contradict each other ({count})"),
        )
        .help(format!(
            "`cargo oci inspect {name}` lists the conflicts of each target"
        )));
    }
    reporter.status(
        "Verified",
        format_args!(
            "{} and {} ({})",
            plural(verified.manifests, "manifest"),
            plural(verified.blobs, "blob"),
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
    session.finished(&reference.with(digest.clone()), digest, None)
}

/// Compares each file of the artifact with a directory. `reference` contains the digest of the verified manifest.
async fn compare_directory(
    session: &Session,
    source: &Arc<dyn Source>,
    flags: &Flags,
    reference: &Location,
    directory: &Path,
) -> Result<(), Error> {
    let wanted = flags.selector.wanted();
    let found = naming::require_identifier(reference, "verify")?;
    let (manifest, _) = find::for_use(&**source, reference, &found, wanted).await?;
    let directory = session.resolve(directory);
    let compared = compare(session, source, &manifest, &directory).await?;
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
            .emit_finding(&Finding::comparison(comparison));
    }
    if compared.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("failed to compare `{name}`: the artifact contains no files"),
        )
        .help(format!("`cargo oci manifest {name}` lists its layers")));
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

/// Compares the files of an artifact with a directory, which may contain an archive itself or its contents.
async fn compare(
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
            Error::of_file("failed to create a temporary directory", error)
                .help("set `TMPDIR` to another directory")
        })?;
        let groups = contents::open(session, Arc::clone(source), unpacked, scratch.path()).await?;
        for (_, files) in &groups {
            compared.extend(oci_package::compare(files, directory).await?);
        }
    }
    Ok(compared)
}
