//! Registries with certificates of their own, as container tools have them in `certs.d`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use oci_registry::{
    Access, Anonymous, Client, ClientOptions, Descriptor, Digest, Environment, Error, ErrorKind,
    Hint, MediaType, RegistryOptions, Repository, Source,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const TAGS: &str = r#"{"name":"acme/widgets","tags":["1"]}"#;

/// An authority and all that it has signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(crate) fn sign(&self, name: &str) -> Pair {
        self.sign_until(name, 4096)
    }

    /// A certificate for a name, up to a year.
    fn sign_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// What a server asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Clients {
    Anybody,
    /// Whoever has a certificate shows it.
    MayShow,
    MustShow,
}

/// The certificate that each request came with.
type Shown = Arc<Mutex<Vec<Option<Vec<u8>>>>>;

/// A server that speaks TLS and gives one answer to everything.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    shown: Shown,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(authority: &Authority, clients: Clients, answer: String) -> Self {
        Self::with(authority.sign("127.0.0.1"), authority, clients, answer).await
    }

    /// A server with this certificate.
    async fn with(pair: Pair, authority: &Authority, clients: Clients, answer: String) -> Self {
        let Pair { certificate, key } = pair;
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
        let config = match clients {
            Clients::Anybody => config.with_no_client_auth(),
            Clients::MayShow => {
                config.with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            }
            Clients::MustShow => config.with_client_cert_verifier(verifier.build().unwrap()),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, shown) = (Arc::<AtomicUsize>::default(), Shown::default());
        let task = tokio::spawn({
            let (connections, shown) = (Arc::clone(&connections), Arc::clone(&shown));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::SeqCst);
                    let (acceptor, shown) = (acceptor.clone(), Arc::clone(&shown));
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        let mut stream = acceptor.accept(stream).await?;
                        let mut asked = Vec::new();
                        while !asked.ends_with(b"\r\n\r\n") {
                            asked.push(stream.read_u8().await?);
                        }
                        let peer = stream.get_ref().1.peer_certificates();
                        let peer = peer
                            .and_then(|chain| chain.first())
                            .map(|first| first.to_vec());
                        shown.lock().unwrap().push(peer);
                        stream.write_all(answer.as_bytes()).await?;
                        stream.shutdown().await
                    });
                }
            }
        });
        Self {
            address,
            connections,
            shown,
            task,
        }
    }

    fn host(&self) -> String {
        self.address.to_string()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn shown(&self) -> Vec<Option<Vec<u8>>> {
        self.shown.lock().unwrap().clone()
    }
}

fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// A folder of folders of certificates.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, host: &str, name: &str, content: &str) -> PathBuf {
        let folder = self.0.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
        folder.join(name)
    }

    fn pair(&self, host: &str, pair: &Pair) -> (PathBuf, PathBuf) {
        (
            self.file(host, "client.cert", &pair.certificate.pem()),
            self.file(host, "client.key", &pair.key.serialize_pem()),
        )
    }
}

fn options(folder: &Path) -> ClientOptions {
    let mut options = ClientOptions::new(Environment::default());
    options.credentials = Arc::new(Anonymous);
    options.certificate_folders = vec![folder.join("absent"), folder.to_owned()];
    options
}

fn repository(client: &Client, host: &str) -> Repository {
    let reference = format!("{host}/acme/widgets").parse().unwrap();
    client.repository(&reference, Access::Pull).unwrap()
}

async fn tags(options: ClientOptions, host: &str) -> oci_registry::Result<Vec<String>> {
    let tags = repository(&Client::new(options), host).tags();
    tags.map_ok(|tag| tag.to_string()).try_collect().await
}

/// Everything that is told of an error.
fn told(error: &Error) -> String {
    let mut text = format!("{error} {:?}", error.hints());
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        write!(text, " {cause}").unwrap();
        below = cause.source();
    }
    text
}

#[tokio::test]
async fn an_unknown_authority_is_refused_at_once_and_one_in_the_folder_is_trusted() {
    let authority = Authority::new();
    let server = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let folders = Folders::new();
    let mut strict = options(folders.0.path());
    strict.plain_http = Some(false);
    let error = tags(strict, &server.host()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.hints(), [Hint::TrustCertificate]);
    // Neither again, nor in plain text.
    assert_eq!(server.connections(), 1);

    // The folder says by being there that TLS is spoken, on this machine too.
    folders.file(&server.host(), "ca.crt", &authority.certificate.pem());
    folders.file(&server.host(), "NOTES", "no certificate");
    let found = tags(options(folders.0.path()), &server.host()).await;
    assert_eq!(found.unwrap(), ["1"]);
    assert_eq!(server.connections(), 2);
    // It is for that very port only.
    let other = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let mut strict = options(folders.0.path());
    strict.plain_http = Some(false);
    assert!(tags(strict, &other.host()).await.is_err());
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_is_shown_the_one_in_its_folder() {
    let authority = Authority::new();
    let server = Server::start(&authority, Clients::MustShow, ok(TAGS)).await;
    let folders = Folders::new();
    folders.file(&server.host(), "ca.crt", &authority.certificate.pem());
    let error = tags(options(folders.0.path()), &server.host())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.hints(), [Hint::ClientCertificate]);
    assert_eq!((server.connections(), server.shown().len()), (1, 0));

    let me = authority.sign("me");
    folders.pair(&server.host(), &me);
    let found = tags(options(folders.0.path()), &server.host()).await;
    assert_eq!(found.unwrap(), ["1"]);
    assert_eq!(server.shown(), [Some(me.certificate.der().to_vec())]);
}

#[tokio::test]
async fn a_registry_s_certificate_is_shown_to_nobody_else() {
    let authority = Authority::new();
    let storage = Server::start(&authority, Clients::MayShow, ok("content")).await;
    let place = format!("https://{}/blob", storage.host());
    let redirect = format!("HTTP/1.1 307 Go\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
    let server = Server::start(&authority, Clients::MayShow, redirect).await;
    let folders = Folders::new();
    let ca = folders.file(&server.host(), "ca.crt", &authority.certificate.pem());
    let me = authority.sign("me");
    let pair = folders.pair("elsewhere", &me);
    let named = RegistryOptions {
        ca_files: vec![ca],
        identity: Some(pair),
        ..RegistryOptions::default()
    };
    let mut by_name = options(Path::new("/nonexistent"));
    by_name.registries = [(server.host().parse().unwrap(), named)].into();
    folders.pair(&server.host(), &me);
    let digest = Digest::sha256(b"content");
    let blob = Descriptor::new(MediaType::OCTET_STREAM, digest, 7);
    for options in [options(folders.0.path()), by_name] {
        let repository = repository(&Client::new(options), &server.host());
        let content = repository.blob(&blob).await.unwrap();
        assert_eq!(content.read_to_end(10).await.unwrap(), "content");
    }
    let shown = Some(me.certificate.der().to_vec());
    assert_eq!(server.shown(), [shown.clone(), shown]);
    assert_eq!(storage.shown(), [None, None]);
}

#[tokio::test]
async fn half_a_pair_ends_the_first_request() {
    let authority = Authority::new();
    let server = Server::start(&authority, Clients::MayShow, ok(TAGS)).await;
    let folders = Folders::new();
    folders.file(&server.host(), "client.cert", &authority.certificate.pem());
    let client = Client::new(options(folders.0.path()));
    // Nothing is read before something is asked.
    let repository = repository(&client, &server.host());
    let tags: Result<Vec<_>, _> = repository.tags().try_collect().await;
    let error = tags.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = told(&error);
    for part in ["client.cert`", "`client.key`", "`.crt`"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_is_said_of_one_registry_goes_for_that_one_only() {
    let authority = Authority::new();
    let secure = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let plain = crate::scripted::Server::start(|_, _| crate::scripted::Reply::new(200).body(TAGS));
    let plain = plain.await;
    let folders = Folders::new();
    let ca = folders.file("elsewhere", "ca.pem", &authority.certificate.pem());
    let mut options = options(folders.0.path());
    options.plain_http = Some(false);
    let own = RegistryOptions {
        ca_files: vec![ca],
        ..RegistryOptions::default()
    };
    let without = RegistryOptions {
        plain_http: Some(true),
        ..RegistryOptions::default()
    };
    options.registries = [
        (secure.host().parse().unwrap(), own),
        (plain.host().parse().unwrap(), without),
    ]
    .into();
    let other = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let client = Client::new(options);
    for (host, is_reached) in [
        (secure.host(), true),
        (plain.host(), true),
        (other.host(), false),
    ] {
        let tags: Result<Vec<_>, _> = repository(&client, &host).tags().try_collect().await;
        assert_eq!(tags.is_ok(), is_reached, "{host}");
    }
    // All in one account.
    assert_eq!(client.traffic().requests, 3);
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_as_such_and_not_tried_in_plain_text() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let beginnings = Arc::new(Mutex::new(Vec::new()));
    let server = tokio::spawn({
        let beginnings = Arc::clone(&beginnings);
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut beginning = vec![0; 5];
                let _ = stream.read_exact(&mut beginning).await;
                beginnings.lock().unwrap().push(beginning);
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        }
    });
    let mut options = options(Path::new("/nonexistent"));
    options.plain_http = Some(false);
    let error = tags(options, &host).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.hints(), [Hint::UsePlainHttp]);
    let beginnings = beginnings.lock().unwrap().clone();
    assert_eq!(beginnings.len(), 1);
    assert_eq!(beginnings[0][..2], [0x16, 0x03], "a handshake of TLS");
    server.abort();
}

#[tokio::test]
async fn plain_http_to_a_tls_server_names_the_flag() {
    let authority = Authority::new();
    let server = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let error = tags(options(Path::new("/nonexistent")), &server.host()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert_eq!(error.hints(), [Hint::UseTls]);
}

#[tokio::test]
async fn a_certificate_for_another_host_or_another_time_is_refused_at_once() {
    let authority = Authority::new();
    let for_other = authority.sign("registry.example");
    let expired = authority.sign_until("127.0.0.1", 2020);
    for (pair, word) in [(for_other, "not valid for name"), (expired, "expired")] {
        let server = Server::with(pair, &authority, Clients::Anybody, ok(TAGS)).await;
        let folders = Folders::new();
        folders.file(&server.host(), "ca.crt", &authority.certificate.pem());
        let error = tags(options(folders.0.path()), &server.host())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        let text = told(&error);
        assert!(text.contains(word), "{text}");
        assert_eq!(error.hints(), [Hint::TrustCertificate]);
        assert_eq!(server.connections(), 1, "{text}");
        assert!(server.shown().is_empty(), "nothing was asked");
    }
}

#[tokio::test]
async fn a_handshake_that_is_cut_is_tried_again() {
    let authority = Authority::new();
    let server = Server::start(&authority, Clients::Anybody, ok(TAGS)).await;
    let folders = Folders::new();
    // What cuts the first two, in the middle of the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    folders.file(&host, "ca.crt", &authority.certificate.pem());
    let behind = server.host();
    let cuts = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut beginning = [0; 5];
            stream.read_exact(&mut beginning).await.unwrap();
            stream.write_all(&[0x16, 0x03, 0x03, 0x00]).await.unwrap();
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
    });
    let found = tags(options(folders.0.path()), &host).await;
    assert_eq!(found.unwrap(), ["1"]);
    assert_eq!(server.connections(), 1);
    cuts.abort();
}
