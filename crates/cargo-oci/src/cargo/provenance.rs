//! Provenance of a package: commit, commit time, and whether the work tree differs from the commit.
//!
//! Git provides the revision of a package only if git tracks its manifest. A package that was unpacked or vendored into
//! an ignored directory of a repository does not belong to a commit of that repository. If there is no repository, the
//! revision is read from the variables of the CI system.
//!
//! The dirty flag ([`Provenance::dirty`]) applies to the whole work tree, as in `git describe --dirty`: it is set if any tracked file differs
//! from the commit, staged or not. `cargo package` compares only the package directory, because it packages only that
//! directory. A program also depends on its path dependencies, the lock file and the workspace manifest. Untracked
//! files are ignored, because CI systems leave reports and credentials in work trees, and cargo rarely compiles a file
//! that no tracked file refers to.
//!
//! The repository's configuration is untrusted, so git must not run the programs that it names (see [`git`](super::git)
//! and [`changes`](super::changes)).

use std::{collections::BTreeMap, path::PathBuf};

use cargo_metadata::{Package, PackageId};
use oci_registry::{ErrorKind, Failure, Hint};
use snafu::{ResultExt, Snafu};

use super::{
    CargoEnvironment,
    changes::find_changes,
    git::{GitIndex, containing_work_tree, git, run_for_text},
};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `SOURCE_DATE_EPOCH`: `{text}` is not a number of seconds"))]
    SourceDateEpoch {
        text: String,
        source: std::num::ParseIntError,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["set it to seconds since 1970, as `git log -1 --format=%ct` prints them".into()]
    }
}

/// Origin of a package's sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// Commit hash.
    pub(crate) revision: Option<String>,
    /// Tracked files of the work tree that differ from the commit, or `None` if they are unknown.
    pub(crate) changes: Option<Vec<String>>,
    /// Time of the sources, in seconds since 1970: `SOURCE_DATE_EPOCH` if it is set, else the commit time.
    pub(crate) created: Option<i64>,
    /// Error message of git, if the revision or the changes could not be determined.
    pub(crate) problem: Option<String>,
}

impl Provenance {
    /// Whether tracked files differ from the commit, or `None` if this is unknown.
    pub(crate) fn dirty(&self) -> Option<bool> {
        self.changes.as_ref().map(|changes| !changes.is_empty())
    }

    fn unknown(problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }
}

/// Returns the provenance of packages. If git is missing or fails, `problem` contains the error.
///
/// A build may change the lock file, so the result may differ after the build.
pub(crate) async fn read_provenance(
    environment: &CargoEnvironment,
    packages: &[&Package],
) -> Result<BTreeMap<PackageId, Provenance>, super::Error> {
    let epoch = source_date_epoch(environment)?;
    let mut repositories: BTreeMap<Option<PathBuf>, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        let root = containing_work_tree(package.manifest_path.as_std_path());
        repositories.entry(root).or_default().push(package);
    }
    let mut provenances = BTreeMap::new();
    for (root, packages) in repositories {
        let (index, common) = match root {
            None => (None, Provenance::default()),
            Some(root) => match GitIndex::read(environment, &root).await {
                Ok(index) => {
                    let common = work_tree_provenance(environment, &index).await;
                    (Some(index), common)
                }
                Err(problem) => (None, Provenance::unknown(problem)),
            },
        };
        for package in packages {
            let manifest = package.manifest_path.as_std_path();
            let is_untracked = |index: &GitIndex| index.mode(manifest).is_none();
            let mut provenance = if index.as_ref().is_some_and(is_untracked) {
                Provenance::default()
            } else {
                let revision = common.revision.clone();
                Provenance {
                    revision: revision.or_else(|| ci_revision(environment)),
                    ..common.clone()
                }
            };
            provenance.created = epoch.or(provenance.created);
            provenances.insert(package.id.clone(), provenance);
        }
    }
    Ok(provenances)
}

/// Returns the commit that the CI system checked out, according to the environment variables of the system.
fn ci_revision(environment: &CargoEnvironment) -> Option<String> {
    let revision = environment.variable("GITHUB_SHA");
    let revision = revision.or(environment.variable("CI_COMMIT_SHA"));
    revision.map(ToOwned::to_owned)
}

/// Returns the URL of the repository that a CI system builds, for packages whose manifest has no `repository`.
pub(crate) fn source_repository(environment: &CargoEnvironment) -> Option<String> {
    let github = || {
        let server = environment.variable("GITHUB_SERVER_URL")?;
        let repository = environment.variable("GITHUB_REPOSITORY")?;
        Some(format!("{}/{repository}", server.trim_end_matches('/')))
    };
    github().or_else(|| {
        environment
            .variable("CI_PROJECT_URL")
            .map(ToOwned::to_owned)
    })
}

/// Parses `SOURCE_DATE_EPOCH`. An invalid value is an error, because the commit date would otherwise be published
/// instead.
pub(crate) fn source_date_epoch(
    environment: &CargoEnvironment,
) -> Result<Option<i64>, super::Error> {
    let text = environment.variable("SOURCE_DATE_EPOCH");
    let seconds = text.map(|text| text.trim().parse().context(SourceDateEpochSnafu { text }));
    Ok(seconds.transpose()?)
}

/// Returns the provenance of the tracked files of a work tree.
async fn work_tree_provenance(environment: &CargoEnvironment, index: &GitIndex) -> Provenance {
    let mut log = git(environment, &index.root);
    log.args(["log", "-1", "--no-show-signature", "--format=%H %ct"]);
    let (log, changes) = tokio::join!(run_for_text(log), find_changes(environment, index));
    let commit = log.and_then(|line| match line.trim().split_once(' ') {
        Some((revision, time)) => Ok((revision.to_owned(), time.parse().ok())),
        None => Err(format!("`git log` printed `{}`", line.trim())),
    });
    match (commit, changes) {
        (Ok((revision, created)), changes) => Provenance {
            revision: Some(revision),
            created,
            problem: changes.as_ref().err().cloned(),
            changes: changes.ok(),
        },
        (Err(problem), changes) => Provenance {
            changes: changes.ok(),
            ..Provenance::unknown(problem)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Workspace, find_executables, origin,
            scratch::{TestDirectory, error_chain, error_kind, flags},
            tracking_work_tree,
        },
        *,
    };

    async fn read_provenances(
        scratch: &TestDirectory,
        variables: &[(&str, &str)],
    ) -> BTreeMap<String, Provenance> {
        let workspace = Workspace::load(&scratch.environment(), &flags(""))
            .await
            .unwrap();
        let mut environment = scratch.environment();
        for (name, value) in variables {
            environment.variables.insert(name.into(), value.into());
        }
        let packages: Vec<_> = workspace.members.iter().collect();
        let provenances = read_provenance(&environment, &packages).await.unwrap();
        let named = packages
            .iter()
            .map(|package| (package.name.to_string(), provenances[&package.id].clone()));
        named.collect()
    }

    /// Creates a workspace of two packages. Git ignores the second package.
    fn repository_with_ignored_package() -> TestDirectory {
        let scratch = TestDirectory::new();
        scratch.write(
            "Cargo.toml",
            "workspace = { members = ['ours', 'vendor/theirs'], resolver = '2' }",
        );
        for name in ["ours", "vendor/theirs"] {
            let manifest = format!(
                "package = {{ name = '{}', version = '0.1.0' }}",
                name.rsplit('/').next().unwrap()
            );
            scratch.write(&format!("{name}/Cargo.toml"), &manifest);
            scratch.write(&format!("{name}/src/lib.rs"), "");
        }
        scratch.write(".gitignore", "vendor\ntarget\nCargo.lock\n");
        scratch.git(&["init", "--quiet"]);
        scratch.git(&["add", "."]);
        scratch.git(&["commit", "--quiet", "--message", "all"]);
        scratch
    }

    #[tokio::test]
    async fn only_tracked_package_has_a_commit() {
        let scratch = repository_with_ignored_package();
        let revision = scratch.git(&["rev-parse", "HEAD"]);
        let found =
            read_provenances(&scratch, &[("GITHUB_SHA", "0123"), ("GIT_DIR", "/nowhere")]).await;
        assert_eq!(
            found["ours"],
            Provenance {
                revision: Some(revision),
                changes: Some(Vec::new()),
                created: Some(1_700_000_000),
                problem: None,
            }
        );
        assert_eq!(found["theirs"], Provenance::default());
    }

    #[tokio::test]
    async fn dirty_flag_covers_only_tracked_files() {
        let scratch = repository_with_ignored_package();
        scratch.write("ours/src/new.rs", "");
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(false)
        );
        scratch.write(".gitignore", "vendor\ntarget\nCargo.lock\n*.new\n");
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(true)
        );
        scratch.git(&["add", ".gitignore"]);
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(true)
        );
    }

    #[tokio::test]
    async fn dirty_flag_covers_submodules() {
        let scratch = repository_with_submodule();
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(false)
        );
        scratch.write("sub/untracked", "");
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(false)
        );
        scratch.write("sub/data", "changed");
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(true)
        );
    }

    /// Creates a workspace of two packages and a submodule. Git ignores the second package.
    fn repository_with_submodule() -> TestDirectory {
        let scratch = repository_with_ignored_package();
        scratch.write("sub/data", "content");
        scratch.write("sub/.gitattributes", "data filter=unsafe\n");
        for arguments in [
            &["-C", "sub", "init", "--quiet"][..],
            &["-C", "sub", "add", "."],
            &["-C", "sub", "commit", "--quiet", "--message", "sub"],
            &["add", "sub"],
            &["commit", "--quiet", "--message", "with sub"],
        ] {
            scratch.git(arguments);
        }
        scratch
    }

    /// Sets a program for every git setting that can run one. Returns the path of the file that the programs write.
    #[cfg(unix)]
    fn configure_programs(scratch: &TestDirectory) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let (program, evidence) = (
            scratch.path().join("program"),
            scratch.path().join("evidence"),
        );
        let script = format!(
            "#!/bin/sh\necho \"$0 $@\" >> '{}'\ncat\n",
            evidence.display()
        );
        for name in ["program", "hooks/post-index-change"] {
            scratch.write(name, &script);
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(scratch.path().join(name), mode).unwrap();
        }
        let program = program.to_str().unwrap();
        let hooks = scratch.path().join("hooks");
        let url = format!("ext::{program}");
        for repository in [".", "sub"] {
            for (key, value) in [
                ("core.fsmonitor", program),
                ("core.hooksPath", hooks.to_str().unwrap()),
                ("core.pager", program),
                ("core.sshCommand", program),
                ("filter.unsafe.clean", program),
                ("filter.unsafe.smudge", program),
                ("filter.unsafe.required", "true"),
                ("filter.other.process", program),
                ("diff.external", program),
                ("gpg.program", program),
                ("log.showSignature", "true"),
                ("remote.origin.url", &url),
                ("remote.origin.promisor", "true"),
                ("extensions.partialClone", "origin"),
                ("protocol.ext.allow", "always"),
            ] {
                scratch.git(&["-C", repository, "config", key, value]);
            }
        }
        evidence
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn programs_of_the_repository_configuration_are_not_run() {
        let scratch = repository_with_submodule();
        scratch.write("data", "content");
        scratch.write(".gitattributes", "data filter=unsafe\n");
        scratch.git(&["add", "data", ".gitattributes"]);
        scratch.git(&["commit", "--quiet", "--message", "data"]);
        let evidence = configure_programs(&scratch);
        // If only the time of a file changed and not its size, git compares the contents.
        let touch = || {
            scratch.write("data", "content");
            scratch.write("sub/data", "content");
        };
        touch();
        let found = &read_provenances(&scratch, &[]).await["ours"];
        assert_eq!((found.dirty(), &found.problem), (Some(false), &None));
        let manifest = scratch.path().join("ours/Cargo.toml");
        let environment = scratch.environment();
        find_executables(&environment, [manifest.as_path()]).await;
        assert!(tracking_work_tree(&environment, &manifest).await.is_some());
        assert!(origin(&environment, &scratch.path()).await.is_some());
        assert!(
            !evidence.exists(),
            "{}",
            std::fs::read_to_string(evidence).unwrap()
        );

        // Git cannot compare the content of a filtered file if the filter is disabled.
        scratch.write("data", "CONTENT");
        let found = &read_provenances(&scratch, &[]).await["ours"];
        assert_eq!(found.dirty(), None);
        assert!(
            found.problem.as_ref().unwrap().contains("`unsafe`"),
            "{found:?}"
        );
        scratch.write("ours/src/lib.rs", "// changed");
        assert_eq!(
            read_provenances(&scratch, &[]).await["ours"].dirty(),
            Some(true)
        );
        // Git does not fetch a missing object.
        std::fs::remove_dir_all(scratch.path().join(".git/objects")).unwrap();
        std::fs::create_dir(scratch.path().join(".git/objects")).unwrap();
        assert_eq!(read_provenances(&scratch, &[]).await["ours"].dirty(), None);
        assert!(
            !evidence.exists(),
            "{}",
            std::fs::read_to_string(evidence).unwrap()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn git_without_our_options_runs_configured_programs() {
        // Checks that git would run the programs that the previous test configures.
        let scratch = repository_with_submodule();
        let evidence = configure_programs(&scratch);
        scratch.write("sub/data", "content");
        scratch.git(&["status", "--porcelain"]);
        let ran = std::fs::read_to_string(evidence).unwrap();
        assert!(ran.contains("program"), "{ran}");
    }

    #[tokio::test]
    async fn dirty_flag_is_unknown_for_dubious_ownership() {
        let scratch = repository_with_ignored_package();
        scratch.write("ours/src/lib.rs", "// changed");
        let found = read_provenances(
            &scratch,
            &[
                ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_CONFIG_NOSYSTEM", "1"),
                ("GITHUB_SHA", "0123"),
            ],
        )
        .await;
        let found = &found["ours"];
        assert_eq!(
            (found.revision.as_deref(), found.dirty()),
            (Some("0123"), None)
        );
        let problem = found.problem.as_ref().unwrap();
        assert!(problem.contains("dubious ownership"), "{problem}");
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn git_that_does_not_exit_times_out() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = repository_with_ignored_package();
        scratch.write("bin/git", "#!/bin/sh\nexec sleep 1000");
        let program = scratch.path().join("bin/git");
        std::fs::set_permissions(program, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", scratch.path().join("bin").display());
        let found =
            &read_provenances(&scratch, &[("PATH", &path), ("GITHUB_SHA", "0123")]).await["ours"];
        assert_eq!(
            (found.revision.as_deref(), found.dirty()),
            (Some("0123"), None)
        );
        let problem = found.problem.as_ref().unwrap();
        assert!(
            problem.ends_with("did not finish within 120 seconds"),
            "{problem}"
        );
    }

    #[tokio::test]
    async fn dirty_flag_is_unknown_if_the_index_is_damaged() {
        let scratch = repository_with_ignored_package();
        scratch.write(".git/index", "damaged");
        let found = &read_provenances(&scratch, &[("GITHUB_SHA", "0123")]).await["ours"];
        assert_eq!(
            (found.revision.as_deref(), found.dirty()),
            (Some("0123"), None)
        );
        assert!(
            found.problem.as_ref().unwrap().contains("index"),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn repository_without_commit_has_no_revision() {
        let scratch = TestDirectory::new_package();
        scratch.git(&["init", "--quiet"]);
        assert_eq!(
            read_provenances(&scratch, &[]).await["a"],
            Provenance::default()
        );
        scratch.git(&["add", "Cargo.toml"]);
        let found = &read_provenances(&scratch, &[]).await["a"];
        assert_eq!(
            (&found.revision, &found.changes),
            (&None, &Some(vec!["Cargo.toml".to_owned()]))
        );
        assert!(
            found.problem.as_ref().unwrap().contains("commit"),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn source_date_epoch_sets_the_date() {
        let scratch = repository_with_ignored_package();
        let found = read_provenances(&scratch, &[("SOURCE_DATE_EPOCH", "17")]).await;
        assert_eq!(found["ours"].created, Some(17));
        assert_eq!(found["theirs"].created, Some(17));
        let mut environment = scratch.environment();
        environment
            .variables
            .insert("SOURCE_DATE_EPOCH".into(), "today".into());
        let error = read_provenance(&environment, &[]).await.unwrap_err();
        assert_eq!(error_kind(&error), ErrorKind::InvalidInput);
        assert_eq!(
            error_chain(&error),
            "failed to read `SOURCE_DATE_EPOCH`: `today` is not a number of seconds\n\
             invalid digit found in string\n\
             help: set it to seconds since 1970, as `git log -1 --format=%ct` prints them"
        );
    }

    #[tokio::test]
    async fn revision_without_git_is_read_from_ci_variable() {
        let scratch = TestDirectory::new_package();
        let alone = read_provenances(&scratch, &[]).await;
        assert_eq!(alone["a"], Provenance::default());
        let github = read_provenances(
            &scratch,
            &[("GITHUB_SHA", "0123"), ("CI_COMMIT_SHA", "4567")],
        )
        .await;
        assert_eq!(github["a"].revision.as_deref(), Some("0123"));
        assert_eq!((github["a"].dirty(), &github["a"].problem), (None, &None));
        scratch.git(&["init", "--quiet"]);
        let gitlab =
            read_provenances(&scratch, &[("CI_COMMIT_SHA", "4567"), ("PATH", "/nowhere")]).await;
        assert_eq!(gitlab["a"].revision.as_deref(), Some("4567"));
        let problem = gitlab["a"].problem.as_ref().unwrap();
        assert!(problem.starts_with("failed to run `git"), "{problem}");
    }

    #[test]
    fn source_repository_is_read_from_ci_variables() {
        let repository = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            source_repository(&CargoEnvironment::new(PathBuf::from("/"), variables))
        };
        let github = [
            ("GITHUB_SERVER_URL", "https://git.example.org/"),
            ("GITHUB_REPOSITORY", "acme/widgets"),
            ("CI_PROJECT_URL", "https://gitlab.example.org/acme/widgets"),
        ];
        assert_eq!(
            repository(&github).as_deref(),
            Some("https://git.example.org/acme/widgets")
        );
        let gitlab = repository(&github[1..]);
        assert_eq!(
            gitlab.as_deref(),
            Some("https://gitlab.example.org/acme/widgets")
        );
        assert_eq!(repository(&[("CI_PROJECT_URL", "")]), None);
    }
}
