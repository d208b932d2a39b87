//! The keyring of the operating system, for credentials that this program has put there itself.
//!
//! Owns one entry per registry: the application as the service, the registry as the user, and as the secret the document that
//! credential helpers print too. Entries of other programs are their helpers' affair. A keyring may ask a person to unlock
//! it and may hang, so it is opened only for registries of which the caller knows that there is an entry, on a thread of
//! its own, and not for ever. It is the one store that is reached through the process instead of the
//! [`Environment`](crate::Environment): the session's bus.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use snafu::{OptionExt, ResultExt, Snafu};

use super::helper::{self, TOKEN_USER};
use super::keyring_index::KeyringIndex;
use super::{Credential, CredentialProvider, CredentialRequest, Lookup};
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// How long a keyring may take: it may ask a person to unlock it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the place is called.
pub(super) const PLACE: &str = "OS keyring";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display(
        "failed to {intention} the credential of `{registry}` in the keyring of the operating system"
    ))]
    Use {
        intention: &'static str,
        registry: RegistryName,
        source: Problem,
    },
    #[snafu(display("the keyring has no entries for registry tokens"))]
    Unkeepable,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Use { .. } => ErrorKind::Unauthenticated,
            Self::Unkeepable => ErrorKind::InvalidInput,
        }
    }
}

/// Why a keyring could not be used. What the keyring itself says of an entry could quote the entry.
#[derive(Debug, Snafu)]
enum Problem {
    #[snafu(display("there is no keyring in this session"))]
    Absent,
    #[snafu(display("the keyring is locked, or refuses this program"))]
    Closed,
    #[snafu(display("gave up on the keyring after {} seconds", TIMEOUT.as_secs()))]
    Hangs,
    #[snafu(display("the entry is not one that this program wrote"))]
    Unreadable,
    #[snafu(display("the keyring failed"))]
    Failed,
}

/// Credentials in the keyring of the operating system.
#[derive(Debug, Clone)]
pub struct Keyring {
    noted: BTreeSet<RegistryName>,
    index: Option<KeyringIndex>,
    store: Arc<dyn Store>,
}

/// Entries by user.
trait Store: std::fmt::Debug + Send + Sync {
    fn read(&self, user: &str) -> Result<Option<String>, Problem>;
    fn write(&self, user: &str, secret: &str) -> Result<(), Problem>;
    fn remove(&self, user: &str) -> Result<(), Problem>;
}

impl Keyring {
    /// Creates a provider that reads the entries of `service` for these registries only.
    pub fn new(service: impl Into<String>, noted: impl IntoIterator<Item = RegistryName>) -> Self {
        Self {
            noted: noted.into_iter().collect(),
            index: None,
            store: Arc::new(Native {
                service: service.into(),
            }),
        }
    }

    /// The same keyring, which is also asked for the registries that these notes name by then.
    pub(super) fn noted_in(mut self, index: KeyringIndex) -> Self {
        self.index = Some(index);
        self
    }

    async fn has_entry(&self, registry: &RegistryName) -> crate::Result<bool> {
        if self.noted.contains(registry) {
            return Ok(true);
        }
        match &self.index {
            Some(index) => Ok(index.read().await?.contains(registry)),
            None => Ok(false),
        }
    }

    /// Keeps a credential, in place of one that was kept before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] when the keyring cannot be used, [`ErrorKind::InvalidInput`] for a
    /// [`Credential::Registry`], which does not last.
    pub async fn store(
        &self,
        registry: &RegistryName,
        credential: &Credential,
    ) -> crate::Result<()> {
        let (username, secret) = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::Identity(token) => (TOKEN_USER, token),
            Credential::Registry(_) => return Err(Error::Unkeepable.into()),
        };
        let kept = serde_json::json!({"Username": username, "Secret": secret.expose()});
        let text = kept.to_string();
        let user = registry.as_str().to_owned();
        let written = self.apart(move |store| store.write(&user, &text)).await;
        let intention = "keep";
        Ok(written.context(UseSnafu {
            intention,
            registry: registry.clone(),
        })?)
    }

    /// Forgets a credential; it is no failure when there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] when the keyring cannot be used.
    pub async fn erase(&self, registry: &RegistryName) -> crate::Result<()> {
        let user = registry.as_str().to_owned();
        let removed = self.apart(move |store| store.remove(&user)).await;
        let intention = "remove";
        Ok(removed.context(UseSnafu {
            intention,
            registry: registry.clone(),
        })?)
    }

    async fn read(&self, registry: &RegistryName) -> Result<Option<Credential>, Problem> {
        let user = registry.as_str().to_owned();
        let Some(text) = self.apart(move |store| store.read(&user)).await? else {
            return Ok(None);
        };
        let kept = helper::read(text.as_bytes()).context(UnreadableSnafu)?;
        Ok(Some(kept))
    }

    /// Works on the store outside the runtime: a keyring that hangs must not hold up the program's end either.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let store = Arc::clone(&self.store);
        let thread = std::thread::Builder::new().name("keyring".into());
        // Nobody waits any more when the answer is late, and that is no failure of this thread.
        let started = thread.spawn(move || drop(sender.send(work(&*store))));
        started.ok().context(FailedSnafu)?;
        let answer = tokio::time::timeout(TIMEOUT, receiver).await;
        answer.ok().context(HangsSnafu)?.ok().context(FailedSnafu)?
    }
}

#[async_trait]
impl CredentialProvider for Keyring {
    async fn credential(&self, request: &CredentialRequest<'_>) -> crate::Result<Lookup> {
        if !self.has_entry(request.registry).await? {
            // It was not looked into, and is not said to have been.
            return Ok(Lookup::elsewhere());
        }
        let found = self.read(request.registry).await.context(UseSnafu {
            intention: "read",
            registry: request.registry.clone(),
        })?;
        Ok(Lookup::of(PLACE, found))
    }
}

/// Keyring of the operating system.
#[derive(Debug)]
struct Native {
    service: String,
}

impl Native {
    fn entry(&self, user: &str) -> Result<keyring::Entry, Problem> {
        keyring::Entry::new(&self.service, user).map_err(|error| Problem::of(&error))
    }
}

impl Store for Native {
    fn read(&self, user: &str) -> Result<Option<String>, Problem> {
        match self.entry(user)?.get_password() {
            Ok(secret) => Ok(Some(secret)),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(Problem::of(&error)),
        }
    }

    fn write(&self, user: &str, secret: &str) -> Result<(), Problem> {
        let written = self.entry(user)?.set_password(secret);
        written.map_err(|error| Problem::of(&error))
    }

    fn remove(&self, user: &str) -> Result<(), Problem> {
        match self.entry(user)?.delete_credential() {
            Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
            Err(error) => Err(Problem::of(&error)),
        }
    }
}

impl Problem {
    fn of(error: &keyring::Error) -> Self {
        match error {
            keyring::Error::NoDefaultStore => Self::Absent,
            keyring::Error::NoStorageAccess(_) => Self::Closed,
            keyring::Error::BadEncoding(_) => Self::Unreadable,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Secret;
    use super::*;

    /// A keyring in memory that counts how often it is opened.
    #[derive(Debug, Default)]
    struct InMemory {
        entries: Mutex<BTreeMap<String, String>>,
        opened: AtomicUsize,
    }

    impl Store for InMemory {
        fn read(&self, user: &str) -> Result<Option<String>, Problem> {
            self.opened.fetch_add(1, Ordering::Relaxed);
            Ok(self.entries.lock().unwrap().get(user).cloned())
        }

        fn write(&self, user: &str, secret: &str) -> Result<(), Problem> {
            self.entries
                .lock()
                .unwrap()
                .insert(user.into(), secret.into());
            Ok(())
        }

        fn remove(&self, user: &str) -> Result<(), Problem> {
            self.entries.lock().unwrap().remove(user);
            Ok(())
        }
    }

    /// A keyring that waits for a person who never comes.
    #[derive(Debug)]
    struct Hanging(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Store for Hanging {
        fn read(&self, _: &str) -> Result<Option<String>, Problem> {
            let _ = self.0.lock().unwrap().recv();
            Err(Problem::Closed)
        }

        fn write(&self, _: &str, _: &str) -> Result<(), Problem> {
            unreachable!()
        }

        fn remove(&self, _: &str) -> Result<(), Problem> {
            unreachable!()
        }
    }

    fn name(registry: &str) -> RegistryName {
        registry.parse().unwrap()
    }

    fn keyring(noted: &[&str], store: impl Store + 'static) -> Keyring {
        Keyring {
            noted: noted.iter().copied().map(name).collect(),
            index: None,
            store: Arc::new(store),
        }
    }

    /// A keyring that is gone with the test.
    pub(in crate::auth) fn passing(index: KeyringIndex) -> Keyring {
        keyring(&[], InMemory::default()).noted_in(index)
    }

    async fn ask(keyring: &Keyring, registry: &str) -> crate::Result<Option<Credential>> {
        let lookup = keyring
            .credential(&CredentialRequest::new(&name(registry)))
            .await?;
        let is_noted = keyring.noted.contains(&name(registry));
        assert_eq!(lookup.looked_in.len(), usize::from(is_noted));
        Ok(lookup.found.map(|(credential, _)| credential))
    }

    #[tokio::test]
    async fn what_is_kept_is_found_until_it_is_erased() {
        let keyring = keyring(&["a.b:5000"], InMemory::default());
        let registry = name("a.b:5000");
        for credential in [
            Credential::from_pair("me", "se\"cret:\0ü"),
            Credential::Identity(Secret::new("token")),
        ] {
            keyring.store(&registry, &credential).await.unwrap();
            assert_eq!(ask(&keyring, "a.b:5000").await.unwrap(), Some(credential));
        }
        keyring.erase(&registry).await.unwrap();
        assert_eq!(ask(&keyring, "a.b:5000").await.unwrap(), None);
        keyring.erase(&registry).await.unwrap();
        let token = Credential::Registry(Secret::new("token"));
        let refused = keyring.store(&registry, &token).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn it_is_opened_for_noted_registries_only() {
        let store = Arc::new(InMemory::default());
        let keyring = Keyring {
            noted: [name("a.b")].into(),
            index: None,
            store: Arc::clone(&store) as Arc<dyn Store>,
        };
        for other in ["b", "a.b:443", "xa.b", "a.b.c"] {
            assert_eq!(ask(&keyring, other).await.unwrap(), None, "{other}");
        }
        assert_eq!(store.opened.load(Ordering::Relaxed), 0);
        assert_eq!(ask(&keyring, "a.b").await.unwrap(), None);
        assert_eq!(store.opened.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_entry_of_others_is_an_error_that_does_not_quote_it() {
        let store = InMemory::default();
        store.write("a.b", "canary").unwrap();
        let error = ask(&keyring(&["a.b"], store), "a.b").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.to_string().contains("keyring"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_keyring_that_hangs_is_given_up() {
        let (person, door) = std::sync::mpsc::channel();
        let keyring = keyring(&["a.b"], Hanging(Mutex::new(door)));
        let error = ask(&keyring, "a.b").await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("gave up"), "{cause}");
        drop(person);
    }
}
