//! What is asked of a server before its binlog: who it is, where it stands, whether it still has our position.

use std::time::Duration;

use super::config::{Positions, Start};
use super::core::Read;
use super::error::LiveError;
use super::filter::Filter;
use super::place::GtidState;
use crate::checkpoint::Checkpoint;
use crate::source::mysql::binlog::Checksum;
use crate::source::mysql::binlog::gtid::{MariaDbGtidSet, MySqlGtid, MySqlGtidSet};
use crate::source::mysql::client::{ClientError, Conn, Dump, Replica, Rows};
use crate::source::mysql::tables::Entry;

/// What a server says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) is_mariadb: bool,
    /// MySQL's `server_uuid`; empty for MariaDB.
    pub(super) uuid: String,
    /// Whether every transaction has a GTID.
    pub(super) has_gtids: bool,
    /// MySQL: `gtid_executed`; MariaDB: `gtid_binlog_state`, the last of each domain and server.
    pub(super) executed: String,
    /// MySQL: `gtid_purged`.
    pub(super) purged: String,
    pub(super) checksum: Checksum,
    /// How long a file is kept, in seconds; 0 for ever.
    pub(super) kept_s: u64,
    /// Where the next event will stand.
    pub(super) file: String,
    pub(super) pos: u64,
}

/// Asks. Fails with what to do where the binlog is off.
pub(super) fn facts(conn: &mut Conn) -> Result<Facts, LiveError> {
    let mut facts = Facts { is_mariadb: conn.is_mariadb(), ..Facts::default() };
    let checksum = conn.query("SELECT @@global.binlog_checksum AS checksum")?.text(0, "checksum");
    facts.checksum = if checksum.eq_ignore_ascii_case("CRC32") { Checksum::Crc32 } else { Checksum::None };
    if facts.is_mariadb {
        facts.has_gtids = true;
    } else {
        let rows = conn.query(
            "SELECT @@global.server_uuid AS uuid, @@global.gtid_mode AS mode, @@global.gtid_executed AS executed, \
             @@global.gtid_purged AS purged",
        )?;
        facts.uuid = rows.text(0, "uuid");
        facts.has_gtids = rows.text(0, "mode") == "ON";
        facts.executed = rows.text(0, "executed");
        facts.purged = rows.text(0, "purged");
    }
    facts.kept_s = kept_s(conn)?;
    let status = status(conn)?;
    if status.rows.is_empty() {
        return Err(LiveError::User(
            "the server writes no binlog: start it with --log-bin and --binlog-format=ROW".into(),
        ));
    }
    facts.file = status.text(0, "file");
    facts.pos = status.text(0, "position").parse().unwrap_or(4);
    // Of one moment with the position.
    if let Some(executed) = status.value(0, "executed_gtid_set") {
        facts.executed = executed;
    }
    // Behind the position: what is committed in between must not look as if it were missing.
    if facts.is_mariadb {
        facts.executed = conn.query("SELECT @@global.gtid_binlog_state AS state")?.text(0, "state");
    }
    Ok(facts)
}

/// A setting; `None` if the server does not have it.
pub(super) fn setting(conn: &mut Conn, name: &str) -> Result<Option<String>, ClientError> {
    match conn.query(&format!("SELECT @@global.{name} AS v")) {
        Ok(rows) => Ok(rows.value(0, "v")),
        Err(ClientError::Server(error)) if error.code == 1193 => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long a binlog file is kept, in seconds; 0 for ever.
pub(super) fn kept_s(conn: &mut Conn) -> Result<u64, ClientError> {
    let seconds =
        setting(conn, "binlog_expire_logs_seconds")?.and_then(|seconds| seconds.parse::<u64>().ok());
    if let Some(seconds) = seconds {
        return Ok(seconds);
    }
    // With fractions in MariaDB.
    let days = setting(conn, "expire_logs_days")?.and_then(|days| days.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((days * 86_400.0) as u64)
}

/// SHOW BINARY LOG STATUS, SHOW MASTER STATUS.
pub(super) fn status(conn: &mut Conn) -> Result<Rows, LiveError> {
    match conn.query("SHOW MASTER STATUS") {
        Err(ClientError::Server(error)) if error.code == 1064 => Ok(conn.query("SHOW BINARY LOG STATUS")?),
        Err(ClientError::Server(error)) if matches!(error.code, 1227 | 1045) => Err(LiveError::User(
            format!("{error}; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user of the dsn"),
        )),
        other => Ok(other?),
    }
}

/// Names and sizes of the binlog's files, oldest first.
pub(super) fn files(conn: &mut Conn) -> Result<Vec<(String, u64)>, LiveError> {
    let rows = conn.query("SHOW BINARY LOGS")?;
    let file = |i: usize| (rows.text(i, "log_name"), rows.text(i, "file_size").parse().unwrap_or(0));
    Ok((0..rows.rows.len()).map(file).collect())
}

fn mysql_set(text: &str) -> Result<MySqlGtidSet, LiveError> {
    text.parse().map_err(|error| LiveError::User(format!("the server's GTIDs cannot be read: {error}")))
}

/// Where to begin without a checkpoint.
pub(super) fn begin(conn: &mut Conn, facts: &Facts, start: &Start) -> Result<Read, LiveError> {
    let at = |gtids, file: &str, pos| Read { gtids, file: file.into(), pos };
    Ok(match start {
        Start::Current => {
            let gtids = match (facts.is_mariadb, facts.has_gtids) {
                (true, _) => {
                    let sql =
                        format!("SELECT BINLOG_GTID_POS('{}', {}) AS pos", quoted(&facts.file), facts.pos);
                    let text = conn.query(&sql)?.value(0, "pos");
                    text.and_then(|text| text.parse().ok()).map_or(GtidState::None, GtidState::MariaDb)
                }
                (false, true) => GtidState::MySql(mysql_set(&facts.executed)?),
                (false, false) => GtidState::None,
            };
            at(gtids, &facts.file, facts.pos)
        }
        Start::Earliest => {
            let first = files(conn)?.into_iter().next();
            let (file, _) =
                first.ok_or_else(|| LiveError::User("the server lists no binlog files".into()))?;
            let gtids = match (facts.is_mariadb, facts.has_gtids) {
                (false, true) => GtidState::MySql(mysql_set(&facts.purged)?),
                _ => GtidState::None,
            };
            at(gtids, &file, 4)
        }
        Start::MySql(set) if facts.has_gtids && !facts.is_mariadb => at(GtidState::MySql(set.clone()), "", 4),
        Start::MariaDb(set) if facts.is_mariadb => at(GtidState::MariaDb(set.clone()), "", 4),
        Start::MySql(_) | Start::MariaDb(_) => {
            return Err(LiveError::User(
                "`start` is a set of GTIDs that this server does not have: MySQL needs gtid_mode=ON, and MariaDB's look \
                 like 0-1-42"
                    .into(),
            ));
        }
        Start::File(file, pos) => at(GtidState::None, file, *pos),
    })
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "''")
}

/// What a checkpoint says.
pub(super) fn resume(checkpoint: &Checkpoint, is_mariadb: bool) -> Result<Read, LiveError> {
    let wrong = |error: crate::source::mysql::binlog::gtid::BadGtid| {
        LiveError::User(format!("the checkpoint cannot be used with this server: {error}"))
    };
    let gtids = match (&checkpoint.gtids, is_mariadb) {
        (None, _) => GtidState::None,
        (Some(text), true) => GtidState::MariaDb(text.parse().map_err(wrong)?),
        (Some(text), false) => GtidState::MySql(text.parse().map_err(wrong)?),
    };
    Ok(Read { gtids, file: checkpoint.file.as_str().into(), pos: checkpoint.pos })
}

/// Decides how the binlog is asked for, after making sure that the server has what lies behind `read`, and that what lies
/// before is of its own history. `server` is whose position it is.
pub(super) fn dump(
    conn: &mut Conn,
    facts: &Facts,
    read: &Read,
    positions: Positions,
    server: &str,
    partial: Option<&str>,
) -> Result<Dump, LiveError> {
    let by_gtid = match positions {
        Positions::File => false,
        Positions::Gtid | Positions::Auto => facts.has_gtids && read.gtids != GtidState::None,
    };
    if positions == Positions::Gtid && !by_gtid && !facts.has_gtids {
        return Err(LiveError::User("`positions: gtid` needs gtid_mode=ON at the server".into()));
    }
    let is_other = !facts.is_mariadb && !server.is_empty() && server != facts.uuid;
    match &read.gtids {
        GtidState::MySql(ours) if by_gtid => {
            let (executed, purged) = (mysql_set(&facts.executed)?, mysql_set(&facts.purged)?);
            if !executed.contains_set(ours) {
                return Err(LiveError::Position(format!(
                    "the server ({}) lacks transactions that were read already: it is another topology's, it was restored \
                     or reset, or it is a replica that lags. Connect to a server that has them, or begin anew with `dts offsets reset`",
                    facts.uuid
                )));
            }
            if !ours.contains_set(&purged) {
                return Err(LiveError::Position(
                    "the server has purged binlogs that were not read yet (gtid_purged): begin anew with `dts offsets reset`, \
                     copy the tables for what was missed, and give the server a longer retention: \
                     SET PERSIST binlog_expire_logs_seconds = 604800"
                        .into(),
                ));
            }
            if let Some(partial) = partial.filter(|_| is_other)
                && !partial.parse::<MySqlGtid>().is_ok_and(|gtid| executed.contains(&gtid))
            {
                return Err(LiveError::Position(format!(
                    "rows of transaction {partial} were delivered, and this server does not have it: copies of the tables \
                     differ from it. Connect to the server that has it, or begin anew"
                )));
            }
            Ok(Dump::Gtid(ours.clone()))
        }
        GtidState::MariaDb(ours) if by_gtid => {
            let state: MariaDbGtidSet = facts.executed.parse().unwrap_or_default();
            if !state.contains_set(ours) {
                return Err(LiveError::Position(format!(
                    "the server's binlog ({}) does not reach our position ({ours}): it is another topology's, it was \
                     restored or reset, or it is a replica that lags",
                    facts.executed
                )));
            }
            conn.query(&format!("SET @slave_connect_state = '{ours}'"))?;
            conn.query("SET @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0")?;
            Ok(Dump::File { file: String::new(), pos: 4 })
        }
        _ => {
            if is_other {
                return Err(LiveError::Position(format!(
                    "the checkpoint is a file position of another server ({server}, this one is {}): positions in files mean \
                     nothing elsewhere. Connect to that server, or begin anew with `dts offsets reset`",
                    facts.uuid
                )));
            }
            let files = files(conn)?;
            let Some((_, size)) = files.iter().find(|(name, _)| **name == *read.file) else {
                let first = files.first().map_or("none", |(name, _)| name);
                return Err(LiveError::Position(format!(
                    "the server has purged {} (its oldest binlog is {first}): begin anew with `dts offsets reset`, \
                     copy the tables for what was missed, and give the server a longer retention (MySQL: SET PERSIST \
                     binlog_expire_logs_seconds = 604800; MariaDB: SET GLOBAL expire_logs_days = 7)",
                    read.file
                )));
            };
            if read.pos > *size {
                return Err(LiveError::Position(format!(
                    "our position {}:{} lies behind the end of that file ({size} bytes): the server was reset or restored",
                    read.file, read.pos
                )));
            }
            let pos = u32::try_from(read.pos).map_err(|_| {
                LiveError::User(format!(
                    "the position {}:{} cannot be asked for by file: it lies beyond 4 GiB. Use GTIDs",
                    read.file, read.pos
                ))
            })?;
            Ok(Dump::File { file: read.file.to_string(), pos })
        }
    }
}

/// Prepares the session of a replica.
pub(super) fn session(
    conn: &mut Conn,
    facts: &Facts,
    replica: Replica,
    heartbeat: Duration,
) -> Result<(), LiveError> {
    let ns = heartbeat.as_nanos();
    let uuid = replica.uuid();
    conn.query(&format!("SET @master_heartbeat_period = {ns}, @source_heartbeat_period = {ns}"))?;
    conn.query(
        "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
    )?;
    conn.query(&format!("SET @slave_uuid = '{uuid}', @replica_uuid = '{uuid}'"))?;
    if facts.is_mariadb {
        conn.query("SET @mariadb_slave_capability = 4")?;
    }
    // A sink that is away for long must not end the connection.
    conn.query("SET SESSION net_write_timeout = 600")?;
    Ok(())
}

/// The statements that make the wanted tables.
pub(super) fn schemas(conn: &mut Conn, filter: &Filter) -> Result<Vec<Entry>, LiveError> {
    conn.query("SET NAMES utf8mb4")?;
    let tables = conn.query(
        "SELECT table_schema AS db, table_name AS name FROM information_schema.tables \
         WHERE table_type IN ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED')",
    )?;
    let mut entries = Vec::new();
    for i in 0..tables.rows.len() {
        let (db, name) = (tables.text(i, "db"), tables.text(i, "name"));
        if !filter.wants(&db, &name) {
            continue;
        }
        let name_of = |text: &str| format!("`{}`", text.replace('`', "``"));
        match conn.query(&format!("SHOW CREATE TABLE {}.{}", name_of(&db), name_of(&name))) {
            Ok(rows) => {
                let sql = rows.text(0, "create table");
                let server_charset = Some("utf8mb4".to_owned());
                entries.push(Entry { sql, db, server_charset, ..Entry::default() });
            }
            // Dropped in between, or no right to see it.
            Err(ClientError::Server(error)) => {
                log::warn!("the schema of {db}.{name} cannot be read: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(entries)
}
