//! `oci manifest`: what a reference names.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, Spanned, SyntaxShape, Type,
    Value,
};
use oci_package::{Wanted, platform, tag};
use oci_registry::{Client, Identifier, Location, Tag};

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
            .named(
                "target",
                SyntaxShape::String,
                "Of an index, take what was built for this target triple",
                Some('t'),
            )
            .named(
                "platform",
                SyntaxShape::String,
                "Of an index, take what is for this platform, as `OS/ARCHITECTURE[/VARIANT]`",
                Some('p'),
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
            wanted: wanted(call)?,
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
                let rows = runtime::in_order(asked, settings.concurrency, move |asked| {
                    let lookup = Arc::clone(&lookup);
                    async move { lookup.find(&asked).await }
                });
                plugin.runtime.rows(engine, call.head, rows.boxed(), None)
            }
        }
    }
}

/// How this call looks for manifests.
struct Lookup {
    client: Client,
    base: PathBuf,
    wanted: Option<Wanted>,
    is_raw: bool,
    span: Span,
}

impl Lookup {
    async fn find(&self, asked: &Subject<Location>) -> Result<Value, LabeledError> {
        let at = asked.span;
        let place = Place::open(&self.client, &asked.name, &self.base);
        let place = place.await.map_err(|error| error.at(at))?;
        let identifier = match asked.name.identifier() {
            Some(identifier) => identifier,
            None => highest_release(&place, at).await?,
        };
        let source = &**place.source();
        let manifest = match &self.wanted {
            Some(wanted) => oci_package::find(source, &identifier, wanted)
                .await
                .map_err(|error| error.at(at))?,
            None => source
                .manifest(&identifier)
                .await
                .map_err(|error| error.at(at))?,
        };
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

/// What --target or --platform ask for.
fn wanted(call: &EvaluatedCall) -> Result<Option<Wanted>, LabeledError> {
    let target: Option<Spanned<String>> = call.get_flag("target")?;
    let platform: Option<Spanned<String>> = call.get_flag("platform")?;
    match (target, platform) {
        (None, None) => Ok(None),
        (Some(target), None) => Ok(Some(Wanted::Target(target.item))),
        (None, Some(platform)) => {
            let parsed = platform::parse(&platform.item);
            let platform = parsed.map_err(|error| error.at(platform.span))?;
            Ok(Some(Wanted::Platform(platform)))
        }
        (Some(target), Some(platform)) => Err(report::invalid(
            "failed to choose a manifest: both a target and a platform are given",
            "this target",
            target.span,
        )
        .with_label("this platform", platform.span)
        .with_help("leave one of the two out")),
    }
}

async fn highest_release(place: &Place, at: Span) -> Result<Identifier, LabeledError> {
    let tags: Result<Vec<Tag>, _> = place.source().tags().try_collect().await;
    let tags = tags.map_err(|error| error.at(at))?;
    match tag::highest(&tags) {
        Some((tag, _)) => Ok(tag.clone().into()),
        None => Err(report::not_found(
            format!("failed to find a release in `{}`", place.name()),
            "has no version among its tags",
            at,
        )
        .with_help("add a tag or a digest; `oci tags` lists the tags")),
    }
}
