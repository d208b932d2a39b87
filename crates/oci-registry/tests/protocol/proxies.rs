//! Requests through a proxy, and the address class of a server behind a proxy.

use oci_registry::{Access, Client, Environment, ErrorKind, Repository, Source};
use testkit::server::{Response, Server};

use crate::support::{NoCredential, descriptor, options};

const CONTENT: &[u8] = b"content";

/// Opens a repository of `registry.example`, which resolves to `server`, with these proxy variables.
fn repository(server: &Server, variables: &[(&str, String)]) -> Repository {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut options = options(NoCredential);
    options.environment = Environment::new(variables, None, "/".into());
    options.plain_http = Some(true);
    options.attempts = 1;
    let host = server.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    let rule = format!("registry.example:{port}:127.0.0.1");
    options.resolve = vec![rule.parse().unwrap()];
    let reference = format!("registry.example:{port}/acme/widgets");
    let client = Client::new(options);
    client
        .repository(&reference.parse().unwrap(), Access::Pull)
        .unwrap()
}

async fn read_blob(repository: &Repository) -> oci_registry::Result<bytes::Bytes> {
    let stream = repository.blob(&descriptor(CONTENT)).await?;
    stream.read_to_end(100).await
}

fn storage() -> Server {
    Server::start(|_, _| Response::new(200).body(CONTENT))
}

/// Starts a server that redirects every request to another server on this machine.
fn redirecting_to(storage: &Server) -> Server {
    let location = format!("http://{}/blob", storage.host());
    Server::start(move |_, _| Response::new(307).header("Location", &location))
}

fn url(proxy: &Server) -> String {
    format!("http://{}", proxy.host())
}

#[tokio::test]
async fn redirect_to_loopback_through_a_proxy_is_rejected() {
    let storage = storage();
    let proxy = redirecting_to(&storage);
    let repository = repository(&proxy, &[("HTTP_PROXY", url(&proxy))]);
    let error = read_blob(&repository).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    // The proxy received the request with an absolute URL.
    assert!(proxy.request_lines()[0].starts_with("GET http://registry.example:"));
    assert!(storage.requests().is_empty());
}

#[tokio::test]
async fn host_without_a_proxy_is_classified_by_its_address() {
    let storage = storage();
    let registry = redirecting_to(&storage);
    let proxy = Server::start(|_, _| Response::new(500));
    let excluded = [
        ("HTTP_PROXY", url(&proxy)),
        ("HTTPS_PROXY", url(&proxy)),
        ("NO_PROXY", ".example".to_owned()),
    ];
    let content = read_blob(&repository(&registry, &excluded)).await;
    assert_eq!(content.unwrap(), CONTENT);
    assert!(registry.request_lines()[0].starts_with("GET /v2/acme/widgets/blobs/"));
    assert!(proxy.requests().is_empty());
    // A proxy for another scheme is not used.
    let https_only = [("HTTPS_PROXY", url(&proxy))];
    let content = read_blob(&repository(&registry, &https_only)).await;
    assert_eq!(content.unwrap(), CONTENT);
}
