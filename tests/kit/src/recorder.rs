//! Proxy in front of a registry that records every request.
//!
//! The proxy changes neither requests nor responses. The registry builds its `Location` headers from the `Host` header,
//! which the proxy forwards unchanged, so the next request of an upload is sent through the proxy too.

use std::sync::{Arc, Mutex, PoisonError};

use crate::proxy::{Proxy, forward};

/// Proxy in front of one host. The proxy stops when the value is dropped.
#[derive(Debug)]
pub struct Recorder {
    proxy: Proxy,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
}

/// Request that was sent through the proxy, with its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Status of the response.
    pub status: u16,
    /// `Docker-Content-Digest` header of the response.
    pub digest: Option<String>,
}

impl RecordedRequest {
    /// Whether the request may change the content of the registry.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

impl std::fmt::Display for RecordedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} -> {}", self.method, self.path, self.status)
    }
}

impl Recorder {
    /// Starts a proxy in front of `host`.
    #[must_use]
    pub fn start(host: &str) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (host, record) = (host.to_owned(), Arc::clone(&requests));
        let proxy = Proxy::start(move |request| {
            let (host, record) = (host.clone(), Arc::clone(&record));
            async move {
                let method = request.method().to_string();
                let path = request.uri().to_string();
                let response = forward(&host, request).await;
                let (status, digest) = match &response {
                    Ok(response) => {
                        let digest = response.headers().get("Docker-Content-Digest");
                        let digest =
                            digest.and_then(|digest| Some(digest.to_str().ok()?.to_owned()));
                        (response.status().as_u16(), digest)
                    }
                    Err(_) => (502, None),
                };
                lock(&record).push(RecordedRequest {
                    method,
                    path,
                    status,
                    digest,
                });
                response
            }
        });
        Self { proxy, requests }
    }

    /// Returns the proxy's `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.proxy.host()
    }

    /// Returns the requests since the previous call of this method.
    #[must_use]
    pub fn take(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut lock(&self.requests))
    }
}

fn lock(requests: &Mutex<Vec<RecordedRequest>>) -> std::sync::MutexGuard<'_, Vec<RecordedRequest>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}
