//! One run of the program: its surroundings, its way to registries, and its end.
//!
//! The only place that reads the process environment. Ctrl-C, or being told to end, drops whatever is under way: half files go with their
//! directories, children are ended.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use oci_registry::{
    Access, Archive, Client, ClientOptions, CredentialProvider, Delete, Digest, Environment,
    Layout, Location, Memory, Observer, Optional, RegistryName, Source, Step, Target,
};

use crate::cargo;
use crate::cli::{Cli, Command};
use crate::command;
use crate::defaults::Defaults;
use crate::report::{self, Error, Reporter};

/// Runs the command that was asked for, and says how it ended.
pub(crate) fn main(cli: Cli) -> ExitCode {
    let environment = match environment() {
        Ok(environment) => environment,
        Err(error) => return report::fail(&error),
    };
    let reporter = Reporter::new(&cli.global, cli.command.message_format(), &environment);
    match run(cli, environment, reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => reporter.fail(&error),
    }
}

/// What the core may know of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment enters"
)]
fn environment() -> Result<Environment, Error> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let variables = std::env::vars_os().filter_map(text);
    let directory = std::env::current_dir()?;
    Ok(Environment::new(variables, std::env::home_dir(), directory))
}

/// How long registries are given to hear that an upload is over.
const FAREWELL: Duration = Duration::from_secs(2);

fn run(cli: Cli, environment: Environment, reporter: Reporter) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let session = Session::of_process(&cli, environment, reporter)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = dispatch(&session, cli.command) => outcome,
            signal = interruption() => {
                let cancelled = tokio::time::timeout(FAREWELL, session.client.cancel_uploads());
                // Whoever asks twice means it.
                tokio::select! {
                    _ = cancelled => {}
                    _ = interruption() => {}
                }
                Err(Error::interrupted(signal))
            }
        }
    });
    // What is still computing in the background has nobody left to report to.
    runtime.shutdown_background();
    outcome
}

/// Waits until this process is asked to stop, and says by which signal.
#[cfg(unix)]
async fn interruption() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let asked = async |kind: SignalKind| match signal(kind) {
        Ok(mut asked) => {
            asked.recv().await;
        }
        // Without a handler the system ends the process, which is as well.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = asked(SignalKind::interrupt()) => 2,
        () = asked(SignalKind::terminate()) => 15,
        () = asked(SignalKind::hangup()) => 1,
    }
}

/// Waits until this process is asked to stop, and says by which signal.
#[cfg(not(unix))]
async fn interruption() -> u8 {
    match tokio::signal::ctrl_c().await {
        Ok(()) => 2,
        Err(_) => std::future::pending().await,
    }
}

async fn dispatch(session: &Session, command: Command) -> Result<(), Error> {
    match command {
        Command::Push(flags) => command::push::run(session, *flags).await,
        Command::Pull(flags) => command::pull::run(session, flags).await,
        Command::Tags(flags) => command::tags::run(session, flags).await,
        Command::Catalog(flags) => command::catalog::run(session, flags).await,
        Command::Inspect(flags) => command::inspect::run(session, flags).await,
        Command::Manifest(flags) => command::manifest::run(session, flags).await,
        Command::Config(flags) => command::config::run(session, flags).await,
        Command::Blob(flags) => command::blob::run(session, flags).await,
        Command::Copy(flags) => command::copy::run(session, flags).await,
        Command::Tag(flags) => command::tag::run(session, flags).await,
        Command::Delete(flags) => command::delete::run(session, flags).await,
        Command::Index(flags) => command::index::run(session, flags).await,
        Command::Attach(flags) => command::attach::run(session, flags).await,
        Command::Referrers(flags) => command::referrers::run(session, flags).await,
        Command::Verify(flags) => command::verify::run(session, flags).await,
        Command::Export(flags) => command::export::run(session, flags).await,
        Command::Init(flags) => command::init::run(session, flags).await,
        Command::Install(flags) => command::install::run(session, flags).await,
        Command::Uninstall(flags) => command::uninstall::run(session, flags).await,
        Command::Login(flags) => command::login::run(session, flags).await,
        Command::Logout(flags) => command::logout::run(session, flags).await,
        Command::Whoami(flags) => command::whoami::run(session, flags).await,
        Command::Completions(flags) => command::completions::run(&flags),
        Command::Man(flags) => command::man::run(session, flags),
    }
}

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
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the environment enters"
    )]
    fn of_process(cli: &Cli, environment: Environment, reporter: Reporter) -> Result<Self, Error> {
        let directory = environment.current_dir().to_owned();
        let cargo = cargo::Environment::new(directory, std::env::vars_os());
        let defaults = if cli.command.reads_defaults() {
            Defaults::of_user(&cargo)?
        } else {
            Defaults::default()
        };
        let mut options = ClientOptions::new(environment.clone());
        options.plain_http = cli.global.plain_http;
        options.attempts = cli.global.retries.saturating_add(1);
        options.resolve.clone_from(&cli.global.resolve);
        options.registries = defaults.connections(&cli.global);
        options.ca_file = cli
            .global
            .ca_file
            .as_ref()
            .map(|path| environment.resolve(path));
        let identity = cli
            .global
            .cert_file
            .as_ref()
            .zip(cli.global.key_file.as_ref());
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
        Ok(Self {
            environment,
            cargo,
            defaults,
            reporter,
            concurrency: cli.global.concurrency,
            client: Client::new(options.clone()),
            options,
        })
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
