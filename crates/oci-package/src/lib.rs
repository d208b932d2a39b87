//! placeholder

pub mod annotation;
mod artifact;
pub mod config;
mod elf;
mod error;
mod index;
mod kind;
pub mod media;
mod name;
mod package;
pub mod platform;
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
pub use summary::Summary;
pub use tag::ReleaseTag;
pub use target::{Difference, PackageFile, PackageTarget, differences, files};
