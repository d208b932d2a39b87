//! State that all commands share: environment, defaults, output, and the client for registries, layouts and archives.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci_registry::{
    Client, ClientEvent, ClientOptions, CredentialProvider, Delete, Digest, Environment, Location,
    LocationText, Mode, Observer, RegistryName, Source, Target,
};

use crate::cargo;
use crate::defaults::Defaults;
use crate::message::FinishedTarget;
use crate::options::CommonOptions;
use crate::report::{Error, Reporter};

/// Environment, defaults, output and client of the running command.
#[derive(Debug)]
pub(crate) struct Session {
    /// Environment that is passed to the libraries: variables, home directory and working directory.
    pub(crate) environment: Environment,
    /// Environment for the child processes: cargo, rustc and git.
    pub(crate) cargo: cargo::CargoEnvironment,
    /// Defaults from the user's `oci.toml`.
    pub(crate) defaults: Defaults,
    /// Reporter that writes to stdout and stderr.
    pub(crate) reporter: Reporter,
    /// Maximum number of parallel transfers.
    pub(crate) concurrency: usize,
    options: ClientOptions,
    client: Client,
}

impl Session {
    /// Creates a session with a client that uses the connection settings in the flags and in `oci.toml`.
    pub(crate) fn new(
        flags: &CommonOptions,
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
        let noted_repositories = Mutex::new(HashSet::new());
        options.observer = Observer::new(move |event| match event {
            ClientEvent::Request { .. } => {
                if reporter.is_verbose() {
                    reporter.status("Request", event);
                }
            }
            ClientEvent::OmittedNames(omitted) => {
                // The note is printed once per repository, even if a command lists the repository several times.
                let mut noted_repositories = noted_repositories
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if noted_repositories.insert(omitted.location().to_owned()) {
                    reporter.note(omitted);
                }
            }
            ClientEvent::Retry(retry) => reporter.warn(retry),
            _ => reporter.note(event),
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

    /// Cancels uploads that are still open at registries.
    pub(crate) async fn cancel(&self) {
        self.client.cancel_uploads().await;
    }

    /// Opens a registry with these credentials instead of the user's credential sources.
    pub(crate) fn open_registry_with(
        &self,
        name: &RegistryName,
        credentials: impl CredentialProvider + 'static,
    ) -> Result<oci_registry::Registry, Error> {
        let mut options = self.options.clone();
        options.credentials = Arc::new(credentials);
        Ok(Client::new(options).registry(name)?)
    }

    /// Reports the reference of a result. This is the last output about the result.
    pub(crate) fn report_finished(
        &self,
        reference: &Location,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> Result<(), Error> {
        let stats = self.client.transfer_stats();
        self.reporter
            .report_finished(&[reference.to_string()], digest, index, None, stats)
    }

    /// Reports the references of a published package. This is the last output about the package.
    pub(crate) fn report_published(
        &self,
        references: &[String],
        digest: &Digest,
        index: Option<&Digest>,
        targets: &[FinishedTarget],
    ) -> Result<(), Error> {
        let stats = self.client.transfer_stats();
        self.reporter
            .report_finished(references, digest, index, Some(targets), stats)
    }

    /// Opens a registry with credentials from the user's credential sources.
    pub(crate) fn open_registry(
        &self,
        name: &RegistryName,
    ) -> Result<oci_registry::Registry, Error> {
        Ok(self.client.registry(name)?)
    }

    /// Parses a location to read from. For a layout or an archive, existing files determine where the path ends and the
    /// tag begins.
    pub(crate) async fn locate(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate(self.environment.current_dir()).await?)
    }

    /// Parses a location to delete. For a layout, existing files determine where the path ends and the tag begins.
    pub(crate) async fn locate_deletable(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written
            .locate_deletable(self.environment.current_dir())
            .await?)
    }

    /// Parses a location to write to. The location does not need to exist.
    pub(crate) fn locate_target(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate_target(self.environment.current_dir())?)
    }

    /// Opens a location to read from.
    pub(crate) async fn open_source(&self, location: &Location) -> Result<Arc<dyn Source>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_source(location, base).await?)
    }

    /// Opens a location to write to.
    pub(crate) async fn open_target(
        &self,
        location: &Location,
        mode: Mode,
    ) -> Result<Arc<dyn Target>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_target(location, base, mode).await?)
    }

    /// Opens a location to delete from.
    pub(crate) async fn open_delete_target(
        &self,
        location: &Location,
    ) -> Result<Arc<dyn Delete>, Error> {
        let base = self.environment.current_dir();
        let opened = self.client.open_deletable(location, base).await?;
        opened.ok_or_else(|| {
            let repository = location.whole_repository();
            Error::usage(format!(
                "failed to delete from `{repository}`: an archive cannot be changed"
            ))
            .help("copy the artifacts that you want to keep to a new archive")
        })
    }

    /// Resolves a path relative to the working directory. An absolute path is returned unchanged.
    pub(crate) fn resolve(&self, path: &std::path::Path) -> PathBuf {
        self.environment.resolve(path)
    }
}
