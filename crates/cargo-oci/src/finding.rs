//! What programs read of the verbs that look: `--message-format json`, one JSON object a line on stdout.
//!
//! Owns the objects and their fields, which `MESSAGES.md` describes beside those of [`message`](crate::message). There
//! is no text for people here: a list, a tree and a page are each drawn by the verb that shows them.

use oci_package::{Comparison, Details, InspectedFile, InspectedTarget, Inspection};
use oci_registry::{Annotations, Descriptor, Digest, Location, MediaType, OtherName, Tag};
use serde::Serialize;

/// Something that was found.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all_fields = "kebab-case")]
pub(crate) enum Finding<'a> {
    /// A tag of a repository.
    #[serde(rename = "oci-tag-entry")]
    Tag {
        name: &'a str,
        reference: String,
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
    /// Something that is about something else.
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
    /// All that there is to say about an artifact.
    #[serde(rename = "oci-inspection")]
    Inspection {
        reference: String,
        name: Option<&'a str>,
        version: Option<&'a str>,
        description: Option<&'a str>,
        licenses: Option<&'a str>,
        source: Option<&'a str>,
        revision: Option<&'a str>,
        created: Option<&'a str>,
        size: Option<u64>,
        media_type: &'a MediaType,
        artifact_type: Option<&'a MediaType>,
        annotations: &'a Annotations,
        targets: Vec<Target<'a>>,
        digest: &'a Digest,
    },
    /// A part of an artifact that is not what it should be.
    #[serde(rename = "oci-wrong")]
    Wrong {
        reference: String,
        title: Option<&'a str>,
        message: String,
        size: u64,
        digest: &'a Digest,
    },
    /// A file of an artifact, held against a directory.
    #[serde(rename = "oci-comparison")]
    Comparison { name: &'a str, action: &'static str },
}

/// One target, or one platform, of an artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Target<'a> {
    #[serde(rename = "target")]
    triple: Option<&'a str>,
    platform: Option<String>,
    libc: Option<String>,
    glibc: Option<String>,
    artifact_type: Option<&'a MediaType>,
    size: Option<u64>,
    digest: &'a Digest,
    /// Whether its manifest is there.
    exists: bool,
    files: Vec<File<'a>>,
    /// Facts that its documents state differently.
    conflicts: Vec<String>,
}

/// One file, or layer, of a target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct File<'a> {
    name: Option<&'a str>,
    title: Option<&'a str>,
    kind: Option<&'a str>,
    media_type: &'a MediaType,
    size: u64,
    digest: &'a Digest,
}

impl<'a> Finding<'a> {
    /// A tag, and what it names as far as that was asked for and found.
    pub(crate) fn tag(place: &Location, tag: &'a Tag, named: Option<&'a Details>) -> Self {
        let reference = place.with(tag.clone()).to_string();
        Self::entry(tag.as_str(), reference, named)
    }

    /// A name that no tag stands for, and its manifest as far as that was asked for and found.
    pub(crate) fn other_name(
        place: &Location,
        other: &'a OtherName,
        named: Option<&'a Details>,
    ) -> Self {
        let reference = place.with(other.digest.clone()).to_string();
        Self::entry(&other.name, reference, named)
    }

    fn entry(name: &'a str, reference: String, named: Option<&'a Details>) -> Self {
        let summary = named.map(|named| &named.summary);
        let platforms = summary.map(|summary| summary.platforms.iter().map(ToString::to_string));
        Self::Tag {
            name,
            reference,
            size: summary.and_then(|summary| summary.size),
            created: summary.and_then(|summary| summary.created.as_deref()),
            targets: summary.map(|summary| &summary.targets[..]),
            platforms: platforms.map(Iterator::collect),
            artifact_type: summary.and_then(|summary| summary.artifact_type.as_ref()),
            media_type: named.map(|named| &named.media_type),
            digest: named.map(|named| &named.digest),
        }
    }

    /// What is about a subject at a place.
    pub(crate) fn referrer(place: &Location, subject: &'a Digest, entry: &'a Descriptor) -> Self {
        Self::Referrer {
            reference: place.with(entry.digest.clone()).to_string(),
            subject,
            artifact_type: entry.artifact_type.as_ref(),
            media_type: &entry.media_type,
            size: entry.size,
            created: entry.annotation(oci_package::annotation::CREATED),
            annotations: &entry.annotations,
            digest: &entry.digest,
        }
    }

    /// What a release page would show.
    pub(crate) fn inspection(place: &Location, inspection: &'a Inspection) -> Self {
        Self::Inspection {
            reference: place.with(inspection.digest.clone()).to_string(),
            name: inspection.name.as_deref(),
            version: inspection.version.as_deref(),
            description: inspection.description.as_deref(),
            licenses: inspection.licenses.as_deref(),
            source: inspection.source.as_deref(),
            revision: inspection.revision.as_deref(),
            created: inspection.created.as_deref(),
            size: inspection.size,
            media_type: &inspection.media_type,
            artifact_type: inspection.artifact_type.as_ref(),
            annotations: &inspection.annotations,
            targets: inspection.targets.iter().map(Target::of).collect(),
            digest: &inspection.digest,
        }
    }

    /// How a file in a directory compares.
    pub(crate) fn comparison(comparison: &'a Comparison) -> Self {
        Self::Comparison {
            name: comparison.name().as_str(),
            action: comparison.as_str(),
        }
    }

    /// The object, in one line.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always serialise")
    }
}

impl<'a> Target<'a> {
    fn of(target: &'a InspectedTarget) -> Self {
        Self {
            triple: target.target.as_deref(),
            platform: target.platform.as_ref().map(ToString::to_string),
            libc: target.libc.map(|libc| libc.to_string()),
            glibc: target.glibc.map(|glibc| glibc.to_string()),
            artifact_type: target.artifact_type.as_ref(),
            size: target.size,
            digest: &target.digest,
            exists: target.exists,
            files: target.files.iter().map(File::of).collect(),
            conflicts: target.conflicts.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<'a> File<'a> {
    fn of(file: &'a InspectedFile) -> Self {
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
