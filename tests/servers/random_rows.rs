//! Random tables and rows, executed on real servers; their binlog, dumped, must lead to what SELECT shows.
//!
//! Each run has a seed, which a failure names; `DTS_SEED` runs that one again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value};

use super::mysql::Mysql;
use super::require;
use crate::harness::Dir;

/// How a column's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A JSON number with the server's digits.
    Integer,
    /// The server's text.
    Plain,
    Utc,
    F32,
    F64,
    /// Text, shown by the server as hexadecimal UTF-8.
    Text,
    /// Bytes, likewise.
    Bytes,
    /// A document, compared as one.
    Json,
    /// SRID and WKB, likewise.
    Geometry,
}

/// A type, the form of its values, and a literal of it.
type Kind = (&'static str, Form, fn(&mut fastrand::Rng) -> String);

fn signed(rng: &mut fastrand::Rng, bits: u32) -> String {
    let edge = 1i128 << (bits - 1);
    match rng.u8(0..4) {
        0 => (-edge).to_string(),
        1 => (edge - 1).to_string(),
        _ => (i128::from(rng.i64(..)) >> (64 - bits)).to_string(),
    }
}

fn unsigned(rng: &mut fastrand::Rng, bits: u32) -> String {
    if rng.u8(0..4) == 0 {
        ((1u128 << bits) - 1).to_string()
    } else {
        (rng.u64(..) >> (64 - bits)).to_string()
    }
}

fn digits(rng: &mut fastrand::Rng, count: usize) -> String {
    (0..count).map(|_| rng.digit(10)).collect()
}

fn decimal(rng: &mut fastrand::Rng, whole: usize, scale: usize) -> String {
    let sign = if rng.bool() { "-" } else { "" };
    let whole = rng.usize(1..=whole);
    format!("{sign}{}.{}", digits(rng, whole), digits(rng, scale))
}

fn text(rng: &mut fastrand::Rng, alphabet: &str, most: usize) -> String {
    let chars: Vec<char> = alphabet.chars().collect();
    let length = if rng.u8(0..8) == 0 { most } else { rng.usize(0..most.min(40)) };
    // No blanks at the end: CHAR does not keep them.
    let inner: String = (0..length).map(|_| chars[rng.usize(0..chars.len())]).collect();
    format!("'{}'", inner.trim_end_matches(' ').replace('\\', "\\\\").replace('\'', "''"))
}

fn bytes(rng: &mut fastrand::Rng, most: usize) -> String {
    let length = rng.usize(0..=most);
    let hex: String =
        (0..length).map(|_| format!("{:02x}", if rng.u8(0..5) == 0 { 0 } else { rng.u8(..) })).collect();
    format!("x'{hex}'")
}

fn date(rng: &mut fastrand::Rng) -> String {
    format!("{:04}-{:02}-{:02}", rng.u32(1000..=9999), rng.u32(1..=12), rng.u32(1..=28))
}

fn clock(rng: &mut fastrand::Rng, fsp: usize) -> String {
    let point = if fsp > 0 { format!(".{}", digits(rng, fsp)) } else { String::new() };
    format!("{:02}:{:02}:{:02}{point}", rng.u32(0..24), rng.u32(0..60), rng.u32(0..60))
}

fn time(rng: &mut fastrand::Rng, fsp: usize) -> String {
    let hours = rng.u32(0..838);
    let sign = if rng.bool() { "-" } else { "" };
    format!("'{sign}{hours}{}'", &clock(rng, fsp)[2..])
}

fn timestamp(rng: &mut fastrand::Rng, fsp: usize) -> String {
    format!("'{:04}-{}-{:02} {}'", rng.u32(1971..2037), rng.u32(1..=12), rng.u32(1..=28), clock(rng, fsp))
}

fn document(rng: &mut fastrand::Rng, depth: u32) -> String {
    match rng.u8(0..if depth == 0 { 5 } else { 7 }) {
        0 => "null".to_owned(),
        1 => rng.bool().to_string(),
        2 => signed(rng, 64),
        3 => format!("{}.5", rng.i32(..)),
        4 => format!("\"{}\"", text(rng, "abc é日😀 ", 30).replace('\'', "")),
        5 => {
            let items: Vec<_> = (0..rng.usize(0..4)).map(|_| document(rng, depth - 1)).collect();
            format!("[{}]", items.join(", "))
        }
        _ => {
            let members: Vec<_> =
                (0..rng.usize(0..4)).map(|i| format!("\"k{i}\": {}", document(rng, depth - 1))).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

const WESTERN: &str = "abcXYZ019 'äöüßéñ\\%_";
const ANY: &str = "abc '\\\"éж日本語😀\t\u{7f}";

/// Of both servers.
const KINDS: &[Kind] = &[
    ("TINYINT", Form::Integer, |r| signed(r, 8)),
    ("TINYINT UNSIGNED", Form::Integer, |r| unsigned(r, 8)),
    ("SMALLINT", Form::Integer, |r| signed(r, 16)),
    ("SMALLINT UNSIGNED", Form::Integer, |r| unsigned(r, 16)),
    ("MEDIUMINT", Form::Integer, |r| signed(r, 24)),
    ("MEDIUMINT UNSIGNED", Form::Integer, |r| unsigned(r, 24)),
    ("INT", Form::Integer, |r| signed(r, 32)),
    ("INT UNSIGNED", Form::Integer, |r| unsigned(r, 32)),
    ("BIGINT", Form::Integer, |r| signed(r, 64)),
    ("BIGINT UNSIGNED", Form::Integer, |r| unsigned(r, 64)),
    ("YEAR", Form::Integer, |r| r.u32(1901..=2155).to_string()),
    ("BIT(1)", Form::Integer, |r| r.u8(0..2).to_string()),
    ("BIT(17)", Form::Integer, |r| unsigned(r, 17)),
    ("BIT(64)", Form::Integer, |r| unsigned(r, 64)),
    ("DECIMAL(1,0)", Form::Plain, |r| r.i32(-9..=9).to_string()),
    ("DECIMAL(10,2)", Form::Plain, |r| decimal(r, 8, 2)),
    ("DECIMAL(30,30)", Form::Plain, |r| format!("0.{}", digits(r, 30))),
    ("DECIMAL(65,30)", Form::Plain, |r| decimal(r, 35, 30)),
    ("FLOAT", Form::F32, |r| format!("{}", r.f32() * 1e6)),
    // No more digits than serde_json reads right.
    ("DOUBLE", Form::F64, |r| format!("{:.6}", (r.f64() - 0.5) * 1e6)),
    ("DATE", Form::Plain, |r| format!("'{}'", date(r))),
    ("TIME", Form::Plain, |r| time(r, 0)),
    ("TIME(3)", Form::Plain, |r| time(r, 3)),
    ("TIME(6)", Form::Plain, |r| time(r, 6)),
    ("DATETIME", Form::Plain, |r| format!("'{} {}'", date(r), clock(r, 0))),
    ("DATETIME(1)", Form::Plain, |r| format!("'{} {}'", date(r), clock(r, 1))),
    ("DATETIME(6)", Form::Plain, |r| format!("'{} {}'", date(r), clock(r, 6))),
    ("TIMESTAMP", Form::Utc, |r| timestamp(r, 0)),
    ("TIMESTAMP(4)", Form::Utc, |r| timestamp(r, 4)),
    ("CHAR(20) CHARACTER SET latin1", Form::Text, |r| text(r, WESTERN, 20)),
    ("CHAR(255) CHARACTER SET utf8mb4", Form::Text, |r| text(r, ANY, 255)),
    ("VARCHAR(60) CHARACTER SET cp1251", Form::Text, |r| text(r, "abc приветЖ№", 60)),
    ("VARCHAR(300) CHARACTER SET utf8mb3", Form::Text, |r| text(r, "abc éж日本語", 300)),
    ("VARCHAR(40) CHARACTER SET sjis", Form::Text, |r| text(r, "ab ｱ日本表ソ", 40)),
    ("VARCHAR(40) CHARACTER SET gbk", Form::Text, |r| text(r, "ab 中文丂", 40)),
    ("VARCHAR(40) CHARACTER SET ucs2", Form::Text, |r| text(r, "ab é日本", 40)),
    ("VARCHAR(40) CHARACTER SET utf16", Form::Text, |r| text(r, "ab é日😀", 40)),
    ("TINYTEXT CHARACTER SET koi8r", Form::Text, |r| text(r, "abc привет", 200)),
    ("TEXT CHARACTER SET utf8mb4", Form::Text, |r| text(r, ANY, 3000)),
    ("MEDIUMTEXT CHARACTER SET big5", Form::Text, |r| text(r, "ab 中文", 500)),
    ("BINARY(16)", Form::Bytes, |r| bytes(r, 16)),
    ("BINARY(7)", Form::Bytes, |r| bytes(r, 7)),
    ("VARBINARY(300)", Form::Bytes, |r| bytes(r, 300)),
    ("BLOB", Form::Bytes, |r| bytes(r, 2000)),
    ("LONGBLOB", Form::Bytes, |r| bytes(r, 500)),
    ("ENUM('a','it''s','日本','x,y')", Form::Text, |r| r.u8(1..=4).to_string()),
    ("SET('a','b','cä','d') CHARACTER SET latin1", Form::Text, |r| r.u8(0..16).to_string()),
    ("GEOMETRY", Form::Geometry, |r| format!("ST_GeomFromText('POINT({} {})')", r.i16(..), r.i16(..))),
];

const MYSQL: &[Kind] = &[
    ("JSON", Form::Json, |r| format!("'{}'", document(r, 3).replace('\\', "\\\\"))),
    ("VARCHAR(40) CHARACTER SET gb18030", Form::Text, |r| text(r, "ab 中文😀é", 40)),
];

const MARIADB: &[Kind] = &[
    ("UUID", Form::Plain, |r| {
        let (version, variant) = (r.choice([1, 4, 7]).unwrap_or(4), r.u16(0x8000..=0xbfff));
        let (low, mid, high, node) = (r.u32(..), r.u16(..), r.u16(..) >> 4, r.u64(..) >> 16);
        format!("'{low:08x}-{mid:04x}-{version}{high:03x}-{variant:04x}-{node:012x}'")
    }),
    ("INET6", Form::Plain, |r| format!("'2001:db8:{:x}::{:x}'", r.u16(1..), r.u16(1..))),
    ("INET4", Form::Plain, |r| format!("'{}.{}.{}.0'", r.u8(..), r.u8(..), r.u8(..))),
    ("VARCHAR(300) COMPRESSED CHARACTER SET latin1", Form::Text, |r| text(r, WESTERN, 300)),
    ("BLOB COMPRESSED", Form::Bytes, |r| bytes(r, 700)),
];

struct Case {
    columns: Vec<Kind>,
    sql: String,
}

fn literal(rng: &mut fastrand::Rng, kind: &Kind) -> String {
    if rng.u8(0..6) == 0 { "NULL".to_owned() } else { (kind.2)(rng) }
}

fn case(rng: &mut fastrand::Rng, own: &[Kind], table: &str) -> Case {
    let all: Vec<Kind> = KINDS.iter().chain(own).copied().collect();
    let columns: Vec<Kind> = (0..rng.usize(2..14)).map(|_| all[rng.usize(0..all.len())]).collect();
    let definitions: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(i, (ty, ..))| {
            // TIMESTAMP would not take NULL otherwise.
            format!("c{i} {ty} NULL")
        })
        .collect();
    let mut sql = format!(
        "CREATE TABLE {table} (id INT PRIMARY KEY, {}) CHARACTER SET utf8mb4;\n",
        definitions.join(", ")
    );
    let rows = rng.u32(5..40);
    for id in 0..rows {
        let values: Vec<_> = columns.iter().map(|kind| literal(rng, kind)).collect();
        sql.push_str(&format!("INSERT INTO {table} VALUES ({id}, {});\n", values.join(", ")));
    }
    for _ in 0..rows {
        let column = rng.usize(0..columns.len());
        let value = literal(rng, &columns[column]);
        let id = rng.u32(0..rows);
        sql.push_str(&match rng.u8(0..5) {
            0 => format!("DELETE FROM {table} WHERE id = {id};\n"),
            1 if columns[column].1 == Form::Json => {
                format!("UPDATE {table} SET c{column} = JSON_SET(c{column}, '$.k0', {id}, '$[1]', 'x') WHERE id = {id};\n")
            }
            2 => format!("UPDATE {table} SET id = id + 1000, c{column} = {value} WHERE id = {id};\n"),
            _ => format!("UPDATE {table} SET c{column} = {value} WHERE id = {id};\n"),
        });
    }
    Case { columns, sql }
}

/// What SELECT shows, in a form to compare.
fn selected(server: &Mysql, table: &str, columns: &[Kind]) -> BTreeMap<u64, Vec<String>> {
    let shown: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(i, (_, form, _))| match form {
            Form::Integer => format!("c{i} + 0"),
            Form::Plain | Form::Utc => format!("c{i}"),
            Form::F32 | Form::F64 => format!("c{i} + 0e0"),
            Form::Text => format!("HEX(CONVERT(c{i} USING utf8mb4))"),
            Form::Json => format!("HEX(CAST(c{i} AS CHAR CHARACTER SET utf8mb4))"),
            Form::Bytes => format!("HEX(c{i})"),
            Form::Geometry => format!("HEX(ST_AsBinary(c{i}))"),
        })
        .collect();
    let lines = server.sql(&format!(
        "SET time_zone = '+00:00'; SELECT id, {} FROM fuzz.{table} ORDER BY id;",
        shown.join(", ")
    ));
    lines
        .iter()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            (fields.next().unwrap().parse().unwrap(), fields.collect())
        })
        .collect()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    digits
        .chunks(4)
        .flat_map(|four| {
            let n = four.iter().fold(0u32, |n, d| n << 6 | u32::from(*d)) << (6 * (4 - four.len()));
            n.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

fn same(form: Form, shown: &str, ours: &Value) -> bool {
    if shown == "NULL" {
        return ours.is_null();
    }
    match (form, ours) {
        (Form::Integer, Value::Number(n)) => n.to_string() == shown,
        (Form::F64, Value::Number(n)) => n.as_f64() == shown.parse().ok(),
        (Form::F32, Value::Number(n)) => n.as_f64().map(|n| n as f32) == shown.parse().ok(),
        (Form::Plain, Value::String(s)) => s == shown,
        (Form::Utc, Value::String(s)) => s.trim_end_matches('Z').replace('T', " ") == shown,
        (Form::Text, Value::String(s)) => hex(s) == shown,
        (Form::Bytes, Value::String(s)) => hex(unbase64(s)) == shown,
        (Form::Geometry, Value::Object(o)) => {
            o["srid"] == 0 && hex(unbase64(o["wkb"].as_str().unwrap())) == shown
        }
        (Form::Json, Value::String(s)) => {
            hex(s) == shown || {
                let theirs = serde_json::from_slice::<Value>(&unhex(shown)).unwrap();
                serde_json::from_str::<Value>(s).ok() == Some(theirs)
            }
        }
        _ => false,
    }
}

/// Rows after all records, held against the before images on the way.
fn replayed(files: &[PathBuf]) -> BTreeMap<String, BTreeMap<u64, Map<String, Value>>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dts"));
    let output = command
        .args(["binlog", "dump", "--format", "json", "--table", "fuzz.*"])
        .args(files)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tables = BTreeMap::<String, BTreeMap<u64, Map<String, Value>>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["kind"] != "row" {
            continue;
        }
        assert!(record.get("unresolved").is_none(), "{line}");
        let rows = tables.entry(record["table"].as_str().unwrap().to_owned()).or_default();
        let mut row = match record["op"].as_str().unwrap() {
            "insert" => Map::new(),
            _ => rows
                .remove(&record["key"]["id"].as_u64().unwrap())
                .unwrap_or_else(|| panic!("no such row: {line}")),
        };
        for (column, value) in record["before"].as_object().into_iter().flatten() {
            assert_eq!(row.get(column), Some(value), "{column} of before: {line}");
        }
        if let Some(after) = record["after"].as_object() {
            row.extend(after.clone());
            rows.insert(row["id"].as_u64().unwrap(), row);
        }
    }
    tables
}

fn rows_are_those_of(flavour: &'static str, own: &[Kind], settings: &[&str]) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("fuzz");
    let log = dir.join("log");
    std::fs::create_dir_all(&log).unwrap();
    let server = Mysql::start(
        &dir,
        flavour,
        &["--server-id=7", &format!("--log-bin={}", log.join("bin").display()), "--binlog-format=ROW"],
    );
    let seeds = match std::env::var("DTS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 1..9u64,
    };
    for (i, setting) in settings.iter().enumerate() {
        // A file of its own: RESET is not called the same everywhere.
        let before = server.sql("SHOW BINARY LOGS;").len();
        let mut cases = Vec::new();
        let mut sql = format!(
            "{setting};\nFLUSH BINARY LOGS;\nDROP DATABASE IF EXISTS fuzz; CREATE DATABASE fuzz; USE fuzz;\nSET time_zone = '+00:00';\n"
        );
        for seed in seeds.clone() {
            let mut rng = fastrand::Rng::with_seed(seed * 1000 + i as u64);
            let table = format!("t{seed}");
            let case = case(&mut rng, own, &table);
            sql.push_str(&case.sql);
            cases.push((seed, table, case));
        }
        sql.push_str("FLUSH BINARY LOGS;\n");
        server.sql(&sql);
        let after = server.sql("SHOW BINARY LOGS;");
        let files: Vec<_> = after[before..after.len() - 1]
            .iter()
            .map(|line| log.join(line.split('\t').next().unwrap()))
            .collect();
        let tables = replayed(&files);
        for (seed, table, case) in cases {
            let place = format!("{flavour}, {setting}, DTS_SEED={seed}");
            let shown = selected(&server, &table, &case.columns);
            let empty = BTreeMap::new();
            let ours = tables.get(&table).unwrap_or(&empty);
            assert!(shown.keys().eq(ours.keys()), "{place}: {:?} and {:?}", shown.keys(), ours.keys());
            for (id, fields) in &shown {
                for (n, (field, (ty, form, _))) in fields.iter().zip(&case.columns).enumerate() {
                    let value = ours[id].get(&format!("c{n}")).unwrap_or(&Value::Bool(false));
                    assert!(
                        same(*form, field, value),
                        "{place}: row {id}, c{n} {ty}: server {field}, we {value}"
                    );
                }
            }
        }
    }
}

#[test]
fn random_rows_of_mysql_are_those_of_select() {
    let image = "SET SESSION binlog_row_image";
    rows_are_those_of(
        "mysql97",
        MYSQL,
        &[
            &format!("{image} = FULL; SET GLOBAL binlog_row_metadata = MINIMAL"),
            &format!("{image} = MINIMAL; SET GLOBAL binlog_row_metadata = FULL"),
            &format!(
                "{image} = NOBLOB; SET GLOBAL binlog_row_metadata = FULL; SET GLOBAL binlog_checksum = NONE"
            ),
            &format!(
                "{image} = FULL; SET SESSION binlog_transaction_compression = ON; SET GLOBAL binlog_checksum = CRC32"
            ),
            &format!("{image} = FULL; SET SESSION binlog_row_value_options = PARTIAL_JSON"),
        ],
    );
}

const MARIADB_SETTINGS: [&str; 4] = [
    "SET SESSION binlog_row_image = FULL; SET GLOBAL binlog_row_metadata = NO_LOG",
    "SET SESSION binlog_row_image = MINIMAL; SET GLOBAL binlog_row_metadata = MINIMAL",
    "SET SESSION binlog_row_image = NOBLOB; SET GLOBAL binlog_row_metadata = FULL; SET GLOBAL binlog_checksum = NONE",
    "SET SESSION binlog_row_image = FULL; SET GLOBAL log_bin_compress = ON; SET GLOBAL log_bin_compress_min_len = 10",
];

#[test]
fn random_rows_of_mariadb_are_those_of_select() {
    rows_are_those_of("mariadb118", MARIADB, &MARIADB_SETTINGS);
}

#[test]
fn random_rows_of_an_older_mariadb_are_those_of_select() {
    rows_are_those_of("mariadb1011", MARIADB, &MARIADB_SETTINGS);
}
