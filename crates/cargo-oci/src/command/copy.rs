//! `cargo oci copy`: copy artifacts between registries, layouts and archives, byte for byte.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::Args;
use oci_package::{PackageTarget, ReleaseTag};
use oci_registry::{
    ArchiveFormat, CopyEvent, CopyOptions, Delivery, Identifier, Location, LocationText, Manifest,
    Mode, Source, Tag, Target,
};

use super::find::{self, SelectorFlags};
use crate::figures::{Size, format_count};
use crate::message::{FormatFlag, ManifestAction, Message};
use crate::naming;
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;

/// Copy artifacts between registries, OCI layouts and archives
///
/// Digests do not change. Content that the target already has is not sent. Blobs are mounted from another repository of
/// the target registry where the registry supports it. A tag is written after everything that it refers to. A target
/// without a tag gets the tag of the source.
#[derive(Debug, Args)]
#[command(
    visible_alias = "cp",
    after_help = "Examples:\n  cargo oci copy ghcr.io/acme/widgets:1.2.3 registry.example.com/mirror/widgets\n  cargo oci copy ghcr.io/acme/widgets registry.example.com/mirror/widgets --all-tags --referrers\n  cargo oci copy ghcr.io/acme/widgets:1.2.3 oci:widgets --target x86_64-unknown-linux-musl\n  cargo oci copy oci:widgets:1.2.3 oci-archive:widgets.tar\n  cargo oci copy ghcr.io/acme/image:1 docker-archive:image.tar:acme/image:1 --platform linux/amd64"
)]
pub(crate) struct Flags {
    /// Artifact to copy (default tag: the highest release)
    ///
    /// REGISTRY/REPOSITORY[:TAG][@DIGEST], oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:NAME[:TAG]].
    #[arg(value_name = "SOURCE", value_parser = parse_location)]
    source: LocationText,

    /// Locations to copy to, each with an optional tag
    ///
    /// Same formats as SOURCE. May be given more than once.
    #[arg(value_name = "TARGET", required = true, value_parser = parse_location)]
    targets: Vec<LocationText>,

    /// Copy all tags of the source repository
    #[arg(long, conflicts_with_all = ["target", "platform"])]
    all_tags: bool,

    /// Also copy the referrers: SBOMs, signatures and attestations
    #[arg(long)]
    referrers: bool,

    #[command(flatten)]
    selector: SelectorFlags,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// Location to copy to, and the tags to write at this location.
struct CopyTarget {
    /// Repository, layout or archive, without a tag.
    location: Location,
    /// Tags on the command line. If there are none, the tag of the source is used.
    tags: Vec<Tag>,
}

/// Copies the artifact to all targets.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let source_location = session.locate(&flags.source).await?;
    let targets = copy_targets(session, &flags, &source_location)?;
    let source = session.open_source(&source_location).await?;
    if flags.all_tags {
        for target in &targets {
            copy_all_tags(session, &source, &flags, &source_location, &target.location).await?;
        }
        return Ok(());
    }
    let root = find::resolve_identifier(&*source, &source_location).await?;
    if targets.iter().any(|target| target.tags.is_empty()) {
        oci_package::check_tag_of_digest(&*source, &source_location).await?;
    }
    let selector = flags.selector.manifest_selector();
    // If a target is a layout or an archive, the manifest is fetched before the target is created. No files are then
    // created if the source does not exist.
    let is_file_target = |target: &CopyTarget| match &target.location {
        Location::Registry(_) => false,
        Location::Layout { .. } | Location::Archive { .. } => true,
    };
    let resolved = if selector.is_some() || targets.iter().any(is_file_target) {
        Some(find::resolve_manifest(&*source, &source_location, &root, selector.as_ref()).await?)
    } else {
        None
    };
    let requested = source_location.with(root.clone());
    let default_tag = default_tag(
        &source_location,
        &root,
        resolved.as_ref().filter(|_| selector.is_some()),
    );
    let root = resolved
        .as_ref()
        .map_or(root, |manifest| manifest.digest().clone().into());
    for CopyTarget { location, mut tags } in targets {
        if tags.is_empty() {
            tags.extend(default_tag.clone());
        }
        if let (true, Some(index)) = (is_docker_archive(&location), &resolved)
            && index.as_index().is_some()
        {
            return Err(Error::usage(format!(
                "failed to copy to `{location}`: a docker archive can only contain single images, and `{source_location}` is an index"
            ))
            .help("select an image with `--platform`"));
        }
        let target = session.open_target(&location, Mode::WriteOnce).await?;
        let mut reporter = CopyReporter::new(session, &location, &requested, &tags);
        let observer = |event| reporter.report_event(event);
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
                return Err(oci_package::explain(&*source, &source_location, error)
                    .await
                    .into());
            }
        };
        reporter.finish();
        let name = location.with(manifest.digest().clone());
        session.report_finished(&name, manifest.digest(), None)?;
    }
    Ok(())
}

/// Copies all tags. Prints one reference for each manifest, even if the manifest has several tags.
async fn copy_all_tags(
    session: &Session,
    source: &Arc<dyn Source>,
    flags: &Flags,
    source_location: &Location,
    location: &Location,
) -> Result<(), Error> {
    let target: Arc<dyn Target> = session.open_target(location, Mode::WriteOnce).await?;
    let mut reporter = CopyReporter::new(session, location, source_location, &[]);
    let observer = |event| reporter.report_event(event);
    let options = CopyOptions {
        referrers: flags.referrers,
        concurrency: session.concurrency,
        observer: &observer,
        ..CopyOptions::default()
    };
    let copied = oci_registry::copy_all(source, &*target, options).await;
    let copied = copied.map_err(|error| oci_package::explain_repository(source_location, error))?;
    let skipped = reporter.finish();
    if !skipped.is_empty() && !flags.referrers {
        let count = format_count(skipped.len(), "tag");
        session.reporter.note(format_args!(
            "skipped {count} of the referrers tag schema: pass `--referrers` to copy the artifacts that they list"
        ));
    }
    if copied.is_empty() {
        session
            .reporter
            .note(format_args!("`{source_location}` has no tags"));
    }
    let mut printed = std::collections::HashSet::new();
    for (_, manifest) in copied {
        if printed.insert(manifest.digest().clone()) {
            let name = location.with(manifest.digest().clone());
            session.report_finished(&name, manifest.digest(), None)?;
        }
    }
    Ok(())
}

/// Returns the targets, with the tags of the same location merged into one target. Fails before any request if a target
/// is invalid.
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
        if let Some(digest) = target.digest() {
            return Err(Error::usage(format!(
                "failed to copy to `{target}`: a target cannot have a digest"
            ))
            .help(format!("remove `@{digest}`, or replace it with a tag")));
        }
        if flags.all_tags {
            naming::require_repository(target, "copy all tags")?;
        }
        check_image_name(target, source)?;
        let source_tag = source.tag().cloned();
        let tag = target.tag().cloned();
        let is_same = naming::is_same_repository(session, target, source)
            && (tag.is_none() || tag == source_tag);
        if is_same {
            let error = Error::usage(format!(
                "failed to copy `{source}` to `{target}`: source and target are the same"
            ));
            return Err(error.help("choose another location or tag"));
        }
        let location = target.whole_repository();
        match targets
            .iter_mut()
            .find(|known| known.location == location && !known.tags.is_empty() && tag.is_some())
        {
            Some(known) => known.tags.extend(tag),
            None => targets.push(CopyTarget {
                location,
                tags: tag.into_iter().collect(),
            }),
        }
    }
    Ok(targets)
}

fn is_docker_archive(location: &Location) -> bool {
    matches!(
        location,
        Location::Archive {
            format: ArchiveFormat::Docker(_),
            ..
        }
    )
}

/// Checks that a docker archive has an image name, because the name cannot be derived from the source.
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
    let tag = target.tag().cloned().or_else(|| source.tag().cloned());
    let tag = tag.map_or_else(|| "TAG".to_owned(), |tag| tag.to_string());
    Err(
        Error::usage(format!("failed to copy to `{target}`: missing image name")).help(format!(
            "write `docker-archive:{}:{name}:{tag}`",
            file.display()
        )),
    )
}

/// Returns the tag to write if a target location has none: the tag of the source. If only one cargo target of a release
/// is copied, its own tag is returned, such as `1.2.3__x86_64-unknown-linux-gnu`.
fn default_tag(source: &Location, root: &Identifier, selected: Option<&Manifest>) -> Option<Tag> {
    let tag = source.tag().cloned().or_else(|| match root {
        Identifier::Tag(tag) => Some(tag.clone()),
        Identifier::Digest(_) => None,
    })?;
    let target_tag = selected.and_then(PackageTarget::read).and_then(|package| {
        let release = ReleaseTag::new(tag.clone()).ok()?;
        release.target(&package.target).ok()
    });
    Some(target_tag.unwrap_or(tag))
}

/// Reporter that shows the progress bars, messages and summary of a copy.
pub(super) struct CopyReporter<'a> {
    session: &'a Session,
    location: &'a Location,
    /// Verb of the status line that summarizes the copy, such as `Copied`.
    summary_verb: &'static str,
    batch: Option<crate::progress::Batch>,
    counts: Mutex<CopyCounts>,
}

#[derive(Default)]
struct CopyCounts {
    delivered: [usize; 3],
    bytes: u64,
    manifests: usize,
    tags: usize,
    skipped: Vec<Tag>,
}

impl<'a> CopyReporter<'a> {
    /// Creates the reporter, and prints the status line `Copying`.
    pub(super) fn new(
        session: &'a Session,
        location: &'a Location,
        source: &Location,
        tags: &[Tag],
    ) -> Self {
        let tags: Vec<_> = tags.iter().map(|tag| format!(":{tag}")).collect();
        session.reporter.status(
            "Copying",
            format_args!("{source} to {location}{}", tags.join(", ")),
        );
        Self::new_silent(session, location, "Copied")
    }

    /// Creates the reporter without printing a status line.
    pub(super) fn new_silent(
        session: &'a Session,
        location: &'a Location,
        summary_verb: &'static str,
    ) -> Self {
        Self {
            session,
            location,
            summary_verb,
            batch: Some(session.reporter.start_batch("Copying", None)),
            counts: Mutex::default(),
        }
    }

    fn lock_counts(&self) -> MutexGuard<'_, CopyCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports one copy event.
    pub(super) fn report_event(&self, event: CopyEvent) {
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
                    let mut counts = self.lock_counts();
                    let at = match delivery {
                        Delivery::Uploaded => 0,
                        Delivery::Mounted => 1,
                        Delivery::Existed => 2,
                    };
                    counts.delivered[at] += 1;
                    if delivery == Delivery::Uploaded {
                        counts.bytes += blob.size;
                    }
                }
                let reference = self.location.with(blob.digest.clone()).to_string();
                reporter.emit(&Message::for_blob(reference, &blob, delivery));
            }
            CopyEvent::Manifest(manifest) => {
                self.lock_counts().manifests += 1;
                reporter.emit(&Message::Manifest {
                    reference: self.location.with(manifest.digest.clone()).to_string(),
                    action: ManifestAction::Pushed,
                    target: None,
                    size: manifest.size,
                    digest: &manifest.digest,
                });
            }
            CopyEvent::Tag(tag, manifest, previous) => {
                self.lock_counts().tags += 1;
                let reference = self.location.with(tag).to_string();
                let action = reporter.report_tag_update(&reference, previous.as_ref());
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
            CopyEvent::SkippedTag(tag) => self.lock_counts().skipped.push(tag),
            _ => {}
        }
    }

    /// Prints the summary. Returns the tags that were skipped because they belong to the referrers tag schema.
    pub(super) fn finish(&mut self) -> Vec<Tag> {
        self.batch = None;
        let counts = std::mem::take(&mut *self.lock_counts());
        let [uploaded, mounted, existed] = counts.delivered;
        let blobs = uploaded + mounted + existed;
        if blobs + counts.manifests + counts.tags == 0 {
            self.session.reporter.status("Unchanged", self.location);
        } else if blobs + counts.manifests > 0 {
            self.session.reporter.status(
                self.summary_verb,
                format_args!(
                    "{} and {}, {} sent",
                    format_count(counts.manifests, "manifest"),
                    format_count(blobs, "blob"),
                    Size(counts.bytes)
                ),
            );
        }
        counts.skipped
    }
}
