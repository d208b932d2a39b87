//! `oci`: shows the help of the command group.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand, SimplePluginCommand};
use nu_protocol::{Category, LabeledError, Signature, Type, Value};

use crate::OciPlugin;
use crate::completion::completes;

/// The `oci` command, the parent of all other commands.
pub(crate) struct OciCommand;

impl SimplePluginCommand for OciCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci"
    }

    fn signature(&self) -> Signature {
        Signature::build(PluginCommand::name(self))
            .input_output_types(vec![(Type::Nothing, Type::String)])
            .category(Category::Network)
    }

    fn description(&self) -> &'static str {
        "Commands for OCI registries, OCI layouts and archives."
    }

    fn extra_description(&self) -> &'static str {
        "You must use one of the following subcommands. Using this command as-is will only produce this help message."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&[])
    }

    completes!(|_| None);

    fn run(
        &self,
        _plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        _input: &Value,
    ) -> Result<Value, LabeledError> {
        Ok(Value::string(engine.get_help()?, call.head))
    }
}
