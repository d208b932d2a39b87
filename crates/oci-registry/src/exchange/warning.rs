//! Warnings that a server sends to users (distribution-spec, "Warnings"; RFC 7234, 5.5).
//!
//! Only warnings with code 299 and valid text are reported. Each warning is reported once and does not affect the
//! operation.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, header};

use super::origin::Origin;
use crate::escape::needs_escape;
use crate::redact::Secrets;

/// Maximum size of the warnings in a response, in bytes.
const MAX_WARNINGS_SIZE: usize = 4096;

/// Maximum number of different warnings that are reported.
const MAX_WARNINGS: usize = 100;

/// Warnings that have been reported.
#[derive(Debug, Default)]
pub(super) struct ReportedWarnings(Mutex<HashSet<(Origin, String)>>);

impl ReportedWarnings {
    /// Returns the new warnings in a response, with secrets redacted.
    pub(super) fn new_warnings(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        secrets: &Secrets,
    ) -> Vec<String> {
        if !headers.contains_key(header::WARNING) {
            return Vec::new();
        }
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for text in parse_all(headers) {
            let text = secrets.escape(&text, MAX_WARNINGS_SIZE);
            if reported.len() < MAX_WARNINGS && reported.insert((origin.clone(), text.clone())) {
                new.push(text);
            }
        }
        new
    }
}

fn parse_all(headers: &HeaderMap) -> Vec<String> {
    let mut size = 0;
    let values = headers.get_all(header::WARNING).iter();
    let texts = values
        .take_while(|value| {
            size += value.len();
            size <= MAX_WARNINGS_SIZE
        })
        .filter_map(|value| parse(value.to_str().ok()?));
    texts.collect()
}

/// Parses a warning of the form `299 - "text"`, and returns its text with backslash escapes resolved.
fn parse(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 - \"")?;
    let (mut text, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    let is_shown = !text.is_empty() && !text.contains(needs_escape);
    is_shown.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warning_299_with_text_is_reported() {
        for (value, expected) in [
            (
                r#"299 - "this repository is going away""#,
                Some("this repository is going away"),
            ),
            (
                r#"299 - "say \"yes\" \\ no" "Tue, 01 Jan 2030 00:00:00 GMT""#,
                Some(r#"say "yes" \ no"#),
            ),
            (r#"199 - "other""#, None),
            (r#"299 a.b "agent""#, None),
            (r#"299 - "unfinished"#, None),
            (r#"299 - "escaped\"#, None),
            (r#"299 - """#, None),
            ("299 - \"bell\u{7}\"", None),
            ("", None),
        ] {
            assert_eq!(parse(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn each_warning_is_reported_once_up_to_the_limit() {
        let reported = ReportedWarnings::default();
        let new_warnings = |origin: &Origin, headers: &HeaderMap| {
            reported.new_warnings(origin, headers, &Secrets::default())
        };
        let origin = Origin::from_url(&"https://a.b/".parse().unwrap());
        let with = |texts: &[String]| {
            let mut headers = HeaderMap::new();
            for text in texts {
                headers.append(
                    header::WARNING,
                    format!("299 - \"{text}\"").parse().unwrap(),
                );
            }
            headers
        };
        let (one, two) = ("one".to_owned(), "two".to_owned());
        let both = [one.clone(), two.clone(), one.clone()];
        assert_eq!(new_warnings(&origin, &with(&both)), [one.clone(), two]);
        assert!(new_warnings(&origin, &with(&both)).is_empty());
        let other = Origin::from_url(&"https://c.d/".parse().unwrap());
        assert_eq!(new_warnings(&other, &with(&both[..1])), [one]);
        let long = ["a".repeat(3000), "b".repeat(3000)];
        assert_eq!(new_warnings(&origin, &with(&long)).len(), 1);
        for at in 0..200 {
            new_warnings(&origin, &with(&[at.to_string()]));
        }
        assert!(new_warnings(&origin, &with(&["after all".to_owned()])).is_empty());
    }
}
