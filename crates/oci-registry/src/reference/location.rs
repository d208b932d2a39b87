//! Locations of artifacts: a repository of a registry, a layout directory or an archive.
//!
//! Parses the forms `oci:DIR`, `oci-archive:FILE` and `docker-archive:FILE`, and the names of images in docker
//! archives. Parsing opens no files. The position at which the directory in `oci:DIR:NAME` ends depends on the files
//! that exist, so [`LocationText`] keeps path and name together until [`LocationText::locate`] separates them.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::full::Reference;
use super::identifier::Identifier;
use super::name::{
    Problem, RegistryName, RepositoryName, Tag, is_registry, no_help, parse_error, text_newtype,
};
use crate::digest::Digest;

/// Name of an image in a docker archive, without its tag: `widgets`, `acme/widgets`, `ghcr.io/acme/widgets`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName(Box<str>);

text_newtype!(ImageName, "image name", check_image_name, no_help);

impl ImageName {
    /// Returns the name in docker's full form. Two names that docker treats as the same have the same full form.
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

/// Format of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// Tar file of an OCI image layout.
    Oci,
    /// Archive of `docker save`, which contains named images. If a name is given, the archive has only the tags of this
    /// image. Otherwise it has the tags of all images.
    Docker(Option<ImageName>),
}

/// Returns an absolute path without `.` and `..`. Symbolic links are resolved in the part that exists.
fn resolve_path(base: &Path, path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            _ => {
                resolved.push(component);
                if let Ok(canonical) = resolved.canonicalize() {
                    resolved = canonical;
                }
            }
        }
    }
    resolved
}

/// Location of artifacts: a repository of a registry, an OCI image layout directory, or an archive.
///
/// The text form is [`LocationText`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Repository of a registry.
    Registry(Reference),
    /// OCI image layout directory.
    Layout {
        /// Directory, as written in the text form.
        directory: PathBuf,
        /// Tag, if there is one.
        tag: Option<Tag>,
        /// Digest, if there is one.
        digest: Option<Digest>,
    },
    /// Archive.
    Archive {
        /// File, as written in the text form.
        file: PathBuf,
        /// Format of the archive.
        format: ArchiveFormat,
        /// Tag, if there is one.
        tag: Option<Tag>,
        /// Digest, if there is one.
        digest: Option<Digest>,
    },
}

impl Location {
    /// Creates the location of a whole layout.
    pub fn layout(directory: impl Into<PathBuf>) -> Self {
        Self::Layout {
            directory: directory.into(),
            tag: None,
            digest: None,
        }
    }

    /// Creates the location of a whole archive.
    pub fn archive(file: impl Into<PathBuf>, format: ArchiveFormat) -> Self {
        Self::Archive {
            file: file.into(),
            format,
            tag: None,
            digest: None,
        }
    }

    /// Returns the tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Registry(reference) => reference.tag(),
            Self::Layout { tag, .. } | Self::Archive { tag, .. } => tag.as_ref(),
        }
    }

    /// Returns the digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Registry(reference) => reference.digest(),
            Self::Layout { digest, .. } | Self::Archive { digest, .. } => digest.as_ref(),
        }
    }

    /// Returns the digest, or else the tag. Returns `None` if there is neither.
    pub fn identifier(&self) -> Option<Identifier> {
        let digest = self.digest().cloned().map(Identifier::Digest);
        digest.or_else(|| self.tag().cloned().map(Identifier::Tag))
    }

    /// Returns the same location with this identifier.
    #[must_use]
    pub fn with(&self, identifier: impl Into<Identifier>) -> Self {
        match (self, identifier.into()) {
            (Self::Registry(reference), identifier) => Self::Registry(reference.with(identifier)),
            (_, Identifier::Tag(tag)) => self.clone().with_tag_and_digest(Some(tag), None),
            (_, Identifier::Digest(digest)) => self.clone().with_tag_and_digest(None, Some(digest)),
        }
    }

    /// Returns the same location with this digest. A registry reference also gets the tag. The digest determines the
    /// content.
    #[must_use]
    pub fn with_tagged_digest(&self, tag: &Tag, digest: Digest) -> Self {
        match self {
            Self::Registry(reference) => {
                Self::Registry(reference.with_tag_and_digest(tag.clone(), digest))
            }
            Self::Layout { .. } | Self::Archive { .. } => self.with(digest),
        }
    }

    /// Whether both locations are the same repository, layout or archive. Tags and digests are not compared.
    ///
    /// The names of Docker Hub count as equal. Relative paths are resolved against `base`, and symbolic links are
    /// resolved in existing paths.
    pub fn is_same_storage(&self, other: &Self, base: &Path) -> bool {
        match (self, other) {
            (Self::Registry(one), Self::Registry(other)) => {
                one.registry().api_host() == other.registry().api_host()
                    && one.api_name() == other.api_name()
            }
            (
                Self::Layout { directory, .. },
                Self::Layout {
                    directory: other, ..
                },
            ) => resolve_path(base, directory) == resolve_path(base, other),
            (
                Self::Archive { file, format, .. },
                Self::Archive {
                    file: other,
                    format: other_format,
                    ..
                },
            ) => format == other_format && resolve_path(base, file) == resolve_path(base, other),
            _ => false,
        }
    }

    /// Returns the same location, with neither tag nor digest.
    #[must_use]
    pub fn whole_repository(&self) -> Self {
        match self {
            Self::Registry(reference) => Self::Registry(reference.whole_repository()),
            _ => self.clone().with_tag_and_digest(None, None),
        }
    }

    /// Replaces the tag and the digest of a layout or archive.
    pub(crate) fn with_tag_and_digest(
        mut self,
        new_tag: Option<Tag>,
        new_digest: Option<Digest>,
    ) -> Self {
        if let Self::Layout { tag, digest, .. } | Self::Archive { tag, digest, .. } = &mut self {
            (*tag, *digest) = (new_tag, new_digest);
        }
        self
    }

    /// Resolves a relative path of a layout or archive against `base`.
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

/// Text form of a location.
///
/// * A repository of a registry is written as a [`Reference`].
/// * A layout is `oci:DIR`, and a tar file of a layout is `oci-archive:FILE`. Each may be followed by `:NAME`,
///   `@DIGEST` or both. DIR is the shortest part, up to a colon or the end, that is an existing layout. If there is
///   none, DIR is the part before the last colon. FILE is determined in the same way. NAME is the full name of an
///   entry, or its tag.
/// * An archive of `docker save` is `docker-archive:FILE`, `docker-archive:FILE:NAME`, `docker-archive:FILE:NAME:TAG`,
///   or `docker-archive:FILE::TAG` if all its images have the same name. Each form may end with `@DIGEST` instead of a
///   tag.
///
/// Parsing considers the text only. [`LocationText::locate`] separates path and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationText(pub(crate) ParsedLocation);

/// Parsed form of a location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParsedLocation {
    /// Location whose path is known.
    Complete(Location),
    Layout(PathAndName),
    /// Tar file of a layout.
    Archive(PathAndName),
}

/// Path and name that are not separated yet, and the digest that follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathAndName {
    text: Box<str>,
    pub(crate) digest: Option<Digest>,
}

impl PathAndName {
    fn parse(text: &str, missing: &'static str) -> Result<Self, &'static str> {
        let (text, digest) = split_digest(text);
        if text.is_empty() || text.starts_with(':') {
            return Err(missing);
        }
        let text = text.into();
        Ok(Self { text, digest })
    }

    /// Separates path and name. The path is the shortest part, up to a colon or the end, that exists. If there is none,
    /// the path is the part before the last colon.
    pub(crate) fn split(&self, exists: impl Fn(&Path) -> bool) -> (&Path, Option<&str>) {
        let text = &*self.text;
        // The colon after a drive letter belongs to the path.
        let is_drive = matches!(
            text.as_bytes(),
            [b'a'..=b'z' | b'A'..=b'Z', b':', b'\\' | b'/', ..]
        );
        let colons = text.match_indices(':').map(|(at, _)| at);
        let colons: Vec<_> = colons.skip(usize::from(is_drive)).collect();
        let parts = |at: usize| (Path::new(&text[..at]), Some(&text[at + 1..]));
        let whole = (Path::new(text), None);
        let mut candidates = colons.iter().map(|at| parts(*at)).chain([whole]);
        let existing = candidates.find(|(path, _)| exists(path));
        let last = || colons.last().map(|at| parts(*at));
        existing.or_else(last).unwrap_or(whole)
    }
}

impl LocationText {
    /// Returns the registry, if the location is a repository of a registry.
    pub fn registry(&self) -> Option<&RegistryName> {
        match &self.0 {
            ParsedLocation::Complete(Location::Registry(reference)) => Some(reference.registry()),
            _ => None,
        }
    }
}

impl From<Reference> for LocationText {
    fn from(reference: Reference) -> Self {
        Self(ParsedLocation::Complete(Location::Registry(reference)))
    }
}

impl fmt::Display for LocationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, written) = match &self.0 {
            ParsedLocation::Complete(location) => return location.fmt(f),
            ParsedLocation::Layout(written) => ("oci", written),
            ParsedLocation::Archive(written) => ("oci-archive", written),
        };
        write!(f, "{scheme}:{}", written.text)?;
        match &written.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Schemes of locations other than registries.
const SCHEMES: [&str; 3] = ["oci", "oci-archive", "docker-archive"];

impl FromStr for LocationText {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        if let Some((at, character)) = text.char_indices().find(|(_, one)| one.is_control()) {
            let problem = "a location must not contain control characters";
            let span = at..at + character.len_utf8();
            return Err(parse_error("location", text, (problem, span), None));
        }
        // Helm, Flux and other tools write a reference as `oci://REGISTRY/REPOSITORY`.
        if let Some(rest) = text.strip_prefix("oci://")
            && rest.split('/').next().is_some_and(is_registry)
        {
            let problem = "a reference has no scheme";
            let help = format!("write `{}`", rest.escape_debug());
            return Err(parse_error("location", text, (problem, 0..6), Some(help)));
        }
        if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') {
            let problem = "the registry is missing";
            let help = format!("write `oci:{}` for a layout directory", text.escape_debug());
            return Err(parse_error(
                "location",
                text,
                (problem, 0..text.len()),
                Some(help),
            ));
        }
        let whole = |problem| parse_error("location", text, (problem, 0..text.len()), None);
        if let Some(rest) = text.strip_prefix("oci:") {
            let written = PathAndName::parse(rest, "the directory after `oci:` is missing");
            return written
                .map(|written| Self(ParsedLocation::Layout(written)))
                .map_err(whole);
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            let written = PathAndName::parse(rest, "the file after `oci-archive:` is missing");
            return written
                .map(|written| Self(ParsedLocation::Archive(written)))
                .map_err(whole);
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return parse_docker_archive(rest)
                .map(|location| Self(ParsedLocation::Complete(location)))
                .map_err(whole);
        }
        let reference: Reference = text.parse()?;
        // Printed in lower case, the reference would be parsed as a layout or archive.
        let host = reference.registry().host();
        if reference.registry().port().is_some() && SCHEMES.contains(&host) {
            let problem =
                "this is not a registry: the schemes of layouts and archives are lower case";
            let help = format!("write `{host}:{}`", &text[host.len() + 1..]);
            return Err(parse_error(
                "location",
                text,
                (problem, 0..host.len()),
                Some(help),
            ));
        }
        Ok(reference.into())
    }
}

fn split_digest(text: &str) -> (&str, Option<Digest>) {
    if let Some((path, digest)) = text.rsplit_once('@')
        && let Ok(digest) = digest.parse::<Digest>()
    {
        return (path, Some(digest));
    }
    (text, None)
}

/// Parses `FILE:NAME:TAG` and its shorter forms. FILE ends at the first colon after which the text is a valid
/// `NAME`, `NAME:TAG` or `:TAG`.
fn parse_docker_archive(text: &str) -> Result<Location, &'static str> {
    let (text, digest) = split_digest(text);
    let at = |file: &str, name, tag| {
        if file.is_empty() {
            return Err("the file after `docker-archive:` is missing");
        }
        let archive = Location::archive(file, ArchiveFormat::Docker(name));
        Ok(archive.with_tag_and_digest(tag, digest.clone()))
    };
    for (colon, _) in text.match_indices(':') {
        let (file, rest) = (&text[..colon], &text[colon + 1..]);
        if let Ok(name) = rest.parse() {
            return at(file, Some(name), None);
        }
        if let Some((name, tag)) = rest.rsplit_once(':')
            && let Ok(tag) = tag.parse::<Tag>()
        {
            let name = match name {
                "" => Some(None),
                name => name.parse().ok().map(Some),
            };
            match name {
                // The digest could contradict the tag.
                Some(_) if digest.is_some() => {
                    return Err("a docker archive must not have both a tag and a digest");
                }
                Some(name) => return at(file, name, Some(tag)),
                None => {}
            }
        }
    }
    at(text, None, None)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout { directory, .. } => write!(f, "oci:{}", directory.display())?,
            Self::Archive {
                file, format, tag, ..
            } => match format {
                ArchiveFormat::Oci => write!(f, "oci-archive:{}", file.display())?,
                ArchiveFormat::Docker(name) => {
                    write!(f, "docker-archive:{}", file.display())?;
                    match name {
                        Some(name) => write!(f, ":{name}")?,
                        None if tag.is_some() => f.write_str(":")?,
                        None => {}
                    }
                }
            },
        }
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match self.digest() {
            Some(digest) => write!(f, "@{digest}"),
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
    fn is_same_storage_ignores_spelling_of_paths_and_names() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("real")).unwrap();
        let is_same = |one: &Location, other: &Location| one.is_same_storage(other, base.path());
        let layout = |path: &str| Location::layout(path);
        let repository = |text: &str| Location::Registry(text.parse().unwrap());
        let absolute = Location::layout(base.path().join("absent"));
        let archive = Location::archive("absent", ArchiveFormat::Oci);
        assert!(is_same(&layout("absent"), &layout("./real/../absent")));
        assert!(is_same(&layout("absent"), &absolute));
        assert!(!is_same(&layout("absent"), &layout("real")));
        assert!(!is_same(&layout("absent"), &archive));
        for (one, other, expected) in [
            ("docker.io/acme/a:1", "index.docker.io/acme/a:2", true),
            ("docker.io/a:1", "docker.io/library/a:1", true),
            ("ghcr.io/a:1", "ghcr.io/library/a:1", false),
        ] {
            assert_eq!(
                is_same(&repository(one), &repository(other)),
                expected,
                "{one}"
            );
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("real", base.path().join("link")).unwrap();
            assert!(is_same(&layout("link/new"), &layout("real/new")));
        }
    }

    #[test]
    fn location_with_a_control_character_is_rejected() {
        for text in [
            "oci:x\n",
            "oci:x\ry:1.0",
            "oci-archive:\u{1b}x.tar",
            "docker-archive:x\u{85}:a:b",
            "a.b/c\n",
        ] {
            let error = text.parse::<LocationText>().expect_err(text);
            let at = text.find(char::is_control).unwrap();
            assert_eq!(error.span().map(|span| span.start), Some(at), "{text:?}");
        }
    }

    /// Splits `oci:TEXT` as if `layouts` were the only existing layouts.
    fn split<'t>(text: &'t LocationText, layouts: &[&str]) -> (&'t str, Option<&'t str>) {
        let ParsedLocation::Layout(written) = &text.0 else {
            unreachable!("not a layout");
        };
        let (path, name) = written.split(|path| layouts.iter().any(|layout| path == *layout));
        (path.to_str().unwrap(), name)
    }

    #[test]
    fn directory_is_shortest_existing_layout_or_up_to_last_colon() {
        for (text, layouts, path, name) in [
            ("oci:a/b", &[][..], "a/b", None),
            ("oci:a/b:1.2__x", &[], "a/b", Some("1.2__x")),
            ("oci:a:b/c", &[], "a", Some("b/c")),
            ("oci:a:b/c", &["a:b/c"], "a:b/c", None),
            ("oci:a:b/c:1", &[], "a:b/c", Some("1")),
            ("oci:a:b/c:1", &["a:b/c"], "a:b/c", Some("1")),
            ("oci:a:b/c:1", &["a"], "a", Some("b/c:1")),
            ("oci:a:b/c:1", &["a", "a:b/c"], "a", Some("b/c:1")),
            (
                "oci:a:localhost:5000/c:1",
                &["a"],
                "a",
                Some("localhost:5000/c:1"),
            ),
            (r"oci:C:\dir", &[], r"C:\dir", None),
            (r"oci:C:\dir:1", &[], r"C:\dir", Some("1")),
            ("oci:c:/dir:1", &["c"], "c:/dir", Some("1")),
        ] {
            let parsed: LocationText = text.parse().unwrap();
            assert_eq!(split(&parsed, layouts), (path, name), "{text} {layouts:?}");
            assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn digest_at_the_end_is_separated_from_the_text() {
        let digest: Digest = DIGEST.parse().unwrap();
        for before in ["oci:a", "oci:a:b/c:1"] {
            let parsed: LocationText = format!("{before}@{DIGEST}").parse().unwrap();
            let ParsedLocation::Layout(written) = &parsed.0 else {
                unreachable!("not a layout");
            };
            assert_eq!(written.digest.as_ref(), Some(&digest));
            assert_eq!(format!("oci:{}", written.text), before);
        }
    }

    #[test]
    fn scheme_in_upper_case_is_rejected() {
        for upper_case in ["OCI:443/x", "Oci-Archive:1/b:1", "docker-ARCHIVE:5/x"] {
            let error = upper_case.parse::<LocationText>().expect_err(upper_case);
            assert_eq!(error.span(), Some(0..upper_case.find(':').unwrap()));
            let rest = &upper_case[upper_case.find(':').unwrap()..];
            assert!(format!("{:?}", error.hints()).contains(rest));
        }
        assert!("oci:".parse::<LocationText>().is_err());
        assert!("oci::tag".parse::<LocationText>().is_err());
    }

    #[test]
    fn docker_archive_splits_before_image_name() {
        let tar = |text: &str| match text.parse::<LocationText>().expect(text).0 {
            ParsedLocation::Complete(location) => {
                let identifier = location.identifier().map(|i| i.to_string());
                let Location::Archive {
                    file,
                    format: ArchiveFormat::Docker(name),
                    ..
                } = location
                else {
                    unreachable!("not a docker archive");
                };
                let name = name.map_or("docker".to_owned(), |name| name.full());
                let file = file.to_string_lossy().into_owned();
                (file, name, identifier.unwrap_or_default())
            }
            _ => unreachable!("not located"),
        };
        let at = |digest: &str| format!("{digest}@{DIGEST}");
        for (text, file, name, identifier) in [
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
            let location: LocationText = text.parse().unwrap();
            assert_eq!(location.to_string(), text);
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
            let error = text.parse::<LocationText>().expect_err(text);
            assert_eq!(error.span(), Some(0..text.len()));
        }
    }

    #[test]
    fn replacing_tag_or_digest_of_location_keeps_its_path() {
        let digest: Digest = DIGEST.parse().unwrap();
        let tag: Tag = "1".parse().unwrap();
        let both =
            Location::layout("a").with_tag_and_digest(Some(tag.clone()), Some(digest.clone()));
        assert_eq!(both.to_string(), format!("oci:a:1@{DIGEST}"));
        assert_eq!(both.identifier(), Some(digest.clone().into()));
        assert_eq!(both.with(tag).to_string(), "oci:a:1");
        assert_eq!(both.with(digest).to_string(), format!("oci:a@{DIGEST}"));
        assert_eq!(both.whole_repository(), Location::layout("a"));
        let elsewhere = Location::layout("a").relative_to(Path::new("/base"));
        assert_eq!(elsewhere, Location::layout("/base/a"));
    }

    proptest! {
        #[test]
        fn parsed_location_of_a_file_prints_unchanged(text in "(oci|oci-archive|docker-archive):[a-c./:@]{1,20}") {
            if let Ok(location) = text.parse::<LocationText>() {
                prop_assert_eq!(location.to_string(), text);
            }
        }

        #[test]
        fn parser_of_arbitrary_text_does_not_panic(text in "\\PC*") {
            let _ = text.parse::<LocationText>();
        }
    }
}
