//! One request: what is asked, as whom, and how far it may go.

use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use super::body::Body;
use super::origin::Origin;
use super::stalls::Stalls;

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
    pub(super) reach: Reach,
    /// Whether someone else than the server chose where this goes: then it goes as nobody, wherever that is.
    pub(crate) is_stranger: bool,
    pub(super) stalls: Stalls,
}

/// How far a request goes, and what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
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
            stalls: Stalls::default(),
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

    /// A request of an operation that counts its idle timeouts here.
    #[must_use]
    pub(crate) fn counting(mut self, stalls: &Stalls) -> Self {
        self.stalls = stalls.clone();
        self
    }

    /// A request that is sent once: its outcome, when unknown, is for the caller to find out.
    #[must_use]
    pub(crate) fn once(mut self) -> Self {
        self.replay = false;
        self
    }
}
