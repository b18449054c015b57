//! SUBSCRIBE: a device's own topics, and the watermark that is published on one of them.

use std::time::Duration;

use crate::mqtt::{Publish, QoS, SubAck, Subscribe, Unsubscribe, Version, reason};
use crate::runtime::Mono;
use crate::source::devices::hub::Hub;

use super::{Now, Session, State};

/// Between two watermarks on `…/w`.
const WATERMARK_EVERY: Duration = Duration::from_secs(1);
/// Topic filters a client may hold.
const MAX_FILTERS: usize = 16;

impl Session {
    pub(super) fn on_subscribe(&mut self, now: Now, subscribe: &Subscribe, hub: &mut Hub) {
        let State::Open(open) = &mut self.state else { return };
        let own = format!("dts/v1/{}/", open.device);
        let failed = |reason| if open.version == Version::V5 { reason } else { reason::UNSPECIFIED };
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for filter in &subscribe.filters {
            let text = &filter.filter;
            reasons.push(if !text.starts_with(&own) {
                let device = open.device.clone();
                hub.log.warn(now.mono, "foreign_filter", Some(device.shared()), || {
                    format!("device {device} subscribes to what is not its own: refused")
                });
                failed(reason::NOT_AUTHORIZED)
            } else if open.filters.contains(text) {
                // All that it gets is QoS 0.
                QoS::AtMostOnce as u8
            } else if open.filters.len() < MAX_FILTERS {
                open.filters.push(text.clone());
                QoS::AtMostOnce as u8
            } else {
                failed(reason::QUOTA_EXCEEDED)
            });
        }
        // As a retained message would be.
        open.untold = true;
        let packet_id = subscribe.packet_id;
        self.server.suback(SubAck { packet_id, reasons, reason_string: None, user: Vec::new() });
        let State::Open(open) = &self.state else { return };
        if open.wants("w") && now.mono >= open.tell_from {
            self.tell_watermarks(now.mono, hub);
        }
    }

    pub(super) fn on_unsubscribe(&mut self, unsubscribe: &Unsubscribe) {
        let State::Open(open) = &mut self.state else { return };
        let mut remove = |filter: &String| {
            let known = open.filters.iter().position(|f| f == filter);
            // 0x11: no subscription existed.
            known.map_or(0x11, |at| {
                open.filters.remove(at);
                reason::SUCCESS
            })
        };
        let reasons = unsubscribe.filters.iter().map(&mut remove).collect();
        let packet_id = unsubscribe.packet_id;
        self.server.unsuback(SubAck { packet_id, reasons, reason_string: None, user: Vec::new() });
    }

    pub(super) fn tell_watermarks(&mut self, now: Mono, hub: &Hub) {
        let State::Open(open) = &mut self.state else { return };
        (open.untold, open.tell_from) = (false, now + WATERMARK_EVERY);
        let marks = hub.watermarks.marks(&open.device).into_iter().map(|mark| {
            serde_json::json!({
                "lane": &*mark.lane,
                "epoch": format!("{:016x}", mark.epoch),
                "seq": mark.seq,
                "crc": format!("{:08x}", mark.crc),
            })
        });
        let json = serde_json::json!({ "marks": marks.collect::<Vec<_>>() }).to_string();
        let topic = format!("dts/v1/{}/w", open.device);
        // A client that does not read gets the next one.
        self.server.publish(Publish::new(topic, 0, json), 0).ok();
    }
}
