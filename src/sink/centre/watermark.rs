//! The centre's watermark of a device as it is published (`dts/v1/<device>/w`, retained):
//!
//! ```json
//! {"marks": [{"lane": "data", "epoch": "00000003deadbeef", "seq": 17, "crc": "0000002a"}]}
//! ```
//!
//! Read by a device whose frames go through a foreign broker, with `ack: centre`.

use serde::Deserialize;

use super::wire::Mark;

/// Most marks read of one message.
const MAX_MARKS: usize = 1024;

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    marks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    lane: String,
    epoch: String,
    seq: u64,
    #[serde(default)]
    crc: String,
}

/// The marks of a payload. What cannot be read is left out: the frames stay in the spool.
pub(super) fn parse(payload: &[u8]) -> Vec<Mark> {
    let Ok(document) = serde_json::from_slice::<Document>(payload) else {
        crate::telemetry::count("dts_ship_bad_messages_total", &[("topic", "w")], 1);
        return Vec::new();
    };
    let marks = document.marks.into_iter().take(MAX_MARKS);
    marks
        .filter_map(|e| {
            let epoch = u64::from_str_radix(&e.epoch, 16).ok()?;
            Some(Mark { lane: e.lane, epoch, seq: e.seq, crc: u32::from_str_radix(&e.crc, 16).unwrap_or(0) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let good =
            br#"{"marks": [{"lane": "data", "epoch": "00000003deadbeef", "seq": 17, "crc": "0000002a"},
            {"lane": "x", "epoch": "no", "seq": 1}], "later": true}"#;
        let marks = parse(good);
        assert_eq!(marks, [Mark { lane: "data".into(), epoch: 0x3_dead_beef, seq: 17, crc: 42 }]);
        for bad in [
            &b""[..],
            b"[]",
            b"{\"marks\": 3}",
            b"\xff",
            b"{\"marks\":[{\"lane\":\"a\",\"epoch\":\"1\",\"seq\":-1}]}",
        ] {
            assert_eq!(parse(bad), [], "{bad:?}");
        }
    }
}
