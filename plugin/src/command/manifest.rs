//! `oci manifest`: what a reference names.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Category, Example, LabeledError, PipelineData, Signature, SyntaxShape, Type};
use oci_registry::LocationText;

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::lookup::{Found, Lookup};
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Shows manifests.
pub(crate) struct Manifest;

impl PluginCommand for Manifest {
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
            .switch("raw", "Give the exact bytes, as text", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show a manifest or an index."
    }

    fn extra_description(&self) -> &'static str {
        "A manifest has `config` and `layers`, an index has `manifests`; what does not apply is null. `size` is that of \
         config and layers, of an index the sum over its manifests where the index says it. A repository without tag \
         and digest means its highest release.\n\n\
         An index is shown as an index, unless --target or --platform choose in it."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["layers", "index", "digest", "inspect"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3",
                description: "Show what a tag names",
                result: None,
            },
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl | get layers | select title size digest",
                description: "List the files for a target",
                result: None,
            },
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --raw | hash sha256",
                description: "Compute a manifest's digest from its bytes",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets | first 3 | oci manifest | get digest",
                description: "What the first tags of a repository name",
                result: None,
            },
        ]
    }

    completes!(|_| Some(Kind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<LocationText>(input)?;
        let lookup = session.choosing_lookup()?;
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        session.values(asked, lookup, move |lookup, asked| async move {
            let asked = lookup.locate(asked).await?;
            let Found {
                place, manifest, ..
            } = lookup.find(&asked).await?;
            Ok(if is_raw {
                value::document(manifest.bytes(), span)
            } else {
                value::manifest(&place, &manifest, span)
            })
        })
    }
}
