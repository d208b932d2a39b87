//! A client for OCI registries: verified, streaming, resumable.

mod auth;
mod blob;
mod copy;
mod digest;
mod environment;
mod error;
mod exchange;
mod layout;
mod manifest;
mod memory;
mod pack;
mod reference;
mod registry;
mod storage;
mod transport;
mod unpack;

pub use auth::docker::DockerConfig;
pub use auth::{Anonymous, Credential, CredentialProvider, Lookup, Secret};
pub use blob::{Blob, BlobStream, Content};
pub use copy::{CopyEvent, CopyOptions, copy};
pub use digest::{Algorithm, Digest, Hasher};
pub use environment::Environment;
pub use error::{Error, ErrorKind, Optional, RegistryError, Result, Side};
pub use layout::Layout;
pub use manifest::{
    Annotations, Descriptor, Document, ImageManifest, Index, Manifest, MediaType, Platform,
};
pub use memory::Memory;
pub use pack::Packed;
pub use reference::{Identifier, Location, Reference, RegistryName, RepositoryName, Tag};
pub use registry::{Access, Client, ClientOptions, Registry, Repository, Traffic};
pub use storage::{Delivery, Source, TagStream, Target};
pub use unpack::{Extract, FileName, UnpackOptions, unpack};
