//! `oci tags`: lists the tags of a repository, optionally with details of their manifests.

use std::sync::Arc;

use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Record, Signature, Span, SyntaxShape, Type,
    Value, record,
};
use oci_package::{Concurrency, ListedTag, TagDetailsFetcher, TagListing};
use oci_registry::{Cache, Identifier, LocationText, OtherName};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::not_found::ReferencePart;
use crate::report;
use crate::resolver::OperandResolver;
use crate::runtime::Rows;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci tags` command.
pub(crate) struct TagsCommand;

impl PluginCommand for TagsCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci tags"
    }

    fn signature(&self) -> Signature {
        let table = Type::table();
        let signature = Signature::build(self.name())
            .rest(
                "repository",
                SyntaxShape::String,
                "The repository, as `REGISTRY/REPOSITORY` or `oci:DIRECTORY`",
            )
            .switch(
                "long",
                "Also show the size, date, platforms, digest and other details of each tag",
                Some('l'),
            )
            .switch("all", "Also show target tags and referrers tags", Some('a'))
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "List the tags of a repository."
    }

    fn extra_description(&self) -> &'static str {
        "Each row has the `name` and `reference` of a tag. If the input is a list of repositories, each row also has \
         `repository`. With --long, the manifests of the tags are fetched, several at a time, for `size`, `created`, \
         `platforms`, `targets`, `artifact_type`, `media_type`, `annotations` and `digest`.\n\n\
         Target tags, such as `1.2.3__x86_64-apple-darwin`, and referrers tags are shown only with --all. Without \
         --all, a row for each incomplete version follows the last page. Such a version has target tags but no version \
         tag. With --long, the row has the targets of these tags.\n\n\
         Rows appear while further pages are fetched. After `first`, no further pages are requested. The details are \
         null if a tag was deleted meanwhile or its manifest cannot be read. If a manifest cannot be read, a warning \
         on stderr shows the reason. If the registry's rate limit is exceeded, an error follows the rows received so \
         far."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["versions", "releases", "list"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci tags ghcr.io/acme/widgets",
                description: "List version tags and moving tags",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets --long | where created > ((date now) - 7day) | sort-by size --reverse",
                description: "List the tags of the last week, largest first",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets --long | where targets has aarch64-apple-darwin | get name",
                description: "List the tags that include a target",
                result: None,
            },
            Example {
                example: "[ghcr.io/acme/widgets ghcr.io/acme/gadgets] | oci tags | group-by repository",
                description: "List the tags of several repositories",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Repository));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let tags_call = TagsCall {
            resolver: context.resolver(),
            cache: context.cache(),
            is_long: call.has_flag("long")?,
            shows_all: call.has_flag("all")?,
            has_repository_column: operands.is_list(),
            concurrency: Concurrency::new(context.concurrency()),
            span: call.head,
        };
        context.map_rows(operands, tags_call, TagsCall::rows)
    }
}

/// State of one call of `oci tags`.
struct TagsCall {
    resolver: OperandResolver,
    is_long: bool,
    /// Whether hidden tags are shown.
    shows_all: bool,
    has_repository_column: bool,
    cache: Option<Cache>,
    /// Limiter for concurrent requests that fetch details of tags, shared by all repositories.
    concurrency: Concurrency,
    span: Span,
}

impl TagsCall {
    /// Returns the rows of one repository.
    async fn rows(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let at = operand.span;
        if let Some(identifier) = operand.name.identifier() {
            let message = format!("failed to list the tags of `{}`", operand.name);
            return Err(
                report::invalid(message, "has a tag or digest", at).with_help(format!(
                    "leave out `{identifier}`: `{}`",
                    operand.name.whole_repository()
                )),
            );
        }
        let location = self.resolver.open(&operand).await?;
        let tags = location.content().tags();
        let tags = if self.shows_all {
            tags.map_ok(ListedTag::from).boxed()
        } else {
            TagListing::new(tags).boxed()
        };
        let source = location.with_cache(self.cache.as_ref());
        let (span, has_repository_column) = (self.span, self.has_repository_column);
        let repository = location.clone();
        let row = move |name: &str, identifier: Identifier| {
            let mut row = record! {
                "name" => value::text(Some(name), span),
                "reference" => Value::string(location.reference(identifier), span),
            };
            if has_repository_column {
                row.push("repository", Value::string(location.name(), span));
            }
            row
        };
        let other_row = {
            let row = row.clone();
            move |other: &OtherName| row(&other.name, other.digest.clone().into())
        };
        let tags_call = Arc::clone(&self);
        let to_labeled_error = move |error: oci_registry::Error| {
            let error = oci_package::explain_repository(&operand.name, error);
            tags_call
                .resolver
                .not_found(&error, ReferencePart::Location, &operand)
        };
        // The rows of a layout's other names, which are not valid tags, follow the rows of the tags.
        let other_names = {
            let (source, to_labeled_error) = (Arc::clone(&source), to_labeled_error.clone());
            let other_names = async move { source.other_names().await.map_err(to_labeled_error) };
            let other_names = other_names.map_ok(|other_names| stream::iter(other_names).map(Ok));
            other_names.try_flatten_stream()
        };
        if !self.is_long {
            let rows = tags
                .map_ok(move |listed| row(listed.tag.as_str(), listed.tag.clone().into()))
                .map_err(to_labeled_error);
            let other_names = other_names.map_ok(move |other| other_row(&other));
            let rows = rows.chain(other_names);
            return Ok(rows.map_ok(move |row| Value::record(row, span)).boxed());
        }
        let fetcher = TagDetailsFetcher::new(source, self.concurrency.clone());
        let rows = fetcher.tags(tags).map({
            let (to_labeled_error, repository) = (to_labeled_error.clone(), repository.clone());
            move |details| {
                let details = details.map_err(&to_labeled_error)?;
                let row = row(details.tag.as_str(), details.tag.clone().into());
                if let Some(error) = &details.error {
                    report::warn_incomplete_row(&repository.reference(details.tag.clone()), error);
                }
                let targets = details.incomplete_targets.as_deref();
                let details = value::tag_details(details.details.as_ref(), targets, span);
                Ok(Value::record(with_details(row, details), span))
            }
        });
        let other_names = other_names.and_then(move |other| {
            let (fetcher, to_labeled_error, repository) = (
                fetcher.clone(),
                to_labeled_error.clone(),
                repository.clone(),
            );
            let row = other_row(&other);
            async move {
                let details = match fetcher.details(&other.digest).await {
                    Err(error) if oci_package::is_document_error(&error) => {
                        report::warn_incomplete_row(&repository.reference(other.digest), &error);
                        None
                    }
                    details => details.map_err(to_labeled_error)?,
                };
                let details = value::tag_details(details.as_ref(), None, span);
                Ok(Value::record(with_details(row, details), span))
            }
        });
        let rows = rows.chain(other_names);
        Ok(rows.boxed())
    }
}

/// Inserts the details into a row. The long columns come last, because Nushell hides columns that do not fit.
fn with_details(mut row: Record, mut details: Record) -> Record {
    let mut columns: Record = row
        .remove("name")
        .map(|name| ("name".to_owned(), name))
        .into_iter()
        .collect();
    let digest = details.remove("digest");
    columns.extend(details);
    columns.extend(row);
    columns.extend(digest.map(|digest| ("digest".to_owned(), digest)));
    columns
}
