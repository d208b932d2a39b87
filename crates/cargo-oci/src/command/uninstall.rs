//! `cargo oci uninstall`: remove the programs of an installed package, and their record.

use std::path::{Path, PathBuf};

use clap::Args;
use oci_registry::{ErrorKind, LocationText};

use crate::cargo::{self, InstalledPackages};
use crate::message::{FormatFlag, Message};
use crate::options::ArgumentError;
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;

/// Remove the programs of an installed package
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci uninstall ghcr.io/acme/widgets\n  cargo oci uninstall oci:target/oci/widgets --root ~/.local"
)]
pub(crate) struct Flags {
    /// Repository that the package was installed from: REGISTRY/REPOSITORY or oci:DIR
    #[arg(value_name = "REPOSITORY", value_parser = parse_package_argument)]
    repository: PackageArgument,

    /// Directory that the package was installed into
    ///
    /// The default is the environment variable `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then
    /// cargo's home directory.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Argument that identifies the package to remove.
#[derive(Debug, Clone)]
enum PackageArgument {
    Repository(LocationText),
    /// Package name. It is parsed only to return a helpful error, because `cargo uninstall` accepts package names.
    Package(String),
}

fn parse_package_argument(text: &str) -> Result<PackageArgument, ArgumentError> {
    let is_package_name = |text: &str| {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !text.is_empty() && text.bytes().all(is_name_byte)
    };
    if is_package_name(text) {
        return Ok(PackageArgument::Package(text.to_owned()));
    }
    parse_location(text).map(PackageArgument::Repository)
}

/// Removes the programs and the record of the package.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reporter = session.reporter;
    let root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let working_directory = session.environment.current_dir();
    let waiting = move |path: &Path| {
        reporter.status(
            "Blocking",
            format_args!("waiting for file lock on {}", path.display()),
        );
    };
    let mut installed = InstalledPackages::open(root, waiting).await?;
    let repository = match flags.repository {
        PackageArgument::Repository(repository) => session.locate(&repository).await?,
        PackageArgument::Package(name) => return Err(package_name_error(&installed, &name)),
    };
    let source = cargo::source_of(&repository, working_directory);
    let found = source.map(|source| installed.packages_from_source(&source));
    let found = found.unwrap_or_default();
    if found.is_empty() {
        let error = Error::new(
            ErrorKind::NotFound,
            format!("failed to uninstall `{repository}`: no package was installed from it"),
        );
        let others = installed.packages_from_repositories();
        let others: Vec<_> = others
            .iter()
            .map(|(name, repository)| format!("`{name}` from `{repository}`"))
            .collect();
        return Err(if others.is_empty() {
            error
                .help("run `cargo install --list` to list the installed packages and their sources")
        } else {
            error.help(format!(
                "choose from the installed packages: {}",
                others.join(", ")
            ))
        });
    }
    for package in found {
        installed.remove(&package.key)?;
        for program in &package.programs {
            let path = installed.bin().join(program);
            reporter.emit(&Message::Removed {
                path: path.to_string_lossy().into_owned(),
                package: &package.name,
                version: &package.version,
            });
        }
    }
    reporter.finish()
}

/// Returns the error about a package name. A hint contains the repository that the package was installed from, if
/// known.
fn package_name_error(installed: &InstalledPackages, name: &str) -> Error {
    let error = Error::usage(format!(
        "failed to uninstall `{name}`: expected a repository, not a package name"
    ));
    let packages = installed.packages_from_repositories();
    let mut packages = packages.iter().filter(|(package, _)| package == name);
    match packages.next() {
        Some((_, repository)) => error.help(format!("run `cargo oci uninstall {repository}`")),
        None => error.help(format!(
            "pass REGISTRY/REPOSITORY; run `cargo uninstall {name}` if `cargo install` installed the package"
        )),
    }
}
