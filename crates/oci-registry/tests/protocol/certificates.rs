//! Certificates of individual registries, in directories with the layout of container tools (`certs.d`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Client, ClientOptions, Error, ErrorKind, Hint, RegistryOptions, Repository, Source,
};
use testkit::certificates::{Authority, CertifiedKey};
use testkit::server::{ClientCertificates, Response, Server, Tls};
use testkit::tcp::TcpServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{NoCredential, descriptor, error_text};

/// Starts a TLS server with one tag.
fn tls_registry(authority: &Authority, clients: ClientCertificates) -> Server {
    let tls = Tls {
        clients,
        ..Tls::new(authority)
    };
    Server::start_tls(tls, |_, _| tag_list())
}

fn tag_list() -> Response {
    Response::new(200).body(r#"{"name":"acme/widgets","tags":["1"]}"#)
}

/// Returns the client certificate of each request that a server received.
fn client_certificates(server: &Server) -> Vec<Option<Vec<u8>>> {
    let requests = server.requests().into_iter();
    requests.map(|request| request.client_certificate).collect()
}

/// Directory with one certificate subdirectory per registry.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes the CA certificate of an authority into the directory of a host.
    fn trust(&self, host: &str, authority: &Authority) -> PathBuf {
        self.write(host, "ca.crt", &authority.pem())
    }

    /// Writes a client certificate and its key into the directory of a host.
    fn identify(&self, host: &str, client: &CertifiedKey) -> (PathBuf, PathBuf) {
        (
            self.write(host, "client.cert", &client.certificate.pem()),
            self.write(host, "client.key", &client.key.serialize_pem()),
        )
    }

    fn write(&self, host: &str, name: &str, content: &str) -> PathBuf {
        let directory = self.0.path().join(host);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(name), content).unwrap();
        directory.join(name)
    }

    fn options(&self) -> ClientOptions {
        options(self.0.path())
    }
}

/// Returns client options with two certificate directories: a missing directory, then this directory.
fn options(certificates: &Path) -> ClientOptions {
    let mut options = crate::support::options(NoCredential);
    options.certificate_directories = vec![certificates.join("absent"), certificates.to_owned()];
    options
}

fn without_certificates() -> ClientOptions {
    options(Path::new("/nonexistent"))
}

fn repository(client: &Client, host: &str) -> Repository {
    let reference = format!("{host}/acme/widgets").parse().unwrap();
    client.repository(&reference, Access::Pull).unwrap()
}

/// Lists the tags of a repository.
async fn tags(options: ClientOptions, host: &str) -> oci_registry::Result<Vec<String>> {
    let tags = repository(&Client::new(options), host).tags();
    tags.map_ok(|tag| tag.to_string()).try_collect().await
}

async fn network_error(options: ClientOptions, host: &str) -> Error {
    let error = tags(options, host).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    error
}

#[tokio::test]
async fn certificate_of_unknown_authority_is_rejected_at_once() {
    let authority = Authority::new();
    let server = tls_registry(&authority, ClientCertificates::Ignored);
    let mut options = without_certificates();
    options.plain_http = Some(false);
    let error = network_error(options, &server.host()).await;
    assert_eq!(error.hints(), [Hint::TrustCertificate]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn authority_in_certificate_directory_is_trusted() {
    let authority = Authority::new();
    let server = tls_registry(&authority, ClientCertificates::Ignored);
    let certificates = Certificates::new();
    // The client uses TLS for a registry that has a certificate directory, even at a loopback address.
    certificates.trust(&server.host(), &authority);
    certificates.write(&server.host(), "NOTES", "not a certificate");
    let found = tags(certificates.options(), &server.host()).await;
    assert_eq!(found.unwrap(), ["1"]);
    assert_eq!(server.connections(), 1);
    // The directory does not apply to a registry on another port.
    let other = tls_registry(&authority, ClientCertificates::Ignored);
    let mut options = certificates.options();
    options.plain_http = Some(false);
    assert!(tags(options, &other.host()).await.is_err());
}

#[tokio::test]
async fn required_client_certificate_is_read_from_directory() {
    let authority = Authority::new();
    let server = tls_registry(&authority, ClientCertificates::Required);
    let certificates = Certificates::new();
    certificates.trust(&server.host(), &authority);
    let error = network_error(certificates.options(), &server.host()).await;
    assert_eq!(error.hints(), [Hint::ClientCertificate]);
    assert_eq!((server.connections(), server.requests().len()), (1, 0));

    let client = authority.sign("me");
    certificates.identify(&server.host(), &client);
    let found = tags(certificates.options(), &server.host()).await;
    assert_eq!(found.unwrap(), ["1"]);
    let expected = client.certificate.der().to_vec();
    assert_eq!(client_certificates(&server), [Some(expected)]);
}

#[tokio::test]
async fn client_certificate_is_sent_to_its_registry_only() {
    let authority = Authority::new();
    let start = |script: fn(&str) -> Response, argument: String| {
        let tls = Tls {
            clients: ClientCertificates::Optional,
            ..Tls::new(&authority)
        };
        Server::start_tls(tls, move |_, _| script(&argument))
    };
    let storage = start(|content| Response::new(200).body(content), "content".into());
    let location = format!("https://{}/blob", storage.host());
    let server = start(
        |location| Response::new(307).header("Location", location),
        location,
    );
    let certificates = Certificates::new();
    let ca = certificates.trust(&server.host(), &authority);
    let client = authority.sign("me");
    let named = RegistryOptions {
        ca_files: vec![ca],
        identity: Some(certificates.identify("elsewhere", &client)),
        ..RegistryOptions::default()
    };
    let mut by_name = without_certificates();
    by_name.registries = [(server.host().parse().unwrap(), named)].into();
    certificates.identify(&server.host(), &client);
    for options in [certificates.options(), by_name] {
        let repository = repository(&Client::new(options), &server.host());
        let content = repository.blob(&descriptor(b"content")).await.unwrap();
        assert_eq!(content.read_to_end(10).await.unwrap(), "content");
    }
    let sent = Some(client.certificate.der().to_vec());
    assert_eq!(client_certificates(&server), [sent.clone(), sent]);
    assert_eq!(client_certificates(&storage), [None, None]);
}

#[tokio::test]
async fn client_certificate_without_key_fails_before_request() {
    let authority = Authority::new();
    let server = tls_registry(&authority, ClientCertificates::Optional);
    let certificates = Certificates::new();
    certificates.write(&server.host(), "client.cert", &authority.pem());
    // The directory is read with the first request.
    let repository = repository(&Client::new(certificates.options()), &server.host());
    let tags: Result<Vec<_>, _> = repository.tags().try_collect().await;
    let error = tags.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error_text(&error);
    for part in ["client.cert`", "`client.key`", "`.crt`"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn options_of_one_registry_apply_to_that_registry_only() {
    let authority = Authority::new();
    let secure = tls_registry(&authority, ClientCertificates::Ignored);
    let other = tls_registry(&authority, ClientCertificates::Ignored);
    let plain = Server::start(|_, _| tag_list());
    let certificates = Certificates::new();
    let trusted = RegistryOptions {
        ca_files: vec![certificates.write("elsewhere", "ca.pem", &authority.pem())],
        ..RegistryOptions::default()
    };
    let plain_http = RegistryOptions {
        plain_http: Some(true),
        ..RegistryOptions::default()
    };
    let mut options = certificates.options();
    options.plain_http = Some(false);
    options.registries = [
        (secure.host().parse().unwrap(), trusted),
        (plain.host().parse().unwrap(), plain_http),
    ]
    .into();
    let client = Client::new(options);
    for (server, is_accepted) in [(&secure, true), (&plain, true), (&other, false)] {
        let host = server.host();
        let tags: Result<Vec<_>, _> = repository(&client, &host).tags().try_collect().await;
        assert_eq!(tags.is_ok(), is_accepted, "{host}");
    }
    // The client counts the requests to all its registries.
    assert_eq!(client.transfer_stats().requests, 3);
}

#[tokio::test]
async fn tls_to_plain_http_server_is_not_retried_without_tls() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let server = TcpServer::start({
        let received = Arc::clone(&received);
        move |mut stream, _| {
            let received = Arc::clone(&received);
            async move {
                let mut start = vec![0; 5];
                let _ = stream.read_exact(&mut start).await;
                received.lock().unwrap().push(start);
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        }
    });
    let mut options = without_certificates();
    options.plain_http = Some(false);
    let error = network_error(options, &server.host()).await;
    assert_eq!(error.hints(), [Hint::UsePlainHttp]);
    let received = received.lock().unwrap().clone();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0][..2], [0x16, 0x03], "no TLS handshake");
}

#[tokio::test]
async fn plain_http_to_a_tls_server_hints_at_tls() {
    let server = tls_registry(&Authority::new(), ClientCertificates::Ignored);
    let error = network_error(without_certificates(), &server.host()).await;
    assert_eq!(error.hints(), [Hint::TryTls]);
}

/// Returns the hints of the error that a client with default options and no retries reports.
async fn hints_without_retries(host: &str) -> Vec<Hint> {
    let mut options = without_certificates();
    options.attempts = 1;
    network_error(options, host).await.hints()
}

#[tokio::test]
async fn plain_http_connection_closed_by_server_hints_at_tls() {
    let alert: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a];
    for (reads_request, response) in [(false, &[][..]), (false, alert), (true, &[]), (true, alert)]
    {
        let server = TcpServer::start(move |mut stream, _| async move {
            if reads_request {
                let _ = stream.read(&mut [0; 4096]).await;
            }
            let _ = stream.write_all(response).await;
        });
        let hints = hints_without_retries(&server.host()).await;
        assert_eq!(hints, [Hint::TryTls], "{reads_request} {response:?}");
    }
    // The server reads a part of the request, so that the kernel resets the connection.
    let server = TcpServer::start(|mut stream, _| async move {
        let _ = stream.read_exact(&mut [0; 5]).await;
    });
    assert_eq!(hints_without_retries(&server.host()).await, [Hint::TryTls]);
}

#[tokio::test]
async fn closed_connection_after_a_response_does_not_hint_at_tls() {
    let server = Server::start(|_, earlier| match earlier {
        0 => tag_list(),
        _ => Response::connection_closed(),
    });
    let mut options = without_certificates();
    options.attempts = 1;
    let repository = repository(&Client::new(options), &server.host());
    let first: Vec<_> = repository.tags().try_collect().await.unwrap();
    assert_eq!(first.len(), 1);
    let second: Result<Vec<_>, _> = repository.tags().try_collect().await;
    let error = second.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(!error.hints().contains(&Hint::TryTls), "{error:?}");
}

#[tokio::test]
async fn closed_tls_connection_does_not_hint_at_tls() {
    let server = TcpServer::start(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let mut options = without_certificates();
    options.attempts = 1;
    options.plain_http = Some(false);
    let error = network_error(options, &server.host()).await;
    assert!(!error.hints().contains(&Hint::TryTls), "{error:?}");
}

#[tokio::test]
async fn expired_or_other_host_certificate_is_rejected_at_once() {
    let authority = Authority::new();
    let of_other_host = authority.sign("registry.example");
    let expired = authority.sign_until("127.0.0.1", 2020);
    for (certificate, reason) in [(of_other_host, "not valid for name"), (expired, "expired")] {
        let tls = Tls {
            certificate,
            ..Tls::new(&authority)
        };
        let server = Server::start_tls(tls, |_, _| tag_list());
        let certificates = Certificates::new();
        certificates.trust(&server.host(), &authority);
        let error = network_error(certificates.options(), &server.host()).await;
        let text = error_text(&error);
        assert!(text.contains(reason), "{text}");
        assert_eq!(error.hints(), [Hint::TrustCertificate]);
        assert_eq!(server.connections(), 1, "{text}");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn interrupted_tls_handshake_is_retried() {
    let authority = Authority::new();
    let server = tls_registry(&authority, ClientCertificates::Ignored);
    let destination = server.host();
    // The proxy closes the first two connections during the TLS handshake.
    let proxy = TcpServer::start(move |mut stream, earlier| {
        let destination = destination.clone();
        async move {
            if earlier < 2 {
                let mut start = [0; 5];
                stream.read_exact(&mut start).await.unwrap();
                stream.write_all(&[0x16, 0x03, 0x03, 0x00]).await.unwrap();
                return;
            }
            let mut destination = tokio::net::TcpStream::connect(destination).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut destination).await;
        }
    });
    let certificates = Certificates::new();
    certificates.trust(&proxy.host(), &authority);
    let found = tags(certificates.options(), &proxy.host()).await;
    assert_eq!(found.unwrap(), ["1"]);
    assert_eq!(server.connections(), 1);
}
