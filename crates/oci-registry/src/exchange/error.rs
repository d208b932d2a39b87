//! Errors of an HTTP exchange and their hints.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use snafu::Snafu;

use super::{certificates, origin};
use crate::error::{ErrorKind, Failure, Hint};
use crate::escape::escape;
use crate::redact::RedactedUrl;

/// Messages of `hyper` for a connection that was closed without a response. The kinds of these errors are not
/// accessible.
const NO_RESPONSE: [&str; 3] = [
    "connection closed before message completed",
    "channel closed",
    "received unexpected message from connection",
];

#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub(crate) enum Error {
    #[snafu(display("failed to set up the HTTP client"))]
    BuildClient { source: RootCause },
    #[snafu(display("failed to read {purpose} in `{}`", path.display()))]
    ReadPem {
        path: PathBuf,
        purpose: &'static str,
        source: io::Error,
    },
    #[snafu(display("failed to read {purpose} in `{}`: not valid PEM", path.display()))]
    ParsePem {
        path: PathBuf,
        purpose: &'static str,
        source: RootCause,
    },
    #[snafu(display("failed to read {purpose} in `{}`: no certificate found", path.display()))]
    EmptyPem {
        path: PathBuf,
        purpose: &'static str,
    },
    #[snafu(display("failed to read the certificates of the registry in `{}`", directory.display()))]
    CertificateDirectory {
        directory: PathBuf,
        #[snafu(source(from(certificates::Error, crate::Error::from)))]
        source: crate::Error,
    },
    #[snafu(display("invalid proxy in `{variable}`"))]
    BuildProxy { variable: String, source: RootCause },
    #[snafu(display("failed to reach {url}"))]
    Connect {
        url: RedactedUrl,
        certificate: bool,
        may_expect_tls: bool,
        source: RootCause,
    },
    #[snafu(display("failed to get a response to {method} {url}"))]
    Send {
        method: Method,
        url: RedactedUrl,
        may_expect_tls: bool,
        source: RootCause,
    },
    #[snafu(display("gave up on {method} {url}: no progress for {} seconds", after.as_secs()))]
    Idle {
        method: Method,
        url: RedactedUrl,
        after: Duration,
    },
    /// Several consecutive idle timeouts.
    #[snafu(display("gave up on {method} {url}: no data in either direction for {} seconds", waited.as_secs()))]
    Stalled {
        method: Method,
        url: RedactedUrl,
        waited: Duration,
    },
    #[snafu(display("failed to read the content to send to {url}"))]
    ReadContent {
        url: RedactedUrl,
        source: crate::Error,
    },
    #[snafu(display("failed to read the response from {url}"))]
    ReadResponse { url: RedactedUrl, source: RootCause },
    #[snafu(display("refusing to read the response from {url}: it has more than {limit} bytes"))]
    ResponseTooLarge { url: RedactedUrl, limit: usize },
    #[snafu(display("failed to follow a redirect from {url}"))]
    Redirect {
        url: RedactedUrl,
        source: origin::Error,
    },
    #[snafu(display("refusing to follow {url}: the redirect has no `Location`"))]
    RedirectWithoutLocation { url: RedactedUrl },
    #[snafu(display(
        "refusing to follow {url}: a redirect of {method} with {status} would drop the request body"
    ))]
    RedirectWrite {
        url: RedactedUrl,
        method: Method,
        status: StatusCode,
    },
    #[snafu(display("refusing to follow {url}: a {method} request must not be redirected"))]
    RedirectForbidden { url: RedactedUrl, method: Method },
    #[snafu(display("refusing to follow {url}: more than {limit} redirects"))]
    RedirectLoop { url: RedactedUrl, limit: usize },
    #[snafu(display("gave up on {url}: the server requests a wait of {} seconds", wait.as_secs()))]
    RetryAfterTooLong { url: RedactedUrl, wait: Duration },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BuildClient { .. }
            | Self::BuildProxy { .. }
            | Self::ReadPem { .. }
            | Self::ParsePem { .. }
            | Self::EmptyPem { .. } => ErrorKind::InvalidInput,
            Self::Connect { .. }
            | Self::Send { .. }
            | Self::Idle { .. }
            | Self::Stalled { .. }
            | Self::ReadResponse { .. } => ErrorKind::Network,
            Self::CertificateDirectory { source, .. } | Self::ReadContent { source, .. } => {
                source.kind()
            }
            Self::RetryAfterTooLong { .. } => ErrorKind::RateLimited,
            Self::ResponseTooLarge { .. }
            | Self::Redirect { .. }
            | Self::RedirectWithoutLocation { .. }
            | Self::RedirectWrite { .. }
            | Self::RedirectForbidden { .. }
            | Self::RedirectLoop { .. } => ErrorKind::Protocol,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let hint = match self {
            Self::Connect {
                certificate: true, ..
            } => Hint::TrustCertificate,
            Self::Connect { source, .. } if source.is_not_tls() => Hint::UsePlainHttp,
            Self::Connect {
                may_expect_tls: true,
                ..
            } => Hint::TryTls,
            Self::Connect { .. } => {
                "check the name and the port, and whether a proxy is needed".into()
            }
            Self::Send { source, .. } if source.requires_identity() => Hint::ClientCertificate,
            Self::Send {
                may_expect_tls: true,
                ..
            } => Hint::TryTls,
            Self::ReadPem { .. } => "check the path and the permissions of the file".into(),
            Self::ParsePem { .. } | Self::EmptyPem { .. } => {
                "use a file in PEM format, which begins with `-----BEGIN`".into()
            }
            Self::RetryAfterTooLong { wait, .. } => {
                format!("try again in {} seconds", wait.as_secs()).into()
            }
            _ => return Vec::new(),
        };
        vec![hint]
    }
}

impl Error {
    /// Whether the error is an idle timeout.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Idle { .. } | Self::Stalled { .. })
    }

    /// Returns the failure of the connection and its host, for the report of a retry; `None` for other errors.
    pub(super) fn host_failure(&self) -> Option<String> {
        match self {
            Self::Connect { url, source, .. }
            | Self::Send { url, source, .. }
            | Self::ReadResponse { url, source } => Some(source.describe_failure(url.host())),
            Self::Idle { url, after, .. } => Some(format!(
                "no progress with `{}` for {} seconds",
                url.host(),
                after.as_secs()
            )),
            _ => None,
        }
    }

    /// Whether another attempt of the same request may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connect {
                certificate,
                source,
                ..
            } => !certificate && !source.is_not_tls(),
            Self::Send { source, .. } => !source.requires_identity() && !source.is_not_http(),
            Self::Idle { .. } | Self::ReadResponse { .. } => true,
            _ => false,
        }
    }
}

/// Messages of `hyper` for a connection that the server closed, in addition to [`NO_RESPONSE`].
const CLOSED: [&str; 2] = [
    "connection was not ready",
    "end of file before message length reached",
];

/// HTTP error that displays the message of its innermost cause, which is the most specific.
///
/// The outer errors only repeat that a request failed. Some of them display URLs that contain secrets.
pub(crate) struct RootCause(reqwest::Error);

impl RootCause {
    /// Whether a certificate caused the error.
    pub(super) fn is_certificate(&self) -> bool {
        self.causes().any(|error| {
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            let shown = inner.map_or_else(|| error.to_string(), ToString::to_string);
            shown.contains("certificate")
        })
    }

    /// Whether the server responded with a protocol other than TLS.
    fn is_not_tls(&self) -> bool {
        self.causes()
            .any(|error| error.to_string().contains("InvalidContentType"))
    }

    /// Whether the server responded with a protocol other than HTTP/1, for example with a TLS alert.
    fn is_not_http(&self) -> bool {
        self.causes()
            .any(|error| error.to_string().contains("invalid HTTP version"))
    }

    /// Whether the server sent no HTTP response: it closed the connection, or sent other bytes.
    pub(super) fn is_without_response(&self) -> bool {
        let is_closed = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        };
        self.is_not_http()
            || self.causes().any(|error| {
                error.downcast_ref().is_some_and(is_closed)
                    || NO_RESPONSE.contains(&error.to_string().as_str())
            })
    }

    /// Returns a description of the failed connection to a host.
    fn describe_failure(&self, host: &str) -> String {
        let kinds = self.causes().filter_map(|error| error.downcast_ref());
        let kind = kinds.map(io::Error::kind).last();
        match kind {
            Some(io::ErrorKind::ConnectionRefused) => format!("connection refused by `{host}`"),
            Some(
                io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe,
            ) => format!("connection reset by `{host}`"),
            Some(io::ErrorKind::TimedOut) => format!("connection to `{host}` timed out"),
            Some(io::ErrorKind::UnexpectedEof) => format!("connection closed by `{host}`"),
            _ => {
                let text = self.to_string();
                if NO_RESPONSE
                    .iter()
                    .chain(&CLOSED)
                    .any(|closed| text == *closed)
                {
                    format!("connection closed by `{host}`")
                } else {
                    format!("`{host}`: {text}")
                }
            }
        }
    }

    /// Whether the server rejected the connection because the client sent no acceptable certificate.
    fn requires_identity(&self) -> bool {
        self.causes()
            .any(|error| error.to_string().contains("CertificateRequired"))
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
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
            .causes()
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
