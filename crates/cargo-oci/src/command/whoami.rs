//! `cargo oci whoami`: as whom a registry knows us, and where that credential came from.

use clap::Args;
use oci_registry::{Credential, CredentialChain, CredentialRequest, ErrorKind, RegistryName};

use crate::message::{FormatFlag, Message};
use crate::options::registry;
use crate::report::{self, Error};
use crate::session::Session;

/// What stands for a user name where none is needed.
const NOBODY: &str = "<anonymous>";

/// Show the credential used for a registry and its source
///
/// Prints the user name, or `<anonymous>` if there is no credential and the registry requires none. The credential sources
/// are listed in search order; the first one with a credential is used. The credential is verified with the registry.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci whoami ghcr.io\n  cargo oci whoami ghcr.io --message-format json"
)]
pub(crate) struct Flags {
    /// Registry to check: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = registry)]
    registry: RegistryName,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// What one place has.
struct Answer {
    source: String,
    username: Option<String>,
}

/// Asks every place, and then the registry.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (name, reporter) = (&flags.registry, session.reporter);
    let chain = CredentialChain::new(&session.environment, []);
    let mut answers: Vec<Answer> = Vec::new();
    let mut used = None;
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
        match lookup.found {
            None => answers.extend(lookup.looked_in.into_iter().map(|source| Answer {
                source,
                username: None,
            })),
            Some((credential, source)) => {
                used = used.or(Some(answers.len()));
                answers.push(Answer {
                    source,
                    username: Some(user(&credential)),
                });
            }
        }
    }
    let pong = session.registry(name)?.ping().await?;
    if used.is_none() && pong.is_stranger {
        let places: Vec<_> = answers
            .iter()
            .map(|answer| answer.source.as_str())
            .collect();
        return Err(Error::new(
            ErrorKind::Unauthenticated,
            format!("failed to find a credential for `{name}`"),
        )
        .help(format!("looked in: {}", places.join(", ")))
        .help(format!(
            "log in with `cargo oci login {name}`, or set `DOCKER_AUTH_CONFIG`"
        )));
    }
    for (at, answer) in answers.iter().enumerate() {
        reporter.tell(&Message::Credential {
            registry: name.to_string(),
            source: &answer.source,
            username: answer.username.as_deref(),
            used: used == Some(at),
        });
    }
    let used = used.map(|at| &answers[at]);
    let demanded = pong.credential_source.is_some();
    if !demanded {
        reporter.note(format_args!("`{name}` asks nobody for a credential"));
    }
    let username = used.and_then(|used| used.username.as_deref());
    reporter.tell(&Message::Identity {
        registry: name.to_string(),
        username,
        source: used.map(|used| used.source.as_str()),
        demanded,
    });
    if reporter.is_json() {
        return reporter.end();
    }
    report::line(username.unwrap_or(NOBODY))
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
