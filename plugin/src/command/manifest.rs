//! `oci manifest`: shows a manifest or an index.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Category, Example, LabeledError, PipelineData, Signature, SyntaxShape, Type};
use oci_registry::LocationText;

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci manifest` command.
pub(crate) struct ManifestCommand;

impl PluginCommand for ManifestCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci manifest"
    }

    fn signature(&self) -> Signature {
        let columns = value::manifest_columns;
        let one = Type::one_of([value::record(columns()), Type::String]);
        let list = Type::one_of([value::table(columns()), Type::list(Type::String)]);
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .switch("raw", "Return the exact bytes as a string", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show a manifest or an index."
    }

    fn extra_description(&self) -> &'static str {
        "A manifest has `config` and `layers`, an index has `manifests`; the other columns are null. `size` is the sum \
         of config and layers, or of the manifests of an index if the index states their sizes. Without tag and \
         digest, the highest release of the repository is used.\n\n\
         With --target or --platform, a manifest of the index is shown instead of the index."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["layers", "index", "digest", "inspect"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3",
                description: "Show the manifest or index of a tag",
                result: None,
            },
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl | get layers | select title size digest",
                description: "List the files of a target",
                result: None,
            },
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --raw | hash sha256",
                description: "Compute a manifest's digest from its bytes",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets | first 3 | oci manifest | get digest",
                description: "Show the digests of the first tags of a repository",
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
        let resolver = context.selecting_resolver()?;
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        context.map_values(operands, resolver, move |resolver, operand| async move {
            let operand = resolver.locate(operand).await?;
            let ResolvedManifest {
                location, manifest, ..
            } = resolver.resolve(&operand).await?;
            Ok(if is_raw {
                value::document(manifest.bytes(), span)
            } else {
                value::manifest(&location, &manifest, span)
            })
        })
    }
}
