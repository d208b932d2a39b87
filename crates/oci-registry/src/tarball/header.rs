//! Sizes of tar headers and their fields.

/// Size of a block in bytes.
pub(super) const BLOCK: usize = 512;

/// Smallest size that does not fit into the eleven octal digits of a header field.
pub(super) const OCTAL_SIZE: u64 = 1 << 33;

/// Smallest user or group ID that does not fit into the seven octal digits of a header field.
pub(super) const OCTAL_OWNER: u64 = 1 << 21;

/// Returns the number of bytes between content of this size and the next block.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}
