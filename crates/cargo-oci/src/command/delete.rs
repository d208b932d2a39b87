//! `cargo oci delete`: tags, manifests and blobs that are not wanted any more.

use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use oci_package::{Event, Listed, PackageIndex, ReleaseTag};
use oci_registry::{Delete, Digest, Identifier, Location, Optional, Source, Tag};

use super::{location, missing, naming};
use crate::message::{DeleteAction, FormatFlag, Message};
use crate::report::{self, Error};
use crate::session::Session;

/// Delete tags, manifests and blobs
///
/// By a tag, the tag alone goes: what it named keeps its digest and its other tags. By a digest, the manifest goes with
/// every tag that names it. The tag of one target of a package takes the target's entry out of the index of its version,
/// and with the last entry the index goes.
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
    /// A target of a package: its tags, and its entry in the index of its version.
    Target {
        listed: Box<Listed>,
        /// Whether the manifest goes as well.
        with_manifest: bool,
        /// Whether it is the last one in the index, which then goes as well.
        is_last: bool,
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
    find_last(&mut doomed);
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
    for mut doomed in doomed {
        doomed.delete(session).await?;
        doomed.say(session, DeleteAction::Deleted)?;
    }
    Ok(())
}

/// Finds out which entry is the last one of its index, when those before it are gone.
fn find_last(doomed: &mut [Doomed]) {
    for at in 0..doomed.len() {
        let (before, [this, ..]) = doomed.split_at_mut(at) else {
            continue;
        };
        let place = this.location.whole_repository();
        let What::Target {
            listed, is_last, ..
        } = &mut this.what
        else {
            continue;
        };
        let is_gone = |digest: &Digest| {
            before.iter().any(|before| match &before.what {
                What::Target { listed: other, .. } => {
                    other.index == listed.index
                        && other.entries.contains(digest)
                        && before.location.whole_repository() == place
                }
                _ => false,
            })
        };
        *is_last = listed.others.iter().all(is_gone);
    }
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
            if let Err(error) = place.resolve(&digest.clone().into()).await {
                return Err(missing::explain(&*place, location, error.into()).await);
            }
            let target = target_of(&*place, &digest.clone().into()).await?;
            (target.unwrap_or(What::Manifest), digest)
        }
        Identifier::Tag(tag) => {
            let resolved = place.resolve(&tag.clone().into()).await;
            let resolved = match resolved {
                Ok(resolved) => resolved,
                Err(error) => {
                    return Err(missing::explain(&*place, location, error.into()).await);
                }
            };
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

/// The target of a package that something is, when the index of its version lists it.
async fn target_of(place: &dyn Source, named: &Identifier) -> Result<Option<What>, Error> {
    let listed = oci_package::listed(place, named).await?;
    Ok(listed.map(|listed| What::Target {
        listed: Box::new(listed),
        with_manifest: matches!(named, Identifier::Digest(_)),
        is_last: false,
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
    /// The names that go with what each names, the one that was asked for last.
    fn names(&self) -> Vec<(Location, &Digest)> {
        let own = &self.digest;
        match &self.what {
            What::Target {
                listed,
                with_manifest,
                is_last,
            } => {
                let index = self.location.with(listed.index.clone());
                let index = is_last.then_some((index, &listed.index_digest));
                let tags = listed.tags.iter();
                let tags = tags.map(|tag| (self.location.with(tag.clone()), own));
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
    async fn delete(&mut self, session: &Session) -> Result<(), Error> {
        match &mut self.what {
            What::Tag(tag) => Ok(self.place.delete_tag(tag).await?),
            What::Manifest => Ok(self.place.delete_manifest(&self.digest).await?),
            What::Blob => Ok(self.place.delete_blob(&self.digest).await?),
            What::Target {
                listed,
                with_manifest,
                is_last,
            } => {
                let observer =
                    |event: Event<'_>| super::index::told(session, &self.location, &event);
                let members = std::slice::from_ref(&listed.member);
                let place = &*self.place;
                let removed = oci_package::remove(place, &listed.index, members, &observer).await?;
                // Others may have published, or deleted, since it was looked at.
                *is_last = removed.gone.is_some();
                if let Some(gone) = removed.gone {
                    listed.index_digest = gone;
                }
                if *with_manifest {
                    self.place.delete_manifest(&self.digest).await?;
                }
                Ok(())
            }
        }
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
