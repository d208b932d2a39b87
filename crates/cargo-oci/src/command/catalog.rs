//! `cargo oci catalog`: the repositories of a registry.

use clap::Args;
use futures_util::TryStreamExt;
use oci_registry::RegistryName;

use super::filter::Filter;
use super::registry;
use crate::report::{self, Error};
use crate::session::Session;

/// List the repositories of a registry
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci catalog registry.example.com\n  cargo oci catalog registry.example.com --include 'team-a/*'\n  cargo oci catalog 127.0.0.1:5000"
)]
pub(crate) struct Flags {
    /// The registry, HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = registry)]
    registry: RegistryName,

    #[command(flatten)]
    filter: Filter,
}

/// Lists, a name a line, as the pages arrive.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let mut names = session.registry(&flags.registry)?.catalog();
    while let Some(name) = names.try_next().await? {
        if flags.filter.passes(name.as_str()) {
            report::line(format_args!("{}/{name}", flags.registry))?;
        }
    }
    Ok(())
}
