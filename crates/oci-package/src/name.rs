//! Names: of the files of a package, as people see them and as cargo has them, and of its repository.
//!
//! Owns [`FileName`] and [`FilePath`], the names that are safe to write on any machine; [`NameTemplate`], which makes the
//! one from the other; and the repository's name. Writes no files.

use std::fmt;
use std::str::FromStr;

use leon::Template;
use oci_registry::{ErrorKind, RepositoryName};
use snafu::{ResultExt, Snafu};

use crate::error::Failure;
use crate::kind::Kind;

/// Longest file name, in bytes, that all common file systems take.
const MAX_FILE_NAME: usize = 255;

/// Longest path of a file within a package, in bytes.
const MAX_FILE_PATH: usize = 1024;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to use `{}` as a file name: {problem}", text.escape_debug()))]
    ParseFileName { text: String, problem: &'static str },
    #[snafu(display("failed to parse the name template `{}`", text.escape_debug()))]
    ParseTemplate {
        text: String,
        source: leon::ParseError,
    },
    #[snafu(display(
        "failed to parse the name template `{}`: there is no variable `{{{}}}`",
        text.escape_debug(), variable.escape_debug()
    ))]
    UnknownVariable { text: String, variable: String },
    #[snafu(display("failed to name a repository after the package `{package}`"))]
    NameRepository {
        package: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::UnknownVariable { .. } => {
                let known = Variable::ALL.map(|variable| format!("`{{{}}}`", variable.as_str()));
                vec![format!("the variables are {}", known.join(", "))]
            }
            Self::ParseTemplate { .. } => {
                vec!["write a brace that is meant as such as `\\{`".into()]
            }
            Self::NameRepository { .. } => {
                vec![
                    "set `repository` in `[package.metadata.oci]`, or name the whole reference"
                        .into(),
                ]
            }
            Self::ParseFileName { .. } => Vec::new(),
        }
    }

    fn registry_error(&self) -> Option<&oci_registry::Error> {
        match self {
            Self::NameRepository { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The name of a file, without a directory, that is safe to create on any machine.
///
/// No separators, no `.` and `..`, no control or direction characters, nothing that Windows reserves, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Box<str>);

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = crate::Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], saying what is wrong with the name.
    fn from_str(text: &str) -> crate::Result<Self> {
        match check_file_name(text) {
            None => Ok(Self(text.into())),
            Some(problem) => Err(unsafe_name(text, problem).into()),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The path of a file within a package, with `/` between safe [`FileName`]s: `widgets`, `examples/demo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Box<str>);

impl FilePath {
    /// The path as text, with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts of the path, the file's own name last.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The file's own name, without its directory.
    pub fn file_name(&self) -> FileName {
        FileName(self.parts().next_back().unwrap_or_default().into())
    }

    /// Under which one key paths go that one directory of some machine cannot hold at once: file systems that ignore
    /// letter case take `Demo` and `demo` for one file.
    pub(crate) fn fold(&self) -> String {
        self.0.to_lowercase()
    }

    /// The same path, `suffix` added to the file's name.
    fn with_suffix(&self, suffix: &str) -> crate::Result<Self> {
        format!("{}{suffix}", self.0).parse()
    }
}

impl FromStr for FilePath {
    type Err = crate::Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when a part of the path is no [`FileName`].
    fn from_str(text: &str) -> crate::Result<Self> {
        let problem = if text.len() > MAX_FILE_PATH {
            Some("it is longer than 1024 bytes")
        } else {
            text.split('/').find_map(check_file_name)
        };
        match problem {
            None => Ok(Self(text.into())),
            Some(problem) => Err(unsafe_name(text, problem).into()),
        }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A name comes from strangers and can be megabytes; what is shown of it is bounded.
fn unsafe_name(text: &str, problem: &'static str) -> Error {
    let text = text.chars().take(MAX_FILE_NAME + 1).collect();
    Error::ParseFileName { text, problem }
}

fn check_file_name(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty, or has an empty part");
    }
    if text == "." || text == ".." {
        return Some("`.` and `..` are directories");
    }
    if text.len() > MAX_FILE_NAME {
        return Some("it is longer than 255 bytes");
    }
    if text.contains(['/', '\\']) {
        return Some("it contains a separator of directories");
    }
    if text.contains(|c: char| c.is_control() || is_direction(c)) {
        return Some("it contains characters that cannot be seen");
    }
    if text.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return Some("it contains one of `<>:\"|?*`, which Windows reserves");
    }
    if text.ends_with([' ', '.']) {
        return Some("it ends with a space or a dot, which Windows drops");
    }
    is_device(text).then_some("Windows reserves it for a device")
}

/// Characters that turn the direction of what follows, so that a name reads as another.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Windows opens the device whatever follows the first dot, `CON.txt` too.
fn is_device(text: &str) -> bool {
    let stem = text.split('.').next().unwrap_or(text).trim_end();
    let stem = stem.to_ascii_uppercase();
    if matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
    ) {
        return true;
    }
    let number = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    matches!(
        number,
        Some("0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
    )
}

/// A variable of a name template.
#[derive(Clone, Copy)]
enum Variable {
    Name,
    Version,
    Target,
    Profile,
    Bin,
    Kind,
    Ext,
}

impl Variable {
    const ALL: [Self; 7] = [
        Self::Name,
        Self::Version,
        Self::Target,
        Self::Profile,
        Self::Bin,
        Self::Kind,
        Self::Ext,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Version => "version",
            Self::Target => "target",
            Self::Profile => "profile",
            Self::Bin => "bin",
            Self::Kind => "kind",
            Self::Ext => "ext",
        }
    }
}

/// How the titles of files are made: `{bin}-{version}-{target}{ext}`, unless something else is asked for.
///
/// The variables are `{name} {version} {target} {profile} {bin} {kind} {ext}`. `{bin}` is cargo's file name without
/// `{ext}` (`widgets`, `libshapes`), `{ext}` has its dot (`.exe`, `.so`, `.so.dwp`). Files of the kinds
/// [`Kind::File`] and [`Kind::Crate`] keep their own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Box<str>);

impl NameTemplate {
    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for NameTemplate {
    fn default() -> Self {
        Self("{bin}-{version}-{target}{ext}".into())
    }
}

impl FromStr for NameTemplate {
    type Err = crate::Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when braces do not match or a variable is unknown.
    fn from_str(text: &str) -> crate::Result<Self> {
        let template = Template::parse(text).with_context(|_| ParseTemplateSnafu { text })?;
        let unknown = template.keys().find(|key| {
            !Variable::ALL
                .iter()
                .any(|variable| variable.as_str() == **key)
        });
        if let Some(variable) = unknown {
            return Err(UnknownVariableSnafu {
                text,
                variable: *variable,
            }
            .build()
            .into());
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is the same in the titles of all files of one artifact.
#[derive(Debug)]
pub(crate) struct Naming<'a> {
    pub(crate) template: &'a NameTemplate,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) target: &'a str,
    pub(crate) profile: &'a str,
    /// What programs end with on the target, `.exe` or nothing.
    pub(crate) exe_suffix: &'a str,
}

impl Naming<'_> {
    /// The name that cargo has for a file: a program that was named by hand gets the target's suffix, so that the same
    /// program has the same name however it came here.
    pub(crate) fn file(&self, name: &FilePath, kind: Kind) -> crate::Result<FilePath> {
        let is_bare = split_extension(name.file_name().as_str()).1.is_empty();
        if matches!(kind, Kind::Bin | Kind::Example) && is_bare && !self.exe_suffix.is_empty() {
            name.with_suffix(self.exe_suffix)
        } else {
            Ok(name.clone())
        }
    }

    /// The title of a file.
    pub(crate) fn title(&self, file: &FilePath, kind: Kind) -> crate::Result<FileName> {
        let name = file.file_name();
        if matches!(kind, Kind::File | Kind::Crate) {
            return Ok(name);
        }
        let (bin, ext) = split_extension(name.as_str());
        let values = Variable::ALL.map(|variable| {
            let value = match variable {
                Variable::Name => self.name,
                Variable::Version => self.version,
                Variable::Target => self.target,
                Variable::Profile => self.profile,
                Variable::Bin => bin,
                Variable::Kind => kind.as_str(),
                Variable::Ext => ext,
            };
            (variable.as_str(), value)
        });
        let template = Template::parse(self.template.as_str());
        let title = template.map(|template| template.render(&values));
        let title = title.expect("a name template was parsed before");
        let title = title.expect("every variable of a name template has a value");
        title.parse()
    }
}

/// What linkers and cargo put behind a name. Not every dot begins an extension: `tool-1.5` is a whole name.
const EXTENSIONS: [&str; 18] = [
    "exe", "dll", "so", "dylib", "lib", "a", "rlib", "rmeta", "wasm", "js", "efi", "pdb", "dwp",
    "dSYM", "debug", "exp", "tar", "elf",
];

/// A file name as its stem and all of its extensions, `libshapes` and `.so.dwp`.
fn split_extension(name: &str) -> (&str, &str) {
    let mut stem = name;
    while let Some((rest, extension)) = stem.rsplit_once('.') {
        if rest.is_empty() || !EXTENSIONS.contains(&extension) {
            break;
        }
        stem = rest;
    }
    name.split_at(stem.len())
}

/// The repository named after a package: the package's name in lower case.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] when the name does not fit a repository's grammar, such as `_tool` or `a-_b`; the advice
/// names the key to set.
pub fn repository_name(package: &str) -> crate::Result<RepositoryName> {
    let name = package.to_ascii_lowercase().parse();
    Ok(name.with_context(|_| NameRepositorySnafu { package })?)
}

/// Refuses names that are equal where file systems ignore letter case; says which two.
pub(crate) fn first_clash<T>(items: &[T], key: impl Fn(&T) -> String) -> Option<(&T, &T)> {
    let mut seen = std::collections::BTreeMap::new();
    items.iter().find_map(|item| {
        let before = seen.insert(key(item), item)?;
        Some((before, item))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naming<'a>(template: &'a NameTemplate, exe_suffix: &'a str) -> Naming<'a> {
        Naming {
            template,
            name: "widgets",
            version: "1.2.3+b",
            target: "x86_64-unknown-linux-musl",
            profile: "release",
            exe_suffix,
        }
    }

    fn title(template: &str, file: &str, kind: Kind) -> String {
        let template = template.parse().unwrap();
        let naming = naming(&template, "");
        naming
            .title(&file.parse().unwrap(), kind)
            .unwrap()
            .to_string()
    }

    #[test]
    fn titles_are_made_as_people_name_release_assets() {
        let default = NameTemplate::default();
        for (file, kind, expected) in [
            (
                "widgets",
                Kind::Bin,
                "widgets-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            (
                "widgets.exe",
                Kind::Bin,
                "widgets-1.2.3+b-x86_64-unknown-linux-musl.exe",
            ),
            (
                "libshapes.so.dwp",
                Kind::Debuginfo,
                "libshapes-1.2.3+b-x86_64-unknown-linux-musl.so.dwp",
            ),
            (
                "examples/demo",
                Kind::Example,
                "demo-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            (
                "tool-1.5",
                Kind::Bin,
                "tool-1.5-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            ("docs/README.md", Kind::File, "README.md"),
            (
                "widgets-1.2.3+b.crate",
                Kind::Crate,
                "widgets-1.2.3+b.crate",
            ),
            (".exe", Kind::Bin, ".exe-1.2.3+b-x86_64-unknown-linux-musl"),
        ] {
            assert_eq!(title(default.as_str(), file, kind), expected);
        }
    }

    #[test]
    fn every_variable_has_its_value() {
        let template = "{name}.{version}.{target}.{profile}.{bin}.{kind}{ext}\\{\\}";
        assert_eq!(
            title(template, "libshapes.so", Kind::Cdylib),
            "widgets.1.2.3+b.x86_64-unknown-linux-musl.release.libshapes.cdylib.so{}"
        );
    }

    #[test]
    fn programs_named_by_hand_get_the_targets_suffix() {
        let template = NameTemplate::default();
        let naming = naming(&template, ".exe");
        for (name, kind, expected) in [
            ("widgets", Kind::Bin, "widgets.exe"),
            ("widgets.exe", Kind::Bin, "widgets.exe"),
            ("README", Kind::File, "README"),
        ] {
            let file = naming.file(&name.parse().unwrap(), kind).unwrap();
            assert_eq!(file.as_str(), expected);
        }
    }

    #[test]
    fn templates_that_cannot_be_rendered_are_refused_with_the_variables() {
        let error = "{bin}-{arch}".parse::<NameTemplate>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to parse the name template `{bin}-{arch}`: there is no variable `{arch}`"
        );
        assert!(error.help()[0].contains("`{profile}`"));
        for text in ["{bin", "bin}", "{}", "\\x"] {
            let error = text.parse::<NameTemplate>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
        let template: NameTemplate = "{kind}/{bin}".parse().unwrap();
        let title = naming(&template, "").title(&"widgets".parse().unwrap(), Kind::Bin);
        assert!(title.unwrap_err().to_string().contains("separator"));
    }

    #[test]
    fn names_that_some_machine_cannot_write_are_refused() {
        let long = "a".repeat(256);
        for text in [
            "",
            ".",
            "..",
            "/",
            "a/",
            "/a",
            "a//b",
            "../x",
            "a/../b",
            "a\\b",
            "C:\\x",
            "C:",
            "CON",
            "con.txt",
            "Nul .a",
            "COM1",
            "lpt9.x",
            "COM¹",
            "a\0",
            "a\n",
            "a\u{202e}b",
            "a?",
            "a.",
            "a ",
            &long,
        ] {
            assert!(
                text.parse::<FileName>().is_err(),
                "{text:?} was accepted as a name"
            );
            assert!(
                text.parse::<FilePath>().is_err(),
                "{text:?} was accepted as a path"
            );
        }
        for text in [
            "a",
            "a b",
            ".profile",
            "CONSOLE",
            "COM10",
            "widgets-1.2.3+b",
            "é",
            "-a",
        ] {
            assert_eq!(text.parse::<FileName>().unwrap().as_str(), text);
        }
        assert!("a/b".parse::<FileName>().is_err());
        assert_eq!("a/b".parse::<FilePath>().unwrap().file_name().as_str(), "b");
        assert!(
            "a/".repeat(600)
                .trim_end_matches('/')
                .parse::<FilePath>()
                .is_err()
        );
    }

    #[test]
    fn repositories_are_named_after_packages_in_lower_case() {
        assert_eq!(repository_name("Inflector").unwrap().as_str(), "inflector");
        assert_eq!(repository_name("a_b-c").unwrap().as_str(), "a_b-c");
        for name in ["_a", "a_", "a-_b", "a___b"] {
            let error = repository_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.help()[0].contains("`repository` in `[package.metadata.oci]`"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_stays_below_its_directory(text in "\\PC*|[a-c./\\\\: ]{0,12}") {
            let _ = text.parse::<NameTemplate>();
            if let Ok(path) = text.parse::<FilePath>() {
                let path = std::path::Path::new(path.as_str());
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }
    }
}
