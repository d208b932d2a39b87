//! Lists that come in pages, as a stream (distribution-spec, "Listing Tags").
//!
//! Names are given out while their page is still arriving, and the next page is asked for only when the stream is polled
//! beyond this one. A page that breaks off is asked for again, and what was given out of it is not given out twice. A next
//! page off the registry, a page seen before, and more pages or longer names than make sense end the stream with an error.

mod names;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use snafu::{IntoError, ResultExt, Snafu, ensure};
use url::Url;

use super::response;
use crate::auth::challenge::is_insufficient;
use crate::auth::scope::Scope;
use crate::error::{ErrorKind, Failure};
use crate::exchange::display::ShownUrl;
use crate::exchange::origin::{self, Origin};
use crate::exchange::secrets::Secrets;
use crate::exchange::{self, Request, Response, Stalls};
use crate::transport::{Answer, Transport};
use names::Names;

/// How many names are asked for at once: more is an error at some registries.
const PAGE: &str = "1000";

/// How often in a row a page may break off.
const MAX_FAILURES: u32 = 5;

/// More pages than any list has.
const MAX_PAGES: usize = 10_000;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to read the list that {url} answered"))]
    ParsePage { url: ShownUrl, source: names::Error },
    #[snafu(display("this registry offers no list of its repositories, or none to this account"))]
    NoCatalog { source: crate::Error },
    #[snafu(display("failed to find the next page after {url}"))]
    NextPage {
        url: ShownUrl,
        source: origin::Error,
    },
    #[snafu(display("gave up on the list: {url} names a page that was there before"))]
    Loop { url: ShownUrl },
    #[snafu(display("gave up on the list after {MAX_PAGES} pages, at {url}"))]
    Endless { url: ShownUrl },
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCatalog { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Protocol,
        }
    }
}

/// The way from page to page: never off the registry, never to the same page twice, and never without end.
pub(super) struct Trail {
    next: Option<Step>,
    seen: HashSet<Url>,
    secrets: Secrets,
}

/// A page to ask for.
pub(super) struct Step {
    pub(super) url: Url,
    /// Whether someone else than the registry chose it: then it is asked for as nobody.
    pub(super) is_stranger: bool,
}

impl Trail {
    /// The way that begins at this page.
    pub(super) fn new(first: Url, secrets: &Secrets) -> Self {
        let is_stranger = false;
        Self {
            next: Some(Step {
                url: first,
                is_stranger,
            }),
            seen: HashSet::new(),
            secrets: secrets.clone(),
        }
    }

    /// The page to ask for now, if there is one more.
    pub(super) fn step(&mut self) -> crate::Result<Option<Step>> {
        let Some(step) = self.next.take() else {
            return Ok(None);
        };
        let url = &step.url;
        let shown = ShownUrl::new(url, &self.secrets);
        ensure!(
            self.seen.len() < MAX_PAGES,
            EndlessSnafu { url: shown.clone() }
        );
        ensure!(self.seen.insert(url.clone()), LoopSnafu { url: shown });
        Ok(Some(step))
    }

    /// Whether no page came before the one that was asked for last.
    pub(super) fn is_first(&self) -> bool {
        self.seen.len() == 1
    }

    /// Learns from a page which one comes next: on the server that the page came from, wherever the first one was asked for.
    /// Who was led elsewhere once is a stranger from there on, even where that leads back to the registry.
    pub(super) fn learn(&mut self, page: &Response) -> crate::Result<()> {
        let link = next_link(&page.headers);
        let next = link.map(|link| page.met.resolve_same_origin(&link));
        let next = next
            .transpose()
            .context(NextPageSnafu { url: page.shown() });
        self.next = next?.map(|url| Step {
            is_stranger: page.is_stranger || Origin::of(&url) != page.asked,
            url,
        });
        Ok(())
    }
}

struct Pages {
    transport: Arc<Transport>,
    scope: Scope,
    trail: Trail,
    /// Names that arrived and were not returned yet.
    names: VecDeque<String>,
    arriving: Option<Arriving>,
    stalls: Stalls,
}

/// A page whose body is being read.
struct Arriving {
    url: Url,
    is_stranger: bool,
    body: BoxStream<'static, Result<Bytes, exchange::Error>>,
    reader: Names,
    /// The names that were read so far, so that none is read twice if the page breaks off.
    given: HashSet<String>,
    failures: u32,
}

/// Streams the names of all pages that start at `path`.
pub(super) fn stream(
    transport: Arc<Transport>,
    path: &str,
    scope: Scope,
) -> BoxStream<'static, crate::Result<String>> {
    let mut first = transport.url(path);
    first.query_pairs_mut().append_pair("n", PAGE);
    let pages = Pages {
        trail: Trail::new(first, transport.secrets()),
        transport,
        scope,
        names: VecDeque::new(),
        arriving: None,
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
            if let Some(page) = self.arriving.take() {
                self.arriving = self.read(page).await?;
            } else if let Some(step) = self.trail.step()? {
                self.arriving = Some(self.open(step, HashSet::new(), 0).await?);
            } else {
                return Ok(None);
            }
        }
    }

    /// Reads a piece of a page. Returns the page unless this was its end.
    async fn read(&mut self, mut page: Arriving) -> crate::Result<Option<Arriving>> {
        let url = ShownUrl::new(&page.url, self.transport.secrets());
        let mut names = VecDeque::new();
        let piece = page.body.next().await.transpose();
        let parsed = match &piece {
            Ok(Some(piece)) => page.reader.feed(piece, &mut names),
            Ok(None) => page.reader.finish(&mut names),
            Err(_) => Ok(()),
        };
        parsed.context(ParsePageSnafu { url })?;
        names.retain(|name| page.given.insert(name.clone()));
        self.names.append(&mut names);
        match piece {
            Ok(Some(_)) => Ok(Some(page)),
            Ok(None) => Ok(None),
            Err(error) if page.failures + 1 >= MAX_FAILURES || self.stalls.is_over() => {
                Err(error.into())
            }
            Err(_) => {
                let failures = page.failures + 1;
                tokio::time::sleep(exchange::backoff(failures)).await;
                let step = Step {
                    url: page.url,
                    is_stranger: page.is_stranger,
                };
                Ok(Some(self.open(step, page.given, failures).await?))
            }
        }
    }

    async fn open(
        &mut self,
        step: Step,
        given: HashSet<String>,
        failures: u32,
    ) -> crate::Result<Arriving> {
        let Step {
            mut url,
            is_stranger,
        } = step;
        let mut answer = self.ask(url.clone(), is_stranger).await?;
        let is_refused = matches!(
            answer.response.status,
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE
        );
        if is_refused && self.trail.is_first() {
            // Some registries refuse a page of this size; without a size they choose their own.
            url.set_query(None);
            answer = self.ask(url.clone(), is_stranger).await?;
        }
        let status = answer.response.status;
        if !status.is_success() {
            let is_closed = status == StatusCode::FORBIDDEN
                || status == StatusCode::UNAUTHORIZED && is_insufficient(&answer.response.headers);
            let refusal = response::refusal(self.transport.registry(), answer).await;
            return Err(if is_closed && self.scope == Scope::Catalog {
                NoCatalogSnafu.into_error(refusal).into()
            } else {
                refusal
            });
        }
        self.trail.learn(&answer.response)?;
        Ok(Arriving {
            url,
            is_stranger,
            body: answer.response.into_stream(),
            reader: Names::new(),
            given,
            failures,
        })
    }

    async fn ask(&mut self, url: Url, is_stranger: bool) -> crate::Result<Answer> {
        let request = Request::new(Method::GET, url)
            .for_stranger(is_stranger)
            .counting(&self.stalls);
        self.transport.send(request, &self.scope).await
    }
}

/// The target of the `Link` header whose relation is `next` (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::LINK);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(next_in)
}

/// Reads `<target>; name=value; …, <target>; …`, where a value may be quoted and then hold anything.
pub(crate) fn next_in(mut rest: &str) -> Option<String> {
    while let Some(open) = rest.find('<') {
        let (target, after) = rest[open + 1..].split_once('>')?;
        let (parameters, next) = after.split_at(outside_quotes(after, ',').unwrap_or(after.len()));
        let mut parameters = parameters;
        loop {
            let end = outside_quotes(parameters, ';');
            if is_next(&parameters[..end.unwrap_or(parameters.len())]) {
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

/// Where a character stands that is not within quotes.
fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.find(|character| {
        quoted ^= character == '"';
        character == wanted && !quoted
    })
}

/// Whether a parameter says that its link leads to the next page.
fn is_next(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or_default();
    let mut relations = value.trim().trim_matches('"').split_whitespace();
    name.trim().eq_ignore_ascii_case("rel")
        && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

/// The names of a page that arrives in pieces of this size, if it is one.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn names_in(page: &[u8], piece: usize) -> Option<Vec<String>> {
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
    fn the_next_link_is_found() {
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
