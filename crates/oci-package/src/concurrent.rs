//! Several things at once, but never too many: requests, and files that are read.

use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};

/// Runs these futures, at most `limit` at a time, and returns what they return, in their order. The first failure ends it.
///
/// The futures come as a list because a lazy iterator over borrowed things would make the whole not `Send`.
pub(crate) async fn all<T, F>(limit: usize, futures: Vec<F>) -> crate::Result<Vec<T>>
where
    F: Future<Output = crate::Result<T>>,
{
    let numbered = futures
        .into_iter()
        .enumerate()
        .map(|(number, future)| future.map(move |done| done.map(|value| (number, value))));
    let running = stream::iter(numbered).buffer_unordered(limit.max(1));
    let mut done: Vec<_> = running.try_collect().await?;
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}
