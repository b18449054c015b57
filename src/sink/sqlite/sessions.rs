//! Session numbers of devices: of several nodes that write to one file, the newest session of a device
//! fences the older ones. A number is counted and the device's marks are read in one transaction, so
//! what the new session is told holds until it writes.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::sink::{Claimed, Mark};

/// Counts a session of `device`. An error leaves the transaction open, for the caller to roll back.
pub(super) fn claim(conn: &Connection, device: &Arc<str>) -> rusqlite::Result<Claimed> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    // A node of a time without claims has left its number with its marks.
    conn.prepare_cached(
        "INSERT INTO dts_sessions(device, session)
           VALUES(?1, 1 + coalesce((SELECT max(session) FROM dts_marks WHERE device=?1), 0))
         ON CONFLICT(device) DO UPDATE SET session = max(session + 1, excluded.session)",
    )?
    .execute([&**device])?;
    let session: i64 = conn
        .prepare_cached("SELECT session FROM dts_sessions WHERE device=?1")?
        .query_row([&**device], |row| row.get(0))?;
    let session = session as u64;
    let mut query = conn.prepare_cached("SELECT lane, epoch, seq, crc FROM dts_marks WHERE device=?1")?;
    let marks = query.query_map([&**device], |row| {
        Ok(Mark {
            device: device.clone(),
            lane: row.get::<_, String>(0)?.into(),
            epoch: row.get::<_, i64>(1)? as u64,
            seq: row.get::<_, i64>(2)? as u64,
            crc: row.get(3)?,
            session,
        })
    })?;
    let marks = marks.collect::<rusqlite::Result<_>>()?;
    conn.execute_batch("COMMIT")?;
    Ok(Claimed { session, marks })
}

/// The devices of `marks` that have a newer session than the mark's, each once, with its number.
pub(super) fn fenced(conn: &Connection, marks: &[Mark]) -> rusqlite::Result<Vec<(Arc<str>, u64)>> {
    let mut newest =
        conn.prepare_cached("SELECT session FROM dts_sessions WHERE device=?1 AND session>?2")?;
    let mut fenced: Vec<(Arc<str>, u64)> = Vec::new();
    for mark in marks.iter() {
        let older = i64::try_from(mark.session).unwrap_or(i64::MAX);
        let mut rows = newest.query(params![&*mark.device, older])?;
        if let Some(row) = rows.next()?
            && !fenced.iter().any(|(device, _)| *device == mark.device)
        {
            fenced.push((mark.device.clone(), row.get::<_, i64>(0)? as u64));
        }
    }
    Ok(fenced)
}
