//! `cargo oci logout`: delete the stored credential of a registry.

use clap::Args;
use oci_registry::{
    CredentialChain, CredentialProvider as _, CredentialRequest, CredentialStore, RegistryName,
};

use crate::options::parse_registry;
use crate::report::Error;
use crate::session::Session;

/// Log out of a registry
///
/// Deletes the stored credential of the registry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci logout ghcr.io")]
pub(crate) struct Flags {
    /// Registry to log out of: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = parse_registry)]
    registry: RegistryName,
}

/// Deletes the stored credential, and prints a note if another source still has a credential.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (name, reporter) = (&flags.registry, session.reporter);
    let store = CredentialStore::for_user(&session.environment);
    let sources = store.erase(name).await?;
    for source in &sources {
        reporter.status(
            "Logged out",
            format_args!("of {name}, deleted from: {source}"),
        );
    }
    let chain = CredentialChain::new(&session.environment, []);
    let lookup = chain.credential(&CredentialRequest::new(name)).await?;
    for problem in &lookup.warnings {
        reporter.note(problem);
    }
    match lookup.found {
        Some((_, source)) => reporter.note(format_args!(
            "another source still has a credential for `{name}`: {source}"
        )),
        None if sources.is_empty() => {
            reporter.note(format_args!("no credential for `{name}` was stored"));
        }
        None => {}
    }
    Ok(())
}
