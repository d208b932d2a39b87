//! What is known of one registry's way with uploads: what it refused, and which sessions are open.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Method;
use url::Url;

use crate::auth::scope::Scope;
use crate::exchange::Request;
use crate::transport::Transport;

/// The sizes of chunks that are tried, in bytes. Amazon's registries want at least 5 MiB, GitHub's takes at most 4.
const CHUNKS: [u64; 3] = [8 << 20, 4 << 20, 1 << 20];

/// What a registry was seen to do about content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// It takes content whose digest comes after it.
    pub(super) streams: bool,
    /// It takes no larger requests than this.
    pub(super) chunk: Option<u64>,
    /// It bears a wish to mount that does not say from where.
    pub(super) mounts_unnamed: bool,
}

/// The uploads to one registry: how it takes content, and which sessions are open.
pub(in crate::registry) struct Uploads {
    habits: Mutex<Habits>,
    open: Mutex<Vec<Open>>,
    /// Whether a wish of the registry was ignored and that was told.
    pub(super) has_ignored: AtomicBool,
}

/// A session as it must be known to be cancelled.
pub(super) struct Open {
    pub(super) url: Url,
    pub(super) scope: Scope,
    pub(super) is_home: bool,
}

impl fmt::Debug for Uploads {
    /// Without the URLs: they may be signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("habits", &*self.habits())
            .field("open", &self.open().len())
            .finish()
    }
}

impl Default for Uploads {
    fn default() -> Self {
        let habits = Habits {
            streams: true,
            chunk: None,
            mounts_unnamed: true,
        };
        Self {
            habits: Mutex::new(habits),
            open: Mutex::default(),
            has_ignored: AtomicBool::new(false),
        }
    }
}

impl Uploads {
    /// Whether the registry may take content whose digest comes after it.
    pub(in crate::registry) fn streams(&self) -> bool {
        let habits = self.habits();
        habits.streams && habits.chunk.is_none()
    }

    /// Tells the registry that nothing more comes for all sessions that are open.
    pub(in crate::registry) async fn cancel(&self, transport: &Transport) {
        let open = std::mem::take(&mut *self.open());
        let cancelled = open.into_iter().map(|open| async move {
            let request = Request::new(Method::DELETE, open.url)
                .once()
                .for_stranger(!open.is_home);
            let _ = transport.send(request, &open.scope).await;
        });
        futures_util::future::join_all(cancelled).await;
    }

    /// Takes chunks that are smaller than what was refused; says whether there are any.
    pub(super) fn shrink(&self, refused: u64, least: u64) -> bool {
        let smaller = CHUNKS.into_iter().find(|size| *size < refused);
        let Some(smaller) = smaller.filter(|size| *size.max(&least) < refused) else {
            return false;
        };
        let mut habits = self.habits();
        habits.chunk = Some(habits.chunk.map_or(smaller, |chunk| chunk.min(smaller)));
        true
    }

    pub(super) fn habits(&self) -> MutexGuard<'_, Habits> {
        self.habits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
