//! A small limit makes every event a large one: in parts, the same as whole.

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
