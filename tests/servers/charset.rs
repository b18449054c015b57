//! Every character set against the server's own `CONVERT(… USING utf8mb4)`.

use dts::source::mysql::charset::{self, Charset};

use super::mysql::Mysql;
use super::require;
use crate::harness::Dir;

/// Bytes of a character of sets that have no shorter ones.
fn unit(set: &Charset) -> usize {
    match set.name {
        "ucs2" | "utf16" | "utf16le" => 2,
        "utf32" => 4,
        _ => 1,
    }
}

/// Whether what we read is what the server shows. It shows NULL, `?`, U+FFFD or bytes that are no UTF-8 where it has no character.
fn agree(set: &Charset, bytes: &[u8], answer: &str) -> Result<(), String> {
    let mut out = String::new();
    let ours = set.to_utf8(bytes, &mut out);
    let theirs = (answer != "NULL").then(|| unhex(answer));
    // Only in Unicode it is a character that somebody may have stored.
    let is_unicode = unit(set) > 1 || set.name.starts_with("utf8");
    let theirs = theirs.and_then(|bytes| String::from_utf8(bytes).ok());
    let theirs = theirs.filter(|text| is_unicode || !text.contains('\u{fffd}'));
    let own_marks = bytes.iter().filter(|&&byte| byte == b'?').count();
    let right = match (&ours, &theirs) {
        (Ok(ours), Some(theirs)) => ours == theirs,
        (Err(_), None) => true,
        // MySQL copies these bytes as they are, which makes characters of them that ASCII has not.
        (Err(_), Some(_)) if set.name == "ascii" && bytes.len() > 1 => !bytes.is_ascii(),
        // MySQL drops the byte of a character that does not go on, without a word.
        (Err(bad), Some(theirs)) if set.name == "eucjpms" && is_prefix(set, &bytes[..bad.at], theirs) => true,
        (Err(_), Some(theirs)) if unit(set) == 1 => theirs.matches('?').count() > own_marks,
        (Err(_), Some(theirs)) => theirs.contains('?'),
        (Ok(_), None) => false,
    };
    if right { Ok(()) } else { Err(format!("{} {bytes:02x?}: we {ours:?}, server {answer}", set.name)) }
}

/// Whether the server shows the good bytes and nothing of the rest.
fn is_prefix(set: &Charset, good: &[u8], theirs: &str) -> bool {
    let mut out = String::new();
    set.to_utf8(good, &mut out).is_ok_and(|ours| theirs == ours)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn compare(set: &Charset, lines: &[String]) -> usize {
    let mut wrong = Vec::new();
    for line in lines {
        let (bytes, answer) = line.split_once('\t').unwrap();
        wrong.extend(agree(set, &unhex(bytes), answer).err());
    }
    assert!(
        wrong.is_empty(),
        "{} wrong of {}, first {:?}",
        wrong.len(),
        lines.len(),
        &wrong[..wrong.len().min(5)]
    );
    lines.len()
}

/// All sequences of `prefix` and as many bytes as there are columns.
fn all(server: &Mysql, set: &Charset, prefix: &str, columns: usize) -> Vec<String> {
    let names = &["a", "b"][..columns];
    let bytes = names.iter().map(|name| format!("char({name}.n)")).collect::<Vec<_>>().join(",");
    let bytes = format!("concat(unhex('{prefix}'),{bytes})");
    let from = names.iter().map(|name| format!("d {name}")).collect::<Vec<_>>().join(",");
    let name = set.name;
    server.sql(&format!(
        "use gen; select hex({bytes}), hex(convert(convert({bytes} using {name}) using utf8mb4)) from {from};"
    ))
}

/// Longer ones: pieces of what is likely to begin, to go on and to break off.
fn sample(server: &Mysql, set: &Charset, rng: &mut fastrand::Rng) -> Vec<String> {
    let piece = |rng: &mut fastrand::Rng| match rng.u8(0..6) {
        0 => vec![rng.u8(..)],
        1 => vec![rng.u8(0x81..=0xfe), rng.u8(0x40..=0xfe)],
        2 => vec![rng.u8(0x81..=0x84), rng.u8(0x30..=0x39), rng.u8(0x81..=0xfe), rng.u8(0x30..=0x39)],
        3 => vec![rng.u8(0x8e..=0x8f), rng.u8(0xa1..=0xfe), rng.u8(0xa1..=0xfe)],
        4 => rng.char(..).to_string().into_bytes(),
        _ => vec![0, rng.u8(0..=0x12), rng.u8(..), rng.u8(..)],
    };
    let rows: Vec<_> = (0..3000)
        .map(|_| {
            let pieces = rng.usize(1..=3);
            let mut bytes: Vec<u8> = (0..pieces).flat_map(|_| piece(rng)).collect();
            bytes.resize(bytes.len().next_multiple_of(unit(set)), 0);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("(x'{hex}')")
        })
        .collect();
    server.sql(&format!(
        "use gen; create temporary table s(b varbinary(20)); insert into s values {};
         select hex(b), hex(convert(convert(b using {}) using utf8mb4)) from s;",
        rows.join(","),
        set.name
    ))
}

fn every_set_is_converted_as_by(flavour: &'static str) {
    if !require(flavour) {
        return;
    }
    let dir = Dir::new("charset");
    let server = Mysql::start(&dir, flavour, &[]);
    let numbers: Vec<_> = (0..256).map(|n| format!("({n})")).collect();
    server.sql(&format!(
        "create database gen; create table gen.d(n int primary key); insert into gen.d values {};",
        numbers.join(",")
    ));
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut sets, mut sequences) = (0, 0);
    for name in server.sql("select character_set_name from information_schema.character_sets") {
        let set = charset::by_name(&name).unwrap_or_else(|| panic!("{flavour} has {name}"));
        sets += 1;
        if set.is_binary() {
            continue;
        }
        if unit(set) == 1 {
            sequences += compare(set, &all(&server, set, "", 1));
        }
        sequences += match unit(set) {
            4 => compare(set, &all(&server, set, "0000", 2)) + compare(set, &all(&server, set, "0001", 2)),
            _ => compare(set, &all(&server, set, "", 2)),
        };
        if ["ujis", "eucjpms"].contains(&set.name) {
            sequences += compare(set, &all(&server, set, "8F", 2));
        }
        if set.name == "gb18030" {
            for prefix in ["8130", "8139", "8230", "8336", "8431", "9030", "E332"] {
                sequences += compare(set, &all(&server, set, prefix, 2));
            }
        }
        sequences += compare(set, &sample(&server, set, &mut rng));
    }
    assert!(sets >= 40 && sequences > 1_000_000, "{sets} sets, {sequences} sequences");
    // Numbers of collations.
    let where_ = match flavour {
        "mysql97" => "collations",
        _ => "collation_character_set_applicability",
    };
    for line in server
        .sql(&format!("select id, character_set_name from information_schema.{where_} where id is not null"))
    {
        let (id, name) = line.split_once('\t').unwrap();
        let set = charset::by_collation(id.parse().unwrap());
        assert_eq!(
            set.map(|set| set.name),
            charset::by_name(name).map(|set| set.name),
            "{flavour}: collation {id}"
        );
    }
}

#[test]
fn every_set_of_mysql_is_converted_as_by_the_server() {
    every_set_is_converted_as_by("mysql97");
}

#[test]
fn every_set_of_mariadb_is_converted_as_by_the_server() {
    every_set_is_converted_as_by("mariadb118");
}
