//! State of one command call.
//!
//! Provides the steps that all commands share: reading the settings, opening a client, reading the operands and
//! processing each operand. Each call requests the environment of the shell from the engine once.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, PipelineData, Span, Value};
use oci_registry::{Cache, Client};

use crate::OciPlugin;
use crate::connection::ShellContext;
use crate::input::{Operand, Operands};
use crate::report;
use crate::resolver::OperandResolver;
use crate::runtime::Rows;
use crate::settings::ConnectionSettings;

/// One command call, with its settings and the environment of the shell.
pub(crate) struct CallContext<'a> {
    plugin: &'a OciPlugin,
    engine: &'a EngineInterface,
    call: &'a EvaluatedCall,
    settings: ConnectionSettings,
    shell: ShellContext,
}

impl<'a> CallContext<'a> {
    /// Reads the settings and the environment of a call.
    pub(crate) fn open(
        plugin: &'a OciPlugin,
        engine: &'a EngineInterface,
        call: &'a EvaluatedCall,
    ) -> Result<Self, LabeledError> {
        let settings = ConnectionSettings::read(engine, call)?;
        let shell = ShellContext::read(engine, &settings)?;
        Ok(Self {
            plugin,
            engine,
            call,
            settings,
            shell,
        })
    }

    /// Returns the span of the command name.
    pub(crate) fn span(&self) -> Span {
        self.call.head
    }

    /// Returns the maximum number of concurrent requests.
    pub(crate) fn concurrency(&self) -> usize {
        self.settings.concurrency
    }

    /// Reads the operands from the positional arguments, or from the pipeline if there are no arguments.
    pub(crate) fn operands<T>(&self, input: PipelineData) -> Result<Operands<T>, LabeledError>
    where
        T: FromStr<Err = oci_registry::Error> + Send + 'static,
    {
        self.operands_from(&self.call.positional, input)
    }

    /// Reads the operands from `arguments`, or from the pipeline if `arguments` is empty.
    pub(crate) fn operands_from<T>(
        &self,
        arguments: &[Value],
        input: PipelineData,
    ) -> Result<Operands<T>, LabeledError>
    where
        T: FromStr<Err = oci_registry::Error> + Send + 'static,
    {
        Operands::read(self.engine, self.call.head, arguments, input)
    }

    /// Returns a client. If the environment did not change, the client has the connections and tokens of earlier calls.
    pub(crate) fn client(&self) -> Client {
        let client = self.plugin.clients.client(&self.shell);
        // The observer is not part of the shared client: a warning during completion would corrupt the command line.
        client.with_observer(report::observer())
    }

    /// Returns the user's cache of registry content, or `None` if there is no home directory.
    pub(crate) fn cache(&self) -> Option<Cache> {
        self.shell.cache()
    }

    /// Returns the working directory of the shell.
    pub(crate) fn current_dir(&self) -> &Path {
        self.shell.current_dir()
    }

    /// Resolves a path against the working directory of the shell.
    pub(crate) fn resolve_path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.current_dir().join(path)
    }

    /// Returns a resolver that does not select a manifest from an index.
    pub(crate) fn resolver(&self) -> OperandResolver {
        OperandResolver::new(self.client(), self.current_dir()).with_engine(self.engine)
    }

    /// Returns a resolver that selects a manifest from an index if `--target` or `--platform` is given.
    pub(crate) fn selecting_resolver(&self) -> Result<OperandResolver, LabeledError> {
        self.resolver().with_selection(self.call)
    }

    /// Processes the operands concurrently. Returns one value for a single operand, or a list of values for a list of
    /// operands.
    pub(crate) fn map_values<S, T, F>(
        self,
        operands: Operands<T>,
        state: S,
        work: impl Fn(Arc<S>, Operand<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Value, LabeledError>> + Send + 'static,
    {
        let (concurrency, work) = (self.concurrency(), with_state(state, work));
        let runtime = &self.plugin.runtime;
        runtime.map_values(self.engine, self.call.head, operands, concurrency, work)
    }

    /// Processes the operands concurrently. Returns one table with the rows of all operands.
    pub(crate) fn map_rows<S, T, F>(
        self,
        operands: Operands<T>,
        state: S,
        work: impl Fn(Arc<S>, Operand<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let (concurrency, work) = (self.concurrency(), with_state(state, work));
        let runtime = &self.plugin.runtime;
        runtime.map_tables(self.engine, self.call.head, operands, concurrency, work)
    }

    /// Processes the operands one after another. Returns one table with the rows of all operands.
    ///
    /// Used by commands that change content. If such a command fails or is interrupted, all earlier operands are
    /// completely processed.
    pub(crate) fn map_rows_sequentially<S, T, F>(
        self,
        operands: Operands<T>,
        state: S,
        work: impl Fn(Arc<S>, Operand<T>) -> F + Send + 'static,
    ) -> Result<PipelineData, LabeledError>
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
        F: Future<Output = Result<Rows, LabeledError>> + Send + 'static,
    {
        let runtime = &self.plugin.runtime;
        let work = with_state(state, work);
        runtime.map_tables(self.engine, self.call.head, operands, 1, work)
    }
}

/// Wraps `work` so that every call receives the shared state.
fn with_state<S, T, F>(
    state: S,
    work: impl Fn(Arc<S>, Operand<T>) -> F,
) -> impl Fn(Operand<T>) -> F {
    let state = Arc::new(state);
    move |operand| work(Arc::clone(&state), operand)
}
