//! Kinds of published files: the values of `dev.cargo-oci.kind`.
//!
//! The kind determines the media type, the file mode and whether a file is published by default. The kind cannot be
//! derived from the file itself. Cargo reports it, or the user selects it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Kind of a published file.
///
/// Kinds are listed in the order of the variants. The order has no other meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A program.
    Bin,
    /// A shared library with a C interface, or its import library.
    Cdylib,
    /// A static library with a C interface.
    Staticlib,
    /// A Rust library. Only the same version of rustc can link it.
    Rlib,
    /// A procedural macro, built for the host.
    ProcMacro,
    /// A program from `examples/`.
    Example,
    /// Debug symbols in a separate file (`.dwp`, `.pdb`), or in a directory (`.dSYM`) that is packed as a tar.
    Debuginfo,
    /// A source package written by `cargo package` (`.crate`).
    Crate,
    /// A WebAssembly module, built from any cargo target.
    Wasm,
    /// Any other file that the user added.
    File,
    /// All files of a package in one tar stream.
    Archive,
}

impl FileKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 11] = [
        Self::Bin,
        Self::Cdylib,
        Self::Staticlib,
        Self::Rlib,
        Self::ProcMacro,
        Self::Example,
        Self::Debuginfo,
        Self::Crate,
        Self::Wasm,
        Self::File,
        Self::Archive,
    ];

    /// Returns the name of the kind, as used in annotations, configs, flags and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bin => "bin",
            Self::Cdylib => "cdylib",
            Self::Staticlib => "staticlib",
            Self::Rlib => "rlib",
            Self::ProcMacro => "proc-macro",
            Self::Example => "example",
            Self::Debuginfo => "debuginfo",
            Self::Crate => "crate",
            Self::Wasm => "wasm",
            Self::File => "file",
            Self::Archive => "archive",
        }
    }

    /// Returns the media type of a layer of this kind. `None` for [`FileKind::File`], whose media type depends on the
    /// file.
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Bin => Some("application/vnd.cargo-oci.bin"),
            Self::Cdylib => Some("application/vnd.cargo-oci.cdylib"),
            Self::Staticlib => Some("application/vnd.cargo-oci.staticlib"),
            Self::Rlib => Some("application/vnd.cargo-oci.rlib"),
            Self::ProcMacro => Some("application/vnd.cargo-oci.proc-macro"),
            Self::Example => Some("application/vnd.cargo-oci.example"),
            Self::Debuginfo => Some("application/vnd.cargo-oci.debuginfo"),
            Self::Crate => Some("application/vnd.cargo-oci.crate"),
            Self::Wasm => Some("application/wasm"),
            Self::File => None,
            // Clients that unpack layers recognize this media type.
            Self::Archive => Some("application/vnd.oci.image.layer.v1.tar"),
        }
    }

    /// Whether files of this kind are programs and have the mode 0755. Files of all other kinds have the mode 0644.
    ///
    /// Shared libraries have the mode 0644: linkers set the executable bit, but no loader requires it. The mode on disk
    /// is not used, because CI systems do not preserve file modes when they store files.
    pub const fn is_executable(self) -> bool {
        matches!(self, Self::Bin | Self::Example)
    }

    /// Whether files of this kind are published by default.
    pub const fn is_pushed_by_default(self) -> bool {
        matches!(
            self,
            Self::Bin | Self::Cdylib | Self::Staticlib | Self::Wasm
        )
    }

    /// Whether `cargo build` writes files of this kind.
    pub const fn is_built(self) -> bool {
        !matches!(self, Self::Crate | Self::File | Self::Archive)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for FileKind {
    type Err = UnknownFileKind;

    fn from_str(text: &str) -> Result<Self, UnknownFileKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownFileKind {
                text: text.to_owned(),
            })
    }
}

/// Error of parsing a [`FileKind`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFileKind {
    text: String,
}

impl fmt::Display for UnknownFileKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "unknown kind `{}`, expected one of", self.text)?;
        for (index, kind) in FileKind::ALL.into_iter().enumerate() {
            let separator = if index == 0 { " " } else { ", " };
            write!(formatter, "{separator}`{kind}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFileKind {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the kinds that satisfy `test`.
    fn names_of_kinds(test: fn(FileKind) -> bool) -> Vec<&'static str> {
        let kinds = FileKind::ALL.into_iter().filter(|kind| test(*kind));
        kinds.map(FileKind::as_str).collect()
    }

    #[test]
    fn file_kind_has_the_same_name_in_text_and_json() {
        for kind in FileKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            assert_eq!(
                serde_json::from_str::<FileKind>(&format!("\"{kind}\"")).unwrap(),
                kind
            );
        }
    }

    #[test]
    fn kind_media_type_contains_name() {
        for kind in FileKind::ALL {
            let expected = match kind {
                FileKind::Wasm => Some("application/wasm".to_owned()),
                FileKind::File => None,
                FileKind::Archive => Some("application/vnd.oci.image.layer.v1.tar".to_owned()),
                other => Some(format!("application/vnd.cargo-oci.{other}")),
            };
            assert_eq!(kind.media_type(), expected.as_deref());
        }
    }

    #[test]
    fn programs_linkable_libraries_and_wasm_are_pushed_by_default() {
        assert_eq!(
            names_of_kinds(FileKind::is_pushed_by_default),
            ["bin", "cdylib", "staticlib", "wasm"]
        );
    }

    #[test]
    fn only_programs_are_executable() {
        let executable = names_of_kinds(FileKind::is_executable);
        assert_eq!(executable, ["bin", "example"]);
    }

    #[test]
    fn kinds_crate_and_archive_are_not_built_by_cargo() {
        let not_built = names_of_kinds(|kind| !kind.is_built());
        assert_eq!(not_built, ["crate", "file", "archive"]);
    }

    #[test]
    fn unknown_kind_error_lists_known_kinds() {
        let error = "dylib".parse::<FileKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown kind `dylib`, expected one of `bin`, `cdylib`, `staticlib`, `rlib`, `proc-macro`, \
             `example`, `debuginfo`, `crate`, `wasm`, `file`, `archive`"
        );
    }
}
