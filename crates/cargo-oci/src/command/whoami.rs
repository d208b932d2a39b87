//! `cargo oci whoami`: show the credential used for a registry, and its source.

use clap::Args;
use oci_registry::{
    Credential, CredentialChain, CredentialRequest, ErrorKind, RegistryAccess, RegistryName,
};

use crate::message::{self, FormatFlag, Message};
use crate::options::parse_registry;
use crate::report::{self, Error};
use crate::session::Session;

/// Text that is printed instead of a user name if no credential is used.
const ANONYMOUS: &str = "<anonymous>";

/// Show the credential used for a registry and its source
///
/// Prints the user name, or `<anonymous>` if there is no credential and the registry requires none. The credential
/// sources are listed in search order; the first one with a credential is used. The credential is verified with the
/// registry. If the registry reports a rate limit, it is printed too.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci whoami ghcr.io\n  cargo oci whoami ghcr.io --message-format json"
)]
pub(crate) struct Flags {
    /// Registry to check: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = parse_registry)]
    registry: RegistryName,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Credential source that was searched, and the user name of its credential, if any.
struct SearchResult {
    source: String,
    username: Option<String>,
}

/// Searches every credential source, and verifies the credential with the registry.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let (name, reporter) = (&flags.registry, session.reporter);
    let chain = CredentialChain::new(&session.environment, []);
    let mut results: Vec<SearchResult> = Vec::new();
    let mut used = None;
    for result in chain
        .search_all_sources(&CredentialRequest::new(name))
        .await
    {
        let lookup = match result {
            Ok(lookup) => lookup,
            // If a source fails before a credential is found, every other command fails in the same way. Sources after
            // the first credential are not used by other commands, so their errors are only notes.
            Err(error) if used.is_none() => return Err(error.into()),
            Err(error) => {
                reporter.note(&error);
                continue;
            }
        };
        match lookup.found {
            None => results.extend(lookup.searched.into_iter().map(|source| SearchResult {
                source,
                username: None,
            })),
            Some((credential, source)) => {
                used = used.or(Some(results.len()));
                results.push(SearchResult {
                    source,
                    username: Some(display_username(&credential)),
                });
            }
        }
    }
    let response = session.open_registry(name)?.ping().await?;
    if used.is_none() && response.access == RegistryAccess::LoginRequired {
        let sources: Vec<_> = results
            .iter()
            .map(|result| result.source.as_str())
            .collect();
        return Err(Error::new(
            ErrorKind::Unauthenticated,
            format!("failed to find a credential for `{name}`"),
        )
        .help(format!("searched: {}", sources.join(", ")))
        .help(format!(
            "run `cargo oci login {name}`, or set `DOCKER_AUTH_CONFIG`"
        )));
    }
    for (at, result) in results.iter().enumerate() {
        reporter.emit(&Message::Credential {
            registry: name.to_string(),
            source: &result.source,
            username: result.username.as_deref(),
            used: used == Some(at),
        });
    }
    let used = used.map(|at| &results[at]);
    let demanded = response.credential_source.is_some();
    if !demanded {
        reporter.note(format_args!("`{name}` does not require authentication"));
    }
    let username = used.and_then(|used| used.username.as_deref());
    reporter.emit(&Message::Identity {
        registry: name.to_string(),
        username,
        source: used.map(|used| used.source.as_str()),
        demanded,
        access: response.access.to_string(),
        rate_limit: response.rate_limit.map(message::RateLimitObject::from),
    });
    if let Some(rate_limit) = response.rate_limit {
        reporter.status("Rate limit", rate_limit);
    }
    if reporter.is_json() {
        return reporter.finish();
    }
    report::write_line(username.unwrap_or(ANONYMOUS))
}

/// Returns the user name of a credential, or a placeholder for a token.
fn display_username(credential: &Credential) -> String {
    match credential {
        // A user name is read from a file and may contain control characters.
        Credential::Basic { username, .. } => oci_registry::escape(username, 200),
        Credential::Identity(_) => "<identity token>".to_owned(),
        _ => "<registry token>".to_owned(),
    }
}
