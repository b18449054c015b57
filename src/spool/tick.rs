//! What is due: the store has no thread and no clock of its own.

use std::collections::HashMap;
use std::time::Duration;

use super::error::{Fault, SpoolError};
use super::lane::Lane;
use super::options::Class;
use super::schema;
use super::store::Store;
use crate::runtime::Mono;

/// How long acknowledged batches wait for a transaction that has another reason.
const ACK_PAUSE: Duration = Duration::from_secs(5);
/// How often ages, shapes and the file's size are looked at.
const CHECK_PAUSE: Duration = Duration::from_secs(10);
/// Shapes that stay though no batch refers to them: the next batch probably does.
const SHAPES: usize = 32;
/// A file is rebuilt when it is larger than this, and what it holds is less than the second.
const REBUILD: (u64, u64) = (8 << 20, 1 << 20);

impl Store {
    /// Does what is due: flushes, deletions, limits by age, a look at a full disk.
    pub fn tick(&mut self, now: Mono) {
        self.look_for_space(now);
        if self.conn.is_none() && self.retry_at().is_some_and(|at| now >= at) {
            match self.usable(now) {
                Ok(conn) => self.conn = Some(conn),
                Err(fault) => log::debug!("buffer: {}", fault.public()),
            }
        }
        let due: Vec<usize> = (0..self.lanes.len())
            .filter(|&l| self.flush_at(&self.lanes[l]).is_some_and(|at| now >= at))
            .collect();
        if !due.is_empty()
            && let Err(fault) = self.flush(now, &due, false)
        {
            log::debug!("buffer: {}", fault.public());
            // Not again at once.
            for &lane in &due {
                self.lanes[lane].mem_since = Some(now);
            }
        }
        if self.acked_since.is_some_and(|at| now >= at + ACK_PAUSE) {
            self.acked_since = Some(now);
            self.delete_acked(now);
        }
        if now >= self.next_check {
            self.next_check = now + CHECK_PAUSE;
            self.check(now);
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn poll_timeout(&self) -> Mono {
        let flush = self.lanes.iter().filter_map(|l| self.flush_at(l));
        let acked = self.acked_since.map(|at| at + ACK_PAUSE);
        let retry = self.conn.is_none().then(|| self.retry_at()).flatten();
        flush.chain(acked).chain(retry).chain(self.space.look_at()).fold(self.next_check, Mono::min)
    }

    /// When the lane's memory is written out.
    fn flush_at(&self, lane: &Lane) -> Option<Mono> {
        let due = match lane.options.class {
            Class::Fsync => return None,
            Class::Delayed => true,
            Class::Ram => !self.link_up,
        };
        lane.mem_since.filter(|_| due).map(|since| since + lane.options.commit_interval)
    }

    /// Whether the link is up and acknowledgements come. While it is not, `Ram` lanes go to disk.
    pub fn link_up(&mut self, now: Mono, up: bool) {
        let was = std::mem::replace(&mut self.link_up, up);
        if !was || up {
            return;
        }
        let ram: Vec<usize> = (0..self.lanes.len())
            .filter(|&l| self.lanes[l].options.class == Class::Ram && self.lanes[l].mem_since.is_some())
            .collect();
        if !ram.is_empty()
            && let Err(fault) = self.flush(now, &ram, false)
        {
            log::warn!("buffer: {}; what is in memory stays there", fault.public());
        }
    }

    /// Writes what is in memory to disk now.
    pub fn sync(&mut self, now: Mono) -> Result<(), SpoolError> {
        self.flush_all(now, false).map_err(Fault::public)
    }

    fn check(&mut self, now: Mono) {
        let idle: Vec<usize> = (0..self.lanes.len()).filter(|&l| self.lanes[l].is_idle(now)).collect();
        let aged = self.is_aged(now);
        let shapes = self.tables.count() > SHAPES;
        let crowded: Vec<usize> = (0..self.lanes.len()).filter(|&l| self.lanes[l].is_crowded()).collect();
        if !idle.is_empty() || aged || shapes || !crowded.is_empty() {
            let done = self.transact(now, !idle.is_empty(), |store, conn| {
                for &lane in &idle {
                    let meta = &mut store.lanes[lane].meta;
                    meta.reserved = meta.next_seq().saturating_sub(1);
                }
                if aged {
                    store.drop_aged(conn, now)?;
                }
                for &lane in &crowded {
                    store.reduce(conn, now, lane)?;
                }
                if shapes {
                    let mut oldest = HashMap::new();
                    for lane in 0..store.lanes.len() {
                        if let Some(head) = store.heads(conn, lane, 0, 1)?.first() {
                            oldest.insert(head.id.lane(), head.id.n());
                        }
                    }
                    store.tables.collect(conn, &oldest)?;
                }
                Ok(())
            });
            if let Err(fault) = done {
                log::debug!("buffer: {}", fault.public());
            }
            if shapes {
                self.tables.forget_disk();
            }
        }
        self.rebuild(now);
        self.publish(now);
    }

    /// Whether a lane's oldest batch is beyond its limit of age.
    fn is_aged(&mut self, now: Mono) -> bool {
        let elapsed = self.elapsed(now);
        (0..self.lanes.len()).any(|l| {
            let lane = &self.lanes[l];
            let Some(age) = lane.options.max_age.filter(|_| lane.on_disk()) else { return false };
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let Some(conn) = &self.conn else { return false };
            let first = self.heads(conn, l, lane.meta.acked_n, 1).unwrap_or_default();
            first.first().is_some_and(|h| h.made < elapsed.saturating_sub(age))
        })
    }

    /// Gives a file that is large and almost empty back to the file system. It costs what is left.
    fn rebuild(&mut self, now: Mono) {
        let held: u64 = self.lanes.iter().map(|l| l.meta.bytes + l.meta.kept_bytes).sum();
        let size = self.folder.size(schema::FILE).unwrap_or(0);
        if held > REBUILD.1 || size < REBUILD.0 || self.space.full {
            return;
        }
        let Some(conn) = self.conn.take() else { return };
        let free = conn.pragma_query_value(None, "freelist_count", |r| r.get::<_, i64>(0)).unwrap_or(0);
        // The size is that of the file: pages of the log are not in it yet.
        if (free as u64).saturating_mul(4096) < size / 2 {
            self.conn = Some(conn);
            return;
        }
        let rebuilt = conn
            .execute_batch("VACUUM")
            .map_err(Fault::from)
            .and_then(|()| schema::checkpoint(&conn, "TRUNCATE"));
        match rebuilt {
            Ok(_) => {
                log::info!("the buffer is almost empty; its file went from {size} bytes to what it needs");
                self.conn = Some(conn);
            }
            Err(Fault::Full) => self.conn = Some(conn),
            Err(fault) => {
                log::error!("buffer: rebuild: {}", fault.public());
                drop(conn);
                let _ = self.reopen(now);
            }
        }
    }
}

impl Lane {
    /// Whether numbers stay reserved though nothing came for a while: a power cut now would report
    /// losses that are none.
    fn is_idle(&self, now: Mono) -> bool {
        self.meta.reserved >= self.meta.next_seq()
            && self.mem.is_empty()
            && self.pending.is_empty()
            && now >= self.mem_used + self.options.commit_interval
    }
}
