//! What all verbs share: the user's surroundings, and the way to registries, directories and archives.

use std::path::PathBuf;
use std::sync::Arc;

use oci_registry::{
    Access, Archive, Client, ClientOptions, CredentialProvider, Delete, Digest, Environment,
    Layout, Location, Memory, Observer, Optional, RegistryName, Source, Step, Target,
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

    /// A place to read from.
    pub(crate) async fn source(&self, location: &Location) -> Result<Arc<dyn Source>, Error> {
        Ok(match location {
            Location::Registry(reference) => {
                Arc::new(self.client.repository(reference, Access::Pull)?)
            }
            Location::Layout { directory, .. } => {
                Arc::new(Layout::open(self.resolve(directory)).await?)
            }
            Location::Archive { file, format, .. } => {
                Arc::new(Archive::open(self.resolve(file), format.clone()).await?)
            }
        })
    }

    /// A place to look at as if it were written to: a directory that is not there is as good as empty, and is not made.
    pub(crate) async fn prospective_target(
        &self,
        location: &Location,
    ) -> Result<Arc<dyn Target>, Error> {
        match location {
            // Nothing is written to either of them before something is pushed.
            Location::Registry(_) | Location::Archive { .. } => self.target(location).await,
            Location::Layout { directory, .. } => Ok(
                match Layout::open(self.resolve(directory)).await.optional()? {
                    Some(layout) => Arc::new(layout),
                    None => Arc::new(Memory::new()),
                },
            ),
        }
    }

    /// A place to write to; a directory is made when it is not there.
    pub(crate) async fn target(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        Ok(match location {
            Location::Registry(reference) => {
                Arc::new(self.client.repository(reference, Access::Push)?)
            }
            Location::Layout { directory, .. } => {
                Arc::new(Layout::create(self.resolve(directory)).await?)
            }
            Location::Archive { file, format, .. } => {
                Arc::new(Archive::create(self.resolve(file), format.clone()).await?)
            }
        })
    }

    /// A place to copy to: as [`Session::target`], but an archive is written when everything is there, and only once.
    pub(crate) async fn gathering(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        match location {
            Location::Archive { file, format, .. } => {
                let archive = Archive::create(self.resolve(file), format.clone()).await?;
                Ok(Arc::new(archive.written_once()))
            }
            _ => self.target(location).await,
        }
    }

    /// A place to change that must be there already; nothing is made.
    pub(crate) async fn existing(&self, location: &Location) -> Result<Arc<dyn Target>, Error> {
        Ok(match location {
            Location::Registry(_) => self.target(location).await?,
            Location::Layout { directory, .. } => {
                Arc::new(Layout::open(self.resolve(directory)).await?)
            }
            Location::Archive { file, format, .. } => {
                Arc::new(Archive::open(self.resolve(file), format.clone()).await?)
            }
        })
    }

    /// A place to take content away from.
    pub(crate) async fn deletable(&self, location: &Location) -> Result<Arc<dyn Delete>, Error> {
        Ok(match location {
            Location::Registry(reference) => {
                Arc::new(self.client.repository(reference, Access::Push)?)
            }
            Location::Layout { directory, .. } => {
                Arc::new(Layout::open(self.resolve(directory)).await?)
            }
            Location::Archive { .. } => {
                let place = location.whole_repository();
                return Err(Error::usage(format!(
                    "failed to take anything away from `{place}`: an archive is written as a whole"
                ))
                .help("copy what is to stay into another archive"));
            }
        })
    }

    /// What a path means from the working directory.
    pub(crate) fn resolve(&self, path: &std::path::Path) -> PathBuf {
        self.environment.resolve(path)
    }
}
