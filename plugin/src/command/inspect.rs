//! `oci inspect`: shows the metadata and targets of a release.

use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_registry::{Cache, LocationText};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::report::ToLabeledError;
use crate::resolver::OperandResolver;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci inspect` command.
pub(crate) struct InspectCommand;

impl PluginCommand for InspectCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci inspect"
    }

    fn signature(&self) -> Signature {
        let columns = value::release_columns;
        let (one, list) = (value::record(columns()), value::table(columns()));
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show the metadata and targets of a release."
    }

    fn extra_description(&self) -> &'static str {
        "The values are read from the annotations or, if these are missing, from the labels of the image. `targets` \
         has one row per manifest of an index, or a single row for a manifest: its `target`, `platform` and `size`, \
         its `reference` and `digest`, and the lowest `glibc` version that it runs with. If the tag, index, manifest \
         and config of a package contradict each other, `conflicts` lists the differences. If a target was built \
         from a work tree with uncommitted changes, `dirty` is true. Without tag and digest, the \
         highest release of the repository is used."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["release", "version", "license", "labels", "show"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci inspect ghcr.io/acme/widgets",
                description: "Show the highest release",
                result: None,
            },
            Example {
                example: "oci inspect ghcr.io/acme/widgets:1.2.3 | get targets | where platform =~ 'linux'",
                description: "List the Linux targets of a release",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets | oci inspect | select version revision created",
                description: "List the commits that the releases were built from",
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
        let inspect_call = InspectCall {
            cache: context.cache(),
            resolver: context.selecting_resolver()?.with_machine_fallback(),
            span: call.head,
        };
        context.map_values(operands, inspect_call, InspectCall::show)
    }
}

/// State of one call of `oci inspect`.
struct InspectCall {
    resolver: OperandResolver,
    cache: Option<Cache>,
    span: Span,
}

impl InspectCall {
    async fn show(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Value, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let found = self.resolver.resolve(&operand).await?;
        let source = found.location.with_cache(self.cache.as_ref());
        let origin = found.origin(&operand);
        let inspection = oci_package::inspect(&source, origin, &found.manifest).await;
        let inspection = inspection.map_err(|error| error.at(operand.span))?;
        Ok(value::release(&found.location, &inspection, self.span))
    }
}
