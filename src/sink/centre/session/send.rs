//! What is read from the spool and sent, and when.

use std::time::Duration;

use bytes::Bytes;

use super::answers::first_stamp;
use super::{ALIAS, Action, Flight, Gate, Phase, STATUS, Session};
use crate::event::batch::{MONOTONIC, split_body};
use crate::frame::{self, FrameError, Header, HeaderV1};
use crate::mqtt::{Publish, PublishError};
use crate::planted::{self, Bug};
use crate::runtime::Mono;
use crate::sink::centre::lanes::{Hold, Lane, Waiting};
use crate::sink::centre::split::{Whole, split};
use crate::sink::centre::wire;
use crate::spool::{CentreView, StoredBatch};
use crate::telemetry::count;

/// Bytes of one read from the spool.
const READ_BYTES: usize = 128 * 1024;
/// Below this many bytes waiting a lane is read again.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// Encoded bytes that may wait for the link. Small, so that a fresh alarm does not wait behind them.
pub(super) const MAX_QUEUED_BYTES: usize = 64 * 1024;
/// Shapes remembered as known to the peer.
const MAX_SHAPES: usize = 4096;

impl Session {
    pub(super) fn adopt(&mut self) {
        if self.phase != Phase::Standby {
            return;
        }
        self.phase = Phase::Shipping;
        let max_body = self.server.max_body.unwrap_or(usize::MAX);
        let whole = max_body.min(self.max_packet()) >= self.common.options.max_stored_bytes;
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            if !self.server.dts {
                lane.reconciled = true;
                continue;
            }
            let of_lane = self.server.marks.iter().filter(|m| *m.lane == *lane.name);
            let mut marks: Vec<_> = of_lane.map(|m| (m.epoch, m.seq, m.crc)).collect();
            if let Some(epoch) = self.common.memory.borrow_mut().take_fork(&lane.name) {
                // A mark that cannot be this spool's: it will see the fork, too.
                marks.retain(|m| m.0 != epoch);
                marks.push((epoch, u64::MAX, 0));
            }
            let view = CentreView { marks, epoch_number: self.server.epoch_number, parts: !whole };
            self.actions.push_back(Action::Reconcile { lane: i, view });
        }
    }

    /// Largest packet that the peer takes, by its word or by experience.
    pub(super) fn max_packet(&self) -> usize {
        self.server.max_packet.unwrap_or(usize::MAX).min(self.common.memory.borrow().max_packet_bytes())
    }

    pub(super) fn changed(&mut self) {
        for lane in &mut self.lanes {
            lane.more = true;
            lane.changed |= lane.reading;
        }
    }

    pub(super) fn on_batches(&mut self, index: usize, batches: Vec<StoredBatch>) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.reading = false;
        if batches.is_empty() {
            lane.more = lane.changed;
        }
        lane.changed = false;
        for batch in batches {
            lane.cursor = Some(batch.id);
            self.next_order += 1;
            lane.put(Waiting { order: self.next_order, batch, whole: None, all_tables: false });
        }
    }

    /// Does what can be done now: reads, sends, notices the end.
    pub(super) fn pump(&mut self, now: Mono) {
        self.send_status();
        for lane in &mut self.lanes {
            lane.wake(now);
        }
        while self.may_send() {
            let Some(lane) = self.turns.pick(&self.lanes) else { break };
            self.send(lane, now);
        }
        self.request_reads();
        if matches!(self.phase, Phase::Draining { .. }) && self.flights.is_empty() {
            self.phase = Phase::Drained;
            self.actions.push_back(Action::Drained);
        }
        let idle = self.phase == Phase::Shipping && self.lanes.iter().all(Lane::is_idle);
        if idle && !self.idle {
            self.actions.push_back(Action::Idle);
        }
        self.idle = idle;
    }

    pub(super) fn send_status(&mut self) {
        if self.phase != Phase::Shipping || self.gate != Gate::Open || self.client.capacity() == 0 {
            return;
        }
        let Some(json) = self.status.take() else { return };
        let mut status = Publish::new(self.topics.status.as_str(), 1, json);
        status.retain = self.client.server().is_some_and(|s| s.retain_available != Some(false));
        status.payload_is_utf8 = true;
        // There is capacity: it cannot be full.
        let _full = self.client.publish(status, STATUS);
    }

    pub(super) fn may_send(&self) -> bool {
        let window = if self.common.memory.borrow().is_careful() {
            1
        } else {
            usize::from(self.common.options.window.max(1))
        };
        self.phase == Phase::Shipping
            && self.gate == Gate::Open
            && self.client.queued_bytes() < MAX_QUEUED_BYTES
            && self.flights.len() < window
            && (self.flights.is_empty() || self.flight_bytes < self.common.options.max_in_flight_bytes)
            && self.client.capacity() > 0
    }

    pub(super) fn request_reads(&mut self) {
        if self.phase != Phase::Shipping || self.gate != Gate::Open {
            return;
        }
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            if lane.reconciled && lane.more && !lane.reading && lane.waiting_bytes < READ_AHEAD_BYTES {
                lane.reading = true;
                self.actions.push_back(Action::Read { lane: i, after: lane.cursor, max_bytes: READ_BYTES });
            }
        }
    }

    /// Sends the front of a lane, or has it split, or sets it aside.
    pub(super) fn send(&mut self, index: usize, now: Mono) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(waiting) = lane.take() else { return };
        let (payload, shapes) = match self.encode(index, &waiting, now) {
            Ok(encoded) => encoded,
            // More shapes than a header holds.
            Err(FrameError::TooLarge { .. }) if waiting.batch.rows > 1 => {
                let half = waiting.batch.body.len() / 2;
                return self.split(index, waiting, half);
            }
            Err(e) => {
                let why = format!("cannot be framed: {e}");
                return self.set_aside(index, &waiting.batch, waiting.whole.as_deref(), why);
            }
        };
        let bytes = wire::publish_bytes(&self.topics.frames, payload.len());
        let max_packet = self.max_packet();
        let body = waiting.batch.body.len();
        let max_body = self.server.max_body.unwrap_or(usize::MAX);
        if bytes > max_packet || body > max_body {
            // By the ratio of this frame, with a tenth to spare; what does not fit then is split again.
            let scaled = (body as u128 * max_packet as u128 / bytes as u128 * 9 / 10) as usize;
            let part = scaled.min(max_body).min(body - 1);
            return self.split(index, waiting, part);
        }
        self.transmit(index, now, waiting, payload, shapes, bytes);
    }

    /// Sends a batch in parts of at most `max_bytes`, or sets aside what has only one row.
    pub(super) fn split(&mut self, index: usize, waiting: Waiting, max_bytes: usize) {
        let Some(parts) = split(&waiting.batch, max_bytes) else {
            let Waiting { batch, whole, .. } = waiting;
            let why =
                format!("{} row(s) in {} bytes are too large for the peer", batch.rows, batch.body.len());
            return self.set_aside(index, &batch, whole.as_deref(), why);
        };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        count("dts_ship_splits_total", &[("lane", &lane.name)], 1);
        let Waiting { order, batch, whole, all_tables } = waiting;
        lane.settle(&batch);
        let whole = whole.unwrap_or_else(Whole::new);
        whole.divided(parts.len());
        for batch in parts {
            lane.put(Waiting { order, batch, whole: Some(whole.clone()), all_tables });
        }
    }

    pub(super) fn transmit(
        &mut self,
        index: usize,
        now: Mono,
        waiting: Waiting,
        payload: Bytes,
        shapes: Vec<u64>,
        bytes: usize,
    ) {
        let mut publish = Publish::new(self.topics.frames.as_str(), 1, payload);
        if let Some(introduced) = &mut self.alias {
            publish.topic_alias = Some(ALIAS);
            if *introduced {
                publish.topic.clear();
            }
            *introduced = true;
        }
        let token = self.next_token;
        match self.client.publish(publish, token) {
            Ok(()) => {}
            Err(PublishError::Full | PublishError::NotConnected) => {
                // The frame stays the first of its lane.
                if let Some(lane) = self.lanes.get_mut(index) {
                    lane.put(waiting);
                    lane.hold = Hold::Until(now + Duration::from_millis(10));
                }
                return;
            }
            Err(e) => {
                let why = format!("cannot be published: {e}");
                return self.set_aside(index, &waiting.batch, waiting.whole.as_deref(), why);
            }
        }
        self.next_token += 1;
        if self.shapes.len() + shapes.len() > MAX_SHAPES {
            self.shapes.clear();
        }
        self.shapes.extend(&shapes);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.in_flight += 1;
        lane.flight_epoch = waiting.batch.epoch;
        self.turns.charge(lane, bytes);
        let label = [("lane", &*lane.name)];
        count("dts_ship_frames_sent_total", &label, 1);
        count("dts_ship_rows_sent_total", &label, u64::from(waiting.batch.rows));
        count("dts_ship_sent_bytes_total", &label, bytes as u64);
        self.flight_bytes += waiting.batch.body.len();
        let Waiting { order, batch, whole, all_tables } = waiting;
        if planted::on(Bug::DeleteBeforePuback) {
            self.actions.push_back(Action::Ack { lane: index, ids: vec![batch.id] });
        }
        let flight = Flight {
            lane: index,
            order,
            batch,
            whole,
            packet_bytes: bytes,
            shapes,
            all_tables: all_tables || !self.server.dts,
            confirmed: false,
            sent: now,
        };
        self.flights.insert(token, flight);
    }

    /// The frame of a batch, and the shapes that go along.
    pub(super) fn encode(
        &self,
        index: usize,
        waiting: &Waiting,
        now: Mono,
    ) -> Result<(Bytes, Vec<u64>), FrameError> {
        let batch = &waiting.batch;
        let (hashes, _) = split_body(&batch.body).map_err(|_| FrameError::Malformed("stored body"))?;
        let all = waiting.all_tables || !self.server.dts;
        let needed =
            hashes.into_iter().zip(&batch.tables).filter(|(hash, _)| all || !self.shapes.contains(hash));
        let (shapes, tables) = needed.map(|(hash, table)| (hash, table.encode())).unzip();
        // Rows from before the time was known are corrected by what is known of their boot now.
        let early =
            first_stamp(batch).filter(|stamp| stamp & MONOTONIC != 0 && batch.clock.boot_offset_us.is_none());
        let learned = early.and_then(|stamp| {
            let at = Mono(stamp & !MONOTONIC);
            self.common.keeper.borrow().row_clock(batch.boot, at, now).boot_offset_us
        });
        let header = Header::V1(HeaderV1 {
            lane: batch.lane.to_string(),
            epoch: batch.epoch,
            base: self.lanes.get(index).map_or(batch.base, |lane| lane.base(batch)),
            first_seq: batch.first_seq,
            last_seq: batch.last_seq,
            rows: batch.rows,
            body_crc: batch.crc,
            body_len: u32::try_from(batch.body.len()).map_err(|_| FrameError::Malformed("stored body"))?,
            source: batch.source.to_string(),
            clock: batch.clock.state as u8,
            boot_offset_us: batch.clock.boot_offset_us.or(learned),
            tables,
        });
        let options = &self.common.options;
        let shared = options.dictionary.as_ref().filter(|d| self.server.dictionaries.contains(&d.id()));
        Ok((frame::encode_with(&header, &batch.body, options.codec, shared)?.into(), shapes))
    }
}
