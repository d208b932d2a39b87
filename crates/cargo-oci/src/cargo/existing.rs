//! The files of an earlier build with the same flags, from a run of cargo that compiles nothing.
//!
//! Cargo reports the files of a crate that is up to date without compiling it. This program is its
//! `RUSTC_WRAPPER` and refuses every compilation, so a crate that is not up to date ends the run. The wrapper is not
//! part of the fingerprints by which cargo decides, so the next build finds the crates as they were.
//!
//! Cargo still runs a build script that it considers out of date.

use std::{
    ffi::{OsStr, OsString},
    io,
    process::ExitCode,
};

use cargo_metadata::{CompilerMessage, Message};
use serde_json::json;
use snafu::{ResultExt, Snafu, ensure};

use super::{Environment, ErrorClass, Fault, Output, Request, messages::Reader, process};
use crate::stdio;

/// The variable that makes this program the `RUSTC_WRAPPER` of the run.
const WRAPPER: &str = "CARGO_OCI_REFUSE_COMPILATION";

/// The variable that [cargo sets] for a compilation, and neither for its queries (`-vV`, `--print`) nor for the probes
/// of build scripts.
///
/// [cargo sets]: https://doc.rust-lang.org/cargo/reference/environment-variables.html#environment-variables-cargo-sets-for-crates
const COMPILATION: &str = "CARGO_CRATE_NAME";

/// The text of the diagnostic for a refused compilation.
const REFUSAL: &str = "cargo-oci: refused to compile";

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
        "failed to list the files of an earlier build: the messages of cargo are incomplete"
    ))]
    Incomplete,
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotBuilt { .. } => ErrorClass::Usage,
            // Cargo that ran and refused found something wrong with the manifests or the flags.
            Self::List { source } if source.is_refusal() => ErrorClass::Usage,
            Self::Locate { .. } | Self::List { .. } | Self::Incomplete => ErrorClass::Io,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::NotBuilt { .. } => {
                "build it in this directory with the same flags, or name the files of another build with `--messages` or `--file`"
            }
            Self::List { source } if source.is_refusal() => {
                "correct the flags, or the manifest that cargo names"
            }
            Self::Locate { .. } | Self::List { .. } | Self::Incomplete => return None,
        };
        Some(help.to_owned())
    }
}

/// Returns the files that [`build`](super::build()) would write, without compiling anything.
///
/// # Errors
///
/// If cargo would compile a crate.
pub(crate) async fn existing(
    environment: &Environment,
    request: &Request<'_>,
) -> Result<Vec<Output>, super::Error> {
    let wrapper = std::env::current_exe().context(LocateSnafu)?;
    let mut reader = Reader::new(*request);
    for target in request.selection.build_targets() {
        let arguments = request
            .selection
            .build_arguments(target, &environment.directory);
        let mut command = process::command(environment, environment.cargo());
        command
            .args(arguments)
            .args(["--message-format=json", "--color=never"])
            .env("RUSTC_WRAPPER", &wrapper)
            .env(WRAPPER, "1")
            .env_remove(COMPILATION)
            // The cached answers of rustc belong to the wrapper of the user.
            .env("CARGO_CACHE_RUSTC_INFO", "0");
        let run = process::run(command).await.context(ListSnafu)?;
        let mut refused = None;
        let finished = reader
            .read(run.stdout(), &mut |line| {
                refused = refused.take().or_else(|| refused_compilation(line));
            })
            .await?;
        if let Some(refused) = refused {
            return Err(not_built(request, &refused).into());
        }
        run.check().context(ListSnafu)?;
        ensure!(finished, IncompleteSnafu);
    }
    reader.into_outputs()
}

/// Parses the message of cargo about a compilation that the wrapper refused.
fn refused_compilation(line: &str) -> Option<CompilerMessage> {
    match serde_json::from_str(line).ok()? {
        Message::CompilerMessage(message) if message.message.message == REFUSAL => Some(message),
        _ => None,
    }
}

fn not_built(request: &Request<'_>, refused: &CompilerMessage) -> Error {
    let package = request.workspace.member(&refused.package_id);
    let kinds: Vec<_> = refused
        .target
        .kind
        .iter()
        .map(ToString::to_string)
        .collect();
    NotBuiltSnafu {
        package: package.map_or(refused.package_id.repr.as_str(), |package| &package.name),
        kind: kinds.join(", "),
        target: &refused.target.name,
    }
    .build()
}

/// Runs rustc for cargo, except to compile, if this process was started as the `RUSTC_WRAPPER` of [`existing`].
///
/// The arguments are those of the process: this program, rustc, and the arguments of rustc.
pub(crate) fn wrap_rustc(
    environment: &Environment,
    arguments: impl IntoIterator<Item = OsString>,
) -> Option<ExitCode> {
    let is_set = |name| environment.variables.contains_key(OsStr::new(name));
    if !is_set(WRAPPER) {
        return None;
    }
    let mut arguments = arguments.into_iter().skip(1);
    let rustc = arguments.next()?;
    if is_set(COMPILATION) {
        let _ = stdio::error(&format!("{}\n", refusal()));
        return Some(ExitCode::FAILURE);
    }
    let status = std::process::Command::new(&rustc).args(arguments).status();
    let code = match status {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()),
        Err(error) => {
            let _ = stdio::error(&format!("{}: {error}\n", rustc.display()));
            None
        }
    };
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Returns the diagnostic for a refused compilation, in the form of rustc's `--error-format=json`.
fn refusal() -> serde_json::Value {
    json!({
        "$message_type": "diagnostic",
        "level": "error",
        "message": REFUSAL,
        "code": null,
        "spans": [],
        "children": [],
        "rendered": REFUSAL,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::scratch::{Scratch, all_kinds, flags, recorded, story},
        *,
    };

    /// A message of cargo about a compilation that failed with this diagnostic.
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
    fn refused_compilation_names_package_and_target() {
        let workspace = recorded();
        let request = Request {
            workspace: &workspace,
            selection: &flags(""),
            wanted: &all_kinds(&workspace),
            host: "a-b-c",
        };
        let member = workspace.members[1].id.to_string();
        let dependency = "registry+https://github.com/rust-lang/crates.io-index#anyhow@1.0.0";
        for (id, package) in [(member.as_str(), "my-app"), (dependency, dependency)] {
            let refused = refused_compilation(&message(id, &refusal())).unwrap();
            let error = not_built(&request, &refused).into();
            let expected = format!(
                "`{package}` is not built: \
                 cargo would compile its custom-build target `build-script-build`\n\
                 help: build it in this directory with the same flags, \
                 or name the files of another build with `--messages` or `--file`"
            );
            assert_eq!(story(&error), expected);
            assert_eq!(error.class(), ErrorClass::Usage);
        }
    }

    #[test]
    fn other_diagnostics_are_no_refusal() {
        let mut diagnostic = refusal();
        diagnostic["message"] = "unused variable".into();
        assert!(refused_compilation(&message("x", &diagnostic)).is_none());
    }

    #[test]
    fn rustc_is_wrapped_only_for_cargo() {
        let environment = Scratch::new().environment();
        let arguments = ["cargo-oci", "push"].map(OsString::from);
        assert!(wrap_rustc(&environment, arguments).is_none());
    }
}
