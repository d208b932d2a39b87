//! `oci referrers`: what is about a manifest: signatures, lists of contents, attestations.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape};
use oci_package::{Branch, Concurrency, Summary, Survey};
use oci_registry::{Cache, Descriptor, Identifier, LocationText, MediaType, Optional, Source};

use crate::OciPlugin;
use crate::completion::{Kind, completes};
use crate::input::Subject;
use crate::lookup::{Found, Lookup};
use crate::report::{self, Report};
use crate::runtime::{self, Rows};
use crate::session::Session;
use crate::settings::Settings;
use crate::value;

/// Lists referrers.
pub(crate) struct Referrers;

impl PluginCommand for Referrers {
    type Plugin = OciPlugin;

    fn name(&self) -> &'static str {
        "oci referrers"
    }

    fn signature(&self) -> Signature {
        let table = value::table(value::referrer_columns());
        let signature = Signature::build(self.name())
            .rest("reference", SyntaxShape::String, super::REFERENCE)
            .named(
                "artifact-type",
                SyntaxShape::String,
                "List only those of this artifact type",
                None,
            )
            .switch(
                "all",
                "List what refers to the referrers as well, and so on",
                Some('a'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        Settings::flags(Lookup::flags(signature))
    }

    fn description(&self) -> &'static str {
        "List what refers to a manifest: signatures, SBOMs, attestations."
    }

    fn extra_description(&self) -> &'static str {
        "Where a registry keeps no such lists, the list that clients keep under a tag is taken. Each referrer is looked at, \
         several at once, for its size and date. A signature may be about an SBOM: the rows can be asked about \
         again, and with --all each is followed by what is about it; `subject` then says what a row is about. With \
         --artifact-type and --all that is all about those of this type."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["sbom", "signature", "attestation", "provenance", "attached"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3",
                description: "List what is about a release",
                result: None,
            },
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3 --all | group-by subject",
                description: "List what is about a release, and what is about that",
                result: None,
            },
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3 --artifact-type application/spdx+json | oci pull --output sboms",
                description: "Fetch the SBOMs of a release",
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
        let artifact_type: Option<String> = call.get_flag("artifact-type")?;
        let listing = Listing {
            artifact_type: artifact_type.map(MediaType::from),
            takes_all: call.has_flag("all")?,
            cache: session.cache(),
            lookup: session.choosing_lookup()?,
            concurrency: Concurrency::new(session.concurrency()),
            at_once: session.concurrency(),
            span: call.head,
        };
        session.rows(asked, listing, Listing::rows)
    }
}

/// How this call lists referrers.
struct Listing {
    lookup: Lookup,
    artifact_type: Option<MediaType>,
    takes_all: bool,
    cache: Option<Cache>,
    /// Of requests about single referrers, of all subjects together.
    concurrency: Concurrency,
    at_once: usize,
    span: Span,
}

impl Listing {
    async fn rows(self: Arc<Self>, asked: Subject<LocationText>) -> Result<Rows, LabeledError> {
        let asked = self.lookup.locate(asked).await?;
        let (at, span) = (asked.span, self.span);
        let (place, subject) = match asked.name.identifier() {
            // It need not be there itself.
            Some(Identifier::Digest(digest)) if !self.lookup.chooses() => {
                (self.lookup.place(&asked).await?, digest)
            }
            _ => {
                let Found {
                    place, manifest, ..
                } = self.lookup.find(&asked).await?;
                let digest = manifest.digest().clone();
                (place, digest)
            }
        };
        let (takes_all, wanted) = (self.takes_all, self.artifact_type.clone());
        let found = if takes_all {
            let tree = oci_package::referrer_tree(Arc::clone(place.content()), subject, wanted);
            tree.map_err(move |error| error.at(at)).boxed()
        } else {
            let found = place.content().referrers(&subject, wanted.as_ref());
            let found = found.map_ok(move |referrer| Branch {
                depth: 0,
                subject: subject.clone(),
                referrer,
            });
            found.map_err(move |error| error.at(at)).boxed()
        };
        let source = place.cached_by(self.cache.as_ref());
        let survey = Survey::new(Arc::clone(&source), self.concurrency.clone());
        let rows = runtime::in_order(found, self.at_once, move |branch| {
            let (place, source, survey) = (place.clone(), Arc::clone(&source), survey.clone());
            async move {
                let referrer = &branch.referrer;
                let summary = match look(&*source, &survey, referrer).await {
                    Err(error) if oci_package::is_of_one_document(&error) => {
                        let name = place.reference(referrer.digest.clone());
                        report::warn_of_row(&name, &error);
                        None
                    }
                    summary => summary.map_err(|error| error.at(at))?,
                };
                let subject = takes_all.then_some(&branch.subject);
                let summary = summary.as_ref();
                Ok(value::referrer(&place, referrer, subject, summary, span))
            }
        });
        Ok(rows.boxed())
    }
}

/// What the manifest of a referrer says; nothing when it is gone, since lists of referrers may be behind.
async fn look(
    source: &dyn Source,
    survey: &Survey,
    referrer: &Descriptor,
) -> oci_registry::Result<Option<Summary>> {
    let named = referrer.digest.clone().into();
    match source.manifest(&named).await.optional()? {
        Some(manifest) => survey.summary(&manifest).await.map(Some),
        None => Ok(None),
    }
}
