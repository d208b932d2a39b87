//! Referrers of a manifest in a repository (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
//!
//! A registry with the referrers API sends the list in pages and names the subject in its response to a push. A
//! registry without the API responds in various ways: with 404, with a web page, or with a redirect to a web page. On
//! such a registry, clients maintain the list in an index under the fallback tag, which is derived from the digest of
//! the subject. Some registries interpret this tag as the digest of the subject and return the subject itself. In this
//! case, the list counts as absent.
//!
//! Several clients may change such an index at the same time, and no registry is known to support conditional writes.
//! After each write, the client therefore waits for longer than another client takes between its read and its write.
//! Then it reads the index again, and repeats the write if its change was lost.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu, ensure};

use super::page::{PageCursor, PageRequest};
use super::requests::RepositoryRequests;
use super::response;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint, Optional};
use crate::event::Retry;
use crate::exchange::{self, Request};
use crate::manifest::{self, Descriptor, Document, Index, Manifest, MediaType};
use crate::redact::RedactedUrl;
use crate::reference::{Identifier, Reference};
use crate::referrers::{self, DescriptorStream, MAX_REFERRERS};
use crate::transport::AuthorizedResponse;

/// Response header with the filters that the registry has applied to a list.
const FILTERS_APPLIED_HEADER: &str = "oci-filters-applied";

/// Maximum number of reads of a list while a pushed manifest is missing from the list.
const MAX_READS: u32 = 5;

/// Maximum number of writes of an index while other clients change it.
const MAX_WRITES: u32 = 10;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list the referrers of `{subject}`"))]
    List {
        subject: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to read the list from {url}"))]
    ParsePage {
        url: RedactedUrl,
        source: serde_json::Error,
    },
    #[snafu(display("the list of referrers of `{subject}` has more than {MAX_REFERRERS} entries"))]
    TooMany { subject: Reference },
    #[snafu(display("failed to update the list of referrers of {subject} at `{list}`"))]
    Change {
        subject: Digest,
        list: Reference,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to update the list of referrers of {subject}: `{list}` is not a list of referrers"
    ))]
    NotAList { subject: Digest, list: Reference },
    #[snafu(display(
        "failed to update the list of referrers of {subject}: the registry resolves `{list}` as the digest of the subject"
    ))]
    Alias { subject: Digest, list: Reference },
    #[snafu(display(
        "failed to update the list of referrers of {subject}: other clients changed `{list}` during each of {MAX_WRITES} attempts"
    ))]
    Conflict { subject: Digest, list: Reference },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::List { source, .. } | Self::Change { source, .. } => source.kind(),
            Self::ParsePage { .. } | Self::TooMany { .. } => ErrorKind::Protocol,
            Self::NotAList { .. } | Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Alias { .. } => ErrorKind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NotAList { list, .. } => format!(
                "delete or rename `{list}` and push again: the manifest was stored, but is not listed as a referrer"
            ),
            Self::Alias { .. } => {
                "use the digest of the manifest: it was stored, but is not listed as a referrer"
                    .to_owned()
            }
            Self::Conflict { .. } => {
                "push again: the manifest was stored, but is not listed as a referrer".to_owned()
            }
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }
}

// ---- listing

/// List of referrers that is being read.
struct ReferrerList {
    requests: RepositoryRequests,
    subject: Digest,
    artifact_type: Option<MediaType>,
    cursor: PageCursor,
    /// Entries of the last page that were not yielded yet.
    entries: VecDeque<Descriptor>,
    seen: HashSet<Digest>,
}

/// Streams the referrers of `subject`, page by page.
pub(super) fn list(
    requests: RepositoryRequests,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let listing = ReferrerList::new(requests, subject, artifact_type);
    futures_util::stream::try_unfold(listing, |mut listing| async move {
        let found = listing.next().await;
        let found = found.with_context(|_| ListSnafu {
            subject: listing.subject(),
        })?;
        Ok(found.map(|entry| (entry, listing)))
    })
    .boxed()
}

/// Result of a search in the list of the referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    /// The registry does not have the referrers API.
    NoList,
    /// The list contains the manifest.
    Listed,
    /// The list does not contain the manifest, or cannot be read to its end.
    Unlisted,
}

/// Searches for a pushed manifest in the list of the referrers API. A registry may update its list some time after it
/// has accepted the manifest, so a list that does not contain the manifest is requested again.
///
/// # Errors
///
/// The error of the first request, which shows whether the registry has the referrers API.
pub(super) async fn find(
    requests: &RepositoryRequests,
    subject: &Digest,
    referrer: &Digest,
) -> crate::Result<Membership> {
    let requests = requests.for_one_operation();
    for reads in 1..=MAX_READS {
        let mut listing = ReferrerList::new(requests.clone(), subject.clone(), None);
        let first = match listing.request_first_page().await {
            Ok(Some(first)) => first,
            Ok(None) if reads == 1 => return Ok(Membership::NoList),
            Err(error) if reads == 1 => {
                let subject = listing.subject();
                return Err(ListSnafu { subject }.into_error(error).into());
            }
            Ok(None) | Err(_) => break,
        };
        match listing.contains(first, referrer).await {
            Ok(true) => return Ok(Membership::Listed),
            Ok(false) if reads < MAX_READS => tokio::time::sleep(exchange::backoff(reads)).await,
            Ok(false) | Err(_) => break,
        }
    }
    Ok(Membership::Unlisted)
}

impl ReferrerList {
    fn new(
        requests: RepositoryRequests,
        subject: Digest,
        artifact_type: Option<MediaType>,
    ) -> Self {
        let mut first = requests.url(&format!("referrers/{subject}"));
        if let Some(artifact_type) = &artifact_type {
            first
                .query_pairs_mut()
                .append_pair("artifactType", artifact_type.as_str());
        }
        Self {
            cursor: PageCursor::new(first, requests.secrets()),
            requests,
            subject,
            artifact_type,
            entries: VecDeque::new(),
            seen: HashSet::new(),
        }
    }

    fn subject(&self) -> Reference {
        self.requests.reference().with(self.subject.clone())
    }

    async fn next(&mut self) -> crate::Result<Option<Descriptor>> {
        loop {
            while let Some(entry) = self.entries.pop_front() {
                if self.seen.insert(entry.digest.clone()) {
                    ensure!(
                        self.seen.len() <= MAX_REFERRERS,
                        TooManySnafu {
                            subject: self.subject()
                        }
                    );
                    return Ok(Some(entry));
                }
            }
            let Some(page) = self.cursor.next_page()? else {
                return Ok(None);
            };
            self.entries = self.fetch_entries(page).await?.into();
        }
    }

    /// Fetches the entries of one page. If the registry does not have the referrers API, fetches the entries under the
    /// fallback tag instead.
    async fn fetch_entries(&mut self, page: PageRequest) -> crate::Result<Vec<Descriptor>> {
        let Some(authorized) = self.request_page(page).await? else {
            return self.fallback_entries().await;
        };
        let (entries, is_filtered) = self.read(authorized).await?;
        Ok(self.filter_entries(entries, is_filtered))
    }

    /// Requests the first page. Returns `None` if the registry does not have the referrers API.
    async fn request_first_page(&mut self) -> crate::Result<Option<AuthorizedResponse>> {
        match self.cursor.next_page()? {
            Some(page) => self.request_page(page).await,
            None => Ok(None),
        }
    }

    /// Whether this page or a later page contains the manifest `referrer`.
    async fn contains(
        &mut self,
        mut authorized: AuthorizedResponse,
        referrer: &Digest,
    ) -> crate::Result<bool> {
        loop {
            let (entries, _) = self.read(authorized).await?;
            if entries.iter().any(|entry| entry.digest == *referrer) {
                return Ok(true);
            }
            let next = match self.cursor.next_page()? {
                Some(page) => self.request_page(page).await?,
                None => None,
            };
            let Some(next) = next else {
                return Ok(false);
            };
            authorized = next;
        }
    }

    /// Reads a page. Returns its entries, and whether the registry applied the filter.
    async fn read(
        &mut self,
        authorized: AuthorizedResponse,
    ) -> crate::Result<(Vec<Descriptor>, bool)> {
        let response = &authorized.response;
        self.cursor.follow_link(response)?;
        let is_filtered = response
            .header(FILTERS_APPLIED_HEADER)
            .is_some_and(|filters| {
                let mut filters = filters.split(',');
                filters.any(|filter| filter.trim().eq_ignore_ascii_case("artifactType"))
            });
        let url = response.redacted_url();
        let body = authorized.response.bytes(manifest::MAX_READ).await?;
        let page: Index = serde_json::from_slice(&body).context(ParsePageSnafu { url })?;
        // The page is not filtered yet. A page that has only entries of other artifact types therefore counts as a page
        // with new entries.
        let last = page.manifests.last().map(|entry| entry.digest.as_str());
        self.cursor.record_last_name(last);
        Ok((page.manifests, is_filtered))
    }

    /// Requests one page. Returns `None` if this is the first page and the registry does not have the referrers API.
    async fn request_page(&self, page: PageRequest) -> crate::Result<Option<AuthorizedResponse>> {
        let accepted = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        let request = Request::new(Method::GET, page.url)
            .header(header::ACCEPT, accepted)
            .untrusted(page.is_untrusted)
            .within_origin();
        let is_first = self.cursor.is_first();
        let authorized = match self.requests.send(request).await {
            Ok(authorized) => authorized,
            // A redirect to another origin leads to a web page. Any other protocol error occurs again in the request
            // for the fallback tag.
            Err(error) if error.kind() == ErrorKind::Protocol && is_first => return Ok(None),
            Err(error) => return Err(error),
        };
        let response = &authorized.response;
        if !response.status.is_success() {
            let refusal = response::into_error(self.requests.registry(), authorized).await;
            let has_no_api = match refusal.kind() {
                ErrorKind::NotFound => !is_repository_unknown(&refusal),
                kind => kind == ErrorKind::Unsupported,
            };
            return if has_no_api && is_first {
                Ok(None)
            } else {
                Err(refusal)
            };
        }
        let media_type = response
            .header(header::CONTENT_TYPE.as_str())
            .map(MediaType::from_content_type);
        let is_list = media_type == Some(MediaType::INDEX) || !is_first;
        Ok(is_list.then_some(authorized))
    }

    /// Fetches the entries under the fallback tag. Returns no entries if the tag is absent or refers to content that is
    /// not a list.
    async fn fallback_entries(&self) -> crate::Result<Vec<Descriptor>> {
        let tag = Identifier::Tag(referrers::fallback_tag(&self.subject));
        let request = self.requests.manifest_request(Method::GET, &tag);
        let authorized = self.requests.send(request).await?;
        let manifest = self.requests.read_manifest(authorized, &tag).await;
        let manifest = match manifest {
            Err(error) if is_repository_unknown(&error) => return Err(error),
            manifest => manifest.optional()?,
        };
        let entries = manifest
            .as_ref()
            .and_then(|manifest| referrers::fallback_entries(manifest, &self.subject));
        Ok(self.filter_entries(entries.unwrap_or_default().to_vec(), false))
    }

    /// Removes the entries of other artifact types, unless the registry has already filtered the list.
    fn filter_entries(&self, mut entries: Vec<Descriptor>, is_filtered: bool) -> Vec<Descriptor> {
        let artifact_type = self.artifact_type.as_ref().filter(|_| !is_filtered);
        entries.retain(|entry| referrers::has_artifact_type(entry, artifact_type));
        entries
    }
}

/// Whether the registry reports that the repository does not exist.
fn is_repository_unknown(error: &crate::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        && error
            .registry_errors()
            .iter()
            .any(|reported| reported.code.eq_ignore_ascii_case("NAME_UNKNOWN"))
}

// ---- fallback tag

/// Adds a manifest to the referrers of `subject` under the fallback tag.
pub(super) async fn add(
    requests: &RepositoryRequests,
    subject: &Digest,
    manifest: &Manifest,
) -> crate::Result<()> {
    let entry = referrers::to_entry(manifest);
    let insert = |index: &mut Index| {
        let is_listed = index
            .manifests
            .iter()
            .any(|listed| listed.digest == entry.digest);
        if !is_listed {
            index.manifests.push(entry.clone());
        }
        !is_listed
    };
    Ok(update_index(requests, subject, insert).await?)
}

/// Removes a deleted manifest from the referrers of `subject` under the fallback tag, if there is such a list.
pub(super) async fn remove(
    requests: &RepositoryRequests,
    subject: &Digest,
    deleted: &Digest,
) -> crate::Result<()> {
    let remove = |index: &mut Index| {
        let before = index.manifests.len();
        index.manifests.retain(|listed| listed.digest != *deleted);
        index.manifests.len() < before
    };
    match update_index(requests, subject, remove).await {
        // The tag refers to content that is not a list, so there is no entry to remove.
        Err(Error::NotAList { .. }) => Ok(()),
        changed => Ok(changed?),
    }
}

/// Content that a fallback tag refers to.
enum Fallback {
    Absent,
    /// The subject itself.
    Subject,
    /// List of referrers, and the `If-Match` header that prevents a write from replacing a newer list.
    List(Box<Index>, Option<(HeaderName, HeaderValue)>),
    /// Content that is not a list of referrers.
    Other,
}

/// Changes the index under the fallback tag, and repeats the write until a later read shows the change. `edit` returns
/// whether it has changed the index.
async fn update_index(
    requests: &RepositoryRequests,
    subject: &Digest,
    edit: impl Fn(&mut Index) -> bool,
) -> Result<(), Error> {
    let requests = &requests.for_one_operation();
    let tag = Identifier::Tag(referrers::fallback_tag(subject));
    let list = || requests.reference().with(tag.clone());
    let context = || ChangeSnafu {
        subject: subject.clone(),
        list: list(),
    };
    let mut failure = None;
    for attempt in 0..=MAX_WRITES {
        if attempt > 0 {
            tokio::time::sleep(delay_before_check(attempt)).await;
        }
        let fallback = read(requests, &tag, subject).await;
        let subject = subject.clone();
        let (mut index, condition) = match fallback.with_context(|_| context())? {
            Fallback::List(index, condition) => (*index, condition),
            // If the tag still resolves to the subject after a successful write, the registry cannot store a list under
            // this tag.
            Fallback::Subject if attempt > 0 && failure.is_none() => {
                return AliasSnafu {
                    subject,
                    list: list(),
                }
                .fail();
            }
            Fallback::Absent | Fallback::Subject => (Index::new(None, Vec::new()), None),
            Fallback::Other => {
                return NotAListSnafu {
                    subject,
                    list: list(),
                }
                .fail();
            }
        };
        if !edit(&mut index) {
            return Ok(());
        }
        if attempt == MAX_WRITES {
            break;
        }
        if attempt > 0 {
            let cause = match &failure {
                Some(error) => exchange::retry_cause(error, requests.secrets()),
                None => format!("`{}` does not contain the change", list()),
            };
            let retry = Retry {
                operation: format!("update of the list of referrers of {subject}"),
                attempt: attempt + 1,
                attempts: MAX_WRITES,
                // The delay has already passed: it preceded the read that detected the failure.
                delay: Duration::ZERO,
                cause,
            };
            retry.wait(requests.observer()).await;
        }
        let changed = Manifest::from_index(index).with_context(|_| context())?;
        // The request is sent once, because the next read of the index shows whether the write had an effect.
        let mut request = requests.put_request(&changed, &tag).without_retries();
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        failure = write(requests, request).await.err();
        let is_final =
            |error: &crate::Error| error.kind() != ErrorKind::Network || requests.is_stalled();
        if let Some(error) = failure.take_if(|error| is_final(error)) {
            return Err(context().into_error(error));
        }
    }
    match failure {
        Some(error) => Err(context().into_error(error)),
        None => ConflictSnafu {
            subject: subject.clone(),
            list: list(),
        }
        .fail(),
    }
}

/// Returns the delay between a write and the read that checks it. The delay is longer than the time that another client
/// needs between its read and its write. After a conflict, the delay is increased, because there may be many clients.
fn delay_before_check(attempt: u32) -> Duration {
    let minimum = Duration::from_millis(if attempt == 1 { 500 } else { 1000 });
    minimum + exchange::backoff(attempt)
}

/// Reads the content that a fallback tag refers to.
async fn read(
    requests: &RepositoryRequests,
    tag: &Identifier,
    subject: &Digest,
) -> crate::Result<Fallback> {
    let request = requests.manifest_request(Method::GET, tag);
    let authorized: AuthorizedResponse = requests.send(request).await?;
    let etag = authorized.response.headers.get(header::ETAG).cloned();
    // A weak `ETag` never matches `If-Match`.
    let etag = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    let condition = etag.map(|etag| (header::IF_MATCH, etag));
    let manifest = requests.read_manifest(authorized, tag).await.optional()?;
    let Some(manifest) = manifest else {
        return Ok(Fallback::Absent);
    };
    if referrers::matches_digest(&manifest, subject) {
        return Ok(Fallback::Subject);
    }
    Ok(match manifest.document() {
        Document::Index(index)
            if *manifest.media_type() == MediaType::INDEX
                && referrers::fallback_entries(&manifest, subject).is_some() =>
        {
            Fallback::List(Box::new(index.clone()), condition)
        }
        _ => Fallback::Other,
    })
}

/// Writes the index. The status 412 is not an error: another client has changed the index, and the next attempt reads
/// it.
async fn write(requests: &RepositoryRequests, request: Request) -> crate::Result<()> {
    let authorized = requests.send(request).await?;
    match authorized.response.status {
        StatusCode::PRECONDITION_FAILED => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(response::into_error(requests.registry(), authorized).await),
    }
}
