//! What is reached through a proxy, and what is known then of where it is.

use std::sync::Arc;

use oci_registry::{
    Access, Anonymous, Client, ClientOptions, Descriptor, Digest, Environment, ErrorKind,
    MediaType, Repository, Source,
};

use crate::scripted::{Reply, Server};

const CONTENT: &str = "content";

/// A registry under a name of the outside world that this machine reaches at `server`, behind these proxies.
fn repository(server: &Server, variables: &[(&str, String)]) -> Repository {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
    let mut options = ClientOptions::new(Environment::new(variables, None, "/".into()));
    options.credentials = Arc::new(Anonymous);
    options.plain_http = Some(true);
    options.attempts = 1;
    let host = server.host();
    let (_, port) = host.rsplit_once(':').unwrap();
    options.resolve = vec![
        format!("registry.example:{port}:127.0.0.1")
            .parse()
            .unwrap(),
    ];
    let reference = format!("registry.example:{port}/acme/widgets")
        .parse()
        .unwrap();
    let client = Client::new(options);
    client.repository(&reference, Access::Pull).unwrap()
}

async fn fetch(repository: &Repository) -> oci_registry::Result<bytes::Bytes> {
    let digest = Digest::sha256(CONTENT.as_bytes());
    let descriptor = Descriptor::new(MediaType::OCTET_STREAM, digest, CONTENT.len() as u64);
    repository.blob(&descriptor).await?.read_to_end(100).await
}

/// A server on this machine that sends whoever comes to another one on it.
async fn redirecting_to(storage: &Server) -> Server {
    let place = format!("http://{}/blob", storage.host());
    Server::start(move |_, _| Reply::new(307).header("Location", &place)).await
}

#[tokio::test]
async fn behind_a_proxy_a_server_may_not_point_to_this_machine() {
    let storage = Server::start(|_, _| Reply::new(200).body(CONTENT)).await;
    let proxy = redirecting_to(&storage).await;
    let proxies = [("HTTP_PROXY", format!("http://{}", proxy.host()))];
    let error = fetch(&repository(&proxy, &proxies)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    // The proxy was asked for the whole URL, and nobody else for anything.
    assert!(proxy.lines()[0].starts_with("GET http://registry.example:"));
    assert!(storage.asked().is_empty());
}

#[tokio::test]
async fn what_no_proxy_leaves_out_is_known_by_its_address() {
    let storage = Server::start(|_, _| Reply::new(200).body(CONTENT)).await;
    let registry = redirecting_to(&storage).await;
    let proxy = Server::start(|_, _| Reply::new(500)).await;
    let proxies = [
        ("HTTP_PROXY", format!("http://{}", proxy.host())),
        ("HTTPS_PROXY", format!("http://{}", proxy.host())),
        ("NO_PROXY", ".example".to_owned()),
    ];
    assert_eq!(
        fetch(&repository(&registry, &proxies)).await.unwrap(),
        CONTENT
    );
    assert!(registry.lines()[0].starts_with("GET /v2/acme/widgets/blobs/"));
    assert!(proxy.asked().is_empty());
    // A proxy for what is not asked for changes nothing either.
    let https = [("HTTPS_PROXY", format!("http://{}", proxy.host()))];
    assert_eq!(
        fetch(&repository(&registry, &https)).await.unwrap(),
        CONTENT
    );
}
