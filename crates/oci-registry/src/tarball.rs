//! Reader and writer for tar streams (POSIX.1-2001 `pax`, and the long names of GNU tar).
//!
//! The writer is deterministic. The reader is strict: it rejects streams that two programs could interpret differently,
//! for example because of contradicting sizes, duplicate names, content of entries that cannot have content, or sparse
//! files. It never allocates memory according to a declared size. This module opens no files and does not interpret
//! names: a name is a sequence of bytes.

pub(crate) mod compression;
mod entry;
mod error;
mod header;
mod reader;
mod skip;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use entry::{Entry, Kind};
pub(crate) use error::Error;
pub(crate) use reader::Reader;
pub(crate) use skip::{SkipByReading, SkipBySeeking};
pub(crate) use writer::Writer;
