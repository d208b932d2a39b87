//! `cargo oci uninstall`: the programs of a package go, and with them their record.

use std::path::{Path, PathBuf};

use clap::Args;
use oci_registry::{ErrorKind, Location};

use super::location;
use crate::cargo::{self, Installed};
use crate::report::Error;
use crate::session::Session;

/// Remove the programs of a package that was installed from this repository
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci uninstall ghcr.io/acme/widgets")]
pub(crate) struct Flags {
    /// The package: REGISTRY/REPOSITORY or oci:DIR
    #[arg(value_name = "REPOSITORY", value_parser = location)]
    repository: Location,

    /// Where `bin` is [env: `CARGO_INSTALL_ROOT`]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
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
    let source = cargo::source_of(&flags.repository, here);
    let found = source.map(|source| installed.of_source(&source));
    let found = found.unwrap_or_default();
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "failed to uninstall `{}`: nothing is installed from there",
                flags.repository
            ),
        )
        .help("`cargo install --list` shows what is installed, and where it came from"));
    }
    for (package, programs) in found {
        installed.remove(&package)?;
        for program in programs {
            let path = installed.bin().join(program);
            reporter.status("Removing", path.display());
        }
    }
    Ok(())
}
