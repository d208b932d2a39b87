//! `cargo oci delete`: delete tags, manifests and blobs.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use oci_package::{DeletedSet, EntryLocation, PackageIndex, PublishEvent, ReleaseTag};
use oci_registry::{
    Delete, Descriptor, Digest, Identifier, Location, LocationText, Optional, Source, Tag,
};

use crate::message::{DeleteAction, FormatFlag, Message};
use crate::naming;
use crate::options::parse_location;
use crate::report::{self, Error};
use crate::session::Session;

/// Delete tags, manifests and blobs
///
/// A tag is deleted without its manifest, which stays available by its digest and its other tags. A digest deletes the
/// manifest and every tag that refers to it. The tag of one target of a package also removes the entry of the target
/// from the index of the version. An index without entries is deleted.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci delete ghcr.io/acme/widgets:nightly\n  cargo oci delete registry.example.com/widgets@sha256:DIGEST --dry-run\n  cargo oci delete registry.example.com/widgets:1.2.3__x86_64-unknown-linux-gnu --yes\n  cargo oci delete --blob oci:widgets@sha256:DIGEST"
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

    /// Show what would be deleted, without deleting
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Do not ask for confirmation
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
    digest: Digest,
    is_index: bool,
}

#[derive(Clone)]
enum DeleteItem {
    Tag(Tag),
    /// Target of a package. Its tags and its entry in the version's index are deleted.
    Target {
        entry: Box<EntryLocation>,
        /// Tag or digest on the command line. If it is a digest, the manifest is deleted as well.
        identifier: Identifier,
        /// Whether the index has no other entry. The index is then deleted as well.
        is_last: bool,
    },
    Manifest,
    Blob,
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
        tasks.push(find_task(session, location, flags.blob).await?);
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
        task.note_remaining_targets(session, &mut deleted).await?;
    }
    if flags.dry_run {
        return planned
            .iter()
            .try_for_each(|task| task.report(session, DeleteAction::WouldDelete));
    }
    if needs_confirmation {
        let all: Vec<_> = planned.iter().map(DeleteTask::describe).collect();
        let question = format!("Delete {}?", all.join("; and "));
        if !session.reporter.confirm(&question).await? {
            session.reporter.status("Cancelled", "nothing was deleted");
            return Ok(());
        }
    }
    // The set that planning filled is not reused, because other clients may have changed the repository since then.
    let mut deleted = DeletedContent::default();
    for task in tasks {
        let deleted = deleted.set_for(&task.location);
        let Some(mut task) = task.without_deleted(deleted) else {
            continue;
        };
        task.delete(session, deleted).await?;
        task.report(session, DeleteAction::Deleted)?;
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

/// Resolves a reference to a task. If the reference is a target of a package, the task includes its index entry.
async fn find_task(
    session: &Session,
    location: &Location,
    is_blob: bool,
) -> Result<DeleteTask, Error> {
    let repository = session.open_delete_target(location).await?;
    let identifier = naming::require_identifier(location, "delete")?;
    let (item, digest, is_index) = match identifier {
        Identifier::Digest(digest) if is_blob => {
            repository.find_blob(&digest).await?;
            (DeleteItem::Blob, digest, false)
        }
        Identifier::Digest(digest) => {
            let identifier = digest.clone().into();
            let descriptor = resolve_reference(&*repository, location, &identifier).await?;
            let target = find_package_target(&*repository, &identifier).await?;
            let item = target.unwrap_or(DeleteItem::Manifest);
            (item, digest, descriptor.media_type.is_index())
        }
        Identifier::Tag(tag) => {
            let identifier = tag.clone().into();
            let descriptor = resolve_reference(&*repository, location, &identifier).await?;
            let target = find_package_target(&*repository, &identifier).await?;
            let item = target.unwrap_or(DeleteItem::Tag(tag));
            (item, descriptor.digest, descriptor.media_type.is_index())
        }
    };
    Ok(DeleteTask {
        location: location.clone(),
        repository,
        item,
        digest,
        is_index,
    })
}

/// Resolves a tag or digest. The error for a missing manifest or blob has hints.
async fn resolve_reference(
    source: &dyn Source,
    location: &Location,
    identifier: &Identifier,
) -> Result<Descriptor, Error> {
    match source.resolve(identifier).await {
        Ok(descriptor) => Ok(descriptor),
        Err(error) => Err(oci_package::explain(source, location, error).await.into()),
    }
}

/// Finds the target of a package that has this tag or digest. Returns `None` if no index lists such a target.
async fn find_package_target(
    source: &dyn Source,
    identifier: &Identifier,
) -> Result<Option<DeleteItem>, Error> {
    let entry = oci_package::find_entry(source, identifier).await?;
    Ok(entry.map(|entry| DeleteItem::Target {
        is_last: entry.other_entries.is_empty(),
        entry: Box::new(entry),
        identifier: identifier.clone(),
    }))
}

impl DeleteTask {
    /// Returns the task without the content that earlier tasks deleted, or `None` if nothing is left to delete.
    fn without_deleted(&self, deleted: &DeletedSet) -> Option<Self> {
        if deleted.contains(&self.identifier(), Some(&self.digest)) {
            return None;
        }
        let mut task = self.clone();
        if let DeleteItem::Target {
            entry, identifier, ..
        } = &self.item
        {
            task.item = match (deleted.remaining_entry((**entry).clone()), identifier) {
                (Some(entry), _) => DeleteItem::Target {
                    is_last: entry.other_entries.is_empty(),
                    entry: Box::new(entry),
                    identifier: identifier.clone(),
                },
                (None, Identifier::Tag(tag)) => DeleteItem::Tag(tag.clone()),
                (None, Identifier::Digest(_)) => DeleteItem::Manifest,
            };
        }
        Some(task)
    }

    /// Returns the tag or digest to delete.
    fn identifier(&self) -> Identifier {
        match &self.item {
            DeleteItem::Tag(tag) => tag.clone().into(),
            DeleteItem::Target { identifier, .. } => identifier.clone(),
            DeleteItem::Manifest | DeleteItem::Blob => self.digest.clone().into(),
        }
    }

    /// Adds the content of the task to the set of deleted content.
    fn mark_deleted(&self, deleted: &mut DeletedSet) {
        deleted.insert(self.identifier());
        if let DeleteItem::Target { entry, .. } = &self.item {
            deleted.insert_entry(entry);
        }
    }

    /// Prints a note if the task deletes the index of a version, but not the tags of its targets. `pull` still finds
    /// the targets by these tags.
    async fn note_remaining_targets(
        &self,
        session: &Session,
        deleted: &mut DeletedContent,
    ) -> Result<(), Error> {
        let (DeleteItem::Tag(tag), Self { location, .. }) = (&self.item, self) else {
            return Ok(());
        };
        if !self.is_index {
            return Ok(());
        }
        let manifest = self.repository.manifest(&tag.clone().into()).await?;
        let Some(index) = PackageIndex::read(&manifest) else {
            return Ok(());
        };
        let Ok(release) = ReleaseTag::new(tag.clone()) else {
            return Ok(());
        };
        let mut targets = Vec::new();
        for entry in index.entries() {
            let Ok(tag) = release.target(entry.target()) else {
                continue;
            };
            let identifier = Identifier::Tag(tag.clone());
            let descriptor = self.repository.resolve(&identifier).await.optional()?;
            let remaining = descriptor.filter(|descriptor| {
                !deleted
                    .set_for(location)
                    .contains(&identifier, Some(&descriptor.digest))
            });
            targets.extend(remaining.map(|_| location.with(tag).to_string()));
        }
        if !targets.is_empty() {
            session.reporter.note(format_args!(
                "the tags of the targets of `{location}` are not deleted, so `pull` still finds them: {}",
                targets.join(" ")
            ));
        }
        Ok(())
    }

    /// Returns each reference that the task deletes, with its digest.
    fn references(&self) -> Vec<(Location, &Digest)> {
        let own = &self.digest;
        match &self.item {
            DeleteItem::Target {
                entry,
                identifier,
                is_last,
            } => {
                let index = self.location.with(entry.index.clone());
                let index = is_last.then_some((index, &entry.index_digest));
                let tags = entry.tags.iter();
                let tags = tags.map(|tag| (self.location.with(tag.clone()), own));
                let with_manifest = matches!(identifier, Identifier::Digest(_));
                let manifest = with_manifest.then(|| (self.location.with(own.clone()), own));
                index.into_iter().chain(tags).chain(manifest).collect()
            }
            DeleteItem::Tag(_) | DeleteItem::Manifest | DeleteItem::Blob => {
                vec![(self.location.clone(), own)]
            }
        }
    }

    fn describe(&self) -> String {
        let Self {
            location, digest, ..
        } = self;
        match &self.item {
            DeleteItem::Tag(_) => format!("the tag {location} ({digest})"),
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
            DeleteItem::Manifest => format!("the manifest {location}, and all its tags"),
            DeleteItem::Blob => format!("the blob {location}"),
        }
    }

    /// Deletes the content of the task, and adds it to the set of deleted content.
    async fn delete(&mut self, session: &Session, deleted: &mut DeletedSet) -> Result<(), Error> {
        match &mut self.item {
            DeleteItem::Tag(tag) => self.repository.delete_tag(tag).await?,
            DeleteItem::Manifest => self.repository.delete_manifest(&self.digest).await?,
            DeleteItem::Blob => self.repository.delete_blob(&self.digest).await?,
            DeleteItem::Target {
                entry,
                identifier,
                is_last,
            } => {
                let observer = |event: PublishEvent<'_>| {
                    super::index::report_event(session, &self.location, &event);
                };
                let members = std::slice::from_ref(&entry.selector);
                let repository = &*self.repository;
                let removed =
                    oci_package::remove(repository, &entry.index, members, &observer).await?;
                deleted.insert_removed(&entry.index, &removed);
                *is_last = removed.deleted_index.is_some();
                if let Some(deleted_index) = removed.deleted_index {
                    entry.index_digest = deleted_index;
                }
                if let Identifier::Digest(digest) = identifier {
                    self.repository.delete_manifest(digest).await?;
                }
            }
        }
        deleted.insert(self.identifier());
        Ok(())
    }

    /// Reports each reference that was deleted or, in a dry run, would be deleted.
    fn report(&self, session: &Session, action: DeleteAction) -> Result<(), Error> {
        for (name, digest) in self.references() {
            session.reporter.emit(&Message::Delete {
                reference: name.to_string(),
                action,
                digest,
            });
            if !session.reporter.is_json() {
                report::write_line(name)?;
            }
        }
        Ok(())
    }
}
