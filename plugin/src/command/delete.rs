//! `oci delete`: tags, manifests and blobs, taken away.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{
    Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape, Value,
};
use oci_package::Taken;
use oci_registry::{Digest, ErrorKind, Identifier, Location, LocationText, Source};
use tokio::sync::Mutex;

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::Lookup;
use crate::missing::Part;
use crate::place::{Place, Shelf};
use crate::report::{self, Report};
use crate::runtime::Rows;
use crate::session::Session;
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
         every tag that names it, or a blob. Of a package, the tag or manifest of a target takes its entry out of the index \
         as well.\n\n\
         A row for each thing that was done: `action` is `deleted`, or `changed` for such an index, which is deleted with its last target; with --dry-run \
         `would delete` or `would change`. What goes along with something before it has its row there, and none of its own. \
         Many registries have deletion turned off; that is the error `oci::unsupported`, \
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
        let session = Session::open(plugin, engine, call)?;
        let asked = session.asked::<LocationText>(input)?;
        let deleting = Deleting {
            lookup: session.lookup(),
            is_dry: call.has_flag("dry-run")?,
            taken: Mutex::default(),
            span: call.head,
        };
        session.rows_in_turn(asked, deleting, Deleting::delete)
    }
}

/// How this call deletes.
struct Deleting {
    lookup: Lookup,
    is_dry: bool,
    /// What is gone, or would be, by the name of its place. What one item took along is done when its turn comes.
    taken: Mutex<BTreeMap<String, Taken>>,
    span: Span,
}

impl Deleting {
    async fn delete(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
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
        if let Location::Registry(reference) = &asked.name
            && let (Some(tag), Some(digest)) = (reference.tag(), reference.digest())
        {
            let message =
                format!("refused to delete `{reference}`: it names both a tag and a digest");
            let advice =
                format!("leave `@{digest}` out to delete the tag, `:{tag}` to delete the manifest");
            return Err(report::invalid(message, "names two things", at).with_help(advice));
        }
        let place = Place::open_to_delete(self.lookup.client(), &asked.name, self.lookup.base());
        let place = place
            .await
            .map_err(|error| self.lookup.missing(&error, Part::Place, &asked))?;
        let Some(place) = place else {
            let message = format!(
                "failed to delete `{}`: nothing is deleted from archives",
                asked.name
            );
            let kind = ErrorKind::Unsupported;
            return Err(report::new(kind, message, "is in an archive", at));
        };
        let mut taken = self.taken.lock().await;
        let taken = taken.entry(place.name()).or_default();
        let done = self.delete_named(&place, &identifier, &asked, taken).await;
        let done = done?;
        Ok(stream::iter(done.into_iter().map(Ok)).boxed())
    }

    async fn delete_named(
        &self,
        place: &Place<Shelf>,
        named: &Identifier,
        asked: &Subject<Location>,
        taken: &mut Taken,
    ) -> Result<Vec<Value>, LabeledError> {
        let at = asked.span;
        if taken.has(named, None) {
            return Ok(Vec::new());
        }
        let content = &**place.content();
        let held = Source::resolve(content, named).await;
        let held = match (held, named) {
            (Err(error), Identifier::Digest(digest)) if error.kind() == ErrorKind::NotFound => {
                let done = self.delete_blob(place, digest).await;
                let done = done.map_err(|error| self.lookup.missing(&error, Part::Manifest, asked));
                let done = vec![done?];
                taken.take(named.clone());
                return Ok(done);
            }
            (held, _) => {
                held.map_err(|error| self.lookup.missing(&error, Part::Manifest, asked))?
            }
        };
        let digest = &held.digest;
        if taken.has(named, Some(digest)) {
            return Ok(Vec::new());
        }
        let listed = oci_package::listed(content, named).await;
        let listed = listed.map_err(|error| error.at(at))?;
        let listed = listed.and_then(|listed| taken.left_of(listed));
        let mut done = Vec::new();
        if let Some(listed) = &listed {
            // The tags go before the entry: the one that was named, or those of the manifest that was.
            let tags = listed.tags.iter().cloned().map(Identifier::Tag);
            done.extend(tags.map(|tag| self.row(place, &tag, "delete", Some(digest))));
            let index = Identifier::Tag(listed.index.clone());
            done.push(if self.is_dry {
                taken.take_listed(listed);
                let is_last = listed.others.is_empty();
                let verb = if is_last { "delete" } else { "change" };
                self.row(place, &index, verb, None)
            } else {
                let members = std::slice::from_ref(&listed.member);
                let removed = oci_package::remove(content, &listed.index, members, &|_| {}).await;
                let removed = removed.map_err(|error| error.at(at))?;
                taken.take_removed(&listed.index, &removed);
                match &removed.index {
                    Some(left) => self.row(place, &index, "change", Some(left.digest())),
                    None => self.row(place, &index, "delete", None),
                }
            });
        }
        let deleted = match named {
            // That was done with the entry.
            Identifier::Tag(_) if listed.is_some() => return Ok(done),
            _ if self.is_dry => Ok(()),
            Identifier::Tag(tag) => content.delete_tag(tag).await,
            Identifier::Digest(digest) => content.delete_manifest(digest).await,
        };
        deleted.map_err(|error| error.at(at))?;
        taken.take(named.clone());
        done.push(self.row(place, named, "delete", Some(digest)));
        Ok(done)
    }

    async fn delete_blob(
        &self,
        place: &Place<Shelf>,
        digest: &Digest,
    ) -> oci_registry::Result<Value> {
        let content = &**place.content();
        Source::find_blob(content, digest).await?;
        if !self.is_dry {
            content.delete_blob(digest).await?;
        }
        Ok(self.row(place, &digest.clone().into(), "delete", Some(digest)))
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
