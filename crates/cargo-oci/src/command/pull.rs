//! `cargo oci pull`: download the files of an artifact into a directory.

use std::path::{Path, PathBuf};

use clap::Args;
use glob::Pattern;
use oci_package::PackageFile;
use oci_registry::{FileEntry, Location, LocationText, Source};

use super::find::{self, SelectorFlags};
use crate::contents::{self, FileGroup, FileWriter};
use crate::filter;
use crate::message::{FileAction, FormatFlag};
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;

/// Download the files of an artifact
///
/// Without a tag, the highest release is downloaded. For multi-platform artifacts, the files for this machine are
/// selected. Every file is verified before it gets its name. An existing file with different content is an error unless
/// `--force` is given.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci pull ghcr.io/acme/widgets\n  cargo oci pull ghcr.io/acme/widgets:1.2.3 --target aarch64-apple-darwin --output dist\n  cargo oci pull ghcr.io/acme/widgets --include '*.so' --include LICENSE\n  cargo oci pull oci:target/oci/widgets --titles"
)]
pub(crate) struct Flags {
    /// Artifact to download: REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    /// Directory to write to, which is created if it does not exist
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output: PathBuf,

    #[command(flatten)]
    selector: SelectorFlags,

    /// Download only files whose names match one of these patterns
    #[arg(long, value_name = "GLOB", value_parser = filter::parse_pattern)]
    include: Vec<Pattern>,

    /// Keep published file names (`widgets-1.2.3-x86_64-...`)
    ///
    /// The published name is the annotation `org.opencontainers.image.title`, which other OCI clients use. Without the
    /// flag, files get the names that cargo gave them, and archives are unpacked.
    #[arg(long)]
    titles: bool,

    /// Overwrite existing files with different content
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Downloads, verifies and writes the files.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let directory = session.resolve(&flags.output);
    if directory.exists() && !directory.is_dir() {
        let shown = flags.output.display();
        return Err(
            Error::usage(format!("failed to pull into `{shown}`: not a directory"))
                .help("pass a directory with `--output`; the artifact determines the file names"),
        );
    }
    let source = session.open_source(&reference).await?;
    let root = find::resolve_identifier(&*source, &reference).await?;
    let selector = flags.selector.manifest_selector();
    let (manifest, index) = find::select_manifest(&*source, &reference, &root, selector).await?;
    let selected = (&manifest, index.as_ref());
    find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    let name = reference.with(manifest.digest().clone());
    let files = oci_package::files(&manifest)?;
    if files.is_empty() {
        return Err(Error::new(
            oci_registry::ErrorKind::NotFound,
            format!("failed to pull `{name}`: the artifact contains no files"),
        )
        .help(format!("run `cargo oci manifest {name}` to see its layers")));
    }
    let requested = reference.with(root);
    if requested == name {
        session.reporter.status("Pulling", &name);
    } else {
        session.reporter.status(
            "Pulling",
            format_args!("{requested} ({})", manifest.digest()),
        );
    }
    let groups = if flags.titles {
        vec![(source, files)]
    } else {
        contents::open_archives(session, source, files, &directory).await?
    };
    let groups = select_included(groups, &flags, &name)?;
    for (source, files) in groups {
        let file_entry = |file: PackageFile| {
            let titled = file.title.filter(|_| flags.titles);
            FileEntry {
                name: titled.unwrap_or(file.name),
                descriptor: file.descriptor,
                executable: file.is_executable,
            }
        };
        let files: Vec<_> = files.into_iter().map(file_entry).collect();
        write_files(session, &*source, &files, &directory, flags.force).await?;
    }
    session.report_finished(&name, manifest.digest(), index.as_ref())
}

/// Returns the files that match `--include`. The patterns are compared with the names under which files are written.
fn select_included(
    groups: Vec<FileGroup>,
    flags: &Flags,
    name: &Location,
) -> Result<Vec<FileGroup>, Error> {
    if flags.include.is_empty() {
        return Ok(groups);
    }
    let name_of = |file: &PackageFile| match &file.title {
        Some(title) if flags.titles => title.to_string(),
        _ => file.name.to_string(),
    };
    let is_included = |file: &PackageFile| {
        let name = name_of(file);
        flags.include.iter().any(|pattern| pattern.matches(&name))
    };
    let names = groups.iter().flat_map(|(_, files)| files);
    let names: Vec<_> = names.map(|file| format!("`{}`", name_of(file))).collect();
    let groups = groups.into_iter().map(|(source, mut files)| {
        files.retain(is_included);
        (source, files)
    });
    let groups: Vec<_> = groups.filter(|(_, files)| !files.is_empty()).collect();
    if groups.is_empty() {
        let patterns: Vec<_> = flags.include.iter().map(Pattern::as_str).collect();
        let patterns = patterns.join("`, `");
        return Err(Error::new(
            oci_registry::ErrorKind::NotFound,
            format!("failed to pull `{patterns}` from `{name}`: no file matches"),
        )
        .help(format!("choose from its files: {}", names.join(", "))));
    }
    Ok(groups)
}

/// Downloads files from one source into a directory.
async fn write_files(
    session: &Session,
    source: &dyn Source,
    files: &[FileEntry],
    directory: &Path,
    replace: bool,
) -> Result<(), Error> {
    let writer = FileWriter::new(session, "Pulling", FileAction::Pulled, files);
    writer
        .write(source, files, directory, replace)
        .await
        .map_err(|error| {
            let is_conflict = error.kind() == oci_registry::ErrorKind::Conflict;
            let error = Error::from(error);
            if is_conflict {
                error.help("choose another directory with `--output`, or pass `--force`")
            } else {
                error
            }
        })
}
