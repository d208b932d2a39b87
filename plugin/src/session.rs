//! A call of a command, opened.
//!
//! Owns what every command begins with and ends in: how registries are reached, what is asked about, and what is done with
//! each of it. The engine is asked for the shell's surroundings once.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, PipelineData, Span, Value};
use oci_registry::{Cache, Client};

use crate::OciPlugin;
use crate::connection::Surroundings;
use crate::input::{Asked, Subject};
use crate::lookup::Lookup;
use crate::report;
use crate::runtime::Rows;
use crate::settings::Settings;

/// A call of a command, with what its flags, the shell's configuration and the shell's surroundings say.
pub(crate) struct Session<'a> {
    plugin: &'a OciPlugin,
    engine: &'a EngineInterface,
    call: &'a EvaluatedCall,
    settings: Settings,
    surroundings: Surroundings,
}

impl<'a> Session<'a> {
    /// Opens a call.
    pub(crate) fn open(
        plugin: &'a OciPlugin,
        engine: &'a EngineInterface,
        call: &'a EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        let settings = Settings::read(engine, call)?;
        let surroundings = Surroundings::read(engine, &settings)?;
        Ok(Self {
            plugin,
            engine,
            call,
            settings,
            surroundings,
        })
    }

    /// The command as it was written.
    pub(crate) fn span(&self) -> Span {
        self.call.head
    }

    /// How many requests may be under way at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.settings.concurrency
    }

    /// What is asked about: the arguments, else the input.
    pub(crate) fn asked<T>(&self, input: PipelineData) -> Result<Asked<T>, LabeledError>
    where
        T: FromStr<Err = oci_registry::Error> + Send + 'static,
    {
        self.asked_by(&self.call.positional, input)
    }

    /// What is asked about: these arguments, else the input.
    pub(crate) fn asked_by<T>(
        &self,
        arguments: &[Value],
        input: PipelineData,
    ) -> Result<Asked<T>, LabeledError>
    where
        T: FromStr<Err = oci_registry::Error> + Send + 'static,
    {
        Asked::read(self.engine, self.call.head, arguments, input)
    }

    /// A client with the connections and tokens of the calls before.
    pub(crate) fn client(&self) -> Client {
        let client = self.plugin.connections.client(&self.surroundings);
        // Not for completions, which share the client: there a note would disturb the command line that is typed.
        client.with_list_observer(report::list_observer())
    }

    /// What was read from registries before, by whoever has this home directory.
    pub(crate) fn cache(&self) -> Option<Cache> {
        self.surroundings.cache()
    }

    /// Where relative paths are meant from.
    pub(crate) fn current_dir(&self) -> &Path {
        self.surroundings.current_dir()
    }

    /// What a path means from there.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        self.current_dir().join(path)
    }

    /// A way to manifests that takes an index as it is.
    pub(crate) fn lookup(&self) -> Lookup {
        Lookup::new(self.client(), self.current_dir()).pointing(self.engine)
    }

    /// A way to manifests that chooses in an index what the flags ask for, if they do.
    pub(crate) fn choosing_lookup(&self) -> Result<Lookup, LabeledError> {
        self.lookup().choosing(self.call)
    }

    /// One value for one thing, and a list of values for a list of things, several of which are worked on at once.
    pub(crate) fn values<S, T, F>(
        self,
        asked: Asked<T>,
        state: S,
        work: impl Fn(Arc<S>, Subject<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Value, LabeledError>> + Send + 'static,
    {
        let (at_once, work) = (self.concurrency(), shared(state, work));
        let runtime = &self.plugin.runtime;
        runtime.each(self.engine, self.call.head, asked, at_once, work)
    }

    /// One table of the rows of all things, several of which are worked on at once.
    pub(crate) fn rows<S, T, F>(
        self,
        asked: Asked<T>,
        state: S,
        work: impl Fn(Arc<S>, Subject<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let (at_once, work) = (self.concurrency(), shared(state, work));
        let runtime = &self.plugin.runtime;
        runtime.each_table(self.engine, self.call.head, asked, at_once, work)
    }

    /// The same, of things that are worked on one after another: what is stopped half-way has done the first half.
    pub(crate) fn rows_in_turn<S, T, F>(
        self,
        asked: Asked<T>,
        state: S,
        work: impl Fn(Arc<S>, Subject<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let runtime = &self.plugin.runtime;
        let work = shared(state, work);
        runtime.each_table(self.engine, self.call.head, asked, 1, work)
    }
}

/// Work with what all of it has in common.
fn shared<S, T, F>(state: S, work: impl Fn(Arc<S>, Subject<T>) -> F) -> impl Fn(Subject<T>) -> F {
    let state = Arc::new(state);
    move |asked| work(Arc::clone(&state), asked)
}
