//! `oci manifest`: what a reference names.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Type, Value,
};
use oci_registry::{Client, Location};

use crate::OciPlugin;
use crate::connection::Surroundings;
use crate::input::{Asked, Subject};
use crate::place::Place;
use crate::report::{self, Report};
use crate::runtime;
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
            .optional(
                "reference",
                SyntaxShape::String,
                "The manifest, as `REGISTRY/REPOSITORY:TAG`, `…@DIGEST` or `oci:DIRECTORY:TAG`",
            )
            .switch("raw", "Give the exact bytes, as text", Some('r'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        Settings::concurrency_flag(Settings::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show a manifest or an index."
    }

    fn extra_description(&self) -> &'static str {
        "A manifest has `config` and `layers`, an index has `manifests`; what does not apply is null. `size` is that of \
         config and layers, of an index the sum over its manifests where the index says it."
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

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let settings = Settings::read(engine, call)?;
        let asked = Asked::<Location>::read(engine, call, input)?;
        let surroundings = Surroundings::read(engine, &settings)?;
        let lookup = Arc::new(Lookup {
            base: surroundings.current_dir().to_owned(),
            client: plugin.connections.client(surroundings),
            is_raw: call.has_flag("raw")?,
            span: call.head,
        });
        match asked {
            Asked::One(asked) => {
                let found = plugin
                    .runtime
                    .wait(engine, call.head, lookup.find(&asked))?;
                Ok(PipelineData::value(found, None))
            }
            Asked::Several(asked) => {
                let rows = asked
                    .map_ok(move |asked| {
                        let lookup = Arc::clone(&lookup);
                        runtime::begin(async move { lookup.find(&asked).await })
                    })
                    .try_buffered(settings.concurrency);
                plugin.runtime.rows(engine, call.head, rows.boxed(), None)
            }
        }
    }
}

/// How this call looks for manifests.
struct Lookup {
    client: Client,
    base: PathBuf,
    is_raw: bool,
    span: Span,
}

impl Lookup {
    async fn find(&self, asked: &Subject<Location>) -> Result<Value, LabeledError> {
        let at = asked.span;
        let Some(identifier) = asked.name.identifier() else {
            let message = format!("failed to fetch `{}`", asked.name);
            return Err(
                report::invalid(message, "names a whole repository", at).with_help(format!(
                    "add a tag or a digest; `oci tags {}` lists the tags",
                    asked.name
                )),
            );
        };
        let place = Place::open(&self.client, &asked.name, &self.base);
        let place = place.await.map_err(|error| error.at(at))?;
        let manifest = place.source().manifest(&identifier).await;
        let manifest = manifest.map_err(|error| error.at(at))?;
        if !self.is_raw {
            return Ok(value::manifest(&place, &manifest, self.span));
        }
        let bytes = manifest.bytes().to_vec();
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Value::string(text, self.span),
            Err(error) => Value::binary(error.into_bytes(), self.span),
        })
    }
}
