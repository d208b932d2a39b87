//! `oci pull`: downloads the files of an artifact to a directory.

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
use oci_package::{FileSource, PackageFile};
use oci_registry::{ErrorKind, FileEntry, FileName, LocationText, UnpackOptions, unpack};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::report::{self, ToLabeledError};
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::runtime::Rows;
use crate::settings::{self, ConnectionSettings};
use crate::value;

/// The `oci pull` command.
pub(crate) struct PullCommand;

impl PluginCommand for PullCommand {
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
                "Directory to write to, created if missing (default: the current directory)",
                Some('o'),
            )
            .named(
                "include",
                settings::strings_shape(),
                "Download only files whose names match this pattern or list of patterns",
                Some('i'),
            )
            .switch(
                "titles",
                "Keep the published file names, and do not unpack archives",
                None,
            )
            .switch(
                "force",
                "Overwrite existing files with different content",
                Some('f'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Download the files of an artifact to a directory."
    }

    fn extra_description(&self) -> &'static str {
        "The digest of a file is verified before the file gets its final name. Existing files with the same content \
         are not downloaded again; an existing file with different content is an error unless --force is given. \
         Archives that `cargo oci push --archive` created are unpacked unless --titles is given.\n\n\
         For an index, the files for this machine are downloaded, unless --target or --platform select another \
         manifest. Without tag and digest, the highest release of the repository is used."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["download", "fetch", "files", "install", "save"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci pull ghcr.io/acme/widgets --output bin",
                description: "Download the highest release for this machine",
                result: None,
            },
            Example {
                example: "oci pull ghcr.io/acme/widgets:1.2.3 --target aarch64-apple-darwin --output dist | where kind == bin",
                description: "Download the files of a target, and list its programs",
                result: None,
            },
            Example {
                example: "oci pull ghcr.io/acme/widgets --include [LICENSE* README*] --output docs",
                description: "Download some of the files",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let output: Option<PathBuf> = call.get_flag("output")?;
        let include = call.get_flag_value("include").map(|value| {
            let (item, span) = (parse_patterns(&value)?, value.span());
            Ok::<_, LabeledError>(Spanned { item, span })
        });
        let directory = context.resolve_path(output.unwrap_or_default());
        let pull_call = PullCall {
            resolver: context.selecting_resolver()?.for_machine(),
            directory,
            include: include.transpose()?,
            uses_titles: call.has_flag("titles")?,
            may_overwrite: call.has_flag("force")?,
            concurrency: context.concurrency(),
            span: call.head,
        };
        // The operands are processed one after another, because all files are written to the same directory.
        context.map_rows_sequentially(operands, pull_call, PullCall::pull)
    }
}

/// State of one call of `oci pull`.
struct PullCall {
    resolver: OperandResolver,
    directory: PathBuf,
    include: Option<Spanned<Vec<Pattern>>>,
    uses_titles: bool,
    may_overwrite: bool,
    concurrency: usize,
    span: Span,
}

impl PullCall {
    async fn pull(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let at = operand.span;
        let found = self.resolver.resolve(&operand).await?;
        let source = &**found.location.content();
        let checked = oci_package::check(source, found.origin(&operand), &found.manifest).await;
        checked.map_err(|error| error.at(at))?;
        let ResolvedManifest {
            location, manifest, ..
        } = found;
        let name = location.reference(manifest.digest().clone());
        let files = oci_package::files(&manifest).map_err(|error| error.at(at))?;
        if files.is_empty() {
            let message = format!("failed to pull `{name}`: no layer is a file");
            return Err(report::not_found(message, "has no files", at)
                .with_help(format!("run `oci manifest {name}` to show its layers")));
        }
        let source = Arc::clone(location.content());
        let groups = if self.uses_titles {
            vec![FileSource { source, files }]
        } else {
            let contents = oci_package::open_archives(source, files, &self.directory, |_, _| {});
            contents.await.map_err(|error| error.at(at))?
        };
        let groups = self.filter_included(groups, &name)?;
        let mut rows = Vec::new();
        for group in groups {
            rows.extend(self.write(group, at).await?.into_iter().map(Ok));
        }
        Ok(stream::iter(rows).boxed())
    }

    /// Returns the name that a file is written under.
    fn name<'a>(&self, file: &'a PackageFile) -> &'a FileName {
        let title = file.title.as_ref().filter(|_| self.uses_titles);
        title.unwrap_or(&file.name)
    }

    /// Removes the files that match no `--include` pattern. Fails if no file remains.
    fn filter_included(
        &self,
        mut groups: Vec<FileSource>,
        name: &str,
    ) -> Result<Vec<FileSource>, LabeledError> {
        let Some(include) = &self.include else {
            return Ok(groups);
        };
        let files = groups.iter().flat_map(|group| &group.files);
        let names: Vec<_> = files.map(|file| format!("`{}`", self.name(file))).collect();
        for group in &mut groups {
            group.files.retain(|file| {
                let name = self.name(file).as_str();
                include.item.iter().any(|pattern| pattern.matches(name))
            });
        }
        groups.retain(|group| !group.files.is_empty());
        if groups.is_empty() {
            let message = format!("failed to pull `{name}`: no file matches --include");
            return Err(report::not_found(message, "matches no file", include.span)
                .with_help(format!("choose from these files: {}", names.join(", "))));
        }
        Ok(groups)
    }

    /// Writes the files of one source, and returns a row for each file.
    async fn write(&self, group: FileSource, at: Span) -> Result<Vec<Value>, LabeledError> {
        let FileSource { source, files } = group;
        let file_entry = |file: &PackageFile| FileEntry {
            name: self.name(file).clone(),
            ..file.to_file_entry()
        };
        let file_entries: Vec<_> = files.iter().map(file_entry).collect();
        let paths = Mutex::new(BTreeMap::new());
        let observer = |written: &FileEntry, path: &Path| {
            let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
            paths.insert(written.name.clone(), path.to_owned());
        };
        let options = UnpackOptions {
            replace: self.may_overwrite,
            concurrency: self.concurrency,
            observer: &observer,
            ..UnpackOptions::default()
        };
        let unpacked = unpack(&*source, &file_entries, &self.directory, options).await;
        unpacked.map_err(|error| {
            let is_conflict = error.kind() == ErrorKind::Conflict;
            let error = error.at(at);
            if is_conflict {
                error.with_help(
                    "choose another directory with --output, or pass --force to overwrite the file",
                )
            } else {
                error
            }
        })?;
        let paths = paths.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rows = std::iter::zip(&files, &file_entries).map(|(file, file_entry)| {
            let path = paths.get(&file_entry.name).cloned().unwrap_or_default();
            let row = record! {
                "path" => Value::string(path.to_string_lossy(), self.span),
                "kind" => Value::string(file.kind.to_string(), self.span),
                "size" => value::size(Some(file_entry.descriptor.size), self.span),
                "digest" => value::text(Some(&file_entry.descriptor.digest), self.span),
            };
            Value::record(row, self.span)
        });
        Ok(rows.collect())
    }
}

/// Parses a pattern or a list of patterns.
fn parse_patterns(value: &Value) -> Result<Vec<Pattern>, LabeledError> {
    let parse = |text: &Value| {
        Pattern::new(text.as_str()?).map_err(|error| {
            let message = format!(
                "failed to parse the pattern `{}`",
                text.as_str().unwrap_or_default()
            );
            report::invalid(message, error.msg, text.span())
        })
    };
    settings::as_list(value).iter().map(parse).collect()
}
