//! `cargo oci upgrade`: install newer releases of installed packages.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use oci_package::tag;
use oci_registry::{ErrorKind, Identifier, Tag, escape};
use semver::{Version, VersionReq};

use super::batch::PackageBatch;
use super::install::{InstallRequest, install_package};
use super::package_argument::{self, PackageArgument};
use crate::cargo::{self, InstalledPackage, InstalledPackages};
use crate::message::{FormatFlag, Message, PackageAction};
use crate::report::Error;
use crate::session::Session;

/// Maximum length of text from a record in a message, in characters.
const MAX_TEXT_LENGTH: usize = 200;

/// Install newer releases of installed packages
///
/// Upgrades packages that `cargo oci install` installed. Packages that cargo itself installed are not changed. A package
/// that was installed with `--version` stays within this requirement. A package that was installed from a tag such as
/// `nightly` follows the tag.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci upgrade widgets\n  cargo oci upgrade ghcr.io/acme/widgets --root ~/.local\n  cargo oci upgrade --all"
)]
pub(crate) struct Flags {
    /// Name or repository of an installed package
    #[arg(
        value_name = "PACKAGE",
        required_unless_present = "all",
        value_parser = package_argument::parse
    )]
    packages: Vec<PackageArgument>,

    /// Upgrade all packages that `cargo oci install` installed
    #[arg(long, conflicts_with = "packages")]
    all: bool,

    /// Directory that the packages were installed into
    ///
    /// The default is the environment variable `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then
    /// cargo's home directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Installs the newer releases.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let installed = package_argument::open_records(session, root.clone()).await?;
    let mut selected = Vec::new();
    if flags.all {
        let packages = installed.packages().into_iter();
        selected.extend(packages.map(|package| (package.name.clone(), Ok(vec![package]))));
    }
    for package in &flags.packages {
        let found = select(session, &installed, package).await;
        selected.push((package.to_string(), found));
    }
    // The lock is released during the downloads. Each installation locks the records again.
    drop(installed);
    if selected.is_empty() {
        session
            .reporter
            .note("nothing to upgrade: no package was installed by `cargo oci install`");
    }
    let mut batch = PackageBatch::new(session, ("upgrade", "upgraded"), selected.len());
    for (name, packages) in selected {
        let outcome = match packages {
            Ok(packages) => upgrade_all(session, &root, &packages).await,
            Err(error) => Err(error),
        };
        batch.add(name, outcome)?;
    }
    batch.finish()
}

async fn select(
    session: &Session,
    installed: &InstalledPackages,
    package: &PackageArgument,
) -> Result<Vec<InstalledPackage>, Error> {
    if package.selects_version(session).await? {
        return Err(Error::usage(format!(
            "failed to upgrade `{package}`: expected no version, tag or digest"
        ))
        .help("omit it, or run `cargo oci install` to install another version"));
    }
    package.find(session, installed, "upgrade").await
}

async fn upgrade_all(
    session: &Session,
    root: &Path,
    packages: &[InstalledPackage],
) -> Result<(), Error> {
    for package in packages {
        upgrade(session, root, package).await?;
    }
    Ok(())
}

/// Installs the highest release if it is newer than the installed version, or the current content of a followed tag.
async fn upgrade(session: &Session, root: &Path, package: &InstalledPackage) -> Result<(), Error> {
    let followed = package.followed_tag.as_deref();
    let followed: Option<Tag> = parse_recorded(package, "tag", followed)?;
    let requirement = package.version_req.as_deref();
    let requirement: Option<VersionReq> =
        parse_recorded(package, "version requirement", requirement)?;
    let identifier: Identifier = if let Some(tag) = followed {
        tag.into()
    } else {
        let source = session.open_source(&package.location).await?;
        let requirement = requirement.as_ref();
        oci_package::resolve_identifier(&*source, &package.location, requirement).await?
    };
    let available = match &identifier {
        Identifier::Tag(tag) => tag::version(tag),
        Identifier::Digest(_) => None,
    };
    let current = package.version.parse::<Version>().ok();
    if let (Some(available), Some(current)) = (available, current)
        && available <= current
    {
        let shown = cargo::describe_package(&package.key);
        match &package.version_req {
            Some(requirement) => session.reporter.status(
                "Up to date",
                format_args!("package `{shown}` for `--version {requirement}`"),
            ),
            None => session
                .reporter
                .status("Up to date", format_args!("package `{shown}`")),
        }
        let action = PackageAction::UpToDate;
        let message = Message::for_package(package, action, &root.join("bin"));
        session.reporter.emit(&message);
        return Ok(());
    }
    // A tag in the reference would contradict the requirement, which is recorded again.
    let repository = match requirement {
        Some(_) => package.location.clone(),
        None => package.location.with(identifier),
    };
    let request = InstallRequest {
        repository,
        version: None,
        requirement,
        target: package.selected_target.clone(),
        root: root.to_owned(),
        force: false,
    };
    install_package(session, &request).await
}

/// Parses a value that limits the releases of a package. If an invalid value was ignored, the upgrade could install a
/// release that the user excluded.
fn parse_recorded<T>(
    package: &InstalledPackage,
    noun: &str,
    text: Option<&str>,
) -> Result<Option<T>, Error>
where
    T: FromStr<Err: fmt::Display>,
{
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse().map_err(|error| {
        Error::new(
            ErrorKind::Io,
            format!(
                "failed to upgrade `{}`: invalid {noun} `{}` in `.crates2.json` ({error})",
                package.name,
                escape(text, MAX_TEXT_LENGTH)
            ),
        )
        .help(format!(
            "run `cargo oci install {}` to record the package again",
            package.location
        ))
    })?;
    Ok(Some(parsed))
}
