//! Additional files, which cargo does not build, such as a README, a license or the `.crate` file. They are published
//! for every target.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::PackageId;
use oci_package::FileKind;

use super::include::PatternResolver;
use super::publication::Publication;
use super::{Flags, files};
use crate::cargo::{self, BuildOutput, BuiltFile, CrateOptions, Workspace};
use crate::report::Error;
use crate::session::Session;

/// Additional files by package.
pub(super) type ExtraFiles = BTreeMap<PackageId, Vec<BuiltFile>>;

/// Finds the files that match each package's patterns. Prints a note about files outside of the package directory.
pub(super) async fn find_included(
    session: &Session,
    workspace: &Workspace,
    publications: &[Publication<'_>],
) -> Result<ExtraFiles, Error> {
    let mut extra = ExtraFiles::new();
    for publication in publications
        .iter()
        .filter(|publication| !publication.include.is_empty())
    {
        let package = publication.package;
        let manifest = package.manifest_path.as_std_path();
        let root = manifest.parent().unwrap_or(Path::new("."));
        let work_tree = cargo::tracking_work_tree(&session.cargo, manifest).await;
        let bounds = [Some(root), Some(&workspace.root), work_tree.as_deref()];
        let resolver = PatternResolver::new(root, bounds.into_iter().flatten());
        let mut found = BTreeSet::new();
        for pattern in &publication.include {
            found.extend(resolver.files(pattern).map_err(|error| {
                Error::usage(format!(
                    "failed to include `{pattern}` in `{}`: {error}",
                    package.name
                ))
                .help("write patterns relative to the directory of the package, such as `README*` and `LICENSE-*`")
            })?);
        }
        let outside = found
            .iter()
            .filter(|(_, path)| !resolver.is_in_package(path));
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
        let files = found.into_iter().map(|(name, path)| BuiltFile {
            name: name.to_string(),
            kind: FileKind::File,
            path,
        });
        extra.insert(package.id.clone(), files.collect());
    }
    Ok(extra)
}

/// Checks that `cargo package` accepts the packages. Called before the build.
pub(super) async fn check_crates(
    session: &Session,
    publications: &[Publication<'_>],
    flags: &Flags,
) -> Result<(), Error> {
    if !flags.crate_file {
        return Ok(());
    }
    let is_pushed =
        |publication: &&Publication<'_>| !flags.file.is_empty() || publication.may_have_files();
    let publications = publications.iter().filter(is_pushed);
    let packages: Vec<_> = publications
        .map(|publication| publication.package)
        .collect();
    let (environment, selection) = (&session.cargo, &flags.selection);
    Ok(cargo::check_crates(environment, selection, &packages, flags.allow_dirty).await?)
}

/// Returns the `.crate` files of packages, if `--crate` was given.
pub(super) async fn crate_files(
    session: &Session,
    workspace: &Workspace,
    publications: &[&Publication<'_>],
    flags: &Flags,
) -> Result<ExtraFiles, Error> {
    if !flags.crate_file {
        return Ok(ExtraFiles::new());
    }
    let packages: Vec<_> = publications
        .iter()
        .map(|publication| publication.package)
        .collect();
    let options = CrateOptions {
        allow_dirty: flags.allow_dirty,
        output: (!flags.no_build).then(|| files::output_options(session)),
    };
    let (environment, selection) = (&session.cargo, &flags.selection);
    let files = cargo::crate_files(environment, workspace, selection, &packages, options).await?;
    Ok(files
        .into_iter()
        .map(|(id, file)| (id, vec![file]))
        .collect())
}

/// Adds the additional files of each package to the package's build output for every target.
pub(super) fn add_to_outputs(outputs: &mut [BuildOutput], extras: &[ExtraFiles]) {
    for package in outputs.iter_mut().flat_map(|output| &mut output.packages) {
        for files in extras.iter().filter_map(|extra| extra.get(&package.id)) {
            package.files.extend(files.iter().cloned());
        }
    }
}
