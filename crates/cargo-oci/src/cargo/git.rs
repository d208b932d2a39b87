//! Which commit a package is built from, and when that was made.
//!
//! What git says counts only for a manifest that git tracks: a package that was unpacked or vendored into an
//! ignored directory of some repository has no revision of that repository. Without any repository around it,
//! a build on a CI system has the revision that the system names.
//!
//! *Dirty* is the whole work tree, as `git describe --dirty` has it: any tracked file that differs from the
//! commit, staged or not. `cargo package` looks below the package only, for it ships only that; a program is
//! made of its path dependencies, the lock file and the workspace's manifest as well. Untracked files do not
//! count: CI systems leave reports and credentials in work trees, and cargo compiles hardly any file that a
//! tracked one does not name.
//!
//! Three processes for each repository, at the same time; none where there is no repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use cargo_metadata::{Package, PackageId};
use snafu::{ResultExt, Snafu};
use tokio::process::Command;

use super::{Environment, ErrorClass, Fault, process};

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read `SOURCE_DATE_EPOCH`: `{text}` is not a number of seconds"))]
    SourceDateEpoch {
        text: String,
        source: std::num::ParseIntError,
    },
}

impl Fault for Error {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }

    fn help(&self) -> Option<String> {
        Some("set it to seconds since 1970, as `git log -1 --format=%ct` prints them".to_owned())
    }
}

/// Where the sources of a package come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// The commit.
    pub(crate) revision: Option<String>,
    /// Whether tracked files differ from the commit; `None` where nobody can tell.
    pub(crate) dirty: Option<bool>,
    /// When the sources were made, in seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit's time.
    pub(crate) created: Option<i64>,
}

/// The provenance of some packages. A git that is missing or fails is no failure: it has nothing to say.
///
/// A build may change the lock file, so ask after it.
pub(crate) async fn provenance(
    environment: &Environment,
    packages: &[&Package],
) -> Result<BTreeMap<PackageId, Provenance>, super::Error> {
    let epoch = source_date_epoch(environment)?;
    let mut repositories: BTreeMap<Option<PathBuf>, Vec<&Package>> = BTreeMap::new();
    for package in packages {
        let root = repository(package.manifest_path.as_std_path());
        repositories.entry(root).or_default().push(package);
    }
    let mut provenances = BTreeMap::new();
    for (root, packages) in repositories {
        let manifests = packages
            .iter()
            .map(|package| package.manifest_path.as_std_path());
        let said = match root {
            Some(root) => Repository::ask(environment, &root, manifests).await,
            None => None,
        };
        for package in packages {
            let mut provenance = match &said {
                Some(repository) => repository.of(package.manifest_path.as_std_path()),
                None => Provenance {
                    revision: environment
                        .variable("GITHUB_SHA")
                        .or(environment.variable("CI_COMMIT_SHA"))
                        .map(ToOwned::to_owned),
                    ..Provenance::default()
                },
            };
            provenance.created = epoch.or(provenance.created);
            provenances.insert(package.id.clone(), provenance);
        }
    }
    Ok(provenances)
}

/// The address of the repository that a CI system builds, for packages that do not name one themselves.
pub(crate) fn source_repository(environment: &Environment) -> Option<String> {
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

/// The URL that a work tree was cloned from, as far as git says so.
pub(crate) async fn origin(environment: &Environment, directory: &Path) -> Option<String> {
    let mut command = process::command(environment, "git");
    command
        .current_dir(directory)
        .args(["remote", "get-url", "origin"]);
    let url = process::capture(command).await.ok()?;
    Some(url.trim().to_owned()).filter(|url| !url.is_empty())
}

/// A date that does not parse must not be silently another one.
pub(crate) fn source_date_epoch(environment: &Environment) -> Result<Option<i64>, super::Error> {
    let text = environment.variable("SOURCE_DATE_EPOCH");
    let seconds = text.map(|text| text.trim().parse().context(SourceDateEpochSnafu { text }));
    Ok(seconds.transpose()?)
}

/// The nearest directory upwards that git would call a work tree.
fn repository(manifest: &Path) -> Option<PathBuf> {
    let mut directories = manifest.ancestors().skip(1);
    directories
        .find(|directory| directory.join(".git").exists())
        .map(Path::to_owned)
}

/// One repository, as far as it has a commit.
#[derive(Debug)]
struct Repository {
    provenance: Provenance,
    tracked: BTreeSet<PathBuf>,
}

impl Repository {
    async fn ask(
        environment: &Environment,
        root: &Path,
        manifests: impl Iterator<Item = &Path>,
    ) -> Option<Self> {
        let mut log = git(environment, root);
        log.args(["log", "-1", "--no-show-signature", "--format=%H %ct"]);
        let mut status = git(environment, root);
        status.args([
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--ignore-submodules=untracked",
        ]);
        let mut files = git(environment, root);
        // What is tracked comes back relative to the root, which is where git runs.
        files.args(["ls-files", "-z", "--"]).args(manifests);
        let (log, status, files) = tokio::join!(
            process::capture(log),
            process::capture(status),
            process::capture(files)
        );
        let log = log.ok()?;
        let (revision, time) = log.trim().split_once(' ')?;
        Some(Self {
            provenance: Provenance {
                revision: Some(revision.to_owned()),
                dirty: status.ok().map(|changes| !changes.is_empty()),
                created: time.parse().ok(),
            },
            tracked: files
                .ok()?
                .split_terminator('\0')
                .map(|file| root.join(file))
                .collect(),
        })
    }

    fn of(&self, manifest: &Path) -> Provenance {
        if self.tracked.contains(manifest) {
            self.provenance.clone()
        } else {
            Provenance::default()
        }
    }
}

/// A git that looks at this work tree and no other, takes no lock and asks nobody anything.
fn git(environment: &Environment, root: &Path) -> Command {
    let mut command = process::command(environment, "git");
    command.arg("-C").arg(root).arg("--no-optional-locks");
    // A hook of another repository leaves these behind.
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
    ] {
        command.env_remove(variable);
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LITERAL_PATHSPECS", "1");
    command
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Workspace,
            scratch::{Scratch, flags, story},
        },
        *,
    };

    async fn ask(scratch: &Scratch, variables: &[(&str, &str)]) -> BTreeMap<String, Provenance> {
        let workspace = Workspace::load(&scratch.environment(), &flags(""))
            .await
            .unwrap();
        let mut environment = scratch.environment();
        for (name, value) in variables {
            environment.variables.insert(name.into(), value.into());
        }
        let packages: Vec<_> = workspace.members.iter().collect();
        let provenances = provenance(&environment, &packages).await.unwrap();
        let named = packages
            .iter()
            .map(|package| (package.name.to_string(), provenances[&package.id].clone()));
        named.collect()
    }

    /// A workspace of two packages, the second of which git ignores.
    fn repository_with_a_stranger() -> Scratch {
        let scratch = Scratch::new();
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
    async fn a_tracked_package_has_the_commit_and_an_ignored_one_has_none() {
        let scratch = repository_with_a_stranger();
        let revision = scratch.git(&["rev-parse", "HEAD"]);
        let said = ask(&scratch, &[("GITHUB_SHA", "0123"), ("GIT_DIR", "/nowhere")]).await;
        assert_eq!(
            said["ours"],
            Provenance {
                revision: Some(revision),
                dirty: Some(false),
                created: Some(1_700_000_000),
            }
        );
        assert_eq!(said["theirs"], Provenance::default());
    }

    #[tokio::test]
    async fn a_changed_tracked_file_anywhere_makes_dirty_and_an_untracked_one_does_not() {
        let scratch = repository_with_a_stranger();
        scratch.write("ours/src/new.rs", "");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(false));
        scratch.write(".gitignore", "vendor\ntarget\nCargo.lock\n*.new\n");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
        scratch.git(&["add", ".gitignore"]);
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
    }

    #[tokio::test]
    async fn the_date_of_the_sources_may_be_given() {
        let scratch = repository_with_a_stranger();
        let said = ask(&scratch, &[("SOURCE_DATE_EPOCH", "17")]).await;
        assert_eq!(said["ours"].created, Some(17));
        assert_eq!(said["theirs"].created, Some(17));
        let mut environment = scratch.environment();
        environment
            .variables
            .insert("SOURCE_DATE_EPOCH".into(), "today".into());
        let error = provenance(&environment, &[]).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Usage);
        assert_eq!(
            story(&error),
            "failed to read `SOURCE_DATE_EPOCH`: `today` is not a number of seconds\n\
             invalid digit found in string\n\
             help: set it to seconds since 1970, as `git log -1 --format=%ct` prints them"
        );
    }

    #[tokio::test]
    async fn without_a_repository_or_a_git_the_ci_system_knows() {
        let scratch = Scratch::new_package();
        let alone = ask(&scratch, &[]).await;
        assert_eq!(alone["a"], Provenance::default());
        let github = ask(
            &scratch,
            &[("GITHUB_SHA", "0123"), ("CI_COMMIT_SHA", "4567")],
        )
        .await;
        assert_eq!(github["a"].revision.as_deref(), Some("0123"));
        assert_eq!(github["a"].dirty, None);
        scratch.git(&["init", "--quiet"]);
        let gitlab = ask(&scratch, &[("CI_COMMIT_SHA", "4567"), ("PATH", "/nowhere")]).await;
        assert_eq!(gitlab["a"].revision.as_deref(), Some("4567"));
    }

    #[test]
    fn the_repository_of_a_ci_system_has_an_address() {
        let ask = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()));
            source_repository(&Environment::new(PathBuf::from("/"), variables))
        };
        let github = [
            ("GITHUB_SERVER_URL", "https://git.example.org/"),
            ("GITHUB_REPOSITORY", "acme/widgets"),
            ("CI_PROJECT_URL", "https://gitlab.example.org/acme/widgets"),
        ];
        assert_eq!(
            ask(&github).as_deref(),
            Some("https://git.example.org/acme/widgets")
        );
        let gitlab = ask(&github[1..]);
        assert_eq!(
            gitlab.as_deref(),
            Some("https://gitlab.example.org/acme/widgets")
        );
        assert_eq!(ask(&[("CI_PROJECT_URL", "")]), None);
    }
}
