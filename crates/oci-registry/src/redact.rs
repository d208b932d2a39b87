//! Redaction of secrets in text, URLs and headers.
//!
//! A server knows the credential that it received and may repeat it in an error message, in a warning or in a redirect.
//! [`Secrets`] records each `Authorization` value that is sent, in its encoded and decoded form. It redacts the value
//! in text from a server before the text is shown. A secret that a server deliberately transforms cannot be
//! distinguished from other text.
//!
//! The query and the user information of a URL can contain a credential. Messages contain URLs as [`RedactedUrl`] only.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::escape::escape;

/// Maximum number of recorded forms of secrets. The most recently recorded forms are kept.
const MAX_SECRETS: usize = 300;

/// Minimum length of a secret that is redacted within a word, in bytes. A shorter secret is redacted only as a separate
/// word, because it may occur in other words by chance.
const MIN_SUBSTRING_LENGTH: usize = 4;

/// Minimum length of a word that may be a credential, in bytes.
const MIN_TOKEN_LENGTH: usize = 16;

/// Maximum size of redacted text, in bytes. Every quoted message is smaller.
const MAX_TEXT_SIZE: usize = 16 << 10;

/// Text that replaces a secret.
const REDACTED: &str = "…";

/// Query parameters whose values contain no secret, such as names, digests and page sizes.
const SAFE_PARAMETERS: [&str; 6] = ["n", "last", "digest", "mount", "from", "scope"];

/// Secret text. It has no `Display`, and its `Debug` output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret text. Only code that sends or stores the secret should use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Returns a header value that HTTP libraries redact in their output. Text that is not a valid header value is replaced
/// by `invalid`, which servers reject.
pub(crate) fn sensitive_header(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("invalid"));
    value.set_sensitive(true);
    value
}

/// Secrets that were sent, in canonical form. Clones share the secrets.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Records the secrets in the value of an `Authorization` header.
    pub(crate) fn record_header(&self, header: &HeaderValue) {
        let text = String::from_utf8_lossy(header.as_bytes());
        let (scheme, value) = text.split_once(' ').unwrap_or(("", &text));
        self.record(value);
        if scheme == "Basic"
            && let Ok(pair) = STANDARD.decode(value)
        {
            let pair = String::from_utf8_lossy(&pair);
            self.record(&pair);
            if let Some((_, password)) = pair.split_once(':') {
                self.record(password);
            }
        }
    }

    /// Records a secret.
    pub(crate) fn record(&self, secret: &str) {
        let mut all = self.lock();
        // The encoded form is recorded, too, because decoding would change a secret that contains a percent sign.
        let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        for form in [secret, &encoded] {
            let form: Vec<u8> = canonical_bytes(form).map(|(_, byte)| byte).collect();
            if !form.is_empty() {
                all.retain(|known| *known != form);
                all.push_back(form);
            }
        }
        let excess = all.len().saturating_sub(MAX_SECRETS);
        all.drain(..excess);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redacts the recorded secrets in `text`. Truncates the text to [`MAX_TEXT_SIZE`] bytes without splitting a
    /// secret.
    pub(crate) fn redact(&self, text: &str) -> String {
        let all = self.lock();
        let end = text.floor_char_boundary(MAX_TEXT_SIZE);
        let (mut shown, mut from) = (String::new(), 0);
        for (start, _) in text[..end].char_indices() {
            let ends = all
                .iter()
                .filter_map(|secret| match_end(text, start, secret));
            let Some(match_end) = ends.max() else {
                continue;
            };
            if start >= from {
                shown.push_str(&text[from..start]);
                shown.push_str(REDACTED);
            }
            // Overlapping matches are redacted as one.
            from = from.max(match_end);
        }
        if from < end {
            shown.push_str(&text[from..end]);
        }
        if end < text.len() {
            shown.push_str(REDACTED);
        }
        shown
    }

    /// Returns a server's text for display: with secrets redacted, on one line, and truncated to `limit` characters.
    pub(crate) fn escape(&self, text: &str, limit: usize) -> String {
        escape(&self.redact(text), limit)
    }

    /// Escapes text like [`Secrets::escape`], and also redacts words that may be a credential in an unknown encoding.
    /// Used for error messages from servers.
    pub(crate) fn quote(&self, text: &str, limit: usize) -> String {
        // Line breaks are escaped first, so that a space ends each word. Truncation comes last, because a truncated
        // long word could be too short to be detected.
        escape(&redact_tokens(&self.escape(text, usize::MAX)), limit)
    }
}

/// Redacts words that may be a credential in an unknown encoding: long words that are neither natural language nor
/// repository names.
pub(crate) fn redact_tokens(text: &str) -> String {
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

/// Returns the bytes that all encodings of `text` have in common. Each byte is returned with the position of its
/// character in `text`.
///
/// URL encodings are decoded, the backslashes of JSON and the padding of base64 are omitted, and the alphabets of base64
/// are unified. ASCII letters are in lower case, because host names are converted to lower case.
fn canonical_bytes(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let bytes = text.as_bytes();
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let decode = move |at| u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok();
    let mut next = 0;
    let all = std::iter::from_fn(move || {
        let (at, byte) = (next, *bytes.get(next)?);
        let decoded = (byte == b'%').then(|| decode(at)).flatten();
        next += if decoded.is_some() { 3 } else { 1 };
        Some((text.floor_char_boundary(at), decoded.unwrap_or(byte)))
    });
    all.filter_map(|(at, byte)| match byte {
        b'=' | b'\\' => None,
        b' ' | b'+' => Some((at, b'-')),
        b'/' => Some((at, b'_')),
        other => Some((at, other.to_ascii_lowercase())),
    })
}

/// Returns the end of `secret` in `text` if it occurs at `start`. The secret is in canonical form.
fn match_end(text: &str, start: usize, secret: &[u8]) -> Option<usize> {
    let (before, rest) = text.split_at(start);
    if rest.starts_with(['=', '\\']) {
        return None;
    }
    let mut bytes = canonical_bytes(rest).map(|(at, byte)| (start + at, byte));
    let is_match = secret
        .iter()
        .all(|expected| bytes.next().is_some_and(|(_, byte)| byte == *expected));
    let end = bytes.next().map_or(text.len(), |(at, _)| at);
    let is_word = |character: char| character.is_alphanumeric();
    let is_part_of_word = before.ends_with(is_word) || text[end..].starts_with(is_word);
    (is_match && (secret.len() >= MIN_SUBSTRING_LENGTH || !is_part_of_word)).then_some(end)
}

/// Returns a URL without its user information. A string without a scheme is returned unchanged.
pub fn without_user_info(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// URL for display, without user information. The values of unknown query parameters are redacted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RedactedUrl(String);

impl RedactedUrl {
    /// Returns the display form of a URL that a server may have chosen. Recorded secrets are redacted too.
    pub(crate) fn new(url: &Url, secrets: &Secrets) -> Self {
        let mut shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
        for (at, (key, value)) in url.query_pairs().enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            // A key without a value may be a signature.
            if value.is_empty() && !SAFE_PARAMETERS.contains(&key.as_ref()) {
                shown.push('…');
                continue;
            }
            shown.push_str(&key);
            shown.push('=');
            shown.push_str(if SAFE_PARAMETERS.contains(&key.as_ref()) {
                &value
            } else {
                "…"
            });
        }
        Self(secrets.escape(&shown, 1000))
    }

    /// Whether the scheme is `http`.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// Returns the host and the port.
    pub(crate) fn host(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    /// Returns the URL without the quotation marks that `Display` adds.
    pub(crate) fn without_quotes(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl fmt::Debug for RedactedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

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
            ("100%opaque.token-1".into(), "100%…"),
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
        // The encoded pair contains padding and the two characters in which the base64 alphabets differ.
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
    fn secret_with_percent_sign_is_redacted_plain_and_encoded() {
        let secrets = Secrets::default();
        secrets.record("50%41%canary%a9");
        for text in ["50%41%canary%a9", "50%2541%25canary%25a9"] {
            assert_eq!(secrets.redact(&format!("é{text}é")), "é…é");
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
        let secret = format!("start{}end", "é".repeat(MAX_TEXT_SIZE));
        secrets.record(&secret);
        for before in [0, 1, MAX_TEXT_SIZE - 1] {
            let text = format!("{}{secret}{}", "-".repeat(before), "+".repeat(1 << 20));
            let expected = format!("{}……", "-".repeat(before));
            assert!(secrets.redact(&text) == expected, "{before}");
        }
        let before = "-".repeat(MAX_TEXT_SIZE);
        assert!(secrets.redact(&format!("{before}{secret}")) == format!("{before}…"));
        assert!(secrets.redact(&before) == before);
        // Text that contains the maximum number of matches within the size limit.
        secrets.record("hits");
        let hits = "hits".repeat(MAX_TEXT_SIZE / 4);
        assert_eq!(secrets.redact(&hits), REDACTED.repeat(MAX_TEXT_SIZE / 4));
    }

    #[test]
    fn text_that_may_be_a_credential_is_not_quoted() {
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
        assert_eq!(secrets.lock().len(), MAX_SECRETS);
    }

    #[test]
    fn redacted_url_contains_no_possible_credential() {
        let url: Url = "https://u:canary@a.b/v2/x?n=10&X-Signature=canary&digest=sha256:1#canary"
            .parse()
            .unwrap();
        let shown = RedactedUrl::new(&url, &Secrets::default());
        assert_eq!(
            shown.to_string(),
            "`https://a.b/v2/x?n=10&X-Signature=…&digest=sha256:1`"
        );
        assert!(!format!("{shown:?}").contains("canary"));
        let secrets = Secrets::default();
        secrets.record("Canary-1");
        let url: Url = "https://canary-1.b/Canary%2D1/x/%63anary-1?n=Canary-1"
            .parse()
            .unwrap();
        let shown = RedactedUrl::new(&url, &secrets).to_string();
        assert!(!shown.to_lowercase().contains("canary"), "{shown}");
    }

    #[test]
    fn user_info_is_removed_up_to_the_host() {
        for (url, expected) in [
            ("https://me:canary@a.b/c", "https://a.b/c"),
            ("https://me:can@ary@a.b/c@1", "https://a.b/c@1"),
            ("https://a.b/c@1", "https://a.b/c@1"),
            ("https://me:canary@a.b?x", "https://a.b?x"),
            ("git@a.b:c/d", "git@a.b:c/d"),
        ] {
            assert_eq!(without_user_info(url), expected);
        }
    }
}
