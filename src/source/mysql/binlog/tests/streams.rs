//! A small limit makes every event a large one: in parts, the same as whole.

use std::io::Read;

use super::*;

/// As [`everything`], without what differs by nature: parts count from their event's first row.
fn lines(bytes: &'static [u8], options: Options, file: bool) -> Result<Vec<String>, Error> {
    if !file {
        return everything(Reader::from_stream(Cursor::new(bytes), options));
    }
    let path = std::env::temp_dir().join(format!("dts-binlog-streams-{}-{:p}", std::process::id(), bytes));
    std::fs::write(&path, bytes).unwrap();
    let lines = everything(Reader::from_file(std::fs::File::open(&path).unwrap(), options));
    std::fs::remove_file(&path).unwrap();
    lines
}

#[test]
fn large_events_in_parts_are_the_same() {
    for (name, bytes) in recordings() {
        if name.contains("hires") {
            continue;
        }
        let whole = lines(bytes, Options::default(), false).unwrap();
        for (limit, file) in [(100, false), (100, true), (700, false), (5000, true)] {
            let options = Options { large_event_bytes: limit, ..Options::default() };
            let parts = lines(bytes, options, file).unwrap_or_else(|e| panic!("{name} {limit}: {e}"));
            let mut parts = parts.iter();
            for line in &whole {
                let part = parts.next().unwrap_or_else(|| panic!("{name} {limit}: {line} is missing"));
                let skipped = part.ends_with(" Skipped");
                assert!(part == line || skipped, "{name} {limit}:\n{part}\n{line}");
            }
            assert!(parts.next().is_none(), "{name} {limit}");
        }
    }
}

/// Events of 4 GiB less one byte that may be passed over, then a small one.
#[test]
fn positions_beyond_four_gibibytes_are_counted() {
    let mut format = recording("types_no_checksum.000001").to_vec();
    let length = u32::from_le_bytes(format[13..17].try_into().unwrap()) as usize;
    format.truncate(4 + length);
    let header = |ty: u8, length: u32, end: u64, flags: u16| {
        let mut header = vec![0, 0, 0, 0, ty, 1, 0, 0, 0];
        header.extend(length.to_le_bytes());
        header.extend((end as u32).to_le_bytes());
        header.extend(flags.to_le_bytes());
        header
    };
    let start = format.len() as u64;
    let large = u64::from(u32::MAX);
    let fill = std::io::repeat(0).take(large - 19);
    let ignorable = header(28, u32::MAX, start + large, 0x80);
    let xid = [&header(16, 27, start + large + 27, 0)[..], &7u64.to_le_bytes()].concat();
    let stream = Cursor::new([format, ignorable].concat()).chain(fill).chain(Cursor::new(xid));
    let mut reader = Reader::from_stream(stream, Options::default());
    let mut last = (0, 0);
    while let Some(item) = reader.next().unwrap() {
        assert!(item.position_agrees(), "{item:?}");
        last = (item.start, item.end);
    }
    assert_eq!(last, (start + large, start + large + 27));
    assert!(last.0 > large);
}

#[test]
fn a_row_beyond_the_limit_is_an_error() {
    let bytes = recording("mysql97-full.binlog");
    let options = Options { large_event_bytes: 4096, max_row_bytes: 20_000, ..Options::default() };
    let error = lines(bytes, options, false).unwrap_err();
    assert!(matches!(error.problem, Problem::TooLarge { max: 20_000, .. }), "{error}");
}

#[test]
fn reading_goes_on_at_a_position() {
    let bytes = recording("txn.000001");
    let path = std::env::temp_dir().join(format!("dts-binlog-seek-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let all = lines(bytes, Options::default(), false).unwrap();
    let mut reader = Reader::from_file(std::fs::File::open(&path).unwrap(), Options::default());
    reader.next().unwrap();
    let second = all.iter().filter(|l| l.contains("MARIADB_GTID ")).nth(3).unwrap();
    let offset: u64 = second.split(' ').next().unwrap().parse().unwrap();
    assert!(reader.seek(offset).unwrap());
    let rest = everything(reader).unwrap();
    assert_eq!(rest, all[all.len() - rest.len()..]);
    assert_eq!(&rest[0], second);
    std::fs::remove_file(&path).unwrap();
}
