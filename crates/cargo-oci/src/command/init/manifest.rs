//! Addition of the suggested table to a `Cargo.toml`.
//!
//! The table is appended to the text of the file, so that comments and formatting stay as they are. The result is
//! parsed and compared with the original before the file is replaced.

use std::fs;
use std::path::Path;

use crate::atomic_write::write_atomically;
use crate::report::Error;

/// Appends the text of a table to a manifest and replaces the file atomically. `table` is the dotted name of the table.
///
/// # Errors
///
/// Fails if the table exists, or if the file cannot be read or written. The file is then unchanged.
pub(super) fn add_table(file: &Path, table: &str, text: &str) -> Result<(), Error> {
    let shown = file.display();
    let io_error = |verb: &str, error| Error::from_io(format!("failed to {verb} `{shown}`"), error);
    // A symbolic link is kept, and the file that it refers to is replaced.
    let path = fs::canonicalize(file).map_err(|error| io_error("read", error))?;
    let current = fs::read_to_string(&path).map_err(|error| io_error("read", error))?;
    let changed = append_table(&current, table, text).map_err(|problem| {
        Error::usage(format!("refusing to change `{shown}`: {problem}"))
            .help("run `cargo oci init` without `--write`, and add the printed settings by hand")
    })?;
    write_atomically(&path, &changed).map_err(|error| io_error("write", error))
}

/// Returns the text of a manifest with a table at its end.
fn append_table(current: &str, table: &str, text: &str) -> Result<String, String> {
    let before: toml::Table = toml::from_str(current).map_err(|error| error.to_string())?;
    if find_table(&before, table).is_some() {
        return Err(format!("`{table}` already exists"));
    }
    let line_end = if current.contains("\r\n") {
        "\r\n"
    } else {
        "\n"
    };
    let mut changed = current.to_owned();
    if !changed.is_empty() && !changed.ends_with('\n') {
        changed.push_str(line_end);
    }
    changed.push_str(&text.replace('\n', line_end));
    // An inline table, such as `metadata = {}`, cannot be extended by a table header.
    let after: Result<toml::Table, _> = toml::from_str(&changed);
    match after {
        Ok(after) if find_table(&after, table).is_some() => Ok(changed),
        _ => Err(format!("`{table}` cannot be added at the end of the file")),
    }
}

/// Returns the value with this dotted name.
fn find_table<'t>(root: &'t toml::Table, name: &str) -> Option<&'t toml::Value> {
    let (parents, last) = name.rsplit_once('.')?;
    let mut table = root;
    for key in parents.split('.') {
        table = table.get(key)?.as_table()?;
    }
    table.get(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "package.metadata.oci";
    const TEXT: &str = "\n[package.metadata.oci]\n# registry = \"a\"\n";

    #[test]
    fn added_table_keeps_the_rest_of_the_manifest() {
        let plain =
            "# first\n[package]   # here\nname = 'a'\nmetadata.docs.rs.all-features = true\n";
        assert_eq!(
            append_table(plain, TABLE, TEXT),
            Ok(format!("{plain}{TEXT}"))
        );
        let no_line_end = plain.trim_end();
        assert_eq!(
            append_table(no_line_end, TABLE, TEXT),
            Ok(format!("{plain}{TEXT}"))
        );
        let dos = plain.replace('\n', "\r\n");
        let expected = format!("{plain}{TEXT}").replace('\n', "\r\n");
        assert_eq!(append_table(&dos, TABLE, TEXT), Ok(expected));
    }

    #[test]
    fn existing_table_is_not_changed() {
        for (manifest, problem) in [
            ("[package]\n[package.metadata.oci]\n", "already exists"),
            ("[package]\nmetadata.oci.registry = 'a'\n", "already exists"),
            ("[package]\nmetadata = { a = 1 }\n", "cannot be added"),
            ("[package\n", "TOML"),
        ] {
            let error = append_table(manifest, TABLE, TEXT).expect_err(manifest);
            assert!(error.contains(problem), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn replaced_file_keeps_link_and_permissions() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&file, "[package]\n").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("a mode");
        symlink(&file, &link).expect("a link");
        add_table(&link, TABLE, TEXT).expect("the table is new");
        let written = fs::read_to_string(&file).expect("a file");
        assert_eq!(written, format!("[package]\n{TEXT}"));
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(link.is_symlink());
        let names = fs::read_dir(directory.path()).expect("a directory");
        assert_eq!(names.count(), 2, "no temporary file is left");
    }
}
