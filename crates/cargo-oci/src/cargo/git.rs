//! Commands of git that read a work tree: the tracked files with their modes, and the remote.
//!
//! The repository's configuration is untrusted, so no command may run a program that it names (see [`git`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::process::Command;

use super::{CargoEnvironment, process};

/// Returns the executable files among the given files. The mode of a tracked file is read from git's index, and the
/// mode of any other file from the file system.
pub(crate) async fn find_executables(
    environment: &CargoEnvironment,
    files: impl IntoIterator<Item = &Path>,
) -> BTreeSet<PathBuf> {
    let mut indexes = BTreeMap::new();
    let mut executables = BTreeSet::new();
    for file in files {
        let root = containing_work_tree(file);
        if let Some(root) = &root
            && !indexes.contains_key(root)
        {
            indexes.insert(root.clone(), GitIndex::read(environment, root).await.ok());
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

/// Returns the root of the work tree that contains a file, if git tracks the file.
pub(crate) async fn tracking_work_tree(
    environment: &CargoEnvironment,
    file: &Path,
) -> Option<PathBuf> {
    let index = GitIndex::read(environment, &containing_work_tree(file)?)
        .await
        .ok()?;
    index.mode(file).is_some().then_some(index.root)
}

/// Returns the URL of the remote `origin`, for the work tree that contains a directory.
pub(crate) async fn origin(environment: &CargoEnvironment, directory: &Path) -> Option<String> {
    let mut command = git(environment, &find_work_tree(directory)?);
    command.args(["remote", "get-url", "origin"]);
    let url = run_for_text(command).await.ok()?;
    Some(url.trim().to_owned()).filter(|url| !url.is_empty())
}

/// Returns the root of the work tree that contains a file, with symbolic links resolved.
pub(super) fn containing_work_tree(file: &Path) -> Option<PathBuf> {
    find_work_tree(file.canonicalize().ok()?.parent()?)
}

/// Returns the nearest ancestor directory that contains `.git`.
fn find_work_tree(directory: &Path) -> Option<PathBuf> {
    let mut directories = directory.ancestors();
    directories
        .find(|directory| directory.join(".git").exists())
        .map(Path::to_owned)
}

/// Mode of an executable file in git's index.
const EXECUTABLE: &str = "100755";

/// Mode of a submodule in git's index.
const SUBMODULE: &str = "160000";

/// Maximum duration of one git command. Without a limit, git would wait forever for a named pipe or an unreachable
/// network drive.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Index of a work tree: the tracked files and their modes.
#[derive(Debug)]
pub(super) struct GitIndex {
    /// Root of the work tree, with symbolic links resolved.
    pub(super) root: PathBuf,
    /// Modes, by path relative to the root.
    modes: BTreeMap<String, String>,
}

impl GitIndex {
    /// Reads the index. The error is git's error message.
    pub(super) async fn read(environment: &CargoEnvironment, root: &Path) -> Result<Self, String> {
        let mut command = git(environment, root);
        command.args(["ls-files", "--stage", "-z"]);
        // Each entry is `MODE OBJECT STAGE\tPATH`.
        let modes = run_for_records(command)
            .await?
            .into_iter()
            .filter_map(|entry| {
                let (attributes, path) = entry.split_once('\t')?;
                let (mode, _) = attributes.split_once(' ')?;
                Some((path.to_owned(), mode.to_owned()))
            });
        Ok(Self {
            root: root.to_owned(),
            modes: modes.collect(),
        })
    }

    /// Returns the mode of a file, if git tracks it.
    pub(super) fn mode(&self, file: &Path) -> Option<&str> {
        let file = file.canonicalize().ok()?;
        let components = file.strip_prefix(&self.root).ok()?.components();
        let components: Option<Vec<_>> = components
            .map(|component| component.as_os_str().to_str())
            .collect();
        self.modes.get(&components?.join("/")).map(String::as_str)
    }

    /// Returns the work trees of the submodules that are checked out.
    ///
    /// A symbolic link in place of a submodule could lead back to this work tree, so its target is omitted.
    pub(super) fn submodules(&self) -> impl Iterator<Item = PathBuf> {
        let submodules = self.modes.iter().filter(|(_, mode)| *mode == SUBMODULE);
        let roots = submodules.map(|(path, _)| self.root.join(path));
        let has_no_link = |root: &PathBuf| root.canonicalize().is_ok_and(|target| target == *root);
        roots.filter(move |root| root.join(".git").exists() && has_no_link(root))
    }
}

/// Runs a command, and returns the NUL-terminated records that it prints. The error is the command's error message.
pub(super) async fn run_for_records(command: Command) -> Result<Vec<String>, String> {
    let text = run_for_text(command).await?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// Runs a command, and returns the text that it prints. The error is the command's error message.
pub(super) async fn run_for_text(command: Command) -> Result<String, String> {
    let shown = process::display_command(&command);
    let output = tokio::time::timeout(TIMEOUT, process::capture_bytes(command)).await;
    let output = output
        .map_err(|_| {
            format!(
                "`{shown}` did not finish within {} seconds",
                TIMEOUT.as_secs()
            )
        })?
        .map_err(|error| error_message(&error))?;
    // A lossy conversion is sufficient, because only files with UTF-8 names are published.
    Ok(String::from_utf8_lossy(&output).into_owned())
}

/// Returns git's error message, or the reason why git could not be started.
fn error_message(error: &process::Error) -> String {
    match (error.stderr(), std::error::Error::source(error)) {
        (Some(message), _) => message.to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Creates a git command for this work tree. The command takes no lock, never prompts, and fetches nothing.
///
/// The repository can choose the programs that git runs as `core.fsmonitor` and as hooks, so both are disabled. To
/// fetch a missing object of a partial clone, git could run a program that the configuration names in an `ext::` URL,
/// so every protocol is disabled.
pub(super) fn git(environment: &CargoEnvironment, root: &Path) -> Command {
    let mut command = process::command(environment, "git");
    command
        .args(["--no-optional-locks", "--no-pager"])
        .args(["-c", "core.fsmonitor=false"])
        .args(["-c", "core.hooksPath=/dev/null"])
        .arg("-C")
        .arg(root);
    // If this program runs in a hook of another repository, these variables refer to that repository.
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
    use super::{super::scratch::TestDirectory, *};

    #[cfg(unix)]
    #[tokio::test]
    async fn mode_is_from_git_if_tracked_else_from_file_system() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = TestDirectory::new_package();
        let files = ["tracked", "plain", "run", "read"].map(|name| {
            scratch.write(name, "");
            scratch.path().join(name)
        });
        let set = |file: &Path, mode| {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let environment = scratch.environment();
        let found = async || {
            let found = find_executables(&environment, files.iter().map(PathBuf::as_path)).await;
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

    #[cfg(unix)]
    #[tokio::test]
    async fn submodules_omits_symbolic_links() {
        use std::os::unix::fs::symlink;

        let scratch = TestDirectory::new_package();
        scratch.git(&["init", "--quiet"]);
        let object = "160000,1111111111111111111111111111111111111111";
        for path in ["real", "link", "outer/sub"] {
            let entry = format!("{object},{path}");
            scratch.git(&["update-index", "--add", "--cacheinfo", &entry]);
        }
        scratch.write("real/.git", "");
        scratch.write("elsewhere/sub/.git", "");
        let root = scratch.path();
        symlink(".", root.join("link")).unwrap();
        symlink("elsewhere", root.join("outer")).unwrap();
        let index = GitIndex::read(&scratch.environment(), &root).await.unwrap();
        assert_eq!(index.submodules().collect::<Vec<_>>(), [root.join("real")]);
    }
}
