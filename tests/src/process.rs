//! Processes of external servers, which end when the value that started them is dropped.
//!
//! A server also ends when the test is killed: its parent is a shell that waits for the end of its stdin and then kills
//! the server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Process of a server, and the shell that is its parent.
#[derive(Debug)]
pub(crate) struct Process {
    shell: Child,
    lines: Option<BufReader<std::process::ChildStderr>>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Script of the shell, which ends the server when the other end of its stdin is closed. The shell closes its own
    /// stderr, so the log ends when the server does.
    const SCRIPT: &str = r#""$@" & exec 2>/dev/null; read -r _; kill -KILL $!; wait"#;

    /// Starts a server with an empty environment.
    pub(crate) fn start(server: &Command) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", Self::SCRIPT, "sh"])
            .arg(server.get_program())
            .args(server.get_args())
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let lines = shell.stderr.take().map(BufReader::new);
        Self {
            shell,
            lines,
            log: Arc::default(),
            reader: None,
        }
    }

    /// Waits for the log line that contains `prefix`, followed by the listening address of the server. Returns the
    /// address. A background thread reads the rest of the log.
    pub(crate) fn wait_for_address(&mut self, prefix: &str) -> String {
        let mut lines = self.lines.take().expect("the log is read once");
        let host = loop {
            let mut line = String::new();
            let length = lines.read_line(&mut line).expect("the log is UTF-8");
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            if let Some((_, rest)) = line.split_once(prefix) {
                let is_over = |letter: char| letter == '"' || letter.is_whitespace();
                let host = rest.split(is_over).next();
                break host.unwrap_or(rest).to_owned();
            }
            assert!(length > 0, "the server did not start: {log}");
        };
        let log = Arc::clone(&self.log);
        // A full pipe would block the server, so the thread reads the log to its end.
        self.reader = Some(std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        }));
        host
    }

    /// Returns the log of the server so far.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
