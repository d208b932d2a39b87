//! Resolution of an operand to a manifest.
//!
//! The place is opened, a repository without tag and digest resolves to its highest release, and `--target` or
//! `--platform` select a manifest from an index. `oci_package::find` decides which manifest matches a target.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Signature, Span, Spanned, SyntaxShape};
use oci_package::{Machine, ManifestOrigin, ManifestSelector, platform, tag};
use oci_registry::{Client, Error, ErrorKind, Identifier, Location, LocationText, Manifest, Tag};

use crate::input::Operand;
use crate::missing::{self, Part};
use crate::place::Place;
use crate::report::{self, ToLabeledError};

/// Target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// Resolves the operands of a call to manifests.
#[derive(Debug)]
pub(crate) struct Lookup {
    client: Client,
    base: PathBuf,
    wanted: Option<ManifestSelector>,
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
            wanted: None,
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
            self.wanted = Some(wanted.item);
        }
        Ok(self)
    }

    /// Selects the manifest for this machine from an index, unless the flags select another one.
    pub(crate) fn for_machine(mut self) -> Self {
        self.wanted = self.wanted.or_else(|| {
            let machines = Machine::detect(Path::new("/"), BUILT_FOR);
            machines.into_iter().next().map(ManifestSelector::Machine)
        });
        self
    }

    /// Returns the client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether a manifest is selected from an index.
    pub(crate) fn has_selection(&self) -> bool {
        self.wanted.is_some()
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

    /// Resolves an operand to its manifest.
    pub(crate) async fn find(&self, operand: &Operand<Location>) -> Result<Found, LabeledError> {
        let place = self.place(operand).await?;
        let identifier = match operand.name.identifier() {
            Some(identifier) => identifier,
            None => self.highest_release(&place, operand).await?,
        };
        let source = &**place.content();
        let (manifest, index) = if let Some(wanted) = &self.wanted {
            let found = oci_package::find_listed(source, &identifier, wanted).await;
            found.map_err(|error| match self.wanted_span {
                // The index exists, but has no matching manifest.
                Some(wanted) if is_plain_not_found(&error) => {
                    error.labelled("not in the index", wanted)
                }
                _ => self.missing(&error, Part::Manifest, operand),
            })?
        } else {
            let found = source.manifest(&identifier).await;
            let found = found.map_err(|error| self.missing(&error, Part::Manifest, operand))?;
            (found, None)
        };
        Ok(Found {
            place,
            identifier,
            manifest,
            index,
        })
    }

    async fn highest_release(
        &self,
        place: &Place,
        operand: &Operand<Location>,
    ) -> Result<Identifier, LabeledError> {
        let tags: Result<Vec<Tag>, _> = place.content().tags().try_collect().await;
        let tags = tags.map_err(|error| self.missing(&error, Part::Place, operand))?;
        match tag::highest(&tags) {
            Some((tag, _)) => Ok(tag.clone().into()),
            None => Err(report::not_found(
                format!("failed to find a release in `{}`", place.name()),
                "has no tag that is a version",
                operand.span,
            )
            .with_help("append a tag or a digest; `oci tags` lists the tags")),
        }
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
            item: ManifestSelector::Target(platform::target_name(&target.item, BUILT_FOR)),
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
