//! Programs in a pseudoterminal, with their output and Ctrl-C.

use std::io::{Read as _, Write as _};
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, Pty};

use crate::program::Run;

/// Maximum time to wait until a program exits.
const LIMIT: Duration = Duration::from_mins(1);

/// Terminal in which a program runs. The terminal is closed when the value is dropped.
#[derive(Debug)]
pub struct Terminal {
    command_line: String,
    controller: Controller,
    /// Output of the program up to now.
    output: Arc<Mutex<String>>,
    ended: Receiver<(ExitStatus, Instant)>,
}

/// Controlling side of a pseudoterminal.
struct Controller(Arc<Pty>);

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Controller")
    }
}

impl Terminal {
    /// Starts a program in a terminal that is 80 columns wide.
    #[must_use]
    pub fn start(run: &Run) -> Self {
        let (pty, slave) = pty_process::blocking::open().expect("a pseudoterminal can be opened");
        pty.resize(Size::new(24, 80))
            .expect("the size of a terminal can be set");
        let command = Command::new(&run.program)
            .args(&run.arguments)
            .current_dir(&run.directory)
            .env_clear()
            .envs(run.environment.iter().map(|(name, value)| (name, value)))
            .env("TERM", "xterm");
        let command_line = run.command_line();
        let mut child = command
            .spawn(slave)
            .unwrap_or_else(|error| panic!("`{command_line}` did not start: {error}"));
        let (pty, output) = (Arc::new(pty), Arc::<Mutex<String>>::default());
        let (reader, output_of_reader) = (Arc::clone(&pty), Arc::clone(&output));
        // Both threads stop when the program exits, or at the latest when the terminal is closed.
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = (&*reader).read(&mut piece) {
                let mut text = output_of_reader
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = sender.send((status, Instant::now()));
            }
        });
        Self {
            command_line,
            controller: Controller(pty),
            output,
            ended,
        }
    }

    /// Sends Ctrl-C. Returns the time at which it was sent.
    #[must_use]
    pub fn interrupt(&self) -> Instant {
        (&*self.controller.0)
            .write_all(b"\x03")
            .expect("the terminal accepts input");
        Instant::now()
    }

    /// Waits until the program exits. Returns its exit code, the time at which it exited, and its output.
    ///
    /// # Panics
    ///
    /// If the program does not exit in time.
    #[must_use]
    pub fn wait_for_end(self) -> (Option<i32>, Instant, String) {
        let ended = self.ended.recv_timeout(LIMIT);
        let text = self.output.lock();
        let text = text.unwrap_or_else(PoisonError::into_inner).clone();
        match ended {
            Ok((status, when)) => (status.code(), when, text),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("`{}` did not end: {text}", self.command_line)
            }
        }
    }
}
