//! `oci config`: the document that a manifest names as its config.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
};
use oci_registry::{ErrorKind, Location, LocationText};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::{Found, Lookup};
use crate::report::Report;
use crate::session::Session;
use crate::settings::Settings;
use crate::{json, report, value};

/// Largest config that is read, in bytes; as large as a manifest may be.
const MAX_CONFIG: usize = 4 << 20;

/// Shows configs.
pub(crate) struct Config;

impl PluginCommand for Config {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci config"
    }

    fn signature(&self) -> Signature {
        let one = Type::one_of([Type::record(), Type::String]);
        let list = Type::one_of([Type::table(), Type::list(Type::String)]);
        let signature = Signature::build(self.name())
            .optional("reference", SyntaxShape::String, super::REFERENCE)
            .switch("raw", "Give the exact bytes, as text", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show the config of an artifact."
    }

    fn extra_description(&self) -> &'static str {
        "What a manifest names as its config: of an image how it runs and when it was made, of a package from cargo what it \
         was built from and by what. The document as whoever made it wrote it.\n\n\
         Of an index it is that of what runs on this machine, unless --target or --platform choose. A repository without \
         tag and digest means its highest release."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["labels", "entrypoint", "environment", "inspect"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci config ghcr.io/acme/widgets:1.2.3 | get rustc",
                description: "The compiler that built a release",
                result: None,
            },
            Example {
                example: "oci config docker.io/library/nginx:latest --platform linux/arm64 | get config.Env",
                description: "The environment variables of an image",
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
        let lookup = session.choosing_lookup()?.for_machine();
        let (is_raw, span) = (call.has_flag("raw")?, call.head);
        session.values(asked, lookup, move |lookup, asked| async move {
            let asked = lookup.locate(asked).await?;
            show(&lookup.find(&asked).await?, &asked, is_raw, span).await
        })
    }
}

async fn show(
    found: &Found,
    asked: &Subject<Location>,
    is_raw: bool,
    span: Span,
) -> Result<Value, LabeledError> {
    let Found {
        place, manifest, ..
    } = found;
    let at = asked.span;
    let name = place.reference(manifest.digest().clone());
    let Some(image) = manifest.as_image() else {
        let message = format!("failed to find the config of `{name}`: it names none");
        return Err(report::not_found(message, "has no config", at));
    };
    let blob = place.content().blob(&image.config).await;
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
            "has a config that is no JSON",
            at,
        )
        .with_inner(LabeledError::new(error.to_string()))
        .with_help("--raw shows it as it is")
    })
}
