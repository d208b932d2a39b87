//! The known word that somebody probably meant. Owns the measure; knows no words.

/// The known word nearest to an unknown one, if any is near enough to be meant.
///
/// A third of the letters may differ, as cargo and rustc judge it; of equally near words the first wins.
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
    fn a_slip_finds_its_word_and_another_word_finds_nothing() {
        let known = ["registry", "repository", "targets", "tags"];
        assert_eq!(nearest("registery", known), Some("registry"));
        assert_eq!(nearest("target", known), Some("targets"));
        assert_eq!(nearest("tag", known), Some("tags"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
