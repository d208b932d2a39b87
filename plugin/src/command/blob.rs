//! `oci blob`: bytes by their digest.

use std::path::PathBuf;
use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, Spanned, SyntaxShape, Type,
    Value, record,
};
use oci_registry::{BlobStream, Descriptor, ErrorKind, Identifier, LocationText, OutputFile};

use crate::OciPlugin;
use crate::completion::completes;
use crate::input::Subject;
use crate::lookup::Lookup;
use crate::missing::Part;
use crate::report::{self, Report};
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Largest blob that is given out as a value, in bytes: it is held in memory, twice at that.
const MAX_VALUE: usize = 64 << 20;

/// Fetches blobs.
pub(crate) struct Blob;

impl PluginCommand for Blob {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci blob"
    }

    fn signature(&self) -> Signature {
        let columns = value::blob_file_columns;
        let one = Type::one_of([value::record(columns()), Type::Binary]);
        let list = Type::one_of([value::table(columns()), Type::list(Type::Binary)]);
        let signature = Signature::build(self.name())
            .optional(
                "reference",
                SyntaxShape::String,
                "The blob, as `REGISTRY/REPOSITORY@DIGEST` or `oci:DIRECTORY@DIGEST`",
            )
            .named(
                "output",
                SyntaxShape::Filepath,
                "Write it to this file, device or pipe instead",
                Some('o'),
            )
            .switch("force", "Replace a file that is there", Some('f'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Fetch a blob by its digest."
    }

    fn extra_description(&self) -> &'static str {
        "The bytes as a binary value, up to 64 MiB of them; larger blobs go to a file with --output. Nothing is given out, \
         and no file gets its name, before the digest has been verified."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["layer", "download", "content", "bytes"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl | get layers | where title =~ LICENSE | oci blob | first | decode",
                description: "Read a file of a release",
                result: None,
            },
            Example {
                example: "oci blob ghcr.io/acme/widgets@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --output layer.tar.gz",
                description: "Fetch a layer into a file",
                result: None,
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
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<LocationText>(input)?;
        let output: Option<Spanned<PathBuf>> = call.get_flag("output")?;
        if let Some(output) = output.as_ref().filter(|_| asked.is_list()) {
            return Err(report::invalid(
                "failed to write a list of blobs to one file",
                "this is for one blob",
                output.span,
            )
            .with_help("use `each`, with a name for each of them"));
        }
        let output = output.map(|output| Output {
            path: session.resolve(output.item),
            span: output.span,
        });
        let fetching = Fetching {
            lookup: session.lookup(),
            output,
            replaces: call.has_flag("force")?,
            span: call.head,
        };
        session.values(asked, fetching, Fetching::fetch)
    }
}

/// How this call fetches blobs.
struct Fetching {
    lookup: Lookup,
    output: Option<Output>,
    replaces: bool,
    span: Span,
}

/// The file that a blob is written to.
struct Output {
    path: PathBuf,
    span: Span,
}

impl Fetching {
    async fn fetch(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Value, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let at = asked.span;
        let Some(Identifier::Digest(digest)) = asked.name.identifier() else {
            let message = format!("failed to fetch a blob of `{}`", asked.name);
            return Err(report::invalid(message, "names no digest", at)
                .with_help("blobs have no tags: add `@DIGEST`, such as `oci manifest` shows"));
        };
        if let Some(output) = &self.output {
            let checked = OutputFile::check(&output.path, self.replaces);
            checked.map_err(|error| output.refused(&error))?;
        }
        let place = self.lookup.place(&asked).await?;
        let descriptor = place.content().find_blob(&digest).await;
        let descriptor =
            descriptor.map_err(|error| self.lookup.missing(&error, Part::Blob, &asked))?;
        let is_too_large = descriptor.size > MAX_VALUE as u64;
        if self.output.is_none() && is_too_large {
            let size = descriptor.size;
            let message = format!("failed to give out `{}`: it has {size} bytes", asked.name);
            return Err(report::invalid(message, "is too large for a value", at)
                .with_help("--output writes it to a file"));
        }
        let blob = place.content().blob(&descriptor).await;
        let blob = blob.map_err(|error| error.at(at))?;
        if let Some(output) = &self.output {
            return self.write(blob, &descriptor, output, at).await;
        }
        let bytes = blob.read_to_end(MAX_VALUE).await;
        let bytes = bytes.map_err(|error| error.at(at))?;
        Ok(Value::binary(bytes, self.span))
    }

    /// Writes the blob to its file.
    async fn write(
        &self,
        blob: BlobStream,
        descriptor: &Descriptor,
        output: &Output,
        at: Span,
    ) -> Result<Value, LabeledError> {
        let file = OutputFile::create(output.path.clone(), self.replaces).await;
        let file = file.map_err(|error| output.refused(&error))?;
        let written = file.write(blob).await;
        written.map_err(|error| error.at(at))?;
        let finished = file.finish().await;
        finished.map_err(|error| output.refused(&error))?;
        let row = record! {
            "path" => Value::string(output.path.to_string_lossy(), self.span),
            "size" => value::size(Some(descriptor.size), self.span),
            "digest" => value::text(Some(&descriptor.digest), self.span),
        };
        Ok(Value::record(row, self.span))
    }
}

impl Output {
    fn refused(&self, error: &oci_registry::Error) -> LabeledError {
        let is_conflict = error.kind() == ErrorKind::Conflict;
        let label = if is_conflict {
            "exists"
        } else {
            "cannot be written"
        };
        let refused = error.labelled(label, self.span);
        if is_conflict && !self.path.is_dir() {
            refused.with_help("choose another name, or pass --force")
        } else {
            refused
        }
    }
}
