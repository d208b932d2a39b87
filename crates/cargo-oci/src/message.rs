//! What programs read: `--message-format json`, one JSON object a line on stdout, beside cargo's own.
//!
//! Owns the objects and their fields, which `MESSAGES.md` describes: they are an API. What people read is told in the
//! same breath, so that neither can know more than the other.

use std::path::Path;

use clap::{Args, ValueEnum};
use oci_registry::{Delivery, Descriptor, Digest, MediaType};
use serde::Serialize;

use crate::figures::{Size, plural};
use crate::report::Reporter;

/// For whom a command tells what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MessageFormat {
    /// Text
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

/// What a verb takes that tells programs what it does.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatFlag {
    /// Output format: `human` or `json` (one JSON object per line)
    ///
    /// `human` prints status lines to stderr, and only the resulting names to stdout. `json` prints an object for every
    /// step to stdout instead; MESSAGES.md describes the objects.
    #[arg(
        long,
        value_name = "FMT",
        default_value = "human",
        hide_default_value = true
    )]
    pub(crate) message_format: MessageFormat,
}

/// Something that was done, or has to be said.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all_fields = "kebab-case")]
pub(crate) enum Message<'a> {
    /// A blob is at the target.
    #[serde(rename = "oci-blob")]
    Blob {
        reference: String,
        action: &'static str,
        title: Option<&'a str>,
        media_type: &'a MediaType,
        size: u64,
        digest: &'a Digest,
    },
    /// A manifest is at the target.
    #[serde(rename = "oci-manifest")]
    Manifest {
        reference: String,
        action: ManifestAction,
        target: Option<&'a str>,
        size: u64,
        digest: &'a Digest,
        /// The name that people know it by.
        #[serde(skip)]
        known_as: String,
    },
    /// A tag names an index that was written.
    #[serde(rename = "oci-index")]
    Index {
        reference: String,
        /// How many entries it has, of which not all need be for a target.
        #[serde(skip)]
        entries: usize,
        targets: Vec<String>,
        size: u64,
        digest: &'a Digest,
    },
    /// A tag names something.
    #[serde(rename = "oci-tag")]
    Tag {
        reference: String,
        action: TagAction,
        digest: &'a Digest,
    },
    /// Something is gone, or would be.
    #[serde(rename = "oci-delete")]
    Delete {
        reference: String,
        action: DeleteAction,
        digest: &'a Digest,
    },
    /// A file is in its place.
    #[serde(rename = "oci-file")]
    File {
        path: String,
        action: FileAction,
        executable: bool,
        size: u64,
        digest: &'a Digest,
        /// As a person would write the path.
        #[serde(skip)]
        shown: String,
    },
    /// A program that was installed is gone.
    #[serde(rename = "oci-removed")]
    Removed {
        path: String,
        package: &'a str,
        version: &'a str,
    },
    /// A place was asked for a credential.
    #[serde(rename = "oci-credential")]
    Credential {
        registry: String,
        source: &'a str,
        username: Option<&'a str>,
        used: bool,
    },
    /// As whom a registry knows us.
    #[serde(rename = "oci-identity")]
    Identity {
        registry: String,
        username: Option<&'a str>,
        source: Option<&'a str>,
        demanded: bool,
    },
    /// Something worth knowing that is no failure.
    #[serde(rename = "oci-warning")]
    Warning { message: String },
    /// The command failed.
    #[serde(rename = "oci-error")]
    Error {
        kind: &'static str,
        code: u8,
        message: String,
        causes: Vec<String>,
        help: Vec<String>,
    },
    /// Something is published, pulled or installed, and this is its name.
    #[serde(rename = "oci-finished")]
    Finished {
        reference: String,
        digest: &'a Digest,
        index_digest: Option<&'a Digest>,
        requests: u64,
        bytes: u64,
        seconds: f64,
    },
}

/// What became of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ManifestAction {
    Pushed,
    Exists,
}

/// What became of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TagAction {
    Tagged,
    Moved,
}

impl TagAction {
    /// What becomes of a tag that named `held` before, which is said.
    pub(crate) fn after(reporter: Reporter, reference: &str, held: Option<&Digest>) -> Self {
        let Some(held) = held else {
            return Self::Tagged;
        };
        reporter.note(format_args!("`{reference}` named {held} before"));
        Self::Moved
    }
}

/// What became of something that is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeleteAction {
    Deleted,
    WouldDelete,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileAction {
    Pulled,
    Installed,
    Exists,
}

impl<'a> Message<'a> {
    /// A blob came to be at a target, where it has this name.
    pub(crate) fn blob(reference: String, blob: &'a Descriptor, delivery: Delivery) -> Self {
        Self::Blob {
            reference,
            action: match delivery {
                Delivery::Uploaded => "uploaded",
                Delivery::Mounted => "mounted",
                Delivery::Existed => "exists",
            },
            title: blob.annotation(oci_package::annotation::TITLE),
            media_type: &blob.media_type,
            size: blob.size,
            digest: &blob.digest,
        }
    }

    /// A file is in its place, which is shown from where the command was typed.
    pub(crate) fn file(
        path: &Path,
        here: &Path,
        action: FileAction,
        executable: bool,
        content: &'a Descriptor,
    ) -> Self {
        let shown = path.strip_prefix(here).unwrap_or(path);
        Self::File {
            path: path.to_string_lossy().into_owned(),
            action,
            executable,
            size: content.size,
            digest: &content.digest,
            shown: shown.display().to_string(),
        }
    }

    /// What people read of it: a verb, and what. What they are told otherwise is nothing here.
    pub(crate) fn for_people(&self) -> Option<(&'static str, String)> {
        Some(match self {
            Self::Blob {
                action,
                title,
                media_type,
                size,
                digest,
                ..
            } => {
                let verb = match *action {
                    "uploaded" => "Uploaded",
                    "mounted" => "Mounted",
                    _ => "Exists",
                };
                let title = match title {
                    Some(title) => title,
                    None if is_config(media_type) => "config",
                    None => digest.as_str(),
                };
                (verb, format!("{title} ({})", Size(*size)))
            }
            Self::Manifest {
                action: ManifestAction::Exists,
                target,
                known_as,
                ..
            } => {
                let target = target.map(|target| format!(" for {target}"));
                (
                    "Unchanged",
                    format!("{known_as}{}", target.unwrap_or_default()),
                )
            }
            Self::Index {
                reference,
                targets,
                entries,
                ..
            } => {
                let count = if targets.len() == *entries {
                    plural(*entries, "target")
                } else if *entries == 1 {
                    "1 entry".to_owned()
                } else {
                    format!("{entries} entries")
                };
                ("Indexed", format!("{reference} ({count})"))
            }
            Self::Tag {
                reference, action, ..
            } => match action {
                TagAction::Tagged => ("Tagged", reference.clone()),
                TagAction::Moved => ("Moved", reference.clone()),
            },
            Self::Delete {
                reference, action, ..
            } => match action {
                DeleteAction::Deleted => ("Deleted", reference.clone()),
                DeleteAction::WouldDelete => ("Would delete", reference.clone()),
            },
            Self::File {
                action,
                shown,
                size,
                ..
            } => {
                let verb = match action {
                    FileAction::Pulled => "Pulled",
                    FileAction::Installed => "Placed",
                    FileAction::Exists => "Exists",
                };
                (verb, format!("{shown} ({})", Size(*size)))
            }
            Self::Removed { path, .. } => ("Removing", path.clone()),
            Self::Credential {
                source,
                username,
                used,
                ..
            } => match username {
                None => ("Nothing", format!("in {source}")),
                Some(who) if *used => ("Using", format!("{who} of {source}")),
                Some(who) => ("Not used", format!("{who} of {source}")),
            },
            Self::Identity {
                registry,
                username: Some(_),
                demanded: true,
                ..
            } => ("Accepted", format!("by {registry}")),
            Self::Manifest { .. }
            | Self::Identity { .. }
            | Self::Warning { .. }
            | Self::Error { .. }
            | Self::Finished { .. } => return None,
        })
    }

    /// The object, in one line.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers always serialise")
    }
}

/// Whether content of this type is the configuration of an artifact, as far as a name tells.
fn is_config(media_type: &MediaType) -> bool {
    let name = media_type.as_str();
    media_type.is_image_config() || *media_type == MediaType::EMPTY || name.contains(".config.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_are_told_the_same() {
        let digest = Digest::sha256(b"x");
        let config = "application/vnd.acme.config.v1+json";
        let blob = Descriptor::new(config.into(), digest.clone(), 1536);
        let message = Message::blob(format!("a.b/c@{digest}"), &blob, Delivery::Mounted);
        assert_eq!(
            message.for_people(),
            Some(("Mounted", "config (1.5 KiB)".into()))
        );
        assert_eq!(
            message.to_line(),
            format!(
                r#"{{"reason":"oci-blob","reference":"a.b/c@{digest}","action":"mounted","title":null,"media-type":"{config}","size":1536,"digest":"{digest}"}}"#
            )
        );
        let layer = Descriptor::new("text/plain".into(), digest.clone(), 1);
        let message = Message::blob(String::new(), &layer, Delivery::Existed);
        assert_eq!(
            message.for_people(),
            Some(("Exists", format!("{digest} (1 B)")))
        );
        let path = Path::new("/home/me/out/x");
        let here = Path::new("/home/me");
        let message = Message::file(path, here, FileAction::Pulled, true, &blob);
        assert_eq!(
            message.for_people(),
            Some(("Pulled", "out/x (1.5 KiB)".into()))
        );
        assert_eq!(
            message.to_line(),
            format!(
                r#"{{"reason":"oci-file","path":"/home/me/out/x","action":"pulled","executable":true,"size":1536,"digest":"{digest}"}}"#
            )
        );
    }
}
