//! MariaDB's types that the binlog carries as BINARY(n), trailing zero bytes cut off.

use super::super::error::Malformed;

/// With the zero bytes that the server cut off.
pub(super) fn padded<const N: usize>(raw: &[u8]) -> Result<[u8; N], Malformed> {
    let mut whole = [0; N];
    match whole.get_mut(..raw.len()) {
        Some(front) => front.copy_from_slice(raw),
        None => return Err(Malformed::Trailing(raw.len() - N)),
    }
    Ok(whole)
}

/// From storage order to text order. UUIDs of versions 1 to 5 are stored as `node, clock, high, mid,
/// low`, so that those of one node sort by time (`sql/sql_type_uuid.h`, `record_to_memory`).
pub(super) fn uuid(raw: [u8; 16], always_swapped: bool) -> [u8; 16] {
    let swapped = raw[6] & (raw[8] as i8).wrapping_neg() as u8 & 0x80 != 0;
    if !(always_swapped || swapped) {
        return raw;
    }
    let [n0, n1, n2, n3, n4, n5, c0, c1, h0, h1, m0, m1, l0, l1, l2, l3] = raw;
    [l0, l1, l2, l3, m0, m1, h0, h1, c0, c1, n0, n1, n2, n3, n4, n5]
}
