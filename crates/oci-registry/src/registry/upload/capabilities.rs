//! Upload capabilities and open upload sessions of one registry.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;
use url::Url;

use crate::auth::scope::Scope;
use crate::exchange::Request;
use crate::transport::Transport;

/// Chunk sizes in bytes, in the order in which they are tried. Amazon ECR requires at least 5 MiB; GHCR rejects chunks
/// above 4 MiB.
const CHUNK_SIZES: [u64; 3] = [8 << 20, 4 << 20, 1 << 20];

/// Upload methods that a registry supports, according to its responses so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadCapabilities {
    /// Whether the registry accepts the whole content in one PATCH, followed by the digest in the closing PUT.
    pub(super) accepts_stream: bool,
    /// Maximum size of a request in bytes, if the registry has rejected a larger request.
    pub(super) max_request_size: Option<u64>,
    /// Whether the registry accepts a mount request without a source repository.
    pub(super) mounts_without_source: bool,
}

/// Upload capabilities and open sessions of one registry.
pub(in crate::registry) struct Uploads {
    capabilities: Mutex<UploadCapabilities>,
    open: Mutex<Vec<OpenSession>>,
    /// Whether an invalid minimum chunk size was reported.
    pub(super) has_reported_minimum: AtomicBool,
}

/// Open session, with the data that is needed to cancel it.
pub(super) struct OpenSession {
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) is_trusted: bool,
}

impl fmt::Debug for Uploads {
    /// Omits the URLs, because a signed URL is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("capabilities", &*self.capabilities())
            .field("open", &self.open_sessions().len())
            .finish()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        let capabilities = UploadCapabilities {
            accepts_stream: true,
            max_request_size: None,
            mounts_without_source: true,
        };
        Self {
            capabilities: Mutex::new(capabilities),
            open: Mutex::default(),
            has_reported_minimum: AtomicBool::new(false),
        }
    }
}

impl Uploads {
    /// Whether the registry may accept content before its digest.
    pub(in crate::registry) fn may_stream(&self) -> bool {
        let capabilities = self.capabilities();
        capabilities.accepts_stream && capabilities.max_request_size.is_none()
    }

    /// Cancels all open sessions.
    pub(in crate::registry) async fn cancel_sessions(&self, transport: &Transport) {
        let open = std::mem::take(&mut *self.open_sessions());
        let cancellations = open.into_iter().map(|open| async move {
            let request = Request::new(Method::DELETE, open.url)
                .without_retries()
                .untrusted(!open.is_trusted);
            let _ = transport.send(request, &open.scope).await;
        });
        futures_util::future::join_all(cancellations).await;
    }

    /// Reduces the chunk size below the size of a rejected request. Returns `false` if there is no smaller size.
    pub(super) fn shrink_chunks(&self, rejected: u64, min_chunk: u64) -> bool {
        let smaller = CHUNK_SIZES.into_iter().find(|size| *size < rejected);
        let Some(smaller) = smaller.filter(|size| *size.max(&min_chunk) < rejected) else {
            return false;
        };
        let mut capabilities = self.capabilities();
        let chunk = capabilities.max_request_size.unwrap_or(smaller);
        capabilities.max_request_size = Some(chunk.min(smaller));
        true
    }

    pub(super) fn capabilities(&self) -> MutexGuard<'_, UploadCapabilities> {
        self.capabilities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open_sessions(&self) -> MutexGuard<'_, Vec<OpenSession>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
