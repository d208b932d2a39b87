//! Files of an earlier build with the same flags. Cargo lists them without compiling anything.
//!
//! Cargo reports the files of an up-to-date crate without compiling it. `cargo build` runs with this program as
//! `RUSTC_WRAPPER`. The wrapper rejects every compilation, so `cargo build` fails if a crate is not up to date. Cargo's
//! fingerprints do not include the wrapper, so no crate becomes out of date.
//!
//! Cargo still runs a build script that it considers out of date.

use std::{
    ffi::{OsStr, OsString},
    io,
    process::ExitCode,
};

use cargo_metadata::{CompilerMessage, Message};
use oci_registry::{ErrorKind, Failure, Hint};
use serde_json::json;
use snafu::{ResultExt, Snafu, ensure};

use super::{BuildOutput, BuildRequest, CargoEnvironment, messages::MessageReader, process};
use crate::stdio;

/// Environment variable that is set when cargo runs this program as `RUSTC_WRAPPER`.
const WRAPPER_VARIABLE: &str = "CARGO_OCI_REFUSE_COMPILATION";

/// Environment variable that [cargo sets] when it compiles a crate. It is not set for queries such as `-vV` and
/// `--print`, nor for compilations that a build script runs to test the compiler.
///
/// [cargo sets]: https://doc.rust-lang.org/cargo/reference/environment-variables.html#environment-variables-cargo-sets-for-crates
const COMPILATION_VARIABLE: &str = "CARGO_CRATE_NAME";

/// Message of the diagnostic for a rejected compilation.
const REJECTED: &str = "cargo-oci: refused to compile";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to locate this program"))]
    Locate { source: io::Error },
    #[snafu(display("`{package}` is not built: cargo would compile its {kind} target `{target}`"))]
    NotBuilt {
        package: String,
        kind: String,
        target: String,
    },
    #[snafu(display("failed to list the files of an earlier build"))]
    List { source: process::Error },
    #[snafu(display(
        "failed to list the files of an earlier build: cargo's messages are incomplete"
    ))]
    Incomplete,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotBuilt { .. } => ErrorKind::InvalidInput,
            // If cargo ran and failed, the manifests or the flags are invalid.
            Self::List { source } if source.has_failed() => ErrorKind::InvalidInput,
            Self::Locate { .. } | Self::List { .. } | Self::Incomplete => ErrorKind::Io,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            Self::NotBuilt { .. } => {
                "build it in this directory with the same flags, or name the files of another build with `--messages` or `--file`"
            }
            Self::List { source } if source.has_failed() => {
                "correct the flags, or the manifest in cargo's message"
            }
            Self::Locate { .. } | Self::List { .. } | Self::Incomplete => return Vec::new(),
        };
        vec![hint.into()]
    }
}

/// Finds the files that [`build`](super::build()) would write, without compiling anything.
///
/// # Errors
///
/// Fails if cargo would compile a crate.
pub(crate) async fn find_existing(
    environment: &CargoEnvironment,
    request: &BuildRequest<'_>,
) -> Result<Vec<BuildOutput>, super::Error> {
    let wrapper = std::env::current_exe().context(LocateSnafu)?;
    let mut reader = MessageReader::new(*request);
    for target in request.selection.build_targets() {
        let arguments = request
            .selection
            .build_arguments(target, &environment.directory);
        let mut command = process::command(environment, environment.cargo());
        command
            .args(arguments)
            .args(["--message-format=json", "--color=never"])
            .env("RUSTC_WRAPPER", &wrapper)
            .env(WRAPPER_VARIABLE, "1")
            .env_remove(COMPILATION_VARIABLE)
            // Cargo caches the version and configuration of rustc for one wrapper only, so this command would replace
            // the values that the user's builds have cached.
            .env("CARGO_CACHE_RUSTC_INFO", "0");
        let run = process::run(command).await.context(ListSnafu)?;
        let mut rejected = None;
        let finished = reader
            .read(run.stdout(), &mut |line| {
                rejected = rejected.take().or_else(|| parse_rejected_compilation(line));
            })
            .await?;
        if let Some(rejected) = rejected {
            return Err(not_built_error(request, &rejected).into());
        }
        run.check().context(ListSnafu)?;
        ensure!(finished, IncompleteSnafu);
    }
    reader.into_outputs()
}

/// Parses a line as cargo's message about a rejected compilation. Returns `None` for any other line.
fn parse_rejected_compilation(line: &str) -> Option<CompilerMessage> {
    match serde_json::from_str(line).ok()? {
        Message::CompilerMessage(message) if message.message.message == REJECTED => Some(message),
        _ => None,
    }
}

fn not_built_error(request: &BuildRequest<'_>, rejected: &CompilerMessage) -> Error {
    let package = request.workspace.member(&rejected.package_id);
    let kinds: Vec<_> = rejected
        .target
        .kind
        .iter()
        .map(ToString::to_string)
        .collect();
    NotBuiltSnafu {
        package: package.map_or(rejected.package_id.repr.as_str(), |package| &package.name),
        kind: kinds.join(", "),
        target: &rejected.target.name,
    }
    .build()
}

/// Runs rustc or rejects a compilation, if [`find_existing`] made this process the `RUSTC_WRAPPER`. Returns the exit
/// code, or `None` if this process is not a wrapper.
///
/// `arguments` are the arguments of the process: this program, rustc, and the arguments for rustc.
pub(crate) fn wrap_rustc(
    environment: &CargoEnvironment,
    arguments: impl IntoIterator<Item = OsString>,
) -> Option<ExitCode> {
    let is_set = |name| environment.variables.contains_key(OsStr::new(name));
    if !is_set(WRAPPER_VARIABLE) {
        return None;
    }
    let mut arguments = arguments.into_iter().skip(1);
    let rustc = arguments.next()?;
    if is_set(COMPILATION_VARIABLE) {
        let _ = stdio::write_stderr(&format!("{}\n", rejection_diagnostic()));
        return Some(ExitCode::FAILURE);
    }
    let status = std::process::Command::new(&rustc).args(arguments).status();
    let code = match status {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()),
        Err(error) => {
            let _ = stdio::write_stderr(&format!("{}: {error}\n", rustc.display()));
            None
        }
    };
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Returns the diagnostic for a rejected compilation, in the format of rustc's `--error-format=json`.
fn rejection_diagnostic() -> serde_json::Value {
    json!({
        "$message_type": "diagnostic",
        "level": "error",
        "message": REJECTED,
        "code": null,
        "spans": [],
        "children": [],
        "rendered": REJECTED,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{TestDirectory, all_kinds, error_chain, error_kind, flags, recorded},
        *,
    };

    /// Returns cargo's message about a compilation that failed with this diagnostic.
    fn message(package: &str, diagnostic: &serde_json::Value) -> String {
        let message = json!({
            "reason": "compiler-message",
            "package_id": package,
            "manifest_path": "/x/Cargo.toml",
            "target": {
                "kind": ["custom-build"], "crate_types": ["bin"], "name": "build-script-build",
                "src_path": "/x/build.rs",
            },
            "message": diagnostic,
        });
        message.to_string()
    }

    #[test]
    fn rejected_compilation_reports_package_and_target() {
        let workspace = recorded();
        let request = BuildRequest {
            workspace: &workspace,
            selection: &flags(""),
            wanted: &all_kinds(&workspace),
            host: "a-b-c",
        };
        let member = workspace.members[1].id.to_string();
        let dependency = "registry+https://github.com/rust-lang/crates.io-index#anyhow@1.0.0";
        for (id, package) in [(member.as_str(), "my-app"), (dependency, dependency)] {
            let rejected =
                parse_rejected_compilation(&message(id, &rejection_diagnostic())).unwrap();
            let error = not_built_error(&request, &rejected).into();
            let expected = format!(
                "`{package}` is not built: \
                 cargo would compile its custom-build target `build-script-build`\n\
                 help: build it in this directory with the same flags, \
                 or name the files of another build with `--messages` or `--file`"
            );
            assert_eq!(error_chain(&error), expected);
            assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn other_diagnostics_are_not_rejected_compilations() {
        let mut diagnostic = rejection_diagnostic();
        diagnostic["message"] = "unused variable".into();
        assert!(parse_rejected_compilation(&message("x", &diagnostic)).is_none());
    }

    #[test]
    fn rustc_is_not_wrapped_without_variable() {
        let environment = TestDirectory::new().environment();
        let arguments = ["cargo-oci", "push"].map(OsString::from);
        assert!(wrap_rustc(&environment, arguments).is_none());
    }
}
