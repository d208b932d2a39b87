//! Provenance of a package: commit, commit time, and whether the work tree differs from the commit.
//!
//! Git counts only for a manifest that git tracks: a package that was unpacked or vendored into an ignored directory
//! of a repository has no revision of that repository. Without a repository, the revision is the one that a CI
//! variable names.
//!
//! *Dirty* means the whole work tree, as in `git describe --dirty`: any tracked file that differs from the commit,
//! staged or not. `cargo package` compares only the package directory, because that is all it ships; a program is also
//! made of its path dependencies, the lock file and the workspace manifest. Untracked files do not count: CI systems
//! leave reports and credentials in work trees, and cargo compiles hardly any file that no tracked file names.
//!
//! The configuration of the repository belongs to whoever wrote the checkout, so git runs no program that it names
//! (see [`git`] and [`untrusted_filters`]).

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

/// Origin of the sources of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// The commit.
    pub(crate) revision: Option<String>,
    /// Whether tracked files differ from the commit; `None` if unknown.
    pub(crate) dirty: Option<bool>,
    /// Time of the sources in seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit time.
    pub(crate) created: Option<i64>,
    /// Why git could not tell the revision or the dirty flag, in git's words.
    pub(crate) problem: Option<String>,
}

impl Provenance {
    fn unknown(problem: String) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }
}

/// Returns the provenance of packages. If git is missing or fails, the provenance says so.
///
/// A build may change the lock file, so call this after the build.
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
        let (index, of_all) = match root {
            None => (None, Provenance::default()),
            Some(root) => match Index::read(environment, &root).await {
                Ok(index) => {
                    let of_all = of_work_tree(environment, &index).await;
                    (Some(index), of_all)
                }
                Err(problem) => (None, Provenance::unknown(problem)),
            },
        };
        for package in packages {
            let manifest = package.manifest_path.as_std_path();
            let is_untracked = |index: &Index| index.mode(manifest).is_none();
            let mut provenance = if index.as_ref().is_some_and(is_untracked) {
                Provenance::default()
            } else {
                let revision = of_all.revision.clone();
                Provenance {
                    revision: revision.or_else(|| ci_revision(environment)),
                    ..of_all.clone()
                }
            };
            provenance.created = epoch.or(provenance.created);
            provenances.insert(package.id.clone(), provenance);
        }
    }
    Ok(provenances)
}

/// The commit that the CI system checked out, by its variables.
fn ci_revision(environment: &Environment) -> Option<String> {
    let revision = environment.variable("GITHUB_SHA");
    let revision = revision.or(environment.variable("CI_COMMIT_SHA"));
    revision.map(ToOwned::to_owned)
}

/// Returns those of the files that are executable: git's mode counts if git tracks the file, else the file's own.
pub(crate) async fn executables(
    environment: &Environment,
    files: impl IntoIterator<Item = &Path>,
) -> BTreeSet<PathBuf> {
    let mut indexes = BTreeMap::new();
    let mut executables = BTreeSet::new();
    for file in files {
        let root = repository(file);
        if let Some(root) = &root
            && !indexes.contains_key(root)
        {
            indexes.insert(root.clone(), Index::read(environment, root).await.ok());
        }
        let index = root.and_then(|root| indexes.get(&root)?.as_ref());
        let is_executable = match index.and_then(|index| index.mode(file)) {
            Some(mode) => mode == EXECUTABLE,
            None => has_executable_bit(file),
        };
        if is_executable {
            executables.insert(file.to_owned());
        }
    }
    executables
}

#[cfg(unix)]
fn has_executable_bit(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn has_executable_bit(_: &Path) -> bool {
    false
}

/// Returns the root of the work tree that tracks a file.
pub(crate) async fn tracking_work_tree(environment: &Environment, file: &Path) -> Option<PathBuf> {
    let index = Index::read(environment, &repository(file)?).await.ok()?;
    index.mode(file).is_some().then_some(index.root)
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

/// The URL of the remote `origin` of the work tree that a directory is in.
pub(crate) async fn origin(environment: &Environment, directory: &Path) -> Option<String> {
    let mut command = git(environment, &work_tree(directory)?);
    command.args(["remote", "get-url", "origin"]);
    let url = process::capture(command).await.ok()?;
    Some(url.trim().to_owned()).filter(|url| !url.is_empty())
}

/// A date that does not parse must not be silently another one.
pub(crate) fn source_date_epoch(environment: &Environment) -> Result<Option<i64>, super::Error> {
    let text = environment.variable("SOURCE_DATE_EPOCH");
    let seconds = text.map(|text| text.trim().parse().context(SourceDateEpochSnafu { text }));
    Ok(seconds.transpose()?)
}

/// The root of the work tree that a file is in, with symbolic links resolved.
fn repository(file: &Path) -> Option<PathBuf> {
    work_tree(file.canonicalize().ok()?.parent()?)
}

/// The nearest directory upwards that holds `.git`.
fn work_tree(directory: &Path) -> Option<PathBuf> {
    let mut directories = directory.ancestors();
    directories
        .find(|directory| directory.join(".git").exists())
        .map(Path::to_owned)
}

/// Git's mode of an executable file.
const EXECUTABLE: &str = "100755";

/// Git's mode of a submodule.
const SUBMODULE: &str = "160000";

/// Most paths in the arguments of one command; the system limits their total length.
const MAX_PATHS: usize = 500;

/// The tracked files of a work tree.
#[derive(Debug)]
struct Index {
    /// The root of the work tree, with symbolic links resolved.
    root: PathBuf,
    /// Git's modes by path, relative to the root.
    modes: BTreeMap<String, String>,
}

impl Index {
    /// Reads the index; the error is git's own message.
    async fn read(environment: &Environment, root: &Path) -> Result<Self, String> {
        let mut command = git(environment, root);
        command.args(["ls-files", "--stage", "-z"]);
        // Each entry is `MODE OBJECT STAGE\tPATH`.
        let modes = records(command).await?.into_iter().filter_map(|entry| {
            let (facts, path) = entry.split_once('\t')?;
            let (mode, _) = facts.split_once(' ')?;
            Some((path.to_owned(), mode.to_owned()))
        });
        Ok(Self {
            root: root.to_owned(),
            modes: modes.collect(),
        })
    }

    /// Git's mode of a file, if git tracks it.
    fn mode(&self, file: &Path) -> Option<&str> {
        let file = file.canonicalize().ok()?;
        let words = file.strip_prefix(&self.root).ok()?.components();
        let words: Option<Vec<_>> = words.map(|word| word.as_os_str().to_str()).collect();
        self.modes.get(&words?.join("/")).map(String::as_str)
    }

    /// The work trees of the submodules that are checked out.
    fn submodules(&self) -> impl Iterator<Item = PathBuf> {
        let submodules = self.modes.iter().filter(|(_, mode)| *mode == SUBMODULE);
        let roots = submodules.map(|(path, _)| self.root.join(path));
        roots.filter(|root| root.join(".git").exists())
    }
}

/// The provenance of everything that is tracked in a work tree.
async fn of_work_tree(environment: &Environment, index: &Index) -> Provenance {
    let mut log = git(environment, &index.root);
    log.args(["log", "-1", "--no-show-signature", "--format=%H %ct"]);
    let (log, dirty) = tokio::join!(process::capture(log), is_dirty(environment, index));
    let log = log.map_err(|error| words(&error));
    let commit = log.and_then(|line| match line.trim().split_once(' ') {
        Some((revision, time)) => Ok((revision.to_owned(), time.parse().ok())),
        None => Err(format!("`git log` printed `{}`", line.trim())),
    });
    match (commit, dirty) {
        (Ok((revision, created)), dirty) => Provenance {
            revision: Some(revision),
            created,
            dirty: dirty.as_ref().ok().copied(),
            problem: dirty.err(),
        },
        // A dirty flag without a commit has no meaning.
        (Err(problem), _) => Provenance::unknown(problem),
    }
}

/// Whether tracked files of a work tree and its submodules differ from the commit; the error says why it is unknown.
async fn is_dirty(environment: &Environment, index: &Index) -> Result<bool, String> {
    let filters = untrusted_filters(environment, &index.root).await?;
    let mut status = git(environment, &index.root);
    for filter in &filters {
        for (key, value) in [("clean", ""), ("process", ""), ("required", "false")] {
            status
                .arg("-c")
                .arg(format!("filter.{filter}.{key}={value}"));
        }
    }
    status.args([
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=no",
        // Git starts a child for each submodule, which reads the configuration there: see below.
        "--ignore-submodules=dirty",
        // Similarity is found by reading contents.
        "--no-renames",
    ]);
    let changes = records(status).await?;
    // Of the changes, only ` M` compares contents.
    let modified: Vec<_> = changes
        .iter()
        .filter_map(|line| line.strip_prefix(" M "))
        .collect();
    let filtered = filtered(environment, &index.root, &modified, &filters).await?;
    if filtered < changes.len() {
        return Ok(true);
    }
    for root in index.submodules() {
        let submodule = Index::read(environment, &root).await?;
        if Box::pin(is_dirty(environment, &submodule)).await? {
            return Ok(true);
        }
    }
    if filtered > 0 {
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        return Err(format!(
            "files with a filter of the repository's configuration may have changed, and these filters are not run: `{}`",
            filters.join("`, `")
        ));
    }
    Ok(false)
}

/// Names of the filters that the repository's own configuration defines, such as a local `filter.lfs.clean`.
///
/// `git status` runs filters to compare a file whose time or size changed. Those of the user and of the system are
/// trusted.
async fn untrusted_filters(
    environment: &Environment,
    root: &Path,
) -> Result<BTreeSet<String>, String> {
    let mut config = git(environment, root);
    config.args(["config", "--list", "--show-scope", "--name-only", "-z"]);
    let mut filters = BTreeSet::new();
    for entry in records(config).await?.chunks(2) {
        let [scope, key] = entry else { continue };
        let filter = key.strip_prefix("filter.");
        let filter = filter.and_then(|rest| Some(rest.rsplit_once('.')?.0));
        let is_trusted = ["system", "global", "command"].contains(&scope.as_str());
        if let Some(filter) = filter.filter(|_| !is_trusted) {
            // `-c` takes the first `=` for the end of the key, and a name that is not UTF-8 would be another one.
            if filter.contains(['=', char::REPLACEMENT_CHARACTER]) {
                return Err(format!("the filter `{filter}` cannot be switched off"));
            }
            filters.insert(filter.to_owned());
        }
    }
    Ok(filters)
}

/// How many of the first of these files one of the filters concerns.
async fn filtered(
    environment: &Environment,
    root: &Path,
    files: &[&str],
    filters: &BTreeSet<String>,
) -> Result<usize, String> {
    if filters.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    for files in files.chunks(MAX_PATHS) {
        let mut attributes = git(environment, root);
        attributes
            .args(["check-attr", "-z", "filter", "--"])
            .args(files);
        // Each answer is the path, the attribute and its value.
        let answers = records(attributes).await?;
        let values = answers.chunks(3).filter_map(|answer| answer.get(2));
        let concerned = values.filter(|value| filters.contains(*value)).count();
        count += concerned;
        if concerned < files.len() {
            break;
        }
    }
    Ok(count)
}

/// The records that a command ends with NUL; the error is the command's own message.
async fn records(command: Command) -> Result<Vec<String>, String> {
    let output = process::capture_bytes(command).await;
    let output = output.map_err(|error| words(&error))?;
    // A name that is not UTF-8 equals none of a package, whose names are.
    let text = String::from_utf8_lossy(&output);
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Git's own message, or why it gave none.
fn words(error: &process::Error) -> String {
    match (error.refusal(), std::error::Error::source(error)) {
        (Some(words), _) => words.to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// A git command for this work tree and no other. It takes no lock, asks for nothing, and fetches nothing.
///
/// `core.fsmonitor` and hooks are programs that the repository's configuration names. A missing object of a partial
/// clone would be fetched with a program that it names as well (`ext::` URLs), so every protocol is refused.
fn git(environment: &Environment, root: &Path) -> Command {
    let mut command = process::command(environment, "git");
    command
        .args(["--no-optional-locks", "--no-pager"])
        .args(["-c", "core.fsmonitor=false"])
        .args(["-c", "core.hooksPath=/dev/null"])
        .arg("-C")
        .arg(root);
    // A hook of another repository sets these.
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
    if let Some(parent) = root.parent() {
        command.env("GIT_CEILING_DIRECTORIES", parent);
    }
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_LITERAL_PATHSPECS", "1")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_ALLOW_PROTOCOL", "none");
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
    fn repository_with_ignored_package() -> Scratch {
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
    async fn tracked_package_has_the_commit_and_an_ignored_one_none() {
        let scratch = repository_with_ignored_package();
        let revision = scratch.git(&["rev-parse", "HEAD"]);
        let found = ask(&scratch, &[("GITHUB_SHA", "0123"), ("GIT_DIR", "/nowhere")]).await;
        assert_eq!(
            found["ours"],
            Provenance {
                revision: Some(revision),
                dirty: Some(false),
                created: Some(1_700_000_000),
                problem: None,
            }
        );
        assert_eq!(found["theirs"], Provenance::default());
    }

    #[tokio::test]
    async fn changed_tracked_file_is_dirty_and_an_untracked_one_is_not() {
        let scratch = repository_with_ignored_package();
        scratch.write("ours/src/new.rs", "");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(false));
        scratch.write(".gitignore", "vendor\ntarget\nCargo.lock\n*.new\n");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
        scratch.git(&["add", ".gitignore"]);
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
    }

    #[tokio::test]
    async fn changed_file_of_a_submodule_is_dirty() {
        let scratch = repository_with_submodule();
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(false));
        scratch.write("sub/untracked", "");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(false));
        scratch.write("sub/data", "changed");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
    }

    /// Two packages, the second of which git ignores, and a submodule.
    fn repository_with_submodule() -> Scratch {
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

    /// Configuration of a repository that names a program wherever git takes one, and the file that each writes.
    #[cfg(unix)]
    fn name_programs(scratch: &Scratch) -> PathBuf {
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
        let evidence = name_programs(&scratch);
        // Another time and the same size: git compares the contents.
        let touch = || {
            scratch.write("data", "content");
            scratch.write("sub/data", "content");
        };
        touch();
        let found = &ask(&scratch, &[]).await["ours"];
        assert_eq!((found.dirty, &found.problem), (Some(false), &None));
        let manifest = scratch.path().join("ours/Cargo.toml");
        let environment = scratch.environment();
        executables(&environment, [manifest.as_path()]).await;
        assert!(tracking_work_tree(&environment, &manifest).await.is_some());
        assert!(origin(&environment, &scratch.path()).await.is_some());
        assert!(
            !evidence.exists(),
            "{}",
            std::fs::read_to_string(evidence).unwrap()
        );

        // Without the filter it cannot be told whether a file that it concerns has other content.
        scratch.write("data", "CONTENT");
        let found = &ask(&scratch, &[]).await["ours"];
        assert_eq!(found.dirty, None);
        assert!(
            found.problem.as_ref().unwrap().contains("`unsafe`"),
            "{found:?}"
        );
        scratch.write("ours/src/lib.rs", "// changed");
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, Some(true));
        // A missing object is not fetched.
        std::fs::remove_dir_all(scratch.path().join(".git/objects")).unwrap();
        std::fs::create_dir(scratch.path().join(".git/objects")).unwrap();
        assert_eq!(ask(&scratch, &[]).await["ours"].dirty, None);
        assert!(
            !evidence.exists(),
            "{}",
            std::fs::read_to_string(evidence).unwrap()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn plain_git_runs_programs_of_the_configuration() {
        // Without this, the test above would show nothing.
        let scratch = repository_with_submodule();
        let evidence = name_programs(&scratch);
        scratch.write("sub/data", "content");
        scratch.git(&["status", "--porcelain"]);
        let ran = std::fs::read_to_string(evidence).unwrap();
        assert!(ran.contains("program"), "{ran}");
    }

    #[tokio::test]
    async fn dirty_flag_is_unknown_if_git_refuses_the_checkout() {
        let scratch = repository_with_ignored_package();
        scratch.write("ours/src/lib.rs", "// changed");
        let found = ask(
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
            (found.revision.as_deref(), found.dirty),
            (Some("0123"), None)
        );
        let problem = found.problem.as_ref().unwrap();
        assert!(problem.contains("dubious ownership"), "{problem}");
    }

    #[tokio::test]
    async fn dirty_flag_is_unknown_if_the_index_is_damaged() {
        let scratch = repository_with_ignored_package();
        scratch.write(".git/index", "damaged");
        let found = &ask(&scratch, &[("GITHUB_SHA", "0123")]).await["ours"];
        assert_eq!(
            (found.revision.as_deref(), found.dirty),
            (Some("0123"), None)
        );
        assert!(
            found.problem.as_ref().unwrap().contains("index"),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn repository_without_a_commit_is_a_problem() {
        let scratch = Scratch::new_package();
        scratch.git(&["init", "--quiet"]);
        assert_eq!(ask(&scratch, &[]).await["a"], Provenance::default());
        scratch.git(&["add", "Cargo.toml"]);
        let found = &ask(&scratch, &[]).await["a"];
        assert_eq!((&found.revision, found.dirty), (&None, None));
        assert!(
            found.problem.as_ref().unwrap().contains("commit"),
            "{found:?}"
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn mode_is_of_git_if_tracked_and_else_of_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new_package();
        let files = ["tracked", "plain", "run", "read"].map(|name| {
            scratch.write(name, "");
            scratch.path().join(name)
        });
        let set = |file: &Path, mode| {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let environment = scratch.environment();
        let found = async || {
            let found = executables(&environment, files.iter().map(PathBuf::as_path)).await;
            let names = found
                .iter()
                .map(|file| file.file_name().unwrap().to_str().unwrap());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        set(&files[0], 0o755);
        set(&files[2], 0o744);
        assert_eq!(found().await, ["run", "tracked"]);
        scratch.git(&["init", "--quiet"]);
        scratch.git(&["add", "tracked", "plain"]);
        set(&files[0], 0o644);
        set(&files[1], 0o755);
        assert_eq!(found().await, ["run", "tracked"]);
    }

    #[tokio::test]
    async fn source_date_epoch_sets_the_date() {
        let scratch = repository_with_ignored_package();
        let found = ask(&scratch, &[("SOURCE_DATE_EPOCH", "17")]).await;
        assert_eq!(found["ours"].created, Some(17));
        assert_eq!(found["theirs"].created, Some(17));
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
    async fn ci_variable_names_the_revision_without_git() {
        let scratch = Scratch::new_package();
        let alone = ask(&scratch, &[]).await;
        assert_eq!(alone["a"], Provenance::default());
        let github = ask(
            &scratch,
            &[("GITHUB_SHA", "0123"), ("CI_COMMIT_SHA", "4567")],
        )
        .await;
        assert_eq!(github["a"].revision.as_deref(), Some("0123"));
        assert_eq!((github["a"].dirty, &github["a"].problem), (None, &None));
        scratch.git(&["init", "--quiet"]);
        let gitlab = ask(&scratch, &[("CI_COMMIT_SHA", "4567"), ("PATH", "/nowhere")]).await;
        assert_eq!(gitlab["a"].revision.as_deref(), Some("4567"));
        let problem = gitlab["a"].problem.as_ref().unwrap();
        assert!(problem.starts_with("failed to run `git"), "{problem}");
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
