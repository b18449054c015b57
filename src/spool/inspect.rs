//! Looking at a spool: its first rows, whether all of it reads right, all of it.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::error::{Fault, SpoolError};
use super::folder::{DiskFolder, Folder};
use super::meta::{self, LaneMeta};
use super::read::read_table;
use super::schema::{self, FILE};
use super::store::Store;
use super::stored::{HEAD, Head, StoredBatch, StoredId};
use crate::event::batch::split_body;
use crate::event::{Batch, Origin};
use crate::runtime::Mono;

/// A batch to be shown: as the centre would get it.
pub type Peeked = Batch;

impl Store {
    /// The first batches of a lane, or of each, with at least `limit` rows if there are so many.
    pub fn peek(&mut self, now: Mono, lane: Option<&str>, limit: usize) -> Result<Vec<Peeked>, SpoolError> {
        let lanes: Vec<usize> = match lane {
            Some(lane) => vec![self.find_lane(lane)?],
            None => (0..self.lanes.len()).collect(),
        };
        let mut out = Vec::new();
        for lane in lanes {
            let (mut after, mut rows) = (None, 0);
            while rows < limit {
                let batches = self.find(now, lane, after, 1)?;
                let Some((last, _)) = batches.last() else { break };
                after = Some(last.id);
                for (_, batch) in batches {
                    rows += batch.rows as usize;
                    out.push(to_batch(&self.options.device, batch));
                }
            }
        }
        Ok(out)
    }
}

fn to_batch(device: &Arc<str>, b: StoredBatch) -> Batch {
    Batch {
        source: b.source,
        origin: Origin::Device {
            device: device.clone(),
            lane: b.lane,
            epoch: b.epoch,
            first_seq: b.first_seq,
            last_seq: b.last_seq,
        },
        clock: b.clock,
        tables: b.tables.into(),
        rows: b.rows,
        body: b.body,
        positions: Vec::new(),
    }
}

/// A spool that no agent holds, opened to be looked at. Its lock is held meanwhile.
pub struct Inspector {
    folder: DiskFolder,
    conn: Connection,
    device: Arc<str>,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("folder", &self.folder).finish()
    }
}

/// What [`Inspector::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Batches that read right.
    pub batches: u64,
    /// Their rows.
    pub rows: u64,
    /// The first thing that is wrong, in words.
    pub first_bad: Option<String>,
}

impl Inspector {
    /// Opens the spool in `dir`. Fails with [`SpoolError::Locked`] while an agent runs.
    pub fn open(dir: &Path, device: &str) -> Result<Self, SpoolError> {
        let mut folder = DiskFolder::new(dir);
        if folder.size(FILE).is_none() {
            return Err(SpoolError::Folder {
                what: "no buffer in",
                path: dir.into(),
                error: std::io::ErrorKind::NotFound.into(),
            });
        }
        folder.lock()?;
        let opened = schema::connect(&folder, FILE, None).and_then(|(conn, _)| {
            schema::check_reader(&conn, &folder)?;
            Ok(conn)
        });
        let conn = opened.map_err(Fault::public)?;
        Ok(Self { folder, conn, device: device.into() })
    }

    /// Reads every page, every batch, every counter, and says what is wrong first.
    pub fn verify(&self) -> Result<Verified, SpoolError> {
        let mut found = Verified::default();
        let checked: Result<(), Fault> = self.check_all(&mut found);
        match checked {
            Ok(()) => Ok(found),
            Err(Fault::Corrupt(what)) => Ok(Verified { first_bad: Some(what), ..found }),
            Err(fault) => Err(fault.public()),
        }
    }

    fn check_all(&self, found: &mut Verified) -> Result<(), Fault> {
        let names = meta::lanes(&self.conn)?;
        let mut metas: Vec<(String, LaneMeta, LaneMeta)> = Vec::new();
        for name in names {
            let Some(meta) = meta::get_json::<LaneMeta>(&self.conn, &format!("lane/{name}"))? else {
                continue;
            };
            metas.push((name, meta, LaneMeta::default()));
        }
        meta::positions(&self.conn)?;
        for batch in self.stored() {
            let (head, batch) = batch?;
            let checked = Batch::from_body(
                batch.source.clone(),
                Origin::Input,
                batch.clock,
                batch.rows,
                batch.body.clone(),
                |hash| batch.tables.iter().find(|t| t.hash() == hash).cloned(),
            );
            checked.map_err(|e| Fault::Corrupt(format!("batch {}: {e}", head.id.0)))?;
            found.batches += 1;
            found.rows += u64::from(head.rows);
            if let Some((_, meta, sum)) = metas.iter_mut().find(|(name, _, _)| **name == *head.lane) {
                let kept = head.id.n() <= meta.acked_n;
                let (batches, rows) = if kept {
                    (&mut sum.kept_batches, &mut sum.kept_rows)
                } else {
                    (&mut sum.batches, &mut sum.rows)
                };
                *batches += 1;
                *rows += u64::from(head.rows);
            }
        }
        for (name, meta, sum) in &metas {
            let counted = (meta.batches, meta.rows, meta.kept_batches, meta.kept_rows);
            if counted != (sum.batches, sum.rows, sum.kept_batches, sum.kept_rows) {
                return Err(Fault::Corrupt(format!("lane `{name}` does not hold what its counters say")));
            }
        }
        let check: String = self.conn.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
        if check == "ok" { Ok(()) } else { Err(Fault::Corrupt(check)) }
    }

    /// Every batch, in the order of the lanes and of the batches in them, kept ones included. Ends
    /// after the first error.
    pub fn export(&self) -> impl Iterator<Item = Result<StoredBatch, SpoolError>> {
        self.stored().map(|b| b.map(|(_, batch)| batch).map_err(Fault::public))
    }

    /// The same batches as the centre would get them.
    pub fn batches(&self) -> impl Iterator<Item = Result<Batch, SpoolError>> {
        self.export().map(|b| b.map(|b| to_batch(&self.device, b)))
    }

    fn stored(&self) -> impl Iterator<Item = Result<(Head, StoredBatch), Fault>> {
        let mut after = Some(StoredId(i64::MIN));
        std::iter::from_fn(move || {
            let read = self.next_behind(after?);
            after = read.as_ref().ok().and_then(|found| found.as_ref().map(|(head, _)| head.id));
            read.transpose()
        })
    }

    fn next_behind(&self, after: StoredId) -> Result<Option<(Head, StoredBatch)>, Fault> {
        let mut statement = self
            .conn
            .prepare_cached(&format!("SELECT {HEAD}, body FROM batch WHERE id > ?1 ORDER BY id LIMIT 1"))?;
        let mut rows = statement.query([after.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let head = Head::read(row)?;
        let body = head.body(row)?;
        let (hashes, _) = split_body(&body).map_err(|e| Fault::Corrupt(e.to_string()))?;
        let tables: Result<Vec<_>, Fault> = hashes.into_iter().map(|h| read_table(&self.conn, h)).collect();
        let meta: Option<LaneMeta> = meta::get_json(&self.conn, &format!("lane/{}", head.lane))?;
        let epoch = meta.map_or(head.epoch, |m| m.outside(head.epoch));
        let batch = head.stored(epoch, body, tables?);
        Ok(Some((head, batch)))
    }
}
