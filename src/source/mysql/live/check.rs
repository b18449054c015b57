//! What is wrong with a server, before anything is read of it; and the SQL that mends it.

use super::config::{Config, Start};
use super::error::LiveError;
use super::filter::Filter;
use super::server;
use crate::source::SourceError;
use crate::source::mysql::client::{ClientError, Conn, Wake};

/// Something that a user should mend.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// Whether the source cannot work, or would miss changes.
    is_fatal: bool,
    what: String,
}

/// Tries what a run would need.
pub(super) async fn probe(config: Config) -> Result<String, SourceError> {
    let (tx, rx) = async_channel::bounded(1);
    let (waker, wake) = Wake::new().map_err(|error| SourceError::Retry(error.to_string()))?;
    let spawned = std::thread::Builder::new().name("mysql".into()).spawn(move || {
        tx.send_blocking(check(&config, &wake)).ok();
    });
    spawned.map_err(|error| SourceError::Retry(error.to_string()))?;
    let found = rx.recv().await;
    drop(waker);
    match found {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) if error.is_retriable() => Err(SourceError::Retry(error.to_string())),
        Ok(Err(error)) => Err(SourceError::Fatal(error.to_string())),
        Err(_) => Err(SourceError::Retry("the check ended without a word".into())),
    }
}

fn check(config: &Config, wake: &Wake) -> Result<String, LiveError> {
    let filter = Filter::new(&config.include_tables, &config.exclude_tables).map_err(LiveError::User)?;
    let mut conn = Conn::open(&config.dsn, wake)?;
    let facts = server::facts(&mut conn)?;
    let mut findings = Vec::new();
    settings(&mut conn, facts.is_mariadb, &mut findings)?;
    grants(&mut conn, facts.is_mariadb, &mut findings)?;
    replicas(&mut conn, config.server_id, facts.is_mariadb, &mut findings);
    let tables = server::schemas(&mut conn, &filter)?;
    if tables.is_empty() {
        findings.push(Finding {
            is_fatal: false,
            what: "no table matches include_tables, or the user has no SELECT on them".into(),
        });
    }
    cascades(&mut conn, &filter, &mut findings);
    // Who may not see them is not told.
    if let Ok(rows) = conn.query("XA RECOVER")
        && !rows.rows.is_empty()
    {
        let what = format!(
            "{} XA transactions are prepared (XA RECOVER): rows of those that were prepared before `start` will not come",
            rows.rows.len()
        );
        findings.push(Finding { is_fatal: false, what });
    }
    if let Some(start) = Start::parse(&config.start) {
        server::begin(&mut conn, &facts, &start)?;
    }
    let list = |fatal| {
        let some = findings.iter().filter(move |finding| finding.is_fatal == fatal);
        some.map(|finding| finding.what.as_str()).collect::<Vec<_>>().join("; ")
    };
    let (errors, warnings) = (list(true), list(false));
    if !errors.is_empty() {
        return Err(LiveError::User(errors));
    }
    let gtids = if facts.has_gtids { "GTIDs on" } else { "GTIDs off" };
    let mut text = format!(
        "{} at {}, {gtids}, binlog at {}:{}, {} tables match",
        conn.version(),
        config.dsn.address,
        facts.file,
        facts.pos,
        tables.len()
    );
    if !warnings.is_empty() {
        text = format!("{text}; to look at: {warnings}");
    }
    Ok(text)
}

fn settings(conn: &mut Conn, is_mariadb: bool, findings: &mut Vec<Finding>) -> Result<(), ClientError> {
    let mut find = |is_fatal, what: String| findings.push(Finding { is_fatal, what });
    // MariaDB forgets at a restart what SET GLOBAL says; its file must say it too.
    let set = if is_mariadb { "SET GLOBAL" } else { "SET PERSIST" };
    if let Some(format) = server::setting(conn, "binlog_format")?.filter(|format| format != "ROW") {
        find(true, format!("binlog_format is {format}: {set} binlog_format = ROW"));
    }
    if let Some(image) =
        server::setting(conn, "binlog_row_image")?.filter(|image| !image.eq_ignore_ascii_case("FULL"))
    {
        find(
            false,
            format!("binlog_row_image is {image}, so rows lack columns: {set} binlog_row_image = FULL"),
        );
    }
    match server::setting(conn, "binlog_row_metadata")? {
        Some(metadata) if metadata.eq_ignore_ascii_case("FULL") => {}
        Some(metadata) => find(
            false,
            format!(
                "binlog_row_metadata is {metadata}, so names of columns are taken from statements: {set} binlog_row_metadata = FULL"
            ),
        ),
        None => find(
            false,
            "the server is too old for binlog_row_metadata: names of columns are taken from statements"
                .into(),
        ),
    }
    if let Some(options) =
        server::setting(conn, "binlog_row_value_options")?.filter(|options| options.contains("PARTIAL_JSON"))
    {
        find(
            false,
            format!(
                "binlog_row_value_options is {options}: documents come as differences where the image before lacks them: {set} binlog_row_value_options = ''"
            ),
        );
    }
    let seconds = server::kept_s(conn)?;
    if seconds > 0 && seconds < 86_400 {
        find(
            false,
            format!("binlogs are kept for {seconds} s only: {set} binlog_expire_logs_seconds = 604800"),
        );
    }
    let zone = conn.query("SELECT @@global.time_zone AS zone, @@global.system_time_zone AS own")?;
    if zone.text(0, "zone") != "SYSTEM" && zone.text(0, "own").is_empty() {
        find(false, "the server does not know its time zone".into());
    }
    if let Some(id) = server::setting(conn, "server_id")?.filter(|id| id == "0") {
        find(true, format!("the server's own server_id is {id}: {set} server_id = 1"));
    }
    Ok(())
}

fn grants(conn: &mut Conn, is_mariadb: bool, findings: &mut Vec<Finding>) -> Result<(), ClientError> {
    let rows = conn.query("SHOW GRANTS")?;
    let all: String = rows.first_column().map(|grant| grant.to_ascii_uppercase() + "\n").collect();
    let has =
        |words: &[&str]| all.contains("ALL PRIVILEGES ON *.*") || words.iter().any(|word| all.contains(word));
    let user = conn.query("SELECT CURRENT_USER() AS u")?.text(0, "u");
    let user = match user.split_once('@') {
        Some((name, host)) => format!("'{name}'@'{host}'"),
        None => user,
    };
    let mut need = |words: &[&str], privilege: &str| {
        if !has(words) {
            findings.push(Finding {
                is_fatal: true,
                what: format!("missing: GRANT {privilege} ON *.* TO {user}"),
            });
        }
    };
    need(&["REPLICATION SLAVE", "REPLICATION REPLICA"], "REPLICATION SLAVE");
    if is_mariadb {
        need(&["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"], "BINLOG MONITOR");
    } else {
        need(&["REPLICATION CLIENT", "SUPER"], "REPLICATION CLIENT");
    }
    if !has(&["SELECT"]) {
        findings.push(Finding {
            is_fatal: false,
            what: format!("missing for schemas: GRANT SELECT ON *.* TO {user}"),
        });
    }
    Ok(())
}

/// Whether somebody reads under our id.
fn replicas(conn: &mut Conn, server_id: u32, is_mariadb: bool, findings: &mut Vec<Finding>) {
    let sql = if is_mariadb { "SHOW SLAVE HOSTS" } else { "SHOW REPLICAS" };
    // Servers before 8.0.22 know the other word only; what cannot be seen is no finding.
    let Ok(rows) = conn.query(sql) else { return };
    for i in 0..rows.rows.len() {
        let id = rows.text(i, "server_id");
        if id == server_id.to_string() {
            let what = format!(
                "a replica reads under server_id {server_id} already (this dts, if it is running): else give one of the two \
                 another number"
            );
            findings.push(Finding { is_fatal: false, what });
        }
    }
    if let Ok(rows) = conn.query("SELECT @@global.server_id AS id")
        && rows.text(0, "id") == server_id.to_string()
    {
        let what = format!("server_id {server_id} is the server's own: choose another number");
        findings.push(Finding { is_fatal: true, what });
    }
}

/// Children that an engine changes without logging it (MySQL before 9.6, MariaDB).
fn cascades(conn: &mut Conn, filter: &Filter, findings: &mut Vec<Finding>) {
    let sql = "SELECT constraint_schema AS db, table_name AS child FROM information_schema.referential_constraints \
               WHERE delete_rule IN ('CASCADE', 'SET NULL') OR update_rule IN ('CASCADE', 'SET NULL')";
    let version: Vec<u32> = conn.version().split('.').take(2).filter_map(|n| n.parse().ok()).collect();
    if !conn.is_mariadb() && version.as_slice() >= [9, 6].as_slice() {
        return;
    }
    let Ok(rows) = conn.query(sql) else { return };
    let children = (0..rows.rows.len()).map(|i| (rows.text(i, "db"), rows.text(i, "child")));
    let mut wanted: Vec<_> = children
        .filter(|(db, child)| filter.wants(db, child))
        .map(|(db, child)| format!("{db}.{child}"))
        .collect();
    wanted.sort();
    wanted.dedup();
    if !wanted.is_empty() {
        let what = format!(
            "the server does not log what foreign keys with CASCADE or SET NULL change in {}: ALTER TABLE … DROP FOREIGN KEY, \
             and let the application change the rows",
            wanted.join(", ")
        );
        findings.push(Finding { is_fatal: false, what });
    }
}
