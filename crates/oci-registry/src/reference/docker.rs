//! Short forms of references as docker parses them (distribution/reference, `normalize.go`).
//!
//! This module adds the parts that the short form omits, and maps spans of errors back to the given text.

use super::full::{self, ProblemWithHelp, Reference};
use super::name::{RegistryName, Tag, is_registry, parse_error};

/// Current and former registry name of Docker Hub. Short forms omit it.
const HUB_NAMES: [&str; 2] = ["docker.io", "index.docker.io"];

impl Reference {
    /// Parses a reference in the short forms that docker accepts: `alpine` is `docker.io/library/alpine:latest`.
    ///
    /// The rules are those of docker's reference library (distribution/reference, `normalize.go`):
    ///
    /// * The part before the first `/` is a registry if it contains a `.`, a `:` or an upper-case letter, or is
    ///   `localhost`. Otherwise the registry is `docker.io`. A name without `/` has no registry, so `localhost:5000`
    ///   has the tag `5000`.
    /// * `index.docker.io` is the same as `docker.io`. On this registry a name without `/` is in the namespace
    ///   `library/`.
    /// * If there is neither a tag nor a digest, the tag is `latest`.
    /// * 64 hexadecimal digits are the ID of an image and not a valid name.
    ///
    /// One rule is stricter: a registry that is recognized only by an upper-case letter is rejected. This crate prints
    /// registries in lower case, so the printed reference would be a repository of `docker.io`.
    ///
    /// Parsing with [`FromStr`](std::str::FromStr) accepts no short forms. Use this function for references that were
    /// written for docker, such as the name of an image in a Dockerfile.
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
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), with the span of the invalid bytes in the given
    /// text.
    pub fn from_docker(text: &str) -> crate::Result<Self> {
        parse(text).map_err(|(problem, help)| {
            let general = || {
                let form = "[[REGISTRY/]NAMESPACE/]REPOSITORY[:TAG][@DIGEST]";
                format!("write {form}, such as `alpine` or `acme/widgets:1.2.3`")
            };
            parse_error("reference", text, problem, help.or_else(|| Some(general())))
        })
    }
}

/// Parses a short form.
fn parse(text: &str) -> Result<Reference, ProblemWithHelp> {
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
            let help = RegistryName::check(&host)
                .is_ok()
                .then(|| format!("write `{host}:443/…`"));
            return Err(((problem, 0..first.len()), help));
        }
        _ => (HUB_NAMES[0], text),
    };
    let is_hub = HUB_NAMES.iter().any(|hub| first.eq_ignore_ascii_case(hub));
    let before = match (is_hub, rest.contains('/')) {
        (true, true) => format!("{}/", HUB_NAMES[0]),
        (true, false) => format!("{}/library/", HUB_NAMES[0]),
        (false, _) => format!("{first}/"),
    };
    let mut reference =
        full::parse(&format!("{before}{rest}")).map_err(|((problem, span), help)| {
            // Maps the span to the given text. Bytes that were added are not part of it.
            let given = text.len() - rest.len();
            let map = |at: usize| match at.checked_sub(before.len()) {
                Some(at) => given + at,
                None => at.min(given),
            };
            ((problem, map(span.start)..map(span.end)), help)
        })?;
    if reference.identifier().is_none() {
        reference = reference.with(Tag::latest());
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn docker_short_forms_expand_as_in_docker() {
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
            // A name without a slash has no registry.
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
        // The strict parser rejects short forms.
        for text in ["alpine", "acme/widgets", "alpine:3"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
