//! Woken by the kernel when the database, its `-wal` or its `-journal` is written.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use async_io::Async;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Watches the folder that a database lies in, since its files come and go.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    inotify: Option<Async<OwnedFd>>,
    /// Watch number of the folder.
    folder: Option<i32>,
    names: Vec<OsString>,
}

impl Watch {
    /// Watches `path`, which need not exist.
    pub(super) fn new(path: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(Async::new)
            .inspect_err(|e| log::warn!("watch {}: {e}; looks for changes by the clock", path.display()))
            .ok();
        let mut watch = Self { path: path.to_owned(), inotify, folder: None, names: Vec::new() };
        watch.ensure();
        watch
    }

    /// Watches the folder if it does not yet, or no more. True if it does now.
    pub(super) fn ensure(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        if self.folder.is_some() {
            return true;
        }
        // SQLite puts its files beside the real one.
        let real = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else { return false };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        self.folder = inotify::add_watch(inotify.get_ref(), parent, flags).ok();
        let with = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            name
        };
        self.names = vec![with(""), with("-wal"), with("-journal")];
        self.folder.is_some()
    }

    /// Follows the path anew: it may be a link that leads elsewhere by now.
    pub(super) fn renew(&mut self) {
        if let (Some(inotify), Some(folder)) = (&self.inotify, self.folder.take()) {
            // Gone already if the folder is.
            let _gone = inotify::remove_watch(inotify.get_ref(), folder);
        }
        self.ensure();
    }

    /// Waits until one of the files was written, made or taken away. Never, if nothing can be
    /// watched. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some(inotify) = &self.inotify else { return std::future::pending().await };
            let (relevant, lost) = drain(inotify.get_ref(), self.folder, &self.names);
            if lost {
                self.folder = None;
                self.ensure();
                return;
            }
            if relevant {
                return;
            }
            if inotify.readable().await.is_err() {
                self.inotify = None;
            }
        }
    }
}

/// Reads all events that are there: whether one is about `names`, and whether the watch is gone.
fn drain(fd: &OwnedFd, folder: Option<i32>, names: &[OsString]) -> (bool, bool) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(fd, &mut buffer);
    let (mut relevant, mut lost) = (false, false);
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().map(|n| OsStr::from_bytes(n.to_bytes()));
                relevant |= name.is_some_and(|n| names.iter().any(|own| own == n))
                    || event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let ended = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
                lost |= event.events().intersects(ended) && Some(event.wd()) == folder;
            }
            Err(Errno::INTR) => {}
            Err(_) => return (relevant, lost),
        }
    }
}
