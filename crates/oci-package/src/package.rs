//! Metadata of packages, builds and files.
//!
//! Callers collect the metadata from cargo, git and the CI system. This module converts it to annotations of the
//! manifest.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use oci_registry::{Annotations, ErrorKind, Failure, FileName, Hint, MediaType, Meter};
use semver::Version;
use snafu::{ResultExt, Snafu};
use spdx::{Expression, ParseMode};

use crate::annotation;
use crate::kind::FileKind;
use crate::platform::TargetCfg;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to parse the date `{}`", text.escape_debug()))]
    ParseCreated { text: String, source: jiff::Error },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["use the RFC 3339 format, for example `2026-03-14T15:09:26Z`".into()]
    }
}

/// Package, as described in its `Cargo.toml`.
#[derive(Clone, Debug)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Version of the package.
    pub version: Version,
    /// Description, in one sentence.
    pub description: Option<String>,
    /// License as in `Cargo.toml`: an SPDX expression or the older form `MIT/Apache-2.0`. Any other value is not
    /// published.
    pub license: Option<String>,
    /// URL of the home page.
    pub homepage: Option<String>,
    /// URL of the source code. Callers use the value of the CI system if the package has none.
    pub repository: Option<String>,
    /// URL of the documentation.
    pub documentation: Option<String>,
    /// Authors, in the format of `Cargo.toml`: usually `Name <address>`.
    pub authors: Vec<String>,
}

impl Package {
    /// Creates a package with a name and a version only.
    pub fn new(name: impl Into<String>, version: Version) -> Self {
        Self {
            name: name.into(),
            version,
            description: None,
            license: None,
            homepage: None,
            repository: None,
            documentation: None,
            authors: Vec::new(),
        }
    }

    /// Returns the package URL, `pkg:cargo/widgets@1.2.3`.
    pub(crate) fn purl(&self) -> String {
        // `+` is the only character of a version that must be escaped in a URL.
        let version = self.version.to_string().replace('+', "%2B");
        format!("pkg:cargo/{}@{version}", self.name)
    }

    pub(crate) fn annotate(&self, annotations: &mut Annotations) {
        let mut add = |key: &str, value: Option<&str>| {
            if let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) {
                annotations.insert(key.to_owned(), value.to_owned());
            }
        };
        let licenses = self.license.as_deref().and_then(licenses);
        let repository = self.repository.as_deref();
        add(annotation::TITLE, Some(&self.name));
        add(annotation::VERSION, Some(&self.version.to_string()));
        add(annotation::DESCRIPTION, self.description.as_deref());
        add(annotation::LICENSES, licenses.as_deref());
        add(annotation::URL, self.homepage.as_deref().or(repository));
        add(annotation::DOCUMENTATION, self.documentation.as_deref());
        add(annotation::SOURCE, repository);
        add(annotation::AUTHORS, Some(&self.authors.join(", ")));
        add(annotation::VENDOR, repository.and_then(owner));
    }
}

/// Converts a license to an SPDX expression. Supports the older separator `/`. Returns `None` for other text.
fn licenses(text: &str) -> Option<String> {
    const MODE: ParseMode = ParseMode {
        allow_deprecated: true,
        ..ParseMode::STRICT
    };
    let text = text
        .split('/')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" OR ");
    Expression::parse_mode(&text, MODE).ok()?;
    Some(text)
}

/// Returns the first path segment of a repository URL if more segments follow: `acme` for
/// `https://github.com/acme/widgets`.
fn owner(repository: &str) -> Option<&str> {
    let (_, rest) = repository.split_once("://")?;
    let mut segments = rest
        .split(['/', '?', '#'])
        .skip(1)
        .filter(|segment| !segment.is_empty());
    let owner = segments.next()?;
    segments.next().map(|_| owner)
}

/// Build of a package for one target.
#[derive(Clone, Debug)]
pub struct Build {
    /// Target triple.
    pub target: String,
    /// Configuration of the target. Required only for targets that rustc does not include.
    pub cfg: Option<TargetCfg>,
    /// Cargo profile.
    pub profile: String,
    /// Enabled features.
    pub features: BTreeSet<String>,
    /// Version of rustc, if known.
    pub rustc: Option<String>,
    /// Version of cargo, if known.
    pub cargo: Option<String>,
    /// Crate types that were built, with cargo's names.
    pub crate_types: BTreeSet<String>,
    /// Commit that the files were built from.
    pub revision: Option<Revision>,
    /// Creation time in RFC 3339 format: the time of the commit, or `SOURCE_DATE_EPOCH`. The current time must not be
    /// used, because equal files would have a different digest after each build.
    pub created: Option<String>,
}

impl Build {
    /// Creates a build with a target and a profile only.
    pub fn new(target: impl Into<String>, profile: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            cfg: None,
            profile: profile.into(),
            features: BTreeSet::new(),
            rustc: None,
            cargo: None,
            crate_types: BTreeSet::new(),
            revision: None,
            created: None,
        }
    }

    pub(crate) fn annotate(&self, annotations: &mut Annotations) -> crate::Result<()> {
        let mut add = |key: &str, value: &str| annotations.insert(key.to_owned(), value.to_owned());
        add(annotation::TARGET, &self.target);
        add(annotation::PROFILE, &self.profile);
        if let Some(revision) = &self.revision {
            add(annotation::REVISION, &revision.commit);
            if let Some(dirty) = revision.dirty {
                add(annotation::DIRTY, if dirty { "true" } else { "false" });
            }
        }
        if let Some(text) = &self.created {
            // The time is normalized to UTC, so the same time is written identically on every machine.
            let created: Timestamp = text.parse().context(ParseCreatedSnafu { text })?;
            add(annotation::CREATED, &created.to_string());
        }
        Ok(())
    }
}

/// Version control revision of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Full hash of the commit.
    pub commit: String,
    /// Whether there were uncommitted changes; `None` if unknown.
    pub dirty: Option<bool>,
}

/// File to publish.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// File name that cargo gave the file, with its directory: `widgets`, `libshapes.so`, `examples/demo`.
    pub name: FileName,
    /// Kind of the file.
    pub kind: FileKind,
    /// Local path. It is not published.
    pub path: PathBuf,
    /// Media type, if it differs from the default for the kind or the name.
    pub media_type: Option<MediaType>,
    /// Whether the file is executable. Used only for [`FileKind::File`]; every other kind determines the mode itself.
    pub executable: bool,
    /// Progress of the upload, if the file is uploaded while it is packed
    /// ([`PackOptions::upload_to`](crate::PackOptions)).
    pub meter: Meter,
}

impl InputFile {
    /// Creates a file with the default media type and mode of its kind.
    pub fn new(name: FileName, kind: FileKind, path: impl Into<PathBuf>) -> Self {
        Self {
            name,
            kind,
            path: path.into(),
            media_type: None,
            executable: false,
            meter: Meter::default(),
        }
    }
}

impl InputFile {
    /// Whether the file is published with the mode 0755. Programs always have this mode, because CI systems may not
    /// preserve the mode on disk.
    pub(crate) fn is_executable(&self) -> bool {
        self.kind.is_executable() || self.kind == FileKind::File && self.executable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(package: &Package) -> Annotations {
        let mut annotations = Annotations::new();
        package.annotate(&mut annotations);
        annotations
    }

    #[test]
    fn license_without_spdx_expression_is_left_out() {
        for (license, expected) in [
            ("MIT OR Apache-2.0", Some("MIT OR Apache-2.0")),
            ("MIT/Apache-2.0", Some("MIT OR Apache-2.0")),
            ("MIT / Apache-2.0", Some("MIT OR Apache-2.0")),
            ("GPL-3.0", Some("GPL-3.0")),
            (
                "(MIT OR Zlib) AND Unicode-3.0",
                Some("(MIT OR Zlib) AND Unicode-3.0"),
            ),
            (
                "Apache-2.0 WITH LLVM-exception",
                Some("Apache-2.0 WITH LLVM-exception"),
            ),
            ("LicenseRef-acme", Some("LicenseRef-acme")),
            ("my own", None),
            ("", None),
        ] {
            assert_eq!(licenses(license).as_deref(), expected, "{license}");
        }
    }

    #[test]
    fn package_annotations_leave_out_empty_values() {
        let mut package = Package::new("widgets", "1.2.3-rc.1+b".parse().unwrap());
        assert_eq!(
            annotations(&package).into_iter().collect::<Vec<_>>(),
            [
                (annotation::TITLE.to_owned(), "widgets".to_owned()),
                (annotation::VERSION.to_owned(), "1.2.3-rc.1+b".to_owned()),
            ]
        );
        assert_eq!(package.purl(), "pkg:cargo/widgets@1.2.3-rc.1%2Bb");
        package.repository = Some("https://github.com/acme/widgets".into());
        package.authors = vec!["A <a@b.c>".into(), "B".into()];
        package.description = Some("  ".into());
        let found = annotations(&package);
        assert_eq!(found[annotation::URL], "https://github.com/acme/widgets");
        assert_eq!(found[annotation::SOURCE], "https://github.com/acme/widgets");
        assert_eq!(found[annotation::VENDOR], "acme");
        assert_eq!(found[annotation::AUTHORS], "A <a@b.c>, B");
        assert!(!found.contains_key(annotation::DESCRIPTION));
        package.homepage = Some("https://widgets.example".into());
        assert_eq!(
            annotations(&package)[annotation::URL],
            "https://widgets.example"
        );
    }

    #[test]
    fn owner_is_first_segment_of_repository_path() {
        assert_eq!(owner("https://gitlab.com/group/sub/x"), Some("group"));
        assert_eq!(owner("https://example.com/x"), None);
        assert_eq!(owner("https://example.com"), None);
        assert_eq!(owner("acme/widgets"), None);
    }

    #[test]
    fn creation_time_is_normalized_to_utc() {
        let created = |text: &str| {
            let mut build = Build::new("x", "release");
            build.created = Some(text.into());
            let mut annotations = Annotations::new();
            build
                .annotate(&mut annotations)
                .map(|()| annotations[annotation::CREATED].clone())
        };
        assert_eq!(
            created("2026-03-14T15:09:26Z").unwrap(),
            "2026-03-14T15:09:26Z"
        );
        assert_eq!(
            created("2026-03-14T17:09:26+02:00").unwrap(),
            "2026-03-14T15:09:26Z"
        );
        assert_eq!(
            created("yesterday").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}
