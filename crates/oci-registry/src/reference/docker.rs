//! Docker's short forms of names, as its reference library reads them (distribution/reference, `normalize.go`).
//!
//! Owns what docker leaves out of a name, and where the guilty bytes are in the text as it was given.

use super::name::{RegistryName, Tag};
use super::{Malformed, Reference, is_registry};

/// Docker's own registry, which its short forms leave out, and where that was before.
const HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// The name that docker makes of a text.
pub(super) fn parse(text: &str) -> Result<Reference, Malformed> {
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
        _ => (HUB[0], text),
    };
    let is_hub = HUB.iter().any(|hub| first.eq_ignore_ascii_case(hub));
    let before = match (is_hub, rest.contains('/')) {
        (true, true) => format!("{}/", HUB[0]),
        (true, false) => format!("{}/library/", HUB[0]),
        (false, _) => format!("{first}/"),
    };
    let mut reference =
        super::parse(&format!("{before}{rest}")).map_err(|((problem, span), help)| {
            // Where that is in what was given; what was added is nobody's fault.
            let given = text.len() - rest.len();
            let place = |at: usize| match at.checked_sub(before.len()) {
                Some(at) => given + at,
                None => at.min(given),
            };
            ((problem, place(span.start)..place(span.end)), help)
        })?;
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some(Tag::latest());
    }
    Ok(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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
}
