//! `oci index`: the document of an index, as it is.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
};
use oci_registry::{ErrorKind, Location, LocationText};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::Found;
use crate::session::Session;
use crate::settings::Settings;
use crate::{json, report, value};

/// Shows indexes.
pub(crate) struct Index;

impl PluginCommand for Index {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci index"
    }

    fn signature(&self) -> Signature {
        let one = Type::one_of([Type::record(), Type::String]);
        let list = Type::one_of([Type::table(), Type::list(Type::String)]);
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .switch("raw", "Give the exact bytes, as text", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Show the document of an index."
    }

    fn extra_description(&self) -> &'static str {
        "The document as whoever made it wrote it, with the names of the specification: `schemaVersion`, `mediaType`, \
         `manifests`, …; `oci manifest` shows the same with columns that are always the same. What is no index is an error."
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
                description: "The architectures that a release is for",
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
        let lookup = session.lookup();
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        session.values(asked, lookup, move |lookup, asked| async move {
            let asked = lookup.locate(asked).await?;
            show(&lookup.find(&asked).await?, &asked, is_raw, span)
        })
    }
}

fn show(
    found: &Found,
    asked: &Subject<Location>,
    is_raw: bool,
    span: Span,
) -> Result<Value, LabeledError> {
    let Found {
        place, manifest, ..
    } = found;
    let name = place.reference(manifest.digest().clone());
    if manifest.as_index().is_none() {
        let message = format!("failed to show the index `{name}`: it is a manifest");
        return Err(report::invalid(message, "is no index", asked.span)
            .with_help(format!("`oci manifest {name}` shows it")));
    }
    if is_raw {
        return Ok(value::document(manifest.bytes(), span));
    }
    json::read(manifest.bytes(), span).map_err(|error| {
        report::new(
            ErrorKind::Protocol,
            format!("failed to read the index `{name}`"),
            "is no JSON",
            asked.span,
        )
        .with_inner(LabeledError::new(error.to_string()))
    })
}
