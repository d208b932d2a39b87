//! `oci catalog`: the repositories of a registry.

use futures_util::StreamExt;
use futures_util::future::ready;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value, record,
};
use oci_registry::{Client, Reference, RegistryName, RepositoryName};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::report::Report;
use crate::runtime::Rows;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Lists repositories.
pub(crate) struct Catalog;

impl PluginCommand for Catalog {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci catalog"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::repository_columns());
        let signature = Signature::build(self.name())
            .rest(
                "registry",
                SyntaxShape::String,
                "The registry, as `HOST[:PORT]`",
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "List the repositories of a registry."
    }

    fn extra_description(&self) -> &'static str {
        "Rows appear while further pages are still to come; `first` stops asking for them. Public registries such as \
         Docker Hub and ghcr.io offer no such list."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["repositories", "list"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci catalog registry.acme.dev",
                description: "List all repositories",
                result: None,
            },
            Example {
                example: "oci catalog registry.acme.dev | where name starts-with 'team-a/' | oci tags",
                description: "List the tags of a team's repositories",
                result: None,
            },
        ]
    }

    completes!(|_| Some(Kind::Registry));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<RegistryName>(input)?;
        let (client, span) = (session.client(), session.span());
        session.rows(asked, client, move |client, asked| {
            ready(rows(&client, &asked, span))
        })
    }
}

fn rows(client: &Client, asked: &Subject<RegistryName>, span: Span) -> Result<Rows, LabeledError> {
    let at = asked.span;
    let registry = client.registry(&asked.name).map_err(|error| error.at(at))?;
    let name = registry.name().clone();
    let rows = registry.catalog().map(move |repository| {
        let repository = repository.map_err(|error| error.at(at))?;
        row(&name, repository, span).map_err(|error| error.at(at))
    });
    Ok(rows.boxed())
}

fn row(
    registry: &RegistryName,
    repository: RepositoryName,
    span: Span,
) -> oci_registry::Result<Value> {
    let name = Value::string(repository.as_str(), span);
    let reference = Reference::new(registry.clone(), repository)?;
    let row = record! {
        "name" => name,
        "reference" => Value::string(reference.to_string(), span),
    };
    Ok(Value::record(row, span))
}
