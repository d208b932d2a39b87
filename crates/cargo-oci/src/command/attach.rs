//! `cargo oci attach`: attach files to an artifact by pushing them as a referrer.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use oci_package::{annotation, media};
use oci_registry::{
    Annotations, Blob, CopyOptions, Descriptor, FileName, LocationText, MediaType, Mode, Packed,
    Source,
};

use super::copy::CopyReporter;
use super::find::{self, SelectorFlags};
use crate::message::FormatFlag;
use crate::naming;
use crate::options::parse_location;
use crate::report::Error;
use crate::session::Session;
use crate::typed_path::{TypedPath, is_media_type};

/// Attach SBOMs, reports or signatures to an artifact
///
/// The files become a new artifact whose `subject` is the given artifact. `cargo oci referrers` lists the new artifact,
/// `cargo oci copy --referrers` copies it, and `cargo oci pull` with the printed reference downloads its files. The
/// same files always produce the same digest.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo oci attach ghcr.io/acme/widgets:1.2.3 widgets.spdx.json\n  cargo oci attach ghcr.io/acme/widgets:1.2.3 --target x86_64-unknown-linux-musl widgets.cdx.json\n  cargo oci attach oci:widgets:1.2.3 --artifact-type application/vnd.acme.report results.xml:application/xml"
)]
pub(crate) struct Flags {
    /// Artifact to attach the files to
    ///
    /// REGISTRY/REPOSITORY:TAG, REGISTRY/REPOSITORY@DIGEST, oci:DIR:TAG, oci:DIR@DIGEST or an archive.
    #[arg(value_name = "REFERENCE", value_parser = parse_location)]
    reference: LocationText,

    /// Files to attach, each with an optional media type
    ///
    /// The default media type is derived from the file name.
    #[arg(value_name = "FILE[:TYPE]", required = true)]
    files: Vec<TypedPath>,

    /// Artifact type of the new manifest
    ///
    /// The default is derived from the name of the first file: SPDX, CycloneDX, SARIF and in-toto documents are known.
    #[arg(long, value_name = "TYPE", value_parser = parse_artifact_type)]
    artifact_type: Option<MediaType>,

    /// Add an annotation to the manifest
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::push::parse_annotation)]
    annotation: Vec<(String, String)>,

    #[command(flatten)]
    selector: SelectorFlags,

    #[command(flatten)]
    pub(crate) format: FormatFlag,
}

/// File to attach as a layer.
struct Attachment {
    path: PathBuf,
    media_type: Option<MediaType>,
}

fn parse_artifact_type(text: &str) -> Result<MediaType, &'static str> {
    if is_media_type(text) {
        Ok(text.into())
    } else {
        Err("expected a media type, such as `application/spdx+json`")
    }
}

impl Attachment {
    fn new((path, media_type): (PathBuf, Option<MediaType>)) -> Self {
        Self { path, media_type }
    }

    fn file_name(&self) -> Result<FileName, Error> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        name.parse().map_err(|error: oci_registry::Error| {
            Error::usage(format!(
                "failed to attach `{}`: {error}",
                self.path.display()
            ))
            .help("rename the file")
        })
    }

    /// Returns the media type on the command line, or else the media type of the document format that the file name
    /// indicates.
    fn given_or_document_type(&self) -> Option<MediaType> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.media_type
            .clone()
            .or_else(|| media::from_document_name(&name))
    }
}

/// Packs the files as an artifact with a `subject`, and pushes this artifact.
pub(crate) async fn run(session: &Session, flags: Flags) -> Result<(), Error> {
    let reference = session.locate(&flags.reference).await?;
    let root = naming::require_identifier(&reference, "attach")?;
    let mut attachments = Vec::new();
    for file in &flags.files {
        let attachment = Attachment::new(file.split(session));
        if !session.resolve(&attachment.path).is_file() {
            return Err(Error::usage(format!(
                "failed to attach `{file}`: no such file"
            ))
            .help("check the path, or append a media type after a colon, as in `results.xml:application/xml`"));
        }
        attachments.push(attachment);
    }
    let document_type = attachments
        .first()
        .and_then(Attachment::given_or_document_type);
    let Some(artifact_type) = flags.artifact_type.clone().or(document_type) else {
        return Err(
            Error::usage("failed to attach the files: unknown artifact type")
                .help("pass `--artifact-type`, for example `application/vnd.acme.report`"),
        );
    };
    let mut layers = Vec::new();
    for file in &attachments {
        let name = file.file_name()?;
        let media_type = file.given_or_document_type();
        let media_type = media_type.unwrap_or_else(|| media::from_file_name(name.as_str()));
        let mut blob = Blob::from_file(media_type, &session.resolve(&file.path)).await?;
        let annotations = &mut blob.descriptor_mut().annotations;
        annotations.insert(annotation::TITLE.to_owned(), name.to_string());
        layers.push(blob);
    }
    let target = session.open_target(&reference, Mode::Existing).await?;
    let selector = flags.selector.manifest_selector();
    let subject = find::resolve_manifest(&*target, &reference, &root, selector.as_ref()).await?;
    let descriptor = Descriptor::new(
        subject.media_type().clone(),
        subject.digest().clone(),
        subject.bytes().len() as u64,
    );
    let annotations: Annotations = flags.annotation.into_iter().collect();
    let packed =
        Packed::new(artifact_type, Blob::empty(), layers, annotations)?.with_subject(descriptor)?;
    let digest = packed.manifest().digest().clone();
    let name = reference.with(digest.clone());
    let whole = reference.whole_repository();
    session.reporter.status(
        "Attaching",
        format_args!("{name} to {}", reference.with(subject.digest().clone())),
    );
    let mut reporter = CopyReporter::new_silent(session, &whole, "Attached");
    let observer = |event| reporter.report_event(event);
    let options = CopyOptions {
        concurrency: session.concurrency,
        observer: &observer,
        ..CopyOptions::default()
    };
    let source: Arc<dyn Source> = Arc::new(packed);
    oci_registry::copy(&source, &digest.clone().into(), &*target, options).await?;
    reporter.finish();
    session.report_finished(&name, &digest, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_is_derived_from_file_name_unless_given() {
        let known = |path: &str, media_type: Option<&str>| {
            let attachment = Attachment::new((path.into(), media_type.map(MediaType::from)));
            attachment
                .given_or_document_type()
                .map(|kind| kind.to_string())
        };
        let xml = Some("application/xml");
        assert_eq!(known("out/results.xml", xml).as_deref(), xml);
        assert_eq!(known("C:/x", None), None);
        assert_eq!(
            known("widgets.spdx.json", None).as_deref(),
            Some("application/spdx+json")
        );
    }
}
