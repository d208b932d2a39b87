//! Search for the files that match the patterns in `--include` and in the manifest key `include`.
//!
//! A manifest may be untrusted. All files must therefore be in directories that the caller allows. If a file is a
//! symbolic link, the target of the link must be in one of these directories.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf, is_separator};

use glob::{MatchOptions, Pattern};
use oci_registry::FileName;
use snafu::{OptionExt, ResultExt, Snafu, ensure};

/// Components of the pattern that matches every file below a directory.
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

/// Resolver that finds the files for the patterns of one package.
#[derive(Debug)]
pub(super) struct PatternResolver {
    /// Package directory. Patterns are relative to this directory.
    root: PathBuf,
    /// Directories that may contain files, with symbolic links resolved.
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

    /// Returns the files that match a pattern: the published name of each, and the path with symbolic links resolved.
    ///
    /// If a pattern matches a directory, all files below it are returned. A hidden file is returned only if the pattern
    /// contains the leading dot.
    ///
    /// # Errors
    ///
    /// Fails if no file matches, or if a file is outside of the bounds.
    pub(super) fn files(
        &self,
        pattern: &str,
    ) -> Result<BTreeSet<(FileName, PathBuf)>, IncludeError> {
        Pattern::new(pattern).context(SyntaxSnafu)?;
        let components = pattern.split(is_separator);
        let mut components: Vec<_> = components
            .filter(|component| !["", "."].contains(component))
            .collect();
        let mut found = Vec::new();
        if components.last() == Some(&"**") {
            components.push("*");
        }
        collect_matches(&self.root, &components, &mut found)?;
        if components
            .last()
            .is_none_or(|component| !is_wildcard(component))
        {
            components.extend(ALL_BELOW);
            collect_matches(&self.root, &components, &mut found)?;
        }
        ensure!(!found.is_empty(), AbsentSnafu);
        let named = found.into_iter().map(|path| {
            let file = path.canonicalize().context(ReadSnafu { path: &path })?;
            self.check_bounds(&file)?;
            Ok((self.published_name(&path)?, file))
        });
        named.collect()
    }

    /// Whether a path is in the package directory. Symbolic links in the path must be resolved.
    pub(super) fn is_in_package(&self, file: &Path) -> bool {
        let root = self.root.canonicalize();
        root.is_ok_and(|root| file.starts_with(root))
    }

    /// Rejects a file that is outside of the bounds or in a `.git` directory.
    fn check_bounds(&self, file: &Path) -> Result<(), IncludeError> {
        let mut relative = self
            .bounds
            .iter()
            .filter_map(|bound| file.strip_prefix(bound).ok());
        let relative = relative
            .next()
            .with_context(|| OutsideSnafu { path: file })?;
        let is_internal = relative.iter().any(|component| component == ".git");
        ensure!(!is_internal, InternalSnafu { path: file });
        Ok(())
    }

    /// Returns the name under which a file is published: the path relative to the package, or the file name if the file
    /// is outside of the package.
    fn published_name(&self, path: &Path) -> Result<FileName, IncludeError> {
        let inside = path.strip_prefix(&self.root).ok();
        let inside = inside.filter(|path| {
            !path
                .components()
                .any(|component| component == Component::ParentDir)
        });
        let relative = inside.or_else(|| path.file_name().map(Path::new));
        let components = relative
            .unwrap_or(path)
            .iter()
            .map(|component| component.to_str());
        let components: Option<Vec<_>> = components.collect();
        let components = components.with_context(|| NotUnicodeSnafu { path })?;
        components.join("/").parse().context(NameSnafu)
    }
}

/// Collects the files below a directory that match the components of a pattern.
///
/// Unlike in `glob::glob`, `**` does not follow symbolic links to directories, because they may form a loop.
fn collect_matches(
    directory: &Path,
    pattern: &[&str],
    found: &mut Vec<PathBuf>,
) -> Result<(), IncludeError> {
    match *pattern {
        [] if directory.is_file() => found.push(directory.to_owned()),
        [] => {}
        ["**", ref rest @ ..] => {
            collect_matches(directory, rest, found)?;
            for (name, path) in read_entries(directory)? {
                if path.is_dir() && !path.is_symlink() && !name.starts_with('.') {
                    collect_matches(&path, pattern, found)?;
                }
            }
        }
        [component, ref rest @ ..] if is_wildcard(component) => {
            let options = MatchOptions {
                require_literal_leading_dot: true,
                ..MatchOptions::new()
            };
            let component = Pattern::new(component).context(SyntaxSnafu)?;
            for (name, path) in read_entries(directory)? {
                if component.matches_with(&name, options) {
                    collect_matches(&path, rest, found)?;
                }
            }
        }
        [component, ref rest @ ..] => collect_matches(&directory.join(component), rest, found)?,
    }
    Ok(())
}

fn is_wildcard(component: &str) -> bool {
    component.contains(['*', '?', '['])
}

/// Returns the name and path of each entry of a directory, or an empty list if the path is not a directory.
fn read_entries(directory: &Path) -> Result<Vec<(String, PathBuf)>, IncludeError> {
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

    /// Creates a workspace with a package in the directory `[odd]`, whose name contains pattern characters.
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
    fn link_target_outside_of_bounds_is_rejected() {
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
            let rejection = names(home.path(), pattern).expect_err(pattern);
            assert!(rejection.ends_with(outside), "{pattern}: {rejection}");
        }
    }
}
