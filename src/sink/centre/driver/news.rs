//! What is looked at from time to time, said to others, and written down.

use std::rc::Rc;
use std::time::Duration;

use super::{Driver, Event, Link, WATCH_EVERY, lock};
use crate::link::Dial;
use crate::link::policy::{self, PolicyMemory};
use crate::planted::{self, Bug};
use crate::runtime::Mono;
use crate::sink::centre::seldom::more;
use crate::sink::centre::session::Input;
use crate::sink::centre::status;
use crate::spool::Stats;
use crate::telemetry::{count, gauge};

/// The same while nothing is in flight.
const WATCH_IDLE_EVERY: Duration = Duration::from_secs(5);
/// How often the time that was confirmed is written down.
const REMEMBER_EVERY: Duration = Duration::from_secs(86_400);

impl Driver<'_> {
    /// Looks whether the open links still move, and what they cost.
    pub(super) fn watch(&mut self, now: Mono) {
        let busy = self.links.iter_mut().any(|l| l.session().is_some_and(|s| s.in_flight() > 0));
        self.next_watch = now + if busy { WATCH_EVERY } else { WATCH_IDLE_EVERY };
        let mut dead = Vec::new();
        for link in &mut self.links {
            let transport = link.transport;
            let Some(conn) = link.conn() else { continue };
            self.spent_bytes = self.spent_bytes.saturating_add(conn.new_wire_bytes());
            if let Some(rtt) = conn.control.rtt() {
                gauge("dts_link_rtt_seconds", &[("transport", transport.as_str())], rtt.as_secs_f64());
            }
            if conn.control.is_dead(now) && !planted::on(Bug::OverlookStall) {
                dead.push(transport);
            }
        }
        for transport in dead {
            let key = format!("dead {}", transport.as_str());
            self.complain(now, &key, &format_args!("{} does not move any more", transport.as_str()));
            self.policy.handle(now, policy::Input::Quiet(transport));
        }
        let bytes = std::mem::take(&mut self.spent_bytes);
        if bytes > 0 {
            count("dts_link_wire_bytes_total", &[], bytes);
            self.policy.handle(now, policy::Input::Spent { bytes });
        }
        let oldest =
            self.active.and_then(|n| self.link(n)).and_then(Link::session).and_then(|s| s.oldest_sent());
        gauge("dts_ship_oldest_unacked_seconds", &[], oldest.map_or(0.0, |at| now.since(at).as_secs_f64()));
        let PolicyMemory { backoff_level, budget_spent_bytes, .. } = self.policy.memory(now);
        // So that a device that is switched off again and again does not get a budget each time.
        let budget = self.config.data_budget.map_or(u64::MAX, |budget| budget.0.max(8));
        let eighths = budget_spent_bytes.min(budget) / (budget / 8);
        if lock(&self.agent.identity).memory().backoff_level != backoff_level || eighths > self.spent_eighths
        {
            self.remember(now);
        }
        self.spent_eighths = eighths;
    }

    pub(super) fn ask_stats(&mut self) {
        if !self.asked_stats {
            self.asked_stats = true;
            self.jobs.ask_stats();
        }
    }

    pub(super) fn on_stats(&mut self, now: Mono, stats: Stats) {
        self.asked_stats = false;
        self.stats = stats;
        let urgent = self.config.urgent_lanes();
        let waits =
            |lane: &crate::spool::LaneStats| lane.bytes > 0 && urgent.iter().any(|u| **u == *lane.name);
        if self.stats.lanes.iter().any(waits) && self.active.is_none() {
            self.policy.handle(now, policy::Input::Urgent);
        }
        let bytes = self.stats.lanes.iter().map(|l| l.bytes).sum();
        self.policy.handle(now, policy::Input::Backlog { bytes });
        self.say_status(now);
    }

    pub(super) fn say_status(&mut self, now: Mono) {
        let Some(number) = self.active else { return };
        let connections = self.connections;
        let (instance, boot) = (self.common.options.instance, self.common.options.boot);
        let (clock, bound) = {
            let keeper = self.agent.keeper.borrow();
            (keeper.state(now), keeper.bound(now))
        };
        let Some(link) = self.link(number) else { return };
        let transport = link.transport.as_str();
        let rtt = link.conn().and_then(|c| c.control.rtt());
        let device = status::Device { instance, boot, transport, connections, rtt, clock, bound };
        let document = self.status.document(now, &device, &self.stats);
        if let (Some(json), Some(session)) = (document, self.link(number).and_then(Link::session)) {
            session.handle(now, Input::Status(json));
        }
    }

    /// The centre told the time, and may be believed.
    pub(super) fn time_learned(&mut self, now: Mono) {
        let (state, offset, confirmed, bound) = {
            let keeper = self.agent.keeper.borrow();
            (keeper.state(now), keeper.offset_us(now), keeper.confirmed_s(now), keeper.bound(now))
        };
        if let Some(offset) = offset {
            self.agent.trust.told(offset);
        }
        if let Some(s) = confirmed {
            self.agent.trust.raise_floor(s);
        }
        if let Some(bound) = bound {
            gauge("dts_clock_bound_seconds", &[], bound.as_secs_f64());
        }
        if state != self.clock {
            self.clock = state;
            log::info!("clock: {state:?}, within {:.1} ms", bound.unwrap_or_default().as_secs_f64() * 1000.0);
            self.next_look = now;
        }
        if self.remembered.is_none_or(|at| now.since(at) >= REMEMBER_EVERY) {
            self.remember(now);
        }
    }

    /// Writes down what should outlive the process. Seldom: it is a write to flash.
    pub(super) fn remember(&mut self, now: Mono) {
        self.remembered = Some(now);
        let PolicyMemory { backoff_level, budget_spent_bytes, budget_left_s } = self.policy.memory(now);
        let boots = self.agent.keeper.borrow().boots().to_vec();
        let mut floor_s = self.agent.trust.floor_s();
        if planted::on(Bug::FalseFloor) {
            floor_s = u64::try_from(crate::runtime::wall_now_us() / 1_000_000).unwrap_or(0);
        }
        let memory =
            crate::identity::Memory { backoff_level, floor_s, budget_spent_bytes, budget_left_s, boots };
        let remembered = lock(&self.agent.identity).remember(memory);
        if let Err(e) = remembered {
            self.complain(now, "identity", &e);
        }
    }

    /// Logs what is wrong; the same `kind` of thing seldom.
    pub(super) fn complain(&mut self, now: Mono, kind: &str, what: &dyn std::fmt::Display) {
        match self.said.say(now, kind) {
            Some(unsaid) => log::warn!("{what}{}", more(unsaid)),
            None => log::debug!("{what}"),
        }
    }
}

/// Says when the machine's addresses towards the centre changed.
pub(super) async fn watch_network(dialer: Rc<dyn Dial>, tell: async_channel::Sender<Event>) {
    loop {
        dialer.network_changed().await;
        if tell.send(Event::Network).await.is_err() {
            return;
        }
    }
}
