//! What a spool may use and what it promises, lane by lane.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// When an input's batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// After the commit is on disk. A power cut loses nothing that was acknowledged.
    Fsync,
    /// At once; on disk within the lane's `commit_interval`: a power cut loses at most that.
    Delayed,
    /// At once; on disk only while the link is down (within `commit_interval`), when memory is at
    /// its mark, or at shutdown. A power cut loses what is in memory.
    Ram,
}

/// What happens at a lane's limit of bytes.
///
/// A limit of age always drops, whatever the policy: there is nothing to wait for.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Policy {
    /// Nothing is lost: the input waits ([`Options::block_wait`]) and is then told to come again.
    #[default]
    Block,
    /// The oldest batches go.
    DropOldest,
    /// The newest row of each key stays, with the oldest before image; where that frees too little,
    /// the oldest go.
    Compact,
    /// Of the JSON messages of a key within `every` one stays, the newest, with its named fields
    /// replaced by what [`Keep`] says of them all. Where that frees too little, the oldest go.
    Downsample {
        /// Length of a slice of time. Rows are sliced by their own time stamps.
        every: Duration,
        /// Numeric fields at the top of the JSON object, each with what is kept of it. A message
        /// that holds none of them as a number is kept as it is.
        fields: Vec<(Box<str>, Keep)>,
    },
}

/// What is kept of a numeric field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// The oldest value.
    First,
    /// The newest value.
    Last,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The arithmetic mean.
    Mean,
}

/// How much of what is acknowledged stays, so that a restored centre can have it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAcked {
    /// Most bytes.
    pub max_bytes: u64,
    /// Longest time since it was stored.
    pub max_age: Duration,
}

/// One lane.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// Its name.
    pub name: Arc<str>,
    /// When a batch is acknowledged.
    pub class: Class,
    /// `Fsync`: how long a commit waits for company, at most 50 ms. Else: how long a batch may be
    /// in memory only.
    pub commit_interval: Duration,
    /// Share of the link against other lanes, from 1.
    pub weight: u32,
    /// Most bytes, overhead included.
    pub max_bytes: u64,
    /// Oldest batch, in powered time (the device's clock may be wrong by decades).
    pub max_age: Option<Duration>,
    /// What happens at `max_bytes`.
    pub policy: Policy,
    /// What stays after it is acknowledged.
    pub keep_acked: Option<KeepAcked>,
}

impl LaneOptions {
    /// A lane without limits of its own, policy `block`, weight 1, with the class's own
    /// `commit_interval`: 5 ms for `Fsync`, else 10 s.
    pub fn new(name: &str, class: Class) -> Self {
        let commit_interval = match class {
            Class::Fsync => Duration::from_millis(5),
            Class::Delayed | Class::Ram => Duration::from_secs(10),
        };
        Self {
            name: name.into(),
            class,
            commit_interval,
            weight: 1,
            max_bytes: u64::MAX,
            max_age: None,
            policy: Policy::Block,
            keep_acked: None,
        }
    }
}

/// A spool.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of `buffer.db` and what belongs to it. Made if missing.
    pub dir: PathBuf,
    /// Name of the device.
    pub device: Arc<str>,
    /// The lanes that take batches. Others found in the file are drained and then forgotten.
    pub lanes: Vec<LaneOptions>,
    /// Most bytes in all lanes together. The file is a little larger (about 5 %, and 8 MiB of
    /// write-ahead log at most).
    pub max_bytes: u64,
    /// Disk space kept back so that a full disk can still delete.
    pub reserve_bytes: u64,
    /// Largest body of a stored batch: what fits the smallest frame on the way.
    pub max_body_bytes: usize,
    /// Most bytes that `Delayed` and `Ram` lanes together hold in memory.
    pub memory_bytes: usize,
    /// How long [`super::Spool::store`] waits at a full lane before it says that it is busy.
    pub block_wait: Duration,
    /// Names this boot ([`crate::runtime::boot_id`]).
    pub boot: u64,
    /// SQLite VFS to use, for tests that inject faults; `None`: the system's.
    pub vfs: Option<String>,
}

impl Options {
    /// 256 MiB, bodies of 120 KiB, 512 KiB of memory, 4 MiB of reserve, no lanes yet.
    pub fn new(dir: impl Into<PathBuf>, device: &str) -> Self {
        Self {
            dir: dir.into(),
            device: device.into(),
            lanes: Vec::new(),
            max_bytes: 256 << 20,
            reserve_bytes: 4 << 20,
            max_body_bytes: 120 << 10,
            memory_bytes: 512 << 10,
            block_wait: Duration::from_secs(1),
            boot: 0,
            vfs: None,
        }
    }

    /// Largest row record that can be stored: it must fit a body together with its table's hash.
    pub fn max_row_bytes(&self) -> usize {
        self.max_body_bytes.saturating_sub(12)
    }
}
