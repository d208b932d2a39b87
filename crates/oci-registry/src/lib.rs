//! A client for OCI registries: verified, streaming, resumable.

mod blob;
mod digest;
mod error;
mod manifest;
mod memory;
mod pack;
mod reference;
mod storage;

pub use blob::{Blob, BlobStream, Content};
pub use digest::{Algorithm, Digest, Hasher};
pub use error::{Error, ErrorKind, Optional, RegistryError, Result, Side};
pub use manifest::{
    Annotations, Descriptor, Document, ImageManifest, Index, Manifest, MediaType, Platform,
};
pub use memory::Memory;
pub use pack::Packed;
pub use reference::{Identifier, Location, Reference, RegistryName, RepositoryName, Tag};
pub use storage::{Delivery, Source, TagStream, Target};
