//! Packing what was built, and publishing it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use oci_package::{
    Artifact, Build, FileKind, FloatingTagUpdate, InputFile, PackOptions, PublishEvent,
    PublishOptions, Revision, StoredTags,
};
use oci_registry::{Descriptor, Identifier, Location, Manifest, Target};

use super::destination::Destination;
use super::github::{self, Published};
use super::subject::Subject;
use super::{Flags, Place, Places, plan, targets};
use crate::cargo::{self, Output, PackageOutput, Provenance, Toolchain};
use crate::message::{ManifestAction, Message, TagAction};
use crate::progress::Batch;
use crate::report::{self, Error, Reporter};
use crate::session::Session;

/// Packs everything, and then publishes it, or shows what that would do.
pub(super) async fn all(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
    (outputs, mut places): (Vec<Output>, Places),
    toolchain: Option<&Toolchain>,
) -> Result<(), Error> {
    let packages: Vec<_> = subjects.iter().map(|subject| subject.package).collect();
    let provenances = cargo::provenance(&session.cargo, &packages).await?;
    let problems = provenances.values().filter_map(|one| one.problem.as_ref());
    for problem in problems.collect::<BTreeSet<_>>() {
        session.reporter.note(format_args!(
            "no dirty flag is recorded, because the state of the work tree is unknown: {problem}"
        ));
    }
    let found = outputs.iter().flat_map(|output| &output.packages);
    let plain = found.flat_map(|package| &package.files);
    let plain = plain.filter(|file| file.kind == FileKind::File);
    let plain = plain.map(|file| file.path.as_path());
    let executables = cargo::executables(&session.cargo, plain).await;
    // All artifacts before the first tag: what cannot be packed must not leave half a workspace published.
    let mut artifacts = Vec::new();
    for output in &outputs {
        for found in &output.packages {
            let Some(subject) = subjects
                .iter()
                .find(|subject| subject.package.id == found.id)
            else {
                continue;
            };
            let provenance = provenances.get(&found.id).cloned().unwrap_or_default();
            let tags = subject.destination.target_tags([output.target.as_str()])?;
            let place = places.get(&found.id).filter(|_| !flags.dry_run);
            let lacking = place.filter(|place| place.stored.lacks_any(&tags));
            let options = PackOptions {
                names: subject.names.clone(),
                annotations: subject.annotations.clone(),
                send_ahead: lacking.map(|place| Arc::clone(&place.target)),
                archive: subject.archive,
            };
            let mut build = build(output, found, &provenance, flags, toolchain)?;
            build.cfg = targets::cfg(session, &flags.selection, &output.target)?;
            let facts = super::subject::facts(session, subject.package);
            let files = files(session, found, flags, &executables)?;
            let batch = session.reporter.batch("Uploading", None);
            for file in files.iter().filter(|_| options.send_ahead.is_some()) {
                // What cannot be read is found out by whoever reads it.
                let size = std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
                batch.start(file.name.as_str(), file.name.as_str(), size, &file.meter);
            }
            let artifact = oci_package::pack(&facts, &build, &files, &options).await?;
            artifacts.push((subject, artifact));
        }
    }
    if flags.dry_run {
        return show(session, &mut places, &artifacts, flags).await;
    }
    let mut published = Vec::new();
    let outcome = each(session, &mut places, &artifacts, flags, &mut published).await;
    // What is published is told, also when something after it failed.
    let told = github::tell(&session.environment, &published);
    outcome.and(told)
}

/// Shows what publishing would do, as JSON.
async fn show(
    session: &Session,
    places: &mut Places,
    artifacts: &[(&Subject<'_>, Artifact)],
    flags: &Flags,
) -> Result<(), Error> {
    let mut plans = Vec::new();
    let mut refusals = None;
    for (subject, artifact) in artifacts {
        let repository = &subject.destination.repository;
        let mut options = options(session, subject, flags);
        let place = match places.get_mut(&subject.package.id) {
            Some(place) => {
                options.stored = place.take_stored(subject, artifact)?;
                Arc::clone(&place.target)
            }
            None => session.prospective_target(repository).await?,
        };
        let (plan, refusal) = plan::of(&*place, subject, artifact, &options).await?;
        plans.push(plan);
        refusals = refusals.or(refusal);
    }
    report::json(&plan::show(&plans))?;
    // A push would end so, before anything is sent.
    refusals.map_or(Ok(()), Err)
}

/// Publishes one after the other, and notes each that is there.
async fn each(
    session: &Session,
    places: &mut Places,
    artifacts: &[(&Subject<'_>, Artifact)],
    flags: &Flags,
    published: &mut Vec<Published>,
) -> Result<(), Error> {
    for (subject, artifact) in artifacts {
        let mut options = options(session, subject, flags);
        let place = match places.get_mut(&subject.package.id) {
            Some(place) => {
                options.stored = place.take_stored(subject, artifact)?;
                Arc::clone(&place.target)
            }
            None => session.target(&subject.destination.repository).await?,
        };
        publish(session, &*place, subject, artifact, &options, published).await?;
    }
    Ok(())
}

impl Place {
    /// Moves the tags of an artifact out.
    fn take_stored(
        &mut self,
        subject: &Subject<'_>,
        artifact: &Artifact,
    ) -> Result<StoredTags, Error> {
        let destination = &subject.destination;
        let mut tags = destination.target_tags([artifact.target()])?;
        tags.extend(destination.index_tags());
        Ok(self.stored.take(&tags))
    }
}

fn options(session: &Session, subject: &Subject<'_>, flags: &Flags) -> PublishOptions {
    let mut options = PublishOptions {
        overwrite: flags.overwrite,
        index: !flags.no_index,
        concurrency: session.concurrency,
        ..PublishOptions::default()
    };
    let declared = subject.declared.as_ref();
    options.declared = declared.map(|declared| declared.targets.iter().cloned().collect());
    options
}

/// How the files of a package were made.
fn build(
    output: &Output,
    found: &PackageOutput,
    provenance: &Provenance,
    flags: &Flags,
    toolchain: Option<&Toolchain>,
) -> Result<Build, Error> {
    let mut build = Build::new(&output.target, flags.selection.profile());
    build.features = found.features.iter().cloned().collect();
    build.crate_types = found.crate_types.iter().cloned().collect();
    build.rustc = toolchain.map(|toolchain| toolchain.rustc.clone());
    build.cargo = toolchain.map(|toolchain| toolchain.cargo.clone());
    build.revision = provenance.revision.clone().map(|commit| Revision {
        commit,
        dirty: provenance.dirty,
    });
    build.created = provenance.created.map(timestamp).transpose()?;
    Ok(build)
}

/// The files of a package, with the media types that were given for them, and the modes of those that have their own.
fn files(
    session: &Session,
    found: &PackageOutput,
    flags: &Flags,
    executables: &BTreeSet<PathBuf>,
) -> Result<Vec<InputFile>, Error> {
    let files = found.files.iter().map(|built| {
        let mut file = InputFile::new(built.name.parse()?, built.kind, &built.path);
        let handed = flags
            .file
            .iter()
            .find(|handed| handed.name.as_str() == built.name);
        file.executable = executables.contains(&built.path);
        file.media_type = handed.and_then(|handed| handed.place.split(session).1);
        Ok(file)
    });
    files.collect()
}

/// Seconds since 1970 in the notation of RFC 3339.
pub(super) fn timestamp(seconds: i64) -> Result<String, Error> {
    match jiff::Timestamp::from_second(seconds) {
        Ok(moment) => Ok(moment.to_string()),
        Err(_) => Err(Error::usage(format!(
            "failed to read the time of the sources: {seconds} is no moment in history"
        ))
        .help("check `SOURCE_DATE_EPOCH`")),
    }
}

async fn publish(
    session: &Session,
    place: &dyn Target,
    subject: &Subject<'_>,
    artifact: &Artifact,
    options: &PublishOptions,
    published: &mut Vec<Published>,
) -> Result<(), Error> {
    let Destination { repository, tags } = &subject.destination;
    let (reporter, target) = (session.reporter, artifact.target());
    let package = subject.package;
    reporter.status(
        "Pushing",
        format_args!(
            "{} v{} ({target}) to {}",
            package.name, package.version, subject.destination
        ),
    );
    let sizes = artifact.packed().blobs().map(oci_registry::Blob::size);
    let (count, bytes) = sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
    let batch = reporter.batch("Uploading", Some((count, bytes)));
    let observer = |event: PublishEvent<'_>| tell(reporter, repository, &batch, event);
    let done = oci_package::publish(artifact, place, tags, options, &observer).await?;
    drop(batch);
    let manifest = &done.manifest;
    let name = repository.with(Identifier::Digest(manifest.digest().clone()));
    if done.blobs.is_empty() {
        reporter.tell(&Message::Manifest {
            reference: name.to_string(),
            action: ManifestAction::Exists,
            target: Some(target),
            size: manifest.bytes().len() as u64,
            digest: manifest.digest(),
            known_as: subject.destination.to_string(),
        });
    }
    let index = done.tags.first().and_then(|done| done.index.as_ref());
    published.push(Published {
        package: package.name.to_string(),
        version: package.version.to_string(),
        target: target.to_owned(),
        location: repository.clone(),
        tags: subject.destination.index_tags(),
        digest: manifest.digest().clone(),
        index: index.map(|index| index.digest().clone()),
        size: bytes,
    });
    if subject.floating {
        // Of the tags, only that of a version is followed.
        let released = done.tags.iter().find(|done| done.tag.is_released());
        let released = released.and_then(|done| done.index.as_ref());
        match released.filter(|index| is_complete(index, subject)) {
            Some(index) => float(session, place, repository, index).await?,
            None => reporter.note("the release is not complete yet: no tag follows it"),
        }
    }
    session.finished(&name, manifest.digest(), index.map(Manifest::digest))
}

/// Passes on what happens during a publication.
fn tell(reporter: Reporter, repository: &Location, batch: &Batch, event: PublishEvent<'_>) {
    let name = |identifier: Identifier| repository.with(identifier).to_string();
    match event {
        PublishEvent::BlobStarted(blob, meter) => {
            batch.start(blob.digest.as_str(), title(blob), blob.size, &meter);
        }
        PublishEvent::Blob(blob, delivery) => {
            batch.finish(blob.digest.as_str(), blob.size);
            reporter.tell(&Message::blob(
                name(blob.digest.clone().into()),
                blob,
                delivery,
            ));
        }
        PublishEvent::Manifest(manifest) => reporter.tell(&Message::Manifest {
            reference: name(manifest.digest().clone().into()),
            action: ManifestAction::Pushed,
            target: manifest
                .annotations()
                .get(oci_package::annotation::TARGET)
                .map(String::as_str),
            size: manifest.bytes().len() as u64,
            digest: manifest.digest(),
            known_as: String::new(),
        }),
        PublishEvent::Tag(tag, manifest) => reporter.tell(&Message::Tag {
            reference: name(tag.clone().into()),
            action: TagAction::Tagged,
            digest: manifest.digest(),
        }),
        PublishEvent::Index(tag, index) => reporter.tell(&Message::Index {
            reference: name(tag.clone().into()),
            entries: index.as_index().map_or(0, |index| index.manifests.len()),
            targets: oci_package::Summary::from_manifest(index).targets,
            size: index.bytes().len() as u64,
            digest: index.digest(),
        }),
        PublishEvent::Note(note) => reporter.note(note),
        _ => {}
    }
}

/// Whether an index holds all targets that were declared.
fn is_complete(index: &Manifest, subject: &Subject<'_>) -> bool {
    let held = oci_package::Summary::from_manifest(index).targets;
    let declared = subject.declared.as_ref();
    declared.is_some_and(|declared| declared.targets.iter().all(|target| held.contains(target)))
}

/// Lets the floating tags follow a complete release.
async fn float(
    session: &Session,
    place: &dyn Target,
    repository: &Location,
    index: &Manifest,
) -> Result<(), Error> {
    for floated in oci_package::update_floating_tags(place, index, &|_| ()).await? {
        let (tag, action) = match floated {
            FloatingTagUpdate::Created(tag) => (tag, TagAction::Tagged),
            FloatingTagUpdate::Moved(tag) => (tag, TagAction::Moved),
            FloatingTagUpdate::Ahead(tag, version) => {
                session.reporter.note(format_args!(
                    "`{tag}` stays with the higher version {version}"
                ));
                continue;
            }
            _ => continue,
        };
        session.reporter.tell(&Message::Tag {
            reference: repository.with(tag).to_string(),
            action,
            digest: index.digest(),
        });
    }
    Ok(())
}

/// How a person would call a layer.
fn title(blob: &Descriptor) -> &str {
    blob.annotation(oci_package::annotation::TITLE)
        .unwrap_or("config")
}
