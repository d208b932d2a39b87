//! `cargo oci install`: install the programs of a package into cargo's bin directory, and add them to cargo's records.
//!
//! The steps are: select the release and the target, read the name and version of the package, check for conflicts with
//! other packages, write the programs, write the record.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use oci_package::{FileKind, PackageFile, PackageTarget, annotation, is_package_name, tag};
use oci_registry::{
    ErrorKind, FileEntry, Identifier, Location, LocationText, Manifest, Source, escape,
};
use semver::{Comparator, Op, Version, VersionReq};

use super::find;
use crate::cargo::{self, InstallRecord, InstalledPackages};
use crate::contents::{self, FileGroup, FileWriter};
use crate::message::{FileAction, FormatFlag};
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;

/// Maximum length of text from a registry in a message, in characters.
const MAX_TEXT_LENGTH: usize = 200;

/// Install the programs of a published package
///
/// Installs the highest release, or the highest that matches `--version`, for this machine. Programs are verified
/// and installed to the directory that `cargo install` uses. `cargo install --list` lists them, and `cargo uninstall`
/// removes them.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  cargo oci install ghcr.io/acme/widgets\n  cargo oci install ghcr.io/acme/widgets --version ^1.2\n  cargo oci install ghcr.io/acme/widgets:nightly --root ~/.local"
)]
pub(crate) struct Flags {
    /// Package to install: REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REPOSITORY", value_parser = parse_location)]
    repository: LocationText,

    /// Install the highest release that matches: 1.2.3, ^1.2, ~1.2, >=1, <2
    #[arg(long, value_name = "REQ", value_parser = parse_requirement)]
    version: Option<VersionReq>,

    /// Install the programs for this target triple
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Directory to install into (programs go to DIR/bin)
    ///
    /// The default is the environment variable `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then
    /// cargo's home directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Replace programs that were installed by other packages or by hand
    #[arg(long, short)]
    force: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Parses a version requirement. A full version matches exactly, as with `cargo install`.
fn parse_requirement(text: &str) -> Result<VersionReq, semver::Error> {
    let Ok(version) = text.parse::<Version>() else {
        return text.parse();
    };
    Ok(VersionReq {
        comparators: vec![Comparator {
            op: Op::Exact,
            major: version.major,
            minor: Some(version.minor),
            patch: Some(version.patch),
            pre: version.pre,
        }],
    })
}

/// Selects, downloads and installs the programs, and records the package.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let repository = session.locate(&flags.repository).await?;
    let source = session.open_source(&repository).await?;
    let root = resolve_release(&*source, &repository, flags.version.as_ref()).await?;
    let selector = flags.target.as_deref().map(find::parse_target);
    let (manifest, index) = find::select_manifest(&*source, &repository, &root, selector).await?;
    let name = repository.with(manifest.digest().clone());
    let identity = package_identity(&manifest, &root, &repository)?;
    let install_root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let mut files = oci_package::files(&manifest)?;
    // A program is a separate layer or a file in an archive.
    files.retain(|file| matches!(file.kind, FileKind::Bin | FileKind::Archive));
    let bin = install_root.join("bin");
    let groups = contents::open_archives(session, source, files, &bin).await?;
    let groups = select_programs(groups, &name)?;
    let record = install_record(session, &flags, &repository, identity, &manifest, &groups)?;

    let reporter = session.reporter;
    let waiting = move |path: &Path| {
        reporter.status(
            "Blocking",
            format_args!("waiting for file lock on {}", path.display()),
        );
    };
    let mut installed = InstalledPackages::open(install_root, waiting).await?;
    if !flags.force {
        installed.check(&record)?;
    }
    let shown = format!("{} v{}", record.name, record.version);
    reporter.status("Installing", format_args!("{shown} ({name})"));
    let mut is_changed = false;
    for (source, programs) in &groups {
        let (installed, record) = (&installed, &record);
        is_changed |=
            write_programs(session, &**source, programs, installed, record, flags.force).await?;
    }
    installed.record(&record)?;
    let list: Vec<_> = record
        .programs
        .iter()
        .map(|program| format!("`{program}`"))
        .collect();
    let noun = if list.len() == 1 {
        "executable"
    } else {
        "executables"
    };
    let verb = if is_changed { "Installed" } else { "Unchanged" };
    reporter.status(
        verb,
        format_args!("package `{shown}` ({noun} {})", list.join(", ")),
    );
    note_shadowed_programs(session, &installed.bin(), &record.programs);
    note_missing_path(session, &installed.bin());
    session.report_finished(&name, manifest.digest(), index.as_ref())
}

/// Returns the identifier of the location, or the tag of the highest release that matches the requirement.
async fn resolve_release(
    source: &dyn Source,
    repository: &Location,
    requirement: Option<&VersionReq>,
) -> Result<Identifier, Error> {
    let Some(requirement) = requirement else {
        return find::resolve_identifier(source, repository).await;
    };
    if let Some(identifier) = repository.identifier() {
        return Err(Error::usage(format!(
            "failed to select a release: `{identifier}` in the reference conflicts with `--version`"
        ))
        .help(format!(
            "remove `{identifier}` from the reference, or omit `--version`"
        )));
    }
    Ok(oci_package::resolve_identifier(source, repository, Some(requirement)).await?)
}

/// Selects the programs among the files of an artifact.
fn select_programs(groups: Vec<FileGroup>, name: &Location) -> Result<Vec<FileGroup>, Error> {
    let is_program =
        |file: &PackageFile| file.kind == FileKind::Bin && !file.name.as_str().contains('/');
    let programs = groups.into_iter().map(|(source, mut files)| {
        files.retain(is_program);
        (source, files)
    });
    let programs: Vec<_> = programs.filter(|(_, files)| !files.is_empty()).collect();
    if programs.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("failed to install `{name}`: the artifact contains no program"),
        )
        .help(format!("run `cargo oci pull {name}` to download its files")));
    }
    for file in programs.iter().flat_map(|(_, files)| files) {
        check_program_name(file.name.as_str(), name)?;
    }
    Ok(programs)
}

/// Rejects a program name that starts with `-`. If a shell expands `*` to such a name, a command parses the name as a
/// flag.
fn check_program_name(program: &str, artifact: &Location) -> Result<(), Error> {
    if !program.starts_with('-') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "refusing to install `{program}` from `{artifact}`: a program name must not start with `-`"
        ),
    )
    .help(format!("run `cargo oci pull {artifact}` to download its files")))
}

/// Returns the name and version under which the package is recorded.
///
/// Both are validated, because cargo cannot read a record with an invalid name or version.
fn package_identity(
    manifest: &Manifest,
    root: &Identifier,
    repository: &Location,
) -> Result<(String, Version), Error> {
    let annotation_value = |key: &str| manifest.annotations().get(key).map(String::as_str);
    let pull = || {
        let name = repository.with(manifest.digest().clone());
        format!("run `cargo oci pull {name}` to download its files")
    };
    let unknown = || {
        Error::new(
            ErrorKind::Unsupported,
            format!("failed to install `{repository}`: missing package name or version"),
        )
        .help("run `cargo oci pull` to download the files; only artifacts that `cargo oci push` published can be installed")
    };
    let name =
        annotation_value(annotation::TITLE).filter(|_| PackageTarget::read(manifest).is_some());
    let name = name.ok_or_else(unknown)?;
    let version = match (annotation_value(annotation::VERSION), root) {
        (Some(text), _) => text.parse().map_err(|error| {
            Error::new(
                ErrorKind::Mismatch,
                format!(
                    "refusing to install `{repository}`: its version `{}` is not a semantic version ({error})",
                    escape(text, MAX_TEXT_LENGTH)
                ),
            )
            .help(pull())
        })?,
        (None, Identifier::Tag(tag)) => tag::version(tag).ok_or_else(unknown)?,
        (None, Identifier::Digest(_)) => return Err(unknown()),
    };
    if !is_package_name(name) {
        return Err(Error::new(
            ErrorKind::Mismatch,
            format!(
                "refusing to install `{repository}`: `{}` is not a package name",
                escape(name, MAX_TEXT_LENGTH)
            ),
        )
        .help(pull()));
    }
    Ok((name.to_owned(), version))
}

/// Creates the record of the installed package.
fn install_record(
    session: &Session,
    flags: &Flags,
    repository: &Location,
    (name, version): (String, Version),
    manifest: &Manifest,
    groups: &[FileGroup],
) -> Result<InstallRecord, Error> {
    let package = PackageTarget::read(manifest);
    let package = package.as_ref();
    let working_directory = session.environment.current_dir();
    let Some(source) = cargo::source_of(repository, working_directory) else {
        return Err(Error::usage(format!(
            "failed to convert `{repository}` to a URL"
        )));
    };
    Ok(InstallRecord {
        name,
        version: version.to_string(),
        source,
        programs: groups
            .iter()
            .flat_map(|(_, files)| files)
            .map(|file| file.name.to_string())
            .collect(),
        version_req: flags.version.as_ref().map(ToString::to_string),
        target: package.map(|package| package.target.clone()),
        profile: package.and_then(|package| package.profile.clone()),
    })
}

/// Writes the programs. Returns whether at least one program was written.
async fn write_programs(
    session: &Session,
    source: &dyn Source,
    programs: &[PackageFile],
    installed: &InstalledPackages,
    record: &InstallRecord,
    force: bool,
) -> Result<bool, Error> {
    let file_entry = |file: &PackageFile| FileEntry {
        executable: true,
        ..file.to_file_entry()
    };
    let files: Vec<_> = programs.iter().map(file_entry).collect();
    let writer = FileWriter::new(session, "Installing", FileAction::Installed, &files);
    let is_own = |file: &FileEntry| force || installed.is_own(file.name.as_str(), record);
    let (own, new): (Vec<_>, Vec<_>) = files.into_iter().partition(is_own);
    // Programs that must not exist yet are written first. If one does exist, the command fails before it replaces any
    // program.
    for (files, replace) in [(new, false), (own, true)] {
        let bin = installed.bin();
        writer.write(source, &files, &bin, replace).await?;
    }
    Ok(writer.has_written_files())
}

/// Prints a note for each program that also exists in another directory in PATH, because a shell runs only the first
/// program that it finds.
fn note_shadowed_programs(session: &Session, bin: &Path, programs: &BTreeSet<String>) {
    let path = session.environment.var("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .collect();
    // If `bin` is not in PATH, programs in all directories in PATH shadow the installed programs.
    let own = directories.iter().position(|directory| directory == bin);
    let (before, after) = directories.split_at(own.unwrap_or(directories.len()));
    for program in programs {
        let installed = bin.join(program);
        let other = |directories: &[PathBuf]| {
            let paths = directories.iter().map(|directory| directory.join(program));
            let mut paths = paths.filter(|path| is_program(path));
            paths.find(|path| path.canonicalize().ok() != installed.canonicalize().ok())
        };
        if let Some(other) = other(before) {
            session.reporter.note(format_args!(
                "`{}` shadows the installed `{program}`: its directory is earlier in PATH",
                other.display()
            ));
        } else if let Some(other) = other(after) {
            session.reporter.note(format_args!(
                "the installed `{program}` shadows `{}`: its directory is earlier in PATH",
                other.display()
            ));
        }
    }
}

/// Whether the path is an executable file.
fn is_program(path: &Path) -> bool {
    let Ok(metadata) = path.metadata() else {
        return false;
    };
    #[cfg(unix)]
    let is_executable =
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let is_executable = true;
    metadata.is_file() && is_executable
}

/// Prints the same note as `cargo install` if `bin` is not in PATH.
fn note_missing_path(session: &Session, bin: &Path) {
    let path = session.environment.var("PATH").unwrap_or_default();
    if !std::env::split_paths(path).any(|directory| directory == bin) {
        session.reporter.note(format_args!(
            "be sure to add `{}` to your PATH to be able to run the installed programs",
            bin.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_name_with_leading_dash_is_rejected() {
        let artifact = Location::Registry("a.b/c".parse().expect("a reference"));
        check_program_name("-rf", &artifact).expect_err("a flag");
        check_program_name("a-b", &artifact).expect("a name");
    }

    #[test]
    fn full_version_matches_exactly_and_partial_version_as_range() {
        let allows = |text: &str, version: &str| {
            let version = version.parse().expect("a version");
            parse_requirement(text)
                .expect("a requirement")
                .matches(&version)
        };
        assert!(allows("1.2.3", "1.2.3") && !allows("1.2.3", "1.2.4"));
        assert!(allows("1.2", "1.9.0") && !allows("1.2", "2.0.0"));
        assert!(allows("1.2.3-rc.1", "1.2.3-rc.1") && !allows("1.2.3-rc.1", "1.2.3"));
        assert!(allows(">=1, <2", "1.5.0"));
        assert!(parse_requirement("one").is_err());
    }
}
