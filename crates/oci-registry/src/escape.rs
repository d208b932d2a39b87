//! A stranger's words, made safe to show.
//!
//! What a registry sends can hold characters that a terminal obeys, and any number of them. Its texts pass here before
//! they enter a message, and front ends pass them here before they print them.

/// A stranger's text on one line, trimmed: control and direction-changing characters escaped, cut after `limit` characters.
pub fn escape(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    let mut characters = text.trim().chars();
    for character in characters.by_ref().take(limit) {
        match character {
            '\n' | '\t' => shown.push(' '),
            '\r' => {}
            _ if is_active(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a terminal could act on the character instead of showing it.
pub fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(
            escape("a\x1b[31mb\u{202e}c\r\nd", 100),
            "a\\u{1b}[31mb\\u{202e}c d"
        );
        assert_eq!(escape("aaaa", 2), "aa…");
    }
}
