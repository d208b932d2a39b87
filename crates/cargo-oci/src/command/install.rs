//! `cargo oci install`: a package's programs into cargo's bin directory, recorded as cargo records its own.
//!
//! Owns the order of things: which release, which target, whose files are in the way, the programs, the record.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::TryStreamExt;
use oci_package::{Kind, PackageFile, PackageTarget, tag};
use oci_registry::{ErrorKind, Extract, Identifier, Location, LocationText, Manifest, Source, Tag};
use semver::{Comparator, Op, Version, VersionReq};

use super::contents::{self, Group, Placing};
use super::{find, location, missing};
use crate::cargo::{self, Installed, Record};
use crate::message::{FileAction, FormatFlag};
use crate::report::Error;
use crate::session::Session;

/// Install the programs of a published package
///
/// Takes the highest release, or the highest that `--version` allows, and of it what runs on this machine. The programs
/// go where `cargo install` puts its own, verified; `cargo install --list` shows them and `cargo uninstall` removes them.
#[derive(Debug, Args)]
#[command(
    disable_version_flag = true,
    after_help = "Examples:\n  cargo oci install ghcr.io/acme/widgets\n  cargo oci install ghcr.io/acme/widgets --version ^1.2\n  cargo oci install ghcr.io/acme/widgets:nightly --root ~/.local"
)]
pub(crate) struct Flags {
    /// The package: REGISTRY/REPOSITORY[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REPOSITORY", value_parser = location)]
    repository: LocationText,

    /// Take the highest release that this allows: 1.2.3, ^1.2, ~1.2, >=1, <2
    #[arg(long, value_name = "REQ", value_parser = requirement)]
    version: Option<VersionReq>,

    /// Take what was built for this target triple
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Where `bin` is [env: `CARGO_INSTALL_ROOT`]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Replace programs that belong to other packages, or to none
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
    let asked = match &flags.target {
        Some(text) => Some(find::target(text).await),
        None => None,
    };
    let (manifest, index) = find::for_use(&*source, &repository, &root, asked).await?;
    let name = repository.with(manifest.digest().clone());
    let install_root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let mut files = oci_package::files(&manifest)?;
    // Programs are files of their own, or in an archive.
    files.retain(|file| matches!(file.kind, Kind::Bin | Kind::Archive));
    let bin = install_root.join("bin");
    let groups = contents::open(session, source, files, &bin).await?;
    let groups = programs(groups, &name)?;
    let record = record(session, &flags, &repository, &root, &manifest, &groups)?;

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
    warn_of_path(session, &installed.bin());
    warn_of_hidden(session, &installed.bin(), &record.programs);
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
        |file: &PackageFile| file.kind == Kind::Bin && !file.name.as_str().contains('/');
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

/// What will be recorded.
fn record(
    session: &Session,
    flags: &Flags,
    repository: &Location,
    root: &Identifier,
    manifest: &Manifest,
    groups: &[Group],
) -> Result<Record, Error> {
    let package = PackageTarget::read(manifest);
    let package = package.as_ref();
    let by_tag = match root {
        Identifier::Tag(tag) => tag::version(tag),
        Identifier::Digest(_) => None,
    };
    let version = package
        .and_then(|package| package.version.clone())
        .or(by_tag);
    let name = package.and_then(|package| package.name.clone());
    let (Some(name), Some(version)) = (name, version) else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("failed to install `{repository}`: it does not say of which package and version it is"),
        )
        .help("get its files with `cargo oci pull`: only what `cargo oci push` published can be installed"));
    };
    let here = session.environment.current_dir();
    let Some(source) = cargo::source_of(repository, here) else {
        return Err(Error::usage(format!(
            "failed to make a URL of `{repository}`"
        )));
    };
    Ok(Record {
        name: oci_registry::escape(&name, 200),
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

/// Notes the programs on the PATH that installed ones are found before.
fn warn_of_hidden(session: &Session, bin: &Path, programs: &BTreeSet<String>) {
    let path = session.environment.var("PATH").unwrap_or_default();
    for program in programs {
        if let Some(other) = hidden(path, bin, program) {
            session.reporter.note(format_args!(
                "`{program}` in `{}` hides `{}`",
                bin.display(),
                other.display()
            ));
        }
    }
}

/// The program of the same name in a directory that stands after `bin` in the PATH.
fn hidden(path: &str, bin: &Path, program: &str) -> Option<PathBuf> {
    let directories = std::env::split_paths(path).skip_while(|directory| directory != bin);
    let mut others = directories.filter(|directory| directory != bin);
    others.find_map(|directory| Some(directory.join(program)).filter(|other| other.is_file()))
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
    fn program_later_on_the_path_is_hidden() {
        let home = tempfile::tempdir().expect("a directory");
        let [bin, other] = ["bin", "other"].map(|name| home.path().join(name));
        for directory in [&bin, &other] {
            std::fs::create_dir(directory).expect("a directory");
            std::fs::write(directory.join("tool"), "").expect("a file");
        }
        let path = |directories: &[&PathBuf]| {
            let path = std::env::join_paths(directories).expect("a path");
            path.into_string().expect("text")
        };
        let found = |path: &str, program: &str| hidden(path, &bin, program);
        let first = path(&[&bin, &other]);
        assert_eq!(found(&first, "tool"), Some(other.join("tool")));
        assert_eq!(found(&first, "none"), None);
        assert_eq!(found(&path(&[&other, &bin]), "tool"), None);
        assert_eq!(found(&path(&[&other]), "tool"), None);
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
