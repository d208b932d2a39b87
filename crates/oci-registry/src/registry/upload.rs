//! Sending a blob (distribution-spec, "Pushing blobs").
//!
//! Three ways lead into a registry. A blob whose digest is known goes whole, with the PUT that closes its session, or is
//! mounted. A large file whose digest is not known is streamed: one PATCH, hashed on the way, and a PUT that names the
//! digest. Chunks, each a PATCH that says where it belongs, are for registries that take no larger requests, and for what
//! is left of a session that broke off. What a registry refuses is remembered ([`Uploads`]) and not tried again.
//!
//! A session that broke off is asked how much it has, and continued from there when it knows; the digest is the judge of
//! what came together that way, and after a bad verdict nothing is continued any more. A whole blob that broke off goes
//! into another session: what arrived of it cannot be told. Whether content whose answer was lost has arrived is asked
//! before it is sent again. The states of this machine are those of [`UploadState`].

mod error;
mod habits;
mod mount;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, OptionExt, ResultExt};
use url::Url;

use self::error::{EarlySnafu, Error, LocationSnafu, NoLocationSnafu, SendSnafu, StartSnafu};
use self::habits::Open;
pub(super) use self::habits::Uploads;
use self::mount::Mount;
use super::repository::{Repository, api_name};
use super::response;
use crate::blob::feed::Feed;
use crate::blob::file::Unhashed;
use crate::blob::{Blob, Meter};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::exchange::body::Body;
use crate::exchange::{self, Request, Response};
use crate::journal::{Step, UploadState};
use crate::manifest::MediaType;
use crate::reference::RepositoryName;
use crate::storage::Delivery;
use crate::transport::Answer;

/// How often in a row an upload may break off without getting any further.
const MAX_FAILURES: u32 = 5;

/// Content larger than this is streamed when that saves reading it twice, or sending it twice: below, a request more
/// costs more than the bytes.
pub(super) const STREAM_FROM: u64 = 8 << 20;

/// How much further a session must have come, in bytes, for its failures not to add up.
const PROGRESS: u64 = 1 << 20;

/// The header in which a registry says how large chunks have to be.
const LEAST: &str = "OCI-Chunk-Min-Length";

/// The largest minimum for chunks that is honoured, in bytes. Chunks are not held in memory, so this may be much.
const MAX_LEAST: u64 = 1 << 30;

/// An upload session at the registry.
struct Session {
    url: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// How many bytes a chunk has at least, the last one excepted.
    least: u64,
    /// Whether it broke off, and was continued where the registry said.
    is_continued: bool,
    /// Whether it was the registry itself, and nobody else, who said where it goes on. Others could name any place of the
    /// registry, which must not be asked there as us.
    is_home: bool,
}

impl Session {
    fn request(&self, method: Method) -> Request {
        Request::new(method, self.url.clone())
            .once()
            .for_stranger(!self.is_home)
    }
}

/// The blob that is sent.
enum Subject {
    Known(Digest),
    /// Known when all of the file has been read.
    Found(Arc<Unhashed>),
}

struct Upload<'a> {
    repository: &'a Repository,
    subject: Subject,
    feed: Arc<Feed>,
    /// The subject as it is called in errors.
    what: String,
}

/// What was sent, and whether it had to be.
type Sent = (Digest, Delivery);

/// What one request of an upload came to.
enum Next {
    Done(Sent),
    /// More goes into this session.
    GoOn(Session),
    /// The registry wants it another way.
    Otherwise,
    /// The registry wants to know the digest first, and nobody does.
    HashFirst,
    /// The authorisation ran out on the way, and there is a new one.
    Renewed(crate::Error),
    /// What was sent may have arrived or not.
    Broken(Session, Sending, crate::Error),
}

/// What a request sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Whole,
    Stream,
    Chunk(u64),
    Close,
}

/// How an upload has fared.
struct Course {
    failures: u32,
    furthest: u64,
    is_renewed: bool,
    may_continue: bool,
}

/// Sends a blob that is not in the repository.
pub(super) async fn send(repository: &Repository, blob: &Blob) -> crate::Result<Delivery> {
    let digest = blob.digest().clone();
    let repository = &repository.for_one_operation();
    let upload = Upload {
        repository,
        feed: Feed::of_blob(blob.clone()),
        what: format!("the blob {digest}"),
        subject: Subject::Known(digest),
    };
    let first = match upload.mount(from(repository, blob)).await? {
        Mount::Mounted => return Ok(Delivery::Mounted),
        Mount::Session(session) => Some(session),
        Mount::Refused => None,
    };
    upload.run(first).await?;
    Ok(Delivery::Uploaded)
}

/// Sends a file while computing its digest; `None` when the registry does not take content that way.
pub(super) async fn send_unhashed(
    repository: &Repository,
    media_type: &MediaType,
    path: &Path,
    meter: &Meter,
) -> crate::Result<Option<(Blob, Delivery)>> {
    let file = Arc::new(Unhashed::new(path, meter).await?);
    let repository = &repository.for_one_operation();
    let upload = Upload {
        repository,
        subject: Subject::Found(Arc::clone(&file)),
        feed: Feed::of_file(Arc::clone(&file)),
        what: format!("`{}`", path.display()),
    };
    let sent = upload.run(None).await?;
    Ok(sent.map(|(digest, delivery)| (file.to_blob(media_type.clone(), digest), delivery)))
}

/// The repository of the same registry that the blob comes from, when it is another one.
fn from(repository: &Repository, blob: &Blob) -> Option<RepositoryName> {
    let origin = blob
        .origin()
        .filter(|origin| origin.registry() == repository.registry())?;
    Some(api_name(origin)).filter(|name| name != repository.name())
}

impl Upload<'_> {
    /// Goes from session to session and from part to part, until the blob is there. `None` when the registry wants to
    /// know the digest first.
    async fn run(&self, session: Option<Session>) -> crate::Result<Option<Sent>> {
        let mut last = None;
        let sent = self.go_through(session, &mut last).await;
        if let (Err(error), Some(url)) = (&sent, last) {
            match error.kind() {
                // It has not been heard for a while, and need not be waited for.
                ErrorKind::Network => self.over(&url),
                _ => self.cancel(&url).await,
            }
        }
        sent
    }

    /// As [`Upload::run`]; leaves the session that was used last in `last`.
    async fn go_through(
        &self,
        mut session: Option<Session>,
        last: &mut Option<Url>,
    ) -> crate::Result<Option<Sent>> {
        let mut course = Course {
            failures: 0,
            furthest: 0,
            is_renewed: false,
            may_continue: true,
        };
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => self
                    .start()
                    .await
                    .context(StartSnafu { what: &self.what })?,
            };
            let url = current.url.clone();
            *last = Some(url.clone());
            let next = self.advance(current, &course).await;
            match next.context(SendSnafu { what: &self.what })? {
                Next::Done(sent) => {
                    self.over(&url);
                    return Ok(Some(sent));
                }
                Next::GoOn(next) => session = Some(next),
                Next::Otherwise => self.cancel(&url).await,
                Next::HashFirst => {
                    self.cancel(&url).await;
                    return Ok(None);
                }
                Next::Renewed(_) if !course.is_renewed => {
                    self.over(&url);
                    course.is_renewed = true;
                }
                Next::Renewed(error) => return Err(self.failed(error)),
                Next::Broken(broken, sending, error) => {
                    if let Some(sent) = self.confirm(sending).await? {
                        self.over(&broken.url);
                        return Ok(Some(sent));
                    }
                    session = self.recover(broken, sending, error, &mut course).await?;
                }
            }
        }
    }

    /// Sends what comes next.
    async fn advance(&self, session: Session, course: &Course) -> crate::Result<Next> {
        match self.sending(&session, course) {
            Sending::Close => {
                let digest = self.digest().await?;
                if let Subject::Found(_) = self.subject {
                    self.enter(UploadState::Confirming);
                    if self.repository.has_blob(&digest).await? {
                        self.cancel(&session.url).await;
                        return Ok(Next::Done((digest, Delivery::Existed)));
                    }
                }
                self.enter(UploadState::Closing);
                self.close(session, Sending::Close, digest).await
            }
            Sending::Whole => {
                self.enter(UploadState::SendingWhole);
                let digest = self.digest().await?;
                self.close(session, Sending::Whole, digest).await
            }
            Sending::Stream => {
                self.enter(UploadState::Streaming);
                self.fill(session, Sending::Stream, u64::MAX).await
            }
            Sending::Chunk(size) => {
                self.enter(UploadState::SendingChunk);
                self.fill(session, Sending::Chunk(size), size).await
            }
        }
    }

    /// How the content, or what is left of it, is to be sent.
    fn sending(&self, session: &Session, course: &Course) -> Sending {
        let (size, habits) = (self.feed.size(), *self.uploads().habits());
        let is_known = matches!(self.subject, Subject::Known(_));
        if session.offset == size && (size > 0 || !is_known) {
            return Sending::Close;
        }
        let chunk = habits.chunk.map(|chunk| chunk.max(session.least));
        let is_begun = session.offset > 0;
        match chunk {
            Some(chunk) if is_begun || !is_known || size > chunk => Sending::Chunk(chunk),
            None if is_begun || !is_known => Sending::Stream,
            // What was broken off once is sent so that it can be continued.
            None if course.failures > 0 && habits.streams && size > STREAM_FROM => Sending::Stream,
            _ => Sending::Whole,
        }
    }

    /// Opens a session.
    async fn start(&self) -> crate::Result<Session> {
        self.enter(UploadState::Opening);
        let request = Request::new(Method::POST, self.repository.url("blobs/uploads/"));
        let answer = self.repository.send(request).await?;
        if !matches!(
            answer.response.status,
            StatusCode::ACCEPTED | StatusCode::CREATED
        ) {
            return Err(response::refusal(self.repository.registry(), answer).await);
        }
        Ok(self.session(&answer)?.context(NoLocationSnafu)?)
    }

    /// The session that an answer opens.
    fn session(&self, answer: &Answer) -> Result<Option<Session>, Error> {
        let least = answer.response.header(LEAST).map_or(0, |asked| {
            let least = asked.parse().ok().filter(|least| *least <= MAX_LEAST);
            least.unwrap_or_else(|| {
                self.ignore(&answer.response, asked);
                0
            })
        });
        let session = location(answer)?.map(|url| Session {
            url,
            offset: 0,
            least,
            is_continued: false,
            is_home: self.repository.is_home(&answer.response),
        });
        if let Some(session) = &session {
            self.uploads().open().push(Open {
                url: session.url.clone(),
                scope: self.repository.scope().clone(),
                is_home: session.is_home,
            });
        }
        Ok(session)
    }

    /// Sends a part into a session.
    async fn fill(
        &self,
        mut session: Session,
        sending: Sending,
        length: u64,
    ) -> crate::Result<Next> {
        let part = self.feed.part(session.offset, length);
        let end = session.offset + part.length();
        let mut request = session
            .request(Method::PATCH)
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )
            .body(Body::Part(part));
        let is_placed = session.offset > 0 || sending != Sending::Stream;
        if is_placed {
            let range = format!("{}-{}", session.offset, end.saturating_sub(1));
            let range = HeaderValue::try_from(range).expect("digits are a header value");
            request = request.header(header::CONTENT_RANGE, range);
        }
        let answer = match self.answer(request).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Next::Broken(session, sending, error)),
        };
        let status = answer.response.status;
        if status.is_success() {
            self.moved(&mut session, &answer)?;
            if !answer.response.is_sent {
                // It cannot have taken what it did not read.
                let early = EarlySnafu { what: &self.what }.build();
                return Ok(Next::Broken(session, sending, early.into()));
            }
            // What was sent is what counts: some registries answer with the range of an earlier request.
            session.offset = end;
            self.repository.progressed();
            return Ok(Next::GoOn(session));
        }
        let is_renewed = answer.renewed;
        let refusal = response::refusal(self.repository.registry(), answer).await;
        if is_renewed {
            return Ok(Next::Renewed(refusal));
        }
        match (status.as_u16(), sending) {
            (404 | 405 | 413 | 416 | 501, Sending::Stream) if !is_placed => {
                self.uploads().habits().streams = false;
                Ok(match self.subject {
                    Subject::Known(_) => Next::Otherwise,
                    Subject::Found(_) => Next::HashFirst,
                })
            }
            (413, _) if self.uploads().shrink(end - session.offset, session.least) => {
                Ok(Next::Otherwise)
            }
            (404 | 416, _) => Ok(Next::Broken(session, sending, refusal)),
            _ if exchange::is_transient(status) => Ok(Next::Broken(session, sending, refusal)),
            _ => Err(refusal),
        }
    }

    /// Closes a session, with everything or with nothing more.
    async fn close(
        &self,
        session: Session,
        sending: Sending,
        digest: Digest,
    ) -> crate::Result<Next> {
        let body = if sending == Sending::Whole {
            Body::Part(self.feed.part(0, u64::MAX))
        } else {
            Body::Empty
        };
        let mut url = session.url.clone();
        // What the registry wrote into the query may be signed: it stays byte for byte.
        let query = url
            .query()
            .filter(|query| !query.is_empty())
            .map(|query| format!("{query}&"));
        url.set_query(Some(&format!(
            "{}digest={digest}",
            query.unwrap_or_default()
        )));
        let request = Request::new(Method::PUT, url)
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )
            .body(body)
            .once()
            .for_stranger(!session.is_home);
        let answer = match self.answer(request).await? {
            Ok(answer) => answer,
            Err(error) => return Ok(Next::Broken(session, sending, error)),
        };
        let status = answer.response.status;
        if status.is_success() && !answer.response.is_sent {
            let early = EarlySnafu { what: &self.what }.build();
            return Ok(Next::Broken(session, sending, early.into()));
        }
        if status.is_success() {
            return Ok(Next::Done((digest, Delivery::Uploaded)));
        }
        let is_renewed = answer.renewed;
        let refusal = response::refusal(self.repository.registry(), answer).await;
        if is_renewed {
            return Ok(Next::Renewed(refusal));
        }
        match status.as_u16() {
            413 if self.uploads().shrink(self.feed.size(), session.least) => Ok(Next::Otherwise),
            // A session that is lost, or that holds something else than was thought, has a successor.
            404 | 416 => Ok(Next::Broken(session, sending, refusal)),
            400 if session.is_continued => Ok(Next::Broken(session, sending, refusal)),
            _ if exchange::is_transient(status) => Ok(Next::Broken(session, sending, refusal)),
            _ => Err(refusal),
        }
    }

    /// Whether the blob is there although its session broke off when it was to be closed.
    async fn confirm(&self, sending: Sending) -> crate::Result<Option<Sent>> {
        if !matches!(sending, Sending::Whole | Sending::Close) {
            return Ok(None);
        }
        self.enter(UploadState::Confirming);
        let digest = self.digest().await?;
        let found = self.repository.has_blob(&digest).await?;
        Ok(found.then_some((digest, Delivery::Uploaded)))
    }

    /// What to do after a request whose outcome is unknown: go on in its session, or begin anew.
    async fn recover(
        &self,
        mut session: Session,
        sending: Sending,
        error: crate::Error,
        course: &mut Course,
    ) -> crate::Result<Option<Session>> {
        course.failures += 1;
        // That was the verdict on what has been put together.
        course.may_continue &= !(session.is_continued && sending == Sending::Close);
        let before = session.offset;
        let held = match sending {
            // What arrived of it belongs to a request that was to be the last.
            Sending::Whole => None,
            _ if course.may_continue => self.held(&mut session).await?,
            _ => None,
        };
        // A registry that lets a byte through at a time is as good as one that lets none through.
        let is_further = |held: &u64| *held >= course.furthest.saturating_add(PROGRESS);
        if let Some(held) = held.filter(is_further) {
            (course.furthest, course.failures) = (held, 1);
            self.repository.progressed();
        }
        // A chunk that is refused although it stands where it should is too large.
        if let Sending::Chunk(size) = sending
            && error.kind() == ErrorKind::Protocol
            && held.is_none_or(|held| held == before)
            && !self.uploads().shrink(size, session.least)
        {
            return Err(self.failed(error));
        }
        let is_over = || course.failures >= MAX_FAILURES || self.repository.is_stalled();
        if held.is_none() && !is_over() {
            self.cancel(&session.url).await;
        }
        if is_over() {
            return Err(self.failed(error));
        }
        tokio::time::sleep(exchange::backoff(course.failures)).await;
        Ok(held.map(|offset| Session {
            offset,
            is_continued: true,
            ..session
        }))
    }

    /// How many bytes a session has, when it tells (distribution-spec, "Pushing a blob in chunks"): at least two, since
    /// "0-0" is said of none as well as of one.
    async fn held(&self, session: &mut Session) -> crate::Result<Option<u64>> {
        self.enter(UploadState::Recovering);
        let request = session.request(Method::GET);
        match self.repository.send(request).await {
            Ok(answer) => Ok(self.held_by(session, &answer)),
            Err(error) if self.repository.is_stalled() => Err(self.failed(error)),
            Err(_) => Ok(None),
        }
    }

    /// The number of bytes that an answer to the status request of a session names.
    fn held_by(&self, session: &mut Session, answer: &Answer) -> Option<u64> {
        if !answer.response.status.is_success() {
            return None;
        }
        let range = answer.response.header(header::RANGE.as_str())?;
        let last: u64 = range
            .trim_start_matches("bytes=")
            .strip_prefix("0-")?
            .parse()
            .ok()?;
        let held = last.checked_add(1)?;
        self.moved(session, answer).ok()?;
        (held > 1 && held <= self.feed.size()).then_some(held)
    }

    /// Sends a request once; the inner error is an outcome that nobody knows.
    async fn answer(&self, request: Request) -> crate::Result<Result<Answer, crate::Error>> {
        match self.repository.send(request).await {
            Err(error) if error.kind() == ErrorKind::Network => Ok(Err(error)),
            outcome => outcome.map(Ok),
        }
    }

    /// The digest of the content; all of it has been read, or is read now.
    async fn digest(&self) -> crate::Result<Digest> {
        let file = match &self.subject {
            Subject::Known(digest) => return Ok(digest.clone()),
            Subject::Found(file) => file,
        };
        if let Ok(digest) = file.digest().await {
            return Ok(digest);
        }
        let rest = self.feed.part(self.feed.size(), 0).open().await?;
        rest.try_for_each(|_| async { Ok(()) }).await?;
        file.digest().await
    }

    /// Follows a session to where an answer says that it goes on.
    fn moved(&self, session: &mut Session, answer: &Answer) -> Result<(), Error> {
        let Some(location) = location(answer)? else {
            return Ok(());
        };
        session.is_home &= self.repository.is_home(&answer.response);
        let old = std::mem::replace(&mut session.url, location);
        for open in self.uploads().open().iter_mut() {
            if open.url == old {
                open.url = session.url.clone();
                open.is_home = session.is_home;
            }
        }
        Ok(())
    }

    /// Forgets a session.
    fn over(&self, session: &Url) {
        self.uploads().open().retain(|open| open.url != *session);
    }

    /// Tells the registry that a session is over. Many do not want to know.
    async fn cancel(&self, session: &Url) {
        self.enter(UploadState::Cancelling);
        let open = {
            let mut all = self.uploads().open();
            let at = all.iter().position(|open| open.url == *session);
            at.map(|at| all.swap_remove(at))
        };
        let is_home = open.is_some_and(|open| open.is_home);
        let request = Request::new(Method::DELETE, session.clone())
            .once()
            .for_stranger(!is_home);
        let _ = self.repository.send(request).await;
    }

    fn uploads(&self) -> &Uploads {
        self.repository.uploads()
    }

    /// Tells, once, that chunks will not be as large as the registry wants them.
    fn ignore(&self, response: &Response, asked: &str) {
        if self.uploads().has_ignored.swap(true, Ordering::Relaxed) {
            return;
        }
        let asked = response.secrets().escape(asked, 100);
        let from = response.met.shown_host();
        let what = format!("`{LEAST}: {asked}`, which is no number of bytes up to {MAX_LEAST}");
        let tell = || Step::Ignored { from, what };
        self.repository.observer().tell(tell);
    }

    fn enter(&self, state: UploadState) {
        self.repository.observer().tell(|| Step::Upload(state));
    }

    fn failed(&self, error: crate::Error) -> crate::Error {
        SendSnafu { what: &self.what }.into_error(error).into()
    }
}

/// Where an answer says that the session goes on.
fn location(answer: &Answer) -> Result<Option<Url>, Error> {
    let location = answer.response.header(header::LOCATION.as_str());
    location
        .map(|location| answer.response.met.resolve(location))
        .transpose()
        .context(LocationSnafu)
}
