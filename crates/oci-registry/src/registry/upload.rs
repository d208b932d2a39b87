//! Blob uploads (distribution-spec, "Pushing blobs").
//!
//! A blob whose digest is known is mounted, or sent in one piece with the PUT that closes its session. A large file
//! whose digest is not known is streamed: the client sends the content with one PATCH, computes the digest at the same
//! time, and sends the digest with a PUT. The client sends chunks, each a PATCH with its range, to registries that
//! reject larger requests. The rest of an interrupted session is also sent by PATCH with its range. The client stores
//! the methods that a registry rejected ([`Uploads`]) and does not try them again.
//!
//! After an interruption, the client queries the status of the session and continues at the offset that the registry
//! reports. If the registry then rejects the digest, the client starts the upload again. It resumes no further session
//! of this upload. If a PUT with the whole blob is interrupted, the client starts a new session, because a registry
//! does not report how much of a closing PUT has arrived. If a response is lost, the client checks whether the blob
//! exists before it sends the content again.

mod capabilities;
mod content;
mod error;
mod mount;
mod session;

use std::path::Path;
use std::sync::Arc;

use snafu::{IntoError, ResultExt};
use url::Url;

pub(super) use self::capabilities::Uploads;
use self::content::UploadContent;
use self::error::{ExhaustedSnafu, StartSnafu};
use self::mount::MountResult;
use self::session::{BlobDigest, RequestOutcome, SentBlob, Upload, UploadRequest, UploadSession};
use super::requests::RepositoryRequests;
use crate::blob::file::UnhashedFile;
use crate::blob::{Blob, Meter};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::event::Retry;
use crate::exchange;
use crate::manifest::MediaType;
use crate::reference::RepositoryName;
use crate::storage::Delivery;

/// Maximum number of consecutive attempts of an upload without progress.
const MAX_ATTEMPTS: u32 = 5;

/// Size in bytes above which content is streamed if this avoids reading or sending it twice. A stream needs one more
/// request, which takes longer than reading or sending smaller content twice.
pub(super) const MIN_STREAM_SIZE: u64 = 8 << 20;

/// Minimum number of bytes that the registry must receive between two failures to reset the count of failures.
const MIN_PROGRESS: u64 = 1 << 20;

/// Failures and progress of an upload.
struct Attempts {
    failures: u32,
    /// Largest offset that the registry has reported.
    largest_offset: u64,
    /// Whether the upload was restarted because the token had expired.
    is_renewed: bool,
    /// Whether an interrupted session may be resumed.
    may_resume: bool,
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
        content: UploadContent::from_blob(blob.clone()),
        blob_name: format!("the blob {digest}"),
        digest: BlobDigest::Known(digest),
    };
    let first = match upload.mount(mount_source(requests, blob)).await? {
        MountResult::Mounted => return Ok(Delivery::Mounted),
        MountResult::Started(session) => Some(session),
        MountResult::Refused => None,
    };
    upload.run(first).await?;
    Ok(Delivery::Uploaded)
}

/// Sends a file while computing its digest. Returns `None` if the registry requires the digest first.
pub(super) async fn send_unhashed(
    requests: &RepositoryRequests,
    uploads: &Uploads,
    media_type: &MediaType,
    path: &Path,
    meter: &Meter,
) -> crate::Result<Option<(Blob, Delivery)>> {
    let file = Arc::new(UnhashedFile::new(path, meter).await?);
    let requests = &requests.for_one_operation();
    let upload = Upload {
        requests,
        uploads,
        digest: BlobDigest::Pending(Arc::clone(&file)),
        content: UploadContent::from_file(Arc::clone(&file)),
        blob_name: format!("`{}`", path.display()),
    };
    let sent = upload.run(None).await?;
    Ok(sent.map(|(digest, delivery)| (file.to_blob(media_type.clone(), digest), delivery)))
}

/// Returns the repository to mount a blob from: the origin of the blob, if the origin is another repository of this
/// registry.
fn mount_source(requests: &RepositoryRequests, blob: &Blob) -> Option<RepositoryName> {
    let origin = blob
        .origin()
        .filter(|origin| origin.registry() == requests.registry())?;
    Some(origin.api_name()).filter(|name| name != requests.name())
}

impl Upload<'_> {
    /// Sends the blob, in several sessions and requests if necessary. Returns `None` if the registry requires the
    /// digest first.
    async fn run(&self, session: Option<UploadSession>) -> crate::Result<Option<SentBlob>> {
        let mut last = None;
        let sent = self.run_sessions(session, &mut last).await;
        if let (Err(error), Some(url)) = (&sent, last) {
            match error.kind() {
                // The registry does not respond, so a further request would only delay the error.
                ErrorKind::Network => self.forget_session(&url),
                _ => self.cancel_session(&url).await,
            }
        }
        sent
    }

    /// Sends the blob, and stores the URL of the last session in `last`.
    async fn run_sessions(
        &self,
        mut session: Option<UploadSession>,
        last: &mut Option<Url>,
    ) -> crate::Result<Option<SentBlob>> {
        let mut attempts = Attempts {
            failures: 0,
            largest_offset: 0,
            is_renewed: false,
            may_resume: true,
        };
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => self.start_session().await.context(StartSnafu)?,
            };
            let url = current.url.clone();
            *last = Some(url.clone());
            let outcome = match self.next_request(&current, &attempts) {
                UploadRequest::Whole => self.send_whole(current).await,
                UploadRequest::Close => self.close_session(current).await,
                request => self.send_chunk(current, request).await,
            };
            match outcome? {
                RequestOutcome::Done(sent) => {
                    self.forget_session(&url);
                    return Ok(Some(sent));
                }
                RequestOutcome::Continue(next) => session = Some(next),
                RequestOutcome::ChangeMethod => self.cancel_session(&url).await,
                RequestOutcome::DigestRequired => {
                    self.cancel_session(&url).await;
                    return Ok(None);
                }
                RequestOutcome::Renewed(_) if !attempts.is_renewed => {
                    self.forget_session(&url);
                    attempts.is_renewed = true;
                }
                RequestOutcome::Renewed(error) => return Err(error),
                RequestOutcome::Unknown(broken, request, error) => {
                    if let Some(sent) = self.find_sent_blob(request).await? {
                        self.forget_session(&broken.url);
                        return Ok(Some(sent));
                    }
                    session = self.recover(broken, request, error, &mut attempts).await?;
                }
            }
        }
    }

    /// Selects the next request of a session.
    fn next_request(&self, session: &UploadSession, attempts: &Attempts) -> UploadRequest {
        let (size, capabilities) = (self.content.size(), *self.uploads.capabilities());
        let is_known = matches!(self.digest, BlobDigest::Known(_));
        if session.offset == size && (size > 0 || !is_known) {
            return UploadRequest::Close;
        }
        let chunk = capabilities
            .max_request_size
            .map(|chunk| chunk.max(session.min_chunk));
        let has_begun = session.offset > 0;
        match chunk {
            Some(chunk) if has_begun || !is_known || size > chunk => UploadRequest::Chunk(chunk),
            None if has_begun || !is_known => UploadRequest::Stream,
            // After a failure, the content is streamed, because a stream can be resumed.
            None if attempts.failures > 0
                && capabilities.accepts_stream
                && size > MIN_STREAM_SIZE =>
            {
                UploadRequest::Stream
            }
            _ => UploadRequest::Whole,
        }
    }

    /// Whether the repository has the content under this digest.
    async fn has_blob(&self, digest: &Digest) -> crate::Result<bool> {
        self.requests.has_blob(digest, self.content.size()).await
    }

    /// Returns the digest of the blob if the registry has stored the blob although the response to the final request
    /// was lost.
    async fn find_sent_blob(&self, request: UploadRequest) -> crate::Result<Option<SentBlob>> {
        if !matches!(request, UploadRequest::Whole | UploadRequest::Close) {
            return Ok(None);
        }
        let digest = self.blob_digest().await?;
        let found = self.has_blob(&digest).await?;
        Ok(found.then_some((digest, Delivery::Uploaded)))
    }

    /// Recovers from a request with an unknown outcome. Returns the session to resume, or `None` to start another
    /// session.
    async fn recover(
        &self,
        mut session: UploadSession,
        request: UploadRequest,
        error: crate::Error,
        attempts: &mut Attempts,
    ) -> crate::Result<Option<UploadSession>> {
        attempts.failures += 1;
        // The registry has rejected the content of a resumed session.
        attempts.may_resume &= !(session.is_resumed && request == UploadRequest::Close);
        let before = session.offset;
        let received = match request {
            // An interrupted closing PUT cannot be resumed from an offset.
            UploadRequest::Whole => None,
            _ if attempts.may_resume => self.query_status(&mut session).await?,
            _ => None,
        };
        // If single bytes counted as progress, an upload could be retried forever.
        let is_progress =
            |received: &u64| *received >= attempts.largest_offset.saturating_add(MIN_PROGRESS);
        if let Some(received) = received.filter(is_progress) {
            (attempts.largest_offset, attempts.failures) = (received, 1);
            self.requests.record_progress();
        }
        // If the registry rejects a chunk although the offset of the chunk is right, the chunk is too large.
        if let UploadRequest::Chunk(size) = request
            && error.kind() == ErrorKind::Protocol
            && received.is_none_or(|received| received == before)
            && !self.uploads.shrink_chunks(size, session.min_chunk)
        {
            return Err(error);
        }
        let is_over = || attempts.failures >= MAX_ATTEMPTS || self.requests.is_stalled();
        if received.is_none() && !is_over() {
            self.cancel_session(&session.url).await;
        }
        if is_over() {
            let attempts = attempts.failures;
            return Err(ExhaustedSnafu { attempts }.into_error(error).into());
        }
        let retry = Retry {
            operation: format!("upload of {}", self.blob_name),
            attempt: attempts.failures + 1,
            attempts: MAX_ATTEMPTS,
            delay: exchange::backoff(attempts.failures),
            cause: exchange::retry_cause(&error, self.requests.secrets()),
        };
        retry.wait(self.requests.observer()).await;
        Ok(received.map(|offset| UploadSession {
            offset,
            is_resumed: true,
            ..session
        }))
    }
}
