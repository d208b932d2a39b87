//! Where artifacts live: [`Location`] names a repository of a registry, a layout directory or an archive.
//!
//! Owns the forms `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE`, and the names of images within the last. It opens
//! nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::name::{Problem, RegistryName, RepositoryName, Tag, failure, no_help, text_newtype};
use super::{Identifier, Reference, is_registry};
use crate::digest::Digest;

/// The name of an image in a docker archive, without its tag: `widgets`, `acme/widgets`, `ghcr.io/acme/widgets`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName(Box<str>);

text_newtype!(ImageName, "image name", check_image_name, no_help);

impl ImageName {
    /// The name as docker knows it, however short it is written: two that are one to docker are one here.
    pub(crate) fn full(&self) -> String {
        let known = Reference::from_docker(&self.0);
        known.map_or_else(
            |_| self.0.to_string(),
            |known| known.whole_repository().to_string(),
        )
    }
}

fn check_image_name(text: &str) -> Result<String, Problem> {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => {
            let registry = RegistryName::check(first)?;
            let shift = first.len() + 1;
            let repository = RepositoryName::check(rest)
                .map_err(|(problem, span)| (problem, span.start + shift..span.end + shift))?;
            Ok(format!("{registry}/{repository}"))
        }
        _ => Ok(RepositoryName::check(text)?.to_string()),
    }
}

/// What kind of archive a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// A tar of an OCI image layout.
    Oci,
    /// What `docker save` writes: images with names. Tags are those of this name; of all names, when none is given.
    Docker(Option<ImageName>),
}

/// Where artifacts live: a repository of a registry, an OCI image layout directory, or an archive.
///
/// A layout is written `oci:DIR`, `oci:DIR:TAG` or `oci:DIR@DIGEST`, a tar of one `oci-archive:FILE`,
/// `oci-archive:FILE:TAG` or `oci-archive:FILE@DIGEST`. The archives of `docker save` are written `docker-archive:FILE`,
/// `docker-archive:FILE:NAME`, `docker-archive:FILE:NAME:TAG`, or `docker-archive:FILE::TAG` where there is but one name;
/// each of them may end with `@DIGEST` in place of its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A repository of a registry.
    Registry(Reference),
    /// An OCI image layout directory.
    Layout {
        /// The directory as it was written.
        directory: PathBuf,
        /// What picks a manifest in it, when given.
        identifier: Option<Identifier>,
    },
    /// An archive.
    Archive {
        /// The file as it was written.
        file: PathBuf,
        /// What kind of archive it is.
        format: ArchiveFormat,
        /// What picks a manifest in it, when given.
        identifier: Option<Identifier>,
    },
}

impl Location {
    /// What picks the manifest, when given.
    pub fn identifier(&self) -> Option<Identifier> {
        match self {
            Self::Registry(reference) => reference.identifier(),
            Self::Layout { identifier, .. } | Self::Archive { identifier, .. } => {
                identifier.clone()
            }
        }
    }

    /// The same place with this identifier instead of its own.
    #[must_use]
    pub fn with(&self, identifier: impl Into<Identifier>) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.with(identifier)),
            _ => self.clone().picking(Some(identifier.into())),
        }
    }

    /// The same place without an identifier.
    #[must_use]
    pub fn whole_repository(&self) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.whole_repository()),
            _ => self.clone().picking(None),
        }
    }

    fn picking(mut self, picked: Option<Identifier>) -> Self {
        if let Self::Layout { identifier, .. } | Self::Archive { identifier, .. } = &mut self {
            *identifier = picked;
        }
        self
    }

    /// The same place, a relative path of a layout or archive being meant from `base`.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        if let Self::Layout {
            directory: path, ..
        }
        | Self::Archive { file: path, .. } = &mut self
        {
            *path = base.join(&*path);
        }
        self
    }
}

/// What stands before a place that is no registry.
const SCHEMES: [&str; 3] = ["oci", "oci-archive", "docker-archive"];

impl FromStr for Location {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let given = |path: &str, problem| {
            if path.is_empty() {
                return Err(failure("location", text, (problem, 0..text.len()), None));
            }
            Ok(PathBuf::from(path))
        };
        // As lists of what is installed and CI write the name of something in a registry.
        if let Some(rest) = text.strip_prefix("oci://")
            && rest.split('/').next().is_some_and(is_registry)
        {
            let problem = "a reference has no scheme";
            let help = format!("write `{}`", rest.escape_debug());
            return Err(failure("location", text, (problem, 0..6), Some(help)));
        }
        if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') {
            let problem = "the registry is missing";
            let help = format!("write `oci:{}` for a layout directory", text.escape_debug());
            return Err(failure(
                "location",
                text,
                (problem, 0..text.len()),
                Some(help),
            ));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            let (directory, identifier) = split_identifier(rest);
            return Ok(Self::Layout {
                directory: given(directory, "the directory after `oci:` is missing")?,
                identifier,
            });
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let (file, identifier) = split_identifier(rest);
            return Ok(Self::Archive {
                file: given(file, "the file after `oci-archive:` is missing")?,
                format: ArchiveFormat::Oci,
                identifier,
            });
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            let (file, name, identifier) = split_docker(rest)
                .map_err(|problem| failure("location", text, (problem, 0..text.len()), None))?;
            return Ok(Self::Archive {
                file: given(file, "the file after `docker-archive:` is missing")?,
                format: ArchiveFormat::Docker(name),
                identifier,
            });
        }
        let reference: Reference = text.parse()?;
        // Printed, in lower case, it would be read as another place.
        let host = reference.registry().host();
        if reference.registry().port().is_some() && SCHEMES.contains(&host) {
            let problem = "this is no registry: layouts and archives are written in lower case";
            let help = format!("write `{host}:{}`", &text[host.len() + 1..]);
            return Err(failure(
                "location",
                text,
                (problem, 0..host.len()),
                Some(help),
            ));
        }
        Ok(Self::Registry(reference))
    }
}

/// Splits `PATH@DIGEST` and `PATH:TAG`; what is neither a digest nor a tag belongs to the path.
fn split_identifier(text: &str) -> (&str, Option<Identifier>) {
    if let (path, Some(digest)) = split_digest(text) {
        return (path, Some(digest.into()));
    }
    if let Some((path, tag)) = text.rsplit_once(':')
        && let Ok(tag) = tag.parse::<Tag>()
    {
        return (path, Some(tag.into()));
    }
    (text, None)
}

fn split_digest(text: &str) -> (&str, Option<Digest>) {
    if let Some((path, digest)) = text.rsplit_once('@')
        && let Ok(digest) = digest.parse::<Digest>()
    {
        return (path, Some(digest));
    }
    (text, None)
}

/// File, name and identifier.
type DockerParts<'a> = (&'a str, Option<ImageName>, Option<Identifier>);

/// Splits `FILE:NAME:TAG` and its shorter forms at the first colon after which there is nothing but a name and a tag.
fn split_docker(text: &str) -> Result<DockerParts<'_>, &'static str> {
    let (text, digest) = split_digest(text);
    let digest = digest.map(Identifier::Digest);
    for (colon, _) in text.match_indices(':') {
        let (file, rest) = (&text[..colon], &text[colon + 1..]);
        if let Ok(name) = rest.parse() {
            return Ok((file, Some(name), digest));
        }
        if let Some((name, tag)) = rest.rsplit_once(':')
            && let Ok(tag) = tag.parse::<Tag>()
        {
            let name = match name {
                "" => Some(None),
                name => name.parse().ok().map(Some),
            };
            // Of the two one would be dropped, and what is left could be read in another way.
            match name {
                Some(_) if digest.is_some() => {
                    return Err("there are a tag and a digest: give one");
                }
                Some(name) => return Ok((file, name, Some(tag.into()))),
                None => {}
            }
        }
    }
    Ok((text, None, digest))
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout {
                directory,
                identifier,
            } => {
                write!(f, "oci:{}", directory.display())?;
                identifier
            }
            Self::Archive {
                file,
                format: ArchiveFormat::Oci,
                identifier,
            } => {
                write!(f, "oci-archive:{}", file.display())?;
                identifier
            }
            Self::Archive {
                file,
                format: ArchiveFormat::Docker(name),
                identifier,
            } => {
                write!(f, "docker-archive:{}", file.display())?;
                match (name, identifier) {
                    (Some(name), _) => write!(f, ":{name}")?,
                    (None, Some(Identifier::Tag(_))) => f.write_str(":")?,
                    (None, _) => {}
                }
                identifier
            }
        };
        match identifier {
            Some(Identifier::Tag(tag)) => write!(f, ":{tag}"),
            Some(Identifier::Digest(digest)) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn layouts_split_at_what_can_be_a_tag() {
        let directory = |text: &str| match text.parse::<Location>().unwrap() {
            Location::Layout {
                directory,
                identifier,
            } => (
                directory.to_string_lossy().into_owned(),
                identifier.map(|i| i.to_string()),
            ),
            _ => unreachable!("not a layout"),
        };
        assert_eq!(directory("oci:a/b"), ("a/b".into(), None));
        assert_eq!(
            directory("oci:a/b:1.2__x"),
            ("a/b".into(), Some("1.2__x".into()))
        );
        assert_eq!(directory(r"oci:C:\dir"), (r"C:\dir".into(), None));
        assert_eq!(
            directory(&format!("oci:a@{DIGEST}")),
            ("a".into(), Some(DIGEST.into()))
        );
        for shouted in ["OCI:443/x", "Oci-Archive:1/b:1", "docker-ARCHIVE:5/x"] {
            let error = shouted.parse::<Location>().expect_err(shouted);
            assert_eq!(error.span(), Some(0..shouted.find(':').unwrap()));
            assert!(error.help()[0].contains(&shouted[shouted.find(':').unwrap()..]));
        }
        assert!("oci:".parse::<Location>().is_err());
        assert!("oci::tag".parse::<Location>().is_err());
    }

    #[test]
    fn archives_split_at_what_can_be_a_name() {
        let tar = |text: &str| match text.parse::<Location>().expect(text) {
            Location::Archive {
                file,
                format,
                identifier,
            } => {
                let name = match format {
                    ArchiveFormat::Oci => "oci".to_owned(),
                    ArchiveFormat::Docker(name) => {
                        name.map_or("docker".to_owned(), |name| name.full())
                    }
                };
                let identifier = identifier.map(|i| i.to_string()).unwrap_or_default();
                (file.to_string_lossy().into_owned(), name, identifier)
            }
            _ => unreachable!("not an archive"),
        };
        let at = |digest: &str| format!("{digest}@{DIGEST}");
        for (text, file, name, identifier) in [
            ("oci-archive:a/b.tar", "a/b.tar", "oci", ""),
            ("oci-archive:b.tar:1.0", "b.tar", "oci", "1.0"),
            (&at("oci-archive:b.tar"), "b.tar", "oci", DIGEST),
            ("docker-archive:b.tar", "b.tar", "docker", ""),
            ("docker-archive:b.tar::1.0", "b.tar", "docker", "1.0"),
            (&at("docker-archive:b.tar"), "b.tar", "docker", DIGEST),
            (
                "docker-archive:b.tar:x:1.0",
                "b.tar",
                "docker.io/library/x",
                "1.0",
            ),
            ("docker-archive:b.tar:x/y", "b.tar", "docker.io/x/y", ""),
            (
                "docker-archive:b.tar:docker.io/x:1",
                "b.tar",
                "docker.io/library/x",
                "1",
            ),
            (
                "docker-archive:b.tar:index.docker.io/x/y:1",
                "b.tar",
                "docker.io/x/y",
                "1",
            ),
            (
                "docker-archive:b.tar:a.b",
                "b.tar",
                "docker.io/library/a.b",
                "",
            ),
            (
                &at("docker-archive:b.tar:x/y"),
                "b.tar",
                "docker.io/x/y",
                DIGEST,
            ),
            (
                "docker-archive:b.tar:localhost:5000/x:1",
                "b.tar",
                "localhost:5000/x",
                "1",
            ),
            (
                r"docker-archive:C:\b.tar:ghcr.io/x:1",
                r"C:\b.tar",
                "ghcr.io/x",
                "1",
            ),
            ("docker-archive:b.tar:X Y", "b.tar:X Y", "docker", ""),
        ] {
            let expected = (file.to_owned(), name.to_owned(), identifier.to_owned());
            assert_eq!(tar(text), expected, "{text}");
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), text);
            assert_eq!(location.whole_repository().identifier(), None);
        }
        for text in [
            "oci-archive:",
            "docker-archive:",
            "oci-archive::1",
            "docker-archive::x:1",
            &at("docker-archive:b.tar:x:1"),
            &at("docker-archive:b.tar::1"),
            &at("docker-archive:b.tar:y:x:1"),
        ] {
            let error = text.parse::<Location>().expect_err(text);
            assert_eq!(error.span(), Some(0..text.len()));
        }
        assert_eq!(
            "docker-archive:b.tar:x:1"
                .parse::<Location>()
                .unwrap()
                .relative_to(Path::new("/base")),
            "docker-archive:/base/b.tar:x:1".parse().unwrap()
        );
    }

    proptest! {
        #[test]
        fn locations_of_files_print_as_they_were_written(text in "(oci|oci-archive|docker-archive):[a-c./:@]{1,20}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*") {
            let _ = text.parse::<Location>();
        }
    }
}
