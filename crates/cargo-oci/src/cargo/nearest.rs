//! Suggestion of a known word for a misspelled one.

/// Returns the known word with the smallest edit distance to an unknown word.
///
/// The distance is at most a third of the length, as in cargo and rustc. Of words with the same distance, the first is
/// returned.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn misspelled_word_is_found_and_other_word_is_not() {
        let known = ["registry", "repository", "targets", "tags"];
        assert_eq!(nearest("registery", known), Some("registry"));
        assert_eq!(nearest("target", known), Some("targets"));
        assert_eq!(nearest("tag", known), Some("tags"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
