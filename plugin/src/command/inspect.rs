//! `oci inspect`: what a release page shows.

use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_registry::{Cache, LocationText};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::Lookup;
use crate::report::Report;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Shows what is said about artifacts.
pub(crate) struct Inspect;

impl PluginCommand for Inspect {
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
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Show what a release page shows."
    }

    fn extra_description(&self) -> &'static str {
        "What the annotations say; where they are silent, what the labels of an image say. `targets` has a row for \
         each manifest of an index, and for a manifest one for itself: its `target`, `platform` and `size`, the lowest \
         `glibc` that it runs with, and its `reference` and `digest`. If tag, index, manifest and config of a package state \
         different facts, `conflicts` lists them. A repository without tag and digest means its highest \
         release."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["release", "version", "license", "labels", "show"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci inspect ghcr.io/acme/widgets",
                description: "Show the newest release",
                result: None,
            },
            Example {
                example: "oci inspect ghcr.io/acme/widgets:1.2.3 | get targets | where platform =~ 'linux'",
                description: "What a release has for Linux",
                result: None,
            },
            Example {
                example: "oci tags ghcr.io/acme/widgets | oci inspect | select version revision created",
                description: "From which commits the releases were built",
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
        let release = Release {
            cache: session.cache(),
            lookup: session.choosing_lookup()?,
            span: call.head,
        };
        session.values(asked, release, Release::show)
    }
}

/// How this call finds out about releases.
struct Release {
    lookup: Lookup,
    cache: Option<Cache>,
    span: Span,
}

impl Release {
    async fn show(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Value, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let found = self.lookup.find(&asked).await?;
        let source = found.place.cached_by(self.cache.as_ref());
        let listing = found.listing(&asked);
        let said = oci_package::inspect(&source, listing, &found.manifest).await;
        let said = said.map_err(|error| error.at(asked.span))?;
        Ok(value::release(&found.place, &said, self.span))
    }
}
