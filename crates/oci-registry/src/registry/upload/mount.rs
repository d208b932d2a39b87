//! Cross-repository blob mount (distribution-spec, "Mounting a blob from another repository").

use http::{Method, StatusCode};

use super::session::{BlobDigest, Upload, UploadSession};
use crate::auth::scope::Scope;
use crate::exchange::Request;
use crate::reference::RepositoryName;
use crate::registry::requests::CONTENT_DIGEST;

/// Result of a mount request.
pub(super) enum Mount {
    Mounted,
    /// The registry has not mounted the blob and has started a session.
    Started(UploadSession),
    Refused,
}

impl Upload<'_> {
    /// Requests a mount from another repository of the registry, or without `from` from any. Every response other than a
    /// confirmed mount means that the blob has to be sent.
    pub(super) async fn mount(&self, from: Option<RepositoryName>) -> crate::Result<Mount> {
        let BlobDigest::Known(digest) = &self.digest else {
            return Ok(Mount::Refused);
        };
        if from.is_none() && !self.uploads.capabilities().mounts_without_source {
            return Ok(Mount::Refused);
        }
        let mut url = self.requests.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", digest.as_str());
        let request = |url| Request::new(Method::POST, url).once();
        let answer = match &from {
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
        let mounted = match answer {
            // Some registries answer 201 to every mount request, so the blob must be named or found.
            Ok(answer) if answer.response.status == StatusCode::CREATED => {
                let is_named = answer.response.header(CONTENT_DIGEST) == Some(digest.as_str());
                if is_named || self.has_blob(digest).await? {
                    Mount::Mounted
                } else {
                    Mount::Refused
                }
            }
            Ok(answer) if answer.response.status == StatusCode::ACCEPTED => {
                let session = self.read_session(&answer)?;
                session.map_or(Mount::Refused, Mount::Started)
            }
            _ => Mount::Refused,
        };
        if from.is_none() && matches!(mounted, Mount::Refused) {
            self.uploads.capabilities().mounts_without_source = false;
        }
        Ok(mounted)
    }
}
