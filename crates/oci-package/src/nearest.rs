//! Suggestions of similar names.

/// Returns the known name that is most similar to an unknown one, if at most a third of its characters differ. The first
/// of equally similar names wins.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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
    use super::nearest;

    #[test]
    fn nearest_suggests_only_similar_names() {
        let known = ["registry", "repository", "targets", "tags"];
        assert_eq!(nearest("registery", known), Some("registry"));
        assert_eq!(nearest("target", known), Some("targets"));
        assert_eq!(nearest("tag", known), Some("tags"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
