//! PUBLISH: a frame, a message, or a question for the time; on its own topics only.

use crate::mqtt::{Publish, QoS, UserProperties, reason};
use crate::runtime::Mono;
use crate::source::devices::auth::DeviceName;
use crate::source::devices::frames::Outcome;
use crate::source::devices::hub::Hub;
use crate::source::devices::watermark::Waiter;
use crate::telemetry::count;

use super::{Now, Session, State};

impl Session {
    pub(super) fn on_publish(&mut self, now: Now, publish: &Publish, hub: &mut Hub) {
        if self.closing {
            return;
        }
        let shed = self.shedding || (self.server.is_closed() && self.is_blocked(now.mono, hub));
        let State::Open(open) = &mut self.state else { return };
        match place_of(&open.device, &publish.topic) {
            Ok(PlaceOf::Time) => self.answer_time(now, publish),
            Ok(_) if shed => {
                count("dts_publishes_shed_total", &[], 1);
                self.nack(publish, reason::QUOTA_EXCEEDED, Vec::new());
            }
            Ok(PlaceOf::Frames) => self.on_frame(now.mono, publish, hub),
            Ok(PlaceOf::Messages) => self.on_message(now.mono, publish, hub),
            Err(reason) => {
                count("dts_publishes_refused_total", &[("reason", reason::name(reason))], 1);
                if reason == reason::NOT_AUTHORIZED {
                    let device = open.device.clone();
                    hub.log.warn(now.mono, "foreign_topic", Some(device.shared()), || {
                        format!("device {device} publishes on a topic that is not its own: refused")
                    });
                    if publish.qos == QoS::AtMostOnce {
                        return self.close(reason, "not this device's topic", Vec::new());
                    }
                }
                self.nack(publish, reason, Vec::new());
            }
        }
    }

    pub(super) fn on_frame(&mut self, now: Mono, publish: &Publish, hub: &mut Hub) {
        let State::Open(open) = &mut self.state else { return };
        let waiter = Waiter { connection: self.id, packet: publish.packet_id };
        match open.frames.take(now, hub, &publish.payload, waiter) {
            Outcome::Wait { bytes } => open.wait_for(publish.packet_id, bytes),
            Outcome::Durable => self.server.ack(publish.packet_id, reason::SUCCESS, Vec::new()),
            Outcome::Refuse { reason, why, need_tables } => {
                log::debug!("device {}: frame refused: {why}", open.device);
                let mut user = vec![("dts-why".to_owned(), why)];
                if need_tables {
                    user.push(("dts-need".to_owned(), "tables".to_owned()));
                }
                self.nack(publish, reason, user);
            }
            Outcome::Close { reason, why, fork } => {
                let label = if fork.is_some() { "fork" } else { reason::name(reason) };
                count("dts_frames_bad_total", &[("reason", label)], 1);
                let device = open.device.clone();
                hub.log.warn(now, "bad_frame", Some(device.shared()), || {
                    format!(
                        "device {device}: {why}; its connection is closed, nothing of the frame is passed on"
                    )
                });
                let fork = fork.map(|fork| ("dts-fork".to_owned(), fork));
                self.close(reason, &why, fork.into_iter().collect());
            }
        }
    }

    pub(super) fn on_message(&mut self, now: Mono, publish: &Publish, hub: &mut Hub) {
        let State::Open(open) = &mut self.state else { return };
        let stamp = hub.stamp.next();
        let made = open.messages.publish(publish, stamp);
        match made.map(|batch| (batch.bytes(), batch)) {
            Ok((bytes, batch)) if bytes <= hub.options.max_row_bytes => {
                count("dts_messages_total", &[], 1);
                let waiter = Waiter { connection: self.id, packet: publish.packet_id };
                let bytes = hub.message(open.device.shared(), batch, Some(waiter));
                open.wait_for(publish.packet_id, bytes);
            }
            _ => {
                let device = open.device.clone();
                hub.log.warn(now, "large_message", Some(device.shared()), || {
                    format!(
                        "device {device}: a message of {} bytes is larger than a row may be",
                        publish.payload.len()
                    )
                });
                count("dts_publishes_refused_total", &[("reason", "too large")], 1);
                self.nack(publish, reason::PAYLOAD_FORMAT_INVALID, Vec::new());
            }
        }
    }

    pub(super) fn answer_time(&mut self, now: Now, publish: &Publish) {
        let State::Open(open) = &mut self.state else { return };
        if publish.payload.len() == 8 && open.wants("t") {
            let mut answer = Vec::with_capacity(24);
            answer.extend_from_slice(&publish.payload);
            // Received and sent: nothing lies between that could take time.
            answer.extend_from_slice(&now.wall_us.to_le_bytes());
            answer.extend_from_slice(&now.wall_us.to_le_bytes());
            let topic = format!("dts/v1/{}/t", open.device);
            // A client that does not read gets no time.
            self.server.publish(Publish::new(topic, 0, answer), 0).ok();
        }
        self.server.ack(publish.packet_id, reason::SUCCESS, Vec::new());
    }

    /// Refuses one PUBLISH; a 3.1.1 client is closed, for it cannot be told.
    pub(super) fn nack(&mut self, publish: &Publish, reason: u8, user: UserProperties) {
        if publish.qos != QoS::AtMostOnce {
            self.server.ack(publish.packet_id, reason, user);
            self.closing |= self.server.is_closed();
        }
    }
}

/// What a topic of a PUBLISH is for.
enum PlaceOf {
    Frames,
    Time,
    Messages,
}

/// Where `device` publishes to, or the reason why it may not.
fn place_of(device: &DeviceName, topic: &str) -> Result<PlaceOf, u8> {
    let Some(rest) = topic.strip_prefix("dts/") else {
        // `$…` is the server's.
        return if topic.starts_with('$') { Err(reason::TOPIC_NAME_INVALID) } else { Ok(PlaceOf::Messages) };
    };
    match rest.strip_prefix("v1/").and_then(|own| own.split_once('/')) {
        Some((name, what)) if *name == **device => match what {
            "c" => Ok(PlaceOf::Frames),
            "s" => Ok(PlaceOf::Messages),
            "p" => Ok(PlaceOf::Time),
            _ => Err(reason::TOPIC_NAME_INVALID),
        },
        _ => Err(reason::NOT_AUTHORIZED),
    }
}

/// Whether `device` may publish to `topic`.
pub(super) fn may_publish(device: &DeviceName, topic: &str) -> bool {
    place_of(device, topic).is_ok()
}
