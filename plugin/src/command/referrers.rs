//! `oci referrers`: lists the signatures, SBOMs and attestations that refer to a manifest.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nu_plugin::{EngineInterface, EvaluatedCall, PluginCommand};
use nu_protocol::{Category, Example, LabeledError, PipelineData, Signature, Span, SyntaxShape};
use oci_package::{Concurrency, ReferrerNode, Summary, TagDetailsFetcher};
use oci_registry::{Cache, Descriptor, Identifier, LocationText, MediaType, Optional, Source};

use crate::OciPlugin;
use crate::call_context::CallContext;
use crate::completion::{ArgumentKind, completes};
use crate::input::Operand;
use crate::report::{self, ToLabeledError};
use crate::resolver::{OperandResolver, ResolvedManifest};
use crate::runtime::{self, Rows};
use crate::settings::ConnectionSettings;
use crate::value;

/// The `oci referrers` command.
pub(crate) struct ReferrersCommand;

impl PluginCommand for ReferrersCommand {
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
                "List only referrers with this artifact type",
                None,
            )
            .switch(
                "all",
                "Also list the referrers of referrers, recursively",
                Some('a'),
            )
            .input_output_types(super::input_output_types(&table, &table))
            .category(Category::Network);
        ConnectionSettings::flags(OperandResolver::selection_flags(signature))
    }

    fn description(&self) -> &'static str {
        "List the artifacts that refer to a manifest: signatures, SBOMs, attestations."
    }

    fn extra_description(&self) -> &'static str {
        "If the registry does not support the referrers API, the list is read from the referrers tag. The size and \
         date are read from the manifests of the referrers, several at a time. Rows can be piped to `oci referrers` \
         again, for example to list the signatures of an SBOM. With --all, the referrers of a referrer follow its row, \
         and `subject` is the reference of the manifest that a row refers to. With --all and --artifact-type, the list \
         contains the referrers of this type and all their referrers."
    }

    fn search_terms(&self) -> Vec<&str> {
        super::search_terms(&["sbom", "signature", "attestation", "provenance", "attached"])
    }

    fn examples(&self) -> Vec<Example<'_>> {
        vec![
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3",
                description: "List the referrers of a release",
                result: None,
            },
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3 --all | group-by subject",
                description: "List the referrers of a release and their referrers",
                result: None,
            },
            Example {
                example: "oci referrers ghcr.io/acme/widgets:1.2.3 --artifact-type application/spdx+json | oci pull --output sboms",
                description: "Download the SBOMs of a release",
                result: None,
            },
        ]
    }

    completes!(|_| Some(ArgumentKind::Manifest));

    fn run(
        &self,
        plugin: &OciPlugin,
        engine: &EngineInterface,
        call: &EvaluatedCall,
        input: PipelineData,
    ) -> Result<PipelineData, LabeledError> {
        let context = CallContext::open(plugin, engine, call)?;
        let operands = context.operands::<LocationText>(input)?;
        let artifact_type: Option<String> = call.get_flag("artifact-type")?;
        let referrers_call = ReferrersCall {
            artifact_type: artifact_type.map(MediaType::from),
            is_recursive: call.has_flag("all")?,
            cache: context.cache(),
            resolver: context.selecting_resolver()?,
            concurrency: Concurrency::new(context.concurrency()),
            max_concurrent: context.concurrency(),
            span: call.head,
        };
        context.map_rows(operands, referrers_call, ReferrersCall::rows)
    }
}

/// State of one call of `oci referrers`.
struct ReferrersCall {
    resolver: OperandResolver,
    artifact_type: Option<MediaType>,
    is_recursive: bool,
    cache: Option<Cache>,
    /// Limiter for concurrent requests that fetch referrers, shared by all subjects.
    concurrency: Concurrency,
    max_concurrent: usize,
    span: Span,
}

impl ReferrersCall {
    async fn rows(self: Arc<Self>, operand: Operand<LocationText>) -> Result<Rows, LabeledError> {
        let operand = self.resolver.locate(operand).await?;
        let (at, span) = (operand.span, self.span);
        let (location, subject) = match operand.name.identifier() {
            // A subject may be missing and still have referrers (distribution-spec, "Listing Referrers").
            Some(Identifier::Digest(digest)) if !self.resolver.has_selection() => {
                (self.resolver.open(&operand).await?, digest)
            }
            _ => {
                let ResolvedManifest {
                    location, manifest, ..
                } = self.resolver.resolve(&operand).await?;
                let digest = manifest.digest().clone();
                (location, digest)
            }
        };
        let (is_recursive, wanted) = (self.is_recursive, self.artifact_type.clone());
        let nodes = if is_recursive {
            let tree = oci_package::referrer_tree(Arc::clone(location.content()), subject, wanted);
            tree.map_err(move |error| error.at(at)).boxed()
        } else {
            let found = location.content().referrers(&subject, wanted.as_ref());
            let found = found.map_ok(move |referrer| ReferrerNode {
                depth: 0,
                subject: subject.clone(),
                referrer,
            });
            found.map_err(move |error| error.at(at)).boxed()
        };
        let source = location.with_cache(self.cache.as_ref());
        let fetcher = TagDetailsFetcher::new(Arc::clone(&source), self.concurrency.clone());
        let rows = runtime::map_in_order(nodes, self.max_concurrent, move |node| {
            let (location, source, fetcher) =
                (location.clone(), Arc::clone(&source), fetcher.clone());
            async move {
                let referrer = &node.referrer;
                let summary = match fetch_summary(&*source, &fetcher, referrer).await {
                    Err(error) if oci_package::is_document_error(&error) => {
                        let name = location.reference(referrer.digest.clone());
                        report::warn_incomplete_row(&name, &error);
                        None
                    }
                    summary => summary.map_err(|error| error.at(at))?,
                };
                let subject = is_recursive.then_some(&node.subject);
                let summary = summary.as_ref();
                Ok(value::referrer(&location, referrer, subject, summary, span))
            }
        });
        Ok(rows.boxed())
    }
}

/// Fetches a referrer and returns its summary. Returns `None` if the referrer no longer exists: a list of referrers may
/// be outdated.
async fn fetch_summary(
    source: &dyn Source,
    fetcher: &TagDetailsFetcher,
    referrer: &Descriptor,
) -> oci_registry::Result<Option<Summary>> {
    let identifier = referrer.digest.clone().into();
    match source.manifest(&identifier).await.optional()? {
        Some(manifest) => fetcher.summary(&manifest).await.map(Some),
        None => Ok(None),
    }
}
