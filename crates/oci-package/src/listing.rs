//! Listing of tags without the tags that only programs use.
//!
//! A listing hides target tags and referrers tags. A version that has target tags but no version tag is incomplete; the
//! listing contains one entry for it. Only listings hide tags: copies, the update of an index and the selection of a
//! release use all tags.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use oci_registry::{FALLBACK_TAG_PREFIXES, Tag, TagStream};

use crate::tag;

/// Reason why a listing hides a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenTag {
    /// The tag belongs to a target: `1.2.3__x86_64-unknown-linux-gnu`.
    Target,
    /// The tag belongs to the referrers of a manifest: `sha256-…`, `sha256-….sig`, `sha256-….att` or `sha256-….sbom`.
    Referrers,
}

impl HiddenTag {
    /// Returns the reason why listings hide the tag, or `None` if they show it.
    pub fn of(tag: &Tag) -> Option<Self> {
        if tag::split(tag).1.is_some() {
            return Some(Self::Target);
        }
        tag::is_referrers_tag(tag).then_some(Self::Referrers)
    }

    /// Whether completion offers the tag after this text was typed. Target tags are offered after `__`, and
    /// referrers tags after the name of the digest algorithm.
    pub fn is_offered(tag: &Tag, typed: &str) -> bool {
        match Self::of(tag) {
            None => true,
            Some(Self::Target) => typed.contains(tag::SEPARATOR),
            Some(Self::Referrers) => FALLBACK_TAG_PREFIXES
                .iter()
                .any(|prefix| typed.starts_with(prefix)),
        }
    }
}

/// Number of tags that a listing hides. Displayed as `4 target tags` or `4 target tags and 1 referrers tag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HiddenTagCount {
    /// Number of target tags.
    pub targets: usize,
    /// Number of referrers tags.
    pub referrers: usize,
}

impl HiddenTagCount {
    /// Whether no tag is hidden.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for HiddenTagCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.targets, "target"), (self.referrers, "referrers")];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        for (at, (count, kind)) in parts.enumerate() {
            let and = if at == 0 { "" } else { " and " };
            let s = if count == 1 { "" } else { "s" };
            write!(f, "{and}{count} {kind} tag{s}")?;
        }
        Ok(())
    }
}

/// Entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub tag: Tag,
    /// Sorted targets that have target tags, if the tag itself does not exist because the version is incomplete.
    pub incomplete_targets: Option<Vec<String>>,
}

impl From<Tag> for ListedTag {
    fn from(tag: Tag) -> Self {
        Self {
            tag,
            incomplete_targets: None,
        }
    }
}

/// Condition for the names in a listing.
type NameFilter = Box<dyn Fn(&str) -> bool + Send>;

/// Stream of the tags of a repository without hidden tags, in the order of the repository. The incomplete versions
/// follow the last tag. The stream ends after the first error.
pub struct TagListing {
    tags: TagStream,
    filter: NameFilter,
    shows_targets: bool,
    /// Tags that count as versions.
    versions: HashSet<String>,
    /// Targets of the target tags, by version tag.
    targets: BTreeMap<String, BTreeSet<String>>,
    hidden: HiddenTagCount,
    /// Incomplete versions that were not returned yet. `None` until the last tag was read.
    incomplete: Option<std::vec::IntoIter<ListedTag>>,
}

impl fmt::Debug for TagListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TagListing").finish_non_exhaustive()
    }
}

impl TagListing {
    /// Creates a listing of these tags.
    pub fn new(tags: TagStream) -> Self {
        Self {
            tags,
            filter: Box::new(|_| true),
            shows_targets: false,
            versions: HashSet::new(),
            targets: BTreeMap::new(),
            hidden: HiddenTagCount::default(),
            incomplete: None,
        }
    }

    /// Restricts the listing to names that match a filter. Tags that do not match are not counted as hidden.
    /// `shows_targets` makes the listing include target tags.
    #[must_use]
    pub fn with_filter(
        mut self,
        filter: impl Fn(&str) -> bool + Send + 'static,
        shows_targets: bool,
    ) -> Self {
        (self.filter, self.shows_targets) = (Box::new(filter), shows_targets);
        self
    }

    /// Returns the number of tags that were hidden so far.
    pub fn hidden(&self) -> HiddenTagCount {
        self.hidden
    }

    /// Records a tag, and returns whether the listing includes it.
    fn record_and_filter(&mut self, tag: &Tag) -> bool {
        let (version, target) = tag::split(tag);
        if tag::parse_version(version).is_some() {
            match target {
                None => {
                    self.targets.remove(version);
                    self.versions.insert(version.to_owned());
                }
                Some(target) if !self.versions.contains(version) => {
                    let targets = self.targets.entry(version.to_owned()).or_default();
                    targets.insert(target.to_owned());
                }
                Some(_) => {}
            }
        }
        if !(self.filter)(tag.as_str()) {
            return false;
        }
        match HiddenTag::of(tag) {
            Some(HiddenTag::Target) if !self.shows_targets => self.hidden.targets += 1,
            Some(HiddenTag::Referrers) => self.hidden.referrers += 1,
            _ => return true,
        }
        false
    }

    fn incomplete_versions(&mut self) -> Vec<ListedTag> {
        let versions = std::mem::take(&mut self.targets).into_iter();
        let versions = versions.filter(|(version, _)| (self.filter)(version));
        let listed = versions.filter_map(|(version, targets)| {
            Some(ListedTag {
                tag: version.parse().ok()?,
                incomplete_targets: Some(targets.into_iter().collect()),
            })
        });
        listed.collect()
    }
}

impl Stream for TagListing {
    type Item = crate::Result<ListedTag>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(incomplete) = &mut this.incomplete {
                return Poll::Ready(incomplete.next().map(Ok));
            }
            match ready!(this.tags.poll_next_unpin(context)) {
                Some(Ok(tag)) => {
                    if this.record_and_filter(&tag) {
                        return Poll::Ready(Some(Ok(tag.into())));
                    }
                }
                Some(Err(error)) => {
                    this.incomplete = Some(Vec::new().into_iter());
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.incomplete = Some(this.incomplete_versions().into_iter()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};
    use oci_registry::{ErrorKind, Hint};

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn tag_stream(names: &[&str]) -> TagStream {
        let tags: Vec<_> = names.iter().map(|name| name.parse()).collect();
        stream::iter(tags).boxed()
    }

    /// Returns the entries as text. The targets of an incomplete version follow its name.
    async fn texts(listing: &mut TagListing) -> Vec<String> {
        let entry = |entry: ListedTag| match entry.incomplete_targets {
            None => entry.tag.to_string(),
            Some(targets) => format!("{} {}", entry.tag, targets.join(" ")),
        };
        listing.map_ok(entry).try_collect().await.unwrap()
    }

    #[test]
    fn hidden_tags_are_recognized_by_their_form() {
        let of = |text: &str| HiddenTag::of(&text.parse().unwrap());
        for text in ["1.2.3__x", "nightly__x", "a__", "1__x__y"] {
            assert_eq!(of(text), Some(HiddenTag::Target), "{text}");
        }
        for suffix in ["", ".sig", ".att", ".sbom"] {
            for algorithm in ["sha256", "sha512"] {
                let text = format!("{algorithm}-{HEX}{suffix}");
                assert_eq!(of(&text), Some(HiddenTag::Referrers), "{text}");
            }
        }
        let other = [format!("sha256-{HEX}.txt"), format!("sha1-{HEX}")];
        let other = other.iter().map(String::as_str);
        for text in other.chain(["1.2.3", "1.2.3_b", "latest", "sha256-abc", "a.sig"]) {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn hidden_tag_is_offered_after_its_mark_was_typed() {
        let offered = |tag: &str, typed| HiddenTag::is_offered(&tag.parse().unwrap(), typed);
        assert!(offered("1.2.3", "") && !offered("1.2.3__x", "1.2.3_"));
        assert!(offered("1.2.3__x", "1.2.3__"));
        let signature = format!("sha256-{HEX}.sig");
        assert!(!offered(&signature, "s") && offered(&signature, "sha256-"));
    }

    #[tokio::test]
    async fn listing_hides_tags_and_adds_incomplete_versions() {
        let signature = format!("sha256-{HEX}.sig");
        let mut listing = TagListing::new(tag_stream(&[
            "0.3.0__b",
            "1.0.0__a",
            "latest",
            "0.3.0__a",
            "1.0.0",
            "1.0.0__b",
            "nightly__a",
            &signature,
            "v1.0.0__a",
        ]));
        assert_eq!(
            texts(&mut listing).await,
            ["latest", "1.0.0", "0.3.0 a b", "v1.0.0 a"]
        );
        assert_eq!(
            listing.hidden().to_string(),
            "6 target tags and 1 referrers tag"
        );
    }

    #[tokio::test]
    async fn filter_applies_before_tags_are_hidden() {
        let names = ["0.3.0__b", "1.0.0", "1.0.0__a"];
        let listing = || TagListing::new(tag_stream(&names));
        let mut targets = listing().with_filter(|name| name.contains("__"), true);
        assert_eq!(texts(&mut targets).await, ["0.3.0__b", "1.0.0__a"]);
        assert!(targets.hidden().is_zero());
        let mut versions = listing().with_filter(|name| !name.contains("__"), false);
        assert_eq!(texts(&mut versions).await, ["1.0.0", "0.3.0 b"]);
        assert!(versions.hidden().is_zero());
    }

    #[tokio::test]
    async fn listing_ends_after_an_error() {
        let error = crate::Error::new(ErrorKind::Network, std::fmt::Error);
        let error = error.with_hints([Hint::from("try again")]);
        let tags = [Ok("1.0.0__a".parse().unwrap()), Err(error)];
        let mut listing = TagListing::new(stream::iter(tags).boxed());
        assert!(listing.next().await.unwrap().is_err());
        assert!(listing.next().await.is_none());
    }
}
