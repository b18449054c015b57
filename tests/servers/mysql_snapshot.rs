//! Snapshots of real servers: the same values as the stream's (P7), the same rows as the table's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::mysql::Mysql;
use super::mysql_live::{GTID, Live, MARIADB, MODES};
use super::random_rows::{self, Kind};
use super::require;
use crate::harness::{Dir, pause, until};

const NO_GTID: &[&str] = &["--log-bin=binlog", "--server-id=1", "--gtid-mode=OFF"];

/// Rows by table and id, as who applies the records one after the other has them.
fn applied(records: &[Value]) -> BTreeMap<(String, String), Value> {
    let mut rows = BTreeMap::new();
    for record in records.iter().filter(|record| record["kind"] == "row") {
        let table = record["table"].as_str().unwrap().to_owned();
        let key = |image: &Value| (table.clone(), image["id"].to_string());
        if record["op"] == "truncate" {
            rows.retain(|(of, _), _| *of != table);
        }
        if record["before"].is_object() {
            rows.remove(&key(&record["before"]));
        }
        if record["after"].is_object() {
            rows.insert(key(&record["after"]), record["after"].clone());
        }
    }
    rows
}

fn snapshot_values_are_those_of_the_stream(flavour: &'static str, options: &[&str], own: &[&[Kind]]) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("p7");
    let server = Mysql::start(&dir, flavour, options);
    server.sql(
        "create database t character set utf8mb4; use t; create table end(id bigint primary key, n int)",
    );
    let mut stream = Live::new(&dir, &server, "stream", "  include_tables: [\"t.*\"]\n");
    stream.node.start();
    let mut rng = fastrand::Rng::with_seed(6);
    let mut sql = format!("{MODES} use t;\n");
    for i in 0..40 {
        sql.push_str(&random_rows::case(&mut rng, own, &format!("r{i}")).sql);
    }
    // What is rarely: zeros, the ends of ranges, text that is none, generated and unseen columns.
    sql.push_str(
        "create table edge(id int primary key, d date, dt datetime(6), ts timestamp(6) null, ti time(6), y year,
           de decimal(65,30), e enum('a','b'), s set('a','b'), b binary(4), f float, do double,
           g int as (id * 2) stored, v int as (id * 3) virtual, u int invisible) character set latin1;
         insert into edge(id,d,dt,ts,ti,y,de,e,s,b,f,do,u) values
           (1,'0000-00-00','0000-00-00 00:00:00','0000-00-00 00:00:00','-838:59:59',0,'-99999999999999999999999999999999999.999999999999999999999999999999','','',x'00',-0.0,-0.0,1),
           (2,'9999-12-31','9999-12-31 23:59:59.999999','2038-01-19 03:14:07.999999','838:59:59',2155,0,'b','a,b',x'01',3.4e38,1.7976931348623157e308,2),
           (3,null,null,null,'-00:00:00.000001',1901,'0.000000000000000000000000000001',null,null,null,1.17549e-38,5e-324,null),
           (4,'2024-00-31','2024-02-00 01:02:03.000004','1970-01-01 00:00:01','00:00:00',null,'1','a','b',x'ffffffff',0.1,0.1,4);
         create table raw(id int primary key, u varchar(20) character set utf8mb4, b varbinary(20)) character set utf8mb4;
         insert into raw values (1, '\u{e4}', x'c3');",
    );
    server.sql(&sql);
    server.sql("use t; insert into end values (1, 1)");
    stream.reaches(1);
    stream.node.stop();
    let mut snapshot =
        Live::new(&dir, &server, "snapshot", "  include_tables: [\"t.*\"]\n  snapshot: only\n");
    snapshot.node.process.start();
    let status = snapshot.node.process.ended();
    assert!(status.success(), "{}", snapshot.node.process.log());
    let records = snapshot.records();
    assert!(records.iter().all(|r| r["kind"] != "row" || r["op"] == "snapshot"));
    let (streamed, read) = (applied(&stream.records()), applied(&records));
    for (key, row) in &streamed {
        let found = read
            .get(key)
            .unwrap_or_else(|| panic!("{flavour}: {key:?} is missing: {}", snapshot.node.process.log()));
        for (column, value) in row.as_object().unwrap() {
            assert_eq!(&found[column], value, "{flavour}: {key:?} {column}");
        }
        assert_eq!(found, row, "{flavour}: {key:?}");
    }
    assert_eq!(read.len(), streamed.len(), "{flavour}");
    assert!(read.len() > 300);
}

#[test]
fn snapshot_values_of_mysql_are_those_of_the_stream() {
    let options = [GTID, &["--binlog-row-metadata=FULL"]].concat();
    snapshot_values_are_those_of_the_stream("mysql97", &options, &[random_rows::MYSQL]);
}

#[test]
fn snapshot_values_of_mariadb_are_those_of_the_stream() {
    let own = [random_rows::MARIADB, random_rows::NEWER_MARIADB];
    snapshot_values_are_those_of_the_stream("mariadb118", MARIADB, &own);
}

/// Tables of every kind of key, each with more rows than a chunk; `id` is the number of a row.
const KEYS: &[(&str, &str, &str)] = &[
    ("k_big", "k bigint unsigned", "18446744073709551615 - n"),
    ("k_neg", "k int", "1500 - n"),
    ("k_dec", "k decimal(30,10)", "(n - 1000) / 7 * 10000"),
    ("k_dbl", "k double", "(n - 900) * 0.1"),
    ("k_flt", "k float", "(n - 900) * 0.1"),
    ("k_ci", "k varchar(30) character set utf8mb4", "concat(char(97 + n % 26), 'É', n)"),
    ("k_l1", "k varchar(30) character set latin1", "concat(_latin1 x'e9', n)"),
    ("k_u16", "k varchar(30) character set utf16", "concat('é', n)"),
    ("k_bin", "k varbinary(20)", "unhex(left(sha2(n, 256), 32))"),
    ("k_fix", "k binary(8)", "concat(x'00', n)"),
    ("k_date", "k datetime(6)", "date_add('2024-02-28 23:59:59.5', interval n * 1000001 microsecond)"),
    ("k_ts", "k timestamp(3)", "date_add('2024-03-31 00:59:59', interval n second)"),
    ("k_time", "k time(2)", "sec_to_time((n - 1000) * 7.25)"),
    ("k_bit", "k bit(40)", "n * 65537"),
    ("k_set", "k set('a','b','c','d','e','f','g','h','i','j','k','l','m')", "n"),
    ("k_two", "j enum('x','y','z'), k int", "n % 3 + 1, n"),
    ("k_three", "j varchar(9), i date, k smallint", "n % 7, date_add('2024-01-01', interval n % 11 day), n"),
];

fn every_key_is_paged(flavour: &'static str, options: &[&str]) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("keys");
    let server = Mysql::start(&dir, flavour, options);
    let mut sql = format!(
        "{MODES} create database t character set utf8mb4; use t; create table n(n int primary key);
         insert into n values (1); "
    );
    for _ in 0..12 {
        sql.push_str("insert into n select n + (select max(n) from n) from n; ");
    }
    for (name, columns, values) in KEYS {
        let key: Vec<_> =
            columns.split(", ").map(|c| c.split(' ').next().unwrap()).filter(|c| c.len() == 1).collect();
        let columns: Vec<_> =
            columns.replace("', '", "','").split(", ").map(|c| format!("{c} not null")).collect();
        sql.push_str(&format!(
            "create table {name}({}, id int, primary key ({})); insert ignore into {name} select {values}, n from n; ",
            columns.join(", "),
            key.join(","),
        ));
    }
    server.sql(&sql);
    let mut snapshot = Live::new(&dir, &server, "keys", "  include_tables: [\"t.k_*\"]\n  snapshot: only\n");
    snapshot.node.process.start();
    let status = snapshot.node.process.ended();
    assert!(status.success(), "{}", snapshot.node.process.log());
    let mut counts: BTreeMap<String, BTreeMap<i64, u32>> = BTreeMap::new();
    for row in snapshot.rows() {
        let ids = counts.entry(row["table"].as_str().unwrap().to_owned()).or_default();
        *ids.entry(row["after"]["id"].as_i64().unwrap()).or_default() += 1;
    }
    for (name, ..) in KEYS {
        let count: usize = server.sql(&format!("select count(*) from t.{name}"))[0].parse().unwrap();
        assert!(count > 1500, "{flavour} {name}: {count}");
        let ids = &counts[*name];
        assert_eq!(ids.len(), count, "{flavour} {name}");
        assert!(ids.values().all(|&n| n == 1), "{flavour} {name}: rows came twice");
        // The index is entered behind the last key, and nothing is sorted.
        let plan = server.sql(&format!(
            "use t; explain format=traditional select * from {name} force index (primary) order by {} limit 10",
            if *name == "k_two" { "j,k" } else if *name == "k_three" { "j,i,k" } else { "k" }
        ));
        assert!(!plan[0].contains("filesort"), "{flavour} {name}: {plan:?}");
    }
}

#[test]
fn every_key_of_mysql_is_paged() {
    every_key_is_paged("mysql97", GTID);
}

#[test]
fn every_key_of_mariadb_is_paged() {
    every_key_is_paged("mariadb118", MARIADB);
}

/// Rows that change all the time, while a snapshot is made, and `kills` times dts is killed.
fn a_snapshot_under_changes_is_the_table(flavour: &'static str, options: &[&str], kills: u32) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("changes");
    let server = Mysql::start(&dir, flavour, options);
    let mut sql = String::from(
        "create database t; use t; create table end(id bigint primary key);
         create table a(id int primary key, v bigint, filler varchar(200)); create table n(n int primary key);
         create table loose(id int, v int); insert into n values (1); ",
    );
    for _ in 0..16 {
        sql.push_str("insert into n select n + (select max(n) from n) from n; ");
    }
    sql.push_str("insert into a select n * 2, 0, repeat('x', 200) from n; insert into loose select n, 0 from n where n < 3000;");
    server.sql(&sql);
    let more =
        "  include_tables: [\"t.a\", \"t.end\", \"t.loose\"]\n  snapshot: initial\n  batch_bytes: 16KiB\n";
    let mut live = Live::new(&dir, &server, "changes", more);
    let keyless = !options.contains(&"--gtid-mode=OFF");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(11);
            for round in 0..60 {
                let mut sql = String::from("use t; ");
                for _ in 0..40 {
                    let id = rng.u32(1..131_072);
                    let other = rng.u32(1..131_072);
                    sql.push_str(&match rng.u8(0..5) {
                        0 => format!("insert ignore into a values ({id}, {round}, 'new'); "),
                        1 => format!("delete from a where id = {id}; "),
                        2 => format!("update ignore a set id = {other}, v = v + 1 where id = {id}; "),
                        3 => format!(
                            "begin; update a set v = v + 1 where id between {id} and {}; commit; ",
                            id + 20
                        ),
                        _ => format!("update loose set v = v + 1 where id = {}; ", id % 3000),
                    });
                }
                server.sql(&sql);
                pause(20);
            }
        });
        live.node.start();
        for _ in 0..kills {
            pause(700);
            live.node.kill();
            live.node.start();
        }
        writer.join().unwrap();
    });
    // Of any of its lives.
    let all = || std::fs::read_to_string(dir.join("changes.log")).unwrap_or_default();
    until("the end of the snapshot", || all().contains("the snapshot is complete").then_some(()));
    server.sql("use t; insert into end values (1)");
    live.reaches(1);
    live.node.stop();
    let log = all();
    let records = live.records();
    assert!(
        records.iter().any(|r| r["op"] == "snapshot") && records.iter().any(|r| r["op"] == "update"),
        "{log}"
    );
    let rows = applied(&records);
    for table in ["a", "loose"] {
        if table == "loose" && !keyless {
            assert!(log.contains("no snapshot of t.loose") && log.contains("GTID"), "{log}");
            continue;
        }
        let wanted: Vec<String> = server.sql(&format!("select id, v from t.{table} order by id"));
        let mut got: Vec<(i64, String)> = rows
            .iter()
            .filter(|((of, _), _)| of == table)
            .map(|(_, row)| (row["id"].as_i64().unwrap(), format!("{}\t{}", row["id"], row["v"])))
            .collect();
        got.sort();
        let got: Vec<String> = got.into_iter().map(|(_, row)| row).collect();
        let differing: Vec<_> = wanted.iter().zip(&got).filter(|(a, b)| a != b).take(3).collect();
        assert!(
            got == wanted,
            "{flavour} {table}: {} rows, {} in the table; {differing:?}\n{log}",
            got.len(),
            wanted.len()
        );
    }
}

#[test]
fn a_snapshot_of_mysql_under_changes_is_the_table() {
    a_snapshot_under_changes_is_the_table("mysql97", GTID, 0);
}

#[test]
fn a_snapshot_of_mysql_without_gtids_under_changes_is_the_table() {
    a_snapshot_under_changes_is_the_table("mysql97", NO_GTID, 0);
}

#[test]
fn a_snapshot_of_mariadb_under_changes_is_the_table() {
    a_snapshot_under_changes_is_the_table("mariadb118", MARIADB, 0);
}

#[test]
fn a_killed_snapshot_of_mysql_goes_on() {
    a_snapshot_under_changes_is_the_table("mysql97", GTID, 3);
}

#[test]
fn a_killed_snapshot_of_mariadb_goes_on() {
    a_snapshot_under_changes_is_the_table("mariadb118", MARIADB, 3);
}

#[test]
fn a_purged_binlog_is_read_anew_when_needed() {
    if !require("mysql97") {
        return;
    }
    let dir = Dir::new("anew");
    let server = Mysql::start(&dir, "mysql97", GTID);
    server
        .sql("create database t; use t; create table end(id bigint primary key); insert into end values (1)");
    let more = "  include_tables: [\"t.*\"]\n  snapshot: when_needed\n";
    let mut live = Live::new(&dir, &server, "anew", more);
    live.node.start();
    live.reaches(1);
    server.sql("use t; insert into end values (2)");
    live.reaches(2);
    live.node.stop();
    server.sql(
        "use t; insert into end values (3); flush binary logs; insert into end values (4); flush binary logs",
    );
    let last = server.sql("show binary logs").last().unwrap().split('\t').next().unwrap().to_owned();
    until("the purge", || {
        server.sql(&format!("purge binary logs to '{last}'"));
        (server.sql("show binary logs").len() == 1).then_some(())
    });
    live.node.start();
    live.reaches(3);
    live.reaches(4);
    live.node.stop();
    let ops: Vec<String> =
        live.rows().iter().map(|row| format!("{}{}", row["op"], row["after"]["id"])).collect();
    let wanted = ["snapshot1", "insert2", "snapshot1", "snapshot2", "snapshot3", "snapshot4"];
    assert_eq!(ops.iter().map(|op| op.replace('"', "")).collect::<Vec<_>>(), wanted);
}
