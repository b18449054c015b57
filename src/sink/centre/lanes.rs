//! Lanes of one session: what was read from the spool and waits to be sent, and whose turn it is.
//!
//! Turns are start-time fair queueing: a lane's next frame starts at the lane's last finish, or now
//! if it had nothing waiting; the earliest start goes first, and a frame moves its lane's finish by
//! its bytes over the lane's weight. So weeks of readings never stand before a fresh alarm, and
//! neither can starve the other.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::split::Whole;
use crate::runtime::Mono;
use crate::spool::{StoredBatch, StoredId};

/// Shortest pause after a refusal.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause of a lane whose frames the peer has no room for.
pub(super) const PAUSE_QUOTA_MAX: Duration = Duration::from_millis(128);
/// Longest pause of a lane whose frames are refused for reasons that nobody explained.
pub(super) const PAUSE_OTHER_MAX: Duration = Duration::from_secs(16);

/// A batch that waits to be sent.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Place in the order of reading, which is the lane's order.
    pub(super) order: u64,
    /// The batch, or a part of it.
    pub(super) batch: StoredBatch,
    /// If it is a part: of what.
    pub(super) whole: Option<Rc<Whole>>,
    /// Send all shapes with it, whatever the peer is thought to know.
    pub(super) all_tables: bool,
}

/// Why a lane sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It may send.
    None,
    /// A frame was refused: when all others are answered and the time has come, it is sent again.
    Until(Mono),
    /// The peer says that this device may not publish it. The connection ends at the time.
    Denied(Mono),
}

/// One lane in one session.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: Arc<str>,
    weight: u64,
    /// In order; what was refused goes back to its place.
    waiting: VecDeque<Waiting>,
    pub(super) waiting_bytes: usize,
    /// (epoch, first seq) of everything read and not settled: its lowest is the frames' `base`.
    open: BTreeSet<(u64, u64)>,
    /// Batches that the spool is setting aside. Until their loss record is durable no frame may say by its `base` that
    /// they are gone.
    pub(super) asides: usize,
    /// Frames sent and not answered.
    pub(super) in_flight: usize,
    /// Their epoch: those of the next one wait, since a centre refuses what follows a refused frame by epoch only.
    pub(super) flight_epoch: u64,
    /// The spool compared its positions with the centre's.
    pub(super) reconciled: bool,
    /// A read is under way.
    pub(super) reading: bool,
    /// There may be more in the spool.
    pub(super) more: bool,
    /// Something was stored while a read was under way: its answer may be too old to say "no more".
    pub(super) changed: bool,
    /// Last batch read.
    pub(super) cursor: Option<StoredId>,
    pub(super) hold: Hold,
    /// Refusals in a row.
    refusals: u32,
    /// Finish of the last frame sent, in virtual time.
    finish: u64,
}

impl Lane {
    pub(super) fn new(name: Arc<str>, weight: u32) -> Self {
        Self {
            name,
            weight: u64::from(weight.max(1)),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: BTreeSet::new(),
            asides: 0,
            in_flight: 0,
            flight_epoch: 0,
            reconciled: false,
            reading: false,
            more: true,
            changed: false,
            cursor: None,
            hold: Hold::None,
            refusals: 0,
            finish: 0,
        }
    }

    /// Puts `waiting` to its place by order; parts of one batch share its order and are told by their seq.
    pub(super) fn put(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.batch.body.len();
        self.open.insert((waiting.batch.epoch, waiting.batch.first_seq));
        let place = |w: &Waiting| (w.order, w.batch.first_seq);
        let at = self.waiting.partition_point(|w| place(w) < place(&waiting));
        self.waiting.insert(at, waiting);
    }

    /// The batch is durable at the centre, set aside, or replaced by its parts.
    pub(super) fn settle(&mut self, batch: &StoredBatch) {
        self.open.remove(&(batch.epoch, batch.first_seq));
    }

    /// What a frame of `batch` says as its `base`. The one that was stored with it may be too low by now, and a
    /// centre that lacks what was settled since would wait for it in vain. It may be too high as well: the spool no longer holds a
    /// batch that was set aside, and parts of it are still to come.
    pub(super) fn base(&self, batch: &StoredBatch) -> u64 {
        let first = self.open.range((batch.epoch, 0)..).next().filter(|(epoch, _)| *epoch == batch.epoch);
        first.map_or(batch.base, |(_, seq)| *seq)
    }

    pub(super) fn take(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.waiting_bytes -= waiting.batch.body.len();
        Some(waiting)
    }

    /// Nothing waits, nothing is under way, and the spool has no more.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.reconciled && !self.more && !self.reading
    }

    /// Whether a frame of it may be sent.
    pub(super) fn may_send(&self) -> bool {
        let front = self.waiting.front().map(|w| w.batch.epoch);
        let in_order = front.is_some_and(|epoch| self.in_flight == 0 || epoch == self.flight_epoch);
        self.reconciled && in_order && self.asides == 0 && self.hold == Hold::None
    }

    /// Ends a pause whose time has come. What was sent after the refused frame is answered first, so that it is
    /// not overtaken twice.
    pub(super) fn wake(&mut self, now: Mono) {
        if matches!(self.hold, Hold::Until(at) if now >= at && self.in_flight == 0) {
            self.hold = Hold::None;
        }
    }

    /// When [`Self::wake`] would do something; with frames in flight their answers do.
    pub(super) fn wakes_at(&self) -> Option<Mono> {
        match self.hold {
            Hold::Until(at) if self.in_flight == 0 => Some(at),
            Hold::Denied(at) => Some(at),
            _ => None,
        }
    }

    /// Pauses after a refusal: 1 ms doubling to `max`, less up to half of it at random.
    pub(super) fn refused(&mut self, now: Mono, max: Duration, rng: &mut fastrand::Rng) {
        let full = PAUSE_MIN.saturating_mul(1 << self.refusals.min(20)).min(max);
        self.refusals += 1;
        let full_us = full.as_micros() as u64;
        let pause = Duration::from_micros(full_us - rng.u64(0..=full_us / 2));
        if !matches!(self.hold, Hold::Denied(_)) {
            self.hold = Hold::Until(now + pause);
        }
    }

    /// A frame was taken: the next refusal starts small again.
    pub(super) fn accepted(&mut self) {
        self.refusals = 0;
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Start of the frame sent last, in bytes over weight, scaled.
    virtual_time: u64,
}

impl Turns {
    /// The lane to serve.
    pub(super) fn pick(&self, lanes: &[Lane]) -> Option<usize> {
        let eligible = lanes.iter().enumerate().filter(|(_, lane)| lane.may_send());
        eligible
            .min_by_key(|(i, lane)| (lane.finish.max(self.virtual_time), std::cmp::Reverse(lane.weight), *i))
            .map(|(i, _)| i)
    }

    /// Charges `bytes` that `lane` sent.
    pub(super) fn charge(&mut self, lane: &mut Lane, bytes: usize) {
        let start = lane.finish.max(self.virtual_time);
        self.virtual_time = start;
        let cost = ((bytes as u64).saturating_add(64)).saturating_mul(1024) / lane.weight;
        lane.finish = start.saturating_add(cost.max(1));
    }
}
