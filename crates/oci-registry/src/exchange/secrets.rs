//! Redaction of secrets in text from servers.
//!
//! A server knows the credential that it received and may repeat it in an error message, in a warning or in a redirect.
//! Each `Authorization` value that is sent is recorded here, together with its possible encodings. All of them are
//! redacted in text from a server before it is shown. A secret that a server deliberately transforms cannot be
//! distinguished from other text.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::escape::escape;

/// Maximum number of recorded secrets. The most recently sent ones are kept.
const MAX_SECRETS: usize = 100;

/// Secrets with fewer bytes are redacted only as separate words, because they can be part of other words.
const MIN_SUBSTRING_LENGTH: usize = 4;

/// Words with at least this number of bytes may be credentials.
const MIN_TOKEN_LENGTH: usize = 16;

/// Maximum size of redacted text, in bytes. It exceeds the size of every quoted message.
const MAX_SEARCHED: usize = 16 << 10;

/// Replacement of a secret.
const REDACTED: &str = "…";

/// Secrets that were sent. Clones share their content.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<RecordedSecret>>>);

struct RecordedSecret {
    /// Value as it was recorded.
    value: Vec<u8>,
    /// Possible encodings in lower case, because host names are converted to lower case.
    encodings: Arc<[String]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Records the secrets of an `Authorization` header.
    pub(super) fn record_header(&self, header: &HeaderValue) {
        self.record_once(header.as_bytes(), || {
            let text = String::from_utf8_lossy(header.as_bytes()).into_owned();
            let (scheme, secret) = text.split_once(' ').unwrap_or(("", &text));
            let mut secrets = vec![secret.to_owned()];
            if scheme == "Basic"
                && let Ok(pair) = STANDARD.decode(secret)
            {
                let pair = String::from_utf8_lossy(&pair).into_owned();
                let password = pair
                    .split_once(':')
                    .map(|(_, password)| password.to_owned());
                secrets.extend(password);
                secrets.push(pair);
                // The encoded pair is also matched without padding, which a server may omit.
                secrets.push(secret.trim_end_matches('=').to_owned());
            }
            secrets
        });
    }

    /// Records a secret.
    pub(crate) fn record(&self, secret: &str) {
        self.record_once(secret.as_bytes(), || vec![secret.to_owned()]);
    }

    fn record_once(&self, value: &[u8], secrets: impl FnOnce() -> Vec<String>) {
        let mut all = self.all();
        let known = all.iter().position(|recorded| recorded.value == value);
        let recorded = known.and_then(|at| all.remove(at));
        all.push_back(recorded.unwrap_or_else(|| RecordedSecret {
            value: value.to_owned(),
            encodings: encodings(&secrets()).into_iter().collect(),
        }));
        if all.len() > MAX_SECRETS {
            all.pop_front();
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<RecordedSecret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redacts the recorded secrets in a text. Truncates the text to [`MAX_SEARCHED`] bytes without splitting a secret.
    pub(crate) fn redact(&self, text: &str) -> String {
        let all: Vec<_> = self
            .all()
            .iter()
            .map(|it| Arc::clone(&it.encodings))
            .collect();
        let encodings = || all.iter().flat_map(|encodings| encodings.iter());
        // The search covers secrets that start within the limit and end after it.
        let longest = encodings().map(String::len).max().unwrap_or_default();
        let searched = text.floor_char_boundary(MAX_SEARCHED.saturating_add(longest));
        let lower = text[..searched].to_ascii_lowercase();
        let mut hits: Vec<_> = encodings()
            .flat_map(|encoding| hits(&lower, encoding))
            .collect();
        hits.sort_unstable_by_key(|hit| (hit.start, Reverse(hit.end)));
        let end = text.floor_char_boundary(MAX_SEARCHED);
        let (mut shown, mut from) = (String::new(), 0);
        for hit in hits.into_iter().take_while(|hit| hit.start < end) {
            if hit.start >= from {
                shown.push_str(&text[from..hit.start]);
                shown.push_str(REDACTED);
            }
            // Overlapping matches are redacted as one.
            from = from.max(hit.end);
        }
        if from < end {
            shown.push_str(&text[from..end]);
        }
        if end < text.len() {
            shown.push_str(REDACTED);
        }
        shown
    }

    /// Returns a server's text for display: secrets redacted, on one line, truncated to `limit` characters.
    pub(crate) fn escape(&self, text: &str, limit: usize) -> String {
        escape(&self.redact(text), limit)
    }

    /// As [`Secrets::escape`], for error messages, in which a server may repeat a credential in an unknown encoding.
    pub(crate) fn quote(&self, text: &str, limit: usize) -> String {
        // Line breaks are escaped first, so that a space ends each word. Truncation comes last, because a truncated
        // long word could be too short to be detected.
        escape(&without_secrets(&self.escape(text, usize::MAX)), limit)
    }
}

/// Redacts words that may be a credential in an unknown encoding: long words that are neither natural language nor
/// repository names.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut hide_next = false;
    let words = text.split(' ').map(|word| {
        let hidden = std::mem::replace(
            &mut hide_next,
            matches!(word.trim_end_matches(':'), "Basic" | "Bearer"),
        );
        if hidden || is_token(word) {
            REDACTED
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_token(word: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-.~%".contains(&byte);
    word.len() >= MIN_TOKEN_LENGTH && word.bytes().all(is_of_token) && !is_name(word)
}

/// Whether a word has the form of `library/some-image` or `MANIFEST_UNKNOWN`.
fn is_name(word: &str) -> bool {
    let mut parts = word.split(['/', '.', '_', '-']);
    parts.all(|part| {
        let is_short = part.len() < MIN_TOKEN_LENGTH;
        let is_letter = |byte: u8| byte.is_ascii_lowercase();
        let is_small = |byte: u8| is_letter(byte) || (is_short && byte.is_ascii_digit());
        part.bytes().all(is_small) || part.bytes().all(|byte| byte.is_ascii_uppercase())
    })
}

/// Returns the possible encodings of secrets.
fn encodings(secrets: &[String]) -> BTreeSet<String> {
    let encodings = secrets.iter().flat_map(|secret| {
        let quoted = serde_json::Value::from(secret.as_str()).to_string();
        [
            secret.to_owned(),
            quoted[1..quoted.len() - 1].to_owned(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            STANDARD.encode(secret),
            STANDARD_NO_PAD.encode(secret),
            URL_SAFE.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
        ]
    });
    let encodings = encodings.filter(|encoding| !encoding.is_empty());
    encodings
        .map(|encoding| encoding.to_ascii_lowercase())
        .collect()
}

/// Returns the matches of an encoding in a text, both in lower case.
fn hits<'a>(lower: &'a str, encoding: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let all = lower.match_indices(encoding);
    let all = all.map(|(at, _)| at..at + encoding.len());
    all.filter(move |hit| {
        let is_word = |character: char| character.is_alphanumeric();
        encoding.len() >= MIN_SUBSTRING_LENGTH
            || !(lower[..hit.start].ends_with(is_word) || lower[hit.end..].starts_with(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_redacted_in_each_encoding() {
        let secrets = Secrets::default();
        let pair = STANDARD.encode("me:pass\"wörd /1");
        let header = HeaderValue::from_str(&format!("Basic {pair}")).unwrap();
        secrets.record_header(&header);
        secrets.record_header(&header);
        secrets.record_header(&HeaderValue::from_static("Bearer opaque.token-1"));
        for (text, expected) in [
            (format!("you sent {pair}!"), "you sent …!"),
            ("user me:pass\"wörd /1".into(), "user …"),
            ("it is pass\"wörd /1, is it".into(), "it is …, is it"),
            (r#"{"a":"pass\"wörd /1"}"#.into(), r#"{"a":"…"}"#),
            ("pass%22w%C3%B6rd+%2F1".into(), "…"),
            ("a/pass%22w%c3%b6rd%20%2f1/b".into(), "a/…/b"),
            ("OPAQUE.TOKEN-1opaque.token-1".into(), "……"),
            ("nothing of it".into(), "nothing of it"),
        ] {
            assert_eq!(secrets.redact(&text), expected, "{text}");
        }
        assert!(!format!("{secrets:?}").contains("opaque"));
    }

    #[test]
    fn base64_secret_is_redacted_in_all_alphabets() {
        let secrets = Secrets::default();
        // Contains the two characters in which the alphabets differ, and padding.
        let pair = "me:>>>???\u{fb}";
        let encoded = STANDARD.encode(pair);
        assert!(encoded.contains('+') && encoded.contains('/') && encoded.ends_with('='));
        secrets.record_header(&HeaderValue::from_str(&format!("Basic {encoded}")).unwrap());
        let bare = encoded.trim_end_matches('=');
        for text in [
            encoded.clone(),
            bare.to_owned(),
            URL_SAFE.encode(pair),
            URL_SAFE_NO_PAD.encode(pair),
            utf8_percent_encode(&encoded, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(bare, NON_ALPHANUMERIC).to_string(),
        ] {
            assert_eq!(secrets.redact(&format!("<{text}>")), "<…>", "{text}");
        }
    }

    #[test]
    fn overlapping_secrets_are_redacted_completely() {
        let secrets = Secrets::default();
        secrets.record("first-middle");
        secrets.record("middle-last!");
        assert_eq!(secrets.redact("(first-middle-last!)"), "(…)");
    }

    #[test]
    fn long_text_is_truncated_without_splitting_secret() {
        let secrets = Secrets::default();
        let secret = format!("start{}end", "é".repeat(MAX_SEARCHED));
        secrets.record(&secret);
        for before in [0, 1, MAX_SEARCHED - 1] {
            let text = format!("{}{secret}{}", "-".repeat(before), "+".repeat(1 << 20));
            let expected = format!("{}……", "-".repeat(before));
            assert!(secrets.redact(&text) == expected, "{before}");
        }
        let before = "-".repeat(MAX_SEARCHED);
        assert!(secrets.redact(&format!("{before}{secret}")) == format!("{before}…"));
        assert!(secrets.redact(&before) == before);
        // The maximum number of matches within the limit.
        secrets.record("hits");
        let hits = "hits".repeat(MAX_SEARCHED / 4);
        assert_eq!(secrets.redact(&hits), REDACTED.repeat(MAX_SEARCHED / 4));
    }

    #[test]
    fn possible_credential_is_not_quoted() {
        let quote = |text: &str| Secrets::default().quote(text, 60);
        for (text, expected) in [
            ("no Bearer\nabc, please", "no Bearer … please"),
            ("not with dXNlcjpzZWNyZXQx or so", "not with … or so"),
            ("not with 0123456789abcdef", "not with …"),
            ("no library/some-image2 here", "no library/some-image2 here"),
            ("MANIFEST_UNKNOWN", "MANIFEST_UNKNOWN"),
        ] {
            assert_eq!(quote(text), expected);
        }
        // No part of a long word is left at the point of truncation.
        let long = format!("{} {}", "-".repeat(10), "aB3".repeat(100));
        assert_eq!(quote(&long), "---------- …");
    }

    #[test]
    fn short_secret_is_redacted_as_separate_word() {
        let secrets = Secrets::default();
        secrets.record("ab1");
        secrets.record("");
        assert_eq!(secrets.redact("ab1: fab1 (ab1) ab12"), "…: fab1 (…) ab12");
    }

    #[test]
    fn number_of_recorded_secrets_is_limited() {
        let secrets = Secrets::default();
        for at in 0..1000 {
            secrets.record(&format!("secret-{at:04}"));
            secrets.record("in use");
        }
        let shown = secrets.redact("secret-0000, secret-0999, in use");
        assert_eq!(shown, "secret-0000, …, …");
        assert_eq!(secrets.all().len(), MAX_SECRETS);
    }
}
