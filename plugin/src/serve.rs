//! Communication with the shell. Replaces `nu_plugin::serve_plugin`.
//!
//! Three features need access to the messages. First, available rows are flushed together, because `serve_plugin`
//! flushes after every row, and the round trip to the shell is most of the cost of a row. Second, a completion stops
//! when another call arrives, because completions run on the thread that accepts all calls. Third, running calls are
//! cancelled when the shell exits. `nu_plugin` handles the help output, and shells that do not support local sockets.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use nu_plugin::{MsgPackSerializer, PluginEncoder, serve_plugin, serve_plugin_io};
use nu_plugin_core::{ClientCommunicationIo, CommunicationMode, PluginRead, PluginWrite};
use nu_plugin_protocol::{PluginCall, PluginInput, PluginOutput};
use nu_protocol::ShellError;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::{OciPlugin, report};

/// Size of the read buffer and of the write buffer, in bytes.
const BUFFER_SIZE: usize = 1 << 16;

/// Serves the plugin to the shell that started this process.
///
/// If an I/O error occurs on the connection to the shell, only the exit code reports the error.
pub fn serve() -> ExitCode {
    report::configure(is_in_workflow());
    let plugin = OciPlugin::default();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let io = match arguments.as_slice() {
        [flag, socket] if flag == "--local-socket" => {
            CommunicationMode::LocalSocket(socket.clone()).connect_as_client()
        }
        _ => {
            serve_plugin(&plugin, MsgPackSerializer);
            return ExitCode::SUCCESS;
        }
    };
    let Ok(ClientCommunicationIo::LocalSocket {
        read_in,
        mut write_out,
    }) = io
    else {
        return ExitCode::FAILURE;
    };
    if send_encoding(&mut write_out).is_err() {
        return ExitCode::FAILURE;
    }
    let calls = Arc::clone(&plugin.calls);
    let disconnected = plugin.runtime.disconnected();
    let reader = move || MonitoringReader {
        messages: (
            BufReader::with_capacity(BUFFER_SIZE, read_in),
            MsgPackSerializer,
        ),
        calls,
        _cancel_on_drop: disconnected.drop_guard(),
    };
    let writer = move || {
        let messages = Mutex::new(BufWriter::with_capacity(BUFFER_SIZE, write_out));
        BatchingWriter((messages, MsgPackSerializer))
    };
    let served = serve_plugin_io(&plugin, "oci", reader, writer);
    plugin.runtime.shut_down();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Whether a CI runner scans the output of the shell for workflow commands. The shell passes its environment to the
/// plugin.
#[expect(
    clippy::disallowed_methods,
    reason = "warnings are printed outside of a call, so there is no environment of a call"
)]
fn is_in_workflow() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| !value.is_empty())
}

/// Sends the name of the message encoding, the first message of the plugin protocol.
fn send_encoding(writer: &mut impl Write) -> io::Result<()> {
    let name = MsgPackSerializer.name().as_bytes();
    let length = u8::try_from(name.len()).expect("the name is short");
    writer.write_all(&[&[length], name].concat())?;
    writer.flush()
}

/// Counter of the calls from the shell. A completion stops when a later call is counted.
#[derive(Debug)]
pub(crate) struct CallCounter {
    /// Number of calls received.
    count: watch::Sender<u64>,
    /// Sequence numbers of the completion calls that were received but have not started.
    completions: Mutex<VecDeque<u64>>,
}

impl Default for CallCounter {
    fn default() -> Self {
        Self {
            count: watch::Sender::new(0),
            completions: Mutex::default(),
        }
    }
}

impl CallCounter {
    fn record_call(&self, is_completion: bool) {
        let number = *self.count.borrow() + 1;
        if is_completion {
            let mut completions = self.lock_completions();
            completions.push_back(number);
        }
        self.count.send_replace(number);
    }

    /// Starts the oldest completion. The returned future completes when a later call arrives.
    ///
    /// Every completion must call this method once.
    pub(crate) fn begin_completion(&self) -> impl Future<Output = ()> + use<> {
        let number = self.lock_completions().pop_front();
        let mut count = self.count.subscribe();
        async move {
            match number {
                Some(number) => {
                    // The sender lives as long as the plugin.
                    let _ = count.wait_for(|count| *count > number).await;
                }
                // A test harness does not use this module, so no calls are counted.
                None => std::future::pending().await,
            }
        }
    }

    fn lock_completions(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.completions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reader of messages from the shell that counts the calls.
///
/// The reader is dropped when the shell closes the connection. The running calls are then cancelled, because nothing
/// receives their results.
struct MonitoringReader<R> {
    messages: R,
    calls: Arc<CallCounter>,
    /// Cancels the running calls when the reader is dropped.
    _cancel_on_drop: DropGuard,
}

impl<R: PluginRead<PluginInput>> PluginRead<PluginInput> for MonitoringReader<R> {
    fn read(&mut self) -> Result<Option<PluginInput>, ShellError> {
        let message = self.messages.read()?;
        if let Some(PluginInput::Call(_, call)) = &message {
            self.calls
                .record_call(matches!(call, PluginCall::GetCompletion(_)));
        }
        Ok(message)
    }
}

thread_local! {
    /// Whether a further row is available after the row that this thread writes.
    static NEXT_ROW_READY: Cell<bool> = const { Cell::new(false) };
    /// Whether the last message of this thread was a row.
    static WROTE_ROW: Cell<bool> = const { Cell::new(false) };
}

/// Sets whether another row is available after the next row that this thread writes.
///
/// At most 99 consecutive rows may be set as available: `nu_plugin` stops writing at 100 unacknowledged rows, and the
/// shell cannot acknowledge a row that is still in the write buffer.
pub(crate) fn set_next_row_ready(is_ready: bool) {
    NEXT_ROW_READY.set(is_ready);
}

/// Writer of messages to the shell that flushes available rows together.
struct BatchingWriter<W>(W);

impl<W: PluginWrite<PluginOutput>> PluginWrite<PluginOutput> for BatchingWriter<W> {
    fn write(&self, message: &PluginOutput) -> Result<(), ShellError> {
        WROTE_ROW.set(matches!(message, PluginOutput::Data(..)));
        self.0.write(message)
    }

    fn flush(&self) -> Result<(), ShellError> {
        if WROTE_ROW.get() && NEXT_ROW_READY.get() {
            return Ok(());
        }
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use nu_plugin_protocol::StreamData;
    use nu_protocol::Value;

    use super::*;

    #[test]
    fn completion_stops_when_a_later_call_arrives() {
        let calls = CallCounter::default();
        calls.record_call(false);
        calls.record_call(true);
        let mut first = Box::pin(calls.begin_completion());
        assert_eq!(first.as_mut().now_or_never(), None);
        calls.record_call(true);
        assert_eq!(first.now_or_never(), Some(()));
        // This call arrives before the second completion is started.
        calls.record_call(false);
        assert_eq!(calls.begin_completion().now_or_never(), Some(()));
        calls.record_call(true);
        assert_eq!(calls.begin_completion().now_or_never(), None);
    }

    #[derive(Default)]
    struct FlushCounter {
        flushed: AtomicUsize,
    }

    impl PluginWrite<PluginOutput> for FlushCounter {
        fn write(&self, _: &PluginOutput) -> Result<(), ShellError> {
            Ok(())
        }

        fn flush(&self) -> Result<(), ShellError> {
            self.flushed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn writer_delays_flush_of_rows_only() {
        let writer = BatchingWriter(FlushCounter::default());
        let send = |message: &PluginOutput| {
            writer.write(message).unwrap();
            writer.flush().unwrap();
            writer.0.flushed.load(Ordering::Relaxed)
        };
        let row = PluginOutput::Data(0, StreamData::List(Value::test_int(1)));
        assert_eq!(send(&row), 1);
        set_next_row_ready(true);
        assert_eq!(send(&row), 1);
        assert_eq!(send(&row), 1);
        assert_eq!(send(&PluginOutput::Drop(1)), 2);
        set_next_row_ready(false);
        assert_eq!(send(&row), 3);
    }
}
