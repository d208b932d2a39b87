//! `cargo oci`: publish what cargo builds to OCI registries, and get it back.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the texts of flags are help: their brackets mean what they mean on a command line"
)]

mod cargo;
mod cli;
mod command;
mod defaults;
mod finding;
mod message;
mod progress;
mod report;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return report::fail(&error),
    };
    session::main(cli)
}
