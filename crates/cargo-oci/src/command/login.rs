//! `cargo oci login`: verify and store a credential for a registry.
//!
//! The password is read from the terminal without echo, or from stdin. It is not an argument, because every process on
//! the machine can read the arguments of other processes. The library `oci-registry` selects the credential store.

use std::io::{IsTerminal, Read};

use async_trait::async_trait;
use clap::Args;
use console::Term;
use oci_registry::{
    Credential, CredentialChain, CredentialProvider, CredentialRequest, CredentialStore, ErrorKind,
    Lookup, RegistryName, Secret,
};

use crate::options::parse_registry;
use crate::report::Error;
use crate::session::Session;

/// Maximum length of a password or token, in bytes.
const MAX_SECRET_LENGTH: u64 = 64 << 10;

/// Name of the credential source that error messages show.
const SOURCE: &str = "command line";

/// Log in to a registry
///
/// Verifies the credential with the registry and stores it. The store is the credential helper in docker's
/// configuration, else the keyring of the operating system, else docker's configuration file. The file contains the
/// credential in clear text, so a note is printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci login ghcr.io\n  cargo oci login registry.example.com --username carol --password-stdin < token.txt"
)]
pub(crate) struct Flags {
    /// Registry to log in to: HOST[:PORT]
    #[arg(value_name = "REGISTRY", value_parser = parse_registry)]
    registry: RegistryName,

    /// User name (default: prompt for it)
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,

    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Reads, verifies and stores the credential.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let name = &flags.registry;
    let credential = read_credential(&flags).await?;
    let registry = session.open_registry_with(name, FixedCredential(credential.clone()))?;
    let response = registry
        .ping()
        .await
        .map_err(|error| match error.kind() {
            kind @ (ErrorKind::Unauthenticated | ErrorKind::Denied) => Error::new(
                kind,
                format!("failed to log in to `{name}`: wrong user name or password"),
            )
            .help("check both; many registries require an access token as the password, which may have expired"),
            _ => Error::from(error),
        })?;
    let reporter = session.reporter;
    if response.credential_source.is_none() {
        reporter.note(format_args!(
            "`{name}` does not require authentication: the credential was not verified"
        ));
    }
    let store = CredentialStore::for_user(&session.environment);
    let stored = store.store(name, &credential).await?;
    reporter.status(
        "Logged in",
        format_args!("to {name}, stored in: {}", stored.location),
    );
    if stored.is_unencrypted {
        reporter.note(format_args!(
            "the password is stored in clear text in {}: set `credsStore` in this file to use a credential helper",
            stored.location
        ));
    }
    // Another credential source may have precedence over the store. Other commands then use a different credential.
    let chain = CredentialChain::new(&session.environment, []);
    let lookup = chain.credential(&CredentialRequest::new(name)).await?;
    for problem in &lookup.warnings {
        reporter.note(problem);
    }
    if let Some((_, source)) = lookup
        .found
        .filter(|(_, source)| *source != stored.location)
    {
        reporter.note(format_args!(
            "another credential for `{name}` has precedence: {source}"
        ));
    }
    Ok(())
}

/// Reads the user name and password from the terminal or from stdin.
async fn read_credential(flags: &Flags) -> Result<Credential, Error> {
    let name = &flags.registry;
    let is_terminal = std::io::stdin().is_terminal();
    if !flags.password_stdin && !is_terminal {
        return Err(Error::usage(format!(
            "failed to read the password for `{name}`: stdin is not a terminal"
        ))
        .help("pass `--username NAME --password-stdin`, and write the password to stdin"));
    }
    let (registry, username, from_stdin) =
        (name.clone(), flags.username.clone(), flags.password_stdin);
    // After a signal, this future is dropped, but the blocking read keeps running with echo turned off. The guard
    // therefore restores the terminal.
    let _guard = TerminalGuard::new();
    let input = tokio::task::spawn_blocking(move || {
        let mut term = Term::stderr();
        let username = match username {
            Some(username) => username,
            None => prompt(
                &mut term,
                &format!("Username for {registry}: "),
                Term::read_line,
            )?,
        };
        let password = if from_stdin {
            read_stdin()?
        } else {
            let question = format!("Password or token of {username} for {registry}: ");
            prompt(&mut term, &question, Term::read_secure_line)?
        };
        Ok::<_, Error>((username, password))
    });
    let input = input.await;
    let (username, password) = input.expect("the prompt does not panic and is not aborted")?;
    if username.is_empty() || username.contains(':') || password.is_empty() {
        return Err(Error::usage(format!(
            "failed to log in to `{name}`: the user name or password is empty, or the user name contains `:`"
        ))
        .help("enter a user name and a password; many registries accept any user name with an access token"));
    }
    Ok(Credential::Basic {
        username,
        password: Secret::new(password),
    })
}

/// Guard that restores the settings of the terminal when it is dropped.
struct TerminalGuard {
    #[cfg(unix)]
    saved: Option<rustix::termios::Termios>,
}

impl TerminalGuard {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            saved: rustix::termios::tcgetattr(std::io::stdin()).ok(),
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(saved) = &self.saved {
            use rustix::termios::{OptionalActions, tcsetattr};
            // The error is ignored, because the call fails only if the terminal was closed.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, saved);
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
            format!("failed to read from the terminal: {error}"),
        )
        .help("write the password to stdin, and pass `--password-stdin`")
    })?;
    Ok(answer.trim().to_owned())
}

/// Reads all of stdin, and removes the final newline.
fn read_stdin() -> Result<String, Error> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(MAX_SECRET_LENGTH)
        .read_to_string(&mut text);
    read.map_err(|error| {
        Error::usage(format!("failed to read the password from stdin: {error}"))
            .help("write it as UTF-8 text in one line")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Credential provider that always returns the credential to verify.
#[derive(Debug)]
struct FixedCredential(Credential);

#[async_trait]
impl CredentialProvider for FixedCredential {
    async fn credential(&self, _: &CredentialRequest<'_>) -> oci_registry::Result<Lookup> {
        Ok(Lookup {
            found: Some((self.0.clone(), SOURCE.to_owned())),
            searched: vec![SOURCE.to_owned()],
            ..Lookup::default()
        })
    }
}
