//! State that all verbs share: environment, defaults, output, and the client for registries, directories and archives.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci_registry::{
    Client, ClientEvent, ClientOptions, CredentialProvider, Delete, Digest, Environment, Location,
    LocationText, Mode, Observer, RegistryName, Source, Target,
};

use crate::cargo;
use crate::defaults::Defaults;
use crate::options::Global;
use crate::report::{Error, Reporter};

/// State that all verbs share.
#[derive(Debug)]
pub(crate) struct Session {
    /// Environment for the libraries.
    pub(crate) environment: Environment,
    /// Environment for cargo, rustc and git.
    pub(crate) cargo: cargo::CargoEnvironment,
    /// Defaults of the user.
    pub(crate) defaults: Defaults,
    /// Output of the process.
    pub(crate) reporter: Reporter,
    /// Maximum number of parallel transfers.
    pub(crate) concurrency: usize,
    options: ClientOptions,
    client: Client,
}

impl Session {
    /// Creates a session with these flags and environments.
    pub(crate) fn new(
        flags: &Global,
        environment: Environment,
        cargo: cargo::CargoEnvironment,
        defaults: Defaults,
        reporter: Reporter,
    ) -> Self {
        let mut options = ClientOptions::new(environment.clone());
        options.plain_http = flags.plain_http;
        options.attempts = flags.retries.saturating_add(1);
        options.resolve.clone_from(&flags.resolve);
        options.registries = defaults.connections(flags);
        options.ca_file = flags.ca_file.as_ref().map(|path| environment.resolve(path));
        let identity = flags.cert_file.as_ref().zip(flags.key_file.as_ref());
        options.identity =
            identity.map(|(chain, key)| (environment.resolve(chain), environment.resolve(key)));
        let noted = Mutex::new(HashSet::new());
        options.observer = Observer::new(move |event| match event {
            ClientEvent::Request {
                method,
                url,
                status,
                ..
            } if reporter.is_verbose() => {
                let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                reporter.status("Request", format_args!("{method} {url} {status}"));
            }
            ClientEvent::Warning { from, text } => {
                reporter.note(format_args!("warning from `{from}`: {text}"));
            }
            ClientEvent::Ignored { from, what } => {
                reporter.note(format_args!("ignored a header of `{from}`: {what}"));
            }
            ClientEvent::OmittedNames(omitted) => {
                // A command may list the same repository several times.
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                if noted.insert(omitted.place().to_owned()) {
                    reporter.note(omitted);
                }
            }
            ClientEvent::UnlistedReferrer { referrer, subject } => {
                reporter.note(format_args!(
                    "the registry accepted `{referrer}`, but does not list it as a referrer of \
                     {subject}"
                ));
            }
            ClientEvent::Credential { problem } => reporter.note(problem),
            ClientEvent::Retry(retry) => reporter.warn(retry),
            _ => {}
        });
        Self {
            environment,
            cargo,
            defaults,
            reporter,
            concurrency: flags.concurrency,
            client: Client::new(options.clone()),
            options,
        }
    }

    /// Cancels the open uploads at registries.
    pub(crate) async fn cancel(&self) {
        self.client.cancel_uploads().await;
    }

    /// Returns a registry that is accessed only with these credentials.
    pub(crate) fn registry_as(
        &self,
        name: &RegistryName,
        credentials: impl CredentialProvider + 'static,
    ) -> Result<oci_registry::Registry, Error> {
        let mut options = self.options.clone();
        options.credentials = Arc::new(credentials);
        Ok(Client::new(options).registry(name)?)
    }

    /// Reports the reference of a result: the last output for this result.
    pub(crate) fn finished(
        &self,
        reference: &Location,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> Result<(), Error> {
        let stats = self.client.transfer_stats();
        self.reporter
            .finished(reference.to_string(), digest, index, stats)
    }

    /// Returns a registry.
    pub(crate) fn registry(&self, name: &RegistryName) -> Result<oci_registry::Registry, Error> {
        Ok(self.client.registry(name)?)
    }

    /// Splits the text of a location to read from into path and tag or digest.
    pub(crate) async fn locate(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate(self.environment.current_dir()).await?)
    }

    /// Splits the text of a location to delete into path and tag or digest.
    pub(crate) async fn locate_deletable(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written
            .locate_deletable(self.environment.current_dir())
            .await?)
    }

    /// Splits the text of a location to write to into path and tag or digest.
    pub(crate) fn locate_target(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate_target(self.environment.current_dir())?)
    }

    /// Opens a location to read from.
    pub(crate) async fn source(&self, location: &Location) -> Result<Arc<dyn Source>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_source(location, base).await?)
    }

    /// Opens a location as a target.
    pub(crate) async fn target(
        &self,
        location: &Location,
        mode: Mode,
    ) -> Result<Arc<dyn Target>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_target(location, base, mode).await?)
    }

    /// Opens a location to delete from.
    pub(crate) async fn delete_target(
        &self,
        location: &Location,
    ) -> Result<Arc<dyn Delete>, Error> {
        let base = self.environment.current_dir();
        let opened = self.client.open_deletable(location, base).await?;
        opened.ok_or_else(|| {
            let place = location.whole_repository();
            Error::usage(format!(
                "failed to delete from `{place}`: an archive cannot be changed"
            ))
            .help("copy the artifacts to keep to another archive")
        })
    }

    /// Returns the absolute path of a path relative to the working directory.
    pub(crate) fn resolve(&self, path: &std::path::Path) -> PathBuf {
        self.environment.resolve(path)
    }
}
