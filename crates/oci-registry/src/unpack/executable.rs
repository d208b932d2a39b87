//! Permission to execute.

/// Adds the permission to execute for all who may read the file.
#[cfg(unix)]
pub(super) fn executable_mode(mode: u32) -> u32 {
    mode | ((mode & 0o444) >> 2)
}

/// Adds the permission to execute to a file.
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
