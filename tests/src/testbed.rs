//! Paths of external tools and built programs, and the policy for missing ones.
//!
//! `tests/testbed/install` installs the tools, and cargo builds the programs. Only this module of the harness reads the
//! environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// External tool or file that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// CNCF Distribution registry 2.8.
    DockerRegistry,
    /// Nushell.
    Nu,
    /// `skopeo`, another client.
    Skopeo,
    /// `oras`, another client, in another language.
    Oras,
    /// moto, a fake of AWS services.
    Moto,
    /// `dbus-run-session`, which runs a program with a new message bus.
    DbusRunSession,
    /// gnome-keyring, a Secret Service.
    GnomeKeyring,
    /// `secret-tool`, a client of a Secret Service.
    SecretTool,
    /// Sources of the published crate `shellharden`.
    Shellharden,
}

impl Part {
    /// Returns the path of the tool if it is installed.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let inside = match self {
            Self::DockerRegistry => "bin/docker-registry",
            Self::Nu => "bin/nu",
            Self::Skopeo => "bin/skopeo",
            Self::Oras => "bin/oras",
            Self::Moto => "bin/moto_server",
            Self::DbusRunSession => "bin/dbus-run-session",
            Self::GnomeKeyring => "bin/gnome-keyring-daemon",
            Self::SecretTool => "bin/secret-tool",
            Self::Shellharden => "crates/shellharden",
        };
        repository().join("target/testbed").join(inside)
    }
}

/// Skips a test with a printed line if a tool is missing.
///
/// If `CI` is set, a missing tool fails the test.
#[macro_export]
macro_rules! require {
    ($($part:ident),+ $(,)?) => {
        if !$crate::testbed::are_installed(&[$($crate::testbed::Part::$part),+]) {
            return;
        }
    };
}

/// Whether all these tools are installed. Used through [`require!`](crate::require).
///
/// # Panics
///
/// If a tool is missing and `CI` is set.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test prints a line")]
pub fn are_installed(parts: &[Part]) -> bool {
    let Some(missing) = parts.iter().find(|part| !part.path().exists()) else {
        return true;
    };
    let path = missing.path();
    assert!(
        !in_ci(),
        "`{}` is missing: run `tests/testbed/install`",
        path.display()
    );
    eprintln!(
        "skipped: `{}` is missing; `tests/testbed/install` gets it",
        path.display()
    );
    false
}

/// Returns the path of a program of this workspace, in the profile directory of the running test.
///
/// # Panics
///
/// If the program was not built. Cargo does not build the programs of one package for the tests of another.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).expect("tests lie in `deps`");
    let program = profile.join(name);
    assert!(
        program.is_file(),
        "`{}` is not built: run `tests/run`, or `cargo build -p cargo-oci-artifact -p nu_plugin_oci`",
        program.display()
    );
    program
}

/// Returns the path of the Nushell plugin: the value of `NU_PLUGIN_OCI`, such as a release build, or else as
/// [`program`].
///
/// # Panics
///
/// If the plugin was not built.
#[must_use]
pub fn plugin() -> PathBuf {
    let Some(named) = variable("NU_PLUGIN_OCI") else {
        return program("nu_plugin_oci");
    };
    let plugin = std::path::absolute(named).expect("a path");
    assert!(plugin.is_file(), "`{}` is not there", plugin.display());
    plugin
}

/// Returns the root of this repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a member of the workspace")
}

/// Returns the environment variables that a program needs to run cargo: the path to cargo, and the directory of the
/// rustup toolchains, because rustup searches below `HOME` by default.
#[must_use]
pub fn toolchain() -> Vec<(&'static str, OsString)> {
    let mut variables = vec![("PATH", variable("PATH").expect("there is a PATH"))];
    let rustup = variable("RUSTUP_HOME")
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".rustup").into()));
    variables.extend(rustup.map(|home| ("RUSTUP_HOME", home)));
    variables.extend(variable("RUSTUP_TOOLCHAIN").map(|name| ("RUSTUP_TOOLCHAIN", name)));
    variables
}

fn in_ci() -> bool {
    variable("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs receive variables of the environment of the test"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
