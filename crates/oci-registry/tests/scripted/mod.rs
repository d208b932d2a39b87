//! A server on a real socket that answers as a script says, and remembers what it was asked.

#![allow(dead_code, reason = "not every suite needs everything")]

pub(crate) mod client;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci_registry::{Observer, Step};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Notes which states of the machines this test reaches, in the file that `REACHED_STATES` names: a line each, the state
/// and the test. `tests/states` prints them side by side.
#[expect(
    clippy::disallowed_methods,
    reason = "a script asks the tests, not the library"
)]
pub(crate) fn observer() -> Observer {
    let Ok(file) = std::env::var("REACHED_STATES") else {
        return Observer::default();
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default().to_owned();
    Observer::new(move |step| {
        let state = match step {
            Step::Upload(state) => format!("Upload {state:?}"),
            Step::Auth(state) => format!("Auth {state:?}"),
            _ => return,
        };
        let line = format!("{state}\t{test}\n");
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&file);
        std::io::Write::write_all(&mut file.unwrap(), line.as_bytes()).unwrap();
    })
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Close the connection after this many bytes of the body.
    cut: Option<usize>,
    /// Close the connection in place of an answer.
    lost: bool,
    /// Neither answer nor close the connection.
    silent: bool,
    /// What ends a line of the head.
    line_end: &'static str,
    /// How long the answer takes to begin.
    late: Duration,
    /// How many bytes of the body come at a time, and how long after each other.
    pace: Option<(usize, Duration)>,
    /// Say no more after this many bytes of the body, for so long at least.
    stall: Option<(usize, Duration)>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            lost: false,
            silent: false,
            line_end: "\r\n",
            late: Duration::ZERO,
            pace: None,
            stall: None,
        }
    }

    /// The answer begins so long after the request.
    pub(crate) fn late(self, late: Duration) -> Self {
        Self { late, ..self }
    }

    /// So many bytes of the body come at a time, so long after each other.
    pub(crate) fn paced(self, bytes: usize, every: Duration) -> Self {
        let pace = Some((bytes, every));
        Self { pace, ..self }
    }

    /// Nothing more comes after so many bytes of the body, for so long at least.
    pub(crate) fn stalled(self, after: usize, time: Duration) -> Self {
        let stall = Some((after, time));
        Self { stall, ..self }
    }

    /// No answer at all: the request arrives, and nothing comes back.
    pub(crate) fn lost() -> Self {
        Self {
            lost: true,
            ..Self::new(200)
        }
    }

    /// No answer, and no end of the connection either.
    pub(crate) fn silent() -> Self {
        Self {
            silent: true,
            ..Self::new(200)
        }
    }

    /// The lines of the head end as they should not, as a limiter before Docker Hub has it.
    pub(crate) fn bare_lines(self) -> Self {
        Self {
            line_end: "\n",
            ..self
        }
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }
}

type Script = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A scripted server; it ends with this value.
pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server. The script sees each request and how many requests with the same method and path came before.
    pub(crate) async fn start(
        script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::reading(None, script).await
    }

    /// Starts a server that reads so many bytes of a body at a time, so long after each other.
    pub(crate) async fn reading(
        reads: Option<(usize, Duration)>,
        script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                    tokio::spawn(async move {
                        let _ = serve(stream, &*script, &log, reads).await;
                    });
                }
            }
        });
        Self { address, log, task }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Method and target of everything asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

thread_local! {
    /// Calls of [`pass`] under way in the runtime of this test.
    static PASSING: Cell<u32> = const { Cell::new(0) };
}

/// Advances the clock of the test without a wait. No other input or output should be under way meanwhile. Calls may
/// overlap.
pub(crate) async fn pass(time: Duration) {
    if time.is_zero() {
        return;
    }
    if PASSING.replace(PASSING.get() + 1) == 0 {
        tokio::time::pause();
    }
    tokio::time::sleep(time).await;
    if PASSING.replace(PASSING.get() - 1) == 1 {
        tokio::time::resume();
    }
}

async fn serve(
    stream: TcpStream,
    script: &Script,
    log: &Mutex<Vec<Asked>>,
    reads: Option<(usize, Duration)>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(asked) = read(&mut stream, reads).await? else {
            return Ok(());
        };
        let path = |asked: &Asked| {
            asked
                .target
                .split('?')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let before = {
            let mut log = log.lock().unwrap();
            let same =
                |earlier: &&Asked| earlier.method == asked.method && path(earlier) == path(&asked);
            let before = log.iter().filter(same).count();
            log.push(asked.clone());
            before
        };
        let reply = script(&asked, before);
        pass(reply.late).await;
        if reply.lost {
            return Ok(());
        }
        if reply.silent {
            return std::future::pending().await;
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes it");
        }
        let has_length = reply
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length {
            write!(head, "Content-Length: {}\r\n", reply.body.len()).expect("a string takes it");
        }
        let head = format!("{head}\r\n").replace("\r\n", reply.line_end);
        stream.write_all(head.as_bytes()).await?;
        if asked.method != "HEAD" {
            let end = reply.cut.or(reply.stall.map(|(after, _)| after));
            let body = &reply.body[..end.unwrap_or(reply.body.len())];
            let (size, every) = reply.pace.unwrap_or((usize::MAX, Duration::ZERO));
            for piece in body.chunks(size) {
                stream.write_all(piece).await?;
                stream.flush().await?;
                pass(every).await;
            }
            if let Some((_, time)) = reply.stall {
                pass(time).await;
                return std::future::pending().await;
            }
        }
        stream.flush().await?;
        if reply.cut.is_some() {
            return Ok(());
        }
    }
}

async fn read(
    stream: &mut BufReader<TcpStream>,
    reads: Option<(usize, Duration)>,
) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    let (size, every) = reads.unwrap_or((usize::MAX, Duration::ZERO));
    for piece in body.chunks_mut(size) {
        stream.read_exact(piece).await?;
        pass(every).await;
    }
    Ok(Some(Asked {
        method,
        target,
        headers,
        body,
    }))
}
