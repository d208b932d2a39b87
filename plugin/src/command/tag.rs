//! `oci tag`: adds tags to a manifest.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_registry::{LocationText, Manifest, Mode, Optional, Target};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::{self, Operand};
use crate::open_location::OpenLocation;
use crate::report::{self, ToLabeledError};
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::runtime::Rows;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci tag` command.
pub(crate) struct TagCommand;

impl PluginCommand for TagCommand {
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
                "The manifest, unless it is piped in, followed by the tags to add",
            )
            .switch(
                "dry-run",
                "Show the actions without performing them",
                Some('n'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Add tags to a manifest without copying content."
    }

    fn extra_description(&self) -> &'static str {
        "Usage: `oci tag REFERENCE TAG …` or `… | oci tag TAG …`. An existing tag is moved.\n\n\
         `action` is `tagged`, or `unchanged` if the tag already points to this manifest. With --dry-run it is `would \
         tag` or `unchanged`. With --target or --platform, a single manifest of an index is tagged."
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
                description: "Preview a new tag for many repositories",
                result: None,
            },
        ]
    }

    completes!(|position| (position == 0).then_some(ArgumentKind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let arguments = call.positional.as_slice();
        // Every reference contains `/` or `:`. A tag contains neither.
        let is_reference = |argument: &&Value| {
            argument
                .as_str()
                .is_ok_and(|text| text.contains(['/', ':']))
        };
        let (references, tags) = arguments.split_at(usize::from(
            arguments.first().is_some_and(|first| is_reference(&first)),
        ));
        if tags.is_empty() {
            return Err(
                report::invalid("failed to tag: missing tag", "expected a tag", call.head)
                    .with_help("pass the tags after the reference"),
            );
        }
        let tags: Result<Vec<Operand<oci_registry::Tag>>, _> = tags
            .iter()
            .map(|tag| input::parse_operand(engine, tag))
            .collect();
        let tags = tags?;
        let operands = context.operands_from::<LocationText>(references, input)?;
        let tag_call = TagCall {
            resolver: context.selecting_resolver()?,
            tags,
            is_dry_run: call.has_flag("dry-run")?,
            span: call.head,
        };
        context.map_rows_sequentially(operands, tag_call, TagCall::tag)
    }
}

/// State of one call of `oci tag`.
struct TagCall {
    resolver: OperandResolver,
    tags: Vec<Operand<oci_registry::Tag>>,
    is_dry_run: bool,
    span: Span,
}

impl TagCall {
    async fn tag(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let ResolvedManifest {
            location, manifest, ..
        } = self.resolver.resolve(&operand).await?;
        let target = if self.is_dry_run {
            None
        } else {
            let (client, base) = (self.resolver.client(), self.resolver.base());
            let target =
                OpenLocation::open_target(client, &operand.name, base, Mode::Existing).await;
            Some(target.map_err(|error| error.at(operand.span))?)
        };
        let work = Arc::new((self, location, target, manifest));
        let rows = stream::iter(0..work.0.tags.len()).then(move |at| {
            let work = Arc::clone(&work);
            async move {
                let (tag_call, location, target, manifest) = &*work;
                let tag = &tag_call.tags[at];
                tag_call
                    .add_tag(location, target.as_ref(), manifest, tag)
                    .await
            }
        });
        Ok(rows.boxed())
    }

    async fn add_tag(
        &self,
        location: &OpenLocation,
        target: Option<&OpenLocation<dyn Target>>,
        manifest: &Manifest,
        tag: &Operand<oci_registry::Tag>,
    ) -> Result<Value, LabeledError> {
        let identifier = tag.name.clone().into();
        let current = location.content().resolve(&identifier).await.optional();
        let current = current.map_err(|error| error.at(tag.span))?;
        let is_unchanged = current.is_some_and(|current| current.digest == *manifest.digest());
        let action = match target {
            _ if is_unchanged => "unchanged",
            None => "would tag",
            Some(target) => {
                let tagged = target.content().tag(manifest, &tag.name).await;
                tagged.map_err(|error| error.at(tag.span))?;
                "tagged"
            }
        };
        let name = location.reference(identifier);
        Ok(value::action(
            name,
            action,
            Some(manifest.digest()),
            self.span,
        ))
    }
}
