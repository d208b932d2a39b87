//! `cargo oci`: publish what cargo builds to OCI registries, and get it back.
//!
//! Owns the process: its environment, which nothing else reads, and its end. Ctrl-C, or being told to end, drops whatever
//! is under way: half files go with their directories, children are ended.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the texts of flags are help: their brackets mean what they mean on a command line"
)]

mod cargo;
mod cli;
mod command;
mod contents;
mod defaults;
mod exit_code;
mod figures;
mod filter;
mod finding;
mod hints;
mod message;
mod naming;
mod options;
mod output;
mod progress;
mod report;
mod session;
mod stdio;
mod typed_path;

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
        Err(refusal) => return refusal.tell(&environment),
    };
    let reporter = Reporter::new(&cli.global, cli.command.message_format(), &environment);
    match run(cli, environment, cargo, reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => reporter.fail(&error),
    }
}

/// What the core may know of this process, and what cargo, rustc and git may.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment enters"
)]
fn environment() -> Result<(Environment, cargo::Environment), Error> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = std::env::vars_os().filter_map(text);
    let directory = std::env::current_dir()?;
    let cargo = cargo::Environment::new(directory.clone(), std::env::vars_os());
    let environment = Environment::new(variables, std::env::home_dir(), directory);
    Ok((environment, cargo))
}

/// How long registries are given to hear that an upload is over.
const FAREWELL: Duration = Duration::from_secs(2);

fn run(
    cli: Cli,
    environment: Environment,
    cargo: cargo::Environment,
    reporter: Reporter,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let defaults = if cli.command.reads_defaults() {
        Defaults::of_user(&cargo)?
    } else {
        Defaults::default()
    };
    let session = Session::new(&cli.global, environment, cargo, defaults, reporter);
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = cli.command.run(&session) => outcome,
            signal = interruption() => {
                let cancelled = tokio::time::timeout(FAREWELL, session.cancel());
                // Whoever asks twice means it.
                tokio::select! {
                    _ = cancelled => {}
                    _ = interruption() => {}
                }
                Err(Error::interrupted(signal))
            }
        }
    });
    // What is still computing in the background has nobody left to report to.
    runtime.shutdown_background();
    outcome
}

/// Waits until this process is asked to stop, and says by which signal.
#[cfg(unix)]
async fn interruption() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = async |kind: SignalKind| match signal(kind) {
        Ok(mut asked) => {
            asked.recv().await;
        }
        // Without a handler the system ends the process, which is as well.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = asked(SignalKind::interrupt()) => 2,
        () = asked(SignalKind::terminate()) => 15,
        () = asked(SignalKind::hangup()) => 1,
    }
}

/// Waits until this process is asked to stop, and says by which signal.
#[cfg(not(unix))]
async fn interruption() -> u8 {
    match tokio::signal::ctrl_c().await {
        Ok(()) => 2,
        Err(_) => std::future::pending().await,
    }
}
