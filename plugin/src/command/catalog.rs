//! `oci catalog`: lists the repositories of a registry, or the OCI layouts in a directory.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value, record,
};
use oci_registry::{Client, Layout, Location, Reference, RegistryName};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::report::ToLabeledError;
use crate::runtime::Rows;
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci catalog` command.
pub(crate) struct CatalogCommand;

impl PluginCommand for CatalogCommand {
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
                "The registry, as `HOST[:PORT]`, or a directory of OCI layouts, as `oci:DIRECTORY`",
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "List the repositories of a registry."
    }

    fn extra_description(&self) -> &'static str {
        "Rows appear while further pages are fetched. After `first`, no further pages are requested. Public registries \
         such as Docker Hub and ghcr.io do not support this list.\n\n\
         For a directory, the command lists the OCI layouts below it, such as the layouts that `oci copy` creates, \
         with their relative paths. If the directory itself is a layout, it is listed as `.`."
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
            Example {
                example: "oci catalog oci:backup | oci tags --long",
                description: "List the tags of all layouts in a directory",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Registry));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<CatalogOperand>(input)?;
        let catalog_call = CatalogCall {
            client: context.client(),
            base: context.current_dir().to_owned(),
            span: call.head,
        };
        context.map_rows(operands, catalog_call, CatalogCall::rows)
    }
}

/// Registry or directory whose repositories are listed.
#[derive(Debug, Clone)]
enum CatalogOperand {
    Registry(RegistryName),
    /// A directory of OCI layouts.
    Directory(PathBuf),
}

impl FromStr for CatalogOperand {
    type Err = oci_registry::Error;

    fn from_str(text: &str) -> oci_registry::Result<Self> {
        match text.strip_prefix("oci:") {
            Some(directory) if !directory.is_empty() => Ok(Self::Directory(directory.into())),
            _ => text.parse().map(Self::Registry),
        }
    }
}

/// State of one call of `oci catalog`.
struct CatalogCall {
    client: Client,
    base: PathBuf,
    span: Span,
}

impl CatalogCall {
    async fn rows(self: Arc<Self>, operand: Operand<CatalogOperand>) -> Result<Rows, LabeledError> {
        let (at, span) = (operand.span, self.span);
        match operand.name {
            CatalogOperand::Registry(name) => {
                let registry = self.client.registry(&name).map_err(|error| error.at(at))?;
                let name = registry.name().clone();
                let rows = registry.catalog().map(move |repository| {
                    let repository = repository.map_err(|error| error.at(at))?;
                    let reference = Reference::new(name.clone(), repository.clone());
                    let reference = reference.map_err(|error| error.at(at))?;
                    Ok(row(repository.as_str(), &reference, span))
                });
                Ok(rows.boxed())
            }
            CatalogOperand::Directory(directory) => {
                let base = self.base.join(directory);
                let layouts = Layout::find_below(&base)
                    .await
                    .map_err(|error| error.at(at))?;
                let rows = layouts.into_iter().map(move |layout| {
                    let directory = layout.directory();
                    let name = directory.strip_prefix(&base).unwrap_or(directory);
                    let name = if name.as_os_str().is_empty() {
                        Path::new(".")
                    } else {
                        name
                    };
                    // `components` omits `.` components.
                    let directory: PathBuf = directory.components().collect();
                    let location = Location::layout(directory);
                    Ok(row(&name.to_string_lossy(), &location, span))
                });
                Ok(stream::iter(rows).boxed())
            }
        }
    }
}

fn row(name: &str, reference: &impl ToString, span: Span) -> Value {
    let row = record! {
        "name" => Value::string(name, span),
        "reference" => Value::string(reference.to_string(), span),
    };
    Value::record(row, span)
}
