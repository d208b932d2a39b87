//! Where data goes that is no line: a file, which gets its name when it is whole, or stdout.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use oci_registry::ErrorKind;

use crate::report::Error;

/// A file on its way to its name. Dropped before that, it leaves nothing.
#[derive(Debug)]
pub(super) struct Unfinished {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
    replaces: bool,
}

/// Refuses a name at which something is that may not be replaced, before anything is asked for.
pub(super) fn check(path: &Path, replaces: bool) -> Result<(), Error> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(());
    };
    if metadata.is_dir() {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("refused to replace `{}`: it is a directory", path.display()),
        )
        .help("choose another file with `--output`"));
    }
    if replaces {
        return Ok(());
    }
    Err(occupied(path))
}

fn occupied(path: &Path) -> Error {
    let message = format!(
        "refused to replace `{}`: it is there already",
        path.display()
    );
    Error::new(ErrorKind::Conflict, message)
        .help("choose another file with `--output`, or pass `--force`")
}

impl Unfinished {
    /// Begins a file beside where it is to be.
    pub(super) fn begin(path: PathBuf, replaces: bool) -> Result<Self, Error> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".partial-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // What the user's mask allows, as for any other file; a temporary file is private otherwise.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        match builder.tempfile_in(directory) {
            Ok(temporary) => Ok(Self {
                temporary,
                path,
                replaces,
            }),
            Err(error) => Err(failed(&path, error)),
        }
    }

    /// Where it is for now.
    pub(super) fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// What to write to.
    pub(super) fn file(&self) -> Result<File, Error> {
        let file = self.temporary.as_file().try_clone();
        file.map_err(|error| failed(&self.path, error))
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self {
            temporary,
            path,
            replaces,
        } = self;
        let synced = temporary.as_file().sync_all();
        synced.map_err(|error| failed(&path, error))?;
        let placed = if replaces {
            temporary.persist(&path)
        } else {
            temporary.persist_noclobber(&path)
        };
        match placed {
            Ok(_) => Ok(()),
            // It came while this was on its way.
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(occupied(&path))
            }
            Err(error) => Err(failed(&path, error.error)),
        }
    }
}

fn failed(path: &Path, reason: std::io::Error) -> Error {
    Error::of_file(format!("failed to write `{}`", path.display()), reason)
        .help("choose another place with `--output`")
}

/// Whether stdout is a person's terminal, which bytes of any kind must not reach.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
