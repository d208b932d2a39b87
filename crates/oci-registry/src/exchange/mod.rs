//! One bounded request done right: sent, retried, redirected and read under one policy.
//!
//! Everything that leaves this process over HTTP passes [`Exchange::send`]. It owns redirects (by hand, [`origin`]),
//! retries ([`retry`]), idleness ([`pace`]), bounded reads and safe display ([`display`]). It knows no credentials: an
//! `Authorization` comes with the origin it belongs to, and goes nowhere else. It knows no OCI noun.

pub(crate) mod body;
pub(crate) mod certificates;
pub(crate) mod class;
mod connection;
pub(crate) mod display;
pub(crate) mod origin;
mod pace;
mod proxy;
pub(crate) mod retry;
pub(crate) mod secrets;
mod warning;

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu};
use tokio::time::Instant;
use url::Url;

use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::escape::escape;
use crate::journal::{Observer, Step};
use body::{Body, Progress};
use class::Class;
pub use connection::Resolve;
use display::ShownUrl;
use origin::{Met, Origin};
use pace::{IDLE, Receiving};
use proxy::Proxies;
use retry::Pauses;
pub(crate) use retry::{backoff, is_transient};
use secrets::Secrets;
use warning::Heard;

/// What this program calls itself.
const USER_AGENT: &str = concat!("oci-registry/", env!("CARGO_PKG_VERSION"));

/// More hops than any registry needs.
const MAX_REDIRECTS: usize = 5;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);

/// How long an answer may take after the last byte of a large body: registries hash and move whole layers then.
const FINALISE: Duration = Duration::from_mins(10);

/// How long a document that is held in memory may take to arrive.
const DOCUMENT: Duration = Duration::from_mins(10);

#[derive(Debug, Snafu)]
pub(crate) enum Error {
    #[snafu(display("failed to set up the HTTP client"))]
    BuildClient { source: RootCause },
    #[snafu(display("failed to read `{}`, {purpose}", path.display()))]
    ReadPem {
        path: PathBuf,
        purpose: &'static str,
        source: std::io::Error,
    },
    #[snafu(display("failed to read `{}`, {purpose}: it is not what PEM should hold", path.display()))]
    ParsePem {
        path: PathBuf,
        purpose: &'static str,
        source: RootCause,
    },
    #[snafu(display("failed to read the registry's own certificates in `{}`", folder.display()))]
    Folder {
        folder: PathBuf,
        source: certificates::Error,
    },
    #[snafu(display("failed to use the proxy that `{variable}` names"))]
    BuildProxy { variable: String, source: RootCause },
    #[snafu(display("failed to reach {url}"))]
    Connect {
        url: ShownUrl,
        certificate: bool,
        source: RootCause,
    },
    #[snafu(display("failed to get an answer to {method} {url}"))]
    Send {
        method: Method,
        url: ShownUrl,
        source: RootCause,
    },
    #[snafu(display("gave up on {method} {url}: next to nothing moved for {} seconds", after.as_secs()))]
    Idle {
        method: Method,
        url: ShownUrl,
        after: Duration,
    },
    #[snafu(display("failed to read the content to send to {url}"))]
    ReadContent { url: ShownUrl, source: crate::Error },
    #[snafu(display("failed to read the answer of {url}"))]
    ReadAnswer { url: ShownUrl, source: RootCause },
    #[snafu(display("refused the answer of {url}: it has more than {limit} bytes"))]
    AnswerTooLarge { url: ShownUrl, limit: usize },
    #[snafu(display("failed to follow a redirect of {url}"))]
    Redirect {
        url: ShownUrl,
        source: origin::Error,
    },
    #[snafu(display("refused to follow {url}: it redirects without saying where"))]
    RedirectNowhere { url: ShownUrl },
    #[snafu(display(
        "refused to follow {url}: it answers {method} with {status}, which would drop what was sent"
    ))]
    RedirectWrite {
        url: ShownUrl,
        method: Method,
        status: StatusCode,
    },
    #[snafu(display("refused to follow {url}: more than {MAX_REDIRECTS} redirects"))]
    RedirectLoop { url: ShownUrl },
    #[snafu(display("gave up on {url}: the server asks to wait {} seconds", wait.as_secs()))]
    AskedToWait { url: ShownUrl, wait: Duration },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BuildClient { .. }
            | Self::BuildProxy { .. }
            | Self::ReadPem { .. }
            | Self::ParsePem { .. } => ErrorKind::InvalidInput,
            Self::Folder { source, .. } => source.kind(),
            Self::Connect { .. }
            | Self::Send { .. }
            | Self::Idle { .. }
            | Self::ReadAnswer { .. } => ErrorKind::Network,
            Self::ReadContent { source, .. } => source.kind(),
            Self::AskedToWait { .. } => ErrorKind::RateLimited,
            Self::AnswerTooLarge { .. }
            | Self::Redirect { .. }
            | Self::RedirectNowhere { .. }
            | Self::RedirectWrite { .. }
            | Self::RedirectLoop { .. } => ErrorKind::Protocol,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Connect {
                certificate: true, ..
            } => {
                vec!["the registry's certificate is not one that this machine trusts: if it should be, name a file with its authority's certificate (`--ca-file`), or put it where container tools look (`certs.d/HOST[:PORT]/ca.crt`)".into()]
            }
            Self::Connect { source, .. } if source.is_no_tls() => {
                vec!["the registry does not speak TLS there: if it is meant to be spoken to in plain text, say so (`--plain-http`)".into()]
            }
            Self::Connect { .. } => {
                vec!["check the name and the port, and whether a proxy is needed".into()]
            }
            Self::Send { source, .. } if source.wants_identity() => {
                vec!["the registry wants to be shown a certificate: name one and its key (`--cert-file`, `--key-file`), or put them where container tools look (`certs.d/HOST[:PORT]/client.cert`, `client.key`)".into()]
            }
            Self::ReadPem { .. } => vec!["check the path, and who may read it".into()],
            Self::ParsePem { .. } => {
                vec!["name a file in PEM, which begins with `-----BEGIN`".into()]
            }
            Self::Folder { source, .. } => source.help(),
            Self::ReadContent { source, .. } => source.help(),
            Self::AskedToWait { wait, .. } => {
                vec![format!("try again in {} seconds", wait.as_secs())]
            }
            _ => Vec::new(),
        }
    }
}

impl Error {
    /// Whether the same request could fare better a moment later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Connect {
                certificate,
                source,
                ..
            } => !certificate && !source.is_no_tls(),
            Self::Send { source, .. } => !source.wants_identity(),
            Self::Idle { .. } | Self::ReadAnswer { .. } => true,
            _ => false,
        }
    }
}

/// What lies at the bottom of an HTTP error: the one line that says something.
///
/// The layers above it repeat that a request failed; some of them print URLs with their secrets.
pub(crate) struct RootCause(reqwest::Error);

impl RootCause {
    fn is_certificate(&self) -> bool {
        self.layers().any(|error| {
            let inner = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            let shown = inner.map_or_else(|| error.to_string(), ToString::to_string);
            shown.contains("certificate")
        })
    }

    /// Whether the server answered something else than TLS.
    fn is_no_tls(&self) -> bool {
        self.layers()
            .any(|error| error.to_string().contains("InvalidContentType"))
    }

    /// Whether the server turned away a client that showed no certificate, or none of those it knows.
    fn wants_identity(&self) -> bool {
        self.layers()
            .any(|error| error.to_string().contains("CertificateRequired"))
    }

    fn layers(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(
            Some(&self.0 as &(dyn std::error::Error + 'static)),
            |error| error.source(),
        )
    }
}

impl From<reqwest::Error> for RootCause {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url())
    }
}

impl fmt::Display for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self
            .layers()
            .last()
            .map(ToString::to_string)
            .unwrap_or_default();
        f.write_str(&escape(&root, 500))
    }
}

impl fmt::Debug for RootCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for RootCause {}

/// How an [`Exchange`] behaves.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How many times a request is sent at most.
    pub(crate) attempts: u32,
    pub(crate) resolve: Vec<Resolve>,
    /// Certificates trusted beside the machine's own.
    pub(crate) ca_files: Vec<PathBuf>,
    /// Certificate chain and key of this client.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// A folder of more of both.
    pub(crate) folder: Option<PathBuf>,
    /// Whose the identity is; without it, whoever asks for one is shown it.
    pub(crate) home: Option<Origin>,
    /// Told of each request.
    pub(crate) observer: Observer,
}

/// What has been exchanged so far.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    /// Requests that left this process, each try and each hop of a redirect counted.
    pub(crate) requests: AtomicU64,
    /// Bytes of bodies sent.
    pub(crate) sent: AtomicU64,
    /// Bytes of bodies received.
    pub(crate) received: AtomicU64,
}

/// The way out: a pool of connections and the policy for using them.
#[derive(Debug)]
pub(crate) struct Exchange {
    settings: Settings,
    environment: Environment,
    /// Made at the first request: reading the machine's certificates takes longer than a whole offline command.
    client: OnceLock<Connections>,
    /// As whom those are met to whom the identity does not belong.
    elsewhere: OnceLock<Connections>,
    pauses: std::sync::Arc<Pauses>,
    warnings: Heard,
    secrets: Secrets,
    statistics: std::sync::Arc<Statistics>,
}

#[derive(Debug)]
struct Connections {
    client: reqwest::Client,
    proxies: Proxies,
}

/// One request. Its body can be opened again, so the request can be sent again.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Sent to this origin and to no other.
    pub(crate) authorization: Option<(Origin, HeaderValue)>,
    /// Whether the request may be sent again after an unknown outcome.
    pub(crate) replay: bool,
    reach: Reach,
    /// Whether someone else than the server chose where this goes: then it goes as nobody, wherever that is.
    pub(crate) is_stranger: bool,
}

/// How far a request goes, and what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A redirect may lead to another origin.
    Anywhere,
    /// Redirects are followed only on the server it was meant for.
    WithinOrigin,
    /// As within the origin, and nothing in the answer is passed on: it holds a secret.
    Private,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let (headers, body) = (HeaderMap::new(), Body::Empty);
        Self {
            method,
            url,
            headers,
            body,
            authorization: None,
            replay: true,
            reach: Reach::Anywhere,
            is_stranger: false,
        }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// A request that follows redirects only on the server it was meant for.
    #[must_use]
    pub(crate) fn within_origin(mut self) -> Self {
        self.reach = Reach::WithinOrigin;
        self
    }

    /// A request that goes as nobody when it was someone else than the server who chose its URL.
    #[must_use]
    pub(crate) fn for_stranger(mut self, is_stranger: bool) -> Self {
        self.is_stranger = is_stranger;
        self
    }

    /// A request whose answer is a secret: it stays on the server, and nothing in the answer is passed on.
    #[must_use]
    pub(crate) fn private(mut self) -> Self {
        self.reach = Reach::Private;
        self
    }

    /// A request that is sent once: its outcome, when unknown, is for the caller to find out.
    #[must_use]
    pub(crate) fn once(mut self) -> Self {
        self.replay = false;
        self
    }
}

/// An answer: its head, and a body that is still to be read, within bounds.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub(crate) met: Met,
    /// Where the request went first.
    pub(crate) asked: Origin,
    /// Whether someone else than the server that was asked chose where it came from, even if that is the same server.
    pub(crate) is_stranger: bool,
    /// Whether all of the request had left when the answer came.
    pub(crate) is_sent: bool,
    inner: reqwest::Response,
    statistics: std::sync::Arc<Statistics>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("met", &self.shown())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The URL the answer came from, as it may be shown.
    pub(crate) fn shown(&self) -> ShownUrl {
        ShownUrl::new(&self.met.url, &self.met.secrets)
    }

    /// What has been sent and must not be shown, whoever repeats it.
    pub(crate) fn secrets(&self) -> Secrets {
        self.met.secrets.clone()
    }

    /// A header as text, absent when empty or no text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)?
            .to_str()
            .ok()
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// Reads the body into memory.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let url = self.shown();
        let (bytes, whole) = self.read(limit).await?;
        snafu::ensure!(whole, AnswerTooLargeSnafu { url, limit });
        Ok(bytes)
    }

    /// Reads what fits of the body, for showing.
    pub(crate) async fn beginning(self, limit: usize) -> Result<Bytes, Error> {
        Ok(self.read(limit).await?.0)
    }

    /// Reads a document, which is small, and so takes no longer than [`DOCUMENT`].
    async fn read(self, limit: usize) -> Result<(Bytes, bool), Error> {
        let (url, method) = (self.shown(), Method::GET);
        let read = tokio::time::timeout(DOCUMENT, self.read_all(limit)).await;
        read.unwrap_or_else(|_| {
            let after = DOCUMENT;
            IdleSnafu { method, url, after }.fail()
        })
    }

    async fn read_all(self, limit: usize) -> Result<(Bytes, bool), Error> {
        let mut bytes = BytesMut::new();
        let mut stream = self.into_stream();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let room = limit - bytes.len();
            bytes.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() > room {
                return Ok((bytes.freeze(), false));
            }
        }
        Ok((bytes.freeze(), true))
    }

    /// The body, piece by piece; ends with an error when nothing moves for too long.
    pub(crate) fn into_stream(self) -> BoxStream<'static, Result<Bytes, Error>> {
        let url = self.shown();
        let stream = self.inner.bytes_stream();
        let state = (Box::pin(stream), url, self.statistics, Receiving::default());
        futures_util::stream::try_unfold(
            state,
            |(mut stream, url, statistics, mut pace)| async move {
                let size = |piece: &Option<reqwest::Result<Bytes>>| match piece {
                    Some(Ok(piece)) => piece.len(),
                    _ => 0,
                };
                match pace.wait(stream.next(), size).await {
                    None => IdleSnafu {
                        method: Method::GET,
                        url,
                        after: IDLE,
                    }
                    .fail(),
                    Some(None) => Ok(None),
                    Some(Some(Err(error))) => Err(ReadAnswerSnafu { url }.into_error(error.into())),
                    Some(Some(Ok(piece))) => {
                        statistics
                            .received
                            .fetch_add(piece.len() as u64, Ordering::Relaxed);
                        Ok(Some((piece, (stream, url, statistics, pace))))
                    }
                }
            },
        )
        .boxed()
    }
}

impl Exchange {
    pub(crate) fn new(environment: Environment, settings: Settings) -> Self {
        Self {
            settings,
            environment,
            client: OnceLock::new(),
            elsewhere: OnceLock::new(),
            pauses: std::sync::Arc::default(),
            warnings: Heard::default(),
            secrets: Secrets::default(),
            statistics: std::sync::Arc::default(),
        }
    }

    /// Connections of their own, in the same account, and with the same regard for servers that want to be left alone.
    pub(crate) fn beside(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings.clone();
        change(&mut settings);
        Self {
            pauses: std::sync::Arc::clone(&self.pauses),
            secrets: self.secrets.clone(),
            statistics: std::sync::Arc::clone(&self.statistics),
            ..Self::new(self.environment.clone(), settings)
        }
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What has been sent and must not be shown, whoever repeats it.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A URL as it may be shown.
    pub(crate) fn shown(&self, url: &Url) -> ShownUrl {
        ShownUrl::new(url, &self.secrets)
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.settings.observer
    }

    /// The connections for a URL; `is_home` unless someone else than the server chose it.
    fn connections(&self, url: &Url, is_home: bool) -> Result<&Connections, Error> {
        let home = self.settings.home.as_ref();
        let is_home = home.is_none_or(|home| is_home && *home == Origin::of(url));
        let cell = if is_home {
            &self.client
        } else {
            &self.elsewhere
        };
        if let Some(connections) = cell.get() {
            return Ok(connections);
        }
        let proxies = Proxies::of(&self.environment)?;
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Bytes come as they are, whatever features of the HTTP library others have asked for.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .no_proxy()
            .connect_timeout(CONNECT);
        let builder = connection::configure(builder, &self.settings, is_home)?;
        let client = proxies
            .configure(builder)
            .build()
            .map_err(RootCause::from)
            .context(BuildClientSnafu)?;
        Ok(cell.get_or_init(|| Connections { client, proxies }))
    }

    /// Sends a request until it is answered with something that another try would not change.
    ///
    /// The answer may be of any status; what it means is for the caller. A transient status that never went away is
    /// answered with its last response.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, Error> {
        let origin = Origin::of(&request.url);
        let attempts = if request.replay {
            self.settings.attempts
        } else {
            1
        };
        let mut failures = 0;
        loop {
            self.pauses.wait(&origin).await;
            let outcome = self.follow(request).await;
            failures += 1;
            let is_last = failures >= attempts;
            match outcome {
                Ok(response) if is_transient(response.status) => {
                    let asked =
                        retry::retry_after(response.status, &response.headers, SystemTime::now());
                    if let Some(wait) = asked.filter(|wait| *wait > retry::LONGEST_RETRY_AFTER) {
                        return AskedToWaitSnafu {
                            url: response.shown(),
                            wait,
                        }
                        .fail();
                    }
                    // A wait of nothing, or one that a clock makes so, is no wait.
                    let own = backoff(failures);
                    let wait = asked.map_or(own, |asked| asked.max(own));
                    if asked.is_some() {
                        self.pauses.until(&origin, Instant::now() + wait);
                    }
                    if is_last {
                        return Ok(response);
                    }
                    drop(response);
                    tokio::time::sleep(wait).await;
                }
                Err(error) if error.is_transient() && !is_last => {
                    tokio::time::sleep(backoff(failures)).await;
                }
                settled => return settled,
            }
        }
    }

    /// Sends a request once, following redirects.
    async fn follow(&self, request: &Request) -> Result<Response, Error> {
        let mut url = request.url.clone();
        let home = Origin::of(&url);
        let mut is_home = !request.is_stranger;
        for _ in 0..=MAX_REDIRECTS {
            // Who has been elsewhere comes back as a stranger: elsewhere chose where to.
            is_home &= Origin::of(&url) == home;
            let outcome = self.once(request, &url, is_home).await;
            self.settings.observer.tell(|| Step::Request {
                method: request.method.to_string(),
                url: self.shown(&url).bare().to_owned(),
                status: outcome.as_ref().ok().map(|answer| answer.status.as_u16()),
            });
            let response = outcome?;
            let warnings = if request.reach == Reach::Private {
                Vec::new()
            } else {
                let origin = Origin::of(&url);
                self.warnings
                    .news(&origin, &response.headers, &self.secrets)
            };
            for text in warnings {
                let from = url.host_str().unwrap_or_default().to_owned();
                self.settings.observer.tell(|| Step::Warning { from, text });
            }
            let status = response.status;
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let shown = response.shown();
            let keeps_method =
                matches!(request.method, Method::GET | Method::HEAD) || status.as_u16() >= 307;
            snafu::ensure!(
                keeps_method,
                RedirectWriteSnafu {
                    url: shown,
                    method: request.method.clone(),
                    status
                }
            );
            let Some(location) = response.header(header::LOCATION.as_str()) else {
                return RedirectNowhereSnafu { url: shown }.fail();
            };
            let next = if request.reach == Reach::Anywhere {
                response.met.resolve(location)
            } else {
                response.met.resolve_same_origin(location)
            };
            url = next.context(RedirectSnafu { url: shown })?;
        }
        RedirectLoopSnafu {
            url: self.shown(&request.url),
        }
        .fail()
    }

    /// Sends a request to one URL and waits for the head of the answer.
    async fn once(&self, request: &Request, url: &Url, is_home: bool) -> Result<Response, Error> {
        let connections = self.connections(url, is_home)?;
        let shown = || self.shown(url);
        let mut headers = request.headers.clone();
        if let Some((origin, authorization)) = &request.authorization
            && is_home
            && *origin == Origin::of(url)
        {
            self.secrets.note_header(authorization);
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let progress = Progress::new();
        let body = request
            .body
            .open(&progress)
            .await
            .context(ReadContentSnafu { url: shown() })?;
        if request.method != Method::GET
            && request.method != Method::HEAD
            && request.method != Method::DELETE
        {
            headers.insert(header::CONTENT_LENGTH, request.body.size().into());
        }
        let builder = connections
            .client
            .request(request.method.clone(), url.clone())
            .headers(headers);
        let sent = match body {
            Some(body) => builder.body(body).send(),
            None => builder.send(),
        };
        self.statistics.requests.fetch_add(1, Ordering::Relaxed);
        let finalise = if request.method == Method::PUT || request.body.is_stream() {
            FINALISE
        } else {
            IDLE
        };
        let outcome = tokio::select! {
            outcome = sent => outcome,
            after = progress.idle(IDLE, finalise) => {
                return IdleSnafu { method: request.method.clone(), url: shown(), after }.fail();
            }
        };
        self.statistics
            .sent
            .fetch_add(progress.sent(), Ordering::Relaxed);
        let inner = match outcome {
            Ok(inner) => inner,
            Err(error) => {
                if let Some(source) = progress.take_failure() {
                    return Err(ReadContentSnafu { url: shown() }.into_error(source));
                }
                let (connect, source) = (error.is_connect(), RootCause::from(error));
                if connect {
                    let certificate = source.is_certificate();
                    return Err(ConnectSnafu {
                        url: shown(),
                        certificate,
                    }
                    .into_error(source));
                }
                return Err(SendSnafu {
                    method: request.method.clone(),
                    url: shown(),
                }
                .into_error(source));
            }
        };
        // Behind a proxy the address is the proxy's, and says nothing about the server.
        let address = inner
            .remote_addr()
            .filter(|_| !connections.proxies.take(url))
            .map(|address| Class::reached(address.ip()));
        let class = address
            .or_else(|| Class::shown_by(url))
            .unwrap_or(Class::Public);
        Ok(Response {
            status: inner.status(),
            headers: inner.headers().clone(),
            met: Met {
                url: url.clone(),
                class,
                secrets: self.secrets.clone(),
            },
            is_stranger: !is_home,
            asked: Origin::of(&request.url),
            is_sent: progress.is_finished(),
            inner,
            statistics: std::sync::Arc::clone(&self.statistics),
        })
    }
}
