//! One request, with its credentials and the limits of its redirects.

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
    /// `Authorization` value, which is sent to this origin only.
    pub(crate) authorization: Option<(Origin, HeaderValue)>,
    /// Whether the request may be sent again after an unknown outcome.
    pub(crate) replay: bool,
    pub(super) reach: Reach,
    /// Whether another origin chose the URL. The request is then sent without credentials, whatever its origin.
    pub(crate) is_untrusted: bool,
    pub(super) stalls: Stalls,
}

/// Limits of the redirects of a request, and of the use of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A redirect may lead to another origin.
    Anywhere,
    /// A redirect may not lead to another origin.
    WithinOrigin,
    /// As [`Reach::WithinOrigin`]. The response holds a secret, so nothing in it is reported.
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
            is_untrusted: false,
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

    /// Refuses redirects to another origin.
    #[must_use]
    pub(crate) fn within_origin(mut self) -> Self {
        self.reach = Reach::WithinOrigin;
        self
    }

    /// Sends the request without credentials if another origin chose its URL.
    #[must_use]
    pub(crate) fn untrusted(mut self, is_untrusted: bool) -> Self {
        self.is_untrusted = is_untrusted;
        self
    }

    /// Marks the response as a secret: redirects to another origin are refused, and nothing in the response is reported.
    #[must_use]
    pub(crate) fn private(mut self) -> Self {
        self.reach = Reach::Private;
        self
    }

    /// Counts the idle timeouts of the request among those of an operation.
    #[must_use]
    pub(crate) fn counting(mut self, stalls: &Stalls) -> Self {
        self.stalls = stalls.clone();
        self
    }

    /// Disables further attempts: the caller handles an unknown outcome.
    #[must_use]
    pub(crate) fn once(mut self) -> Self {
        self.replay = false;
        self
    }
}
