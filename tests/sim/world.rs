//! One run: machines, network and centre on one thread and one virtual clock, from one plan.
//!
//! Time stands while anything can be done, then jumps to the next moment at which something happens. A run ends with all
//! faults healed: everything must drain, a fresh event must pass, and the oracle judges.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use std::sync::Arc;

use super::centre::{self, Centre};
use super::device::{Machine, Shared};
use super::disk;
use super::input;
use super::net::{Net, Way};
use super::oracle::Oracle;
use super::plan::{Blocked, Fault, Kind, Plan};
use super::sink;
use super::tier2::Tier;
use super::tier2::promises::{Promise, QUIET_US, RETURN_US};
use super::vfs;
use crate::runtime::spawn;
use crate::spool::Policy;

/// Turns at one moment after which something spins.
const MAX_TURNS: u32 = 200_000;
/// Everything must be drained so long after the faults end.
const DRAIN_US: u64 = 1_200_000_000;
/// A fresh event must pass within this when nothing is in its way.
const PROBE_US: u64 = 30_000_000;
/// The same where two machines share a name and take turns.
const SHARED_PROBE_US: u64 = 150_000_000;
/// A supervisor starts a process that failed again after this.
const SUPERVISOR_US: u64 = 1_000_000;

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) violations: Vec<String>,
    /// Kind of fault × what it struck.
    pub(super) coverage: BTreeMap<(&'static str, &'static str), u32>,
    /// Issued, acknowledged, delivered, reported lost.
    pub(super) counts: (u64, u64, u64, u64),
    pub(super) quarantined: u64,
    /// Virtual time.
    pub(super) ended_us: u64,
    pub(super) trace: Vec<String>,
    /// Of the second tier: hash and number of datagrams, and how many were too long; what the run was for.
    pub(super) wire: (u64, u64, u64),
    pub(super) met: BTreeMap<&'static str, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Fault(usize),
    Undo(usize),
    Start(usize),
    StartCentre,
    Image(usize),
    CentreImage,
    Promise(usize),
}

struct World<'p> {
    plan: &'p Plan,
    now: Rc<Cell<u64>>,
    all: Shared,
    machines: Vec<Machine>,
    centre: Centre,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    next_event: u64,
    /// How machines die whose disks count operations: by a power cut, and for how long.
    doomed: BTreeMap<usize, (bool, u64)>,
    centre_doomed: Option<u64>,
    report: Report,
    traces: bool,
    looks: u32,
    promises: Vec<Promise>,
    rng: fastrand::Rng,
}

/// Runs `plan`. With `traces` the report says what happened.
pub(super) fn run(plan: &Plan, traces: bool) -> Report {
    vfs::register();
    disk::clear();
    let mut world = World::new(plan, traces);
    world.go();
    world.end();
    disk::clear();
    world.report
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, traces: bool) -> Self {
        let now = Rc::new(Cell::new(0));
        let net = Net::new(plan.seed ^ 0x6e65);
        let oracle = Oracle::new(now.clone());
        let producing = Rc::new(Cell::new(true));
        let tier = plan.quic.then(|| Tier::new(plan.seed));
        let all = Shared { net, oracle, now: now.clone(), producing, tier };
        let centre = Centre::new(plan.centre.clone(), plan.seed);
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x77);
        let machines = plan.devices.iter().enumerate();
        let machines = machines
            .map(|(n, device)| Machine::new(n, &format!("d{n}"), device.clone(), rng.u64(1..), &all))
            .collect();
        let mut world = Self {
            plan,
            now,
            all,
            machines,
            centre,
            events: BinaryHeap::new(),
            next_event: 0,
            doomed: BTreeMap::new(),
            centre_doomed: None,
            report: Report::default(),
            traces,
            looks: 0,
            promises: Vec::new(),
            rng,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        let starts = self.rng.u64(0..2_000_000);
        self.at(starts, Event::StartCentre);
        for n in 0..self.machines.len() {
            let starts = self.rng.u64(0..1_000_000);
            self.at(starts, Event::Start(n));
        }
        for (n, (at, fault)) in self.plan.faults.iter().enumerate() {
            self.at(*at, Event::Fault(n));
            match fault {
                Fault::CentreRestored { back_ms, .. } => {
                    self.at(at.saturating_sub(back_ms * 1000), Event::CentreImage);
                }
                Fault::DeviceRestored { device, back_ms } => {
                    self.at(at.saturating_sub(back_ms * 1000), Event::Image(*device));
                }
                _ => {}
            }
        }
    }

    fn at(&mut self, t: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse((t, self.next_event, event)));
    }

    fn after(&mut self, us: u64, event: Event) {
        self.at(self.now.get() + us, event);
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.traces {
            let line = format!("{:>10.3}  {}", self.now.get() as f64 / 1e6, what());
            super::trace::say(&line);
            self.report.trace.push(line);
        }
    }

    /// The faults and the inputs, then the time after.
    fn go(&mut self) {
        if !self.until(self.plan.horizon, |_| false) {
            return;
        }
        self.heal();
        let deadline = self.now.get() + DRAIN_US;
        self.until(deadline, Self::is_drained);
        if !self.broken() && !self.is_drained() {
            let left = self.left();
            self.all.oracle.violation(format!(
                "the buffers are not drained {} s after the faults: {left}",
                DRAIN_US / 1_000_000
            ));
        }
        if self.broken() {
            return;
        }
        if self.all.tier.is_some() {
            let deadline = self.now.get() + RETURN_US;
            self.until(deadline, |w| (0..w.machines.len()).all(|n| w.is_at_home(n)));
            for n in (0..self.machines.len()).filter(|&n| !self.is_at_home(n)) {
                let seen = self.all.tier.as_ref().map(|t| t.watch.of(n, |s| format!("{:?}", s.lines.last())));
                self.all.oracle.violation(format!(
                    "machine {n} is not back on the transport of its path {} s after the faults: {seen:?}",
                    RETURN_US / 1_000_000
                ));
            }
        }
        self.probe();
        if self.all.tier.is_some() && !self.broken() {
            self.quiet();
        }
    }

    fn is_at_home(&self, n: usize) -> bool {
        self.all.tier.as_ref().is_none_or(|tier| tier.is_at_home(self.plan, n))
    }

    /// Nothing happens for a while: nobody may dial but to probe, and what was connected stays so.
    fn quiet(&mut self) {
        let Some(tier) = self.all.tier.clone() else { return };
        let look = |n| {
            tier.watch.of(n, |seen| (seen.live_number(), seen.live().map(|l| l.transport), seen.dials.len()))
        };
        let before: Vec<_> = (0..self.machines.len()).map(look).collect();
        let end = self.now.get() + QUIET_US;
        self.until(end, |_| false);
        for (n, before) in before.into_iter().enumerate() {
            let after = look(n);
            let probes = before.1 == Some(crate::link::Transport::Tls);
            if after.0 != before.0 || (after.2 != before.2 && !probes) {
                self.all.oracle.violation(format!(
                    "machine {n} gave a connection up in quiet: (number, transport, dials) {before:?} became {after:?}"
                ));
            }
        }
    }

    fn broken(&self) -> bool {
        !self.all.oracle.violations().is_empty()
    }

    /// Lets time pass. False if something is wrong.
    fn until(&mut self, end: u64, done: impl Fn(&mut Self) -> bool) -> bool {
        loop {
            self.settle();
            if self.broken() {
                return false;
            }
            let next = self.next_moment();
            if next > end {
                self.set_now(end);
                self.settle();
                return !self.broken();
            }
            self.set_now(next);
            while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= next) {
                if let Some(Reverse((_, _, event))) = self.events.pop() {
                    self.happen(event);
                }
            }
            if done(self) {
                return true;
            }
        }
    }

    fn set_now(&mut self, t: u64) {
        self.now.set(t);
        self.all.net.now.set(t);
        if let Some(tier) = &self.all.tier {
            tier.udp.set_now(t);
        }
    }

    fn next_moment(&self) -> u64 {
        let now = self.now.get();
        let mut next = self.all.net.next_at().unwrap_or(u64::MAX);
        if let Some(tier) = &self.all.tier {
            next = next.min(tier.udp.next_at().unwrap_or(u64::MAX));
        }
        if let Some(Reverse((at, ..))) = self.events.peek() {
            next = next.min(*at);
        }
        for machine in &self.machines {
            let Some(process) = &machine.process else { continue };
            let timer = process.node.next_timer().map(|at| machine.clock.at(at));
            next = next.min(timer.unwrap_or(u64::MAX)).min(process.due.unwrap_or(u64::MAX));
        }
        if let Some(process) = &self.centre.process {
            let timer = process.node.next_timer().map(|at| self.centre.clock.at(at));
            next = next.min(timer.unwrap_or(u64::MAX));
        }
        next.max(now + 1)
    }

    /// Does everything that can be done now.
    fn settle(&mut self) {
        let mut turns = 0;
        loop {
            let mut any = false;
            self.all.net.advance();
            if let Some(tier) = &self.all.tier {
                (0..self.machines.len()).for_each(|n| tier.udp.set_way(n, self.all.net.way_now(n)));
                tier.udp.advance();
            }
            while let Some(accept) = self.all.net.poll_accept() {
                self.centre.accept(accept);
                any = true;
            }
            if self.traces {
                for note in self.all.net.notes() {
                    self.say(|| note);
                }
            }
            for n in 0..self.machines.len() {
                any |= self.turn_machine(n, &mut turns);
                any |= self.run_spool(n);
            }
            any |= self.turn_centre(&mut turns);
            if turns > MAX_TURNS {
                self.all.oracle.violation(format!("{turns} turns at one moment: something spins"));
            }
            if !any || self.broken() {
                return;
            }
        }
    }

    fn turn_machine(&mut self, n: usize, turns: &mut u32) -> bool {
        let t = self.now.get();
        let machine = &mut self.machines[n];
        let Some(process) = &machine.process else { return false };
        super::trace::at(t, || format!("machine {n}"));
        process.node.set_clocks(machine.clock.mono(t), machine.clock.wall_us(t));
        let entered = process.node.enter();
        let mut any = false;
        while *turns <= MAX_TURNS && process.node.turn() {
            any = true;
            *turns += 1;
            if disk::with(machine.disk, |d| d.dead) == Some(true) {
                break;
            }
        }
        drop(entered);
        if disk::with(machine.disk, |d| d.dead) == Some(true) {
            self.disk_died(n);
            return true;
        }
        let (failed, stopped) = (process.failed.borrow_mut().take(), process.stopped.get());
        if let Some(why) = failed {
            self.all.oracle.violation(format!("machine {n}: shipping ended: {why}"));
        }
        if stopped {
            self.say(|| format!("machine {n} has stopped in order"));
            self.machines[n].die();
            self.revive(n);
            self.after(SUPERVISOR_US / 2, Event::Start(n));
            return true;
        }
        any
    }

    /// The thread `sqlite`: takes what waits for it after the time that the disk needs.
    fn run_spool(&mut self, n: usize) -> bool {
        let t = self.now.get();
        let machine = &mut self.machines[n];
        let Some(process) = &mut machine.process else { return false };
        if process.local.is_asked() {
            let soon = process.busy_until.max(t);
            process.due = Some(process.due.map_or(soon, |due| due.min(soon)));
        }
        if process.due.is_none_or(|due| due.max(process.busy_until) > t) {
            if let Some(due) = &mut process.due {
                *due = (*due).max(process.busy_until);
            }
            return false;
        }
        super::trace::at(t, || format!("machine {n}, buffer"));
        let entered = process.node.enter();
        let now = machine.clock.mono(t);
        let due = process.local.run(now);
        for batch in process.local.take_released() {
            self.all.oracle.released(&machine.name, &batch);
        }
        drop(entered);
        let busy = disk::with(machine.disk, |d| std::mem::take(&mut d.busy_us)).unwrap_or(0);
        process.busy_until = t + busy + 1;
        process.due = due.map(|at| machine.clock.at(at).max(process.busy_until));
        if disk::with(machine.disk, |d| d.dead) == Some(true) {
            self.disk_died(n);
            return true;
        }
        self.looks += 1;
        if self.looks.is_multiple_of(16) {
            self.look_at_bounds(n);
        }
        true
    }

    fn turn_centre(&mut self, turns: &mut u32) -> bool {
        let t = self.now.get();
        let Some(process) = &self.centre.process else { return false };
        super::trace::at(t, || "centre".to_owned());
        process.node.set_clocks(self.centre.clock.mono(t), self.centre.clock.wall_us(t));
        let entered = process.node.enter();
        let mut any = false;
        while *turns <= MAX_TURNS && process.node.turn() {
            any = true;
            *turns += 1;
            if disk::with(centre::DISK, |d| d.dead) == Some(true) {
                break;
            }
        }
        drop(entered);
        if disk::with(centre::DISK, |d| d.dead) == Some(true) {
            let ms = self.centre_doomed.take().unwrap_or(100);
            self.say(|| "the centre's power is cut within a write".into());
            self.kill_centre(true, ms);
            return true;
        }
        let (failed, stopped) = (process.failed.borrow_mut().take(), process.stopped.get());
        let bytes = process.shared.hub.borrow().bytes();
        let bound = self.plan.centre.total_bytes as usize
            + 64 * (self.plan.centre.connection_bytes as usize).min(256 << 10);
        if bytes > bound {
            self.all.oracle.violation(format!("the centre holds {bytes} bytes, more than {bound}"));
        }
        if failed.is_some() || stopped {
            self.say(|| format!("the centre has stopped ({})", failed.as_deref().unwrap_or("in order")));
            self.kill_centre(false, SUPERVISOR_US / 1000);
            return true;
        }
        any
    }

    fn look_at_bounds(&mut self, n: usize) {
        let t = self.now.get();
        let machine = &mut self.machines[n];
        let Some(process) = &mut machine.process else { return };
        let Some(stats) = process.local.stats(machine.clock.mono(t)) else { return };
        let plan = &machine.plan;
        let batch =
            plan.inputs.iter().map(|i| i.max_rows as usize * (i.max_bytes + 400)).max().unwrap_or(0) as u64;
        let memory: u64 = stats.lanes.iter().map(|l| l.memory_bytes).sum();
        let most = plan.memory_bytes as u64 + 2 * batch + (64 << 10);
        let mut wrong = Vec::new();
        if memory > most {
            wrong.push(format!("machine {n} holds {memory} bytes in memory, more than {most}"));
        }
        let disk = stats.file_bytes + stats.wal_bytes;
        let most = plan.max_bytes + plan.max_bytes / 10 + (10 << 20);
        if disk > most {
            wrong.push(format!("machine {n} uses {disk} bytes of disk, more than {most}"));
        }
        for lane in &stats.lanes {
            let limit =
                plan.lanes.iter().find(|l| l.name == lane.name).map(|l| (l.max_bytes, l.policy.clone()));
            let Some((limit, policy)) = limit else { continue };
            let most = limit.saturating_add(2 * batch).saturating_add(plan.memory_bytes as u64 + (128 << 10));
            if lane.bytes > most && policy != Policy::Block {
                wrong
                    .push(format!("machine {n}, lane {}: {} bytes, more than {most}", lane.name, lane.bytes));
            }
        }
        for what in wrong {
            self.all.oracle.violation(what);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault(n) => self.strike(n),
            Event::Undo(n) => self.undo(n),
            Event::Promise(n) => self.hold(n),
            Event::Start(n) => self.start(n),
            Event::StartCentre => self.start_centre(),
            Event::Image(n) => {
                let t = self.now.get();
                let disk = self.machines[n].disk;
                if let Some(image) = disk::with(disk, |d| d.image()) {
                    self.machines[n].images.push((t, image));
                }
            }
            Event::CentreImage => {
                let t = self.now.get();
                if let Some(image) = disk::with(centre::DISK, |d| d.image()) {
                    self.centre.images.push((t, image));
                }
            }
        }
    }

    fn start(&mut self, n: usize) {
        if self.machines[n].process.is_some() || self.machines[n].retired {
            return;
        }
        self.all.net.way(n, |way| way.silent = false);
        let before = self.machines[n].quarantined;
        match self.machines[n].start(&self.all) {
            Ok(()) => self.say(|| format!("machine {n} starts")),
            Err(e) => {
                self.say(|| format!("machine {n} does not start: {e}"));
                if disk::with(self.machines[n].disk, |d| d.dead) == Some(true) {
                    return self.disk_died(n);
                }
                self.after(SUPERVISOR_US, Event::Start(n));
            }
        }
        if self.machines[n].quarantined > before {
            self.say(|| format!("machine {n} has put a damaged buffer aside"));
        }
    }

    fn start_centre(&mut self) {
        if self.centre.process.is_some() {
            return;
        }
        match self.centre.start(self.now.get(), &self.all.net, &self.all.oracle, self.all.tier.as_ref()) {
            Ok(()) => self.say(|| "the centre starts".into()),
            Err(e) => {
                self.say(|| format!("the centre does not start: {e}"));
                if disk::with(centre::DISK, |d| d.dead) == Some(true) {
                    let ms = self.centre_doomed.take().unwrap_or(100);
                    return self.kill_centre(true, ms);
                }
                self.after(SUPERVISOR_US, Event::StartCentre);
            }
        }
    }

    /// A machine's disk has counted its last operation.
    fn disk_died(&mut self, n: usize) {
        let (power, ms) = self.doomed.remove(&n).unwrap_or((true, 100));
        self.say(|| {
            format!("machine {n} dies within a write ({})", if power { "power cut" } else { "kill" })
        });
        self.kill(n, power, ms);
    }

    fn kill(&mut self, n: usize, power: bool, ms: u64) {
        let t = self.now.get();
        if power {
            self.all.net.way(n, |way| way.silent = true);
        }
        self.doomed.remove(&n);
        let machine = &mut self.machines[n];
        machine.die();
        if std::mem::take(&mut machine.log_rots) {
            self.all.oracle.excuse(n, 0, t);
        }
        if power {
            let lied = disk::with(machine.disk, |d| d.cut_power()) == Some(true);
            if lied {
                self.all.oracle.excuse(n, 0, t);
                self.all.oracle.fork(&machine.name);
            }
            machine.clock.reboot(t, self.rng.u64(1..));
        }
        self.revive(n);
        if !self.machines[n].retired {
            self.after(ms * 1000, Event::Start(n));
        }
    }

    fn revive(&mut self, n: usize) {
        disk::with(self.machines[n].disk, |d| d.revive());
    }

    fn kill_centre(&mut self, power: bool, ms: u64) {
        self.centre.die(&self.all.net);
        self.centre_doomed = None;
        disk::with(centre::DISK, |d| {
            if power {
                d.cut_power();
            } else {
                d.revive();
            }
        });
        self.after(ms * 1000, Event::StartCentre);
    }

    /// What a machine does now.
    fn state(&self, n: usize) -> &'static str {
        match &self.machines[n].process {
            None => "down",
            Some(_) => match &self.all.tier {
                Some(tier) => {
                    tier.watch.of(n, |seen| seen.live().map_or("offline", |l| l.transport.as_str()))
                }
                None => self.all.net.state(n),
            },
        }
    }

    /// What was promised is due.
    fn hold(&mut self, n: usize) {
        let Some(tier) = &self.all.tier else { return };
        match tier.kept(&self.promises[n]) {
            Ok(met) => *self.report.met.entry(met).or_default() += 1,
            Err(why) => self.all.oracle.violation(why),
        }
    }

    fn centre_state(&self) -> &'static str {
        if self.centre.process.is_none() {
            return "down";
        }
        let states = (0..self.machines.len()).map(|n| self.state(n));
        let rank = |s: &&str| {
            ["sending", "idle", "quic", "tls", "offline", "down"].iter().position(|x| x == s).unwrap_or(9)
        };
        states.min_by_key(rank).unwrap_or("offline")
    }

    fn strike(&mut self, number: usize) {
        let (_, fault) = self.plan.faults[number].clone();
        let state = fault.device().map_or_else(|| self.centre_state(), |n| self.state(n));
        *self.report.coverage.entry((fault.name(), state)).or_default() += 1;
        self.say(|| format!("FAULT {number}: {fault:?} ({state})"));
        let promised = fault.device().zip(self.all.tier.as_ref());
        let promised =
            promised.and_then(|(n, tier)| tier.promise(self.plan, number, &self.all.net.way_now(n)));
        if let Some((due, promise)) = promised {
            self.promises.push(promise);
            self.at(due, Event::Promise(self.promises.len() - 1));
        }
        let on_disk = |n: usize, f: &dyn Fn(&mut disk::Disk)| disk::with(n as u32 + 1, f);
        match fault {
            Fault::Kill { device, ms } => self.kill(device, false, ms),
            Fault::PowerCut { device, ms } => self.kill(device, true, ms),
            Fault::KillAt { device, ops, ms } | Fault::PowerCutAt { device, ops, ms } => {
                let power = matches!(fault, Fault::PowerCutAt { .. });
                self.doomed.insert(device, (power, ms));
                on_disk(device, &|d| d.dies_in = Some(ops));
            }
            Fault::Restart { device, ms } => {
                self.machines[device].stop();
                self.after(ms * 1000 + 1_000_000, Event::Start(device));
            }
            Fault::CentreKill { ms } => self.kill_centre(false, ms),
            Fault::CentrePowerCut { ms } => self.kill_centre(true, ms),
            Fault::CentrePowerCutAt { ops, ms } => {
                self.centre_doomed = Some(ms);
                disk::with(centre::DISK, |d| d.dies_in = Some(ops));
            }
            Fault::CentreRestart { .. } => self.centre.stop(),
            Fault::CentreRestored { ms, .. } => {
                self.centre.die(&self.all.net);
                disk::with(centre::DISK, |d| {
                    d.revive();
                    // What is armed is the process's, not of who looks at the file now.
                    (d.fail_writes, d.fail_syncs) = (0, 0);
                });
                self.inspect();
                if let Some((_, image)) = self.centre.images.pop() {
                    disk::with(centre::DISK, |d| d.restore(&image));
                    self.all.oracle.centre_forgets();
                    self.machines.iter().for_each(|m| self.all.oracle.renamed(&m.name));
                }
                self.after(ms * 1000, Event::StartCentre);
            }
            Fault::Cut { device } => self.all.net.cut(device),
            Fault::BlackOut { device, blocked, ms } => {
                self.all.net.way(device, |way| {
                    way.udp_blocked |= blocked != Blocked::Tcp;
                    way.tcp_blocked |= blocked != Blocked::Udp;
                });
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::NewAddress { device, told } => {
                self.all.net.change_address(device, told);
                if let Some(tier) = &self.all.tier {
                    // Every second device binds its sockets to a network.
                    tier.udp.change_address(device, self.plan.seed.is_multiple_of(2) == (device == 0));
                }
            }
            Fault::NatRebind { device } => {
                if let Some(tier) = &self.all.tier {
                    tier.udp.forget_nat(device);
                }
            }
            Fault::PathMtu { device, mtu, said, ms } => {
                self.all.net.way(device, |way| (way.mtu, way.mtu_said) = (mtu.min(way.mtu), said));
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::BadWay { device, up_ms, down_ms, loss, ms } => {
                self.all.net.way(device, |way| {
                    (way.latency_us, way.loss) = ([up_ms * 1000, down_ms * 1000], loss);
                });
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::SlowDisk { device, sync_ms, ms } => {
                on_disk(device, &|d| d.sync_us = sync_ms * 1000);
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::FullDisk { device, ms } => {
                let room = self.rng.u64(0..40_000);
                on_disk(device, &|d| d.capacity = d.used() + room);
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::ReadErrors { device, count } => {
                self.all.oracle.may_double(&self.machines[device].name);
                on_disk(device, &|d| d.fail_reads = count);
            }
            Fault::WriteErrors { device, count } => drop(on_disk(device, &|d| d.fail_writes = count)),
            Fault::SyncErrors { device, count } => {
                // A commit that was not confirmed may be there all the same: its batch was refused, and comes again.
                self.all.oracle.may_double(&self.machines[device].name);
                on_disk(device, &|d| d.fail_syncs = count);
            }
            Fault::LostSync { device, ms } => {
                on_disk(device, &|d| d.lies = true);
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::Rot { device, pages } => {
                let hit = disk::with(self.machines[device].disk, |d| d.rot(pages)).unwrap_or_default();
                self.all.oracle.may_double(&self.machines[device].name);
                if hit.iter().any(|name| name.ends_with("-wal")) {
                    // SQLite takes the log to end there.
                    self.machines[device].log_rots = self.machines[device].process.is_some();
                    if !self.machines[device].log_rots {
                        self.all.oracle.excuse(device, 0, self.now.get());
                    }
                    self.all.oracle.fork(&self.machines[device].name);
                }
                self.say(|| format!("rot in {hit:?}"));
            }
            Fault::CentreSlowDisk { sync_ms, ms } => {
                disk::with(centre::DISK, |d| d.sync_us = sync_ms * 1000);
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::CentreFullDisk { ms } => {
                disk::with(centre::DISK, |d| d.capacity = d.used() + 10_000);
                self.after(ms * 1000, Event::Undo(number));
            }
            Fault::CentreWriteErrors { count } => drop(disk::with(centre::DISK, |d| d.fail_writes = count)),
            Fault::CentreSyncErrors { count } => drop(disk::with(centre::DISK, |d| d.fail_syncs = count)),
            Fault::WallJump { device, seconds } => {
                self.machines[device].clock.wall_error_us += seconds * 1_000_000;
            }
            Fault::Drift { device, ppm } => {
                let t = self.now.get();
                self.machines[device].clock.drift(t, ppm);
            }
            Fault::Twin { device } => {
                self.all.oracle.renamed(&self.machines[device].name);
                self.second(device, false);
            }
            Fault::Clone { device } => {
                self.second(device, true);
            }
            Fault::DeviceRestored { device, .. } => {
                let t = self.now.get();
                let Some((taken, image)) = self.machines[device].images.pop() else { return };
                self.all.oracle.excuse(device, taken, t);
                self.all.oracle.fork(&self.machines[device].name);
                self.all.oracle.restored(&self.machines[device].name);
                self.kill(device, true, 500);
                on_disk(device, &|d| d.restore(&image));
            }
        }
    }

    /// A second machine under the name of `device`; `copy`: with its disk.
    fn second(&mut self, device: usize, copy: bool) {
        let (name, plan) = (self.machines[device].name.clone(), self.machines[device].plan.clone());
        let index = self.machines.len();
        let seed = self.rng.u64(1..);
        self.machines.push(Machine::new(index, &name, plan, seed, &self.all));
        if copy {
            let image = disk::with(self.machines[device].disk, |d| d.image()).unwrap_or_default();
            disk::with(self.machines[index].disk, |d| d.restore(&image));
            self.all.oracle.fork(&name);
            self.all.oracle.copied(device);
            self.all.oracle.copied(index);
        }
        self.after(1_000, Event::Start(index));
    }

    fn undo(&mut self, number: usize) {
        let (_, fault) = self.plan.faults[number].clone();
        self.say(|| format!("the end of fault {number}"));
        match fault {
            Fault::BlackOut { device, .. } => {
                self.all.net.way(device, |way| (way.udp_blocked, way.tcp_blocked) = (false, false));
            }
            Fault::BadWay { device, .. } => self.heal_way(device),
            Fault::PathMtu { device, .. } => {
                let plan = &self.machines[device].plan.way;
                let (mtu, said) = (plan.mtu, plan.mtu_said);
                self.all.net.way(device, |way| (way.mtu, way.mtu_said) = (mtu, said));
            }
            Fault::SlowDisk { device, .. } => drop(disk::with(device as u32 + 1, |d| d.sync_us = 200)),
            Fault::FullDisk { device, .. } => drop(disk::with(device as u32 + 1, |d| d.capacity = u64::MAX)),
            Fault::LostSync { device, .. } => {
                self.kill(device, true, 300);
                disk::with(device as u32 + 1, |d| d.lies = false);
            }
            Fault::CentreSlowDisk { .. } => drop(disk::with(centre::DISK, |d| d.sync_us = 200)),
            Fault::CentreFullDisk { .. } => drop(disk::with(centre::DISK, |d| d.capacity = u64::MAX)),
            _ => {}
        }
    }

    fn heal_way(&self, n: usize) {
        let plan = self.machines[n].plan.way.clone();
        self.all.net.way(n, |way| *way = Way { silent: way.silent, ..plan });
    }

    /// The faults end, and nothing new is made.
    fn heal(&mut self) {
        self.say(|| "the faults end".into());
        self.events.retain(|Reverse((_, _, e))| matches!(e, Event::Start(_) | Event::StartCentre));
        self.doomed.clear();
        self.all.producing.set(false);
        disk::with(centre::DISK, |d| d.heal());
        self.after(1_000, Event::StartCentre);
        for n in 0..self.machines.len() {
            disk::with(self.machines[n].disk, |d| d.heal());
            self.heal_way(n);
            self.after(1_000, Event::Start(n));
        }
    }

    fn is_drained(&mut self) -> bool {
        let t = self.now.get();
        if self.centre.process.as_ref().is_none_or(|p| p.shared.hub.borrow().bytes() > 0) {
            return false;
        }
        let oracle = self.all.oracle.clone();
        self.machines.iter_mut().filter(|m| !m.retired).all(|machine| {
            let Some(process) = &mut machine.process else { return false };
            let inputs = machine.inputs.iter().zip(&machine.plan.inputs).zip(&process.next);
            let followed = inputs
                .into_iter()
                .all(|((&input, plan), next)| plan.kind == Kind::Client || next.get() > oracle.issued(input));
            let stats = process.local.stats(machine.clock.mono(t));
            followed && stats.is_some_and(|s| s.lanes.iter().all(|l| l.rows + l.memory_rows == 0))
        })
    }

    fn left(&mut self) -> String {
        let t = self.now.get();
        let mut left = Vec::new();
        for machine in &mut self.machines {
            let stats = machine.process.as_mut().and_then(|p| p.local.stats(machine.clock.mono(t)));
            let lanes = stats.map(|s| {
                s.lanes.iter().map(|l| (l.name.clone(), l.rows, l.memory_rows, l.window)).collect::<Vec<_>>()
            });
            left.push(format!("machine {}: {lanes:?}", machine.index));
        }
        left.push(format!("centre up: {}", self.centre.process.is_some()));
        left.join("; ")
    }

    /// A fresh event of every lane must pass.
    fn probe(&mut self) {
        let first = self.plan.devices.len();
        let shared: Vec<Arc<str>> = self.machines[first..].iter().map(|m| m.name.clone()).collect();
        for n in first..self.machines.len() {
            self.machines[n].retired = true;
            self.machines[n].die();
        }
        let mut ids = Vec::new();
        let limit = if shared.is_empty() { PROBE_US } else { SHARED_PROBE_US };
        let quiet = self.now.get() + if shared.is_empty() { 1_000_000 } else { SHARED_PROBE_US };
        if !self.until(quiet, |_| false) {
            return;
        }
        for machine in &self.machines[..first] {
            let Some(process) = &machine.process else { continue };
            let _entered = process.node.enter();
            let inputs = machine.inputs.iter().zip(&machine.plan.inputs);
            for ((&input, plan), outlet) in inputs.zip(&process.outlets) {
                self.all.oracle.small_from_now(input);
                let number = self.all.oracle.issue(input, 1);
                ids.push((input, number));
                // A follower finds it in its log.
                if plan.kind == Kind::Follower {
                    continue;
                }
                let batch = input::batch(&self.all.oracle, outlet, input, number, 1, false);
                let (oracle, now, outlet) = (self.all.oracle.clone(), self.now.clone(), outlet.clone());
                spawn(async move {
                    let result = outlet.submit(batch).await.await;
                    oracle.resolve(input, number, 1, input::outcome(&result, now.get()));
                })
                .detach();
            }
        }
        self.say(|| format!("probes: {ids:?}"));
        let deadline = self.now.get() + limit;
        let wanted = ids.clone();
        self.until(deadline, move |w| wanted.iter().all(|&id| w.all.oracle.is_over(id)));
        for id in ids {
            if !self.all.oracle.is_over(id) {
                self.all
                    .oracle
                    .violation(format!("a fresh event {id:?} did not pass within {} s", limit / 1_000_000));
            }
        }
    }

    /// What the centre's file holds.
    fn inspect(&mut self) {
        if !self.plan.centre.plain && disk::with(centre::DISK, |d| d.exists("centre.db")) == Some(true) {
            sink::inspect(centre::DISK, self.plan.centre.log, &self.all.oracle);
        }
    }

    fn end(&mut self) {
        for machine in &mut self.machines {
            machine.die();
            self.report.quarantined += machine.quarantined;
        }
        self.centre.die(&self.all.net);
        disk::with(centre::DISK, |d| d.revive());
        if !self.broken() {
            self.inspect();
            self.all.oracle.judge();
        }
        self.report.counts = self.all.oracle.counts();
        self.report.ended_us = self.now.get();
        if let Some(tier) = &self.all.tier {
            self.report.wire = tier.udp.trace();
            for (what, n) in tier.met(self.plan) {
                *self.report.met.entry(what).or_default() += n;
            }
            for n in 0..self.machines.len() {
                let overlaps = tier.watch.of(n, |seen| seen.overlaps.clone());
                *self.report.met.entry("sent by an old connection").or_default() += overlaps.len() as u32;
                if let Some(at) = overlaps.into_iter().find(|at| self.plan.is_calm(n, *at)) {
                    self.all.oracle.violation(format!(
                        "machine {n} sent frames by its old connection when the next one had begun, at {:.3} s",
                        at as f64 / 1e6
                    ));
                }
            }
        }
        self.report.violations = self.all.oracle.violations();
    }
}
