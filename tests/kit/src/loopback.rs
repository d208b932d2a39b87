//! HTTP/1.1 on 127.0.0.1 for tests without a runtime: servers with a handler, and single requests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Handle, Runtime};
use tokio::task::{JoinHandle, JoinSet};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built")
});

/// Returns the runtime that the caller runs on, or the one of this module.
pub(crate) fn current_runtime() -> Handle {
    Handle::try_current().unwrap_or_else(|_| RUNTIME.handle().clone())
}

/// The body of a response: bytes, or the body of another response that is passed on.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// Returns a body of known bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Runs a future to completion.
pub fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// A server on a free port. It ends when the value is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Starts a server that passes each request to the handler.
    pub fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = block_on(TcpListener::bind("127.0.0.1:0")).expect("a loopback port is free");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let accepting = RUNTIME.spawn(accept(listener, handler));
        Self { address, accepting }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Connections end with the set, and so with the server.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            // A client that closes the connection early ends it without an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A reserved port without a listener, so that connections to it are refused.
#[derive(Debug)]
pub struct DeadHost {
    // Bound, but not listening.
    _socket: TcpSocket,
    host: String,
}

impl DeadHost {
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

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Default for DeadHost {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends a request to the host of its URL. Returns the response with its whole body.
///
/// # Panics
///
/// If the host cannot be reached, or the response is not HTTP.
pub fn send(request: Request<impl Into<Bytes>>) -> Response<Bytes> {
    block_on(async {
        let host = authority(request.uri());
        let request = request.map(|bytes| body(bytes.into()));
        let answer = forward(&host, request)
            .await
            .unwrap_or_else(|error| panic!("no answer from `{host}`: {error}"));
        let (head, incoming) = answer.into_parts();
        let bytes = incoming.collect().await.expect("the body arrives whole");
        Response::from_parts(head, bytes.to_bytes())
    })
}

/// Sends a GET request without header fields; see [`send`].
#[must_use]
pub fn get(url: &str) -> Response<Bytes> {
    let request = Request::get(url).header("Host", authority(&url.parse().expect("a URL")));
    send(request.body("").expect("a URL makes a request"))
}

/// Forwards a request to another host over a new connection, with its head unchanged.
///
/// # Errors
///
/// If the host cannot be reached, or the response is not HTTP.
pub async fn forward<B>(
    host: &str,
    mut request: Request<B>,
) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    // The request line carries the path only; the Host header names the host.
    if !request.headers().contains_key("Host") {
        request.headers_mut().insert("Host", host.parse()?);
    }
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse::<Uri>()?;
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

fn authority(url: &Uri) -> String {
    url.authority().expect("an absolute URL").to_string()
}
