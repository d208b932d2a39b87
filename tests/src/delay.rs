//! Proxy in front of a registry that delays responses, or that temporarily omits new tags from the list of tags.
//!
//! The proxy drops no request and no response. The number of a request determines its delay, so every run has the same
//! share of delays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::Value;
use sha2::Digest as _;
use testkit::proxy::{self, Body, Proxy, body, forward};

/// Kind of delay that the proxy adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delays {
    /// No delay.
    None,
    /// About one in ten requests takes one to five seconds longer. For half of these requests, the delay is before the
    /// registry receives the request; for the other half, it is after.
    Responses,
    /// The list of tags omits a new tag for three seconds. A request for the tag itself succeeds at once.
    Lists,
}

/// Time during which the list of tags omits a new tag.
const LIST_DELAY: Duration = Duration::from_secs(3);

/// Proxy in front of one host. The proxy stops when the value is dropped.
#[derive(Debug)]
pub struct DelayingProxy {
    proxy: Proxy,
}

#[derive(Debug)]
struct State {
    delays: Delays,
    host: String,
    requests: AtomicU64,
    /// Time of the first successful PUT for each path.
    written: Mutex<HashMap<String, Instant>>,
}

impl DelayingProxy {
    /// Starts a proxy in front of `host`.
    #[must_use]
    pub fn start(host: &str, delays: Delays) -> Self {
        let state = Arc::new(State {
            delays,
            host: host.to_owned(),
            requests: AtomicU64::new(0),
            written: Mutex::default(),
        });
        let proxy = Proxy::start(move |request| {
            let state = Arc::clone(&state);
            async move { state.respond(request).await }
        });
        Self { proxy }
    }

    /// Returns the proxy's `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.proxy.host()
    }
}

impl State {
    async fn respond(&self, request: Request<Incoming>) -> proxy::Result {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let delay = (self.delays == Delays::Responses).then(|| delay(number));
        let (before, after) = delay.flatten().unwrap_or_default();
        tokio::time::sleep(before).await;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = forward(&self.host, request).await?;
        if method == Method::PUT && response.status().is_success() {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.entry(path.clone()).or_insert_with(Instant::now);
        }
        tokio::time::sleep(after).await;
        match path.strip_suffix("/tags/list") {
            Some(repository) if self.delays == Delays::Lists => {
                self.without_new_tags(repository, response).await
            }
            _ => Ok(response),
        }
    }

    /// Removes tags that were set within [`LIST_DELAY`] from a list of tags.
    async fn without_new_tags(&self, repository: &str, response: Response<Body>) -> proxy::Result {
        let (mut head, content) = response.into_parts();
        let bytes = content.collect().await?.to_bytes();
        let mut document: Value = serde_json::from_slice(&bytes)?;
        if let Some(tags) = document["tags"].as_array_mut() {
            let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            tags.retain(|tag| {
                let tag = tag.as_str().unwrap_or_default();
                let path = format!("{repository}/manifests/{tag}");
                written
                    .get(&path)
                    .is_none_or(|written| written.elapsed() >= LIST_DELAY)
            });
        }
        head.headers.remove("Content-Length");
        Ok(Response::from_parts(head, body(document.to_string())))
    }
}

/// Returns the delays before and after the registry receives a request. Returns `None` for nine in ten requests.
fn delay(number: u64) -> Option<(Duration, Duration)> {
    let hash = sha2::Sha256::digest(number.to_be_bytes());
    (hash[0] < 26).then(|| {
        let whole = Duration::from_secs(1) + Duration::from_secs(4) * u32::from(hash[1]) / 255;
        let nothing = Duration::ZERO;
        if hash[2] < 128 {
            (whole, nothing)
        } else {
            (nothing, whole)
        }
    })
}
