//! `cargo oci index`: edit an index, or assemble the index of a version from its target tags.

use clap::{Args, Subcommand};
use oci_package::{AddOptions, EntrySelector, PublishEvent, ReleaseTag, annotation};
use oci_registry::{CopyOptions, Descriptor, Digest, Location, LocationText, Manifest, Mode, Tag};

use super::copy::CopyReporter;
use super::find;
use crate::message::{DeleteAction, FormatFlag, Message, MessageFormat, TagUpdate};
use crate::naming;
use crate::options::{ArgumentError, parse_location};
use crate::report::Error;
use crate::session::Session;

/// Edit a multi-platform index
///
/// The index of a package version is computed from its target tags. An edit writes or deletes these tags first, so
/// concurrent writers do not lose entries. Any other index is edited directly.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci index add ghcr.io/acme/widgets:1.2.3 oci:out/widgets:1.2.3__aarch64-apple-darwin\n  cargo oci index remove registry.example.com/widgets:1.2.3 x86_64-pc-windows-msvc\n  cargo oci index assemble ghcr.io/acme/widgets:1.2.3"
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    Add(Add),
    Remove(Remove),
    Assemble(Assemble),
}

/// Add manifests to an index, creating it if it does not exist
///
/// In the index of a package, each manifest gets a target tag; a released target is not replaced without `--overwrite`.
/// In any other index, a manifest replaces the entry for the same platform, or is appended.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci index add ghcr.io/acme/widgets:1.2.3 oci:out/widgets:1.2.3__aarch64-apple-darwin\n  cargo oci index add registry.example.com/image:1 sha256:DIGEST"
)]
struct Add {
    /// Index to edit: REGISTRY/REPOSITORY:TAG or oci:DIR:TAG
    #[arg(value_name = "INDEX", value_parser = parse_location)]
    index: LocationText,

    /// Manifests to add: references, or digests in the repository of the index
    #[arg(value_name = "REFERENCE", required = true, value_parser = parse_manifest_argument)]
    manifests: Vec<ManifestArgument>,

    /// Replace the manifest of a released version if it differs
    #[arg(long)]
    overwrite: bool,

    #[command(flatten)]
    format: FormatFlag,
}

/// Remove entries from an index
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci index remove registry.example.com/widgets:1.2.3 x86_64-pc-windows-msvc\n  cargo oci index remove registry.example.com/image:1 linux/arm/v7"
)]
struct Remove {
    /// Index to edit: REGISTRY/REPOSITORY:TAG or oci:DIR:TAG
    #[arg(value_name = "INDEX", value_parser = parse_location)]
    index: LocationText,

    /// Entries to remove: target triples, platforms or digests
    #[arg(value_name = "ENTRY", required = true, value_parser = parse_entry)]
    entries: Vec<EntrySelector>,

    #[command(flatten)]
    format: FormatFlag,
}

/// Write the index of a version from its target tags
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo oci index assemble ghcr.io/acme/widgets:1.2.3")]
struct Assemble {
    /// Index to write: REGISTRY/REPOSITORY:VERSION or oci:DIR:VERSION
    #[arg(value_name = "INDEX", value_parser = parse_location)]
    index: LocationText,

    #[command(flatten)]
    format: FormatFlag,
}

/// Manifest to add to an index.
#[derive(Debug, Clone)]
enum ManifestArgument {
    /// Digest of a manifest in the repository of the index.
    Digest(Digest),
    Location(LocationText),
}

fn parse_manifest_argument(text: &str) -> Result<ManifestArgument, ArgumentError> {
    match text.parse() {
        Ok(digest) => Ok(ManifestArgument::Digest(digest)),
        Err(_) => parse_location(text).map(ManifestArgument::Location),
    }
}

fn parse_entry(text: &str) -> Result<EntrySelector, String> {
    text.parse()
        .map_err(|error: oci_package::Error| error.to_string())
}

impl Flags {
    /// Returns the output format that the flags of the subcommand select.
    pub(super) fn message_format(&self) -> MessageFormat {
        match &self.command {
            IndexCommand::Add(flags) => flags.format.message_format,
            IndexCommand::Remove(flags) => flags.format.message_format,
            IndexCommand::Assemble(flags) => flags.format.message_format,
        }
    }
}

/// Runs the subcommand.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    match flags.command {
        IndexCommand::Add(flags) => add(session, flags).await,
        IndexCommand::Remove(flags) => remove(session, flags).await,
        IndexCommand::Assemble(flags) => assemble(session, flags).await,
    }
}

async fn add(session: &Session, flags: Add) -> Result<(), Error> {
    let index_location = session.locate_target(&flags.index)?;
    let tag = naming::require_index_tag(&index_location)?;
    let mut locations = Vec::new();
    for argument in flags.manifests {
        let location = match argument {
            ManifestArgument::Digest(digest) => index_location.with(digest),
            ManifestArgument::Location(text) => session.locate(&text).await?,
        };
        let is_same = naming::is_same_repository(session, &location, &index_location);
        if is_same && location.identifier() == Some(tag.clone().into()) {
            return Err(Error::usage(format!(
                "failed to add `{location}`: an index cannot contain itself"
            ))
            .help("pass the reference of another manifest"));
        }
        locations.push(location);
    }
    let target = session.open_target(&index_location, Mode::Write).await?;
    let mut manifests: Vec<Manifest> = Vec::new();
    for location in locations {
        let source = session.open_source(&location).await?;
        let root = find::resolve_identifier(&*source, &location).await?;
        if naming::is_same_repository(session, &location, &index_location) {
            manifests.push(find::resolve_manifest(&*target, &location, &root, None).await?);
            continue;
        }
        let mut reporter =
            CopyReporter::new(session, &index_location, &location.with(root.clone()), &[]);
        let observer = |event| reporter.report_event(event);
        let options = CopyOptions {
            concurrency: session.concurrency,
            observer: &observer,
            ..CopyOptions::default()
        };
        let copied = oci_registry::copy(&source, &root, &*target, options).await;
        manifests.push(match copied {
            Ok(copied) => copied,
            Err(error) => {
                return Err(oci_package::explain(&*source, &location, error)
                    .await
                    .into());
            }
        });
        reporter.finish();
    }
    let options = AddOptions {
        overwrite: flags.overwrite,
    };
    let observer = |event: PublishEvent<'_>| report_event(session, &index_location, &event);
    let index = oci_package::add(&*target, &tag, &manifests, &options, &observer).await?;
    report_finished(session, &index_location, &index)
}

async fn remove(session: &Session, flags: Remove) -> Result<(), Error> {
    let index_location = session.locate(&flags.index).await?;
    let tag = naming::require_index_tag(&index_location)?;
    let content = session.open_delete_target(&index_location).await?;
    let observer = |event: PublishEvent<'_>| report_event(session, &index_location, &event);
    let removed = oci_package::remove(&*content, &tag, &flags.entries, &observer).await;
    let removed = match removed {
        Ok(removed) => removed,
        Err(error) => {
            return Err(oci_package::explain(&*content, &index_location, error)
                .await
                .into());
        }
    };
    for tag in &removed.tags {
        let (_, target) = oci_package::tag::split(tag);
        let has_target = |entry: &&Descriptor| entry.annotation(annotation::TARGET) == target;
        if let Some(entry) = removed.entries.iter().find(has_target) {
            session.reporter.emit(&Message::Delete {
                reference: index_location.with(tag.clone()).to_string(),
                action: DeleteAction::Deleted,
                digest: &entry.digest,
            });
        }
    }
    for entry in &removed.entries {
        let target = entry.annotation(annotation::TARGET);
        let platform = entry.platform.as_ref().map(ToString::to_string);
        let name = target.or(platform.as_deref()).unwrap_or("an entry");
        session
            .reporter
            .status("Removed", format_args!("{name} ({})", entry.digest));
    }
    if let Some(index) = removed.index {
        return report_finished(session, &index_location, &index);
    }
    session.reporter.note(format_args!(
        "deleted `{index_location}`, because it has no entries left"
    ));
    if let Some(digest) = &removed.deleted_index {
        for tag in removed.floating_tags.into_iter().chain([tag]) {
            session.reporter.emit(&Message::Delete {
                reference: index_location.with(tag).to_string(),
                action: DeleteAction::Deleted,
                digest,
            });
        }
    }
    session.reporter.finish()
}

async fn assemble(session: &Session, flags: Assemble) -> Result<(), Error> {
    let index_location = session.locate(&flags.index).await?;
    let tag: Tag = naming::require_index_tag(&index_location)?;
    let release = ReleaseTag::new(tag)?;
    let target = session.open_target(&index_location, Mode::Existing).await?;
    let observer = |event: PublishEvent<'_>| report_event(session, &index_location, &event);
    let index = oci_package::assemble(&*target, &release, &observer).await;
    let index = match index {
        Ok(index) => index,
        Err(error) => {
            return Err(oci_package::explain(&*target, &index_location, error)
                .await
                .into());
        }
    };
    report_finished(session, &index_location, &index)
}

fn report_finished(
    session: &Session,
    index_location: &Location,
    index: &Manifest,
) -> Result<(), Error> {
    let digest = index.digest();
    session.report_finished(&index_location.with(digest.clone()), digest, Some(digest))
}

/// Reports an event of an index edit.
pub(super) fn report_event(session: &Session, index_location: &Location, event: &PublishEvent<'_>) {
    let reporter = session.reporter;
    match event {
        PublishEvent::Tag(tag, manifest) => reporter.emit(&Message::Tag {
            reference: index_location.with((*tag).clone()).to_string(),
            action: TagUpdate::Tagged,
            digest: manifest.digest(),
        }),
        PublishEvent::Index(tag, index) => reporter.emit(&Message::Index {
            reference: index_location.with((*tag).clone()).to_string(),
            entries: index.as_index().map_or(0, |index| index.manifests.len()),
            targets: oci_package::Summary::from_manifest(index).targets,
            size: index.bytes().len() as u64,
            digest: index.digest(),
        }),
        PublishEvent::FloatingTag(tag, index) => reporter.emit(&Message::Tag {
            reference: index_location.with((*tag).clone()).to_string(),
            action: TagUpdate::Moved,
            digest: index.digest(),
        }),
        PublishEvent::Note(note) => reporter.publish_note(note),
        _ => {}
    }
}
