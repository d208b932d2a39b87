//! Bounded concurrency for requests and file reads.

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// Runs futures, at most `limit` at a time, and returns their results in order. The first error cancels the others.
///
/// The futures are passed as a `Vec`, because a lazy iterator that borrows would make the returned future not `Send`.
pub(crate) async fn run_all<T, F>(limit: usize, futures: Vec<F>) -> crate::Result<Vec<T>>
where
    F: Future<Output = crate::Result<T>>,
{
    let numbered = futures
        .into_iter()
        .enumerate()
        .map(|(number, future)| future.map(move |result| result.map(|value| (number, value))));
    let running = stream::iter(numbered).buffer_unordered(limit.max(1));
    let mut results: Vec<_> = running.try_collect().await?;
    results.sort_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, value)| value).collect())
}
