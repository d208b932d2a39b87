//! Where a credential goes that a person gives this program: docker's places, so that docker's tools find it too.
//!
//! | | place | when |
//! | --- | --- | --- |
//! | 1 | the helper that docker's `config.json` names for the registry, or for all | one is named |
//! | 2 | the keyring of the operating system (feature `keyring`), and a note that it is there | there is one |
//! | 3 | docker's `config.json` itself, in base64, which hides nothing | otherwise |
//!
//! Where a helper has it the file gets an empty entry, as docker leaves one. The file is replaced at once, is its owner's
//! only, and keeps every key it had, in its order. What is kept elsewhere by others, podman's files for one, is theirs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::value::RawValue;
use snafu::{OptionExt, ResultExt, Snafu};

use super::file::{self, AuthFile, docker_key};
use super::file_lock::FileLock;
use super::helper::{Helpers, TOKEN_USER};
#[cfg(feature = "keyring")]
use super::keyring::{self, Keyring};
#[cfg(feature = "keyring")]
use super::keyring_index::KeyringIndex;
use super::{Credential, Secret, docker};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

/// The key of docker's file under which registries are.
const AUTHS: &str = "auths";

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to keep a credential: there is no home directory"))]
    NoHomeDirectory,
    #[snafu(display("failed to keep a registry token: it does not last"))]
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

/// Place of a credential that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCredential {
    /// The place, as [`Lookup`](crate::Lookup) names it.
    pub place: String,
    /// Whether the place is a file with an unencrypted password.
    pub is_readable: bool,
}

/// Keeps credentials, and forgets them.
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
    /// The store of whoever asks. Nothing is opened before there is something to keep or to forget.
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

    /// Keeps a credential, in place of one that was kept for the registry before.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] when the helper that should have it fails, [`ErrorKind::InvalidInput`] when docker's
    /// file is broken, when there is no home, and for a [`Credential::Registry`], which does not last;
    /// [`ErrorKind::Io`] when the file cannot be written.
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
            self.helpers.keep(helper, key, place, pair).await?;
            for older in document.parsed.servers(key).into_iter().skip(1) {
                self.helpers.forget(helper, older, place).await?;
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
            // An older one in the file would be found before it.
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

    /// Forgets what is kept for a registry, and says where that was: nowhere, when nothing was.
    ///
    /// # Errors
    ///
    /// As [`CredentialStore::keep`]; [`ErrorKind::Unauthenticated`] also when the keyring that should have it cannot be
    /// used.
    pub async fn forget(&self, registry: &RegistryName) -> crate::Result<Vec<String>> {
        let mut places = Vec::new();
        if let Some((path, place)) = &self.file {
            let document = Document::read(path, place).await?;
            let key = docker_key(registry);
            let has_entry = document.has(registry);
            if let Some(helper) = document.parsed.docker_helper(registry) {
                for server in document.parsed.servers(key) {
                    let lookup = self.helpers.look(helper, &[server], place, true).await?;
                    if lookup.found.is_some() {
                        self.helpers.forget(helper, server, place).await?;
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

/// An entry of docker's file.
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

/// Docker's file, of which nothing is lost that is not changed.
struct Document {
    parsed: AuthFile,
    keys: IndexMap<String, Value>,
}

/// A value that stays as it is, or a table whose entries can be changed.
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
    /// Reads a file, which need not be there.
    async fn read(path: &std::path::Path, place: &str) -> crate::Result<Self> {
        let bytes = file::read(path, place).await?.unwrap_or_default();
        // An empty file says as little as none.
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

    /// Changes a file while no other process of this program does; `change` says whether there was anything to change.
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

    /// Removes the entries of a registry under all its names, those of single repositories excepted. Returns whether there
    /// were any.
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
        // As docker indents it.
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
    use super::super::home::{Home, ask, pair};
    use super::*;

    fn store(home: &Home) -> CredentialStore {
        let mut store = CredentialStore::of_user(&home.environment());
        // A test has no business in the keyring of whoever runs it.
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
    async fn the_file_keeps_all_that_is_not_changed() {
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
        let found = ask(&chain, "a.b:5000").await.unwrap();
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
        let found = ask(&chain, "localhost:5000").await.unwrap();
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
    async fn those_who_log_in_at_once_are_all_kept() {
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
    async fn docker_hub_has_docker_s_key_and_a_token_its_own_field() {
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
    async fn a_broken_file_is_left_alone() {
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
    async fn a_keyring_has_it_alone_and_is_noted() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let index = KeyringIndex::of_user(&home.environment());
        let mut store = store(&home);
        store.keyring = keyring::tests::passing(index.clone());
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
        let found = ask(&store.keyring, "c.d").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("carol:secret"));
        assert_eq!(store.forget(&registry).await.unwrap(), ["OS keyring"]);
        assert!(index.read().await.unwrap().is_empty());
        assert!(
            ask(&store.keyring, "c.d")
                .await
                .unwrap()
                .looked_in
                .is_empty()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_helper_that_is_named_has_it_and_the_file_only_says_so() {
        // Keeps what it is given in a file, and tells it as helpers do.
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
        let found = ask(&chain, "a.b").await.unwrap();
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
    async fn a_helper_that_fails_leaves_the_file_as_it_was() {
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
