//! Minimum transfer rate of an exchange. The total time of an exchange is unlimited.
//!
//! [`MIN_BYTES`] bytes must be transferred within each [`IDLE_TIMEOUT`], so that a server that occasionally sends a
//! byte cannot block the client indefinitely.

use std::time::Duration;

use tokio::time::Instant;

/// Idle timeout: maximum time for the transfer of [`MIN_BYTES`] bytes in either direction.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Minimum number of bytes within [`IDLE_TIMEOUT`]: ten bytes per second, as in cargo.
pub(super) const MIN_BYTES: u64 = 600;

/// Measurement of the rate at which data is sent.
#[derive(Debug)]
pub(super) struct SendRate {
    since: Instant,
    transferred: u64,
}

impl SendRate {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            transferred: 0,
        }
    }

    pub(super) fn record(&mut self, bytes: usize) {
        self.transferred += bytes as u64;
        if self.transferred >= MIN_BYTES {
            *self = Self::new();
        }
    }

    /// Restarts the measurement.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }

    /// Excludes a period from the measurement.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.since += time;
    }

    pub(super) fn has_sent_bytes(&self) -> bool {
        self.transferred > 0
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

/// Measurement of the rate at which data is received. Only the time spent waiting for the server counts, not the time
/// in which the caller processes the data.
#[derive(Debug, Default)]
pub(super) struct ReceiveRate {
    waited: Duration,
    transferred: u64,
}

impl ReceiveRate {
    /// Waits for data. Returns `None` after an idle timeout.
    pub(super) async fn wait<T>(
        &mut self,
        arrival: impl Future<Output = T>,
        size: impl Fn(&T) -> usize,
    ) -> Option<T> {
        let began = Instant::now();
        let arrived = tokio::time::timeout(IDLE_TIMEOUT.saturating_sub(self.waited), arrival)
            .await
            .ok()?;
        self.waited += began.elapsed();
        self.transferred += size(&arrived) as u64;
        if self.transferred >= MIN_BYTES {
            *self = Self::default();
        }
        Some(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the seconds after which a reader times out. The server sends `bytes` every `every` seconds, and the
    /// reader needs `takes` seconds to process them.
    async fn seconds_to_timeout(bytes: usize, every: u64, takes: u64) -> Option<u64> {
        let (start, mut rate) = (Instant::now(), ReceiveRate::default());
        for _ in 0..1000 {
            let arrival = async {
                tokio::time::sleep(Duration::from_secs(every)).await;
                bytes
            };
            if rate.wait(arrival, |bytes| *bytes).await.is_none() {
                return Some(start.elapsed().as_secs());
            }
            // Simulates the processing time of the reader.
            tokio::time::sleep(Duration::from_secs(takes)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn only_rate_below_minimum_times_out() {
        assert_eq!(seconds_to_timeout(1000, 1, 0).await, None);
        assert_eq!(seconds_to_timeout(1000, 59, 0).await, None);
        assert_eq!(seconds_to_timeout(11, 1, 0).await, None);
        assert_eq!(seconds_to_timeout(1, 10, 0).await, Some(60));
        assert_eq!(seconds_to_timeout(1000, 61, 0).await, Some(60));
        // The processing time of the reader does not count as idle time.
        assert_eq!(seconds_to_timeout(1000, 1, 500).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn sending_below_minimum_rate_is_not_progress() {
        let (start, mut rate) = (Instant::now(), SendRate::new());
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            rate.record(99);
        }
        assert_eq!(rate.since(), start);
        rate.record(6);
        assert_eq!(rate.since(), start + Duration::from_secs(6));
    }
}
