//! Names: which registry, which repository, which tag or digest (distribution-spec, "Pulling manifests").
//!
//! Owns [`Reference`] and its parts, and [`Location`], which also names layout directories and archives. Parsing is pure,
//! strict, and says which bytes are to blame. It opens nothing, guesses no registry and adds no `latest`.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use snafu::Snafu;

use crate::digest::Digest;
use crate::error::{ErrorKind, Failure};

/// Longest registry and repository name together, in bytes, that registries and clients agree on.
const MAX_NAME: usize = 255;

/// Longest tag, in bytes.
const MAX_TAG: usize = 128;

/// What a malformed name is wrong about, and where.
#[derive(Debug, Snafu)]
#[snafu(display("failed to parse the {what} `{}`: {problem}", text.escape_debug()))]
struct ParseName {
    what: &'static str,
    text: String,
    problem: &'static str,
    span: Range<usize>,
    help: Option<String>,
}

impl Failure for ParseName {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn help(&self) -> Vec<String> {
        self.help.iter().cloned().collect()
    }

    fn span(&self) -> Option<Range<usize>> {
        Some(self.span.clone())
    }
}

/// A problem within a part of a name: what, and which bytes of the part.
type Problem = (&'static str, Range<usize>);

fn failure(
    what: &'static str,
    text: &str,
    (problem, span): Problem,
    help: Option<String>,
) -> crate::Error {
    // A hostile server's name can be megabytes; what is shown is bounded, and cut between characters.
    let text = text.chars().take(MAX_NAME + MAX_TAG).collect();
    ParseName {
        what,
        text,
        problem,
        span,
        help,
    }
    .into()
}

/// The bytes after the first `limit`, from the next whole character on.
fn beyond(text: &str, limit: usize) -> Range<usize> {
    text.ceil_char_boundary(limit)..text.len()
}

macro_rules! text_newtype {
    ($name:ident, $what:literal, $check:path, $help:path) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> crate::Result<Self> {
                match $check(text) {
                    Ok(name) => Ok(Self(name.into())),
                    Err(problem) => Err(failure($what, text, problem, $help(text))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// The host, and port if one is given, of a registry: `ghcr.io`, `127.0.0.1:5000`, `[::1]:5000`. Letters are lower-cased.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Box<str>);

text_newtype!(RegistryName, "registry", check_registry, registry_help);

impl RegistryName {
    /// The host without its port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        self.split().0
    }

    /// The port, when one is given.
    pub fn port(&self) -> Option<u16> {
        self.split().1.and_then(|port| port.parse().ok())
    }

    fn split(&self) -> (&str, Option<&str>) {
        split_port(&self.0)
    }

    /// Whether the host is this machine by its very name: `localhost`, `*.localhost`, `127.0.0.0/8` or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        if let Some(address) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            return address
                .parse::<std::net::Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback());
        }
        host.parse::<std::net::Ipv4Addr>().map_or_else(
            |_| host == "localhost" || host.ends_with(".localhost"),
            |address| address.is_loopback(),
        )
    }
}

fn no_help(_: &str) -> Option<String> {
    None
}

/// What was probably meant by a text that is more than a registry.
#[expect(clippy::unnecessary_wraps, reason = "one of several of this form")]
fn registry_help(text: &str) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or(bare);
    Some(match check_registry(host) {
        Ok(host) if host != text => format!("write `{host}`"),
        _ => "a registry is HOST or HOST:PORT, such as `ghcr.io`".to_owned(),
    })
}

fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

fn check_registry(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a host name is missing", 0..0));
    }
    if text.len() > MAX_NAME {
        return Err(("longer than 255 characters", beyond(text, MAX_NAME)));
    }
    if let Some(at) = text.find('/')
        && !text.contains("://")
    {
        return Err(("a registry has no path", at..text.len()));
    }
    let (host, port) = split_port(text);
    if let Some(port) = port {
        let span = host.len() + 1..text.len();
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(("a port is a number", span));
        }
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return Err(("a port is between 1 and 65535", span));
        }
    }
    if let Some(open) = host.strip_prefix('[') {
        let is_v6 = open
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        return if is_v6 {
            Ok(text.to_ascii_lowercase())
        } else {
            Err(("not an IPv6 address in brackets", 0..host.len()))
        };
    }
    let mut start = 0;
    for label in host.split('.') {
        let span = start..start + label.len();
        if label.is_empty() {
            return Err(("a host name has no empty parts", span));
        }
        if let Some(at) = label.find(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
            return Err((
                "a host name is made of letters, digits, `-` and `.`",
                start + at..span.end,
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err((
                "a part of a host name neither starts nor ends with `-`",
                span,
            ));
        }
        start = span.end + 1;
    }
    // In a URL it is an address whatever it looks like: `127.1` and `0x7f000001` would be this machine.
    if ends_in_number(host) && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err((
            "a host whose last part is a number is an IPv4 address of four numbers",
            0..host.len(),
        ));
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether URLs take a host for an IPv4 address (URL Standard, "ends in a number checker").
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The name of a repository within its registry: `acme/widgets`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

text_newtype!(RepositoryName, "repository", check_repository, no_help);

fn check_repository(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a repository name is missing", 0..0));
    }
    if text.len() > MAX_NAME {
        return Err(("longer than 255 characters", beyond(text, MAX_NAME)));
    }
    let mut start = 0;
    for component in text.split('/') {
        check_component(component)
            .map_err(|(problem, span)| (problem, start + span.start..start + span.end))?;
        start += component.len() + 1;
    }
    Ok(text.to_owned())
}

/// One path component: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn check_component(text: &str) -> Result<(), Problem> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(("a repository name has no empty parts", 0..0));
    }
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_uppercase() {
            return Err(("a repository name is lower case", at..at + 1));
        }
        if is_plain(bytes[at]) {
            at += 1;
            continue;
        }
        let end = at
            + bytes[at..]
                .iter()
                .position(|byte| is_plain(*byte))
                .unwrap_or(bytes.len() - at);
        // What is shown as guilty must not end within a character.
        let end = text.ceil_char_boundary(end);
        let separator = &text[at..end];
        let is_separator =
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
        if !is_separator {
            return Err((
                "a repository name is made of `a-z`, `0-9` and single `.`, `_`, `__` or `-` between them",
                at..end,
            ));
        }
        if at == 0 || end == bytes.len() {
            return Err((
                "a part of a repository name starts and ends with a letter or digit",
                at..end,
            ));
        }
        at = end;
    }
    Ok(())
}

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

text_newtype!(Tag, "tag", check_tag, tag_help);

/// What was probably meant by a text that is no tag.
#[expect(clippy::unnecessary_wraps, reason = "one of several of this form")]
fn tag_help(text: &str) -> Option<String> {
    Some(if text.parse::<Digest>().is_ok() {
        "this is a digest, and a tag is a name such as `1.2.3` or `latest`".to_owned()
    } else {
        "a tag is a name such as `1.2.3` or `latest`, without a repository before it".to_owned()
    })
}

fn check_tag(text: &str) -> Result<String, Problem> {
    if text.is_empty() {
        return Err(("a tag is missing", 0..0));
    }
    if text.len() > MAX_TAG {
        return Err(("a tag has at most 128 characters", beyond(text, MAX_TAG)));
    }
    if let Some((at, bad)) = text
        .char_indices()
        .find(|(_, c)| !c.is_ascii_alphanumeric() && !"_.-".contains(*c))
    {
        return Err((
            "a tag is made of letters, digits, `_`, `.` and `-`",
            at..at + bad.len_utf8(),
        ));
    }
    if text.starts_with(['.', '-']) {
        return Err(("a tag starts with a letter, a digit or `_`", 0..1));
    }
    Ok(text.to_owned())
}

/// The part of a reference that picks one manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identifier {
    /// By a name that may move.
    Tag(Tag),
    /// By content.
    Digest(Digest),
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for Identifier {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Identifier {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// A full name: registry, repository, and possibly a tag, a digest or both.
///
/// ```
/// use oci_registry::Reference;
///
/// let reference: Reference = "ghcr.io/acme/widgets:1.2.3".parse()?;
/// assert_eq!(reference.repository().as_str(), "acme/widgets");
/// assert_eq!(reference.to_string(), "ghcr.io/acme/widgets:1.2.3");
/// # Ok::<(), oci_registry::Error>(())
/// ```
///
/// Parsing is strict: the registry must be written out, and is recognised as every client does, by a `.`, a `:` or the
/// name `localhost`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: RegistryName,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// The name of a whole repository.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the two names together exceed 255 characters.
    pub fn new(registry: RegistryName, repository: RepositoryName) -> crate::Result<Self> {
        let length = registry.as_str().len() + 1 + repository.as_str().len();
        if length > MAX_NAME {
            let text = format!("{registry}/{repository}");
            let problem = (
                "registry and repository have more than 255 characters together",
                MAX_NAME..length,
            );
            return Err(failure("reference", &text, problem, None));
        }
        Ok(Self {
            registry,
            repository,
            tag: None,
            digest: None,
        })
    }

    /// Reads a name in the short forms that docker takes: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// These are the rules of its reference library (distribution/reference, `normalize.go`):
    ///
    /// * What stands before the first `/` is a registry when it has a `.`, a `:` or an upper-case letter, or is
    ///   `localhost`; else the registry is `docker.io`. A text without `/` has none, so that `localhost:5000` is a tag.
    /// * `index.docker.io` is `docker.io`, and there a name of one part is below `library/`.
    /// * Without tag and digest the tag is `latest`.
    /// * 64 hexadecimal digits are the id of an image and no name.
    ///
    /// One thing is stricter: a registry that an upper-case letter alone tells apart is refused, since letters are
    /// lower-cased here and it would print as a repository of `docker.io`.
    ///
    /// [`Reference::from_str`] takes none of this. It is for texts that were written for docker, such as an image's name
    /// in a Dockerfile.
    ///
    /// ```
    /// use oci_registry::Reference;
    ///
    /// let reference = Reference::from_docker("acme/widgets@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")?;
    /// assert_eq!(reference.registry().as_str(), "docker.io");
    /// assert_eq!(Reference::from_docker("alpine")?.to_string(), "docker.io/library/alpine:latest");
    /// # Ok::<(), oci_registry::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], with the guilty bytes of the text as it was given.
    pub fn from_docker(text: &str) -> crate::Result<Self> {
        parse_docker(text).map_err(|(problem, help)| {
            let general = || {
                let form = "[[REGISTRY/]NAMESPACE/]REPOSITORY[:TAG][@DIGEST]";
                format!("docker's names are {form}, such as `alpine` or `acme/widgets:1.2.3`")
            };
            failure("reference", text, problem, help.or_else(|| Some(general())))
        })
    }

    /// The registry.
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag, when one is given.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, when one is given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What picks the manifest: the digest, else the tag, else nothing.
    pub fn identifier(&self) -> Option<Identifier> {
        let digest = self.digest.clone().map(Identifier::Digest);
        digest.or_else(|| self.tag.clone().map(Identifier::Tag))
    }

    /// The same repository with this identifier instead of its own.
    #[must_use]
    pub fn with(&self, identifier: impl Into<Identifier>) -> Self {
        let (tag, digest) = match identifier.into() {
            Identifier::Tag(tag) => (Some(tag), None),
            Identifier::Digest(digest) => (None, Some(digest)),
        };
        Self {
            tag,
            digest,
            ..self.whole_repository()
        }
    }

    /// The same repository without tag and digest.
    #[must_use]
    pub fn whole_repository(&self) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: None,
        }
    }
}

impl FromStr for Reference {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        let general = || {
            let form = "REGISTRY/REPOSITORY[:TAG][@DIGEST]";
            format!("a reference is {form}, such as `ghcr.io/acme/widgets:1.2.3`")
        };
        parse(text).map_err(|(problem, help)| {
            failure("reference", text, problem, help.or_else(|| Some(general())))
        })
    }
}

/// Docker's own registry, which its short forms leave out, and where that was before.
const HUB: [&str; 2] = ["docker.io", "index.docker.io"];

fn parse_docker(text: &str) -> Result<Reference, (Problem, Option<String>)> {
    if text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        let problem = "64 hexadecimal digits are the id of an image, not a name";
        return Err(((problem, 0..text.len()), None));
    }
    let (first, rest) = match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        Some((first, _)) if first.contains(char::is_uppercase) => {
            let host = first.to_lowercase();
            let problem = "upper-case letters make this a registry, which needs a `.` or a port";
            let help = check_registry(&host)
                .is_ok()
                .then(|| format!("write `{host}:443/…`"));
            return Err(((problem, 0..first.len()), help));
        }
        _ => (HUB[0], text),
    };
    let is_hub = HUB.iter().any(|hub| first.eq_ignore_ascii_case(hub));
    let before = match (is_hub, rest.contains('/')) {
        (true, true) => format!("{}/", HUB[0]),
        (true, false) => format!("{}/library/", HUB[0]),
        (false, _) => format!("{first}/"),
    };
    let mut reference = parse(&format!("{before}{rest}")).map_err(|((problem, span), help)| {
        // Where that is in what was given; what was added is nobody's fault.
        let given = text.len() - rest.len();
        let place = |at: usize| match at.checked_sub(before.len()) {
            Some(at) => given + at,
            None => at.min(given),
        };
        ((problem, place(span.start)..place(span.end)), help)
    })?;
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some(Tag("latest".into()));
    }
    Ok(reference)
}

fn parse(text: &str) -> Result<Reference, (Problem, Option<String>)> {
    let shift = |by: usize| {
        move |(problem, span): Problem| ((problem, span.start + by..span.end + by), None)
    };
    if let Some(scheme) = text.find("://") {
        let rest = &text[scheme + 3..];
        return Err((
            ("a reference has no scheme", 0..scheme + 3),
            Some(format!("write `{}`", rest.escape_debug())),
        ));
    }
    let (name_and_tag, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            let span = name.len() + 1..text.len();
            let parsed = digest
                .parse()
                .map_err(|_| (("what follows `@` is not a digest", span), None))?;
            (name, Some(parsed))
        }
        None => (text, None),
    };
    let slash = name_and_tag.find('/');
    let first = &name_and_tag[..slash.unwrap_or(name_and_tag.len())];
    let is_registry = is_registry(first);
    let Some(slash) = slash.filter(|_| is_registry) else {
        let (problem, help) = if is_registry && !first.is_empty() {
            (
                "the repository after the registry is missing",
                format!("write `{}/REPOSITORY`", first.escape_debug()),
            )
        } else {
            (
                "the registry is missing",
                format!(
                    "write the registry in front, such as `ghcr.io/{}`",
                    text.escape_debug()
                ),
            )
        };
        return Err(((problem, 0..first.len()), Some(help)));
    };
    let registry = check_registry(first).map_err(shift(0))?;
    let rest = &name_and_tag[slash + 1..];
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => {
            let tag = check_tag(tag).map_err(shift(slash + 2 + repository.len()))?;
            (repository, Some(Tag(tag.into())))
        }
        None => (rest, None),
    };
    let repository = check_repository(repository).map_err(|problem| {
        let lower = repository.to_ascii_lowercase();
        let help = (check_repository(&lower).is_ok())
            .then(|| format!("write `{}`", text.replacen(repository, &lower, 1)));
        (shift(slash + 1)(problem).0, help)
    })?;
    let length = registry.len() + 1 + repository.len();
    if length > MAX_NAME {
        return Err((
            (
                "registry and repository have more than 255 characters together",
                MAX_NAME..length,
            ),
            None,
        ));
    }
    Ok(Reference {
        registry: RegistryName(registry.into()),
        repository: RepositoryName(repository.into()),
        tag,
        digest,
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

/// Whether the first part of a name is a registry's, by what only a host name has.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost")
}

fn check_image_name(text: &str) -> Result<String, Problem> {
    match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => {
            let registry = check_registry(first)?;
            let shift = first.len() + 1;
            let repository = check_repository(rest)
                .map_err(|(problem, span)| (problem, span.start + shift..span.end + shift))?;
            Ok(format!("{registry}/{repository}"))
        }
        _ => check_repository(text),
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
    use std::error::Error as _;

    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn span_of(text: &str) -> (Range<usize>, String) {
        let error = text.parse::<Reference>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.source().is_none());
        (error.span().expect("a span"), error.to_string())
    }

    #[test]
    fn full_references_print_as_they_were_written() {
        for text in [
            "ghcr.io/acme/widgets",
            "ghcr.io/acme/widgets:1.2.3",
            "localhost/x:latest",
            "localhost:5000/a/b/c",
            "127.0.0.1:5000/x__y/a-b.c_d:_t",
            "1.2.3.0xfg/x",
            "4.0a:80/x",
            "[::1]:5000/x",
            "[fe80::1]/x:1",
            &format!("ghcr.io/a@{DIGEST}"),
            &format!("ghcr.io/a:1@{DIGEST}"),
        ] {
            assert_eq!(text.parse::<Reference>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_registry_is_lower_cased() {
        assert_eq!(
            "GHCR.io/x".parse::<Reference>().unwrap().to_string(),
            "ghcr.io/x"
        );
    }

    #[test]
    fn the_digest_identifies_before_the_tag() {
        let reference: Reference = format!("ghcr.io/a:1@{DIGEST}").parse().unwrap();
        assert!(matches!(
            reference.identifier(),
            Some(Identifier::Digest(_))
        ));
    }

    #[test]
    fn spans_point_at_the_guilty_bytes() {
        assert_eq!(span_of("ghcr.io/Acme/x").0, 8..9);
        assert_eq!(span_of("ghcr.io/acme//x").0, 13..13);
        assert_eq!(span_of("ghcr.io/acme/x:bad tag").0, 18..19);
        assert_eq!(span_of("ghcr.io/acme/x@sha256:zz").0, 15..24);
        assert_eq!(span_of("ghcr.io:99999/x").0, 8..13);
        assert_eq!(span_of("https://ghcr.io/x").0, 0..8);
        assert_eq!(span_of("widgets:1").0, 0..9);
        assert_eq!(span_of("ghcr.io").0, 0..7);
        assert_eq!(span_of("-a.b/x").0, 0..2);
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = format!("ghcr.io/{}", "a".repeat(256));
        let long_tag = format!("ghcr.io/a:{}", "a".repeat(129));
        for text in [
            "",
            "/",
            ":",
            "@",
            "ghcr.io/",
            "ghcr.io/../x",
            "ghcr.io/x/..",
            "ghcr.io/x:",
            "ghcr.io/x@",
            "a.b/é",
            "ghcr.io/x?y",
            "ghcr.io/x#y",
            "u@ghcr.io/x",
            "ghcr.io/x\0",
            "ghcr.io/a___b",
            "ghcr.io/a..b",
            "[::g]/x",
            "ghcr.io:0/x",
            &long,
            &long_tag,
            "ghcr.io/x:.a",
            "ghcr.io/x:a/b",
            "a..b/x",
            "%2e.x/y",
            "127.1/x",
            "1:5000/x",
            "a.0x7f/x",
            "1.2.3.4.5/x",
            "1.2.3.256/x",
            "a.0x:1/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn docker_s_short_forms_are_docker_s() {
        let at = |name: &str| format!("{name}@{DIGEST}");
        let hex = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            (&at("alpine"), &at("docker.io/library/alpine")),
            (&at("alpine:3"), &at("docker.io/library/alpine:3")),
            ("acme/widgets", "docker.io/acme/widgets:latest"),
            ("a/b/c:1", "docker.io/a/b/c:1"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest"),
            ("Docker.IO/alpine", "docker.io/library/alpine:latest"),
            ("ghcr.io/alpine", "ghcr.io/alpine:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            // Without a slash there is no registry.
            ("localhost", "docker.io/library/localhost:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("a.b", "docker.io/library/a.b:latest"),
            ("library/alpine", "docker.io/library/alpine:latest"),
            (
                &format!("{hex}0"),
                &format!("docker.io/library/{hex}0:latest"),
            ),
        ] {
            let reference = Reference::from_docker(text).expect(text);
            assert_eq!(reference.to_string(), expected, "{text}");
            assert_eq!(expected.parse::<Reference>().unwrap(), reference);
        }
        for (text, span) in [
            ("", 0..0),
            ("Alpine", 0..1),
            ("acme/Widgets", 5..6),
            ("ACME/widgets", 0..4),
            ("alpine:", 7..7),
            ("alpine:a b", 8..9),
            ("alpine@sha256:zz", 7..16),
            ("index.docker.io/", 16..16),
            ("index.docker.io/A", 16..17),
            ("a.b/c//d", 6..6),
            ("a.b:x/c", 4..5),
            ("https://a.b/c", 0..8),
            (&hex, 0..64),
        ] {
            let error = Reference::from_docker(text).expect_err(text);
            assert_eq!(
                (error.kind(), error.span()),
                (ErrorKind::InvalidInput, Some(span)),
                "{text}"
            );
        }
        // The strict form has none of it.
        for text in ["alpine", "acme/widgets", "alpine:3"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_decided_by_the_parsed_host() {
        for (text, expected) in [
            ("localhost:5000", true),
            ("a.localhost", true),
            ("127.9.9.9:1", true),
            ("[::1]:80", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1", false),
            ("[::2]", false),
        ] {
            assert_eq!(
                text.parse::<RegistryName>().unwrap().is_loopback(),
                expected,
                "{text}"
            );
        }
    }

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
        fn parsing_never_panics_and_spans_fit(text in "\\PC*") {
            if let Err(error) = text.parse::<Reference>() {
                let span = error.span().unwrap();
                prop_assert!(span.start <= span.end && span.end <= text.len());
                prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
            }
            let _ = text.parse::<Location>();
        }

        #[test]
        fn near_references_never_panic(text in "[a-cA-C.:/@_\\-\\[\\]0-9é]{0,40}") {
            match text.parse::<Reference>() {
                Ok(reference) => prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference),
                Err(error) => {
                    let span = error.span().unwrap();
                    prop_assert!(text.get(span).is_some());
                }
            }
        }
    }
}
