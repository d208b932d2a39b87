//! A client for OCI registries: verified, streaming, resumable.
//!
//! # What OCI is, in short
//!
//! A *registry* is a host. It holds *repositories*; `ghcr.io/acme/widgets` is the repository `acme/widgets` at the
//! registry `ghcr.io`. A repository holds two kinds of content, both named by their *digest*:
//!
//! * *blobs*, bytes of any size;
//! * *manifests*, small JSON documents that name other content by *descriptors* (media type, digest, size). The manifest
//!   of an artifact names a *config* and *layers*; an *index* names further manifests, one for each platform for example.
//!
//! A *tag* is a name that points at one manifest and may move. That is all: an artifact is a graph whose root is a
//! manifest, pushing it is sending what is missing from the leaves to the root, and everything in it can be verified,
//! since every name below the root is a digest.
//!
//! # Push a file, and pull it back
//!
//! ```
//! use std::sync::Arc;
//! use oci_registry::{Blob, CopyOptions, Extract, Identifier, Layout, MediaType, Packed, Source, copy, unpack};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! # std::fs::write(home.path().join("notes.txt"), "hello")?;
//! // Pack a file into an artifact …
//! let layer = Blob::from_file("text/plain".into(), &home.path().join("notes.txt")).await?;
//! let packed = Packed::new("application/vnd.acme.notes".into(), Blob::empty(), vec![layer], Default::default())?;
//! let root = Identifier::from(packed.manifest().digest().clone());
//!
//! // … and push it. A `Layout` is a directory; `Client::repository` gives a registry's repository in its place.
//! let layout = Layout::create(home.path().join("layout")).await?;
//! let source: Arc<dyn Source> = Arc::new(packed);
//! let tags = vec!["1.0".parse()?];
//! copy(&source, &root, &layout, CopyOptions { tags, ..CopyOptions::default() }).await?;
//!
//! // Pull it by its tag.
//! let manifest = layout.manifest(&Identifier::Tag("1.0".parse()?)).await?;
//! let layer = manifest.as_image().expect("an artifact").layers[0].clone();
//! let file = Extract { descriptor: layer, name: "copy.txt".parse()?, executable: false };
//! unpack(&layout, &[file], &home.path().join("out"), Default::default()).await?;
//! assert_eq!(std::fs::read_to_string(home.path().join("out/copy.txt"))?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # The rooms
//!
//! The whole is an hourglass. At its waist stand two traits, [`Source`] and [`Target`]. Below them are the places they
//! stand for; above, what is done with any of them.
//!
//! | room | what it owns |
//! | --- | --- |
//! | `digest`, `reference` | names: parsed strictly, opening nothing |
//! | `manifest`, `blob` | content: exact bytes, verified as they flow |
//! | `referrers` | what a list of manifests about a manifest says, and the tag that keeps it |
//! | `graph` | how large the graph of one artifact may be |
//! | `storage` | [`Source`] and [`Target`]; [`Delete`] for places that let go |
//! | `copy`, `pack`, `unpack` | artifacts from place to place, out of files and back |
//! | `bundle` | several files as one tar stream, and back |
//! | `export` | the root filesystem of an image |
//! | `verify` | whether all of an artifact is there, and is what its names say |
//! | `memory`, `layout`, `archive`, `registry` | the places: RAM, a directory, a file, a host |
//! | `tarball` | tar streams, read strictly |
//! | `cache` | manifests that were read before, by digest, on disk |
//! | `journal` | what a client does, told as it happens |
//! | `exchange` | one bounded HTTP request done right: redirects, retries, idleness, what may be shown |
//! | `auth`, `transport` | credentials and tokens; a request that answers a registry's challenge |
//! | `environment` | the process's surroundings, as an argument |
//! | `open` | a location, opened: which part of it is a path, and the place at that path |
//! | `escape` | a stranger's words, made safe to show |
//! | `conformance` | the laws that every target obeys, as code (feature `conformance`) |
//! | `file` | opening of files that are read, without waiting for a pipe |
//! | `error` | one opaque error with a kind, help, and the registry's own words |
//!
//! A room imports only what stands before it: digest → reference → manifest → graph, blob → storage → the places and what is
//! done with them; environment → exchange → auth → transport → registry.
//!
//! # What can be relied on
//!
//! * Bytes that come out have been verified against the digest they were asked for, always.
//! * A manifest is sent after everything it names, a tag after its manifest. A file under its final name is whole.
//! * "Cannot tell" is never "no": what is not clearly absent is an error.
//! * A credential goes to the registry it belongs to, and to the token server that this registry names; nowhere else.
//! * Nothing is printed, and the process environment is not read: programs run as credential helpers get the
//!   [`Environment`] that was given. Two libraries do read it: the keyring's (feature `keyring`), for the session that it
//!   belongs to, and the SDK of AWS (feature `ecr`), for what a container or a machine may do and for proxies.

#[doc = include_str!("../QUIRKS.md")]
pub mod quirks {}

mod archive;
mod auth;
mod blob;
mod bundle;
mod cache;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod copy;
mod digest;
mod environment;
mod error;
mod escape;
mod exchange;
mod export;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod journal;
mod layout;
mod manifest;
mod memory;
mod open;
mod pack;
mod reference;
mod referrers;
mod registry;
mod storage;
mod tarball;
mod transport;
mod unpack;
mod verify;

pub use archive::Archive;
pub use auth::chain::CredentialChain;
#[cfg(feature = "keyring")]
pub use auth::keyring::Keyring;
pub use auth::store::{CredentialStore, Kept};
pub use auth::{Anonymous, Credential, CredentialProvider, CredentialRequest, Lookup, Secret};
pub use blob::{Beginning, Blob, BlobStream, Content, Meter, OutputFile};
pub use bundle::{Bundle, Bundled, bundle};
pub use cache::Cache;
pub use copy::{CopyEvent, CopyOptions, copy, copy_all};
pub use digest::{Algorithm, Digest, Hasher};
pub use environment::Environment;
pub use error::{Error, ErrorKind, Failure, Hint, Optional, RegistryError, Result, Side};
pub use escape::{escape, is_active};
pub use export::{ExportOptions, export};
pub use file::{open_input, open_regular, open_regular_with};
pub use journal::{AuthState, Observer, OmittedNames, Step, UploadState};
pub use layout::Layout;
pub use manifest::{
    Annotations, Descriptor, Document, ImageManifest, Index, Manifest, MediaType, Platform,
};
pub use memory::Memory;
pub use pack::Packed;
pub use reference::{
    ArchiveFormat, Identifier, ImageName, Location, LocationText, Reference, RegistryName,
    RepositoryName, Tag,
};
pub use referrers::DescriptorStream;
pub use registry::{
    Access, Client, ClientOptions, Pong, Registry, RegistryOptions, Repository, Resolve, Traffic,
};
pub use storage::{Delete, Delivery, OtherName, Source, TagStream, Target};
pub use unpack::{Extract, FileName, UnpackOptions, unpack};
pub use verify::{Verified, VerifyEvent, VerifyOptions, verify};
