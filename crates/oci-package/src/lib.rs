//! placeholder

pub mod annotation;
mod artifact;
mod concurrent;
pub mod config;
mod elf;
mod error;
mod index;
mod kind;
pub mod media;
mod name;
mod package;
pub mod platform;
mod release;
mod summary;
pub mod tag;
mod target;

pub use artifact::{Artifact, MAX_LAYERS, PackOptions, pack};
pub use config::Config;
pub use elf::Elf;
pub use error::{Error, Result};
pub use index::{Entry, PackageIndex};
pub use kind::{Kind, UnknownKind};
pub use name::{NameTemplate, repository_name};
pub use package::{Build, File, Package, Revision};
pub use platform::{GlibcVersion, Libc, TargetCfg};
pub use release::{
    Event, Floated, Note, Observer, Plan, PlannedTag, PublishOptions, Published, PublishedTag,
    TagAction, assemble, float, plan, publish,
};
pub use summary::Summary;
pub use tag::ReleaseTag;
pub use target::{Difference, PackageFile, PackageTarget, differences, files};
