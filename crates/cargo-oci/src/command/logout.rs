//! `cargo oci logout`: delete the stored credential of a registry.

use clap::Args;
use oci_registry::{
    CredentialChain, CredentialProvider as _, CredentialRequest, CredentialStore, RegistryName,
};

use crate::options::registry;
use crate::report::Error;
use crate::session::Session;

/// Log out of a registry
///
/// Deletes the stored credential of the registry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci logout ghcr.io")]
pub(crate) struct Flags {
    /// Registry to log out of: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = registry)]
    registry: RegistryName,
}

/// Deletes the credential, and reports credentials in other sources.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (name, reporter) = (&flags.registry, session.reporter);
    let store = CredentialStore::of_user(&session.environment);
    let places = store.erase(name).await?;
    for place in &places {
        reporter.status(
            "Logged out",
            format_args!("of {name}, deleted from: {place}"),
        );
    }
    let chain = CredentialChain::new(&session.environment, []);
    let lookup = chain.credential(&CredentialRequest::new(name)).await?;
    for problem in &lookup.warnings {
        reporter.note(problem);
    }
    match lookup.found {
        Some((_, place)) => reporter.note(format_args!(
            "another source still has a credential for `{name}`: {place}"
        )),
        None if places.is_empty() => {
            reporter.note(format_args!("no credential for `{name}` was stored"));
        }
        None => {}
    }
    Ok(())
}
