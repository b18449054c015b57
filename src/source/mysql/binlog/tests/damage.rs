//! Cut anywhere, any bit flipped: an error or other values, never a panic.

use super::*;

/// Small recordings of each kind.
fn small() -> Vec<(&'static str, &'static [u8])> {
    let small: Vec<_> =
        recordings().iter().filter(|(_, b)| b.len() < 8 << 10).map(|(n, b)| (n.as_str(), &b[..])).collect();
    assert!(small.len() >= 6, "{}", small.len());
    small
}

/// Reads all of it; how many events.
fn walk(bytes: Vec<u8>, options: &Options) -> Result<u64, Error> {
    let mut reader = Reader::from_stream(Cursor::new(bytes), options.clone());
    let (mut events, mut fold) = (0, Fold::new());
    while let Some(item) = reader.next()? {
        events += 1;
        let place = Place { offset: item.start, ..Place::default() };
        match item.event {
            Event::Rows(rows) => rows.walk(&mut fold).map_err(|p| p.at(place))?,
            Event::Query(query) => {
                query.status();
            }
            _ => {}
        }
    }
    // The end stays the end.
    assert!(reader.next()?.is_none());
    Ok(events)
}

#[test]
fn cut_at_every_byte() {
    for (name, bytes) in small().into_iter().filter(|(n, _)| !n.contains("hires")) {
        // Ends of events are the only places where a file may end.
        let mut ends = vec![MAGIC.len() as u64];
        let mut reader = reader(bytes);
        while let Ok(Some(item)) = reader.next() {
            ends.push(item.end);
        }
        for cut in 0..bytes.len() {
            let read = walk(bytes[..cut].to_vec(), &Options::default());
            match read {
                Ok(_) => assert!(ends.contains(&(cut as u64)), "{name} cut at {cut}"),
                Err(e) if cut < 4 => assert!(matches!(e.problem, Problem::Empty | Problem::NotABinlog(_))),
                Err(e) => {
                    let last = ends.iter().rev().find(|&&end| end <= cut as u64).unwrap();
                    assert_eq!(e.place.offset, *last, "{name} cut at {cut}: {e}");
                    assert!(matches!(e.problem, Problem::Truncated { .. }), "{name} cut at {cut}: {e}");
                }
            }
        }
    }
}

#[test]
fn every_bit_flipped_is_caught_by_the_checksums() {
    for (name, bytes) in small() {
        if name.contains("hires") {
            continue;
        }
        let whole = walk(bytes.to_vec(), &Options::default()).unwrap();
        for at in 0..bytes.len() {
            let bit = at % 8;
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            match walk(bytes, &Options::default()) {
                Err(_) => {}
                // The mark of a file in use is not part of the checksum.
                Ok(events) => {
                    assert!(at == 4 + 17 && bit == 0 && events == whole, "{name}: bit {bit} of byte {at}")
                }
            }
        }
    }
}

#[test]
fn every_bit_flipped_without_checksums_is_no_panic() {
    let options = Options { verify_checksums: false, max_row_bytes: 1 << 20, ..Options::default() };
    let small_pieces = Options { large_event_bytes: 300, ..options.clone() };
    for (_, bytes) in small() {
        // All bits of the small ones, some of all.
        for bit in (0..bytes.len() * 8).step_by(if bytes.len() < 2500 { 1 } else { 13 }) {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            walk(bytes.clone(), &options).ok();
            if bit % 8 == 5 {
                walk(bytes, &small_pieces).ok();
            }
        }
    }
}

/// A MariaDB 10 FORMAT_DESCRIPTION without checksums, from a recording.
fn format_without_checksums() -> Vec<u8> {
    let bytes = recording("types_no_checksum.000001");
    let len = u32::from_le_bytes(bytes[13..17].try_into().unwrap()) as usize;
    bytes[..4 + len].to_vec()
}

fn event(ty: u8, body: &[u8]) -> Vec<u8> {
    let mut event = vec![0, 0, 0, 0, ty, 1, 0, 0, 0];
    event.extend((19 + body.len() as u32).to_le_bytes());
    event.extend([0; 6]);
    event.extend(body);
    event
}

fn with_event(ty: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = format_without_checksums();
    bytes.extend(event(ty, body));
    bytes
}

fn problem(bytes: Vec<u8>) -> Problem {
    walk(bytes, &Options::default()).unwrap_err().problem
}

#[test]
fn what_is_no_binlog_is_named() {
    assert!(matches!(problem(vec![]), Problem::Empty));
    assert!(matches!(problem(b"GIF89a".to_vec()), Problem::NotABinlog(_)));
    assert!(matches!(problem(b"\xfdbin\x01".to_vec()), Problem::EncryptedFile));
    assert!(problem(b"\xfdbin\x01".to_vec()).to_string().contains("encrypted"));
    assert!(matches!(problem(with_event(164, &[1; 17])), Problem::EncryptedEvents { scheme: 1, .. }));
    assert!(matches!(problem([&MAGIC[..], &event(16, &[0; 8])].concat()), Problem::NoFormat));
    assert!(matches!(problem([&MAGIC[..], &event(1, &[3; 56])].concat()), Problem::OldFormat(0x0303)));
    assert!(matches!(problem(with_event(99, &[])), Problem::UnknownEvent(99)));
    assert!(matches!(problem(with_event(20, &[])), Problem::UnknownEvent(20)));
}

#[test]
fn rows_without_their_table_map_are_refused() {
    let rows = [&[9u8, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &[0, 42]].concat();
    assert!(matches!(problem(with_event(23, &rows)), Problem::NoTableMap { table_id: 9 }));
}

#[test]
fn fragments_of_rows_are_refused_by_name_and_with_what_to_do() {
    for bytes in [with_event(172, &[1; 30]), with_event(172, &vec![1; 17 << 20])] {
        let error = walk(bytes, &Options::default()).unwrap_err();
        assert!(matches!(error.problem, Problem::FragmentedRows), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("PARTIAL_ROW_DATA") && text.contains("binlog_row_event_fragment_threshold"),
            "{text}"
        );
    }
}

#[test]
fn a_length_of_a_gibibyte_takes_no_memory() {
    let mut bytes = with_event(2, &[0; 50]);
    let at = bytes.len() - 50 - 19 + 9;
    bytes[at..at + 4].copy_from_slice(&(1u32 << 30).to_le_bytes());
    for verify_checksums in [true, false] {
        let options = Options { verify_checksums, ..Options::default() };
        let error = walk(bytes.clone(), &options).unwrap_err();
        assert!(matches!(error.problem, Problem::Truncated { .. } | Problem::TooLarge { .. }), "{error}");
    }
}

#[test]
fn a_zstd_bomb_ends_where_its_size_was_announced() {
    let bomb = ::zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    assert!(bomb.len() < 10_000);
    let payload = |announced: u64| {
        let mut body = vec![2, 1, 0, 3, 9, 254];
        body.extend(announced.to_le_bytes());
        body.extend([1, 3, 252]);
        body.extend((bomb.len() as u16).to_le_bytes());
        body.push(0);
        body.extend(&bomb);
        with_event(40, &body)
    };
    for announced in [100, 1 << 40] {
        let error = problem(payload(announced));
        // Zero bytes are no events; what matters is that it ends early.
        assert!(matches!(error, Problem::Inflate { .. } | Problem::Length { .. }), "{error}");
    }
}

#[test]
fn a_relay_logs_second_format_description_is_taken() {
    let bytes = recording("txn.000001");
    let len = u32::from_le_bytes(bytes[13..17].try_into().unwrap()) as usize;
    // The replica's own first event, then the source's file from its first event on.
    let relay = [&bytes[..4 + len], &bytes[4..]].concat();
    let (direct, relay) = (walk(bytes.to_vec(), &Options::default()), walk(relay, &Options::default()));
    assert_eq!(direct.unwrap() + 1, relay.unwrap());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_events_are_no_panic(ty: u8, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        walk(with_event(ty, &body), &Options::default()).ok();
    }
}
