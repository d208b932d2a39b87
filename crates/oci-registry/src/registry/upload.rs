//! Sending a blob (distribution-spec, "Pushing blobs").
//!
//! A blob whose digest is known goes in one session with one PUT, or is mounted from another repository of the same
//! registry. A large file whose digest is not known goes in one streamed PATCH and is hashed on the way; the PUT that
//! closes the session then names the digest. A registry that refuses such a PATCH is remembered, and its files are hashed
//! first from then on.
//!
//! A session that broke off is not continued but cancelled, and the blob begun anew in another one: what arrived of it
//! cannot be told at every registry. Whether content whose answer was lost has arrived is asked before it is sent again.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, OptionExt, ResultExt, Snafu};
use url::Url;

use super::repository::{Repository, api_name};
use super::response;
use crate::auth::scope::Scope;
use crate::blob::Blob;
use crate::blob::file::Unhashed;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RegistryError};
use crate::exchange::body::Body;
use crate::exchange::{self, Request, origin};
use crate::manifest::MediaType;
use crate::reference::RepositoryName;
use crate::storage::Delivery;
use crate::transport::Answer;

/// How often a blob is begun anew before its upload is given up.
const MAX_SESSIONS: u32 = 5;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to start an upload for {what}"))]
    Start { what: String, source: crate::Error },
    #[snafu(display("failed to find out where the registry wants the content"))]
    Location { source: origin::Error },
    #[snafu(display("failed to find out where the registry wants the content: it did not say"))]
    NoLocation,
    #[snafu(display("failed to send {what}"))]
    Send { what: String, source: crate::Error },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Start { source, .. } | Self::Send { source, .. } => Some(source),
            Self::NoLocation | Self::Location { .. } => None,
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> ErrorKind {
        self.cause().map_or(ErrorKind::Protocol, crate::Error::kind)
    }

    fn help(&self) -> Vec<String> {
        self.cause().map(crate::Error::help).unwrap_or_default()
    }

    fn registry_errors(&self) -> &[RegistryError] {
        self.cause()
            .map(crate::Error::registry_errors)
            .unwrap_or_default()
    }
}

/// How one session ended, when it did not end for good.
enum Ended<T> {
    Done(T),
    /// The authorisation ran out on the way, and there is a new one.
    TurnedAway(crate::Error),
    /// It may have arrived or not.
    Unknown(crate::Error),
}

/// What is sent, as often as it must be.
enum Content {
    Known(Body, Digest),
    Unhashed(Arc<Unhashed>),
}

/// What was sent, and whether it had to be; nothing when the registry does not take content that way.
type Sent = Option<(Digest, Delivery)>;

/// Sends a blob that is not in the repository.
pub(super) async fn send(repository: &Repository, blob: &Blob) -> crate::Result<Delivery> {
    let digest = blob.digest();
    let first = match from(repository, blob) {
        Some(from) => match mount(repository, digest, &from).await? {
            Mount::Mounted => return Ok(Delivery::Mounted),
            Mount::Session(session) => Some(session),
            Mount::Refused => None,
        },
        None => None,
    };
    let content = Content::Known(Body::Blob(Box::new(blob.clone())), digest.clone());
    content
        .send(repository, &format!("the blob {digest}"), first)
        .await?;
    Ok(Delivery::Uploaded)
}

/// Sends a file while computing its digest; `None` when the registry does not take content that way.
pub(super) async fn send_unhashed(
    repository: &Repository,
    media_type: &MediaType,
    path: &Path,
) -> crate::Result<Option<(Blob, Delivery)>> {
    let file = Arc::new(Unhashed::new(path).await?);
    let content = Content::Unhashed(Arc::clone(&file));
    let sent = content
        .send(repository, &format!("`{}`", path.display()), None)
        .await?;
    Ok(sent.map(|(digest, delivery)| (file.to_blob(media_type.clone(), digest), delivery)))
}

impl Content {
    /// Tries with one session after the other, until one ends for good.
    async fn send(
        &self,
        repository: &Repository,
        what: &str,
        mut first: Option<Url>,
    ) -> crate::Result<Sent> {
        let (mut failures, mut renewed) = (0, false);
        loop {
            let session = match first.take() {
                Some(session) => session,
                None => start(repository).await.context(StartSnafu { what })?,
            };
            match self
                .attempt(repository, &session)
                .await
                .context(SendSnafu { what })?
            {
                Ended::Done(sent) => return Ok(sent),
                Ended::TurnedAway(_) if !renewed => renewed = true,
                Ended::TurnedAway(error) => {
                    return Err(SendSnafu { what }.into_error(error).into());
                }
                Ended::Unknown(error) => {
                    failures += 1;
                    if failures >= MAX_SESSIONS {
                        return Err(SendSnafu { what }.into_error(error).into());
                    }
                    cancel(repository, &session).await;
                    tokio::time::sleep(exchange::backoff(failures)).await;
                }
            }
        }
    }

    /// Sends everything in one session.
    async fn attempt(&self, repository: &Repository, session: &Url) -> crate::Result<Ended<Sent>> {
        let (body, digest, session) = match self {
            Self::Known(body, digest) => (body.clone(), digest.clone(), session.clone()),
            Self::Unhashed(file) => {
                let next = match patch(repository, file, session).await? {
                    Ended::Done(Some(next)) => next,
                    Ended::Done(None) => {
                        cancel(repository, session).await;
                        return Ok(Ended::Done(None));
                    }
                    Ended::TurnedAway(error) => return Ok(Ended::TurnedAway(error)),
                    Ended::Unknown(error) => return Ok(Ended::Unknown(error)),
                };
                let digest = file.digest().await?;
                if repository.has_blob(&digest).await? {
                    cancel(repository, &next).await;
                    return Ok(Ended::Done(Some((digest, Delivery::Existed))));
                }
                (Body::Empty, digest, next)
            }
        };
        Ok(match close(repository, body, &digest, &session).await? {
            Ended::Done(()) => Ended::Done(Some((digest, Delivery::Uploaded))),
            Ended::Unknown(_) if repository.has_blob(&digest).await? => {
                Ended::Done(Some((digest, Delivery::Uploaded)))
            }
            Ended::Unknown(error) => Ended::Unknown(error),
            Ended::TurnedAway(error) => Ended::TurnedAway(error),
        })
    }
}

/// Opens a session and says where its content goes.
async fn start(repository: &Repository) -> crate::Result<Url> {
    let request = Request::new(Method::POST, repository.url("blobs/uploads/"));
    let answer = repository.send(request).await?;
    if !matches!(
        answer.response.status,
        StatusCode::ACCEPTED | StatusCode::CREATED
    ) {
        return Err(response::refusal(repository.registry(), answer).await);
    }
    Ok(location(&answer)?.context(NoLocationSnafu)?)
}

/// Where an answer says that the session goes on.
fn location(answer: &Answer) -> Result<Option<Url>, Error> {
    let location = answer.response.header(header::LOCATION.as_str());
    location
        .map(|location| answer.response.met.resolve(location))
        .transpose()
        .context(LocationSnafu)
}

/// The repository of the same registry that the blob comes from, when it is another one.
fn from(repository: &Repository, blob: &Blob) -> Option<RepositoryName> {
    let origin = blob
        .origin()
        .filter(|origin| origin.registry() == repository.registry())?;
    Some(api_name(origin)).filter(|name| name != repository.name())
}

/// What became of a wish to have a blob from next door.
enum Mount {
    Mounted,
    /// Not mounted, but a session is open.
    Session(Url),
    Refused,
}

/// Asks for a blob of another repository (distribution-spec, "Mounting a blob from another repository"). Registries say
/// "no" to that in any way there is; every one of them means that the blob has to be sent.
async fn mount(
    repository: &Repository,
    digest: &Digest,
    from: &RepositoryName,
) -> crate::Result<Mount> {
    let mut url = repository.url("blobs/uploads/");
    url.query_pairs_mut()
        .append_pair("mount", digest.as_str())
        .append_pair("from", from.as_str());
    let scope = Scope::Mount {
        to: repository.name().clone(),
        from: from.clone(),
    };
    let Ok(answer) = repository
        .send_as(Request::new(Method::POST, url).once(), &scope)
        .await
    else {
        return Ok(Mount::Refused);
    };
    Ok(match answer.response.status {
        StatusCode::CREATED => Mount::Mounted,
        StatusCode::ACCEPTED => location(&answer)?.map_or(Mount::Refused, Mount::Session),
        _ => Mount::Refused,
    })
}

/// Sends a whole file into a session; `Done(None)` when the registry does not take content that way.
async fn patch(
    repository: &Repository,
    file: &Arc<Unhashed>,
    session: &Url,
) -> crate::Result<Ended<Option<Url>>> {
    let request = Request::new(Method::PATCH, session.clone())
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        )
        .body(Body::Unhashed(Arc::clone(file)))
        .once();
    settle(repository, request, |answer| {
        match answer.response.status.as_u16() {
            200..=299 => Ok(Some(Some(
                location(answer)?.unwrap_or_else(|| session.clone()),
            ))),
            404 | 405 | 413 | 416 | 501 => Ok(Some(None)),
            _ => Ok(None),
        }
    })
    .await
}

/// Sends what is left of the content into a session and closes it.
async fn close(
    repository: &Repository,
    body: Body,
    digest: &Digest,
    session: &Url,
) -> crate::Result<Ended<()>> {
    let mut url = session.clone();
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
        .once();
    settle(repository, request, |answer| {
        Ok(answer.response.status.is_success().then_some(()))
    })
    .await
}

/// Sends a request that cannot simply be sent again, and says what its outcome means; `good` recognises what ends it well.
async fn settle<T>(
    repository: &Repository,
    request: Request,
    good: impl FnOnce(&Answer) -> Result<Option<T>, Error>,
) -> crate::Result<Ended<T>> {
    let answer = match repository.send(request).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::Network => return Ok(Ended::Unknown(error)),
        Err(error) => return Err(error),
    };
    if let Some(done) = good(&answer)? {
        return Ok(Ended::Done(done));
    }
    let (status, renewed) = (answer.response.status, answer.renewed);
    let refusal = response::refusal(repository.registry(), answer).await;
    if renewed {
        Ok(Ended::TurnedAway(refusal))
    } else if exchange::is_transient(status) || matches!(status.as_u16(), 404 | 416) {
        // A session that is lost, or that holds something else than was thought, has a successor.
        Ok(Ended::Unknown(refusal))
    } else {
        Err(refusal)
    }
}

/// Tells the registry that a session is over. Many do not want to know.
async fn cancel(repository: &Repository, session: &Url) {
    let _ = repository
        .send(Request::new(Method::DELETE, session.clone()).once())
        .await;
}
