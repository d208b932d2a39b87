//! `cargo oci uninstall`: the programs of a package go, and with them their record.

use std::path::{Path, PathBuf};

use clap::Args;
use oci_registry::{ErrorKind, LocationText};

use crate::cargo::{self, Installed};
use crate::message::{FormatFlag, Message};
use crate::options::Complaint;
use crate::options::location;
use crate::report::Error;
use crate::session::Session;

/// Remove the programs of an installed package
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci uninstall ghcr.io/acme/widgets\n  cargo oci uninstall oci:target/oci/widgets --root ~/.local"
)]
pub(crate) struct Flags {
    /// Repository that the package was installed from: REGISTRY/REPOSITORY or oci:DIR
    #[arg(value_name = "REPOSITORY", value_parser = named)]
    repository: Named,

    /// Directory that the package was installed into
    ///
    /// The default is `CARGO_INSTALL_ROOT`, then `install.root` of cargo's configuration, then cargo's home directory.
    ///
    /// [env: CARGO_INSTALL_ROOT]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// What was named on the command line.
#[derive(Debug, Clone)]
enum Named {
    Repository(LocationText),
    /// A bare word: the name of a package, as `cargo uninstall` takes it.
    Package(String),
}

fn named(text: &str) -> Result<Named, Complaint> {
    let is_bare = |text: &str| {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !text.is_empty() && text.bytes().all(is_word)
    };
    if is_bare(text) {
        return Ok(Named::Package(text.to_owned()));
    }
    location(text).map(Named::Repository)
}

/// Removes.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reporter = session.reporter;
    let root = cargo::install_root(&session.cargo, flags.root.as_deref())?;
    let here = session.environment.current_dir();
    let waiting = move |path: &Path| {
        reporter.status(
            "Blocking",
            format_args!("waiting for file lock on {}", path.display()),
        );
    };
    let mut installed = Installed::open(root, waiting).await?;
    let repository = match flags.repository {
        Named::Repository(repository) => session.locate(&repository).await?,
        Named::Package(name) => return Err(by_name(&installed, &name)),
    };
    let source = cargo::source_of(&repository, here);
    let found = source.map(|source| installed.of_source(&source));
    let found = found.unwrap_or_default();
    if found.is_empty() {
        let error = Error::new(
            ErrorKind::NotFound,
            format!("failed to uninstall `{repository}`: nothing is installed from there"),
        );
        let others = installed.of_repositories();
        let others: Vec<_> = others
            .iter()
            .map(|(name, place)| format!("`{name}` from `{place}`"))
            .collect();
        return Err(if others.is_empty() {
            error.help("see what cargo installed, and from where, with `cargo install --list`")
        } else {
            error.help(format!("name where it came from: {}", others.join(", ")))
        });
    }
    for package in found {
        installed.remove(&package.key)?;
        for program in &package.programs {
            let path = installed.bin().join(program);
            reporter.tell(&Message::Removed {
                path: path.to_string_lossy().into_owned(),
                package: &package.name,
                version: &package.version,
            });
        }
    }
    reporter.end()
}

/// A package's name says not where it came from: which name does is said instead.
fn by_name(installed: &Installed, name: &str) -> Error {
    let error = Error::usage(format!(
        "failed to uninstall `{name}`: it is the name of a package, and not of a repository"
    ));
    let places = installed.of_repositories();
    let mut places = places.iter().filter(|(package, _)| package == name);
    match places.next() {
        Some((_, place)) => error.help(format!("write `cargo oci uninstall {place}`")),
        None => error.help(format!(
            "write REGISTRY/REPOSITORY; what `cargo install` installed goes with `cargo uninstall {name}`"
        )),
    }
}
