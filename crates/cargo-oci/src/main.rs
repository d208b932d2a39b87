//! `cargo oci`: publish cargo build artifacts to OCI registries, and install them from there.
//!
//! Only this module reads the environment of the process and handles signals. After SIGINT, SIGTERM or SIGHUP, the
//! future of the running command is dropped. This deletes its temporary files and kills its child processes.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "documentation comments of flags are help texts, in which brackets mark optional and required values"
)]

mod atomic_write;
mod cargo;
mod cli;
mod command;
mod contents;
mod defaults;
mod exit_code;
mod figures;
mod filter;
mod hints;
mod message;
mod naming;
mod options;
mod output;
mod progress;
mod query_result;
mod report;
mod session;
mod stdio;
mod table;
mod typed_path;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use oci_registry::Environment;

use cli::Cli;
use defaults::Defaults;
use report::{Error, Reporter};
use session::Session;

fn main() -> ExitCode {
    let (environment, cargo) = match environment() {
        Ok(environments) => environments,
        Err(error) => return report::fail(&error),
    };
    if let Some(exit) = cargo::wrap_rustc(&cargo, std::env::args_os()) {
        return exit;
    }
    stdio::configure(&environment);
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.print(&environment),
    };
    let reporter = Reporter::new(&cli.global, cli.command.message_format(), &environment);
    match run(cli, environment, cargo, reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => reporter.fail(&error),
    }
}

/// Prefix of this program's environment variables. They must be UTF-8. Other variables are ignored if they are not
/// UTF-8.
const OWN_VARIABLES: &str = "CARGO_OCI_";

/// Reads the environment for the libraries, and the environment for cargo, rustc and git.
#[expect(
    clippy::disallowed_methods,
    reason = "only this function reads the environment"
)]
fn environment() -> Result<(Environment, cargo::CargoEnvironment), Error> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let is_own = |name: &OsString| {
        let name = name.to_str();
        name.is_some_and(|name| name.starts_with(OWN_VARIABLES))
    };
    let mut own = std::env::vars_os().filter(|(name, _)| is_own(name));
    if let Some((name, _)) = own.find(|(_, value)| value.to_str().is_none()) {
        let message = format!(
            "failed to read the environment variable `{}`",
            name.display()
        );
        let error = Error::usage(format!("{message}: it is not UTF-8"));
        return Err(error.help("unset it, or set it to valid UTF-8"));
    }
    let variables = std::env::vars_os().filter_map(text);
    let directory = std::env::current_dir()?;
    let cargo = cargo::CargoEnvironment::new(directory.clone(), std::env::vars_os());
    let environment = Environment::new(variables, std::env::home_dir(), directory);
    let environment = environment.with_application("cargo-oci");
    Ok((environment, cargo))
}

/// Time limit to cancel open uploads after a signal.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that blocking tasks have to finish after a signal or an error.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

fn run(
    cli: Cli,
    environment: Environment,
    cargo: cargo::CargoEnvironment,
    reporter: Reporter,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let defaults = if cli.command.reads_defaults() {
        Defaults::for_user(&cargo)?
    } else {
        Defaults::default()
    };
    let session = Session::new(&cli.global, environment, cargo, defaults, reporter);
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = cli.command.run(&session) => outcome,
            signal = wait_for_signal() => {
                let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, session.cancel());
                // A second signal ends the process at once.
                tokio::select! {
                    _ = cancelled => {}
                    _ = wait_for_signal() => {}
                }
                Err(Error::interrupted(signal, reporter.resumption_advice()))
            }
        }
    });
    // The command was dropped, so its temporary files are deleted, except those that blocking tasks still own.
    match outcome {
        Ok(()) => runtime.shutdown_background(),
        Err(_) => runtime.shutdown_timeout(SHUTDOWN_TIMEOUT),
    }
    outcome
}

/// Waits for SIGINT, SIGTERM or SIGHUP, and returns the number of the signal.
#[cfg(unix)]
async fn wait_for_signal() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let received = async |kind: SignalKind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // If no handler could be installed, the default action of the signal ends the process.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = received(SignalKind::interrupt()) => 2,
        () = received(SignalKind::terminate()) => 15,
        () = received(SignalKind::hangup()) => 1,
    }
}

/// Waits for Ctrl-C, and returns the number of SIGINT.
#[cfg(not(unix))]
async fn wait_for_signal() -> u8 {
    match tokio::signal::ctrl_c().await {
        Ok(()) => 2,
        Err(_) => std::future::pending().await,
    }
}
