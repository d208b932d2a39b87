//! What happens during a publication, told as it happens: front ends draw it, this crate prints nothing.

use std::fmt;

use oci_registry::{Delivery, Descriptor, Digest, Manifest, Meter, Tag};

/// Whoever is told.
pub type PublishObserver<'a> = dyn Fn(PublishEvent<'_>) + Send + Sync + 'a;

/// Something that was done, or has to be said.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublishEvent<'a> {
    /// A blob is on its way, and the meter tells how far it has come.
    BlobStarted(&'a Descriptor, Meter),
    /// A blob is at the target.
    Blob(&'a Descriptor, Delivery),
    /// The manifest for one target is there, under its digest.
    Manifest(&'a Manifest),
    /// A tag names the manifest for one target.
    Tag(&'a Tag, &'a Manifest),
    /// A tag names this index.
    Index(&'a Tag, &'a Manifest),
    /// Something that the person should know.
    Note(Note),
}

/// Something that a person should know, though nothing failed. Shown with `{}` it is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The same files were released before: the stored manifest is kept, whatever else the new one says.
    AlreadyPublished {
        /// The tag of the target's manifest.
        tag: Tag,
        /// The digest of what is stored, and stays.
        stored: Digest,
    },
    /// Another writer moved a moving tag after us, and won.
    TagOverwritten {
        /// The tag that was moved.
        tag: Tag,
    },
    /// The index is written when all declared targets are there, and some are not.
    IndexIncomplete {
        /// The tag of the index.
        tag: Tag,
        /// The targets that are not there yet.
        missing: Vec<String>,
    },
    /// The tags could not be listed, so that targets nobody wrote into the index yet were not looked for.
    TagListFailed {
        /// What went wrong.
        problem: String,
    },
    /// An entry left the index because its manifest is gone.
    EntryDropped {
        /// The target.
        target: String,
        /// The digest of the manifest that is gone.
        digest: Digest,
    },
    /// An entry of an index of anybody's gave way to one for the same platform.
    EntryReplaced {
        /// What it was for, as a person would call it.
        entry: String,
        /// The digest of the manifest that the index lists no more.
        digest: Digest,
    },
    /// Another writer was seen, or the registry hesitated: the index is looked at and written again.
    IndexRetry {
        /// The tag of the index.
        tag: Tag,
        /// How often it was written or tried so far.
        rounds: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyPublished { tag, stored } => {
                write!(
                    f,
                    "`{tag}` already holds the same files, and stays {stored}"
                )
            }
            Self::TagOverwritten { tag } => {
                write!(f, "another writer moved `{tag}` after us, and won")
            }
            Self::IndexIncomplete { tag, missing } => {
                write!(f, "the index of {tag} waits for {}", missing.join(", "))
            }
            Self::TagListFailed { problem } => {
                write!(
                    f,
                    "could not look for targets that are not in the index yet: {problem}"
                )
            }
            Self::EntryDropped { target, digest } => {
                write!(
                    f,
                    "the entry for `{target}` left the index: {digest} is not there any more"
                )
            }
            Self::EntryReplaced { entry, digest } => {
                write!(f, "the entry for {entry} was {digest}, and is replaced")
            }
            Self::IndexRetry { tag, rounds } => {
                write!(
                    f,
                    "looking at the index `{tag}` again after {rounds} rounds"
                )
            }
        }
    }
}
