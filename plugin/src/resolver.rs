//! Resolution of an operand to a manifest.
//!
//! The place is opened, a repository without tag and digest resolves to its highest release, and `--target` or
//! `--platform` select a manifest from an index. `oci-package` decides which one matches.

use std::path::{Path, PathBuf};

use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Signature, Span, Spanned, SyntaxShape};
use oci_package::{ManifestOrigin, ManifestSelector, platform};
use oci_registry::{
    Client, Error, ErrorKind, Identifier, Location, LocationText, Manifest, Source,
};

use crate::input::Operand;
use crate::missing::{self, Part};
use crate::place::Place;
use crate::report::{self, ToLabeledError};

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Root directory of this machine.
const ROOT: &str = "/";

/// Resolves the operands of a call to manifests.
#[derive(Debug)]
pub(crate) struct Lookup {
    client: Client,
    base: PathBuf,
    /// Candidates in an index, best first. Empty if an index is returned as it is.
    wanted: Vec<ManifestSelector>,
    /// Span of the flag `--target` or `--platform`.
    wanted_span: Option<Span>,
    /// Engine to request source code from, for labels at a part of a reference.
    engine: Option<EngineInterface>,
}

/// A resolved manifest.
#[derive(Debug)]
pub(crate) struct Found {
    /// The place that contains the manifest.
    pub(crate) place: Place,
    /// The tag or digest of the operand, or the tag of the highest release.
    pub(crate) identifier: Identifier,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// The index that the manifest was selected from.
    pub(crate) index: Option<Manifest>,
}

impl Found {
    /// Returns the tag and the index through which the manifest was found.
    pub(crate) fn listing<'a>(&'a self, operand: &'a Operand<Location>) -> ManifestOrigin<'a> {
        ManifestOrigin::new(&operand.name, &self.identifier).with_index(self.index.as_ref())
    }
}

impl Lookup {
    /// Creates a lookup that returns an index as it is. Relative paths are resolved against `base`.
    pub(crate) fn new(client: Client, base: &Path) -> Self {
        Self {
            client,
            base: base.to_owned(),
            wanted: Vec::new(),
            wanted_span: None,
            engine: None,
        }
    }

    /// Enables error labels at a part of a reference.
    pub(crate) fn with_engine(mut self, engine: &EngineInterface) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Adds the flags that select a manifest from an index.
    pub(crate) fn flags(signature: Signature) -> Signature {
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
        if let Some(wanted) = wanted(call)? {
            self.wanted_span = Some(wanted.span);
            self.wanted = vec![wanted.item];
        }
        Ok(self)
    }

    /// Selects the manifest for this machine from an index, unless the flags select another one.
    pub(crate) fn for_machine(mut self) -> Self {
        if self.wanted.is_empty() {
            self.wanted = ManifestSelector::for_machine(Path::new(ROOT), BUILT_FOR);
        }
        self
    }

    /// Returns the client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether a manifest is selected from an index.
    pub(crate) fn has_selection(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Returns the directory that relative paths are resolved against.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Separates the path of a location to read from its tag or digest.
    pub(crate) async fn locate(
        &self,
        operand: Operand<LocationText>,
    ) -> Result<Operand<Location>, LabeledError> {
        let span = operand.span;
        let name = operand.name.locate(&self.base).await;
        let name = name.map_err(|error| error.at(span))?;
        Ok(Operand { name, span })
    }

    /// Separates the path of a location to delete from its tag or digest.
    pub(crate) async fn locate_deletable(
        &self,
        operand: Operand<LocationText>,
    ) -> Result<Operand<Location>, LabeledError> {
        let span = operand.span;
        let name = operand.name.locate_deletable(&self.base).await;
        let name = name.map_err(|error| error.at(span))?;
        Ok(Operand { name, span })
    }

    /// Opens the place of an operand for reading.
    pub(crate) async fn place(&self, operand: &Operand<Location>) -> Result<Place, LabeledError> {
        let place = Place::open(&self.client, &operand.name, &self.base);
        place
            .await
            .map_err(|error| self.missing(&error, Part::Place, operand))
    }

    /// Converts an error, with a label at the part of the operand that was not found.
    pub(crate) fn missing(
        &self,
        error: &Error,
        part: Part,
        operand: &Operand<Location>,
    ) -> LabeledError {
        missing::report(error, part, operand, self.engine.as_ref())
    }

    /// Converts an error about a manifest, with hints about the existing tags.
    pub(crate) async fn missing_manifest(
        &self,
        source: &dyn Source,
        error: Error,
        operand: &Operand<Location>,
    ) -> LabeledError {
        let error = oci_package::explain(source, &operand.name, error).await;
        self.missing(&error, Part::Manifest, operand)
    }

    /// Resolves an operand to its manifest.
    pub(crate) async fn find(&self, operand: &Operand<Location>) -> Result<Found, LabeledError> {
        let place = self.place(operand).await?;
        let (source, location) = (&**place.content(), &operand.name);
        let identifier = oci_package::resolve_identifier(source, location, None).await;
        let identifier = identifier.map_err(|error| self.missing(&error, Part::Place, operand))?;
        let found =
            oci_package::resolve_manifest(source, location, &identifier, &self.wanted).await;
        let (manifest, index) = found.map_err(|error| match self.wanted_span {
            // The index exists, but has no matching manifest.
            Some(wanted) if is_plain_not_found(&error) => {
                error.labelled("not in the index", wanted)
            }
            _ => self.missing(&error, Part::Manifest, operand),
        })?;
        Ok(Found {
            place,
            identifier,
            manifest,
            index,
        })
    }
}

/// Whether the content does not exist, as opposed to an error of a request.
fn is_plain_not_found(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && std::error::Error::source(error).is_none()
}

/// Reads the flags `--target` and `--platform`.
fn wanted(call: &EvaluatedCall) -> Result<Option<Spanned<ManifestSelector>>, LabeledError> {
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
        .with_help("leave out one of them")),
    }
}
