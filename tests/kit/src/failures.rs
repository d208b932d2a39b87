//! Fake registry whose repositories each fail in a different way, and a filter that makes error messages reproducible.

use crate::server::{Response, Server};

/// Starts a registry whose response depends on the first component of the repository name.
///
/// | name | response |
/// | --- | --- |
/// | `content` | 200 with the bytes `content` |
/// | `other` | 200 with different bytes |
/// | `html` | 200 with an HTML page |
/// | `unauthenticated` | 401 with a challenge for Basic authentication |
/// | `denied` | 403 `DENIED` |
/// | `limited` | 429 `TOOMANYREQUESTS`, to be retried in a day |
/// | `unavailable` | 503 `UNAVAILABLE` |
/// | any other name | 404 `NAME_UNKNOWN` |
#[must_use]
pub fn failing_registry() -> Server {
    Server::start(|request, _| match request.path().split('/').nth(2) {
        Some("content") => Response::new(200).body("content"),
        Some("other") => Response::new(200).body("another"),
        Some("html") => Response::new(200)
            .header("Content-Type", "text/html")
            .body("<html>"),
        Some("unauthenticated") => Response::challenge("Basic realm=\"testkit\""),
        Some("denied") => Response::error(403, "DENIED"),
        Some("limited") => {
            Response::error(429, "TOOMANYREQUESTS").header("Retry-After", 24 * 60 * 60)
        }
        Some("unavailable") => Response::error(503, "UNAVAILABLE"),
        _ => Response::error(404, "NAME_UNKNOWN"),
    })
}

/// Replaces the random part in the name of a partial file, so that error messages are reproducible.
#[must_use]
pub fn without_random_name(text: String) -> String {
    match text.split_once(".partial-") {
        Some((start, end)) => format!("{start}.partial-RANDOM{}", &end["RANDOM".len()..]),
        None => text,
    }
}
