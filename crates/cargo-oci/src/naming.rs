//! Checks of the tag or digest in a location, before any request.

use oci_registry::{ArchiveFormat, Digest, Identifier, Location, Tag};

use crate::report::Error;
use crate::session::Session;

/// Returns the tag of a location, with or without a digest.
pub(crate) fn tag(location: &Location) -> Option<Tag> {
    location.tag().cloned()
}

/// Returns the digest of a location.
pub(crate) fn digest(location: &Location) -> Option<Digest> {
    location.digest().cloned()
}

/// Checks that a location has neither a tag nor a digest. `verb` is used in the error message.
pub(crate) fn require_repository(location: &Location, verb: &str) -> Result<(), Error> {
    match location.identifier() {
        None => Ok(()),
        Some(identifier) => Err(Error::usage(format!(
            "failed to {verb}: `{location}` has a tag or digest"
        ))
        .help(format!(
            "remove `{identifier}`: `{}`",
            location.whole_repository()
        ))),
    }
}

/// Returns the tag or digest of a location, for verbs that must not default to the highest release.
pub(crate) fn require_identifier(location: &Location, verb: &str) -> Result<Identifier, Error> {
    location.identifier().ok_or_else(|| {
        Error::usage(format!(
            "failed to {verb}: `{location}` has neither a tag nor a digest"
        ))
        .help(format!(
            "add a tag, for example `{}`; `cargo oci tags {location}` lists the tags",
            example_with_tag(location)
        ))
    })
}

/// Returns the tag of an index to edit.
pub(crate) fn require_index_tag(location: &Location) -> Result<Tag, Error> {
    if let Some(digest) = digest(location) {
        return Err(Error::usage(format!(
            "failed to edit `{location}`: an index is edited by its tag, not by its digest"
        ))
        .help(format!("replace `{digest}` with a tag")));
    }
    tag(location).ok_or_else(|| {
        Error::usage(format!("failed to edit `{location}`: missing tag")).help(format!(
            "add the version, for example `{}`",
            example_with_tag(location)
        ))
    })
}

/// Returns a location with an example tag.
fn example_with_tag(location: &Location) -> String {
    match location {
        Location::Archive {
            format: ArchiveFormat::Docker(None),
            ..
        } => format!("{location}:NAME:1.2.3"),
        _ => format!("{location}:1.2.3"),
    }
}

/// Whether two locations are the same repository, layout or archive, by their names.
pub(crate) fn is_same_repository(session: &Session, one: &Location, other: &Location) -> bool {
    let whole = |location: &Location| {
        let base = session.environment.current_dir();
        location.whole_repository().relative_to(base)
    };
    whole(one) == whole(other)
}
