//! Entry of a tar stream.

use std::collections::BTreeMap;

/// Type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

/// Entry of a tar stream, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Name as written in the stream.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Size of the content in bytes. Only a file has content.
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Modification time in seconds since 1970.
    pub(crate) mtime: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes by name.
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Creates the entry of a file with default metadata.
    pub(crate) fn file(path: &str, size: u64) -> Self {
        Self {
            path: path.into(),
            kind: Kind::File,
            link: Vec::new(),
            size,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            device: (0, 0),
            attributes: BTreeMap::new(),
        }
    }
}
