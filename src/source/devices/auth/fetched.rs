//! Keys of tokens that come from a URL: what was fetched last, and whether it shall be fetched again.
//!
//! The thread that checks tokens looks keys up; the one with the sockets fetches them. A token whose key
//! is unknown asks for a fetch, at most one in the pause that the fetcher keeps, so that made-up key ids
//! are worth no traffic. What was fetched stays in force until something better is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::jwt::{Key, read_jwks};

/// Shared between the two threads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FetchedKeys {
    inner: Arc<Mutex<Inner>>,
    wanted: async_channel::Receiver<()>,
}

#[derive(Debug)]
struct Inner {
    keys: Vec<Key>,
    /// A fetch was tried a moment ago: none is asked for.
    rests: bool,
    want: async_channel::Sender<()>,
}

impl Default for FetchedKeys {
    fn default() -> Self {
        let (want, wanted) = async_channel::bounded(1);
        Self { inner: Arc::new(Mutex::new(Inner { keys: Vec::new(), rests: false, want })), wanted }
    }
}

impl FetchedKeys {
    /// Whether `verifies` holds for one of the keys.
    pub(super) fn any(&self, verifies: impl Fn(&Key) -> bool) -> bool {
        self.lock().keys.iter().any(verifies)
    }

    /// Asks for a fetch. `false` if one was tried a moment ago.
    pub(super) fn ask(&self) -> bool {
        let inner = self.lock();
        if !inner.rests {
            // Full: it is asked for already. Never closed: the other end lives as long.
            inner.want.try_send(()).ok();
        }
        !inner.rests
    }

    /// Resolves when a fetch is asked for. Cancel safe.
    pub async fn wanted(&self) {
        if self.wanted.recv().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether asking for a fetch is in vain for now.
    pub fn rest(&self, rests: bool) {
        self.lock().rests = rests;
        if rests {
            // What was asked for while it was fetched is answered by it.
            while self.wanted.try_recv().is_ok() {}
        }
    }

    /// Takes a JWKS (RFC 7517 section 5) and says how many usable keys it has. One without any is an
    /// error and changes nothing.
    pub fn take(&self, document: &[u8]) -> Result<usize, String> {
        let keys = read_jwks(document)?;
        let count = keys.len();
        self.lock().keys = keys;
        Ok(count)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
