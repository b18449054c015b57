//! Records against docs/formats.md, where no recording has the case: recordings with events changed.

use super::craft::{self, Event, MARIADB_GTID, QUERY, TABLE_MAP, XID};
use super::{dts, dump, of_kind, recordings};
use crate::harness::Dir;
use serde_json::Value;
use std::path::Path;

/// Those of MySQL 9.7 and MariaDB 11.8.
fn newer(dir: &Dir) -> std::path::PathBuf {
    super::unpack("binlogs-servers", dir)
}

fn written(dir: &Dir, name: &str, events: &[Event]) -> Vec<Value> {
    dump(&[], &[&dir.write(name, craft::file(events))])
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["kind"].as_str().unwrap()).collect()
}

/// MariaDB 11.4 and later leave `end_log_pos` open in transactions.
#[test]
fn positions_that_the_server_left_open_are_counted() {
    let dir = Dir::new("binlog");
    let path = recordings(&dir).join("txn.000001");
    let mut events = craft::events(&path);
    events.iter_mut().skip(1).for_each(|event| event.set_position(0));
    let same = dir.join("open");
    std::fs::create_dir(&same).unwrap();
    let file = same.join("txn.000001");
    std::fs::write(&file, craft::file(&events)).unwrap();
    assert_eq!(dump(&[], &[&file]), dump(&[], &[&path]));
    let verify = dts(&["verify"], &[&file]);
    let text = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(text.contains("sound") && !text.contains("differ"), "{text}");
}

/// What a GTID without BEGIN stands before is a group too: CREATE … SELECT.
#[test]
fn a_standalone_group_may_hold_rows() {
    let dir = Dir::new("binlog");
    let path = recordings(&dir).join("gtid_domains.000001");
    let whole = dump(&[], &[&path]);
    let mut events = craft::events(&path);
    let rows = events.iter().position(|event| event.ty() == TABLE_MAP).unwrap();
    let gtid = events[..rows].iter().rposition(|event| event.ty() == MARIADB_GTID).unwrap();
    // FL_STANDALONE, and no end.
    events[gtid].body()[12] |= 1;
    let end = rows + events[rows..].iter().position(|event| event.ty() == XID).unwrap();
    events.remove(end);
    let records = written(&dir, "gtid_domains.000001", &events);
    assert_eq!(kinds(&records), kinds(&whole));
    let without = |record: &Value| {
        let mut record = record.clone();
        record.as_object_mut().unwrap().remove("pos");
        record
    };
    // `commit` stands where the last of its rows does.
    for (record, expected) in records.iter().zip(&whole) {
        assert_eq!(without(record), without(expected));
        assert_eq!(record["pos"]["gtid"], expected["pos"]["gtid"]);
    }
    let row = records.iter().position(|record| record["kind"] == "row").unwrap();
    assert_eq!(records[row + 1]["kind"], "commit");
    assert_eq!(records[row + 1]["pos"]["pos"], records[row]["pos"]["pos"]);
}

/// A log without GTIDs: statements that stand alone, and transactions from BEGIN to XID or COMMIT.
#[test]
fn ids_without_gtids_name_where_the_transaction_begins() {
    let dir = Dir::new("binlog");
    let path = recordings(&dir).join("gtid_domains.000001");
    let mut events = Vec::new();
    for mut event in craft::events(&path) {
        if event.ty() != MARIADB_GTID {
            events.push(event);
        } else if event.body()[12] & 1 == 0 {
            events.push(Event::query(&event, "BEGIN"));
        }
    }
    let begins: Vec<u64> = {
        let mut at = 4;
        let mut begins = Vec::new();
        for event in &events {
            if event.ty() == QUERY && event.0.ends_with(b"BEGIN") {
                begins.push(at);
            }
            at += event.0.len() as u64 + 4;
        }
        begins
    };
    let records = written(&dir, "plain.000001", &events);
    let rows = of_kind(&records, "row");
    assert!(rows.len() >= 3 && begins.len() >= 3, "{records:?}");
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = begins.iter().map(|begin| format!("plain.000001:{begin}#0")).collect();
    assert_eq!(ids, expected);
    assert!(records.iter().all(|record| record["pos"]["gtid"].is_null()));
    assert_eq!(of_kind(&records, "begin").len(), of_kind(&records, "commit").len());
}

/// The events of one transaction of MySQL, between its GTID and its end.
fn mysql_transaction(dir: &Dir, begin: &str, end: impl Fn(&Event) -> Vec<Event>) -> Vec<Value> {
    let mut events = Vec::new();
    let mut is_open = false;
    for event in craft::events(&newer(dir).join("mysql97-tagged.binlog")) {
        match event.ty() {
            QUERY if event.0.ends_with(b"BEGIN") => {
                is_open = true;
                events.push(Event::query(&event, begin));
            }
            XID if is_open => {
                events.extend(end(&event));
                break;
            }
            _ => events.push(event),
        }
    }
    let records = written(dir, "made.000001", &events);
    records.into_iter().filter(|record| record["kind"] != "ddl").collect()
}

/// XA_PREPARE: whether it is one phase, format, lengths, gtrid, bqual.
fn xa_prepare(like: &Event, one_phase: bool) -> Event {
    let body = [&[u8::from(one_phase)][..], &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], b"a"].concat();
    Event::like(like, 38, &body)
}

const XA_START: &str = "XA START X'61',X'',1";

#[test]
fn a_prepared_transaction_of_mysql_has_rows_and_no_commit() {
    let dir = Dir::new("binlog");
    let records = mysql_transaction(&dir, XA_START, |end| {
        vec![Event::query(end, "XA END X'61',X'',1"), xa_prepare(end, false)]
    });
    assert_eq!(kinds(&records), ["begin", "row"]);
    assert_eq!(records[1]["xa"], "X'61',X'',1");
    for kind in ["COMMIT", "ROLLBACK"] {
        let records = mysql_transaction(&dir, XA_START, |end| {
            let last = Event::query(end, &format!("XA {kind} X'61',X'',1"));
            vec![Event::query(end, "XA END X'61',X'',1"), xa_prepare(end, false), last]
        });
        assert_eq!(kinds(&records), ["begin", "row", &format!("xa_{}", kind.to_ascii_lowercase())]);
        assert_eq!(records[1]["xa"], records[2]["xa"]);
    }
}

#[test]
fn an_xa_transaction_of_one_phase_is_committed_at_once() {
    let dir = Dir::new("binlog");
    let records = mysql_transaction(&dir, XA_START, |end| {
        vec![Event::query(end, "XA END X'61',X'',1"), xa_prepare(end, true)]
    });
    assert_eq!(kinds(&records), ["begin", "row", "xa_commit", "commit"]);
    assert_eq!(records[1]["xa"], records[2]["xa"]);
    assert_eq!(records[3]["rows"].as_object().unwrap().len(), 1);
}

#[test]
fn a_transaction_that_was_rolled_back_says_so_at_its_end() {
    let dir = Dir::new("binlog");
    let records = mysql_transaction(&dir, "BEGIN", |end| vec![Event::query(end, "ROLLBACK")]);
    assert_eq!(kinds(&records), ["begin", "row", "commit"]);
    assert_eq!(records[2]["rolled_back"], true);
    let records = mysql_transaction(&dir, "BEGIN", |end| vec![Event::query(end, "COMMIT")]);
    assert_eq!(kinds(&records), ["begin", "row", "commit"]);
    assert!(records[2].get("rolled_back").is_none());
}

/// Fields of each kind: those of docs/formats.md, and no other.
#[test]
fn records_have_the_fields_of_the_format_and_no_other() {
    let dir = Dir::new("binlog");
    let folder = recordings(&dir);
    let newer = newer(&dir);
    let all = ["kind", "source", "ts_ms", "commit_ts_us", "pos", "hlc"];
    let own: [(&str, &[&str]); 6] = [
        (
            "row",
            &[
                "op",
                "id",
                "db",
                "table",
                "before",
                "after",
                "key",
                "new_key",
                "partial",
                "unresolved",
                "xa",
                "schema",
            ],
        ),
        ("ddl", &["default_db", "tables", "sql"]),
        ("begin", &[]),
        ("commit", &["rows", "rolled_back"]),
        ("xa_commit", &["xa"]),
        ("xa_rollback", &["xa"]),
    ];
    let must: [(&str, &[&str]); 6] = [
        ("row", &["op", "id", "db", "table", "before", "after", "key", "schema"]),
        ("ddl", &["default_db", "tables", "sql"]),
        ("begin", &[]),
        ("commit", &["rows"]),
        ("xa_commit", &["xa"]),
        ("xa_rollback", &["xa"]),
    ];
    let mut seen = std::collections::BTreeSet::new();
    let files = ["txn.000001", "xa.000001", "ddl_mix.000001", "types_image_minimal.000001"]
        .map(|name| folder.join(name));
    let more = [
        "mysql97-full.binlog",
        "mysql97-partial-json-minimal.binlog",
        "mysql97-compressed.binlog",
        "mariadb118-full.binlog",
    ]
    .map(|name| newer.join(name));
    for file in files.iter().chain(&more) {
        for record in dump(&[], &[file]) {
            let kind = record["kind"].as_str().unwrap();
            let fields = record.as_object().unwrap();
            let allowed = own.iter().find(|(k, _)| *k == kind).unwrap_or_else(|| panic!("kind {kind}")).1;
            for field in fields.keys() {
                assert!(
                    all.contains(&field.as_str()) || allowed.contains(&field.as_str()),
                    "{field}: {record}"
                );
            }
            let must = must.iter().find(|(k, _)| *k == kind).unwrap().1;
            for field in ["source", "ts_ms", "pos", "hlc"].iter().chain(must) {
                assert!(fields.contains_key(*field), "no {field}: {record}");
            }
            assert_eq!(record["source"], "dump");
            let pos = record["pos"].as_object().unwrap();
            assert_eq!(pos.contains_key("row"), kind == "row", "{record}");
            assert!(["file", "pos", "gtid"].iter().all(|field| pos.contains_key(*field)), "{record}");
            let hlc = record["hlc"].as_str().unwrap();
            assert!(hlc.starts_with(&format!("{}.", record["ts_ms"])), "{record}");
            if kind == "row" {
                let before = record["op"] != "insert";
                let after = record["op"] != "delete";
                assert_eq!(
                    (record["before"].is_object(), record["after"].is_object()),
                    (before, after),
                    "{record}"
                );
                let id = record["id"].as_str().unwrap();
                assert!(id.ends_with(&format!("#{}", pos["row"])), "{record}");
            }
            seen.insert(kind.to_owned());
        }
    }
    assert_eq!(seen.len(), own.len(), "{seen:?}");
}

/// A key that an update changed: the old one, and the new one beside it.
#[test]
fn a_changed_key_has_the_old_and_the_new_one() {
    let dir = Dir::new("binlog");
    let path: &Path = &newer(&dir).join("mysql97-full.binlog");
    let records = dump(&[], &[path]);
    for row in of_kind(&records, "row") {
        let (Some(key), Some(before)) = (row["key"].as_object(), row["before"].as_object()) else { continue };
        for (column, value) in key {
            assert_eq!(before.get(column), Some(value), "{row}");
        }
        if row["op"] == "update" {
            let after = row["after"].as_object().unwrap();
            let changed = key.iter().any(|(column, value)| after.get(column) != Some(value));
            assert_eq!(row.get("new_key").is_some(), changed, "{row}");
        }
    }
}
