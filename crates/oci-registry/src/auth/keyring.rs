//! Keyring of the operating system, for credentials that this application stored in it.
//!
//! Each registry has one entry: the service is the application, the user is the registry, and the secret is the
//! document that credential helpers print. Entries of other programs are read only through the credential helpers of
//! those programs. A keyring may prompt the user to unlock it and may not respond, so it is opened only for registries
//! that are known to have an entry, on a separate thread and with a timeout. The keyring is the only store that is
//! accessed through the process (the session bus) instead of the [`Environment`](crate::Environment).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use snafu::{OptionExt, ResultExt, Snafu};

use super::credential_helper::{self, TOKEN_USER};
use super::keyring_index::KeyringIndex;
use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// Timeout of a keyring operation. A keyring may prompt the user to unlock it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Name of this source in messages.
pub(super) const SOURCE_NAME: &str = "OS keyring";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to {intention} the credential of `{registry}` in the keyring of the operating system"
    ))]
    Use {
        intention: &'static str,
        registry: RegistryName,
        source: KeyringFailure,
    },
    #[snafu(display("refusing to store a registry token in the keyring: it is short-lived"))]
    NotStorable,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Use { .. } => ErrorKind::Unauthenticated,
            Self::NotStorable => ErrorKind::InvalidInput,
        }
    }
}

/// Cause of a failed keyring operation. The keyring's message is omitted, because it could quote the entry.
#[derive(Debug, Snafu)]
enum KeyringFailure {
    #[snafu(display("there is no keyring in this session"))]
    Absent,
    #[snafu(display("the keyring is locked or denies access"))]
    Locked,
    #[snafu(display("the keyring did not respond within {} seconds", TIMEOUT.as_secs()))]
    TimedOut,
    #[snafu(display("the entry was not written by this program"))]
    InvalidEntry,
    #[snafu(display("the keyring returned an error"))]
    Failed,
}

/// Credentials in the keyring of the operating system.
#[derive(Debug, Clone)]
pub struct Keyring {
    registries: BTreeSet<RegistryName>,
    index: Option<KeyringIndex>,
    store: Arc<dyn SecretStore>,
}

/// Store of secrets, keyed by user name.
trait SecretStore: std::fmt::Debug + Send + Sync {
    fn read(&self, user: &str) -> Result<Option<String>, KeyringFailure>;
    fn write(&self, user: &str, secret: &str) -> Result<(), KeyringFailure>;
    /// Removes an entry. Returns whether it existed.
    fn remove(&self, user: &str) -> Result<bool, KeyringFailure>;
}

impl Keyring {
    /// Creates a provider that reads the entries of `service` for these registries only.
    pub fn new(
        service: impl Into<String>,
        registries: impl IntoIterator<Item = RegistryName>,
    ) -> Self {
        Self {
            registries: registries.into_iter().collect(),
            index: None,
            store: Arc::new(NativeStore {
                service: service.into(),
            }),
        }
    }

    /// Adds the registries of an index, which is read at each search.
    pub(super) fn with_index(mut self, index: KeyringIndex) -> Self {
        self.index = Some(index);
        self
    }

    async fn has_entry(&self, registry: &RegistryName) -> crate::Result<bool> {
        if self.registries.contains(registry) {
            return Ok(true);
        }
        match &self.index {
            Some(index) => Ok(index.read().await?.contains(registry)),
            None => Ok(false),
        }
    }

    /// Stores the credential of a registry. An existing credential is replaced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if the keyring cannot be used, [`ErrorKind::InvalidInput`] for a
    /// [`Credential::Registry`], which is short-lived.
    pub async fn store(
        &self,
        registry: &RegistryName,
        credential: &Credential,
    ) -> crate::Result<()> {
        let (username, secret) = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::Identity(token) => (TOKEN_USER, token),
            Credential::Registry(_) => return Err(Error::NotStorable.into()),
        };
        let document = serde_json::json!({"Username": username, "Secret": secret.expose()});
        let text = document.to_string();
        let user = registry.as_str().to_owned();
        let written = self
            .run_on_thread(move |store| store.write(&user, &text))
            .await;
        let intention = "store";
        Ok(written.context(UseSnafu {
            intention,
            registry: registry.clone(),
        })?)
    }

    /// Erases the credential of a registry. Returns whether the keyring had an entry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if the keyring cannot be used.
    pub async fn erase(&self, registry: &RegistryName) -> crate::Result<bool> {
        let user = registry.as_str().to_owned();
        let removed = self.run_on_thread(move |store| store.remove(&user)).await;
        let intention = "remove";
        Ok(removed.context(UseSnafu {
            intention,
            registry: registry.clone(),
        })?)
    }

    async fn read(&self, registry: &RegistryName) -> Result<Option<Credential>, KeyringFailure> {
        let user = registry.as_str().to_owned();
        let Some(text) = self.run_on_thread(move |store| store.read(&user)).await? else {
            return Ok(None);
        };
        let credential =
            credential_helper::parse_output(text.as_bytes()).context(InvalidEntrySnafu)?;
        Ok(Some(credential))
    }

    /// Runs a store operation on a separate thread, so that a keyring that does not respond cannot delay the exit of
    /// the process.
    async fn run_on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn SecretStore) -> Result<T, KeyringFailure> + Send + 'static,
    ) -> Result<T, KeyringFailure> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let store = Arc::clone(&self.store);
        let thread = std::thread::Builder::new().name("keyring".into());
        // After a timeout the receiver no longer exists. The failed send is not an error.
        let started = thread.spawn(move || drop(sender.send(work(&*store))));
        started.ok().context(FailedSnafu)?;
        let result = tokio::time::timeout(TIMEOUT, receiver).await;
        result
            .ok()
            .context(TimedOutSnafu)?
            .ok()
            .context(FailedSnafu)?
    }
}

#[async_trait]
impl CredentialProvider for Keyring {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        if !self.has_entry(request.registry).await? {
            // The keyring was not opened, so it is not reported as searched.
            return Ok(Lookup::not_applicable());
        }
        let found = self.read(request.registry).await.context(UseSnafu {
            intention: "read",
            registry: request.registry.clone(),
        })?;
        Ok(Lookup::for_source(SOURCE_NAME, found))
    }
}

/// Keyring of the operating system, limited to the entries of one service.
#[derive(Debug)]
struct NativeStore {
    service: String,
}

impl NativeStore {
    fn entry(&self, user: &str) -> Result<keyring::Entry, KeyringFailure> {
        keyring::Entry::new(&self.service, user).map_err(|error| KeyringFailure::from_error(&error))
    }
}

impl SecretStore for NativeStore {
    fn read(&self, user: &str) -> Result<Option<String>, KeyringFailure> {
        match self.entry(user)?.get_password() {
            Ok(secret) => Ok(Some(secret)),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(KeyringFailure::from_error(&error)),
        }
    }

    fn write(&self, user: &str, secret: &str) -> Result<(), KeyringFailure> {
        let written = self.entry(user)?.set_password(secret);
        written.map_err(|error| KeyringFailure::from_error(&error))
    }

    fn remove(&self, user: &str) -> Result<bool, KeyringFailure> {
        match self.entry(user)?.delete_credential() {
            Ok(()) => Ok(true),
            Err(keyring::Error::NoEntry) => Ok(false),
            Err(error) => Err(KeyringFailure::from_error(&error)),
        }
    }
}

impl KeyringFailure {
    fn from_error(error: &keyring::Error) -> Self {
        match error {
            keyring::Error::NoDefaultStore => Self::Absent,
            keyring::Error::NoStorageAccess(_) => Self::Locked,
            keyring::Error::BadEncoding(_) => Self::InvalidEntry,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::Secret;

    /// In-memory keyring that counts how often it is opened.
    #[derive(Debug, Default)]
    struct InMemoryStore {
        entries: Mutex<BTreeMap<String, String>>,
        opened: AtomicUsize,
    }

    impl SecretStore for InMemoryStore {
        fn read(&self, user: &str) -> Result<Option<String>, KeyringFailure> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            Ok(self.entries.lock().unwrap().get(user).cloned())
        }

        fn write(&self, user: &str, secret: &str) -> Result<(), KeyringFailure> {
            self.entries
                .lock()
                .unwrap()
                .insert(user.into(), secret.into());
            Ok(())
        }

        fn remove(&self, user: &str) -> Result<bool, KeyringFailure> {
            Ok(self.entries.lock().unwrap().remove(user).is_some())
        }
    }

    /// Keyring that does not respond.
    #[derive(Debug)]
    struct UnresponsiveStore(Mutex<std::sync::mpsc::Receiver<()>>);

    impl SecretStore for UnresponsiveStore {
        fn read(&self, _: &str) -> Result<Option<String>, KeyringFailure> {
            let _ = self.0.lock().unwrap().recv();
            Err(KeyringFailure::Locked)
        }

        fn write(&self, _: &str, _: &str) -> Result<(), KeyringFailure> {
            unreachable!()
        }

        fn remove(&self, _: &str) -> Result<bool, KeyringFailure> {
            unreachable!()
        }
    }

    fn name(registry: &str) -> RegistryName {
        registry.parse().unwrap()
    }

    fn keyring(registries: &[&str], store: impl SecretStore + 'static) -> Keyring {
        Keyring {
            registries: registries.iter().copied().map(name).collect(),
            index: None,
            store: Arc::new(store),
        }
    }

    /// Returns an empty in-memory keyring with this index.
    pub(in crate::auth) fn in_memory_keyring(index: KeyringIndex) -> Keyring {
        keyring(&[], InMemoryStore::default()).with_index(index)
    }

    async fn look_up(keyring: &Keyring, registry: &str) -> crate::Result<Option<Credential>> {
        let lookup = keyring
            .credential(&CredentialRequest::new(&name(registry)))
            .await?;
        let is_listed = keyring.registries.contains(&name(registry));
        assert_eq!(lookup.searched.len(), usize::from(is_listed));
        Ok(lookup.found.map(|(credential, _)| credential))
    }

    #[tokio::test]
    async fn stored_credential_is_found_until_erased() {
        let keyring = keyring(&["a.b:5000"], InMemoryStore::default());
        let registry = name("a.b:5000");
        for credential in [
            Credential::from_pair("me", "se\"cret:\0ü"),
            Credential::Identity(Secret::new("token")),
        ] {
            keyring.store(&registry, &credential).await.unwrap();
            assert_eq!(
                look_up(&keyring, "a.b:5000").await.unwrap(),
                Some(credential)
            );
        }
        assert!(keyring.erase(&registry).await.unwrap());
        assert_eq!(look_up(&keyring, "a.b:5000").await.unwrap(), None);
        assert!(!keyring.erase(&registry).await.unwrap());
        let token = Credential::Registry(Secret::new("token"));
        let refused = keyring.store(&registry, &token).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn keyring_is_opened_for_known_registries_only() {
        let store = Arc::new(InMemoryStore::default());
        let keyring = Keyring {
            registries: [name("a.b")].into(),
            index: None,
            store: Arc::clone(&store) as Arc<dyn SecretStore>,
        };
        for other in ["b", "a.b:443", "xa.b", "a.b.c"] {
            assert_eq!(look_up(&keyring, other).await.unwrap(), None, "{other}");
        }
        assert_eq!(store.opened.load(Ordering::Relaxed), 0);
        assert_eq!(look_up(&keyring, "a.b").await.unwrap(), None);
        assert_eq!(store.opened.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn unreadable_entry_is_an_error_without_its_content() {
        let store = InMemoryStore::default();
        store.write("a.b", "canary").unwrap();
        let error = look_up(&keyring(&["a.b"], store), "a.b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.to_string().contains("keyring"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn unresponsive_keyring_times_out() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let keyring = keyring(&["a.b"], UnresponsiveStore(Mutex::new(receiver)));
        let error = look_up(&keyring, "a.b").await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("did not respond"), "{cause}");
        drop(sender);
    }
}
