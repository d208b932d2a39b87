//! Which manifest a command means.
//!
//! Owns the way from what was asked about to a manifest: the place is opened, a repository alone means its highest
//! release, and --target or --platform choose in an index. Does not own what fits a target: that is `oci_package::find`.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use nu_plugin::{EngineInterface, EvaluatedCall};
use nu_protocol::{LabeledError, Signature, Span, Spanned, SyntaxShape};
use oci_package::{Listing, Machine, Wanted, platform, tag};
use oci_registry::{Client, Error, ErrorKind, Identifier, Location, LocationText, Manifest, Tag};

use crate::input::Operand;
use crate::missing::{self, Part};
use crate::place::Place;
use crate::report::{self, ToLabeledError};

/// The target triple that this program was built for.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// How a call looks for manifests.
#[derive(Debug)]
pub(crate) struct Lookup {
    client: Client,
    base: PathBuf,
    wanted: Option<Wanted>,
    /// Where it is written what is wanted, if it is.
    wanted_at: Option<Span>,
    /// Who is asked what was written, when something is amiss with it.
    engine: Option<EngineInterface>,
}

/// A manifest that was found, and where.
#[derive(Debug)]
pub(crate) struct Found {
    /// The place it is in.
    pub(crate) place: Place,
    /// What was asked for there: the name that was given, or the highest release.
    pub(crate) identifier: Identifier,
    /// The manifest.
    pub(crate) manifest: Manifest,
    /// The index in which it was selected.
    pub(crate) index: Option<Manifest>,
}

impl Found {
    /// Tag and index that led to the manifest of what was asked about.
    pub(crate) fn listing<'a>(&'a self, operand: &'a Operand<Location>) -> Listing<'a> {
        Listing::new(&operand.name, &self.identifier).within(self.index.as_ref())
    }
}

impl Lookup {
    /// A lookup with nothing wanted in particular; relative paths are meant from `base`.
    pub(crate) fn new(client: Client, base: &Path) -> Self {
        Self {
            client,
            base: base.to_owned(),
            wanted: None,
            wanted_at: None,
            engine: None,
        }
    }

    /// Lets errors point at parts of what was written.
    pub(crate) fn pointing(mut self, engine: &EngineInterface) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Adds the flags that choose in an index.
    pub(crate) fn flags(signature: Signature) -> Signature {
        signature
            .named(
                "target",
                SyntaxShape::String,
                "Of an index, take what was built for this target triple",
                Some('t'),
            )
            .named(
                "platform",
                SyntaxShape::String,
                "Of an index, take what is for this platform, as `OS/ARCHITECTURE[/VARIANT]`",
                Some('p'),
            )
    }

    /// Chooses in an index what the flags ask for, if they do.
    pub(crate) fn choosing(mut self, call: &EvaluatedCall) -> Result<Self, LabeledError> {
        if let Some(wanted) = wanted(call)? {
            self.wanted_at = Some(wanted.span);
            self.wanted = Some(wanted.item);
        }
        Ok(self)
    }

    /// Chooses in an index what runs on this machine, unless the flags ask for something else.
    pub(crate) fn for_machine(mut self) -> Self {
        self.wanted = self.wanted.or_else(|| {
            let machines = Machine::detect(Path::new("/"), BUILT_FOR);
            machines.into_iter().next().map(Wanted::Machine)
        });
        self
    }

    /// The client that is operand.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether something is to be chosen in an index.
    pub(crate) fn chooses(&self) -> bool {
        self.wanted.is_some()
    }

    /// Where relative paths are meant from.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Separates the path and the name of a location that is read.
    pub(crate) async fn locate(
        &self,
        operand: Operand<LocationText>,
    ) -> Result<Operand<Location>, LabeledError> {
        let span = operand.span;
        let name = operand.name.locate(&self.base).await;
        let name = name.map_err(|error| error.at(span))?;
        Ok(Operand { name, span })
    }

    /// Opens the place of what was asked about.
    pub(crate) async fn place(&self, operand: &Operand<Location>) -> Result<Place, LabeledError> {
        let place = Place::open(&self.client, &operand.name, &self.base);
        place
            .await
            .map_err(|error| self.missing(&error, Part::Place, operand))
    }

    /// A failure to get at this part of what was asked about.
    pub(crate) fn missing(
        &self,
        error: &Error,
        part: Part,
        operand: &Operand<Location>,
    ) -> LabeledError {
        missing::report(error, part, operand, self.engine.as_ref())
    }

    /// Finds the manifest that was asked about.
    pub(crate) async fn find(&self, operand: &Operand<Location>) -> Result<Found, LabeledError> {
        let place = self.place(operand).await?;
        let identifier = match operand.name.identifier() {
            Some(identifier) => identifier,
            None => self.highest_release(&place, operand).await?,
        };
        let source = &**place.content();
        let (manifest, index) = if let Some(wanted) = &self.wanted {
            let found = oci_package::find_listed(source, &identifier, wanted).await;
            found.map_err(|error| match self.wanted_at {
                // The index is there, and this is not in it.
                Some(wanted) if is_without_cause(&error) => error.labelled("is not in it", wanted),
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
                "has no version among its tags",
                operand.span,
            )
            .with_help("add a tag or a digest; `oci tags` lists the tags")),
        }
    }
}

/// Whether nothing went wrong but that it is not there.
fn is_without_cause(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && std::error::Error::source(error).is_none()
}

/// What --target or --platform ask for.
fn wanted(call: &EvaluatedCall) -> Result<Option<Spanned<Wanted>>, LabeledError> {
    let target: Option<Spanned<String>> = call.get_flag("target")?;
    let platform: Option<Spanned<String>> = call.get_flag("platform")?;
    match (target, platform) {
        (None, None) => Ok(None),
        (Some(target), None) => Ok(Some(Spanned {
            item: Wanted::Target(platform::target_name(&target.item, BUILT_FOR)),
            span: target.span,
        })),
        (None, Some(platform)) => {
            let parsed = platform::parse(&platform.item);
            let parsed = parsed.map_err(|error| error.at(platform.span))?;
            Ok(Some(Spanned {
                item: Wanted::Platform(parsed),
                span: platform.span,
            }))
        }
        (Some(target), Some(platform)) => Err(report::invalid(
            "failed to choose a manifest: both a target and a platform are given",
            "this target",
            target.span,
        )
        .with_label("this platform", platform.span)
        .with_help("leave one of the two out")),
    }
}
