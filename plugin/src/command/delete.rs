//! `oci delete`: deletes tags, manifests and blobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_package::{DeletedSet, DeletionNote, TagDeletion, TaggedDigest};
use oci_registry::{
    Delete, Digest, ErrorKind, Identifier, Location, LocationText, Manifest, Source,
};
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
            .switch(
                "keep-targets",
                "Delete the tag of a package and keep its target tags",
                None,
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
        "Deleting a tag keeps its manifest, which stays reachable by digest and by other tags. Deleting the tag of a \
         package also deletes its target tags. Deleting the last tag of a version also deletes the floating tags that \
         refer to it, such as `latest`. Deleting a target tag, or the manifest of a target, also removes its entry from \
         the index. An index without entries is deleted. Deleting a digest deletes the manifest and all its tags. A \
         digest may also refer to a blob. After an interruption, run the command again to delete the remaining \
         tags.\n\n\
         The output has one row per change. `action` is `deleted`, or `changed` for an index from which an entry was \
         removed and for its floating tags; with --dry-run it is `would delete` or `would change`. Content that was \
         deleted together with an earlier row has no second row. Many registries disable deletion: the command then \
         fails with `oci::unsupported` and deletes nothing."
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
                example: "oci delete ghcr.io/acme/widgets:1.2.3 --dry-run",
                description: "Show all tags that are deleted with a version",
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
            keep_targets: call.has_flag("keep-targets")?,
            is_noted: AtomicBool::new(false),
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
    keep_targets: bool,
    /// Whether the note about the manifests of deleted tags was printed.
    is_noted: AtomicBool,
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
                    "run `oci tags {} --all | oci delete` to delete all its tags",
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
        let mut rows = Vec::new();
        let outcome = self
            .delete_content(&location, &identifier, &operand, deleted_set, &mut rows)
            .await;
        // If the deletion of a later tag fails, the rows show the deleted tags.
        let rows = rows.into_iter().map(Ok).chain(outcome.err().map(Err));
        Ok(stream::iter(rows.collect::<Vec<_>>()).boxed())
    }

    /// Deletes the content of an operand, and adds a row for each change.
    async fn delete_content(
        &self,
        location: &OpenLocation<dyn Delete>,
        named: &Identifier,
        operand: &Operand<Location>,
        deleted_set: &mut DeletedSet,
        rows: &mut Vec<Value>,
    ) -> Result<(), LabeledError> {
        let at = operand.span;
        if deleted_set.contains(named, None) {
            return Ok(());
        }
        let content = &**location.content();
        let entry = oci_package::find_entry(content, named).await;
        let entry = entry.map_err(|error| error.at(at))?;
        if let (Identifier::Tag(tag), None) = (named, &entry) {
            let plan = oci_package::plan_tag_deletion(content, tag, self.keep_targets).await;
            let plan = match plan {
                Ok(plan) => plan,
                Err(error) => return Err(self.not_found(content, error, operand).await),
            };
            let plan = plan.without_deleted(deleted_set);
            return self
                .delete_tags(location, plan, at, deleted_set, rows)
                .await;
        }
        let resolved = Source::resolve(content, named).await;
        let resolved = match (resolved, named) {
            (Err(error), Identifier::Digest(digest)) if error.kind() == ErrorKind::NotFound => {
                let deleted = match self.delete_blob(location, digest).await {
                    Ok(deleted) => deleted,
                    Err(error) => return Err(self.not_found(content, error, operand).await),
                };
                deleted_set.insert(named.clone());
                rows.push(deleted);
                return Ok(());
            }
            (Ok(resolved), _) => resolved,
            (Err(error), _) => return Err(self.not_found(content, error, operand).await),
        };
        let digest = &resolved.digest;
        if deleted_set.contains(named, Some(digest)) {
            return Ok(());
        }
        let entry = entry.and_then(|entry| deleted_set.remaining_entry(entry));
        let mut index_tags = Vec::new();
        match (&entry, named) {
            (None, Identifier::Tag(tag)) => {
                let plan = TagDeletion::single(tag.clone(), digest.clone());
                return self
                    .delete_tags(location, Some(plan), at, deleted_set, rows)
                    .await;
            }
            (None, Identifier::Digest(digest)) => {
                let tags = oci_package::find_index_tags(content, digest).await;
                let mut tags = tags.map_err(|error| error.at(at))?;
                tags.kept_targets
                    .retain(|tag| !deleted_set.contains(&tag.clone().into(), None));
                if let Some(note) = tags.note() {
                    report::note(&note);
                }
                tags.deleted
                    .retain(|tag| !deleted_set.contains(&tag.clone().into(), Some(digest)));
                let tags = tags.deleted.into_iter().map(Identifier::Tag);
                index_tags.extend(tags.map(|tag| self.row(location, &tag, "delete", Some(digest))));
            }
            (Some(entry), _) => {
                let mut changed = Vec::new();
                // `remove` deletes the tags before it changes the index, so the rows of the tags come first.
                let tags = entry.tags.iter().cloned().map(Identifier::Tag);
                changed.extend(tags.map(|tag| self.row(location, &tag, "delete", Some(digest))));
                let (action, remaining, floating) = if self.is_dry_run {
                    deleted_set.insert_entry(entry);
                    let is_last = entry.other_entries.is_empty();
                    let action = if is_last { "delete" } else { "change" };
                    let moved = entry.moved_floating_tags();
                    let floating = entry.deleted_floating_tags().chain(moved);
                    (action, None, floating.cloned().collect())
                } else {
                    let selectors = std::slice::from_ref(&entry.selector);
                    let removed =
                        oci_package::remove(content, &entry.index, selectors, &|_| {}).await;
                    let removed = removed.map_err(|error| error.at(at))?;
                    deleted_set.insert_removed(&entry.index, &removed);
                    let action = removed.index.as_ref().map_or("delete", |_| "change");
                    (action, removed.index, removed.floating_tags)
                };
                let digest = remaining.as_ref().map(Manifest::digest);
                let indexes = [entry.index.clone()].into_iter().chain(floating);
                let indexes = indexes.map(Identifier::Tag);
                changed.extend(indexes.map(|tag| self.row(location, &tag, action, digest)));
                rows.extend(changed);
            }
        }
        let Identifier::Digest(digest) = named else {
            // `remove` already deleted the tag.
            self.note_manifests();
            return Ok(());
        };
        if !self.is_dry_run {
            let deleted = content.delete_manifest(digest).await;
            deleted.map_err(|error| error.at(at))?;
        }
        deleted_set.insert(named.clone());
        rows.extend(index_tags);
        rows.push(self.row(location, named, "delete", Some(digest)));
        Ok(())
    }

    /// Deletes a tag with its target tags and floating tags.
    async fn delete_tags(
        &self,
        location: &OpenLocation<dyn Delete>,
        plan: Option<TagDeletion>,
        at: Span,
        deleted_set: &mut DeletedSet,
        rows: &mut Vec<Value>,
    ) -> Result<(), LabeledError> {
        let Some(plan) = plan else {
            return Ok(());
        };
        for note in plan.notes() {
            report::note(note);
        }
        let mut add_row = |tagged: &TaggedDigest| {
            let named = tagged.tag.clone().into();
            rows.push(self.row(location, &named, "delete", Some(&tagged.digest)));
        };
        if self.is_dry_run {
            for tagged in plan.tags() {
                add_row(tagged);
                deleted_set.insert(tagged.tag.clone().into());
            }
        } else {
            let content = &**location.content();
            let remaining = plan.delete(content, deleted_set, add_row).await;
            if let Some(note) = remaining.map_err(|error| error.at(at))? {
                report::note(&note);
            }
        }
        self.note_manifests();
        Ok(())
    }

    /// Prints the note about the manifests of deleted tags, once per call.
    fn note_manifests(&self) {
        if !self.is_noted.swap(true, Ordering::Relaxed) {
            report::note(&DeletionNote::ManifestsKept);
        }
    }

    async fn not_found(
        &self,
        content: &dyn Source,
        error: oci_registry::Error,
        operand: &Operand<Location>,
    ) -> LabeledError {
        self.resolver
            .manifest_not_found(content, error, operand)
            .await
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
