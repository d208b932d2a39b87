//! Steps of a push after the build: pack the files, and publish the artifacts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt as _};
use oci_package::{
    Artifact, Build, FileKind, FloatingTagUpdate, InputFile, PackOptions, PendingPublication,
    PublishEvent, PublishObserver, PublishOptions, Revision, StoredTags,
};
use oci_registry::{Descriptor, Identifier, Location, Manifest, Mode, Target};

use super::github;
use super::outcome::{self, PackageTag, PublishedPackage, PublishedTarget};
use super::plan;
use super::publication::Publication;
use super::{Flags, OpenRepositories, OpenRepository, targets, work_tree};
use crate::cargo::{self, BuildOutput, PackageOutput, Provenance, Toolchain};
use crate::message::{ManifestAction, Message, TagUpdate};
use crate::progress::Batch;
use crate::report::{Error, Reporter};
use crate::session::Session;

/// Packs all artifacts, and then publishes them or prints the plan of `--dry-run`.
pub(super) async fn pack_and_publish(
    session: &Session,
    publications: &[Publication<'_>],
    flags: &Flags,
    (outputs, mut repositories): (Vec<BuildOutput>, OpenRepositories),
    toolchain: Option<&Toolchain>,
) -> Result<(), Error> {
    let pushed: Vec<_> = publications
        .iter()
        .filter(|publication| publication.has_output_in(&outputs))
        .collect();
    let packages: Vec<_> = pushed
        .iter()
        .map(|publication| publication.package)
        .collect();
    let provenances = cargo::read_provenance(&session.cargo, &packages).await?;
    work_tree::check_after_build(session, &pushed, &provenances, flags)?;
    work_tree::warn_about_git_errors(session, &provenances);
    let found = outputs.iter().flat_map(|output| &output.packages);
    let others = found.flat_map(|package| &package.files);
    let others = others.filter(|file| file.kind == FileKind::File);
    let others = others.map(|file| file.path.as_path());
    let executables = cargo::find_executables(&session.cargo, others).await;
    // All artifacts are packed before the first one is published, so that a packing error does not leave the workspace
    // partly published.
    let mut artifacts = Vec::new();
    for output in &outputs {
        for found in &output.packages {
            let Some(publication) = publications
                .iter()
                .find(|publication| publication.package.id == found.id)
            else {
                continue;
            };
            let provenance = provenances.get(&found.id).cloned().unwrap_or_default();
            let tags = publication
                .destination
                .target_tags([output.target.as_str()])?;
            let repository = repositories.get(&found.id).filter(|_| !flags.dry_run);
            let incomplete = repository.filter(|repository| repository.stored.has_absent(&tags));
            let options = PackOptions {
                names: publication.names.clone(),
                annotations: publication.annotations.clone(),
                upload_to: incomplete.map(|repository| Arc::clone(&repository.target)),
                archive: publication.archive,
            };
            let mut build = build_information(output, found, &provenance, flags, toolchain)?;
            build.cfg = targets::read_cfg(session, &flags.selection, &output.target)?;
            let metadata = super::publication::package_metadata(session, publication.package);
            let files = input_files(session, found, flags, &executables)?;
            if !flags.dry_run {
                session.reporter.status(
                    "Pushing",
                    format_args!(
                        "{} v{} ({}) to {}",
                        publication.package.name,
                        publication.package.version,
                        output.target,
                        publication.destination
                    ),
                );
            }
            let batch = start_batch(session, &files);
            for file in files.iter().filter(|_| options.upload_to.is_some()) {
                batch.start(
                    file.name.as_str(),
                    file.name.as_str(),
                    file_size(file),
                    &file.meter,
                );
            }
            let packing = oci_package::pack(&metadata, &build, &files, &options);
            let reporter = session.reporter;
            let artifact = reporter
                .with_resume_advice("uploaded", batch.totals(), packing)
                .await;
            let destination = || publication.destination.first_name();
            let artifact = artifact.map_err(|error| Error::for_push(error, &destination()))?;
            artifacts.push((publication, artifact));
        }
    }
    if flags.dry_run {
        return plan::print_plans(session, &mut repositories, &artifacts, flags).await;
    }
    let (published, outcome) = publish_all(session, &mut repositories, &artifacts, flags).await;
    // If publishing failed, the report contains the packages that were published.
    let reported = github::write_report(&session.environment, &published);
    outcome.and(reported)
}

/// Starts the group of transfers for the files that are uploaded while they are packed.
fn start_batch(session: &Session, files: &[InputFile]) -> Batch {
    let bytes = files.iter().map(file_size).sum();
    // The config is uploaded, too.
    let expected = (files.len() + 1, bytes);
    session.reporter.start_batch("Uploading", Some(expected))
}

/// Returns the size of a file, or zero if the file cannot be read: the error is reported when the file is packed.
fn file_size(file: &InputFile) -> u64 {
    std::fs::metadata(&file.path).map_or(0, |metadata| metadata.len())
}

/// Artifact to publish, and the repository to publish it in.
struct PublishTask<'a> {
    publication: &'a Publication<'a>,
    artifact: &'a Artifact,
    target: Arc<dyn Target>,
    options: PublishOptions,
    /// Progress bars of the upload, while it runs.
    batch: Mutex<Option<Batch>>,
}

impl<'a> PublishTask<'a> {
    /// Number and combined size of the blobs.
    fn blobs(&self) -> (usize, u64) {
        let sizes = self.artifact.packed().blobs().map(oci_registry::Blob::size);
        sizes.fold((0, 0), |(count, sum), size| (count + 1, sum + size))
    }

    fn set_batch(&self, batch: Option<Batch>) {
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = batch;
    }

    /// Sends the content and sets the tags of the target.
    async fn publish_target(
        &'a self,
        reporter: Reporter,
        observer: &'a PublishObserver<'a>,
    ) -> Result<PendingPublication<'a>, Error> {
        let destination = &self.publication.destination;
        let batch = reporter.start_batch("Uploading", Some(self.blobs()));
        let totals = batch.totals();
        self.set_batch(Some(batch));
        let (to, tags) = (&*self.target, &destination.tags);
        let publishing =
            oci_package::publish_target(self.artifact, to, tags, &self.options, observer);
        let published = reporter
            .with_resume_advice("uploaded", totals, publishing)
            .await;
        self.set_batch(None);
        published.map_err(|error| Error::for_push(error, &destination.first_name()))
    }
}

/// Maximum number of packages whose indexes are updated concurrently.
const MAX_CONCURRENT_UPDATES: usize = 16;

/// Publishes the artifacts: first all targets, one after the other, and then the indexes of all packages concurrently.
/// Returns the packages that were published, and the first error.
async fn publish_all(
    session: &Session,
    repositories: &mut OpenRepositories,
    artifacts: &[(&Publication<'_>, Artifact)],
    flags: &Flags,
) -> (Vec<PublishedPackage>, Result<(), Error>) {
    let tasks = match open_tasks(session, repositories, artifacts, flags).await {
        Ok(tasks) => tasks,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let reporter = session.reporter;
    let observers = tasks
        .iter()
        .map(|task| move |event: PublishEvent<'_>| report_event(reporter, task, event));
    let observers: Vec<_> = observers.collect();
    let is_workspace = has_several_packages(artifacts);
    let mut outcome = Ok(());
    let mut packages: Vec<Vec<(&PublishTask<'_>, PendingPublication<'_>)>> = Vec::new();
    for (task, observer) in tasks.iter().zip(&observers) {
        match task.publish_target(reporter, observer).await {
            Ok(pending) => {
                let is_same = |group: &&mut Vec<(&PublishTask<'_>, _)>| {
                    group[0].0.publication.package.id == task.publication.package.id
                };
                match packages.iter_mut().find(is_same) {
                    Some(group) => group.push((task, pending)),
                    None => packages.push(vec![(task, pending)]),
                }
            }
            // The targets that were pushed before are still added to their indexes.
            Err(error) if is_workspace => {
                let error = error.for_package(&task.publication.package.name);
                outcome = Err(if packages.is_empty() {
                    error.help(
                        "nothing was published; `--package NAME` pushes the other packages alone",
                    )
                } else {
                    error
                });
                break;
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    let mut updates = Vec::new();
    for package in packages {
        updates.push(update_indexes(session, package));
    }
    let updates = stream::iter(updates).buffered(MAX_CONCURRENT_UPDATES);
    let mut published = Vec::new();
    for updated in updates.collect::<Vec<_>>().await {
        let finished = match updated {
            Ok((task, package)) => {
                let finished = finish_package(session, task, &package).await;
                published.push(package);
                finished
            }
            Err(error) => Err(error),
        };
        outcome = outcome.and(finished);
    }
    (published, outcome)
}

/// Whether the artifacts are of more than one package.
pub(super) fn has_several_packages(artifacts: &[(&Publication<'_>, Artifact)]) -> bool {
    let mut ids = artifacts
        .iter()
        .map(|(publication, _)| &publication.package.id);
    ids.next().is_some_and(|first| ids.any(|id| id != first))
}

/// Opens the repository of each artifact. A layout or archive is opened once per package.
async fn open_tasks<'a>(
    session: &Session,
    repositories: &mut OpenRepositories,
    artifacts: &'a [(&'a Publication<'a>, Artifact)],
    flags: &Flags,
) -> Result<Vec<PublishTask<'a>>, Error> {
    let mut tasks: Vec<PublishTask<'a>> = Vec::new();
    for (publication, artifact) in artifacts {
        let mut options = publish_options(session, publication, flags);
        let id = &publication.package.id;
        let opened = tasks
            .iter()
            .find(|task| task.publication.package.id == *id)
            .map(|task| Arc::clone(&task.target));
        let target = match (repositories.get_mut(id), opened) {
            (Some(repository), _) => {
                options.stored = repository.take_stored(publication, artifact)?;
                Arc::clone(&repository.target)
            }
            (None, Some(opened)) => opened,
            (None, None) => {
                let repository = &publication.destination.repository;
                session.open_target(repository, Mode::Write).await?
            }
        };
        tasks.push(PublishTask {
            publication,
            artifact,
            target,
            options,
            batch: Mutex::default(),
        });
    }
    Ok(tasks)
}

impl OpenRepository {
    /// Removes the stored tags that are needed to publish an artifact, and returns them.
    pub(super) fn take_stored(
        &mut self,
        publication: &Publication<'_>,
        artifact: &Artifact,
    ) -> Result<StoredTags, Error> {
        let destination = &publication.destination;
        let mut tags = destination.target_tags([artifact.target()])?;
        tags.extend(destination.index_tags());
        Ok(self.stored.take(&tags))
    }
}

pub(super) fn publish_options(
    session: &Session,
    publication: &Publication<'_>,
    flags: &Flags,
) -> PublishOptions {
    let mut options = PublishOptions {
        overwrite: flags.overwrite,
        index: !flags.no_index,
        concurrency: session.concurrency,
        ..PublishOptions::default()
    };
    let declared = publication.declared.as_ref();
    options.declared = declared.map(|declared| declared.targets.iter().cloned().collect());
    options
}

/// Returns the information about a build to record in the config.
fn build_information(
    output: &BuildOutput,
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
        dirty: provenance.dirty(),
    });
    build.created = provenance.created.map(to_timestamp).transpose()?;
    Ok(build)
}

/// Returns the files of a package to pack, with the media types from `--file`, and with the executable bits of files
/// that cargo did not build.
fn input_files(
    session: &Session,
    found: &PackageOutput,
    flags: &Flags,
    executables: &BTreeSet<PathBuf>,
) -> Result<Vec<InputFile>, Error> {
    let files = found.files.iter().map(|built| {
        let mut file = InputFile::new(built.name.parse()?, built.kind, &built.path);
        let mut named = flags
            .file
            .iter()
            .filter_map(|file| file.resolve(session).ok());
        let named = named.find(|file| file.name.as_str() == built.name);
        file.executable = executables.contains(&built.path);
        file.media_type = named.and_then(|file| file.written.split(session).1);
        Ok(file)
    });
    files.collect()
}

/// Converts seconds since 1970 to an RFC 3339 timestamp.
pub(super) fn to_timestamp(seconds: i64) -> Result<String, Error> {
    match jiff::Timestamp::from_second(seconds) {
        Ok(timestamp) => Ok(timestamp.to_string()),
        Err(_) => Err(Error::usage(format!(
            "failed to convert the time of the sources: {seconds} is out of range"
        ))
        .help("check `SOURCE_DATE_EPOCH`")),
    }
}

/// Updates the indexes of a package after its targets were published.
async fn update_indexes<'a>(
    session: &Session,
    targets: Vec<(&'a PublishTask<'a>, PendingPublication<'a>)>,
) -> Result<(&'a PublishTask<'a>, PublishedPackage), Error> {
    let (first, _) = targets.first().expect("a package has at least one target");
    let first = *first;
    let Publication {
        package,
        destination,
        declared,
        ..
    } = first.publication;
    let tags = destination.tags.iter().map(|tag| PackageTag {
        tag: tag.clone(),
        index: None,
        missing: Vec::new(),
    });
    let mut outcome = PublishedPackage {
        package: package.name.to_string(),
        version: package.version.to_string(),
        location: destination.repository.clone(),
        has_declared_targets: declared.is_some(),
        tags: tags.collect(),
        targets: Vec::new(),
        is_unchanged: true,
    };
    for (task, pending) in targets {
        let published = pending.update_indexes().await;
        let published =
            published.map_err(|error| Error::for_push(error, &destination.first_name()))?;
        let manifest = &published.manifest;
        let digest = manifest.digest().clone();
        if published.blobs.is_empty() {
            let name = destination.repository.with(digest.clone());
            session.reporter.emit(&Message::Manifest {
                reference: name.to_string(),
                action: ManifestAction::Exists,
                target: Some(task.artifact.target()),
                size: manifest.bytes().len() as u64,
                digest: &digest,
            });
        }
        let files = oci_package::files(manifest)?;
        let is_program = |kind: FileKind| matches!(kind, FileKind::Bin | FileKind::Archive);
        let (_, size) = task.blobs();
        let target = PublishedTarget {
            target: task.artifact.target().to_owned(),
            digest,
            size,
            has_programs: files.iter().any(|file| is_program(file.kind)),
        };
        outcome.add(target, published.tags);
    }
    Ok((first, outcome))
}

/// Moves the floating tags of a published package, and prints its warnings and names.
async fn finish_package(
    session: &Session,
    task: &PublishTask<'_>,
    package: &PublishedPackage,
) -> Result<(), Error> {
    if task.publication.floating {
        match outcome::complete_release(&package.tags) {
            Some(index) => {
                move_floating_tags(session, &*task.target, &package.location, index).await?;
            }
            None => session
                .reporter
                .note("the release is incomplete, so no floating tag was moved"),
        }
    }
    package.report(session)
}

/// Reports an event that occurs while an artifact is published.
fn report_event(reporter: Reporter, task: &PublishTask<'_>, event: PublishEvent<'_>) {
    let repository = &task.publication.destination.repository;
    let batch = || task.batch.lock().unwrap_or_else(PoisonError::into_inner);
    let name = |identifier: Identifier| repository.with(identifier).to_string();
    match event {
        PublishEvent::BlobStarted(blob, meter) => {
            // The same name as during packing.
            let file = blob.annotation(oci_package::annotation::FILE);
            let name = file.unwrap_or_else(|| display_title(blob));
            if let Some(batch) = &*batch() {
                batch.start(blob.digest.as_str(), name, blob.size, &meter);
            }
        }
        PublishEvent::Blob(blob, delivery) => {
            if let Some(batch) = &*batch() {
                batch.finish(blob.digest.as_str(), blob.size);
            }
            reporter.emit(&Message::for_blob(
                name(blob.digest.clone().into()),
                blob,
                delivery,
            ));
        }
        PublishEvent::Manifest(manifest) => reporter.emit(&Message::Manifest {
            reference: name(manifest.digest().clone().into()),
            action: ManifestAction::Pushed,
            target: manifest
                .annotations()
                .get(oci_package::annotation::TARGET)
                .map(String::as_str),
            size: manifest.bytes().len() as u64,
            digest: manifest.digest(),
        }),
        PublishEvent::Tag(tag, manifest) => reporter.emit(&Message::Tag {
            reference: name(tag.clone().into()),
            action: TagUpdate::Tagged,
            digest: manifest.digest(),
        }),
        PublishEvent::Index(tag, index) => reporter.emit(&Message::Index {
            reference: name(tag.clone().into()),
            entries: index.as_index().map_or(0, |index| index.manifests.len()),
            targets: oci_package::Summary::from_manifest(index).targets,
            size: index.bytes().len() as u64,
            digest: index.digest(),
        }),
        PublishEvent::FloatingTag(tag, index) => reporter.emit(&Message::Tag {
            reference: name(tag.clone().into()),
            action: TagUpdate::Moved,
            digest: index.digest(),
        }),
        PublishEvent::Note(note) => reporter.publish_note(&note),
        _ => {}
    }
}

/// Moves the floating tags to a complete release.
async fn move_floating_tags(
    session: &Session,
    target: &dyn Target,
    repository: &Location,
    index: &Manifest,
) -> Result<(), Error> {
    for update in oci_package::update_floating_tags(target, index, &|_| ()).await? {
        let (tag, action) = match update {
            FloatingTagUpdate::Created(tag) => (tag, TagUpdate::Tagged),
            FloatingTagUpdate::Moved(tag) => (tag, TagUpdate::Moved),
            FloatingTagUpdate::Skipped(tag, version) => {
                session.reporter.note(format_args!(
                    "`{tag}` was not moved, because it refers to the higher version {version}"
                ));
                continue;
            }
            _ => continue,
        };
        session.reporter.emit(&Message::Tag {
            reference: repository.with(tag).to_string(),
            action,
            digest: index.digest(),
        });
    }
    Ok(())
}

/// Returns the name under which messages show a layer.
pub(super) fn display_title(blob: &Descriptor) -> &str {
    blob.annotation(oci_package::annotation::TITLE)
        .unwrap_or("config")
}
