//! `cargo oci copy`: artifacts from any place to any other, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use oci_package::{PackageTarget, ReleaseTag};
use oci_registry::{
    ArchiveFormat, CopyEvent, CopyOptions, Delivery, Identifier, Location, LocationText, Manifest,
    Side, Source, Tag, Target,
};

use super::find::{self, Selector};
use super::missing;
use crate::figures::{Size, plural};
use crate::message::{FormatFlag, ManifestAction, Message, TagAction};
use crate::naming;
use crate::options::location;
use crate::report::Error;
use crate::session::Session;

/// Copy artifacts between registries, OCI layouts and archives
///
/// Digests do not change. Content that the target already has is not sent. Blobs are mounted from another repository of
/// the target registry where the registry supports it. A tag is written after everything that it refers to. A target
/// without a tag gets the tag of the source.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci copy ghcr.io/acme/widgets:1.2.3 registry.example.com/mirror/widgets\n  cargo oci copy ghcr.io/acme/widgets registry.example.com/mirror/widgets --all-tags --referrers\n  cargo oci copy ghcr.io/acme/widgets:1.2.3 oci:widgets --target x86_64-unknown-linux-musl\n  cargo oci copy oci:widgets:1.2.3 oci-archive:widgets.tar\n  cargo oci copy ghcr.io/acme/image:1 docker-archive:image.tar:acme/image:1 --platform linux/amd64"
)]
pub(crate) struct Flags {
    /// Artifact to copy (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "SOURCE", value_parser = location)]
    source: LocationText,

    /// Locations or tags to copy to
    ///
    /// Same formats as SOURCE. May be given more than once.
    #[arg(value_name = "TARGET", required = true, value_parser = location)]
    targets: Vec<LocationText>,

    /// Copy all tags of the source repository
    #[arg(long, conflicts_with_all = ["target", "platform"])]
    all_tags: bool,

    /// Also copy the referrers: SBOMs, signatures and attestations
    #[arg(long)]
    referrers: bool,

    #[command(flatten)]
    selector: Selector,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// One place that is copied to.
struct Destination {
    /// The place, without a tag.
    place: Location,
    /// The tags that were asked for; none means the source's.
    tags: Vec<Tag>,
}

/// Copies.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let from = session.locate(&flags.source).await?;
    let destinations = destinations(session, &flags, &from)?;
    let source = session.source(&from).await?;
    if flags.all_tags {
        for destination in &destinations {
            copy_all(session, &source, &flags, &from, &destination.place).await?;
        }
        return Ok(());
    }
    let root = find::root(&*source, &from).await?;
    let wanted = flags.selector.wanted();
    // Known before anything is made or moved where it decides whether anything is.
    let is_known_first = |destination: &Destination| match &destination.place {
        Location::Registry(_) => false,
        Location::Layout { .. } | Location::Archive { .. } => true,
    };
    let known = if wanted.is_some() || destinations.iter().any(is_known_first) {
        Some(find::manifest(&*source, &from, &root, wanted.as_ref()).await?)
    } else {
        None
    };
    let asked = from.with(root.clone());
    let own_tag = own_tag(&from, &root, known.as_ref().filter(|_| wanted.is_some()));
    let root = known
        .as_ref()
        .map_or(root, |known| known.digest().clone().into());
    for Destination { place, mut tags } in destinations {
        if tags.is_empty() {
            tags.extend(own_tag.clone());
        }
        if let (true, Some(index)) = (is_docker_archive(&place), &known)
            && index.as_index().is_some()
        {
            return Err(Error::usage(format!(
                "failed to copy to `{place}`: it would hold one image, and `{from}` is an index"
            ))
            .help("choose one with `--platform`"));
        }
        let target = session.gathering(&place).await?;
        let mut told = Told::new(session, &place, &asked, &tags);
        let observer = |event| told.event(event);
        let options = CopyOptions {
            tags,
            referrers: flags.referrers,
            concurrency: session.concurrency,
            observer: &observer,
        };
        let copied = oci_registry::copy(&source, &root, &*target, options).await;
        let manifest = match copied {
            Ok(manifest) => manifest,
            Err(error) => {
                return Err(missing::explain_source(&*source, &from, error).await);
            }
        };
        told.end();
        let name = place.with(manifest.digest().clone());
        session.finished(&name, manifest.digest(), None)?;
    }
    Ok(())
}

/// Copies every tag, and says the name of everything that tags name.
async fn copy_all(
    session: &Session,
    source: &Arc<dyn Source>,
    flags: &Flags,
    from: &Location,
    place: &Location,
) -> Result<(), Error> {
    let target: Arc<dyn Target> = session.gathering(place).await?;
    let mut told = Told::new(session, place, from, &[]);
    let observer = |event| told.event(event);
    let options = CopyOptions {
        referrers: flags.referrers,
        concurrency: session.concurrency,
        observer: &observer,
        ..CopyOptions::default()
    };
    let copied = oci_registry::copy_all(source, &*target, options).await;
    let copied = copied.map_err(|error| match error.side() {
        Some(Side::Target) => error.into(),
        _ => missing::repository(error.into(), from),
    })?;
    let left_aside = told.end();
    if !left_aside.is_empty() && !flags.referrers {
        let count = plural(left_aside.len(), "tag");
        session.reporter.note(format_args!(
            "{count} left aside, which keep lists of referrers: `--referrers` copies what they list"
        ));
    }
    if copied.is_empty() {
        session
            .reporter
            .note(format_args!("there are no tags in `{from}`"));
    }
    let mut named = std::collections::HashSet::new();
    for (_, manifest) in copied {
        if named.insert(manifest.digest().clone()) {
            let name = place.with(manifest.digest().clone());
            session.finished(&name, manifest.digest(), None)?;
        }
    }
    Ok(())
}

/// Where everything goes, the tags of one place together; what cannot be is said before anything is asked.
fn destinations(
    session: &Session,
    flags: &Flags,
    source: &Location,
) -> Result<Vec<Destination>, Error> {
    if flags.all_tags {
        naming::whole(source, "copy all tags")?;
    }
    let mut destinations: Vec<Destination> = Vec::new();
    for target in &flags.targets {
        let target = &session.locate_target(target)?;
        if let Some(digest) = naming::digest(target) {
            return Err(Error::usage(format!(
                "failed to copy to `{target}`: a digest follows from the content"
            ))
            .help(format!("leave `@{digest}` out, or name a tag")));
        }
        if flags.all_tags {
            naming::whole(target, "copy all tags")?;
        }
        refuse_nameless(target, source)?;
        let own = naming::tag(source);
        let tag = naming::tag(target);
        let is_same =
            naming::is_same_place(session, target, source) && (tag.is_none() || tag == own);
        if is_same {
            let error = Error::usage(format!(
                "failed to copy `{source}` to `{target}`: they are the same"
            ));
            return Err(error.help("name another place, or another tag"));
        }
        let place = target.whole_repository();
        match destinations
            .iter_mut()
            .find(|known| known.place == place && !known.tags.is_empty() && tag.is_some())
        {
            Some(known) => known.tags.extend(tag),
            None => destinations.push(Destination {
                place,
                tags: tag.into_iter().collect(),
            }),
        }
    }
    Ok(destinations)
}

fn is_docker_archive(place: &Location) -> bool {
    matches!(
        place,
        Location::Archive {
            format: ArchiveFormat::Docker(_),
            ..
        }
    )
}

/// Images in a docker archive have names, and there is none to guess.
fn refuse_nameless(target: &Location, source: &Location) -> Result<(), Error> {
    let Location::Archive {
        file,
        format: ArchiveFormat::Docker(None),
        ..
    } = target
    else {
        return Ok(());
    };
    let name = match source {
        Location::Registry(reference) => reference.whole_repository().to_string(),
        _ => "NAME".to_owned(),
    };
    let tag = naming::tag(target).or_else(|| naming::tag(source));
    let tag = tag.map_or_else(|| "TAG".to_owned(), |tag| tag.to_string());
    Err(Error::usage(format!(
        "failed to copy to `{target}`: the image in it needs a name"
    ))
    .help(format!(
        "write `docker-archive:{}:{name}:{tag}`",
        file.display()
    )))
}

/// The tag that a target gets when it names none: the source's; for one target of a release, the tag of that target.
fn own_tag(source: &Location, root: &Identifier, chosen: Option<&Manifest>) -> Option<Tag> {
    let tag = naming::tag(source).or_else(|| match root {
        Identifier::Tag(tag) => Some(tag.clone()),
        Identifier::Digest(_) => None,
    })?;
    let of_target = chosen.and_then(PackageTarget::read).and_then(|package| {
        let release = ReleaseTag::new(tag.clone()).ok()?;
        release.target(&package.target).ok()
    });
    Some(of_target.unwrap_or(tag))
}

/// What was told of a copy so far.
pub(super) struct Told<'a> {
    session: &'a Session,
    place: &'a Location,
    /// What is said of it when it is done.
    done: &'static str,
    batch: Option<crate::progress::Batch>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    delivered: [usize; 3],
    bytes: u64,
    manifests: usize,
    tags: usize,
    left_aside: Vec<Tag>,
}

impl<'a> Told<'a> {
    /// Begins to tell of a copy from `source` to a place.
    pub(super) fn new(
        session: &'a Session,
        place: &'a Location,
        source: &Location,
        tags: &[Tag],
    ) -> Self {
        let tags: Vec<_> = tags.iter().map(|tag| format!(":{tag}")).collect();
        session.reporter.status(
            "Copying",
            format_args!("{source} to {place}{}", tags.join(", ")),
        );
        Self::begin(session, place, "Copied")
    }

    /// Begins to tell of something that goes to a place, and was announced already.
    pub(super) fn begin(session: &'a Session, place: &'a Location, done: &'static str) -> Self {
        Self {
            session,
            place,
            done,
            batch: Some(session.reporter.batch("Copying", None)),
            tally: Mutex::default(),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of one thing done.
    pub(super) fn event(&self, event: CopyEvent) {
        let reporter = self.session.reporter;
        match event {
            CopyEvent::BlobStarted(blob, meter) => {
                let title = blob.annotation(oci_package::annotation::TITLE);
                let key = blob.digest.as_str();
                if let Some(batch) = &self.batch {
                    batch.start(key, title.unwrap_or(key), blob.size, &meter);
                }
            }
            CopyEvent::Blob(blob, delivery) => {
                if let Some(batch) = &self.batch {
                    batch.finish(blob.digest.as_str(), blob.size);
                }
                {
                    let mut tally = self.tally();
                    let at = match delivery {
                        Delivery::Uploaded => 0,
                        Delivery::Mounted => 1,
                        Delivery::Existed => 2,
                    };
                    tally.delivered[at] += 1;
                    if delivery == Delivery::Uploaded {
                        tally.bytes += blob.size;
                    }
                }
                let reference = self.place.with(blob.digest.clone()).to_string();
                reporter.tell(&Message::blob(reference, &blob, delivery));
            }
            CopyEvent::Manifest(manifest) => {
                self.tally().manifests += 1;
                reporter.tell(&Message::Manifest {
                    reference: self.place.with(manifest.digest.clone()).to_string(),
                    action: ManifestAction::Pushed,
                    target: None,
                    size: manifest.size,
                    digest: &manifest.digest,
                    known_as: String::new(),
                });
            }
            CopyEvent::Tag(tag, manifest, held) => {
                self.tally().tags += 1;
                let reference = self.place.with(tag).to_string();
                let action = TagAction::after(reporter, &reference, held.as_ref());
                reporter.tell(&Message::Tag {
                    reference,
                    action,
                    digest: &manifest.digest,
                });
            }
            CopyEvent::Skipped(blob) => {
                let why =
                    "the source does not have it, and it is a layer that may not be passed on";
                reporter.status("Skipped", format_args!("{}: {why}", blob.digest));
            }
            CopyEvent::LeftAside(tag) => self.tally().left_aside.push(tag),
            _ => {}
        }
    }

    /// Sums it up; the tags that were left aside.
    pub(super) fn end(&mut self) -> Vec<Tag> {
        self.batch = None;
        let tally = std::mem::take(&mut *self.tally());
        let [uploaded, mounted, existed] = tally.delivered;
        let blobs = uploaded + mounted + existed;
        if blobs + tally.manifests + tally.tags == 0 {
            self.session.reporter.status("Unchanged", self.place);
        } else if blobs + tally.manifests > 0 {
            self.session.reporter.status(
                self.done,
                format_args!(
                    "{} and {}, {} sent",
                    plural(tally.manifests, "manifest"),
                    plural(blobs, "blob"),
                    Size(tally.bytes)
                ),
            );
        }
        tally.left_aside
    }
}
