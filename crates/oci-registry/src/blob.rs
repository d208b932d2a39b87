//! Blobs: content of any size, identified by its digest (image-spec, `descriptor.md`, "Verification").
//!
//! [`Blob`] can be opened more than once, so a retry sends the same content again. [`BlobStream`] yields at most the
//! number of bytes that its descriptor states, and verifies the digest while the bytes are read. [`OutputFile`] is a
//! destination file that the user names.

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
