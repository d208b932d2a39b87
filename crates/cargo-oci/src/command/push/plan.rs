//! Plan that `--dry-run` prints: the exact content that a push would send, as JSON.

use oci_package::Artifact;
use oci_package::{PublishOptions, StoredTags, TagAction};
use oci_registry::{Descriptor, ErrorKind, Manifest, Target};
use serde::Serialize;
use serde_json::value::RawValue;

use super::publication::Publication;
use crate::report::Error;

/// Plan for one package and target, as a JSON object.
#[derive(Serialize)]
pub(super) struct PlanObject {
    reason: &'static str,
    package: String,
    version: String,
    target: String,
    reference: String,
    /// Digest of the manifest that would be tagged.
    digest: String,
    blobs: Vec<BlobObject>,
    tags: Vec<TagObject>,
    manifest: Box<RawValue>,
}

#[derive(Serialize)]
struct BlobObject {
    action: &'static str,
    #[serde(flatten)]
    descriptor: Descriptor,
}

#[derive(Serialize)]
struct TagObject {
    reference: String,
    action: &'static str,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Box<RawValue>>,
}

/// Creates the plan of a push, without writing anything.
///
/// If the push would fail with a conflict, returns the plan of a push with `--overwrite`, together with the error.
pub(super) async fn create_plan(
    target: &dyn Target,
    publication: &Publication<'_>,
    artifact: &Artifact,
    options: &PublishOptions,
) -> Result<(PlanObject, Option<Error>), Error> {
    let tags = &publication.destination.tags;
    let planned = oci_package::plan(artifact, target, tags, options, &|_| ()).await;
    let conflict = match planned {
        Ok(planned) => return Ok((PlanObject::new(publication, artifact, planned, false), None)),
        Err(error) if error.kind() == ErrorKind::Conflict && !options.overwrite => error,
        Err(error) => return Err(error.into()),
    };
    let options = PublishOptions {
        overwrite: true,
        stored: StoredTags::default(),
        ..options.clone()
    };
    match oci_package::plan(artifact, target, tags, &options, &|_| ()).await {
        Ok(planned) => Ok((
            PlanObject::new(publication, artifact, planned, true),
            Some(conflict.into()),
        )),
        // There is no plan, because the push would also fail with `--overwrite`.
        Err(_) => Err(conflict.into()),
    }
}

impl PlanObject {
    fn new(
        publication: &Publication<'_>,
        artifact: &Artifact,
        plan: oci_package::PublishPlan,
        has_conflict: bool,
    ) -> Self {
        let repository = &publication.destination.repository;
        let blobs = plan
            .blobs
            .into_iter()
            .map(|(descriptor, exists)| BlobObject {
                action: if exists { "exists" } else { "upload" },
                descriptor,
            });
        let mut tags = Vec::new();
        for planned in plan.tags {
            tags.push(TagObject {
                reference: repository.with(planned.target_tag).to_string(),
                action: match planned.action {
                    TagAction::Replace if has_conflict && planned.tag.is_released() => "refuse",
                    action => action_name(action),
                },
                digest: plan.manifest.digest().to_string(),
                index: None,
            });
            if let Some(index) = planned.index {
                tags.push(TagObject {
                    reference: repository.with(planned.tag.index().clone()).to_string(),
                    action: if planned.index_changes {
                        "write"
                    } else {
                        "keep"
                    },
                    digest: index.digest().to_string(),
                    index: Some(raw_json(&index)),
                });
            }
        }
        Self {
            reason: "oci-plan",
            package: publication.package.name.to_string(),
            version: publication.package.version.to_string(),
            target: artifact.target().to_owned(),
            reference: repository.with(plan.manifest.digest().clone()).to_string(),
            digest: plan.manifest.digest().to_string(),
            blobs: blobs.collect(),
            tags,
            manifest: raw_json(&plan.manifest),
        }
    }
}

fn action_name(action: TagAction) -> &'static str {
    match action {
        TagAction::Keep => "keep",
        TagAction::Create => "create",
        TagAction::Replace => "replace",
        _ => "leave",
    }
}

/// Returns a manifest as a JSON value that keeps the exact bytes.
fn raw_json(manifest: &Manifest) -> Box<RawValue> {
    let text = String::from_utf8_lossy(manifest.bytes()).into_owned();
    RawValue::from_string(text).expect("a parsed manifest is JSON")
}

/// Returns one line of JSON per plan.
pub(super) fn to_lines(plans: &[PlanObject]) -> String {
    let lines = plans
        .iter()
        .map(|plan| serde_json::to_string(plan).expect("strings and numbers always serialize"));
    lines.collect::<Vec<_>>().join("\n")
}
