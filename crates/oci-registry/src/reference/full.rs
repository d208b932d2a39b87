//! Full references, and their strict parser.

use std::fmt;
use std::str::FromStr;

use super::identifier::Identifier;
use super::name::{MAX_NAME, Problem, RegistryName, RepositoryName, Tag, is_registry, parse_error};
use crate::digest::Digest;

/// Full reference: registry, repository, and optionally a tag, a digest or both.
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
/// Parsing is strict: the text must contain the registry. As in other clients, the part before the first `/` is a
/// registry if it contains a `.` or a `:`, or is `localhost`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: RegistryName,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Creates a reference to a whole repository.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if both names together exceed 255 characters.
    pub fn new(registry: RegistryName, repository: RepositoryName) -> crate::Result<Self> {
        check_length(&registry, &repository).map_err(|problem| {
            let text = format!("{registry}/{repository}");
            parse_error("reference", &text, problem, None)
        })?;
        Ok(Self {
            registry,
            repository,
            tag: None,
            digest: None,
        })
    }

    /// Returns the registry.
    pub fn registry(&self) -> &RegistryName {
        &self.registry
    }

    /// Returns the repository within the registry.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Returns the tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Returns the digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the digest, or else the tag. Returns `None` if there is neither.
    pub fn identifier(&self) -> Option<Identifier> {
        let digest = self.digest.clone().map(Identifier::Digest);
        digest.or_else(|| self.tag.clone().map(Identifier::Tag))
    }

    /// Returns a reference to the same repository with this identifier.
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

    /// Returns a reference to the same repository with this tag and this digest. The digest determines the content.
    #[must_use]
    pub fn with_tag_and_digest(&self, tag: Tag, digest: Digest) -> Self {
        Self {
            tag: Some(tag),
            digest: Some(digest),
            ..self.whole_repository()
        }
    }

    /// Returns the repository name as used in URLs. Docker Hub stores its official images under `library/`.
    pub(crate) fn api_name(&self) -> RepositoryName {
        let name = &self.repository;
        let is_official = self.registry.is_docker_hub() && !name.as_str().contains('/');
        match format!("library/{name}").parse() {
            Ok(library) if is_official => library,
            _ => name.clone(),
        }
    }

    /// Returns a reference to the same repository, with neither tag nor digest.
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
            format!("write {form}, such as `ghcr.io/acme/widgets:1.2.3`")
        };
        parse(text).map_err(|(problem, help)| {
            parse_error("reference", text, problem, help.or_else(|| Some(general())))
        })
    }
}

/// Problem of an invalid reference, and a suggestion for a valid reference.
pub(super) type ProblemWithHelp = (Problem, Option<String>);

pub(super) fn parse(text: &str) -> Result<Reference, ProblemWithHelp> {
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
                .map_err(|_| (("the part after `@` is not a digest", span), None))?;
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
    let registry = RegistryName::check(first).map_err(shift(0))?;
    let rest = &name_and_tag[slash + 1..];
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => {
            let tag = Tag::check(tag).map_err(shift(slash + 2 + repository.len()))?;
            (repository, Some(tag))
        }
        None => (rest, None),
    };
    let repository = RepositoryName::check(repository).map_err(|problem| {
        let lower = repository.to_ascii_lowercase();
        let help = (RepositoryName::check(&lower).is_ok())
            .then(|| format!("write `{}`", text.replacen(repository, &lower, 1)));
        (shift(slash + 1)(problem).0, help)
    })?;
    check_length(&registry, &repository).map_err(|problem| (problem, None))?;
    Ok(Reference {
        registry,
        repository,
        tag,
        digest,
    })
}

fn check_length(registry: &RegistryName, repository: &RepositoryName) -> Result<(), Problem> {
    let length = registry.as_str().len() + 1 + repository.as_str().len();
    if length > MAX_NAME {
        let problem = "registry and repository together have more than 255 characters";
        return Err((problem, MAX_NAME..length));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn span_of(text: &str) -> (std::ops::Range<usize>, String) {
        let error = text.parse::<Reference>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.source().is_none());
        (error.span().expect("a span"), error.to_string())
    }

    #[test]
    fn parsed_reference_prints_unchanged() {
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
    fn registry_is_converted_to_lower_case() {
        assert_eq!(
            "GHCR.io/x".parse::<Reference>().unwrap().to_string(),
            "ghcr.io/x"
        );
    }

    #[test]
    fn identifier_of_tag_and_digest_is_the_digest() {
        let reference: Reference = format!("ghcr.io/a:1@{DIGEST}").parse().unwrap();
        assert!(matches!(
            reference.identifier(),
            Some(Identifier::Digest(_))
        ));
    }

    #[test]
    fn parse_error_has_the_span_of_the_invalid_bytes() {
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
    fn invalid_references_are_rejected() {
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

    proptest! {
        #[test]
        fn parse_error_of_random_text_has_a_span_within_it(text in "\\PC*") {
            if let Err(error) = text.parse::<Reference>() {
                let span = error.span().unwrap();
                prop_assert!(span.start <= span.end && span.end <= text.len());
                prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
            }
        }

        #[test]
        fn random_reference_roundtrips_or_error_has_a_span(text in "[a-cA-C.:/@_\\-\\[\\]0-9é]{0,40}") {
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
