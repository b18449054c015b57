//! Which frames are new: the watermark of each (device, lane, epoch). Sans-IO.
//!
//! A watermark is `next`, the lowest sequence number that is not durable. It moves
//! - over frames that the sinks wrote durably, once all before them are;
//! - over losses that the device named ([`Loss`] rows);
//! - up to `base − 1` on the device's word, counted as acknowledged elsewhere (by another node, or
//!   by this centre before it was restored) until a loss names it.
//!
//! It never moves past any other hole, and a frame is answered only when the watermark is past it.
//! Frames in flight are remembered until the sinks answer, so a resent one waits for its first copy;
//! of durable ones the last [`REMEMBERED`] are kept by range and crc, to tell a fork.
//!
//! What it asks of the engine: if a marked batch is refused, those handed on after it with a mark of
//! the same device, lane and epoch are refused too. A mark assumes the batches before its own.

mod epoch;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::event::builtin::Loss;
use crate::sink::Mark;
use crate::source::Refused;

use epoch::Epoch;

/// Durable frames remembered by range and crc an epoch: 24 bytes each.
pub const REMEMBERED: usize = 32;

/// The highest sequence number that is taken for one: what is above is a malformed frame.
pub const MAX_SEQ: u64 = 1 << 62;

/// Bounds of what is kept a device.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lanes a device. A frame of one more is refused.
    pub max_lanes: usize,
    /// Epochs a lane. The one that was silent longest makes room; frames of it that come later are
    /// taken for new.
    pub max_epochs: usize,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Name of the lane.
    pub lane: &'a str,
    /// Its epoch.
    pub epoch: u64,
    /// Lowest sequence number that the device still holds.
    pub base: u64,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number, inclusive.
    pub last: u64,
    /// crc32c of the body.
    pub crc: u32,
}

/// Who waits for an answer: a packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    /// Number of the connection.
    pub connection: u64,
    /// Packet id.
    pub packet: u16,
}

/// A frame in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Name of the device.
    pub device: Arc<str>,
    /// Name of the lane.
    pub lane: Arc<str>,
    /// Its epoch.
    pub epoch: u64,
    /// Number of the flight.
    id: u64,
}

/// What to do with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Hand on its rows from sequence number `from`, and `mark` with them; [`Watermarks::poll_answer`]
    /// says when to answer.
    New {
        /// Names the flight.
        ticket: Ticket,
        /// First row to hand on; those before are durable or in flight by another cut.
        from: u64,
        /// What is durable once the batch is.
        mark: Mark,
    },
    /// Durable already: answer at once.
    Durable,
    /// Its first copy is in flight: answered together with that.
    InFlight,
    /// Frames before it, which the device says it holds, have not come: to be sent again in order.
    Gap {
        /// The sequence number that must come first.
        next: u64,
    },
    /// Another body under a sequence number that is taken: the device was cloned or restored.
    Fork {
        /// The first sequence number in question.
        seq: u64,
    },
    /// One lane too many.
    TooManyLanes,
}

/// The watermarks of all devices.
#[derive(Debug)]
pub struct Watermarks {
    limits: Limits,
    devices: HashMap<Arc<str>, Device>,
    next_ticket: u64,
    /// Grows with each frame: tells which epoch was silent longest.
    tick: u64,
    answers: VecDeque<Answer>,
}

/// What became of a frame, for the one who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who waits.
    pub waiter: Waiter,
    /// Durable, or why not.
    pub result: Result<(), Refused>,
}

#[derive(Debug, Default)]
struct Device {
    /// The greatest session number known.
    session: u64,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    name: Arc<str>,
    epochs: BTreeMap<u64, Epoch>,
}

impl Watermarks {
    /// With what the sinks hold. Of several marks for the same epoch (one a sink) the lowest counts.
    pub fn new(limits: Limits, marks: &[Mark]) -> Self {
        let mut all =
            Self { limits, devices: HashMap::new(), next_ticket: 0, tick: 0, answers: VecDeque::new() };
        all.add(marks);
        all
    }

    /// What the sinks hold of a device, after other nodes may have written. What is in flight here is
    /// forgotten: nobody waits for it, since its session has ended.
    pub fn replace(&mut self, device: &Arc<str>, session: u64, marks: &[Mark]) {
        self.devices.insert(device.clone(), Device { session, lanes: Vec::new() });
        self.add(marks);
    }

    fn add(&mut self, marks: &[Mark]) {
        let limits = self.limits;
        let mut newest: Vec<&Mark> = marks.iter().collect();
        newest.sort_by_key(|mark| std::cmp::Reverse(mark.epoch));
        for mark in newest {
            let device = self.devices.entry(mark.device.clone()).or_default();
            device.session = device.session.max(mark.session);
            let Some(lane) = device.lane(&mark.lane, limits.max_lanes) else { continue };
            let room = lane.epochs.len() < limits.max_epochs;
            match lane.epochs.get_mut(&mark.epoch) {
                Some(epoch) => epoch.lower_to(mark.seq, mark.crc),
                // The newest come first.
                None if room => {
                    lane.epochs.insert(mark.epoch, Epoch::at(mark.seq, mark.crc));
                }
                None => {}
            }
        }
    }

    /// The number of the device's next session; noted as used.
    pub fn next_session(&mut self, device: &Arc<str>) -> u64 {
        let device = self.devices.entry(device.clone()).or_default();
        device.session += 1;
        device.session
    }

    /// The greatest epoch number known of a device; 0 if none is.
    pub fn greatest_epoch_number(&self, device: &str) -> u32 {
        let epochs = |lane: &Lane| lane.epochs.keys().next_back().copied();
        let greatest = self.devices.get(device).and_then(|d| d.lanes.iter().filter_map(epochs).max());
        greatest.map_or(0, |epoch| (epoch >> 32) as u32)
    }

    /// The watermarks of a device. Epochs of which nothing is durable have none.
    pub fn marks(&self, device: &str) -> Vec<Mark> {
        let Some((name, device)) = self.devices.get_key_value(device) else { return Vec::new() };
        let mut marks = Vec::new();
        for lane in &device.lanes {
            for (&epoch, state) in &lane.epochs {
                if let Some((seq, crc)) = state.durable() {
                    let (device, lane, session) = (name.clone(), lane.name.clone(), device.session);
                    marks.push(Mark { device, lane, epoch, seq, crc, session });
                }
            }
        }
        marks
    }

    /// Sequence numbers that a device says were acknowledged elsewhere and that no loss has named.
    pub fn acked_elsewhere(&self, device: &str) -> u64 {
        let epochs = |lane: &Lane| lane.epochs.values().map(Epoch::elsewhere).sum::<u64>();
        self.devices.get(device).map_or(0, |d| d.lanes.iter().map(epochs).sum())
    }

    /// Decides on a frame. `losses` are the loss rows that it carries. Where the decision is
    /// [`Decision::New`] or [`Decision::InFlight`], `waiter` is answered by [`Self::poll_answer`].
    ///
    /// `first ≤ last <` [`MAX_SEQ`] is the caller's to check.
    pub fn frame(
        &mut self,
        device: &Arc<str>,
        session: u64,
        frame: &Frame<'_>,
        losses: &[Loss],
        waiter: Waiter,
    ) -> Decision {
        self.tick += 1;
        let limits = self.limits;
        let entry = self.devices.entry(device.clone()).or_default();
        let Some(lane) = entry.lane(frame.lane, limits.max_lanes) else { return Decision::TooManyLanes };
        let lane_name = lane.name.clone();
        let epoch = lane.epoch(frame, limits.max_epochs);
        epoch.used = self.tick;
        let named = losses.iter().filter(|l| *l.lane == *frame.lane && l.epoch == frame.epoch);
        let ticket = self.next_ticket;
        let decision = epoch.frame(frame, named, ticket, waiter);
        self.answers.extend(epoch.answered.drain(..).map(|waiter| Answer { waiter, result: Ok(()) }));
        let decision = match decision {
            epoch::Decision::New { from, seq, crc } => {
                self.next_ticket += 1;
                let mark = Mark {
                    device: device.clone(),
                    lane: lane_name.clone(),
                    epoch: frame.epoch,
                    seq,
                    crc,
                    session,
                };
                let ticket =
                    Ticket { device: device.clone(), lane: lane_name, epoch: frame.epoch, id: ticket };
                Decision::New { ticket, from, mark }
            }
            epoch::Decision::Durable => Decision::Durable,
            epoch::Decision::InFlight => Decision::InFlight,
            epoch::Decision::Gap { next } => Decision::Gap { next },
            epoch::Decision::Fork { seq } => Decision::Fork { seq },
        };
        if !matches!(decision, Decision::Fork { .. }) {
            entry.name_losses(losses, frame);
        }
        decision
    }

    /// The sinks have answered for a flight; [`Self::poll_answer`] says who is to be told.
    pub fn resolved(&mut self, ticket: &Ticket, result: &Result<(), Refused>) {
        let device = self.devices.get_mut(&ticket.device);
        let lane = device.and_then(|d| d.lanes.iter_mut().find(|l| l.name == ticket.lane));
        let Some(epoch) = lane.and_then(|l| l.epochs.get_mut(&ticket.epoch)) else { return };
        let refused = match result {
            Ok(()) => {
                epoch.written(ticket.id);
                Vec::new()
            }
            Err(_) => epoch.refused(ticket.id),
        };
        self.answers.extend(epoch.answered.drain(..).map(|waiter| Answer { waiter, result: Ok(()) }));
        let answer = |waiter| Answer { waiter, result: result.clone() };
        self.answers.extend(refused.into_iter().map(answer));
    }

    /// The next one to be told, in the order of the sequence numbers of an epoch. A written frame
    /// is answered once the watermark is past it. Drain it after each call that can move one.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}

impl Device {
    fn lane(&mut self, name: &str, max_lanes: usize) -> Option<&mut Lane> {
        let at = match self.lanes.iter().position(|l| &*l.name == name) {
            Some(at) => at,
            None if self.lanes.len() < max_lanes => {
                self.lanes.push(Lane { name: name.into(), epochs: BTreeMap::new() });
                self.lanes.len() - 1
            }
            None => return None,
        };
        self.lanes.get_mut(at)
    }

    /// Notes losses in other lanes and epochs than the frame's own: a device names there what it
    /// lost with a damaged file.
    fn name_losses(&mut self, losses: &[Loss], frame: &Frame<'_>) {
        for loss in losses.iter().filter(|l| *l.lane != *frame.lane || l.epoch != frame.epoch) {
            let lane = self.lanes.iter_mut().find(|l| *l.name == *loss.lane);
            if let Some(epoch) = lane.and_then(|l| l.epochs.get_mut(&loss.epoch)) {
                epoch.name_loss(loss);
            }
        }
    }
}

impl Lane {
    fn epoch(&mut self, frame: &Frame<'_>, max_epochs: usize) -> &mut Epoch {
        if !self.epochs.contains_key(&frame.epoch) && self.epochs.len() >= max_epochs {
            let idle = self.epochs.iter().filter(|(_, e)| e.is_idle());
            if let Some(oldest) = idle.min_by_key(|(number, e)| (e.used, **number)).map(|(n, _)| *n) {
                self.epochs.remove(&oldest);
            }
        }
        self.epochs.entry(frame.epoch).or_insert_with(|| Epoch::starting(frame.base.min(frame.first)))
    }
}
