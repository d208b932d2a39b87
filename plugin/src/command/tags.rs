//! `oci tags`: the tags of a repository, and what they name.

use std::sync::Arc;

use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
    record,
};
use oci_package::{Concurrency, Survey};
use oci_registry::{Cache, Identifier, LocationText, OtherName};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::Lookup;
use crate::missing::Part;
use crate::report;
use crate::runtime::Rows;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Lists tags.
pub(crate) struct Tags;

impl PluginCommand for Tags {
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
                "Ask what each tag names: size, date, platforms, digest, …",
                Some('l'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "List the tags of a repository."
    }

    fn extra_description(&self) -> &'static str {
        "A tag is its `name` and `reference`, and costs nothing beyond the list. Lists of repositories, also lists of one, \
         add `repository`. With --long each tag is looked at, several at once, for `size`, `created`, `platforms`, \
         `targets`, `artifact_type`, `media_type`, `annotations` and `digest`.\n\n\
         Rows appear while further pages are still to come; `first` stops asking for them. A tag that is deleted while \
         the table is made has empty cells, and so has one whose manifest cannot be read: a warning on stderr says why, and \
         `oci manifest` does. Where a registry limits how often it is asked, the rows so far are followed by an error."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["versions", "releases", "list"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci tags ghcr.io/acme/widgets",
                description: "List all tags",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets --long | where created > ((date now) - 7day) | sort-by size --reverse",
                description: "The tags of the last week, the largest first",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets --long | where targets has aarch64-apple-darwin | get name",
                description: "The tags that have something for a target",
                result: None,
            },
            Example {
                example: "[ghcr.io/acme/widgets ghcr.io/acme/gadgets] | oci tags | group-by repository",
                description: "The tags of several repositories",
                result: None,
            },
        ]
    }

    completes!(|_| Some(Kind::Repository));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<LocationText>(input)?;
        let listing = Listing {
            lookup: session.lookup(),
            cache: session.cache(),
            is_long: call.has_flag("long")?,
            names_repository: asked.is_list(),
            concurrency: Concurrency::new(session.concurrency()),
            span: call.head,
        };
        session.rows(asked, listing, Listing::rows)
    }
}

/// How this call lists tags.
struct Listing {
    lookup: Lookup,
    is_long: bool,
    names_repository: bool,
    cache: Option<Cache>,
    /// Of requests about single tags, of all repositories together.
    concurrency: Concurrency,
    span: Span,
}

impl Listing {
    /// The rows of one repository.
    async fn rows(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let at = asked.span;
        if let Some(identifier) = asked.name.identifier() {
            let message = format!("failed to list the tags of `{}`", asked.name);
            return Err(
                report::invalid(message, "names one manifest, not a repository", at).with_help(
                    format!(
                        "leave `{identifier}` out: `{}`",
                        asked.name.whole_repository()
                    ),
                ),
            );
        }
        let place = self.lookup.place(&asked).await?;
        let tags = place.content().tags();
        let source = place.cached_by(self.cache.as_ref());
        let (span, names_repository) = (self.span, self.names_repository);
        let named = place.clone();
        let row = move |name: &str, identifier: Identifier| {
            let mut row = record! {
                "name" => Value::string(name, span),
                "reference" => Value::string(place.reference(identifier), span),
            };
            if names_repository {
                row.push("repository", Value::string(place.name(), span));
            }
            row
        };
        let of_other = {
            let row = row.clone();
            move |other: &OtherName| row(&other.name, other.digest.clone().into())
        };
        let listing = Arc::clone(&self);
        let failed =
            move |error: oci_registry::Error| listing.lookup.missing(&error, Part::Place, &asked);
        // After the tags, the names that no tag stands for.
        let others = {
            let (source, failed) = (Arc::clone(&source), failed.clone());
            let others = async move { source.other_names().await.map_err(failed) };
            let others = others.map_ok(|others| stream::iter(others).map(Ok));
            others.try_flatten_stream()
        };
        if !self.is_long {
            let rows = tags
                .map_ok(move |tag| row(tag.as_str(), tag.clone().into()))
                .map_err(failed);
            let others = others.map_ok(move |other| of_other(&other));
            let rows = rows.chain(others);
            return Ok(rows.map_ok(move |row| Value::record(row, span)).boxed());
        }
        let survey = Survey::new(source, self.concurrency.clone());
        let rows = survey.tags(tags).map({
            let (failed, named) = (failed.clone(), named.clone());
            move |details| {
                let details = details.map_err(&failed)?;
                let mut row = row(details.tag.as_str(), details.tag.clone().into());
                if let Some(error) = &details.unreadable {
                    report::warn_of_row(&named.reference(details.tag.clone()), error);
                }
                row.extend(value::tag_details(details.named.as_ref(), span));
                Ok(Value::record(row, span))
            }
        });
        let others = others.and_then(move |other| {
            let (survey, failed, named) = (survey.clone(), failed.clone(), named.clone());
            let mut row = of_other(&other);
            async move {
                let details = match survey.details(&other.digest).await {
                    Err(error) if oci_package::is_of_one_document(&error) => {
                        report::warn_of_row(&named.reference(other.digest), &error);
                        None
                    }
                    details => details.map_err(failed)?,
                };
                row.extend(value::tag_details(details.as_ref(), span));
                Ok(Value::record(row, span))
            }
        });
        let rows = rows.chain(others);
        Ok(rows.boxed())
    }
}
