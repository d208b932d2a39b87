//! `--dry-run`: exactly what a push would send, as JSON.

use oci_package::Artifact;
use oci_package::{PublishOptions, StoredTags, TagAction};
use oci_registry::{Descriptor, ErrorKind, Manifest, Target};
use serde::Serialize;
use serde_json::value::RawValue;

use super::subject::Subject;
use crate::report::Error;

/// What would be done for one package and target.
#[derive(Serialize)]
pub(super) struct Plan {
    reason: &'static str,
    package: String,
    version: String,
    target: String,
    reference: String,
    /// The manifest that the tags would name.
    digest: String,
    blobs: Vec<Blob>,
    tags: Vec<Tag>,
    manifest: Box<RawValue>,
}

#[derive(Serialize)]
struct Blob {
    action: &'static str,
    #[serde(flatten)]
    descriptor: Descriptor,
}

#[derive(Serialize)]
struct Tag {
    reference: String,
    action: &'static str,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Box<RawValue>>,
}

/// Finds out what would be done, reading only. What would be refused is planned as if it were not, with the refusal
/// beside it.
pub(super) async fn of(
    place: &dyn Target,
    subject: &Subject<'_>,
    artifact: &Artifact,
    options: &PublishOptions,
) -> Result<(Plan, Option<Error>), Error> {
    let tags = &subject.destination.tags;
    let planned = oci_package::plan(artifact, place, tags, options, &|_| ()).await;
    let refusal = match planned {
        Ok(planned) => return Ok((Plan::new(subject, artifact, planned, false), None)),
        Err(refusal) if refusal.kind() == ErrorKind::Conflict && !options.overwrite => refusal,
        Err(error) => return Err(error.into()),
    };
    let options = PublishOptions {
        overwrite: true,
        stored: StoredTags::default(),
        ..options.clone()
    };
    match oci_package::plan(artifact, place, tags, &options, &|_| ()).await {
        Ok(planned) => Ok((
            Plan::new(subject, artifact, planned, true),
            Some(refusal.into()),
        )),
        // Something else is in the way as well, or alone.
        Err(_) => Err(refusal.into()),
    }
}

impl Plan {
    fn new(
        subject: &Subject<'_>,
        artifact: &Artifact,
        plan: oci_package::PublishPlan,
        is_refused: bool,
    ) -> Self {
        let repository = &subject.destination.repository;
        let blobs = plan.blobs.into_iter().map(|(descriptor, is_there)| Blob {
            action: if is_there { "exists" } else { "upload" },
            descriptor,
        });
        let mut tags = Vec::new();
        for planned in plan.tags {
            tags.push(Tag {
                reference: repository.with(planned.target_tag).to_string(),
                action: match planned.action {
                    TagAction::Replace if is_refused && planned.tag.is_released() => "refuse",
                    action => word(action),
                },
                digest: plan.manifest.digest().to_string(),
                index: None,
            });
            if let Some(index) = planned.index {
                tags.push(Tag {
                    reference: repository.with(planned.tag.index().clone()).to_string(),
                    action: if planned.index_changes {
                        "write"
                    } else {
                        "keep"
                    },
                    digest: index.digest().to_string(),
                    index: Some(exact(&index)),
                });
            }
        }
        Self {
            reason: "oci-plan",
            package: subject.package.name.to_string(),
            version: subject.package.version.to_string(),
            target: artifact.target().to_owned(),
            reference: repository.with(plan.manifest.digest().clone()).to_string(),
            digest: plan.manifest.digest().to_string(),
            blobs: blobs.collect(),
            tags,
            manifest: exact(&plan.manifest),
        }
    }
}

fn word(action: TagAction) -> &'static str {
    match action {
        TagAction::Keep => "keep",
        TagAction::Create => "create",
        TagAction::Replace => "replace",
        _ => "leave",
    }
}

/// The very bytes of a manifest, within other JSON.
fn exact(manifest: &Manifest) -> Box<RawValue> {
    let text = String::from_utf8_lossy(manifest.bytes()).into_owned();
    RawValue::from_string(text).expect("a manifest was read as JSON")
}

/// One line of JSON for each plan.
pub(super) fn show(plans: &[Plan]) -> String {
    let lines = plans
        .iter()
        .map(|plan| serde_json::to_string(plan).expect("texts and numbers always serialise"));
    lines.collect::<Vec<_>>().join("\n")
}
