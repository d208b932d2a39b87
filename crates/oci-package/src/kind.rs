//! What a published file is: the words of `dev.cargo-oci.kind`, and what follows from the word alone.
//!
//! Media type, file mode and whether a file is published unasked are decided here and nowhere else. Which
//! kind a file on disk has is not: only the one who asked cargo can tell.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a published file is, as its producer named it.
///
/// The order of the variants is the order in which kinds are listed to people; it has no other meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A program.
    Bin,
    /// A shared library with a C interface, and the import library that belongs to it.
    Cdylib,
    /// A static library with a C interface.
    Staticlib,
    /// A library that only the very same rustc can link.
    Rlib,
    /// A compiler plugin, for the host that compiles.
    ProcMacro,
    /// A program of `examples/`.
    Example,
    /// Symbols split off a program or library (`.dwp`, `.pdb`, `.dSYM`; the last is a directory, and its layer a tar).
    Debuginfo,
    /// The source package that `cargo package` makes (`.crate`).
    Crate,
    /// A WebAssembly module, whichever cargo target it was compiled from.
    Wasm,
    /// Any other file that was named by hand.
    File,
    /// All files in one tar stream.
    Archive,
}

impl FileKind {
    /// Every kind, in the order in which they are listed.
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

    /// The word in annotations, configs, flags and settings.
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

    /// The media type of a layer of this kind; `None` for a [`FileKind::File`], which has its own.
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
            // Those who want a directory know this one.
            Self::Archive => Some("application/vnd.oci.image.layer.v1.tar"),
        }
    }

    /// Whether a file of this kind is started by its name, and so has the mode 0755; all others have 0644.
    ///
    /// Only what a person runs. Linkers set the bit on shared libraries too, but no loader needs it, and
    /// packagers disagree; the bit on disk is not asked at all, because artifact stores of CI systems lose it.
    pub const fn is_executable(self) -> bool {
        matches!(self, Self::Bin | Self::Example)
    }

    /// Whether files of this kind are published unless other kinds are asked for.
    pub const fn pushed_by_default(self) -> bool {
        matches!(
            self,
            Self::Bin | Self::Cdylib | Self::Staticlib | Self::Wasm
        )
    }

    /// Whether `cargo build` writes files of this kind; the others are named by hand or made otherwise.
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

/// A word that names no [`FileKind`].
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

    #[test]
    fn the_word_is_the_same_in_text_and_in_json() {
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
    fn media_types_carry_the_word() {
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
    fn what_is_published_and_what_is_executable() {
        let words = |test: fn(FileKind) -> bool| {
            FileKind::ALL
                .into_iter()
                .filter(|kind| test(*kind))
                .map(FileKind::as_str)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(FileKind::pushed_by_default),
            ["bin", "cdylib", "staticlib", "wasm"]
        );
        assert_eq!(words(FileKind::is_executable), ["bin", "example"]);
        assert_eq!(words(|kind| !kind.is_built()), ["crate", "file", "archive"]);
    }

    #[test]
    fn an_unknown_word_is_named_with_the_known_ones() {
        let error = "dylib".parse::<FileKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown kind `dylib`, expected one of `bin`, `cdylib`, `staticlib`, `rlib`, `proc-macro`, \
             `example`, `debuginfo`, `crate`, `wasm`, `file`, `archive`"
        );
    }
}
