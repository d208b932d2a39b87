//! Where a package goes: which repository, under which tag.
//!
//! Owns the precedence: the reference on the command line, `--registry`, `CARGO_OCI_REGISTRY`, the package's metadata,
//! the workspace's, the user's `oci.toml`. There is no silent default of where; of what it is called there the default is the version.

use std::fmt;
use std::path::Path;

use cargo_metadata::Package;
use oci_package::{ReleaseTag, repository_name};
use oci_registry::{ArchiveFormat, Identifier, Location, Reference, RepositoryName, Tag};

use crate::cargo::Settings;
use crate::report::Error;
use crate::session::Session;

/// The variable that names a registry.
const VARIABLE: &str = "CARGO_OCI_REGISTRY";

/// The repository of a package, and the tags it is published under there: its version's, or others in its place.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) repository: Location,
    /// At least one, none twice.
    pub(super) tags: Vec<ReleaseTag>,
}

impl Destination {
    /// The tags of the indexes.
    pub(super) fn index_tags(&self) -> Vec<Tag> {
        self.tags.iter().map(|tag| tag.index().clone()).collect()
    }

    /// The tags of these targets, under all tags of the destination.
    pub(super) fn target_tags<'t>(
        &self,
        targets: impl IntoIterator<Item = &'t str>,
    ) -> Result<Vec<Tag>, Error> {
        let mut all = Vec::new();
        for target in targets {
            for tag in &self.tags {
                all.push(tag.target(target)?);
            }
        }
        Ok(all)
    }
}

/// `REPOSITORY:TAG`, and further tags behind it.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.whole_repository().fmt(f)?;
        for (at, tag) in self.tags.iter().enumerate() {
            write!(f, "{}:{tag}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What the command line says about the destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) reference: Option<&'a Location>,
    pub(super) registry: Option<&'a str>,
    pub(super) tags: &'a [String],
}

/// Decides where a package goes.
pub(super) fn of(
    session: &Session,
    root: &Path,
    package: &Package,
    settings: &Settings,
    asked: Asked<'_>,
) -> Result<Destination, Error> {
    let (repository, tag_in_reference) = match asked.reference {
        Some(reference) => (reference.whole_repository(), reference.identifier()),
        None => (
            by_registry(session, root, package, settings, asked.registry)?,
            None,
        ),
    };
    if let Location::Archive {
        file,
        format: ArchiveFormat::Docker(_),
        ..
    } = &repository
    {
        return Err(Error::usage(format!(
            "failed to push to `{repository}`: docker archives hold images, and a package is none"
        ))
        .help(format!("write `oci-archive:{}`", file.display())));
    }
    let tags = match (tag_in_reference, asked.tags) {
        (Some(Identifier::Digest(digest)), _) => {
            return Err(Error::usage(format!(
                "failed to push to `{digest}`: a digest follows from the content"
            ))
            .help("name a tag, or nothing for the version"));
        }
        (Some(Identifier::Tag(_)), [_, ..]) => {
            return Err(Error::usage(
                "failed to choose a tag: the reference names one, and so does `--tag`",
            )
            .help("name all tags with `--tag`"));
        }
        (Some(Identifier::Tag(tag)), []) => vec![ReleaseTag::new(tag)?],
        (None, []) => by_settings(package, settings)?,
        (None, tags) => parsed(tags)?,
    };
    Ok(Destination { repository, tags })
}

fn parsed(texts: &[String]) -> Result<Vec<ReleaseTag>, Error> {
    let mut tags = Vec::new();
    for text in texts {
        let tag = ReleaseTag::parse(text)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// The tags that a manifest names in place of the version, else the version's.
fn by_settings(package: &Package, settings: &Settings) -> Result<Vec<ReleaseTag>, Error> {
    match &settings.tags {
        // An empty list takes back what the workspace says.
        Some(tags) if !tags.is_empty() => parsed(tags).map_err(|error| {
            let place = settings.place("tags").unwrap_or_default();
            error.help(format!("it comes from {place}"))
        }),
        _ => Ok(vec![ReleaseTag::from_version(&package.version)?]),
    }
}

fn by_registry(
    session: &Session,
    root: &Path,
    package: &Package,
    settings: &Settings,
    flag: Option<&str>,
) -> Result<Location, Error> {
    let variable = session.environment.var(VARIABLE);
    // A directory on the command line is relative to where the command is typed, and shown as it was typed.
    let here = Path::new("");
    let defaults = &session.defaults;
    let (registry, base, place) = match (flag, variable, &settings.registry, &defaults.registry) {
        (Some(registry), ..) => (registry, here, "`--registry`".to_owned()),
        (None, Some(registry), ..) => (registry, here, format!("`{VARIABLE}`")),
        (None, None, Some(registry), _) => (
            registry.as_str(),
            root,
            settings.place("registry").unwrap_or_default(),
        ),
        (None, None, None, Some(registry)) => (
            registry.as_str(),
            defaults.directory(),
            format!("`registry` in `{}`", defaults.file.display()),
        ),
        (None, None, None, None) => {
            return Err(Error::usage(format!("failed to choose where to push `{}`: no registry is configured", package.name))
                .help("name one with `--registry ghcr.io/OWNER`, or a directory with `--registry oci:DIR`")
                .help(format!("or set `{VARIABLE}`"))
                .help("or set `registry` in `[workspace.metadata.oci]` or `[package.metadata.oci]` of Cargo.toml, or in `oci.toml` of cargo's home"));
        }
    };
    let name = match &settings.repository {
        Some(name) => name
            .to_ascii_lowercase()
            .parse::<RepositoryName>()
            .map_err(|error| {
                Error::from(error).help(format!(
                    "it comes from {}",
                    settings.place("repository").unwrap_or_default()
                ))
            })?,
        None => repository_name(&package.name)?,
    };
    at(registry, base, &name)
        .map_err(|error| error.help(format!("the registry comes from {place}")))
}

/// The repository of this name at a registry, which may have a prefix, or in a directory.
fn at(registry: &str, base: &Path, name: &RepositoryName) -> Result<Location, Error> {
    if let Some(directory) = registry.strip_prefix("oci:") {
        if directory.is_empty() {
            return Err(Error::usage(
                "failed to use the registry `oci:`: the directory is missing",
            ));
        }
        let directory = Path::new(directory).join(name.as_str());
        let location = Location::layout(directory).relative_to(base);
        // The name is one line of stdout and of files that CI systems read.
        if location.to_string().contains(char::is_control) {
            return Err(Error::usage(format!(
                "failed to use the registry `{location}`: the path contains a control character"
            ))
            .help("choose another directory"));
        }
        return Ok(location);
    }
    if registry.contains("-archive:") {
        return Err(Error::usage(format!(
            "failed to use the registry `{registry}`: an archive holds one repository"
        ))
        .help(format!("write `{registry}` in place of `--registry`, as the reference of one package, or a directory, `oci:DIR`")));
    }
    let registry = registry.trim_end_matches('/').to_ascii_lowercase();
    let reference: Reference = format!("{registry}/{name}").parse()?;
    match reference.identifier() {
        None => Ok(Location::Registry(reference)),
        Some(_) => Err(Error::usage(format!(
            "failed to use the registry `{registry}`: it names more than a registry"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(registry: &str) -> Result<String, String> {
        let name = "widgets".parse().expect("a repository name");
        let found = at(registry, Path::new("/base"), &name);
        found
            .map(|location| location.to_string())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn registries_have_prefixes_and_may_be_directories() {
        assert_eq!(place("ghcr.io/Acme/"), Ok("ghcr.io/acme/widgets".into()));
        assert_eq!(place("127.0.0.1:5000"), Ok("127.0.0.1:5000/widgets".into()));
        assert_eq!(place("oci:out/x"), Ok("oci:/base/out/x/widgets".into()));
        assert_eq!(place("oci:/abs"), Ok("oci:/abs/widgets".into()));
        for bad in [
            "",
            "acme",
            "oci:",
            "oci:x\n",
            "ghcr.io/a\nb",
            "oci-archive:x.tar",
            "https://ghcr.io",
            "ghcr.io/acme:tag",
        ] {
            assert!(place(bad).is_err(), "{bad}: {:?}", place(bad));
        }
        let name = "widgets".parse().expect("a repository name");
        at("oci:out", Path::new("/a\nb"), &name).expect_err("a line end above the directory");
    }
}
