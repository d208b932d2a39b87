//! Scripted server on 127.0.0.1, whose responses a closure returns.
//!
//! The server implements HTTP/1.1 itself, because tests need responses that HTTP libraries do not send: malformed
//! lines, incomplete bodies, or nothing. HTTP/2 requires TLS and uses the `h2` crate.

mod http1;
mod http2;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use h2::Reason;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use crate::certificates::{Authority, CertifiedKey};
use crate::sha256;
use crate::tcp::TcpServer;

/// Request that the server received.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields, by lower-case name. If a field is repeated, the last value is used.
    pub headers: BTreeMap<String, String>,
    /// Body of the request. With HTTP/2, the body is still empty when the closure receives the request.
    pub body: Vec<u8>,
    /// TLS certificate of the client in DER, if the client presented one.
    pub client_certificate: Option<Vec<u8>>,
}

impl Request {
    /// Returns the value of a header field. `name` must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the method and the target, separated by a space.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// Returns the target up to its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the first and the last byte position of a `Range` header field. For `bytes=7-`, the last position is
    /// `None`.
    #[must_use]
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

/// Response, or fault that the server simulates instead of a response.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    /// Number of body bytes that are sent at a time, and the interval between the parts.
    pace: Option<(usize, Duration)>,
    line_end: &'static str,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Closes the connection after this many bytes of the body.
    Cut(usize),
    /// Sends this many bytes of the body and then nothing more. The clock advances by the duration.
    Stall(usize, Duration),
    /// Closes the connection without a response.
    Close,
    /// Keeps the connection open without a response.
    Silence,
    /// Resets the HTTP/2 stream after this many bytes of the request body.
    Reset(Reason, usize),
}

impl Response {
    /// Creates a response that has a status and no body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            delay: Duration::ZERO,
            pace: None,
            line_end: "\r\n",
            fault: None,
        }
    }

    /// Creates a registry's error response with one error code.
    #[must_use]
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"says the registry"}}]}}"#);
        Self::new(status)
            .header("Content-Type", "application/json")
            .body(body)
    }

    /// Creates a 401 response with this `WWW-Authenticate` header field.
    #[must_use]
    pub fn challenge(challenge: impl fmt::Display) -> Self {
        Self::new(401).header("WWW-Authenticate", challenge)
    }

    /// Creates the response to a request for a range of the content: 206 with `Content-Range`. If the request has no
    /// range, the response is 200 with the whole content.
    #[must_use]
    pub fn range_of(content: impl AsRef<[u8]>, request: &Request) -> Self {
        let content = content.as_ref();
        let Some((first, last)) = request.range() else {
            return Self::new(200).body(content);
        };
        let last = last.unwrap_or(content.len() - 1);
        let range = format!("bytes {first}-{last}/{}", content.len());
        Self::new(206)
            .header("Content-Range", range)
            .body(&content[first..=last])
    }

    /// Creates the response of a registry that has no content yet and accepts every upload. The number of earlier
    /// requests identifies the upload session: the first session is `/upload/0`.
    #[must_use]
    pub fn accepted_upload(request: &Request, earlier: usize) -> Self {
        match request.method.as_str() {
            "HEAD" => Self::new(404),
            "POST" => Self::new(202).header("Location", format!("/upload/{earlier}")),
            "PUT" if request.target.contains("/manifests/") => {
                Self::new(201).header("Docker-Content-Digest", sha256(&request.body))
            }
            "PUT" => Self::new(201),
            "PATCH" => Self::new(202).header("Location", &request.target),
            _ => Self::new(204),
        }
    }

    /// Closes the connection instead of responding.
    #[must_use]
    pub fn connection_closed() -> Self {
        Self::new(200).with_fault(Fault::Close)
    }

    /// Keeps the connection open and never responds.
    #[must_use]
    pub fn never() -> Self {
        Self::new(200).with_fault(Fault::Silence)
    }

    /// Resets the HTTP/2 stream after `received` bytes of the request body.
    #[must_use]
    pub fn stream_reset(reason: Reason, received: usize) -> Self {
        Self::new(200).with_fault(Fault::Reset(reason, received))
    }

    /// Sets the body. `Content-Length` is computed from the body unless it is set as a header field.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Advances the paused clock before the response begins.
    #[must_use]
    pub fn with_delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Sends `bytes` of the body at a time, and advances the paused clock between the parts.
    #[must_use]
    pub fn with_pace(self, bytes: usize, interval: Duration) -> Self {
        let pace = Some((bytes, interval));
        Self { pace, ..self }
    }

    /// Closes the connection after `sent` bytes of the body. With HTTP/2 the server sends GOAWAY.
    #[must_use]
    pub fn cut_after(self, sent: usize) -> Self {
        self.with_fault(Fault::Cut(sent))
    }

    /// Sends `sent` bytes of the body and then nothing more, and advances the paused clock.
    #[must_use]
    pub fn stall_after(self, sent: usize, time: Duration) -> Self {
        self.with_fault(Fault::Stall(sent, time))
    }

    /// Terminates the lines of an HTTP/1.1 head with a line feed only, as the rate limiter of Docker Hub did.
    #[must_use]
    pub fn with_bare_line_feeds(self) -> Self {
        Self {
            line_end: "\n",
            ..self
        }
    }

    fn with_fault(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(have, _)| have.eq_ignore_ascii_case(name))
    }
}

/// Policy of a TLS server for client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// The server does not request a certificate.
    Ignored,
    /// The server requests a certificate, and accepts clients that send none.
    Optional,
    /// The server requires a certificate.
    Required,
}

/// TLS settings of a server.
#[derive(Debug)]
pub struct Tls<'a> {
    /// Certificate of the server.
    pub certificate: CertifiedKey,
    /// Authority that must have signed client certificates.
    pub authority: &'a Authority,
    /// Policy for client certificates.
    pub clients: ClientCertificates,
    /// Whether the server speaks HTTP/2 instead of HTTP/1.1.
    pub http2: bool,
}

impl<'a> Tls<'a> {
    /// Creates TLS settings for a server on 127.0.0.1: a certificate of this authority, HTTP/1.1, no client
    /// certificates.
    #[must_use]
    pub fn new(authority: &'a Authority) -> Self {
        Self {
            certificate: authority.sign("127.0.0.1"),
            authority,
            clients: ClientCertificates::Ignored,
            http2: false,
        }
    }

    fn acceptor(self) -> TlsAcceptor {
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let roots = self.authority.roots();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let config = match self.clients {
            ClientCertificates::Ignored => config.with_no_client_auth(),
            ClientCertificates::Optional => {
                config.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            }
            ClientCertificates::Required => {
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let CertifiedKey { certificate, key } = self.certificate;
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let mut config = config.with_single_cert(chain, key).unwrap();
        if self.http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Function that returns the response to a request. The number counts earlier requests that have the same method and
/// path.
type Script = dyn Fn(&Request, usize) -> Response + Send + Sync;

/// State that all connections of a server share.
struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    request_arrived: Notify,
    connections: AtomicUsize,
    /// Number of bytes that are read from a request body at a time, and the interval between the reads.
    read_pace: Option<(usize, Duration)>,
    acceptor: Option<TlsAcceptor>,
    http2: bool,
}

impl Shared {
    /// Records a request. Returns its position in the record, and the response.
    fn respond(&self, request: &Request) -> (usize, Response) {
        let (position, earlier) = {
            let mut requests = self.requests.lock().unwrap();
            let is_same = |earlier: &&Request| {
                earlier.method == request.method && earlier.path() == request.path()
            };
            let earlier = requests.iter().filter(is_same).count();
            requests.push(request.clone());
            (requests.len() - 1, earlier)
        };
        self.request_arrived.notify_waiters();
        (position, (self.script)(request, earlier))
    }
}

/// Scripted server. The server stops when the value is dropped.
///
/// If the caller is inside a runtime, the server runs on that runtime, so that a test with a paused clock controls both
/// sides. Otherwise the server runs on the runtime of [`loopback`](crate::loopback), and the script must not use the
/// clock.
pub struct Server {
    tcp: TcpServer,
    shared: Arc<Shared>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts an HTTP/1.1 server. The closure receives each request and the number of earlier requests that have the
    /// same method and path.
    pub fn start(script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static) -> Self {
        Self::start_with(None, None, script)
    }

    /// Starts a server that uses TLS.
    pub fn start_tls(
        tls: Tls<'_>,
        script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(tls), None, script)
    }

    /// Starts a server that reads `bytes` of a request body at a time, and advances the paused clock between the reads.
    pub fn start_slow_reader(
        bytes: usize,
        interval: Duration,
        script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, Some((bytes, interval)), script)
    }

    fn start_with(
        tls: Option<Tls<'_>>,
        read_pace: Option<(usize, Duration)>,
        script: impl Fn(&Request, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        let http2 = tls.as_ref().is_some_and(|tls| tls.http2);
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            request_arrived: Notify::new(),
            connections: AtomicUsize::new(0),
            read_pace,
            acceptor: tls.map(Tls::acceptor),
            http2,
        });
        let tcp = TcpServer::start({
            let shared = Arc::clone(&shared);
            move |stream, earlier| {
                shared.connections.store(earlier + 1, Ordering::SeqCst);
                serve(stream, Arc::clone(&shared))
            }
        });
        Self { tcp, shared }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.tcp.host()
    }

    /// Returns all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Returns the method and the target of each request so far.
    #[must_use]
    pub fn request_lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    /// Returns the requests so far that begin with `start`, which is a method and the beginning of a target.
    #[must_use]
    pub fn requests_starting_with(&self, start: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.line().starts_with(start));
        requests
    }

    /// Counts the requests so far that begin with `start`, which is a method and the beginning of a target.
    #[must_use]
    pub fn count(&self, start: &str) -> usize {
        self.requests_starting_with(start).len()
    }

    /// Waits for a request that begins with `start`, which is a method and the beginning of a target.
    pub async fn wait_for_request(&self, start: &str) {
        loop {
            let arrived = self.shared.request_arrived.notified();
            if self.count(start) > 0 {
                return;
            }
            arrived.await;
        }
    }

    /// Returns the number of connections that the server has accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

/// Serves one connection. A client may close the connection early, which is not an error.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let Some(acceptor) = shared.acceptor.clone() else {
        let _ = http1::serve(stream, None, &shared).await;
        return;
    };
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    if shared.http2 {
        let _ = http2::serve(stream, &shared).await;
        return;
    }
    let chain = stream.get_ref().1.peer_certificates();
    let certificate = chain.and_then(|chain| Some(chain.first()?.to_vec()));
    let _ = http1::serve(stream, certificate, &shared).await;
}

thread_local! {
    /// Number of running calls of [`advance_clock`] in the current-thread runtime of this test.
    static ADVANCING: Cell<u32> = const { Cell::new(0) };
}

/// Advances the paused clock of a current-thread runtime without waiting. Calls may overlap. During a call, no other
/// I/O should be in progress.
pub async fn advance_clock(time: Duration) {
    if time.is_zero() {
        return;
    }
    if ADVANCING.replace(ADVANCING.get() + 1) == 0 {
        tokio::time::pause();
    }
    tokio::time::sleep(time).await;
    if ADVANCING.replace(ADVANCING.get() - 1) == 1 {
        tokio::time::resume();
    }
}
