//! Checks of the tag or digest in a location, before any request.

use oci_registry::{ArchiveFormat, Digest, Identifier, Location, Tag};

use crate::report::Error;
use crate::session::Session;

/// The tag that a location names, beside a digest or alone.
pub(crate) fn tag(location: &Location) -> Option<Tag> {
    location.tag().cloned()
}

/// The digest that a location names.
pub(crate) fn digest(location: &Location) -> Option<Digest> {
    location.digest().cloned()
}

/// A whole repository, and nothing in it: `verb` is what was to be done with it.
pub(crate) fn whole(location: &Location, verb: &str) -> Result<(), Error> {
    match location.identifier() {
        None => Ok(()),
        Some(identifier) => Err(Error::usage(format!(
            "failed to {verb}: `{location}` names one already"
        ))
        .help(format!(
            "leave `{identifier}` out: `{}`",
            location.whole_repository()
        ))),
    }
}

/// What a location must name, where guessing the highest release would be guessing too much.
pub(crate) fn given(location: &Location, verb: &str) -> Result<Identifier, Error> {
    location.identifier().ok_or_else(|| {
        Error::usage(format!(
            "failed to {verb}: `{location}` names neither a tag nor a digest"
        ))
        .help(format!(
            "write for example `{}`, and see what is there with `cargo oci tags {location}`",
            tagged(location)
        ))
    })
}

/// The tag of an index, which is edited under its tag.
pub(crate) fn index(location: &Location) -> Result<Tag, Error> {
    if let Some(digest) = digest(location) {
        return Err(Error::usage(format!(
            "failed to edit `{location}`: an index is edited under its tag"
        ))
        .help(format!("write a tag in place of `{digest}`")));
    }
    tag(location).ok_or_else(|| {
        Error::usage(format!("failed to edit `{location}`: it names no index")).help(format!(
            "write the version behind it, for example `{}`",
            tagged(location)
        ))
    })
}

/// A place with a tag in it, to show how one is written.
fn tagged(location: &Location) -> String {
    match location {
        Location::Archive {
            format: ArchiveFormat::Docker(None),
            ..
        } => format!("{location}:NAME:1.2.3"),
        _ => format!("{location}:1.2.3"),
    }
}

/// Whether two locations are the same place, as far as their names tell.
pub(crate) fn is_same_place(session: &Session, one: &Location, other: &Location) -> bool {
    let whole = |location: &Location| {
        let base = session.environment.current_dir();
        location.whole_repository().relative_to(base)
    };
    whole(one) == whole(other)
}
