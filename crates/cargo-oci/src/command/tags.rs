//! `cargo oci tags`: list the tags of a repository, optionally with details of their manifests.

use std::borrow::Cow;
use std::sync::Arc;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci_package::{
    Concurrency, Details, HiddenTag, HiddenTagCount, ListedTag, TagDetailsFetcher, TagListing,
};
use oci_registry::{Cache, Location, LocationText, OtherName, Source, Tag, escape};

use crate::filter::{self, Filter};
use crate::message::FormatFlag;
use crate::naming;
use crate::options::parse_location;
use crate::query_result::QueryResult;
use crate::report::{self, Error};
use crate::session::Session;
use crate::table::{Cell, Column, Table, short_hex};

/// Maximum width of the column of names. A tag such as `nightly-2026-11-28__aarch64-unknown-linux-musl` fits.
const MAX_NAME_WIDTH: usize = 46;

/// List the tags of a repository
///
/// Versions come first, the newest first, then the other tags by name. Target tags (`1.2.3__TRIPLE`) and referrers tags
/// (`sha256-…`) are hidden. Incomplete versions are listed. Such a version has target tags but no version tag.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "Examples:\n  cargo oci tags ghcr.io/acme/widgets\n  cargo oci tags ghcr.io/acme/widgets --long\n  cargo oci tags ghcr.io/acme/widgets --include '1.2.3__*'\n  cargo oci tags ghcr.io/acme/widgets --long --message-format json\n  cargo oci tags oci:target/oci/widgets --all"
)]
pub(crate) struct Flags {
    /// Repository to list: REGISTRY/REPOSITORY, oci:DIR or an archive
    #[arg(value_name = "REPOSITORY", value_parser = parse_location)]
    repository: LocationText,

    /// Also show size, date, digest and targets of each tag
    #[arg(long, short)]
    long: bool,

    /// Show hidden tags too, in the order of the registry
    ///
    /// Prints the tags as they arrive. A pattern of `--include` that contains `__` also shows target tags.
    #[arg(long, short)]
    all: bool,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Prints one tag per line, and the number of hidden tags on stderr.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let location = &session.locate(&flags.repository).await?;
    naming::require_repository(location, "list tags")?;
    let source = session.open_source(location).await?;
    let filter = Arc::new(flags.filter);
    let printer = TagPrinter {
        session,
        location,
        // With `--all`, the rows are not checked for missing tags.
        incomplete: (!flags.all).then_some(false),
    };
    let explain = |error| Error::from(oci_package::explain_repository(location, error));
    let others = async {
        let mut others = source.other_names().await?;
        others.retain(|other| filter.matches(&other.name));
        Ok::<_, Error>(others)
    };
    let (entries, hidden) = if flags.all {
        let tags = source.tags();
        let mut tags = tags.try_filter(|tag| std::future::ready(filter.matches(tag.as_str())));
        if !flags.long {
            while let Some(tag) = tags.try_next().await.map_err(explain)? {
                printer.print_entry(&tag.into())?;
            }
            let others = others.await?;
            others
                .iter()
                .try_for_each(|other| printer.print_other(other))?;
            return session.reporter.finish();
        }
        let tags: oci_registry::Result<Vec<_>> = tags.map_ok(ListedTag::from).try_collect().await;
        (tags.map_err(explain)?, HiddenTagCount::default())
    } else {
        let matches = Arc::clone(&filter);
        let mut listing = TagListing::new(source.tags())
            .with_filter(move |name| matches.matches(name), filter.includes_targets());
        let entries: oci_registry::Result<Vec<_>> = (&mut listing).try_collect().await;
        let mut entries = entries.map_err(explain)?;
        filter::sort_by_version(&mut entries, |entry| &entry.tag);
        (entries, listing.hidden())
    };
    let others = others.await?;
    let incomplete = entries
        .iter()
        .filter(|entry| entry.incomplete_targets.is_some());
    let incomplete: Vec<_> = incomplete.map(|entry| entry.tag.to_string()).collect();
    if flags.long {
        printer.print_details(source, entries, others).await?;
    } else {
        entries
            .iter()
            .try_for_each(|entry| printer.print_entry(entry))?;
        others
            .iter()
            .try_for_each(|other| printer.print_other(other))?;
    }
    report_omissions(session, hidden, &incomplete);
    session.reporter.finish()
}

/// Prints a note about hidden tags, and one about incomplete versions.
fn report_omissions(session: &Session, hidden: HiddenTagCount, incomplete: &[String]) {
    let reporter = session.reporter;
    match incomplete {
        [] => {}
        [version] => reporter.note_on_stderr(format_args!(
            "{version} is incomplete: it has target tags but no version tag"
        )),
        versions => reporter.note_on_stderr(format_args!(
            "{} versions are incomplete: they have target tags but no version tag: {}",
            versions.len(),
            versions.join(", ")
        )),
    }
    if !hidden.is_zero() {
        let verb = if hidden.targets + hidden.referrers == 1 {
            "shows it"
        } else {
            "shows them"
        };
        reporter.note_on_stderr(format_args!("{hidden} hidden; --all {verb}"));
    }
}

/// Output of the rows, in human format or as JSON.
struct TagPrinter<'a> {
    session: &'a Session,
    location: &'a Location,
    /// Value of `incomplete` for a tag that exists.
    incomplete: Option<bool>,
}

impl TagPrinter<'_> {
    fn print_entry(&self, entry: &ListedTag) -> Result<(), Error> {
        let tag = &entry.tag;
        if !self.session.reporter.is_json() {
            return report::write_line(tag);
        }
        let result = match entry.incomplete_targets {
            Some(_) => QueryResult::for_incomplete_version(self.location, tag, None),
            None => QueryResult::for_tag(self.location, tag, None, self.incomplete),
        };
        self.session.reporter.emit_query_result(&result);
        Ok(())
    }

    fn print_other(&self, other: &OtherName) -> Result<(), Error> {
        if self.session.reporter.is_json() {
            let result = QueryResult::for_other_name(self.location, other, None, self.incomplete);
            self.session.reporter.emit_query_result(&result);
            return Ok(());
        }
        // The digest is appended, because the name alone is not part of a valid reference.
        report::write_line(format_args!("{}@{}", display_name(other), other.digest))
    }

    /// Fetches the details of the entries, and prints each row as soon as its details are known.
    async fn print_details(
        &self,
        source: Arc<dyn Source>,
        entries: Vec<ListedTag>,
        others: Vec<OtherName>,
    ) -> Result<(), Error> {
        let (location, reporter) = (self.location, self.session.reporter);
        let names = entries.iter().map(|entry| short_name(&entry.tag));
        let names = names.chain(others.iter().map(|other| display_name(other).into()));
        let table = Table::new([
            Column::text("TAG").fit(MAX_NAME_WIDTH, names),
            Column::size("SIZE"),
            Column::date("CREATED (UTC)"),
            Column::digest("DIGEST"),
            Column::text("TARGETS"),
        ]);
        if !reporter.is_json() {
            table.print_header()?;
        }
        let source = match Cache::for_user(&self.session.environment) {
            Some(cache) if source.origin().is_some() => cache.wrap(source),
            _ => source,
        };
        let concurrency = Concurrency::new(self.session.concurrency);
        let fetcher = TagDetailsFetcher::new(source, concurrency);
        let mut rows = fetcher.tags(stream::iter(entries.into_iter().map(Ok)).boxed());
        while let Some(row) = rows.try_next().await? {
            let (tag, details) = (&row.tag, row.details.as_ref());
            let targets = row.incomplete_targets.as_deref();
            if reporter.is_json() {
                reporter.emit_query_result(&match targets {
                    Some(_) => QueryResult::for_incomplete_version(location, tag, targets),
                    None => QueryResult::for_tag(location, tag, details, self.incomplete),
                });
            } else {
                let name = if table.is_short() {
                    short_name(tag)
                } else {
                    tag.as_str().into()
                };
                print_row(&table, &name, details, targets)?;
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
            let details = details.as_ref();
            if reporter.is_json() {
                let result =
                    QueryResult::for_other_name(location, &other, details, self.incomplete);
                reporter.emit_query_result(&result);
            } else {
                print_row(&table, &display_name(&other), details, None)?;
            }
        }
        Ok(())
    }
}

/// Returns the name of a tag for a terminal. The digest in the tag of referrers is short.
fn short_name(tag: &Tag) -> Cow<'_, str> {
    let text = tag.as_str();
    match (HiddenTag::of(tag), text.split_once('-')) {
        (Some(HiddenTag::Referrers), Some((algorithm, encoded))) => {
            let (encoded, suffix) = match encoded.split_once('.') {
                Some((encoded, suffix)) => (encoded, format!(".{suffix}")),
                None => (encoded, String::new()),
            };
            format!("{algorithm}-{}…{suffix}", short_hex(encoded)).into()
        }
        _ => text.into(),
    }
}

/// Returns the name of a layout entry that is not a valid tag, escaped for output.
fn display_name(other: &OtherName) -> String {
    escape(&other.name, 300)
}

/// Prints the row of a tag. The platforms are shown if there are no targets.
fn print_row(
    table: &Table<5>,
    name: &str,
    details: Option<&Details>,
    incomplete_targets: Option<&[String]>,
) -> Result<(), Error> {
    let summary = details.map(|details| &details.summary);
    let platforms: Vec<_> = summary
        .iter()
        .flat_map(|summary| summary.platforms.iter().map(ToString::to_string))
        .collect();
    let targets = incomplete_targets.or(summary.map(|summary| &summary.targets[..]));
    let targets = targets.filter(|targets| !targets.is_empty());
    table.print_row([
        Cell::Text(Some(name)),
        Cell::Size(summary.and_then(|summary| summary.size)),
        Cell::Date(summary.and_then(|summary| summary.created.as_deref())),
        Cell::Digest(details.map(|details| &details.digest)),
        Cell::List(targets.unwrap_or(&platforms)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_tag_is_short_on_terminal() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, expected) in [
            (format!("sha256-{hex}"), "sha256-e3b0c44298fc…"),
            (format!("sha256-{hex}.sig"), "sha256-e3b0c44298fc….sig"),
            ("1.2.3-rc.1".to_owned(), "1.2.3-rc.1"),
        ] {
            assert_eq!(short_name(&text.parse().expect("a tag")), expected);
        }
    }
}
