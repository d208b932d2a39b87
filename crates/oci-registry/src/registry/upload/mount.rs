//! Cross-repository blob mount (distribution-spec, "Mounting a blob from another repository").

use http::{Method, StatusCode};

use super::session::{BlobDigest, Upload, UploadSession};
use crate::auth::scope::Scope;
use crate::exchange::Request;
use crate::reference::RepositoryName;
use crate::registry::requests::CONTENT_DIGEST;

/// Result of a mount request.
pub(super) enum MountResult {
    Mounted,
    /// The registry has not mounted the blob and has started a session.
    Started(UploadSession),
    Refused,
}

impl Upload<'_> {
    /// Requests a mount from the repository `from`, or from any repository of the registry if `from` is `None`. After
    /// any response other than a confirmed mount, the client must send the blob.
    pub(super) async fn mount(&self, from: Option<RepositoryName>) -> crate::Result<MountResult> {
        let BlobDigest::Known(digest) = &self.digest else {
            return Ok(MountResult::Refused);
        };
        if from.is_none() && !self.uploads.capabilities().mounts_without_source {
            return Ok(MountResult::Refused);
        }
        let mut url = self.requests.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", digest.as_str());
        let request = |url| Request::new(Method::POST, url).without_retries();
        let authorized = match &from {
            Some(from) => {
                url.query_pairs_mut().append_pair("from", from.as_str());
                let scope = Scope::Mount {
                    to: self.requests.name().clone(),
                    from: from.clone(),
                };
                self.requests.send_with_scope(request(url), &scope).await
            }
            None => self.requests.send(request(url)).await,
        };
        let mounted = match authorized {
            // Some registries respond with 201 to every mount request. The mount is confirmed only if the response has
            // the digest of the blob or the blob exists.
            Ok(authorized) if authorized.response.status == StatusCode::CREATED => {
                let is_named = authorized.response.header(CONTENT_DIGEST) == Some(digest.as_str());
                if is_named || self.has_blob(digest).await? {
                    MountResult::Mounted
                } else {
                    MountResult::Refused
                }
            }
            Ok(authorized) if authorized.response.status == StatusCode::ACCEPTED => {
                let session = self.read_session(&authorized)?;
                session.map_or(MountResult::Refused, MountResult::Started)
            }
            _ => MountResult::Refused,
        };
        if from.is_none() && matches!(mounted, MountResult::Refused) {
            self.uploads.capabilities().mounts_without_source = false;
        }
        Ok(mounted)
    }
}
