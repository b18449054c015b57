use bytes::Bytes;

use super::*;

pub(super) fn sample() -> (Header, Vec<u8>) {
    let body = b"body body body body body body body body".repeat(8);
    let header = Header::V1(HeaderV1 {
        lane: "data".into(),
        epoch: 0x0000_0003_dead_beef,
        base: 5,
        first_seq: 7,
        last_seq: 9,
        rows: 3,
        body_crc: crc32c::crc32c(&body),
        body_len: body.len() as u32,
        source: "app".into(),
        clock: 2,
        boot_offset_us: Some(-5),
        tables: vec![vec![1, 2, 3]],
    });
    (header, body)
}

#[test]
fn golden_bytes_of_version_1() {
    let (header, body) = sample();
    let frame = encode(&header, &body[..13], Codec::None);
    let hex: String = frame.unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, include_str!("golden_v1.hex").trim());
}

#[test]
fn frames_read_back() {
    let (header, body) = sample();
    for codec in [Codec::None, Codec::Lz4] {
        let frame: Bytes = encode(&header, &body, codec).unwrap().into();
        let (h, b) = decode(&frame, 1 << 20).unwrap();
        assert_eq!((h, &b[..]), (header.clone(), &body[..]));
        assert!(codec == Codec::None || frame.len() < body.len());
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let (header, body) = sample();
    let frame = encode(&header, &body, Codec::Lz4).unwrap();
    for at in 0..frame.len() {
        for bit in 0..8 {
            let mut bent = frame.clone();
            bent[at] ^= 1 << bit;
            assert!(decode(&bent.into(), 1 << 20).is_err(), "byte {at} bit {bit}");
        }
        assert!(decode(&Bytes::copy_from_slice(&frame[..at]), 1 << 20).is_err());
    }
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_inflated() {
    let (Header::V1(mut h), _) = sample();
    let body = vec![0; 1 << 20];
    h.body_len = body.len() as u32;
    h.body_crc = crc32c::crc32c(&body);
    let frame: Bytes = encode(&Header::V1(h.clone()), &body, Codec::Lz4).unwrap().into();
    assert_eq!(decode(&frame, 1 << 19), Err(FrameError::TooLarge { len: 1 << 20, max: 1 << 19 }));
    // And one that lies about its length inflates to no more than it says.
    h.body_len = 64;
    let frame: Bytes = encode(&Header::V1(h), &body, Codec::Lz4).unwrap().into();
    assert!(decode(&frame, 1 << 19).is_err());
}
