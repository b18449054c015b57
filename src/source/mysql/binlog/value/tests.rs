use super::super::plan::{Read, Step};
use super::*;

fn one(read: Read, a: u8, b: u8, raw: &[u8]) -> Value<'_> {
    let mut rest = raw;
    let value = super::read(Step { read, a, b }, &mut rest).unwrap();
    assert!(rest.is_empty(), "{read:?} left {rest:x?}");
    for cut in 0..raw.len() {
        assert!(super::read(Step { read, a, b }, &mut &raw[..cut]).is_err());
    }
    value
}

fn datetime_text(value: Value<'_>, fsp: u8) -> String {
    let mut out = Vec::new();
    match value {
        Value::DateTime(n) => crate::codec::text::datetime(&mut out, n, fsp),
        Value::Time(n) => crate::codec::text::time(&mut out, n, fsp),
        Value::Timestamp(n) => crate::codec::text::timestamp(&mut out, n, fsp),
        other => panic!("{other:?}"),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn integers_of_three_bytes_keep_their_sign() {
    assert_eq!(one(Read::I24, 0, 0, &[0xff, 0xff, 0x7f]), Value::Int(8_388_607));
    assert_eq!(one(Read::I24, 0, 0, &[0, 0, 0x80]), Value::Int(-8_388_608));
    assert_eq!(one(Read::U24, 0, 0, &[0xff, 0xff, 0xff]), Value::Uint(16_777_215));
}

#[test]
fn times_of_the_three_ages() {
    // From 5.6, my_time_packed_to_binary: 0x800000 is 0.
    for (raw, fsp, text) in [
        (&[0x80, 0, 0][..], 0, "00:00:00"),
        (&[0x7f, 0xff, 0xff], 0, "-00:00:01"),
        (&[0xb4, 0x6e, 0xfb], 0, "838:59:59"),
        // The manual's own table of -00:00:01.10: 7FFFFE F6.
        (&[0x7f, 0xff, 0xfe, 0xf6], 2, "-00:00:01.10"),
        (&[0x7f, 0xff, 0xff, 0xf6], 2, "-00:00:00.10"),
        (&[0x7f, 0xff, 0xff, 0x00], 2, "-00:00:01.00"),
        (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], 6, "-00:00:00.000001"),
    ] {
        let bytes = 3 + fsp / 2;
        assert_eq!(datetime_text(one(Read::Time, fsp, bytes, raw), fsp), text);
    }
    // Before 5.6.
    assert_eq!(datetime_text(one(Read::OldTime, 0, 0, &8_385_959i32.to_le_bytes()[..3]), 0), "838:59:59");
    assert_eq!(datetime_text(one(Read::OldTime, 0, 0, &(-10_203i32).to_le_bytes()[..3]), 0), "-01:02:03");
    // MariaDB 5.3 with digits.
    let zero = 3_020_400_000_000u64;
    let raw = (zero - 1_500_000).to_be_bytes();
    assert_eq!(datetime_text(one(Read::HiresTime, 6, 6, &raw[2..]), 6), "-00:00:01.500000");
}

#[test]
fn dates_and_times_of_the_three_ages() {
    let raw = [0x99, 0xb2, 0xbb, 0x7e, 0xfb, 0x0f, 0x42, 0x3f];
    assert_eq!(datetime_text(one(Read::DateTime, 6, 8, &raw), 6), "2024-02-29 23:59:59.999999");
    assert_eq!(datetime_text(one(Read::DateTime, 0, 5, &[0x80, 0, 0, 0, 0]), 0), "0000-00-00 00:00:00");
    let old = 20_240_229_235_959u64.to_le_bytes();
    assert_eq!(datetime_text(one(Read::OldDateTime, 0, 0, &old), 0), "2024-02-29 23:59:59");
    let hires = (((((2024u64 * 13 + 2) * 32 + 29) * 24 + 23) * 60 + 59) * 60 + 59) * 1000 + 25;
    assert_eq!(
        datetime_text(one(Read::HiresDateTime, 3, 7, &hires.to_be_bytes()[1..]), 3),
        "2024-02-29 23:59:59.025"
    );
    assert_eq!(datetime_text(one(Read::Timestamp, 0, 4, &[0; 4]), 0), "0000-00-00T00:00:00Z");
    assert_eq!(datetime_text(one(Read::Timestamp, 1, 5, &[0, 0, 0, 1, 50]), 1), "1970-01-01T00:00:01.5Z");
    assert_eq!(
        datetime_text(one(Read::HiresTimestamp, 3, 6, &[0, 0, 0, 1, 1, 0xf4]), 3),
        "1970-01-01T00:00:01.500Z"
    );
}

#[test]
fn strings_and_bits() {
    assert_eq!(one(Read::Short, 0, 0, b"\x03abc"), Value::Bytes(b"abc"));
    assert_eq!(one(Read::Long, 0, 0, b"\x03\x00abc"), Value::Bytes(b"abc"));
    assert_eq!(one(Read::Blob, 3, 0, b"\x03\x00\x00abc"), Value::Bytes(b"abc"));
    assert_eq!(one(Read::Bit, 2, 0, &[1, 2]), Value::Bit(258));
    assert_eq!(one(Read::Set, 8, 0, &[0xff; 8]), Value::Set(u64::MAX));
    assert_eq!(one(Read::Enum, 2, 0, &[44, 1]), Value::Enum(300));
    assert_eq!(one(Read::Year, 0, 0, &[0]), Value::Year(0));
    assert_eq!(one(Read::Year, 0, 0, &[255]), Value::Year(2155));
}

#[test]
fn mariadbs_uuids_are_turned_round_by_version() {
    // 123e4567-e89b-12d3-a456-426655440000, stored as node, clock, high, mid, low.
    let stored = [0x42, 0x66, 0x55, 0x44, 0, 0, 0xa4, 0x56, 0x12, 0xd3, 0xe8, 0x9b, 0x12, 0x3e, 0x45, 0x67];
    let text = [0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x55, 0x44, 0, 0];
    let raw = [&[16][..], &stored].concat();
    assert_eq!(one(Read::Uuid, 0, 0, &raw), Value::Uuid(text));
    assert_eq!(one(Read::UuidSwapped, 0, 0, &raw), Value::Uuid(text));
    // Version 7 is stored as it is; trailing zero bytes are cut off.
    let seven = [0x01, 0x90, 0xb5, 0xa6, 0x7c, 0x3e, 0x7d, 0x80, 0x9f, 0x6a];
    let raw = [&[10][..], &seven].concat();
    let Value::Uuid(read) = one(Read::Uuid, 0, 0, &raw) else { panic!() };
    assert_eq!(read[..10], seven);
    assert!(super::read(Step { read: Read::Inet4, a: 0, b: 0 }, &mut &b"\x05abcde"[..]).is_err());
}

/// As MySQL 9.7 made one of a document's members.
#[test]
fn a_decimal_of_a_document_may_count_more_digits_than_a_column_has() {
    let raw = [
        0x42, 0x1e, 0x80, 0x01, 0x21, 0x12, 0x27, 0x49, 0xc8, 0xf1, 0x28, 0x75, 0x79, 0xfb, 0x2e, 0x6c, 0x47,
        0xe9, 0x30, 0x2e, 0x3f, 0xf5, 0x16, 0x28, 0x6f, 0x29, 0x10, 0x37, 0x4d, 0xea, 0x02, 0x1d,
    ];
    let mut out = Vec::new();
    Decimal::tagged(&raw).unwrap().write(&mut out).unwrap();
    assert_eq!(out, b"74002659146993678787579778848233.808337397371748649272059882541");
    assert!(Decimal::tagged(&[82, 0]).is_err());
}

#[test]
fn a_damaged_decimal_is_an_error() {
    // Nine digits that are ten.
    let raw = [0xff, 0xff, 0xff, 0xff];
    let decimal = Decimal::new(&raw, 9, 0);
    let mut out = b"x".to_vec();
    assert!(decimal.write(&mut out).is_err());
    assert_eq!(out, b"x");
    assert!(decimal.unscaled().is_err());
    assert_eq!(decimal::bytes(66, 0), None);
    assert_eq!(decimal::bytes(5, 6), None);
    assert_eq!(decimal::bytes(0, 0), None);
}

/// A decimal as the server packs it.
fn pack(text: &str, precision: u8, scale: u8) -> Vec<u8> {
    let negative = text.starts_with('-');
    let (whole, fraction) =
        text.trim_start_matches('-').split_once('.').unwrap_or_else(|| (text.trim_start_matches('-'), ""));
    let whole = format!("{:0>1$}", whole, usize::from(precision - scale));
    let whole = &whole[whole.len() - usize::from(precision - scale)..];
    let fraction = format!("{:0<1$}", fraction, usize::from(scale));
    let mut out = Vec::new();
    let mut group = |digits: &str| {
        let len = usize::from(decimal::GROUP_BYTES[digits.len()]);
        let n: u32 = if digits.is_empty() { 0 } else { digits.parse().unwrap() };
        out.extend_from_slice(&n.to_be_bytes()[4 - len..]);
    };
    let (head, rest) = whole.split_at(whole.len() % 9);
    group(head);
    rest.as_bytes().chunks(9).for_each(|c| group(std::str::from_utf8(c).unwrap()));
    fraction.as_bytes().chunks(9).for_each(|c| group(std::str::from_utf8(c).unwrap()));
    out[0] ^= 0x80;
    if negative {
        out.iter_mut().for_each(|b| *b = !*b);
    }
    out
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn decimals_of_every_shape(precision in 1u8..=65, scale in 0u8..=30, digits in "[0-9]{65}", negative: bool) {
        let scale = scale.min(precision);
        let whole = digits[..usize::from(precision - scale)].trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let fraction = &digits[65 - usize::from(scale)..];
        let zero = whole == "0" && fraction.bytes().all(|b| b == b'0');
        let sign = if negative && !zero { "-" } else { "" };
        let text = if scale > 0 { format!("{sign}{whole}.{fraction}") } else { format!("{sign}{whole}") };
        let raw = pack(&text, precision, scale);
        proptest::prop_assert_eq!(Some(raw.len()), decimal::bytes(precision, scale));
        let decimal = Decimal::new(&raw, precision, scale);
        let mut out = Vec::new();
        decimal.write(&mut out).unwrap();
        proptest::prop_assert_eq!(std::str::from_utf8(&out).unwrap(), &text);
        let unscaled: Option<i128> = (precision <= 38).then(|| text.replace('.', "").parse().unwrap());
        proptest::prop_assert_eq!(decimal.unscaled().unwrap(), unscaled);
    }
}
