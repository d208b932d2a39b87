//! Paginated lists as streams (distribution-spec, "Listing Tags").
//!
//! The stream yields the names of a page while the page arrives. It requests the next page only when it is polled after
//! the last name of the current page. If the body of a page is interrupted, the page is requested again, and each name
//! is yielded only once. The stream ends with an error if the next page is on another origin or was requested before,
//! if too many consecutive pages have no new name, or if the list exceeds the limits for pages and names.

mod names;

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use url::Url;

use super::response;
use crate::auth::challenge::has_insufficient_scope;
use crate::auth::scope::Scope;
use crate::error::{ErrorKind, Failure};
use crate::event::Retry;
use crate::exchange::origin::{self, Origin};
use crate::exchange::{self, Request, Response, Stalls};
use crate::redact::{RedactedUrl, Secrets};
use crate::transport::{AuthorizedResponse, Transport};
use names::NamesParser;

/// Number of names to request per page. Some registries reject more.
const PAGE_SIZE: &str = "1000";

/// Maximum number of attempts for a page whose body is interrupted.
const MAX_ATTEMPTS: u32 = 5;

/// Maximum number of pages of a list.
const MAX_PAGES: usize = 10_000;

/// Maximum number of consecutive pages without a new name. Some pages without names are valid, because a page with
/// fewer names than requested does not end a list.
const MAX_PAGES_WITHOUT_NAME: usize = 100;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the list from {url}"))]
    ParsePage {
        url: RedactedUrl,
        source: names::Error,
    },
    #[snafu(display(
        "the registry does not support listing its repositories, or does not permit it for this account"
    ))]
    NoCatalog { source: crate::Error },
    #[snafu(display("failed to find the next page after {url}"))]
    NextPage {
        url: RedactedUrl,
        source: origin::Error,
    },
    #[snafu(display("failed to read the list: {url} links to a page that was requested before"))]
    Loop { url: RedactedUrl },
    #[snafu(display("failed to read the list: it has more than {MAX_PAGES} pages, at {url}"))]
    TooManyPages { url: RedactedUrl },
    #[snafu(display(
        "failed to read the list: more than {MAX_PAGES_WITHOUT_NAME} consecutive pages have no new name, at {url}"
    ))]
    NoNewNames { url: RedactedUrl },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCatalog { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Protocol,
        }
    }
}

/// Position in a paginated list. Rejects a page on another origin, a page that was requested before, too many pages,
/// and too many consecutive pages without a new name.
pub(super) struct PageCursor {
    next: Option<PageRequest>,
    seen: HashSet<Url>,
    /// Hashes of the last name of each page. The names of all pages would need too much memory.
    last_names: HashSet<u64>,
    hasher: RandomState,
    /// Number of consecutive pages without a new name.
    pages_without_name: usize,
    secrets: Secrets,
}

/// Page to request.
pub(super) struct PageRequest {
    pub(super) url: Url,
    /// Whether another origin chose the URL. The request is then sent without credentials.
    pub(super) is_untrusted: bool,
}

impl PageCursor {
    /// Starts at the first page.
    pub(super) fn new(first: Url, secrets: &Secrets) -> Self {
        let is_untrusted = false;
        Self {
            next: Some(PageRequest {
                url: first,
                is_untrusted,
            }),
            seen: HashSet::new(),
            last_names: HashSet::new(),
            hasher: RandomState::new(),
            pages_without_name: 0,
            secrets: secrets.clone(),
        }
    }

    /// Advances to the next page. Returns `None` after the last page.
    pub(super) fn next_page(&mut self) -> crate::Result<Option<PageRequest>> {
        let Some(page) = self.next.take() else {
            return Ok(None);
        };
        let url = &page.url;
        let shown = RedactedUrl::new(url, &self.secrets);
        ensure!(
            self.seen.len() < MAX_PAGES,
            TooManyPagesSnafu { url: shown.clone() }
        );
        ensure!(
            self.pages_without_name < MAX_PAGES_WITHOUT_NAME,
            NoNewNamesSnafu { url: shown.clone() }
        );
        ensure!(self.seen.insert(url.clone()), LoopSnafu { url: shown });
        Ok(Some(page))
    }

    /// Whether the last requested page is the first page of the list.
    pub(super) fn is_first(&self) -> bool {
        self.seen.len() == 1
    }

    /// Records the last name of a complete page. A page counts as a page without a new name if the page is empty or
    /// ends with the same name as an earlier page.
    pub(super) fn record_last_name(&mut self, last: Option<&str>) {
        let is_new = last.is_some_and(|last| self.last_names.insert(self.hasher.hash_one(last)));
        self.pages_without_name = if is_new {
            0
        } else {
            self.pages_without_name + 1
        };
    }

    /// Reads the link to the next page, which must be on the server that sent this page. After a redirect to another
    /// origin, all further pages are untrusted even if a link leads back to the registry: a third party chose the URL.
    pub(super) fn follow_link(&mut self, page: &Response) -> crate::Result<()> {
        let link = next_link(&page.headers);
        let next = link.map(|link| page.peer.resolve_same_origin(&link));
        let next = next.transpose().context(NextPageSnafu {
            url: page.redacted_url(),
        });
        self.next = next?.map(|url| PageRequest {
            is_untrusted: page.is_untrusted || Origin::from_url(&url) != page.requested_origin,
            url,
        });
        Ok(())
    }
}

struct Pages {
    transport: Arc<Transport>,
    scope: Scope,
    cursor: PageCursor,
    /// Names that have arrived and were not yielded yet.
    names: VecDeque<String>,
    body_in_progress: Option<PageBody>,
    stalls: Stalls,
}

/// Page whose body is being read.
struct PageBody {
    url: Url,
    is_untrusted: bool,
    body: BoxStream<'static, Result<Bytes, exchange::Error>>,
    parser: NamesParser,
    /// Names of this page that were already yielded. They are skipped if the page is interrupted and requested again.
    yielded: HashSet<String>,
    last_name: Option<String>,
    failures: u32,
}

/// Streams the names in all pages of the list at `path`.
pub(super) fn stream(
    transport: Arc<Transport>,
    path: &str,
    scope: Scope,
) -> BoxStream<'static, crate::Result<String>> {
    let mut first = transport.url(path);
    first.query_pairs_mut().append_pair("n", PAGE_SIZE);
    let pages = Pages {
        cursor: PageCursor::new(first, transport.secrets()),
        transport,
        scope,
        names: VecDeque::new(),
        body_in_progress: None,
        stalls: Stalls::default(),
    };
    futures_util::stream::try_unfold(pages, |mut pages| async move {
        let name = pages.next().await?;
        Ok(name.map(|name| (name, pages)))
    })
    .boxed()
}

impl Pages {
    async fn next(&mut self) -> crate::Result<Option<String>> {
        loop {
            if let Some(name) = self.names.pop_front() {
                return Ok(Some(name));
            }
            if let Some(page) = self.body_in_progress.take() {
                self.body_in_progress = self.read(page).await?;
            } else if let Some(page) = self.cursor.next_page()? {
                self.body_in_progress = Some(self.open(page, HashSet::new(), 0).await?);
            } else {
                return Ok(None);
            }
        }
    }

    /// Reads the next chunk of a page. Returns the page, or `None` if the page is complete.
    async fn read(&mut self, mut page: PageBody) -> crate::Result<Option<PageBody>> {
        let secrets = self.transport.secrets();
        let url = RedactedUrl::new(&page.url, secrets);
        let mut names = VecDeque::new();
        let piece = page.body.next().await.transpose();
        let parsed = match &piece {
            Ok(Some(piece)) => page.parser.feed(piece, &mut names),
            Ok(None) => page.parser.finish(&mut names),
            Err(_) => Ok(()),
        };
        parsed.context(ParsePageSnafu { url: url.clone() })?;
        if let Some(last) = names.back() {
            page.last_name = Some(last.clone());
        }
        names.retain(|name| page.yielded.insert(name.clone()));
        self.names.append(&mut names);
        match piece {
            Ok(Some(_)) => Ok(Some(page)),
            Ok(None) => {
                self.cursor.record_last_name(page.last_name.as_deref());
                Ok(None)
            }
            Err(error) if page.failures + 1 >= MAX_ATTEMPTS || self.stalls.has_reached_limit() => {
                Err(error.into())
            }
            Err(error) => {
                let failures = page.failures + 1;
                let retry = Retry {
                    operation: format!("list of names from {url}"),
                    attempt: failures + 1,
                    attempts: MAX_ATTEMPTS,
                    delay: exchange::backoff(failures),
                    cause: exchange::retry_cause(&error, secrets),
                };
                retry.wait(self.transport.observer()).await;
                let request = PageRequest {
                    url: page.url,
                    is_untrusted: page.is_untrusted,
                };
                Ok(Some(self.open(request, page.yielded, failures).await?))
            }
        }
    }

    async fn open(
        &mut self,
        page: PageRequest,
        yielded: HashSet<String>,
        failures: u32,
    ) -> crate::Result<PageBody> {
        let PageRequest {
            mut url,
            is_untrusted,
        } = page;
        let mut authorized = self.request(url.clone(), is_untrusted).await?;
        let is_refused = matches!(
            authorized.response.status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE
        );
        if is_refused && self.cursor.is_first() {
            // Some registries reject this page size. If the request has no page size, they use their own default.
            url.set_query(None);
            authorized = self.request(url.clone(), is_untrusted).await?;
        }
        let status = authorized.response.status;
        if !status.is_success() {
            let is_denied = status == StatusCode::FORBIDDEN
                || status == StatusCode::UNAUTHORIZED
                    && has_insufficient_scope(&authorized.response.headers);
            let refusal = response::into_error(self.transport.registry(), authorized).await;
            return Err(if is_denied && self.scope == Scope::Catalog {
                NoCatalogSnafu.into_error(refusal).into()
            } else {
                refusal
            });
        }
        self.cursor.follow_link(&authorized.response)?;
        Ok(PageBody {
            url,
            is_untrusted,
            body: authorized.response.into_stream(),
            parser: NamesParser::new(),
            yielded,
            last_name: None,
            failures,
        })
    }

    async fn request(&mut self, url: Url, is_untrusted: bool) -> crate::Result<AuthorizedResponse> {
        let request = Request::new(Method::GET, url)
            .untrusted(is_untrusted)
            .with_stalls(&self.stalls);
        self.transport.send(request, &self.scope).await
    }
}

/// Returns the target of the `Link` header with the relation `next` (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::LINK);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(parse_next_link)
}

/// Parses `<target>; name=value; …, <target>; …`. A quoted value may contain any character.
pub(crate) fn parse_next_link(mut rest: &str) -> Option<String> {
    while let Some(open) = rest.find('<') {
        let (target, after) = rest[open + 1..].split_once('>')?;
        let (parameters, next) =
            after.split_at(find_outside_quotes(after, ',').unwrap_or(after.len()));
        let mut parameters = parameters;
        loop {
            let end = find_outside_quotes(parameters, ';');
            if is_next_relation(&parameters[..end.unwrap_or(parameters.len())]) {
                return Some(target.to_owned());
            }
            match end {
                Some(end) => parameters = &parameters[end + 1..],
                None => break,
            }
        }
        rest = next;
    }
    None
}

/// Returns the position of the first occurrence of a character outside quotes.
fn find_outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.find(|character| {
        quoted ^= character == '"';
        character == wanted && !quoted
    })
}

/// Whether a parameter is the relation `next`.
fn is_next_relation(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or_default();
    let mut relations = value.trim().trim_matches('"').split_whitespace();
    name.trim().eq_ignore_ascii_case("rel")
        && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// Parses the names of a page that arrives in chunks of `piece` bytes. Returns `None` if the page is malformed.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse_names(page: &[u8], piece: usize) -> Option<Vec<String>> {
    names::read(page, piece).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, value.parse().unwrap());
        next_link(&headers)
    }

    #[test]
    fn link_with_relation_next_is_found() {
        assert_eq!(
            link("</v2/x/tags/list?last=a&n=1>; rel=\"next\"").as_deref(),
            Some("/v2/x/tags/list?last=a&n=1")
        );
        assert_eq!(
            link("<a>;rel=prev,<b?x=1,2>; title=\"t\"; REL=\"last next\"").as_deref(),
            Some("b?x=1,2")
        );
        assert_eq!(
            link("</p>; rel=\"first\", </n>; rel=\"next\"").as_deref(),
            Some("/n")
        );
        assert_eq!(
            link("</p>; title=\", <x>; rel=next\", </n>; rel=next").as_deref(),
            Some("/n")
        );
        assert_eq!(link("<a>; rel=prev"), None);
        assert_eq!(link("a; rel=next"), None);
    }
}
