//! A device's frame: checked to its last row, compared with the watermark, cut, handed on.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::batch::{BodyError, ClockState};
use crate::event::builtin::Loss;
use crate::event::{Batch, BatchBuilder, Op, Origin, RowClock, RowError, Table, TableKind};
use crate::frame::{self, FrameError, Header, HeaderV1};
use crate::mqtt::reason;
use crate::runtime::Mono;
use crate::telemetry::count;

use super::auth::DeviceName;
use super::hub::Hub;
use super::watermark::{Decision, Frame, MAX_SEQ, Waiter};

/// Shapes that a connection may teach, and their bytes. Beyond it all are forgotten: the device is
/// asked for them again.
const MAX_TABLES: usize = 4096;
const MAX_TABLE_BYTES: usize = 4 << 20;
/// Loss rows that are read of one frame; more are passed on all the same.
const MAX_LOSSES: usize = 4096;

/// What to tell the device.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet: the answer comes by mail.
    Wait {
        /// Bytes that are held until then.
        bytes: usize,
    },
    /// It is durable.
    Durable,
    /// PUBACK with a reason; the connection goes on.
    Refuse {
        /// Reason code.
        reason: u8,
        /// For people.
        why: String,
        /// Whether all shapes are to be sent again.
        need_tables: bool,
    },
    /// DISCONNECT with a reason.
    Close {
        /// Reason code.
        reason: u8,
        /// For people.
        why: String,
        /// `<lane>/<epoch>/<seq>` of a fork.
        fork: Option<String>,
    },
}

/// The frames of one connection.
#[derive(Debug)]
pub struct Frames {
    device: DeviceName,
    session: u64,
    tables: HashMap<u64, Arc<Table>>,
    table_bytes: usize,
}

impl Frames {
    /// Of a connection that knows no shape yet.
    pub fn new(device: DeviceName, session: u64) -> Self {
        Self { device, session, tables: HashMap::new(), table_bytes: 0 }
    }

    /// Takes one payload of `dts/v1/<device>/c`.
    pub fn take(&mut self, now: Mono, hub: &mut Hub, payload: &Bytes, waiter: Waiter) -> Outcome {
        let (header, body) =
            match frame::decode_with(payload, hub.options.max_body_bytes, &hub.options.dictionaries) {
                Ok((Header::V1(header), body)) => (header, body),
                Err(error) => return bad_frame(&error),
            };
        count("dts_frames_total", &[], 1);
        count("dts_frame_wire_bytes_total", &[], payload.len() as u64);
        // An uncompressed body is a part of the read buffer, which may be much larger.
        let body = if payload.get(3) == Some(&0) { Bytes::copy_from_slice(&body) } else { body };
        // Shapes first: the device sends each once, whatever becomes of this frame.
        if !self.learn(hub, &header.tables) {
            return close(reason::PAYLOAD_FORMAT_INVALID, "a table's shape is malformed");
        }
        let batch = match self.batch(&header, body) {
            Ok(batch) => batch,
            Err(outcome) => return outcome,
        };
        let losses = match read_rows(&batch, header.last_seq - header.first_seq) {
            Ok(losses) => losses,
            Err(why) => return close(reason::PAYLOAD_FORMAT_INVALID, &why),
        };
        let frame = Frame {
            lane: &header.lane,
            epoch: header.epoch,
            base: header.base,
            first: header.first_seq,
            last: header.last_seq,
            crc: header.body_crc,
        };
        let device = self.device.shared();
        let before = hub.watermarks.acked_elsewhere(device);
        let decision = hub.watermarks.frame(device, self.session, &frame, &losses, waiter);
        hub.deliver_answers();
        let elsewhere = hub.watermarks.acked_elsewhere(device).saturating_sub(before);
        if elsewhere > 0 {
            count("dts_acked_elsewhere_total", &[], elsewhere);
            hub.log.warn(now, "elsewhere", Some(device), || {
                let all = before + elsewhere;
                format!(
                    "device {device}: {all} of its sequence numbers were acknowledged elsewhere, it says: by another node, \
                     or by this centre before it was restored. What they held is not here unless the device kept it (`keep_acked`)"
                )
            });
        }
        match decision {
            Decision::New { ticket, from, mark } => {
                let Ok(batch) = cut(batch, from) else {
                    // Every row was read above.
                    hub.resolved_nothing(&ticket);
                    return close(reason::UNSPECIFIED, "a row could not be copied");
                };
                count("dts_frame_rows_total", &[], u64::from(batch.rows));
                for loss in &losses {
                    count("dts_loss_rows_total", &[("reason", known_reason(&loss.reason))], loss.rows);
                }
                Outcome::Wait { bytes: hub.frame(device, batch, mark, ticket) }
            }
            Decision::Durable => {
                count("dts_frames_duplicate_total", &[], 1);
                Outcome::Durable
            }
            Decision::InFlight => {
                count("dts_frames_duplicate_total", &[], 1);
                Outcome::Wait { bytes: 0 }
            }
            Decision::Gap { next } => {
                count("dts_frames_refused_total", &[("reason", "gap")], 1);
                Outcome::Refuse {
                    reason: reason::QUOTA_EXCEEDED,
                    why: format!("{next} comes before {}", header.first_seq),
                    need_tables: false,
                }
            }
            Decision::Fork { seq } => {
                let why = format!("lane {} already has another {seq} in this epoch", header.lane);
                if hub.forked(device, header.epoch) {
                    let fork = format!("{}/{:016x}/{seq}", header.lane, header.epoch);
                    return Outcome::Close { reason: reason::IMPLEMENTATION_SPECIFIC, why, fork: Some(fork) };
                }
                count("dts_frames_refused_total", &[("reason", "fork")], 1);
                Outcome::Refuse { reason: reason::PAYLOAD_FORMAT_INVALID, why, need_tables: false }
            }
            Decision::TooManyLanes => {
                count("dts_frames_refused_total", &[("reason", "lanes")], 1);
                Outcome::Refuse {
                    reason: reason::PAYLOAD_FORMAT_INVALID,
                    why: format!("more than {} lanes", hub.options.watermarks.max_lanes),
                    need_tables: false,
                }
            }
        }
    }

    /// Whether all were read.
    fn learn(&mut self, hub: &mut Hub, tables: &[Vec<u8>]) -> bool {
        for bytes in tables {
            let Some(table) = Table::decode(bytes) else { return false };
            if self.tables.len() >= MAX_TABLES || self.table_bytes + bytes.len() > MAX_TABLE_BYTES {
                self.tables.clear();
                self.table_bytes = 0;
            }
            let hash = table.hash();
            if self.tables.insert(hash, hub.share(hash, table)).is_none() {
                self.table_bytes += bytes.len();
            }
        }
        true
    }

    fn batch(&self, header: &HeaderV1, body: Bytes) -> Result<Batch, Outcome> {
        let bad = |why: &str| Err(close(reason::PAYLOAD_FORMAT_INVALID, why));
        if DeviceName::new(&header.lane).is_err() {
            return bad("the lane's name is not 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        if header.source.len() > 128 || header.source.chars().any(char::is_control) {
            return bad("the source's name is longer than 128 bytes or holds control characters");
        }
        if header.last_seq < header.first_seq || header.last_seq >= MAX_SEQ {
            return bad("its sequence numbers make no sense");
        }
        let state = match header.clock {
            0 => ClockState::Unknown,
            1 => ClockState::Estimated,
            2 => ClockState::Synced,
            _ => return bad("unknown state of the clock"),
        };
        let origin = Origin::Device {
            device: self.device.shared().clone(),
            lane: header.lane.as_str().into(),
            epoch: header.epoch,
            first_seq: header.first_seq,
            last_seq: header.last_seq,
        };
        let clock = RowClock { state, boot_offset_us: header.boot_offset_us };
        let known = |hash| self.tables.get(&hash).cloned();
        match Batch::from_body(header.source.as_str().into(), origin, clock, header.rows, body, known) {
            Ok(batch) => Ok(batch),
            Err(BodyError::UnknownTable(hash)) => {
                count("dts_frames_refused_total", &[("reason", "tables")], 1);
                Err(Outcome::Refuse {
                    reason: reason::IMPLEMENTATION_SPECIFIC,
                    why: format!("shape {hash:016x} is not known here"),
                    need_tables: true,
                })
            }
            Err(error) => bad(&error.to_string()),
        }
    }
}

/// Checks that the rows are numbered within the frame, and reads the losses among them.
fn read_rows(batch: &Batch, last_ordinal: u64) -> Result<Vec<Loss>, String> {
    let mut losses = Vec::new();
    let mut next = 0;
    for row in batch {
        let row = row.map_err(|e| e.to_string())?;
        let ordinal = row.head().ordinal;
        if ordinal < next || ordinal > last_ordinal {
            return Err(format!("row {ordinal} is out of order or beyond the frame's last"));
        }
        next = ordinal + 1;
        if row.op() == Op::Loss && losses.len() < MAX_LOSSES {
            if row.table().kind != TableKind::Loss {
                return Err("a loss row has another shape".to_owned());
            }
            let image = row.images().map_err(|e| e.to_string())?.1;
            losses.push(image.and_then(|i| Loss::from_image(&i)).ok_or("a loss row lacks values")?);
        }
    }
    Ok(losses)
}

/// Without the rows before sequence number `from`.
fn cut(batch: Batch, from: u64) -> Result<Batch, RowError> {
    let Origin::Device { device, lane, epoch, first_seq, last_seq } = &batch.origin else { return Ok(batch) };
    let Some(skip) = from.checked_sub(*first_seq).filter(|&n| n > 0) else { return Ok(batch) };
    count("dts_frames_cut_total", &[], 1);
    let mut rest = BatchBuilder::new(batch.source.clone());
    for row in &batch {
        let row = row?;
        if let Some(ordinal) = row.head().ordinal.checked_sub(skip) {
            rest.push_row_at(&row, ordinal)?;
        }
    }
    let origin = Origin::Device {
        device: device.clone(),
        lane: lane.clone(),
        epoch: *epoch,
        first_seq: from,
        last_seq: *last_seq,
    };
    Ok(Batch { origin, clock: batch.clock, ..rest.finish() })
}

fn close(reason: u8, why: &str) -> Outcome {
    Outcome::Close { reason, why: why.to_owned(), fork: None }
}

fn bad_frame(error: &FrameError) -> Outcome {
    let reason = match error {
        FrameError::TooLarge { .. } => reason::PACKET_TOO_LARGE,
        _ => reason::PAYLOAD_FORMAT_INVALID,
    };
    close(reason, &error.to_string())
}

/// A label from a device would be a label of any value.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["max_bytes", "max_age", "compact", "downsample", "power", "corrupt", "refused"];
    KNOWN.into_iter().find(|k| *k == reason).unwrap_or("other")
}
