//! The facts that are published: what a package is, how it was built, which files came of it.
//!
//! Owns the plain values that a caller fills in, and what of them becomes an annotation of the manifest. Finds nothing
//! out by itself: whoever asked cargo, git and the CI system hands the answers in.

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
    #[snafu(display("failed to read the date `{}`", text.escape_debug()))]
    ParseCreated { text: String, source: jiff::Error },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        vec!["write the date as in RFC 3339: `2026-03-14T15:09:26Z`".into()]
    }
}

/// A package, as its `Cargo.toml` describes it.
#[derive(Clone, Debug)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: Version,
    /// What it is, in a sentence.
    pub description: Option<String>,
    /// The license as cargo has it: an SPDX expression, or the older `MIT/Apache-2.0`. Left out where it is neither.
    pub license: Option<String>,
    /// Where a person reads more.
    pub homepage: Option<String>,
    /// Where the source code is; what the CI system calls it where the package does not say.
    pub repository: Option<String>,
    /// Where the documentation is.
    pub documentation: Option<String>,
    /// Who wrote it.
    pub authors: Vec<String>,
}

impl Package {
    /// A package of which nothing more is known.
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

    /// The package URL, `pkg:cargo/widgets@1.2.3`.
    pub(crate) fn purl(&self) -> String {
        // Of the characters of a version only `+` has another meaning in a URL.
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

/// The license as an SPDX expression, where it is one or was one before `OR` was written out.
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

/// The organisation that a repository's URL names first, `acme` of `https://github.com/acme/widgets`.
fn owner(repository: &str) -> Option<&str> {
    let (_, rest) = repository.split_once("://")?;
    let mut segments = rest
        .split(['/', '?', '#'])
        .skip(1)
        .filter(|segment| !segment.is_empty());
    let owner = segments.next()?;
    segments.next().map(|_| owner)
}

/// How the files of a package were made.
#[derive(Clone, Debug)]
pub struct Build {
    /// The target triple.
    pub target: String,
    /// What rustc says about the target; needed only for a target that rustc does not ship with.
    pub cfg: Option<TargetCfg>,
    /// The cargo profile.
    pub profile: String,
    /// The features that were on.
    pub features: BTreeSet<String>,
    /// The version of rustc, where it is known what built the files.
    pub rustc: Option<String>,
    /// The version of cargo.
    pub cargo: Option<String>,
    /// The crate types that were built, in cargo's words.
    pub crate_types: BTreeSet<String>,
    /// The commit it was built from.
    pub revision: Option<Revision>,
    /// When, in the notation of RFC 3339: the commit's time, or what `SOURCE_DATE_EPOCH` says. Never the clock's time,
    /// which would give the same files another digest each time.
    pub created: Option<String>,
}

impl Build {
    /// A build for this target with this profile, of which nothing more is known.
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
            // In UTC, so that the same moment is the same text on every machine.
            let created: Timestamp = text.parse().context(ParseCreatedSnafu { text })?;
            add(annotation::CREATED, &created.to_string());
        }
        Ok(())
    }
}

/// A state of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The commit's full name.
    pub commit: String,
    /// Whether there were changes that the commit does not hold; `None` if unknown.
    pub dirty: Option<bool>,
}

/// A file to publish.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// The name that cargo gave it, with its directory: `widgets`, `libshapes.so`, `examples/demo`.
    pub name: FileName,
    /// What it is.
    pub kind: FileKind,
    /// Where it is on this machine. Never published.
    pub path: PathBuf,
    /// Its media type, where it is not the kind's own or the ordinary one for its name.
    pub media_type: Option<MediaType>,
    /// Whether it is an executable file. Counts for [`FileKind::File`] only: of other files the kind decides.
    pub executable: bool,
    /// How far it has come where it is sent while it is packed ([`PackOptions::send_ahead`](crate::PackOptions)).
    pub meter: Meter,
}

impl InputFile {
    /// A file with the media type that its kind and name suggest, and the mode of its kind.
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
    /// Whether it is published with the mode 0755. A program is executable even if its mode was lost on the way here.
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
    fn a_license_is_an_spdx_expression_or_left_out() {
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
    fn what_a_package_says_of_itself_is_annotated_and_nothing_empty() {
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
    fn an_owner_stands_before_a_repository() {
        assert_eq!(owner("https://gitlab.com/group/sub/x"), Some("group"));
        assert_eq!(owner("https://example.com/x"), None);
        assert_eq!(owner("https://example.com"), None);
        assert_eq!(owner("acme/widgets"), None);
    }

    #[test]
    fn a_moment_is_one_text_wherever_it_was_written() {
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
