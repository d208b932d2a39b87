//! Parent directories of the files to write.

use std::io::{self, ErrorKind};

use snafu::{ResultExt, ensure};

use super::directory::Directory;
use super::error::{Error, MakeDirectorySnafu, NotADirectorySnafu, OpenDirectorySnafu};
use super::file_name::FileName;

/// Handling of directories that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingDirectories {
    Create,
    Leave,
}

/// Opens the parent directories of files. The last directory stays open, because consecutive files are usually in the
/// same directory.
#[derive(Debug)]
pub(super) struct Parents<'a> {
    root: &'a Directory,
    missing: MissingDirectories,
    last: Option<(String, Directory)>,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Directory, missing: MissingDirectories) -> Self {
        Self {
            root,
            missing,
            last: None,
        }
    }

    /// Opens the parent directory of a file; `None` if it does not exist and must not be created.
    pub(super) fn open(&mut self, name: &FileName) -> Result<Option<Directory>, Error> {
        self.open_directory(name.split().0)
    }

    /// Opens a directory by its name. The name of the root is empty.
    pub(super) fn open_directory(&mut self, parent: &str) -> Result<Option<Directory>, Error> {
        if let Some((last, directory)) = &self.last
            && last == parent
        {
            return Ok(Some(directory.clone()));
        }
        let mut directory = self.root.clone();
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            match open_or_create(&directory, part, self.missing)? {
                Some(child) => directory = child,
                None => return Ok(None),
            }
        }
        self.last = Some((parent.to_owned(), directory.clone()));
        Ok(Some(directory))
    }
}

fn open_or_create(
    directory: &Directory,
    part: &str,
    missing: MissingDirectories,
) -> Result<Option<Directory>, Error> {
    let path = directory.path().join(part);
    let mut child = directory.open_child(part);
    if missing == MissingDirectories::Create && has_kind(&child, ErrorKind::NotFound) {
        let created = directory.create_child(part);
        // Another process may have created the directory in the meantime.
        if !has_kind(&created, ErrorKind::AlreadyExists) {
            created.context(MakeDirectorySnafu { path: &path })?;
        }
        child = directory.open_child(part);
    }
    if has_kind(&child, ErrorKind::NotFound) {
        return Ok(None);
    }
    let is_other = has_kind(&child, ErrorKind::NotADirectory);
    ensure!(!is_other, NotADirectorySnafu { path });
    child.map(Some).context(OpenDirectorySnafu { path })
}

fn has_kind<T>(result: &io::Result<T>, kind: ErrorKind) -> bool {
    matches!(result, Err(error) if error.kind() == kind)
}
