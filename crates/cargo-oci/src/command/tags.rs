//! `cargo oci tags`: list the tags of a repository, optionally with details of their manifests.

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_package::{Concurrency, Details, TagDetailsFetcher};
use oci_registry::{Cache, LocationText, OtherName, Source, Tag, escape};

use crate::figures::Size;
use crate::filter::{self, Filter};
use crate::message::FormatFlag;
use crate::naming;
use crate::options::parse_location;
use crate::query_result::QueryResult;
use crate::report::{self, Error};
use crate::session::Session;

/// List the tags of a repository
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci tags ghcr.io/acme/widgets\n  cargo oci tags ghcr.io/acme/widgets --long\n  cargo oci tags ghcr.io/acme/widgets --semver --exclude '*__*'\n  cargo oci tags ghcr.io/acme/widgets --long --message-format json\n  cargo oci tags oci:target/oci/widgets"
)]
pub(crate) struct Flags {
    /// Repository to list: REGISTRY/REPOSITORY, oci:DIR or an archive
    #[arg(value_name = "REPOSITORY", value_parser = parse_location)]
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

/// Prints one tag per line. If neither `--long` nor `--semver` is given, the first tags are printed while further pages
/// are fetched.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let location = &session.locate(&flags.repository).await?;
    naming::require_repository(location, "list tags")?;
    let source = session.open_source(location).await?;
    let (filter, reporter) = (flags.filter, session.reporter);
    let print_tag = |tag: &Tag| {
        if reporter.is_json() {
            reporter.emit_query_result(&QueryResult::for_tag(location, tag, None));
            return Ok(());
        }
        report::write_line(tag)
    };
    let print_other = |other: &OtherName| {
        if reporter.is_json() {
            reporter.emit_query_result(&QueryResult::for_other_name(location, other, None));
            return Ok(());
        }
        // The digest is appended, because the name alone is not part of a valid reference.
        report::write_line(format_args!("{}@{}", display_name(other), other.digest))
    };
    let others = async |source: &dyn Source| {
        let mut others = source.other_names().await?;
        others.retain(|other| filter.matches(&other.name));
        Ok::<_, Error>(others)
    };
    let explain = |error| Error::from(oci_package::explain_repository(location, error));
    let tags = source.tags();
    let mut tags = tags.try_filter(|tag| std::future::ready(filter.matches(tag.as_str())));
    if !flags.long && !flags.semver {
        while let Some(tag) = tags.try_next().await.map_err(explain)? {
            print_tag(&tag)?;
        }
        others(&*source).await?.iter().try_for_each(print_other)?;
        return reporter.finish();
    }
    let others = others(&*source).await?;
    // All tags are read first, because the longest name determines the width of the column.
    let tags: oci_registry::Result<Vec<Tag>> = tags.try_collect().await;
    let mut tags = tags.map_err(explain)?;
    if flags.semver {
        filter::sort_by_version(&mut tags);
    }
    if !flags.long {
        tags.iter().try_for_each(print_tag)?;
        others.iter().try_for_each(print_other)?;
        return reporter.finish();
    }
    let widths = tags.iter().map(|tag| tag.as_str().chars().count());
    let widths = widths.chain(
        others
            .iter()
            .map(|other| display_name(other).chars().count()),
    );
    let width = widths.max().unwrap_or_default();
    let source = match Cache::for_user(&session.environment) {
        Some(cache) if source.origin().is_some() => cache.wrap(source),
        _ => source,
    };
    let fetcher = TagDetailsFetcher::new(source, Concurrency::new(session.concurrency));
    let tags = stream::iter(tags.into_iter().map(Ok));
    let mut rows = fetcher.tags(tags.boxed());
    while let Some(row) = rows.try_next().await? {
        let (tag, details) = (&row.tag, row.details.as_ref());
        if reporter.is_json() {
            reporter.emit_query_result(&QueryResult::for_tag(location, tag, details));
        } else {
            report::write_line(format_row(tag.as_str(), width, details))?;
        }
        if let Some(error) = row.error {
            let (tag, error) = (location.with(row.tag), error.in_one_line());
            reporter.note(format_args!("failed to read `{tag}`: {error}"));
        }
    }
    for other in others {
        let details = match fetcher.details(&other.digest).await {
            Err(error) if oci_package::is_document_error(&error) => {
                let (name, error) = (display_name(&other), error.in_one_line());
                reporter.note(format_args!("failed to read `{name}`: {error}"));
                None
            }
            details => details?,
        };
        if reporter.is_json() {
            reporter.emit_query_result(&QueryResult::for_other_name(
                location,
                &other,
                details.as_ref(),
            ));
        } else {
            report::write_line(format_row(&display_name(&other), width, details.as_ref()))?;
        }
    }
    reporter.finish()
}

/// Returns the name of a layout entry that is not a valid tag, escaped for output.
fn display_name(other: &OtherName) -> String {
    escape(&other.name, 300)
}

/// Returns a table row with tag, size, date, digest, and targets or platforms. Unknown values are shown as `-`.
fn format_row(name: &str, width: usize, details: Option<&Details>) -> String {
    let summary = details.map(|details| &details.summary);
    let or_none = |text: Option<String>| {
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "-".to_owned())
    };
    let size = summary.and_then(|summary| summary.size);
    let size = or_none(size.map(|size| Size(size).to_string()));
    let created = summary.and_then(|summary| summary.created.as_deref());
    // Annotations are untrusted and may contain control characters.
    let created = or_none(created.map(|text| escape(text, 25)));
    let digest = or_none(details.map(|details| details.digest.to_string()));
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
            format_row("1.0", 5, None)
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["1.0", "-", "-", "-", "-"]
        );
        let memory = Memory::new();
        let index = Manifest::from_index(Index::new(None, vec![])).expect("a small index");
        memory.push_manifest(&index).await.expect("room in memory");
        memory.tag(&index, &tag).await.expect("the index is there");
        let tags = memory.tags();
        let fetcher = TagDetailsFetcher::new(Arc::new(memory), Concurrency::new(1));
        let details: Vec<_> = fetcher.tags(tags).try_collect().await.expect("one tag");
        let shown = format_row("1.0", 5, details[0].details.as_ref());
        assert_eq!(
            shown.split_whitespace().collect::<Vec<_>>(),
            ["1.0", "-", "-", index.digest().as_str(), "-"]
        );
    }
}
