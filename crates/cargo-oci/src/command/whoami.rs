//! `cargo oci whoami`: as whom a registry knows us, and where that credential came from.

use clap::Args;
use oci_registry::{Credential, CredentialChain, CredentialRequest, ErrorKind, RegistryName};

use super::registry;
use crate::report::{self, Error};
use crate::session::Session;

/// Show which credential is used for a registry, and where it was found
///
/// Prints the user name. Every place where credentials are looked for is told in the order in which they are asked; the
/// first one that has a credential is the one used. The registry is asked whether it takes it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci whoami ghcr.io")]
pub(crate) struct Flags {
    /// The registry, HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = registry)]
    registry: RegistryName,
}

/// Asks every place, and then the registry.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (name, reporter) = (&flags.registry, session.reporter);
    let chain = CredentialChain::new(&session.environment, []);
    let mut used = None;
    let mut looked_in = Vec::new();
    for answer in chain.ask_all(&CredentialRequest::new(name)).await {
        let lookup = match answer {
            Ok(lookup) => lookup,
            // A broken place before the credential is why nothing works; one behind it is not asked.
            Err(error) if used.is_none() => return Err(error.into()),
            Err(error) => {
                reporter.note(&error);
                continue;
            }
        };
        looked_in.extend(lookup.looked_in.iter().cloned());
        match lookup.found {
            None => reporter.status(
                "Nothing",
                format_args!("in {}", lookup.looked_in.join(", ")),
            ),
            Some((credential, place)) => {
                let who = user(&credential);
                if used.is_none() {
                    reporter.status("Using", format_args!("{who} of {place}"));
                    used = Some(who);
                } else {
                    reporter.status("Not used", format_args!("{who} of {place}"));
                }
            }
        }
    }
    let Some(who) = used else {
        let places = looked_in.join(", ");
        return Err(Error::new(
            ErrorKind::Unauthenticated,
            format!("failed to find a credential for `{name}`"),
        )
        .help(format!("looked in: {places}"))
        .help(format!(
            "log in with `cargo oci login {name}`, or set `DOCKER_AUTH_CONFIG`"
        )));
    };
    let pong = session.registry(name)?.ping().await?;
    if pong.credential_source.is_some() {
        reporter.status("Accepted", format_args!("by {name}"));
    } else {
        reporter.note(format_args!("`{name}` asks nobody for a credential"));
    }
    report::line(who)
}

/// How a credential is told from others.
fn user(credential: &Credential) -> String {
    match credential {
        // A name from a file: nothing of it may act on a terminal.
        Credential::Basic { username, .. } => oci_registry::escape(username, 200),
        Credential::Identity(_) => "<identity token>".to_owned(),
        _ => "<registry token>".to_owned(),
    }
}
