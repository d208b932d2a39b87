//! Asynchronous work for synchronous commands.
//!
//! [`Runtime::wait`] waits for one value, and [`Runtime::rows`] streams a table. [`Runtime::map_values`] and
//! [`Runtime::map_tables`] process all operands of a command in this way. Ctrl-C stops all of them: the engine does not
//! cancel a plugin call, so the plugin itself handles the interrupt.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use nu_plugin::EngineInterface;
use nu_protocol::{
    HandlerGuard, LabeledError, ListStream, PipelineData, PipelineMetadata, ShellError,
    SignalAction, Span, Value,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::input::{Operand, Operands};
use crate::{report, serve};

/// Stream of table rows.
pub(crate) type Rows = BoxStream<'static, Result<Value, LabeledError>>;

/// Maximum number of available rows that are passed on as one batch.
///
/// Batches reduce the number of thread wake-ups. Up to two more batches are produced before the shell reads a row, and
/// the engine itself buffers up to 100 rows.
const BATCH_ROWS: usize = 32;

/// Time that blocking tasks have to finish after the shell closes the connection.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Worker threads, started on first use.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    threads: OnceLock<tokio::runtime::Runtime>,
    /// Token that is cancelled when the shell closes the connection. All commands then stop.
    disconnected: CancellationToken,
}

impl Runtime {
    /// Waits for one result. Fails if the user interrupts the command.
    pub(crate) fn wait<T>(
        &self,
        engine: &EngineInterface,
        span: Span,
        work: impl Future<Output = Result<T, LabeledError>>,
    ) -> Result<T, LabeledError> {
        let interrupt = self.disconnected.child_token();
        let _handler = cancel_on_interrupt(engine, &interrupt)?;
        let outcome = self.start()?.block_on(interrupt.run_until_cancelled(work));
        let outcome = outcome.unwrap_or_else(|| Err(interrupted_error(span)));
        outcome.map_err(report::without_workflow_commands)
    }

    /// Streams rows to the shell as they become available. Stops when the shell drops the table.
    ///
    /// Waits for the first row. An error before the first row therefore fails the command instead of becoming a row.
    pub(crate) fn rows(
        &self,
        engine: &EngineInterface,
        span: Span,
        rows: Rows,
        metadata: Option<PipelineMetadata>,
    ) -> Result<PipelineData, LabeledError> {
        let stop = self.disconnected.child_token();
        let handler = cancel_on_interrupt(engine, &stop)?;
        let (sender, mut receiver) = mpsc::channel(1);
        self.start()?.spawn(
            stop.clone()
                .run_until_cancelled_owned(send_rows(rows, sender)),
        );
        let mut batch = receiver.blocking_recv().unwrap_or_default().into_iter();
        let first = batch.next().transpose();
        let mut first = first.map_err(report::without_workflow_commands)?;
        if stop.is_cancelled() {
            return Err(interrupted_error(span));
        }
        // The iterator owns the guards. If the shell drops the iterator, as for `first 3`, pending requests are
        // cancelled.
        let guards = (handler, stop.clone().drop_guard());
        let mut is_interrupt_reported = false;
        let rows = std::iter::from_fn(move || {
            let _guards = &guards;
            let is_first = first.is_some();
            if batch.len() == 0 && !is_first {
                batch = receiver.blocking_recv().unwrap_or_default().into_iter();
            }
            let row = first.take().map(Ok).or_else(|| batch.next());
            // The first row is flushed immediately, because the shell may not read another row.
            serve::set_next_row_ready(!is_first && batch.len() > 0);
            let row = match row {
                Some(row) => row,
                // The last row of an interrupted table is an error, because the table would otherwise look complete.
                None if stop.is_cancelled() && !is_interrupt_reported => {
                    is_interrupt_reported = true;
                    Err(interrupted_error(span))
                }
                None => return None,
            };
            Some(row.unwrap_or_else(|error| {
                let error = report::without_workflow_commands(error);
                Value::error(error.into(), span)
            }))
        });
        let stream = ListStream::new(rows, span, engine.signals().clone());
        Ok(PipelineData::list_stream(stream, metadata))
    }

    /// Returns one value for a single operand, or streams one row per operand of a list, in order. Up to `concurrency`
    /// operands are processed at the same time.
    pub(crate) fn map_values<T, F>(
        &self,
        engine: &EngineInterface,
        span: Span,
        operands: Operands<T>,
        concurrency: usize,
        work: impl Fn(Operand<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Value, LabeledError>> + Send + 'static,
    {
        match operands {
            Operands::One(operand) => {
                let value = self.wait(engine, span, work(operand))?;
                Ok(PipelineData::value(value, None))
            }
            Operands::List(operands) => {
                let rows = map_in_order(operands, concurrency, work);
                self.rows(engine, span, rows.boxed(), None)
            }
        }
    }

    /// Streams one table with the rows of all operands, in order. While the shell reads the rows of one operand, the
    /// first rows of the next operands are already fetched.
    pub(crate) fn map_tables<T, F>(
        &self,
        engine: &EngineInterface,
        span: Span,
        operands: Operands<T>,
        concurrency: usize,
        work: impl Fn(Operand<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let tables = map_in_order(operands.into_stream(), concurrency, move |operand| {
            let rows = work(operand);
            async move {
                let mut rows = match rows.await {
                    Ok(rows) => rows,
                    // The error follows the rows of the previous operands.
                    Err(error) => stream::iter([Err(error)]).boxed(),
                };
                let first = rows.next().await;
                Ok(stream::iter(first).chain(rows))
            }
        });
        self.rows(engine, span, tables.try_flatten().boxed(), None)
    }

    /// Returns the worker threads. Starts them if they are not running.
    pub(crate) fn start(&self) -> Result<&tokio::runtime::Runtime, LabeledError> {
        if let Some(runtime) = self.threads.get() {
            return Ok(runtime);
        }
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("oci")
            .enable_all()
            .build();
        let started = started.map_err(|error| {
            LabeledError::new("failed to start the threads for network requests")
                .with_code("oci::io")
                .with_inner(LabeledError::new(error.to_string()))
        })?;
        Ok(self.threads.get_or_init(|| started))
    }

    /// Returns the token that is cancelled when the shell closes the connection.
    pub(crate) fn disconnected(&self) -> CancellationToken {
        self.disconnected.clone()
    }

    /// Stops the worker threads. Does not wait for a blocked thread, such as a thread that writes to a pipe that
    /// nothing reads.
    pub(crate) fn shut_down(self) {
        if let Some(threads) = self.threads.into_inner() {
            threads.shutdown_timeout(SHUTDOWN_TIMEOUT);
        }
    }
}

/// Maps items concurrently and yields the results in the order of the items.
///
/// An error in the input keeps its position: it is yielded after the results of all earlier items.
pub(crate) fn map_in_order<T, U: Send + 'static, F>(
    items: impl Stream<Item = Result<T, LabeledError>> + Send + 'static,
    concurrency: usize,
    work: impl Fn(T) -> F + Send + 'static,
) -> impl Stream<Item = Result<U, LabeledError>> + Send
where
    F: Future<Output = Result<U, LabeledError>> + Send + 'static,
{
    let tasks = items.map(move |item| match item {
        Ok(item) => spawn(work(item)).left_future(),
        Err(error) => ready(Err(error)).right_future(),
    });
    tasks.buffered(concurrency)
}

/// Spawns a task. Dropping the returned future aborts the task.
///
/// While the shell reads no rows, only a task makes progress. The connections of a plain future would time out.
fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move {
        match task.await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // While the task is awaited, only the shutdown of the runtime cancels it.
                Err(_) => futures_util::future::pending().await,
            },
        }
    }
}

/// Sends rows up to and including the first error.
async fn send_rows(rows: Rows, sender: mpsc::Sender<Vec<Result<Value, LabeledError>>>) {
    let work = async {
        let mut rows = pin!(up_to_error(rows).ready_chunks(BATCH_ROWS));
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                break;
            }
        }
    };
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        // Without this error the table would look complete.
        let error =
            LabeledError::new("failed to produce the next row: this is a bug in nu_plugin_oci");
        // Sending fails only if the receiver was dropped.
        let _ = sender.send(vec![Err(error)]).await;
    }
}

/// Yields rows up to and including the first error. Does not poll the stream after an error, because polling may have
/// side effects.
fn up_to_error(rows: Rows) -> impl Stream<Item = Result<Value, LabeledError>> + Send {
    stream::unfold(Some(rows), |rows| async {
        let mut rows = rows?;
        let row = rows.next().await?;
        let rest = row.is_ok().then_some(rows);
        Some((row, rest))
    })
}

fn cancel_on_interrupt(
    engine: &EngineInterface,
    token: &CancellationToken,
) -> Result<HandlerGuard, LabeledError> {
    let token = token.clone();
    let handler = move |action| {
        // At every prompt, the engine calls the handler with `SignalAction::Reset`, which is not an interrupt.
        if action == SignalAction::Interrupt {
            token.cancel();
        }
    };
    Ok(engine.register_signal_handler(Box::new(handler))?)
}

fn interrupted_error(span: Span) -> LabeledError {
    ShellError::Interrupted { span }.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn rows_after_an_error_are_not_polled() {
        let polled = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&polled);
        let rows = stream::iter(0..5).then(move |at| {
            count.fetch_add(1, Ordering::Relaxed);
            ready(match at {
                2 => Err(LabeledError::new("no")),
                _ => Ok(Value::test_int(at)),
            })
        });
        let (sender, mut receiver) = mpsc::channel(1);
        send_rows(rows.boxed(), sender).await;
        let batch = receiver.recv().await.unwrap();
        assert_eq!(batch.len(), 3, "{batch:?}");
        assert!(batch[2].is_err());
        assert!(receiver.recv().await.is_none());
        assert_eq!(polled.load(Ordering::Relaxed), 3);
    }
}
