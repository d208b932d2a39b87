//! Results of read-only commands with `--message-format json`: one JSON object per line on stdout.
//!
//! `MESSAGES.md` describes these objects, and the objects of [`message`](crate::message). The human format is not
//! defined here, because each command formats its own list, tree or page.

use oci_package::{Comparison, Details, InspectedFile, InspectedTarget, Inspection};
use oci_registry::{Annotations, Descriptor, Digest, Location, MediaType, OtherName, Tag};
use serde::Serialize;

/// Result of a read-only command.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all_fields = "kebab-case")]
pub(crate) enum QueryResult<'a> {
    /// A tag of a repository.
    #[serde(rename = "oci-tag-entry")]
    Tag {
        name: &'a str,
        reference: String,
        /// Whether the tag does not exist and only its target tags do. `None` if this was not determined.
        incomplete: Option<bool>,
        size: Option<u64>,
        created: Option<&'a str>,
        targets: Option<&'a [String]>,
        platforms: Option<Vec<String>>,
        artifact_type: Option<&'a MediaType>,
        media_type: Option<&'a MediaType>,
        digest: Option<&'a Digest>,
    },
    /// A repository of a registry, or a layout in a directory.
    #[serde(rename = "oci-repository")]
    Repository { name: String, reference: String },
    /// A manifest with a `subject`.
    #[serde(rename = "oci-referrer")]
    Referrer {
        reference: String,
        subject: &'a Digest,
        artifact_type: Option<&'a MediaType>,
        media_type: &'a MediaType,
        size: u64,
        created: Option<&'a str>,
        annotations: &'a Annotations,
        digest: &'a Digest,
    },
    /// The metadata, targets and files of an artifact.
    #[serde(rename = "oci-inspection")]
    Inspection {
        reference: String,
        name: Option<&'a str>,
        version: Option<&'a str>,
        description: Option<&'a str>,
        licenses: Option<&'a str>,
        source: Option<&'a str>,
        revision: Option<&'a str>,
        dirty: Option<bool>,
        created: Option<&'a str>,
        size: Option<u64>,
        media_type: &'a MediaType,
        artifact_type: Option<&'a MediaType>,
        annotations: &'a Annotations,
        targets: Vec<TargetObject<'a>>,
        digest: &'a Digest,
    },
    /// A manifest or blob with a mismatch.
    #[serde(rename = "oci-wrong")]
    Mismatch {
        reference: String,
        title: Option<&'a str>,
        message: String,
        size: u64,
        digest: &'a Digest,
    },
    /// A file of an artifact, compared with a file in a directory.
    #[serde(rename = "oci-comparison")]
    Comparison { name: &'a str, action: &'static str },
}

/// JSON object for one target or platform of an artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TargetObject<'a> {
    #[serde(rename = "target")]
    triple: Option<&'a str>,
    platform: Option<String>,
    libc: Option<String>,
    glibc: Option<String>,
    artifact_type: Option<&'a MediaType>,
    size: Option<u64>,
    digest: &'a Digest,
    /// Whether the manifest exists in the repository.
    exists: bool,
    files: Vec<FileObject<'a>>,
    /// Contradictions between the index, the manifest and the config.
    conflicts: Vec<String>,
}

/// JSON object for one file or layer of a target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct FileObject<'a> {
    name: Option<&'a str>,
    title: Option<&'a str>,
    kind: Option<&'a str>,
    media_type: &'a MediaType,
    size: u64,
    digest: &'a Digest,
}

impl<'a> QueryResult<'a> {
    /// Creates the object for a tag, with the details of its manifest if they are known.
    pub(crate) fn for_tag(
        location: &Location,
        tag: &'a Tag,
        details: Option<&'a Details>,
        incomplete: Option<bool>,
    ) -> Self {
        let reference = location.with(tag.clone()).to_string();
        Self::new_tag(tag.as_str(), reference, details, incomplete)
    }

    /// Creates the object for an incomplete version, with its targets if they are requested.
    pub(crate) fn for_incomplete_version(
        location: &Location,
        tag: &'a Tag,
        requested_targets: Option<&'a [String]>,
    ) -> Self {
        let mut result = Self::for_tag(location, tag, None, Some(true));
        if let Self::Tag { targets, .. } = &mut result {
            *targets = requested_targets;
        }
        result
    }

    /// Creates the object for a layout entry whose name is not a valid tag, with the details of its manifest if they
    /// are known.
    pub(crate) fn for_other_name(
        location: &Location,
        other: &'a OtherName,
        details: Option<&'a Details>,
        incomplete: Option<bool>,
    ) -> Self {
        let reference = location.with(other.digest.clone()).to_string();
        Self::new_tag(&other.name, reference, details, incomplete)
    }

    fn new_tag(
        name: &'a str,
        reference: String,
        details: Option<&'a Details>,
        incomplete: Option<bool>,
    ) -> Self {
        let summary = details.map(|details| &details.summary);
        let platforms = summary.map(|summary| summary.platforms.iter().map(ToString::to_string));
        Self::Tag {
            name,
            reference,
            incomplete,
            size: summary.and_then(|summary| summary.size),
            created: summary.and_then(|summary| summary.created.as_deref()),
            targets: summary.map(|summary| &summary.targets[..]),
            platforms: platforms.map(Iterator::collect),
            artifact_type: summary.and_then(|summary| summary.artifact_type.as_ref()),
            media_type: details.map(|details| &details.media_type),
            digest: details.map(|details| &details.digest),
        }
    }

    /// Creates the object for a referrer of `subject`.
    pub(crate) fn for_referrer(
        location: &Location,
        subject: &'a Digest,
        entry: &'a Descriptor,
    ) -> Self {
        Self::Referrer {
            reference: location.with(entry.digest.clone()).to_string(),
            subject,
            artifact_type: entry.artifact_type.as_ref(),
            media_type: &entry.media_type,
            size: entry.size,
            created: entry.annotation(oci_package::annotation::CREATED),
            annotations: &entry.annotations,
            digest: &entry.digest,
        }
    }

    /// Creates the object for an inspected artifact.
    pub(crate) fn from_inspection(location: &Location, inspection: &'a Inspection) -> Self {
        Self::Inspection {
            reference: location.with(inspection.digest.clone()).to_string(),
            name: inspection.name.as_deref(),
            version: inspection.version.as_deref(),
            description: inspection.description.as_deref(),
            licenses: inspection.licenses.as_deref(),
            source: inspection.source.as_deref(),
            revision: inspection.revision.as_deref(),
            dirty: inspection.dirty,
            created: inspection.created.as_deref(),
            size: inspection.size,
            media_type: &inspection.media_type,
            artifact_type: inspection.artifact_type.as_ref(),
            annotations: &inspection.annotations,
            targets: inspection.targets.iter().map(TargetObject::new).collect(),
            digest: &inspection.digest,
        }
    }

    /// Creates the object for a compared file.
    pub(crate) fn from_comparison(comparison: &'a Comparison) -> Self {
        Self::Comparison {
            name: comparison.name().as_str(),
            action: comparison.as_str(),
        }
    }

    /// Returns the JSON object as one line.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialize")
    }
}

impl<'a> TargetObject<'a> {
    fn new(target: &'a InspectedTarget) -> Self {
        Self {
            triple: target.target.as_deref(),
            platform: target.platform.as_ref().map(ToString::to_string),
            libc: target.libc.map(|libc| libc.to_string()),
            glibc: target.glibc.map(|glibc| glibc.to_string()),
            artifact_type: target.artifact_type.as_ref(),
            size: target.size,
            digest: &target.digest,
            exists: target.exists,
            files: target.files.iter().map(FileObject::new).collect(),
            conflicts: target.conflicts.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> FileObject<'a> {
    fn new(file: &'a InspectedFile) -> Self {
        Self {
            name: file.file.as_deref().or(file.title.as_deref()),
            title: file.title.as_deref(),
            kind: file.kind.as_deref(),
            media_type: &file.media_type,
            size: file.size,
            digest: &file.digest,
        }
    }
}
