//! Where the real parts and the built programs lie, and what happens when one is missing.
//!
//! The parts come from `tests/testbed/install`, the programs from cargo; this module only finds
//! them. It is the one place of the rig that reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A part that is not built from this repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The CNCF registry, 2.8.
    DockerRegistry,
    /// The shell that loads the plugin.
    Nu,
    /// A client written by others.
    Skopeo,
    /// Another one, in another language.
    Oras,
    /// A stand-in for AWS.
    Moto,
    /// A program that runs another one with a message bus of its own.
    DbusRunSession,
    /// A Secret Service.
    GnomeKeyring,
    /// A client of a Secret Service.
    SecretTool,
    /// The sources of a published crate.
    Shellharden,
}

impl Part {
    /// Where the part lies if it is there.
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

/// Ends a test early, with a printed line, when a part is missing on a laptop.
///
/// Where `CI` is set a missing part is a failure.
#[macro_export]
macro_rules! require {
    ($($part:ident),+ $(,)?) => {
        if !$crate::testbed::is_there(&[$($crate::testbed::Part::$part),+]) {
            return;
        }
    };
}

/// Whether all these parts are there; use it through [`require!`](crate::require).
///
/// # Panics
///
/// If one is missing and `CI` is set.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub fn is_there(parts: &[Part]) -> bool {
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

/// A program of this workspace, as cargo built it beside the running test.
///
/// # Panics
///
/// If it was not built: cargo builds no program of one package for the tests of another.
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

/// The Nushell plugin: the one that `NU_PLUGIN_OCI` names, such as one built to be fast, else as [`program`].
///
/// # Panics
///
/// If it was not built.
#[must_use]
pub fn plugin() -> PathBuf {
    let Some(named) = variable("NU_PLUGIN_OCI") else {
        return program("nu_plugin_oci");
    };
    let plugin = std::path::absolute(named).expect("a path");
    assert!(plugin.is_file(), "`{}` is not there", plugin.display());
    plugin
}

/// The root of this repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a member of the workspace")
}

/// What a program that runs cargo needs from our own environment: the path to cargo, and where
/// rustup keeps the toolchains, which it looks for below `HOME` unless it is told.
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
    reason = "the rig hands programs an environment; here is where it comes from"
)]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
