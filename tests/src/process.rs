//! The process of a server that is not ours, which ends with the value that started it.
//!
//! Should the test be killed, it ends too: it is held by a shell that waits for its own stdin to
//! close.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A server's process, by way of the shell that holds it.
#[derive(Debug)]
pub(crate) struct Process {
    holder: Child,
    lines: Option<BufReader<std::process::ChildStderr>>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// The shell ends the server as soon as nobody holds the other end of its stdin. It lets go of
    /// stderr, so that the log ends when the server does.
    const HOLD: &str = r#""$@" & exec 2>/dev/null; read -r _; kill -KILL $!; wait"#;

    /// Starts a server, with nothing of our environment.
    pub(crate) fn start(server: &Command) -> Self {
        let mut holder = Command::new("/bin/sh")
            .args(["-c", Self::HOLD, "sh"])
            .arg(server.get_program())
            .args(server.get_args())
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let lines = holder.stderr.take().map(BufReader::new);
        Self {
            holder,
            lines,
            log: Arc::default(),
            reader: None,
        }
    }

    /// Waits until the server says where it listens, behind these words, and reads its log from
    /// there on.
    pub(crate) fn listening(&mut self, words: &str) -> String {
        let mut lines = self.lines.take().expect("the log is read once");
        let host = loop {
            let mut line = String::new();
            let length = lines.read_line(&mut line).expect("a log is text");
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            if let Some((_, rest)) = line.split_once(words) {
                let is_over = |letter: char| letter == '"' || letter.is_whitespace();
                let host = rest.split(is_over).next();
                break host.unwrap_or(rest).to_owned();
            }
            assert!(length > 0, "the server did not start: {log}");
        };
        let log = Arc::clone(&self.log);
        // Nobody else empties the pipe, and a full pipe would stop the registry.
        self.reader = Some(std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        }));
        host
    }

    /// What the server wrote so far.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
