//! Paths of external tools and built programs, and the policy for missing tools.
//!
//! `tests/testbed/install` installs the tools, and cargo builds the programs. No other module of the harness reads the
//! environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// External tool or file that a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// CNCF Distribution registry 2.8.
    DockerRegistry,
    /// Nushell.
    Nu,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// bash-completion, which cargo's completion script for bash requires.
    BashCompletion,
    /// `skopeo`, a third-party client.
    Skopeo,
    /// `oras`, a third-party client that is written in Python.
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

impl Tool {
    /// Returns the path of the tool if it is installed.
    #[must_use]
    pub fn path(self) -> PathBuf {
        let inside = match self {
            Self::DockerRegistry => "bin/docker-registry",
            Self::Nu => "bin/nu",
            Self::Zsh => "bin/zsh",
            Self::Fish => "bin/fish",
            Self::BashCompletion => "bash-completion/usr/share/bash-completion/bash_completion",
            Self::Skopeo => "bin/skopeo",
            Self::Oras => "bin/oras",
            Self::Moto => "bin/moto_server",
            Self::DbusRunSession => "bin/dbus-run-session",
            Self::GnomeKeyring => "bin/gnome-keyring-daemon",
            Self::SecretTool => "bin/secret-tool",
            Self::Shellharden => "crates/shellharden",
        };
        repository_root().join("target/testbed").join(inside)
    }
}

/// Skips a test if a tool is missing, and prints a line.
///
/// If `CI` is set, a missing tool fails the test.
#[macro_export]
macro_rules! require {
    ($($tool:ident),+ $(,)?) => {
        if !$crate::testbed::are_installed(&[$($crate::testbed::Tool::$tool),+]) {
            return;
        }
    };
}

/// Whether all these tools are installed. Tests call [`require!`](crate::require).
///
/// # Panics
///
/// If a tool is missing and `CI` is set.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test prints a line")]
pub fn are_installed(tools: &[Tool]) -> bool {
    let Some(missing) = tools.iter().find(|part| !part.path().exists()) else {
        return true;
    };
    let path = missing.path();
    assert!(
        !is_ci(),
        "`{}` is missing: run `tests/testbed/install`",
        path.display()
    );
    eprintln!(
        "skipped: `{}` is missing; `tests/testbed/install` downloads it",
        path.display()
    );
    false
}

/// Returns the path of a program of this workspace. The program is in the profile directory of the running test.
///
/// # Panics
///
/// If the program was not built. When cargo builds the tests of a package, it does not build the programs of other
/// packages.
#[must_use]
pub fn program_path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test can be read");
    // target/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).expect("tests are in `deps`");
    let program = profile.join(name);
    assert!(
        program.is_file(),
        "`{}` is not built: run `tests/run`, or `cargo build -p cargo-oci-artifact -p nu_plugin_oci`",
        program.display()
    );
    program
}

/// Returns the path of the Nushell plugin: the value of `NU_PLUGIN_OCI` if the variable is set, for example to a
/// release build, otherwise the plugin that cargo built for this profile.
///
/// # Panics
///
/// If the plugin was not built.
#[must_use]
pub fn plugin_path() -> PathBuf {
    let Some(named) = environment_variable("NU_PLUGIN_OCI") else {
        return program_path("nu_plugin_oci");
    };
    let plugin = std::path::absolute(named).expect("the path is valid");
    assert!(plugin.is_file(), "`{}` does not exist", plugin.display());
    plugin
}

/// Returns the root of this repository.
#[must_use]
pub fn repository_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a member of the workspace")
}

/// Returns the environment variables that a program needs to run cargo: the path to cargo, and the directory of the
/// rustup toolchains. By default, rustup searches below `HOME`, which is temporary in a run.
#[must_use]
pub fn toolchain_variables() -> Vec<(&'static str, OsString)> {
    let mut variables = vec![("PATH", environment_variable("PATH").expect("PATH is set"))];
    let rustup = environment_variable("RUSTUP_HOME").or_else(|| {
        environment_variable("HOME").map(|home| Path::new(&home).join(".rustup").into())
    });
    variables.extend(rustup.map(|home| ("RUSTUP_HOME", home)));
    variables
        .extend(environment_variable("RUSTUP_TOOLCHAIN").map(|name| ("RUSTUP_TOOLCHAIN", name)));
    variables
}

fn is_ci() -> bool {
    environment_variable("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs receive variables of the environment of the test"
)]
fn environment_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
