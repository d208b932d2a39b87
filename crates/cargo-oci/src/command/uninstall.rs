//! `cargo oci uninstall`: remove the programs of installed packages, and their records.

use clap::Args;

use super::batch::{PackageBatch, PackageOutcome};
use super::package_argument::{self, PackageArgument, RootFlag};
use crate::cargo::InstalledPackages;
use crate::message::{FormatFlag, Message};
use crate::report::Error;
use crate::session::Session;

/// Remove the programs of installed packages
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci uninstall widgets\n  cargo oci uninstall ghcr.io/acme/widgets ghcr.io/acme/gadgets\n  cargo oci uninstall oci:target/oci/widgets --root ~/.local"
)]
pub(crate) struct Flags {
    /// Name or repository of a package that `cargo oci install` installed
    ///
    /// A package name, REGISTRY/REPOSITORY or oci:DIR. Fails if a given tag is not the installed version.
    #[arg(value_name = "PACKAGE", required = true, value_parser = package_argument::parse)]
    packages: Vec<PackageArgument>,

    #[command(flatten)]
    root: RootFlag,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Removes the programs and the records of the packages.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let root = flags.root.resolve(session)?;
    let mut installed = package_argument::open_records(session, root).await?;
    let verb = ("uninstall", "uninstalled");
    let mut batch = PackageBatch::new(session, verb, flags.packages.len());
    for package in &flags.packages {
        let outcome = uninstall(session, &mut installed, package).await;
        batch.add(package.to_string(), outcome)?;
    }
    batch.finish()
}

async fn uninstall(
    session: &Session,
    installed: &mut InstalledPackages,
    package: &PackageArgument,
) -> Result<PackageOutcome, Error> {
    for package in package.find(session, installed, "uninstall").await? {
        installed.remove(&package.key)?;
        for program in &package.programs {
            let path = installed.bin().join(program);
            session.reporter.emit(&Message::Removed {
                path: path.to_string_lossy().into_owned(),
                package: &package.name,
                version: &package.version,
            });
        }
    }
    Ok(PackageOutcome::Changed)
}
