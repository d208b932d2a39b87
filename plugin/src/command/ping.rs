//! `oci ping`: whether a registry is there, and as whom it knows us.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, SyntaxShape, Value, record,
};
use oci_registry::RegistryName;

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::report::Report;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Asks registries whether they are there.
pub(crate) struct Ping;

impl PluginCommand for Ping {
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
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Ask whether a registry is there, and as whom it knows you."
    }

    fn extra_description(&self) -> &'static str {
        "`authenticated` says whether the registry took a credential, and `credential_source` where that was found. A \
         registry that demands a credential where there is none is there all the same; one that refuses the credential is \
         an error. `latency` is the time of one request, with everything set up."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["login", "whoami", "credential", "authentication", "latency"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci ping ghcr.io",
                description: "Find out which credential is used for a registry",
                result: None,
            },
            Example {
                example: "[ghcr.io quay.io registry.acme.dev] | oci ping | sort-by latency",
                description: "Compare registries",
                result: None,
            },
        ]
    }

    completes!(|_| Some(Kind::Registry));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<RegistryName>(input)?;
        let (client, span) = (session.client(), session.span());
        session.values(asked, client, move |client, asked| async move {
            let at = asked.span;
            let registry = client.registry(&asked.name);
            let registry = registry.map_err(|error| error.at(at))?;
            let pong = registry.ping().await.map_err(|error| error.at(at))?;
            let source = pong.credential_source;
            let latency = i64::try_from(pong.latency.as_nanos()).unwrap_or(i64::MAX);
            let row = record! {
                "reference" => Value::string(asked.name.as_str(), span),
                "authenticated" => Value::bool(source.is_some(), span),
                "credential_source" => value::text(source, span),
                "latency" => Value::duration(latency, span),
            };
            Ok(Value::record(row, span))
        })
    }
}
