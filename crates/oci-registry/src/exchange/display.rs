//! URLs and a server's words, made safe to show.
//!
//! A query can be a credential, a user name in a URL can be one too, and a server's text can hold control characters that
//! a terminal obeys. Everything that comes from a server passes here before it enters a message.

use std::fmt;

use url::Url;

/// Query parameters that say what is asked for and can hold no secret.
const HARMLESS: [&str; 6] = ["n", "last", "digest", "mount", "from", "scope"];

/// A URL as it may be shown: without user info, and with the values of unknown query parameters hidden.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ShownUrl(String);

impl From<&Url> for ShownUrl {
    fn from(url: &Url) -> Self {
        let mut shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        for (at, (key, value)) in url.query_pairs().enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            shown.push_str(&key);
            shown.push('=');
            shown.push_str(if HARMLESS.contains(&key.as_ref()) {
                &value
            } else {
                "…"
            });
        }
        Self(text(&shown, 1000))
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stranger's text on one line: control and direction-changing characters escaped, cut after `limit` characters.
pub(crate) fn text(text: &str, limit: usize) -> String {
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
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_hides_what_could_be_a_credential() {
        let url: Url = "https://u:canary@a.b/v2/x?n=10&X-Signature=canary&digest=sha256:1#canary"
            .parse()
            .unwrap();
        assert_eq!(
            ShownUrl::from(&url).to_string(),
            "`https://a.b/v2/x?n=10&X-Signature=…&digest=sha256:1`"
        );
        assert!(!format!("{:?}", ShownUrl::from(&url)).contains("canary"));
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(
            text("a\x1b[31mb\u{202e}c\r\nd", 100),
            "a\\u{1b}[31mb\\u{202e}c d"
        );
        assert_eq!(text("aaaa", 2), "aa…");
    }
}
