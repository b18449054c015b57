//! `dts binlog` on recordings of real servers, on damaged files, and as part of a pipe.

mod as_source;
mod bad;
mod craft;
mod records;
mod terminal;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::Dir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn archive() -> PathBuf {
    root().join("tests/fixtures/binlogs-mariadb105.tar.xz")
}

/// Unpacks the recordings; where they are.
fn recordings(dir: &Dir) -> PathBuf {
    unpack("binlogs-mariadb105", dir)
}

/// Unpacks an archive of recordings.
fn unpack(name: &str, dir: &Dir) -> PathBuf {
    let unpack = Command::new("python3")
        .args(["-m", "tarfile", "-e"])
        .arg(root().join(format!("tests/fixtures/{name}.tar.xz")))
        .arg(dir.join(""))
        .output()
        .unwrap();
    assert!(unpack.status.success(), "{unpack:?}");
    dir.join(name)
}

fn dts(args: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dts"));
    command.arg("binlog").args(args).args(files).stdin(Stdio::null()).output().unwrap()
}

/// The records of a dump that goes well.
fn dump(args: &[&str], files: &[&Path]) -> Vec<Value> {
    let all: Vec<_> = ["dump", "--format", "json"].iter().chain(args).copied().collect();
    let output = dts(&all, files);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_kind<'r>(records: &'r [Value], kind: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

#[test]
fn recordings_say_what_select_said() {
    let mut check = Command::new("python3");
    check
        .arg(root().join("tests/binlog/check_dump.py"))
        .args(["--dts", env!("CARGO_BIN_EXE_dts")])
        .arg(archive());
    let output = check.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("14 recordings, 0 failed"), "{text}");
}

#[test]
fn a_compressed_file_and_a_pipe_are_read_as_the_file() {
    let dir = Dir::new("binlog");
    let file = recordings(&dir).join("txn.000001");
    let plain = dts(&["dump", "--format", "json"], &[&file]).stdout;
    assert!(plain.len() > 10_000);
    let bytes = std::fs::read(&file).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&bytes).unwrap();
    // The ending is taken off, and is not what tells.
    let gz = dir.write("txn.000001.gz", gz.finish().unwrap());
    let zst = dir.write("txn.000001.zst", zstd::encode_all(&bytes[..], 3).unwrap());
    for packed in [&gz, &zst] {
        assert_eq!(dts(&["dump", "--format", "json"], &[packed]).stdout, plain, "{packed:?}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_dts"))
        .args(["binlog", "dump", "--format", "json", "-"])
        .stdin(std::fs::File::open(&zst).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut piped = String::new();
    child.stdout.take().unwrap().read_to_string(&mut piped).unwrap();
    assert!(child.wait().unwrap().success());
    let named = String::from_utf8(plain).unwrap().replace("\"file\":\"txn.000001\"", "\"file\":\"-\"");
    assert_eq!(piped, named);
}

#[test]
fn bad_input_is_named_with_its_place_and_gives_no_row() {
    let dir = Dir::new("binlog");
    let folder = recordings(&dir);
    let good = std::fs::read(folder.join("txn.000001")).unwrap();
    let plain = std::fs::read(folder.join("types_no_checksum.000001")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let large = |bytes: &[u8]| {
        // A length field of 1 GiB in the second event.
        let mut bytes = bytes.to_vec();
        let second = 4 + u32::from_le_bytes(bytes[13..17].try_into().unwrap()) as usize;
        bytes[second + 9..second + 13].copy_from_slice(&(1u32 << 30).to_le_bytes());
        bytes
    };
    let encrypted = [b"\xfdbin\x01".as_slice(), &[7; 600]].concat();
    for (name, bytes, expected) in [
        ("empty", Vec::new(), "offset 0: the file is empty"),
        ("text", b"hello there".to_vec(), "not a binlog"),
        ("short", good[..10].to_vec(), "offset 4"),
        ("cut", good[..good.len() - 100].to_vec(), "cut short"),
        ("flipped", flipped(good.len() / 2), "checksum"),
        ("large", large(&good), "cut short"),
        ("large-plain", large(&plain), "max_row_bytes"),
        ("encrypted", encrypted, "encrypted"),
        ("damaged.gz", b"\x1f\x8b\x08\x00damaged".to_vec(), "damaged.gz"),
        ("damaged.zst", b"\x28\xb5\x2f\xfddamaged".to_vec(), "damaged.zst"),
    ] {
        let path = dir.write(name, &bytes);
        for command in ["dump", "verify", "stats"] {
            let output = dts(&[command], &[&path]);
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{command} {name}: {err}");
            assert!(err.starts_with(&format!("dts: {}: ", path.display())), "{command} {name}: {err}");
            assert!(err.contains(expected), "{command} {name}: {err}");
            assert_eq!(err.lines().count(), 1, "{command} {name}: {err}");
        }
        let rows = String::from_utf8(dts(&["dump", "--format", "json"], &[&path]).stdout).unwrap();
        let whole =
            String::from_utf8(dts(&["dump", "--format", "json"], &[&folder.join("txn.000001")]).stdout)
                .unwrap();
        let made_up = rows.replace(&format!("\"{name}\""), "\"txn.000001\"");
        assert!(
            name.contains("plain") || whole.starts_with(&made_up),
            "{name}: rows that are not in the file"
        );
    }
    let missing = dts(&["dump"], &[&dir.join("nowhere")]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[test]
fn filters_keep_ids_and_order() {
    let dir = Dir::new("binlog");
    let folder = recordings(&dir);
    let files: Vec<_> = (1..=3).map(|n| folder.join(format!("gtid_domains.00000{n}"))).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let all = dump(&[], &files);
    let rows = of_kind(&all, "row");
    assert_eq!(rows.len(), 6);
    // One transaction by its GTID, and a range of them.
    let gtid = rows[1]["pos"]["gtid"].as_str().unwrap();
    let one = dump(&["--gtid", gtid], &files);
    assert!(!one.is_empty() && one.iter().all(|record| record["pos"]["gtid"] == gtid));
    assert_eq!(of_kind(&one, "row"), [rows[1]]);
    // From one event on, up to another.
    let file = [files[0]];
    let whole = dump(&[], &file);
    let ends: Vec<u64> = whole.iter().map(|record| record["pos"]["pos"].as_u64().unwrap()).collect();
    let (start, stop) = (ends[2].to_string(), ends[ends.len() - 3].to_string());
    let tail = dump(&["--start-pos", &start], &file);
    let head = dump(&["--stop-pos", &stop], &file);
    assert!(!tail.is_empty() && whole.ends_with(&tail) && tail.len() < whole.len());
    assert!(!head.is_empty() && whole.starts_with(&head) && head.len() < whole.len());
    // One table of several: its rows as they were, each in its begin and commit.
    let txn = folder.join("txn.000001");
    let all = dump(&[], &[&txn]);
    let table = of_kind(&all, "row")[0]["table"].as_str().unwrap().to_owned();
    let some = dump(&["--table", &format!("cdc.{table}")], &[&txn]);
    let expected: Vec<_> =
        of_kind(&all, "row").into_iter().filter(|row| row["table"] == table.as_str()).collect();
    assert!(expected.len() < of_kind(&all, "row").len());
    assert_eq!(of_kind(&some, "row"), expected);
    assert_eq!(of_kind(&some, "begin").len(), of_kind(&some, "commit").len());
    assert_eq!(dump(&["--table", "no.where"], &[&txn]).len(), 0);
    assert_eq!(
        dump(&["--table", "cdc.*"], &[&txn]).iter().filter(|r| r["kind"] == "row").count(),
        of_kind(&all, "row").len()
    );
}

#[test]
fn rows_of_a_prepared_transaction_wait_for_its_end() {
    let dir = Dir::new("binlog");
    let records = dump(&[], &[&recordings(&dir).join("xa.000001")]);
    let prepared: Vec<_> = of_kind(&records, "row").into_iter().filter(|row| row["xa"].is_string()).collect();
    let ends: Vec<_> = records
        .iter()
        .filter(|record| ["xa_commit", "xa_rollback"].iter().any(|kind| record["kind"] == *kind))
        .collect();
    assert!(!prepared.is_empty() && !ends.is_empty(), "{records:?}");
    for row in &prepared {
        assert!(ends.iter().any(|end| end["xa"] == row["xa"]), "{row}");
    }
    assert!(ends.iter().any(|end| end["kind"] == "xa_rollback"), "{ends:?}");
}

#[test]
fn transactions_are_closed_and_counted() {
    let dir = Dir::new("binlog");
    let file = recordings(&dir).join("types_full.000001");
    let records = dump(&[], &[&file]);
    let rows = of_kind(&records, "row").len() as u64;
    let counted: u64 = of_kind(&records, "commit")
        .iter()
        .flat_map(|commit| commit["rows"].as_object().unwrap().values())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(counted, rows);
    assert_eq!(of_kind(&records, "begin").len(), of_kind(&records, "commit").len());
    let ids: std::collections::HashSet<_> =
        of_kind(&records, "row").iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len() as u64, rows, "an id comes twice");
    // Two dumps are equal byte for byte.
    assert_eq!(dump(&[], &[&file]), records);
    let count = dts(&["dump", "--count"], &[&file]);
    let count: Value = serde_json::from_slice(&count.stdout).unwrap();
    // The three of a sequence are counted, and are no records.
    assert_eq!(count["rows"].as_u64().unwrap(), rows + 3, "{count}");
    assert_eq!(count["bytes"].as_u64().unwrap(), std::fs::metadata(&file).unwrap().len());
    let sum = count["checksum"].as_str().unwrap();
    assert!(sum.len() == 16 && sum.bytes().all(|b| b.is_ascii_hexdigit()), "{sum}");
    let stats = dts(&["stats", "--json"], &[&file]);
    let stats: Value = serde_json::from_slice(&stats.stdout).unwrap();
    let tables = stats["tables"].as_object().unwrap().values();
    let sum: u64 =
        tables.flat_map(|t| ["inserts", "updates", "deletes"].map(|op| t[op].as_u64().unwrap())).sum();
    assert_eq!(sum, rows + 3);
    let verify = dts(&["verify"], &[&file]);
    assert!(String::from_utf8_lossy(&verify.stdout).contains("checksums are right"), "{verify:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let dir = Dir::new("binlog");
    let file = recordings(&dir).join("types_full.000001");
    let mut child = Command::new(env!("CARGO_BIN_EXE_dts"))
        .args(["binlog", "dump", "--format", "json"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn people_see_blocks_of_transactions() {
    let dir = Dir::new("binlog");
    let output = dts(&["dump", "-v"], &[&recordings(&dir).join("txn.000001")]);
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["  insert cdc.", "  update cdc.", "      -> {", "  commit, ", "CREATE TABLE", "  # INSERT"]
    {
        assert!(text.contains(expected), "{expected}: {text:.2000}");
    }
    assert!(!text.contains('\x1b'), "colours without a terminal");
}

#[test]
fn passwords_are_not_shown() {
    let dir = Dir::new("binlog");
    let file = recordings(&dir).join("ddl_mix.000001");
    for format in ["json", "text"] {
        let output = dts(&["dump", "--format", format, "-v"], &[&file]);
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("IDENTIFIED BY")).unwrap();
        assert!(line.contains("<redacted>"), "{line}");
    }
}

/// The commands of the manual, on a real file; what it shows of their output is what they print.
#[test]
fn the_manual_shows_what_is_printed() {
    let dir = Dir::new("binlog");
    let folder = recordings(&dir);
    let manual = std::fs::read_to_string(root().join("docs/binlog.md")).unwrap();
    let mut tried = 0;
    for block in manual.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let (command, shown) = block.split_once('\n').unwrap();
        let command = command.strip_prefix("$ dts ").unwrap();
        let args: Vec<_> = command.split_whitespace().collect();
        let output =
            Command::new(env!("CARGO_BIN_EXE_dts")).args(&args).current_dir(&folder).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        // `…` stands for what is left out.
        let mut rest = text.as_str();
        for piece in shown.split('…').map(str::trim).filter(|piece| !piece.is_empty()) {
            let at = rest.find(piece).unwrap_or_else(|| panic!("{command}: no {piece:?} in {text}"));
            rest = &rest[at + piece.len()..];
        }
        tried += 1;
    }
    assert!(tried >= 4);
}
