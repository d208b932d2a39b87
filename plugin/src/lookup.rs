//! Which manifest a command means.
//!
//! Owns the way from what was asked about to a manifest: the place is opened, a repository alone means its highest
//! release, and --target or --platform choose in an index. Does not own what fits a target: that is `oci_package::find`.

use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use nu_plugin::EvaluatedCall;
use nu_protocol::{LabeledError, Signature, Span, Spanned, SyntaxShape};
use oci_package::{Machine, Wanted, platform, tag};
use oci_registry::{Client, Identifier, Location, Manifest, Tag};

use crate::input::Subject;
use crate::place::Place;
use crate::report::{self, Report};

/// The target that this program was built for, which this machine evidently runs.
const BUILT_FOR: &str = env!("BUILT_FOR");

/// How a call looks for manifests.
#[derive(Debug)]
pub(crate) struct Lookup {
    client: Client,
    base: PathBuf,
    wanted: Option<Wanted>,
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
}

impl Lookup {
    /// A lookup with nothing wanted in particular; relative paths are meant from `base`.
    pub(crate) fn new(client: Client, base: &Path) -> Self {
        Self {
            client,
            base: base.to_owned(),
            wanted: None,
        }
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
        self.wanted = wanted(call)?;
        Ok(self)
    }

    /// Chooses in an index what runs on this machine, unless the flags ask for something else.
    pub(crate) fn for_machine(mut self) -> Self {
        self.wanted.get_or_insert_with(|| {
            Wanted::Machine(Machine {
                target: BUILT_FOR.to_owned(),
                glibc: None,
            })
        });
        self
    }

    /// The client that is asked.
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

    /// Opens the place of what was asked about.
    pub(crate) async fn place(&self, asked: &Subject<Location>) -> Result<Place, LabeledError> {
        let place = Place::open(&self.client, &asked.name, &self.base);
        place.await.map_err(|error| error.at(asked.span))
    }

    /// Finds the manifest that was asked about.
    pub(crate) async fn find(&self, asked: &Subject<Location>) -> Result<Found, LabeledError> {
        let at = asked.span;
        let place = self.place(asked).await?;
        let identifier = match asked.name.identifier() {
            Some(identifier) => identifier,
            None => highest_release(&place, at).await?,
        };
        let source = &**place.content();
        let manifest = match &self.wanted {
            Some(wanted) => oci_package::find(source, &identifier, wanted)
                .await
                .map_err(|error| error.at(at))?,
            None => source
                .manifest(&identifier)
                .await
                .map_err(|error| error.at(at))?,
        };
        Ok(Found {
            place,
            identifier,
            manifest,
        })
    }
}

/// What --target or --platform ask for.
fn wanted(call: &EvaluatedCall) -> Result<Option<Wanted>, LabeledError> {
    let target: Option<Spanned<String>> = call.get_flag("target")?;
    let platform: Option<Spanned<String>> = call.get_flag("platform")?;
    match (target, platform) {
        (None, None) => Ok(None),
        (Some(target), None) => Ok(Some(Wanted::Target(target.item))),
        (None, Some(platform)) => {
            let parsed = platform::parse(&platform.item);
            let platform = parsed.map_err(|error| error.at(platform.span))?;
            Ok(Some(Wanted::Platform(platform)))
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

async fn highest_release(place: &Place, at: Span) -> Result<Identifier, LabeledError> {
    let tags: Result<Vec<Tag>, _> = place.content().tags().try_collect().await;
    let tags = tags.map_err(|error| error.at(at))?;
    match tag::highest(&tags) {
        Some((tag, _)) => Ok(tag.clone().into()),
        None => Err(report::not_found(
            format!("failed to find a release in `{}`", place.name()),
            "has no version among its tags",
            at,
        )
        .with_help("add a tag or a digest; `oci tags` lists the tags")),
    }
}
