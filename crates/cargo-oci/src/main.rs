//! `cargo oci`: publish what cargo builds to OCI registries, and get it back.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the texts of flags are help: their brackets mean what they mean on a command line"
)]

mod cargo;
mod cli;
mod command;
mod report;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return report::fail(&error),
    };
    let reporter = report::Reporter::new(cli.global.quiet, cli.global.color);
    match session::run(cli, reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report::fail(&error),
    }
}
