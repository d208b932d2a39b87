//! Who compiles: the versions of rustc and cargo, and the triple of this machine.
//!
//! Two processes at the same time, and none at all unless somebody asks.

use snafu::{OptionExt, ResultExt, Snafu};

use super::{Environment, ErrorClass, Fault, process};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to ask rustc for its version"))]
    AskRustc { source: process::Error },
    #[snafu(display("failed to ask cargo for its version"))]
    AskCargo { source: process::Error },
    #[snafu(display("`rustc -vV` named no host"))]
    NoHost,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Io
    }
}

/// The programs that build, in their own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// The first line of `rustc -vV`: `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub(crate) rustc: String,
    /// The line of `cargo -V`: `cargo 1.95.0 (f2d3ce0bd 2026-03-21)`.
    pub(crate) cargo: String,
    /// The triple that is built for where no other is named.
    pub(crate) host: String,
}

impl Toolchain {
    /// Asks both programs.
    pub(crate) async fn ask(environment: &Environment) -> Result<Self, super::Error> {
        let mut rustc = process::command(environment, environment.rustc());
        rustc.arg("-vV");
        let mut cargo = process::command(environment, environment.cargo());
        cargo.arg("-V");
        let (rustc, cargo) = tokio::join!(process::capture(rustc), process::capture(cargo));
        Ok(Self::parse(
            &rustc.context(AskRustcSnafu)?,
            &cargo.context(AskCargoSnafu)?,
        )?)
    }

    fn parse(rustc: &str, cargo: &str) -> Result<Self, Error> {
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            host: host.context(NoHostSnafu)?.trim().to_owned(),
            rustc: first_line(rustc),
            cargo: first_line(cargo),
        })
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSTC: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                         commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\n\
                         host: aarch64-apple-darwin\nrelease: 1.95.0\n";

    #[test]
    fn versions_are_kept_as_they_were_said() {
        let toolchain = Toolchain::parse(RUSTC, "cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n").unwrap();
        assert_eq!(toolchain.rustc, "rustc 1.95.0 (59807616e 2026-04-14)");
        assert_eq!(toolchain.cargo, "cargo 1.95.0 (f2d3ce0bd 2026-03-21)");
        assert_eq!(toolchain.host, "aarch64-apple-darwin");
    }

    #[test]
    fn a_rustc_without_a_host_is_refused() {
        let error = Toolchain::parse("rustc 1.95.0\n", "cargo 1.95.0\n").unwrap_err();
        assert_eq!(error.to_string(), "`rustc -vV` named no host");
    }

    #[tokio::test]
    async fn a_rustc_that_is_not_there_is_named() {
        let mut environment = super::super::scratch::environment(std::path::Path::new("/"));
        environment
            .variables
            .insert("RUSTC".into(), "/nowhere/rustc".into());
        let error = Toolchain::ask(&environment).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to ask rustc for its version");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "failed to run `/nowhere/rustc -vV`");
    }
}
