//! Referrers of a manifest in a repository (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
//!
//! A registry with the referrers API sends the list in pages and names the subject in its response to a push. A registry
//! without it answers in many ways: 404, a web page, or a redirect to one. There, clients maintain the list in an index
//! under the fallback tag, which is made from the subject's digest. Some registries resolve this tag as the digest: the
//! subject is found there, and the list counts as absent.
//!
//! Several clients may change such an index at the same time, and no registry is known to honour a condition on the write.
//! So the client reads the index again after each write, later than another client needs from reading to writing, and
//! writes it again if an entry was lost.

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
const FILTERS_APPLIED: &str = "oci-filters-applied";

/// Limit of the reads of a list that does not contain a pushed manifest.
const MAX_READS: u32 = 5;

/// Limit of the writes of an index that other clients change at the same time.
const MAX_ROUNDS: u32 = 10;

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
    #[snafu(display("gave up on the referrers of `{subject}`: more than {MAX_REFERRERS}"))]
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
        "gave up on the list of referrers of {subject}: other clients changed `{list}` during each of {MAX_ROUNDS} attempts"
    ))]
    Contested { subject: Digest, list: Reference },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::List { source, .. } | Self::Change { source, .. } => source.kind(),
            Self::ParsePage { .. } | Self::TooMany { .. } => ErrorKind::Protocol,
            Self::NotAList { .. } | Self::Contested { .. } => ErrorKind::Conflict,
            Self::Alias { .. } => ErrorKind::Unsupported,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        let advice = match self {
            Self::NotAList { list, .. } => format!(
                "the manifest was stored; to have it listed, delete or rename `{list}` and push again"
            ),
            Self::Alias { .. } => "the manifest was stored".to_owned(),
            Self::Contested { .. } => {
                "the manifest was stored; to have it listed, push again".to_owned()
            }
            _ => return Vec::new(),
        };
        vec![advice.into()]
    }
}

// ---- listing

/// State of a list of referrers.
struct Listing {
    requests: RepositoryRequests,
    subject: Digest,
    artifact_type: Option<MediaType>,
    cursor: PageCursor,
    /// Entries of the last page that were not returned yet.
    entries: VecDeque<Descriptor>,
    seen: HashSet<Digest>,
}

/// Streams the referrers of `subject`, page by page.
pub(super) fn list(
    requests: RepositoryRequests,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let listing = Listing::new(requests, subject, artifact_type);
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

/// Searches a pushed manifest in the list of the referrers API. A registry may update its list later than it accepts the
/// manifest, so a list without the manifest is requested again.
///
/// # Errors
///
/// The error of the request that shows whether the registry has the referrers API.
pub(super) async fn find(
    requests: &RepositoryRequests,
    subject: &Digest,
    referrer: &Digest,
) -> crate::Result<Membership> {
    let requests = requests.for_one_operation();
    for reads in 1..=MAX_READS {
        let mut listing = Listing::new(requests.clone(), subject.clone(), None);
        let first = match listing.first_page().await {
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

impl Listing {
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
            self.entries = self.page(page).await?.into();
        }
    }

    /// Fetches the entries of one page. Without the referrers API, those of the fallback tag in place of the first page.
    async fn page(&mut self, page: PageRequest) -> crate::Result<Vec<Descriptor>> {
        let Some(answer) = self.fetch(page).await? else {
            return self.fallback_entries().await;
        };
        let (entries, is_filtered) = self.read(answer).await?;
        Ok(self.matching(entries, is_filtered))
    }

    /// Requests the first page. `None` if the registry has no list.
    async fn first_page(&mut self) -> crate::Result<Option<AuthorizedResponse>> {
        match self.cursor.next_page()? {
            Some(page) => self.fetch(page).await,
            None => Ok(None),
        }
    }

    /// Whether this page or a later one contains a manifest.
    async fn contains(
        &mut self,
        mut answer: AuthorizedResponse,
        referrer: &Digest,
    ) -> crate::Result<bool> {
        loop {
            let (entries, _) = self.read(answer).await?;
            if entries.iter().any(|entry| entry.digest == *referrer) {
                return Ok(true);
            }
            let next = match self.cursor.next_page()? {
                Some(page) => self.fetch(page).await?,
                None => None,
            };
            let Some(next) = next else {
                return Ok(false);
            };
            answer = next;
        }
    }

    /// Reads a page. Returns its entries, and whether the registry applied the filter.
    async fn read(&mut self, answer: AuthorizedResponse) -> crate::Result<(Vec<Descriptor>, bool)> {
        let response = &answer.response;
        self.cursor.follow_link(response)?;
        let is_filtered = response.header(FILTERS_APPLIED).is_some_and(|filters| {
            let mut filters = filters.split(',');
            filters.any(|filter| filter.trim().eq_ignore_ascii_case("artifactType"))
        });
        let url = response.shown();
        let body = answer.response.bytes(manifest::MAX_READ).await?;
        let page: Index = serde_json::from_slice(&body).context(ParsePageSnafu { url })?;
        // An entry of another artifact type is also a sign of progress.
        let last = page.manifests.last().map(|entry| entry.digest.as_str());
        self.cursor.record_last_name(last);
        Ok((page.manifests, is_filtered))
    }

    /// Requests one page. `None` for the first page where the registry has no list.
    async fn fetch(&self, page: PageRequest) -> crate::Result<Option<AuthorizedResponse>> {
        let accepted = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        let request = Request::new(Method::GET, page.url)
            .header(header::ACCEPT, accepted)
            .untrusted(page.is_untrusted)
            .within_origin();
        let is_first = self.cursor.is_first();
        let answer = match self.requests.send(request).await {
            Ok(answer) => answer,
            // A redirect to another origin leads to a web page. Any other fault of the registry shows again in the
            // request for the fallback tag.
            Err(error) if error.kind() == ErrorKind::Protocol && is_first => return Ok(None),
            Err(error) => return Err(error),
        };
        let response = &answer.response;
        if !response.status.is_success() {
            let refusal = response::refusal(self.requests.registry(), answer).await;
            let has_no_lists = match refusal.kind() {
                ErrorKind::NotFound => !is_repository_unknown(&refusal),
                kind => kind == ErrorKind::Unsupported,
            };
            return if has_no_lists && is_first {
                Ok(None)
            } else {
                Err(refusal)
            };
        }
        let media_type = response
            .header(header::CONTENT_TYPE.as_str())
            .map(MediaType::from_content_type);
        let is_list = media_type == Some(MediaType::INDEX) || !is_first;
        Ok(is_list.then_some(answer))
    }

    /// Fetches the entries of the fallback tag. None if the tag is absent or names other content than a list.
    async fn fallback_entries(&self) -> crate::Result<Vec<Descriptor>> {
        let tag = Identifier::Tag(referrers::fallback_tag(&self.subject));
        let request = self.requests.manifest_request(Method::GET, &tag);
        let answer = self.requests.send(request).await?;
        let manifest = self.requests.read_manifest(answer, &tag).await;
        let manifest = match manifest {
            Err(error) if is_repository_unknown(&error) => return Err(error),
            manifest => manifest.optional()?,
        };
        let entries = manifest
            .as_ref()
            .and_then(|manifest| referrers::listed(manifest, &self.subject));
        Ok(self.matching(entries.unwrap_or_default().to_vec(), false))
    }

    /// Removes the entries of another artifact type, unless the registry has done so.
    fn matching(&self, mut entries: Vec<Descriptor>, is_filtered: bool) -> Vec<Descriptor> {
        let artifact_type = self.artifact_type.as_ref().filter(|_| !is_filtered);
        entries.retain(|entry| referrers::is_wanted(entry, artifact_type));
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
    let entry = referrers::entry(manifest);
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
    Ok(change(requests, subject, insert).await?)
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
    match change(requests, subject, remove).await {
        // A tag of other content is no list and has no entry to remove.
        Err(Error::NotAList { .. }) => Ok(()),
        changed => Ok(changed?),
    }
}

/// Content of a fallback tag.
enum Fallback {
    /// The tag is absent.
    Absent,
    /// The registry serves the subject itself.
    Subject,
    /// A list, and the condition that it is still this one.
    List(Box<Index>, Option<(HeaderName, HeaderValue)>),
    /// Other content.
    Other,
}

/// Changes the index of a subject's referrers and repeats that until a later read shows the change. `edit` returns whether
/// it has changed the index.
async fn change(
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
    for round in 0..=MAX_ROUNDS {
        if round > 0 {
            tokio::time::sleep(settling_time(round)).await;
        }
        let fallback = read(requests, &tag, subject).await;
        let subject = subject.clone();
        let (mut index, condition) = match fallback.with_context(|_| context())? {
            Fallback::List(index, condition) => (*index, condition),
            // A tag that was written and still names the subject cannot hold a list.
            Fallback::Subject if round > 0 && failure.is_none() => {
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
        if round == MAX_ROUNDS {
            break;
        }
        if round > 0 {
            let cause = match &failure {
                Some(error) => exchange::innermost_cause(error, requests.secrets()),
                None => format!("`{}` does not contain the change", list()),
            };
            let retry = Retry {
                operation: format!("update of the list of referrers of {subject}"),
                attempt: round + 1,
                attempts: MAX_ROUNDS,
                // The read that found the failure was delayed already.
                delay: Duration::ZERO,
                cause,
            };
            retry.wait(requests.observer()).await;
        }
        let changed = Manifest::from_index(index).with_context(|_| context())?;
        // Sent once: the next read of the index shows whether the write arrived and lasted.
        let mut request = requests.put_request(&changed, &tag).once();
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        failure = write(requests, request).await.err();
        let is_settled =
            |error: &crate::Error| error.kind() != ErrorKind::Network || requests.is_stalled();
        if let Some(error) = failure.take_if(|error| is_settled(error)) {
            return Err(context().into_error(error));
        }
    }
    match failure {
        Some(error) => Err(context().into_error(error)),
        None => ContestedSnafu {
            subject: subject.clone(),
            list: list(),
        }
        .fail(),
    }
}

/// Returns the delay between a write and the read that checks it: longer than another client needs from reading to
/// writing. It is longer after a conflict, as there may be many clients.
fn settling_time(round: u32) -> Duration {
    let minimum = Duration::from_millis(if round == 1 { 500 } else { 1000 });
    minimum + exchange::backoff(round)
}

/// Reads the content of a fallback tag.
async fn read(
    requests: &RepositoryRequests,
    tag: &Identifier,
    subject: &Digest,
) -> crate::Result<Fallback> {
    let request = requests.manifest_request(Method::GET, tag);
    let answer: AuthorizedResponse = requests.send(request).await?;
    let etag = answer.response.headers.get(header::ETAG).cloned();
    // A weak `ETag` never matches `If-Match`.
    let etag = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    let condition = etag.map(|etag| (header::IF_MATCH, etag));
    let manifest = requests.read_manifest(answer, tag).await.optional()?;
    let Some(manifest) = manifest else {
        return Ok(Fallback::Absent);
    };
    if referrers::is_same(&manifest, subject) {
        return Ok(Fallback::Subject);
    }
    Ok(match manifest.document() {
        Document::Index(index)
            if *manifest.media_type() == MediaType::INDEX
                && referrers::listed(&manifest, subject).is_some() =>
        {
            Fallback::List(Box::new(index.clone()), condition)
        }
        _ => Fallback::Other,
    })
}

/// Writes the index. 412 is no failure: another client has changed the index, and the next round reads it.
async fn write(requests: &RepositoryRequests, request: Request) -> crate::Result<()> {
    let answer = requests.send(request).await?;
    match answer.response.status {
        StatusCode::PRECONDITION_FAILED => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(response::refusal(requests.registry(), answer).await),
    }
}
