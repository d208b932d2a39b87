//! `cargo oci install`: a package's programs into cargo's bin directory, recorded as cargo records its own.
//!
//! The order is: release, target, identity, conflicts with other packages, programs, record.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::TryStreamExt;
use oci_package::{FileKind, PackageFile, PackageTarget, annotation, is_package_name, tag};
use oci_registry::{
    ErrorKind, Extract, Identifier, Location, LocationText, Manifest, Source, Tag, escape,
};
use semver::{Comparator, Op, Version, VersionReq};

use super::{find, missing};
use crate::cargo::{self, Installed, Record};
use crate::contents::{self, Group, Placing};
use crate::message::{FileAction, FormatFlag};
use crate::options::location;
use crate::report::Error;
use crate::session::Session;

/// Most characters of a text that are shown.
const LONGEST: usize = 200;

/// Install the programs of a published package
///
/// Installs the highest release, or the highest that matches `--version`, for this machine. Programs are verified and
/// placed in the same directory as by `cargo install`. `cargo install --list` lists them, and `cargo uninstall` removes
/// them.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  cargo oci install ghcr.io/acme/widgets\n  cargo oci install ghcr.io/acme/widgets --version ^1.2\n  cargo oci install ghcr.io/acme/widgets:nightly --root ~/.local"
)]
pub(crate) struct Flags {
    /// Package to install: REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REPOSITORY", value_parser = location)]
    repository: LocationText,

    /// Install the highest release that matches: 1.2.3, ^1.2, ~1.2, >=1, <2
    #[arg(long, value_name = "REQ", value_parser = requirement)]
    version: Option<VersionReq>,

    /// Install the programs for this target triple
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Directory to install into (programs go to DIR/bin)
    ///
    /// The default is `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then cargo's home directory.
    ///
    /// [env: CARGO_INSTALL_ROOT]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Replace programs that were installed by other packages or by hand
    #[arg(long, short)]
    force: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// A full version means that very version, as it does to `cargo install`.
fn requirement(text: &str) -> Result<VersionReq, semver::Error> {
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

/// Chooses, fetches, and records.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let repository = session.locate(&flags.repository).await?;
    let source = session.source(&repository).await?;
    let root = release(&*source, &repository, flags.version.as_ref()).await?;
    let asked = flags.target.as_deref().map(find::target);
    let (manifest, index) = find::for_use(&*source, &repository, &root, asked).await?;
    let name = repository.with(manifest.digest().clone());
    let identity = identity(&manifest, &root, &repository)?;
    let install_root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let mut files = oci_package::files(&manifest)?;
    // Programs are files of their own, or in an archive.
    files.retain(|file| matches!(file.kind, FileKind::Bin | FileKind::Archive));
    let bin = install_root.join("bin");
    let groups = contents::open(session, source, files, &bin).await?;
    let groups = programs(groups, &name)?;
    let record = record(session, &flags, &repository, identity, &manifest, &groups)?;

    let reporter = session.reporter;
    let waiting = move |path: &Path| {
        reporter.status(
            "Blocking",
            format_args!("waiting for file lock on {}", path.display()),
        );
    };
    let mut installed = Installed::open(install_root, waiting).await?;
    if !flags.force {
        installed.check(&record)?;
    }
    let shown = format!("{} v{}", record.name, record.version);
    reporter.status("Installing", format_args!("{shown} ({name})"));
    let mut is_changed = false;
    for (source, programs) in &groups {
        let (installed, record) = (&installed, &record);
        is_changed |= place(session, &**source, programs, installed, record, flags.force).await?;
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
    note_of_hidden(session, &installed.bin(), &record.programs);
    warn_of_path(session, &installed.bin());
    session.finished(&name, manifest.digest(), index.as_ref())
}

/// The tag that is wanted: the one that is named, else that of the highest release that is allowed.
async fn release(
    source: &dyn Source,
    repository: &Location,
    requirement: Option<&VersionReq>,
) -> Result<Identifier, Error> {
    let Some(requirement) = requirement else {
        return find::root(source, repository).await;
    };
    if let Some(named) = repository.identifier() {
        return Err(Error::usage(format!(
            "failed to choose a release: the reference names `{named}`, and `--version` asks for another"
        ))
        .help("leave one of them out"));
    }
    let tags: oci_registry::Result<Vec<Tag>> = source.tags().try_collect().await;
    let tags = tags.map_err(|error| missing::repository(error.into(), repository))?;
    let allowed = tags
        .iter()
        .filter(|tag| tag::version(tag).is_some_and(|version| requirement.matches(&version)));
    match tag::highest(allowed) {
        Some((tag, _)) => Ok(tag.clone().into()),
        None => Err(Error::new(
            ErrorKind::NotFound,
            format!("failed to find a release `{requirement}` in `{repository}`"),
        )
        .help(
            find::incomplete(&tags, repository, |version| requirement.matches(version))
                .unwrap_or_else(|| format!("see what is there with `cargo oci tags {repository}`")),
        )),
    }
}

/// The programs among the files of an artifact.
fn programs(groups: Vec<Group>, name: &Location) -> Result<Vec<Group>, Error> {
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
            format!("failed to install `{name}`: it holds no program"),
        )
        .help(format!("get its files with `cargo oci pull {name}`")));
    }
    for file in programs.iter().flat_map(|(_, files)| files) {
        check_name(file.name.as_str(), name)?;
    }
    Ok(programs)
}

/// Refuses a program that a shell's `*` would pass to a command as a flag.
fn check_name(program: &str, place: &Location) -> Result<(), Error> {
    if !program.starts_with('-') {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("refused to install `{program}` of `{place}`: commands take the name for a flag"),
    )
    .help(format!("get its files with `cargo oci pull {place}`")))
}

/// Name and version of a package, of which cargo's records are made. One that cargo does not accept makes them unreadable.
fn identity(
    manifest: &Manifest,
    root: &Identifier,
    repository: &Location,
) -> Result<(String, Version), Error> {
    let stated = |key: &str| manifest.annotations().get(key).map(String::as_str);
    let pull = || {
        let name = repository.with(manifest.digest().clone());
        format!("get its files with `cargo oci pull {name}`")
    };
    let unknown = || {
        Error::new(
            ErrorKind::Unsupported,
            format!("failed to install `{repository}`: it does not state its package and version"),
        )
        .help("get its files with `cargo oci pull`: only what `cargo oci push` published can be installed")
    };
    let name = stated(annotation::TITLE).filter(|_| PackageTarget::read(manifest).is_some());
    let name = name.ok_or_else(unknown)?;
    let version = match (stated(annotation::VERSION), root) {
        (Some(text), _) => text.parse().map_err(|error| {
            Error::new(
                ErrorKind::Mismatch,
                format!(
                    "refused to install `{repository}`: its version `{}` is not a semantic version ({error})",
                    escape(text, LONGEST)
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
                "refused to install `{repository}`: `{}` is not a package name",
                escape(name, LONGEST)
            ),
        )
        .help(pull()));
    }
    Ok((name.to_owned(), version))
}

/// What will be recorded.
fn record(
    session: &Session,
    flags: &Flags,
    repository: &Location,
    (name, version): (String, Version),
    manifest: &Manifest,
    groups: &[Group],
) -> Result<Record, Error> {
    let package = PackageTarget::read(manifest);
    let package = package.as_ref();
    let here = session.environment.current_dir();
    let Some(source) = cargo::source_of(repository, here) else {
        return Err(Error::usage(format!(
            "failed to make a URL of `{repository}`"
        )));
    };
    Ok(Record {
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

/// Puts the programs in their places, and says whether one of them was not there yet.
async fn place(
    session: &Session,
    source: &dyn Source,
    programs: &[PackageFile],
    installed: &Installed,
    record: &Record,
    force: bool,
) -> Result<bool, Error> {
    let extract = |file: &PackageFile| Extract {
        executable: true,
        ..file.to_extract()
    };
    let files: Vec<_> = programs.iter().map(extract).collect();
    let placing = Placing::begin(session, "Installing", FileAction::Installed, &files);
    let is_own = |file: &Extract| force || installed.is_own(file.name.as_str(), record);
    let (own, new): (Vec<_>, Vec<_>) = files.into_iter().partition(is_own);
    // What must not be in the way goes first: should it be after all, nothing has changed.
    for (files, replace) in [(new, false), (own, true)] {
        let bin = installed.bin();
        placing.write(source, &files, &bin, replace).await?;
    }
    Ok(placing.has_changed())
}

/// Notes which programs of these names are on the PATH twice. A shell starts the first one.
fn note_of_hidden(session: &Session, bin: &Path, programs: &BTreeSet<String>) {
    let path = session.environment.var("PATH").unwrap_or_default();
    let directories: Vec<_> = std::env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .collect();
    // Until the user adds `bin`, every other directory comes before it.
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
                "`{}` hides the installed `{program}`: its directory comes first in PATH",
                other.display()
            ));
        } else if let Some(other) = other(after) {
            session.reporter.note(format_args!(
                "the installed `{program}` hides `{}`: its directory comes first in PATH",
                other.display()
            ));
        }
    }
}

/// Whether a shell would start the file.
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

/// As cargo warns.
fn warn_of_path(session: &Session, bin: &Path) {
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
    fn program_whose_name_begins_with_a_dash_is_refused() {
        let place = Location::Registry("a.b/c".parse().expect("a reference"));
        check_name("-rf", &place).expect_err("a flag");
        check_name("a-b", &place).expect("a name");
    }

    #[test]
    fn a_full_version_is_that_version_and_the_rest_is_a_range() {
        let allows = |text: &str, version: &str| {
            let version = version.parse().expect("a version");
            requirement(text).expect("a requirement").matches(&version)
        };
        assert!(allows("1.2.3", "1.2.3") && !allows("1.2.3", "1.2.4"));
        assert!(allows("1.2", "1.9.0") && !allows("1.2", "2.0.0"));
        assert!(allows("1.2.3-rc.1", "1.2.3-rc.1") && !allows("1.2.3-rc.1", "1.2.3"));
        assert!(allows(">=1, <2", "1.5.0"));
        assert!(requirement("one").is_err());
    }
}
