//! `oci copy`: copies artifacts between registries, OCI layouts and archives.

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
    CopyEvent, CopyOptions, Digest, Identifier, Location, LocationText, Manifest, Mode, Optional,
    Side, Tag, Target, copy, copy_all,
};
use tokio::sync::mpsc;

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::{self, Operand};
use crate::open_location::OpenLocation;
use crate::report::{self, ToLabeledError};
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::runtime::{self, Rows};
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci copy` command.
pub(crate) struct CopyCommand;

impl PluginCommand for CopyCommand {
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
                "The artifact to copy; omit it to copy the artifacts from the pipeline",
            )
            .optional(
                "target",
                SyntaxShape::String,
                "The registry, OCI layout or archive to copy to",
            )
            .switch("all-tags", "Copy every tag of the repository", Some('a'))
            .switch(
                "referrers",
                "Also copy the artifact's signatures, SBOMs and attestations",
                None,
            )
            .switch(
                "dry-run",
                "Show the actions without performing them",
                Some('n'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "Copy artifacts between registries, OCI layouts and archives."
    }

    fn extra_description(&self) -> &'static str {
        "Usage: `oci copy SOURCE TARGET` or `… | oci copy TARGET`. Source and target are registries, OCI layouts \
         (`oci:DIRECTORY`) or archives (`oci-archive:FILE`). Digests do not change. Content that the target already \
         has is not sent again.\n\n\
         If the target has no tag, the tag of the source is used. If the target ends with `/`, as in \
         `registry.acme.dev/mirror/`, the repository name of the source is appended; use this to copy many \
         repositories.\n\n\
         `action` is `copied`, or `unchanged` if the target already has this digest under this name. With --dry-run it \
         is `would copy` or `unchanged`. With --target or --platform, a single manifest of an index is copied."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["mirror", "backup", "skopeo", "push", "promote", "save"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci copy ghcr.io/acme/widgets:1.2.3 registry.acme.dev/widgets --referrers",
                description: "Copy a release with its signatures and SBOMs",
                result: None,
            },
            Example {
                example: "oci catalog registry.acme.dev | where name starts-with 'team-a/' | oci tags | where name == latest | oci copy mirror.acme.dev/",
                description: "Mirror the `latest` tag of many repositories under the same names",
                result: None,
            },
            Example {
                example: "oci copy ghcr.io/acme/widgets oci:backup/widgets --all-tags",
                description: "Back up a repository to an OCI layout",
                result: None,
            },
        ]
    }

    completes!(|position| Some(if position == 0 {
        ArgumentKind::Manifest
    } else {
        ArgumentKind::Repository
    }));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let (sources, target) = match call.positional.as_slice() {
            [source]
                if matches!(
                    input,
                    PipelineData::Empty | PipelineData::Value(Value::Nothing { .. }, _)
                ) =>
            {
                let message = "failed to copy: missing target";
                return Err(report::invalid(
                    message,
                    "expected a target after this source",
                    source.span(),
                )
                .with_help("add the target, or pass the source through the pipeline"));
            }
            [target] => (&[][..], target),
            [source, target] => (std::slice::from_ref(source), target),
            _ => {
                return Err(report::invalid(
                    "failed to copy: missing source and target",
                    "expected two arguments",
                    call.head,
                ));
            }
        };
        let target = input::parse_operand::<CopyDestination<LocationText>>(engine, target)?;
        let (name, span) = (target.name.locate(context.current_dir()), target.span);
        let name = name.map_err(|error| error.at(span))?;
        let target = Operand { name, span };
        let operands = context.operands_from::<LocationText>(sources, input)?;
        let all_tags = call.has_flag("all-tags")?;
        let tag = target.name.tag();
        if let Some(tag) = tag.filter(|_| operands.is_list() || all_tags) {
            let message = format!("failed to copy several artifacts to the single tag `{tag}`");
            return Err(report::invalid(message, "has a tag", target.span)
                .with_help("leave out the tag to keep the tag of each source"));
        }
        let resolver = context.selecting_resolver()?;
        if let Some(span) = call
            .get_flag_span("all-tags")
            .filter(|_| all_tags && resolver.has_selection())
        {
            let message =
                "failed to copy all tags: --target and --platform select a single manifest";
            return Err(
                report::invalid(message, "conflicts with --target and --platform", span)
                    .with_help("leave out --all-tags, or --target and --platform"),
            );
        }
        let copy_call = CopyCall {
            resolver,
            target,
            all_tags,
            referrers: call.has_flag("referrers")?,
            is_dry_run: call.has_flag("dry-run")?,
            concurrency: context.concurrency(),
            written: Mutex::default(),
            span: call.head,
        };
        // The operands are processed one after another, so that a blob that several artifacts share is sent only once.
        context.map_rows_sequentially(operands, copy_call, CopyCall::copy)
    }
}

/// Destination of a copy.
#[derive(Debug, Clone)]
enum CopyDestination<L = Location> {
    /// The exact location of the copy.
    Exact(L),
    /// The repository name of the source is appended to this prefix. The prefix ends with `/`.
    Prefix(String),
}

impl FromStr for CopyDestination<LocationText> {
    type Err = oci_registry::Error;

    fn from_str(text: &str) -> oci_registry::Result<Self> {
        // A prefix is valid if a repository name after the prefix makes it a valid location.
        let with_repository = text
            .strip_suffix('/')
            .map(|_| format!("{text}x").parse::<LocationText>());
        match with_repository {
            Some(Ok(_)) => Ok(Self::Prefix(text.to_owned())),
            _ => text.parse().map(Self::Exact),
        }
    }
}

impl CopyDestination<LocationText> {
    /// Splits the path of a layout or archive from the tag or digest.
    fn locate(self, base: &Path) -> oci_registry::Result<CopyDestination> {
        Ok(match self {
            Self::Exact(written) => CopyDestination::Exact(written.locate_target(base)?),
            Self::Prefix(prefix) => CopyDestination::Prefix(prefix),
        })
    }
}

impl CopyDestination {
    fn tag(&self) -> Option<Tag> {
        match self {
            Self::Exact(location) => location.tag().cloned(),
            Self::Prefix(_) => None,
        }
    }
}

/// State of one call of `oci copy`.
struct CopyCall {
    resolver: OperandResolver,
    target: Operand<CopyDestination>,
    all_tags: bool,
    referrers: bool,
    is_dry_run: bool,
    concurrency: usize,
    /// Names that this call writes at the target, each with the repository that is copied to the name.
    written: Mutex<HashMap<String, String>>,
    span: Span,
}

impl CopyCall {
    async fn copy(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        if !self.all_tags {
            let row = self.copy_one(&operand).await?;
            return Ok(stream::iter([Ok(row)]).boxed());
        }
        if let Some(identifier) = operand.name.identifier() {
            let message = format!("failed to copy all tags of `{}`", operand.name);
            return Err(
                report::invalid(message, "has a tag or digest", operand.span)
                    .with_help(format!("leave out `{identifier}`")),
            );
        }
        let source = self.resolver.open(&operand).await?;
        let target = self.target_location(&operand)?;
        if self.is_dry_run {
            self.compare_all(&source, &target, operand.span).await
        } else {
            self.copy_all(source, &target).await
        }
    }

    async fn copy_one(&self, operand: &Operand<Location>) -> Result<Value, LabeledError> {
        let ResolvedManifest {
            location: source,
            identifier,
            manifest,
            ..
        } = self.resolver.resolve(operand).await?;
        // If the flags select a manifest from an index, the tag names the index, not the selected manifest.
        let source_tag = match identifier {
            Identifier::Tag(tag) if !self.resolver.has_selection() => Some(tag),
            _ => None,
        };
        let location = self.target_location(operand)?;
        let tag = self.target.name.tag().or(source_tag);
        let (digest, tags) = (manifest.digest().clone(), Vec::from_iter(tag));
        let named = tags.first().cloned();
        let named = named.map_or(Identifier::Digest(digest.clone()), Identifier::Tag);
        self.reserve_name(&location.with(named.clone()), &source.name(), operand.span)?;
        if self.is_dry_run {
            let action = self.compare(&location, &named, &manifest).await?;
            let name = location.with(named).to_string();
            return Ok(value::action(name, action, Some(&digest), self.span));
        }
        let target = self.open_target(&location).await?;
        let is_changed = AtomicBool::new(false);
        let observer = |event| {
            let is_change = match event {
                CopyEvent::Tag(..) => true,
                CopyEvent::Manifest(copied) => copied.digest == digest,
                _ => false,
            };
            is_changed.fetch_or(is_change, Ordering::Relaxed);
        };
        let options = CopyOptions {
            tags,
            referrers: self.referrers,
            concurrency: self.concurrency,
            observer: &observer,
        };
        let root = digest.clone().into();
        let copied = copy(source.content(), &root, &**target.content(), options).await;
        copied.map_err(|error| self.labelled_error(&error, operand.span))?;
        let action = if is_changed.into_inner() {
            "copied"
        } else {
            "unchanged"
        };
        let name = target.reference(named);
        Ok(value::action(name, action, Some(&digest), self.span))
    }

    /// Copies all tags of a repository. The row of a copied tag appears immediately. The rows of unchanged tags follow
    /// at the end.
    async fn copy_all(
        &self,
        source: OpenLocation,
        location: &Location,
    ) -> Result<Rows, LabeledError> {
        let target = self.open_target(location).await?;
        let (referrers, concurrency) = (self.referrers, self.concurrency);
        let (span, at) = (self.span, self.target.span);
        let (sender, receiver) = mpsc::unbounded_channel();
        let copied_tags = Arc::new(Mutex::new(HashSet::new()));
        let work = async move {
            let (observed_tags, location) = (Arc::clone(&copied_tags), target.clone());
            let observer = move |event| {
                if let CopyEvent::Tag(tag, named, _) = event {
                    let name = location.reference(tag.clone());
                    let row = value::action(name, "copied", Some(&named.digest), span);
                    observed_tags
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(tag);
                    // Sending fails only if the receiver was dropped, which also cancels this task.
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
            let copied_tags = copied_tags.lock().unwrap_or_else(PoisonError::into_inner);
            let unchanged = copied
                .into_iter()
                .filter(|(tag, _)| !copied_tags.contains(tag));
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
        let copied_rows = stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        let unchanged_rows = stream::once(work).flat_map(stream::iter);
        Ok(stream::select(copied_rows, unchanged_rows).boxed())
    }

    /// Returns the rows of a dry run for all tags of a repository.
    async fn compare_all(
        &self,
        source: &OpenLocation,
        location: &Location,
        at: Span,
    ) -> Result<Rows, LabeledError> {
        let existing = self.open_existing_target(location).await?;
        let (source, location) = (Arc::clone(source.content()), location.clone());
        let (span, at_target) = (self.span, self.target.span);
        let tags = source.tags().map_err(move |error| error.at(at));
        let rows = runtime::map_in_order(tags, self.concurrency, move |tag| {
            let (source, existing, location) =
                (Arc::clone(&source), existing.clone(), location.clone());
            async move {
                let named = Identifier::Tag(tag);
                let wanted = source.resolve(&named).await.map_err(|error| error.at(at))?;
                let action = dry_run_action(existing.as_ref(), &named, &wanted.digest).await;
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
        let existing = self.open_existing_target(location).await?;
        let action = dry_run_action(existing.as_ref(), named, manifest.digest()).await;
        action.map_err(|error| error.at(self.target.span))
    }

    /// Opens the target for reading. Returns `None` if the target does not exist yet.
    async fn open_existing_target(
        &self,
        location: &Location,
    ) -> Result<Option<OpenLocation>, LabeledError> {
        let existing =
            OpenLocation::open(self.resolver.client(), location, self.resolver.base()).await;
        existing
            .optional()
            .map_err(|error| error.at(self.target.span))
    }

    async fn open_target(
        &self,
        location: &Location,
    ) -> Result<OpenLocation<dyn Target>, LabeledError> {
        let (client, base) = (self.resolver.client(), self.resolver.base());
        let target = OpenLocation::open_target(client, location, base, Mode::Write);
        target.await.map_err(|error| error.at(self.target.span))
    }

    /// Converts an error of a copy. The label marks the source or the target, whichever failed.
    fn labelled_error(&self, error: &oci_registry::Error, source: Span) -> LabeledError {
        error.at(match error.side() {
            Some(Side::Target) => self.target.span,
            _ => source,
        })
    }

    /// Returns the repository to which a source is copied.
    fn target_location(&self, operand: &Operand<Location>) -> Result<Location, LabeledError> {
        let prefix = match &self.target.name {
            CopyDestination::Exact(location) => return Ok(location.whole_repository()),
            CopyDestination::Prefix(prefix) => prefix,
        };
        let Location::Registry(source) = &operand.name else {
            let message = format!(
                "failed to copy `{}` to `{prefix}`: it has no repository name",
                operand.name
            );
            return Err(
                report::invalid(message, "has no repository name", operand.span)
                    .with_help("add the name of the target repository"),
            );
        };
        let target = format!("{prefix}{}", source.repository());
        let target = target.parse::<LocationText>();
        let target = target.and_then(|target| target.locate_target(self.resolver.base()));
        target.map_err(|error| error.at(self.target.span))
    }

    /// Reserves a name at the target. Fails if another source has reserved the name.
    fn reserve_name(&self, name: &Location, source: &str, at: Span) -> Result<(), LabeledError> {
        let name = name.to_string();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.insert(name.clone(), source.to_owned()) {
            Some(other) if other != source => {
                let message = format!("failed to copy both `{other}` and `{source}` to `{name}`");
                Err(
                    report::invalid(message, "has the same name at the target", at)
                        .with_help("append `/` to the target to keep the repository names"),
                )
            }
            _ => Ok(()),
        }
    }
}

/// Returns the `action` cell of a dry run: `unchanged` if this name at the target already has this digest, otherwise
/// `would copy`.
async fn dry_run_action(
    existing: Option<&OpenLocation>,
    named: &Identifier,
    wanted: &Digest,
) -> oci_registry::Result<&'static str> {
    let existing = match existing {
        Some(target) => target.content().resolve(named).await.optional()?,
        None => None,
    };
    Ok(
        if existing.is_some_and(|existing| existing.digest == *wanted) {
            "unchanged"
        } else {
            "would copy"
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_with_trailing_slash_is_parsed_as_prefix() {
        for text in ["a.b/", "localhost:5000/", "a.b/c/d/", "oci:dir/"] {
            let read = text.parse::<CopyDestination<LocationText>>();
            assert!(
                matches!(read, Ok(CopyDestination::Prefix(_))),
                "{text}: {read:?}"
            );
        }
        for text in ["a.b/c", "a.b/c:1", "oci:dir", "oci-archive:a.tar:1"] {
            let read = text.parse::<CopyDestination<LocationText>>();
            assert!(
                matches!(read, Ok(CopyDestination::Exact(_))),
                "{text}: {read:?}"
            );
        }
        for text in ["", "/", "a/", "a.b", "a.b/C/"] {
            assert!(
                text.parse::<CopyDestination<LocationText>>().is_err(),
                "{text}"
            );
        }
    }
}
