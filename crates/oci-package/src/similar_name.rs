//! Suggestion of a similar name for an unknown name, such as a misspelled key or tag.

/// Returns the known name that is most similar to `name`, if at most a third of the characters differ. Among equally
/// similar names, the first is returned.
pub fn find_similar_name<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::find_similar_name;

    #[test]
    fn only_similar_name_is_suggested_for_unknown_name() {
        let known = ["registry", "repository", "release-targets", "tags"];
        assert_eq!(find_similar_name("registery", known), Some("registry"));
        assert_eq!(
            find_similar_name("release_target", known),
            Some("release-targets")
        );
        assert_eq!(find_similar_name("tag", known), Some("tags"));
        assert_eq!(find_similar_name("colour", known), None);
        assert_eq!(find_similar_name("", known), None);
    }
}
