//! `cargo oci delete`: tags, manifests and blobs that are not wanted any more.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use oci_package::{DeletedSet, EntryLocation, PackageIndex, PublishEvent, ReleaseTag};
use oci_registry::{
    Delete, Descriptor, Digest, Identifier, Location, LocationText, Optional, Source, Tag,
};

use super::missing;
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

/// One thing that is to go.
#[derive(Clone)]
struct Doomed {
    location: Location,
    place: Arc<dyn Delete>,
    what: What,
    digest: Digest,
    is_index: bool,
}

#[derive(Clone)]
enum What {
    Tag(Tag),
    /// A target of a package: its tags, and its entry in the index of its version.
    Target {
        listed: Box<EntryLocation>,
        /// What was named: with a digest, the manifest goes as well.
        named: Identifier,
        /// Whether it is the last one in the index, which then goes as well.
        is_last: bool,
    },
    Manifest,
    Blob,
}

/// What is gone, or would be, of each repository.
#[derive(Default)]
struct Gone(Vec<(Location, DeletedSet)>);

impl Gone {
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

/// Finds everything, asks, and deletes.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let mut locations = Vec::new();
    for reference in &flags.references {
        let location = session.locate(reference).await?;
        check(&location, flags.blob)?;
        locations.push(location);
    }
    let is_asked = !flags.yes && !flags.dry_run;
    if is_asked && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(
            "failed to delete anything: there is nobody to ask whether it is meant",
        )
        .help("pass `--yes`, or `--dry-run` to see what would go"));
    }
    let mut doomed = Vec::new();
    for location in &locations {
        doomed.push(find(session, location, flags.blob).await?);
    }
    let mut gone = Gone::default();
    let planned: Vec<_> = doomed
        .iter()
        .filter_map(|doomed| {
            let left = doomed.left(gone.of(&doomed.location))?;
            left.take(gone.of(&doomed.location));
            Some(left)
        })
        .collect();
    for doomed in &planned {
        doomed.warn_of_targets(session, &mut gone).await?;
    }
    if flags.dry_run {
        return planned
            .iter()
            .try_for_each(|doomed| doomed.say(session, DeleteAction::WouldDelete));
    }
    if is_asked {
        let all: Vec<_> = planned.iter().map(Doomed::describe).collect();
        let question = format!("Delete {}?", all.join("; and "));
        if !session.reporter.ask(&question).await? {
            session.reporter.status("Kept", "nothing was deleted");
            return Ok(());
        }
    }
    // Begun anew: others may have published, or deleted, since it was looked at.
    let mut gone = Gone::default();
    for doomed in doomed {
        let taken = gone.of(&doomed.location);
        let Some(mut left) = doomed.left(taken) else {
            continue;
        };
        left.delete(session, taken).await?;
        left.say(session, DeleteAction::Deleted)?;
    }
    Ok(())
}

/// What cannot be is said before anything is asked.
fn check(location: &Location, is_blob: bool) -> Result<(), Error> {
    let named = naming::given(location, "delete")?;
    if let (Some(tag), Some(digest)) = (naming::tag(location), naming::digest(location)) {
        let both = format!("failed to delete `{location}`: it names both a tag and a digest");
        return Err(Error::usage(both).help(format!(
            "leave `@{digest}` out to delete the tag, `:{tag}` to delete the manifest"
        )));
    }
    if is_blob && let Identifier::Tag(tag) = named {
        let name = format!("failed to delete the blob `{location}`: blobs have digests only");
        return Err(Error::usage(name).help(format!("write a digest in place of `{tag}`")));
    }
    Ok(())
}

/// Looks for what a location names, and for what goes with it.
async fn find(session: &Session, location: &Location, is_blob: bool) -> Result<Doomed, Error> {
    let place = session.deletable(location).await?;
    let named = naming::given(location, "delete")?;
    let (what, digest, is_index) = match named {
        Identifier::Digest(digest) if is_blob => {
            place.find_blob(&digest).await?;
            (What::Blob, digest, false)
        }
        Identifier::Digest(digest) => {
            let named = digest.clone().into();
            let held = resolve(&*place, location, &named).await?;
            let target = target_of(&*place, &named).await?;
            let what = target.unwrap_or(What::Manifest);
            (what, digest, held.media_type.is_index())
        }
        Identifier::Tag(tag) => {
            let named = tag.clone().into();
            let held = resolve(&*place, location, &named).await?;
            let target = target_of(&*place, &named).await?;
            let what = target.unwrap_or(What::Tag(tag));
            (what, held.digest, held.media_type.is_index())
        }
    };
    Ok(Doomed {
        location: location.clone(),
        place,
        what,
        digest,
        is_index,
    })
}

/// What stands under a name, which must be there.
async fn resolve(
    place: &dyn Source,
    location: &Location,
    named: &Identifier,
) -> Result<Descriptor, Error> {
    match place.resolve(named).await {
        Ok(held) => Ok(held),
        Err(error) => Err(missing::explain(place, location, error.into()).await),
    }
}

/// The target of a package that something is, when the index of its version lists it.
async fn target_of(place: &dyn Source, named: &Identifier) -> Result<Option<What>, Error> {
    let listed = oci_package::find_entry(place, named).await?;
    Ok(listed.map(|listed| What::Target {
        is_last: listed.others.is_empty(),
        listed: Box::new(listed),
        named: named.clone(),
    }))
}

impl Doomed {
    /// What is left of it when this is gone; nothing when it went along.
    fn left(&self, taken: &DeletedSet) -> Option<Self> {
        if taken.contains(&self.named(), Some(&self.digest)) {
            return None;
        }
        let mut left = self.clone();
        if let What::Target { listed, named, .. } = &self.what {
            left.what = match (taken.remaining_entry((**listed).clone()), named) {
                (Some(listed), _) => What::Target {
                    is_last: listed.others.is_empty(),
                    listed: Box::new(listed),
                    named: named.clone(),
                },
                (None, Identifier::Tag(tag)) => What::Tag(tag.clone()),
                (None, Identifier::Digest(_)) => What::Manifest,
            };
        }
        Some(left)
    }

    /// What was named.
    fn named(&self) -> Identifier {
        match &self.what {
            What::Tag(tag) => tag.clone().into(),
            What::Target { named, .. } => named.clone(),
            What::Manifest | What::Blob => self.digest.clone().into(),
        }
    }

    /// Notes that it goes.
    fn take(&self, taken: &mut DeletedSet) {
        taken.insert(self.named());
        if let What::Target { listed, .. } = &self.what {
            taken.insert_entry(listed);
        }
    }

    /// Readers who miss the index of a version find its targets under their own tags, those that do not go as well.
    async fn warn_of_targets(&self, session: &Session, gone: &mut Gone) -> Result<(), Error> {
        let (What::Tag(tag), Self { location, .. }) = (&self.what, self) else {
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
            let stays = held.filter(|held| !gone.of(location).contains(&named, Some(&held.digest)));
            targets.extend(stays.map(|_| location.with(tag).to_string()));
        }
        if !targets.is_empty() {
            session.reporter.note(format_args!(
                "the targets of `{location}` keep tags of their own, by which `pull` still finds them: {}",
                targets.join(" ")
            ));
        }
        Ok(())
    }

    /// The names that go with what each names, the one that was asked for last.
    fn names(&self) -> Vec<(Location, &Digest)> {
        let own = &self.digest;
        match &self.what {
            What::Target {
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
            What::Tag(_) | What::Manifest | What::Blob => vec![(self.location.clone(), own)],
        }
    }

    fn describe(&self) -> String {
        let Self {
            location, digest, ..
        } = self;
        match &self.what {
            What::Tag(_) => format!("the tag {location}, which names {digest}"),
            What::Target {
                listed, is_last, ..
            } => {
                let index = location.with(listed.index.clone());
                let names = self.names();
                let names = names.iter().map(|(name, _)| name.to_string());
                let names: Vec<_> = names.filter(|name| *name != index.to_string()).collect();
                let names = names.join(" and ");
                if *is_last {
                    format!("{names}, and {index}, in which nothing is left then")
                } else {
                    format!("{names}, and its entry in {index}")
                }
            }
            What::Manifest => format!("the manifest {location}, and every tag that names it"),
            What::Blob => format!("the blob {location}"),
        }
    }

    /// Deletes, and finds out what else went.
    async fn delete(&mut self, session: &Session, taken: &mut DeletedSet) -> Result<(), Error> {
        match &mut self.what {
            What::Tag(tag) => self.place.delete_tag(tag).await?,
            What::Manifest => self.place.delete_manifest(&self.digest).await?,
            What::Blob => self.place.delete_blob(&self.digest).await?,
            What::Target {
                listed,
                named,
                is_last,
            } => {
                let observer =
                    |event: PublishEvent<'_>| super::index::told(session, &self.location, &event);
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

    /// Tells what is gone, or would be, and names it.
    fn say(&self, session: &Session, action: DeleteAction) -> Result<(), Error> {
        for (name, digest) in self.names() {
            session.reporter.tell(&Message::Delete {
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
