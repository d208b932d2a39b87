//! Processes of external servers, which are killed when the value that started them is dropped.
//!
//! The server is also killed if the test is killed: the parent of the server is a shell that waits until its stdin is
//! closed and then kills the server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Process of a server, with its parent, a shell.
#[derive(Debug)]
pub(crate) struct Process {
    shell: Child,
    lines: Option<BufReader<std::process::ChildStderr>>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Shell script that kills the server when the test closes the shell's stdin. The shell closes its own stderr, so
    /// the log ends when the server exits.
    const SCRIPT: &str = r#""$@" & exec 2>/dev/null; read -r _; kill -KILL $!; wait"#;

    /// Starts a server whose environment is empty.
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

    /// Waits for the log line that contains `prefix` and, after it, the listening address of the server. Returns the
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
        // The thread reads the log until the server exits, because a full pipe would block the server.
        self.reader = Some(std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        }));
        host
    }

    /// Returns the log of the server up to now.
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
