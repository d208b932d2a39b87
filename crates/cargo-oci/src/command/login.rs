//! `cargo oci login`: a credential for a registry, checked and kept.
//!
//! Owns the asking: at the terminal, where a password is not shown, or on stdin. Never an argument, which every process
//! of the machine could read. Where a credential is kept is the core's to know.

use std::io::{IsTerminal, Read};

use async_trait::async_trait;
use clap::Args;
use console::Term;
use oci_registry::{
    Credential, CredentialChain, CredentialProvider, CredentialRequest, CredentialStore, ErrorKind,
    Lookup, RegistryName, Secret,
};

use crate::options::registry;
use crate::report::Error;
use crate::session::Session;

/// More than any password or token has, in bytes.
const LONGEST_SECRET: u64 = 64 << 10;

/// What an error calls the credential.
const PLACE: &str = "what was typed";

/// Log in to a registry
///
/// Verifies the credential with the registry and stores it. The store is the credential helper in docker's configuration,
/// else the keyring of the operating system, else docker's configuration file, which holds it in clear text; a warning is
/// printed in that case.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci login ghcr.io\n  cargo oci login registry.example.com --username carol --password-stdin < token.txt"
)]
pub(crate) struct Flags {
    /// Registry to log in to: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = registry)]
    registry: RegistryName,

    /// User name (default: prompt for it)
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,

    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Asks, checks and keeps.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let name = &flags.registry;
    let credential = ask(&flags).await?;
    let registry = session.registry_as(name, Given(credential.clone()))?;
    let pong = registry
        .ping()
        .await
        .map_err(|error| match error.kind() {
            kind @ (ErrorKind::Unauthenticated | ErrorKind::Denied) => Error::new(
                kind,
                format!("failed to log in to `{name}`: it refused the user name or the password"),
            )
            .help("check both; many registries take no password of a person but a token, which may have expired"),
            _ => Error::from(error),
        })?;
    let reporter = session.reporter;
    if pong.credential_source.is_none() {
        reporter.note(format_args!(
            "`{name}` asks nobody for a credential: it could not be checked"
        ));
    }
    let store = CredentialStore::of_user(&session.environment);
    let kept = store.keep(name, &credential).await?;
    reporter.status(
        "Logged in",
        format_args!("to {name}, kept in: {}", kept.place),
    );
    if kept.is_readable {
        reporter.note(format_args!(
            "whoever can read {} can read the password: name a credential helper there (`credsStore`)",
            kept.place
        ));
    }
    // What was set up elsewhere on purpose may go before it.
    let chain = CredentialChain::new(&session.environment, []);
    let lookup = chain.credential(&CredentialRequest::new(name)).await?;
    for problem in &lookup.warnings {
        reporter.note(problem);
    }
    if let Some((_, place)) = lookup.found.filter(|(_, place)| *place != kept.place) {
        reporter.note(format_args!(
            "the credential that will be used is another one, which is found first: {place}"
        ));
    }
    Ok(())
}

/// The user name and password that a person types or a program sends.
async fn ask(flags: &Flags) -> Result<Credential, Error> {
    let name = &flags.registry;
    let is_terminal = std::io::stdin().is_terminal();
    if !flags.password_stdin && !is_terminal {
        return Err(Error::usage(format!(
            "failed to ask for the password of `{name}`: there is no terminal"
        ))
        .help("name the user with `--username` and send the password with `--password-stdin`"));
    }
    let (registry, username, is_sent) =
        (name.clone(), flags.username.clone(), flags.password_stdin);
    // Reading waits for a person, and an interrupt does not: the terminal is then left as it was.
    let _terminal = Terminal::as_it_is();
    let asked = tokio::task::spawn_blocking(move || {
        let mut term = Term::stderr();
        let username = match username {
            Some(username) => username,
            None => prompt(
                &mut term,
                &format!("Username for {registry}: "),
                Term::read_line,
            )?,
        };
        let password = if is_sent {
            sent()?
        } else {
            let question = format!("Password or token of {username} for {registry}: ");
            prompt(&mut term, &question, Term::read_secure_line)?
        };
        Ok::<_, Error>((username, password))
    });
    let asked = asked.await;
    let (username, password) = asked.expect("asking does not panic and is not aborted")?;
    if username.is_empty() || username.contains(':') || password.is_empty() {
        return Err(Error::usage(format!(
            "failed to log in to `{name}`: a user name without `:` and a password are needed"
        ))
        .help("many registries take any user name beside a token"));
    }
    Ok(Credential::Basic {
        username,
        password: Secret::new(password),
    })
}

/// The terminal as it was before a person was asked, which it is again when this is dropped.
struct Terminal {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Terminal {
    fn as_it_is() -> Self {
        Self {
            #[cfg(unix)]
            before: rustix::termios::tcgetattr(std::io::stdin()).ok(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(before) = &self.before {
            use rustix::termios::{OptionalActions, tcsetattr};
            // A terminal that is gone wants nothing any more.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

fn prompt(
    term: &mut Term,
    question: &str,
    read: impl Fn(&Term) -> std::io::Result<String>,
) -> Result<String, Error> {
    let answer = term.write_str(question).and_then(|()| read(term));
    let answer = answer.map_err(|error| {
        Error::new(
            ErrorKind::Io,
            format!("failed to ask at the terminal: {error}"),
        )
        .help("send the password with `--password-stdin`")
    })?;
    Ok(answer.trim().to_owned())
}

/// All of stdin, without the end of its last line.
fn sent() -> Result<String, Error> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(LONGEST_SECRET)
        .read_to_string(&mut text);
    read.map_err(|error| {
        Error::usage(format!("failed to read the password from stdin: {error}"))
            .help("send it as text in one line")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The one credential that is to be checked.
#[derive(Debug)]
struct Given(Credential);

#[async_trait]
impl CredentialProvider for Given {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(Lookup {
            found: Some((self.0.clone(), PLACE.to_owned())),
            looked_in: vec![PLACE.to_owned()],
            ..Lookup::default()
        })
    }
}
