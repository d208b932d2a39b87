//! Events of a publication. Front ends display them; this crate prints nothing.

use std::fmt;

use oci_registry::{Delivery, Descriptor, Digest, Manifest, Meter, Tag};

/// Callback that receives the events of a publication.
pub type PublishObserver<'a> = dyn Fn(PublishEvent<'_>) + Send + Sync + 'a;

/// Event of a publication.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublishEvent<'a> {
    /// The transfer of a blob started. The meter reports its progress.
    BlobStarted(&'a Descriptor, Meter),
    /// A blob was delivered to the target.
    Blob(&'a Descriptor, Delivery),
    /// The manifest for one target was stored under its digest.
    Manifest(&'a Manifest),
    /// A target tag was set to the target's manifest.
    Tag(&'a Tag, &'a Manifest),
    /// A tag was set to an index.
    Index(&'a Tag, &'a Manifest),
    /// A floating tag was moved from the replaced index of its version to the new index.
    FloatingTag(&'a Tag, &'a Manifest),
    /// Information for the user.
    Note(Note),
}

/// Information for the user that is not an error. `Display` writes one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The release already contains the same files. The stored manifest is kept, even if the new manifest has different
    /// metadata.
    AlreadyPublished {
        /// Tag of the target's manifest.
        tag: Tag,
        /// Digest of the stored manifest.
        stored: Digest,
    },
    /// The manifest of a released version was replaced.
    Overwritten {
        /// Tag of the target's manifest.
        tag: Tag,
        /// Digest of the previous manifest.
        previous: Digest,
    },
    /// Another writer changed a moving tag after this publication set it. The tag keeps the manifest of the other
    /// writer.
    TagOverwritten {
        /// The tag.
        tag: Tag,
    },
    /// The tags could not be listed, so targets that are not in the index are not found.
    TagListFailed {
        /// The error.
        reason: String,
    },
    /// An entry was removed from the index, because its manifest does not exist.
    EntryDropped {
        /// Target triple.
        target: String,
        /// Digest of the missing manifest.
        digest: Digest,
    },
    /// A manifest replaced the entry for the same platform, in an index that is not the index of a package.
    EntryReplaced {
        /// Target triple or platform of the entry.
        entry: String,
        /// Digest of the replaced manifest.
        digest: Digest,
    },
    /// The index is read and written again, because another writer changed it or a request failed.
    IndexRetry {
        /// Tag of the index.
        tag: Tag,
        /// Whether a request failed. Otherwise another writer changed the index.
        has_failed: bool,
    },
}

impl Note {
    /// Whether the note describes a normal step of a publication, which is of interest only in a detailed log.
    pub fn is_detail(&self) -> bool {
        matches!(
            self,
            Self::IndexRetry { .. } | Self::AlreadyPublished { .. }
        )
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyPublished { tag, stored } => {
                write!(
                    f,
                    "`{tag}` already contains the same files; keeping {stored}"
                )
            }
            Self::Overwritten { tag, previous } => {
                write!(
                    f,
                    "replaced the manifest of `{tag}`; {previous} and its referrers are no longer tagged"
                )
            }
            Self::TagOverwritten { tag } => {
                write!(
                    f,
                    "another job moved `{tag}` after it was set; keeping the tag of that job"
                )
            }
            Self::TagListFailed { reason } => {
                write!(
                    f,
                    "failed to list tags, so targets that are missing from the index are not added: {reason}"
                )
            }
            Self::EntryDropped { target, digest } => {
                write!(
                    f,
                    "removed the entry for `{target}` from the index: {digest} does not exist"
                )
            }
            Self::EntryReplaced { entry, digest } => {
                write!(
                    f,
                    "replaced the entry for {entry}; the previous manifest was {digest}"
                )
            }
            Self::IndexRetry { tag, has_failed } => {
                if *has_failed {
                    write!(f, "failed to update `{tag}`, trying again")
                } else {
                    write!(f, "another job updated `{tag}`, trying again")
                }
            }
        }
    }
}
