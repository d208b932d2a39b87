//! The packages that are to be published, and what their manifests and the flags make of them.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Package, Target};
use oci_package::{FileKind, NameTemplate, ReleaseTag};
use oci_registry::{Annotations, Location};

use super::destination::{self, Asked, Destination};
use super::targets::Declared;
use super::{Flags, files};
use crate::cargo::{self, Output, Settings, Workspace};
use crate::report::Error;
use crate::session::Session;

/// A package that is to be published, and how.
pub(super) struct Subject<'a> {
    pub(super) package: &'a Package,
    pub(super) destination: Destination,
    pub(super) names: NameTemplate,
    pub(super) annotations: Annotations,
    pub(super) kinds: BTreeSet<FileKind>,
    pub(super) floating: bool,
    /// The targets of the release, where they are declared.
    pub(super) declared: Option<Declared>,
    /// Patterns of further files, relative to the package.
    pub(super) include: Vec<String>,
    /// Whether the files become one tar.
    pub(super) archive: bool,
}

impl Subject<'_> {
    /// Whether cargo can write files of the wanted kinds for the package at all.
    pub(super) fn may_have_files(&self) -> bool {
        let wants = |kind: &FileKind| self.kinds.contains(kind);
        let of_target = |target: &Target| {
            let kinds: Vec<_> = if target.is_example() {
                vec![FileKind::Example]
            } else {
                files::kinds_of(target).collect()
            };
            let is_linked = |kind: &FileKind| !matches!(kind, FileKind::Rlib | FileKind::Staticlib);
            kinds.iter().any(wants)
                || kinds.iter().any(is_linked)
                    && (wants(&FileKind::Wasm) || wants(&FileKind::Debuginfo))
        };
        self.package.targets.iter().any(of_target)
    }

    /// Whether a build that selects no cargo target certainly writes files of the wanted kinds for the package.
    pub(super) fn has_files(&self) -> bool {
        let mut targets = self.package.targets.iter();
        targets.any(|target| {
            target.required_features.is_empty()
                && files::kinds_of(target).any(|kind| self.kinds.contains(&kind))
        })
    }

    /// Whether the package is one of those with files.
    pub(super) fn is_among(&self, outputs: &[Output]) -> bool {
        let mut packages = outputs.iter().flat_map(|output| &output.packages);
        packages.any(|package| package.id == self.package.id)
    }
}

/// The packages that are to be published. Everything that the manifests and flags get wrong about them is found here.
pub(super) fn select<'a>(
    session: &Session,
    workspace: &'a Workspace,
    flags: &Flags,
) -> Result<Vec<Subject<'a>>, Error> {
    let selected = workspace.select(&flags.selection)?;
    let mut subjects = Vec::new();
    for package in selected {
        let settings = Settings::of(workspace, package)?;
        if settings.publishes() {
            subjects.push((package, settings));
        } else {
            session.reporter.note(format_args!(
                "`{}` is not to be published (`publish = false`)",
                package.name
            ));
        }
    }
    if subjects.is_empty() {
        return Err(
            Error::usage("nothing to push: no selected package is to be published")
                .help("select others with `--package`, or remove `publish = false`"),
        );
    }
    if !flags.file.is_empty() || flags.reference.is_some() {
        let why = if flags.file.is_empty() {
            "a reference"
        } else {
            "`--file`"
        };
        check_single(&subjects, why)?;
    }
    subjects
        .into_iter()
        .map(|(package, settings)| subject(session, workspace, package, &settings, flags))
        .collect()
}

fn check_single(subjects: &[(&Package, Settings)], why: &str) -> Result<(), Error> {
    if subjects.len() == 1 {
        return Ok(());
    }
    let names: Vec<_> = subjects
        .iter()
        .map(|(package, _)| format!("`{}`", package.name))
        .collect();
    let found = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Err(Error::usage(format!(
        "failed to choose a package: {why} is for exactly one, and selected are: {found}"
    ))
    .help("select one with `--package NAME`"))
}

fn subject<'a>(
    session: &Session,
    workspace: &Workspace,
    package: &'a Package,
    settings: &Settings,
    flags: &Flags,
) -> Result<Subject<'a>, Error> {
    let reference = flags.reference.as_ref();
    let reference = reference
        .map(|reference| session.locate_target(reference))
        .transpose()?;
    let asked = Asked {
        reference: reference.as_ref(),
        registry: flags.registry.as_deref(),
        tags: &flags.tag,
    };
    let destination = destination::of(session, &workspace.root, package, settings, asked)?;
    let names = match &settings.name_template {
        Some(template) => template.parse()?,
        None => NameTemplate::default(),
    };
    let mut annotations: Annotations = settings.annotations.clone();
    annotations.extend(flags.annotation.iter().cloned());
    oci_package::check_annotations(&annotations).map_err(|error| {
        let error = Error::from(error);
        match settings
            .place("annotations")
            .filter(|_| flags.annotation.is_empty())
        {
            Some(place) => error.help(format!("it comes from {place}")),
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
            "failed to let tags follow `{destination}`: only versions are followed"
        ));
        return Err(match settings.place("tags") {
            Some(place) if reference.as_ref().is_none_or(names_no_tag) => {
                error.help(format!("the tag comes from {place}"))
            }
            _ => error.help("leave the tag out, to publish the version"),
        });
    }
    let floating =
        (flags.floating || settings.floating == Some(true)) && is_version && !flags.no_index;
    let declared = Declared::of(session, flags, settings)?;
    if floating && declared.is_none() {
        let name = &package.name;
        return Err(Error::usage(format!(
            "failed to let tags follow `{name}`: the targets of its releases are not declared"
        ))
        .help(
            "declare them as `targets` in `[package.metadata.oci]`, or with `--targets-of-release`: tags follow when all are there",
        ));
    }
    let include = if flags.include.is_empty() {
        settings.include.clone().unwrap_or_default()
    } else {
        flags.include.clone()
    };
    Ok(Subject {
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

fn names_no_tag(reference: &Location) -> bool {
    reference.identifier().is_none()
}

/// Refuses targets that a release was declared not to have.
pub(super) fn check_targets(subjects: &[Subject<'_>], targets: &[String]) -> Result<(), Error> {
    for subject in subjects {
        let Some(declared) = &subject.declared else {
            continue;
        };
        let undeclared = targets
            .iter()
            .find(|target| !declared.targets.contains(target));
        if let Some(target) = undeclared {
            let name = &subject.package.name;
            return Err(Error::usage(format!(
                "failed to push `{name}` for `{target}`: it is not a declared target"
            ))
            .help(format!("add it to {}", declared.place))
            .help(format!(
                "or choose from the declared targets: {}",
                declared.targets.join(", ")
            )));
        }
    }
    Ok(())
}

/// Refuses packages that would replace each other under one tag of one repository.
pub(super) fn check_destinations(subjects: &[&Subject<'_>]) -> Result<(), Error> {
    for (at, subject) in subjects.iter().enumerate() {
        let Destination { repository, tags } = &subject.destination;
        for earlier in &subjects[..at] {
            let other = &earlier.destination;
            let mut shared = tags.iter().filter(|tag| other.tags.contains(tag));
            if let (true, Some(tag)) = (other.repository == *repository, shared.next()) {
                return Err(Error::usage(format!(
                    "failed to push `{}` and `{}`: both would be `{}`",
                    earlier.package.name,
                    subject.package.name,
                    repository.with(tag.index().clone())
                ))
                .help("give each package its own `repository` in `[package.metadata.oci]`, or its own `tags`")
                .help("or select one of them with `--package`"));
            }
        }
    }
    Ok(())
}

/// Warns of packages that share a repository under different tags.
pub(super) fn note_shared_repositories(session: &Session, subjects: &[&Subject<'_>]) {
    let mut repositories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for subject in subjects {
        let repository = subject.destination.repository.to_string();
        let names = repositories.entry(repository).or_default();
        names.push(format!("`{}`", subject.package.name));
    }
    for (repository, names) in repositories.iter().filter(|(_, names)| names.len() > 1) {
        session.reporter.note(format_args!(
            "{} share the repository `{repository}`: without a tag, `install` and `pull` see only the package with the highest version",
            names.join(", ")
        ));
    }
}

/// What the manifest says about a package.
pub(super) fn facts(session: &Session, package: &Package) -> oci_package::Package {
    let mut facts = oci_package::Package::new(package.name.as_str(), package.version.clone());
    facts.description.clone_from(&package.description);
    facts.license.clone_from(&package.license);
    facts.homepage.clone_from(&package.homepage);
    facts.repository = package
        .repository
        .clone()
        .or_else(|| cargo::source_repository(&session.cargo));
    facts.documentation.clone_from(&package.documentation);
    facts.authors.clone_from(&package.authors);
    facts
}
