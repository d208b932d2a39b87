//! Connections, credentials and tokens of a process, shared by all registries.

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
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::event::Observer;
use crate::exchange::origin::Origin;
use crate::exchange::{Exchange, Resolve, Settings, certificates};
use crate::reference::{Reference, RegistryName};
use crate::transport::Transport;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to make a URL of the registry `{registry}`"))]
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

/// How a [`Client`] reaches registries.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Proxies and the places of configuration files come from here.
    pub environment: Environment,
    /// Who knows the credentials.
    pub credentials: Arc<dyn CredentialProvider>,
    /// `Some(true)`: plain HTTP everywhere; `Some(false)`: TLS everywhere; `None`: plain HTTP for this very machine only
    /// ([`RegistryName::is_loopback`]). Never is one tried after the other.
    pub plain_http: Option<bool>,
    /// Limit of the attempts for one request, at least 1. After two idle timeouts in a row without a byte in either
    /// direction, two minutes in all, no further attempt follows. The wait for the answer to an upload is limited to ten
    /// minutes and counts as one of them.
    pub attempts: u32,
    /// Hosts that are reached at another address than their name says.
    pub resolve: Vec<Resolve>,
    /// A file of certificates in PEM that are trusted beside the machine's own. Given it, TLS is spoken everywhere.
    pub ca_file: Option<PathBuf>,
    /// Files of a certificate chain and of its key, in PEM, that are shown to registries. Given them, TLS is spoken
    /// everywhere.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What is otherwise for single registries.
    pub registries: BTreeMap<RegistryName, RegistryOptions>,
    /// Folders that have a folder `HOST[:PORT]` for each registry with certificates of its own, as container tools keep
    /// them: `*.crt` are authorities that are trusted for it, a `*.cert` and the `*.key` beside it are shown to it and to
    /// nobody else. The first of these that has one for a registry counts; it means that TLS is spoken, unless plain HTTP
    /// was asked for. It is read at the first request.
    ///
    /// By default podman's and docker's, the user's before the machine's: `$XDG_CONFIG_HOME/containers/certs.d`
    /// (`~/.config/…` without the variable), `$DOCKER_CONFIG/certs.d` (`~/.docker/…`), `/etc/containers/certs.d` and
    /// `/etc/docker/certs.d`.
    pub certificate_folders: Vec<PathBuf>,
    /// Over how many connections one large blob is fetched from a registry that knows ranges, at least 1. More than one
    /// helps where each connection is given less than the network has; each holds up to 2 MiB in memory.
    pub connections_per_blob: usize,
    /// Told of each step that is taken.
    pub observer: Observer,
}

/// How one registry is reached, where that is not as [`ClientOptions`] have it for all.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Whether plain HTTP is spoken. Without an answer, TLS is when there are certificates below.
    pub plain_http: Option<bool>,
    /// Files of certificates in PEM that are trusted beside the machine's own; where there are any, in place of the general
    /// [`ClientOptions::ca_file`].
    pub ca_files: Vec<PathBuf>,
    /// Files of a certificate chain and of its key, in PEM, that are shown to this registry and to nobody else.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl RegistryOptions {
    fn has_certificates(&self) -> bool {
        !self.ca_files.is_empty() || self.identity.is_some()
    }
}

impl ClientOptions {
    /// All the credentials that this environment has ([`CredentialChain`]), five attempts, plain HTTP for loopback only,
    /// and the certificates that podman and docker have for single registries.
    pub fn new(environment: Environment) -> Self {
        let credentials = Arc::new(CredentialChain::new(&environment, []));
        let certificate_folders = certificates::folders(&environment);
        Self {
            environment,
            credentials,
            plain_http: None,
            attempts: 5,
            resolve: Vec::new(),
            ca_file: None,
            identity: None,
            registries: BTreeMap::new(),
            certificate_folders,
            connections_per_blob: 1,
            observer: Observer::default(),
        }
    }
}

/// What a [`Client`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Requests sent, each try, each hop of a redirect and each token counted.
    pub requests: u64,
    /// Bytes of bodies sent.
    pub sent: u64,
    /// Bytes of bodies received.
    pub received: u64,
}

/// Connections, credentials and tokens, shared by everything that one process asks of registries. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    lists: Observer,
}

struct Inner {
    exchange: Arc<Exchange>,
    credentials: Arc<dyn CredentialProvider>,
    plain_http: Option<bool>,
    /// Whether an identity is shown to all registries.
    has_identity: bool,
    registries: BTreeMap<RegistryName, RegistryOptions>,
    certificate_folders: Vec<PathBuf>,
    connections_per_blob: usize,
    hosts: Mutex<HashMap<RegistryName, Host>>,
}

/// What this process knows of one registry.
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
    /// A client that has connected to nothing and read nothing yet.
    pub fn new(options: ClientOptions) -> Self {
        let wants_tls = options.ca_file.is_some() || options.identity.is_some();
        let has_identity = options.identity.is_some();
        let lists = options.observer.clone();
        let settings = Settings {
            attempts: options.attempts.max(1),
            resolve: options.resolve,
            ca_files: options.ca_file.into_iter().collect(),
            identity: options.identity,
            folder: None,
            home: None,
            observer: options.observer,
        };
        let inner = Arc::new(Inner {
            exchange: Arc::new(Exchange::new(options.environment, settings)),
            credentials: options.credentials,
            plain_http: if wants_tls {
                Some(false)
            } else {
                options.plain_http
            },
            has_identity,
            registries: options.registries,
            certificate_folders: options.certificate_folders,
            connections_per_blob: options.connections_per_blob,
            hosts: Mutex::default(),
        });
        Self { inner, lists }
    }

    /// The same client, with the same connections and tokens, whose lists report [`Step::OmittedNames`](crate::Step::OmittedNames) to this observer
    /// instead of [`ClientOptions::observer`].
    #[must_use]
    pub fn with_list_observer(mut self, observer: Observer) -> Self {
        self.lists = observer;
        self
    }

    /// The observer of lists.
    pub(crate) fn list_observer(&self) -> &Observer {
        &self.lists
    }

    /// One registry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when no URL can be made of the name; [`ErrorKind::Io`] when it cannot be told whether the
    /// registry has certificates of its own.
    pub fn registry(&self, name: &RegistryName) -> crate::Result<Registry> {
        let transport = self.host(name)?.transport;
        Ok(Registry::new(transport, self.lists.clone()))
    }

    /// The repository of a reference; its tag and digest do not matter here.
    ///
    /// # Errors
    ///
    /// As [`Client::registry`].
    pub fn repository(&self, reference: &Reference, access: Access) -> crate::Result<Repository> {
        let Host { transport, uploads } = self.host(reference.registry())?;
        let repository = Repository::new(transport, uploads, reference, access)
            .with_list_observer(self.lists.clone());
        Ok(repository.with_connections_per_blob(self.inner.connections_per_blob))
    }

    /// What has been sent and received so far.
    pub fn traffic(&self) -> Traffic {
        let statistics = self.inner.exchange.statistics();
        Traffic {
            requests: statistics.requests.load(Ordering::Relaxed),
            sent: statistics.sent.load(Ordering::Relaxed),
            received: statistics.received.load(Ordering::Relaxed),
        }
    }

    /// Tells registries that nothing more comes for the uploads that are under way: for one who stops in the middle of
    /// them. Registries that do not want to know are not asked twice; how long to wait for them is the caller's choice.
    pub async fn cancel_uploads(&self) {
        let hosts: Vec<Host> = self.hosts().values().cloned().collect();
        let cancelled = hosts
            .iter()
            .map(|host| host.uploads.cancel(&host.transport));
        futures_util::future::join_all(cancelled).await;
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
        let folder = certificates::find(&self.inner.certificate_folders, name.as_str());
        let folder = folder.with_context(|_| FindCertificatesSnafu {
            registry: name.clone(),
        })?;
        let plain = own
            .plain_http
            .or(own.has_certificates().then_some(false))
            .or(self.inner.plain_http)
            .or(folder.as_ref().map(|_| false))
            .unwrap_or_else(|| name.is_loopback());
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/", api_host(name)));
        let base = base.with_context(|_| BaseUrlSnafu {
            registry: name.clone(),
        })?;
        let exchange = if !plain && (own.has_certificates() || folder.is_some()) {
            Arc::new(self.inner.exchange.beside(|settings| {
                // What is everybody's goes before what lies in a folder, and is shown to whoever asks.
                if own.identity.is_some() || !self.inner.has_identity {
                    settings.home = Some(Origin::of(&base));
                }
                if !own.ca_files.is_empty() {
                    settings.ca_files = own.ca_files;
                }
                settings.identity = own.identity.or(settings.identity.take());
                settings.folder = folder;
            }))
        } else {
            Arc::clone(&self.inner.exchange)
        };
        let credentials = Arc::clone(&self.inner.credentials);
        let host = Host {
            transport: Arc::new(Transport::new(exchange, name.clone(), base, credentials)),
            uploads: Arc::default(),
        };
        hosts.insert(name.clone(), host.clone());
        Ok(host)
    }
}

/// Docker Hub answers under another name than its own.
fn api_host(name: &RegistryName) -> &str {
    match name.as_str() {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}
