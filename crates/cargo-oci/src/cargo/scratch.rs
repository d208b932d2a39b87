//! Workspaces for tests: temporary ones for tests that run cargo and git, and a recorded one for other tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::PackageId;
use clap::{Args, FromArgMatches};
use oci_package::FileKind;
use oci_registry::ErrorKind;
use tempfile::TempDir;

use super::{CargoEnvironment, Selection, Workspace, process};
use crate::hints;

/// Returns the environment of the test process, without variables that change the results of tests.
pub(super) fn environment(directory: &Path) -> CargoEnvironment {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests pass the environment of their process to child processes"
    )]
    let variables = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        let is_cargo = name.starts_with("CARGO_") && name != "CARGO_HOME";
        let is_foreign = ["GIT_", "GITHUB_", "CI_", "RUSTFLAGS", "SOURCE_DATE_EPOCH"];
        !is_cargo && !is_foreign.iter().any(|prefix| name.starts_with(prefix))
    });
    CargoEnvironment::new(directory.to_owned(), variables)
}

/// Parses cargo flags, separated by spaces.
pub(super) fn flags(line: &str) -> Selection {
    let command = Selection::augment_args(clap::Command::new("push"));
    let words = std::iter::once("push").chain(line.split_whitespace());
    Selection::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

/// Requests all kinds of built files from every member.
pub(super) fn all_kinds(workspace: &Workspace) -> BTreeMap<PackageId, BTreeSet<FileKind>> {
    let kinds: BTreeSet<FileKind> = FileKind::ALL
        .into_iter()
        .filter(|kind| kind.is_built())
        .collect();
    let ids = workspace.members.iter().map(|package| package.id.clone());
    ids.map(|id| (id, kinds.clone())).collect()
}

/// Temporary directory of a test. It is deleted when the value is dropped.
#[derive(Debug)]
pub(super) struct TestDirectory {
    directory: TempDir,
}

impl TestDirectory {
    pub(super) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    /// Creates a temporary directory with one empty package.
    pub(super) fn new_package() -> Self {
        let scratch = Self::new();
        scratch.write("Cargo.toml", "package = { name = 'a', version = '0.1.0' }");
        scratch.write("src/lib.rs", "");
        scratch
    }

    /// Returns the path of the directory, with symbolic links resolved as in the output of programs.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    pub(super) fn environment(&self) -> CargoEnvironment {
        environment(&self.path())
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs git in the directory, with a fixed author and date.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let environment = self.environment();
        let output = Command::new("git")
            .current_dir(self.directory.path())
            .env_clear()
            .envs(&environment.variables)
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args([
                "-c",
                "commit.gpgsign=false",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(arguments)
            .env("GIT_AUTHOR_DATE", "1700000000 +0100")
            .env("GIT_COMMITTER_DATE", "1700000000 +0100")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Returns the recorded workspace. Its root was `/home/me/ws`.
pub(super) fn recorded() -> Workspace {
    Workspace::parse(include_str!("recorded/metadata.json")).unwrap()
}

/// Returns the messages of an error and of its causes, followed by its hints, one per line.
pub(super) fn error_chain(error: &super::Error) -> String {
    let error = library_error(error);
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
        error.source()
    });
    let mut lines: Vec<_> = causes.map(ToString::to_string).collect();
    lines.extend(
        hints::describe(error)
            .into_iter()
            .map(|hint| format!("help: {hint}")),
    );
    lines.join("\n")
}

/// Returns the kind of an error.
pub(super) fn error_kind(error: &super::Error) -> ErrorKind {
    library_error(error).kind()
}

fn library_error(error: &super::Error) -> &oci_registry::Error {
    match error {
        super::Error::Other(error) => error,
        super::Error::BuildFailed => panic!("cargo failed to build"),
    }
}

#[tokio::test]
async fn child_process_gets_the_given_environment() {
    let scratch = TestDirectory::new_package();
    let mut environment = scratch.environment();
    environment
        .variables
        .insert("CARGO_BUILD_TARGET_DIR".into(), "elsewhere".into());
    let workspace = Workspace::load(&environment, &flags("")).await.unwrap();
    assert_eq!(workspace.target_directory, scratch.path().join("elsewhere"));
    let workspace = Workspace::load(&environment, &flags("--target-dir out"))
        .await
        .unwrap();
    assert_eq!(workspace.target_directory, scratch.path().join("out"));
    let command = process::command(&environment, "x");
    assert_eq!(process::display_command(&command), "x");
}
