//! What must not be shown, whoever says it.
//!
//! A server knows the credential that it was sent, and may repeat it: in the words of a refusal, in a warning, in the place
//! that it redirects to. Everything that leaves this process as an authorisation is noted here, in the forms in which it may
//! come back, and hidden from whatever a server says before that is shown. What a server makes unrecognisable on purpose
//! cannot be told from other text.

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

/// How many are kept, those that were sent last.
const MAX_SECRETS: usize = 100;

/// Shorter ones are hidden only where they stand alone: they are parts of other words.
const SHORT: usize = 4;

/// A word of this many bytes may be a credential.
const LONG: usize = 16;

/// How much of a text is shown at most, in bytes: more than any message quotes.
const MAX_SEARCHED: usize = 16 << 10;

/// What stands in place of a secret.
const HIDDEN: &str = "…";

/// The secrets that have been sent. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<Noted>>>);

struct Noted {
    /// As it was given.
    given: Vec<u8>,
    /// As it may come back, in lower case, since hosts are.
    forms: Arc<[String]>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Notes what an `Authorization` shows.
    pub(super) fn note_header(&self, header: &HeaderValue) {
        self.note_once(header.as_bytes(), || {
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
                // Quoted like the whole one, where a server has dropped the padding.
                secrets.push(secret.trim_end_matches('=').to_owned());
            }
            secrets
        });
    }

    /// Notes a secret.
    pub(crate) fn note(&self, secret: &str) {
        self.note_once(secret.as_bytes(), || vec![secret.to_owned()]);
    }

    fn note_once(&self, given: &[u8], secrets: impl FnOnce() -> Vec<String>) {
        let mut all = self.all();
        let known = all.iter().position(|noted| noted.given == given);
        let noted = known.and_then(|at| all.remove(at));
        all.push_back(noted.unwrap_or_else(|| Noted {
            given: given.to_owned(),
            forms: forms(&secrets()).into_iter().collect(),
        }));
        if all.len() > MAX_SECRETS {
            all.pop_front();
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without what has been noted. What is longer than any message is cut, and no secret in two.
    pub(crate) fn hide(&self, text: &str) -> String {
        let all: Vec<_> = self.all().iter().map(|it| Arc::clone(&it.forms)).collect();
        let forms = || all.iter().flat_map(|forms| forms.iter());
        // A secret that begins in what is shown is searched to its end.
        let longest = forms().map(String::len).max().unwrap_or_default();
        let searched = text.floor_char_boundary(MAX_SEARCHED.saturating_add(longest));
        let lower = text[..searched].to_ascii_lowercase();
        let mut hits: Vec<_> = forms().flat_map(|form| hits(&lower, form)).collect();
        hits.sort_unstable_by_key(|hit| (hit.start, Reverse(hit.end)));
        let end = text.floor_char_boundary(MAX_SEARCHED);
        let (mut shown, mut from) = (String::new(), 0);
        for hit in hits.into_iter().take_while(|hit| hit.start < end) {
            if hit.start >= from {
                shown.push_str(&text[from..hit.start]);
                shown.push_str(HIDDEN);
            }
            // Those that overlap are one.
            from = from.max(hit.end);
        }
        if from < end {
            shown.push_str(&text[from..end]);
        }
        if end < text.len() {
            shown.push_str(HIDDEN);
        }
        shown
    }

    /// A server's text as it may be shown: on one line, cut after `limit` characters, and without secrets.
    pub(crate) fn escape(&self, text: &str, limit: usize) -> String {
        escape(&self.hide(text), limit)
    }

    /// As [`Secrets::escape`], for what a server says in a refusal, where it may quote what it was sent in a form of its own.
    pub(crate) fn quote(&self, text: &str, limit: usize) -> String {
        // On one line, so that a space ends a word, and cut last: of a long word a short one would be left.
        escape(&without_secrets(&self.escape(text, usize::MAX)), limit)
    }
}

/// A text without the words that could be a credential echoed back in a form of the server's own: long ones that are no
/// words of any language, and no names of repositories.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut hide_next = false;
    let words = text.split(' ').map(|word| {
        let hidden = std::mem::replace(
            &mut hide_next,
            matches!(word.trim_end_matches(':'), "Basic" | "Bearer"),
        );
        if hidden || is_token(word) {
            HIDDEN
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_token(word: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-.~%".contains(&byte);
    word.len() >= LONG && word.bytes().all(is_of_token) && !is_name(word)
}

/// Whether a word reads like `library/some-image` or `MANIFEST_UNKNOWN`.
fn is_name(word: &str) -> bool {
    let mut parts = word.split(['/', '.', '_', '-']);
    parts.all(|part| {
        let is_short = part.len() < LONG;
        let is_letter = |byte: u8| byte.is_ascii_lowercase();
        let is_small = |byte: u8| is_letter(byte) || (is_short && byte.is_ascii_digit());
        part.bytes().all(is_small) || part.bytes().all(|byte| byte.is_ascii_uppercase())
    })
}

/// How secrets may be written.
fn forms(secrets: &[String]) -> BTreeSet<String> {
    let forms = secrets.iter().flat_map(|secret| {
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
    let forms = forms.filter(|form| !form.is_empty());
    forms.map(|form| form.to_ascii_lowercase()).collect()
}

/// Where a form stands in a text, both in lower case.
fn hits<'a>(lower: &'a str, form: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let all = lower.match_indices(form);
    let all = all.map(|(at, _)| at..at + form.len());
    all.filter(move |hit| {
        let is_word = |character: char| character.is_alphanumeric();
        form.len() >= SHORT
            || !(lower[..hit.start].ends_with(is_word) || lower[hit.end..].starts_with(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_it_was_sent_in() {
        let secrets = Secrets::default();
        let pair = STANDARD.encode("me:pass\"wörd /1");
        let header = HeaderValue::from_str(&format!("Basic {pair}")).unwrap();
        secrets.note_header(&header);
        secrets.note_header(&header);
        secrets.note_header(&HeaderValue::from_static("Bearer opaque.token-1"));
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
            assert_eq!(secrets.hide(&text), expected, "{text}");
        }
        assert!(!format!("{secrets:?}").contains("opaque"));
    }

    #[test]
    fn base64_is_hidden_in_all_its_alphabets() {
        let secrets = Secrets::default();
        // With both letters in which the alphabets differ, and with padding.
        let pair = "me:>>>???\u{fb}";
        let encoded = STANDARD.encode(pair);
        assert!(encoded.contains('+') && encoded.contains('/') && encoded.ends_with('='));
        secrets.note_header(&HeaderValue::from_str(&format!("Basic {encoded}")).unwrap());
        let bare = encoded.trim_end_matches('=');
        for text in [
            encoded.clone(),
            bare.to_owned(),
            URL_SAFE.encode(pair),
            URL_SAFE_NO_PAD.encode(pair),
            utf8_percent_encode(&encoded, NON_ALPHANUMERIC).to_string(),
            utf8_percent_encode(bare, NON_ALPHANUMERIC).to_string(),
        ] {
            assert_eq!(secrets.hide(&format!("<{text}>")), "<…>", "{text}");
        }
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_either() {
        let secrets = Secrets::default();
        secrets.note("first-middle");
        secrets.note("middle-last!");
        assert_eq!(secrets.hide("(first-middle-last!)"), "(…)");
    }

    #[test]
    fn a_long_text_is_cut_and_no_secret_with_it() {
        let secrets = Secrets::default();
        let secret = format!("start{}end", "é".repeat(MAX_SEARCHED));
        secrets.note(&secret);
        for before in [0, 1, MAX_SEARCHED - 1] {
            let text = format!("{}{secret}{}", "-".repeat(before), "+".repeat(1 << 20));
            let expected = format!("{}……", "-".repeat(before));
            assert!(secrets.hide(&text) == expected, "{before}");
        }
        let before = "-".repeat(MAX_SEARCHED);
        assert!(secrets.hide(&format!("{before}{secret}")) == format!("{before}…"));
        assert!(secrets.hide(&before) == before);
        // As many hits as there can be, in a text of which each has to be seen.
        secrets.note("hits");
        let hits = "hits".repeat(MAX_SEARCHED / 4);
        assert_eq!(secrets.hide(&hits), HIDDEN.repeat(MAX_SEARCHED / 4));
    }

    #[test]
    fn what_could_be_a_credential_is_not_quoted() {
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
        // No part of it is left where the text is cut.
        let long = format!("{} {}", "-".repeat(10), "aB3".repeat(100));
        assert_eq!(quote(&long), "---------- …");
    }

    #[test]
    fn a_short_secret_is_hidden_where_it_stands_alone() {
        let secrets = Secrets::default();
        secrets.note("ab1");
        secrets.note("");
        assert_eq!(secrets.hide("ab1: fab1 (ab1) ab12"), "…: fab1 (…) ab12");
    }

    #[test]
    fn no_more_is_kept_than_a_limit() {
        let secrets = Secrets::default();
        for at in 0..1000 {
            secrets.note(&format!("secret-{at:04}"));
            secrets.note("in use");
        }
        let shown = secrets.hide("secret-0000, secret-0999, in use");
        assert_eq!(shown, "secret-0000, …, …");
        assert_eq!(secrets.all().len(), MAX_SECRETS);
    }
}
