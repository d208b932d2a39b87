//! `cargo oci catalog`: the repositories of a registry, or the layouts in a directory.

use std::path::PathBuf;

use clap::Args;
use futures_util::TryStreamExt;
use oci_registry::{Layout, Location, RegistryName};

use crate::filter::Filter;
use crate::finding::Finding;
use crate::message::FormatFlag;
use crate::options::Complaint;
use crate::report::{self, Error};
use crate::session::Session;

/// List the repositories of a registry, or the OCI layouts in a directory
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci catalog registry.example.com\n  cargo oci catalog registry.example.com --include 'team-a/*'\n  cargo oci catalog oci:target/oci"
)]
pub(crate) struct Flags {
    /// Registry HOST[:PORT], or oci:DIR for a directory of OCI layouts
    #[arg(value_name = "REGISTRY", value_parser = shelf)]
    shelf: Shelf,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Where repositories are.
#[derive(Debug, Clone)]
enum Shelf {
    Registry(RegistryName),
    Directory(PathBuf),
}

fn shelf(text: &str) -> Result<Shelf, Complaint> {
    match text.strip_prefix("oci:") {
        Some(directory) if !directory.is_empty() => Ok(Shelf::Directory(directory.into())),
        _ => text.parse().map(Shelf::Registry).map_err(Complaint::from),
    }
}

/// Lists, a name a line, as the pages arrive.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reporter = session.reporter;
    let tell = |name: String, reference: String| {
        if reporter.is_json() {
            reporter.found(&Finding::Repository { name, reference });
            return Ok(());
        }
        report::line(reference)
    };
    match flags.shelf {
        Shelf::Registry(registry) => {
            let mut names = session.registry(&registry)?.catalog();
            while let Some(name) = names.try_next().await? {
                if flags.filter.passes(name.as_str()) {
                    tell(name.to_string(), format!("{registry}/{name}"))?;
                }
            }
        }
        Shelf::Directory(directory) => {
            let base = session.resolve(&directory);
            for layout in Layout::below(&base).await? {
                let name = layout.directory().strip_prefix(&base);
                let name = name.unwrap_or(layout.directory());
                if flags.filter.passes(&name.to_string_lossy()) {
                    // As it was written: relative to where the command was typed.
                    let shown: PathBuf = directory.join(name).components().collect();
                    let location = Location::layout(shown);
                    tell(name.display().to_string(), location.to_string())?;
                }
            }
        }
    }
    reporter.end()
}
