//! `oci pull`: the files of an artifact, into a directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value, record,
};
use oci_registry::{ErrorKind, Extract, Location, UnpackOptions, unpack};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::{Found, Lookup};
use crate::report::{self, Report};
use crate::runtime::Rows;
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Fetches files.
pub(crate) struct Pull;

impl PluginCommand for Pull {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci pull"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::file_columns());
        let signature = Signature::build(self.name())
            .rest("reference", SyntaxShape::String, super::REFERENCE)
            .named(
                "output",
                SyntaxShape::Directory,
                "Where the files go; made when it is not there (default: the current directory)",
                Some('o'),
            )
            .switch(
                "titles",
                "Name the files by their titles, as other clients do",
                None,
            )
            .switch(
                "force",
                "Replace files that are there with other content",
                Some('f'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Fetch the files of an artifact into a directory."
    }

    fn extra_description(&self) -> &'static str {
        "Every file is verified before it gets its name, and a file that is there with other content is left alone unless \
         --force says otherwise. Files that are there with the very content are not fetched again.\n\n\
         Of an index it takes what runs on this machine, unless --target or --platform choose. A repository without tag and \
         digest means its highest release."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["download", "fetch", "files", "install", "save"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci pull ghcr.io/acme/widgets --output bin",
                description: "Fetch the newest release for this machine",
                result: None,
            },
            Example {
                example: "oci pull ghcr.io/acme/widgets:1.2.3 --target aarch64-apple-darwin --output dist | where kind == bin",
                description: "Fetch what was built for a target, and show its programs",
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
        let asked = session.asked::<Location>(input)?;
        let output: Option<PathBuf> = call.get_flag("output")?;
        let directory = session.resolve(output.unwrap_or_default());
        let pulling = Pulling {
            lookup: session.choosing_lookup()?.for_machine(),
            directory,
            uses_titles: call.has_flag("titles")?,
            replaces: call.has_flag("force")?,
            concurrency: session.concurrency(),
            span: call.head,
        };
        // The files of all go to one directory.
        session.rows_in_turn(asked, pulling, Pulling::pull)
    }
}

/// How this call fetches files.
struct Pulling {
    lookup: Lookup,
    directory: PathBuf,
    uses_titles: bool,
    replaces: bool,
    concurrency: usize,
    span: Span,
}

impl Pulling {
    async fn pull(self: Arc<Self>, asked: Subject<Location>) -> Result<Rows, LabeledError> {
        let at = asked.span;
        let Found {
            place, manifest, ..
        } = self.lookup.find(&asked).await?;
        let files = oci_package::files(&manifest).map_err(|error| error.at(at))?;
        if files.is_empty() {
            let name = place.reference(manifest.digest().clone());
            let message = format!("failed to pull `{name}`: none of its layers is a file");
            return Err(report::not_found(message, "has no files", at)
                .with_help(format!("`oci manifest {name}` shows what it holds")));
        }
        let kinds: Vec<_> = files.iter().map(|file| file.kind).collect();
        let extracts: Vec<Extract> = files
            .into_iter()
            .map(|file| {
                let mut extract = file.to_extract();
                if let Some(title) = file.title.filter(|_| self.uses_titles) {
                    extract.name = title;
                }
                extract
            })
            .collect();
        let paths = Mutex::new(vec![PathBuf::new(); extracts.len()]);
        let observer = |placed: &Extract, path: &Path| {
            let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
            let at = extracts.iter().position(|file| file.name == placed.name);
            if let Some(at) = at {
                path.clone_into(&mut paths[at]);
            }
        };
        let options = UnpackOptions {
            replace: self.replaces,
            concurrency: self.concurrency,
            observer: &observer,
            ..UnpackOptions::default()
        };
        let done = unpack(&**place.content(), &extracts, &self.directory, options).await;
        done.map_err(|error| {
            let is_occupied = error.kind() == ErrorKind::Conflict;
            let error = error.at(at);
            if is_occupied {
                error.with_help("choose another directory with --output, or pass --force")
            } else {
                error
            }
        })?;
        let paths = paths.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<_> = std::iter::zip(kinds, &extracts)
            .zip(paths)
            .map(|((kind, file), path)| {
                let row = record! {
                    "path" => Value::string(path.to_string_lossy(), self.span),
                    "kind" => Value::string(kind.to_string(), self.span),
                    "size" => value::size(Some(file.descriptor.size), self.span),
                    "digest" => value::text(Some(&file.descriptor.digest), self.span),
                };
                Ok(Value::record(row, self.span))
            })
            .collect();
        Ok(stream::iter(rows).boxed())
    }
}
