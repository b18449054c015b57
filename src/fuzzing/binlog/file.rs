//! Whole files: as they are, and with lengths and checksums mended.

use std::io::Cursor;

use super::parts::{Part, Parts, close_payload, open_payload};
use super::rows;
use crate::source::mysql::binlog::{Event, EventType, Fold, Options, Reader};

/// `data` is a file. The mended one is read too.
pub fn binlog_file(data: &[u8]) {
    let mended = Parts::of_file(data).file();
    if mended != data {
        check(data, false);
    }
    check(&mended, true);
}

/// A large event that may be passed over was, even where a small one of its kind tells something.
const PASSED_OVER: &str = "passed over";

/// What reading a file came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    rows: u64,
    images: u64,
    sum: u64,
}

fn check(file: &[u8], deeply: bool) {
    let usual = Options { max_row_bytes: 1 << 20, ..Options::default() };
    let whole = read(file, &usual, deeply);
    // Every event is a large one, and read in parts. What was summed once need not be again: large events would
    // go to the disk for it.
    let verify_checksums = whole.is_err();
    let pieces = read(file, &Options { verify_checksums, large_event_bytes: 300, ..usual.clone() }, false);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Ok(_), Err(why)) => assert!(why == PASSED_OVER, "read whole, but not in parts: {why}"),
        // What is passed over unread when it is large may be wrong.
        (Err(_), _) => {}
    }
    if whole.is_ok() {
        let plain = read(file, &Options { verify_checksums: false, ..usual }, false);
        assert!(plain.as_ref().is_ok_and(|plain| whole.as_ref() == Ok(plain)), "{whole:?} {plain:?}");
    }
}

fn read(file: &[u8], options: &Options, deeply: bool) -> Result<Read, String> {
    let mut reader = Reader::from_stream(Cursor::new(file.to_vec()), options.clone());
    let mut fold = Fold::new();
    let (mut last, mut known, mut ended) = ((0, None), None, true);
    let result = loop {
        let item = match reader.next() {
            Ok(Some(item)) => item,
            Ok(None) => break Ok(()),
            Err(error) => {
                assert!(error.place.offset <= file.len() as u64, "{error}");
                break Err(error.to_string());
            }
        };
        // Forward only, and within the file; of what is read in parts the end is what its header says.
        let place = (item.start, item.inside);
        let most = options.large_event_bytes.min(options.max_row_bytes) as u64;
        let large = u64::from(item.header.length) > most;
        assert!(last <= place && item.start < item.end, "{last:?} {place:?}");
        assert!(large || item.inside.is_some() || item.end <= file.len() as u64, "{place:?} {}", item.end);
        last = place;
        match item.event {
            Event::Rows(rows) => {
                assert!(known.is_some(), "rows before any table");
                if deeply {
                    rows::judge(&rows, &mut fold);
                } else if let Err(problem) = rows.walk(&mut fold) {
                    ended = false;
                    break Err(problem.to_string());
                }
            }
            Event::TableMap(map) => known = Some(map.generation),
            Event::Skipped => {
                ended = false;
                break Err(PASSED_OVER.into());
            }
            Event::Query(query) if deeply => drop(query.status()),
            _ => {}
        }
    };
    if deeply && result.is_ok() {
        // Rows that are not sound were passed over; the ways are compared where all are.
        return read(file, options, false);
    }
    // The end stays the end.
    assert!(!ended || matches!(reader.next(), Ok(None)));
    result.map(|()| Read { rows: fold.rows, images: fold.images, sum: fold.sum })
}

/// Changes a file as a stranger would who knows the format: one event, its type, the order, the payload of a compressed
/// transaction. `bytes` changes bytes: the buffer, how many it holds, how many it may hold; how many it holds then.
pub fn binlog_file_mutate(
    data: &mut [u8],
    size: usize,
    max: usize,
    seed: u32,
    bytes: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) -> usize {
    let rng = &mut fastrand::Rng::with_seed(u64::from(seed));
    let mut parts = Parts::of_file(data.get(..size).unwrap_or_default());
    if parts.events.is_empty() || rng.u8(..) < 10 {
        return bytes(data, size, max);
    }
    change(&mut parts, rng, bytes);
    let mut file = parts.file();
    if rng.u8(..) < 8 {
        // A length that is wrong under a wrong checksum, or without one.
        let at = rng.usize(..file.len());
        if let Some(byte) = file.get_mut(at) {
            *byte = rng.u8(..);
        }
    }
    match data.get_mut(..file.len()) {
        Some(place) if file.len() <= max => {
            place.copy_from_slice(&file);
            file.len()
        }
        _ => bytes(data, size, max),
    }
}

fn change(
    parts: &mut Parts,
    rng: &mut fastrand::Rng,
    bytes: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) {
    let events = &mut parts.events;
    if events.is_empty() {
        return;
    }
    let (at, to) = (rng.usize(..events.len()), rng.usize(..events.len()));
    match rng.u8(..16) {
        // The format description is worth more than the others.
        0 if at > 0 => drop(events.remove(at)),
        1 => events.swap(at, to),
        2 | 3 => {
            let copy = events.get(at).cloned();
            events.splice(to..to, copy);
        }
        4 => {
            if let Some(ty) = events.get_mut(at).and_then(|event| event.bytes.get_mut(4)) {
                *ty = TYPES.get(rng.usize(..TYPES.len())).map_or(0, |ty| ty.0);
            }
        }
        5 => {
            if let Some(flags) = events.get_mut(at).and_then(|event| event.bytes.get_mut(17)) {
                *flags = rng.u8(..);
            }
        }
        _ => {
            if let Some(event) = events.get_mut(at) {
                *event = changed(event, rng, bytes);
            }
        }
    }
}

/// Another body.
fn changed(
    event: &Part,
    rng: &mut fastrand::Rng,
    bytes: &mut dyn FnMut(&mut [u8], usize, usize) -> usize,
) -> Part {
    if event.ty() == EventType::TRANSACTION_PAYLOAD
        && rng.u8(..4) > 0
        && let Some(mut nested) = open_payload(event.body())
    {
        change(&mut nested, rng, bytes);
        return event.with_body(&close_payload(&nested));
    }
    let mut body = event.body().to_vec();
    let len = body.len();
    let max = len + 64;
    body.resize(max, 0);
    let len = bytes(&mut body, len, max).min(max);
    event.with_body(body.get(..len).unwrap_or_default())
}

/// Types that are read in a way of their own.
const TYPES: [EventType; 34] = [
    EventType::QUERY,
    EventType::STOP,
    EventType::ROTATE,
    EventType::INTVAR,
    EventType::RAND,
    EventType::USER_VAR,
    EventType::FORMAT_DESCRIPTION,
    EventType::XID,
    EventType::TABLE_MAP,
    EventType::WRITE_ROWS_V1,
    EventType::UPDATE_ROWS_V1,
    EventType::DELETE_ROWS_V1,
    EventType::INCIDENT,
    EventType::HEARTBEAT,
    EventType::IGNORABLE,
    EventType::ROWS_QUERY,
    EventType::WRITE_ROWS,
    EventType::UPDATE_ROWS,
    EventType::DELETE_ROWS,
    EventType::GTID,
    EventType::ANONYMOUS_GTID,
    EventType::PREVIOUS_GTIDS,
    EventType::XA_PREPARE,
    EventType::PARTIAL_UPDATE_ROWS,
    EventType::TRANSACTION_PAYLOAD,
    EventType::HEARTBEAT_V2,
    EventType::GTID_TAGGED,
    EventType::MARIADB_GTID,
    EventType::MARIADB_GTID_LIST,
    EventType::MARIADB_QUERY_COMPRESSED,
    EventType::MARIADB_WRITE_ROWS_COMPRESSED_V1,
    EventType::MARIADB_UPDATE_ROWS_COMPRESSED_V1,
    EventType::MARIADB_BINLOG_CHECKPOINT,
    EventType::MARIADB_START_ENCRYPTION,
];
