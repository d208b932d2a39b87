//! Registry client: the connections, credentials and tokens of a process, for all registries.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use snafu::{ResultExt, Snafu};
use url::Url;

use super::catalog::Registry;
use super::repository::Repository;
use super::requests::Access;
use super::upload::Uploads;
use crate::auth::CredentialProvider;
use crate::auth::chain::CredentialChain;
use crate::auth::ci::detect_job;
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::event::Observer;
use crate::exchange::origin::Origin;
use crate::exchange::{Exchange, Resolve, Settings, certificates};
use crate::reference::{Reference, RegistryName};
use crate::transport::Transport;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to form a URL for the registry `{registry}`"))]
    BaseUrl {
        registry: RegistryName,
        source: url::ParseError,
    },
    #[snafu(display("failed to find the certificates of the registry `{registry}`"))]
    FindCertificates {
        registry: RegistryName,
        source: certificates::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BaseUrl { .. } => ErrorKind::InvalidInput,
            Self::FindCertificates { source, .. } => source.kind(),
        }
    }
}

/// Options of a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Environment, which determines the proxies and the directories of configuration files.
    pub environment: Environment,
    /// Source of the credentials.
    pub credentials: Arc<dyn CredentialProvider>,
    /// `Some(true)`: plain HTTP for all registries. `Some(false)`: TLS for all registries. `None`: plain HTTP for
    /// registries on this machine only ([`RegistryName::is_loopback`]). The client never falls back from TLS to plain
    /// HTTP.
    pub plain_http: Option<bool>,
    /// Maximum number of attempts for one request, at least 1. The client makes no further attempt after two
    /// consecutive idle timeouts. An idle timeout is one minute in which no byte is transferred in either direction.
    /// For the response to an upload, it is ten minutes.
    pub attempts: u32,
    /// Fixed addresses of hosts, which replace DNS resolution for these hosts.
    pub resolve: Vec<Resolve>,
    /// PEM file of CA certificates, trusted in addition to the system's certificates. If set, TLS is used for all
    /// registries, unless [`RegistryOptions::plain_http`] is `Some(true)`.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client certificate chain and its key, for all registries. If set, TLS is used for all
    /// registries, unless [`RegistryOptions::plain_http`] is `Some(true)`.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Options of individual registries, which take precedence over the options for all registries.
    pub registries: BTreeMap<RegistryName, RegistryOptions>,
    /// Certificate directories in the format of container tools. Each has a subdirectory `HOST[:PORT]` per registry:
    /// its `*.crt` files are trusted CA certificates, and a `*.cert` file with the `*.key` file of the same name is the
    /// client certificate, for this registry only. The first directory with a subdirectory for a registry is used. The
    /// subdirectory enables TLS unless plain HTTP is configured, and is read at the first request.
    ///
    /// Defaults to the directories of podman and docker, first those of the user, then those of the system:
    /// `$XDG_CONFIG_HOME/containers/certs.d` (`~/.config/…` if the variable is not set), `$DOCKER_CONFIG/certs.d`
    /// (`~/.docker/…` if the variable is not set), `/etc/containers/certs.d` and `/etc/docker/certs.d`.
    pub certificate_directories: Vec<PathBuf>,
    /// Number of connections for one large blob from a registry that supports ranges, at least 1. More than one
    /// connection is faster if the network limits the rate of each connection. Each connection needs up to 2 MiB of
    /// memory.
    pub connections_per_blob: usize,
    /// Observer of the client's events.
    pub observer: Observer,
}

/// Options for one registry, which take precedence over [`ClientOptions`].
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Whether to use plain HTTP. `None`: TLS if [`Self::ca_files`] or [`Self::identity`] is set, otherwise
    /// [`ClientOptions::plain_http`].
    pub plain_http: Option<bool>,
    /// PEM files of CA certificates, trusted in addition to the system's certificates. If not empty, they replace
    /// [`ClientOptions::ca_file`] for this registry.
    pub ca_files: Vec<PathBuf>,
    /// PEM files of the client certificate chain and its key, for this registry only.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl RegistryOptions {
    fn has_certificates(&self) -> bool {
        !self.ca_files.is_empty() || self.identity.is_some()
    }
}

impl ClientOptions {
    /// Returns the default options: all credential sources of [`CredentialChain`], five attempts, plain HTTP for
    /// registries on this machine only, and the certificate directories of podman and docker.
    pub fn new(environment: Environment) -> Self {
        let credentials = Arc::new(CredentialChain::new(&environment, []));
        let certificate_directories = certificates::directories(&environment);
        Self {
            environment,
            credentials,
            plain_http: None,
            attempts: 5,
            resolve: Vec::new(),
            ca_file: None,
            identity: None,
            registries: BTreeMap::new(),
            certificate_directories,
            connections_per_blob: 1,
            observer: Observer::default(),
        }
    }
}

/// Numbers of requests and bytes that a [`Client`] has transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransferStats {
    /// Number of requests, including each attempt, each redirect and each token request.
    pub requests: u64,
    /// Number of bytes in request bodies.
    pub sent: u64,
    /// Number of bytes in response bodies.
    pub received: u64,
}

/// Registry client: the connections, credentials and tokens of one process. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Observer that replaces [`ClientOptions::observer`].
    observer: Option<Observer>,
}

struct Inner {
    environment: Environment,
    exchange: Arc<Exchange>,
    credentials: Arc<dyn CredentialProvider>,
    plain_http: Option<bool>,
    /// Whether a client certificate is configured for all registries.
    has_identity: bool,
    registries: BTreeMap<RegistryName, RegistryOptions>,
    certificate_directories: Vec<PathBuf>,
    connections_per_blob: usize,
    hosts: Mutex<HashMap<RegistryName, Host>>,
}

/// Transport and uploads of one registry.
#[derive(Clone)]
struct Host {
    transport: Arc<Transport>,
    uploads: Arc<Uploads>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("plain_http", &self.inner.plain_http)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client. Opens no connections and reads no files.
    pub fn new(options: ClientOptions) -> Self {
        let wants_tls = options.ca_file.is_some() || options.identity.is_some();
        let has_identity = options.identity.is_some();
        let settings = Settings {
            attempts: options.attempts.max(1),
            resolve: options.resolve,
            ca_files: options.ca_file.into_iter().collect(),
            identity: options.identity,
            certificate_directory: None,
            identity_origin: None,
            observer: options.observer,
        };
        let inner = Arc::new(Inner {
            exchange: Arc::new(Exchange::new(options.environment.clone(), settings)),
            environment: options.environment,
            credentials: options.credentials,
            plain_http: if wants_tls {
                Some(false)
            } else {
                options.plain_http
            },
            has_identity,
            registries: options.registries,
            certificate_directories: options.certificate_directories,
            connections_per_blob: options.connections_per_blob,
            hosts: Mutex::default(),
        });
        let observer = None;
        Self { inner, observer }
    }

    /// Returns a client with the same connections and tokens that reports to this observer instead of
    /// [`ClientOptions::observer`]. An event that is reported only once goes to the observer of the client that causes
    /// it first.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Returns the observer of the client.
    pub(crate) fn observer(&self) -> &Observer {
        let default = self.inner.exchange.observer();
        self.observer.as_ref().unwrap_or(default)
    }

    /// Returns the registry with this name. Sends no request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the name does not form a valid URL, [`ErrorKind::Io`] if the certificate
    /// directories cannot be searched.
    pub fn registry(&self, name: &RegistryName) -> crate::Result<Registry> {
        let transport = self.host(name)?.transport;
        Ok(Registry::new(self.observe(transport)))
    }

    /// Returns the repository that a reference names. The tag and the digest of the reference are ignored.
    ///
    /// # Errors
    ///
    /// As [`Client::registry`].
    pub fn repository(&self, reference: &Reference, access: Access) -> crate::Result<Repository> {
        let Host { transport, uploads } = self.host(reference.registry())?;
        let repository = Repository::new(self.observe(transport), uploads, reference, access);
        Ok(repository.with_connections_per_blob(self.inner.connections_per_blob))
    }

    /// Returns the numbers of requests and bytes that all clients with these connections have transferred so far.
    pub fn transfer_stats(&self) -> TransferStats {
        let statistics = self.inner.exchange.statistics();
        TransferStats {
            requests: statistics.requests.load(Ordering::Relaxed),
            sent: statistics.sent.load(Ordering::Relaxed),
            received: statistics.received.load(Ordering::Relaxed),
        }
    }

    /// Cancels the open upload sessions at all registries. Callers use this function when the process stops during an
    /// upload. Each session is cancelled at most once, and failures are ignored. The function has no time limit.
    pub async fn cancel_uploads(&self) {
        let hosts: Vec<Host> = self.hosts().values().cloned().collect();
        let cancellations = hosts
            .iter()
            .map(|host| host.uploads.cancel_sessions(&host.transport));
        futures_util::future::join_all(cancellations).await;
    }

    /// Returns the transport with the observer of this client.
    fn observe(&self, transport: Arc<Transport>) -> Arc<Transport> {
        match &self.observer {
            Some(observer) => Arc::new(transport.with_observer(observer.clone())),
            None => transport,
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<RegistryName, Host>> {
        self.inner
            .hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, name: &RegistryName) -> crate::Result<Host> {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.get(name) {
            return Ok(host.clone());
        }
        let own = self.inner.registries.get(name).cloned().unwrap_or_default();
        let directory = certificates::find(&self.inner.certificate_directories, name.as_str());
        let directory = directory.with_context(|_| FindCertificatesSnafu {
            registry: name.clone(),
        })?;
        let plain = own
            .plain_http
            .or(own.has_certificates().then_some(false))
            .or(self.inner.plain_http)
            .or(directory.as_ref().map(|_| false))
            .unwrap_or_else(|| name.is_loopback());
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/", name.api_host()));
        let base = base.with_context(|_| BaseUrlSnafu {
            registry: name.clone(),
        })?;
        let exchange = if !plain && (own.has_certificates() || directory.is_some()) {
            Arc::new(self.inner.exchange.with_changed_settings(|settings| {
                // The client certificate for all registries takes precedence over the client certificate in a
                // certificate directory. The certificate for all registries is sent to every server that requests a
                // client certificate.
                if own.identity.is_some() || !self.inner.has_identity {
                    settings.identity_origin = Some(Origin::from_url(&base));
                }
                if !own.ca_files.is_empty() {
                    settings.ca_files = own.ca_files;
                }
                settings.identity = own.identity.or(settings.identity.take());
                settings.certificate_directory = directory;
            }))
        } else {
            Arc::clone(&self.inner.exchange)
        };
        let credentials = Arc::clone(&self.inner.credentials);
        let job = detect_job(&self.inner.environment, name);
        let transport = Transport::new(exchange, name.clone(), base, credentials, job);
        let host = Host {
            transport: Arc::new(transport),
            uploads: Arc::default(),
        };
        hosts.insert(name.clone(), host.clone());
        Ok(host)
    }
}
