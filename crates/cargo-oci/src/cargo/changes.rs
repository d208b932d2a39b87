//! Uncommitted changes of a work tree and its submodules.
//!
//! The repository's configuration is untrusted, so git must not run the filters that it names (see
//! [`read_untrusted_filters`]).

use std::{collections::BTreeSet, path::Path};

use super::{
    CargoEnvironment,
    git::{GitIndex, git, run_for_records},
};

/// Maximum number of paths in the arguments of one command, because the operating system limits the length of all
/// arguments together.
const MAX_PATHS: usize = 500;

/// Returns the tracked files of a work tree and its submodules that differ from the commit, relative to the root of the
/// work tree. Returns an error with the reason if they cannot be determined.
///
/// The result is empty if `git status --porcelain --untracked-files=no --ignore-submodules=untracked` prints nothing.
pub(super) async fn find_changes(
    environment: &CargoEnvironment,
    index: &GitIndex,
) -> Result<Vec<String>, String> {
    let filters = read_untrusted_filters(environment, &index.root).await?;
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
        // Without this flag, git would run a child process for each submodule, which would read the submodule's
        // untrusted configuration. The loop below checks submodules instead.
        "--ignore-submodules=dirty",
        // To detect renames, git would read file contents.
        "--no-renames",
    ]);
    // Each entry is `XY PATH`.
    let entries = run_for_records(status).await?;
    // Only the status ` M` depends on file contents.
    let modified = entries.iter().filter_map(|entry| entry.strip_prefix(" M "));
    let modified: Vec<_> = modified.collect();
    let filtered = find_filtered(environment, &index.root, &modified, &filters).await?;
    let mut changes: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.get(3..))
        .filter(|path| !filtered.contains(*path))
        .map(str::to_owned)
        .collect();
    let mut problem = None;
    for root in index.submodules() {
        let found = match GitIndex::read(environment, &root).await {
            Ok(submodule) => Box::pin(find_changes(environment, &submodule)).await,
            Err(error) => Err(error),
        };
        let path = root.strip_prefix(&index.root).unwrap_or(&root).display();
        match found {
            Ok(found) => changes.extend(found.iter().map(|file| format!("{path}/{file}"))),
            Err(error) => problem = Some(error),
        }
    }
    match problem {
        Some(problem) if changes.is_empty() => Err(problem),
        None if changes.is_empty() && !filtered.is_empty() => {
            let filters: Vec<_> = filters.iter().map(String::as_str).collect();
            Err(format!(
                "cannot compare filtered files with the commit, because git filters from the repository configuration are not run: `{}`",
                filters.join("`, `")
            ))
        }
        _ => Ok(changes),
    }
}

/// Returns the names of the filters that the repository's own configuration sets, such as `lfs` for `filter.lfs.clean`.
///
/// `git status` runs filters to compare a file whose time or size changed. Filters in the configuration of the user or
/// of the system are trusted.
async fn read_untrusted_filters(
    environment: &CargoEnvironment,
    root: &Path,
) -> Result<BTreeSet<String>, String> {
    let mut config = git(environment, root);
    config.args(["config", "--list", "--show-scope", "--name-only", "-z"]);
    let mut filters = BTreeSet::new();
    for entry in run_for_records(config).await?.chunks(2) {
        let [scope, key] = entry else { continue };
        let filter = key.strip_prefix("filter.");
        let filter = filter.and_then(|rest| Some(rest.rsplit_once('.')?.0));
        let is_trusted = ["system", "global", "command"].contains(&scope.as_str());
        if let Some(filter) = filter.filter(|_| !is_trusted) {
            // `-c` cannot disable this filter. The key ends at the first `=`. The lossy conversion changes a name that
            // is not UTF-8.
            if filter.contains(['=', char::REPLACEMENT_CHARACTER]) {
                return Err(format!("cannot disable the git filter `{filter}`"));
            }
            filters.insert(filter.to_owned());
        }
    }
    Ok(filters)
}

/// Returns the files that have one of the filters.
async fn find_filtered(
    environment: &CargoEnvironment,
    root: &Path,
    files: &[&str],
    filters: &BTreeSet<String>,
) -> Result<BTreeSet<String>, String> {
    let mut filtered = BTreeSet::new();
    if filters.is_empty() {
        return Ok(filtered);
    }
    for files in files.chunks(MAX_PATHS) {
        let mut attributes = git(environment, root);
        attributes
            .args(["check-attr", "-z", "filter", "--"])
            .args(files);
        // Each entry is the path, the attribute and its value.
        for entry in run_for_records(attributes).await?.chunks(3) {
            if let [path, _, filter] = entry
                && filters.contains(filter)
            {
                filtered.insert(path.clone());
            }
        }
    }
    Ok(filtered)
}
