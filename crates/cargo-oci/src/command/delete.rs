//! `cargo oci delete`: tags, manifests and blobs that are not wanted any more.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use oci_package::{Event, Member, PackageIndex, ReleaseTag};
use oci_registry::{Delete, Digest, ErrorKind, Identifier, Location, Optional, Source, Tag};

use super::{location, naming};
use crate::message::{DeleteAction, FormatFlag, Message};
use crate::report::{self, Error};
use crate::session::Session;

/// Delete tags, manifests and blobs
///
/// By a tag, the tag alone goes: what it named keeps its digest and its other tags. By a digest, the manifest goes with
/// every tag that names it. The tag of one target of a package takes the target's entry out of the index of its version.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci delete ghcr.io/acme/widgets:nightly\n  cargo oci delete registry.example.com/widgets@sha256:DIGEST --dry-run\n  cargo oci delete registry.example.com/widgets:1.2.3__x86_64-unknown-linux-gnu --yes\n  cargo oci delete --blob oci:widgets@sha256:DIGEST"
)]
pub(crate) struct Flags {
    /// What goes: REGISTRY/REPOSITORY:TAG or @DIGEST, oci:DIR:TAG or @DIGEST
    #[arg(value_name = "REFERENCE", required = true, value_parser = location)]
    references: Vec<Location>,

    /// The digests are those of blobs
    #[arg(long)]
    blob: bool,

    /// Show what would go, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// One thing that is to go.
struct Doomed {
    location: Location,
    place: Arc<dyn Delete>,
    what: What,
    digest: Digest,
}

enum What {
    Tag(Tag),
    /// A target of a package: its tags, and its entry in the index under this one.
    Target {
        index: Tag,
        member: Member,
        tags: Vec<Tag>,
        /// Whether the manifest goes as well.
        with_manifest: bool,
    },
    Manifest,
    Blob,
}

/// Finds everything, asks, and deletes.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    for location in &flags.references {
        check(location, flags.blob)?;
    }
    let is_asked = !flags.yes && !flags.dry_run;
    if is_asked && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(
            "failed to delete anything: there is nobody to ask whether it is meant",
        )
        .help("pass `--yes`, or `--dry-run` to see what would go"));
    }
    let mut doomed = Vec::new();
    for location in &flags.references {
        doomed.push(find(session, location, flags.blob).await?);
    }
    if flags.dry_run {
        return doomed
            .iter()
            .try_for_each(|doomed| doomed.say(session, DeleteAction::WouldDelete));
    }
    if is_asked {
        let all: Vec<_> = doomed.iter().map(Doomed::describe).collect();
        let question = format!("Delete {}?", all.join("; and "));
        if !session.reporter.ask(&question).await? {
            session.reporter.status("Kept", "nothing was deleted");
            return Ok(());
        }
    }
    for doomed in doomed {
        doomed.delete(session).await?;
        doomed.say(session, DeleteAction::Deleted)?;
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
    let (what, digest) = match named {
        Identifier::Digest(digest) if is_blob => {
            place.find_blob(&digest).await?;
            (What::Blob, digest)
        }
        Identifier::Digest(digest) => {
            place
                .resolve(&digest.clone().into())
                .await
                .map_err(|error| hint(error, location))?;
            let target = target_of(&*place, &digest.clone().into()).await?;
            (target.unwrap_or(What::Manifest), digest)
        }
        Identifier::Tag(tag) => {
            let resolved = place.resolve(&tag.clone().into()).await;
            let resolved = resolved.map_err(|error| hint(error, location))?;
            let target = target_of(&*place, &tag.clone().into()).await?;
            if resolved.media_type.is_index() {
                warn_of_targets(session, &*place, location, &tag).await?;
            }
            (target.unwrap_or(What::Tag(tag)), resolved.digest)
        }
    };
    Ok(Doomed {
        location: location.clone(),
        place,
        what,
        digest,
    })
}

/// What is not there may be there under another name.
fn hint(error: oci_registry::Error, location: &Location) -> Error {
    let is_absent = error.kind() == ErrorKind::NotFound;
    let error = Error::from(error);
    if is_absent {
        let place = location.whole_repository();
        error.help(format!("`cargo oci tags {place}` lists what is there"))
    } else {
        error
    }
}

/// The target of a package that something is, when the index of its version lists it.
async fn target_of(place: &dyn Source, named: &Identifier) -> Result<Option<What>, Error> {
    let listed = oci_package::listed(place, named).await?;
    Ok(listed.map(|listed| What::Target {
        index: listed.index,
        member: listed.member,
        tags: listed.tags,
        with_manifest: matches!(named, Identifier::Digest(_)),
    }))
}

/// Readers who miss the index of a version find its targets under their own tags.
async fn warn_of_targets(
    session: &Session,
    place: &dyn Source,
    location: &Location,
    tag: &Tag,
) -> Result<(), Error> {
    let manifest = place.manifest(&tag.clone().into()).await?;
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
        let held = place.resolve(&tag.clone().into()).await.optional()?;
        targets.extend(held.map(|_| location.with(tag).to_string()));
    }
    if !targets.is_empty() {
        session.reporter.note(format_args!(
            "the targets of `{location}` keep tags of their own, by which `pull` still finds them: {}",
            targets.join(" ")
        ));
    }
    Ok(())
}

impl Doomed {
    /// The names that go, the most important last.
    fn names(&self) -> Vec<Location> {
        match &self.what {
            What::Target {
                tags,
                with_manifest,
                ..
            } => {
                let tags = tags.iter().map(|tag| self.location.with(tag.clone()));
                let manifest = self.location.with(self.digest.clone());
                tags.chain(with_manifest.then_some(manifest)).collect()
            }
            What::Tag(_) | What::Manifest | What::Blob => vec![self.location.clone()],
        }
    }

    fn describe(&self) -> String {
        let Self {
            location, digest, ..
        } = self;
        match &self.what {
            What::Tag(_) => format!("the tag {location}, which names {digest}"),
            What::Target { index, .. } => {
                let names: Vec<_> = self.names().iter().map(ToString::to_string).collect();
                let index = location.with(index.clone());
                format!("{}, and its entry in {index}", names.join(" and "))
            }
            What::Manifest => format!("the manifest {location}, and every tag that names it"),
            What::Blob => format!("the blob {location}"),
        }
    }

    async fn delete(&self, session: &Session) -> Result<(), Error> {
        match &self.what {
            What::Tag(tag) => Ok(self.place.delete_tag(tag).await?),
            What::Manifest => Ok(self.place.delete_manifest(&self.digest).await?),
            What::Blob => Ok(self.place.delete_blob(&self.digest).await?),
            What::Target {
                index,
                member,
                with_manifest,
                ..
            } => {
                let observer =
                    |event: Event<'_>| super::index::told(session, &self.location, &event);
                let members = std::slice::from_ref(member);
                oci_package::remove(&*self.place, index, members, &observer).await?;
                if *with_manifest {
                    self.place.delete_manifest(&self.digest).await?;
                }
                Ok(())
            }
        }
    }

    /// Tells what is gone, or would be, and names it.
    fn say(&self, session: &Session, action: DeleteAction) -> Result<(), Error> {
        for name in self.names() {
            session.reporter.tell(&Message::Delete {
                reference: name.to_string(),
                action,
                digest: &self.digest,
            });
            if !session.reporter.is_json() {
                report::line(name)?;
            }
        }
        Ok(())
    }
}
