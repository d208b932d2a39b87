//! What in a repository is about a manifest (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").
//!
//! A registry that keeps lists of referrers answers them in pages, and says at each push that it took note. One that
//! keeps none says so in many ways: "not found", a web page, a redirect to one. There, clients keep the list themselves,
//! in an index under a tag made from the subject's digest. Some registries resolve this tag as the digest: then the
//! subject itself is found there, and counts as absent.
//!
//! Such an index is read, changed and written again while others do the same, and no registry is known to honour a
//! condition on the write. So after each write it is looked at once more, later than another writer takes from reading to
//! writing, and written again if an entry was lost.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu, ensure};

use super::page::{Step, Trail};
use super::repository::Repository;
use super::response;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, Hint, Optional};
use crate::exchange::display::ShownUrl;
use crate::exchange::{self, Request};
use crate::manifest::{self, Descriptor, Document, Index, Manifest, MediaType};
use crate::reference::{Identifier, Reference};
use crate::referrers::{self, DescriptorStream, MAX_REFERRERS};
use crate::transport::Answer;

/// The header in which a registry names the filters that it has applied to a list.
const FILTERS_APPLIED: &str = "oci-filters-applied";

/// How often an index of referrers is written before other writers are let have it.
const MAX_ROUNDS: u32 = 10;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to list what refers to `{subject}`"))]
    List {
        subject: Reference,
        source: crate::Error,
    },
    #[snafu(display("failed to read the list that {url} answered"))]
    ParsePage {
        url: ShownUrl,
        source: serde_json::Error,
    },
    #[snafu(display("gave up on what refers to `{subject}`: it is more than {MAX_REFERRERS}"))]
    TooMany { subject: Reference },
    #[snafu(display("failed to change the list of what refers to {subject} at `{list}`"))]
    Change {
        subject: Digest,
        list: Reference,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to change the list of what refers to {subject}: `{list}` is not such a list"
    ))]
    NotAList { subject: Digest, list: Reference },
    #[snafu(display(
        "failed to change the list of what refers to {subject}: the registry resolves `{list}` as the digest of the subject"
    ))]
    Alias { subject: Digest, list: Reference },
    #[snafu(display(
        "gave up on the list of what refers to {subject}: others wrote to `{list}` {MAX_ROUNDS} times meanwhile"
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

/// A list of referrers on its way.
struct Listing {
    repository: Repository,
    subject: Digest,
    artifact_type: Option<MediaType>,
    trail: Trail,
    /// What the last page said that has not been passed on.
    entries: VecDeque<Descriptor>,
    seen: HashSet<Digest>,
}

/// Streams the entries of what is about `subject`, page by page.
pub(super) fn list(
    repository: Repository,
    subject: Digest,
    artifact_type: Option<MediaType>,
) -> DescriptorStream {
    let listing = Listing::new(repository, subject, artifact_type);
    futures_util::stream::try_unfold(listing, |mut listing| async move {
        let found = listing.next().await;
        let found = found.with_context(|_| ListSnafu {
            subject: listing.subject(),
        })?;
        Ok(found.map(|entry| (entry, listing)))
    })
    .boxed()
}

/// Whether the registry answers a list of the referrers of `subject`.
pub(super) async fn has_list(repository: &Repository, subject: &Digest) -> crate::Result<bool> {
    let mut listing = Listing::new(repository.clone(), subject.clone(), None);
    let Some(first) = listing.trail.step()? else {
        return Ok(false);
    };
    let answer = listing.fetch(first).await;
    let answer = answer.with_context(|_| ListSnafu {
        subject: listing.subject(),
    })?;
    Ok(answer.is_some())
}

impl Listing {
    fn new(repository: Repository, subject: Digest, artifact_type: Option<MediaType>) -> Self {
        let mut first = repository.url(&format!("referrers/{subject}"));
        if let Some(artifact_type) = &artifact_type {
            first
                .query_pairs_mut()
                .append_pair("artifactType", artifact_type.as_str());
        }
        Self {
            trail: Trail::new(first, repository.secrets()),
            repository,
            subject,
            artifact_type,
            entries: VecDeque::new(),
            seen: HashSet::new(),
        }
    }

    fn subject(&self) -> Reference {
        self.repository.reference().with(self.subject.clone())
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
            let Some(step) = self.trail.step()? else {
                return Ok(None);
            };
            self.entries = self.page(step).await?.into();
        }
    }

    /// The entries of one page; instead of the first, the entries that clients keep where the registry has no list.
    async fn page(&mut self, step: Step) -> crate::Result<Vec<Descriptor>> {
        let Some(answer) = self.fetch(step).await? else {
            return self.kept().await;
        };
        let response = &answer.response;
        self.trail.learn(response)?;
        let is_filtered = response.header(FILTERS_APPLIED).is_some_and(|filters| {
            let mut filters = filters.split(',');
            filters.any(|filter| filter.trim().eq_ignore_ascii_case("artifactType"))
        });
        let url = response.shown();
        let body = answer.response.bytes(manifest::MAX_READ).await?;
        let page: Index = serde_json::from_slice(&body).context(ParsePageSnafu { url })?;
        Ok(self.wanted(page.manifests, is_filtered))
    }

    /// Requests one page. `None` for the first page where the registry has no list.
    async fn fetch(&self, step: Step) -> crate::Result<Option<Answer>> {
        let accepted = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        let request = Request::new(Method::GET, step.url)
            .header(header::ACCEPT, accepted)
            .for_stranger(step.is_stranger)
            .within_origin();
        let is_first = self.trail.is_first();
        let answer = match self.repository.send(request).await {
            Ok(answer) => answer,
            // A redirect to another origin leads to a web page. Any other fault of the registry shows again in the
            // request for the fallback tag.
            Err(error) if error.kind() == ErrorKind::Protocol && is_first => return Ok(None),
            Err(error) => return Err(error),
        };
        let response = &answer.response;
        if !response.status.is_success() {
            let refusal = response::refusal(self.repository.registry(), answer).await;
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

    /// The entries under the fallback tag. None if the tag is absent or names other content than a list.
    async fn kept(&self) -> crate::Result<Vec<Descriptor>> {
        let tag = Identifier::Tag(referrers::fallback_tag(&self.subject));
        let request = self.repository.manifest_request(Method::GET, &tag);
        let answer = self.repository.send(request).await?;
        let manifest = self.repository.read_manifest(answer, &tag).await;
        let manifest = match manifest {
            Err(error) if is_repository_unknown(&error) => return Err(error),
            manifest => manifest.optional()?,
        };
        let entries = manifest
            .as_ref()
            .and_then(|manifest| referrers::listed(manifest, &self.subject));
        Ok(self.wanted(entries.unwrap_or_default().to_vec(), false))
    }

    fn wanted(&self, mut entries: Vec<Descriptor>, is_filtered: bool) -> Vec<Descriptor> {
        let artifact_type = self.artifact_type.as_ref().filter(|_| !is_filtered);
        entries.retain(|entry| referrers::is_wanted(entry, artifact_type));
        entries
    }
}

/// Whether the registry said that the repository itself is not there.
fn is_repository_unknown(error: &crate::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        && error
            .registry_errors()
            .iter()
            .any(|said| said.code.eq_ignore_ascii_case("NAME_UNKNOWN"))
}

// ---- the list that clients keep

/// Lists a manifest among the referrers of `subject`, at a registry that does not do so itself.
pub(super) async fn add(
    repository: &Repository,
    subject: &Digest,
    manifest: &Manifest,
) -> crate::Result<()> {
    let entry = referrers::entry(manifest);
    let put = |index: &mut Index| {
        let is_listed = index
            .manifests
            .iter()
            .any(|listed| listed.digest == entry.digest);
        if !is_listed {
            index.manifests.push(entry.clone());
        }
        !is_listed
    };
    Ok(change(repository, subject, put).await?)
}

/// Takes a manifest that is gone from the list of referrers of `subject`, if clients keep one.
pub(super) async fn remove(
    repository: &Repository,
    subject: &Digest,
    gone: &Digest,
) -> crate::Result<()> {
    let take = |index: &mut Index| {
        let before = index.manifests.len();
        index.manifests.retain(|listed| listed.digest != *gone);
        index.manifests.len() < before
    };
    match change(repository, subject, take).await {
        // A tag of other content is nobody's list, and names nothing that is gone.
        Err(Error::NotAList { .. }) => Ok(()),
        changed => Ok(changed?),
    }
}

/// The content of a fallback tag.
enum Kept {
    /// The tag is absent.
    Absent,
    /// The registry serves the subject itself.
    Subject,
    /// A list, and the condition that it is still this one.
    List(Box<Index>, Option<(HeaderName, HeaderValue)>),
    /// Anything else.
    Other,
}

/// Changes the index of a subject's referrers until the change is seen to stay; `edit` says whether there was anything
/// to change.
async fn change(
    repository: &Repository,
    subject: &Digest,
    edit: impl Fn(&mut Index) -> bool,
) -> Result<(), Error> {
    let repository = &repository.for_one_operation();
    let tag = Identifier::Tag(referrers::fallback_tag(subject));
    let list = || repository.reference().with(tag.clone());
    let context = || ChangeSnafu {
        subject: subject.clone(),
        list: list(),
    };
    let mut failure = None;
    for round in 0..=MAX_ROUNDS {
        if round > 0 {
            tokio::time::sleep(settled(round)).await;
        }
        let kept = read(repository, &tag, subject).await;
        let subject = subject.clone();
        let (mut index, condition) = match kept.with_context(|_| context())? {
            Kept::List(index, condition) => (*index, condition),
            // A tag that was written and still names the subject cannot hold a list.
            Kept::Subject if round > 0 && failure.is_none() => {
                return AliasSnafu {
                    subject,
                    list: list(),
                }
                .fail();
            }
            Kept::Absent | Kept::Subject => (Index::new(None, Vec::new()), None),
            Kept::Other => {
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
        let changed = Manifest::from_index(index).with_context(|_| context())?;
        // Sent once: whether it arrived, and whether it stayed, shows when the index is looked at again.
        let mut request = repository.put_request(&changed, &tag).once();
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        failure = write(repository, request).await.err();
        let is_settled =
            |error: &crate::Error| error.kind() != ErrorKind::Network || repository.is_stalled();
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

/// How long an index must have stayed as it is: longer than another writer takes from reading to writing. Where one was
/// seen, there may be many.
fn settled(round: u32) -> Duration {
    let least = Duration::from_millis(if round == 1 { 500 } else { 1000 });
    least + exchange::backoff(round)
}

/// Reads what a fallback tag names.
async fn read(repository: &Repository, tag: &Identifier, subject: &Digest) -> crate::Result<Kept> {
    let request = repository.manifest_request(Method::GET, tag);
    let answer: Answer = repository.send(request).await?;
    let etag = answer.response.headers.get(header::ETAG).cloned();
    // A weak one never matches.
    let etag = etag.filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    let condition = etag.map(|etag| (header::IF_MATCH, etag));
    let manifest = repository.read_manifest(answer, tag).await.optional()?;
    let Some(manifest) = manifest else {
        return Ok(Kept::Absent);
    };
    if referrers::is_same(&manifest, subject) {
        return Ok(Kept::Subject);
    }
    Ok(match manifest.document() {
        Document::Index(index)
            if *manifest.media_type() == MediaType::INDEX
                && referrers::listed(&manifest, subject).is_some() =>
        {
            Kept::List(Box::new(index.clone()), condition)
        }
        _ => Kept::Other,
    })
}

/// Sends a change of the index. That somebody else was faster, and the registry noticed, is no failure.
async fn write(repository: &Repository, request: Request) -> crate::Result<()> {
    let answer = repository.send(request).await?;
    match answer.response.status {
        StatusCode::PRECONDITION_FAILED => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(response::refusal(repository.registry(), answer).await),
    }
}
