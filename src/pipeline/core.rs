//! The pipeline's state machine. Sans-IO: time and randomness come in, actions go out.
//!
//! A *slot* is one submission in flight. It goes to every sink; each sink takes its slots in order,
//! several at a time, and has one write under way, or as many as it says. A failed write is tried again with
//! back-off together with those that were begun after it, and nothing overtakes it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::runtime::Mono;

/// How much may be in flight.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Submissions.
    pub slots: usize,
    /// Bytes of their bodies. One submission is always taken, however large.
    pub bytes: usize,
    /// First pause after a failed write; doubles up to `retry_max`, with full jitter.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
}

impl Default for Limits {
    /// 1,024 slots, 16 MiB, 20 ms to 10 s.
    fn default() -> Self {
        Self {
            slots: 1024,
            bytes: 16 << 20,
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_secs(10),
        }
    }
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write these slots to that sink, in order, in one write.
    Write {
        /// Index of the sink.
        sink: usize,
        /// Slots by number.
        slots: Vec<u64>,
    },
    /// Every sink has it: resolve the submission.
    Done {
        /// Slot by number.
        slot: u64,
    },
}

#[derive(Debug)]
struct Slot {
    bytes: usize,
    /// Sinks that do not have it yet.
    pending: usize,
}

#[derive(Debug)]
struct SinkState {
    /// Slots not yet confirmed; those at the front are under way.
    queue: VecDeque<u64>,
    /// How many slots each write under way has, the oldest first.
    under_way: VecDeque<usize>,
    /// Failures since the last success.
    attempt: u32,
    /// Nothing is written before.
    pause_until: Option<Mono>,
    wants: Wants,
}

/// How a sink wants its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Most bytes in one write; 0 for no limit. One slot is always written, however large.
    pub max_write_bytes: usize,
    /// Writes that may be under way at a time; at least 1.
    pub writes_under_way: usize,
}

/// The state machine.
#[derive(Debug)]
pub struct Core {
    limits: Limits,
    /// Slot `first + i` is `slots[i]`; finished ones stay until all before them are finished.
    slots: VecDeque<Slot>,
    first: u64,
    bytes: usize,
    sinks: Vec<SinkState>,
    reading: bool,
    done: VecDeque<u64>,
}

impl Core {
    /// One sink for each of `wants`.
    pub fn new(limits: Limits, wants: &[Wants]) -> Self {
        let sink = |&wants| SinkState {
            queue: VecDeque::new(),
            under_way: VecDeque::new(),
            attempt: 0,
            pause_until: None,
            wants,
        };
        Self {
            limits,
            slots: VecDeque::new(),
            first: 0,
            bytes: 0,
            sinks: wants.iter().map(sink).collect(),
            reading: true,
            done: VecDeque::new(),
        }
    }

    /// Whether another submission may be taken. Stops at 0.8 of a limit, goes on at 0.6, so that
    /// sources are not woken for every slot.
    pub fn has_credit(&mut self) -> bool {
        let share = if self.reading { 8 } else { 6 };
        self.reading = self.slots.len() * 10 < self.limits.slots * share
            && (self.bytes * 10 < self.limits.bytes * share || self.slots.is_empty());
        self.reading
    }

    /// Takes a submission of `bytes`; the number of its slot.
    pub fn submit(&mut self, bytes: usize) -> u64 {
        let slot = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot { bytes, pending: self.sinks.len() });
        self.bytes += bytes;
        for sink in &mut self.sinks {
            sink.queue.push_back(slot);
        }
        if self.sinks.is_empty() {
            self.done.push_back(slot);
        }
        slot
    }

    /// The oldest write under way at `sink` is durable.
    pub fn written(&mut self, sink: usize) {
        let Some(state) = self.sinks.get_mut(sink) else { return };
        let Some(count) = state.under_way.pop_front() else { return };
        state.attempt = 0;
        let finished: Vec<u64> = state.queue.drain(..count).collect();
        for slot in finished {
            let Some(entry) = slot.checked_sub(self.first).and_then(|i| self.slots.get_mut(i as usize))
            else {
                continue;
            };
            entry.pending -= 1;
            if entry.pending == 0 {
                self.bytes -= entry.bytes;
                entry.bytes = 0;
                self.done.push_back(slot);
            }
        }
        while self.slots.front().is_some_and(|s| s.pending == 0) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The oldest write under way at `sink` failed and is worth another try, and so are those begun after it, which
    /// count as not written. Returns the pause.
    pub fn failed(&mut self, sink: usize, now: Mono, rng: &mut fastrand::Rng) -> Duration {
        let Some(state) = self.sinks.get_mut(sink) else { return Duration::ZERO };
        if state.under_way.is_empty() {
            return Duration::ZERO;
        }
        state.under_way.clear();
        let cap = self.limits.retry_min.saturating_mul(1 << state.attempt.min(20)).min(self.limits.retry_max);
        // Full jitter, but never at once: the peer just failed.
        let pause = cap.mul_f64(0.1 + 0.9 * rng.f64());
        state.pause_until = Some(now + pause);
        state.attempt += 1;
        pause
    }

    /// The next thing to do, or `None` until something comes in or [`Self::poll_timeout`] passes.
    pub fn poll_action(&mut self, now: Mono) -> Option<Action> {
        if let Some(slot) = self.done.pop_front() {
            return Some(Action::Done { slot });
        }
        let (first, slots) = (self.first, &self.slots);
        for (sink, state) in self.sinks.iter_mut().enumerate() {
            let limit = match state.wants.max_write_bytes {
                0 => usize::MAX,
                max => max,
            };
            // After a failure one write shows whether it is over.
            let at_a_time = if state.attempt == 0 { state.wants.writes_under_way.max(1) } else { 1 };
            if state.under_way.len() >= at_a_time || state.pause_until.is_some_and(|until| now < until) {
                continue;
            }
            state.pause_until = None;
            let begun: usize = state.under_way.iter().sum();
            let (mut count, mut bytes) = (0, 0usize);
            for &slot in state.queue.iter().skip(begun) {
                bytes += slots.get((slot - first) as usize).map_or(0, |s| s.bytes);
                if count > 0 && bytes > limit {
                    break;
                }
                count += 1;
            }
            if count > 0 {
                state.under_way.push_back(count);
                return Some(Action::Write {
                    sink,
                    slots: state.queue.iter().skip(begun).take(count).copied().collect(),
                });
            }
        }
        None
    }

    /// When to call [`Self::poll_action`] again at the latest.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.sinks.iter().filter_map(|sink| sink.pause_until).min()
    }

    /// Submissions and bytes in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.slots.len(), self.bytes)
    }

    /// Whether everything that was taken is done.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.done.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wants = wants(0, 1);

    const fn wants(max_write_bytes: usize, writes_under_way: usize) -> Wants {
        Wants { max_write_bytes, writes_under_way }
    }

    fn writes(core: &mut Core, now: Mono) -> Vec<(usize, Vec<u64>)> {
        let mut out = Vec::new();
        while let Some(action) = core.poll_action(now) {
            if let Action::Write { sink, slots } = action {
                out.push((sink, slots));
            }
        }
        out
    }

    #[test]
    fn a_slot_is_done_when_the_last_sink_has_it() {
        let mut core = Core::new(Limits::default(), &[ANY, ANY]);
        let slot = core.submit(10);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![slot]), (1, vec![slot])]);
        core.written(1);
        assert_eq!(core.poll_action(Mono(0)), None);
        core.written(0);
        assert_eq!(core.poll_action(Mono(0)), Some(Action::Done { slot }));
        assert!(core.is_idle());
    }

    #[test]
    fn what_waits_goes_in_one_write_up_to_the_sinks_limit() {
        let mut core = Core::new(Limits::default(), &[wants(25, 1)]);
        core.submit(10);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![0])]);
        for _ in 0..4 {
            core.submit(10);
        }
        core.submit(100);
        core.written(0);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![1, 2])]);
        core.written(0);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![3, 4])]);
        core.written(0);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![5])], "one larger than the limit goes alone");
    }

    #[test]
    fn a_failed_write_is_repeated_first_and_only_after_its_pause() {
        let mut core = Core::new(Limits::default(), &[ANY]);
        let mut rng = fastrand::Rng::with_seed(1);
        core.submit(1);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![0])]);
        let pause = core.failed(0, Mono(0), &mut rng);
        core.submit(1);
        assert_eq!(writes(&mut core, Mono(0) + pause / 2), []);
        assert_eq!(core.poll_timeout(), Some(Mono(0) + pause));
        assert_eq!(writes(&mut core, Mono(0) + pause), [(0, vec![0, 1])]);
    }

    #[test]
    fn pauses_grow_to_their_cap() {
        let limits = Limits::default();
        let mut core = Core::new(limits, &[ANY]);
        let (mut rng, mut now) = (fastrand::Rng::with_seed(7), Mono(0));
        core.submit(1);
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            writes(&mut core, now);
            let pause = core.failed(0, now, &mut rng);
            assert!(pause > Duration::ZERO && pause <= limits.retry_max);
            longest = longest.max(pause);
            now = now + pause;
        }
        assert!(longest > limits.retry_max / 2);
    }

    #[test]
    fn credit_ends_at_the_high_mark_and_returns_at_the_low_one() {
        let mut core = Core::new(Limits { slots: 10, bytes: 1000, ..Limits::default() }, &[wants(1, 1)]);
        let mut taken = 0;
        while core.has_credit() {
            core.submit(1);
            taken += 1;
        }
        assert_eq!(taken, 8);
        for left in (0..8).rev() {
            writes(&mut core, Mono(0));
            core.written(0);
            assert_eq!(core.has_credit(), left < 6, "{left} left");
            if left < 6 {
                break;
            }
        }
        let mut one = Core::new(Limits { bytes: 10, ..Limits::default() }, &[ANY]);
        assert!(one.has_credit());
        one.submit(1_000_000);
        assert!(!one.has_credit(), "a large one is taken alone");
    }

    #[test]
    fn random_runs_lose_nothing_and_keep_the_order_of_every_sink() {
        let mut most = [0; 3];
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let wants = [wants(0, 1), wants(40, 3), wants(1, 4)];
            let mut core = Core::new(Limits { slots: 16, bytes: 500, ..Limits::default() }, &wants);
            let (mut now, mut submitted, mut done) = (Mono(0), 0u64, Vec::new());
            let mut under_way: [VecDeque<Vec<u64>>; 3] = Default::default();
            let mut confirmed: [Vec<u64>; 3] = Default::default();
            while submitted < 300 || !core.is_idle() {
                match rng.u8(0..4) {
                    0 if submitted < 300 && core.has_credit() => {
                        core.submit(rng.usize(0..60));
                        submitted += 1;
                        assert!(core.in_flight().0 <= 16);
                    }
                    1 => now = now + Duration::from_millis(rng.u64(0..2000)),
                    _ => {
                        let sink = rng.usize(0..3);
                        if let Some(slots) = under_way[sink].pop_front() {
                            if rng.u8(0..5) == 0 {
                                under_way[sink].clear();
                                core.failed(sink, now, &mut rng);
                            } else {
                                confirmed[sink].extend(slots);
                                core.written(sink);
                            }
                        }
                    }
                }
                while let Some(action) = core.poll_action(now) {
                    match action {
                        Action::Write { sink, slots } => {
                            under_way[sink].push_back(slots);
                            most[sink] = most[sink].max(under_way[sink].len());
                            assert!(under_way[sink].len() <= wants[sink].writes_under_way);
                        }
                        Action::Done { slot } => {
                            assert!(confirmed.iter().all(|c| c.contains(&slot)), "done too early");
                            done.push(slot);
                        }
                    }
                }
            }
            let all: Vec<u64> = (0..submitted).collect();
            assert!(confirmed.iter().all(|c| *c == all), "seed {seed}: order");
            done.sort_unstable();
            assert_eq!(done, all, "seed {seed}");
            assert_eq!(core.in_flight(), (0, 0));
        }
        assert_eq!(most, [1, 3, 4], "writes at a time");
    }

    #[test]
    fn writes_begun_after_a_failed_one_come_again_behind_it() {
        let mut core = Core::new(Limits::default(), &[wants(1, 3)]);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..4 {
            core.submit(1);
        }
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![0]), (0, vec![1]), (0, vec![2])]);
        core.written(0);
        assert_eq!(writes(&mut core, Mono(0)), [(0, vec![3])]);
        let now = Mono(0) + core.failed(0, Mono(0), &mut rng);
        assert_eq!(writes(&mut core, now), [(0, vec![1])], "one shows whether it is over");
        core.written(0);
        assert_eq!(writes(&mut core, now), [(0, vec![2]), (0, vec![3])]);
    }
}
