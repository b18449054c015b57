//! Random tables and rows, executed on real servers; their binlog, dumped, must lead to what SELECT shows.
//!
//! Each run has a seed, which a failure names; `DTS_SEED` runs that one again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::mysql::Mysql;
use super::require;
use crate::harness::Dir;

/// How a column's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
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
    /// A document: the server's text.
    Json,
    /// SRID and WKB, likewise.
    Geometry,
    /// Numbers of 32 bits, likewise.
    Vector,
}

/// A type, the form of its values, and a literal of it.
pub(super) type Kind = (&'static str, Form, fn(&mut fastrand::Rng) -> String);

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

/// Zero dates and partly zero ones too.
fn date(rng: &mut fastrand::Rng) -> String {
    if rng.u8(0..12) == 0 {
        return (*rng.choice(&["0000-00-00", "2024-00-00", "0000-01-01", "1999-12-00"]).unwrap()).to_owned();
    }
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
    if rng.u8(0..12) == 0 {
        return "'0000-00-00 00:00:00'".to_owned();
    }
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

/// A document with members that text alone cannot have: decimals, dates, times, bytes.
fn typed_document(rng: &mut fastrand::Rng) -> String {
    let member = |rng: &mut fastrand::Rng| match rng.u8(0..9) {
        0 => format!("CAST('{}' AS DECIMAL(65,30))", decimal(rng, 35, 30)),
        1 => format!("CAST('{}' AS DECIMAL(10,2))", decimal(rng, 8, 2)),
        2 => format!("CAST('{}' AS DATE)", date(rng)),
        3 => format!("CAST({} AS DATETIME(6))", timestamp(rng, 6)),
        4 => format!("CAST({} AS TIME(6))", time(rng, 6)),
        5 => format!("CAST({} AS UNSIGNED)", unsigned(rng, 64)),
        6 => bytes(rng, 130),
        7 => format!("b'{}'", (0..rng.usize(1..60)).map(|_| rng.digit(2)).collect::<String>()),
        _ => format!("CAST('{}' AS JSON)", document(rng, 2).replace('\\', "\\\\")),
    };
    let members: Vec<_> = (0..rng.usize(1..5)).map(|i| format!("'m{i}', {}", member(rng))).collect();
    format!("JSON_OBJECT({})", members.join(", "))
}

fn geometry(rng: &mut fastrand::Rng) -> String {
    let mut point = || format!("{} {}", rng.i8(-89..89), rng.i8(-89..89));
    let (a, b, c) = (point(), point(), point());
    let text = match rng.u8(0..6) {
        0 => format!("POINT({a})"),
        1 => format!("LINESTRING({a}, {b}, {c})"),
        2 => format!("POLYGON((0 0, 80 1, {} 40, 0 0))", rng.u8(1..80)),
        3 => format!("MULTIPOINT({a}, {b})"),
        4 => format!("MULTILINESTRING(({a}, {b}), ({c}, {a}))"),
        _ => format!("GEOMETRYCOLLECTION(POINT({a}), LINESTRING({b}, {c}))"),
    };
    format!("ST_GeomFromText('{text}', {})", rng.choice([0, 4326]).unwrap_or(0))
}

fn vector(rng: &mut fastrand::Rng, most: usize, least: usize) -> String {
    let number = |rng: &mut fastrand::Rng| match rng.u8(0..5) {
        0 => "0".to_owned(),
        // No subnormal ones, which MySQL refuses.
        1 => format!("{:e}", f32::from_bits(rng.u32(0x80_0000..0x7f80_0000))),
        _ => format!("{}", (rng.f32() - 0.5) * 1e3),
    };
    let numbers: Vec<_> = (0..rng.usize(least..=most)).map(|_| number(rng)).collect();
    format!("'[{}]'", numbers.join(","))
}

/// `ENUM` or `SET` with so many labels.
fn labelled(what: &str, labels: usize) -> &'static str {
    let labels: Vec<_> = (0..labels).map(|i| format!("'l{i}'")).collect();
    Box::leak(format!("{what}({})", labels.join(",")).into_boxed_str())
}

/// Types whose definitions are too long to stand here.
fn long_kinds() -> [Kind; 2] {
    static NAMES: LazyLock<[&str; 2]> = LazyLock::new(|| [labelled("ENUM", 700), labelled("SET", 64)]);
    [
        (NAMES[0], Form::Text, |r| r.u16(1..=700).to_string()),
        (NAMES[1], Form::Text, |r| if r.u8(0..4) == 0 { u64::MAX } else { r.u64(..) }.to_string()),
    ]
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
    ("TINYBLOB", Form::Bytes, |r| bytes(r, 200)),
    ("MEDIUMBLOB", Form::Bytes, |r| bytes(r, 900)),
    ("GEOMETRY", Form::Geometry, geometry),
    ("POINT", Form::Geometry, |r| format!("ST_GeomFromText('POINT({} {})')", r.i16(..), r.i16(..))),
];

pub(super) const MYSQL: &[Kind] = &[
    ("JSON", Form::Json, |r| format!("'{}'", document(r, 3).replace('\\', "\\\\"))),
    ("JSON", Form::Json, typed_document),
    ("VARCHAR(40) CHARACTER SET gb18030", Form::Text, |r| text(r, "ab 中文😀é", 40)),
    ("VECTOR(3)", Form::Vector, |r| format!("STRING_TO_VECTOR({})", vector(r, 3, 1))),
    ("VECTOR(700)", Form::Vector, |r| format!("TO_VECTOR({})", vector(r, 700, 1))),
];

/// Since 10.7 and 10.10.
pub(super) const NEWER_MARIADB: &[Kind] = &[
    ("UUID", Form::Plain, |r| {
        let (version, variant) = (r.choice([1, 4, 7]).unwrap_or(4), r.u16(0x8000..=0xbfff));
        let (low, mid, high, node) = (r.u32(..), r.u16(..), r.u16(..) >> 4, r.u64(..) >> 16);
        format!("'{low:08x}-{mid:04x}-{version}{high:03x}-{variant:04x}-{node:012x}'")
    }),
    ("INET4", Form::Plain, |r| format!("'{}.{}.{}.0'", r.u8(..), r.u8(..), r.u8(..))),
];

pub(super) const MARIADB: &[Kind] = &[
    ("INET6", Form::Plain, |r| format!("'2001:db8:{:x}::{:x}'", r.u16(1..), r.u16(1..))),
    ("VARCHAR(300) COMPRESSED CHARACTER SET latin1", Form::Text, |r| text(r, WESTERN, 300)),
    ("BLOB COMPRESSED", Form::Bytes, |r| bytes(r, 700)),
    ("TEXT COMPRESSED CHARACTER SET utf8mb4", Form::Text, |r| text(r, ANY, 900)),
    ("VARBINARY(300) COMPRESSED", Form::Bytes, |r| bytes(r, 300)),
    // Documents are text here.
    ("JSON", Form::Text, |r| format!("'{}'", document(r, 3).replace('\\', "\\\\"))),
];

pub(super) struct Case {
    columns: Vec<Kind>,
    pub(super) sql: String,
}

fn literal(rng: &mut fastrand::Rng, kind: &Kind) -> String {
    if rng.u8(0..6) == 0 { "NULL".to_owned() } else { (kind.2)(rng) }
}

pub(super) fn case(rng: &mut fastrand::Rng, own: &[&[Kind]], table: &str) -> Case {
    let long = long_kinds();
    let all: Vec<Kind> =
        KINDS.iter().chain(&long).chain(own.iter().flat_map(|kinds| kinds.iter())).copied().collect();
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
                let change = [
                    "JSON_SET(c, '$.k0', 17, '$[1]', 'x')",
                    "JSON_REMOVE(c, '$.k1')",
                    "JSON_REPLACE(c, '$.m0', CAST('1.5' AS DECIMAL(10,4)), '$.k0', CAST('2024-02-29' AS DATE))",
                    "JSON_SET(JSON_REMOVE(c, '$.m1'), '$.\"a b\"', JSON_ARRAY(1, NULL, 'x'))",
                ];
                let change = rng.choice(change).unwrap_or("c").replace("(c,", &format!("(c{column},"));
                format!("UPDATE {table} SET c{column} = {change} WHERE id = {id};\n")
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
            Form::Bytes | Form::Geometry | Form::Vector => format!("HEX(c{i})"),
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
            let srid = o["srid"].as_u64().unwrap() as u32;
            hex(srid.to_le_bytes()) + &hex(unbase64(o["wkb"].as_str().unwrap())) == shown
        }
        (Form::Vector, Value::Array(numbers)) => {
            let bits = |n: &Value| (n.as_f64().unwrap() as f32).to_le_bytes();
            hex(numbers.iter().flat_map(bits).collect::<Vec<_>>()) == shown
        }
        (Form::Json, Value::String(s)) => hex(s) == shown,
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

/// Every choice of each with every choice of the others.
fn matrix(choices: &[&[&str]]) -> Vec<String> {
    let mut all = vec![String::new()];
    for choice in choices {
        all = all
            .iter()
            .flat_map(|before| choice.iter().map(move |one| format!("{before}SET {one};")))
            .collect();
    }
    all
}

fn rows_are_those_of(flavour: &'static str, own: &[&[Kind]], settings: &[String]) {
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
        None => 1..2u64,
    };
    for (i, setting) in settings.iter().enumerate() {
        // A file of its own: RESET is not called the same everywhere.
        let before = server.sql("SHOW BINARY LOGS;").len();
        let mut cases = Vec::new();
        let mut sql = format!(
            "{setting}\nSET sql_mode = '';\nFLUSH BINARY LOGS;\nDROP DATABASE IF EXISTS fuzz; CREATE DATABASE fuzz; USE fuzz;\nSET time_zone = '+00:00';\n"
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
    let settings = matrix(&[
        &["binlog_row_image = FULL", "binlog_row_image = MINIMAL", "binlog_row_image = NOBLOB"],
        &["GLOBAL binlog_row_metadata = MINIMAL", "GLOBAL binlog_row_metadata = FULL"],
        &["GLOBAL binlog_checksum = CRC32", "GLOBAL binlog_checksum = NONE"],
        &["binlog_transaction_compression = OFF", "binlog_transaction_compression = ON"],
        &["binlog_row_value_options = ''", "binlog_row_value_options = PARTIAL_JSON"],
    ]);
    rows_are_those_of("mysql97", &[MYSQL], &settings);
}

/// `images` beside the usual three.
fn mariadb_settings(images: &[&str]) -> Vec<String> {
    let images =
        [&["binlog_row_image = FULL", "binlog_row_image = MINIMAL", "binlog_row_image = NOBLOB"], images]
            .concat();
    matrix(&[
        &images,
        &[
            "GLOBAL binlog_row_metadata = NO_LOG",
            "GLOBAL binlog_row_metadata = MINIMAL",
            "GLOBAL binlog_row_metadata = FULL",
        ],
        &["GLOBAL binlog_checksum = CRC32", "GLOBAL binlog_checksum = NONE"],
        &[
            "GLOBAL mysql56_temporal_format = ON; SET GLOBAL log_bin_compress = OFF",
            "GLOBAL log_bin_compress = ON; SET GLOBAL log_bin_compress_min_len = 10",
            // The temporal types of before 10.1.
            "GLOBAL mysql56_temporal_format = OFF; SET GLOBAL log_bin_compress = OFF",
        ],
    ])
}

#[test]
fn random_rows_of_mariadb_are_those_of_select() {
    let settings = mariadb_settings(&["binlog_row_image = FULL_NODUP"]);
    let vectors: &[Kind] = &[("VECTOR(3)", Form::Vector, |r| format!("VEC_FromText({})", vector(r, 3, 3)))];
    rows_are_those_of("mariadb118", &[MARIADB, NEWER_MARIADB, vectors], &settings);
}

#[test]
fn random_rows_of_mariadb_10_11_are_those_of_select() {
    rows_are_those_of("mariadb1011", &[MARIADB, NEWER_MARIADB], &mariadb_settings(&[]));
}

#[test]
fn random_rows_of_mariadb_10_5_are_those_of_select() {
    rows_are_those_of("mariadb105", &[MARIADB], &mariadb_settings(&[]));
}
