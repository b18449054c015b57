use bytes::Bytes;

use super::Dictionary;
use crate::frame::tests::sample;
use crate::frame::{Codec, FrameError, Header, decode, decode_with, encode_with};

/// Trained on bodies like the one that follows.
fn trained(kind: &str) -> (Dictionary, Vec<u8>) {
    let body = |n: u32| {
        let row =
            |i: u32| format!("{{\"sensor\":\"{kind}-{}\",\"celsius\":{},\"ok\":true}}", i % 7, n * 31 + i);
        (0..8).map(row).collect::<String>().into_bytes()
    };
    let samples: Vec<Vec<u8>> = (0..500).map(body).collect();
    let bytes = ::zstd::dict::from_samples(&samples, 4096).unwrap();
    (Dictionary::new(&bytes).unwrap(), body(9999))
}

fn frame(body: &[u8], dictionary: Option<&Dictionary>) -> Bytes {
    let (Header::V1(mut header), _) = sample();
    (header.body_len, header.body_crc) = (body.len() as u32, crc32c::crc32c(body));
    encode_with(&Header::V1(header), body, Codec::Zstd, dictionary).unwrap().into()
}

#[test]
fn a_dictionary_makes_small_frames_smaller_and_is_named_by_its_id() {
    let ((own, body), (other, _)) = (trained("boiler"), trained("pump"));
    assert_ne!(own.id(), other.id());
    let (plain, with) = (frame(&body, None), frame(&body, Some(&own)));
    assert_eq!((plain[3], with[3]), (2, 3));
    assert!(with.len() < plain.len(), "{} against {}", with.len(), plain.len());
    for known in [&[own.clone()][..], &[other.clone(), own.clone()]] {
        assert_eq!(decode_with(&with, 1 << 20, known).unwrap().1, body);
        assert_eq!(decode_with(&plain, 1 << 20, known).unwrap().1, body);
    }
    for unknown in [&[][..], &[other]] {
        assert_eq!(decode_with(&with, 1 << 20, unknown), Err(FrameError::Dictionary(own.id())));
    }
    assert_eq!(decode(&with, 1 << 20), Err(FrameError::Dictionary(own.id())));
}

#[test]
fn a_bomb_with_a_dictionary_inflates_to_no_more_than_it_says() {
    let (own, _) = trained("boiler");
    let body = vec![0; 4 << 20];
    let (Header::V1(mut header), _) = sample();
    (header.body_len, header.body_crc) = (64, crc32c::crc32c(&body));
    let bomb = encode_with(&Header::V1(header), &body, Codec::Zstd, Some(&own)).unwrap();
    assert!(bomb.len() < 10_000);
    let refused = decode_with(&bomb.into(), 1 << 20, std::slice::from_ref(&own));
    assert_eq!(refused, Err(FrameError::Malformed("zstd body")));
    let honest = frame(&body, Some(&own));
    assert!(matches!(decode_with(&honest, 1 << 20, &[own]), Err(FrameError::TooLarge { .. })));
}

#[test]
fn what_is_no_dictionary_is_refused() {
    for bytes in [&b""[..], b"raw content without an id", &[0x37, 0xa4, 0x30, 0xec, 0, 0, 0, 0]] {
        assert!(Dictionary::new(bytes).is_none());
    }
    let missing = Dictionary::open(std::path::Path::new("/nowhere/dts.dict")).unwrap_err();
    assert!(missing.contains("/nowhere/dts.dict"), "{missing}");
}
