//! Checks whether a location has a tag or digest. Commands call them before any request.

use oci_registry::{ArchiveFormat, Identifier, Location, Tag};

use crate::report::Error;
use crate::session::Session;

/// Checks that a location has neither a tag nor a digest. `operation` completes the error message "failed to …".
pub(crate) fn require_repository(location: &Location, operation: &str) -> Result<(), Error> {
    match location.identifier() {
        None => Ok(()),
        Some(identifier) => Err(Error::usage(format!(
            "failed to {operation}: `{location}` has a tag or digest"
        ))
        .help(format!(
            "remove `{identifier}`: pass `{}`",
            location.whole_repository()
        ))),
    }
}

/// Returns the tag or digest of a location, for commands that must not default to the highest release. `operation`
/// completes the error message "failed to …".
pub(crate) fn require_identifier(
    location: &Location,
    operation: &str,
) -> Result<Identifier, Error> {
    location.identifier().ok_or_else(|| {
        Error::usage(format!(
            "failed to {operation}: `{location}` has neither a tag nor a digest"
        ))
        .help(format!(
            "add a tag, for example `{}`; run `cargo oci tags {location}` to list the tags",
            example_with_tag(location)
        ))
    })
}

/// Returns the tag of an index to edit. A digest is an error, because the content that it identifies cannot change.
pub(crate) fn require_index_tag(location: &Location) -> Result<Tag, Error> {
    if let Some(digest) = location.digest() {
        return Err(Error::usage(format!(
            "failed to edit `{location}`: an index is edited by its tag, not by its digest"
        ))
        .help(format!("replace `{digest}` with a tag")));
    }
    location.tag().cloned().ok_or_else(|| {
        Error::usage(format!("failed to edit `{location}`: missing tag")).help(format!(
            "add the version, for example `{}`",
            example_with_tag(location)
        ))
    })
}

/// Returns the location with an example tag, to show in a hint.
fn example_with_tag(location: &Location) -> String {
    match location {
        Location::Archive {
            format: ArchiveFormat::Docker(None),
            ..
        } => format!("{location}:NAME:1.2.3"),
        _ => format!("{location}:1.2.3"),
    }
}

/// Whether two locations name the same repository, layout or archive. Only the names are compared, so a layout and a
/// symbolic link to it are different locations.
pub(crate) fn is_same_repository(session: &Session, first: &Location, second: &Location) -> bool {
    let whole = |location: &Location| {
        let base = session.environment.current_dir();
        location.whole_repository().relative_to(base)
    };
    whole(first) == whole(second)
}
