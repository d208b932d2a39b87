//! `oci reference`: splits a reference into its parts.

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, SyntaxShape, Value, record,
};
use oci_registry::Digest;

use crate::OciPlugin;
use crate::completion::completes;
use crate::input::Operands;
use crate::value;

/// The `oci reference` command.
pub(crate) struct ReferenceCommand;

impl PluginCommand for ReferenceCommand {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci reference"
    }

    fn signature(&self) -> Signature {
        let columns = value::reference_columns;
        let (one, list) = (value::record(columns()), value::table(columns()));
        Signature::build(self.name())
            .optional(
                "text",
                SyntaxShape::String,
                "The reference, as `REGISTRY/REPOSITORY[:TAG][@DIGEST]`",
            )
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network)
    }

    fn description(&self) -> &'static str {
        "Split a reference into registry, repository, tag and digest."
    }

    fn extra_description(&self) -> &'static str {
        "The reference is parsed strictly and without network access. The registry is required; `tag` and `digest` are \
         null if they are missing. An error marks the invalid part."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["parse", "split", "tag", "digest"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        let row = |registry: &str, repository: &str, tag: Option<&str>, digest: Option<&str>| {
            let text = |text: Option<&str>| text.map_or(Value::test_nothing(), Value::test_string);
            Value::test_record(record! {
                "registry" => Value::test_string(registry),
                "repository" => Value::test_string(repository),
                "tag" => text(tag),
                "digest" => text(digest),
            })
        };
        let empty = Digest::sha256(b"");
        vec![
            Example {
                example: "oci reference ghcr.io/acme/widgets:1.2.3",
                description: "Split a reference that has a tag",
                result: Some(row("ghcr.io", "acme/widgets", Some("1.2.3"), None)),
            },
            Example {
                example: "['localhost:5000/a' 'quay.io/b/c@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'] | oci reference",
                description: "Split a list of references",
                result: Some(Value::test_list(vec![
                    row("localhost:5000", "a", None, None),
                    row("quay.io", "b/c", None, Some(empty.as_str())),
                ])),
            },
        ]
    }

    completes!(|_| None);

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let operands =
            Operands::<oci_registry::Reference>::read(engine, call.head, &call.positional, input)?;
        let span = call.head;
        plugin
            .runtime
            .map_values(engine, span, operands, 1, move |operand| async move {
                Ok(value::reference(&operand.name, span))
            })
    }
}
