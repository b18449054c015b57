//! What plain MQTT clients publish: events of kind `message`.
//!
//! Their identity is the device's name, the lane [`LANE`], an epoch of the connection and a number
//! that counts from 1. A client's packet ids mean nothing beyond its connection, so there is no
//! watermark: a message that is sent again on a new connection is a new event.

use std::sync::Arc;

use crate::event::batch::ClockState;
use crate::event::builtin::{Payload, image, message, message_values};
use crate::event::{Batch, BatchBuilder, Op, Origin, RowClock, RowError};
use crate::mqtt::{Publish, Will};

/// The lane of plain clients' messages.
pub const LANE: &str = "mqtt";

/// Numbers the messages of one connection.
#[derive(Debug)]
pub struct Messages {
    source: Arc<str>,
    device: Arc<str>,
    lane: Arc<str>,
    epoch: u64,
    next_seq: u64,
}

impl Messages {
    /// `wall_s` (seconds since 1970) orders the epochs of a device; `random` keeps two of the same
    /// second apart.
    pub fn new(source: Arc<str>, device: Arc<str>, wall_s: u32, random: u32) -> Self {
        let epoch = u64::from(wall_s) << 32 | u64::from(random);
        Self { source, device, lane: LANE.into(), epoch, next_seq: 1 }
    }

    /// The batch of one PUBLISH, stamped with `hlc`.
    pub fn publish(&mut self, publish: &Publish, hlc: u64) -> Result<Batch, RowError> {
        let headers = headers(publish.content_type.as_deref(), &publish.user);
        self.batch(&publish.topic, &publish.payload, headers.as_deref(), hlc)
    }

    /// The batch of a will that is due.
    pub fn will(&mut self, will: &Will, hlc: u64) -> Result<Batch, RowError> {
        let headers = headers(will.content_type.as_deref(), &will.user);
        self.batch(&will.topic, &will.payload, headers.as_deref(), hlc)
    }

    fn batch(
        &mut self,
        topic: &str,
        payload: &[u8],
        headers: Option<&str>,
        hlc: u64,
    ) -> Result<Batch, RowError> {
        let mut rows = BatchBuilder::new(self.source.clone());
        let values = message_values(topic, None, Payload::guess(payload), headers);
        rows.push(Op::Message, hlc, message(), None, image(&values))?;
        let seq = self.next_seq;
        self.next_seq += 1;
        let origin = Origin::Device {
            device: self.device.clone(),
            lane: self.lane.clone(),
            epoch: self.epoch,
            first_seq: seq,
            last_seq: seq,
        };
        // Made here and now, by the centre's clock.
        let clock = RowClock { state: ClockState::Synced, boot_offset_us: None };
        Ok(Batch { origin, clock, ..rows.finish() })
    }
}

/// A JSON object of the content type and the user properties; a repeated name is a list.
fn headers(content_type: Option<&str>, user: &[(String, String)]) -> Option<String> {
    use serde_json::Value;
    let mut all = serde_json::Map::new();
    if let Some(kind) = content_type {
        all.insert("content-type".into(), kind.into());
    }
    for (name, value) in user {
        match all.get_mut(name) {
            None => drop(all.insert(name.clone(), value.as_str().into())),
            Some(Value::Array(values)) => values.push(value.as_str().into()),
            Some(one) => *one = Value::Array(vec![one.take(), value.as_str().into()]),
        }
    }
    (!all.is_empty()).then(|| Value::Object(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Value;

    fn one(payload: &[u8], user: &[(&str, &str)]) -> Batch {
        let mut messages = Messages::new("in".into(), "box".into(), 5, 7);
        let mut publish = Publish::new("a/b", 1, payload.to_vec());
        publish.user = user.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        publish.content_type = Some("text/x".into());
        messages.publish(&publish, 9 << 16).unwrap();
        messages.publish(&publish, 9 << 16).unwrap()
    }

    fn columns(batch: &Batch) -> Vec<String> {
        let row = batch.iter().next().unwrap().unwrap();
        let image = row.images().unwrap().1.unwrap();
        let text = |v: Value<'_>| match v {
            Value::Text(t) => t.to_owned(),
            Value::Null => "-".to_owned(),
            other => format!("{other:?}"),
        };
        image.iter().map(|(_, v)| text(v)).collect()
    }

    #[test]
    fn a_publish_is_a_message_event_with_an_identity() {
        let batch = one(br#"{"a":1}"#, &[("k", "v"), ("k", "w"), ("z", "1")]);
        assert_eq!(batch.row_id(0), "box/mqtt/0000000500000007/2");
        let headers = r#"{"content-type":"text/x","k":["v","w"],"z":"1"}"#;
        assert_eq!(columns(&batch), ["-", "a/b", r#"{"a":1}"#, "-", "-", headers]);
    }

    #[test]
    fn what_is_no_json_is_text_or_bytes() {
        assert_eq!(columns(&one(b"{broken", &[]))[3], "{broken");
        assert_eq!(columns(&one(b"\xff\xfe", &[]))[4], "Bytes([255, 254])");
        assert_eq!(columns(&one(b"", &[]))[3], "");
    }
}
