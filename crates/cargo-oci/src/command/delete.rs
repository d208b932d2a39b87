//! `cargo oci delete`: delete tags, manifests and blobs.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use oci_package::{
    DeletedSet, DeletionNote, EntryLocation, IndexTags, PublishEvent, TagDeletion, TaggedDigest,
};
use oci_registry::{Delete, Digest, Identifier, Location, LocationText, Source, Tag};

use crate::figures::format_count;
use crate::message::{DeleteAction, FormatFlag, Message};
use crate::naming;
use crate::options::parse_location;
use crate::output::is_stdout_terminal;
use crate::report::{self, Error};
use crate::session::Session;

/// Delete tags, manifests and blobs
///
/// Deleting a tag keeps its manifest, which stays reachable by digest and by other tags. Deleting the tag of a package
/// also deletes its target tags. Deleting the last tag of a version also deletes the floating tags that refer to it,
/// such as `latest`. Deleting a target tag also removes its entry from the index. An index without entries is deleted.
/// Deleting a digest deletes the manifest and all its tags. After an interruption, run the command again to delete the
/// remaining tags.
///
/// On a terminal, the command prompts for confirmation. If the user declines, it deletes nothing and exits with 1.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[command(
    visible_alias = "rm",
    after_help = "Examples:\n  cargo oci delete ghcr.io/acme/widgets:nightly\n  cargo oci delete ghcr.io/acme/widgets:1.2.3 --dry-run\n  cargo oci delete registry.example.com/widgets@sha256:DIGEST --dry-run\n  cargo oci delete registry.example.com/widgets:1.2.3__x86_64-unknown-linux-gnu --yes\n  cargo oci delete --blob oci:widgets@sha256:DIGEST"
)]
pub(crate) struct Flags {
    /// Tags or digests to delete
    ///
    /// REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, oci:DIR:TAG or oci:DIR@DIGEST.
    #[arg(value_name = "REFERENCE", required = true, value_parser = parse_location)]
    references: Vec<LocationText>,

    /// Delete blobs; all references must be blob digests
    #[arg(long)]
    blob: bool,

    /// Delete the tag of a package and keep its target tags
    ///
    /// Floating tags are kept, too.
    #[arg(long, conflicts_with = "blob")]
    keep_targets: bool,

    /// Show what would be deleted, without deleting
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Delete without confirmation
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Tag, target, manifest or blob to delete, and the repository that contains it.
#[derive(Clone)]
struct DeleteTask {
    location: Location,
    repository: Arc<dyn Delete>,
    item: DeleteItem,
}

#[derive(Clone)]
enum DeleteItem {
    /// Tag, and the tags that are deleted with it.
    Tag(TagDeletion),
    /// Target of a package. Its tags and its entry in the version's index are deleted.
    Target {
        entry: Box<EntryLocation>,
        /// Tag or digest on the command line. If it is a digest, the manifest is deleted as well.
        identifier: Identifier,
        digest: Digest,
        /// Whether the index has no other entry. The index is then deleted as well.
        is_last: bool,
    },
    /// Manifest, and the tags that are affected. The registry deletes all tags that refer to the manifest with it.
    Manifest(Digest, IndexTags),
    Blob(Digest),
}

/// Content that has been deleted from each repository, or would have been deleted in a dry run.
#[derive(Default)]
struct DeletedContent(Vec<(Location, DeletedSet)>);

impl DeletedContent {
    fn set_for(&mut self, location: &Location) -> &mut DeletedSet {
        let repository = location.whole_repository();
        let known = self.0.iter().position(|(known, _)| *known == repository);
        let at = known.unwrap_or_else(|| {
            self.0.push((repository, DeletedSet::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

/// Resolves all references, prompts for confirmation, and deletes the content.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let mut locations = Vec::new();
    for reference in &flags.references {
        let location = session.locate_deletable(reference).await?;
        check_reference(&location, flags.blob)?;
        locations.push(location);
    }
    let needs_confirmation = !flags.yes && !flags.dry_run;
    if needs_confirmation && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(
            "refusing to delete without confirmation: stdin or stderr is not a terminal",
        )
        .help("pass `--yes` to delete without confirmation, or `--dry-run` to see what would be deleted"));
    }
    let mut tasks = Vec::new();
    for location in &locations {
        tasks.push(find_task(session, location, &flags).await?);
    }
    let mut deleted = DeletedContent::default();
    let planned: Vec<_> = tasks
        .iter()
        .filter_map(|task| {
            let task = task.without_deleted(deleted.set_for(&task.location))?;
            task.mark_deleted(deleted.set_for(&task.location));
            Some(task)
        })
        .collect();
    for task in &planned {
        task.report_notes(session);
    }
    let keeps_manifests = planned
        .iter()
        .any(|task| task.keeps_manifest(deleted.set_for(&task.location)));
    let note_manifests = || {
        // The JSON output has no notes. A note would be printed as a warning.
        if keeps_manifests && !session.reporter.is_json() {
            session.reporter.note(DeletionNote::ManifestsKept);
        }
    };
    if flags.dry_run {
        planned
            .iter()
            .try_for_each(|task| task.report(session, DeleteAction::WouldDelete))?;
        note_manifests();
        return Ok(());
    }
    if needs_confirmation {
        note_manifests();
        let all: Vec<_> = planned.iter().map(DeleteTask::describe).collect();
        let question = format!("Delete {}?", all.join("; and "));
        if !session.reporter.confirm(&question).await? {
            return Err(Error::aborted("nothing was deleted"));
        }
    }
    // The set that planning filled is not reused, because other clients may have changed the repository since then.
    let mut deleted = DeletedContent::default();
    for task in tasks {
        let deleted = deleted.set_for(&task.location);
        if let Some(mut task) = task.without_deleted(deleted) {
            task.delete(session, deleted).await?;
        }
    }
    if !needs_confirmation {
        note_manifests();
    }
    Ok(())
}

/// Checks that a reference has a tag or digest. For a blob, only a digest is valid. Called before any request.
fn check_reference(location: &Location, is_blob: bool) -> Result<(), Error> {
    let identifier = naming::require_identifier(location, "delete")?;
    if is_blob && let Identifier::Tag(tag) = identifier {
        let name = format!("failed to delete the blob `{location}`: missing digest");
        return Err(Error::usage(name).help(format!("replace `{tag}` with a digest")));
    }
    Ok(())
}

/// Resolves a reference to a task. For the tag of a package, the task includes its target tags. For a target, it
/// includes the index entry.
async fn find_task(
    session: &Session,
    location: &Location,
    flags: &Flags,
) -> Result<DeleteTask, Error> {
    let repository = session.open_delete_target(location).await?;
    let identifier = naming::require_identifier(location, "delete")?;
    let item = match identifier {
        Identifier::Digest(digest) if flags.blob => {
            repository.find_blob(&digest).await?;
            Ok(DeleteItem::Blob(digest))
        }
        identifier => find_item(&*repository, identifier, flags.keep_targets).await,
    };
    match item {
        Ok(item) => Ok(DeleteTask {
            location: location.clone(),
            repository,
            item,
        }),
        // The error for a missing tag or manifest has hints.
        Err(error) => Err(oci_package::explain(&*repository, location, error)
            .await
            .into()),
    }
}

/// Resolves a tag or digest to the content to delete: tags, a target of a package, or a manifest.
async fn find_item(
    source: &dyn Source,
    identifier: Identifier,
    keep_targets: bool,
) -> oci_package::Result<DeleteItem> {
    if let Identifier::Digest(_) = identifier {
        source.resolve(&identifier).await?;
    }
    if let Some(entry) = oci_package::find_entry(source, &identifier).await? {
        let digest = source.resolve(&identifier).await?.digest;
        return Ok(DeleteItem::Target {
            is_last: entry.other_entries.is_empty(),
            entry: Box::new(entry),
            identifier,
            digest,
        });
    }
    Ok(match identifier {
        Identifier::Digest(digest) => {
            let tags = oci_package::find_index_tags(source, &digest).await?;
            DeleteItem::Manifest(digest, tags)
        }
        Identifier::Tag(tag) => {
            let plan = oci_package::plan_tag_deletion(source, &tag, keep_targets).await?;
            DeleteItem::Tag(plan)
        }
    })
}

impl DeleteTask {
    /// Returns the task without the content that earlier tasks deleted, or `None` if nothing is left to delete.
    fn without_deleted(&self, deleted: &DeletedSet) -> Option<Self> {
        let is_deleted =
            |identifier: &Identifier, digest: &Digest| deleted.contains(identifier, Some(digest));
        let item = match self.item.clone() {
            DeleteItem::Tag(plan) => DeleteItem::Tag(plan.without_deleted(deleted)?),
            DeleteItem::Manifest(digest, _) | DeleteItem::Blob(digest)
                if is_deleted(&digest.clone().into(), &digest) =>
            {
                return None;
            }
            DeleteItem::Manifest(digest, mut tags) => {
                tags.deleted
                    .retain(|tag| !is_deleted(&tag.clone().into(), &digest));
                tags.kept_targets
                    .retain(|tag| !deleted.contains(&tag.clone().into(), None));
                DeleteItem::Manifest(digest, tags)
            }
            DeleteItem::Target {
                identifier, digest, ..
            } if is_deleted(&identifier, &digest) => return None,
            DeleteItem::Target {
                entry,
                identifier,
                digest,
                ..
            } => match (deleted.remaining_entry(*entry), identifier) {
                (Some(entry), identifier) => DeleteItem::Target {
                    is_last: entry.other_entries.is_empty(),
                    entry: Box::new(entry),
                    identifier,
                    digest,
                },
                (None, Identifier::Tag(tag)) => DeleteItem::Tag(TagDeletion::single(tag, digest)),
                (None, Identifier::Digest(_)) => DeleteItem::Manifest(digest, IndexTags::default()),
            },
            item @ DeleteItem::Blob(_) => item,
        };
        Some(Self {
            item,
            ..self.clone()
        })
    }

    /// Adds the content of the task to the set of deleted content.
    fn mark_deleted(&self, deleted: &mut DeletedSet) {
        match &self.item {
            DeleteItem::Tag(plan) => {
                for tagged in plan.tags() {
                    deleted.insert(tagged.tag.clone().into());
                }
            }
            DeleteItem::Target {
                entry, identifier, ..
            } => {
                deleted.insert(identifier.clone());
                deleted.insert_entry(entry);
            }
            DeleteItem::Manifest(digest, _) | DeleteItem::Blob(digest) => {
                deleted.insert(digest.clone().into());
            }
        }
    }

    /// Whether the task deletes a tag whose manifest is not deleted.
    fn keeps_manifest(&self, deleted: &DeletedSet) -> bool {
        let is_kept = |digest: &Digest| !deleted.contains(&digest.clone().into(), None);
        match &self.item {
            DeleteItem::Tag(plan) => plan.tags().any(|tagged| is_kept(&tagged.digest)),
            DeleteItem::Target { digest, .. } => is_kept(digest),
            DeleteItem::Manifest(..) | DeleteItem::Blob(_) => false,
        }
    }

    fn report_notes(&self, session: &Session) {
        match &self.item {
            DeleteItem::Tag(plan) => plan
                .notes()
                .iter()
                .for_each(|note| session.reporter.note(note)),
            DeleteItem::Manifest(_, tags) => {
                if let Some(note) = tags.note() {
                    session.reporter.note(note);
                }
            }
            DeleteItem::Target { .. } | DeleteItem::Blob(_) => {}
        }
    }

    /// Returns each reference that the task deletes, with its digest.
    fn references(&self) -> Vec<(Location, &Digest)> {
        let at = |tag: &Tag| self.location.with(tag.clone());
        match &self.item {
            DeleteItem::Tag(plan) => {
                let tags = plan.tags();
                tags.map(|tagged| (at(&tagged.tag), &tagged.digest))
                    .collect()
            }
            DeleteItem::Target {
                entry,
                identifier,
                digest,
                is_last,
            } => {
                let index = is_last.then(|| (at(&entry.index), &entry.index_digest));
                let floating = entry.deleted_floating_tags().filter(|_| *is_last);
                let floating = floating.map(|tag| (at(tag), &entry.index_digest));
                let tags = entry.tags.iter().map(|tag| (at(tag), digest));
                let with_manifest = matches!(identifier, Identifier::Digest(_));
                let manifest = with_manifest.then(|| (self.location.with(digest.clone()), digest));
                let index = floating.chain(index);
                index.chain(tags).chain(manifest).collect()
            }
            DeleteItem::Manifest(digest, tags) => {
                let tags = tags.deleted.iter().map(|tag| (at(tag), digest));
                tags.chain([(self.location.clone(), digest)]).collect()
            }
            DeleteItem::Blob(digest) => vec![(self.location.clone(), digest)],
        }
    }

    fn describe(&self) -> String {
        let location = &self.location;
        match &self.item {
            DeleteItem::Tag(plan) => {
                let tags: Vec<_> = plan.tags().collect();
                if let [TaggedDigest { tag, digest, .. }] = tags[..] {
                    return format!("the tag {} ({digest})", location.with(tag.clone()));
                }
                let names: Vec<_> = tags.iter().map(|tagged| tagged.tag.as_str()).collect();
                let repository = location.whole_repository();
                format!("the tags {} of {repository}", names.join(", "))
            }
            DeleteItem::Target { entry, is_last, .. } => {
                let index = location.with(entry.index.clone());
                let names = self.references();
                let names = names.iter().map(|(name, _)| name.to_string());
                let names: Vec<_> = names.filter(|name| *name != index.to_string()).collect();
                let names = names.join(" and ");
                if *is_last {
                    format!("{names}, and {index}, which has no other entry")
                } else {
                    format!("{names}, and its entry in {index}")
                }
            }
            DeleteItem::Manifest(_, tags) => {
                let all = format!("the manifest {location}, and all its tags");
                let tags: Vec<_> = tags.deleted.iter().map(Tag::as_str).collect();
                if tags.is_empty() {
                    return all;
                }
                format!("{all}, including {}", tags.join(", "))
            }
            DeleteItem::Blob(_) => format!("the blob {location}"),
        }
    }

    /// Deletes the content of the task, reports it, and adds it to the set of deleted content.
    async fn delete(&mut self, session: &Session, deleted: &mut DeletedSet) -> Result<(), Error> {
        let repository = &*self.repository;
        match &mut self.item {
            DeleteItem::Tag(plan) => {
                // Each tag is reported when it is deleted, so that the output is correct if a later deletion fails.
                let mut printed = Ok(());
                let location = &self.location;
                let observer = |tagged: &TaggedDigest| {
                    let name = location.with(tagged.tag.clone());
                    let line = report_action(session, &name, DeleteAction::Deleted, &tagged.digest);
                    printed = std::mem::replace(&mut printed, Ok(())).and(line);
                };
                let remaining = plan.delete(repository, deleted, observer).await?;
                if let Some(note) = remaining {
                    session.reporter.note(note);
                }
                return printed;
            }
            DeleteItem::Manifest(digest, _) => {
                repository.delete_manifest(digest).await?;
                deleted.insert(digest.clone().into());
            }
            DeleteItem::Blob(digest) => {
                repository.delete_blob(digest).await?;
                deleted.insert(digest.clone().into());
            }
            DeleteItem::Target {
                entry,
                identifier,
                is_last,
                ..
            } => {
                let observer = |event: PublishEvent<'_>| {
                    super::index::report_event(session, &self.location, &event);
                };
                let members = std::slice::from_ref(&entry.selector);
                let removed =
                    oci_package::remove(repository, &entry.index, members, &observer).await?;
                deleted.insert_removed(&entry.index, &removed);
                *is_last = removed.deleted_index.is_some();
                entry.floating_tags = removed.floating_tags;
                if let Some(deleted_index) = removed.deleted_index {
                    entry.index_digest = deleted_index;
                }
                if let Identifier::Digest(digest) = identifier {
                    repository.delete_manifest(digest).await?;
                }
                deleted.insert(identifier.clone());
            }
        }
        self.report(session, DeleteAction::Deleted)
    }

    /// Reports each reference that was deleted or, in a dry run, would be deleted.
    fn report(&self, session: &Session, action: DeleteAction) -> Result<(), Error> {
        if action == DeleteAction::WouldDelete {
            self.report_planned_changes(session);
        }
        for (name, digest) in self.references() {
            report_action(session, &name, action, digest)?;
        }
        Ok(())
    }

    /// Reports the index that would lose an entry, and the floating tags that would be moved to the new index.
    fn report_planned_changes(&self, session: &Session) {
        let DeleteItem::Target {
            entry,
            is_last: false,
            ..
        } = &self.item
        else {
            return;
        };
        let index = self.location.with(entry.index.clone());
        let targets = format_count(entry.other_entries.len(), "target");
        let reporter = session.reporter;
        reporter.status("Would index", format_args!("{index} ({targets})"));
        let emit = |reference: &Location, action| {
            reporter.emit(&Message::Delete {
                reference: reference.to_string(),
                action,
                digest: &entry.index_digest,
            });
        };
        emit(&index, DeleteAction::WouldIndex);
        for tag in entry.moved_floating_tags() {
            emit(&self.location.with(tag.clone()), DeleteAction::WouldMove);
        }
    }
}

fn report_action(
    session: &Session,
    name: &Location,
    action: DeleteAction,
    digest: &Digest,
) -> Result<(), Error> {
    session.reporter.emit(&Message::Delete {
        reference: name.to_string(),
        action,
        digest,
    });
    // On a terminal, the status line already shows the name.
    let is_shown = !session.reporter.is_quiet() && is_stdout_terminal();
    if session.reporter.is_json() || is_shown {
        return Ok(());
    }
    report::write_line(name)
}
