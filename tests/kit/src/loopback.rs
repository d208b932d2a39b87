//! Single HTTP/1.1 requests, and ports that refuse connections, for tests that have no async runtime.

use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Request, Response, Uri};
use tokio::net::TcpSocket;
use tokio::runtime::{Handle, Runtime};

use crate::proxy::{body, forward};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built")
});

/// Returns the runtime of the caller, or the runtime of this module if the caller runs on none.
pub(crate) fn current_runtime() -> Handle {
    Handle::try_current().unwrap_or_else(|_| RUNTIME.handle().clone())
}

/// Runs a future to completion.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Reserved port on which nothing listens, so that connections to the port are refused.
#[derive(Debug)]
pub struct ClosedPort {
    // The socket is bound, so the port stays reserved. The socket does not listen.
    _socket: TcpSocket,
    host: String,
}

impl ClosedPort {
    /// Reserves a free port.
    #[must_use]
    pub fn new() -> Self {
        let _runtime = RUNTIME.enter();
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any).expect("a loopback port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        Self {
            host: address.to_string(),
            _socket: socket,
        }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends a request to the host of its URL. Returns the response after its body is complete.
///
/// # Panics
///
/// If the host cannot be reached, or the response is not HTTP.
pub fn send(request: Request<impl Into<Bytes>>) -> Response<Bytes> {
    block_on(async {
        let host = authority(request.uri());
        let request = request.map(|bytes| body(bytes.into()));
        let response = forward(&host, request)
            .await
            .unwrap_or_else(|error| panic!("no response from `{host}`: {error}"));
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body arrives whole");
        Response::from_parts(head, bytes.to_bytes())
    })
}

/// Sends a GET request that has no header fields; see [`send`].
#[must_use]
pub fn get(url: &str) -> Response<Bytes> {
    let request = Request::get(url).header("Host", authority(&url.parse().expect("a URL")));
    send(request.body("").expect("the URL is valid"))
}

fn authority(url: &Uri) -> String {
    url.authority().expect("an absolute URL").to_string()
}
