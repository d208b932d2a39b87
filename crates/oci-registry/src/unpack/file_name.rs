//! File names that are valid and safe on every system.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use icu_normalizer::DecomposingNormalizerBorrowed as DecomposingNormalizer;
use snafu::{Snafu, ensure};

use crate::error::{ErrorKind, Failure};
use crate::escape::needs_escape;

/// Name of the directory for partial files, in the directory into which files are unpacked.
pub(super) const PARTIAL_DIRECTORY: &str = ".oci-partial";

/// Name prefix of temporary directories. They are removed when the call returns.
pub(super) const TEMPORARY_PREFIX: &str = ".partial-";

/// Maximum length of a component of a name, in bytes. Most file systems have this limit.
const MAX_COMPONENT: usize = 255;

/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 1024;

/// Maximum number of components of a name, including the file name.
const MAX_PARTS: usize = 32;

/// Maximum number of directories that the files of one call of `unpack` may need.
const MAX_DIRECTORIES: usize = 32_768;

/// Names of configuration files and directories that make git, cargo or rustup run other programs.
const COMMAND_FILES: [&str; 4] = [".git", ".cargo", "rust-toolchain", "rust-toolchain.toml"];

/// Names of devices on Windows. They are reserved with any extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("invalid file name `{}`: {problem}", name.escape_debug()))]
    UnsafeName { name: String, problem: &'static str },
    #[snafu(display(
        "failed to write `{first}` and `{second}`: some file systems treat them as the same file"
    ))]
    Clash { first: FileName, second: FileName },
    #[snafu(display(
        "failed to write the files: they need more than {MAX_DIRECTORIES} directories"
    ))]
    TooManyDirectories,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsafeName { .. } | Self::Clash { .. } | Self::TooManyDirectories => {
                ErrorKind::Mismatch
            }
        }
    }
}

/// Relative file name whose components are valid and safe on every system: `demo`, `examples/demo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileName(String);

impl FileName {
    /// Returns the name, with components separated by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks that files with these names can be in one directory on every file system. Fails for two equal names, for
    /// a name that is a directory of another, and for names that need more than 32,768 directories.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Mismatch`]; the message states both names of a clash.
    pub fn check_together<'a>(names: impl IntoIterator<Item = &'a Self>) -> crate::Result<()> {
        Ok(check_clashes(names)?)
    }

    /// Returns the folded form of the name, for comparison: case is folded, accents are decomposed, and invisible
    /// characters are removed. Some file systems treat names with the same folded form as the same file.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }

    pub(super) fn path_in(&self, directory: &Path) -> PathBuf {
        self.0
            .split('/')
            .fold(directory.to_owned(), |path, part| path.join(part))
    }

    /// Splits the name into the directory, which may be empty, and the name of the file in the directory.
    pub(super) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

fn fold(name: &str) -> String {
    let decomposed = DecomposingNormalizer::new_nfd();
    // Some letters, such as sigma, have several lower-case forms, but only one upper-case form.
    let capitals = decomposed.normalize(name).to_uppercase();
    let folded = capitals.to_lowercase();
    let seen = folded.chars().filter(|character| !is_ignorable(*character));
    decomposed.normalize_iter(seen).collect()
}

/// Whether a character is invisible, so that some file systems ignore it when they compare names (Unicode,
/// "`Default_Ignorable_Code_Point`").
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

impl FromStr for FileName {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<Self> {
        let problem = name
            .split('/')
            .find_map(find_problem)
            .or((name.len() > MAX_NAME).then_some("it is too long"))
            .or((name.split('/').count() > MAX_PARTS).then_some("it is nested too deeply"));
        match problem {
            None => Ok(Self(name.to_owned())),
            Some(problem) => {
                let name: String = name.chars().take(MAX_COMPONENT).collect();
                Err(UnsafeNameSnafu { name, problem }.build().into())
            }
        }
    }
}

/// Returns the reason why a component is not a valid file name on every system.
fn find_problem(part: &str) -> Option<&'static str> {
    let folded = fold(part);
    let stem = part
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_lowercase();
    let is_port = |prefix: &str| {
        let number = stem.strip_prefix(prefix);
        number.is_some_and(|number| {
            matches!(
                number,
                "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    if part.is_empty() {
        Some("it has an empty component")
    } else if part == "." || part == ".." {
        Some("it contains `.` or `..`")
    } else if part.len() > MAX_COMPONENT {
        Some("a component is too long")
    } else if part.contains(needs_escape) {
        Some("it contains control characters")
    } else if part.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) {
        Some("it contains characters that some systems do not allow")
    } else if part.ends_with(['.', ' ']) || part.starts_with(' ') {
        Some("it starts or ends with a character that some systems remove")
    } else if COMMAND_FILES.contains(&folded.as_str()) {
        Some("programs run commands from this file or directory")
    } else if is_reserved(&folded) {
        Some("it is reserved for partial downloads")
    } else if is_short_name(part) {
        Some("it may be the short name of another file on Windows")
    } else if DEVICES.contains(&stem.as_str()) || is_port("com") || is_port("lpt") {
        Some("it is the name of a device on Windows")
    } else {
        None
    }
}

/// Whether [`unpack`](super::unpack) uses a folded name for files that are being fetched.
fn is_reserved(folded: &str) -> bool {
    folded == PARTIAL_DIRECTORY || folded.starts_with(TEMPORARY_PREFIX)
}

/// Whether a name has the form of a short name on Windows: `GIT~1`, `CARGO~1.TOM`.
fn is_short_name(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    let number = stem.rsplit_once('~').map(|(_, number)| number);
    stem.len() <= 8
        && number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fails if two names are the same on some systems, or if a name is also the directory of another name.
fn check_clashes<'a>(files: impl IntoIterator<Item = &'a FileName>) -> Result<(), Error> {
    let mut names: BTreeMap<String, &FileName> = BTreeMap::new();
    for name in files {
        if let Some(first) = names.insert(name.folded(), name) {
            return ClashSnafu {
                first: first.clone(),
                second: name.clone(),
            }
            .fail();
        }
    }
    let mut directories = BTreeSet::new();
    for (folded, name) in &names {
        let parents = folded.rmatch_indices('/').map(|(at, _)| &folded[..at]);
        for parent in parents {
            // The parents of this directory were already checked.
            if !directories.insert(parent) {
                break;
            }
            if let Some(first) = names.get(parent) {
                return ClashSnafu {
                    first: (*first).clone(),
                    second: (*name).clone(),
                }
                .fail();
            }
        }
    }
    ensure!(
        directories.len() <= MAX_DIRECTORIES,
        TooManyDirectoriesSnafu
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unsafe_file_names_are_rejected() {
        let long = "a".repeat(256);
        let deep = format!("{}x", "a/".repeat(MAX_PARTS));
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/x",
            "a//b",
            "a/",
            "a/../b",
            r"a\b",
            ".oci-partial/sha256-x",
            ".OCI-Partial",
            ".partial-x/1",
            "GIT~1/hooks/x",
            "cargo~12.tom",
            "C:x",
            "con",
            "CON.txt",
            "nul.tar.gz",
            "COM1",
            "lpt9.x",
            "a\u{202e}b",
            "a\0",
            "a\n",
            "a.",
            "a ",
            " a",
            "a?",
            ".git/hooks/pre-commit",
            ".g\u{206a}it/config",
            ".oci-part\u{131}al/x",
            "x/.Cargo/config.toml",
            "rust-toolchain",
            "x/Rust-Toolchain.TOML",
            &long,
            &deep,
            "aux .c",
        ] {
            assert_eq!(
                name.parse::<FileName>().unwrap_err().kind(),
                ErrorKind::Mismatch,
                "{name:?}"
            );
        }
        for name in [
            "demo",
            "examples/demo",
            "lib.so.1",
            "console",
            "com",
            "com10",
            ".hidden",
            "rust-toolchain.md",
            "ü",
            "a b",
            &format!("{}x", "a/".repeat(MAX_PARTS - 1)),
        ] {
            assert_eq!(name.parse::<FileName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_with_too_many_directories_are_rejected() {
        let name = |number: usize| format!("{number}/{}x", "a/".repeat(30)).parse().unwrap();
        let names: Vec<FileName> = (0..=MAX_DIRECTORIES / 31).map(name).collect();
        let error = check_clashes(&names).unwrap_err();
        assert!(matches!(error, Error::TooManyDirectories));
        check_clashes(&names[1..]).unwrap();
    }

    proptest! {
        #[test]
        fn parsed_name_stays_inside_the_directory(name in "[a-c./\\\\: ]{0,12}") {
            if let Ok(name) = name.parse::<FileName>() {
                let path = name.path_in(Path::new("/base"));
                prop_assert!(path.starts_with("/base") && path != Path::new("/base"));
                let is_plain = |part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(path.components().all(is_plain));
            }
        }
    }
}
