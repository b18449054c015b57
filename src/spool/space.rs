//! A full disk. It still deletes: the reserve is given back to the file system, and the log that a
//! deletion needs fits into it. It still stores, into pages that deletions freed. When there is room
//! again, the reserve is made anew and all is as before.

use std::time::Duration;

use rusqlite::Connection;

use super::error::Fault;
use super::folder::Folder;
use super::schema;
use super::store::Store;
use crate::runtime::Mono;

/// The reserve's file.
const FILE: &str = "reserve";
/// How long until a full disk is looked at again.
const PAUSE: Duration = Duration::from_secs(10);
/// What must be free beside the reserve before it is made.
const MARGIN: u64 = 2 << 20;
/// Pages that a transaction may need beside those of its bodies.
const EXTRA_PAGES: u64 = 24;
const PAGE: u64 = 4096;

#[derive(Debug, Default)]
pub(super) struct Space {
    /// The last growth failed: nothing may grow.
    pub full: bool,
    /// Whether the reserve stands.
    pub reserved: bool,
    look_at: Mono,
}

impl Space {
    /// Makes the reserve if there is room for it.
    pub(super) fn reserve(&mut self, folder: &dyn Folder, bytes: u64, now: Mono) {
        self.look_at = now + PAUSE;
        if bytes == 0 || self.reserved && folder.size(FILE) == Some(bytes) {
            self.reserved = true;
            return;
        }
        // A look may fail where making the file does not.
        let free = folder.free_bytes().unwrap_or(u64::MAX);
        let made = free >= bytes.saturating_add(MARGIN) && folder.allocate(FILE, bytes).is_ok();
        if !made && folder.remove(FILE).is_err() {
            log::debug!("buffer: no reserve to remove");
        }
        self.reserved = made;
    }

    /// Gives the reserve to whoever needs it.
    pub(super) fn release(&mut self, folder: &dyn Folder) {
        if folder.remove(FILE).is_err() {
            log::debug!("buffer: the reserve is gone already");
        }
        self.reserved = false;
    }

    /// When it is worth looking again; `None` if all is well.
    pub(super) fn look_at(&self) -> Option<Mono> {
        (self.full || !self.reserved).then_some(self.look_at)
    }
}

impl Store {
    /// The disk had no room.
    pub(super) fn ran_full(&mut self, now: Mono) {
        if !self.space.full {
            log::warn!(
                "the disk is full: the buffer in {} takes only what fits where something was deleted",
                self.options.dir.display()
            );
            crate::telemetry::count("dts_spool_disk_full_total", &[], 1);
        }
        if !std::mem::replace(&mut self.space.full, true) {
            // Once: who asks again and again must not put the look off for ever.
            self.space.look_at = now + PAUSE;
        }
        self.space.release(&*self.folder);
        // The log back into the file: what is deleted next then finds an empty log.
        if let Some(conn) = self.conn.take() {
            match schema::checkpoint(&conn, "PASSIVE") {
                Ok(_) | Err(Fault::Full) => self.conn = Some(conn),
                Err(fault) => {
                    log::error!("buffer: {}", fault.public());
                    drop(conn);
                    let _ = self.reopen(now);
                }
            }
        }
    }

    /// Looks whether a full disk has room again.
    pub(super) fn look_for_space(&mut self, now: Mono) {
        if self.space.look_at().is_none_or(|at| now < at) {
            return;
        }
        self.space.reserve(&*self.folder, self.options.reserve_bytes, now);
        if self.space.full && self.space.reserved {
            log::info!("the disk has room again");
            self.space.full = false;
            self.freed += 1;
        }
    }

    /// Within a transaction that will store `bytes`: on a full disk, makes sure that they fit pages
    /// that are free in the file, by dropping the oldest batches of lanes whose policy allows it.
    pub(super) fn make_room(&mut self, conn: &Connection, now: Mono, bytes: u64) -> Result<(), Fault> {
        if !self.space.full || bytes == 0 {
            return Ok(());
        }
        let pages = (bytes + bytes / 16).div_ceil(PAGE) + EXTRA_PAGES;
        loop {
            let free: u64 = conn.pragma_query_value(None, "freelist_count", |r| r.get::<_, i64>(0))? as u64;
            if free >= pages {
                return Ok(());
            }
            if !self.drop_some(conn, now, (pages - free) * PAGE)? {
                return Err(Fault::Full);
            }
        }
    }
}
