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
use crate::options::location;
use crate::report::{self, Error};
use crate::session::Session;

/// Delete tags, manifests and blobs
///
/// A tag is deleted alone: its manifest stays available by digest and by other tags. A digest deletes the manifest and
/// every tag that refers to it. The tag of one target of a package also removes the entry of the target from the index of
/// the version. An index without entries is deleted.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci delete ghcr.io/acme/widgets:nightly\n  cargo oci delete registry.example.com/widgets@sha256:DIGEST --dry-run\n  cargo oci delete registry.example.com/widgets:1.2.3__x86_64-unknown-linux-gnu --yes\n  cargo oci delete --blob oci:widgets@sha256:DIGEST"
)]
pub(crate) struct Flags {
    /// Tags or digests to delete
    ///
    /// REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, oci:DIR:TAG or oci:DIR@DIGEST.
    #[arg(value_name = "REFERENCE", required = true, value_parser = location)]
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

/// Deletion of one tag, target, manifest or blob.
#[derive(Clone)]
struct DeleteTask {
    location: Location,
    place: Arc<dyn Delete>,
    item: DeleteItem,
    digest: Digest,
    is_index: bool,
}

#[derive(Clone)]
enum DeleteItem {
    Tag(Tag),
    /// Target of a package: its tags, and its entry in the index of the version.
    Target {
        listed: Box<EntryLocation>,
        /// Tag or digest on the command line. With a digest, the manifest is deleted as well.
        named: Identifier,
        /// Whether it is the last entry of the index, which is then deleted as well.
        is_last: bool,
    },
    Manifest,
    Blob,
}

/// Deleted content of each repository, or content that would be deleted in a dry run.
#[derive(Default)]
struct DeletedContent(Vec<(Location, DeletedSet)>);

impl DeletedContent {
    fn of(&mut self, location: &Location) -> &mut DeletedSet {
        let place = location.whole_repository();
        let known = self.0.iter().position(|(known, _)| *known == place);
        let at = known.unwrap_or_else(|| {
            self.0.push((place, DeletedSet::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

/// Resolves all references, asks for confirmation, and deletes.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let mut locations = Vec::new();
    for reference in &flags.references {
        let location = session.locate_deletable(reference).await?;
        check(&location, flags.blob)?;
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
            let task = task.remaining(deleted.of(&task.location))?;
            task.mark_deleted(deleted.of(&task.location));
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
    // Starts with an empty set, because other clients may have changed the repository since the tasks were planned.
    let mut deleted = DeletedContent::default();
    for task in tasks {
        let taken = deleted.of(&task.location);
        let Some(mut task) = task.remaining(taken) else {
            continue;
        };
        task.delete(session, taken).await?;
        task.report(session, DeleteAction::Deleted)?;
    }
    Ok(())
}

/// Checks a reference before any request.
fn check(location: &Location, is_blob: bool) -> Result<(), Error> {
    let named = naming::require_identifier(location, "delete")?;
    if is_blob && let Identifier::Tag(tag) = named {
        let name = format!("failed to delete the blob `{location}`: missing digest");
        return Err(Error::usage(name).help(format!("replace `{tag}` with a digest")));
    }
    Ok(())
}

/// Resolves a reference, and finds the index entry to delete with it.
async fn find_task(
    session: &Session,
    location: &Location,
    is_blob: bool,
) -> Result<DeleteTask, Error> {
    let place = session.delete_target(location).await?;
    let named = naming::require_identifier(location, "delete")?;
    let (item, digest, is_index) = match named {
        Identifier::Digest(digest) if is_blob => {
            place.find_blob(&digest).await?;
            (DeleteItem::Blob, digest, false)
        }
        Identifier::Digest(digest) => {
            let named = digest.clone().into();
            let held = resolve(&*place, location, &named).await?;
            let target = package_target(&*place, &named).await?;
            let item = target.unwrap_or(DeleteItem::Manifest);
            (item, digest, held.media_type.is_index())
        }
        Identifier::Tag(tag) => {
            let named = tag.clone().into();
            let held = resolve(&*place, location, &named).await?;
            let target = package_target(&*place, &named).await?;
            let item = target.unwrap_or(DeleteItem::Tag(tag));
            (item, held.digest, held.media_type.is_index())
        }
    };
    Ok(DeleteTask {
        location: location.clone(),
        place,
        item,
        digest,
        is_index,
    })
}

/// Resolves a tag or digest. A missing one is an error with hints.
async fn resolve(
    place: &dyn Source,
    location: &Location,
    named: &Identifier,
) -> Result<Descriptor, Error> {
    match place.resolve(named).await {
        Ok(held) => Ok(held),
        Err(error) => Err(oci_package::explain(place, location, error).await.into()),
    }
}

/// Returns the target of a package with this tag or digest, if the index of the version lists it.
async fn package_target(
    place: &dyn Source,
    named: &Identifier,
) -> Result<Option<DeleteItem>, Error> {
    let listed = oci_package::find_entry(place, named).await?;
    Ok(listed.map(|listed| DeleteItem::Target {
        is_last: listed.others.is_empty(),
        listed: Box::new(listed),
        named: named.clone(),
    }))
}

impl DeleteTask {
    /// Returns the task without content that is already deleted. `None` if nothing remains.
    fn remaining(&self, taken: &DeletedSet) -> Option<Self> {
        if taken.contains(&self.named(), Some(&self.digest)) {
            return None;
        }
        let mut left = self.clone();
        if let DeleteItem::Target { listed, named, .. } = &self.item {
            left.item = match (taken.remaining_entry((**listed).clone()), named) {
                (Some(listed), _) => DeleteItem::Target {
                    is_last: listed.others.is_empty(),
                    listed: Box::new(listed),
                    named: named.clone(),
                },
                (None, Identifier::Tag(tag)) => DeleteItem::Tag(tag.clone()),
                (None, Identifier::Digest(_)) => DeleteItem::Manifest,
            };
        }
        Some(left)
    }

    /// Returns the tag or digest to delete.
    fn named(&self) -> Identifier {
        match &self.item {
            DeleteItem::Tag(tag) => tag.clone().into(),
            DeleteItem::Target { named, .. } => named.clone(),
            DeleteItem::Manifest | DeleteItem::Blob => self.digest.clone().into(),
        }
    }

    /// Adds the content of the task to the deleted content.
    fn mark_deleted(&self, taken: &mut DeletedSet) {
        taken.insert(self.named());
        if let DeleteItem::Target { listed, .. } = &self.item {
            taken.insert_entry(listed);
        }
    }

    /// Prints a note if the index of a version is deleted and the tags of its targets remain, because `pull` finds the
    /// targets by these tags.
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
        let manifest = self.place.manifest(&tag.clone().into()).await?;
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
            let named = Identifier::Tag(tag.clone());
            let held = self.place.resolve(&named).await.optional()?;
            let stays =
                held.filter(|held| !deleted.of(location).contains(&named, Some(&held.digest)));
            targets.extend(stays.map(|_| location.with(tag).to_string()));
        }
        if !targets.is_empty() {
            session.reporter.note(format_args!(
                "the targets of `{location}` keep their tags, so `pull` still finds them: {}",
                targets.join(" ")
            ));
        }
        Ok(())
    }

    /// Returns the references to delete with their digests. The reference of the command line comes last.
    fn names(&self) -> Vec<(Location, &Digest)> {
        let own = &self.digest;
        match &self.item {
            DeleteItem::Target {
                listed,
                named,
                is_last,
            } => {
                let index = self.location.with(listed.index.clone());
                let index = is_last.then_some((index, &listed.index_digest));
                let tags = listed.tags.iter();
                let tags = tags.map(|tag| (self.location.with(tag.clone()), own));
                let with_manifest = matches!(named, Identifier::Digest(_));
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
            DeleteItem::Target {
                listed, is_last, ..
            } => {
                let index = location.with(listed.index.clone());
                let names = self.names();
                let names = names.iter().map(|(name, _)| name.to_string());
                let names: Vec<_> = names.filter(|name| *name != index.to_string()).collect();
                let names = names.join(" and ");
                if *is_last {
                    format!("{names}, and {index}, whose last entry this is")
                } else {
                    format!("{names}, and its entry in {index}")
                }
            }
            DeleteItem::Manifest => format!("the manifest {location}, and all its tags"),
            DeleteItem::Blob => format!("the blob {location}"),
        }
    }

    /// Deletes the content, and records everything that was deleted with it.
    async fn delete(&mut self, session: &Session, taken: &mut DeletedSet) -> Result<(), Error> {
        match &mut self.item {
            DeleteItem::Tag(tag) => self.place.delete_tag(tag).await?,
            DeleteItem::Manifest => self.place.delete_manifest(&self.digest).await?,
            DeleteItem::Blob => self.place.delete_blob(&self.digest).await?,
            DeleteItem::Target {
                listed,
                named,
                is_last,
            } => {
                let observer = |event: PublishEvent<'_>| {
                    super::index::report_event(session, &self.location, &event);
                };
                let members = std::slice::from_ref(&listed.selector);
                let place = &*self.place;
                let removed = oci_package::remove(place, &listed.index, members, &observer).await?;
                taken.insert_removed(&listed.index, &removed);
                *is_last = removed.deleted_index.is_some();
                if let Some(gone) = removed.deleted_index {
                    listed.index_digest = gone;
                }
                if let Identifier::Digest(digest) = named {
                    self.place.delete_manifest(digest).await?;
                }
            }
        }
        taken.insert(self.named());
        Ok(())
    }

    /// Reports each deleted reference.
    fn report(&self, session: &Session, action: DeleteAction) -> Result<(), Error> {
        for (name, digest) in self.names() {
            session.reporter.emit(&Message::Delete {
                reference: name.to_string(),
                action,
                digest,
            });
            if !session.reporter.is_json() {
                report::line(name)?;
            }
        }
        Ok(())
    }
}
