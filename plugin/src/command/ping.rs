//! `oci ping`: checks whether a registry is reachable and which credential it accepts.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Category, Example, LabeledError, PipelineData, Signature, SyntaxShape};
use oci_registry::RegistryName;

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::report::ToLabeledError;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci ping` command.
pub(crate) struct PingCommand;

impl PluginCommand for PingCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci ping"
    }

    fn signature(&self) -> Signature {
        let columns = value::ping_columns;
        let (one, list) = (value::record(columns()), value::table(columns()));
        let signature = Signature::build(self.name())
            .optional(
                "registry",
                SyntaxShape::String,
                "The registry, as `HOST[:PORT]`",
            )
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Check that a registry is reachable, and show which credential it accepts."
    }

    fn extra_description(&self) -> &'static str {
        "`access` is `authenticated` if the registry accepted a credential, `anonymous` if it accepts requests without \
         a credential, and `login required` if it requires a credential and none was found. `credential_source` names \
         the source of the accepted credential. A rejected credential is an error. `rate_limit` is the rate limit that \
         the response states, or null; Docker Hub states it only for manifests. `latency` is the duration of one \
         request, without connection setup and authentication."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["login", "whoami", "credential", "authentication", "latency"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci ping ghcr.io",
                description: "Show which credential is used for a registry",
                result: None,
            },
            Example {
                example: "[ghcr.io quay.io registry.acme.dev] | oci ping | sort-by latency",
                description: "Compare the latency of registries",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Registry));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<RegistryName>(input)?;
        let (client, span) = (context.client(), context.span());
        context.map_values(operands, client, move |client, operand| async move {
            let at = operand.span;
            let registry = client.registry(&operand.name);
            let registry = registry.map_err(|error| error.at(at))?;
            let response = registry.ping().await.map_err(|error| error.at(at))?;
            Ok(value::ping(&operand.name, response, span))
        })
    }
}
