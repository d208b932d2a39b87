//! Destination of a package: repository and tags.
//!
//! The registry is set by the first of these sources that contains one: the reference on the command line,
//! `--registry`, `CARGO_OCI_REGISTRY`, the package metadata, the workspace metadata, the user's `oci.toml`. There is no
//! built-in registry. The default tag is the version.

use std::fmt;
use std::path::Path;

use cargo_metadata::Package;
use oci_package::{ReleaseTag, repository_name};
use oci_registry::{ArchiveFormat, Identifier, Location, Reference, RepositoryName, Tag};

use crate::cargo::PackageSettings;
use crate::report::Error;
use crate::session::Session;

/// Environment variable that sets the registry.
const VARIABLE: &str = "CARGO_OCI_REGISTRY";

/// Repository and tags under which a package is published. The only tag is the version unless other tags are set.
#[derive(Debug, Clone)]
pub(super) struct PushDestination {
    pub(super) repository: Location,
    /// At least one tag, without duplicates.
    pub(super) tags: Vec<ReleaseTag>,
}

impl PushDestination {
    /// Returns the tags under which the index of the package is published.
    pub(super) fn index_tags(&self) -> Vec<Tag> {
        self.tags.iter().map(|tag| tag.index().clone()).collect()
    }

    /// Returns the name of the package under its first tag, for messages.
    pub(super) fn first_name(&self) -> Location {
        match self.tags.first() {
            Some(tag) => self.repository.with(tag.index().clone()),
            None => self.repository.clone(),
        }
    }

    /// Returns the tags under which target manifests are published: one for each pair of target and index tag.
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

/// Formats the destination as `REPOSITORY:TAG, :TAG, …`.
impl fmt::Display for PushDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.whole_repository().fmt(f)?;
        for (at, tag) in self.tags.iter().enumerate() {
            write!(f, "{}:{tag}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Command-line arguments that determine the destination.
#[derive(Debug, Clone, Copy)]
pub(super) struct DestinationArguments<'a> {
    pub(super) reference: Option<&'a Location>,
    pub(super) registry: Option<&'a str>,
    pub(super) tags: &'a [String],
}

/// Resolves the destination of a package from the arguments, the environment, the manifests and `oci.toml`.
pub(super) fn resolve(
    session: &Session,
    root: &Path,
    package: &Package,
    settings: &PackageSettings,
    arguments: DestinationArguments<'_>,
) -> Result<PushDestination, Error> {
    let (repository, tag_in_reference) = match arguments.reference {
        Some(reference) => (reference.whole_repository(), reference.identifier()),
        None => (
            resolve_repository(session, root, package, settings, arguments.registry)?,
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
            "failed to push to `{repository}`: a docker archive cannot contain packages"
        ))
        .help(format!("use `oci-archive:{}`", file.display())));
    }
    let tags = match (tag_in_reference, arguments.tags) {
        (Some(Identifier::Digest(digest)), _) => {
            return Err(Error::usage(format!(
                "failed to push to `{digest}`: a destination cannot have a digest"
            ))
            .help("pass a tag, or omit it to use the version"));
        }
        (Some(Identifier::Tag(_)), [_, ..]) => {
            return Err(Error::usage(
                "failed to select a tag: the tag of the reference conflicts with `--tag`",
            )
            .help("pass all tags with `--tag`"));
        }
        (Some(Identifier::Tag(tag)), []) => parse_tags(package, &[tag.to_string()])?,
        (None, []) => default_tags(package, settings)?,
        (None, tags) => parse_tags(package, tags)?,
    };
    Ok(PushDestination { repository, tags })
}

/// Parses the tags of a package. A tag that is a version must be the version of the package.
fn parse_tags(package: &Package, texts: &[String]) -> Result<Vec<ReleaseTag>, Error> {
    let mut tags = Vec::new();
    for text in texts {
        let tag = ReleaseTag::parse(text)?;
        tag.check_version(&package.version)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

/// Returns the tags that the manifest sets, or else the version as the only tag.
fn default_tags(package: &Package, settings: &PackageSettings) -> Result<Vec<ReleaseTag>, Error> {
    match &settings.tags {
        // An empty list overrides the workspace's tags, so the version is the only tag.
        Some(tags) if !tags.is_empty() => parse_tags(package, tags).map_err(|error| {
            let location = settings.location("tags").unwrap_or_default();
            error.help(format!("correct {location}"))
        }),
        _ => Ok(vec![ReleaseTag::from_version(&package.version)?]),
    }
}

fn resolve_repository(
    session: &Session,
    root: &Path,
    package: &Package,
    settings: &PackageSettings,
    flag: Option<&str>,
) -> Result<Location, Error> {
    let variable = session.environment.var(VARIABLE);
    // A relative directory on the command line is kept relative to the working directory.
    let working_directory = Path::new("");
    let defaults = &session.defaults;
    let (registry, base, origin) = match (flag, variable, &settings.registry, &defaults.registry) {
        (Some(registry), ..) => (registry, working_directory, "`--registry`".to_owned()),
        (None, Some(registry), ..) => (registry, working_directory, format!("`{VARIABLE}`")),
        (None, None, Some(registry), _) => (
            registry.as_str(),
            root,
            settings.location("registry").unwrap_or_default(),
        ),
        (None, None, None, Some(registry)) => (
            registry.as_str(),
            defaults.directory(),
            format!("`registry` in `{}`", defaults.file.display()),
        ),
        (None, None, None, None) => {
            return Err(Error::usage(format!("failed to push `{}`: no registry is configured", package.name))
                .help("pass `--registry ghcr.io/OWNER`, or `--registry oci:DIR` for a directory")
                .help(format!("or set `{VARIABLE}`"))
                .help("or set `registry` in `[workspace.metadata.oci]` or `[package.metadata.oci]` of Cargo.toml, or in `oci.toml` in cargo's home directory"));
        }
    };
    let name = match &settings.repository {
        Some(name) => name
            .to_ascii_lowercase()
            .parse::<RepositoryName>()
            .map_err(|error| {
                Error::from(error).help(format!(
                    "correct {}",
                    settings.location("repository").unwrap_or_default()
                ))
            })?,
        None => repository_name(&package.name)?,
    };
    repository_location(registry, base, &name)
        .map_err(|error| error.help(format!("correct the registry in {origin}")))
}

/// Returns the location of the repository with this name: at a registry with an optional prefix, or in a directory.
fn repository_location(
    registry: &str,
    base: &Path,
    name: &RepositoryName,
) -> Result<Location, Error> {
    if let Some(directory) = registry.strip_prefix("oci:") {
        if directory.is_empty() {
            return Err(Error::usage("invalid registry `oci:`: missing directory"));
        }
        let directory = Path::new(directory).join(name.as_str());
        let location = Location::layout(directory).relative_to(base);
        // The location is written as one line to stdout and to files that CI systems read.
        if location.to_string().contains(char::is_control) {
            return Err(Error::usage(format!(
                "invalid registry `{location}`: the path contains a control character"
            ))
            .help("choose another directory"));
        }
        return Ok(location);
    }
    if registry.contains("-archive:") {
        return Err(Error::usage(format!(
            "invalid registry `{registry}`: an archive can only contain one repository"
        ))
        .help(format!("pass `{registry}` as the reference of one package, or a directory as `--registry oci:DIR`")));
    }
    let registry = registry.trim_end_matches('/').to_ascii_lowercase();
    let reference: Reference = format!("{registry}/{name}").parse()?;
    match reference.identifier() {
        None => Ok(Location::Registry(reference)),
        Some(_) => Err(Error::usage(format!(
            "invalid registry `{registry}`: expected HOST[:PORT][/PREFIX]"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(registry: &str) -> Result<String, String> {
        let name = "widgets".parse().expect("a repository name");
        let found = repository_location(registry, Path::new("/base"), &name);
        found
            .map(|location| location.to_string())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn registry_is_host_with_prefix_or_directory() {
        assert_eq!(location("ghcr.io/Acme/"), Ok("ghcr.io/acme/widgets".into()));
        assert_eq!(
            location("127.0.0.1:5000"),
            Ok("127.0.0.1:5000/widgets".into())
        );
        assert_eq!(location("oci:out/x"), Ok("oci:/base/out/x/widgets".into()));
        assert_eq!(location("oci:/abs"), Ok("oci:/abs/widgets".into()));
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
            assert!(location(bad).is_err(), "{bad}: {:?}", location(bad));
        }
        let name = "widgets".parse().expect("a repository name");
        repository_location("oci:out", Path::new("/a\nb"), &name)
            .expect_err("a line break in the path");
    }
}
