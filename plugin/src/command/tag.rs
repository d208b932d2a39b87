//! `oci tag`: further names for what is there.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_registry::{LocationText, Manifest, Optional, Target};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::{self, Subject};
use crate::lookup::{Found, Lookup};
use crate::place::Place;
use crate::report::{self, Report};
use crate::runtime::Rows;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Tags manifests.
pub(crate) struct Tag;

impl PluginCommand for Tag {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci tag"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::action_columns());
        let signature = Signature::build(self.name())
            .rest(
                "reference_and_tags",
                SyntaxShape::String,
                "The manifest, unless it comes through the pipeline, and the tags that it gets",
            )
            .switch("dry-run", "Only say what would be done", Some('n'))
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Give further tags to what is there, without moving any bytes."
    }

    fn extra_description(&self) -> &'static str {
        "`oci tag REFERENCE TAG …`, or `… | oci tag TAG …`. A tag that names something else is moved.\n\n\
         `action` is `tagged`, or `unchanged` where the tag named this already; with --dry-run `would tag` or `unchanged`. \
         --target and --platform tag one manifest of an index."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["retag", "promote", "alias", "move"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci tag ghcr.io/acme/widgets:1.2.3 stable latest",
                description: "Promote a release",
                result: None,
            },
            Example {
                example: "oci catalog registry.acme.dev | where name starts-with team-a/ | oci tags | where name == nightly | oci tag last-night --dry-run",
                description: "See what tagging many repositories would do",
                result: None,
            },
        ]
    }

    completes!(|position| (position == 0).then_some(Kind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let arguments = call.positional.as_slice();
        // No tag has either of these, and no reference has none of them.
        let is_reference = |argument: &&Value| {
            argument
                .as_str()
                .is_ok_and(|text| text.contains(['/', ':']))
        };
        let (references, tags) = arguments.split_at(usize::from(
            arguments.first().is_some_and(|it| is_reference(&it)),
        ));
        if tags.is_empty() {
            return Err(report::invalid(
                "failed to tag: no tag is given",
                "a tag is missing",
                call.head,
            )
            .with_help("write the tags behind the reference"));
        }
        let tags: Result<Vec<Subject<oci_registry::Tag>>, _> =
            tags.iter().map(|tag| input::subject(engine, tag)).collect();
        let tags = tags?;
        let asked = session.asked_by::<LocationText>(references, input)?;
        let tagging = Tagging {
            lookup: session.choosing_lookup()?,
            tags,
            is_dry: call.has_flag("dry-run")?,
            span: call.head,
        };
        session.rows_in_turn(asked, tagging, Tagging::tag)
    }
}

/// How this call tags.
struct Tagging {
    lookup: Lookup,
    tags: Vec<Subject<oci_registry::Tag>>,
    is_dry: bool,
    span: Span,
}

impl Tagging {
    async fn tag(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let Found {
            place, manifest, ..
        } = self.lookup.find(&asked).await?;
        let target = if self.is_dry {
            None
        } else {
            let (client, base) = (self.lookup.client(), self.lookup.base());
            let target = Place::open_to_write(client, &asked.name, base).await;
            Some(target.map_err(|error| error.at(asked.span))?)
        };
        let work = Arc::new((self, place, target, manifest));
        let rows = stream::iter(0..work.0.tags.len()).then(move |at| {
            let work = Arc::clone(&work);
            async move {
                let (tagging, place, target, manifest) = &*work;
                let tag = &tagging.tags[at];
                tagging.tag_as(place, target.as_ref(), manifest, tag).await
            }
        });
        Ok(rows.boxed())
    }

    async fn tag_as(
        &self,
        place: &Place,
        target: Option<&Place<dyn Target>>,
        manifest: &Manifest,
        tag: &Subject<oci_registry::Tag>,
    ) -> Result<Value, LabeledError> {
        let named = tag.name.clone().into();
        let held = place.content().resolve(&named).await.optional();
        let held = held.map_err(|error| error.at(tag.span))?;
        let is_held = held.is_some_and(|held| held.digest == *manifest.digest());
        let action = match target {
            _ if is_held => "unchanged",
            None => "would tag",
            Some(target) => {
                let tagged = target.content().tag(manifest, &tag.name).await;
                tagged.map_err(|error| error.at(tag.span))?;
                "tagged"
            }
        };
        let name = place.reference(named);
        Ok(value::action(
            name,
            action,
            Some(manifest.digest()),
            self.span,
        ))
    }
}
