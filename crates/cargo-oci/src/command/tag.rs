//! `cargo oci tag`: add tags to an artifact.

use clap::Args;
use oci_registry::{Identifier, LocationText, Mode, Optional, Tag};

use crate::message::{FormatFlag, Message};
use crate::naming;
use crate::options::{ArgumentError, parse_location};
use crate::report::Error;
use crate::session::Session;

/// Add tags to an artifact
///
/// No content is copied. An existing tag is moved, and its previous digest is printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci tag ghcr.io/acme/widgets:1.2.3 stable\n  cargo oci tag ghcr.io/acme/widgets:nightly nightly-2026-01-31 last-good\n  cargo oci tag oci:widgets@sha256:DIGEST 1.2.3"
)]
pub(crate) struct Flags {
    /// Artifact to tag
    ///
    /// REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, oci:DIR:TAG, oci:DIR@DIGEST or an archive.
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    /// Tags to add
    #[arg(value_name = "TAG", required = true, value_parser = parse_tag)]
    tags: Vec<Tag>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

fn parse_tag(text: &str) -> Result<Tag, ArgumentError> {
    text.parse().map_err(ArgumentError::from)
}

/// Sets the tags in the order of the command line.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let identifier = naming::require_identifier(&reference, "tag")?;
    if let Identifier::Tag(own) = &identifier
        && flags.tags.contains(own)
    {
        return Err(Error::usage(format!(
            "failed to tag `{reference}`: the artifact already has the tag `{own}`"
        ))
        .help("choose another tag"));
    }
    let target = session.open_target(&reference, Mode::Existing).await?;
    let manifest = super::find::resolve_manifest(&*target, &reference, &identifier, None).await?;
    let digest = manifest.digest();
    for tag in flags.tags {
        let tag_identifier = Identifier::Tag(tag.clone());
        let current = target.resolve(&tag_identifier).await.optional()?;
        let reference = reference.with(tag.clone()).to_string();
        let action = match current {
            Some(current) if current.digest == *digest => {
                session.reporter.status("Unchanged", reference);
                continue;
            }
            current => {
                let previous = current.map(|current| current.digest);
                session
                    .reporter
                    .report_tag_update(&reference, previous.as_ref())
            }
        };
        target.tag(&manifest, &tag).await?;
        session.reporter.emit(&Message::Tag {
            reference,
            action,
            digest,
        });
    }
    session.report_finished(&reference.with(digest.clone()), digest, None)
}
