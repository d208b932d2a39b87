//! Whether enough moves: an exchange may take as long as it likes, and may not stand still.
//!
//! There is no limit for the whole of an exchange. There is one for how long less than [`FLOOR`] may move, so that a
//! server that sends a byte now and then cannot hold a program for ever.

use std::time::Duration;

use tokio::time::Instant;

/// Idle timeout: how long fewer than [`FLOOR`] bytes may move, in either direction, before an exchange is given up.
pub(super) const IDLE: Duration = Duration::from_mins(1);

/// Bytes that must move within [`IDLE`]: ten per second, as in cargo.
pub(super) const FLOOR: u64 = 600;

/// The pace of what is sent, by the clock: since when it has been too slow.
#[derive(Debug)]
pub(super) struct Sending {
    since: Instant,
    moved: u64,
}

impl Sending {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            moved: 0,
        }
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= FLOOR {
            *self = Self::new();
        }
    }

    /// Starts counting anew.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }

    /// Leaves out a time that does not count.
    pub(super) fn postpone(&mut self, time: Duration) {
        self.since += time;
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moved > 0
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

/// The pace of what is received. Only waiting counts: whoever takes the bytes may take their time.
#[derive(Debug, Default)]
pub(super) struct Receiving {
    waited: Duration,
    moved: u64,
}

impl Receiving {
    /// Waits for something that arrives; nothing when that takes too long.
    pub(super) async fn wait<T>(
        &mut self,
        arrival: impl Future<Output = T>,
        size: impl Fn(&T) -> usize,
    ) -> Option<T> {
        let began = Instant::now();
        let arrived = tokio::time::timeout(IDLE.saturating_sub(self.waited), arrival)
            .await
            .ok()?;
        self.waited += began.elapsed();
        self.moved += size(&arrived) as u64;
        if self.moved >= FLOOR {
            *self = Self::default();
        }
        Some(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seconds a reader bears with a server that sends so many bytes every so many seconds.
    async fn bears_with(bytes: usize, every: u64, takes: u64) -> Option<u64> {
        let (start, mut pace) = (Instant::now(), Receiving::default());
        for _ in 0..1000 {
            let arrival = async {
                tokio::time::sleep(Duration::from_secs(every)).await;
                bytes
            };
            if pace.wait(arrival, |bytes| *bytes).await.is_none() {
                return Some(start.elapsed().as_secs());
            }
            // What is done with the bytes is nobody's fault but ours.
            tokio::time::sleep(Duration::from_secs(takes)).await;
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_borne_and_a_drip_is_not() {
        assert_eq!(bears_with(1000, 1, 0).await, None);
        assert_eq!(bears_with(1000, 59, 0).await, None);
        assert_eq!(bears_with(11, 1, 0).await, None);
        assert_eq!(bears_with(1, 10, 0).await, Some(60));
        assert_eq!(bears_with(1000, 61, 0).await, Some(60));
        // A slow reader is not a slow server.
        assert_eq!(bears_with(1000, 1, 500).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_worth_speaking_of_counts_as_sent() {
        let (start, mut pace) = (Instant::now(), Sending::new());
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            pace.moved(99);
        }
        assert_eq!(pace.since(), start);
        pace.moved(6);
        assert_eq!(pace.since(), start + Duration::from_secs(6));
    }
}
