//! The durable queue of a device, on SQLite.
//!
//! Inputs put batches in, the session takes them out in order and says which the centre holds. What
//! stands between is on disk as its lane's durability class says, within stated limits, and what
//! the limits remove is named by loss records.
//!
//! | file | concept |
//! |---|---|
//! | [`options`] | [`Options`] and [`LaneOptions`]: classes, limits, policies |
//! | `stored` | [`StoredBatch`], [`StoredId`], a row's head and its checksum |
//! | `schema` | the tables, the pragmas, opening a connection |
//! | `meta` | counters and epochs of a lane: one row, written in each transaction |
//! | `lane` | a lane in memory: what is handed out, acknowledged, not yet on disk |
//! | [`store`] | [`Store`]: open, transaction, recovery, close. Sync, time as an argument |
//! | `append`, `join` | many small batches become few large ones, in one transaction |
//! | `read`, `ack` | what goes out, and what may be forgotten |
//! | `evict`, `reduce`, `compact`, `downsample`, `loss` | the limits and what they cost |
//! | `reconcile`, `cut` | what the centre knows against what is held; forks |
//! | `space`, `folder` | full disks; lock, reserve and file names |
//! | `quarantine`, `salvage` | damaged files |
//! | `worker`, `handle` | [`Spool`]: the thread `sqlite` and the handle to it |
//! | `stats`, `inspect` | numbers; peek, verify, export |
//!
//! ```text
//! batch(id, lane, epoch, first_seq, last_seq, rows, made, boot, clock, boot_offset, kind, source, crc, head, body)
//!   id    = lane number << 48 | number of the batch in its lane: a lane is one run of the b-tree,
//!           appended to at its end and deleted from at its front, without an index
//!   made  = the store's own time in µs: powered time, carried over restarts; no wall clock
//!   kind  = 0 rows, 1 loss records (never evicted)
//!   crc   = crc32c of the body; head = crc32c of everything else in the row
//! schema(hash, body)            shapes, kept while a batch may refer to them
//! meta(key, value, crc)         min_reader, store, lane/<name>: JSON
//! position(source, key, value, crc)
//! aside(id, reason, + a batch's columns)    refused by the centre for good; the newest few
//! ```
//!
//! An acknowledged batch is deleted in the next transaction that has another reason, or a little
//! later: an event a second then dirties two pages, not four. `auto_vacuum` is off: it would move
//! pages at each delete; the file keeps its greatest size and is rebuilt when it is almost empty.

mod ack;
mod append;
mod aside;
mod compact;
mod cut;
mod downsample;
mod error;
mod evict;
mod folder;
#[cfg(any(feature = "fuzzing", all(test, feature = "full")))]
pub(crate) mod fuzz;
mod handle;
mod inspect;
mod join;
mod lane;
mod loss;
mod meta;
pub mod options;
mod quarantine;
mod queue;
mod read;
mod reconcile;
mod reduce;
mod salvage;
mod schema;
mod space;
mod stats;
pub mod store;
mod stored;
mod tick;
mod worker;

#[cfg(test)]
mod tests;

pub use error::SpoolError;
pub use folder::{DiskFolder, Folder};
pub use handle::{LocalSpool, Released, Spool};
pub use inspect::{Inspector, Peeked, Verified};
pub use meta::Position;
pub use options::{Class, Keep, KeepAcked, LaneOptions, Options, Policy};
pub use reconcile::{CentreView, Reconciled};
pub use stats::{LaneStats, Stats};
pub use store::{Epochs, Opened, Store};
pub use stored::{StoredBatch, StoredId};

/// For models of the spool in tests of its users.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(dead_code, reason = "not every build has such a user")]
impl StoredId {
    pub(crate) fn from_raw(id: i64) -> Self {
        Self(id)
    }

    pub(crate) fn raw(self) -> i64 {
        self.0
    }
}
