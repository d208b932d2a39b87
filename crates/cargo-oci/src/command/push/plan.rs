//! Plan that `--dry-run` prints: status lines, and the exact content that a push would send as JSON.

use std::sync::Arc;

use oci_package::{
    Artifact, FloatingTagUpdate, PlannedTag, PublishOptions, StoredTags, Summary, TagAction,
};
use oci_registry::{Descriptor, ErrorKind, Location, Manifest, Mode, Target};
use serde::Serialize;
use serde_json::value::RawValue;

use super::outcome::{self, PackageTag};
use super::publication::Publication;
use super::publish::{display_title, has_several_packages, publish_options};
use super::{Flags, OpenRepositories};
use crate::figures::{Size, format_count};
use crate::report::{self, Error};
use crate::session::Session;

/// Plan for one package and target, as a JSON object.
#[derive(Serialize)]
struct PlanObject {
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
    /// Number of targets in the index, for the status line.
    #[serde(skip)]
    targets: usize,
}

/// Prints the plans. If the output format is JSON, also writes them to stdout.
pub(super) async fn print_plans(
    session: &Session,
    repositories: &mut OpenRepositories,
    artifacts: &[(&Publication<'_>, Artifact)],
    flags: &Flags,
) -> Result<(), Error> {
    let mut plans: Vec<PlanObject> = Vec::new();
    let mut first_conflict = None;
    let is_workspace = has_several_packages(artifacts);
    for (at, (publication, artifact)) in artifacts.iter().enumerate() {
        let repository = &publication.destination.repository;
        let mut options = publish_options(session, publication, flags);
        let is_same =
            |(other, _): &&(&Publication<'_>, Artifact)| other.package.id == publication.package.id;
        let others = artifacts.iter().filter(is_same).map(|(_, other)| other);
        let others = others.filter(|other| other.target() != artifact.target());
        options.planned = others.map(|other| other.manifest().clone()).collect();
        let target = match repositories.get_mut(&publication.package.id) {
            Some(repository) => {
                options.stored = repository.take_stored(publication, artifact)?;
                Arc::clone(&repository.target)
            }
            None => session.open_target(repository, Mode::Plan).await?,
        };
        let (mut plan, tags, conflict) =
            create_plan(&*target, publication, artifact, &options).await?;
        let conflict = conflict.map(|error| {
            if is_workspace {
                error.for_package(&publication.package.name)
            } else {
                error
            }
        });
        first_conflict = first_conflict.or(conflict);
        let is_last = !artifacts[at + 1..].iter().any(|later| is_same(&later));
        // A conflict stops the push before it moves a floating tag.
        if is_last && first_conflict.is_none() {
            let planned = plan_release(session, &*target, publication, &tags, &mut plan).await;
            first_conflict = planned?;
        }
        plans.push(plan);
    }
    for (verb, object) in status_lines(&plans) {
        session.reporter.status(verb, object);
    }
    if session.reporter.is_json() {
        report::write_json(&to_lines(&plans))?;
    }
    // The push would fail with this error before sending anything.
    first_conflict.map_or(Ok(()), Err)
}

/// Prints the warnings about the release that the plans of a package would leave, and adds the floating tags to the last
/// plan. Returns the conflict that the push would fail with.
async fn plan_release(
    session: &Session,
    target: &dyn Target,
    publication: &Publication<'_>,
    tags: &[PackageTag],
    plan: &mut PlanObject,
) -> Result<Option<Error>, Error> {
    for tag in tags {
        tag.warn_about_missing_targets(session.reporter);
    }
    if !publication.floating {
        return Ok(None);
    }
    let Some(index) = outcome::complete_release(tags) else {
        session
            .reporter
            .note("the release would not be complete yet, so no floating tag would be moved");
        return Ok(None);
    };
    let updates = match oci_package::plan_floating_tags(target, index).await {
        Ok(updates) => updates,
        Err(error) if error.kind() == ErrorKind::Conflict => return Ok(Some(error.into())),
        Err(error) => return Err(error.into()),
    };
    for update in updates {
        if let FloatingTagUpdate::Skipped(tag, version) = update {
            session.reporter.note(format_args!(
                "`{tag}` would not be moved, because it refers to the higher version {version}"
            ));
        } else {
            plan.add_floating_tag(&publication.destination.repository, update, index);
        }
    }
    Ok(None)
}

/// Creates the plan of a push, without writing anything. Also returns the outcome for each tag.
///
/// If the push would fail with a conflict, returns the plan of a push with `--overwrite`, together with the error.
async fn create_plan(
    target: &dyn Target,
    publication: &Publication<'_>,
    artifact: &Artifact,
    options: &PublishOptions,
) -> Result<(PlanObject, Vec<PackageTag>, Option<Error>), Error> {
    let tags = &publication.destination.tags;
    let planned = oci_package::plan(artifact, target, tags, options, &|_| ()).await;
    let conflict = match planned {
        Ok(planned) => {
            let tags = planned.tags.iter().map(PackageTag::from).collect();
            let plan = PlanObject::new(publication, artifact, planned, false);
            return Ok((plan, tags, None));
        }
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
            Vec::new(),
            Some(conflict.into()),
        )),
        // There is no plan, because the push would also fail with `--overwrite`.
        Err(_) => Err(conflict.into()),
    }
}

impl From<&PlannedTag> for PackageTag {
    fn from(planned: &PlannedTag) -> Self {
        Self {
            tag: planned.tag.clone(),
            index: planned.index.clone(),
            missing: planned.missing.clone(),
        }
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
                targets: 0,
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
                    targets: Summary::from_manifest(&index).targets.len(),
                    index: Some(raw_json(&index)),
                });
                let floating = planned.floating_tags.into_iter();
                tags.extend(floating.map(|tag| TagObject {
                    reference: repository.with(tag).to_string(),
                    action: "replace",
                    digest: index.digest().to_string(),
                    index: None,
                    targets: 0,
                }));
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

    /// Adds a floating tag that the push would set to the index.
    fn add_floating_tag(
        &mut self,
        repository: &Location,
        update: FloatingTagUpdate,
        index: &Manifest,
    ) {
        let (tag, action) = match update {
            FloatingTagUpdate::Created(tag) => (tag, "create"),
            FloatingTagUpdate::Moved(tag) => (tag, "replace"),
            FloatingTagUpdate::Current(tag) => (tag, "keep"),
            _ => return,
        };
        let reference = repository.with(tag).to_string();
        if self
            .tags
            .iter()
            .any(|planned| planned.reference == reference)
        {
            return;
        }
        self.tags.push(TagObject {
            reference,
            action,
            digest: index.digest().to_string(),
            index: None,
            targets: 0,
        });
    }

    /// Returns the verb and object of each status line of the plan. Existing blobs are counted.
    fn status_lines(&self) -> Vec<(&'static str, String)> {
        let refused = self.tags.iter().filter(|tag| tag.action == "refuse");
        let refused: Vec<_> = refused
            .map(|tag| {
                let reason = "it was released with different files";
                ("Would refuse", format!("{}: {reason}", tag.reference))
            })
            .collect();
        if !refused.is_empty() {
            return refused;
        }
        let (new, existing): (Vec<_>, Vec<_>) =
            self.blobs.iter().partition(|blob| blob.action == "upload");
        let mut lines: Vec<_> = new
            .into_iter()
            .map(|BlobObject { descriptor, .. }| {
                let size = Size(descriptor.size);
                let title = display_title(descriptor);
                ("Would upload", format!("{title} ({size})"))
            })
            .collect();
        if !existing.is_empty() {
            let size = Size(existing.iter().map(|blob| blob.descriptor.size).sum());
            let count = format_count(existing.len(), "blob");
            lines.push(("Exists", format!("{count} ({size})")));
        }
        lines.extend(self.tags.iter().filter_map(|tag| match tag.action {
            "create" => Some(("Would tag", tag.reference.clone())),
            "replace" => Some(("Would move", tag.reference.clone())),
            "write" => {
                let targets = format_count(tag.targets, "target");
                Some(("Would index", format!("{} ({targets})", tag.reference)))
            }
            "keep" => Some(("Unchanged", tag.reference.clone())),
            _ => None,
        }));
        lines
    }
}

/// Returns the verb and object of each status line of several plans. The line of an index is printed once, after its
/// last target.
fn status_lines(plans: &[PlanObject]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = plans.iter().flat_map(PlanObject::status_lines).collect();
    let mut at = 0;
    while at < lines.len() {
        let is_of_tag = !matches!(lines[at].0, "Would upload" | "Exists");
        if is_of_tag && lines[at + 1..].contains(&lines[at]) {
            lines.remove(at);
        } else {
            at += 1;
        }
    }
    lines
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
fn to_lines(plans: &[PlanObject]) -> String {
    let lines = plans
        .iter()
        .map(|plan| serde_json::to_string(plan).expect("strings and numbers always serialize"));
    lines.collect::<Vec<_>>().join("\n")
}
