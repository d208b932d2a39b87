//! A way to a registry in bad weather: answers that take seconds, or a list of tags that is behind.
//!
//! It loses and invents nothing: whatever goes through arrives, late or early. What it delays follows from the number of the
//! request, so that each run has the same share of delays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use sha2::Digest as _;

use crate::loopback::{Body, Server, body, forward};

/// What a registry does to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// Every tenth request, as the dice fall, takes one to five seconds longer: half of them before the registry has
    /// seen the request, half of them after.
    Slow,
    /// A tag is listed three seconds after it was set; who asks for the tag itself gets it at once.
    StaleLists,
}

/// By how much the list of tags is behind.
const BEHIND: Duration = Duration::from_secs(3);

/// A proxy before one host; it stops with this value.
#[derive(Debug)]
pub struct Outdoors {
    server: Server,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    host: String,
    requests: AtomicU64,
    /// When each path of a tag was first put.
    put: Mutex<HashMap<String, Instant>>,
}

impl Outdoors {
    /// A way to `host` in this weather.
    #[must_use]
    pub fn before(host: &str, weather: Weather) -> Self {
        let state = Arc::new(State {
            weather,
            host: host.to_owned(),
            requests: AtomicU64::new(0),
            put: Mutex::default(),
        });
        let server = Server::start(move |request| {
            let state = Arc::clone(&state);
            async move {
                let answer = state.answer(request).await;
                answer.unwrap_or_else(|error| {
                    let mut answer = Response::new(body(error.to_string()));
                    *answer.status_mut() = StatusCode::BAD_GATEWAY;
                    answer
                })
            }
        });
        Self { server }
    }

    /// `127.0.0.1:PORT` of this end.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }
}

impl State {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let delay = (self.weather == Weather::Slow).then(|| delay(number));
        let (before, after) = delay.flatten().unwrap_or_default();
        tokio::time::sleep(before).await;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = forward(&self.host, request).await?;
        if method == Method::PUT && answer.status().is_success() {
            let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
            put.entry(path.clone()).or_insert_with(Instant::now);
        }
        tokio::time::sleep(after).await;
        match path.strip_suffix("/tags/list") {
            Some(repository) if self.weather == Weather::StaleLists => {
                self.stale_list(repository, answer).await
            }
            _ => Ok(answer.map(BodyExt::boxed)),
        }
    }

    /// The list without the tags that were set just now.
    async fn stale_list(
        &self,
        repository: &str,
        answer: Response<Incoming>,
    ) -> Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut head, incoming) = answer.into_parts();
        let bytes: Bytes = incoming.collect().await?.to_bytes();
        let mut document: Value = serde_json::from_slice(&bytes)?;
        if let Some(tags) = document["tags"].as_array_mut() {
            let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
            tags.retain(|tag| {
                let path = format!(
                    "{repository}/manifests/{}",
                    tag.as_str().unwrap_or_default()
                );
                put.get(&path).is_none_or(|set| set.elapsed() >= BEHIND)
            });
        }
        head.headers.remove("Content-Length");
        Ok(Response::from_parts(head, body(document.to_string())))
    }
}

/// How long this request waits before and after the registry sees it; `None` for nine in ten.
fn delay(number: u64) -> Option<(Duration, Duration)> {
    let dice = sha2::Sha256::digest(number.to_be_bytes());
    (dice[0] < 26).then(|| {
        let whole = Duration::from_secs(1) + Duration::from_secs(4) * u32::from(dice[1]) / 255;
        let nothing = Duration::ZERO;
        if dice[2] < 128 {
            (whole, nothing)
        } else {
            (nothing, whole)
        }
    })
}
