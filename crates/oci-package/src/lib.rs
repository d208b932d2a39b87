//! What a package looks like in an OCI registry, written and read.
//!
//! A version of a package is one *index*; in it is one *manifest* for each target triple; in that is one *layer* for each
//! file. A layer is the file, byte for byte, so that its digest is the SHA-256 of the file and anyone can verify it with
//! no tool but their own:
//!
//! ```text
//! ghcr.io/acme/widgets:1.2.3                              index
//! ├── :1.2.3__x86_64-unknown-linux-musl                   manifest, linux/amd64, static
//! │   ├── widgets-1.2.3-x86_64-unknown-linux-musl         layer: the program
//! │   └── LICENSE                                         layer: a file beside it
//! └── :1.2.3__aarch64-apple-darwin                        manifest, darwin/arm64
//!     └── widgets-1.2.3-aarch64-apple-darwin              layer
//! ```
//!
//! Everything is made for three kinds of readers. Plain OCI clients take the first entry of an index that fits their
//! platform: the most portable one comes first, and layers have the titles that people give release assets. Listings need
//! no second request: the index says target, profile, size and C library of each entry. And readers who know this layout
//! write files under the names cargo gave them.
//!
//! The same facts and files are the same bytes on every machine: no clock, no order of a hash map, no path of the machine
//! enters. So a push that was done before is recognised by its digest, and a release stays what it was.
//!
//! # Example
//!
//! ```
//! use oci_package::{Build, InputFile, FileKind, Machine, PackOptions, Package, PublishOptions, ReleaseTag, Wanted};
//! use oci_registry::Memory;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("widgets");
//! # std::fs::write(&path, "a program")?;
//! // What is published: facts that somebody found out, and files.
//! let package = Package::new("widgets", "1.2.3".parse()?);
//! let build = Build::new("x86_64-unknown-linux-musl", "release");
//! let files = [InputFile::new("widgets".parse()?, FileKind::Bin, path)];
//! let artifact = oci_package::pack(&package, &build, &files, &PackOptions::default()).await?;
//!
//! // To any target: a registry's repository, a directory, or memory.
//! let repository = Memory::new();
//! let tag = ReleaseTag::from_version(&package.version)?;
//! let tags = [tag.clone()];
//! oci_package::publish(&artifact, &repository, &tags, &PublishOptions::default(), &|_| {}).await?;
//!
//! // And back: what a machine can run.
//! let wanted = Wanted::Machine(Machine { target: "x86_64-unknown-linux-musl".into(), glibc: None });
//! let manifest = oci_package::find(&repository, &tag.index().clone().into(), &wanted).await?;
//! let files = oci_package::files(&manifest)?;
//! assert_eq!(files[0].name.as_str(), "widgets");
//! assert!(files[0].is_executable);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rooms
//!
//! | question | answer |
//! | --- | --- |
//! | What is known of a package? | [`Package`], [`Build`], [`InputFile`], [`FileKind`] |
//! | How does it become an artifact? | [`pack`] → [`Artifact`], with a [`NameTemplate`] and a [`PackageConfig`] |
//! | What does a manifest say? | [`PackageTarget`], [`files`], [`differences`]; [`open_archives`] opens its archives |
//! | What is in an index? | [`PackageIndex`], [`IndexEntry`] |
//! | What does a listing say in one line? | [`Summary`]; at length, [`TagDetailsFetcher`] → [`TagDetails`] |
//! | What is about it, and about that? | [`referrer_tree`] |
//! | What does a release page show? | [`inspect`] → [`Inspection`] |
//! | Is it what lies in a directory? | [`compare`] |
//! | Do tag, index, manifest and config agree? | [`check`], [`conflicts`] |
//! | Under which tag? | [`ReleaseTag`], [`tag`], [`repository_name`] |
//! | Who sends it, and what if others do too? | [`publish`], [`plan`], [`assemble`], [`update_floating_tags`] |
//! | Who edits an index? | [`add`], [`remove`]; [`find_entry`] finds what is in one, [`DeletedSet`] what goes along |
//! | Which one is for this machine? | [`choose`], [`find`] |
//! | What does a triple mean to everyone else? | [`platform`], [`Libc`], [`Elf`] |
//!
//! This crate runs no process, prints nothing, and reads no environment and no clock; what happens is told to an
//! [`PublishObserver`].

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
pub mod media;
mod name;
mod package;
pub mod platform;
mod referrer_tree;
mod release;
mod summary;
pub mod tag;
mod target;

pub use agreement::{Conflict, Listing, Statement, check, conflicts};
pub use artifact::{Artifact, MAX_LAYERS, PackOptions, check_annotations, pack};
pub use choose::{Machine, Wanted, choose, fallback_tags, find, find_listed};
pub use comparison::{Comparison, compare};
pub use config::PackageConfig;
pub use details::{Concurrency, Details, TagDetails, TagDetailsFetcher, is_document_error};
pub use elf::Elf;
pub use file_source::{FileSource, open_archives};
pub use index::{IndexEntry, PackageIndex};
pub use inspection::{InspectedFile, InspectedTarget, Inspection, inspect};
pub use kind::{FileKind, UnknownFileKind};
pub use name::{NameTemplate, is_package_name, repository_name};
pub use oci_registry::{Error, Result};
pub use package::{Build, InputFile, Package, Revision};
pub use platform::{GlibcVersion, Libc, TargetCfg};
pub use referrer_tree::{ReferrerNode, referrer_tree};
pub use release::{
    AddOptions, DeletedSet, EntryLocation, EntrySelector, FloatingTagUpdate, Note, PlannedTag,
    PublishEvent, PublishObserver, PublishOptions, PublishPlan, Published, PublishedTag,
    RemovedEntries, StoredTags, TagAction, add, assemble, find_entry, plan, plan_removal, publish,
    remove, update_floating_tags,
};
pub use summary::Summary;
pub use tag::ReleaseTag;
pub use target::{Difference, PackageFile, PackageTarget, differences, files};
