//! What the peer answers to frames, and what becomes of them.

use std::time::Duration;

use super::{Action, Flight, Session};
use crate::event::RowView;
use crate::event::batch::{MONOTONIC, split_body};
use crate::mqtt::{Ack, reason};
use crate::planted::{self, Bug};
use crate::runtime::Mono;
use crate::sink::centre::lanes::{Hold, PAUSE_OTHER_MAX, PAUSE_QUOTA_MAX, Waiting};
use crate::sink::centre::split::Whole;
use crate::sink::centre::wire;
use crate::spool::StoredBatch;
use crate::telemetry::{count, observe};

/// A lane whose frame is denied ends the connection after this, so that another one is asked.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// Behind a broker: without a watermark for this long, what it should cover is sent again.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(60);

impl Session {
    pub(super) fn on_ack(&mut self, now: Mono, token: u64, ack: &Ack) {
        if ack.reason < 0x80 && self.waits_for_watermark() {
            if let Some(flight) = self.flights.get_mut(&token) {
                flight.confirmed = true;
                self.mark_due.get_or_insert(now + WATERMARK_TIMEOUT);
            }
            return self.settle_marked(now);
        }
        let Some(flight) = self.flights.remove(&token) else { return };
        if ack.reason < 0x80 || ack.reason == 0x97 && planted::on(Bug::TakeQuotaForAck) {
            return self.settle(now, &flight);
        }
        let Some(lane) = self.lanes.get_mut(flight.lane) else { return };
        let reason = format!("0x{:02x}", ack.reason);
        count("dts_ship_refused_total", &[("lane", &lane.name), ("reason", &reason)], 1);
        let needs_tables = wire::property(&ack.user, "dts-need") == Some("tables");
        match ack.reason {
            0x83 if needs_tables && !flight.all_tables => self.requeue(now, flight, true, None),
            0x97 => self.requeue(now, flight, false, Some(PAUSE_QUOTA_MAX)),
            0x99 => {
                self.land(&flight);
                let why = ack.reason_string.as_deref().or_else(|| wire::property(&ack.user, "dts-why"));
                let text = why.map_or_else(|| reason::name(ack.reason).to_owned(), wire::printable);
                let why = format!("the peer refuses it: {text} ({reason})");
                self.set_aside(flight.lane, &flight.batch, flight.whole.as_deref(), why);
            }
            0x87 => {
                let name = lane.name.clone();
                if self.common.memory.borrow_mut().denied(&name, flight.batch.id, self.connection) {
                    self.land(&flight);
                    let why = "the peer does not authorise it (0x87), on three connections".to_owned();
                    return self.set_aside(flight.lane, &flight.batch, flight.whole.as_deref(), why);
                }
                if !matches!(lane.hold, Hold::Denied(_)) {
                    lane.hold = Hold::Denied(now + DENIED_PAUSE);
                    log::warn!(
                        "lane {name}: the peer does not authorise what this device publishes; asking again on another connection, then it is set aside"
                    );
                }
                self.requeue(now, flight, false, Some(PAUSE_OTHER_MAX));
            }
            _ => self.requeue(now, flight, false, Some(PAUSE_OTHER_MAX)),
        }
    }

    /// A flight is over, however it ended.
    pub(super) fn land(&mut self, flight: &Flight) {
        self.flight_bytes = self.flight_bytes.saturating_sub(flight.batch.body.len());
        if let Some(lane) = self.lanes.get_mut(flight.lane) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
        }
    }

    /// The batch of `flight` is durable.
    pub(super) fn settle(&mut self, now: Mono, flight: &Flight) {
        self.land(flight);
        let age = self.made_ago(&flight.batch, now);
        let Some(lane) = self.lanes.get_mut(flight.lane) else { return };
        lane.accepted();
        lane.settle(&flight.batch);
        self.common.memory.borrow_mut().settled(&lane.name, flight.batch.id);
        count("dts_ship_rows_acked_total", &[("lane", &lane.name)], u64::from(flight.batch.rows));
        observe("dts_ship_round_trip_seconds", &[], now.since(flight.sent).as_secs_f64());
        if let Some(age) = age {
            observe("dts_ship_latency_seconds", &[("lane", &lane.name)], age.as_secs_f64());
        }
        if !flight.whole.as_deref().is_none_or(Whole::part_done) {
            return;
        }
        // Answers come in bursts: one word to the spool for all of a lane.
        if let Some(Action::Ack { lane, ids }) = self.actions.back_mut()
            && *lane == flight.lane
        {
            return ids.push(flight.batch.id);
        }
        self.actions.push_back(Action::Ack { lane: flight.lane, ids: vec![flight.batch.id] });
    }

    /// Behind a broker: settles what it confirmed and the centre's marks cover.
    pub(super) fn settle_marked(&mut self, now: Mono) {
        let covered = |f: &Flight| {
            f.confirmed
                && self.marks.get(&(f.lane, f.batch.epoch)).is_some_and(|seq| f.batch.last_seq <= *seq)
        };
        let tokens: Vec<u64> = self.flights.iter().filter(|(_, f)| covered(f)).map(|(t, _)| *t).collect();
        for token in &tokens {
            if let Some(flight) = self.flights.remove(token) {
                self.settle(now, &flight);
            }
        }
        if !self.flights.values().any(|f| f.confirmed) {
            self.mark_due = None;
        } else if !tokens.is_empty() {
            self.mark_due = Some(now + WATERMARK_TIMEOUT);
        }
    }

    /// The centre's watermark stands still: perhaps the broker lost something.
    pub(super) fn resend_unmarked(&mut self, now: Mono) {
        self.mark_due = None;
        let tokens: Vec<u64> = self.flights.iter().filter(|(_, f)| f.confirmed).map(|(t, _)| *t).collect();
        log::warn!(
            "{} frames are at the broker, and the centre's watermark has not moved for {} s: sending them again",
            tokens.len(),
            WATERMARK_TIMEOUT.as_secs()
        );
        for token in tokens {
            if let Some(flight) = self.flights.remove(&token) {
                self.requeue(now, flight, true, None);
            }
        }
    }

    /// Puts a refused frame back to its place; the lane pauses up to `max`.
    pub(super) fn requeue(&mut self, now: Mono, flight: Flight, all_tables: bool, max: Option<Duration>) {
        self.land(&flight);
        // The peer may not have read what it refused.
        for shape in &flight.shapes {
            self.shapes.remove(shape);
        }
        let Some(lane) = self.lanes.get_mut(flight.lane) else { return };
        match max {
            Some(max) => lane.refused(now, max, &mut self.rng),
            None if lane.hold == Hold::None => lane.hold = Hold::Until(now),
            None => {}
        }
        count("dts_ship_frames_resent_total", &[("lane", &lane.name)], 1);
        let all_tables = all_tables || flight.all_tables;
        let Flight { order, batch, whole, .. } = flight;
        lane.put(Waiting { order, batch, whole, all_tables });
    }

    pub(super) fn set_aside(
        &mut self,
        index: usize,
        batch: &StoredBatch,
        whole: Option<&Whole>,
        reason: String,
    ) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.settle(batch);
        count("dts_ship_rows_set_aside_total", &[("lane", &lane.name)], u64::from(batch.rows));
        self.common.memory.borrow_mut().settled(&lane.name, batch.id);
        if whole.is_none_or(Whole::part_refused) {
            lane.asides += 1;
            let exact = whole.is_none();
            self.actions.push_back(Action::SetAside { lane: index, id: batch.id, reason, exact });
        }
    }

    /// How long ago the first row of a batch was made, if its time and ours are known.
    fn made_ago(&self, batch: &StoredBatch, now: Mono) -> Option<Duration> {
        let stamp = first_stamp(batch)?;
        if stamp & MONOTONIC != 0 {
            return (batch.boot == self.common.options.boot).then(|| now.since(Mono(stamp & !MONOTONIC)));
        }
        let now_ms = self.common.keeper.borrow().utc_us(now)? / 1000;
        let made_ms = i64::try_from(stamp >> 16).ok()?;
        Some(Duration::from_millis(u64::try_from(now_ms - made_ms).unwrap_or(0)))
    }
}

/// The time stamp of the first row.
pub(super) fn first_stamp(batch: &StoredBatch) -> Option<u64> {
    let (_, mut rows) = split_body(&batch.body).ok()?;
    RowView::take(&mut rows, &batch.tables).ok().map(|row| row.head().hlc)
}
