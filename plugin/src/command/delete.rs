//! `oci delete`: tags, manifests and blobs, taken away.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_package::{Member, tag};
use oci_registry::{Digest, Error, ErrorKind, Identifier, Location, Optional, Source, Tag};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::connection::Surroundings;
use crate::input::{Asked, Subject};
use crate::lookup::Lookup;
use crate::place::{Place, Shelf};
use crate::report::{self, Report};
use crate::runtime::Rows;
use crate::settings::Settings;
use crate::value;

/// Deletes content.
pub(crate) struct Delete;

impl PluginCommand for Delete {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci delete"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::action_columns());
        let signature = Signature::build(self.name())
            .rest(
                "reference",
                SyntaxShape::String,
                "What is deleted, as `REGISTRY/REPOSITORY:TAG`, `…@DIGEST` or `oci:DIRECTORY:TAG`",
            )
            .switch("dry-run", "Only say what would be done", Some('n'))
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(signature)
    }

    fn description(&self) -> &'static str {
        "Delete tags, manifests and blobs."
    }

    fn extra_description(&self) -> &'static str {
        "A tag goes alone: the manifest that it names stays, with its other tags. A digest is a manifest, which goes with \
         every tag that names it, or a blob. Of a package, the tag of a target takes its entry out of the index as well.\n\n\
         A row for each thing that was done: `action` is `deleted`, or `changed` for such an index; with --dry-run \
         `would delete` or `would change`. Many registries have deletion turned off; that is the error `oci::unsupported`, \
         and nothing is done."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["remove", "prune", "untag", "retention", "clean"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci delete ghcr.io/acme/widgets:nightly",
                description: "Delete a tag",
                result: None,
            },
            Example {
                example: "oci tags registry.acme.dev/ci/builds --long | where created < (date now) - 30day | oci delete --dry-run",
                description: "See which builds are older than a month",
                result: None,
            },
        ]
    }

    completes!(|_| Some(Kind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let settings = Settings::read(engine, call)?;
        let asked = Asked::<Location>::read(engine, call, input)?;
        let surroundings = Surroundings::read(engine, &settings)?;
        let deleting = Arc::new(Deleting {
            lookup: Lookup::new(plugin, surroundings),
            is_dry: call.has_flag("dry-run")?,
            span: call.head,
        });
        // One after another: what is stopped half-way has done the first half.
        plugin
            .runtime
            .each_table(engine, call.head, asked, 1, move |asked| {
                let deleting = Arc::clone(&deleting);
                async move { deleting.delete(&asked).await }
            })
    }
}

/// How this call deletes.
struct Deleting {
    lookup: Lookup,
    is_dry: bool,
    span: Span,
}

impl Deleting {
    async fn delete(&self, asked: &Subject<Location>) -> Result<Rows, LabeledError> {
        let at = asked.span;
        let Some(identifier) = asked.name.identifier() else {
            let message = format!("refused to delete `{}`", asked.name);
            return Err(
                report::invalid(message, "names a whole repository", at).with_help(format!(
                    "`oci tags {} | oci delete` deletes its tags",
                    asked.name
                )),
            );
        };
        let place = Place::open_to_delete(self.lookup.client(), &asked.name, self.lookup.base());
        let Some(place) = place.await.map_err(|error| error.at(at))? else {
            let message = format!(
                "failed to delete `{}`: nothing is deleted from archives",
                asked.name
            );
            let kind = ErrorKind::Unsupported;
            return Err(report::new(kind, message, "is in an archive", at));
        };
        let done = match identifier {
            Identifier::Tag(tag) => self.delete_tag(&place, &tag, at).await?,
            Identifier::Digest(digest) => {
                let done = self.delete_content(&place, &digest).await;
                vec![done.map_err(|error| error.at(at))?]
            }
        };
        Ok(stream::iter(done.into_iter().map(Ok)).boxed())
    }

    async fn delete_tag(
        &self,
        place: &Place<Shelf>,
        tag: &Tag,
        at: Span,
    ) -> Result<Vec<Value>, LabeledError> {
        let content = &**place.content();
        let named = Identifier::Tag(tag.clone());
        let held = Source::resolve(content, &named).await;
        let digest = held.map_err(|error| error.at(at))?.digest;
        let deleted = self.row(place, &named, "delete", Some(&digest));
        let Some((index, member)) = entry_of(content, tag).await.map_err(|error| error.at(at))?
        else {
            if !self.is_dry {
                let done = content.delete_tag(tag).await;
                done.map_err(|error| error.at(at))?;
            }
            return Ok(vec![deleted]);
        };
        let of_index = Identifier::Tag(index.clone());
        if self.is_dry {
            return Ok(vec![deleted, self.row(place, &of_index, "change", None)]);
        }
        let removed = oci_package::remove(content, &index, &[member], &|_| {}).await;
        let removed = removed.map_err(|error| error.at(at))?;
        let changed = match &removed.index {
            Some(left) => self.row(place, &of_index, "change", Some(left.digest())),
            None => self.row(place, &of_index, "delete", None),
        };
        Ok(vec![deleted, changed])
    }

    async fn delete_content(&self, place: &Place<Shelf>, digest: &Digest) -> Result<Value, Error> {
        let content = &**place.content();
        let named = Identifier::Digest(digest.clone());
        let is_manifest = Source::resolve(content, &named).await.optional()?.is_some();
        if !is_manifest {
            Source::find_blob(content, digest).await?;
        }
        match (self.is_dry, is_manifest) {
            (true, _) => {}
            (false, true) => content.delete_manifest(digest).await?,
            (false, false) => content.delete_blob(digest).await?,
        }
        Ok(self.row(place, &named, "delete", Some(digest)))
    }

    fn row(
        &self,
        place: &Place<Shelf>,
        named: &Identifier,
        verb: &str,
        digest: Option<&Digest>,
    ) -> Value {
        let action = if self.is_dry {
            format!("would {verb}")
        } else {
            format!("{verb}d")
        };
        value::action(place.reference(named.clone()), &action, digest, self.span)
    }
}

/// The entry that goes with the tag of a target, and the tag of the index that it is in.
async fn entry_of(content: &Shelf, tag: &Tag) -> Result<Option<(Tag, Member)>, Error> {
    let (release, Some(target)) = tag::split(tag) else {
        return Ok(None);
    };
    let Ok(index) = release.parse::<Tag>() else {
        return Ok(None);
    };
    let held = Source::manifest(content, &index.clone().into())
        .await
        .optional()?;
    let held = held.as_ref().and_then(oci_package::PackageIndex::read);
    let is_entry = held.is_some_and(|held| held.entry(target).is_some());
    Ok(is_entry.then(|| (index, Member::Target(target.to_owned()))))
}
