//! Upload capabilities of one registry and its open sessions.

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
const CHUNKS: [u64; 3] = [8 << 20, 4 << 20, 1 << 20];

/// Upload methods that a registry supports, as far as its responses have shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadCapabilities {
    /// Whether it accepts one PATCH of the whole content, whose digest follows with the closing PUT.
    pub(super) streams: bool,
    /// Limit of the size of a request in bytes, if it has rejected a larger one.
    pub(super) chunk: Option<u64>,
    /// Whether it accepts a mount request without a source repository.
    pub(super) mounts_without_source: bool,
}

/// Uploads to one registry: its capabilities and the open sessions.
pub(in crate::registry) struct Uploads {
    capabilities: Mutex<UploadCapabilities>,
    open: Mutex<Vec<OpenSession>>,
    /// Whether an invalid minimum for chunks was ignored and reported.
    pub(super) has_ignored: AtomicBool,
}

/// Data for the cancellation of a session.
pub(super) struct OpenSession {
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) is_trusted: bool,
}

impl fmt::Debug for Uploads {
    /// Omits the URLs, which may be signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("capabilities", &*self.capabilities())
            .field("open", &self.open().len())
            .finish()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        let capabilities = UploadCapabilities {
            streams: true,
            chunk: None,
            mounts_without_source: true,
        };
        Self {
            capabilities: Mutex::new(capabilities),
            open: Mutex::default(),
            has_ignored: AtomicBool::new(false),
        }
    }
}

impl Uploads {
    /// Whether the registry may accept content whose digest follows it.
    pub(in crate::registry) fn streams(&self) -> bool {
        let capabilities = self.capabilities();
        capabilities.streams && capabilities.chunk.is_none()
    }

    /// Cancels all open sessions.
    pub(in crate::registry) async fn cancel(&self, transport: &Transport) {
        let open = std::mem::take(&mut *self.open());
        let cancelled = open.into_iter().map(|open| async move {
            let request = Request::new(Method::DELETE, open.url)
                .once()
                .untrusted(!open.is_trusted);
            let _ = transport.send(request, &open.scope).await;
        });
        futures_util::future::join_all(cancelled).await;
    }

    /// Reduces the chunk size below that of a rejected request. Returns `false` if there is no smaller size.
    pub(super) fn shrink_chunks(&self, rejected: u64, min_chunk: u64) -> bool {
        let smaller = CHUNKS.into_iter().find(|size| *size < rejected);
        let Some(smaller) = smaller.filter(|size| *size.max(&min_chunk) < rejected) else {
            return false;
        };
        let mut capabilities = self.capabilities();
        let chunk = capabilities.chunk.unwrap_or(smaller);
        capabilities.chunk = Some(chunk.min(smaller));
        true
    }

    pub(super) fn capabilities(&self) -> MutexGuard<'_, UploadCapabilities> {
        self.capabilities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Vec<OpenSession>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
