//! Filtering and sorting of names in lists.

use clap::Args;
use glob::Pattern;
use oci_package::tag;
use oci_registry::Tag;

/// Flags that filter a list of names.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Show only names that match one of these patterns
    #[arg(long, value_name = "GLOB", value_parser = parse_pattern)]
    include: Vec<Pattern>,

    /// Hide names that match one of these patterns
    #[arg(long, value_name = "GLOB", value_parser = parse_pattern)]
    exclude: Vec<Pattern>,
}

pub(crate) fn parse_pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

impl Filter {
    /// Whether a name matches the filter.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let any_matches =
            |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.include.is_empty() || any_matches(&self.include)) && !any_matches(&self.exclude)
    }

    /// Whether a pattern of `--include` contains `__` and so selects target tags.
    pub(crate) fn includes_targets(&self) -> bool {
        let mut patterns = self.include.iter();
        patterns.any(|pattern| pattern.as_str().contains(tag::SEPARATOR))
    }
}

/// Sorts tags by version, the highest first. Each version is followed by its target tags, and then by the tags with
/// `v`. Tags that are not versions come last, sorted by name.
pub(crate) fn sort_by_version<T>(tags: &mut [T], tag: impl Fn(&T) -> &Tag) {
    let key = |entry: &T| {
        let (text, target) = tag::split(tag(entry));
        let version = tag::parse_version(text);
        let (text, target) = (text.to_owned(), target.map(str::to_owned));
        (std::cmp::Reverse(version), text, target)
    };
    tags.sort_by_cached_key(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_by_version_then_target() {
        let names = [
            "latest",
            "1.9.0",
            "1.10.0__b",
            "1.10.0",
            "nightly__a",
            "1.10.0-rc.1",
            "v1.10.0",
            "1.10.0__a",
            "v1.9.1",
            "nightly",
            "2.0.0_build.5",
        ];
        let mut tags = names.map(|name| name.parse::<Tag>().expect("a tag"));
        sort_by_version(&mut tags, |tag| tag);
        let shown = tags.each_ref().map(Tag::as_str);
        assert_eq!(
            shown,
            [
                "2.0.0_build.5",
                "1.10.0",
                "1.10.0__a",
                "1.10.0__b",
                "v1.10.0",
                "1.10.0-rc.1",
                "v1.9.1",
                "1.9.0",
                "latest",
                "nightly",
                "nightly__a",
            ]
        );
    }

    #[test]
    fn exclude_overrides_include() {
        let patterns = |texts: &[&str]| {
            let patterns = texts
                .iter()
                .map(|text| parse_pattern(text).expect("a pattern"));
            patterns.collect::<Vec<_>>()
        };
        let filter = Filter {
            include: patterns(&["1.*", "latest"]),
            exclude: patterns(&["*__*"]),
        };
        let matches = ["1.2.3", "latest", "1.2.3__x", "2.0.0"].map(|name| filter.matches(name));
        assert_eq!(matches, [true, true, false, false]);
        let all = Filter {
            include: Vec::new(),
            exclude: Vec::new(),
        };
        assert!(all.matches("anything"));
    }
}
