//! Escaping of untrusted text.
//!
//! Text of a registry may be of any length and contain control characters that a terminal executes. It is escaped
//! before it becomes a part of an error message, and front ends escape it before they print it.

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
}
