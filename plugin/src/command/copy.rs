//! `oci copy`: artifacts from any place to any other.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_registry::{
    CopyEvent, CopyOptions, Digest, Identifier, Location, LocationText, Manifest, Optional, Side,
    Tag, Target, copy, copy_all,
};
use tokio::sync::mpsc;

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::{self, Subject};
use crate::lookup::{Found, Lookup};
use crate::place::Place;
use crate::report::{self, Report};
use crate::runtime::{self, Rows};
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Copies artifacts.
pub(crate) struct Copy;

impl PluginCommand for Copy {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci copy"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::action_columns());
        let signature = Signature::build(self.name())
            .required(
                "source",
                SyntaxShape::String,
                "What is copied; left out where that comes through the pipeline",
            )
            .optional("target", SyntaxShape::String, "Where it is copied to")
            .switch("all-tags", "Copy every tag of the repository", Some('a'))
            .switch(
                "referrers",
                "Copy what is about it as well: signatures, SBOMs, attestations",
                None,
            )
            .switch("dry-run", "Only say what would be done", Some('n'))
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "Copy artifacts from any place to any other."
    }

    fn extra_description(&self) -> &'static str {
        "`oci copy SOURCE TARGET`, or `… | oci copy TARGET`: each end is a registry, a layout (`oci:DIRECTORY`) or an archive, \
         and every digest stays what it is. What is there already is not sent again.\n\n\
         A target without a tag keeps the tag of the source. A target that ends with `/`, such as `registry.acme.dev/` or \
         `registry.acme.dev/mirror/`, keeps the source's repository, too: that is for many repositories at once.\n\n\
         `action` is `copied`, or `unchanged` where the target had it under that name; with --dry-run `would copy` or \
         `unchanged`. --target and --platform copy one manifest of an index."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["mirror", "backup", "skopeo", "push", "promote", "save"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci copy ghcr.io/acme/widgets:1.2.3 registry.acme.dev/widgets --referrers",
                description: "Copy a release, and what is about it",
                result: None,
            },
            Example {
                example: "oci catalog registry.acme.dev | where name starts-with 'team-a/' | oci tags | where name == latest | oci copy mirror.acme.dev/",
                description: "Mirror the latest of many repositories under their own names",
                result: None,
            },
            Example {
                example: "oci copy ghcr.io/acme/widgets oci:backup/widgets --all-tags",
                description: "Back up a repository into a directory",
                result: None,
            },
        ]
    }

    completes!(|position| Some(if position == 0 {
        Kind::Manifest
    } else {
        Kind::Repository
    }));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let session = Session::open(plugin, engine, call)?;
        let (sources, target) = match call.positional.as_slice() {
            [source]
                if matches!(
                    input,
                    PipelineData::Empty | PipelineData::Value(Value::Nothing { .. }, _)
                ) =>
            {
                let message = "failed to copy: it is not said where to";
                return Err(
                    report::invalid(message, "a target is to follow", source.span()).with_help(
                        "write the target behind it, or pass the source through the pipeline",
                    ),
                );
            }
            [target] => (&[][..], target),
            [source, target] => (std::slice::from_ref(source), target),
            _ => {
                return Err(report::invalid(
                    "failed to copy",
                    "what and where to?",
                    call.head,
                ));
            }
        };
        let target = input::subject::<Destination<LocationText>>(engine, target)?;
        let (name, span) = (target.name.locate(session.current_dir()), target.span);
        let name = name.map_err(|error| error.at(span))?;
        let target = Subject { name, span };
        let asked = session.asked_by::<LocationText>(sources, input)?;
        let all_tags = call.has_flag("all-tags")?;
        let tag = target.name.tag();
        if let Some(tag) = tag.filter(|_| asked.is_list() || all_tags) {
            let message =
                format!("failed to copy a list to the tag `{tag}`: each needs a name of its own");
            return Err(report::invalid(message, "names one tag", target.span)
                .with_help("leave the tag out: every source keeps its own"));
        }
        let lookup = session.choosing_lookup()?;
        if let Some(span) = call
            .get_flag_span("all-tags")
            .filter(|_| all_tags && lookup.chooses())
        {
            let message = "failed to copy all tags: one manifest of an index is no tag";
            return Err(report::invalid(message, "copies whole tags", span)
                .with_help("leave --target and --platform out, or --all-tags"));
        }
        let copying = Copying {
            lookup,
            target,
            all_tags,
            referrers: call.has_flag("referrers")?,
            is_dry: call.has_flag("dry-run")?,
            concurrency: session.concurrency(),
            given: Mutex::default(),
            span: call.head,
        };
        // What several have in common is sent once.
        session.rows_in_turn(asked, copying, Copying::copy)
    }
}

/// The destination of a copy.
#[derive(Debug, Clone)]
enum Destination<L = Location> {
    /// This very place.
    Place(L),
    /// Below this, under the name of the source's repository.
    Below(String),
}

impl FromStr for Destination<LocationText> {
    type Err = oci_registry::Error;

    fn from_str(text: &str) -> oci_registry::Result<Self> {
        // What a repository is put below has to be a place together with it.
        let below = text
            .strip_suffix('/')
            .map(|_| format!("{text}x").parse::<LocationText>());
        match below {
            Some(Ok(_)) => Ok(Self::Below(text.to_owned())),
            _ => text.parse().map(Self::Place),
        }
    }
}

impl Destination<LocationText> {
    /// Separates the path and the name of a layout or archive.
    fn locate(self, base: &Path) -> oci_registry::Result<Destination> {
        Ok(match self {
            Self::Place(written) => Destination::Place(written.locate_target(base)?),
            Self::Below(below) => Destination::Below(below),
        })
    }
}

impl Destination {
    fn tag(&self) -> Option<Tag> {
        match self {
            Self::Place(location) => location.tag().cloned(),
            Self::Below(_) => None,
        }
    }
}

/// How this call copies.
struct Copying {
    lookup: Lookup,
    target: Subject<Destination>,
    all_tags: bool,
    referrers: bool,
    is_dry: bool,
    concurrency: usize,
    /// The names that were given at the target, each with the place whose it is.
    given: Mutex<HashMap<String, String>>,
    span: Span,
}

impl Copying {
    async fn copy(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        if !self.all_tags {
            let row = self.copy_one(&asked).await?;
            return Ok(stream::iter([Ok(row)]).boxed());
        }
        if let Some(identifier) = asked.name.identifier() {
            let message = format!("failed to copy all tags of `{}`", asked.name);
            return Err(report::invalid(message, "names one manifest", asked.span)
                .with_help(format!("leave `{identifier}` out")));
        }
        let source = self.lookup.place(&asked).await?;
        let target = self.location(&asked)?;
        if self.is_dry {
            self.compare_all(&source, &target, asked.span).await
        } else {
            self.copy_all(source, &target).await
        }
    }

    async fn copy_one(&self, asked: &Subject<Location>) -> Result<Value, LabeledError> {
        let Found {
            place,
            identifier,
            manifest,
            ..
        } = self.lookup.find(asked).await?;
        // One manifest of an index is not what the index's tag names.
        let kept = match identifier {
            Identifier::Tag(tag) if !self.lookup.chooses() => Some(tag),
            _ => None,
        };
        let location = self.location(asked)?;
        let tag = self.target.name.tag().or(kept);
        let (digest, tags) = (manifest.digest().clone(), Vec::from_iter(tag));
        let named = tags.first().cloned();
        let named = named.map_or(Identifier::Digest(digest.clone()), Identifier::Tag);
        self.give(&location.with(named.clone()), &place.name(), asked.span)?;
        if self.is_dry {
            let action = self.compare(&location, &named, &manifest).await?;
            let name = location.with(named).to_string();
            return Ok(value::action(name, action, Some(&digest), self.span));
        }
        let target = self.open(&location).await?;
        let is_changed = AtomicBool::new(false);
        let observer = |event| {
            let is_done = match event {
                CopyEvent::Tag(..) => true,
                CopyEvent::Manifest(copied) => copied.digest == digest,
                _ => false,
            };
            is_changed.fetch_or(is_done, Ordering::Relaxed);
        };
        let options = CopyOptions {
            tags,
            referrers: self.referrers,
            concurrency: self.concurrency,
            observer: &observer,
        };
        let root = digest.clone().into();
        let copied = copy(place.content(), &root, &**target.content(), options).await;
        copied.map_err(|error| self.failed(&error, asked.span))?;
        let action = if is_changed.into_inner() {
            "copied"
        } else {
            "unchanged"
        };
        let name = target.reference(named);
        Ok(value::action(name, action, Some(&digest), self.span))
    }

    /// Copies a repository; what has been copied is told at once, what was there already in the end.
    async fn copy_all(&self, source: Place, location: &Location) -> Result<Rows, LabeledError> {
        let target = self.open(location).await?;
        let (referrers, concurrency) = (self.referrers, self.concurrency);
        let (span, at) = (self.span, self.target.span);
        let (sender, receiver) = mpsc::unbounded_channel();
        let done = Arc::new(Mutex::new(HashSet::new()));
        let work = async move {
            let (told, row) = (Arc::clone(&done), target.clone());
            let observer = move |event| {
                if let CopyEvent::Tag(tag, named, _) = event {
                    let name = row.reference(tag.clone());
                    let row = value::action(name, "copied", Some(&named.digest), span);
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(tag);
                    // Whoever takes the rows has gone, and this work with them.
                    let _ = sender.send(Ok(row));
                }
            };
            let options = CopyOptions {
                referrers,
                concurrency,
                observer: &observer,
                ..CopyOptions::default()
            };
            let copied = copy_all(source.content(), &**target.content(), options).await;
            let copied = match copied {
                Ok(copied) => copied,
                Err(error) => return vec![Err(error.at(at))],
            };
            let done = done.lock().unwrap_or_else(PoisonError::into_inner);
            let unchanged = copied.into_iter().filter(|(tag, _)| !done.contains(tag));
            let rows = unchanged.map(|(tag, manifest)| {
                let name = target.reference(tag);
                Ok(value::action(
                    name,
                    "unchanged",
                    Some(manifest.digest()),
                    span,
                ))
            });
            rows.collect()
        };
        let told = stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let rest = stream::once(work).flat_map(stream::iter);
        Ok(stream::select(told, rest).boxed())
    }

    /// What copying a repository would do.
    async fn compare_all(
        &self,
        source: &Place,
        location: &Location,
        at: Span,
    ) -> Result<Rows, LabeledError> {
        let held = self.held(location).await?;
        let (source, location) = (Arc::clone(source.content()), location.clone());
        let (span, at_target) = (self.span, self.target.span);
        let tags = source.tags().map_err(move |error| error.at(at));
        let rows = runtime::in_order(tags, self.concurrency, move |tag| {
            let (source, held, location) = (Arc::clone(&source), held.clone(), location.clone());
            async move {
                let named = Identifier::Tag(tag);
                let wanted = source.resolve(&named).await.map_err(|error| error.at(at))?;
                let action = difference(held.as_ref(), &named, &wanted.digest).await;
                let action = action.map_err(|error| error.at(at_target))?;
                let name = location.with(named).to_string();
                Ok(value::action(name, action, Some(&wanted.digest), span))
            }
        });
        Ok(rows.boxed())
    }

    async fn compare(
        &self,
        location: &Location,
        named: &Identifier,
        manifest: &Manifest,
    ) -> Result<&'static str, LabeledError> {
        let held = self.held(location).await?;
        let action = difference(held.as_ref(), named, manifest.digest()).await;
        action.map_err(|error| error.at(self.target.span))
    }

    /// The target, to be looked at only; nothing where it is not there yet.
    async fn held(&self, location: &Location) -> Result<Option<Place>, LabeledError> {
        let held = Place::open(self.lookup.client(), location, self.lookup.base()).await;
        held.optional().map_err(|error| error.at(self.target.span))
    }

    async fn open(&self, location: &Location) -> Result<Place<dyn Target>, LabeledError> {
        let place = Place::open_to_write(self.lookup.client(), location, self.lookup.base());
        place.await.map_err(|error| error.at(self.target.span))
    }

    /// An error at the end that it came from.
    fn failed(&self, error: &oci_registry::Error, source: Span) -> LabeledError {
        error.at(match error.side() {
            Some(Side::Target) => self.target.span,
            _ => source,
        })
    }

    /// The repository that this source is copied to.
    fn location(&self, asked: &Subject<Location>) -> Result<Location, LabeledError> {
        let below = match &self.target.name {
            Destination::Place(location) => return Ok(location.whole_repository()),
            Destination::Below(below) => below,
        };
        let Location::Registry(source) = &asked.name else {
            let message = format!("failed to copy `{}` below `{below}`", asked.name);
            return Err(
                report::invalid(message, "has no repository's name", asked.span)
                    .with_help("name the repository that it is copied to"),
            );
        };
        let target = format!("{below}{}", source.repository());
        let target = target.parse::<LocationText>();
        let target = target.and_then(|target| target.locate_target(self.lookup.base()));
        target.map_err(|error| error.at(self.target.span))
    }

    /// Gives a name at the target away, which must not be another source's already.
    fn give(&self, name: &Location, source: &str, at: Span) -> Result<(), LabeledError> {
        let name = name.to_string();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        match given.insert(name.clone(), source.to_owned()) {
            Some(other) if other != source => {
                let message = format!("failed to copy both `{other}` and `{source}` to `{name}`");
                Err(report::invalid(message, "comes second", at)
                    .with_help("a target that ends with `/` keeps the names of the repositories"))
            }
            _ => Ok(()),
        }
    }
}

/// What would have to be done so that a place has this digest under this name.
async fn difference(
    held: Option<&Place>,
    named: &Identifier,
    wanted: &Digest,
) -> oci_registry::Result<&'static str> {
    let held = match held {
        Some(place) => place.content().resolve(named).await.optional()?,
        None => None,
    };
    Ok(if held.is_some_and(|held| held.digest == *wanted) {
        "unchanged"
    } else {
        "would copy"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_keeps_the_repository() {
        for text in ["a.b/", "localhost:5000/", "a.b/c/d/", "oci:dir/"] {
            let read = text.parse::<Destination<LocationText>>();
            assert!(
                matches!(read, Ok(Destination::Below(_))),
                "{text}: {read:?}"
            );
        }
        for text in ["a.b/c", "a.b/c:1", "oci:dir", "oci-archive:a.tar:1"] {
            let read = text.parse::<Destination<LocationText>>();
            assert!(
                matches!(read, Ok(Destination::Place(_))),
                "{text}: {read:?}"
            );
        }
        for text in ["", "/", "a/", "a.b", "a.b/C/"] {
            assert!(text.parse::<Destination<LocationText>>().is_err(), "{text}");
        }
    }
}
