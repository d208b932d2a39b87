//! Package format for cargo packages in OCI registries: packing, publishing, reading and selecting.
//!
//! A version of a package is an *index*. The index lists one *manifest* per target triple, and each manifest lists one
//! *layer* per file. A layer contains the file byte for byte, so its digest is the SHA-256 of the file and any SHA-256
//! tool can verify a download:
//!
//! ```text
//! ghcr.io/acme/widgets:1.2.3                              index
//! ├── :1.2.3__x86_64-unknown-linux-musl                   manifest, linux/amd64, static
//! │   ├── widgets-1.2.3-x86_64-unknown-linux-musl         layer: the program
//! │   └── LICENSE                                         layer: an additional file
//! └── :1.2.3__aarch64-apple-darwin                        manifest, darwin/arm64
//!     └── widgets-1.2.3-aarch64-apple-darwin              layer
//! ```
//!
//! The format supports three kinds of clients:
//!
//! * Plain OCI clients select the first index entry that matches their platform. The most portable entry comes first,
//!   and the titles of layers follow the usual names of release assets.
//! * Clients that list tags need no second request, because each index entry states target, profile, size and C
//!   library.
//! * Clients that know this format write files under the names that cargo gave them.
//!
//! Packing is deterministic: the same metadata and files produce the same bytes on every machine. The output does not
//! depend on the clock, on the order of a hash map or on local paths. A repeated push therefore has the same digest, so
//! it is recognized and the release does not change.
//!
//! # Example
//!
//! ```
//! use oci_package::{
//!     Build, FileKind, InputFile, Machine, ManifestSelector, PackOptions, Package, PublishOptions, ReleaseTag,
//! };
//! use oci_registry::Memory;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("widgets");
//! # std::fs::write(&path, "a program")?;
//! // The input: metadata of the package and of the build, and files.
//! let package = Package::new("widgets", "1.2.3".parse()?);
//! let build = Build::new("x86_64-unknown-linux-musl", "release");
//! let files = [InputFile::new("widgets".parse()?, FileKind::Bin, path)];
//! let artifact = oci_package::pack(&package, &build, &files, &PackOptions::default()).await?;
//!
//! // Publish to any target: a repository in a registry, an OCI layout, or memory.
//! let repository = Memory::new();
//! let tag = ReleaseTag::from_version(&package.version)?;
//! let tags = [tag.clone()];
//! oci_package::publish(&artifact, &repository, &tags, &PublishOptions::default(), &|_| {}).await?;
//!
//! // Fetch the manifest that a machine can run.
//! let selector = ManifestSelector::Machine(Machine { target: "x86_64-unknown-linux-musl".into(), glibc: None });
//! let manifest = oci_package::find(&repository, &tag.index().clone().into(), &selector).await?;
//! let files = oci_package::files(&manifest)?;
//! assert_eq!(files[0].name.as_str(), "widgets");
//! assert!(files[0].is_executable);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! | task | items |
//! | --- | --- |
//! | Package metadata and files | [`Package`], [`Build`], [`InputFile`], [`FileKind`] |
//! | Packing an artifact | [`pack`] → [`Artifact`], with a [`NameTemplate`] and a [`PackageConfig`] |
//! | Reading a manifest | [`PackageTarget`], [`files`], [`differences`]; [`open_archives`] opens archives |
//! | Reading and writing an index | [`PackageIndex`], [`IndexEntry`] |
//! | Listing tags without hidden tags | [`TagListing`] → [`ListedTag`]; [`HiddenTag`] |
//! | Summaries for listings | [`Summary`] from one manifest; [`TagDetailsFetcher`] → [`TagDetails`] with further requests |
//! | Referrers, recursively | [`referrer_tree`] |
//! | Details of a package and its files | [`inspect`] → [`Inspection`] |
//! | Comparison with a local directory | [`compare`] |
//! | Consistency of tag, index, manifest and config | [`check`], [`conflicts`] |
//! | Tags and repository names | [`ReleaseTag`], [`tag`], [`repository_name`] |
//! | Publishing, with concurrent writers | [`publish`], [`plan`], [`assemble`], [`update_floating_tags`] |
//! | Editing an index | [`add`], [`remove`]; [`find_entry`] locates an entry, [`DeletedSet`] tracks implied deletions |
//! | Deleting a version | [`plan_tag_deletion`] → [`TagDeletion`] |
//! | Selecting a manifest for a machine | [`choose`], [`find`]; [`resolve_identifier`], [`resolve_version`], [`resolve_manifest`], [`resolve_manifest_or_target`] for a location |
//! | Hints about missing content | [`explain`], [`explain_repository`]; [`find_similar_name`] finds a similar name |
//! | Platforms and C libraries | [`platform`], [`Libc`], [`Elf`] |
//!
//! This crate starts no process, prints nothing, and reads neither environment variables nor the clock. It reports
//! progress to a [`PublishObserver`].

mod agreement;
pub mod annotation;
mod artifact;
mod choose;
mod comparison;
mod concurrent;
pub mod config;
mod details;
mod elf;
mod file_source;
mod glibc;
mod host;
mod index;
mod inspection;
mod kind;
mod listing;
pub mod media;
mod name;
mod package;
pub mod platform;
mod referrer_tree;
mod release;
mod resolve;
mod similar_name;
mod summary;
pub mod tag;
mod target;

pub use agreement::{Conflict, ManifestOrigin, StatedValue, check, conflicts};
pub use artifact::{Artifact, MAX_LAYERS, PackOptions, check_annotations, pack};
pub use choose::{Machine, ManifestSelector, choose, fallback_tags, find, find_with_index};
pub use comparison::{Comparison, compare};
pub use config::PackageConfig;
pub use details::{Concurrency, Details, TagDetails, TagDetailsFetcher, is_document_error};
pub use elf::Elf;
pub use file_source::{FileSource, open_archives};
pub use index::{IndexEntry, PackageIndex};
pub use inspection::{InspectedFile, InspectedTarget, Inspection, inspect};
pub use kind::{FileKind, UnknownFileKind};
pub use listing::{HiddenTag, HiddenTagCount, ListedTag, TagListing};
pub use name::{NameTemplate, is_package_name, repository_name};
pub use oci_registry::{Error, Result};
pub use package::{Build, InputFile, Package, Revision};
pub use platform::{GlibcVersion, Libc, TargetCfg};
pub use referrer_tree::{ReferrerNode, referrer_tree};
pub use release::{
    AddOptions, DeletedSet, DeletionNote, EntryLocation, EntrySelector, FloatingTagUpdate,
    IndexTags, Note, PendingPublication, PlannedTag, PublishEvent, PublishObserver, PublishOptions,
    PublishPlan, Published, PublishedTag, RemovedEntries, StoredTags, TagAction, TagDeletion,
    TaggedDigest, add, assemble, find_entry, find_index_tags, other_release_targets, plan,
    plan_floating_tags, plan_removal, plan_tag_deletion, publish, publish_target, remove,
    update_floating_tags,
};
pub use resolve::{
    IncompleteRelease, check_tag_of_digest, explain, explain_repository, find_incomplete_release,
    has_version, resolve_identifier, resolve_manifest, resolve_manifest_or_target, resolve_version,
};
pub use similar_name::find_similar_name;
pub use summary::Summary;
pub use tag::ReleaseTag;
pub use target::{Difference, PackageFile, PackageTarget, differences, files};
