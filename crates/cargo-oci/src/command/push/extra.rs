//! Files beside those that a build writes: a README, a license, the `.crate` file. They go with every target.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::PackageId;
use oci_package::FileKind;

use super::include::Inclusion;
use super::subject::Subject;
use super::{Flags, files};
use crate::cargo::{self, Built, CrateOptions, Output, Workspace};
use crate::report::Error;
use crate::session::Session;

/// Further files, by package.
pub(super) type Extra = BTreeMap<PackageId, Vec<Built>>;

/// Returns the files that the patterns of each package name. A note lists those outside of its directory.
pub(super) async fn included(
    session: &Session,
    workspace: &Workspace,
    subjects: &[Subject<'_>],
) -> Result<Extra, Error> {
    let mut extra = Extra::new();
    for subject in subjects
        .iter()
        .filter(|subject| !subject.include.is_empty())
    {
        let package = subject.package;
        let manifest = package.manifest_path.as_std_path();
        let root = manifest.parent().unwrap_or(Path::new("."));
        let work_tree = cargo::tracking_work_tree(&session.cargo, manifest).await;
        let bounds = [Some(root), Some(&workspace.root), work_tree.as_deref()];
        let inclusion = Inclusion::new(root, bounds.into_iter().flatten());
        let mut found = BTreeSet::new();
        for pattern in &subject.include {
            found.extend(inclusion.files(pattern).map_err(|problem| {
                Error::usage(format!(
                    "failed to include `{pattern}` with `{}`: {problem}",
                    package.name
                ))
                .help("write patterns relative to the directory of the package, such as `README*` and `LICENSE-*`")
            })?);
        }
        let outside = found
            .iter()
            .filter(|(_, path)| !inclusion.is_of_package(path));
        let outside: Vec<_> = outside
            .map(|(_, path)| format!("`{}`", path.display()))
            .collect();
        if !outside.is_empty() {
            session.reporter.note(format_args!(
                "`{}` includes files from outside of its directory: {}",
                package.name,
                outside.join(", ")
            ));
        }
        let files = found.into_iter().map(|(name, path)| Built {
            name: name.to_string(),
            kind: FileKind::File,
            path,
        });
        extra.insert(package.id.clone(), files.collect());
    }
    Ok(extra)
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
