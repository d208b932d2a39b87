//! Waiting for the network without holding up the shell.
//!
//! Owns the threads that asynchronous work runs on, and the two ways for a command to use them: [`Runtime::wait`] for one
//! value, [`Runtime::rows`] for a table whose rows are passed on as they come; and, made of them, what a command does with
//! all that it was asked about. Both end at Ctrl-C: the engine waits for a plugin without looking, so that the plugin
//! itself has to stop.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::OnceLock;

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

use crate::input::{Asked, Subject};
use crate::serve;

/// Rows on their way, of any table.
pub(crate) type Rows = BoxStream<'static, Result<Value, LabeledError>>;

/// How many rows are handed over together when they are there, to this thread and from it to the shell: each time somebody
/// has to wake. Twice as many more are made before one is taken, and the engine takes up to a hundred by itself.
const TOGETHER: usize = 32;

/// The threads of asynchronous work, started when first needed.
#[derive(Debug, Default)]
pub(crate) struct Runtime(OnceLock<tokio::runtime::Runtime>);

impl Runtime {
    /// Waits for one result.
    pub(crate) fn wait<T>(
        &self,
        engine: &EngineInterface,
        span: Span,
        work: impl Future<Output = Result<T, LabeledError>>,
    ) -> Result<T, LabeledError> {
        let interrupt = CancellationToken::new();
        let _handler = on_interrupt(engine, &interrupt)?;
        let done = self.start()?.block_on(interrupt.run_until_cancelled(work));
        done.unwrap_or_else(|| Err(interrupted(span)))
    }

    /// Passes rows on as they come, and stops making them when nobody takes them any more.
    ///
    /// The first row is waited for here: what goes wrong before it is an error of the command, not a row.
    pub(crate) fn rows(
        &self,
        engine: &EngineInterface,
        span: Span,
        rows: Rows,
        metadata: Option<PipelineMetadata>,
    ) -> Result<PipelineData, LabeledError> {
        let stop = CancellationToken::new();
        let handler = on_interrupt(engine, &stop)?;
        let (sender, mut receiver) = mpsc::channel(1);
        self.start()?
            .spawn(stop.clone().run_until_cancelled_owned(send(rows, sender)));
        let mut made = receiver.blocking_recv().unwrap_or_default().into_iter();
        let mut first = made.next().transpose()?;
        if stop.is_cancelled() {
            return Err(interrupted(span));
        }
        // Held by the iterator: `first 3` drops it, and with it everything that is still under way.
        let held = (handler, stop.clone().drop_guard());
        let mut is_told = false;
        let rows = std::iter::from_fn(move || {
            let _held = &held;
            let is_first = first.is_some();
            if made.len() == 0 && !is_first {
                made = receiver.blocking_recv().unwrap_or_default().into_iter();
            }
            let row = first.take().map(Ok).or_else(|| made.next());
            // The first goes out at once: it may be all that is wanted.
            serve::next_row_is_at_hand(!is_first && made.len() > 0);
            let row = match row {
                Some(row) => row,
                // A table that was cut short says so; it is not to be taken for a whole one.
                None if stop.is_cancelled() && !is_told => {
                    is_told = true;
                    Err(interrupted(span))
                }
                None => return None,
            };
            Some(row.unwrap_or_else(|error| Value::error(error.into(), span)))
        });
        let stream = ListStream::new(rows, span, engine.signals().clone());
        Ok(PipelineData::list_stream(stream, metadata))
    }

    /// One value for one thing; for a list of things a row each, in order, several being worked on at once.
    pub(crate) fn each<T, F>(
        &self,
        engine: &EngineInterface,
        span: Span,
        asked: Asked<T>,
        at_once: usize,
        work: impl Fn(Subject<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Value, LabeledError>> + Send + 'static,
    {
        match asked {
            Asked::One(asked) => {
                let value = self.wait(engine, span, work(asked))?;
                Ok(PipelineData::value(value, None))
            }
            Asked::Several(asked) => {
                let rows = in_order(asked, at_once, work);
                self.rows(engine, span, rows.boxed(), None)
            }
        }
    }

    /// One table of the rows of all things, in order. The first rows of the next things are made while the rows of one are
    /// passed on.
    pub(crate) fn each_table<T, F>(
        &self,
        engine: &EngineInterface,
        span: Span,
        asked: Asked<T>,
        at_once: usize,
        work: impl Fn(Subject<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let tables = in_order(asked.into_stream(), at_once, move |asked| {
            let rows = work(asked);
            async move {
                let mut rows = match rows.await {
                    Ok(rows) => rows,
                    // In its place, behind the rows of what was asked about before.
                    Err(error) => stream::iter([Err(error)]).boxed(),
                };
                let first = rows.next().await;
                Ok(stream::iter(first).chain(rows))
            }
        });
        self.rows(engine, span, tables.try_flatten().boxed(), None)
    }

    /// The threads, started now if they are not running.
    pub(crate) fn start(&self) -> Result<&tokio::runtime::Runtime, LabeledError> {
        if let Some(runtime) = self.0.get() {
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
        Ok(self.0.get_or_init(|| started))
    }
}

/// Works on many things at once, and passes the results on in the order of the things. An error among them keeps its
/// place: what was begun before it is finished first.
pub(crate) fn in_order<T, U: Send + 'static, F>(
    things: impl Stream<Item = Result<T, LabeledError>> + Send + 'static,
    at_once: usize,
    work: impl Fn(T) -> F + Send + 'static,
) -> impl Stream<Item = Result<U, LabeledError>> + Send
where
    F: Future<Output = Result<U, LabeledError>> + Send + 'static,
{
    let begun = things.map(move |thing| match thing {
        Ok(thing) => begin(work(thing)).left_future(),
        Err(error) => ready(Err(error)).right_future(),
    });
    begun.buffered(at_once)
}

/// Starts some work at once, to be awaited later; dropping what is returned ends it.
///
/// Work that is merely polled stands still while a slow reader takes no rows, and its connections time out meanwhile.
fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    async move {
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of all threads ends a task that is still awaited.
                Err(_) => futures_util::future::pending().await,
            },
        }
    }
}

/// Sends rows up to the first error, and that as well.
async fn send(rows: Rows, sender: mpsc::Sender<Vec<Result<Value, LabeledError>>>) {
    let work = async {
        let mut rows = pin!(up_to_error(rows).ready_chunks(TOGETHER));
        while let Some(made) = rows.next().await {
            if sender.send(made).await.is_err() {
                break;
            }
        }
    };
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        // Without a word the table would look complete.
        let error = LabeledError::new("failed to make the next row: this is a bug of the plugin");
        // Nobody is there to be told when this fails.
        let _ = sender.send(vec![Err(error)]).await;
    }
}

/// Ends with the first error, and never asks for what would come behind it: asking may do something.
fn up_to_error(rows: Rows) -> impl Stream<Item = Result<Value, LabeledError>> + Send {
    stream::unfold(Some(rows), |rows| async {
        let mut rows = rows?;
        let row = rows.next().await?;
        let rest = row.is_ok().then_some(rows);
        Some((row, rest))
    })
}

fn on_interrupt(
    engine: &EngineInterface,
    token: &CancellationToken,
) -> Result<HandlerGuard, LabeledError> {
    let token = token.clone();
    let handler = move |action| {
        // Handlers hear of the new prompt, too.
        if action == SignalAction::Interrupt {
            token.cancel();
        }
    };
    Ok(engine.register_signal_handler(Box::new(handler))?)
}

fn interrupted(span: Span) -> LabeledError {
    ShellError::Interrupted { span }.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn nothing_is_asked_for_behind_an_error() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let rows = stream::iter(0..5).then(move |at| {
            count.fetch_add(1, Ordering::Relaxed);
            ready(match at {
                2 => Err(LabeledError::new("no")),
                _ => Ok(Value::test_int(at)),
            })
        });
        let (sender, mut receiver) = mpsc::channel(1);
        send(rows.boxed(), sender).await;
        let made = receiver.recv().await.unwrap();
        assert_eq!(made.len(), 3, "{made:?}");
        assert!(made[2].is_err());
        assert!(receiver.recv().await.is_none());
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
