//! Resolution of an operand to a manifest.
//!
//! The resolver opens the location. A repository without a tag or digest resolves to its highest release. `--target` or
//! `--platform` selects a manifest from an index; `oci-package` implements the selection.

use std::path::{Path, PathBuf};

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Signature, Span, Spanned, SyntaxShape};
use oci_package::{ManifestOrigin, ManifestSelector, platform};
use oci_registry::{
    Client, Error, ErrorKind, Identifier, Location, LocationText, Manifest, Source,
};

use crate::input::Operand;
use crate::not_found::{self, ReferencePart};
use crate::open_location::OpenLocation;
use crate::report::{self, ToLabeledError};

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Root directory of this machine's file system.
const ROOT: &str = "/";

/// Resolver that returns the manifest to which an operand refers.
#[derive(Debug)]
pub(crate) struct OperandResolver {
    client: Client,
    base: PathBuf,
    /// Selectors for a manifest in an index, in order of preference. If the list is empty, no manifest is selected from
    /// an index.
    selection: Vec<ManifestSelector>,
    /// Selectors to use if the user selects nothing and the tag does not exist.
    fallback: Vec<ManifestSelector>,
    /// Span of the flag `--target` or `--platform`.
    selection_span: Option<Span>,
    /// Engine that returns the source code, for labels at a part of a reference.
    engine: Option<EngineInterface>,
}

/// Manifest that an operand resolved to.
#[derive(Debug)]
pub(crate) struct ResolvedManifest {
    /// The repository, layout or archive that contains the manifest.
    pub(crate) location: OpenLocation,
    /// The tag or digest of the operand, or the tag of the highest release.
    pub(crate) identifier: Identifier,
    /// The manifest of the operand, or the manifest that was selected from its index.
    pub(crate) manifest: Manifest,
    /// The index from which the manifest was selected.
    pub(crate) index: Option<Manifest>,
}

impl ResolvedManifest {
    /// Returns the tag and the index that led to the manifest.
    pub(crate) fn origin<'a>(&'a self, operand: &'a Operand<Location>) -> ManifestOrigin<'a> {
        ManifestOrigin::new(&operand.name, &self.identifier).with_index(self.index.as_ref())
    }
}

impl OperandResolver {
    /// Creates a resolver that does not select a manifest from an index. Relative paths are resolved against `base`.
    pub(crate) fn new(client: Client, base: &Path) -> Self {
        Self {
            client,
            base: base.to_owned(),
            selection: Vec::new(),
            fallback: Vec::new(),
            selection_span: None,
            engine: None,
        }
    }

    /// Enables error labels that mark a part of a reference.
    pub(crate) fn with_engine(mut self, engine: &EngineInterface) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Adds the flags `--target` and `--platform` to a signature.
    pub(crate) fn selection_flags(signature: Signature) -> Signature {
        signature
            .named(
                "target",
                SyntaxShape::String,
                "Select the manifest of an index for this target triple",
                Some('t'),
            )
            .named(
                "platform",
                SyntaxShape::String,
                "Select the manifest of an index for this platform, as `OS/ARCHITECTURE[/VARIANT]`",
                Some('p'),
            )
    }

    /// Selects a manifest from an index if `--target` or `--platform` is given.
    pub(crate) fn with_selection(mut self, call: &EvaluatedCall) -> Result<Self, LabeledError> {
        if let Some(selection) = read_selection(call)? {
            self.selection_span = Some(selection.span);
            self.selection = vec![selection.item];
        }
        Ok(self)
    }

    /// Selects the manifest for this machine from an index, unless a flag selects another manifest.
    pub(crate) fn for_machine(mut self) -> Self {
        if self.selection.is_empty() {
            self.selection = ManifestSelector::for_machine(Path::new(ROOT), BUILT_FOR);
        }
        self
    }

    /// Selects the manifest for this machine if the tag of a version does not exist, because other targets are missing.
    pub(crate) fn with_machine_fallback(mut self) -> Self {
        self.fallback = ManifestSelector::for_machine(Path::new(ROOT), BUILT_FOR);
        self
    }

    /// Returns the client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the resolver selects a manifest from an index.
    pub(crate) fn has_selection(&self) -> bool {
        !self.selection.is_empty()
    }

    /// Returns the directory against which relative paths are resolved.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Splits the path of a location from its tag or digest. The location will be read.
    pub(crate) async fn locate(
        &self,
        operand: Operand<LocationText>,
    ) -> Result<Operand<Location>, LabeledError> {
        let span = operand.span;
        let name = operand.name.locate(&self.base).await;
        let name = name.map_err(|error| error.at(span))?;
        Ok(Operand { name, span })
    }

    /// Splits the path of a location from its tag or digest. Content of the location will be deleted.
    pub(crate) async fn locate_deletable(
        &self,
        operand: Operand<LocationText>,
    ) -> Result<Operand<Location>, LabeledError> {
        let span = operand.span;
        let name = operand.name.locate_deletable(&self.base).await;
        let name = name.map_err(|error| error.at(span))?;
        Ok(Operand { name, span })
    }

    /// Opens the location of an operand for reading.
    pub(crate) async fn open(
        &self,
        operand: &Operand<Location>,
    ) -> Result<OpenLocation, LabeledError> {
        let opened = OpenLocation::open(&self.client, &operand.name, &self.base);
        opened
            .await
            .map_err(|error| self.not_found(&error, ReferencePart::Location, operand))
    }

    /// Converts an error. If the content was not found, the label marks `part` of the operand.
    pub(crate) fn not_found(
        &self,
        error: &Error,
        part: ReferencePart,
        operand: &Operand<Location>,
    ) -> LabeledError {
        not_found::report(error, part, operand, self.engine.as_ref())
    }

    /// Converts an error that occurred when a manifest was read, and adds hints about the existing tags.
    pub(crate) async fn manifest_not_found(
        &self,
        source: &dyn Source,
        error: Error,
        operand: &Operand<Location>,
    ) -> LabeledError {
        let error = oci_package::explain(source, &operand.name, error).await;
        self.not_found(&error, ReferencePart::Identifier, operand)
    }

    /// Resolves an operand to its manifest.
    pub(crate) async fn resolve(
        &self,
        operand: &Operand<Location>,
    ) -> Result<ResolvedManifest, LabeledError> {
        let location = self.open(operand).await?;
        let (source, name) = (&**location.content(), &operand.name);
        let identifier = oci_package::resolve_identifier(source, name, None).await;
        let identifier =
            identifier.map_err(|error| self.not_found(&error, ReferencePart::Location, operand))?;
        let found = if self.selection.is_empty() {
            oci_package::resolve_manifest_or_target(source, name, &identifier, &self.fallback).await
        } else {
            oci_package::resolve_manifest(source, name, &identifier, &self.selection).await
        };
        let (manifest, index) = match (found, self.selection_span) {
            (Ok(found), _) => found,
            // The index exists, but has no matching manifest.
            (Err(error), Some(span))
                if error.kind() == ErrorKind::NotFound
                    && source.resolve(&identifier).await.is_ok() =>
            {
                return Err(error.labelled("not in the index", span));
            }
            (Err(error), _) => {
                return Err(self.not_found(&error, ReferencePart::Identifier, operand));
            }
        };
        if !self.selection.is_empty() || !self.fallback.is_empty() {
            let listed_in = index.as_ref().map(Manifest::digest);
            let incomplete =
                oci_package::find_incomplete_release(source, &identifier, &manifest, listed_in);
            if let Some(release) = incomplete.await {
                report::warn(&release.to_string());
            }
        }
        Ok(ResolvedManifest {
            location,
            identifier,
            manifest,
            index,
        })
    }
}

/// Reads the flags `--target` and `--platform`.
fn read_selection(call: &EvaluatedCall) -> Result<Option<Spanned<ManifestSelector>>, LabeledError> {
    let target: Option<Spanned<String>> = call.get_flag("target")?;
    let platform: Option<Spanned<String>> = call.get_flag("platform")?;
    match (target, platform) {
        (None, None) => Ok(None),
        (Some(target), None) => Ok(Some(Spanned {
            item: ManifestSelector::from_target(&target.item, Path::new(ROOT), BUILT_FOR),
            span: target.span,
        })),
        (None, Some(platform)) => {
            let parsed = platform::parse(&platform.item);
            let parsed = parsed.map_err(|error| error.at(platform.span))?;
            Ok(Some(Spanned {
                item: ManifestSelector::Platform(parsed),
                span: platform.span,
            }))
        }
        (Some(target), Some(platform)) => Err(report::invalid(
            "failed to select a manifest: both --target and --platform are given",
            "target",
            target.span,
        )
        .with_label("platform", platform.span)
        .with_help("leave out --target or --platform")),
    }
}
