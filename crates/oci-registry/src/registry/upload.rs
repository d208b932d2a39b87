//! Blob uploads (distribution-spec, "Pushing blobs").
//!
//! A blob whose digest is known is mounted, or sent whole with the PUT that closes its session. A large file whose digest
//! is not known is streamed: one PATCH, hashed while it is sent, and a PUT that names the digest. Chunks, each a PATCH with
//! its range, are for registries that reject larger requests, and for the rest of a session that broke off. The client
//! remembers rejected methods ([`Uploads`]) and does not try them again.
//!
//! After a session has broken off, the client queries its status and continues from there. The digest decides whether the
//! content was assembled correctly; after a mismatch no session is continued any more. A whole blob that broke off is sent
//! in a new session, because the registry cannot report a part of a closing PUT. If a response is lost, the client checks
//! whether the blob exists before it sends the content again.

mod capabilities;
mod content;
mod error;
mod mount;
mod session;

use std::path::Path;
use std::sync::Arc;

use snafu::ResultExt;
use url::Url;

pub(super) use self::capabilities::Uploads;
use self::content::UploadContent;
use self::error::{SendSnafu, StartSnafu};
use self::mount::Mount;
use self::session::{BlobDigest, Outcome, SentBlob, Upload, UploadRequest, UploadSession};
use super::requests::RepositoryRequests;
use crate::blob::file::Unhashed;
use crate::blob::{Blob, Meter};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::event::Retry;
use crate::exchange;
use crate::manifest::MediaType;
use crate::reference::RepositoryName;
use crate::storage::Delivery;

/// Limit of consecutive attempts of an upload without progress.
const MAX_ATTEMPTS: u32 = 5;

/// Size in bytes above which content is streamed if that saves reading or sending it twice. Below it, one more request
/// takes longer than the content.
pub(super) const STREAM_FROM: u64 = 8 << 20;

/// Number of bytes between two failures that counts as progress and resets the count of failures.
const PROGRESS: u64 = 1 << 20;

/// Failures and progress of an upload.
struct Attempts {
    failures: u32,
    /// Largest offset that the registry has reported.
    largest_offset: u64,
    is_renewed: bool,
    may_continue: bool,
}

/// Sends a blob that the repository does not have.
pub(super) async fn send(
    requests: &RepositoryRequests,
    uploads: &Uploads,
    blob: &Blob,
) -> crate::Result<Delivery> {
    let digest = blob.digest().clone();
    let requests = &requests.for_one_operation();
    let upload = Upload {
        requests,
        uploads,
        content: UploadContent::of_blob(blob.clone()),
        what: format!("the blob {digest}"),
        digest: BlobDigest::Known(digest),
    };
    let first = match upload.mount(mount_source(requests, blob)).await? {
        Mount::Mounted => return Ok(Delivery::Mounted),
        Mount::Started(session) => Some(session),
        Mount::Refused => None,
    };
    upload.run(first).await?;
    Ok(Delivery::Uploaded)
}

/// Sends a file while computing its digest. `None` if the registry requires the digest first.
pub(super) async fn send_unhashed(
    requests: &RepositoryRequests,
    uploads: &Uploads,
    media_type: &MediaType,
    path: &Path,
    meter: &Meter,
) -> crate::Result<Option<(Blob, Delivery)>> {
    let file = Arc::new(Unhashed::new(path, meter).await?);
    let requests = &requests.for_one_operation();
    let upload = Upload {
        requests,
        uploads,
        digest: BlobDigest::Pending(Arc::clone(&file)),
        content: UploadContent::of_file(Arc::clone(&file)),
        what: format!("`{}`", path.display()),
    };
    let sent = upload.run(None).await?;
    Ok(sent.map(|(digest, delivery)| (file.to_blob(media_type.clone(), digest), delivery)))
}

/// Returns the repository to mount a blob from: the one that it was read from, if it is another one of this registry.
fn mount_source(requests: &RepositoryRequests, blob: &Blob) -> Option<RepositoryName> {
    let origin = blob
        .origin()
        .filter(|origin| origin.registry() == requests.registry())?;
    Some(origin.api_name()).filter(|name| name != requests.name())
}

impl Upload<'_> {
    /// Sends the blob, in several sessions and requests if necessary. `None` if the registry requires the digest first.
    async fn run(&self, session: Option<UploadSession>) -> crate::Result<Option<SentBlob>> {
        let mut last = None;
        let sent = self.run_sessions(session, &mut last).await;
        if let (Err(error), Some(url)) = (&sent, last) {
            match error.kind() {
                // The registry has not answered for a while, so a further request would only delay the error.
                ErrorKind::Network => self.forget_session(&url),
                _ => self.cancel_session(&url).await,
            }
        }
        sent
    }

    /// Sends the blob and leaves the URL of the last session in `last`.
    async fn run_sessions(
        &self,
        mut session: Option<UploadSession>,
        last: &mut Option<Url>,
    ) -> crate::Result<Option<SentBlob>> {
        let mut attempts = Attempts {
            failures: 0,
            largest_offset: 0,
            is_renewed: false,
            may_continue: true,
        };
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => self
                    .start_session()
                    .await
                    .context(StartSnafu { what: &self.what })?,
            };
            let url = current.url.clone();
            *last = Some(url.clone());
            let outcome = match self.next_request(&current, &attempts) {
                UploadRequest::Whole => self.send_whole(current).await,
                UploadRequest::Close => self.close_session(current).await,
                request => self.send_chunk(current, request).await,
            };
            match outcome.context(SendSnafu { what: &self.what })? {
                Outcome::Done(sent) => {
                    self.forget_session(&url);
                    return Ok(Some(sent));
                }
                Outcome::Continue(next) => session = Some(next),
                Outcome::ChangeMethod => self.cancel_session(&url).await,
                Outcome::DigestRequired => {
                    self.cancel_session(&url).await;
                    return Ok(None);
                }
                Outcome::Renewed(_) if !attempts.is_renewed => {
                    self.forget_session(&url);
                    attempts.is_renewed = true;
                }
                Outcome::Renewed(error) => return Err(self.send_error(error)),
                Outcome::Unknown(broken, request, error) => {
                    if let Some(sent) = self.find_sent_blob(request).await? {
                        self.forget_session(&broken.url);
                        return Ok(Some(sent));
                    }
                    session = self.recover(broken, request, error, &mut attempts).await?;
                }
            }
        }
    }

    /// Chooses the next request of a session.
    fn next_request(&self, session: &UploadSession, attempts: &Attempts) -> UploadRequest {
        let (size, capabilities) = (self.content.size(), *self.uploads.capabilities());
        let is_known = matches!(self.digest, BlobDigest::Known(_));
        if session.offset == size && (size > 0 || !is_known) {
            return UploadRequest::Close;
        }
        let chunk = capabilities.chunk.map(|chunk| chunk.max(session.min_chunk));
        let has_begun = session.offset > 0;
        match chunk {
            Some(chunk) if has_begun || !is_known || size > chunk => UploadRequest::Chunk(chunk),
            None if has_begun || !is_known => UploadRequest::Stream,
            // After a failure, the content is streamed because that can be continued.
            None if attempts.failures > 0 && capabilities.streams && size > STREAM_FROM => {
                UploadRequest::Stream
            }
            _ => UploadRequest::Whole,
        }
    }

    /// Whether the repository has the content under this digest.
    async fn has_blob(&self, digest: &Digest) -> crate::Result<bool> {
        self.requests.has_blob(digest, self.content.size()).await
    }

    /// Returns the blob if it exists although the response to its last request was lost.
    async fn find_sent_blob(&self, request: UploadRequest) -> crate::Result<Option<SentBlob>> {
        if !matches!(request, UploadRequest::Whole | UploadRequest::Close) {
            return Ok(None);
        }
        let digest = self.blob_digest().await?;
        let found = self.has_blob(&digest).await?;
        Ok(found.then_some((digest, Delivery::Uploaded)))
    }

    /// Recovers from a request with an unknown outcome. Returns the session to continue, or `None` to start another one.
    async fn recover(
        &self,
        mut session: UploadSession,
        request: UploadRequest,
        error: crate::Error,
        attempts: &mut Attempts,
    ) -> crate::Result<Option<UploadSession>> {
        attempts.failures += 1;
        // The registry has rejected content that was sent in several requests.
        attempts.may_continue &= !(session.is_continued && request == UploadRequest::Close);
        let before = session.offset;
        let received = match request {
            // A part of a closing PUT cannot be continued.
            UploadRequest::Whole => None,
            _ if attempts.may_continue => self.query_status(&mut session).await?,
            _ => None,
        };
        // Progress of single bytes would let an upload fail forever.
        let is_progress =
            |received: &u64| *received >= attempts.largest_offset.saturating_add(PROGRESS);
        if let Some(received) = received.filter(is_progress) {
            (attempts.largest_offset, attempts.failures) = (received, 1);
            self.requests.record_progress();
        }
        // A chunk that is refused at the right offset is too large.
        if let UploadRequest::Chunk(size) = request
            && error.kind() == ErrorKind::Protocol
            && received.is_none_or(|received| received == before)
            && !self.uploads.shrink_chunks(size, session.min_chunk)
        {
            return Err(self.send_error(error));
        }
        let is_over = || attempts.failures >= MAX_ATTEMPTS || self.requests.is_stalled();
        if received.is_none() && !is_over() {
            self.cancel_session(&session.url).await;
        }
        if is_over() {
            return Err(self.send_error(error));
        }
        let retry = Retry {
            operation: format!("upload of {}", self.what),
            attempt: attempts.failures + 1,
            attempts: MAX_ATTEMPTS,
            delay: exchange::backoff(attempts.failures),
            cause: exchange::innermost_cause(&error, self.requests.secrets()),
        };
        retry.wait(self.requests.observer()).await;
        Ok(received.map(|offset| UploadSession {
            offset,
            is_continued: true,
            ..session
        }))
    }
}
