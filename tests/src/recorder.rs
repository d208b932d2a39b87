//! A proxy before a registry that names every request that passes.
//!
//! It changes nothing. The registry builds its `Location`s from the `Host` header, which is
//! passed on as it came, so that the next request of an upload passes here again.

use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt;
use hyper::{Response, StatusCode};

use crate::loopback::{Server, body, forward};

/// A proxy before one host; it stops with this value.
#[derive(Debug)]
pub struct Recorder {
    server: Server,
    requests: Arc<Mutex<Vec<Recorded>>>,
}

/// One request that passed, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// The digest that the answer names (`Docker-Content-Digest`).
    pub digest: Option<String>,
}

impl Recorded {
    /// Whether the request could change something.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

impl std::fmt::Display for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} -> {}", self.method, self.path, self.status)
    }
}

impl Recorder {
    /// Starts to record what goes to `host` by way of this proxy.
    #[must_use]
    pub fn before(host: &str) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (host, record) = (host.to_owned(), Arc::clone(&requests));
        let server = Server::start(move |request| {
            let (host, record) = (host.clone(), Arc::clone(&record));
            async move {
                let method = request.method().to_string();
                let path = request.uri().to_string();
                let answer = forward(&host, request).await.map_or_else(
                    |error| {
                        let mut answer = Response::new(body(error.to_string()));
                        *answer.status_mut() = StatusCode::BAD_GATEWAY;
                        answer
                    },
                    |answer| answer.map(BodyExt::boxed),
                );
                let status = answer.status().as_u16();
                let digest = answer.headers().get("Docker-Content-Digest");
                let digest = digest.and_then(|digest| Some(digest.to_str().ok()?.to_owned()));
                lock(&record).push(Recorded {
                    method,
                    path,
                    status,
                    digest,
                });
                answer
            }
        });
        Self { server, requests }
    }

    /// `127.0.0.1:PORT` of the proxy.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// The requests since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut lock(&self.requests))
    }
}

fn lock(requests: &Mutex<Vec<Recorded>>) -> std::sync::MutexGuard<'_, Vec<Recorded>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}
