//! Hints for missing content: similar tags, and the command that lists the available ones.
//!
//! Only a failed command requests them, with one list of tags and a short timeout.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_registry::{ErrorKind, Location, Side, Source, Tag, escape};

use super::naming;
use crate::cargo::nearest;
use crate::report::Error;

/// Maximum time to search for similar tags.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of tags to compare.
const MAX_TAGS: usize = 10_000;

/// Adds hints to an error about missing content. Other errors, and errors with hints, are not changed.
pub(super) async fn explain(source: &dyn Source, location: &Location, error: Error) -> Error {
    if !error.is_not_found() || error.has_help() {
        return error;
    }
    let tags = source.tags().take(MAX_TAGS).try_collect::<Vec<Tag>>();
    let place = location.whole_repository();
    match tokio::time::timeout(TIMEOUT, tags).await {
        Ok(Err(absent)) if absent.kind() == ErrorKind::NotFound => repository(error, location),
        Ok(Ok(tags)) if tags.is_empty() => error.help(without_tags(source, &place).await),
        Ok(Ok(tags)) => {
            let similar = naming::tag(location).and_then(|tag| {
                let known = tags.iter().map(Tag::as_str);
                nearest(tag.as_str(), known).map(str::to_owned)
            });
            let error = match similar.and_then(|similar| similar.parse::<Tag>().ok()) {
                Some(similar) => error.help(format!(
                    "a tag with a similar name exists: `{}`",
                    place.with(similar)
                )),
                None => error,
            };
            with_tags_hint(error, location)
        }
        _ => with_tags_hint(error, location),
    }
}

/// Returns the hint for a location without tags. In a layout or archive, an entry may have a name that is not a valid tag.
pub(super) async fn without_tags(source: &dyn Source, place: &Location) -> String {
    let others = source.other_names().await.unwrap_or_default();
    match others.first() {
        Some(other) => {
            let name = escape(&other.name, 300);
            format!("use the full name of an entry, such as `{place}:{name}`")
        }
        None => format!("`{place}` is empty"),
    }
}

/// Adds hints to an error of the library, unless it is about the target of a copy.
pub(super) async fn explain_source(
    source: &dyn Source,
    location: &Location,
    error: oci_registry::Error,
) -> Error {
    if error.side() == Some(Side::Target) {
        return error.into();
    }
    explain(source, location, error.into()).await
}

/// Adds the hint to list the repositories to an error about a missing repository.
pub(super) fn repository(error: Error, location: &Location) -> Error {
    match location {
        Location::Registry(reference) if error.is_not_found() => error.help(format!(
            "check the name `{}`: `cargo oci catalog {}` lists the repositories, if the registry supports it",
            reference.repository(),
            reference.registry()
        )),
        _ => error,
    }
}

/// Adds the hint to list the tags.
fn with_tags_hint(error: Error, location: &Location) -> Error {
    let place = location.whole_repository();
    error.help(format!("`cargo oci tags {place}` lists the tags"))
}
