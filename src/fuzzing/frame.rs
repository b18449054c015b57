//! Frames as a device sends them: right checksums over wrong contents.

use std::sync::Arc;

use bytes::Bytes;

use super::row;
use crate::event::{Batch, Origin, RowClock, Table};
use crate::frame::{self, Codec, Header, HeaderV1};
use crate::mqtt::codec::sample::Gen;

const MAX_BODY: usize = 64 << 10;

/// The first byte says whether `data` is a frame as it is, or what to make one of.
pub fn frame(data: &[u8]) {
    let g = &mut Gen(data);
    let bytes = match g.pick(4) {
        0 => Bytes::copy_from_slice(g.0),
        1 => sealed(g),
        _ => made(g),
    };
    let Ok((header, body)) = frame::decode(&bytes, MAX_BODY) else { return };
    assert!(body.len() <= MAX_BODY);
    let Header::V1(h) = &header;
    assert_eq!((h.body_len as usize, h.body_crc), (body.len(), crc32c::crc32c(&body)));
    let tables: Vec<Arc<Table>> = h.tables.iter().filter_map(|t| Table::decode(t)).map(Arc::new).collect();
    let known = |hash| tables.iter().find(|t| t.hash() == hash).cloned();
    if let Ok(batch) =
        Batch::from_body("s".into(), Origin::Input, RowClock::default(), h.rows, body.clone(), known)
    {
        row::judge(&batch);
    }
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        // A header that was longer than another would write it.
        let Ok(again) = frame::encode(&header, &body, codec) else { continue };
        assert_eq!(frame::decode(&again.into(), MAX_BODY).as_ref(), Ok(&(header.clone(), body.clone())));
    }
}

/// Any content under a right checksum.
fn sealed(g: &mut Gen<'_>) -> Bytes {
    let mut bytes = vec![b'd', b'T', 1, g.pick(4), 0, 0, 0, 0];
    bytes.extend_from_slice(g.0);
    let crc = crc32c::crc32c(bytes.get(8..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(4..8) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    bytes.into()
}

/// A frame with a header whose parts are chosen; mostly right.
pub(super) fn made(g: &mut Gen<'_>) -> Bytes {
    let table = row::table(g);
    let (first, rows) = (u64::from(g.u8()), u32::from(g.pick(4)));
    let odd = g.u8();
    let tables = if odd & 1 == 0 { vec![table.encode()] } else { vec![g.take(9).to_vec()] };
    let lane = ["data", "a", "", "a/b"][usize::from(g.pick(4))].to_owned();
    let codec = [Codec::None, Codec::Lz4, Codec::Zstd][usize::from(g.pick(3))];
    let claimed = g.u16();
    let mut body = vec![1, 0, 1, 0];
    body.extend(table.hash().to_le_bytes());
    let len = usize::from(g.u8());
    body.extend_from_slice(g.take(len));
    let header = HeaderV1 {
        lane,
        epoch: 3 << 32 | u64::from(odd >> 6),
        base: u64::from(odd >> 1 & 3),
        first_seq: if odd == 255 { u64::MAX - first } else { first },
        last_seq: (first + u64::from(rows)).saturating_sub(1),
        rows,
        body_crc: crc32c::crc32c(&body) ^ u32::from(odd & 7 == 7),
        body_len: if odd & 56 == 56 { u32::from(claimed) << 12 } else { body.len() as u32 },
        source: "app".into(),
        clock: odd >> 4 & 3,
        boot_offset_us: (odd & 2 == 0).then_some(-5),
        tables,
    };
    frame::encode(&Header::V1(header), &body, codec).map_or_else(|_| Bytes::new(), Bytes::from)
}
