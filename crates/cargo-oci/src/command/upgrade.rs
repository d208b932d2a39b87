//! `cargo oci upgrade`: install newer releases of installed packages.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::str::FromStr;

use clap::Args;
use oci_package::tag;
use oci_registry::{ErrorKind, Identifier, Location, Tag, escape};
use semver::{Version, VersionReq};

use super::batch::{PackageBatch, PackageOutcome};
use super::install::{self, InstallRequest, install_package};
use super::package_argument::{self, PackageArgument, RootFlag};
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
    override_usage = "cargo oci upgrade [OPTIONS] <PACKAGE>...\n       cargo oci upgrade [OPTIONS] --all",
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

    #[command(flatten)]
    root: RootFlag,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Installs the newer releases.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let root = flags.root.resolve(session)?;
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
        session.reporter.note(format_args!(
            "nothing to upgrade: `cargo oci install` installed no package in `{}`",
            root.display()
        ));
    }
    let mut batch = PackageBatch::new(session, ("upgrade", "upgraded"), selected.len());
    for (name, packages) in selected {
        let outcome = match packages {
            Ok(packages) => upgrade_all(session, &root, &packages, !batch.has_changes()).await,
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
    is_first_change: bool,
) -> Result<PackageOutcome, Error> {
    let mut outcome = PackageOutcome::Unchanged;
    for package in packages {
        let is_first_change = is_first_change && outcome == PackageOutcome::Unchanged;
        if upgrade(session, root, package, is_first_change).await? == PackageOutcome::Changed {
            outcome = PackageOutcome::Changed;
        }
    }
    Ok(outcome)
}

/// Installs the highest release if it is newer than the installed version, or the current content of a followed tag.
async fn upgrade(
    session: &Session,
    root: &Path,
    package: &InstalledPackage,
    is_first_change: bool,
) -> Result<PackageOutcome, Error> {
    let followed = package.followed_tag.as_deref();
    let followed: Option<Tag> = parse_recorded(package, "tag", followed)?;
    let requirement = package.version_req.as_deref();
    let requirement: Option<VersionReq> =
        parse_recorded(package, "version requirement", requirement)?;
    let identifier: Identifier = if let Some(tag) = followed {
        tag.into()
    } else {
        let source = session.open_source(&package.location).await?;
        let identifier =
            oci_package::resolve_identifier(&*source, &package.location, requirement.as_ref())
                .await?;
        let available = match &identifier {
            Identifier::Tag(tag) => tag::version(tag),
            Identifier::Digest(_) => None,
        };
        let current = package.version.parse::<Version>().ok();
        if let (Some(available), Some(current)) = (available, current)
            && available <= current
        {
            let bin = root.join("bin");
            if available < current && !oci_package::has_version(&*source, &current).await? {
                warn_about_deleted(session, root, package, &available);
                let message = Message::for_package(package, PackageAction::UpToDate, &bin);
                session.reporter.emit(&message);
            } else {
                install::report_up_to_date(session, package, &bin);
            }
            return Ok(PackageOutcome::Unchanged);
        }
        identifier
    };
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
        is_upgrade: true,
        is_first_change,
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

/// Warns that the repository has no tag of the installed version any more. `available` is its highest release.
fn warn_about_deleted(
    session: &Session,
    root: &Path,
    package: &InstalledPackage,
    available: &Version,
) {
    let location = &package.location;
    let mut command = match &package.version_req {
        Some(requirement) => format!("cargo oci install {location} --version '{requirement}'"),
        None => format!("cargo oci install {location}@{available}"),
    };
    if let Some(target) = &package.selected_target {
        let _ = write!(command, " --target {target}");
    }
    let default = cargo::install_root(&session.cargo, None);
    if !default.is_ok_and(|default| default == root) {
        let _ = write!(command, " --root {}", root.display());
    }
    let place = match location {
        Location::Registry(_) => "the registry".to_owned(),
        Location::Layout { .. } | Location::Archive { .. } => format!("`{location}`"),
    };
    session.reporter.warn(format_args!(
        "`{} v{}` is no longer in {place}; its highest release is {available}: run `{command}` to install it",
        package.name, package.version
    ));
}
