//! `cargo oci tag`: add tags to an artifact.

use clap::Args;
use oci_registry::{Identifier, LocationText, Mode, Optional, Tag};

use crate::message::{FormatFlag, Message};
use crate::naming;
use crate::options::{ArgumentError, location};
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
    #[arg(value_name = "REFERENCE", value_parser = location)]
    reference: LocationText,

    /// Tags to add
    #[arg(value_name = "TAG", required = true, value_parser = tag)]
    tags: Vec<Tag>,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

fn tag(text: &str) -> Result<Tag, ArgumentError> {
    text.parse().map_err(ArgumentError::from)
}

/// Sets the tags one after the other.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let named = naming::require_identifier(&reference, "tag")?;
    if let Identifier::Tag(own) = &named
        && flags.tags.contains(own)
    {
        return Err(Error::usage(format!(
            "failed to tag `{reference}`: the artifact already has the tag `{own}`"
        ))
        .help("choose another tag"));
    }
    let place = session.target(&reference, Mode::Existing).await?;
    let manifest = super::find::manifest(&*place, &reference, &named, None).await?;
    let digest = manifest.digest();
    for tag in flags.tags {
        let identifier = Identifier::Tag(tag.clone());
        let current = place.resolve(&identifier).await.optional()?;
        let reference = reference.with(tag.clone()).to_string();
        let action = match current {
            Some(current) if current.digest == *digest => {
                session.reporter.status("Unchanged", reference);
                continue;
            }
            current => {
                let previous = current.map(|current| current.digest);
                session.reporter.tag_update(&reference, previous.as_ref())
            }
        };
        place.tag(&manifest, &tag).await?;
        session.reporter.emit(&Message::Tag {
            reference,
            action,
            digest,
        });
    }
    session.finished(&reference.with(digest.clone()), digest, None)
}
