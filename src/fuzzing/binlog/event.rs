//! Events one by one, of tables that are made of the input's choices.

use super::rows;
use crate::mqtt::codec::sample::Gen;
use crate::source::mysql::binlog::gtid::MySqlGtidSet;
use crate::source::mysql::binlog::{
    Checksum, ColumnHint, Decoder, Event, EventType as T, Fold, HEADER_BYTES, KeyPart, Special,
};

/// Servers and whether their events have checksums, by the first byte.
const SERVERS: [(&str, bool); 8] = [
    ("9.7.0", true),
    ("8.0.36", false),
    ("5.7.44-log", true),
    ("5.5.62", false),
    ("5.5.5-10.11.6-MariaDB", true),
    ("11.8.2-MariaDB", false),
    ("10.5.23-MariaDB-log", true),
    ("5.0.96", false),
];

/// The first byte picks the server; then events: type, body's length (big-endian), body. Type 0 stands for a table and
/// rows of it, made of choices.
pub fn binlog_event(data: &[u8]) {
    let g = &mut Gen(data);
    let (server, crc) = SERVERS[usize::from(g.pick(8))];
    let mut stream = Stream { decoder: Decoder::new(), crc: false, fold: Fold::new(), table_id: 1 };
    stream.event(T::FORMAT_DESCRIPTION, &format_description(server, crc));
    stream.crc = crc;
    let mut events = 0;
    while !g.0.is_empty() && events < 64 {
        match g.u8() {
            0 => made(g, &mut stream),
            ty => {
                let len = usize::from(g.u16());
                let body = g.take(len);
                stream.event(T(ty), body);
            }
        }
        events += 1;
    }
}

/// Its body: what a server of the name writes, as far as the decoder looks at it.
fn format_description(server: &str, crc: bool) -> Vec<u8> {
    let mut body = vec![4, 0];
    let mut name = server.as_bytes().to_vec();
    name.resize(50, 0);
    body.extend(name);
    body.extend([0, 0, 0, 0, 19]);
    let types = if server.contains("MariaDB") { 171 } else { 42 };
    let lengths = (1..=types).map(|ty| match ty {
        2 | 165 => 13,
        4 | 19 | 23..=25 => 8,
        15 => 98,
        30..=32 | 39 => 10,
        166..=168 => 8,
        _ => 0,
    });
    body.extend(lengths);
    // Before 5.6 there is no more.
    if !server.starts_with("5.5.6") && !server.starts_with("5.0") {
        body.push(u8::from(crc));
    }
    body
}

struct Stream {
    decoder: Decoder,
    crc: bool,
    fold: Fold,
    table_id: u64,
}

impl Stream {
    /// One with the checksum that it must have. Whether it could be read.
    fn event(&mut self, ty: T, body: &[u8]) -> bool {
        let mut event = vec![1, 0, 0, 0, ty.0, 7, 0, 0, 0];
        let sealed = self.crc || ty == T::FORMAT_DESCRIPTION && body.len() > 60;
        let length = HEADER_BYTES + body.len() + if sealed { 4 } else { 0 };
        event.extend_from_slice(&(length as u32).to_le_bytes());
        event.extend([0; 6]);
        event.extend_from_slice(body);
        if sealed {
            event.extend_from_slice(&crc32fast::hash(&event).to_le_bytes());
        }
        let Ok((header, read)) = self.decoder.decode(&event) else { return false };
        assert_eq!((header.event_type, header.length as usize), (ty, event.len()));
        match read {
            Event::Rows(rows) => rows::judge(&rows, &mut self.fold),
            Event::Query(query) => {
                let _ = query.status();
                true
            }
            Event::PreviousGtids(set) => {
                // As text, the same set.
                let again: Result<MySqlGtidSet, _> = set.to_string().parse();
                let small = set.ranges().all(|(.., last)| last < i64::MAX as u64);
                assert!(!small || again.as_ref() == Ok(&*set), "{set} {again:?}");
                assert!(set.contains_set(&set));
                true
            }
            Event::TableMap(map) => {
                let (id, n) = (map.table_id, map.columns.len());
                describe(&mut self.decoder, id, n);
                true
            }
            Event::FormatDescription(format) => {
                self.crc = format.checksum == Checksum::Crc32;
                true
            }
            other => {
                assert!(!format!("{other:?}").is_empty());
                true
            }
        }
    }
}

/// What a DDL reader might say of it, right or wrong.
fn describe(decoder: &mut Decoder, id: u64, n: usize) {
    let specials = [
        None,
        Some(Special::Uuid),
        Some(Special::UuidSwapped),
        Some(Special::Inet4),
        Some(Special::Inet6),
        Some(Special::Vector),
    ];
    let hint = |i: usize| ColumnHint {
        name: Some(format!("c{i}").into()),
        unsigned: Some(i.is_multiple_of(2)),
        charset: Some([63, 45, 8, 28][i % 4]),
        labels: if i.is_multiple_of(3) { [b"x".as_slice().into()].into() } else { [].into() },
        key: (i == 0).then_some(KeyPart { ordinal: 0, prefix: 0 }),
        special: specials.get((i + id as usize) % 6).copied().flatten(),
        fsp: Some((i % 9) as u8),
    };
    let hints: Vec<_> = (0..n).map(hint).collect();
    assert!(!matches!(decoder.describe(id, &hints), Ok(false)) || decoder.table(id).is_none());
    assert!(!matches!(decoder.describe(id, &[]), Ok(true)) || n == 0);
}

/// A column's type with metadata that a server could write, mostly.
fn column(g: &mut Gen<'_>, types: &mut Vec<u8>, meta: &mut Vec<u8>) {
    const PLAIN: [u8; 13] = [1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 6, 20];
    const ONE: [u8; 9] = [4, 5, 252, 252, 245, 255, 242, 140, 249];
    match g.pick(10) {
        0 | 1 => types.push(PLAIN[usize::from(g.pick(13))]),
        2 | 3 => {
            let (ty, n) = (ONE[usize::from(g.pick(9))], g.u8());
            types.push(ty);
            meta.push(match ty {
                4 => 4,
                5 => 8,
                _ => 1 + n % 5,
            });
        }
        4 => {
            types.push([17, 18, 19][usize::from(g.pick(3))]);
            meta.push(g.pick(8));
        }
        5 => {
            types.push([15, 253, 141][usize::from(g.pick(3))]);
            meta.extend_from_slice(g.take(2));
        }
        6 => {
            types.push(246);
            let precision = g.pick(67);
            meta.extend([precision, g.u8() % (precision + 1)]);
        }
        7 => {
            types.push(16);
            meta.extend([g.pick(9), g.pick(9)]);
        }
        8 => {
            types.push(254);
            meta.extend([[247, 248][usize::from(g.pick(2))], 1 + g.pick(8)]);
        }
        _ => {
            types.push(254);
            meta.extend([[254, 238, 222, 206][usize::from(g.pick(4))], g.u8()]);
        }
    }
}

/// A table, then events of its rows.
fn made(g: &mut Gen<'_>, stream: &mut Stream) {
    stream.table_id += 1;
    let id = stream.table_id.to_le_bytes();
    let id = id.get(..6).unwrap_or_default();
    let count = 1 + g.pick(12);
    let (mut types, mut meta) = (Vec::new(), Vec::new());
    (0..count).for_each(|_| column(g, &mut types, &mut meta));
    let mut map = [id, &[1, 0, 1, b'd', 0, 1, b't', 0, count]].concat();
    map.extend_from_slice(&types);
    map.push(meta.len() as u8);
    map.extend_from_slice(&meta);
    map.extend([0xff, 0xff].get(..usize::from(count).div_ceil(8)).unwrap_or_default());
    while g.bit() {
        let (field, len) = (g.pick(15), g.pick(32));
        map.extend([field, len]);
        let value = g.take(usize::from(len));
        map.extend_from_slice(value);
        map.resize(map.len() + usize::from(len) - value.len(), 0);
    }
    if !stream.event(T::TABLE_MAP, &map) {
        return;
    }
    const ROWS: [T; 8] = [
        T::WRITE_ROWS,
        T::UPDATE_ROWS,
        T::DELETE_ROWS,
        T::PARTIAL_UPDATE_ROWS,
        T::WRITE_ROWS_V1,
        T::UPDATE_ROWS_V1,
        T::PARTIAL_UPDATE_ROWS,
        T::UPDATE_ROWS,
    ];
    for _ in 0..g.pick(3) {
        let ty = ROWS[usize::from(g.pick(8))];
        let mut body = [id, &[0, 0]].concat();
        if !matches!(ty, T::WRITE_ROWS_V1 | T::UPDATE_ROWS_V1) {
            body.extend([2, 0]);
        }
        body.push(count);
        let bitmaps =
            if matches!(ty, T::UPDATE_ROWS | T::UPDATE_ROWS_V1 | T::PARTIAL_UPDATE_ROWS) { 2 } else { 1 };
        for _ in 0..bitmaps * usize::from(count).div_ceil(8) {
            body.push(if g.bit() { 0xff } else { g.u8() });
        }
        let len = usize::from(g.u8());
        body.extend_from_slice(g.take(len));
        stream.event(ty, &body);
    }
}
