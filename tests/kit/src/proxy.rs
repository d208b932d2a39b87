//! HTTP/1.1 proxies on 127.0.0.1.

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::tcp::TcpServer;

/// Body of a response: bytes, or the body of another response that the proxy forwards.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// Response of the host behind the proxy, or the error of the request to this host.
pub type Result = std::result::Result<Response<Body>, Box<dyn Error + Send + Sync>>;

/// Returns a body with these bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Proxy on a free port. The proxy stops when the value is dropped.
#[derive(Debug)]
pub struct Proxy {
    server: TcpServer,
}

impl Proxy {
    /// Starts a proxy that passes each request to the handler. If the handler fails, the client receives a 502
    /// response.
    pub fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result> + Send + 'static,
    {
        let server = TcpServer::start(move |stream, _| {
            let handler = handler.clone();
            async move {
                let service = service_fn(move |request| {
                    let response = handler(request);
                    async move { Ok::<_, Infallible>(response.await.unwrap_or_else(bad_gateway)) }
                });
                // A client may close the connection early, so an error is ignored.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        Self { server }
    }

    /// Returns `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.host()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the closure receives it")]
fn bad_gateway(error: Box<dyn Error + Send + Sync>) -> Response<Body> {
    let mut response = Response::new(body(error.to_string()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// Forwards a request to another host over a new connection. Keeps the request line and the header fields.
///
/// # Errors
///
/// If the host cannot be reached, or the response is not HTTP.
pub async fn forward<B>(host: &str, mut request: Request<B>) -> Result
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Error + Send + Sync + 'static,
{
    // The request line contains the path only, so the `Host` header names the host.
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
    let response = sender.send_request(request).await?;
    Ok(response.map(BodyExt::boxed))
}
