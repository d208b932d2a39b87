//! `oci blob`: fetches a blob by its digest.

use std::path::PathBuf;
use std::sync::Arc;

use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, Spanned, SyntaxShape, Type,
    Value, record,
};
use oci_registry::{BlobStream, Descriptor, ErrorKind, Identifier, LocationText, OutputFile};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::completes;
use crate::input::Operand;
use crate::not_found::ReferencePart;
use crate::report::{self, ToLabeledError};
use crate::resolver::OperandResolver;
use crate::settings::ConnectionSettings;
use crate::value;

/// Maximum size of a blob that is returned as a value, in bytes. Memory holds two copies of the blob.
const MAX_VALUE: usize = 64 << 20;

/// The `oci blob` command.
pub(crate) struct BlobCommand;

impl PluginCommand for BlobCommand {
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
                "Write the blob to this file, device or pipe",
                Some('o'),
            )
            .switch("force", "Overwrite an existing file", Some('f'))
            .input_output_types(super::input_output_types(&one, &list))
            .category(Category::Network);
        ConnectionSettings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Fetch a blob by its digest."
    }

    fn extra_description(&self) -> &'static str {
        "Returns the bytes as a binary value of at most 64 MiB. Use --output to write larger blobs to a file. The \
         digest is verified before the value is returned or the file gets its final name."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["layer", "download", "content", "bytes"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci manifest ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl | get layers | where title =~ LICENSE | oci blob | first | decode",
                description: "Print the license file of a release",
                result: None,
            },
            Example {
                example: "oci blob ghcr.io/acme/widgets@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 --output layer.tar.gz",
                description: "Download a layer to a file",
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
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let output: Option<Spanned<PathBuf>> = call.get_flag("output")?;
        if let Some(output) = output.as_ref().filter(|_| operands.is_list()) {
            return Err(report::invalid(
                "failed to write a list of blobs to one file",
                "only one blob can be written to a file",
                output.span,
            )
            .with_help("use `each` to write each blob to a separate file"));
        }
        let output = output.map(|output| OutputArgument {
            path: context.resolve_path(output.item),
            span: output.span,
        });
        let blob_call = BlobCall {
            resolver: context.resolver(),
            output,
            may_overwrite: call.has_flag("force")?,
            span: call.head,
        };
        context.map_values(operands, blob_call, BlobCall::fetch)
    }
}

/// State of one call of `oci blob`.
struct BlobCall {
    resolver: OperandResolver,
    output: Option<OutputArgument>,
    may_overwrite: bool,
    span: Span,
}

/// File to which a blob is written.
struct OutputArgument {
    path: PathBuf,
    span: Span,
}

impl BlobCall {
    async fn fetch(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Value, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let at = operand.span;
        let Some(Identifier::Digest(digest)) = operand.name.identifier() else {
            let message = format!("failed to fetch a blob from `{}`", operand.name);
            return Err(report::invalid(message, "has no digest", at)
                .with_help("append `@DIGEST`; `oci manifest` lists the digests of the blobs"));
        };
        if let Some(output) = &self.output {
            let check = OutputFile::check(&output.path, self.may_overwrite);
            check.map_err(|error| output.labelled_error(&error))?;
        }
        let location = self.resolver.open(&operand).await?;
        let descriptor = location.content().find_blob(&digest).await;
        let descriptor = descriptor.map_err(|error| {
            self.resolver
                .not_found(&error, ReferencePart::BlobDigest, &operand)
        })?;
        let is_too_large = descriptor.size > MAX_VALUE as u64;
        if self.output.is_none() && is_too_large {
            let size = descriptor.size;
            let message = format!(
                "failed to return `{}` as a value: it has {size} bytes",
                operand.name
            );
            return Err(report::invalid(message, "larger than 64 MiB", at)
                .with_help("pass --output to write it to a file"));
        }
        let blob = location.content().blob(&descriptor).await;
        let blob = blob.map_err(|error| error.at(at))?;
        if let Some(output) = &self.output {
            return self.write(blob, &descriptor, output, at).await;
        }
        let bytes = blob.read_to_end(MAX_VALUE).await;
        let bytes = bytes.map_err(|error| error.at(at))?;
        Ok(Value::binary(bytes, self.span))
    }

    /// Writes the blob to the output file.
    async fn write(
        &self,
        blob: BlobStream,
        descriptor: &Descriptor,
        output: &OutputArgument,
        at: Span,
    ) -> Result<Value, LabeledError> {
        let file = OutputFile::create(output.path.clone(), self.may_overwrite).await;
        let file = file.map_err(|error| output.labelled_error(&error))?;
        let written = file.write(blob).await;
        written.map_err(|error| error.at(at))?;
        let finished = file.finish().await;
        finished.map_err(|error| output.labelled_error(&error))?;
        let row = record! {
            "path" => Value::string(output.path.to_string_lossy(), self.span),
            "size" => value::size(Some(descriptor.size), self.span),
            "digest" => value::text(Some(&descriptor.digest), self.span),
        };
        Ok(Value::record(row, self.span))
    }
}

impl OutputArgument {
    fn labelled_error(&self, error: &oci_registry::Error) -> LabeledError {
        let is_conflict = error.kind() == ErrorKind::Conflict;
        let label = if is_conflict {
            "already exists"
        } else {
            "cannot be written"
        };
        let report = error.labelled(label, self.span);
        if is_conflict && !self.path.is_dir() {
            report.with_help("choose another file name, or pass --force to overwrite the file")
        } else {
            report
        }
    }
}
