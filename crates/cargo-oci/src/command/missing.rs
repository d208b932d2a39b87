//! What is said of something that is not there: what is there instead, and where to look.
//!
//! It is asked for on the failing path only, with one list of tags that is not waited for long.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci_registry::{ErrorKind, Location, Side, Source, Tag, escape};

use super::naming;
use crate::cargo::nearest;
use crate::report::Error;

/// How long a failed command looks for what was meant.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many tags it looks at.
const MOST: usize = 10_000;

/// Adds to an error that something is not at a location what is there; any other error stays as it is, and so does one
/// that says what is there.
pub(super) async fn explain(source: &dyn Source, location: &Location, error: Error) -> Error {
    if !error.is_not_found() || error.has_help() {
        return error;
    }
    let tags = source.tags().take(MOST).try_collect::<Vec<Tag>>();
    let place = location.whole_repository();
    match tokio::time::timeout(PATIENCE, tags).await {
        Ok(Err(absent)) if absent.kind() == ErrorKind::NotFound => repository(error, location),
        Ok(Ok(tags)) if tags.is_empty() => error.help(without_tags(source, &place).await),
        Ok(Ok(tags)) => {
            let meant = naming::tag(location).and_then(|tag| {
                let known = tags.iter().map(Tag::as_str);
                nearest(tag.as_str(), known).map(str::to_owned)
            });
            let error = match meant.and_then(|meant| meant.parse::<Tag>().ok()) {
                Some(meant) => error.help(format!(
                    "a tag with a similar name exists: `{}`",
                    place.with(meant)
                )),
                None => error,
            };
            look(error, location)
        }
        _ => look(error, location),
    }
}

/// Advice for a place that lists no tag: in a layout or archive, an entry may have another name.
pub(super) async fn without_tags(source: &dyn Source, place: &Location) -> String {
    let others = source.other_names().await.unwrap_or_default();
    match others.first() {
        Some(other) => {
            let name = escape(&other.name, 300);
            format!("write a name in full, such as `{place}:{name}`")
        }
        None => format!("push something: `{place}` is empty"),
    }
}

/// The same for an error of the core, which may be about the other end of a copy.
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

/// Says where to look for a repository, where the error is that there is no such one.
pub(super) fn repository(error: Error, location: &Location) -> Error {
    match location {
        Location::Registry(reference) if error.is_not_found() => error.help(format!(
            "check the name `{}`: `cargo oci catalog {}` lists the repositories of a registry that lets it",
            reference.repository(),
            reference.registry()
        )),
        _ => error,
    }
}

fn look(error: Error, location: &Location) -> Error {
    let place = location.whole_repository();
    error.help(format!("see what is there with `cargo oci tags {place}`"))
}
