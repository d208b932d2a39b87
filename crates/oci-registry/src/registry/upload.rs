//! Sending a blob whose digest is known: one session, one PUT (distribution-spec, "POST then PUT").
//!
//! A session that broke off is not continued but cancelled, and the blob begun anew in another one: what arrived of it
//! cannot be told at every registry. Whether a PUT whose answer was lost has arrived is asked before it is sent again.

use http::{HeaderValue, Method, StatusCode, header};
use snafu::{IntoError, OptionExt, ResultExt, Snafu};
use url::Url;

use super::repository::Repository;
use super::response;
use crate::blob::Blob;
use crate::digest::Digest;
use crate::error::{ErrorKind, Failure, RegistryError};
use crate::exchange::body::Body;
use crate::exchange::{self, Request, origin};

/// How often a blob is begun anew before its upload is given up.
const MAX_SESSIONS: u32 = 5;

#[derive(Debug, Snafu)]
enum Error {
    #[snafu(display("failed to start an upload for the blob {digest}"))]
    Start {
        digest: Digest,
        source: crate::Error,
    },
    #[snafu(display(
        "failed to start an upload for the blob {digest}: the registry did not say where to send it"
    ))]
    NoLocation { digest: Digest },
    #[snafu(display("failed to start an upload for the blob {digest}"))]
    Location {
        digest: Digest,
        source: origin::Error,
    },
    #[snafu(display("failed to send the blob {digest}"))]
    Send {
        digest: Digest,
        source: crate::Error,
    },
}

impl Error {
    fn cause(&self) -> Option<&crate::Error> {
        match self {
            Self::Start { source, .. } | Self::Send { source, .. } => Some(source),
            Self::NoLocation { .. } | Self::Location { .. } => None,
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

/// How one session ended.
enum Outcome {
    Done,
    /// The authorisation ran out on the way, and there is a new one.
    TurnedAway(crate::Error),
    /// It may have arrived or not.
    Unknown(crate::Error),
}

/// Sends a blob that is not at the registry.
pub(super) async fn send(repository: &Repository, blob: &Blob) -> crate::Result<()> {
    let digest = blob.digest();
    let mut failures = 0;
    let mut renewed = false;
    loop {
        let session = start(repository, digest).await?;
        match put(repository, blob, &session)
            .await
            .with_context(|_| SendSnafu {
                digest: digest.clone(),
            })? {
            Outcome::Done => return Ok(()),
            Outcome::TurnedAway(_) if !renewed => renewed = true,
            Outcome::TurnedAway(error) => {
                return Err(SendSnafu {
                    digest: digest.clone(),
                }
                .into_error(error)
                .into());
            }
            Outcome::Unknown(error) => {
                failures += 1;
                if failures >= MAX_SESSIONS {
                    return Err(SendSnafu {
                        digest: digest.clone(),
                    }
                    .into_error(error)
                    .into());
                }
                cancel(repository, session).await;
                tokio::time::sleep(exchange::backoff(failures)).await;
                if repository.has_blob(digest).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// Opens a session and says where its content goes.
async fn start(repository: &Repository, digest: &Digest) -> crate::Result<Url> {
    let request = Request::new(Method::POST, repository.url("blobs/uploads/"));
    let answer = repository
        .send(request)
        .await
        .with_context(|_| StartSnafu {
            digest: digest.clone(),
        })?;
    if !matches!(
        answer.response.status,
        StatusCode::ACCEPTED | StatusCode::CREATED
    ) {
        let refusal = response::refusal(repository.registry(), answer).await;
        return Err(StartSnafu {
            digest: digest.clone(),
        }
        .into_error(refusal)
        .into());
    }
    let location = answer.response.header(header::LOCATION.as_str());
    let location = location.with_context(|| NoLocationSnafu {
        digest: digest.clone(),
    })?;
    let location = answer.response.met.resolve(location);
    Ok(location.with_context(|_| LocationSnafu {
        digest: digest.clone(),
    })?)
}

/// Sends the whole content into a session and closes it.
async fn put(repository: &Repository, blob: &Blob, session: &Url) -> crate::Result<Outcome> {
    let mut url = session.clone();
    // What the registry wrote into the query may be signed: it stays byte for byte.
    let query = url
        .query()
        .filter(|query| !query.is_empty())
        .map(|query| format!("{query}&"))
        .unwrap_or_default();
    url.set_query(Some(&format!("{query}digest={}", blob.digest())));
    let request = Request::new(Method::PUT, url)
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        )
        .body(Body::Blob(Box::new(blob.clone())))
        .once();
    let answer = match repository.send(request).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == ErrorKind::Network => return Ok(Outcome::Unknown(error)),
        Err(error) => return Err(error),
    };
    let status = answer.response.status;
    if status.is_success() {
        return Ok(Outcome::Done);
    }
    let renewed = answer.renewed;
    let refusal = response::refusal(repository.registry(), answer).await;
    if renewed {
        return Ok(Outcome::TurnedAway(refusal));
    }
    if exchange::is_transient(status) {
        Ok(Outcome::Unknown(refusal))
    } else {
        Err(refusal)
    }
}

/// Tells the registry that a session is over. Many do not want to know.
async fn cancel(repository: &Repository, session: Url) {
    let _ = repository
        .send(Request::new(Method::DELETE, session).once())
        .await;
}
