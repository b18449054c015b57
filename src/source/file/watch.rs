//! Woken by the kernel when a folder or a file in it changes (inotify). Where that cannot be had, the caller's
//! poll interval is all there is.

use std::os::fd::OwnedFd;
use std::path::Path;

use async_io::Async;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::glob;

/// The kernel's watches, if there are any.
pub(super) struct Watch(Option<Async<OwnedFd>>);

impl Watch {
    pub(super) fn new() -> Self {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        let watch = fd.map_err(std::io::Error::from).and_then(Async::new_nonblocking);
        if let Err(error) = &watch {
            log::info!("no file events ({error}): files are looked at every poll_interval");
        }
        Self(watch.ok())
    }

    /// Watches the folder of `pattern` for names that come and go. Again and again is harmless.
    pub(super) fn folder(&self, pattern: &Path) {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        self.add(&glob::fixed_folder(pattern), flags);
    }

    /// Watches a file for new bytes.
    pub(super) fn file(&self, path: &Path) {
        self.add(path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE);
    }

    fn add(&self, path: &Path, flags: WatchFlags) {
        if let Some(fd) = &self.0 {
            // Missing or too many watches: the poll interval finds it.
            inotify::add_watch(fd.get_ref(), path, flags).ok();
        }
    }

    /// Waits for a change; never resolves without watches. Cancel safe.
    pub(super) async fn changed(&self) {
        let Some(fd) = &self.0 else { return std::future::pending().await };
        if fd.readable().await.is_err() {
            return std::future::pending().await;
        }
        // What changed does not matter: everything is looked at. Only the queue must be emptied.
        let mut events = [0; 4096];
        while rustix::io::read(fd.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
    }
}
