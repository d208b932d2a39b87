//! Errors for content that was not found.
//!
//! If the source code contains the reference literally, the label marks the missing part of the reference. `report`
//! converts all other errors.

use std::ops::Range;

use nu_plugin::EngineInterface;
use nu_protocol::LabeledError;
use oci_registry::{Error, ErrorKind, Location, Reference};

use crate::hints;
use crate::input::{self, Operand};
use crate::report::ToLabeledError;

/// Part of a reference that a label marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReferencePart {
    /// The repository, the directory of the layout or the file of the archive.
    Location,
    /// The tag or digest of a manifest.
    Identifier,
    /// The digest of a blob.
    BlobDigest,
}

/// Converts an error to a Nushell error. If the content was not found, the label marks `part` of the reference.
///
/// Blocks until the engine returns the source code.
pub(crate) fn report(
    error: &Error,
    part: ReferencePart,
    operand: &Operand<Location>,
    engine: Option<&EngineInterface>,
) -> LabeledError {
    if error.kind() != ErrorKind::NotFound {
        return error.at(operand.span);
    }
    let find = |text: &str| find_part(part, &operand.name, text);
    let at = engine.and_then(|engine| input::span_of_part(engine, operand.span, find));
    let report = error.at(at.unwrap_or(operand.span));
    if part != ReferencePart::BlobDigest {
        return report;
    }
    let mut help = hints::texts(error);
    help.push("run `oci manifest` to list the blobs of a manifest with their references".into());
    report.with_help(help.join("\n"))
}

/// Returns the range of the part in the source text, or `None` if the source text is a different name.
fn find_part(part: ReferencePart, name: &Location, text: &str) -> Option<Range<usize>> {
    let is_name = match name {
        Location::Registry(reference) => text
            .parse::<Reference>()
            .is_ok_and(|parsed| parsed == *reference),
        Location::Layout { .. } | Location::Archive { .. } => text == name.to_string(),
    };
    if !is_name {
        return None;
    }
    let identifier = name.identifier().map(|identifier| identifier.to_string());
    let end = identifier
        .as_ref()
        .and_then(|identifier| Some(text.strip_suffix(identifier.as_str())?.len()));
    match (part, name) {
        (ReferencePart::Identifier | ReferencePart::BlobDigest, _) => {
            end.map(|end| end..text.len())
        }
        (ReferencePart::Location, Location::Registry(reference)) => {
            let repository = reference.repository().as_str();
            let start = text.find(repository)?;
            Some(start..start + repository.len())
        }
        (ReferencePart::Location, _) => {
            let start = text.find(':')? + 1;
            // The range excludes the `:` or `@` before the identifier.
            let end = end.map_or(text.len(), |end| end - 1);
            (start < end).then_some(start..end)
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_registry::LocationText;

    use super::*;

    #[test]
    fn find_part_returns_range_of_part_in_source() {
        let digest = oci_registry::Digest::sha256(b"");
        let by_digest = format!("a.b/c:1@{digest}");
        for (name, part, expected) in [
            ("a.b/c/d:1.2", ReferencePart::Identifier, Some("1.2")),
            ("a.b/c/d:1.2", ReferencePart::Location, Some("c/d")),
            ("a.b:5000/c", ReferencePart::Location, Some("c")),
            ("a.b/c", ReferencePart::Identifier, None),
            (&by_digest, ReferencePart::BlobDigest, Some(digest.as_str())),
            (
                "oci:some/where:1",
                ReferencePart::Location,
                Some("some/where"),
            ),
            (
                "oci:some/where",
                ReferencePart::Location,
                Some("some/where"),
            ),
            ("oci:some/where:1", ReferencePart::Identifier, Some("1")),
            ("oci-archive:a.tar", ReferencePart::Location, Some("a.tar")),
        ] {
            let text: LocationText = name.parse().unwrap();
            let location = text.locate_target(std::path::Path::new("")).unwrap();
            let found = find_part(part, &location, name).map(|range| &name[range]);
            assert_eq!(found, expected, "{name} {part:?}");
        }
    }
}
