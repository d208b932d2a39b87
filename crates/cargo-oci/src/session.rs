//! What all verbs share: the user's surroundings, and the way to registries, directories and archives.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci_registry::{
    Client, ClientOptions, CredentialProvider, Delete, Digest, Environment, Location, LocationText,
    Memory, Observer, Optional, RegistryName, Source, Step, Target,
};

use crate::cargo;
use crate::defaults::Defaults;
use crate::options::Global;
use crate::report::{Error, Reporter};

/// What all commands share.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the core may know of this process.
    pub(crate) environment: Environment,
    /// What cargo, rustc and git may know of it.
    pub(crate) cargo: cargo::Environment,
    /// What the user says for all projects.
    pub(crate) defaults: Defaults,
    /// The way to the user.
    pub(crate) reporter: Reporter,
    /// How many things move at the same time.
    pub(crate) concurrency: usize,
    options: ClientOptions,
    client: Client,
}

impl Session {
    /// A session in these surroundings.
    pub(crate) fn new(
        flags: &Global,
        environment: Environment,
        cargo: cargo::Environment,
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
        options.observer = Observer::new(move |step| match step {
            Step::Request {
                method,
                url,
                status,
                ..
            } if reporter.is_verbose() => {
                let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                reporter.status("Request", format_args!("{method} {url} {status}"));
            }
            Step::Warning { from, text } => {
                reporter.note(format_args!("`{from}` says: {text}"));
            }
            Step::Ignored { from, what } => {
                reporter.note(format_args!("ignored what `{from}` asks for: {what}"));
            }
            Step::OmittedNames(omitted) => {
                // A command may list the same place several times.
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                if noted.insert(omitted.place().to_owned()) {
                    reporter.note(omitted);
                }
            }
            Step::Credential { problem } => reporter.note(problem),
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

    /// Lets registries know that nothing more comes of what is on its way to them.
    pub(crate) async fn cancel(&self) {
        self.client.cancel_uploads().await;
    }

    /// One registry, asked with these credentials and no others.
    pub(crate) fn registry_as(
        &self,
        name: &RegistryName,
        credentials: impl CredentialProvider + 'static,
    ) -> Result<oci_registry::Registry, Error> {
        let mut options = self.options.clone();
        options.credentials = Arc::new(credentials);
        Ok(Client::new(options).registry(name)?)
    }

    /// The last thing that a command says of what it has made or got: its name.
    pub(crate) fn finished(
        &self,
        reference: &Location,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> Result<(), Error> {
        let traffic = self.client.traffic();
        self.reporter
            .finished(reference.to_string(), digest, index, traffic)
    }

    /// One registry.
    pub(crate) fn registry(&self, name: &RegistryName) -> Result<oci_registry::Registry, Error> {
        Ok(self.client.registry(name)?)
    }

    /// Separates the path and the name of a location that is read.
    pub(crate) async fn locate(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate(self.environment.current_dir()).await?)
    }

    /// Separates the path and the name of a location that is written to.
    pub(crate) fn locate_target(&self, written: &LocationText) -> Result<Location, Error> {
        Ok(written.locate_target(self.environment.current_dir())?)
    }

    /// A place to read from.
    pub(crate) async fn source(&self, location: &Location) -> Result<Arc<dyn Source>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_source(location, base).await?)
    }

    /// A place to be read as if it were written to: a directory that does not exist is as good as empty, and is not
    /// created.
    pub(crate) async fn prospective_target(
        &self,
        location: &Location,
    ) -> Result<Arc<dyn Target>, Error> {
        match location {
            // Nothing is written to either of them before something is pushed.
            Location::Registry(_) | Location::Archive { .. } => self.target(location).await,
            Location::Layout { .. } => {
                let base = self.environment.current_dir();
                let layout = self.client.open_existing(location, base).await.optional()?;
                Ok(layout.unwrap_or_else(|| Arc::new(Memory::new())))
            }
        }
    }

    /// A place to write to; a directory is created when it does not exist.
    pub(crate) async fn target(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_target(location, base).await?)
    }

    /// A place to copy to: as [`Session::target`], but an archive is written when everything is there, and only once.
    pub(crate) async fn gathering(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_gathering(location, base).await?)
    }

    /// A place to change that must exist; nothing is created.
    pub(crate) async fn existing(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        let base = self.environment.current_dir();
        Ok(self.client.open_existing(location, base).await?)
    }

    /// A place to delete from.
    pub(crate) async fn deletable(&self, location: &Location) -> Result<Arc<dyn Delete>, Error> {
        let base = self.environment.current_dir();
        let opened = self.client.open_deletable(location, base).await?;
        opened.ok_or_else(|| {
            let place = location.whole_repository();
            Error::usage(format!(
                "failed to take anything away from `{place}`: an archive is written as a whole"
            ))
            .help("copy what is to stay into another archive")
        })
    }

    /// What a path means from the working directory.
    pub(crate) fn resolve(&self, path: &std::path::Path) -> PathBuf {
        self.environment.resolve(path)
    }
}
