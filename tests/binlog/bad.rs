//! Files that are damaged, strange or large: what a user sees, and what is left behind.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::craft::{self, Event, MARIADB_GTID, TABLE_MAP, XID};
use super::{dts, dump, of_kind, recordings};
use crate::harness::Dir;

const WRITE_ROWS_V1: u8 = 23;
const START_ENCRYPTION: u8 = 164;

/// A transaction with one event of rows: a BLOB of 1 MiB each.
fn large(dir: &Dir, rows: u8) -> Vec<u8> {
    let events = craft::events(&recordings(dir).join("txn.000001"));
    let like = |ty: u8| events.iter().find(|event| event.ty() == ty).unwrap();
    let map = [&[9u8, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0][..], &[1, 252, 1, 4, 1]].concat();
    let mut body = vec![9, 0, 0, 0, 0, 0, 1, 0, 1, 0xff];
    for row in 0..rows {
        body.extend([0, 0, 0, 0x10, 0]);
        body.extend(std::iter::repeat_n(0x80 | row, 1 << 20));
    }
    let made = [
        events[0].clone(),
        like(MARIADB_GTID).clone(),
        Event::like(like(TABLE_MAP), TABLE_MAP, &map),
        Event::like(like(XID), WRITE_ROWS_V1, &body),
        like(XID).clone(),
    ];
    // The GTID is one of a transaction.
    let mut made = made;
    made[1].body()[12] &= !1;
    craft::file(&made)
}

/// `dts binlog` with this on its standard input, through a pipe.
fn piped(args: &[&str], input: Vec<u8>, temp: &Path) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dts"))
        .arg("binlog")
        .args(args)
        .arg("-")
        .env("TMPDIR", temp)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that ends early has its reason.
    let feed = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap();
    output
}

#[test]
fn a_large_event_of_standard_input_is_put_aside_and_checked_before_a_row_of_it_is_shown() {
    let dir = Dir::new("binlog");
    let temp = dir.join("temp");
    std::fs::create_dir(&temp).unwrap();
    let bytes = large(&dir, 17);
    let file = dir.write("large.000001", &bytes);
    let direct = String::from_utf8(dts(&["dump", "--format", "json"], &[&file]).stdout).unwrap();
    assert_eq!(direct.matches("\"kind\":\"row\"").count(), 17);
    let through = piped(&["dump", "--format", "json"], bytes.clone(), &temp);
    assert_eq!(through.status.code(), Some(0), "{}", String::from_utf8_lossy(&through.stderr));
    let through = String::from_utf8(through.stdout).unwrap();
    assert!(through.replace("\"file\":\"-\"", "\"file\":\"large.000001\"") == direct, "other records");
    // One bit of the last row: none of them is shown.
    let mut damaged = bytes.clone();
    let at = bytes.len() - 100;
    damaged[at] ^= 1;
    let path = dir.write("damaged.000001", &damaged);
    for output in [
        dts(&["dump", "--format", "json"], &[&path]),
        piped(&["dump", "--format", "json"], damaged.clone(), &temp),
    ] {
        assert_eq!(output.status.code(), Some(3));
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.contains("checksum") && err.contains("WRITE_ROWS_V1"), "{err}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("\"kind\":\"row\""));
    }
    let left: Vec<_> = std::fs::read_dir(&temp).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // Nowhere to put it.
    let output = piped(&["verify"], bytes, &dir.join("nowhere"));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && err.contains("nowhere"), "{err}");
}

#[test]
fn a_relay_log_is_read_as_what_its_source_wrote() {
    let dir = Dir::new("binlog");
    let path = recordings(&dir).join("txn.000001");
    let mut events = craft::events(&path);
    // The replica's own first event stands before the source's.
    events.insert(0, events[0].clone());
    let relay = dir.write("relay.000001", craft::file(&events));
    let (direct, records) = (dump(&[], &[&path]), dump(&[], &[&relay]));
    let rows = |records: &[serde_json::Value]| -> Vec<_> {
        of_kind(records, "row").iter().map(|row| (row["id"].clone(), row["after"].clone())).collect()
    };
    assert!(!rows(&direct).is_empty());
    assert_eq!(rows(&records), rows(&direct));
    let text = String::from_utf8(dts(&["verify"], &[&relay]).stdout).unwrap();
    assert!(text.contains("sound") && text.contains("positions differ"), "{text}");
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let dir = Dir::new("binlog");
    let path = recordings(&dir).join("txn.000001");
    let whole = craft::events(&path);
    let map = whole.iter().position(|event| event.ty() == TABLE_MAP).unwrap();
    let mut unmapped = whole.clone();
    unmapped.remove(map);
    let with = |ty: u8, body: &[u8]| {
        let mut events = whole.clone();
        events.insert(1, Event::like(&whole[map], ty, body));
        events
    };
    let encryption = [&[1u8, 2, 0, 0, 0][..], &[7; 12]].concat();
    for (name, events, expected) in [
        ("unmapped", unmapped, "for which no TABLE_MAP came"),
        ("encryption", with(START_ENCRYPTION, &encryption), "read it through the server"),
        ("fragment", with(172, &[0; 40]), "binlog_row_event_fragment_threshold"),
        ("unknown", with(200, &[0; 40]), "event type 200 is unknown"),
    ] {
        let file = dir.write(name, craft::file(&events));
        for command in ["dump", "verify", "stats"] {
            let output = dts(&[command], &[&file]);
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{command} {name}: {err}");
            assert!(err.contains(expected) && err.contains("offset "), "{command} {name}: {err}");
        }
    }
}

#[test]
fn a_compressed_transaction_of_nothing_but_zeros_ends_early() {
    let dir = Dir::new("binlog");
    let newer = super::unpack("binlogs-servers", &dir);
    let events = craft::events(&newer.join("mysql97-compressed.binlog"));
    let payload = events.iter().find(|event| event.ty() == 40).unwrap();
    // Half a gibibyte in some 50 kB.
    let bomb = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        (0..512).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    for announced in [1u64 << 29, 1 << 62, 100] {
        let mut body = vec![2, 1, 0, 3, 9, 254];
        body.extend(announced.to_le_bytes());
        body.extend([1, 9, 254]);
        body.extend((bomb.len() as u64).to_le_bytes());
        body.push(0);
        body.extend(&bomb);
        let file = dir.write("bomb", craft::file(&[events[0].clone(), Event::like(payload, 40, &body)]));
        let output = dts(&["dump", "--format", "json"], &[&file]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}
