//! A small workspace on disk for tests that run the real programs, and the recorded one for those that do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::PackageId;
use clap::{Args, FromArgMatches};
use oci_package::FileKind;
use tempfile::TempDir;

use super::{Environment, Selection, Workspace, process};

/// The environment of the tests, without what would change the answers.
pub(super) fn environment(directory: &Path) -> Environment {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is the front end of its own process"
    )]
    let variables = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        let is_cargo = name.starts_with("CARGO_") && name != "CARGO_HOME";
        let is_foreign = ["GIT_", "GITHUB_", "CI_", "RUSTFLAGS", "SOURCE_DATE_EPOCH"];
        !is_cargo && !is_foreign.iter().any(|prefix| name.starts_with(prefix))
    });
    Environment::new(directory.to_owned(), variables)
}

/// Flags as a person types them.
pub(super) fn flags(line: &str) -> Selection {
    let command = Selection::augment_args(clap::Command::new("push"));
    let words = std::iter::once("push").chain(line.split_whitespace());
    Selection::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

/// Every kind that a build writes, of every member.
pub(super) fn all_kinds(workspace: &Workspace) -> BTreeMap<PackageId, BTreeSet<FileKind>> {
    let kinds: BTreeSet<FileKind> = FileKind::ALL
        .into_iter()
        .filter(|kind| kind.is_built())
        .collect();
    let ids = workspace.members.iter().map(|package| package.id.clone());
    ids.map(|id| (id, kinds.clone())).collect()
}

/// A directory of files, gone with the test.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    /// One package with nothing in it.
    pub(super) fn new_package() -> Self {
        let scratch = Self::new();
        scratch.write("Cargo.toml", "package = { name = 'a', version = '0.1.0' }");
        scratch.write("src/lib.rs", "");
        scratch
    }

    /// The directory as the programs will name it.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    pub(super) fn environment(&self) -> Environment {
        environment(&self.path())
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs git here, as somebody and at a fixed time.
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

/// A recorded workspace much like the one above, in `/home/me/ws`.
pub(super) fn recorded() -> Workspace {
    Workspace::parse(include_str!("recorded/metadata.json")).unwrap()
}

/// The causes of an error, outermost first, and its help.
pub(super) fn story(error: &super::Error) -> String {
    let mut story = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        story = format!("{story}\n{error}");
        cause = error.source();
    }
    match error.help() {
        Some(help) => format!("{story}\nhelp: {help}"),
        None => story,
    }
}

#[tokio::test]
async fn a_child_sees_the_environment_that_was_handed_in() {
    let scratch = Scratch::new_package();
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
    assert_eq!(process::shown(&command), "x");
}
