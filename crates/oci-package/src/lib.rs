//! placeholder

pub mod annotation;
mod elf;
mod error;
mod kind;
pub mod media;
mod name;
pub mod platform;
pub mod tag;

pub use elf::Elf;
pub use error::{Error, Result};
pub use kind::{Kind, UnknownKind};
pub use name::{FileName, FilePath, NameTemplate, repository_name};
pub use platform::{GlibcVersion, Libc, TargetCfg};
pub use tag::ReleaseTag;
