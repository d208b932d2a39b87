//! Resolution of the patterns of `--include` and of the key `include`.
//!
//! A pattern may come from an untrusted manifest. Files are therefore confined to given directories. For a symbolic link,
//! the target of the link must be in one of them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf, is_separator};

use glob::{MatchOptions, Pattern};
use oci_registry::FileName;
use snafu::{OptionExt, ResultExt, Snafu, ensure};

/// Pattern components that match every file below a directory.
const ALL_BELOW: [&str; 2] = ["**", "*"];

#[derive(Debug, Snafu)]
pub(super) enum IncludeError {
    #[snafu(display("{source}"))]
    Syntax { source: glob::PatternError },
    #[snafu(display("no such file"))]
    Absent,
    #[snafu(display("failed to read `{}`: {source}", path.display()))]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[snafu(display("`{}` is outside of the workspace and of the git repository", path.display()))]
    Outside { path: PathBuf },
    #[snafu(display("`{}` is internal to git", path.display()))]
    Internal { path: PathBuf },
    #[snafu(display("the name of `{}` is not UTF-8", path.display()))]
    NotUnicode { path: PathBuf },
    #[snafu(display("{source}"))]
    Name { source: oci_registry::Error },
}

/// Resolver of the patterns of one package.
#[derive(Debug)]
pub(super) struct PatternResolver {
    /// Directory of the package, to which patterns are relative.
    root: PathBuf,
    /// Directories that may contain the files, with symbolic links resolved.
    bounds: Vec<PathBuf>,
}

impl PatternResolver {
    /// Creates a resolver for the package at `root`, whose files must be in one of the directories `bounds`.
    pub(super) fn new<'a>(root: &Path, bounds: impl IntoIterator<Item = &'a Path>) -> Self {
        let bounds = bounds.into_iter();
        Self {
            root: root.to_owned(),
            bounds: bounds
                .filter_map(|bound| bound.canonicalize().ok())
                .collect(),
        }
    }

    /// Returns the files that match a pattern: name in the package, and path without symbolic links.
    ///
    /// A directory matches all files below it. A hidden file matches only a pattern that contains its leading dot.
    ///
    /// # Errors
    ///
    /// Fails if no file matches, or if a file is outside of the bounds.
    pub(super) fn files(
        &self,
        pattern: &str,
    ) -> Result<BTreeSet<(FileName, PathBuf)>, IncludeError> {
        Pattern::new(pattern).context(SyntaxSnafu)?;
        let words = pattern.split(is_separator);
        let mut words: Vec<_> = words.filter(|word| !["", "."].contains(word)).collect();
        let mut found = Vec::new();
        if words.last() == Some(&"**") {
            words.push("*");
        }
        find(&self.root, &words, &mut found)?;
        if words.last().is_none_or(|word| !is_wildcard(word)) {
            words.extend(ALL_BELOW);
            find(&self.root, &words, &mut found)?;
        }
        ensure!(!found.is_empty(), AbsentSnafu);
        let named = found.into_iter().map(|path| {
            let file = path.canonicalize().context(ReadSnafu { path: &path })?;
            self.confine(&file)?;
            Ok((self.name(&path)?, file))
        });
        named.collect()
    }

    /// Whether a path without symbolic links is in the directory of the package.
    pub(super) fn is_of_package(&self, file: &Path) -> bool {
        let root = self.root.canonicalize();
        root.is_ok_and(|root| file.starts_with(root))
    }

    /// Rejects a file outside of the bounds, and internal files of git.
    fn confine(&self, file: &Path) -> Result<(), IncludeError> {
        let mut relative = self
            .bounds
            .iter()
            .filter_map(|bound| file.strip_prefix(bound).ok());
        let relative = relative
            .next()
            .with_context(|| OutsideSnafu { path: file })?;
        let is_internal = relative.iter().any(|word| word == ".git");
        ensure!(!is_internal, InternalSnafu { path: file });
        Ok(())
    }

    /// Returns the name of a file in the package: the relative path, or the file name of a file outside of the package.
    fn name(&self, path: &Path) -> Result<FileName, IncludeError> {
        let inside = path.strip_prefix(&self.root).ok();
        let inside =
            inside.filter(|path| !path.components().any(|word| word == Component::ParentDir));
        let relative = inside.or_else(|| path.file_name().map(Path::new));
        let words = relative.unwrap_or(path).iter().map(|word| word.to_str());
        let words: Option<Vec<_>> = words.collect();
        let words = words.with_context(|| NotUnicodeSnafu { path })?;
        words.join("/").parse().context(NameSnafu)
    }
}

/// Collects the files below a directory that match the components of a pattern.
///
/// Unlike in `glob::glob`, `**` does not follow links to directories, because they may form a loop.
fn find(directory: &Path, pattern: &[&str], found: &mut Vec<PathBuf>) -> Result<(), IncludeError> {
    match *pattern {
        [] if directory.is_file() => found.push(directory.to_owned()),
        [] => {}
        ["**", ref rest @ ..] => {
            find(directory, rest, found)?;
            for (name, path) in entries(directory)? {
                if path.is_dir() && !path.is_symlink() && !name.starts_with('.') {
                    find(&path, pattern, found)?;
                }
            }
        }
        [word, ref rest @ ..] if is_wildcard(word) => {
            let options = MatchOptions {
                require_literal_leading_dot: true,
                ..MatchOptions::new()
            };
            let word = Pattern::new(word).context(SyntaxSnafu)?;
            for (name, path) in entries(directory)? {
                if word.matches_with(&name, options) {
                    find(&path, rest, found)?;
                }
            }
        }
        [word, ref rest @ ..] => find(&directory.join(word), rest, found)?,
    }
    Ok(())
}

fn is_wildcard(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Returns the names and paths of directory entries; empty if the path is not a directory.
fn entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, IncludeError> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory).context(ReadSnafu { path: directory })?;
    let named = entries.map(|entry| {
        let entry = entry.context(ReadSnafu { path: directory })?;
        Ok((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a workspace with a package in `[odd]`.
    fn workspace() -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a directory");
        for file in [
            "[odd]/README.md",
            "[odd]/docs/use.md",
            "[odd]/docs/deep/more.md",
            "[odd]/docs/.draft.md",
            "[odd]/.env",
            "[odd]/.git/config",
            "LICENSE",
        ] {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, "").expect("a file");
        }
        home
    }

    fn names(home: &Path, pattern: &str) -> Result<Vec<String>, String> {
        let root = home.join("[odd]");
        let found = PatternResolver::new(&root, [home]).files(pattern);
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.iter().map(|(name, _)| name.to_string()).collect())
    }

    #[test]
    fn pattern_matches_files_inside_and_outside_the_package() {
        let home = workspace();
        for (pattern, expected) in [
            ("README*", &["README.md"][..]),
            (
                "**/*.md",
                &["README.md", "docs/deep/more.md", "docs/use.md"],
            ),
            ("../LICENSE*", &["LICENSE"]),
            ("docs/../README.md", &["README.md"]),
            ("docs/*", &["docs/use.md"]),
        ] {
            let found = names(home.path(), pattern).expect(pattern);
            assert_eq!(found, expected, "{pattern}");
        }
        for pattern in ["CHANGELOG*", "*/none", "README.md/**"] {
            let absent = names(home.path(), pattern).expect_err(pattern);
            assert_eq!(absent, "no such file", "{pattern}");
        }
        names(home.path(), "[").expect_err("not a pattern");
    }

    #[test]
    fn directory_matches_all_files_below_it() {
        let home = workspace();
        for pattern in ["docs", "docs/", "./docs", "docs/**", "**/docs", "docs/**/*"] {
            let found = names(home.path(), pattern).expect(pattern);
            assert_eq!(found, ["docs/deep/more.md", "docs/use.md"], "{pattern}");
        }
    }

    #[test]
    fn hidden_file_matches_only_pattern_with_dot() {
        let home = workspace();
        for (pattern, expected) in [
            ("*", "README.md"),
            (".env", ".env"),
            (".e*", ".env"),
            ("docs/.*", "docs/.draft.md"),
        ] {
            assert_eq!(names(home.path(), pattern).expect(pattern), [expected]);
        }
        let internal = names(home.path(), ".git/config").expect_err("git's own file");
        assert!(internal.ends_with("is internal to git"), "{internal}");
    }

    #[cfg(unix)]
    #[test]
    fn link_is_resolved_and_must_stay_inside_the_bounds() {
        use std::os::unix::fs::symlink;
        let (home, foreign) = (workspace(), tempfile::tempdir().expect("a directory"));
        let (root, secret) = (home.path().join("[odd]"), foreign.path().join("secret"));
        std::fs::write(&secret, "").expect("a file");
        symlink("../LICENSE", root.join("LICENSE")).expect("a link");
        symlink(".", root.join("docs/loop")).expect("a link");
        let found = PatternResolver::new(&root, [home.path()])
            .files("L*")
            .expect("a file");
        let license = home.path().canonicalize().expect("a path").join("LICENSE");
        let paths: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, [license]);
        assert_eq!(names(home.path(), "docs/**").expect("files").len(), 2);

        symlink(&secret, root.join("NOTICE")).expect("a link");
        symlink(foreign.path(), root.join("share")).expect("a link");
        let outside = "is outside of the workspace and of the git repository";
        for pattern in ["NOTICE", "N*", "share", "share/*", "docs/../NOTICE"] {
            let refused = names(home.path(), pattern).expect_err(pattern);
            assert!(refused.ends_with(outside), "{pattern}: {refused}");
        }
    }
}
