//! `cargo oci tags`: list the tags of a repository, with details of their manifests.

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_package::{Concurrency, Details, TagDetailsFetcher};
use oci_registry::{Cache, LocationText, OtherName, Source, Tag, escape};

use crate::figures::Size;
use crate::filter::{self, Filter};
use crate::finding::Finding;
use crate::message::FormatFlag;
use crate::naming;
use crate::options::location;
use crate::report::{self, Error};
use crate::session::Session;

/// List the tags of a repository
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci tags ghcr.io/acme/widgets\n  cargo oci tags ghcr.io/acme/widgets --long\n  cargo oci tags ghcr.io/acme/widgets --semver --exclude '*__*'\n  cargo oci tags ghcr.io/acme/widgets --long --message-format json\n  cargo oci tags oci:target/oci/widgets"
)]
pub(crate) struct Flags {
    /// Repository to list: REGISTRY/REPOSITORY, oci:DIR or an archive
    #[arg(value_name = "REPOSITORY", value_parser = location)]
    repository: LocationText,

    /// Also show size, date, digest and targets of each tag
    #[arg(long, short)]
    long: bool,

    /// Sort by semantic version, the highest first
    ///
    /// Each version is followed by the tags of its targets. Tags that are not versions come last, sorted by name.
    #[arg(long)]
    semver: bool,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Prints one tag per line, page by page.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let place = &session.locate(&flags.repository).await?;
    naming::require_repository(place, "list tags")?;
    let source = session.source(place).await?;
    let (filter, reporter) = (flags.filter, session.reporter);
    let print_tag = |tag: &Tag| {
        if reporter.is_json() {
            reporter.emit_finding(&Finding::tag(place, tag, None));
            return Ok(());
        }
        report::line(tag)
    };
    let print_other = |other: &OtherName| {
        if reporter.is_json() {
            reporter.emit_finding(&Finding::other_name(place, other, None));
            return Ok(());
        }
        // Appended to the location, the text is a reference, as a tag is.
        report::line(format_args!("{}@{}", shown(other), other.digest))
    };
    let others = async |source: &dyn Source| {
        let mut others = source.other_names().await?;
        others.retain(|other| filter.passes(&other.name));
        Ok::<_, Error>(others)
    };
    let explain = |error| Error::from(oci_package::explain_repository(place, error));
    let tags = source.tags();
    let mut tags = tags.try_filter(|tag| std::future::ready(filter.passes(tag.as_str())));
    if !flags.long && !flags.semver {
        while let Some(tag) = tags.try_next().await.map_err(explain)? {
            print_tag(&tag)?;
        }
        others(&*source).await?.iter().try_for_each(print_other)?;
        return reporter.end();
    }
    let others = others(&*source).await?;
    // All names are read first, because the longest one determines the width of the column.
    let tags: oci_registry::Result<Vec<Tag>> = tags.try_collect().await;
    let mut tags = tags.map_err(explain)?;
    if flags.semver {
        filter::by_version(&mut tags);
    }
    if !flags.long {
        tags.iter().try_for_each(print_tag)?;
        others.iter().try_for_each(print_other)?;
        return reporter.end();
    }
    let widths = tags.iter().map(|tag| tag.as_str().chars().count());
    let widths = widths.chain(others.iter().map(|other| shown(other).chars().count()));
    let width = widths.max().unwrap_or_default();
    let source = match Cache::of_user(&session.environment) {
        Some(cache) if source.origin().is_some() => cache.over(source),
        _ => source,
    };
    let survey = TagDetailsFetcher::new(source, Concurrency::new(session.concurrency));
    let tags = stream::iter(tags.into_iter().map(Ok));
    let mut rows = survey.tags(tags.boxed());
    while let Some(details) = rows.try_next().await? {
        let (tag, named) = (&details.tag, details.details.as_ref());
        if reporter.is_json() {
            reporter.emit_finding(&Finding::tag(place, tag, named));
        } else {
            report::line(row(tag.as_str(), width, named))?;
        }
        if let Some(error) = details.error {
            let (tag, error) = (place.with(details.tag), error.in_one_line());
            reporter.note(format_args!("failed to read `{tag}`: {error}"));
        }
    }
    for other in others {
        let named = match survey.details(&other.digest).await {
            Err(error) if oci_package::is_document_error(&error) => {
                let (name, error) = (shown(&other), error.in_one_line());
                reporter.note(format_args!("failed to read `{name}`: {error}"));
                None
            }
            named => named?,
        };
        if reporter.is_json() {
            reporter.emit_finding(&Finding::other_name(place, &other, named.as_ref()));
        } else {
            report::line(row(&shown(&other), width, named.as_ref()))?;
        }
    }
    reporter.end()
}

/// Returns the escaped name of a layout entry that is not a valid tag.
fn shown(other: &OtherName) -> String {
    escape(&other.name, 300)
}

/// Returns a table row: tag, size, date, digest, and targets or platforms. An unknown value is `-`.
fn row(name: &str, width: usize, named: Option<&Details>) -> String {
    let summary = named.map(|named| &named.summary);
    let or_none = |text: Option<String>| {
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "-".to_owned())
    };
    let size = summary.and_then(|summary| summary.size);
    let size = or_none(size.map(|size| Size(size).to_string()));
    let created = summary.and_then(|summary| summary.created.as_deref());
    // Annotations are untrusted and may contain control characters.
    let created = or_none(created.map(|text| escape(text, 25)));
    let digest = or_none(named.map(|named| named.digest.to_string()));
    let targets = or_none(summary.map(|summary| {
        if summary.targets.is_empty() {
            let platforms = summary.platforms.iter().map(ToString::to_string);
            platforms.collect::<Vec<_>>().join(",")
        } else {
            summary.targets.join(",")
        }
    }));
    let targets = escape(&targets, 4000);
    format!("{name:<width$} {size:>10}  {created:<20}  {digest}  {targets}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci_registry::{Index, Manifest, Memory, Source, Target};

    use super::*;

    #[tokio::test]
    async fn unknown_values_are_shown_as_dashes() {
        let tag: Tag = "1.0".parse().expect("a tag");
        assert_eq!(
            row("1.0", 5, None).split_whitespace().collect::<Vec<_>>(),
            ["1.0", "-", "-", "-", "-"]
        );
        let memory = Memory::new();
        let index = Manifest::from_index(Index::new(None, vec![])).expect("a small index");
        memory.push_manifest(&index).await.expect("room in memory");
        memory.tag(&index, &tag).await.expect("the index is there");
        let tags = memory.tags();
        let survey = TagDetailsFetcher::new(Arc::new(memory), Concurrency::new(1));
        let details: Vec<_> = survey.tags(tags).try_collect().await.expect("one tag");
        let shown = row("1.0", 5, details[0].details.as_ref());
        assert_eq!(
            shown.split_whitespace().collect::<Vec<_>>(),
            ["1.0", "-", "-", index.digest().as_str(), "-"]
        );
    }
}
