//! Blobs: content of any size, named by its digest (image-spec, `descriptor.md`, "Verification").
//!
//! [`Blob`] can be opened more than once, so a retry sends the same content again. [`BlobStream`] yields at most as
//! many bytes as its descriptor states and verifies the digest while they are read. [`OutputFile`] is a file that a
//! user names as the destination.

mod content;
pub(crate) mod file;
mod meter;
mod output;
mod stream;
mod verification;
mod write;

pub use content::{Blob, Content};
pub use meter::Meter;
pub use output::OutputFile;
pub use stream::{BlobStream, PartialBlob};
