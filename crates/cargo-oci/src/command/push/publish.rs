//! Packing what was built, and publishing it.

use std::sync::Arc;

use oci_package::{Artifact, Build, Event, File, Floated, PackOptions, PublishOptions, Revision};
use oci_registry::{Delivery, Descriptor, Identifier, Location, Manifest, Target};

use super::destination::Destination;
use super::subject::Subject;
use super::{Flags, Places, plan};
use crate::cargo::{self, Output, PackageOutput, Provenance, Toolchain};
use crate::report::{self, Error, Size};
use crate::session::Session;

/// Packs everything, and then publishes it, or shows what that would do.
pub(super) async fn all(
    session: &Session,
    subjects: &[Subject<'_>],
    flags: &Flags,
    (outputs, places): (Vec<Output>, Places),
    toolchain: Option<&Toolchain>,
) -> Result<(), Error> {
    let packages: Vec<_> = subjects.iter().map(|subject| subject.package).collect();
    let provenances = cargo::provenance(&session.cargo, &packages).await?;
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
            let tag = subject.destination.tag.target(&output.target)?;
            let ahead = places.get(&found.id).filter(|_| !flags.dry_run);
            let options = PackOptions {
                names: subject.names.clone(),
                annotations: subject.annotations.clone(),
                send_ahead: ahead.and_then(|ahead| ahead.wanting(&tag)),
            };
            let build = build(output, found, &provenance, flags, toolchain)?;
            let facts = super::subject::facts(session, subject.package);
            let artifact =
                oci_package::pack(&facts, &build, &files(found, flags)?, &options).await?;
            artifacts.push((subject, artifact));
        }
    }
    let mut plans = Vec::new();
    for (subject, artifact) in &artifacts {
        let repository = &subject.destination.repository;
        let place: Arc<dyn Target> = match places.get(&subject.package.id) {
            Some(place) => Arc::clone(place) as _,
            None if flags.dry_run => session.prospective_target(repository).await?,
            None => session.target(repository).await?,
        };
        if flags.dry_run {
            plans.push(plan::of(&*place, subject, artifact, &options(subject, flags)).await?);
        } else {
            publish(
                session,
                &*place,
                subject,
                artifact,
                &options(subject, flags),
            )
            .await?;
        }
    }
    if flags.dry_run {
        return report::line(plan::show(&plans));
    }
    Ok(())
}

fn options(subject: &Subject<'_>, flags: &Flags) -> PublishOptions {
    let mut options = PublishOptions {
        overwrite: flags.overwrite,
        index: !flags.no_index,
        ..PublishOptions::default()
    };
    options.declared = subject
        .settings
        .targets
        .as_ref()
        .map(|targets| targets.iter().cloned().collect());
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
    let dirty = provenance.dirty.unwrap_or(false);
    build.revision = provenance
        .revision
        .clone()
        .map(|commit| Revision { commit, dirty });
    build.created = provenance.created.map(timestamp).transpose()?;
    Ok(build)
}

/// The files of a package, with the media types that were given for them.
fn files(found: &PackageOutput, flags: &Flags) -> Result<Vec<File>, Error> {
    let files = found.files.iter().map(|built| {
        let mut file = File::new(built.name.parse()?, built.kind, &built.path);
        let handed = flags
            .file
            .iter()
            .find(|handed| handed.name.as_str() == built.name);
        file.media_type = handed.and_then(|handed| handed.media_type.clone());
        Ok(file)
    });
    files.collect()
}

/// Seconds since 1970 in the notation of RFC 3339.
fn timestamp(seconds: i64) -> Result<String, Error> {
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
) -> Result<(), Error> {
    let Destination { repository, tag } = &subject.destination;
    let reporter = session.reporter;
    reporter.status(
        "Pushing",
        format_args!(
            "{} v{} ({}) to {}",
            subject.package.name,
            subject.package.version,
            artifact.target(),
            repository.with(tag.index().clone())
        ),
    );
    let observer = |event: Event<'_>| match event {
        Event::Blob(blob, delivery) => {
            let verb = match delivery {
                Delivery::Uploaded => "Uploaded",
                Delivery::Mounted => "Mounted",
                Delivery::Existed => "Exists",
            };
            reporter.status(verb, format_args!("{} ({})", title(blob), Size(blob.size)));
        }
        Event::Tag(tag, _) => reporter.status("Tagged", repository.with(tag.clone())),
        Event::Index(tag, index) => {
            let targets = index.as_index().map_or(0, |index| index.manifests.len());
            let noun = if targets == 1 { "target" } else { "targets" };
            reporter.status(
                "Indexed",
                format_args!("{} ({targets} {noun})", repository.with(tag.clone())),
            );
        }
        Event::Note(note) => reporter.note(note),
        _ => {}
    };
    let published = oci_package::publish(
        artifact,
        place,
        std::slice::from_ref(tag),
        options,
        &observer,
    )
    .await?;
    if published.blobs.is_empty() {
        reporter.status(
            "Unchanged",
            format_args!(
                "{} for {}",
                repository.with(tag.index().clone()),
                artifact.target()
            ),
        );
    }
    if subject.floating {
        let index = published.tags.first().and_then(|done| done.index.as_ref());
        match index.filter(|index| is_complete(index, subject)) {
            Some(index) => float(session, place, repository, index).await?,
            None => reporter.note("the release is not complete yet: no tag follows it"),
        }
    }
    let name = repository.with(Identifier::Digest(published.manifest.digest().clone()));
    report::line(name)
}

/// Whether an index holds all targets that were declared.
fn is_complete(index: &Manifest, subject: &Subject<'_>) -> bool {
    let held = oci_package::Summary::of(index).targets;
    let declared = subject.settings.targets.as_deref().unwrap_or_default();
    declared.iter().all(|target| held.contains(target))
}

/// Lets the floating tags follow a complete release.
async fn float(
    session: &Session,
    place: &dyn Target,
    repository: &Location,
    index: &Manifest,
) -> Result<(), Error> {
    for floated in oci_package::float(place, index, &|_| ()).await? {
        match floated {
            Floated::Moved(tag) => session.reporter.status("Moved", repository.with(tag)),
            Floated::Ahead(tag, version) => {
                session.reporter.note(format_args!(
                    "`{tag}` stays with the higher version {version}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// How a person would call a layer.
fn title(blob: &Descriptor) -> &str {
    blob.annotation(oci_package::annotation::TITLE)
        .unwrap_or("config")
}
