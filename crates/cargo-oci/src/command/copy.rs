//! `cargo oci copy`: copy artifacts between registries, layouts and archives, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use oci_package::{PackageTarget, ReleaseTag};
use oci_registry::{
    ArchiveFormat, CopyEvent, CopyOptions, Delivery, Identifier, Location, LocationText, Manifest,
    Mode, Source, Tag, Target,
};

use super::find::{self, Selector};
use crate::figures::{Size, plural};
use crate::message::{FormatFlag, ManifestAction, Message};
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

    /// Locations to copy to, each with an optional tag
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

/// Target location of a copy.
struct CopyTarget {
    /// Location without a tag.
    place: Location,
    /// Tags from the command line. If empty, the tag of the source is used.
    tags: Vec<Tag>,
}

/// Copies the artifact to all targets.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let from = session.locate(&flags.source).await?;
    let targets = copy_targets(session, &flags, &from)?;
    let source = session.source(&from).await?;
    if flags.all_tags {
        for target in &targets {
            copy_all(session, &source, &flags, &from, &target.place).await?;
        }
        return Ok(());
    }
    let root = find::root(&*source, &from).await?;
    let wanted = flags.selector.wanted();
    // For a layout or archive, the manifest is fetched before the target is created, so that a missing source creates no
    // files.
    let is_file_target = |target: &CopyTarget| match &target.place {
        Location::Registry(_) => false,
        Location::Layout { .. } | Location::Archive { .. } => true,
    };
    let known = if wanted.is_some() || targets.iter().any(is_file_target) {
        Some(find::manifest(&*source, &from, &root, wanted.as_ref()).await?)
    } else {
        None
    };
    let asked = from.with(root.clone());
    let own_tag = own_tag(&from, &root, known.as_ref().filter(|_| wanted.is_some()));
    let root = known
        .as_ref()
        .map_or(root, |known| known.digest().clone().into());
    for CopyTarget { place, mut tags } in targets {
        if tags.is_empty() {
            tags.extend(own_tag.clone());
        }
        if let (true, Some(index)) = (is_docker_archive(&place), &known)
            && index.as_index().is_some()
        {
            return Err(Error::usage(format!(
                "failed to copy to `{place}`: a docker archive holds single images, and `{from}` is an index"
            ))
            .help("select an image with `--platform`"));
        }
        let target = session.target(&place, Mode::WriteOnce).await?;
        let mut reporter = CopyReporter::new(session, &place, &asked, &tags);
        let observer = |event| reporter.event(event);
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
                return Err(oci_package::explain(&*source, &from, error).await.into());
            }
        };
        reporter.end();
        let name = place.with(manifest.digest().clone());
        session.finished(&name, manifest.digest(), None)?;
    }
    Ok(())
}

/// Copies every tag, and prints the reference of each distinct manifest.
async fn copy_all(
    session: &Session,
    source: &Arc<dyn Source>,
    flags: &Flags,
    from: &Location,
    place: &Location,
) -> Result<(), Error> {
    let target: Arc<dyn Target> = session.target(place, Mode::WriteOnce).await?;
    let mut reporter = CopyReporter::new(session, place, from, &[]);
    let observer = |event| reporter.event(event);
    let options = CopyOptions {
        referrers: flags.referrers,
        concurrency: session.concurrency,
        observer: &observer,
        ..CopyOptions::default()
    };
    let copied = oci_registry::copy_all(source, &*target, options).await;
    let copied = copied.map_err(|error| oci_package::explain_repository(from, error))?;
    let skipped = reporter.end();
    if !skipped.is_empty() && !flags.referrers {
        let count = plural(skipped.len(), "tag");
        session.reporter.note(format_args!(
            "skipped {count} of the referrers tag schema: `--referrers` copies the listed artifacts"
        ));
    }
    if copied.is_empty() {
        session.reporter.note(format_args!("`{from}` has no tags"));
    }
    let mut printed = std::collections::HashSet::new();
    for (_, manifest) in copied {
        if printed.insert(manifest.digest().clone()) {
            let name = place.with(manifest.digest().clone());
            session.finished(&name, manifest.digest(), None)?;
        }
    }
    Ok(())
}

/// Returns the targets, with all tags of one location together. Reports invalid targets before any request.
fn copy_targets(
    session: &Session,
    flags: &Flags,
    source: &Location,
) -> Result<Vec<CopyTarget>, Error> {
    if flags.all_tags {
        naming::require_repository(source, "copy all tags")?;
    }
    let mut targets: Vec<CopyTarget> = Vec::new();
    for target in &flags.targets {
        let target = &session.locate_target(target)?;
        if let Some(digest) = naming::digest(target) {
            return Err(Error::usage(format!(
                "failed to copy to `{target}`: a target cannot have a digest"
            ))
            .help(format!("remove `@{digest}`, or replace it with a tag")));
        }
        if flags.all_tags {
            naming::require_repository(target, "copy all tags")?;
        }
        check_image_name(target, source)?;
        let own = naming::tag(source);
        let tag = naming::tag(target);
        let is_same =
            naming::is_same_repository(session, target, source) && (tag.is_none() || tag == own);
        if is_same {
            let error = Error::usage(format!(
                "failed to copy `{source}` to `{target}`: source and target are the same"
            ));
            return Err(error.help("choose another location or tag"));
        }
        let place = target.whole_repository();
        match targets
            .iter_mut()
            .find(|known| known.place == place && !known.tags.is_empty() && tag.is_some())
        {
            Some(known) => known.tags.extend(tag),
            None => targets.push(CopyTarget {
                place,
                tags: tag.into_iter().collect(),
            }),
        }
    }
    Ok(targets)
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

/// Checks that a docker archive target has an image name, which cannot be derived from the source.
fn check_image_name(target: &Location, source: &Location) -> Result<(), Error> {
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
    Err(
        Error::usage(format!("failed to copy to `{target}`: missing image name")).help(format!(
            "write `docker-archive:{}:{name}:{tag}`",
            file.display()
        )),
    )
}

/// Returns the default tag of a target location: the tag of the source, or for one target of a release, the tag of that
/// target.
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

/// Reporter of a copy: progress, messages and a summary.
pub(super) struct CopyReporter<'a> {
    session: &'a Session,
    place: &'a Location,
    /// Verb of the summary.
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
    skipped: Vec<Tag>,
}

impl<'a> CopyReporter<'a> {
    /// Creates the reporter, and prints the status line of the start.
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
        Self::silent_start(session, place, "Copied")
    }

    /// Creates the reporter without a status line of the start.
    pub(super) fn silent_start(
        session: &'a Session,
        place: &'a Location,
        done: &'static str,
    ) -> Self {
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

    /// Reports one event.
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
                reporter.emit(&Message::blob(reference, &blob, delivery));
            }
            CopyEvent::Manifest(manifest) => {
                self.tally().manifests += 1;
                reporter.emit(&Message::Manifest {
                    reference: self.place.with(manifest.digest.clone()).to_string(),
                    action: ManifestAction::Pushed,
                    target: None,
                    size: manifest.size,
                    digest: &manifest.digest,
                    display_name: String::new(),
                });
            }
            CopyEvent::Tag(tag, manifest, previous) => {
                self.tally().tags += 1;
                let reference = self.place.with(tag).to_string();
                let action = reporter.tag_update(&reference, previous.as_ref());
                reporter.emit(&Message::Tag {
                    reference,
                    action,
                    digest: &manifest.digest,
                });
            }
            CopyEvent::Skipped(blob) => {
                let reason = "non-distributable layer that the source does not have";
                reporter.status("Skipped", format_args!("{}: {reason}", blob.digest));
            }
            CopyEvent::SkippedTag(tag) => self.tally().skipped.push(tag),
            _ => {}
        }
    }

    /// Prints the summary, and returns the skipped tags of the referrers tag schema.
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
        tally.skipped
    }
}
