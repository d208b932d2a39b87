//! Escaping of untrusted text.
//!
//! Text from a registry may be of any length and contain control characters that a terminal executes. It is escaped
//! before it becomes part of an error message, and front ends escape it before they print it.

/// Returns untrusted text as one trimmed line. Control characters and characters that change the text direction are
/// escaped, and the text is truncated to `limit` characters.
pub fn escape(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut characters = text.trim().chars();
    for character in characters.by_ref().take(limit) {
        match character {
            '\n' | '\t' => shown.push(' '),
            '\r' => {}
            _ if needs_escape(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a terminal could interpret the character instead of printing it.
pub fn needs_escape(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

/// Disables [workflow commands] in text. A runner of GitHub Actions executes these commands if a process prints them:
/// `::` at the start of a line, and `##[` anywhere in a line. A space is inserted into `::`, and `bracket` replaces the
/// `[` of `##[`.
///
/// The runner trims a line before it searches for `::`, and its comparison is culture-sensitive and ignores zero-width
/// characters. Therefore, the search for commands ignores all characters except printable ASCII.
///
/// [workflow commands]: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
pub fn without_workflow_commands(text: &str, bracket: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    // Printable ASCII characters of the current line, without leading spaces.
    let mut line = String::new();
    for character in text.chars() {
        match character {
            '[' if line.ends_with("##") => safe.push_str(bracket),
            ':' if line == ":" => safe.push_str(" :"),
            _ => safe.push(character),
        }
        if character == '\n' || character == '\r' {
            line.clear();
        } else if character.is_ascii_graphic() || character == ' ' && !line.is_empty() {
            line.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_replaces_control_characters_and_truncates() {
        assert_eq!(
            escape("a\x1b[31mb\u{202e}c\r\nd", 100),
            "a\\u{1b}[31mb\\u{202e}c d"
        );
        assert_eq!(escape("aaaa", 2), "aa…");
    }

    #[test]
    fn workflow_commands_are_neutralized_in_text() {
        for (text, expected) in [
            ("::set-output name=x::y", ": :set-output name=x::y"),
            ("a ::b", "a ::b"),
            ("a\n  ::b\r\t::c", "a\n  : :b\r\t: :c"),
            ("\u{feff}:\u{ad}:a", "\u{feff}:\u{ad} :a"),
            (":::", ": ::"),
            ("[::1]:5000", "[::1]:5000"),
            ("a ##[add-mask]b", "a ## [add-mask]b"),
            ("###[a] ##[b]", "### [a] ## [b]"),
            ("#\u{200b}#\u{ad}[a]", "#\u{200b}#\u{ad} [a]"),
            ("#\n#[a] ## [b]", "#\n#[a] ## [b]"),
        ] {
            assert_eq!(without_workflow_commands(text, " ["), expected, "{text}");
            assert_eq!(
                without_workflow_commands(expected, " ["),
                expected,
                "{text}"
            );
        }
    }
}
