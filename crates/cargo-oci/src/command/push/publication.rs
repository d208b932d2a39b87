//! Selection of the packages to publish, and their settings from flags and manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cargo_metadata::{Package, Target};
use oci_package::{FileKind, NameTemplate, ReleaseTag};
use oci_registry::{Annotations, Location, Mode};

use super::destination::{self, DestinationArguments, PushDestination};
use super::targets::DeclaredTargets;
use super::{Flags, OpenRepositories, files};
use crate::cargo::{self, BuildOutput, PackageSettings, Workspace};
use crate::report::Error;
use crate::session::Session;

/// Package to publish, with its settings from flags and manifests.
pub(super) struct Publication<'a> {
    pub(super) package: &'a Package,
    pub(super) destination: PushDestination,
    pub(super) names: NameTemplate,
    pub(super) annotations: Annotations,
    pub(super) kinds: BTreeSet<FileKind>,
    pub(super) floating: bool,
    /// Declared targets of the release, if any.
    pub(super) declared: Option<DeclaredTargets>,
    /// Patterns of additional files, relative to the package.
    pub(super) include: Vec<String>,
    /// Whether all files are packed into one tar archive.
    pub(super) archive: bool,
}

impl Publication<'_> {
    /// Whether the package may have files of the selected kinds after a build.
    pub(super) fn may_have_files(&self) -> bool {
        let is_selected = |kind: &FileKind| self.kinds.contains(kind);
        let has_selected_kind = |target: &Target| {
            let kinds: Vec<_> = if target.is_example() {
                vec![FileKind::Example]
            } else {
                files::file_kinds(target).collect()
            };
            let is_linked = |kind: &FileKind| !matches!(kind, FileKind::Rlib | FileKind::Staticlib);
            kinds.iter().any(is_selected)
                || kinds.iter().any(is_linked)
                    && (is_selected(&FileKind::Wasm) || is_selected(&FileKind::Debuginfo))
        };
        self.package.targets.iter().any(has_selected_kind)
    }

    /// Whether the package always has files of the selected kinds after a build, if no flag such as `--bin` or `--lib`
    /// is given.
    pub(super) fn has_files(&self) -> bool {
        let mut targets = self.package.targets.iter();
        targets.any(|target| {
            target.required_features.is_empty()
                && files::file_kinds(target).any(|kind| self.kinds.contains(&kind))
        })
    }

    /// Whether the outputs contain files of the package.
    pub(super) fn has_output_in(&self, outputs: &[BuildOutput]) -> bool {
        let mut packages = outputs.iter().flat_map(|output| &output.packages);
        packages.any(|package| package.id == self.package.id)
    }
}

/// Returns the packages to publish. Fails if a flag or a setting in a manifest is invalid.
pub(super) fn select_publications<'a>(
    session: &Session,
    workspace: &'a Workspace,
    flags: &Flags,
) -> Result<Vec<Publication<'a>>, Error> {
    let selected = workspace.select(&flags.selection)?;
    let mut publications = Vec::new();
    for package in selected {
        let settings = PackageSettings::load(workspace, package)?;
        if settings.is_published() {
            publications.push((package, settings));
        } else {
            session.reporter.note(format_args!(
                "skipping `{}`, because it has `publish = false`",
                package.name
            ));
        }
    }
    if publications.is_empty() {
        return Err(
            Error::usage("nothing to push: all selected packages have `publish = false`")
                .help("select other packages with `--package`, or remove `publish = false`"),
        );
    }
    if !flags.file.is_empty() || flags.reference.is_some() {
        let argument = if flags.file.is_empty() {
            "a reference"
        } else {
            "`--file`"
        };
        check_single(&publications, argument)?;
    }
    publications
        .into_iter()
        .map(|(package, settings)| {
            create_publication(session, workspace, package, &settings, flags)
        })
        .collect()
}

fn check_single(publications: &[(&Package, PackageSettings)], argument: &str) -> Result<(), Error> {
    if publications.len() == 1 {
        return Ok(());
    }
    let names: Vec<_> = publications
        .iter()
        .map(|(package, _)| format!("`{}`", package.name))
        .collect();
    let found = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Err(Error::usage(format!(
        "failed to select a package: {argument} requires exactly one package, but the selected packages are {found}"
    ))
    .help("select one with `--package NAME`"))
}

fn create_publication<'a>(
    session: &Session,
    workspace: &Workspace,
    package: &'a Package,
    settings: &PackageSettings,
    flags: &Flags,
) -> Result<Publication<'a>, Error> {
    let reference = flags.reference.as_ref();
    let reference = reference
        .map(|reference| session.locate_target(reference))
        .transpose()?;
    let arguments = DestinationArguments {
        reference: reference.as_ref(),
        registry: flags.registry.as_deref(),
        tags: &flags.tag,
    };
    let destination = destination::resolve(session, &workspace.root, package, settings, arguments)?;
    let names = match &settings.name_template {
        Some(template) => template.parse()?,
        None => NameTemplate::default(),
    };
    let mut annotations: Annotations = settings.annotations.clone();
    annotations.extend(flags.annotation.iter().cloned());
    oci_package::check_annotations(&annotations).map_err(|error| {
        let error = Error::from(error);
        match settings
            .location("annotations")
            .filter(|_| flags.annotation.is_empty())
        {
            Some(location) => error.help(format!("correct {location}")),
            None => error,
        }
    })?;
    let kinds = match (&flags.kind[..], &settings.kinds) {
        ([], None) => flags.selection.default_kinds(),
        ([], Some(kinds)) => kinds.iter().copied().collect(),
        (kinds, _) => kinds.iter().copied().collect(),
    };
    let is_version = destination.tags.iter().any(ReleaseTag::is_released);
    if flags.floating && !is_version {
        let error = Error::usage(format!(
            "failed to move floating tags to `{destination}`: `--floating` requires a version tag"
        ));
        return Err(match settings.location("tags") {
            Some(location) if reference.as_ref().is_none_or(has_no_identifier) => {
                error.help(format!("correct the tag in {location}"))
            }
            _ => error.help("remove the tag to publish the version"),
        });
    }
    let floating =
        (flags.floating || settings.floating == Some(true)) && is_version && !flags.no_index;
    let declared = DeclaredTargets::from_settings(session, flags, settings)?;
    let include = if flags.include.is_empty() {
        settings.include.clone().unwrap_or_default()
    } else {
        flags.include.clone()
    };
    Ok(Publication {
        package,
        destination,
        names,
        annotations,
        kinds,
        floating,
        declared,
        include,
        archive: flags.archive || settings.archive == Some(true),
    })
}

fn has_no_identifier(reference: &Location) -> bool {
    reference.identifier().is_none()
}

/// Checks that each target is declared, for packages that declare the targets of their releases.
pub(super) fn check_targets(
    publications: &[Publication<'_>],
    targets: &[String],
) -> Result<(), Error> {
    for publication in publications {
        let Some(declared) = &publication.declared else {
            continue;
        };
        let undeclared = targets
            .iter()
            .find(|target| !declared.targets.contains(target));
        if let Some(target) = undeclared {
            let name = &publication.package.name;
            return Err(Error::usage(format!(
                "failed to push `{name}` for `{target}`: the target is not declared"
            ))
            .help(format!("add the target to {}", declared.source))
            .help(format!(
                "or choose from the declared targets: {}",
                declared.targets.join(", ")
            )));
        }
    }
    Ok(())
}

/// Checks that the targets of the release are declared if floating tags are moved.
///
/// A package with one target needs no declaration. It has one target if the push, the stored version and the highest
/// earlier release have no other.
pub(super) async fn check_floating(
    session: &Session,
    publications: &[Publication<'_>],
    repositories: &OpenRepositories,
    targets: &[String],
) -> Result<(), Error> {
    let undeclared = publications
        .iter()
        .filter(|publication| publication.floating && publication.declared.is_none());
    for publication in undeclared {
        let mut all: BTreeSet<_> = targets.iter().cloned().collect();
        if let [target] = targets {
            let destination = &publication.destination;
            let opened = match repositories.get(&publication.package.id) {
                Some(repository) => Arc::clone(&repository.target),
                None => {
                    session
                        .open_target(&destination.repository, Mode::Plan)
                        .await?
                }
            };
            for release in destination.tags.iter().filter(|tag| tag.is_released()) {
                all.extend(oci_package::other_release_targets(&*opened, release, target).await?);
            }
        }
        if all.len() > 1 {
            let list: Vec<_> = all.iter().map(|target| format!("\"{target}\"")).collect();
            let (name, list) = (&publication.package.name, list.join(", "));
            return Err(Error::usage(format!(
                "failed to move floating tags to `{name}`: it has several targets, and they are not declared"
            ))
            .help(format!(
                "add `release-targets = [{list}]` to `[package.metadata.oci]`, or pass `--release-targets`; floating tags move when all declared targets are pushed"
            )));
        }
    }
    Ok(())
}

/// Checks that no two packages have the same repository and tag. The second package would replace the first.
pub(super) fn check_destinations(
    session: &Session,
    publications: &[&Publication<'_>],
) -> Result<(), Error> {
    let directory = &session.cargo.directory;
    for (at, publication) in publications.iter().enumerate() {
        let PushDestination { repository, tags } = &publication.destination;
        for earlier in &publications[..at] {
            let other = &earlier.destination;
            let shared = tags.iter().find(|tag| other.tags.contains(tag));
            if let Some(tag) = shared
                && other.repository.is_same_storage(repository, directory)
            {
                return Err(Error::usage(format!(
                    "failed to push `{}` and `{}`: both would be published as `{}`",
                    earlier.package.name,
                    publication.package.name,
                    repository.with(tag.index().clone())
                ))
                .help("give each package its own `repository` in `[package.metadata.oci]`, or its own `tags`")
                .help("or select one of them with `--package`"));
            }
        }
    }
    Ok(())
}

/// Prints a note if several packages are published in the same repository under different tags.
pub(super) fn note_shared_repositories(session: &Session, publications: &[&Publication<'_>]) {
    let mut repositories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for publication in publications {
        let repository = publication.destination.repository.to_string();
        let names = repositories.entry(repository).or_default();
        names.push(format!("`{}`", publication.package.name));
    }
    for (repository, names) in repositories.iter().filter(|(_, names)| names.len() > 1) {
        session.reporter.note(format_args!(
            "{} share the repository `{repository}`: without a tag, `install` and `pull` select only the package with the highest version",
            names.join(", ")
        ));
    }
}

/// Returns the metadata that a package's manifest contains.
pub(super) fn package_metadata(session: &Session, package: &Package) -> oci_package::Package {
    let mut metadata = oci_package::Package::new(package.name.as_str(), package.version.clone());
    metadata.description.clone_from(&package.description);
    metadata.license.clone_from(&package.license);
    metadata.homepage.clone_from(&package.homepage);
    metadata.repository = package
        .repository
        .clone()
        .or_else(|| cargo::source_repository(&session.cargo));
    metadata.documentation.clone_from(&package.documentation);
    metadata.authors.clone_from(&package.authors);
    metadata
}
