//! The line to the shell: what `nu_plugin::serve_plugin` does, with a hand on both of its ends.
//!
//! Owns two things that cannot be had behind that function. Rows that are at hand together go out together: it flushes
//! each row by itself, and the way to the shell and back is most of what a row costs. And a completion learns of the calls
//! that come in behind it: it is answered on the one thread that all calls are taken up by, so that it has to give way.
//! Help, a shell without sockets, and whatever else does not matter here are left to `nu_plugin`.

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

use crate::OciPlugin;

/// How much is read, and written, at once.
const BUFFER: usize = 1 << 16;

/// Serves the plugin to the shell that started this process.
///
/// A failure is one of the line itself: there is nobody to be told of it but whoever sees the exit code.
pub fn serve() -> ExitCode {
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
    if name_encoding(&mut write_out).is_err() {
        return ExitCode::FAILURE;
    }
    let calls = Arc::clone(&plugin.calls);
    let incoming = move || Incoming {
        messages: (BufReader::with_capacity(BUFFER, read_in), MsgPackSerializer),
        calls,
    };
    let outgoing = move || {
        let messages = Mutex::new(BufWriter::with_capacity(BUFFER, write_out));
        Outgoing((messages, MsgPackSerializer))
    };
    match serve_plugin_io(&plugin, "oci", incoming, outgoing) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says how messages are written, as the protocol begins.
fn name_encoding(line: &mut impl Write) -> io::Result<()> {
    let name = MsgPackSerializer.name().as_bytes();
    let length = u8::try_from(name.len()).expect("the name is short");
    line.write_all(&[&[length], name].concat())?;
    line.flush()
}

/// The calls of the shell, as they come in.
#[derive(Debug)]
pub(crate) struct Calls {
    /// How many have come.
    count: watch::Sender<u64>,
    /// Of the completions among them that were not begun yet, the how-manieth each is.
    completions: Mutex<VecDeque<u64>>,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            count: watch::Sender::new(0),
            completions: Mutex::default(),
        }
    }
}

impl Calls {
    fn come(&self, is_completion: bool) {
        let number = *self.count.borrow() + 1;
        if is_completion {
            let mut completions = self.completions();
            completions.push_back(number);
        }
        self.count.send_replace(number);
    }

    /// Begins with the completion that comes first, as each has to; what is returned ends when another call waits for it.
    pub(crate) fn begin_completion(&self) -> impl Future<Output = ()> + use<> {
        let number = self.completions().pop_front();
        let mut count = self.count.subscribe();
        async move {
            match number {
                Some(number) => {
                    // They only go with the plugin.
                    let _ = count.wait_for(|count| *count > number).await;
                }
                // Served in another way, by a test: nobody tells.
                None => std::future::pending().await,
            }
        }
    }

    fn completions(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        self.completions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes from the shell.
struct Incoming<R> {
    messages: R,
    calls: Arc<Calls>,
}

impl<R: PluginRead<PluginInput>> PluginRead<PluginInput> for Incoming<R> {
    fn read(&mut self) -> Result<Option<PluginInput>, ShellError> {
        let message = self.messages.read()?;
        if let Some(PluginInput::Call(_, call)) = &message {
            self.calls
                .come(matches!(call, PluginCall::GetCompletion(_)));
        }
        Ok(message)
    }
}

thread_local! {
    /// Whether this thread, which writes the rows of a table, has the next one at hand already.
    static HAS_NEXT_ROW: Cell<bool> = const { Cell::new(false) };
    /// Whether the last message of this thread was a row.
    static WROTE_ROW: Cell<bool> = const { Cell::new(false) };
}

/// Says of the row that this thread is about to write whether another follows without delay.
///
/// Fewer than a hundred may follow each other so: as many the shell takes without being asked for more, and what waits to
/// be sent must not be what it waits for.
pub(crate) fn next_row_is_at_hand(is_at_hand: bool) {
    HAS_NEXT_ROW.set(is_at_hand);
}

/// What goes to the shell.
struct Outgoing<W>(W);

impl<W: PluginWrite<PluginOutput>> PluginWrite<PluginOutput> for Outgoing<W> {
    fn write(&self, message: &PluginOutput) -> Result<(), ShellError> {
        WROTE_ROW.set(matches!(message, PluginOutput::Data(..)));
        self.0.write(message)
    }

    fn flush(&self) -> Result<(), ShellError> {
        if WROTE_ROW.get() && HAS_NEXT_ROW.get() {
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
    fn a_completion_gives_way_to_what_came_behind_it() {
        let calls = Calls::default();
        calls.come(false);
        calls.come(true);
        let mut first = Box::pin(calls.begin_completion());
        assert_eq!(first.as_mut().now_or_never(), None);
        calls.come(true);
        assert_eq!(first.now_or_never(), Some(()));
        // Another came before the second was begun.
        calls.come(false);
        assert_eq!(calls.begin_completion().now_or_never(), Some(()));
        calls.come(true);
        assert_eq!(calls.begin_completion().now_or_never(), None);
    }

    #[derive(Default)]
    struct Line {
        flushed: AtomicUsize,
    }

    impl PluginWrite<PluginOutput> for Line {
        fn write(&self, _: &PluginOutput) -> Result<(), ShellError> {
            Ok(())
        }

        fn flush(&self) -> Result<(), ShellError> {
            self.flushed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn only_rows_wait_for_the_next() {
        let line = Outgoing(Line::default());
        let send = |message: &PluginOutput| {
            line.write(message).unwrap();
            line.flush().unwrap();
            line.0.flushed.load(Ordering::Relaxed)
        };
        let row = PluginOutput::Data(0, StreamData::List(Value::test_int(1)));
        assert_eq!(send(&row), 1);
        next_row_is_at_hand(true);
        assert_eq!(send(&row), 1);
        assert_eq!(send(&row), 1);
        assert_eq!(send(&PluginOutput::Drop(1)), 2);
        next_row_is_at_hand(false);
        assert_eq!(send(&row), 3);
    }
}
