//! A blob from next door: the wish to have what another repository of the same registry has (distribution-spec, "Mounting a
//! blob from another repository").

use http::{Method, StatusCode};

use super::super::repository::CONTENT_DIGEST;
use super::{Session, Subject, Upload};
use crate::auth::scope::Scope;
use crate::exchange::Request;
use crate::journal::UploadState;
use crate::reference::RepositoryName;

/// What became of a wish to have a blob from next door.
pub(super) enum Mount {
    Mounted,
    /// Not mounted, but a session is open.
    Session(Session),
    Refused,
}

impl Upload<'_> {
    /// Asks for a blob of another repository (distribution-spec, "Mounting a blob from another repository"), or without a
    /// name of wherever the registry knows it. Registries say "no" to that in any way there is; every one of them means
    /// that the blob has to be sent.
    pub(super) async fn mount(&self, from: Option<RepositoryName>) -> crate::Result<Mount> {
        let Subject::Known(digest) = &self.subject else {
            return Ok(Mount::Refused);
        };
        if from.is_none() && !self.uploads().habits().mounts_unnamed {
            return Ok(Mount::Refused);
        }
        self.enter(UploadState::Mounting);
        let mut url = self.repository.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", digest.as_str());
        let request = |url| Request::new(Method::POST, url).once();
        let asked = match &from {
            Some(from) => {
                url.query_pairs_mut().append_pair("from", from.as_str());
                let scope = Scope::Mount {
                    to: self.repository.name().clone(),
                    from: from.clone(),
                };
                self.repository.send_as(request(url), &scope).await
            }
            None => self.repository.send(request(url)).await,
        };
        let mounted = match asked {
            // Some registries answer every wish so: it is there when they name it, or when they show it.
            Ok(answer) if answer.response.status == StatusCode::CREATED => {
                let is_named = answer.response.header(CONTENT_DIGEST) == Some(digest.as_str());
                if is_named || self.repository.has_blob(digest).await? {
                    Mount::Mounted
                } else {
                    Mount::Refused
                }
            }
            Ok(answer) if answer.response.status == StatusCode::ACCEPTED => {
                let session = self.session(&answer)?;
                session.map_or(Mount::Refused, Mount::Session)
            }
            _ => Mount::Refused,
        };
        if from.is_none() && matches!(mounted, Mount::Refused) {
            self.uploads().habits().mounts_unnamed = false;
        }
        Ok(mounted)
    }
}
