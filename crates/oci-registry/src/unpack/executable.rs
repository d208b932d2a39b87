//! Executable permission of files.

/// Adds the executable permission to a mode, for each class of users that may read the file.
#[cfg(unix)]
pub(super) fn executable_mode(mode: u32) -> u32 {
    mode | ((mode & 0o444) >> 2)
}

/// Makes a file executable for each class of users that may read it.
#[cfg(unix)]
pub(super) fn make_executable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata()?.permissions().mode();
    if executable_mode(mode) == mode {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(executable_mode(mode)))
}

#[cfg(not(unix))]
pub(super) fn make_executable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
