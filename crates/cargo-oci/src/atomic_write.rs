//! Atomic replacement of small files.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the content of a file atomically and keeps its permissions. A missing file is created with the default mode
/// of new files.
pub(crate) fn write_atomically(path: &Path, content: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // The operating system applies the umask. By default, only the owner may read a temporary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut staged = builder.tempfile_in(directory)?;
    if let Ok(metadata) = fs::metadata(path) {
        staged.as_file().set_permissions(metadata.permissions())?;
    }
    staged.write_all(content.as_bytes())?;
    staged.as_file().sync_all()?;
    staged.persist(path)?;
    Ok(())
}
