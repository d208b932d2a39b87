//! Upload sessions, with one function per step of the specification (distribution-spec, "Pushing blobs").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use snafu::{OptionExt, ResultExt};
use url::Url;

use super::capabilities::{OpenSession, Uploads};
use super::content::UploadContent;
use super::error::{EarlyResponseSnafu, Error, LocationSnafu, NoLocationSnafu};
use crate::blob::file::UnhashedFile;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::event::ClientEvent;
use crate::exchange::body::{Body, RequestBody as _};
use crate::exchange::{self, Request, Response};
use crate::registry::requests::RepositoryRequests;
use crate::registry::response;
use crate::storage::Delivery;
use crate::transport::AuthorizedResponse;

/// Response header with the minimum size of a chunk.
const CHUNK_MIN_LENGTH_HEADER: &str = "OCI-Chunk-Min-Length";

/// Maximum value of [`CHUNK_MIN_LENGTH_HEADER`] that the client accepts, in bytes. Chunks are not buffered, so large
/// chunks need no memory.
const MAX_CHUNK_MIN_LENGTH: u64 = 1 << 30;

/// Upload session at the registry.
pub(super) struct UploadSession {
    pub(super) url: Url,
    /// Number of bytes that the registry has received.
    pub(super) offset: u64,
    /// Minimum size of a chunk other than the last, in bytes.
    pub(super) min_chunk: u64,
    /// Whether the session was interrupted and resumed at the offset that the registry reported.
    pub(super) is_resumed: bool,
    /// Whether the registry's own origin chose the URL. Another origin could choose any URL of the registry, so
    /// requests to such URLs carry no credentials.
    pub(super) is_trusted: bool,
}

impl UploadSession {
    fn request(&self, method: Method) -> Request {
        Request::new(method, self.url.clone())
            .without_retries()
            .untrusted(!self.is_trusted)
    }
}

/// Digest of the blob to send.
pub(super) enum BlobDigest {
    Known(Digest),
    /// Digest that is computed while the file is sent.
    Pending(Arc<UnhashedFile>),
}

/// Upload of one blob.
pub(super) struct Upload<'a> {
    pub(super) requests: &'a RepositoryRequests,
    pub(super) uploads: &'a Uploads,
    pub(super) digest: BlobDigest,
    pub(super) content: Arc<UploadContent>,
    /// Name of the blob in reports: its digest, or the path of the file.
    pub(super) blob_name: String,
}

/// Digest of a blob, and the way in which it was stored.
pub(super) type SentBlob = (Digest, Delivery);

/// Outcome of one upload request.
pub(super) enum RequestOutcome {
    Done(SentBlob),
    /// The session is ready for the next chunk.
    Continue(UploadSession),
    /// The registry rejected this upload method. The client tries another method.
    ChangeMethod,
    /// The registry requires the digest before the content, but the digest is not known yet.
    DigestRequired,
    /// The token expired during the request and was renewed.
    Renewed(crate::Error),
    /// It is unknown whether the registry has received the content.
    Unknown(UploadSession, UploadRequest, crate::Error),
}

/// Request within an upload session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadRequest {
    /// PUT with the whole content, which also closes the session.
    Whole,
    /// PATCH with all remaining content.
    Stream,
    /// PATCH with a chunk of this size in bytes.
    Chunk(u64),
    /// PUT without content.
    Close,
}

impl Upload<'_> {
    /// Starts a session.
    pub(super) async fn start_session(&self) -> crate::Result<UploadSession> {
        let request = Request::new(Method::POST, self.requests.url("blobs/uploads/"));
        let authorized = self.requests.send(request).await?;
        if !matches!(
            authorized.response.status,
            StatusCode::ACCEPTED | StatusCode::CREATED
        ) {
            return Err(response::into_error(self.requests.registry(), authorized).await);
        }
        Ok(self.read_session(&authorized)?.context(NoLocationSnafu)?)
    }

    /// Returns the session that a response has started; `None` if the response has no session URL.
    pub(super) fn read_session(
        &self,
        authorized: &AuthorizedResponse,
    ) -> Result<Option<UploadSession>, Error> {
        let min_chunk =
            authorized
                .response
                .header(CHUNK_MIN_LENGTH_HEADER)
                .map_or(0, |requested| {
                    let min_chunk = requested.parse().ok();
                    min_chunk
                        .filter(|min_chunk| *min_chunk <= MAX_CHUNK_MIN_LENGTH)
                        .unwrap_or_else(|| {
                            self.report_ignored_minimum(&authorized.response, requested);
                            0
                        })
                });
        let session = location(authorized)?.map(|url| UploadSession {
            url,
            offset: 0,
            min_chunk,
            is_resumed: false,
            is_trusted: self.requests.is_own_response(&authorized.response),
        });
        if let Some(session) = &session {
            self.uploads.open_sessions().push(OpenSession {
                url: session.url.clone(),
                scope: self.requests.scope().clone(),
                is_trusted: session.is_trusted,
            });
        }
        Ok(session)
    }

    /// Sends the whole content with the request that closes the session ("POST then PUT").
    pub(super) async fn send_whole(&self, session: UploadSession) -> crate::Result<RequestOutcome> {
        let digest = self.blob_digest().await?;
        let body = Body::Stream(Arc::new(self.content.part(0, u64::MAX)));
        self.send_put(session, UploadRequest::Whole, digest, body)
            .await
    }

    /// Sends a PATCH with one chunk, or with all remaining content for [`UploadRequest::Stream`].
    pub(super) async fn send_chunk(
        &self,
        mut session: UploadSession,
        request: UploadRequest,
    ) -> crate::Result<RequestOutcome> {
        let length = match request {
            UploadRequest::Chunk(size) => size,
            _ => u64::MAX,
        };
        let part = self.content.part(session.offset, length);
        let end = session.offset + part.length();
        let mut patch = session
            .request(Method::PATCH)
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )
            .body(Body::Stream(Arc::new(part)));
        let has_range = session.offset > 0 || request != UploadRequest::Stream;
        if has_range {
            let range = format!("{}-{}", session.offset, end.saturating_sub(1));
            let range = HeaderValue::try_from(range).expect("digits are a header value");
            patch = patch.header(header::CONTENT_RANGE, range);
        }
        let authorized = match self.send_once(patch).await? {
            Ok(authorized) => authorized,
            Err(error) => return Ok(RequestOutcome::Unknown(session, request, error)),
        };
        let status = authorized.response.status;
        if status.is_success() {
            self.follow_location(&mut session, &authorized)?;
            if !authorized.response.is_sent {
                return Ok(RequestOutcome::Unknown(
                    session,
                    request,
                    EarlyResponseSnafu.build().into(),
                ));
            }
            // The range in the response is not used, because some registries send the range of an earlier request.
            session.offset = end;
            self.requests.record_progress();
            return Ok(RequestOutcome::Continue(session));
        }
        let is_renewed = authorized.renewed;
        let refusal = response::into_error(self.requests.registry(), authorized).await;
        if is_renewed {
            return Ok(RequestOutcome::Renewed(refusal));
        }
        match (status.as_u16(), request) {
            (404 | 405 | 413 | 416 | 501, UploadRequest::Stream) if !has_range => {
                self.uploads.capabilities().accepts_stream = false;
                Ok(match self.digest {
                    BlobDigest::Known(_) => RequestOutcome::ChangeMethod,
                    BlobDigest::Pending(_) => RequestOutcome::DigestRequired,
                })
            }
            (413, _)
                if self
                    .uploads
                    .shrink_chunks(end - session.offset, session.min_chunk) =>
            {
                Ok(RequestOutcome::ChangeMethod)
            }
            (404 | 416, _) => Ok(RequestOutcome::Unknown(session, request, refusal)),
            _ if exchange::is_transient(status) => {
                Ok(RequestOutcome::Unknown(session, request, refusal))
            }
            _ => Err(refusal),
        }
    }

    /// Closes a session whose content has been sent.
    pub(super) async fn close_session(
        &self,
        session: UploadSession,
    ) -> crate::Result<RequestOutcome> {
        let digest = self.blob_digest().await?;
        if matches!(self.digest, BlobDigest::Pending(_)) && self.has_blob(&digest).await? {
            self.cancel_session(&session.url).await;
            return Ok(RequestOutcome::Done((digest, Delivery::Existed)));
        }
        self.send_put(session, UploadRequest::Close, digest, Body::Empty)
            .await
    }

    /// Sends the PUT that closes the session and specifies the digest.
    async fn send_put(
        &self,
        session: UploadSession,
        request: UploadRequest,
        digest: Digest,
        body: Body,
    ) -> crate::Result<RequestOutcome> {
        let mut url = session.url.clone();
        // The registry may have signed the query, so the query is kept byte for byte.
        let query = url
            .query()
            .filter(|query| !query.is_empty())
            .map(|query| format!("{query}&"));
        url.set_query(Some(&format!(
            "{}digest={digest}",
            query.unwrap_or_default()
        )));
        let put = Request::new(Method::PUT, url)
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            )
            .body(body)
            .without_retries()
            .untrusted(!session.is_trusted);
        let authorized = match self.send_once(put).await? {
            Ok(authorized) => authorized,
            Err(error) => return Ok(RequestOutcome::Unknown(session, request, error)),
        };
        let status = authorized.response.status;
        if status.is_success() && !authorized.response.is_sent {
            return Ok(RequestOutcome::Unknown(
                session,
                request,
                EarlyResponseSnafu.build().into(),
            ));
        }
        if status.is_success() {
            return Ok(RequestOutcome::Done((digest, Delivery::Uploaded)));
        }
        let is_renewed = authorized.renewed;
        let refusal = response::into_error(self.requests.registry(), authorized).await;
        if is_renewed {
            return Ok(RequestOutcome::Renewed(refusal));
        }
        match status.as_u16() {
            413 if self
                .uploads
                .shrink_chunks(self.content.size(), session.min_chunk) =>
            {
                Ok(RequestOutcome::ChangeMethod)
            }
            // The registry has lost the session, or the content of the session differs from the content that the client
            // has sent.
            404 | 416 => Ok(RequestOutcome::Unknown(session, request, refusal)),
            400 if session.is_resumed => Ok(RequestOutcome::Unknown(session, request, refusal)),
            _ if exchange::is_transient(status) => {
                Ok(RequestOutcome::Unknown(session, request, refusal))
            }
            _ => Err(refusal),
        }
    }

    /// Requests the number of bytes that the registry has received in a session ("Pushing a blob in chunks"). Returns
    /// `None` if the registry reports fewer than two bytes, because the range "0-0" may mean no byte or one byte.
    pub(super) async fn query_status(
        &self,
        session: &mut UploadSession,
    ) -> crate::Result<Option<u64>> {
        let request = session.request(Method::GET);
        match self.requests.send(request).await {
            Ok(authorized) => Ok(self.read_status(session, &authorized)),
            Err(error) if self.requests.is_stalled() => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn read_status(
        &self,
        session: &mut UploadSession,
        authorized: &AuthorizedResponse,
    ) -> Option<u64> {
        if !authorized.response.status.is_success() {
            return None;
        }
        let range = authorized.response.header(header::RANGE.as_str())?;
        let last: u64 = range
            .trim_start_matches("bytes=")
            .strip_prefix("0-")?
            .parse()
            .ok()?;
        let received = last.checked_add(1)?;
        self.follow_location(session, authorized).ok()?;
        (received > 1 && received <= self.content.size()).then_some(received)
    }

    /// Cancels a session. Many registries do not support cancellation, so a failure is ignored.
    pub(super) async fn cancel_session(&self, session: &Url) {
        let open = {
            let mut all = self.uploads.open_sessions();
            let at = all.iter().position(|open| open.url == *session);
            at.map(|at| all.swap_remove(at))
        };
        let is_trusted = open.is_some_and(|open| open.is_trusted);
        let request = Request::new(Method::DELETE, session.clone())
            .without_retries()
            .untrusted(!is_trusted);
        let _ = self.requests.send(request).await;
    }

    /// Removes a session from the list of open sessions.
    pub(super) fn forget_session(&self, session: &Url) {
        self.uploads
            .open_sessions()
            .retain(|open| open.url != *session);
    }

    /// Returns the digest of the content, after reading the rest of it if necessary.
    pub(super) async fn blob_digest(&self) -> crate::Result<Digest> {
        let file = match &self.digest {
            BlobDigest::Known(digest) => return Ok(digest.clone()),
            BlobDigest::Pending(file) => file,
        };
        if let Ok(digest) = file.digest().await {
            return Ok(digest);
        }
        let rest = self.content.part(self.content.size(), 0).open().await?;
        rest.try_for_each(|_| async { Ok(()) }).await?;
        file.digest().await
    }

    /// Sends a request once. The inner error is a network error, after which the outcome of the request is unknown.
    async fn send_once(
        &self,
        request: Request,
    ) -> crate::Result<Result<AuthorizedResponse, crate::Error>> {
        match self.requests.send(request).await {
            Err(error) if error.kind() == ErrorKind::Network => Ok(Err(error)),
            outcome => outcome.map(Ok),
        }
    }

    /// Updates the URL of a session from the `Location` of a response.
    fn follow_location(
        &self,
        session: &mut UploadSession,
        authorized: &AuthorizedResponse,
    ) -> Result<(), Error> {
        let Some(location) = location(authorized)? else {
            return Ok(());
        };
        session.is_trusted &= self.requests.is_own_response(&authorized.response);
        let old = std::mem::replace(&mut session.url, location);
        for open in self.uploads.open_sessions().iter_mut() {
            if open.url == old {
                open.url = session.url.clone();
                open.is_trusted = session.is_trusted;
            }
        }
        Ok(())
    }

    /// Reports a minimum chunk size that the client ignores, once per registry.
    fn report_ignored_minimum(&self, response: &Response, requested: &str) {
        if self
            .uploads
            .has_reported_minimum
            .swap(true, Ordering::Relaxed)
        {
            return;
        }
        let requested = response.secrets().escape(requested, 100);
        let from = response.peer.redacted_host();
        let what = format!(
            "`{CHUNK_MIN_LENGTH_HEADER}: {requested}`, which is not a number of bytes up to {MAX_CHUNK_MIN_LENGTH}"
        );
        let event = || ClientEvent::Ignored { from, what };
        self.requests.observer().notify(event);
    }
}

/// Returns the absolute `Location` of a response.
fn location(authorized: &AuthorizedResponse) -> Result<Option<Url>, Error> {
    let location = authorized.response.header(header::LOCATION.as_str());
    location
        .map(|location| authorized.response.peer.resolve(location))
        .transpose()
        .context(LocationSnafu)
}
