//! Client library for OCI registries, with verified, streaming and resumable transfers.
//!
//! # OCI in short
//!
//! A *registry* is a host with *repositories*: `ghcr.io/acme/widgets` is the repository `acme/widgets` of the registry
//! `ghcr.io`. A repository has two kinds of content, both identified by their *digest*:
//!
//! * *blobs*, bytes of any size;
//! * *manifests*, small JSON documents that refer to other content by *descriptors* (media type, digest, size). The
//!   manifest of an artifact refers to a *config* and *layers*; an *index* refers to further manifests, for example one
//!   per platform.
//!
//! A *tag* is a name for one manifest. It can be moved to another manifest. An artifact is a graph whose root is a
//! manifest. A push sends the missing content from the leaves to the root. All content below the root is referred to by
//! digest and can be verified.
//!
//! # Push a file, and pull it back
//!
//! ```
//! use std::sync::Arc;
//! use oci_registry::{Blob, CopyOptions, FileEntry, Identifier, Layout, MediaType, Packed, Source, copy, unpack};
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
//! // … and push it to a `Layout`, which is a directory. `Client::repository` opens a repository of a registry instead.
//! let layout = Layout::create(home.path().join("layout")).await?;
//! let source: Arc<dyn Source> = Arc::new(packed);
//! let tags = vec!["1.0".parse()?];
//! copy(&source, &root, &layout, CopyOptions { tags, ..CopyOptions::default() }).await?;
//!
//! // Pull it by its tag.
//! let manifest = layout.manifest(&Identifier::Tag("1.0".parse()?)).await?;
//! let layer = manifest.as_image().expect("an artifact").layers[0].clone();
//! let file = FileEntry { descriptor: layer, name: "copy.txt".parse()?, executable: false };
//! unpack(&layout, &[file], &home.path().join("out"), Default::default()).await?;
//! assert_eq!(std::fs::read_to_string(home.path().join("out/copy.txt"))?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! Operations are written against two traits: [`Source`] (read) and [`Target`] (write). Registries, directories, archives
//! and memory implement them. A module imports only modules before it in this list:
//!
//! | module | responsibility |
//! | --- | --- |
//! | `error` | one opaque error with a kind, hints, and the errors that a registry reported |
//! | `escape` | escaping of control characters and workflow commands in foreign text |
//! | `redact` | redaction of secrets in text, URLs and headers |
//! | `file` | files opened without blocking on a pipe or device |
//! | `digest` | digests and hashers |
//! | `reference` | names of registries, repositories, tags and locations |
//! | `rate_limit` | rate limit that a registry reports |
//! | `event` | events of a client, and their observer |
//! | `manifest` | manifests and indexes, with their exact bytes |
//! | `graph` | limits on the size of the graph of one artifact |
//! | `referrers` | entries of a list of referrers, and its fallback tag |
//! | `blob` | blobs, verified while they are read |
//! | `storage` | the traits [`Source`], [`Target`] and [`Delete`] |
//! | `tarball` | strict reader and writer of tar streams |
//! | `memory` | a repository in memory |
//! | `layout` | a repository in a directory (OCI image layout) |
//! | `archive` | a repository in one file |
//! | `environment` | environment variables and directories, passed as an argument |
//! | `exchange` | one HTTP exchange: redirects, retries, idle timeouts, size limits |
//! | `auth` | credentials and tokens |
//! | `transport` | an exchange with authentication |
//! | `registry` | a repository at a registry |
//! | `open` | the repository at a location |
//! | `pack` | artifacts made of files |
//! | `copy` | artifacts copied from a source to a target |
//! | `unpack` | files of an artifact, written to a directory |
//! | `bundle` | several files as one tar stream |
//! | `export` | the root filesystem of an image |
//! | `verify` | verification of a whole artifact |
//! | `cache` | manifests by digest, on disk |
//! | `conformance` | tests for implementations of [`Target`] (feature `conformance`) |
//! | `fuzzing` | checks of the parsers with arbitrary input (feature `fuzzing`) |
//!
//! # Retries
//!
//! | failure | layer | attempts | delay |
//! | --- | --- | --- | --- |
//! | no connection, broken connection, idle timeout; 408, 429, 499, 500, 502, 503, 504, 522 | `exchange` | [`ClientOptions::attempts`] | back-off, or `Retry-After` if that is longer |
//! | 401 of the registry | `transport` | 2 | none |
//! | 401 or 403 for a read with the credential of a CI job | `transport` | 1 more, without the credential | none |
//! | credential that the token server rejects | `transport` | 2, the second with the credential looked up again | none |
//! | interrupted body of a blob over one connection, or a response other than the requested segment | `registry/download` | 6 without progress (1 MiB, or any byte after a minute) | back-off |
//! | interrupted body of a segment of a blob | `registry/ranges` | 5 | back-off |
//! | interrupted page of a list of names | `registry/page` | 5 | back-off |
//! | PATCH or PUT of an upload session: no definite response | `registry/upload` | 5 without progress (1 MiB) | back-off |
//! | 401 after a part of an upload was sent | `registry/upload` | 2 | none |
//! | list of referrers that does not contain the pushed manifest | `registry/referrers` | 5 | back-off |
//! | write of a fallback list of referrers: no definite response, or overwritten by another client | `registry/referrers` | 10 | 0.5 s, then 1 s, plus back-off, before the read that checks the write |
//! | request to AWS for a credential of ECR (feature `ecr`) | AWS SDK | 3 | delay of the SDK |
//!
//! Each failure is retried by one layer. `exchange` repeats a request until the header of a response has arrived. If
//! `exchange` returns an error, no other layer repeats the request. The exceptions are requests that `exchange` sends
//! only once: the requests of an open upload session, a mount, a write of a list of referrers, and
//! [`Target::tag_once`]. Their effect is not known after a failure, so the layer above decides. A layer that reads the
//! body of a response retries only if the body is interrupted.
//!
//! Each of these retries that has a delay is reported as a [`Retry`], except those of the AWS SDK and the repeated reads of
//! a list of referrers.
//!
//! The back-off is a random duration between zero and a maximum. The maximum starts at 250 ms and doubles with each
//! failure, up to 10 s. A `Retry-After` of more than one minute is an error. After two consecutive idle timeouts an
//! operation fails, regardless of the layers that have sent the requests.
//!
//! # Guarantees
//!
//! * Content that is read has been verified against the requested digest.
//! * A manifest is sent after all content that it refers to, and a tag after its manifest. A file under its final name
//!   is complete.
//! * An ambiguous response is an error. It is never treated as "absent".
//! * A credential is sent only to its registry and to the token server that this registry specifies.
//! * The crate prints nothing and does not read the process environment: credential helpers run with the
//!   [`Environment`] that the caller passed. Two libraries do read it: `keyring` (feature `keyring`) for its session,
//!   and the AWS SDK (feature `ecr`) for the role of a container or machine and for proxies.

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
mod event;
mod exchange;
mod export;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod graph;
mod layout;
mod manifest;
mod memory;
mod open;
mod pack;
mod rate_limit;
mod redact;
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
pub use auth::store::{CredentialStore, StoredCredential};
pub use auth::{Anonymous, Credential, CredentialProvider, CredentialRequest, Lookup};
pub use blob::{Blob, BlobStream, Content, Meter, OutputFile, PartialBlob};
pub use bundle::{Bundle, BundleFile, bundle};
pub use cache::Cache;
pub use copy::{CopyEvent, CopyOptions, copy, copy_all};
pub use digest::{Algorithm, Digest, Hasher};
pub use environment::Environment;
pub use error::{Error, ErrorKind, Failure, Forge, Hint, Optional, RegistryError, Result, Side};
pub use escape::{escape, needs_escape, without_workflow_commands};
pub use event::{ClientEvent, Observer, OmittedNames, Retry};
pub use exchange::Resolve;
pub use export::{ExportOptions, export};
pub use file::{
    open_input, open_output, open_regular, open_regular_with, read_input_text, read_regular_text,
};
pub use layout::Layout;
pub use manifest::{
    Annotations, Descriptor, Document, ImageManifest, Index, Manifest, MediaType, Platform,
};
pub use memory::Memory;
pub use open::Mode;
pub use pack::Packed;
pub use rate_limit::RateLimit;
pub use redact::{Secret, without_user_info};
pub use reference::{
    ArchiveFormat, Identifier, ImageName, Location, LocationText, Reference, RegistryName,
    RepositoryName, Tag,
};
pub use referrers::{DescriptorStream, FALLBACK_TAG_PREFIXES, is_fallback_tag};
pub use registry::{
    Access, Client, ClientOptions, PingResponse, Registry, RegistryAccess, RegistryOptions,
    Repository, TransferStats,
};
pub use storage::{Delete, Delivery, OtherName, Source, TagStream, Target};
pub use unpack::{FileEntry, FileName, UnpackOptions, partial_size, unpack};
pub use verify::{VerifiedArtifact, VerifyEvent, VerifyOptions, verify};
