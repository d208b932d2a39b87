//! `cargo oci catalog`: list the repositories of a registry, or the layouts in a directory.

use std::path::PathBuf;

use clap::Args;
use futures_util::TryStreamExt;
use oci_registry::{Layout, Location, RegistryName, RepositoryName};

use crate::filter::Filter;
use crate::message::FormatFlag;
use crate::options::ArgumentError;
use crate::query_result::QueryResult;
use crate::report::Error;
use crate::session::Session;
use crate::table::{Cell, Column, Table};

/// List the repositories of a registry, or the OCI layouts in a directory
#[derive(Debug, Args)]
#[command(
    visible_alias = "repos",
    after_help = "Examples:\n  cargo oci catalog registry.example.com\n  cargo oci catalog registry.example.com --include 'team-a/*'\n  cargo oci catalog oci:target/oci"
)]
pub(crate) struct Flags {
    /// Registry HOST[:PORT], or oci:DIR for a directory of OCI layouts
    #[arg(value_name = "REGISTRY", value_parser = parse_catalog_argument)]
    source: CatalogArgument,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Registry or directory that contains the repositories.
#[derive(Debug, Clone)]
enum CatalogArgument {
    Registry(RegistryName),
    Directory(PathBuf),
}

fn parse_catalog_argument(text: &str) -> Result<CatalogArgument, ArgumentError> {
    match text.strip_prefix("oci:") {
        Some(directory) if !directory.is_empty() => {
            Ok(CatalogArgument::Directory(directory.into()))
        }
        _ => text
            .parse()
            .map(CatalogArgument::Registry)
            .map_err(|error| {
                let error = ArgumentError::from(error);
                match path_advice(text) {
                    Some(advice) => error.with_hint(advice),
                    None => error,
                }
            }),
    }
}

/// Returns advice for a registry with a path, such as `ghcr.io/acme`.
fn path_advice(text: &str) -> Option<String> {
    let (registry, path) = text.trim_end_matches('/').split_once('/')?;
    registry.parse::<RegistryName>().ok()?;
    path.parse::<RepositoryName>().ok()?;
    Some(format!(
        "pass `--include '{path}/*'` to list only the repositories of `{path}`"
    ))
}

/// Prints one name per line. The first names of a registry are printed while further pages are fetched.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reporter = session.reporter;
    let table = Table::new([Column::text("REPOSITORY")]);
    let is_first = std::cell::Cell::new(true);
    let print = |name: String, reference: String| {
        if reporter.is_json() {
            reporter.emit_query_result(&QueryResult::Repository { name, reference });
            return Ok(());
        }
        if is_first.replace(false) {
            table.print_header()?;
        }
        table.print_row([Cell::Text(Some(&reference))])
    };
    match flags.source {
        CatalogArgument::Registry(registry) => {
            let mut names = session.open_registry(&registry)?.catalog();
            while let Some(name) = names.try_next().await? {
                if flags.filter.matches(name.as_str()) {
                    print(name.to_string(), format!("{registry}/{name}"))?;
                }
            }
        }
        CatalogArgument::Directory(directory) => {
            let base = session.resolve(&directory);
            for layout in Layout::find_below(&base).await? {
                let name = layout.directory().strip_prefix(&base);
                let name = name.unwrap_or(layout.directory());
                if flags.filter.matches(&name.to_string_lossy()) {
                    // `directory` is used instead of `base`, so that a relative directory stays relative in the output.
                    let path: PathBuf = directory.join(name).components().collect();
                    let location = Location::layout(path);
                    print(name.display().to_string(), location.to_string())?;
                }
            }
        }
    }
    reporter.finish()
}
