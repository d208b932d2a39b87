//! `oci config`: shows the config blob of a manifest.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
};
use oci_registry::{ErrorKind, Location, LocationText};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::report::ToLabeledError;
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::settings::ConnectionSettings;
use crate::{json, report, value};

/// Maximum size of a config that is read, in bytes. Manifests have the same limit.
const MAX_CONFIG: usize = 4 << 20;

/// The `oci config` command.
pub(crate) struct ConfigCommand;

impl PluginCommand for ConfigCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci config"
    }

    fn signature(&self) -> Signature {
        let one = Type::one_of([Type::record(), Type::String]);
        let list = Type::one_of([Type::table(), Type::list(Type::String)]);
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .switch("raw", "Return the exact bytes as a string", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show the config of an artifact."
    }

    fn extra_description(&self) -> &'static str {
        "Shows the JSON document of the config unchanged. The config of an image states its entrypoint, environment \
         and creation date; the config of a cargo package states its source and compiler.\n\n\
         For an index, the config of the manifest for this machine is shown, unless --target or --platform select \
         another manifest. Without tag and digest, the highest release of the repository is used."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["labels", "entrypoint", "environment", "inspect"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci config ghcr.io/acme/widgets:1.2.3 | get rustc",
                description: "Show the compiler that built a release",
                result: None,
            },
            Example {
                example: "oci config docker.io/library/nginx:latest --platform linux/arm64 | get config.Env",
                description: "Show the environment variables of an image",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let resolver = context.selecting_resolver()?.for_machine();
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        context.map_values(operands, resolver, move |resolver, operand| async move {
            let operand = resolver.locate(operand).await?;
            show_config(&resolver.resolve(&operand).await?, &operand, is_raw, span).await
        })
    }
}

async fn show_config(
    found: &ResolvedManifest,
    operand: &Operand<Location>,
    is_raw: bool,
    span: Span,
) -> Result<Value, LabeledError> {
    let ResolvedManifest {
        location, manifest, ..
    } = found;
    let at = operand.span;
    let name = location.reference(manifest.digest().clone());
    let Some(image) = manifest.as_image() else {
        let message = format!("failed to find the config of `{name}`: it is not an image manifest");
        return Err(report::not_found(message, "has no config", at));
    };
    let blob = location.content().blob(&image.config).await;
    let blob = blob.map_err(|error| error.at(at))?;
    let bytes = blob.read_to_end(MAX_CONFIG).await;
    let bytes = bytes.map_err(|error| error.at(at))?;
    if is_raw {
        return Ok(value::document(&bytes, span));
    }
    json::read(&bytes, span).map_err(|error| {
        let message = format!("failed to read the config of `{name}`");
        report::new(
            ErrorKind::Protocol,
            message,
            "has a config that is not JSON",
            at,
        )
        .with_inner(LabeledError::new(error.to_string()))
        .with_help("pass --raw to show the bytes of the config")
    })
}
