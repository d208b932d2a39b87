//! Redacted form of URLs for display.
//!
//! The query and the user info of a URL can contain a credential. Messages contain URLs in this form only.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use super::secrets::Secrets;

/// Query parameters whose values are requested names or digests and contain no secret.
const SAFE_PARAMETERS: [&str; 6] = ["n", "last", "digest", "mount", "from", "scope"];

/// URL for display, without user info and with the values of unknown query parameters redacted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ShownUrl(String);

impl ShownUrl {
    /// Returns the display form of a URL that a server may have chosen. Recorded secrets are redacted too.
    pub(crate) fn new(url: &Url, secrets: &Secrets) -> Self {
        let path = percent_decode_str(url.path()).decode_utf8_lossy();
        let redacted = secrets.redact(&path);
        // The path keeps its encoding unless a part of it is redacted.
        let path = if *path == redacted {
            url.path()
        } else {
            &redacted
        };
        let mut shown = format!("{}{path}", url.origin().ascii_serialization());
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

    /// Returns the URL without the quotation marks that it has within a sentence.
    pub(crate) fn without_quotes(&self) -> &str {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_url_contains_no_possible_credential() {
        let url: Url = "https://u:canary@a.b/v2/x?n=10&X-Signature=canary&digest=sha256:1#canary"
            .parse()
            .unwrap();
        let shown = ShownUrl::new(&url, &Secrets::default());
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
        let shown = ShownUrl::new(&url, &secrets).to_string();
        assert!(!shown.to_lowercase().contains("canary"), "{shown}");
    }
}
