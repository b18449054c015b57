//! What the peer says, but for its answers to frames: CONNACK, the time, watermarks, DISCONNECT.

use std::time::Duration;

use super::{ALIAS, Action, End, Gate, Phase, STATUS, Session, Trust};
use crate::clock::{RoundTrip, Verdict};
use crate::mqtt::client::ClientEvent;
use crate::mqtt::{ConnAck, Disconnect, Publish, QoS, SubAck, reason};
use crate::runtime::Mono;
use crate::sink::centre::config::{AckBy, Peer};
use crate::sink::centre::watermark;
use crate::sink::centre::wire::{self, Server};
use crate::telemetry::count;

/// How long the answer to the time question may take before the CONNACK's time is used.
const TIME_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between the first time questions; then `time_interval`.
const FIRST_QUESTIONS_MS: [u64; 4] = [250, 1_000, 4_000, 16_000];

impl Session {
    pub(super) fn on_event(&mut self, now: Mono, event: ClientEvent) {
        match event {
            ClientEvent::Connected(connack) => self.on_connack(now, &connack),
            ClientEvent::Refused(connack) => self.on_refused(&connack),
            ClientEvent::Failed(e) => self.close(End::Protocol(e.message)),
            ClientEvent::Acked { token: STATUS, ack } => {
                if ack.reason >= 0x80 {
                    log::warn!("the peer does not take this device's status: 0x{:02x}", ack.reason);
                }
            }
            ClientEvent::Acked { token, ack } => self.on_ack(now, token, &ack),
            ClientEvent::Message(message) => self.on_message(now, &message),
            ClientEvent::Subscribed(suback) => self.on_suback(&suback),
            ClientEvent::Closed(disconnect) => self.on_disconnect(&disconnect),
        }
    }

    fn on_refused(&mut self, connack: &ConnAck) {
        if let Some(other) = wire::property(&connack.user, "dts-conflict") {
            log::error!(
                "another installation ({}) is connected under this device's name; give one of them another name",
                wire::printable(other)
            );
        }
        self.close(End::Refused {
            reason: connack.reason,
            retry_after: wire::retry_after(&connack.user),
            text: self.words(connack.reason_string.as_deref(), connack.reason),
        });
    }

    /// What a refusal says, for people.
    fn words(&self, said: Option<&str>, code: u8) -> String {
        said.map_or_else(|| reason::name(code).to_owned(), wire::printable)
    }

    pub(super) fn on_connack(&mut self, now: Mono, connack: &ConnAck) {
        self.connected = now;
        self.server = Server::of(connack);
        if self.common.options.peer == Peer::Dts && !self.server.dts {
            self.client.disconnect(0);
            return self.close(End::NotACentre);
        }
        self.alias = (connack.topic_alias_maximum >= ALIAS).then_some(false);
        self.phase = Phase::Standby;
        let mut topics = Vec::new();
        if self.server.dts {
            topics.push((self.topics.time.as_str(), QoS::AtMostOnce));
            if self.trust == Trust::AfterTime {
                self.gate = Gate::Time { until: now + TIME_TIMEOUT };
            }
        }
        if self.waits_for_watermark() {
            topics.push((self.topics.watermark.as_str(), QoS::AtLeastOnce));
        }
        if connack.maximum_qos == Some(0) {
            self.client.disconnect(0);
            return self.close(End::Denied("publish with QoS 1"));
        }
        if !topics.is_empty() && self.client.subscribe(&topics).is_err() {
            return self.close(End::Denied("subscribe"));
        }
        if self.gate == Gate::Open {
            self.actions.push_back(Action::Connected);
        }
        if self.server.dts {
            self.ask_time(now);
        }
    }

    pub(super) fn on_suback(&mut self, suback: &SubAck) {
        let refused = suback.reasons.last().is_some_and(|r| *r >= 0x80);
        if refused && self.waits_for_watermark() {
            self.client.disconnect(0);
            self.close(End::Denied("subscribe to its watermark"));
        }
    }

    pub(super) fn on_disconnect(&mut self, disconnect: &Disconnect) {
        let reason = disconnect.reason;
        if reason == 0x8e
            && let Some(other) = wire::property(&disconnect.user, "dts-conflict")
        {
            // A name of a stranger goes into the log: keep it short and printable.
            let other = other.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
            return self.close(End::Conflict { other });
        }
        if let Some(fork) = wire::property(&disconnect.user, "dts-fork").and_then(wire::parse_fork)
            && let Some(lane) = self.lanes.iter().find(|l| *l.name == *fork.0)
        {
            self.common.memory.borrow_mut().forked(lane.name.clone(), fork.1);
        }
        // Reasons that blame what we sent: malformed, protocol, topic, alias, too large, payload.
        if matches!(reason, 0x81 | 0x82 | 0x90 | 0x94 | 0x95 | 0x99) {
            self.find_culprit(reason);
        }
        self.close(End::Kicked {
            reason,
            retry_after: wire::retry_after(&disconnect.user),
            text: self.words(disconnect.reason_string.as_deref(), reason),
        });
    }

    /// The peer hung up because of what it was sent: notes it, and sets the frame aside if it is known.
    pub(super) fn find_culprit(&mut self, reason: u8) {
        let Some(largest) = self.flights.values().map(|f| f.packet_bytes).max() else { return };
        let alone = match self.flights.values().next() {
            Some(flight) if self.flights.len() == 1 => Some(flight),
            _ => None,
        };
        let lanes = &self.lanes;
        let key = alone.and_then(|f| lanes.get(f.lane).map(|lane| (&lane.name, f.batch.id)));
        let mut memory = self.common.memory.borrow_mut();
        let mut aside = memory.kicked(key);
        if reason == 0x95 {
            memory.too_large(largest);
            // It goes in parts next time, unless it has none.
            aside = alone.is_some_and(|f| f.batch.rows <= 1);
        }
        drop(memory);
        if aside && let Some((_, flight)) = self.flights.pop_first() {
            let why = format!("the peer hangs up on it: {} (0x{reason:02x})", reason::name(reason));
            self.set_aside(flight.lane, &flight.batch, flight.whole.as_deref(), why);
        }
    }

    pub(super) fn on_message(&mut self, now: Mono, message: &Publish) {
        if message.qos != QoS::AtMostOnce {
            self.client.ack(message.packet_id, 0);
        }
        if message.topic == self.topics.time && self.server.dts {
            let Some((sent, received_us, answered_us)) = wire::parse_time_answer(&message.payload) else {
                return;
            };
            // Only answers to questions of this session, each once.
            let Some(at) = self.questions.iter().position(|q| *q == sent) else { return };
            self.questions.drain(..=at);
            self.on_time(now, RoundTrip { t1: sent, t2_us: received_us, t3_us: answered_us, t4: now });
        } else if message.topic == self.topics.watermark && self.waits_for_watermark() {
            for mark in watermark::parse(&message.payload) {
                let Some(lane) = self.lanes.iter().position(|l| *l.name == *mark.lane) else { continue };
                let seq = self.marks.entry((lane, mark.epoch)).or_insert(mark.seq);
                *seq = mark.seq.max(*seq);
            }
            self.settle_marked(now);
        }
    }

    /// Whether PUBACK is only a broker's and the centre's word comes as a watermark.
    pub(super) fn waits_for_watermark(&self) -> bool {
        self.common.options.ack == AckBy::Centre && !self.server.dts
    }

    pub(super) fn ask_time(&mut self, now: Mono) {
        let mut question = Publish::new(self.topics.ping.as_str(), 0, wire::time_question(now));
        question.qos = QoS::AtMostOnce;
        // QoS 0 takes no place in the window; if there is none all the same, the next question will do.
        if self.client.publish(question, STATUS).is_ok() {
            self.questions.push_back(now);
            if self.questions.len() > 4 {
                self.questions.pop_front();
            }
        }
        let pause = FIRST_QUESTIONS_MS.get(self.asked).map(|ms| Duration::from_millis(*ms));
        self.asked += 1;
        self.next_question = Some(now + pause.unwrap_or(self.common.options.time_interval));
    }

    /// No answer to the question: the time in CONNACK is less exact, but true.
    pub(super) fn use_connack_time(&mut self, now: Mono) {
        let Some(us) = self.server.time_us.take() else {
            self.client.disconnect(0);
            return self.close(End::NoTime);
        };
        self.gate = Gate::Time { until: now + TIME_TIMEOUT };
        self.on_time(now, RoundTrip { t1: self.started, t2_us: us, t3_us: us, t4: self.connected });
    }

    fn on_time(&mut self, now: Mono, trip: RoundTrip) {
        match self.gate {
            Gate::Time { until } => {
                let now_s = u64::try_from(trip.t3_us / 1_000_000).unwrap_or(0);
                self.gate = Gate::Chain { trip, until };
                self.actions.push_back(Action::CheckChain { now_s });
            }
            // Not believed yet.
            Gate::Chain { .. } => {}
            Gate::Open => self.learn(now, trip),
        }
    }

    /// Sets the clock by a time that may be believed.
    pub(super) fn learn(&mut self, now: Mono, trip: RoundTrip) {
        let mut keeper = self.common.keeper.borrow_mut();
        let verdict = keeper.round_trip(trip);
        if verdict != Verdict::Used {
            count("dts_clock_refused_total", &[], 1);
        }
        // An impossible answer leaves the gate as it is: the next question comes soon.
        let known = keeper.offset_us(now).is_some();
        drop(keeper);
        self.actions.push_back(Action::TimeLearned);
        if known && self.gate != Gate::Open {
            self.gate = Gate::Open;
            self.actions.push_back(Action::Connected);
        }
    }
}
