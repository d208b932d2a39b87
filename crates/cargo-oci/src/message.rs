//! Messages of `--message-format json`: one JSON object per line on stdout, between cargo's messages.
//!
//! The objects and their fields are an API that `MESSAGES.md` describes. The status line of the human format is derived
//! from the same message, so that both formats contain the same information.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, ValueEnum};
use oci_registry::{Delivery, Descriptor, Digest, MediaType};
use serde::Serialize;

use crate::cargo::InstalledPackage;
use crate::figures::{Size, format_count};

/// Output format of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MessageFormat {
    /// Text
    #[default]
    Human,
    /// One JSON object per line
    Json,
}

/// Output format flag of commands with JSON messages.
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

/// Progress, result or error of a command.
#[derive(Debug, Serialize)]
#[serde(tag = "reason", rename_all_fields = "kebab-case")]
pub(crate) enum Message<'a> {
    /// A blob was uploaded or mounted, or exists at the target.
    #[serde(rename = "oci-blob")]
    Blob {
        reference: String,
        action: &'static str,
        title: Option<&'a str>,
        media_type: &'a MediaType,
        size: u64,
        digest: &'a Digest,
    },
    /// A manifest was pushed, or exists at the target.
    #[serde(rename = "oci-manifest")]
    Manifest {
        reference: String,
        action: ManifestAction,
        target: Option<&'a str>,
        size: u64,
        digest: &'a Digest,
    },
    /// An index was written and tagged.
    #[serde(rename = "oci-index")]
    Index {
        reference: String,
        /// Number of entries in the index, including entries without a target.
        #[serde(skip)]
        entries: usize,
        targets: Vec<String>,
        size: u64,
        digest: &'a Digest,
    },
    /// A tag was created or moved.
    #[serde(rename = "oci-tag")]
    Tag {
        reference: String,
        action: TagUpdate,
        digest: &'a Digest,
    },
    /// A tag, manifest or blob was deleted or would be deleted, or an index or floating tag would be changed.
    #[serde(rename = "oci-delete")]
    Delete {
        reference: String,
        action: DeleteAction,
        digest: &'a Digest,
    },
    /// A file was written, or exists with the same content.
    #[serde(rename = "oci-file")]
    File {
        path: String,
        action: FileAction,
        executable: bool,
        size: u64,
        digest: &'a Digest,
        /// Path relative to the working directory, for the status line.
        #[serde(skip)]
        display_path: String,
    },
    /// An installed program was removed.
    #[serde(rename = "oci-removed")]
    Removed {
        path: String,
        package: &'a str,
        version: &'a str,
    },
    /// A package was installed, is up to date, or is listed as installed.
    #[serde(rename = "oci-package")]
    Package {
        package: &'a str,
        version: &'a str,
        action: PackageAction,
        previous_version: Option<&'a str>,
        reference: String,
        target: Option<&'a str>,
        programs: &'a BTreeSet<String>,
        directory: String,
    },
    /// A credential source was searched.
    #[serde(rename = "oci-credential")]
    Credential {
        registry: String,
        source: &'a str,
        username: Option<&'a str>,
        used: bool,
    },
    /// The identity that a registry accepted.
    #[serde(rename = "oci-identity")]
    Identity {
        registry: String,
        username: Option<&'a str>,
        source: Option<&'a str>,
        demanded: bool,
        access: String,
        rate_limit: Option<RateLimitObject>,
    },
    /// A problem that does not stop the command.
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
    /// A result was published, pulled or installed.
    #[serde(rename = "oci-finished")]
    Finished {
        reference: String,
        digest: &'a Digest,
        index_digest: Option<&'a Digest>,
        /// Published targets of a push.
        targets: Option<&'a [FinishedTarget]>,
        requests: u64,
        bytes: u64,
        seconds: f64,
    },
}

/// Rate limit of a registry.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct RateLimitObject {
    limit: Option<u64>,
    remaining: Option<u64>,
    /// Length of the window, in seconds.
    window: Option<u64>,
}

impl From<oci_registry::RateLimit> for RateLimitObject {
    fn from(rate_limit: oci_registry::RateLimit) -> Self {
        Self {
            limit: rate_limit.limit,
            remaining: rate_limit.remaining,
            window: rate_limit.window.map(|window| window.as_secs()),
        }
    }
}

/// Target of a package that a push published.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct FinishedTarget {
    pub(crate) package: String,
    pub(crate) target: String,
    /// Reference with the tag of the target and the digest of its manifest.
    pub(crate) reference: String,
    pub(crate) digest: Digest,
}

/// Result of pushing a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ManifestAction {
    Pushed,
    Exists,
}

/// Result of setting a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TagUpdate {
    Tagged,
    Moved,
}

/// Result of deleting a tag, manifest or blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeleteAction {
    Deleted,
    WouldDelete,
    /// An index would be written without the deleted entry.
    WouldIndex,
    /// A floating tag would be moved to the index without the deleted entry.
    WouldMove,
}

/// Result of writing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileAction {
    Pulled,
    Installed,
    Exists,
}

/// Result of installing a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PackageAction {
    Installed,
    Replaced,
    Unchanged,
    UpToDate,
    Listed,
}

impl<'a> Message<'a> {
    /// Creates the message for an installed package. `directory` contains its programs.
    pub(crate) fn for_package(
        package: &'a InstalledPackage,
        action: PackageAction,
        directory: &Path,
    ) -> Self {
        Self::Package {
            package: &package.name,
            version: &package.version,
            action,
            previous_version: None,
            reference: package.location.to_string(),
            target: package.target.as_deref(),
            programs: &package.programs,
            directory: directory.to_string_lossy().into_owned(),
        }
    }

    /// Creates the message for a blob. `reference` is the blob's reference at the target.
    pub(crate) fn for_blob(reference: String, blob: &'a Descriptor, delivery: Delivery) -> Self {
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

    /// Creates the message for a file. The status line shows the path relative to the working directory.
    pub(crate) fn for_file(
        path: &Path,
        working_directory: &Path,
        action: FileAction,
        executable: bool,
        content: &'a Descriptor,
    ) -> Self {
        let display_path = path.strip_prefix(working_directory).unwrap_or(path);
        Self::File {
            path: path.to_string_lossy().into_owned(),
            action,
            executable,
            size: content.size,
            digest: &content.digest,
            display_path: display_path.display().to_string(),
        }
    }

    /// Returns the verb and object of the status line, or `None` if the message has no status line.
    pub(crate) fn status_line(&self) -> Option<(&'static str, String)> {
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
            Self::Index {
                reference,
                targets,
                entries,
                ..
            } => {
                let count = if targets.len() == *entries {
                    format_count(*entries, "target")
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
                TagUpdate::Tagged => ("Tagged", reference.clone()),
                TagUpdate::Moved => ("Moved", reference.clone()),
            },
            Self::Delete {
                reference, action, ..
            } => match action {
                DeleteAction::Deleted => ("Deleted", reference.clone()),
                DeleteAction::WouldDelete => ("Would delete", reference.clone()),
                DeleteAction::WouldMove => ("Would move", reference.clone()),
                // The command prints the line, with the number of targets.
                DeleteAction::WouldIndex => return None,
            },
            Self::File {
                action,
                display_path,
                size,
                ..
            } => {
                let verb = match action {
                    FileAction::Pulled => "Pulled",
                    FileAction::Installed => "Placed",
                    FileAction::Exists => "Exists",
                };
                (verb, format!("{display_path} ({})", Size(*size)))
            }
            Self::Removed { path, .. } => ("Removing", path.clone()),
            Self::Credential {
                source,
                username,
                used,
                ..
            } => match username {
                None => ("Searched", format!("{source}: no credential")),
                Some(name) if *used => ("Using", format!("{name} from {source}")),
                Some(name) => ("Not used", format!("{name} from {source}")),
            },
            Self::Identity {
                registry,
                username: Some(_),
                demanded: true,
                ..
            } => ("Accepted", format!("by {registry}")),
            Self::Manifest { .. }
            | Self::Identity { .. }
            | Self::Package { .. }
            | Self::Warning { .. }
            | Self::Error { .. }
            | Self::Finished { .. } => return None,
        })
    }

    /// Returns the JSON object in one line.
    pub(crate) fn to_line(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialize")
    }
}

/// Whether a media type denotes a config blob. Only the name of the media type is compared.
fn is_config(media_type: &MediaType) -> bool {
    let name = media_type.as_str();
    media_type.is_image_config() || *media_type == MediaType::EMPTY || name.contains(".config.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_and_file_messages_have_status_line_and_json() {
        let digest = Digest::sha256(b"x");
        let config = "application/vnd.acme.config.v1+json";
        let blob = Descriptor::new(config.into(), digest.clone(), 1536);
        let message = Message::for_blob(format!("a.b/c@{digest}"), &blob, Delivery::Mounted);
        assert_eq!(
            message.status_line(),
            Some(("Mounted", "config (1.5 KiB)".into()))
        );
        assert_eq!(
            message.to_line(),
            format!(
                r#"{{"reason":"oci-blob","reference":"a.b/c@{digest}","action":"mounted","title":null,"media-type":"{config}","size":1536,"digest":"{digest}"}}"#
            )
        );
        let layer = Descriptor::new("text/plain".into(), digest.clone(), 1);
        let message = Message::for_blob(String::new(), &layer, Delivery::Existed);
        assert_eq!(
            message.status_line(),
            Some(("Exists", format!("{digest} (1 B)")))
        );
        let path = Path::new("/home/me/out/x");
        let working_directory = Path::new("/home/me");
        let message = Message::for_file(path, working_directory, FileAction::Pulled, true, &blob);
        assert_eq!(
            message.status_line(),
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
