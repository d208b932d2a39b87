//! `oci index`: shows the JSON document of an index.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
};
use oci_registry::{ErrorKind, Location, LocationText};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::resolver::ResolvedManifest;
use crate::settings::ConnectionSettings;
use crate::{json, report, value};

/// The `oci index` command.
pub(crate) struct IndexCommand;

impl PluginCommand for IndexCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci index"
    }

    fn signature(&self) -> Signature {
        let one = Type::one_of([Type::record(), Type::String]);
        let list = Type::one_of([Type::table(), Type::list(Type::String)]);
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .switch("raw", "Return the exact bytes as a string", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Show the JSON document of an index."
    }

    fn extra_description(&self) -> &'static str {
        "Shows the document unchanged, with the field names of the OCI image specification: `schemaVersion`, \
         `mediaType`, `manifests` and so on. A reference to a manifest that is not an index is an error. `oci \
         manifest` shows manifests and indexes with a fixed set of columns."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["manifest list", "platforms", "multi-arch"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci index ghcr.io/acme/widgets:1.2.3",
                description: "Show the index of a release",
                result: None,
            },
            Example {
                example: "oci index ghcr.io/acme/widgets:1.2.3 | get manifests.platform.architecture | uniq",
                description: "List the architectures of a release",
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
        let resolver = context.resolver();
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        context.map_values(operands, resolver, move |resolver, operand| async move {
            let operand = resolver.locate(operand).await?;
            show_index(&resolver.resolve(&operand).await?, &operand, is_raw, span)
        })
    }
}

fn show_index(
    found: &ResolvedManifest,
    operand: &Operand<Location>,
    is_raw: bool,
    span: Span,
) -> Result<Value, LabeledError> {
    let ResolvedManifest {
        location, manifest, ..
    } = found;
    let name = location.reference(manifest.digest().clone());
    if manifest.as_index().is_none() {
        let message = format!("failed to show the index `{name}`: it is a manifest");
        return Err(report::invalid(message, "is not an index", operand.span)
            .with_help(format!("run `oci manifest {name}` to show it")));
    }
    if is_raw {
        return Ok(value::document(manifest.bytes(), span));
    }
    json::read(manifest.bytes(), span).map_err(|error| {
        report::new(
            ErrorKind::Protocol,
            format!("failed to read the index `{name}`"),
            "is not valid JSON",
            operand.span,
        )
        .with_inner(LabeledError::new(error.to_string()))
    })
}
