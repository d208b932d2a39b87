//! Versions of rustc and cargo, and the target triple of this machine.

use oci_registry::{ErrorKind, Failure};
use snafu::{OptionExt, ResultExt, Snafu};

use super::{CargoEnvironment, process};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to get rustc's version"))]
    RustcVersion { source: process::Error },
    #[snafu(display("failed to get cargo's version"))]
    CargoVersion { source: process::Error },
    #[snafu(display("`rustc -vV` printed no host"))]
    NoHost,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Io
    }
}

/// Version lines that rustc and cargo print, and the target triple of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolchain {
    /// First line of `rustc -vV`: `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub(crate) rustc: String,
    /// Output of `cargo -V`: `cargo 1.95.0 (f2d3ce0bd 2026-03-21)`.
    pub(crate) cargo: String,
    /// Target triple of the host, which is the default target of a build.
    pub(crate) host: String,
}

impl Toolchain {
    /// Detects the toolchain. Runs rustc and cargo in parallel.
    pub(crate) async fn detect(environment: &CargoEnvironment) -> Result<Self, super::Error> {
        let mut rustc = process::command(environment, environment.rustc());
        rustc.arg("-vV");
        let mut cargo = process::command(environment, environment.cargo());
        cargo.arg("-V");
        let (rustc, cargo) = tokio::join!(process::capture(rustc), process::capture(cargo));
        Ok(Self::parse(
            &rustc.context(RustcVersionSnafu)?,
            &cargo.context(CargoVersionSnafu)?,
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
    use super::{
        super::scratch::{environment, error_chain},
        *,
    };

    const RUSTC: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
                         commit-hash: 59807616e1fa2540724bfbac14d7976d7e4a3860\n\
                         host: aarch64-apple-darwin\nrelease: 1.95.0\n";

    #[test]
    fn version_lines_and_host_are_parsed() {
        let toolchain = Toolchain::parse(RUSTC, "cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n").unwrap();
        assert_eq!(toolchain.rustc, "rustc 1.95.0 (59807616e 2026-04-14)");
        assert_eq!(toolchain.cargo, "cargo 1.95.0 (f2d3ce0bd 2026-03-21)");
        assert_eq!(toolchain.host, "aarch64-apple-darwin");
    }

    #[test]
    fn rustc_without_host_is_rejected() {
        let error = Toolchain::parse("rustc 1.95.0\n", "cargo 1.95.0\n").unwrap_err();
        assert_eq!(error.to_string(), "`rustc -vV` printed no host");
    }

    #[tokio::test]
    async fn missing_rustc_is_reported_with_command() {
        let mut environment = environment(std::path::Path::new("/"));
        environment
            .variables
            .insert("RUSTC".into(), "/nowhere/rustc".into());
        let error = Toolchain::detect(&environment).await.unwrap_err();
        let expected = "failed to get rustc's version\nfailed to run `/nowhere/rustc -vV`\n";
        let error_chain = error_chain(&error);
        assert!(error_chain.starts_with(expected), "{error_chain}");
    }
}
