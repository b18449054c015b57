//! The watermark of one epoch of one lane of one device.

use std::collections::VecDeque;

use crate::event::builtin::Loss;
use crate::planted::{self, Bug};

use super::{Frame, REMEMBERED, Waiter};

/// Ranges kept of losses that were named ahead of the watermark, and of what was acknowledged
/// elsewhere. Beyond it the newest are not kept; a hole then waits for the device's `base`.
const MAX_RANGES: usize = 256;

#[derive(Debug)]
pub(super) struct Epoch {
    /// The lowest sequence number that is not durable.
    next: u64,
    /// crc of the body that ended at `next − 1`; 0 if unknown.
    crc: u32,
    /// Disjoint, ascending, all at or beyond `next`.
    flights: VecDeque<Flight>,
    /// Durable frames, in the order in which the watermark passed them.
    recent: VecDeque<Past>,
    /// The greatest `base` heard: nothing below it will come again.
    base: u64,
    /// Losses that were named, at or beyond `next`. Disjoint, ascending.
    named: Ranges,
    /// Passed on the device's word, and named by no loss so far.
    elsewhere: Ranges,
    /// Given up by a start after a power cut or a damage: who named them never sends them.
    given_up: Ranges,
    /// When a frame of it came last.
    pub(super) used: u64,
    /// Whose frames the watermark has passed; drained by the caller.
    pub(super) answered: Vec<Waiter>,
}

#[derive(Debug)]
struct Flight {
    /// As the frame says.
    first: u64,
    /// First row that was handed on.
    from: u64,
    last: u64,
    crc: u32,
    ticket: u64,
    /// Written by the sinks, and waiting for those before it.
    durable: bool,
    waiters: Vec<Waiter>,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    first: u64,
    last: u64,
    crc: u32,
}

pub(super) enum Decision {
    New { from: u64, seq: u64, crc: u32 },
    Durable,
    InFlight,
    Gap { next: u64 },
    Fork { seq: u64 },
}

impl Epoch {
    /// One of which the sinks hold everything up to `seq`.
    pub(super) fn at(seq: u64, crc: u32) -> Self {
        Self { crc, ..Self::starting_at(seq.saturating_add(1)) }
    }

    /// One that nothing is known of, whose device holds everything from `base`. Sequence numbers
    /// start at 1; one that starts at 0 loses nothing.
    pub(super) fn starting(base: u64) -> Self {
        Self::starting_at(base.min(1))
    }

    fn starting_at(next: u64) -> Self {
        Self {
            next,
            crc: 0,
            flights: VecDeque::new(),
            recent: VecDeque::new(),
            base: 0,
            named: Ranges::default(),
            elsewhere: Ranges::default(),
            given_up: Ranges::default(),
            used: 0,
            answered: Vec::new(),
        }
    }

    /// Another sink holds less.
    pub(super) fn lower_to(&mut self, seq: u64, crc: u32) {
        if seq.saturating_add(1) < self.next {
            (self.next, self.crc) = (seq.saturating_add(1), crc);
        }
    }

    pub(super) fn durable(&self) -> Option<(u64, u32)> {
        self.next.checked_sub(1).filter(|&seq| seq > 0).map(|seq| (seq, self.crc))
    }

    pub(super) fn elsewhere(&self) -> u64 {
        self.elsewhere.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn frame<'l>(
        &mut self,
        frame: &Frame<'_>,
        named: impl Iterator<Item = &'l Loss>,
        ticket: u64,
        waiter: Waiter,
    ) -> Decision {
        if frame.last < self.next && !planted::on(Bug::ApplyTwice) {
            return self.past(frame);
        }
        let same = |f: &&mut Flight| f.first == frame.first && f.last == frame.last;
        if let Some(flight) = self.flights.iter_mut().find(same) {
            if flight.crc != frame.crc {
                return Decision::Fork { seq: frame.first };
            }
            if planted::on(Bug::AnswerResendEarly) {
                return Decision::Durable;
            }
            flight.waiters.push(waiter);
            return Decision::InFlight;
        }
        for loss in named {
            self.name_loss(loss);
        }
        // The device holds this frame, so its base is not above it.
        self.base = self.base.max(frame.base.min(frame.first));
        let open = self.open();
        if frame.first > open && !planted::on(Bug::WatermarkPastHole) {
            return Decision::Gap { next: open };
        }
        // Rows at the start that are durable or in flight by another cut: the batch was joined
        // with another after a part of it had been sent.
        let mut from = frame.first.max(self.next);
        for flight in &self.flights {
            if flight.from <= from && from <= flight.last {
                from = flight.last + 1;
            }
        }
        let clash = |f: &Flight| f.from <= frame.last && from <= f.last;
        if frame.last < from || self.flights.iter().any(clash) {
            return Decision::Fork { seq: frame.first };
        }
        let at = self.flights.partition_point(|f| f.from < from);
        let (mut seq, mut crc) = (frame.last, frame.crc);
        for island in self.flights.range(at..) {
            if !island.durable || island.from != seq + 1 {
                break;
            }
            (seq, crc) = (island.last, island.crc);
        }
        let flight = Flight {
            first: frame.first,
            from,
            last: frame.last,
            crc: frame.crc,
            ticket,
            durable: false,
            waiters: vec![waiter],
        };
        self.flights.insert(at, flight);
        // Holes before it that are named or on the device's word are passed now.
        self.advance();
        Decision::New { from, seq, crc }
    }

    /// A frame that is durable as far as its numbers tell.
    fn past(&self, frame: &Frame<'_>) -> Decision {
        let overlaps = |p: &&Past| p.first <= frame.last && frame.first <= p.last;
        let known = self.recent.iter().rev().find(overlaps);
        let same = match known {
            Some(p) => p.first == frame.first && p.last == frame.last && p.crc == frame.crc,
            // From before the restart: only the crc of the last one is known.
            // Rows of what was given up: another copy of the device still has them.
            None if self.given_up.end_of(frame.first) > frame.last => false,
            None => frame.last + 1 != self.next || self.crc == 0 || self.crc == frame.crc,
        };
        if same || planted::on(Bug::ContinueOnClone) {
            Decision::Durable
        } else {
            Decision::Fork { seq: frame.first }
        }
    }

    /// The lowest sequence number that is neither durable, in flight, named nor below the base.
    fn open(&self) -> u64 {
        let mut open = self.next;
        loop {
            let start = open;
            open = open.max(self.base);
            for flight in &self.flights {
                if flight.from <= open && open <= flight.last {
                    open = flight.last + 1;
                }
            }
            open = self.named.end_of(open);
            if open == start {
                return open;
            }
        }
    }

    pub(super) fn written(&mut self, ticket: u64) {
        if let Some(flight) = self.flights.iter_mut().find(|f| f.ticket == ticket) {
            flight.durable = true;
            self.advance();
        }
    }

    /// Returns who waited for it.
    pub(super) fn refused(&mut self, ticket: u64) -> Vec<Waiter> {
        let Some(at) = self.flights.iter().position(|f| f.ticket == ticket) else { return Vec::new() };
        let waiters = self.flights.remove(at).map(|f| f.waiters).unwrap_or_default();
        // If it lay below the base, those behind it need not wait for it.
        self.advance();
        waiters
    }

    pub(super) fn name_loss(&mut self, loss: &Loss) {
        let (from, to) = (loss.from, loss.to.min(super::MAX_SEQ));
        if from > to {
            return;
        }
        self.elsewhere.remove(from, to);
        if matches!(&*loss.reason, "power" | "corrupt") && to >= self.next {
            self.given_up.add(from.max(self.next), to);
        }
        if to >= self.next {
            self.named.add(from.max(self.next), to);
        }
        self.named.forget_below(self.next);
    }

    /// Moves the watermark as far as it may go.
    fn advance(&mut self) {
        loop {
            let ahead = self.flights.front().map_or(u64::MAX, |f| f.from);
            if ahead <= self.next {
                if !self.flights.front().is_some_and(|f| f.durable) {
                    break;
                }
                let Some(flight) = self.flights.pop_front() else { break };
                (self.next, self.crc) = (flight.last + 1, flight.crc);
                if self.recent.len() == REMEMBERED {
                    self.recent.pop_front();
                }
                let Flight { first, last, crc, .. } = flight;
                self.recent.push_back(Past { first, last, crc });
                self.answered.extend(flight.waiters);
                continue;
            }
            let named = self.named.end_of(self.next).min(ahead);
            if named > self.next {
                (self.next, self.crc) = (named, 0);
                continue;
            }
            let blind = planted::on(Bug::WatermarkPastHole) && ahead < u64::MAX;
            let base = if blind { ahead } else { self.base };
            let word = base.min(ahead).min(self.named.next_start(self.next));
            if word > self.next {
                self.elsewhere.add(self.next, word - 1);
                (self.next, self.crc) = (word, 0);
                continue;
            }
            break;
        }
        self.named.forget_below(self.next);
    }
}

/// Closed ranges: disjoint, ascending, at most [`MAX_RANGES`].
#[derive(Debug, Default)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn add(&mut self, from: u64, to: u64) {
        let (mut from, mut to) = (from, to);
        // Joined with those that it touches.
        self.0.retain(|&(f, t)| {
            let apart = t.saturating_add(1) < from || to.saturating_add(1) < f;
            if !apart {
                (from, to) = (from.min(f), to.max(t));
            }
            apart
        });
        let at = self.0.partition_point(|&(f, _)| f < from);
        if self.0.len() < MAX_RANGES {
            self.0.insert(at, (from, to));
        }
    }

    fn remove(&mut self, from: u64, to: u64) {
        let mut left = Vec::with_capacity(self.0.len());
        for &(f, t) in &self.0 {
            if t < from || to < f {
                left.push((f, t));
                continue;
            }
            if f < from {
                left.push((f, from - 1));
            }
            if t > to {
                left.push((to + 1, t));
            }
        }
        left.truncate(MAX_RANGES);
        self.0 = left;
    }

    fn forget_below(&mut self, next: u64) {
        self.0.retain_mut(|r| {
            r.0 = r.0.max(next);
            r.0 <= r.1
        });
    }

    /// The number behind the range that holds `seq`, else `seq`.
    fn end_of(&self, seq: u64) -> u64 {
        self.0.iter().find(|(f, t)| *f <= seq && seq <= *t).map_or(seq, |(_, t)| t + 1)
    }

    fn next_start(&self, seq: u64) -> u64 {
        self.0.iter().map(|(f, _)| *f).find(|f| *f >= seq).unwrap_or(u64::MAX)
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|(f, t)| t - f + 1).sum()
    }
}
