//! Policy for retries and the delays between them.
//!
//! Defines the transient statuses, the exponential back-off with full jitter, and the interpretation of both forms of
//! `Retry-After`. All requests to one origin share a pause, so that parallel workers are not rejected one after the
//! other.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use tokio::time::Instant;

use super::error::Error;
use super::origin::Origin;
use crate::redact::Secrets;

/// Maximum length of a reported cause, in characters.
const MAX_CAUSE_LENGTH: usize = 500;

/// Maximum delay after the first failure. The maximum doubles with each further failure.
const FIRST_DELAY: Duration = Duration::from_millis(250);

/// Maximum delay if the server sends no `Retry-After`.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// Maximum accepted wait in `Retry-After`. A longer wait is an error.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Whether a status is transient: another attempt may succeed.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        408 | 429 | 499 | 500 | 502 | 503 | 504 | 522
    )
}

/// Returns the cause of an error, for the report of a retry: the failure of the exchange with its host, or the message
/// of the innermost cause.
pub(crate) fn retry_cause(error: &(dyn std::error::Error + 'static), secrets: &Secrets) -> String {
    let causes = || std::iter::successors(Some(error), |error| error.source());
    let mut exchanges = causes().filter_map(|cause| {
        let wrapped = cause.downcast_ref::<crate::Error>();
        wrapped.map_or(cause, crate::Error::failure).downcast_ref()
    });
    let failure = exchanges.find_map(Error::host_failure);
    let innermost = || causes().last().unwrap_or(error).to_string();
    secrets.escape(&failure.unwrap_or_else(innermost), MAX_CAUSE_LENGTH)
}

/// Returns a status as text, for the report of a retry.
pub(super) fn status_text(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    format!("{} {reason}", status.as_str())
        .trim_end()
        .to_owned()
}

/// Returns a random delay. Its maximum doubles with each failure, up to [`MAX_DELAY`].
pub(crate) fn backoff(failures: u32) -> Duration {
    backoff_with(failures, random_fraction())
}

fn backoff_with(failures: u32, fraction: f64) -> Duration {
    let span = FIRST_DELAY
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(MAX_DELAY);
    span.mul_f64(fraction)
}

/// Returns a number from 0 to 1, derived from the random seed of a hash map. This suffices to spread the requests of
/// several clients.
fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// Returns the wait that a 429 or 503 response requests with a valid `Retry-After` header (RFC 9110, 10.2.3).
pub(crate) fn retry_after(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Pauses that servers have requested, each with the time at which it ends, by origin.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<Origin, Instant>>);

impl Pauses {
    /// Records a pause of an origin until this moment. A longer recorded pause stays.
    pub(super) fn pause_until(&self, origin: &Origin, moment: Instant) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pauses.entry(origin.clone()).or_insert(moment);
        *pause = moment.max(*pause);
    }

    /// Waits until the pause of an origin has ended, if there is a pause.
    pub(super) async fn wait(&self, origin: &Origin) {
        let moment = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .copied();
        if let Some(moment) = moment {
            tokio::time::sleep_until(moment).await;
        }
    }
}

/// Reported failures of connections, by origin. Concurrent requests to an unreachable origin fail together, so that each
/// failure is reported for one of them only.
#[derive(Debug, Default)]
pub(super) struct ConnectionFailures(HashMap<Origin, u32>);

impl ConnectionFailures {
    /// Whether this failure count was not reported since the last response of the origin.
    pub(super) fn is_first(&mut self, origin: &Origin, failures: u32) -> bool {
        let known = self.0.entry(origin.clone()).or_default();
        let is_first = failures > *known;
        *known = failures.max(*known);
        is_first
    }

    /// Removes the failures of an origin that has sent a response.
    pub(super) fn reset(&mut self, origin: &Origin) {
        self.0.remove(origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_seconds(status: u16, value: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        retry_after(StatusCode::from_u16(status).unwrap(), &headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_accepts_only_seconds_and_dates() {
        assert_eq!(parse_seconds(429, "2"), Some(2));
        assert_eq!(parse_seconds(503, "86400"), Some(86400));
        assert_eq!(
            parse_seconds(429, "99999999999999999999999"),
            Some(u64::MAX)
        );
        assert_eq!(
            parse_seconds(503, "Sun, 06 Nov 1994 08:49:47 GMT"),
            Some(10)
        );
        assert_eq!(parse_seconds(503, "Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for bad in ["-1", "soon", "", "1.5"] {
            assert_eq!(parse_seconds(429, bad), None, "{bad}");
        }
        assert_eq!(parse_seconds(500, "2"), None);
    }

    #[test]
    fn backoff_doubles_up_to_cap() {
        assert_eq!(backoff_with(1, 1.0), Duration::from_millis(250));
        assert_eq!(backoff_with(3, 1.0), Duration::from_secs(1));
        assert_eq!(backoff_with(30, 1.0), MAX_DELAY);
        assert_eq!(backoff_with(30, 0.0), Duration::ZERO);
        assert!((0.0..=1.0).contains(&random_fraction()));
    }

    #[test]
    fn concurrent_connection_failures_are_reported_once() {
        let mut failures = ConnectionFailures::default();
        let origin = Origin::from_url(&"http://a.b/".parse().unwrap());
        let reported = [1, 1, 2, 2, 3].map(|count| failures.is_first(&origin, count));
        assert_eq!(reported, [true, false, true, false, true]);
        let other = Origin::from_url(&"http://c.d/".parse().unwrap());
        assert!(failures.is_first(&other, 1));
        failures.reset(&origin);
        assert!(failures.is_first(&origin, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_pause_is_shared_and_never_shortened() {
        let pauses = Pauses::default();
        let origin = Origin::from_url(&"http://a.b/".parse().unwrap());
        let start = Instant::now();
        pauses.pause_until(&origin, start + Duration::from_secs(2));
        pauses.pause_until(&origin, start + Duration::from_secs(1));
        pauses.wait(&origin).await;
        assert_eq!(start.elapsed().as_secs(), 2);
        pauses
            .wait(&Origin::from_url(&"http://c.d/".parse().unwrap()))
            .await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
