//! `cargo oci install`: install the programs of packages into cargo's bin directory, and add them to cargo's records.
//!
//! The steps are: select the release and the target, read the name and version of the package, check for conflicts with
//! other packages, write the programs, write the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;
use oci_package::{
    Comparison, FileKind, PackageFile, PackageTarget, annotation, is_package_name, tag,
};
use oci_registry::{
    ErrorKind, FileEntry, Identifier, Location, LocationText, Manifest, Source, escape,
};
use semver::{Comparator, Op, Version, VersionReq};

use super::batch::{PackageBatch, PackageOutcome};
use super::{find, package_argument};
use crate::cargo::{self, InstallRecord, InstalledPackage, InstalledPackages};
use crate::contents::{self, FileGroup, FileWriter};
use crate::message::{FileAction, FormatFlag, Message, PackageAction};
use crate::options::{ArgumentError, parse_location};
use crate::report::{self, Error};
use crate::session::Session;

/// Maximum length of text from a registry in a message, in characters.
const MAX_TEXT_LENGTH: usize = 200;

/// Install the programs of published packages
///
/// Installs the highest release, or the highest that matches `--version`, for this machine. Programs are verified
/// and installed to the directory that `cargo install` uses. `cargo install --list` lists them, and `cargo uninstall`
/// removes them. If a package cannot be installed, the others are installed nevertheless.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  cargo oci install ghcr.io/acme/widgets\n  cargo oci install ghcr.io/acme/widgets@1.2.3 ghcr.io/acme/gadgets\n  cargo oci install ghcr.io/acme/widgets --version ^1.2\n  cargo oci install ghcr.io/acme/widgets:nightly --root ~/.local\n  cargo oci install --list"
)]
pub(crate) struct Flags {
    /// Package to install: REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci:DIR[:TAG]
    ///
    /// REPOSITORY@1.2.3 installs the version 1.2.3, which has the tag `1.2.3` or else `v1.2.3`.
    #[arg(value_name = "REPOSITORY", required_unless_present = "list", value_parser = parse_package)]
    packages: Vec<RequestedPackage>,

    /// List the packages that `cargo oci install` installed
    #[arg(long, conflicts_with_all = ["packages", "version", "target", "force"])]
    list: bool,

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

/// Package on the command line.
#[derive(Debug, Clone)]
struct RequestedPackage {
    text: String,
    location: LocationText,
    version: Option<Version>,
}

fn parse_package(text: &str) -> Result<RequestedPackage, ArgumentError> {
    let (location, version) = package_argument::split_version(text);
    let location =
        parse_location(location).map_err(|error| match package_argument::version_advice(text) {
            Some(advice) => error.with_hint(advice),
            None => error,
        })?;
    Ok(RequestedPackage {
        text: text.to_owned(),
        location,
        version,
    })
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

/// Installs the packages, or lists the installed packages.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    if flags.list {
        return list(session, root).await;
    }
    let verb = ("install", "installed");
    let mut batch = PackageBatch::new(session, verb, flags.packages.len());
    for package in &flags.packages {
        let outcome = match session.locate(&package.location).await {
            Ok(repository) => {
                let request = InstallRequest {
                    repository,
                    version: package.version.clone(),
                    requirement: flags.version.clone(),
                    target: flags.target.clone(),
                    root: root.clone(),
                    force: flags.force,
                    is_upgrade: false,
                    is_first_change: !batch.has_changes(),
                };
                install_package(session, &request).await
            }
            Err(error) => Err(error),
        };
        batch.add(package.text.clone(), outcome)?;
    }
    batch.finish()
}

/// Prints the installed packages in the format of `cargo install --list`.
async fn list(session: &Session, root: PathBuf) -> Result<(), Error> {
    let installed = package_argument::open_records(session, root).await?;
    let packages = installed.packages();
    if packages.is_empty() {
        session.reporter.note_on_stderr(format_args!(
            "`cargo oci install` installed no package in `{}`",
            installed.root().display()
        ));
    }
    for package in packages {
        if session.reporter.is_json() {
            let action = PackageAction::Listed;
            let message = Message::for_package(&package, action, &installed.bin());
            session.reporter.emit(&message);
            continue;
        }
        // Other programs also write the records.
        let shown = escape(&cargo::describe_package(&package.key), usize::MAX);
        report::write_line(format_args!("{shown}:"))?;
        for program in &package.programs {
            report::write_line(format_args!("    {}", escape(program, usize::MAX)))?;
        }
    }
    session.reporter.finish()
}

/// Package to install, and where to install it.
#[derive(Debug)]
pub(super) struct InstallRequest {
    /// Repository, optionally with a tag or digest.
    pub(super) repository: Location,
    /// Version to install.
    pub(super) version: Option<Version>,
    /// Requirement that the version must match. `upgrade` passes the recorded requirement and a repository with a
    /// matching tag.
    pub(super) requirement: Option<VersionReq>,
    /// Target to install programs for, instead of this machine.
    pub(super) target: Option<String>,
    /// Installation root, which contains `bin`.
    pub(super) root: PathBuf,
    /// Whether programs of other packages are replaced.
    pub(super) force: bool,
    /// Whether an installed package with the same programs is reported as up to date.
    pub(super) is_upgrade: bool,
    /// Whether the command has changed no other package before. The note about PATH is printed only once.
    pub(super) is_first_change: bool,
}

/// Selects, downloads and installs the programs of one package, and records the package.
pub(super) async fn install_package(
    session: &Session,
    request: &InstallRequest,
) -> Result<PackageOutcome, Error> {
    let repository = &request.repository;
    let source = session.open_source(repository).await?;
    let root = resolve_release(&*source, request).await?;
    let selector = request.target.as_deref().map(find::parse_target);
    let (manifest, index) = find::select_manifest(&*source, repository, &root, selector).await?;
    let selected = (&manifest, index.as_ref());
    find::warn_if_incomplete(session.reporter, &*source, &root, selected).await;
    let name = repository.with(manifest.digest().clone());
    let identity = package_identity(&manifest, &root, repository)?;
    let mut files = oci_package::files(&manifest)?;
    // A program is a separate layer or a file in an archive.
    files.retain(|file| matches!(file.kind, FileKind::Bin | FileKind::Archive));
    let bin = request.root.join("bin");
    let groups = contents::open_archives(session, source, files, &bin).await?;
    let groups = select_programs(groups, &name)?;
    let record = install_record(session, request, &root, identity, &manifest, &groups)?;

    let reporter = session.reporter;
    let mut installed = package_argument::open_records(session, request.root.clone()).await?;
    if request.is_upgrade
        && let Some(current) = find_identical(&installed, &record, &groups).await?
    {
        report_up_to_date(session, &current, &installed.bin());
        return Ok(PackageOutcome::Unchanged);
    }
    if !request.force {
        installed.check(&record)?;
    }
    let shown = format!("{} v{}", record.name, record.version);
    reporter.status("Installing", format_args!("{shown} ({name})"));
    let mut is_changed = false;
    for (source, programs) in &groups {
        let (installed, record) = (&installed, &record);
        is_changed |= write_programs(
            session,
            &**source,
            programs,
            installed,
            record,
            request.force,
        )
        .await?;
    }
    let packages = installed.packages();
    let is_previous =
        |one: &&cargo::InstalledPackage| one.name == record.name && one.source == record.source;
    let previous = packages.iter().find(is_previous);
    let owners = installed.owners(&record);
    for program in installed.record(&record)? {
        let path = installed.bin().join(program);
        reporter.emit(&Message::Removed {
            path: path.to_string_lossy().into_owned(),
            package: &record.name,
            version: previous.map_or(&record.version, |previous| &previous.version),
        });
    }
    let is_same = previous.is_some_and(|previous| previous.key == record.key());
    let action = if is_same && !is_changed {
        PackageAction::Unchanged
    } else if owners.is_empty() {
        PackageAction::Installed
    } else {
        PackageAction::Replaced
    };
    print_result(session, &record, action, &owners);
    let previous = previous.map(|previous| previous.version.as_str());
    reporter.emit(&Message::Package {
        package: &record.name,
        version: &record.version,
        action,
        previous_version: previous.filter(|_| action == PackageAction::Replaced),
        reference: repository.whole_repository().to_string(),
        target: record.target.as_deref(),
        programs: &record.programs,
        directory: installed.bin().to_string_lossy().into_owned(),
    });
    note_shadowed_programs(session, &installed.bin(), &record.programs);
    let outcome = match action {
        PackageAction::Unchanged => PackageOutcome::Unchanged,
        _ => PackageOutcome::Changed,
    };
    if outcome == PackageOutcome::Changed && request.is_first_change {
        note_missing_path(session, &installed.bin());
    }
    session.report_finished(&name, manifest.digest(), index.as_ref())?;
    Ok(outcome)
}

/// Returns the installed package if it has the same record, and its programs in the directory are those of the groups.
async fn find_identical(
    installed: &InstalledPackages,
    record: &InstallRecord,
    groups: &[FileGroup],
) -> Result<Option<InstalledPackage>, Error> {
    let mut packages = installed.packages().into_iter();
    let is_same =
        |one: &InstalledPackage| one.key == record.key() && one.programs == record.programs;
    let Some(current) = packages.find(is_same) else {
        return Ok(None);
    };
    for (_, programs) in groups {
        let compared = oci_package::compare(programs, &installed.bin()).await?;
        let mut pairs = programs.iter().zip(&compared);
        let is_same = |(program, found): (&PackageFile, &Comparison)| matches!(found, Comparison::Same(name) if *name == program.name);
        if !pairs.all(is_same) {
            return Ok(None);
        }
    }
    Ok(Some(current))
}

/// Reports that an installed package does not need an upgrade.
pub(super) fn report_up_to_date(session: &Session, package: &InstalledPackage, bin: &Path) {
    let shown = cargo::describe_package(&package.key);
    let requirement = package.version_req.as_ref();
    let requirement = requirement.map(|requirement| format!(" for `--version {requirement}`"));
    session.reporter.status(
        "Up to date",
        format_args!("package `{shown}`{}", requirement.unwrap_or_default()),
    );
    let message = Message::for_package(package, PackageAction::UpToDate, bin);
    session.reporter.emit(&message);
}

/// Prints what was installed and replaced, in the format of `cargo install`. `owners` are the records that contained
/// the programs before.
fn print_result(
    session: &Session,
    record: &InstallRecord,
    action: PackageAction,
    owners: &BTreeMap<String, BTreeSet<String>>,
) {
    let (reporter, shown) = (session.reporter, cargo::describe_package(&record.key()));
    if action == PackageAction::Unchanged {
        let programs = describe_programs(&record.programs);
        reporter.status("Unchanged", format_args!("package `{shown}` {programs}"));
        return;
    }
    let mut new = record.programs.clone();
    new.retain(|program| !owners.values().any(|owned| owned.contains(program)));
    if !new.is_empty() {
        let programs = describe_programs(&new);
        reporter.status("Installed", format_args!("package `{shown}` {programs}"));
    }
    for (owner, programs) in owners {
        let (owner, programs) = (cargo::describe_package(owner), describe_programs(programs));
        reporter.status(
            "Replaced",
            format_args!("package `{owner}` with `{shown}` {programs}"),
        );
    }
}

/// Returns the list of programs as cargo prints it: ``(executables `a`, `b`)``.
fn describe_programs(programs: &BTreeSet<String>) -> String {
    let noun = if programs.len() == 1 {
        "executable"
    } else {
        "executables"
    };
    let list: Vec<_> = programs
        .iter()
        .map(|program| format!("`{program}`"))
        .collect();
    format!("({noun} {})", list.join(", "))
}

/// Returns the identifier of the location, the tag of the version, or the tag of the highest release that matches the
/// requirement.
async fn resolve_release(
    source: &dyn Source,
    request: &InstallRequest,
) -> Result<Identifier, Error> {
    let repository = &request.repository;
    let flag = match (&request.version, &request.requirement) {
        (None, None) => return find::resolve_identifier(source, repository).await,
        (Some(version), None) => format!("@{version}"),
        (_, Some(_)) => "--version".to_owned(),
    };
    let conflict = match (&request.version, repository.identifier()) {
        (_, Some(identifier)) => Some(identifier.to_string()),
        (Some(version), None) if request.requirement.is_some() => Some(format!("@{version}")),
        _ => None,
    };
    if let Some(other) = conflict {
        return Err(Error::usage(format!(
            "failed to select a release: `{other}` in the reference conflicts with `{flag}`"
        ))
        .help(format!(
            "remove `{other}` from the reference, or omit `{flag}`"
        )));
    }
    if let Some(version) = &request.version {
        return Ok(oci_package::resolve_version(source, version).await?.into());
    }
    let requirement = request.requirement.as_ref();
    Ok(oci_package::resolve_identifier(source, repository, requirement).await?)
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
    request: &InstallRequest,
    root: &Identifier,
    (name, version): (String, Version),
    manifest: &Manifest,
    groups: &[FileGroup],
) -> Result<InstallRecord, Error> {
    let package = PackageTarget::read(manifest);
    let package = package.as_ref();
    let working_directory = session.environment.current_dir();
    let repository = &request.repository;
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
        version_req: request.requirement.as_ref().map(ToString::to_string),
        target: package.map(|package| package.target.clone()),
        profile: package.and_then(|package| package.profile.clone()),
        followed_tag: match root {
            Identifier::Tag(tag) if tag::version(tag).is_none() => Some(tag.to_string()),
            Identifier::Tag(_) | Identifier::Digest(_) => None,
        },
        selected_target: request.target.clone(),
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
