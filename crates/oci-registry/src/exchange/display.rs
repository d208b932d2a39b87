//! URLs made safe to show.
//!
//! A query can be a credential, and so can the user name in a URL. No other form of a URL enters a message.

use std::fmt;

use url::Url;

use crate::escape::escape;

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
            // A key alone may be a signature as well as a value may.
            if value.is_empty() && !HARMLESS.contains(&key.as_ref()) {
                shown.push('…');
                continue;
            }
            shown.push_str(&key);
            shown.push('=');
            shown.push_str(if HARMLESS.contains(&key.as_ref()) {
                &value
            } else {
                "…"
            });
        }
        Self(escape(&shown, 1000))
    }
}

impl ShownUrl {
    /// The URL without the marks that it has within a sentence.
    pub(crate) fn bare(&self) -> &str {
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
}
