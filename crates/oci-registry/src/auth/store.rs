//! Store for credentials that the user enters. Uses docker's places, so that docker's tools find them too.
//!
//! | | place | condition |
//! | --- | --- | --- |
//! | 1 | the helper that docker's `config.json` names for the registry, or for all registries | a helper is named |
//! | 2 | the keyring of the operating system (feature `keyring`), recorded in the keyring index | there is a keyring |
//! | 3 | docker's `config.json` itself, in base64, which is not encrypted | otherwise |
//!
//! If a helper has the credential, the file gets an empty entry, as docker does. The file is replaced atomically, is
//! readable by its owner only, and keeps all its keys in order. Other places, such as podman's files, are not changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;
use snafu::{OptionExt, ResultExt, Snafu};

use super::credential_helper::{Helpers, TOKEN_USER};
use super::file::{self, AuthFile, docker_key};
use super::file_lock::FileLock;
#[cfg(feature = "keyring")]
use super::keyring::{self, Keyring};
#[cfg(feature = "keyring")]
use super::keyring_index::KeyringIndex;
use super::{Credential, docker};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::redact::Secret;
use crate::reference::RegistryName;

/// Member of docker's file that holds the entries of registries.
const AUTHS: &str = "auths";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to store a credential: no home directory"))]
    NoHomeDirectory,
    #[snafu(display("failed to store a registry token: it is short-lived"))]
    NotStorable,
    #[snafu(display("failed to write {place}"))]
    Write {
        place: String,
        source: std::io::Error,
    },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHomeDirectory | Self::NotStorable => ErrorKind::InvalidInput,
            Self::Write { .. } => ErrorKind::Io,
        }
    }
}

/// Place in which a credential was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCredential {
    /// The place, as [`Lookup`](crate::Lookup) names it.
    pub place: String,
    /// Whether the place is a file with an unencrypted password.
    pub is_readable: bool,
}

/// Store that adds and removes credentials of registries.
pub struct CredentialStore {
    file: Option<(PathBuf, String)>,
    helpers: Arc<Helpers>,
    #[cfg(feature = "keyring")]
    keyring: Keyring,
    #[cfg(feature = "keyring")]
    index: KeyringIndex,
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialStore")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl CredentialStore {
    /// Returns the store of the user. Nothing is opened before a credential is stored or removed.
    pub fn of_user(environment: &Environment) -> Self {
        Self {
            file: docker::file(environment),
            helpers: Arc::new(Helpers::new(environment.clone())),
            #[cfg(feature = "keyring")]
            keyring: Keyring::new(environment.application(), []),
            #[cfg(feature = "keyring")]
            index: KeyringIndex::of_user(environment),
        }
    }

    /// Stores a credential and replaces an earlier one of the registry.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if the helper that should store it fails, [`ErrorKind::InvalidInput`] if docker's
    /// file is broken, if there is no home directory, and for a [`Credential::Registry`], which is not long-lived,
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub async fn keep(
        &self,
        registry: &RegistryName,
        credential: &Credential,
    ) -> crate::Result<StoredCredential> {
        let pair = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::Identity(token) => (TOKEN_USER, token),
            Credential::Registry(_) => return Err(Error::NotStorable.into()),
        };
        let (path, place) = self.file.as_ref().context(NoHomeDirectorySnafu)?;
        let document = Document::read(path, place).await?;
        let key = docker_key(registry);
        if let Some(helper) = document.parsed.docker_helper(registry) {
            let kept = StoredCredential {
                place: format!("credential helper `{helper}` of {place}"),
                is_readable: false,
            };
            self.helpers.store(helper, key, place, pair).await?;
            for older in document.parsed.servers(key).into_iter().skip(1) {
                self.helpers.erase(helper, older, place).await?;
            }
            let leave = |document: &mut Document| {
                document.remove(registry);
                document.set(key, IndexMap::new());
                true
            };
            Document::change(path, place, leave).await?;
            return Ok(kept);
        }
        #[cfg(feature = "keyring")]
        if self.index.has_file() && self.keyring.store(registry, credential).await.is_ok() {
            self.index.add(registry).await?;
            // An earlier entry in the file would take precedence.
            let remove = |document: &mut Document| document.remove(registry);
            Document::change(path, place, remove).await?;
            return Ok(StoredCredential {
                place: keyring::PLACE.to_owned(),
                is_readable: false,
            });
        }
        let put = |document: &mut Document| {
            document.remove(registry);
            document.set(key, entry(credential));
            true
        };
        Document::change(path, place, put).await?;
        Ok(StoredCredential {
            place: place.clone(),
            is_readable: true,
        })
    }

    /// Removes the credentials of a registry. Returns the places from which they were removed, or an empty list if
    /// there were none.
    ///
    /// # Errors
    ///
    /// As [`CredentialStore::keep`]. Also [`ErrorKind::Unauthenticated`] if the keyring that should have the credential
    /// cannot be used.
    pub async fn forget(&self, registry: &RegistryName) -> crate::Result<Vec<String>> {
        let mut places = Vec::new();
        if let Some((path, place)) = &self.file {
            let document = Document::read(path, place).await?;
            let key = docker_key(registry);
            let has_entry = document.has(registry);
            if let Some(helper) = document.parsed.docker_helper(registry) {
                for server in document.parsed.servers(key) {
                    let lookup = self
                        .helpers
                        .find_credential(helper, &[server], place, true)
                        .await?;
                    if lookup.found.is_some() {
                        self.helpers.erase(helper, server, place).await?;
                        places.extend(lookup.looked_in);
                    }
                }
            } else if has_entry {
                places.push(place.clone());
            }
            if has_entry {
                let remove = |document: &mut Document| document.remove(registry);
                Document::change(path, place, remove).await?;
            }
        }
        #[cfg(feature = "keyring")]
        if self.index.read().await?.contains(registry) {
            self.keyring.erase(registry).await?;
            self.index.remove(registry).await?;
            places.push(keyring::PLACE.to_owned());
        }
        Ok(places)
    }
}

/// Returns the entry for docker's file.
fn entry(credential: &Credential) -> IndexMap<String, Value> {
    let (key, text) = match credential {
        Credential::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose());
            ("auth", STANDARD.encode(pair))
        }
        Credential::Identity(token) | Credential::Registry(token) => {
            ("identitytoken", Secret::expose(token).to_owned())
        }
    };
    let text = serde_json::value::to_raw_value(&text).expect("a text is JSON");
    IndexMap::from([(key.to_owned(), Value::Raw(text))])
}

/// Docker's file. Unchanged members keep their exact text.
struct Document {
    parsed: AuthFile,
    keys: IndexMap<String, Value>,
}

/// Value that is kept unchanged, or a table whose entries can be changed.
#[derive(Serialize)]
#[serde(untagged)]
enum Value {
    Raw(Box<RawValue>),
    Table(IndexMap<String, Self>),
}

impl Value {
    fn table(&self) -> Option<&IndexMap<String, Self>> {
        match self {
            Self::Table(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }

    fn table_mut(&mut self) -> Option<&mut IndexMap<String, Self>> {
        match self {
            Self::Table(entries) => Some(entries),
            Self::Raw(_) => None,
        }
    }
}

impl Document {
    /// Reads a file. An absent one is read as empty.
    async fn read(path: &std::path::Path, place: &str) -> crate::Result<Self> {
        let bytes = file::read(path, place).await?.unwrap_or_default();
        // An empty file is read like an absent one.
        let bytes = if bytes.trim_ascii().is_empty() {
            b"{}".to_vec()
        } else {
            bytes
        };
        let parsed = AuthFile::parse(&bytes, place)?;
        let raw: IndexMap<String, Box<RawValue>> = file::parse(&bytes, place)?;
        let mut keys = IndexMap::new();
        for (key, value) in raw {
            let value = if key.eq_ignore_ascii_case(AUTHS) {
                let entries: Option<IndexMap<String, Box<RawValue>>> =
                    file::parse(value.get().as_bytes(), place)?;
                let entries = entries.unwrap_or_default().into_iter();
                Value::Table(
                    entries
                        .map(|(key, entry)| (key, Value::Raw(entry)))
                        .collect(),
                )
            } else {
                Value::Raw(value)
            };
            keys.insert(key, value);
        }
        Ok(Self { parsed, keys })
    }

    /// Changes a file under its lock. `change` returns whether it has changed anything.
    async fn change(
        path: &std::path::Path,
        place: &str,
        change: impl FnOnce(&mut Self) -> bool,
    ) -> crate::Result<()> {
        let _lock = FileLock::acquire(path).await?;
        let mut document = Self::read(path, place).await?;
        if change(&mut document) {
            document.write(path, place)?;
        }
        Ok(())
    }

    /// Whether there is an entry that [`Document::remove`] would remove.
    fn has(&self, registry: &RegistryName) -> bool {
        let mut keys = self.keys.values().filter_map(Value::table).flatten();
        keys.any(|(key, _)| file::is_key_of(key, registry))
    }

    /// Adds an entry to the first member that has entries, which is added if there is none.
    fn set(&mut self, key: &str, entry: IndexMap<String, Value>) {
        let mut tables = self.keys.values_mut().filter_map(Value::table_mut);
        if let Some(entries) = tables.next() {
            entries.insert(key.to_owned(), Value::Table(entry));
        } else {
            let entries = IndexMap::from([(key.to_owned(), Value::Table(entry))]);
            self.keys.insert(AUTHS.to_owned(), Value::Table(entries));
        }
    }

    /// Removes the entries of a registry under all its names, except those of single repositories. Returns whether
    /// there were any.
    fn remove(&mut self, registry: &RegistryName) -> bool {
        let mut is_changed = false;
        for entries in self.keys.values_mut().filter_map(Value::table_mut) {
            let before = entries.len();
            entries.retain(|key, _| !file::is_key_of(key, registry));
            is_changed |= entries.len() < before;
        }
        is_changed
    }

    fn write(&self, path: &std::path::Path, place: &str) -> Result<(), Error> {
        let mut text = Vec::new();
        // docker indents with tabs.
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        self.keys
            .serialize(&mut serializer)
            .expect("what was read as JSON can be written");
        file::replace(path, &text).context(WriteSnafu { place })
    }
}

#[cfg(test)]
mod tests {
    use super::super::CredentialProvider as _;
    use super::super::chain::CredentialChain;
    use super::super::home::{Home, look_up, pair};
    use super::*;

    fn store(home: &Home) -> CredentialStore {
        let mut store = CredentialStore::of_user(&home.environment());
        // Tests must not access the keyring of the user.
        #[cfg(feature = "keyring")]
        {
            store.index = KeyringIndex::of_user(&Environment::default());
        }
        store.helpers = Arc::new(Helpers::new(home.environment()));
        store
    }

    fn name(text: &str) -> RegistryName {
        text.parse().unwrap()
    }

    const CONFIG: &str = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {\n\t\t\"c.d\": {\n\t\t\t\"auth\": \"bWU6Y2FuYXJ5\",\n\t\t\t\"email\": \"\"\n\t\t}\n\t},\n\t\"HttpHeaders\": { \"X\": 1.50 }\n}";

    #[tokio::test]
    async fn file_keeps_unchanged_members() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let credential = Credential::from_pair("carol", "pass:word");
        let kept = store(&home)
            .keep(&name("a.b:5000"), &credential)
            .await
            .unwrap();
        let path = home.path().join(".docker/config.json");
        assert_eq!(kept.place, format!("docker config `{}`", path.display()));
        assert!(kept.is_readable);
        let written = std::fs::read_to_string(&path).unwrap();
        let entry = ",\n\t\t\"a.b:5000\": {\n\t\t\t\"auth\": \"Y2Fyb2w6cGFzczp3b3Jk\"\n\t\t}\n\t},";
        assert_eq!(written, CONFIG.replace("\n\t},", entry));
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "a.b:5000").await.unwrap();
        assert_eq!(found.found.as_ref().unwrap().1, kept.place);
        assert_eq!(pair(found).as_deref(), Some("carol:pass:word"));

        let forgotten = store(&home).forget(&name("a.b:5000")).await.unwrap();
        assert_eq!(forgotten, [kept.place]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG);
        let again = store(&home).forget(&name("a.b:5000")).await.unwrap();
        assert_eq!(again, [""; 0]);
    }

    #[tokio::test]
    async fn entry_in_other_case_is_replaced_in_lower_case() {
        let config = "{\n\t\"Auths\": {\n\t\t\"LocalHost:5000\": {\n\t\t\t\"auth\": \"bWU6Y2FuYXJ5\"\n\t\t}\n\t}\n}";
        let home = Home::new().file(".docker/config.json", config);
        let registry = name("LOCALHOST:5000");
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "localhost:5000").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("me:canary"));
        let credential = Credential::from_pair("carol", "pass:word");
        store(&home).keep(&registry, &credential).await.unwrap();
        let path = home.path().join(".docker/config.json");
        let expected = config
            .replace("LocalHost", "localhost")
            .replace("bWU6Y2FuYXJ5", "Y2Fyb2w6cGFzczp3b3Jk");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(store(&home).forget(&registry).await.unwrap().len(), 1);
        let empty = "{\n\t\"Auths\": {}\n}";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), empty);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn logout_erases_the_name_that_the_helper_has() {
        let script = r#"kept="$(dirname "$0")/../kept"
read -r server
[ "$server" = LocalHost:5000 ] && [ -f "$kept" ] || { echo "credentials not found in native keychain"; exit 1; }
case "$1" in
get) echo '{"Username":"u","Secret":"s"}' ;;
erase) rm "$kept" ;;
esac"#;
        let config = r#"{"credsStore":"one","auths":{"LocalHost:5000":{}}}"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .file("kept", "")
            .helper("one", script);
        let forgotten = store(&home).forget(&name("localhost:5000")).await.unwrap();
        assert_eq!(forgotten.len(), 1, "{forgotten:?}");
        assert!(!home.path().join("kept").exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn concurrent_logins_are_all_stored() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let names: Vec<_> = (0..20).map(|at| name(&format!("r{at}.example"))).collect();
        let credential = Credential::from_pair("carol", "pass:word");
        let kept = names.iter().map(|name| {
            let store = store(&home);
            let credential = &credential;
            async move { store.keep(name, credential).await.unwrap() }
        });
        futures_util::future::join_all(kept).await;
        let path = home.path().join(".docker/config.json");
        let written = std::fs::read_to_string(&path).unwrap();
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !written.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let forgotten = names.iter().map(|name| {
            let store = store(&home);
            async move { store.forget(name).await.unwrap() }
        });
        futures_util::future::join_all(forgotten).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG);
    }

    #[tokio::test]
    async fn docker_hub_uses_docker_key_and_token_its_own_field() {
        let home = Home::new();
        let token = Credential::Identity(Secret::new("t"));
        store(&home).keep(&name("docker.io"), &token).await.unwrap();
        let path = home.path().join(".docker/config.json");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"identitytoken\": \"t\"\n\t\t}\n\t}\n}"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let fleeting = Credential::Registry(Secret::new("t"));
        let refused = store(&home)
            .keep(&name("a.b"), &fleeting)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn broken_file_is_not_changed() {
        for broken in ["canary", "[]", r#"{"auths": 1}"#] {
            let home = Home::new().file(".docker/config.json", broken);
            let credential = Credential::from_pair("me", "p");
            let error = store(&home)
                .keep(&name("a.b"), &credential)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!format!("{error:?}").contains("canary"));
            let path = home.path().join(".docker/config.json");
            assert_eq!(std::fs::read_to_string(path).unwrap(), broken);
        }
    }

    #[cfg(feature = "keyring")]
    #[tokio::test]
    async fn keyring_stores_credential_and_updates_index() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let index = KeyringIndex::of_user(&home.environment());
        let mut store = store(&home);
        store.keyring = keyring::tests::in_memory_keyring(index.clone());
        store.index = index.clone();
        let registry = name("c.d");
        let credential = Credential::from_pair("carol", "secret");
        let kept = store.keep(&registry, &credential).await.unwrap();
        assert_eq!(
            (kept.place.as_str(), kept.is_readable),
            ("OS keyring", false)
        );
        let path = home.path().join(".docker/config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"auths\": {},"),
            "the older one is gone: {text}"
        );
        assert!(index.read().await.unwrap().contains(&registry));
        let found = look_up(&store.keyring, "c.d").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("carol:secret"));
        assert_eq!(store.forget(&registry).await.unwrap(), ["OS keyring"]);
        assert!(index.read().await.unwrap().is_empty());
        assert!(
            look_up(&store.keyring, "c.d")
                .await
                .unwrap()
                .looked_in
                .is_empty()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helper_stores_credential_and_file_gets_empty_entry() {
        // Stores the credential in a file and returns it as credential helpers do.
        let script = r#"kept="$(dirname "$0")/../kept"
case "$1" in
store) cat > "$kept" ;;
get) if [ -f "$kept" ]; then cat "$kept"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm "$kept" ;;
esac"#;
        let home = Home::new()
            .file(".docker/config.json", r#"{"credsStore":"one"}"#)
            .helper("one", script);
        let credential = Credential::from_pair("carol", "se\"cret");
        let kept = store(&home).keep(&name("a.b"), &credential).await.unwrap();
        assert!(!kept.is_readable && kept.place.starts_with("credential helper `one` of"));
        let path = home.path().join(".docker/config.json");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n\t\"credsStore\": \"one\",\n\t\"auths\": {\n\t\t\"a.b\": {}\n\t}\n}"
        );
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "a.b").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("carol:se\"cret"));
        let forgotten = store(&home).forget(&name("a.b")).await.unwrap();
        assert_eq!(forgotten, [kept.place]);
        let chain = CredentialChain::new(&home.environment(), []);
        let request = name("a.b");
        let request = super::super::CredentialRequest::new(&request);
        assert!(chain.credential(&request).await.unwrap().found.is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n\t\"credsStore\": \"one\",\n\t\"auths\": {}\n}");
        assert_eq!(store(&home).forget(&name("a.b")).await.unwrap(), [""; 0]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn failed_helper_leaves_file_unchanged() {
        let config = r#"{"credHelpers":{"a.b":"one"}}"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("one", "exit 1");
        let credential = Credential::from_pair("me", "canary");
        let error = store(&home)
            .keep(&name("a.b"), &credential)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(!format!("{error:?}").contains("canary"));
        let path = home.path().join(".docker/config.json");
        assert_eq!(std::fs::read_to_string(path).unwrap(), config);
    }
}
