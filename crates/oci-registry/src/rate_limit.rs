//! Rate limit that a registry reports (`RateLimit-Limit` and `RateLimit-Remaining`).
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-03. Docker Hub sends them with a window
//! (`100;w=21600`), and only in responses to requests for manifests.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;

/// Rate limit of a registry, as stated in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Number of requests that the registry accepts per window.
    pub limit: Option<u64>,
    /// Number of requests that remain in the window.
    pub remaining: Option<u64>,
    /// Length of the window.
    pub window: Option<Duration>,
}

impl RateLimit {
    /// Reads the rate limit from the headers of a response. Returns `None` if no header is valid.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (limit, limit_window) = read_header(headers, "ratelimit-limit");
        let (remaining, remaining_window) = read_header(headers, "ratelimit-remaining");
        limit.or(remaining)?;
        Some(Self {
            limit,
            remaining,
            window: limit_window.or(remaining_window),
        })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.remaining, self.limit) {
            (Some(remaining), Some(limit)) => write!(f, "{remaining} of {limit} requests remain")?,
            (Some(remaining), None) => write!(f, "{remaining} requests remain")?,
            (None, Some(limit)) => write!(f, "{limit} requests")?,
            (None, None) => f.write_str("unknown")?,
        }
        match self.window {
            Some(window) => write!(f, " (window: {} s)", window.as_secs()),
            None => Ok(()),
        }
    }
}

/// Returns the number and the window of the first item of a header: `NUMBER[;w=SECONDS][, …]`.
fn read_header(headers: &HeaderMap, name: &str) -> (Option<u64>, Option<Duration>) {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let item = value.unwrap_or_default().split(',').next();
    let mut parts = item.unwrap_or_default().split(';');
    let Some(number) = parts.next().and_then(parse_number) else {
        return (None, None);
    };
    let seconds = parts.find_map(|parameter| parameter.trim().strip_prefix("w="));
    let window = seconds.and_then(parse_number).map(Duration::from_secs);
    (Some(number), window)
}

/// Parses decimal digits. The number parser of the standard library also accepts a sign.
fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(limit: &str, remaining: &str) -> Option<RateLimit> {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ratelimit-limit", limit),
            ("ratelimit-remaining", remaining),
        ] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        RateLimit::from_headers(&headers)
    }

    #[test]
    fn rate_limit_headers_are_read_with_and_without_window() {
        let text = |limit, remaining| read(limit, remaining).map(|limit| limit.to_string());
        for (limit, remaining, expected) in [
            (
                "100;w=21600",
                "76;w=21600",
                "76 of 100 requests remain (window: 21600 s)",
            ),
            ("2000", "1999", "1999 of 2000 requests remain"),
            (
                "10, 10;w=1, 50;w=60;comment=\"x\"",
                "9",
                "9 of 10 requests remain",
            ),
            ("100 ; w=60", "", "100 requests (window: 60 s)"),
            ("", "0", "0 requests remain"),
            ("unlimited", "3;w=x", "3 requests remain"),
        ] {
            assert_eq!(text(limit, remaining).as_deref(), Some(expected), "{limit}");
        }
    }

    #[test]
    fn invalid_rate_limit_headers_are_ignored() {
        for value in [
            "",
            "+5",
            "-1",
            "1e3",
            "18446744073709551616",
            ";w=60",
            ",5",
            "0x10",
            "5 6",
        ] {
            assert_eq!(read(value, value), None, "{value}");
        }
    }
}
