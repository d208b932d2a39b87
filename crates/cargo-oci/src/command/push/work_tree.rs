//! Check for uncommitted changes before a version is pushed to a registry.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::PackageId;
use oci_package::ReleaseTag;
use oci_registry::Location;

use super::Flags;
use super::publication::Publication;
use crate::cargo::{self, Provenance};
use crate::figures::join_first;
use crate::report::Error;
use crate::session::Session;

/// Maximum number of changed files that a message lists. The message states the number of the remaining files.
const MAX_LISTED_FILES: usize = 20;

/// Rejects a push from a work tree with uncommitted changes before the build.
pub(super) async fn check_before_build(
    session: &Session,
    publications: &[Publication<'_>],
    flags: &Flags,
) -> Result<(), Error> {
    let checked = publications.iter().filter(|publication| {
        requires_clean_tree(publication) && (!flags.file.is_empty() || publication.may_have_files())
    });
    let checked: Vec<_> = checked.collect();
    if flags.allow_dirty || checked.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = checked
        .iter()
        .map(|publication| publication.package)
        .collect();
    let provenances = cargo::read_provenance(&session.cargo, &packages).await?;
    for publication in checked {
        if let Some(changes) = changes(publication, &provenances) {
            return Err(refusal(publication, &changes, ""));
        }
    }
    Ok(())
}

/// Rejects a push from a work tree with uncommitted changes after the build, because the build may have changed files.
/// If the push is allowed, prints a warning about the changes.
pub(super) fn check_after_build(
    session: &Session,
    publications: &[&Publication<'_>],
    provenances: &BTreeMap<PackageId, Provenance>,
    flags: &Flags,
) -> Result<(), Error> {
    if flags.allow_dirty {
        return Ok(());
    }
    let mut warnings = BTreeSet::new();
    for publication in publications {
        let Some(changes) = changes(publication, provenances) else {
            continue;
        };
        if requires_clean_tree(publication) {
            return Err(refusal(publication, &changes, " after the build"));
        }
        warnings.insert(changes);
    }
    for changes in warnings {
        session.reporter.warn(format_args!(
            "the work tree has uncommitted changes: {changes}"
        ));
    }
    Ok(())
}

/// Prints a warning for each error of git.
pub(super) fn warn_about_git_errors(
    session: &Session,
    provenances: &BTreeMap<PackageId, Provenance>,
) {
    let warnings = provenances.values().filter_map(|provenance| {
        let problem = provenance.problem.as_ref()?;
        Some(if provenance.changes.is_some() {
            format!("the commit of the artifacts is unknown: {problem}")
        } else {
            format!(
                "failed to check for uncommitted changes, so the artifacts do not record `dirty`: {problem}"
            )
        })
    });
    for warning in warnings.collect::<BTreeSet<_>>() {
        session.reporter.warn(warning);
    }
}

/// Whether a publication pushes a version to a registry.
fn requires_clean_tree(publication: &Publication<'_>) -> bool {
    let destination = &publication.destination;
    matches!(destination.repository, Location::Registry(_))
        && destination.tags.iter().any(ReleaseTag::is_released)
}

/// Returns the list of the changed files in the work tree of a package, or `None` if there are none or if they are
/// unknown.
fn changes(
    publication: &Publication<'_>,
    provenances: &BTreeMap<PackageId, Provenance>,
) -> Option<String> {
    let changes = provenances.get(&publication.package.id)?.changes.as_ref()?;
    (!changes.is_empty()).then(|| join_files(changes))
}

fn join_files(files: &[String]) -> String {
    let files = files.iter().map(|file| format!("`{file}`"));
    join_first(files, MAX_LISTED_FILES, "files")
}

fn refusal(publication: &Publication<'_>, changes: &str, time: &str) -> Error {
    Error::usage(format!(
        "failed to push `{}` to `{}`: the work tree has uncommitted changes{time}: {changes}",
        publication.package.name, publication.destination
    ))
    .help("commit the changes, or pass `--allow-dirty` to publish them and record `dirty: true`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_changed_files_is_bounded() {
        let files: Vec<_> = (1..=22).map(|number| format!("src/{number}.rs")).collect();
        assert_eq!(join_files(&files[..2]), "`src/1.rs`, `src/2.rs`");
        let all = join_files(&files);
        assert!(all.ends_with("`src/20.rs`, and 2 more files"), "{all}");
    }
}
