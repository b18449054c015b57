//! The state machine.

use std::collections::VecDeque;
use std::time::Duration;

use super::options::{Mode, PolicyOptions};
use super::{Action, Input, PolicyMemory};
use crate::link::Transport;
use crate::link::error::FailKind;
use crate::planted::{self, Bug};
use crate::runtime::Mono;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);
/// A connection that lived so long was a good one: the back-off starts over.
const STABLE: Duration = Duration::from_secs(30);
/// QUIC that stalls sooner than this, twice, lets TCP go first.
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// With another transport ready, a CONNECT gets no more time than this.
const YIELD_AFTER: Duration = Duration::from_secs(3);
/// Somebody else has our name: no contest of takeovers.
const TAKEN_OVER_PAUSE: Duration = Duration::from_secs(30);
/// A network change or an urgent lane waits no longer than this, times the jitter.
const SOON: Duration = Duration::from_secs(1);
const URGENT_LEVEL: u8 = 5;
const MAX_LEVEL: u8 = 20;
/// Below 30 s, where the meanest of NATs forget UDP.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(29);
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);

/// One transport's connection, of which there is one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Dialing {
        until: Mono,
    },
    /// Dialed; CONNECT waits for the other one.
    Ready,
    Connecting {
        until: Mono,
    },
    /// CONNACK came; the old one is still draining.
    Accepted,
    /// Adopted.
    Live,
    /// Still adopted, but nothing new goes out.
    Draining {
        until: Mono,
        then: Then,
    },
    /// Silent and open, until the other one has its CONNACK.
    Drained,
}

/// Why a connection is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Switch,
    End,
}

/// The link policy. See the module.
#[derive(Debug)]
pub struct Policy {
    options: PolicyOptions,
    rng: fastrand::Rng,
    actions: VecDeque<Action>,
    started: bool,
    stopping: bool,
    /// QUIC, TCP.
    slots: [Slot; 2],
    /// The second contender and when it starts.
    race: Option<(Mono, Transport)>,
    /// End of a back-off or of the server's `retry_after`.
    retry_at: Option<Mono>,
    busy: bool,
    level: u8,
    live_since: Mono,
    progress_at: Mono,
    probe_at: Option<Mono>,
    probe_step: u32,
    /// What is known of QUIC on this network.
    quic_failed_here: bool,
    /// Its datagrams do not fit through: TCP goes first.
    quic_narrow_here: bool,
    quic_short_lives: u8,
    keep_alive: Duration,
    /// Bursts: whether one is wanted, when the next one is, when this one ends.
    wanted: bool,
    burst_at: Option<Mono>,
    linger_at: Option<Mono>,
    backlog_bytes: u64,
    budget_spent: u64,
    budget_ends: Option<Mono>,
}

impl Policy {
    /// Rests until [`Input::Start`]. `memory` is what [`Policy::memory`] said last.
    pub fn new(options: PolicyOptions, memory: PolicyMemory, now: Mono, rng: fastrand::Rng) -> Self {
        let left = Duration::from_secs(u64::from(memory.budget_left_s)).min(DAY);
        let day_runs = options.data_budget_bytes.is_some() && left > Duration::ZERO;
        let options = PolicyOptions { backoff_max: options.backoff_max.min(HOUR), ..options };
        let keep_alive = options.keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX);
        Self {
            options,
            rng,
            actions: VecDeque::new(),
            started: false,
            stopping: false,
            slots: [Slot::Empty; 2],
            race: None,
            retry_at: None,
            busy: false,
            level: memory.backoff_level.min(MAX_LEVEL),
            live_since: now,
            progress_at: now,
            probe_at: None,
            probe_step: 0,
            quic_failed_here: false,
            quic_narrow_here: false,
            quic_short_lives: 0,
            keep_alive,
            wanted: false,
            burst_at: None,
            linger_at: None,
            backlog_bytes: 0,
            budget_spent: if day_runs { memory.budget_spent_bytes } else { 0 },
            budget_ends: day_runs.then(|| now + left),
        }
    }

    /// Takes one input. Actions wait in [`Policy::poll_action`].
    pub fn handle(&mut self, now: Mono, input: Input) {
        match input {
            Input::Start => self.start(now),
            Input::Dialed(t) => self.dialed(now, t),
            Input::Connected(t) => self.connected(now, t),
            Input::Failed(t, kind) | Input::Lost(t, kind) => self.ended(now, t, kind),
            Input::Quiet(t) => self.quiet(now, t),
            Input::Progress(t) => {
                if self.slot(t) == Slot::Live {
                    self.progress_at = now;
                    if now.since(self.live_since) >= STABLE {
                        self.level = 0;
                    }
                }
            }
            Input::NetworkChanged => self.network_changed(now),
            Input::Busy { retry_after } => self.server_busy(now, retry_after),
            Input::Drained(t) => self.drained(now, t),
            Input::Urgent => self.urgent(now),
            Input::Backlog { bytes } => self.backlog(now, bytes),
            Input::Spent { bytes } => self.spend(now, bytes),
            Input::Stop => self.stop(now),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Policy::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Mono> {
        let slot = |s: &Slot| match s {
            Slot::Dialing { until } | Slot::Connecting { until } | Slot::Draining { until, .. } => {
                Some(*until)
            }
            _ => None,
        };
        let timers = [self.retry_at, self.probe_at, self.burst_at, self.linger_at, self.budget_ends];
        let race = self.race.map(|(at, _)| at);
        self.slots.iter().map(slot).chain(timers).chain([race]).flatten().min()
    }

    /// Does what is due. Harmless if nothing is.
    pub fn handle_timeout(&mut self, now: Mono) {
        let due = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        if due(self.budget_ends) {
            self.budget_ends = None;
            self.budget_spent = 0;
            self.kick(now);
        }
        for t in self.transports() {
            match self.slot(t) {
                Slot::Dialing { until } | Slot::Connecting { until } if until <= now => {
                    self.actions.push_back(Action::Abandon(t));
                    self.ended(now, t, FailKind::Timeout);
                }
                Slot::Draining { until, .. } if until <= now => self.drained(now, t),
                _ => {}
            }
        }
        if let Some((at, t)) = self.race
            && at <= now
        {
            self.race = None;
            if self.live().is_none() && self.slot(t) == Slot::Empty {
                self.dial(now, t);
            }
        }
        if due(self.retry_at) {
            self.retry_at = None;
            self.busy = false;
            self.kick(now);
        }
        if due(self.burst_at) {
            self.burst_at = None;
            self.wanted = true;
            self.kick(now);
        }
        if due(self.linger_at) {
            self.linger_at = None;
            if self.backlog_bytes == 0 {
                self.end_live(now, self.options.drain_timeout);
            }
        }
        if due(self.probe_at) {
            self.probe_at = None;
            // Only TCP that is in use and undisturbed is probed beside.
            if self.live() == self.options.tcp && self.slot(Transport::Quic) == Slot::Empty {
                self.dial(now, Transport::Quic);
            }
        }
    }

    /// The connection that is adopted, draining or not.
    pub fn adopted(&self) -> Option<Transport> {
        self.live()
    }

    /// Until when the link rests, and why nothing happens: a back-off, Server Busy, a burst's pause or the
    /// budget. `None` while something is being done.
    pub fn resting_until(&self) -> Option<Mono> {
        if self.slots.iter().any(|s| *s != Slot::Empty) {
            return None;
        }
        if self.over_budget() { self.budget_ends } else { self.retry_at.or(self.burst_at) }
    }

    /// Whether everything ended after [`Input::Stop`].
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.slots.iter().all(|s| *s == Slot::Empty)
    }

    /// Keep-alive for connections dialed from now on, as learned on this network.
    pub fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// What should outlive the process. Worth writing when the level changed, and at a stop.
    pub fn memory(&self, now: Mono) -> PolicyMemory {
        let left = self.budget_ends.map_or(Duration::ZERO, |at| at.since(now));
        PolicyMemory {
            backoff_level: self.level,
            budget_spent_bytes: self.budget_spent,
            budget_left_s: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
        }
    }

    // What is, and what is wanted.

    fn index(t: Transport) -> usize {
        usize::from(t != Transport::Quic)
    }

    fn slot(&self, t: Transport) -> Slot {
        if t == Transport::Quic { self.slots[0] } else { self.slots[1] }
    }

    fn set(&mut self, t: Transport, slot: Slot) {
        self.slots[Self::index(t)] = slot;
    }

    fn transports(&self) -> impl Iterator<Item = Transport> + use<> {
        self.options.quic.then_some(Transport::Quic).into_iter().chain(self.options.tcp)
    }

    fn other(&self, t: Transport) -> Option<Transport> {
        if t == Transport::Quic { self.options.tcp } else { self.options.quic.then_some(Transport::Quic) }
    }

    /// The other one, if it is in this very state.
    fn other_in(&self, t: Transport, slot: Slot) -> Option<Transport> {
        self.other(t).filter(|o| self.slot(*o) == slot)
    }

    fn live(&self) -> Option<Transport> {
        self.transports()
            .find(|t| matches!(self.slot(*t), Slot::Live | Slot::Draining { .. } | Slot::Drained))
    }

    fn over_budget(&self) -> bool {
        self.options.data_budget_bytes.is_some_and(|limit| self.budget_spent >= limit)
    }

    fn wants_link(&self) -> bool {
        let in_burst = matches!(self.options.mode, Mode::Always) || self.wanted;
        self.started && !self.stopping && in_burst && !self.over_budget()
    }

    // Making connections.

    fn start(&mut self, now: Mono) {
        if self.started || self.stopping {
            return;
        }
        self.started = true;
        self.wanted = true;
        if self.level > 0 {
            // A fleet that comes back together does not come back at once.
            self.retry_at = Some(now + self.jitter(self.level));
        }
        self.kick(now);
    }

    /// Begins to connect if that is wanted and nothing is under way.
    fn kick(&mut self, now: Mono) {
        let idle = self.slots.iter().all(|s| *s == Slot::Empty);
        if !idle || self.retry_at.is_some() || !self.wants_link() {
            return;
        }
        self.race = None;
        let (first, second) = match (self.options.quic, self.options.tcp) {
            (true, Some(tcp)) if self.quic_short_lives >= 2 || self.quic_narrow_here => {
                (tcp, Some(Transport::Quic))
            }
            (true, tcp) => (Transport::Quic, tcp),
            (false, Some(tcp)) => (tcp, None),
            (false, None) => return,
        };
        self.dial(now, first);
        if let Some(second) = second {
            if self.quic_failed_here && first == Transport::Quic {
                self.dial(now, second);
            } else {
                self.race = Some((now + self.options.race_delay, second));
            }
        }
    }

    fn dial(&mut self, now: Mono, t: Transport) {
        self.set(t, Slot::Dialing { until: now + self.options.dial_timeout });
        self.actions.push_back(Action::Dial(t));
    }

    fn connect(&mut self, now: Mono, t: Transport) {
        self.set(t, Slot::Connecting { until: now + self.options.connack_timeout });
        self.actions.push_back(Action::Connect(t));
    }

    fn dialed(&mut self, now: Mono, t: Transport) {
        if !matches!(self.slot(t), Slot::Dialing { .. }) {
            return;
        }
        if let Some(old) = self.live().filter(|_| !planted::on(Bug::SwitchUndrained)) {
            self.set(t, Slot::Ready);
            self.drain_for_switch(now, old);
            return;
        }
        let rival = self.other(t).map(|o| (o, self.slot(o)));
        if let Some((o, Slot::Connecting { until })) = rival {
            self.set(t, Slot::Ready);
            self.set(o, Slot::Connecting { until: until.min(now + YIELD_AFTER) });
            return;
        }
        self.connect(now, t);
    }

    fn connected(&mut self, now: Mono, t: Transport) {
        if !matches!(self.slot(t), Slot::Dialing { .. } | Slot::Ready | Slot::Connecting { .. }) {
            return;
        }
        match self.live() {
            Some(old) if self.slot(old) != Slot::Drained => {
                self.set(t, Slot::Accepted);
                self.drain_for_switch(now, old);
            }
            _ => self.adopt(now, t),
        }
    }

    fn drain_for_switch(&mut self, now: Mono, old: Transport) {
        if self.slot(old) == Slot::Live {
            let until = now + self.options.drain_timeout;
            self.set(old, Slot::Draining { until, then: Then::Switch });
            self.actions.push_back(Action::Drain(old));
        }
    }

    fn adopt(&mut self, now: Mono, t: Transport) {
        if let Some(o) = self.other(t) {
            if o == Transport::Quic && matches!(self.slot(o), Slot::Dialing { .. }) {
                // TCP came through and QUIC had no answer, though it began before: swallowed, it seems.
                self.quic_failed_here = true;
            }
            self.discard(o);
        }
        self.set(t, Slot::Live);
        self.actions.push_back(Action::Adopt(t));
        (self.race, self.retry_at, self.busy) = (None, None, false);
        (self.live_since, self.progress_at) = (now, now);
        if t == Transport::Quic {
            (self.quic_failed_here, self.quic_narrow_here) = (false, false);
            (self.probe_at, self.probe_step) = (None, 0);
        } else {
            self.plan_probe(now);
        }
        if !self.wants_link() {
            self.end_live(now, self.options.drain_timeout);
        } else {
            self.backlog(now, self.backlog_bytes);
        }
    }

    /// Drops whatever a slot holds.
    fn discard(&mut self, t: Transport) {
        match self.slot(t) {
            Slot::Empty => return,
            Slot::Dialing { .. } | Slot::Ready | Slot::Connecting { .. } => {
                self.actions.push_back(Action::Abandon(t));
            }
            Slot::Accepted | Slot::Live | Slot::Draining { .. } | Slot::Drained => {
                self.actions.push_back(Action::Close(t));
            }
        }
        self.set(t, Slot::Empty);
    }

    fn plan_probe(&mut self, now: Mono) {
        // A burst begins with QUIC anyway.
        if self.options.quic && self.options.mode == Mode::Always && !planted::on(Bug::NeverProbe) {
            let step = 1u32 << self.probe_step.min(16);
            self.probe_at = Some(now + (self.options.probe_initial * step).min(self.options.probe_max));
        }
    }

    // Losing them.

    /// An attempt failed or a connection ended.
    fn ended(&mut self, now: Mono, t: Transport, kind: FailKind) {
        let was = self.slot(t);
        self.set(t, Slot::Empty);
        match was {
            Slot::Empty => {}
            Slot::Dialing { .. } | Slot::Ready | Slot::Connecting { .. } | Slot::Accepted => {
                match self.live() {
                    Some(old) => self.probe_failed(now, old),
                    None => self.attempt_failed(now, t, kind),
                }
            }
            Slot::Live => {
                self.linger_at = None;
                self.live_lost(now, t, kind);
            }
            // It was to end anyway; perhaps the newer connection took its session.
            Slot::Draining { then: Then::Switch, .. } | Slot::Drained => self.go_on_with_other(now, t),
            Slot::Draining { then: Then::End, .. } => self.rest(now),
        }
    }

    fn probe_failed(&mut self, now: Mono, old: Transport) {
        self.probe_step = (self.probe_step + 1).min(16);
        self.plan_probe(now);
        if matches!(self.slot(old), Slot::Draining { then: Then::Switch, .. } | Slot::Drained) {
            self.set(old, Slot::Live);
            self.actions.push_back(Action::Adopt(old));
        }
    }

    fn attempt_failed(&mut self, now: Mono, t: Transport, kind: FailKind) {
        if t == Transport::Quic {
            self.quic_failed_here = true;
            self.quic_narrow_here = kind == FailKind::PathMtu;
        }
        if self.other_in(t, Slot::Ready).is_some() {
            self.go_on_with_other(now, t);
        } else if self.other(t).is_some_and(|o| self.slot(o) != Slot::Empty) {
            // The other one is still trying.
        } else if let Some((_, second)) = self.race.take().filter(|(_, second)| *second != t) {
            self.dial(now, second);
        } else {
            self.back_off(now);
        }
    }

    fn go_on_with_other(&mut self, now: Mono, t: Transport) {
        if let Some(o) = self.other_in(t, Slot::Ready) {
            self.connect(now, o);
        } else if let Some(o) = self.other_in(t, Slot::Accepted) {
            self.adopt(now, o);
        } else if self.slots.iter().all(|s| *s == Slot::Empty) {
            self.back_off(now);
        }
    }

    fn live_lost(&mut self, now: Mono, t: Transport, kind: FailKind) {
        self.probe_at = None;
        let lived = now.since(self.live_since);
        if lived >= STABLE {
            self.level = 0;
        }
        if kind == FailKind::Stalled && t == Transport::Quic {
            self.learn_from_stall(now, lived);
        }
        if self.other(t).is_some_and(|o| self.slot(o) != Slot::Empty) {
            self.go_on_with_other(now, t);
            return;
        }
        if self.options.mode != Mode::Always && self.backlog_bytes == 0 {
            self.rest(now);
            return;
        }
        match kind {
            // It concerns this device alone: at once.
            FailKind::Stalled | FailKind::Unreachable if self.level == 0 => self.kick(now),
            FailKind::TakenOver => {
                self.retry_at = Some(now + TAKEN_OVER_PAUSE + self.random_below(TAKEN_OVER_PAUSE));
            }
            _ if lived >= STABLE => self.retry_at = Some(now + self.jitter(0)),
            _ => self.back_off(now),
        }
    }

    fn learn_from_stall(&mut self, now: Mono, lived: Duration) {
        self.quic_failed_here = true;
        if now.since(self.progress_at) >= self.keep_alive {
            // It died in silence: something on the way forgot us.
            self.keep_alive = (self.keep_alive / 2).max(KEEP_ALIVE_MIN);
        }
        self.quic_short_lives = if lived < SHORT_LIFE { (self.quic_short_lives + 1).min(2) } else { 0 };
    }

    fn back_off(&mut self, now: Mono) {
        if !self.wants_link() {
            self.rest(now);
            return;
        }
        self.level = (self.level + 1).min(MAX_LEVEL);
        self.retry_at = Some(now + self.jitter(self.level));
    }

    /// Full jitter: anything between nothing and a ceiling that doubles.
    fn jitter(&mut self, level: u8) -> Duration {
        let ceiling = self.options.backoff_base.saturating_mul(1 << level.min(MAX_LEVEL));
        self.random_below(ceiling.min(self.options.backoff_max))
    }

    fn random_below(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.u64(0..=u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
    }

    fn quiet(&mut self, now: Mono, t: Transport) {
        match self.slot(t) {
            Slot::Live | Slot::Draining { .. } | Slot::Drained | Slot::Accepted => {
                self.actions.push_back(Action::Close(t));
                self.ended(now, t, FailKind::Stalled);
            }
            _ => {}
        }
    }

    fn network_changed(&mut self, now: Mono) {
        // Nothing that was learned holds on another network.
        (self.quic_failed_here, self.quic_narrow_here) = (false, false);
        (self.quic_short_lives, self.probe_step) = (0, 0);
        self.keep_alive = self.options.keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX);
        if let Some(t) = self.live() {
            self.actions.push_back(Action::Rebind(t));
            if self.probe_at.is_some() {
                self.probe_at = Some(now + SOON.min(self.options.probe_initial));
            }
            return;
        }
        if self.slots.iter().any(|s| *s != Slot::Empty) {
            // Attempts from the old address lead nowhere.
            for t in self.transports() {
                self.discard(t);
            }
            self.kick(now);
        }
        if self.retry_at.is_some() && !self.busy {
            let soon = now + self.random_below(SOON);
            self.retry_at = self.retry_at.map(|at| at.min(soon));
        }
    }

    fn server_busy(&mut self, now: Mono, retry_after: Duration) {
        if self.stopping {
            return;
        }
        let pause = retry_after.min(HOUR);
        // Spread, so that those who were sent away together do not come back together.
        let at = now + pause + self.random_below(pause / 4);
        let probing = self.transports().find(|t| matches!(self.slot(*t), Slot::Connecting { .. }));
        if let (Some(old), Some(probing)) = (self.live(), probing) {
            // The probe was sent away, not the connection that works.
            self.discard(probing);
            self.probe_failed(now, old);
            self.probe_at = self.probe_at.map(|planned| planned.max(at));
            return;
        }
        for t in self.transports() {
            self.discard(t);
        }
        (self.race, self.probe_at, self.linger_at) = (None, None, None);
        (self.retry_at, self.busy) = (Some(at), true);
    }

    // Ending them.

    fn drained(&mut self, now: Mono, t: Transport) {
        let Slot::Draining { then, .. } = self.slot(t) else { return };
        match then {
            Then::End => {
                self.discard(t);
                self.rest(now);
            }
            Then::Switch => {
                self.set(t, Slot::Drained);
                self.go_on_with_other(now, t);
            }
        }
    }

    /// Ends the adopted connection, what is in flight first.
    fn end_live(&mut self, now: Mono, patience: Duration) {
        self.race = None;
        self.probe_at = None;
        self.linger_at = None;
        for t in self.transports() {
            match self.slot(t) {
                Slot::Live => {
                    self.actions.push_back(Action::Drain(t));
                    self.set(t, Slot::Draining { until: now + patience, then: Then::End });
                }
                Slot::Draining { until, .. } => {
                    let until = until.min(now + patience);
                    self.set(t, Slot::Draining { until, then: Then::End });
                }
                _ => self.discard(t),
            }
        }
    }

    /// No connection, and none wanted now.
    fn rest(&mut self, now: Mono) {
        if let Mode::Burst { every, .. } = self.options.mode
            && !self.stopping
            && !self.over_budget()
        {
            self.wanted = false;
            self.burst_at = Some(now + every);
            // More may have come while the last of it was drained.
            self.backlog(now, self.backlog_bytes);
        }
        self.kick(now);
    }

    fn urgent(&mut self, now: Mono) {
        self.wanted = true;
        if let Some(at) = self.retry_at
            && !self.busy
        {
            let soon = now + self.jitter(self.level.min(URGENT_LEVEL));
            self.retry_at = Some(at.min(soon));
        }
        self.kick(now);
    }

    fn backlog(&mut self, now: Mono, bytes: u64) {
        self.backlog_bytes = bytes;
        let Mode::Burst { size_bytes, linger, .. } = self.options.mode else { return };
        let is_live = self.transports().any(|t| self.slot(t) == Slot::Live);
        if is_live {
            self.linger_at = match (bytes, self.linger_at) {
                (0, None) => Some(now + linger),
                (0, set) => set,
                _ => None,
            };
        } else if bytes > 0 && bytes >= size_bytes && !self.wanted {
            self.wanted = true;
            self.kick(now);
        }
    }

    fn spend(&mut self, now: Mono, bytes: u64) {
        if self.options.data_budget_bytes.is_none() {
            return;
        }
        self.budget_spent = self.budget_spent.saturating_add(bytes);
        // The day begins with its first byte.
        self.budget_ends.get_or_insert(now + DAY);
        if self.over_budget() {
            self.end_live(now, self.options.drain_timeout);
        }
    }

    fn stop(&mut self, now: Mono) {
        self.stopping = true;
        self.end_live(now, self.options.stop_timeout);
        // The budget's day stays: it is remembered.
        (self.retry_at, self.burst_at) = (None, None);
    }
}
