//! Proxy in front of a registry that delays responses, or temporarily omits new tags from the list of tags.
//!
//! The proxy loses no request and no response. The delay of a request follows from the number of the request, so each
//! run has the same share of delays.

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

/// Kind of delay that a proxy adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delays {
    /// No delay.
    None,
    /// About one in ten requests takes one to five seconds longer: half of them before the registry receives the request,
    /// half of them after.
    Responses,
    /// The list of tags omits a new tag for three seconds. A request for the tag itself succeeds at once.
    Lists,
}

/// The time for which the list of tags omits a new tag.
const LIST_DELAY: Duration = Duration::from_secs(3);

/// A proxy in front of one host. It ends when the value is dropped.
#[derive(Debug)]
pub struct DelayingProxy {
    proxy: Proxy,
}

#[derive(Debug)]
struct State {
    delays: Delays,
    host: String,
    requests: AtomicU64,
    /// The time at which each manifest path was first written.
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

    /// Returns `127.0.0.1:PORT` of the proxy.
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

    /// Removes the tags from a list that were set within [`LIST_DELAY`].
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

/// Returns the delays of a request before and after the registry receives it; `None` for nine requests
/// in ten.
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
