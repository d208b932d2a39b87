//! Store for credentials that the user enters. It uses docker's locations, so that docker's tools find the credentials,
//! too.
//!
//! | | location | condition |
//! | --- | --- | --- |
//! | 1 | the helper that docker's `config.json` names for the registry, or for all registries | the file names a helper |
//! | 2 | the keyring of the operating system (feature `keyring`), recorded in the keyring index | the session has a keyring |
//! | 3 | docker's `config.json` itself, in base64, which is not encrypted | otherwise |
//!
//! If a helper stores the credential, the file gets an empty entry, as with docker. The file is replaced atomically, is
//! readable by its owner only, and keeps all its keys in order. Other files, such as podman's, are not changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use snafu::{OptionExt, Snafu};

use super::credential_helper::{Helpers, TOKEN_USER};
use super::docker_config::DockerConfig;
#[cfg(feature = "keyring")]
use super::keyring::{self, Keyring};
#[cfg(feature = "keyring")]
use super::keyring_index::KeyringIndex;
use super::registry_key::docker_key;
use super::{Credential, docker};
use crate::environment::Environment;
use crate::error::{ErrorKind, Failure};
use crate::reference::RegistryName;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to store a credential: no home directory"))]
    NoHomeDirectory,
    #[snafu(display("refusing to store a registry token: it is short-lived"))]
    NotStorable,
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// Location of a stored credential.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCredential {
    /// Name of the location, as in [`Lookup::searched`](crate::Lookup::searched).
    pub location: String,
    /// Whether the location is a file that contains the password unencrypted.
    pub is_unencrypted: bool,
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
    /// Creates the store that uses the locations in this environment. No file, helper or keyring is opened before a
    /// credential is stored or erased.
    pub fn for_user(environment: &Environment) -> Self {
        Self {
            file: docker::docker_file(environment),
            helpers: Arc::new(Helpers::new(environment.clone())),
            #[cfg(feature = "keyring")]
            keyring: Keyring::new(environment.application(), []),
            #[cfg(feature = "keyring")]
            index: KeyringIndex::for_user(environment),
        }
    }

    /// Stores the credential of a registry. An existing credential is replaced.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] if the helper that should store it fails, [`ErrorKind::InvalidInput`] if docker's
    /// file is broken, if there is no home directory, and for a [`Credential::Registry`], which is short-lived,
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub async fn store(
        &self,
        registry: &RegistryName,
        credential: &Credential,
    ) -> crate::Result<StoredCredential> {
        let pair = match credential {
            Credential::Basic { username, password } => (username.as_str(), password),
            Credential::Identity(token) => (TOKEN_USER, token),
            Credential::Registry(_) => return Err(Error::NotStorable.into()),
        };
        let (path, location) = self.file.as_ref().context(NoHomeDirectorySnafu)?;
        let config = DockerConfig::read(path, location).await?;
        let key = docker_key(registry);
        if let Some(helper) = config.auth_file().docker_helper(registry) {
            let stored = StoredCredential {
                location: format!("credential helper `{helper}` of {location}"),
                is_unencrypted: false,
            };
            self.helpers.store(helper, key, location, pair).await?;
            for older in config.auth_file().servers(key).into_iter().skip(1) {
                self.helpers.erase(helper, older, location).await?;
            }
            let replace_by_empty = |config: &mut DockerConfig| {
                config.remove_entries(registry);
                config.set_entry(key, None);
                true
            };
            DockerConfig::update(path, location, replace_by_empty).await?;
            return Ok(stored);
        }
        #[cfg(feature = "keyring")]
        if self.index.has_path() && self.keyring.store(registry, credential).await.is_ok() {
            self.index.add(registry).await?;
            // An existing entry in the file would take precedence over the keyring.
            let remove = |config: &mut DockerConfig| config.remove_entries(registry);
            DockerConfig::update(path, location, remove).await?;
            return Ok(StoredCredential {
                location: keyring::SOURCE_NAME.to_owned(),
                is_unencrypted: false,
            });
        }
        let replace = |config: &mut DockerConfig| {
            config.remove_entries(registry);
            config.set_entry(key, Some(credential));
            true
        };
        DockerConfig::update(path, location, replace).await?;
        Ok(StoredCredential {
            location: location.clone(),
            is_unencrypted: true,
        })
    }

    /// Erases the credentials of a registry. Returns the locations from which a credential was removed.
    ///
    /// # Errors
    ///
    /// The errors of [`CredentialStore::store`]; [`ErrorKind::Unauthenticated`] if the index lists an entry in the
    /// keyring and the keyring cannot be used.
    pub async fn erase(&self, registry: &RegistryName) -> crate::Result<Vec<String>> {
        let mut locations = Vec::new();
        if let Some((path, location)) = &self.file {
            let config = DockerConfig::read(path, location).await?;
            let key = docker_key(registry);
            let has_entry = config.has_entry(registry);
            if let Some(helper) = config.auth_file().docker_helper(registry) {
                for server in config.auth_file().servers(key) {
                    let lookup = self
                        .helpers
                        .find_credential(helper, &[server], location, true)
                        .await?;
                    if lookup.found.is_some() {
                        self.helpers.erase(helper, server, location).await?;
                        locations.extend(lookup.searched);
                    }
                }
            } else if has_entry {
                locations.push(location.clone());
            }
            if has_entry {
                let remove = |config: &mut DockerConfig| config.remove_entries(registry);
                DockerConfig::update(path, location, remove).await?;
            }
        }
        #[cfg(feature = "keyring")]
        if self.index.read().await?.contains(registry) {
            // Another program may have removed the entry.
            let existed = self.keyring.erase(registry).await?;
            self.index.remove(registry).await?;
            locations.extend(existed.then(|| keyring::SOURCE_NAME.to_owned()));
        }
        Ok(locations)
    }
}

#[cfg(test)]
mod tests {
    use super::super::CredentialProvider as _;
    use super::super::chain::CredentialChain;
    use super::super::home::{Home, look_up, pair};
    use super::*;
    use crate::redact::Secret;

    fn store(home: &Home) -> CredentialStore {
        let mut store = CredentialStore::for_user(&home.environment());
        // Tests must not access the keyring of the user.
        #[cfg(feature = "keyring")]
        {
            store.index = KeyringIndex::for_user(&Environment::default());
        }
        store.helpers = Arc::new(Helpers::new(home.environment()));
        store
    }

    fn name(text: &str) -> RegistryName {
        text.parse().unwrap()
    }

    const CONFIG: &str = "{\n\t\"psFormat\": \"table {{.ID}}\",\n\t\"auths\": {\n\t\t\"c.d\": {\n\t\t\t\"auth\": \"bWU6Y2FuYXJ5\",\n\t\t\t\"email\": \"\"\n\t\t}\n\t},\n\t\"HttpHeaders\": { \"X\": 1.50 }\n}";

    #[tokio::test]
    async fn store_and_erase_keep_other_keys_of_file() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let credential = Credential::from_pair("carol", "pass:word");
        let stored = store(&home)
            .store(&name("a.b:5000"), &credential)
            .await
            .unwrap();
        let path = home.path().join(".docker/config.json");
        assert_eq!(
            stored.location,
            format!("docker config `{}`", path.display())
        );
        assert!(stored.is_unencrypted);
        let written = std::fs::read_to_string(&path).unwrap();
        let entry = ",\n\t\t\"a.b:5000\": {\n\t\t\t\"auth\": \"Y2Fyb2w6cGFzczp3b3Jk\"\n\t\t}\n\t},";
        assert_eq!(written, CONFIG.replace("\n\t},", entry));
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "a.b:5000").await.unwrap();
        assert_eq!(found.found.as_ref().unwrap().1, stored.location);
        assert_eq!(pair(found).as_deref(), Some("carol:pass:word"));

        let erased = store(&home).erase(&name("a.b:5000")).await.unwrap();
        assert_eq!(erased, [stored.location]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG);
        let again = store(&home).erase(&name("a.b:5000")).await.unwrap();
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
        store(&home).store(&registry, &credential).await.unwrap();
        let path = home.path().join(".docker/config.json");
        let expected = config
            .replace("LocalHost", "localhost")
            .replace("bWU6Y2FuYXJ5", "Y2Fyb2w6cGFzczp3b3Jk");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(store(&home).erase(&registry).await.unwrap().len(), 1);
        let empty = "{\n\t\"Auths\": {}\n}";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), empty);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn erase_uses_server_name_that_helper_stores() {
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
        let erased = store(&home).erase(&name("localhost:5000")).await.unwrap();
        assert_eq!(erased.len(), 1, "{erased:?}");
        assert!(!home.path().join("kept").exists());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn concurrent_logins_are_all_stored() {
        let home = Home::new().file(".docker/config.json", CONFIG);
        let names: Vec<_> = (0..20).map(|at| name(&format!("r{at}.example"))).collect();
        let credential = Credential::from_pair("carol", "pass:word");
        let stored = names.iter().map(|name| {
            let store = store(&home);
            let credential = &credential;
            async move { store.store(name, credential).await.unwrap() }
        });
        futures_util::future::join_all(stored).await;
        let path = home.path().join(".docker/config.json");
        let written = std::fs::read_to_string(&path).unwrap();
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !written.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        let erased = names.iter().map(|name| {
            let store = store(&home);
            async move { store.erase(name).await.unwrap() }
        });
        futures_util::future::join_all(erased).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), CONFIG);
    }

    #[tokio::test]
    async fn identity_token_of_docker_hub_uses_docker_key() {
        let home = Home::new();
        let token = Credential::Identity(Secret::new("t"));
        store(&home)
            .store(&name("docker.io"), &token)
            .await
            .unwrap();
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
    }

    #[tokio::test]
    async fn registry_token_is_rejected() {
        let home = Home::new();
        let short_lived = Credential::Registry(Secret::new("t"));
        let refused = store(&home)
            .store(&name("a.b"), &short_lived)
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn store_leaves_broken_file_unchanged() {
        for broken in ["canary", "[]", r#"{"auths": 1}"#] {
            let home = Home::new().file(".docker/config.json", broken);
            let credential = Credential::from_pair("me", "p");
            let error = store(&home)
                .store(&name("a.b"), &credential)
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
        let index = KeyringIndex::for_user(&home.environment());
        let mut store = store(&home);
        store.keyring = keyring::tests::in_memory_keyring(index.clone());
        store.index = index.clone();
        let registry = name("c.d");
        let credential = Credential::from_pair("carol", "secret");
        let stored = store.store(&registry, &credential).await.unwrap();
        assert_eq!(
            (stored.location.as_str(), stored.is_unencrypted),
            ("OS keyring", false)
        );
        let path = home.path().join(".docker/config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"auths\": {},"),
            "the old entry is removed: {text}"
        );
        assert!(index.read().await.unwrap().contains(&registry));
        let found = look_up(&store.keyring, "c.d").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("carol:secret"));
        assert_eq!(store.erase(&registry).await.unwrap(), ["OS keyring"]);
        assert!(index.read().await.unwrap().is_empty());
        // An entry that another program removed is not reported as erased.
        index.add(&registry).await.unwrap();
        assert_eq!(store.erase(&registry).await.unwrap(), [""; 0]);
        assert!(index.read().await.unwrap().is_empty());
        assert!(
            look_up(&store.keyring, "c.d")
                .await
                .unwrap()
                .searched
                .is_empty()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helper_stores_credential_and_file_gets_empty_entry() {
        // The helper stores the credential in a file and prints it in the format of credential helpers.
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
        let stored = store(&home).store(&name("a.b"), &credential).await.unwrap();
        assert!(
            !stored.is_unencrypted && stored.location.starts_with("credential helper `one` of")
        );
        let path = home.path().join(".docker/config.json");
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\n\t\"credsStore\": \"one\",\n\t\"auths\": {\n\t\t\"a.b\": {}\n\t}\n}"
        );
        let chain = CredentialChain::new(&home.environment(), []);
        let found = look_up(&chain, "a.b").await.unwrap();
        assert_eq!(pair(found).as_deref(), Some("carol:se\"cret"));
        let erased = store(&home).erase(&name("a.b")).await.unwrap();
        assert_eq!(erased, [stored.location]);
        let chain = CredentialChain::new(&home.environment(), []);
        let request = name("a.b");
        let request = super::super::CredentialRequest::new(&request);
        assert!(chain.credential(&request).await.unwrap().found.is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n\t\"credsStore\": \"one\",\n\t\"auths\": {}\n}");
        assert_eq!(store(&home).erase(&name("a.b")).await.unwrap(), [""; 0]);
    }

    /// Stores a credential with a helper that fails, and checks that the file is unchanged.
    #[cfg(unix)]
    async fn assert_failed_helper_leaves_file_unchanged(script: &str) {
        let config = r#"{"credHelpers":{"a.b":"one"}}"#;
        let home = Home::new()
            .file(".docker/config.json", config)
            .helper("one", script);
        let credential = Credential::from_pair("me", "canary");
        let error = store(&home)
            .store(&name("a.b"), &credential)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(!format!("{error:?}").contains("canary"));
        let path = home.path().join(".docker/config.json");
        assert_eq!(std::fs::read_to_string(path).unwrap(), config);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn failed_helper_leaves_file_unchanged() {
        assert_failed_helper_leaves_file_unchanged("exit 1").await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn store_with_helper_reporting_not_found_keeps_the_file() {
        let script = "echo 'credentials not found in native keychain'; exit 1";
        assert_failed_helper_leaves_file_unchanged(script).await;
    }
}
