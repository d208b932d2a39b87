//! Names of files and repositories.
//!
//! [`NameTemplate`] renders the title of a file from the name that cargo gave it. [`FileName`] accepts only names that
//! are safe on all operating systems.

use std::fmt;
use std::str::FromStr;

use leon::Template;
use oci_registry::{ErrorKind, Failure, FileName, Hint, RepositoryName};
use snafu::{ResultExt, Snafu};
use unicode_ident::{is_xid_continue, is_xid_start};

use crate::kind::FileKind;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to parse the name template `{}`", text.escape_debug()))]
    ParseTemplate {
        text: String,
        source: leon::ParseError,
    },
    #[snafu(display(
        "failed to parse the name template `{}`: unknown variable `{{{}}}`",
        text.escape_debug(), variable.escape_debug()
    ))]
    UnknownVariable { text: String, variable: String },
    #[snafu(display("invalid title `{}` of `{file}`", title.escape_debug()))]
    UnsafeTitle {
        file: FileName,
        title: String,
        source: oci_registry::Error,
    },
    #[snafu(display("invalid title `{title}` of `{file}`: a title must not contain a directory"))]
    TitleWithDirectory { file: FileName, title: FileName },
    #[snafu(display("failed to add the suffix `{suffix}` to `{file}`"))]
    AddSuffix {
        file: FileName,
        suffix: String,
        source: oci_registry::Error,
    },
    #[snafu(display("failed to derive a repository name from the package `{package}`"))]
    NameRepository {
        package: String,
        source: oci_registry::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::UnknownVariable { .. } => {
                let known = Variable::ALL.map(|variable| format!("`{{{}}}`", variable.as_str()));
                vec![format!("use only these variables: {}", known.join(", ")).into()]
            }
            Self::ParseTemplate { .. } => vec!["write a literal brace as `\\{`".into()],
            Self::NameRepository { .. } => vec![Hint::SetRepository],
            Self::UnsafeTitle { .. } | Self::TitleWithDirectory { .. } => {
                vec![Hint::SetNameTemplate { example: None }]
            }
            Self::AddSuffix { .. } => Vec::new(),
        }
    }
}

/// Variable of a name template.
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

/// Template for the titles of files; `{bin}-{version}-{target}{ext}` by default.
///
/// The variables are `{name} {version} {target} {profile} {bin} {kind} {ext}`. `{bin}` is cargo's file name without
/// `{ext}` (`widgets`, `libshapes`). `{ext}` includes the dot (`.exe`, `.so`, `.so.dwp`). Files of the kinds
/// [`FileKind::File`] and [`FileKind::Crate`] keep their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTemplate(Box<str>);

impl NameTemplate {
    /// Returns the text of the template.
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
    /// [`ErrorKind::InvalidInput`] if braces do not match or a variable is unknown.
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

/// Values of the template variables that are the same for all files of an artifact.
#[derive(Debug)]
pub(crate) struct TitleContext<'a> {
    pub(crate) template: &'a NameTemplate,
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) target: &'a str,
    pub(crate) profile: &'a str,
    /// File name suffix of programs for the target, such as `.exe`. May be empty.
    pub(crate) exe_suffix: &'a str,
}

impl TitleContext<'_> {
    /// Returns the name of a file. If a program has no extension, the suffix of the target is appended, so the program
    /// has the same name whether cargo reports it or the user adds it.
    pub(crate) fn file_name(&self, file: &FileName, kind: FileKind) -> crate::Result<FileName> {
        let suffix = self.exe_suffix;
        let is_bare = split_extension(last_component(file)).1.is_empty();
        if !matches!(kind, FileKind::Bin | FileKind::Example) || !is_bare || suffix.is_empty() {
            return Ok(file.clone());
        }
        let named = format!("{file}{suffix}").parse();
        Ok(named.with_context(|_| AddSuffixSnafu {
            file: file.clone(),
            suffix,
        })?)
    }

    /// Returns the title of a file.
    pub(crate) fn title(&self, file: &FileName, kind: FileKind) -> crate::Result<FileName> {
        let name = last_component(file);
        let title = if matches!(kind, FileKind::File | FileKind::Crate) {
            name.to_owned()
        } else {
            self.render(name, kind)
        };
        let parsed: FileName = title.parse().with_context(|_| UnsafeTitleSnafu {
            file: file.clone(),
            title,
        })?;
        if parsed.as_str().contains('/') {
            let (file, title) = (file.clone(), parsed);
            return Err(TitleWithDirectorySnafu { file, title }.build().into());
        }
        Ok(parsed)
    }

    fn render(&self, name: &str, kind: FileKind) -> String {
        let (bin, ext) = split_extension(name);
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
        let title = title.expect("name template was validated");
        title.expect("all variables have values")
    }
}

/// Returns the last component of a file name.
fn last_component(file: &FileName) -> &str {
    file.as_str().rsplit('/').next().unwrap_or_default()
}

/// Extensions that linkers and cargo use. Text after other dots belongs to the stem: `tool-1.5` has no extension.
const EXTENSIONS: [&str; 18] = [
    "exe", "dll", "so", "dylib", "lib", "a", "rlib", "rmeta", "wasm", "js", "efi", "pdb", "dwp",
    "dSYM", "debug", "exp", "tar", "elf",
];

/// Splits a file name into its stem and all its extensions: `libshapes` and `.so.dwp`.
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

/// Returns the repository name for a package: the package name in lower case.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if the result is not a valid repository name, for example for the packages `_tool` and
/// `a-_b`. The hint names the setting to use instead.
pub fn repository_name(package: &str) -> crate::Result<RepositoryName> {
    let name = package.to_ascii_lowercase().parse();
    Ok(name.with_context(|_| NameRepositorySnafu { package })?)
}

/// Whether cargo accepts a package name. A name consists of Unicode letters, digits, `-` and `_`, and begins with a
/// letter or `_`.
pub fn is_package_name(name: &str) -> bool {
    let is_first = |character| character == '_' || is_xid_start(character);
    name.starts_with(is_first)
        && name
            .chars()
            .all(|character| character == '-' || is_xid_continue(character))
}

/// Returns the first two items with the same key.
pub(crate) fn find_duplicate<T>(items: &[T], key: impl Fn(&T) -> String) -> Option<(&T, &T)> {
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

    fn naming<'a>(template: &'a NameTemplate, exe_suffix: &'a str) -> TitleContext<'a> {
        TitleContext {
            template,
            name: "widgets",
            version: "1.2.3+b",
            target: "x86_64-unknown-linux-musl",
            profile: "release",
            exe_suffix,
        }
    }

    fn render_title(template: &str, file: &str, kind: FileKind) -> String {
        let template = template.parse().unwrap();
        let naming = naming(&template, "");
        naming
            .title(&file.parse().unwrap(), kind)
            .unwrap()
            .to_string()
    }

    #[test]
    fn default_template_renders_release_asset_names() {
        let default = NameTemplate::default();
        for (file, kind, expected) in [
            (
                "widgets",
                FileKind::Bin,
                "widgets-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            (
                "widgets.exe",
                FileKind::Bin,
                "widgets-1.2.3+b-x86_64-unknown-linux-musl.exe",
            ),
            (
                "libshapes.so.dwp",
                FileKind::Debuginfo,
                "libshapes-1.2.3+b-x86_64-unknown-linux-musl.so.dwp",
            ),
            (
                "examples/demo",
                FileKind::Example,
                "demo-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            (
                "tool-1.5",
                FileKind::Bin,
                "tool-1.5-1.2.3+b-x86_64-unknown-linux-musl",
            ),
            ("docs/README.md", FileKind::File, "README.md"),
            (
                "widgets-1.2.3+b.crate",
                FileKind::Crate,
                "widgets-1.2.3+b.crate",
            ),
            (
                ".exe",
                FileKind::Bin,
                ".exe-1.2.3+b-x86_64-unknown-linux-musl",
            ),
        ] {
            assert_eq!(render_title(default.as_str(), file, kind), expected);
        }
    }

    #[test]
    fn template_renders_every_variable() {
        let template = "{name}.{version}.{target}.{profile}.{bin}.{kind}{ext}\\{\\}";
        assert_eq!(
            render_title(template, "libshapes.so", FileKind::Cdylib),
            "widgets.1.2.3+b.x86_64-unknown-linux-musl.release.libshapes.cdylib.so{}"
        );
    }

    #[test]
    fn program_without_extension_gets_target_suffix() {
        let template = NameTemplate::default();
        let naming = naming(&template, ".exe");
        for (name, kind, expected) in [
            ("widgets", FileKind::Bin, "widgets.exe"),
            ("widgets.exe", FileKind::Bin, "widgets.exe"),
            ("README", FileKind::File, "README"),
        ] {
            let file = naming.file_name(&name.parse().unwrap(), kind).unwrap();
            assert_eq!(file.as_str(), expected);
        }
    }

    #[test]
    fn invalid_template_is_rejected_with_known_variables() {
        let error = "{bin}-{arch}".parse::<NameTemplate>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to parse the name template `{bin}-{arch}`: unknown variable `{arch}`"
        );
        assert!(format!("{:?}", error.hints()).contains("`{profile}`"));
        for text in ["{bin", "bin}", "{}", "\\x"] {
            let error = text.parse::<NameTemplate>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
        let template: NameTemplate = "{kind}/{bin}".parse().unwrap();
        let title = naming(&template, "").title(&"widgets".parse().unwrap(), FileKind::Bin);
        assert_eq!(
            title.unwrap_err().to_string(),
            "invalid title `bin/widgets` of `widgets`: a title must not contain a directory"
        );
        let template: NameTemplate = "../{bin}".parse().unwrap();
        let title = naming(&template, "").title(&"widgets".parse().unwrap(), FileKind::Bin);
        assert_eq!(title.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn repository_name_is_package_name_in_lower_case() {
        assert_eq!(repository_name("Inflector").unwrap().as_str(), "inflector");
        assert_eq!(repository_name("a_b-c").unwrap().as_str(), "a_b-c");
        for name in ["_a", "a_", "a-_b", "a___b"] {
            let error = repository_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.hints(), [Hint::SetRepository]);
        }
    }

    #[test]
    fn package_name_check_matches_cargo() {
        for name in ["widgets", "a", "_a", "a-b_c1", "größe", "CamelCase"] {
            assert!(is_package_name(name), "{name}");
        }
        for name in [
            "",
            "a b",
            "1a",
            "-a",
            "ripgrep 14.0.0 (registry+https://a.b)",
            "a\n",
            "a/b",
            "a.b",
            "a\u{202e}",
        ] {
            assert!(!is_package_name(name), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn rendered_title_is_one_file_name(text in "\\PC*|[a-c./\\\\:{} ]{0,12}|(\\{(bin|ext|kind)\\}|[a-c./]){0,5}") {
            if let Ok(template) = text.parse::<NameTemplate>() {
                let naming = naming(&template, "");
                if let Ok(title) = naming.title(&"examples/demo.so".parse().unwrap(), FileKind::Example) {
                    let mut parts = std::path::Path::new(title.as_str()).components();
                    prop_assert!(matches!(parts.next(), Some(std::path::Component::Normal(_))));
                    prop_assert!(parts.next().is_none());
                }
            }
        }
    }
}
