//! Batches that the centre refused for good: kept for people, named as lost upstream.

use super::append::head_of;
use super::error::{Fault, SpoolError};
use super::loss::Lost;
use super::store::Store;
use super::stored::{Kind, StoredId};
use crate::runtime::Mono;

/// Batches that are kept aside; the oldest go.
const KEPT: i64 = 64;
/// A batch's columns, for the copy.
const COLUMNS: &str = "id, lane, epoch, first_seq, last_seq, rows, made, boot, clock, boot_offset, kind, source, crc, \
                       head, body";

impl Store {
    /// Takes a batch out of its lane, keeps it aside with `reason`, and records its loss (`refused`).
    /// `exact`: none of its rows arrived; else some may have. One that is not held any more is left alone. A
    /// refused loss record is only kept aside. After an error nothing has changed: to be tried again.
    pub fn set_aside(
        &mut self,
        now: Mono,
        id: StoredId,
        reason: &str,
        exact: bool,
    ) -> Result<(), SpoolError> {
        let Some(lane) = self.lanes.iter().position(|l| l.meta.no == id.lane()) else { return Ok(()) };
        if !self.lanes[lane].window.contains_key(&id.n()) {
            return Ok(());
        }
        let done = self.transact(now, true, |store, conn| {
            store.flush_lane(conn, lane)?;
            let head = head_of(conn, id)?;
            conn.prepare_cached(&format!(
                "INSERT OR REPLACE INTO aside(reason, {COLUMNS}) SELECT ?2, {COLUMNS} FROM batch WHERE id = ?1"
            ))?
            .execute((id.0, reason))?;
            conn.prepare_cached(
                "DELETE FROM aside WHERE rowid IN (SELECT rowid FROM aside ORDER BY made DESC LIMIT -1 OFFSET ?1)",
            )?
            .execute([KEPT])?;
            store.delete_known(conn, lane, &head)?;
            if head.kind == Kind::Rows {
                let epoch = store.lanes[lane].meta.outside(head.epoch);
                let (from, to) = (head.first_seq, head.last_seq);
                let rows = u64::from(head.rows);
                store.lose(conn, now, lane, &Lost { epoch, from, to, rows, reason: "refused", exact })?;
            }
            Ok(head)
        });
        let head = done.map_err(Fault::public)?;
        self.lanes[lane].window.remove(&id.n());
        let name = self.lanes[lane].name();
        log::error!(
            "lane `{name}`: the centre refused batch {} to {} of `{}` for good ({reason}); it is kept aside",
            head.first_seq,
            head.last_seq,
            head.source
        );
        self.freed += 1;
        Ok(())
    }
}
