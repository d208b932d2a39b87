//! `oci pull`: the files of an artifact, into a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, stream};
use glob::Pattern;
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, Spanned, SyntaxShape, Value,
    record,
};
use oci_package::{Contents, PackageFile};
use oci_registry::{ErrorKind, Extract, FileName, LocationText, UnpackOptions, unpack};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::{Found, Lookup};
use crate::report::{self, Report};
use crate::runtime::Rows;
use crate::session::Session;
use crate::settings::{self, Settings};
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
            .named(
                "include",
                settings::texts_shape(),
                "Fetch only files whose names fit this pattern, or one of a list of them",
                Some('i'),
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
         --force says otherwise. Files that are there with the very content are not fetched again. What was packed into one \
         archive comes out of it, unless --titles asks for it as it is.\n\n\
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
            Example {
                example: "oci pull ghcr.io/acme/widgets --include [LICENSE* README*] --output docs",
                description: "Fetch some of the files",
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
        let output: Option<PathBuf> = call.get_flag("output")?;
        let include = call.get_flag_value("include").map(|value| {
            let (item, span) = (patterns(&value)?, value.span());
            Ok::<_, LabeledError>(Spanned { item, span })
        });
        let directory = session.resolve(output.unwrap_or_default());
        let pulling = Pulling {
            lookup: session.choosing_lookup()?.for_machine(),
            directory,
            include: include.transpose()?,
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
    include: Option<Spanned<Vec<Pattern>>>,
    uses_titles: bool,
    replaces: bool,
    concurrency: usize,
    span: Span,
}

impl Pulling {
    async fn pull(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let at = asked.span;
        let found = self.lookup.find(&asked).await?;
        let source = &**found.place.content();
        let agreed = oci_package::check(source, found.listing(&asked), &found.manifest).await;
        agreed.map_err(|error| error.at(at))?;
        let Found {
            place, manifest, ..
        } = found;
        let name = place.reference(manifest.digest().clone());
        let files = oci_package::files(&manifest).map_err(|error| error.at(at))?;
        if files.is_empty() {
            let message = format!("failed to pull `{name}`: none of its layers is a file");
            return Err(report::not_found(message, "has no files", at)
                .with_help(format!("`oci manifest {name}` shows what it holds")));
        }
        let source = Arc::clone(place.content());
        let groups = if self.uses_titles {
            vec![Contents { source, files }]
        } else {
            let contents = oci_package::contents(source, files, &self.directory, |_, _| {});
            contents.await.map_err(|error| error.at(at))?
        };
        let groups = self.included(groups, &name)?;
        let mut rows = Vec::new();
        for group in groups {
            rows.extend(self.write(group, at).await?.into_iter().map(Ok));
        }
        Ok(stream::iter(rows).boxed())
    }

    /// The name that a file is written under.
    fn name<'a>(&self, file: &'a PackageFile) -> &'a FileName {
        let title = file.title.as_ref().filter(|_| self.uses_titles);
        title.unwrap_or(&file.name)
    }

    /// Leaves out what was not asked for; an artifact of which nothing is left is not what was meant.
    fn included(
        &self,
        mut groups: Vec<Contents>,
        name: &str,
    ) -> Result<Vec<Contents>, LabeledError> {
        let Some(include) = &self.include else {
            return Ok(groups);
        };
        let files = groups.iter().flat_map(|group| &group.files);
        let there: Vec<_> = files.map(|file| format!("`{}`", self.name(file))).collect();
        for group in &mut groups {
            group.files.retain(|file| {
                let name = self.name(file).as_str();
                include.item.iter().any(|pattern| pattern.matches(name))
            });
        }
        groups.retain(|group| !group.files.is_empty());
        if groups.is_empty() {
            let message = format!("failed to pull `{name}`: none of its files fits");
            return Err(report::not_found(message, "fits no file", include.span)
                .with_help(format!("its files are {}", there.join(", "))));
        }
        Ok(groups)
    }

    /// Writes files of one place, and tells of each.
    async fn write(&self, group: Contents, at: Span) -> Result<Vec<Value>, LabeledError> {
        let Contents { source, files } = group;
        let extract = |file: &PackageFile| Extract {
            name: self.name(file).clone(),
            ..file.to_extract()
        };
        let extracts: Vec<_> = files.iter().map(extract).collect();
        let paths = Mutex::new(BTreeMap::new());
        let observer = |placed: &Extract, path: &Path| {
            let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
            paths.insert(placed.name.clone(), path.to_owned());
        };
        let options = UnpackOptions {
            replace: self.replaces,
            concurrency: self.concurrency,
            observer: &observer,
            ..UnpackOptions::default()
        };
        let done = unpack(&*source, &extracts, &self.directory, options).await;
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
        let rows = std::iter::zip(&files, &extracts).map(|(file, extract)| {
            let path = paths.get(&extract.name).cloned().unwrap_or_default();
            let row = record! {
                "path" => Value::string(path.to_string_lossy(), self.span),
                "kind" => Value::string(file.kind.to_string(), self.span),
                "size" => value::size(Some(extract.descriptor.size), self.span),
                "digest" => value::text(Some(&extract.descriptor.digest), self.span),
            };
            Value::record(row, self.span)
        });
        Ok(rows.collect())
    }
}

/// Patterns, one or a list of them.
fn patterns(value: &Value) -> Result<Vec<Pattern>, LabeledError> {
    let read = |text: &Value| {
        Pattern::new(text.as_str()?).map_err(|error| {
            let message = format!(
                "failed to read `{}` as a pattern",
                text.as_str().unwrap_or_default()
            );
            report::invalid(message, error.msg, text.span())
        })
    };
    settings::texts(value).iter().map(read).collect()
}
