//! `oci delete`: deletes tags, manifests and blobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_package::DeletedSet;
use oci_registry::{Delete, Digest, ErrorKind, Identifier, Location, LocationText, Source};
use tokio::sync::Mutex;

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::not_found::ReferencePart;
use crate::open_location::OpenLocation;
use crate::report::{self, ToLabeledError};
use crate::resolver::OperandResolver;
use crate::runtime::Rows;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci delete` command.
pub(crate) struct DeleteCommand;

impl PluginCommand for DeleteCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci delete"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::action_columns());
        let signature = Signature::build(self.name())
            .rest(
                "reference",
                SyntaxShape::String,
                "The tag, manifest or blob to delete, as `REGISTRY/REPOSITORY:TAG`, `…@DIGEST` or `oci:DIRECTORY:TAG`",
            )
            .switch("dry-run", "Show the actions without performing them", Some('n'))
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Delete tags, manifests and blobs."
    }

    fn extra_description(&self) -> &'static str {
        "Deleting a tag keeps the manifest and its other tags. Deleting a manifest by its digest also deletes every \
         tag that points to it. A digest may also refer to a blob. Deleting the tag or the manifest of one target of a \
         package also removes its entry from the index of the release; the index is deleted with its last entry.\n\n\
         The output has one row per change. `action` is `deleted`, or `changed` for an index from which an entry was \
         removed; with --dry-run it is `would delete` or `would change`. Content that was deleted together with an \
         earlier row has no second row. Many registries disable deletion: the command then fails with \
         `oci::unsupported` and deletes nothing."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["remove", "prune", "untag", "retention", "clean"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci delete ghcr.io/acme/widgets:nightly",
                description: "Delete a tag",
                result: None,
            },
            Example {
                example: "oci tags registry.acme.dev/ci/builds --long | where created < (date now) - 30day | oci delete --dry-run",
                description: "Preview the deletion of builds that are older than a month",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let delete_call = DeleteCall {
            resolver: context.resolver(),
            is_dry_run: call.has_flag("dry-run")?,
            deleted_by_location: Mutex::default(),
            span: call.head,
        };
        context.map_rows_sequentially(operands, delete_call, DeleteCall::delete)
    }
}

/// State of one call of `oci delete`.
struct DeleteCall {
    resolver: OperandResolver,
    is_dry_run: bool,
    /// Content that this call already deleted, by repository. In a dry run, content that would be deleted by then. An
    /// operand whose content is in this map is skipped.
    deleted_by_location: Mutex<BTreeMap<String, DeletedSet>>,
    span: Span,
}

impl DeleteCall {
    async fn delete(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate_deletable(operand).await?;
        let at = operand.span;
        let Some(identifier) = operand.name.identifier() else {
            let message = format!("refusing to delete the whole repository `{}`", operand.name);
            return Err(
                report::invalid(message, "has no tag or digest", at).with_help(format!(
                    "run `oci tags {} | oci delete` to delete all its tags",
                    operand.name
                )),
            );
        };
        let location = OpenLocation::open_deletable(
            self.resolver.client(),
            &operand.name,
            self.resolver.base(),
        );
        let location = location.await.map_err(|error| {
            self.resolver
                .not_found(&error, ReferencePart::Location, &operand)
        })?;
        let Some(location) = location else {
            let message = format!(
                "failed to delete `{}`: archives do not support deletion",
                operand.name
            );
            let kind = ErrorKind::Unsupported;
            return Err(report::new(kind, message, "is in an archive", at));
        };
        let mut deleted_by_location = self.deleted_by_location.lock().await;
        let deleted_set = deleted_by_location.entry(location.name()).or_default();
        let rows = self
            .delete_content(&location, &identifier, &operand, deleted_set)
            .await;
        let rows = rows?;
        Ok(stream::iter(rows.into_iter().map(Ok)).boxed())
    }

    async fn delete_content(
        &self,
        location: &OpenLocation<dyn Delete>,
        named: &Identifier,
        operand: &Operand<Location>,
        deleted_set: &mut DeletedSet,
    ) -> Result<Vec<Value>, LabeledError> {
        let at = operand.span;
        if deleted_set.contains(named, None) {
            return Ok(Vec::new());
        }
        let content = &**location.content();
        let resolved = Source::resolve(content, named).await;
        let resolved = match (resolved, named) {
            (Err(error), Identifier::Digest(digest)) if error.kind() == ErrorKind::NotFound => {
                let deleted = match self.delete_blob(location, digest).await {
                    Ok(deleted) => deleted,
                    Err(error) => {
                        return Err(self
                            .resolver
                            .manifest_not_found(content, error, operand)
                            .await);
                    }
                };
                deleted_set.insert(named.clone());
                return Ok(vec![deleted]);
            }
            (Ok(resolved), _) => resolved,
            (Err(error), _) => {
                return Err(self
                    .resolver
                    .manifest_not_found(content, error, operand)
                    .await);
            }
        };
        let digest = &resolved.digest;
        if deleted_set.contains(named, Some(digest)) {
            return Ok(Vec::new());
        }
        let entry = oci_package::find_entry(content, named).await;
        let entry = entry.map_err(|error| error.at(at))?;
        let entry = entry.and_then(|entry| deleted_set.remaining_entry(entry));
        let mut rows = Vec::new();
        if let Some(entry) = &entry {
            // `remove` deletes the tags before it changes the index, so the rows of the tags come first.
            let tags = entry.tags.iter().cloned().map(Identifier::Tag);
            rows.extend(tags.map(|tag| self.row(location, &tag, "delete", Some(digest))));
            let index = Identifier::Tag(entry.index.clone());
            rows.push(if self.is_dry_run {
                deleted_set.insert_entry(entry);
                let is_last = entry.other_entries.is_empty();
                let action = if is_last { "delete" } else { "change" };
                self.row(location, &index, action, None)
            } else {
                let selectors = std::slice::from_ref(&entry.selector);
                let removed = oci_package::remove(content, &entry.index, selectors, &|_| {}).await;
                let removed = removed.map_err(|error| error.at(at))?;
                deleted_set.insert_removed(&entry.index, &removed);
                match &removed.index {
                    Some(remaining) => {
                        self.row(location, &index, "change", Some(remaining.digest()))
                    }
                    None => self.row(location, &index, "delete", None),
                }
            });
        }
        let deleted = match named {
            // `remove` already deleted this tag.
            Identifier::Tag(_) if entry.is_some() => return Ok(rows),
            _ if self.is_dry_run => Ok(()),
            Identifier::Tag(tag) => content.delete_tag(tag).await,
            Identifier::Digest(digest) => content.delete_manifest(digest).await,
        };
        deleted.map_err(|error| error.at(at))?;
        deleted_set.insert(named.clone());
        rows.push(self.row(location, named, "delete", Some(digest)));
        Ok(rows)
    }

    async fn delete_blob(
        &self,
        location: &OpenLocation<dyn Delete>,
        digest: &Digest,
    ) -> oci_registry::Result<Value> {
        let content = &**location.content();
        Source::find_blob(content, digest).await?;
        if !self.is_dry_run {
            content.delete_blob(digest).await?;
        }
        Ok(self.row(location, &digest.clone().into(), "delete", Some(digest)))
    }

    /// Returns the row for an action: `delete` or `change`.
    fn row(
        &self,
        location: &OpenLocation<dyn Delete>,
        named: &Identifier,
        action: &str,
        digest: Option<&Digest>,
    ) -> Value {
        let action = if self.is_dry_run {
            format!("would {action}")
        } else {
            format!("{action}d")
        };
        value::action(
            location.reference(named.clone()),
            &action,
            digest,
            self.span,
        )
    }
}
