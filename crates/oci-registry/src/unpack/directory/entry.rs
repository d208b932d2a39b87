//! Types of directory entries.

/// Type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unpack) enum EntryType {
    /// Regular file of this size in bytes.
    File(u64),
    Directory,
    Link,
    /// A FIFO, a socket or a device.
    Other,
}
