//! HTTP exchange: one request with its redirects, retries and limits.
//!
//! [`Exchange::send`] sends every HTTP request of the crate. The module is responsible for redirects ([`origin`]),
//! retries ([`retry`]), idle timeouts ([`transfer_rate`]), and size limits. It does not look up credentials: a request
//! carries an `Authorization` value together with its origin, and the value is sent to no other origin. The module does
//! not depend on OCI types.

pub(crate) mod address_class;
pub(crate) mod body;
pub(crate) mod certificates;
mod connection;
mod error;
mod message;
pub(crate) mod origin;
mod proxy;
mod resolve;
pub(crate) mod retry;
mod settings;
mod stalls;
mod transfer_rate;
mod warning;

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, header};
use snafu::{IntoError, ResultExt};
use tokio::time::Instant;
use url::Url;

use crate::environment::Environment;
use crate::event::{ClientEvent, Observer, Retry};
use crate::rate_limit::RateLimit;
use crate::redact::{RedactedUrl, Secrets};
use address_class::AddressClass;
use body::Progress;
pub(crate) use error::Error;
use error::{
    BuildClientSnafu, ConnectSnafu, ReadContentSnafu, RedirectForbiddenSnafu, RedirectLoopSnafu,
    RedirectSnafu, RedirectWithoutLocationSnafu, RedirectWriteSnafu, RetryAfterTooLongSnafu,
    RootCause, SendSnafu,
};
use message::{RedirectPolicy, Statistics};
pub(crate) use message::{Request, Response};
use origin::{Origin, Peer};
use proxy::Proxies;
pub use resolve::Resolve;
use retry::{ConnectionFailures, Pauses};
pub(crate) use retry::{backoff, is_transient, retry_cause};
pub(crate) use settings::Settings;
pub(crate) use stalls::Stalls;
use transfer_rate::IDLE_TIMEOUT;
use warning::ReportedWarnings;

/// `User-Agent` of all requests.
const USER_AGENT: &str = concat!("oci-registry/", env!("CARGO_PKG_VERSION"));

/// Maximum number of redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of header lines of an HTTP/1 response. The default of the HTTP library is 100, which is too small for
/// some proxies and content delivery networks.
const MAX_HEADERS: usize = 400;

/// Maximum size of the header fields of an HTTP/2 response, in bytes.
const MAX_HEADER_LIST_SIZE: u32 = 256 << 10;

/// Timeout for the response after the last byte of an upload. Registries hash and move whole layers in this time.
const FINALISE_TIMEOUT: Duration = Duration::from_mins(10);

/// HTTP client with a pool of connections and one policy for all requests. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    settings: Settings,
    environment: Arc<Environment>,
    /// Connections with the client certificate, if there is one. They are created for the first request, because
    /// loading the system's certificates takes longer than a complete command that sends no requests.
    client: Arc<OnceLock<Connections>>,
    /// Connections without the client certificate, for servers that must not receive it.
    client_without_identity: Arc<OnceLock<Connections>>,
    pauses: Arc<Pauses>,
    connection_failures: Arc<Mutex<ConnectionFailures>>,
    /// Origins that have responded over plain HTTP.
    plain_origins: Arc<Mutex<HashSet<Origin>>>,
    warnings: Arc<ReportedWarnings>,
    secrets: Secrets,
    statistics: Arc<Statistics>,
}

#[derive(Debug)]
struct Connections {
    client: reqwest::Client,
    proxies: Proxies,
}

impl Exchange {
    pub(crate) fn new(environment: Environment, settings: Settings) -> Self {
        Self {
            settings,
            environment: Arc::new(environment),
            client: Arc::default(),
            client_without_identity: Arc::default(),
            pauses: Arc::default(),
            connection_failures: Arc::default(),
            plain_origins: Arc::default(),
            warnings: Arc::default(),
            secrets: Secrets::default(),
            statistics: Arc::default(),
        }
    }

    /// Returns an exchange with new connections and changed settings. Both exchanges share the pauses that servers
    /// requested, the known plain HTTP origins, the recorded secrets and the statistics.
    pub(crate) fn with_changed_settings(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut exchange = Self {
            client: Arc::default(),
            client_without_identity: Arc::default(),
            warnings: Arc::default(),
            ..self.clone()
        };
        change(&mut exchange.settings);
        exchange
    }

    /// Returns an exchange that uses the same connections and reports to another observer.
    pub(crate) fn with_observer(&self, observer: Observer) -> Self {
        let mut exchange = self.clone();
        exchange.settings.observer = observer;
        exchange
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Returns the secrets to redact in text from servers.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns a URL for display, with secrets redacted.
    pub(crate) fn redact_url(&self, url: &Url) -> RedactedUrl {
        RedactedUrl::new(url, &self.secrets)
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.settings.observer
    }

    /// Returns the connections for requests to a URL. `is_trusted` is false if another server chose the URL.
    fn connections(&self, url: &Url, is_trusted: bool) -> Result<&Connections, Error> {
        let identity_origin = self.settings.identity_origin.as_ref();
        let is_trusted =
            identity_origin.is_none_or(|origin| is_trusted && *origin == Origin::from_url(url));
        let cell = if is_trusted {
            &self.client
        } else {
            &self.client_without_identity
        };
        if let Some(connections) = cell.get() {
            return Ok(connections);
        }
        let proxies = Proxies::from_environment(&self.environment)?;
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Bodies are not decompressed, even if another crate enables the decompression features of the HTTP
            // library.
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .no_proxy()
            .http1_max_headers(MAX_HEADERS)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(MAX_HEADER_LIST_SIZE)
            .connect_timeout(CONNECT_TIMEOUT);
        let builder = connection::configure(builder, &self.settings, is_trusted)?;
        let client = proxies
            .configure(builder)
            .build()
            .map_err(RootCause::from)
            .context(BuildClientSnafu)?;
        Ok(cell.get_or_init(|| Connections { client, proxies }))
    }

    /// Sends a request and retries it after transient failures.
    ///
    /// The response may have any status, which the caller handles. If every attempt results in a transient status, the
    /// last response is returned.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, Error> {
        let origin = Origin::from_url(&request.url);
        let attempts = if request.is_repeatable {
            self.settings.attempts
        } else {
            1
        };
        let mut failures = 0;
        loop {
            self.pauses.wait(&origin).await;
            let outcome = self.send_and_follow(request).await;
            failures += 1;
            if matches!(&outcome, Err(error) if !error.is_idle()) {
                request.stalls.reset();
            }
            let is_last = failures >= attempts;
            if outcome.is_ok() {
                self.connection_failures().reset(&origin);
            }
            let mut is_reported = true;
            let (delay, cause) = match outcome {
                Ok(response) if is_transient(response.status) => {
                    let requested =
                        retry::retry_after(response.status, &response.headers, SystemTime::now());
                    if let Some(wait) = requested.filter(|wait| *wait > retry::MAX_RETRY_AFTER) {
                        return RetryAfterTooLongSnafu {
                            url: response.redacted_url(),
                            wait,
                        }
                        .fail();
                    }
                    // A `Retry-After` below the back-off, for example zero or a past date, does not shorten the wait.
                    let minimum = backoff(failures);
                    let wait = requested.map_or(minimum, |requested| requested.max(minimum));
                    if requested.is_some() {
                        self.pauses.pause_until(&origin, Instant::now() + wait);
                    }
                    if is_last {
                        return Ok(response);
                    }
                    let (host, status) = (response.redacted_url(), response.status);
                    let status = retry::status_text(status);
                    (wait, format!("`{}` answered {status}", host.host()))
                }
                Err(error) if error.is_transient() && !is_last => {
                    is_reported = self.connection_failures().is_first(&origin, failures);
                    (backoff(failures), retry_cause(&error, &self.secrets))
                }
                outcome => return outcome,
            };
            let retry = Retry {
                operation: format!("{} {}", request.method, self.redact_url(&request.url)),
                attempt: failures + 1,
                attempts,
                delay,
                cause,
            };
            if is_reported {
                retry.wait(&self.settings.observer).await;
            } else {
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Sends a request once and follows redirects.
    async fn send_and_follow(&self, request: &Request) -> Result<Response, Error> {
        let mut url = request.url.clone();
        let origin = Origin::from_url(&url);
        let mut is_trusted = !request.is_untrusted;
        for _ in 0..=MAX_REDIRECTS {
            // After a redirect to another origin, a later redirect is untrusted even if it leads back, because a third
            // party chose its URL.
            is_trusted &= Origin::from_url(&url) == origin;
            let outcome = self.send_once(request, &url, is_trusted).await;
            self.settings.observer.notify(|| {
                let response = outcome.as_ref().ok();
                ClientEvent::Request {
                    method: request.method.to_string(),
                    url: self.redact_url(&url).without_quotes().to_owned(),
                    status: response.map(|response| response.status.as_u16()),
                    rate_limit: response
                        .and_then(|response| RateLimit::from_headers(&response.headers)),
                }
            });
            let response = outcome?;
            let warnings = if request.redirects == RedirectPolicy::Secret {
                Vec::new()
            } else {
                let origin = Origin::from_url(&url);
                self.warnings
                    .new_warnings(&origin, &response.headers, &self.secrets)
            };
            for text in warnings {
                let from = response.peer.redacted_host();
                self.settings
                    .observer
                    .notify(|| ClientEvent::Warning { from, text });
            }
            let status = response.status;
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let shown = response.redacted_url();
            snafu::ensure!(
                request.redirects != RedirectPolicy::Forbidden,
                RedirectForbiddenSnafu {
                    url: shown,
                    method: request.method.clone()
                }
            );
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
                return RedirectWithoutLocationSnafu { url: shown }.fail();
            };
            let next = if request.redirects == RedirectPolicy::AnyOrigin {
                response.peer.resolve(location)
            } else {
                response.peer.resolve_same_origin(location)
            };
            url = next.context(RedirectSnafu { url: shown })?;
        }
        RedirectLoopSnafu {
            url: self.redact_url(&request.url),
            limit: MAX_REDIRECTS,
        }
        .fail()
    }

    /// Sends a request to one URL and waits for the response header.
    async fn send_once(
        &self,
        request: &Request,
        url: &Url,
        is_trusted: bool,
    ) -> Result<Response, Error> {
        let connections = self.connections(url, is_trusted)?;
        let shown = || self.redact_url(url);
        let progress = Progress::new();
        let body = request
            .body
            .open(&progress)
            .await
            .context(ReadContentSnafu { url: shown() })?;
        let builder = connections
            .client
            .request(request.method.clone(), url.clone())
            .headers(self.request_headers(request, url, is_trusted));
        let sent = match body {
            Some(body) => builder.body(body).send(),
            None => builder.send(),
        };
        self.statistics.requests.fetch_add(1, Ordering::Relaxed);
        let finalise = if request.method == Method::PUT || request.body.is_stream() {
            FINALISE_TIMEOUT
        } else {
            IDLE_TIMEOUT
        };
        let outcome = tokio::select! {
            outcome = sent => outcome,
            after = progress.wait_for_idle_timeout(IDLE_TIMEOUT, finalise) => {
                if progress.has_sent_bytes() {
                    request.stalls.reset();
                }
                return Err(request.stalls.record_timeout(request.method.clone(), shown(), after));
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
                // A connection that a proxy closed does not indicate that the server expects TLS.
                let may_expect_tls = source.is_without_response()
                    && !connections.proxies.apply_to(url)
                    && self.may_expect_tls(request, url);
                if connect {
                    let certificate = source.is_certificate();
                    return Err(ConnectSnafu {
                        url: shown(),
                        certificate,
                        may_expect_tls,
                    }
                    .into_error(source));
                }
                return Err(SendSnafu {
                    method: request.method.clone(),
                    url: shown(),
                    may_expect_tls,
                }
                .into_error(source));
            }
        };
        if url.scheme() == "http" {
            self.plain_origins().insert(Origin::from_url(url));
        }
        // If a proxy is used, the remote address is the address of the proxy and does not classify the server.
        let address = inner
            .remote_addr()
            .filter(|_| !connections.proxies.apply_to(url))
            .map(|address| AddressClass::from_server_address(address.ip()));
        let class = address
            .or_else(|| AddressClass::from_url(url))
            .unwrap_or(AddressClass::Public);
        Ok(Response {
            status: inner.status(),
            headers: inner.headers().clone(),
            peer: Peer {
                url: url.clone(),
                class,
                secrets: self.secrets.clone(),
            },
            is_untrusted: !is_trusted,
            requested_origin: Origin::from_url(&request.url),
            is_sent: progress.is_finished(),
            stalls: request.stalls.clone(),
            inner,
            statistics: Arc::clone(&self.statistics),
        })
    }

    /// Returns the headers of a request to this URL. The credential is included only if the URL is trusted and on the
    /// origin of the credential.
    fn request_headers(&self, request: &Request, url: &Url, is_trusted: bool) -> HeaderMap {
        let mut headers = request.headers.clone();
        if let Some((origin, authorization)) = &request.authorization
            && is_trusted
            && *origin == Origin::from_url(url)
        {
            self.secrets.record_header(authorization);
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if ![Method::GET, Method::HEAD, Method::DELETE].contains(&request.method) {
            headers.insert(header::CONTENT_LENGTH, request.body.size().into());
        }
        headers
    }

    /// Whether the server may expect TLS: the URL is plain HTTP and on the requested origin, and this origin has not
    /// responded over plain HTTP yet.
    fn may_expect_tls(&self, request: &Request, url: &Url) -> bool {
        let origin = Origin::from_url(url);
        url.scheme() == "http"
            && origin == Origin::from_url(&request.url)
            && !self.plain_origins().contains(&origin)
    }

    fn connection_failures(&self) -> MutexGuard<'_, ConnectionFailures> {
        self.connection_failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn plain_origins(&self) -> MutexGuard<'_, HashSet<Origin>> {
        self.plain_origins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
