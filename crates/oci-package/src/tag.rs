//! Tags of versions and of their targets.
//!
//! A version `1.2.3+build` has the tag `1.2.3_build`, because `+` is not allowed in tags. The manifest of this version
//! for one target has the tag `1.2.3_build__x86_64-unknown-linux-gnu`. A version never contains `__`, not even with `+`
//! written as `_`, so the first `__` separates version and target. [`ReleaseTag`] creates both tags; [`split`] and
//! [`version`] parse them.
//!
//! A version may also have the tag `v1.2.3_build`. It is a separate tag with its own target tags. [`parse_version`]
//! parses both forms.

use std::fmt;

use oci_registry::{ErrorKind, Failure, Hint, Tag, is_fallback_tag};
use semver::Version;
use snafu::{ResultExt, Snafu, ensure};

/// Suffixes of the tags under which sigstore's clients store signatures, attestations and SBOMs.
const REFERRER_SUFFIXES: [&str; 3] = [".sig", ".att", ".sbom"];

/// Separator between version and target triple.
pub const SEPARATOR: &str = "__";

/// Optional prefix of a version in a tag.
const PREFIX: char = 'v';

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to convert the version `{version}` to a tag"))]
    WriteVersion {
        version: Version,
        source: oci_registry::Error,
    },
    #[snafu(display("invalid tag `{text}`"))]
    ParseTag {
        text: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "invalid tag `{tag}`: `__` is reserved as the separator between version and target"
    ))]
    Separator { tag: Tag },
    #[snafu(display("invalid tag `{tag}`: it is reserved for the referrers of a manifest"))]
    Referrers { tag: Tag },
    #[snafu(display("failed to create the tag of `{tag}` for the target `{target}`"))]
    WriteTarget {
        tag: Tag,
        target: String,
        source: oci_registry::Error,
    },
    #[snafu(display(
        "invalid tag `{tag}`: it is a version, but the version of the package is {version}"
    ))]
    OtherVersion { tag: Tag, version: Version },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Separator { .. } => {
                vec!["choose a tag that does not contain `__` and does not end with `_`".into()]
            }
            Self::Referrers { .. } => {
                vec!["choose a tag that does not have the form of a digest".into()]
            }
            Self::OtherVersion { .. } => {
                vec!["use a moving tag, such as `nightly-2026-11-28`".into()]
            }
            _ => Vec::new(),
        }
    }
}

/// Tag of the index of a version. The target tags are derived from it.
///
/// A tag that parses as a version ([`parse_version`]) is a release and must not change. Any other tag, such as `nightly`
/// or `latest`, may be moved to another index; this crate calls it a moving tag.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReleaseTag(Tag);

impl ReleaseTag {
    /// Creates the tag of a version, with `+` written as `_`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the tag is too long.
    pub fn from_version(version: &Version) -> crate::Result<Self> {
        let text = version.to_string().replacen('+', "_", 1);
        Ok(Self(text.parse().with_context(|_| WriteVersionSnafu {
            version: version.clone(),
        })?))
    }

    /// Creates a release tag from a tag such as `nightly`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the tag contains `__` or ends with `_`, because its target tags would be
    /// ambiguous. Also if it has the form of a referrers tag, such as `sha256-…`, because clients replace the manifest of
    /// such a tag with a list of referrers.
    pub fn new(tag: Tag) -> crate::Result<Self> {
        let text = tag.as_str();
        ensure!(
            !text.contains(SEPARATOR) && !text.ends_with('_'),
            SeparatorSnafu { tag }
        );
        let is_of_referrers = is_referrers_tag(&tag);
        ensure!(!is_of_referrers, ReferrersSnafu { tag });
        Ok(Self(tag))
    }

    /// Parses a release tag.
    ///
    /// # Errors
    ///
    /// As [`ReleaseTag::new`]. Also [`ErrorKind::InvalidInput`] if `text` is not a valid tag.
    pub fn parse(text: &str) -> crate::Result<Self> {
        Self::new(text.parse().with_context(|_| ParseTagSnafu { text })?)
    }

    /// Returns the tag of the index.
    pub fn index(&self) -> &Tag {
        &self.0
    }

    /// Returns the tag of the manifest for a target triple.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the tag is too long, or if the triple contains characters that tags must not
    /// contain.
    pub fn target(&self, triple: &str) -> crate::Result<Tag> {
        let text = format!("{}{SEPARATOR}{triple}", self.0);
        Ok(text.parse().with_context(|_| WriteTargetSnafu {
            tag: self.0.clone(),
            target: triple,
        })?)
    }

    /// Returns the target triple in `tag` if `tag` belongs to a target of this version.
    pub fn parse_target<'a>(&self, tag: &'a Tag) -> Option<&'a str> {
        match split(tag) {
            (version, Some(target)) if version == self.0.as_str() => Some(target),
            _ => None,
        }
    }

    /// Returns the version if the tag is the tag of a version.
    pub fn version(&self) -> Option<Version> {
        version(&self.0)
    }

    /// Whether the tag is the tag of a version, which means that it is a release and must not change.
    pub fn is_released(&self) -> bool {
        self.version().is_some()
    }

    /// Checks that the tag is a moving tag or a tag of this version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the tag is the tag of another version.
    pub fn check_version(&self, version: &Version) -> crate::Result<()> {
        let is_other = self.version().is_some_and(|stated| stated != *version);
        let (tag, version) = (self.0.clone(), version.clone());
        ensure!(!is_other, OtherVersionSnafu { tag, version });
        Ok(())
    }
}

impl fmt::Display for ReleaseTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ReleaseTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits a tag into the version and, if it is a target tag, the target triple.
pub fn split(tag: &Tag) -> (&str, Option<&str>) {
    match tag.as_str().split_once(SEPARATOR) {
        Some((version, target)) => (version, Some(target)),
        None => (tag.as_str(), None),
    }
}

/// Whether a tag belongs to the referrers of a manifest: `sha256-…`, `sha256-….sig`, `sha256-….att` or
/// `sha256-….sbom`.
pub fn is_referrers_tag(tag: &Tag) -> bool {
    let text = tag.as_str();
    let mut suffixes = REFERRER_SUFFIXES.iter();
    let subject = suffixes.find_map(|suffix| text.strip_suffix(suffix));
    let subject: Option<Tag> = subject.and_then(|subject| subject.parse().ok());
    is_fallback_tag(subject.as_ref().unwrap_or(tag))
}

/// Parses a tag as a version. Returns `None` for other tags and for target tags.
pub fn version(tag: &Tag) -> Option<Version> {
    match split(tag) {
        (text, None) => parse_version(text),
        (_, Some(_)) => None,
    }
}

/// Parses the text of a tag, without a target, as a version: `1.2.3`, or `v1.2.3` with a lower-case `v`. Build metadata
/// follows `_` or `+`.
pub fn parse_version(text: &str) -> Option<Version> {
    let text = text.strip_prefix(PREFIX).unwrap_or(text);
    Version::parse(&text.replacen('_', "+", 1)).ok()
}

/// Returns the tags that a version may have, the preferred tag first: `1.2.3` and `v1.2.3`.
///
/// # Errors
///
/// As [`ReleaseTag::from_version`].
pub fn version_tags(version: &Version) -> crate::Result<[ReleaseTag; 2]> {
    let plain = ReleaseTag::from_version(version)?;
    let text = format!("{PREFIX}{plain}");
    let prefixed = text.parse().with_context(|_| WriteVersionSnafu {
        version: version.clone(),
    })?;
    Ok([plain, ReleaseTag(prefixed)])
}

/// Returns the highest version among tags. Target tags are ignored. A pre-release is returned only if there are no
/// releases. If a version has two tags, the tag without `v` is returned.
pub fn highest<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> Option<(&'a Tag, Version)> {
    let rank = |tag: &Tag, version: &Version| {
        let has_prefix = tag.as_str().starts_with(PREFIX);
        (version.pre.is_empty(), version.clone(), !has_prefix)
    };
    tags.into_iter()
        .filter_map(|tag| Some((tag, version(tag)?)))
        .max_by_key(|(tag, version)| rank(tag, version))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn version_is_unchanged_by_conversion_to_tag() {
        for (text, expected) in [
            ("1.2.3", "1.2.3"),
            ("1.2.3-rc.1+build.5", "1.2.3-rc.1_build.5"),
            ("0.0.0+a-b", "0.0.0_a-b"),
        ] {
            let version: Version = text.parse().unwrap();
            let release = ReleaseTag::from_version(&version).unwrap();
            assert_eq!(release.index().as_str(), expected);
            assert_eq!(release.version(), Some(version));
            let target = release.target("x86_64-unknown-linux-gnu").unwrap();
            assert_eq!(
                target.as_str(),
                format!("{expected}__x86_64-unknown-linux-gnu")
            );
            assert_eq!(
                release.parse_target(&target),
                Some("x86_64-unknown-linux-gnu")
            );
            assert_eq!(super::version(&target), None);
        }
    }

    #[test]
    fn only_full_versions_are_releases() {
        for (text, expected) in [
            ("1.2.3", true),
            ("1.2.3_b", true),
            ("1.2", false),
            ("latest", false),
            ("v1.2.3", true),
            ("v1.2.3-rc.1_b", true),
            ("V1.2.3", false),
            ("vv1.2.3", false),
            ("v1.2", false),
            ("nightly_2", false),
            ("1.2.3_a_b", false),
        ] {
            assert_eq!(
                ReleaseTag::parse(text).unwrap().is_released(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn tags_of_version_are_plain_and_prefixed() {
        let version: Version = "1.2.3-rc.1+b".parse().unwrap();
        let tags = version_tags(&version).unwrap();
        assert_eq!(
            tags.each_ref().map(ToString::to_string),
            ["1.2.3-rc.1_b", "v1.2.3-rc.1_b"]
        );
        assert!(
            tags.iter()
                .all(|tag| tag.version().as_ref() == Some(&version))
        );
    }

    #[test]
    fn tag_of_other_version_is_rejected_with_hint() {
        let version: Version = "1.2.3".parse().unwrap();
        let check = |tag: &str| ReleaseTag::parse(tag).unwrap().check_version(&version);
        for tag in ["1.2.3", "v1.2.3", "1.2", "nightly"] {
            assert!(check(tag).is_ok(), "{tag}");
        }
        for tag in ["1.2.4", "v1.2.4", "1.2.3-rc.1", "v1.2.3_b"] {
            let error = check(tag).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(
                error.to_string(),
                format!(
                    "invalid tag `{tag}`: it is a version, but the version of the package is 1.2.3"
                )
            );
            let hint = Hint::from("use a moving tag, such as `nightly-2026-11-28`");
            assert_eq!(error.hints(), [hint]);
        }
    }

    #[test]
    fn ambiguous_release_tag_is_rejected() {
        for text in ["a__b", "a_", "__", "_", "a b", ""] {
            let error = ReleaseTag::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
        let long = ReleaseTag::parse(&"a".repeat(120)).unwrap();
        assert!(long.target("x86_64-apple-darwin").is_err());
        assert!(ReleaseTag::parse("a").unwrap().target("x y").is_err());
        let version = Version::parse(&format!("1.2.3-{}", "a".repeat(130))).unwrap();
        assert!(ReleaseTag::from_version(&version).is_err());
    }

    #[test]
    fn release_tag_of_referrers_form_is_rejected() {
        let tag = format!("sha256-{}", "0".repeat(64));
        for text in [tag.clone(), format!("{tag}.sig")] {
            let error = ReleaseTag::parse(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let expected =
                format!("invalid tag `{text}`: it is reserved for the referrers of a manifest");
            assert_eq!(error.to_string(), expected);
        }
        assert!(ReleaseTag::parse("sha256-0").is_ok());
    }

    #[test]
    fn highest_version_follows_semver_and_skips_targets() {
        let highest = |tags: &[&str]| {
            let tags: Vec<_> = tags.iter().map(|text| tag(text)).collect();
            super::highest(&tags).map(|(tag, _)| tag.to_string())
        };
        assert_eq!(
            highest(&[
                "1.9.0",
                "1.10.0",
                "latest",
                "2.0.0-rc.1",
                "3.0.0__x",
                "v4.0.0__x",
                "V4.0.0"
            ]),
            Some("1.10.0".into())
        );
        assert_eq!(highest(&["1.9.0", "v1.10.0"]), Some("v1.10.0".into()));
        for both in [["1.2.3", "v1.2.3"], ["v1.2.3", "1.2.3"]] {
            assert_eq!(highest(&both), Some("1.2.3".into()));
        }
        assert_eq!(
            highest(&["1.0.0-a", "1.0.0-b", "x"]),
            Some("1.0.0-b".into())
        );
        assert_eq!(highest(&["latest", "1.2"]), None);
    }

    proptest! {
        #[test]
        fn random_version_and_target_are_read_back_from_tags(
            version in "(0|[1-9][0-9]{0,3})\\.[0-9]\\.[0-9](-[a-z]{1,3}(\\.[1-9])?)?(\\+[0-9a-zA-Z-]{1,5}(\\.[a-z]{1,3})?)?",
            triple in "[a-z0-9_][a-z0-9_.-]{0,30}",
        ) {
            let version: Version = version.parse().unwrap();
            let release = ReleaseTag::from_version(&version).unwrap();
            let target = release.target(&triple).unwrap();
            prop_assert_eq!(release.parse_target(&target), Some(triple.as_str()));
            prop_assert_eq!(release.version(), Some(version));
        }
    }
}
