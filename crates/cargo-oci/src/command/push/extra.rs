//! Files beside those that a build writes: a README, a licence, the `.crate` file. They go with every target.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::PackageId;
use oci_package::Kind;
use oci_registry::FileName;

use super::subject::Subject;
use super::{Flags, files};
use crate::cargo::{self, Built, CrateOptions, Output, Workspace};
use crate::report::Error;
use crate::session::Session;

/// Further files, by package.
pub(super) type Extra = BTreeMap<PackageId, Vec<Built>>;

/// The files that the patterns of each package name.
pub(super) fn included(subjects: &[Subject<'_>]) -> Result<Extra, Error> {
    let mut extra = Extra::new();
    for subject in subjects {
        let manifest = subject.package.manifest_path.as_std_path();
        let root = manifest.parent().unwrap_or(Path::new("."));
        let mut paths = BTreeSet::new();
        for pattern in &subject.include {
            let found = matches(root, pattern).map_err(|error| {
                Error::usage(format!(
                    "failed to include `{pattern}` with `{}`: {error}",
                    subject.package.name
                ))
                .help("write patterns relative to the directory of the package, such as `README*` and `LICENSE-*`")
            })?;
            paths.extend(found);
        }
        let files = paths.into_iter().map(|path| {
            Ok(Built {
                name: name(root, &path)?.to_string(),
                kind: Kind::File,
                path,
            })
        });
        let files: Vec<_> = files.collect::<Result<_, Error>>()?;
        extra.insert(subject.package.id.clone(), files);
    }
    Ok(extra)
}

/// The files that a pattern names, at least one.
fn matches(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    // What is special in the directory's own name is not special here.
    let root = glob::Pattern::escape(&root.to_string_lossy());
    let found = glob::glob(&format!("{root}/{pattern}")).map_err(|error| error.to_string())?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| error.to_string())?;
        if path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err("there is no such file".to_owned());
    }
    Ok(paths)
}

/// A file's name in the package: its path, or what lies beside the package, its own name.
fn name(root: &Path, path: &Path) -> Result<FileName, Error> {
    let inside = path.strip_prefix(root).ok();
    let inside = inside.filter(|inside| !inside.starts_with(".."));
    let relative = inside.or_else(|| path.file_name().map(Path::new));
    let words = relative.unwrap_or(path).components();
    let words: Vec<_> = words
        .map(|word| word.as_os_str().to_string_lossy())
        .collect();
    Ok(words.join("/").parse()?)
}

/// Refuses before a build what cargo refuses to package.
pub(super) async fn check_crates(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
) -> Result<(), Error> {
    if !flags.crate_file {
        return Ok(());
    }
    let is_pushed = |subject: &&Subject<'_>| !flags.file.is_empty() || subject.may_have_files();
    let subjects = subjects.iter().filter(is_pushed);
    let packages: Vec<_> = subjects.map(|subject| subject.package).collect();
    let (environment, selection) = (&session.cargo, &flags.selection);
    Ok(cargo::check_crates(environment, selection, &packages, flags.allow_dirty).await?)
}

/// Returns the `.crate` files of packages, where they are wanted.
pub(super) async fn crates(
    session: &Session,
    workspace: &Workspace,
    subjects: &[&Subject<'_>],
    flags: &Flags,
) -> Result<Extra, Error> {
    if !flags.crate_file {
        return Ok(Extra::new());
    }
    let packages: Vec<_> = subjects.iter().map(|subject| subject.package).collect();
    let options = CrateOptions {
        allow_dirty: flags.allow_dirty,
        shell: (!flags.no_build).then(|| files::shell(session)),
    };
    let (environment, selection) = (&session.cargo, &flags.selection);
    let made = cargo::crate_files(environment, workspace, selection, &packages, options).await?;
    Ok(made
        .into_iter()
        .map(|(id, file)| (id, vec![file]))
        .collect())
}

/// Adds further files to each package, for every target.
pub(super) fn add(outputs: &mut [Output], extras: &[Extra]) {
    for package in outputs.iter_mut().flat_map(|output| &mut output.packages) {
        for files in extras.iter().filter_map(|extra| extra.get(&package.id)) {
            package.files.extend(files.iter().cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_files_below_the_package_and_beside_it() {
        let home = tempfile::tempdir().expect("a directory");
        let root = home.path().join("[odd]");
        std::fs::create_dir_all(root.join("docs")).expect("a directory");
        for file in ["[odd]/README.md", "[odd]/docs/use.md", "LICENSE"] {
            std::fs::write(home.path().join(file), "").expect("a file");
        }
        let names = |pattern: &str| {
            let paths = matches(&root, pattern)?;
            let names = paths
                .iter()
                .map(|path| name(&root, path).expect("a safe name"));
            Ok::<_, String>(names.map(|name| name.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(names("README*"), Ok(vec!["README.md".into()]));
        assert_eq!(
            names("**/*.md"),
            Ok(vec!["README.md".into(), "docs/use.md".into()])
        );
        assert_eq!(names("../LICENSE*"), Ok(vec!["LICENSE".into()]));
        assert!(names("CHANGELOG*").is_err() && names("docs").is_err() && names("[").is_err());
    }
}
