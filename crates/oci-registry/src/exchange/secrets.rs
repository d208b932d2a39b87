//! What must not be shown, whoever says it.
//!
//! A server knows the credential that it was sent, and may repeat it: in the words of a refusal, in a warning, in the place
//! that it redirects to. Everything that leaves this process as an authorisation is noted here, in the forms in which it may
//! come back, and hidden from whatever a server says before that is shown. What a server makes unrecognisable on purpose
//! cannot be told from other text.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::escape::escape;

/// How many are kept, those that were sent last.
const MAX_SECRETS: usize = 100;

/// Shorter ones are hidden only where they stand alone: they are parts of other words.
const SHORT: usize = 4;

/// What stands in place of a secret.
const HIDDEN: &str = "…";

/// The secrets that have been sent. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<Noted>>>);

struct Noted {
    /// As it was given.
    given: Vec<u8>,
    /// As it may come back, in lower case, since hosts are.
    forms: Vec<String>,
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
            forms: forms(&secrets()),
        }));
        if all.len() > MAX_SECRETS {
            all.pop_front();
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text without what has been noted.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        let all = self.all();
        for form in all.iter().flat_map(|noted| &noted.forms) {
            let mut from = 0;
            while let Some(at) = find(&shown, form, from) {
                shown.replace_range(at..at + form.len(), HIDDEN);
                from = at + HIDDEN.len();
            }
        }
        shown
    }

    /// A server's text as it may be shown: on one line, cut after `limit` characters, and without secrets.
    pub(crate) fn escape(&self, text: &str, limit: usize) -> String {
        escape(&self.hide(text), limit)
    }
}

/// How secrets may be written, the longest first: it may hold another one.
fn forms(secrets: &[String]) -> Vec<String> {
    let forms = secrets.iter().flat_map(|secret| {
        let quoted = serde_json::Value::from(secret.as_str()).to_string();
        [
            secret.to_owned(),
            quoted[1..quoted.len() - 1].to_owned(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            STANDARD.encode(secret),
        ]
    });
    let forms = forms.filter(|form| !form.is_empty());
    let forms: BTreeSet<_> = forms.map(|form| form.to_ascii_lowercase()).collect();
    let mut forms: Vec<_> = forms.into_iter().collect();
    forms.sort_by_key(|form| Reverse(form.len()));
    forms
}

/// Where a form stands in a text, in whatever case, at this byte or after it.
fn find(text: &str, form: &str, mut from: usize) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    while let Some(at) = lower[from..].find(form).map(|at| from + at) {
        let end = at + form.len();
        let is_word = |character: char| character.is_alphanumeric();
        let is_part = lower[..at].chars().next_back().is_some_and(is_word)
            || lower[end..].chars().next().is_some_and(is_word);
        if form.len() >= SHORT || !is_part {
            return Some(at);
        }
        from = end;
    }
    None
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
