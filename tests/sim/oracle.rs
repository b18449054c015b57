//! What must hold: the promises of the product, compared with what was issued, acknowledged and delivered.
//!
//! - delivered ⊆ issued, with the payload that was issued, by the device and lane that issued it;
//! - acknowledged ⊆ delivered ∪ reported lost; a hole in the sequence exists only where a loss record names it;
//! - the order of each key's first deliveries is that of their issue; hybrid times of an input rise;
//! - what was refused is not delivered, but where a commit failed with the disk and nobody can say whether it happened: such
//!   an answer (`Busy`) says "not confirmed", and a client that sends again may deliver twice;
//! - nothing is applied twice: no (device, epoch, seq) is written again, no event of a durable input has two numbers.
//!
//! Where the hardware broke its word (an fsync that did nothing, a log whose end rotted away, a disk that was put back to an
//! older state) nobody can know what is gone: events of that time are excused from being delivered, from nothing else.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::event::builtin::{Loss, Payload};
use crate::event::{Batch, Op, Origin, RowView, Value};
use crate::sink::Mark;
use crate::spool::{Class, Policy, Released};

/// An event: its input, and its number there from 1.
pub(super) type Id = (usize, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing was said yet, or nothing will be: the process died.
    Open,
    Acked(u64),
    Refused,
}

#[derive(Clone, Debug)]
struct Event {
    /// When it was first and last handed on: a follower does so until it is taken.
    made: (u64, u64),
    outcome: Outcome,
    /// Where it was delivered first: epoch and sequence number.
    delivered: Option<(u64, u64)>,
    again: bool,
}

/// One input of one machine.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// Index of the machine, clones and twins counted.
    pub(super) machine: usize,
    /// The device's name.
    pub(super) device: Arc<str>,
    pub(super) lane: Arc<str>,
    pub(super) class: Class,
    pub(super) policy: Policy,
    pub(super) keys: u64,
    pub(super) max_bytes: usize,
    /// Events from this on are small: the fresh ones at the end, which must fit everywhere.
    pub(super) small_from: u64,
}

struct InputState {
    spec: Input,
    events: Vec<Event>,
    /// By key: the last event that was delivered first.
    order: HashMap<u64, u64>,
    /// Hybrid time of the last event delivered, by the machine's boot.
    hlc: (u64, u64),
}

/// A lane of a device in one epoch.
type Run = (Arc<str>, Arc<str>, u64);

/// Compares. Cheap to clone.
#[derive(Clone)]
pub(super) struct Oracle(Rc<RefCell<State>>, Rc<Cell<u64>>);

struct State {
    inputs: Vec<InputState>,
    /// Everything that the sink ever held: sequence numbers.
    seqs: BTreeMap<Run, BTreeSet<u64>>,
    losses: BTreeMap<(Run, u64), Loss>,
    /// Since the centre's disk was last put back.
    written: HashSet<(Arc<str>, Arc<str>, u64, u64)>,
    violations: Vec<String>,
    /// Machines with times (µs) of acknowledgement for which nobody can vouch.
    excused: Vec<(usize, u64, u64)>,
    /// Names under which something happened that makes double or renamed numbers legal.
    forked: HashSet<Arc<str>>,
    /// Names of machines whose disk was put back: what it had lost since may come after all.
    restored: HashSet<Arc<str>>,
    may_double: HashSet<Arc<str>>,
    renamed: HashSet<Arc<str>>,
    copied: HashSet<usize>,
    delivered: u64,
    acked: u64,
    times: u64,
}

impl Oracle {
    /// `now` shows the virtual time.
    pub(super) fn new(now: Rc<Cell<u64>>) -> Self {
        let state = State {
            inputs: Vec::new(),
            seqs: BTreeMap::new(),
            losses: BTreeMap::new(),
            written: HashSet::new(),
            violations: Vec::new(),
            excused: Vec::new(),
            forked: HashSet::new(),
            restored: HashSet::new(),
            may_double: HashSet::new(),
            renamed: HashSet::new(),
            copied: HashSet::new(),
            delivered: 0,
            acked: 0,
            times: 0,
        };
        Self(Rc::new(RefCell::new(state)), now)
    }

    pub(super) fn add(&self, spec: Input) -> usize {
        let inputs = &mut self.0.borrow_mut().inputs;
        inputs.push(InputState { spec, events: Vec::new(), order: HashMap::new(), hlc: (0, 0) });
        inputs.len() - 1
    }

    pub(super) fn input(&self, input: usize) -> Input {
        self.0.borrow().inputs[input].spec.clone()
    }

    /// From now on the input's events are small.
    pub(super) fn small_from_now(&self, input: usize) {
        let input = &mut self.0.borrow_mut().inputs[input];
        input.spec.small_from = input.events.len() as u64 + 1;
    }

    /// Numbers of `count` new events; the first.
    pub(super) fn issue(&self, input: usize, count: u64) -> u64 {
        let issued = self.1.get();
        let events = &mut self.0.borrow_mut().inputs[input].events;
        let first = events.len() as u64 + 1;
        let event = Event { made: (issued, issued), outcome: Outcome::Open, delivered: None, again: false };
        events.extend(std::iter::repeat_n(event, count as usize));
        first
    }

    pub(super) fn issued(&self, input: usize) -> u64 {
        self.0.borrow().inputs[input].events.len() as u64
    }

    pub(super) fn resolve(&self, input: usize, first: u64, count: u64, outcome: Outcome) {
        let mut state = self.0.borrow_mut();
        let mut acked = 0;
        for n in first..first + count {
            let event = &mut state.inputs[input].events[n as usize - 1];
            if !matches!(event.outcome, Outcome::Acked(_)) {
                event.outcome = outcome;
                acked += u64::from(matches!(outcome, Outcome::Acked(_)));
            }
        }
        state.acked += acked;
    }

    /// Whether an event arrived, or was refused at the input.
    pub(super) fn is_over(&self, (input, n): Id) -> bool {
        let state = self.0.borrow();
        let event = &state.inputs[input].events[n as usize - 1];
        let spec = &state.inputs[input].spec;
        let memory = spec.class != Class::Fsync && state.copied.contains(&spec.machine);
        event.delivered.is_some() || event.outcome == Outcome::Refused || memory
    }

    /// (issued, acknowledged, delivered, lost by report).
    pub(super) fn counts(&self) -> (u64, u64, u64, u64) {
        let state = self.0.borrow();
        let issued = state.inputs.iter().map(|i| i.events.len() as u64).sum();
        (issued, state.acked, state.delivered, state.losses.values().map(|l| l.rows).sum())
    }

    pub(super) fn violation(&self, what: String) {
        let at = self.1.get() as f64 / 1e6;
        let violations = &mut self.0.borrow_mut().violations;
        if violations.len() < 20 {
            violations.push(format!("at {at:.3} s: {what}"));
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// Events of a machine that were acknowledged in that time may be gone.
    pub(super) fn excuse(&self, machine: usize, from: u64, to: u64) {
        self.0.borrow_mut().excused.push((machine, from, to));
    }

    /// A damaged buffer of this device may have lost where its inputs were.
    pub(super) fn may_double(&self, device: &Arc<str>) {
        self.0.borrow_mut().may_double.insert(device.clone());
    }

    /// The disk of a machine of this name was put back.
    pub(super) fn restored(&self, device: &Arc<str>) {
        self.0.borrow_mut().restored.insert(device.clone());
    }

    /// An event is handed on, perhaps again.
    pub(super) fn made(&self, input: usize, n: u64) {
        let now = self.1.get();
        if let Some(event) = self.0.borrow_mut().inputs[input].events.get_mut(n as usize - 1) {
            event.made.1 = now;
        }
    }

    /// The centre forgot epochs: what is left of one may come under a new name.
    pub(super) fn renamed(&self, device: &Arc<str>) {
        self.0.borrow_mut().renamed.insert(device.clone());
    }

    /// A machine was copied while it ran: what its lanes hold in memory is named lost by the copy, whoever still has it.
    pub(super) fn copied(&self, machine: usize) {
        self.0.borrow_mut().copied.insert(machine);
    }

    /// Two stores write under this name, or one forgot what it wrote.
    pub(super) fn fork(&self, device: &Arc<str>) {
        self.0.borrow_mut().forked.insert(device.clone());
    }

    /// The centre's disk was put back, or its sink may have been written without its marks.
    pub(super) fn centre_forgets(&self) {
        let mut state = self.0.borrow_mut();
        state.written.clear();
    }

    /// A sink that absorbs nothing starts with these marks: only what is above them may come again.
    pub(super) fn marks_are(&self, marks: &[Mark]) {
        let below = |row: &(Arc<str>, Arc<str>, u64, u64)| {
            marks.iter().any(|m| m.device == row.0 && m.lane == row.1 && m.epoch == row.2 && row.3 <= m.seq)
        };
        self.0.borrow_mut().written.retain(below);
    }

    /// The sink says of these batches that they are durable.
    pub(super) fn committed(&self, batches: &[Batch]) {
        for batch in batches {
            let Origin::Device { device, lane, epoch, first_seq, .. } = &batch.origin else { continue };
            for row in batch {
                let row = match row {
                    Ok(row) => row,
                    Err(e) => {
                        return self.violation(format!("a row that cannot be read reached the sink: {e}"));
                    }
                };
                let seq = first_seq + row.head().ordinal;
                let again = !self.0.borrow_mut().written.insert((device.clone(), lane.clone(), *epoch, seq));
                if again {
                    self.violation(format!("{device}/{lane}/{epoch:016x}/{seq} was applied twice"));
                }
                let hlc = batch.clock.hlc(row.head().hlc);
                self.row(device, lane, *epoch, seq, &row, hlc);
            }
        }
    }

    fn row(&self, device: &Arc<str>, lane: &Arc<str>, epoch: u64, seq: u64, row: &RowView<'_>, hlc: u64) {
        let Ok(Some(image)) = row.newest() else {
            return self.violation(format!("{device}/{lane}/{seq}: a row without an image"));
        };
        if row.op() == Op::Loss {
            return match Loss::from_image(&image) {
                Some(loss) => self.lost(device, lane, epoch, seq, loss),
                None => self.violation("a loss record cannot be read".into()),
            };
        }
        let text = |i| if let Some(Value::Text(t)) = image.get(i) { Some(t) } else { None };
        // Messages of the device itself have no headers of ours.
        let Some(headers) = text(5) else { return };
        let payload = match (image.get(2), image.get(3), image.get(4)) {
            (Some(Value::Text(t)), ..) | (_, Some(Value::Text(t)), _) => t.as_bytes().to_vec(),
            (.., Some(Value::Bytes(b))) => b.to_vec(),
            _ => Vec::new(),
        };
        self.event(device, lane, epoch, seq, headers, text(0), &payload, Some(hlc));
    }

    /// A loss record was delivered under its own number.
    pub(super) fn lost(&self, device: &Arc<str>, lane: &Arc<str>, epoch: u64, seq: u64, loss: Loss) {
        let mut state = self.0.borrow_mut();
        let run = (device.clone(), lane.clone(), epoch);
        state.seqs.entry(run.clone()).or_default().insert(seq);
        state.losses.insert((run, seq), loss);
    }

    /// An event was delivered.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn event(
        &self,
        device: &Arc<str>,
        lane: &Arc<str>,
        epoch: u64,
        seq: u64,
        headers: &str,
        key: Option<&str>,
        payload: &[u8],
        hlc: Option<u64>,
    ) {
        let at = format!("{device}/{lane}/{epoch:016x}/{seq}");
        let Some((input, n)) = parse_id(headers) else {
            return self.violation(format!("{at}: an event that nobody issued ({headers})"));
        };
        let mut state = self.0.borrow_mut();
        let state = &mut *state;
        state.seqs.entry((device.clone(), lane.clone(), epoch)).or_default().insert(seq);
        let mut wrong = Vec::new();
        let Some(i) = state.inputs.get_mut(input) else {
            drop(wrong);
            state.violations.push(format!("{at}: an event of no input"));
            return;
        };
        let Some(event) = n.checked_sub(1).and_then(|n| i.events.get_mut(n as usize)) else {
            state.violations.push(format!("{at}: event {n} of input {input} was never issued"));
            return;
        };
        if i.spec.device != *device || i.spec.lane != *lane {
            wrong.push(format!(
                "{at}: event {n} of input {input} belongs to {}/{}",
                i.spec.device, i.spec.lane
            ));
        }
        let expected = payload_of(&i.spec, (input, n));
        if expected != payload {
            wrong.push(format!("{at}: event {n} of input {input} has another payload"));
        }
        let k = key_of(&i.spec, n);
        if key != Some(&*format!("k{k}")) {
            wrong.push(format!("{at}: event {n} of input {input} has key {key:?}"));
        }
        match event.delivered {
            None => {
                event.delivered = Some((epoch, seq));
                state.delivered += 1;
                let last = i.order.entry(k).or_default();
                // Rows of a write that landed and was not confirmed are seen only at the end.
                if *last > n && hlc.is_some() && !state.restored.contains(device) {
                    wrong
                        .push(format!("{at}: event {n} of input {input}, key k{k}, came after event {last}"));
                }
                *last = (*last).max(n);
                if let Some(hlc) = hlc.filter(|&hlc| hlc != 0) {
                    state.times += 1;
                    // Made before the time was known: placed by the boot's offset, to the millisecond.
                    let (before, of) = i.hlc;
                    if of < n && hlc >> 16 < (before >> 16).saturating_sub(MAX_STEP_MS) {
                        wrong.push(format!(
                            "{at}: the hybrid time of event {n} of input {input} is before that of event {of}"
                        ));
                    }
                    if hlc > before {
                        i.hlc = (hlc, n);
                    }
                    let since = (hlc >> 16) as i64 - super::clock::START_US / 1000;
                    let (first, last) = ((event.made.0 / 1000) as i64, (event.made.1 / 1000) as i64);
                    if since < first - MAX_WRONG_MS || since > last + MAX_WRONG_MS {
                        wrong.push(format!(
                            "{at}: event {n} of input {input} was made at {first}..{last} ms and is stamped {since} ms"
                        ));
                    }
                }
            }
            Some(before) if before != (epoch, seq) => event.again = true,
            Some(_) => {}
        }
        for what in wrong {
            if state.violations.len() < 20 {
                state.violations.push(format!("at {:.3} s: {what}", self.1.get() as f64 / 1e6));
            }
        }
    }

    /// A batch leaves a buffer as acknowledged: all of it must be durable at the centre.
    pub(super) fn released(&self, device: &Arc<str>, batch: &Released) {
        // Where numbers were used twice they say nothing.
        if self.0.borrow().forked.contains(device) {
            return;
        }
        let run = (device.clone(), batch.lane.clone(), batch.epoch);
        let range = batch.first_seq..=batch.last_seq;
        let there = {
            let state = self.0.borrow();
            let mut there =
                state.seqs.get(&run).map(|s| s.range(range.clone()).copied().collect::<BTreeSet<_>>());
            // A copy of this machine may have named them lost.
            for ((of, _), loss) in &state.losses {
                if of.0 == *device && *loss.lane == *batch.lane && loss.epoch == batch.epoch {
                    let (from, to) = (loss.from.max(batch.first_seq), loss.to.min(batch.last_seq));
                    there.get_or_insert_default().extend(from..=to);
                }
            }
            there.map_or(0, |there| there.len())
        };
        if (there as u64) < u64::from(batch.rows) {
            let Released { lane, epoch, first_seq, last_seq, rows } = batch;
            self.violation(format!(
                "{device}/{lane}/{epoch:016x}/{first_seq}..{last_seq} leaves the buffer, and {there} of its {rows} rows are at the centre"
            ));
        }
    }

    /// At the end of a run, when everything was drained.
    pub(super) fn judge(&self) {
        let mut wrong = Vec::new();
        let state = self.0.borrow();
        self.judge_events(&state, &mut wrong);
        judge_holes(&state, &mut wrong);
        drop(state);
        for what in wrong {
            self.violation(what);
        }
    }

    fn judge_events(&self, state: &State, wrong: &mut Vec<String>) {
        // By name and lane: acknowledged and not delivered; issued and not delivered.
        let mut missing: BTreeMap<(Arc<str>, Arc<str>), (u64, u64, Vec<Id>)> = BTreeMap::new();
        for (number, input) in state.inputs.iter().enumerate() {
            let place = (input.spec.device.clone(), input.spec.lane.clone());
            let sum = missing.entry(place).or_default();
            for (n, event) in (1..).zip(&input.events) {
                let name = &input.spec.device;
                let excused = state.forked.contains(name) || state.may_double.contains(name);
                if event.again && input.spec.class == Class::Fsync && !excused {
                    wrong.push(format!("event {n} of input {number} was delivered under two numbers"));
                }
                // A client that was refused may send it again, or not: only where the disk left it open may it be there.
                if event.delivered.is_some() && event.outcome == Outcome::Refused && !excused {
                    wrong.push(format!("event {n} of input {number} was refused, and is delivered"));
                }
                if event.delivered.is_some() {
                    continue;
                }
                sum.1 += 1;
                let Outcome::Acked(at) = event.outcome else { continue };
                let excused = |e: &&(usize, u64, u64)| e.0 == input.spec.machine && e.1 <= at && at <= e.2;
                let memory = input.spec.class != Class::Fsync && state.copied.contains(&input.spec.machine);
                if !memory && state.excused.iter().find(excused).is_none() {
                    sum.0 += 1;
                    sum.2.push((number, n));
                }
            }
        }
        for ((device, lane), (acked, any, ids)) in missing {
            let of_it = |(run, _): &(&(Run, u64), &Loss)| run.0.0 == device;
            let losses: Vec<&Loss> = state
                .losses
                .iter()
                .filter(of_it)
                .map(|(_, loss)| loss)
                .filter(|loss| *loss.lane == *lane)
                .collect();
            let reported: u64 = losses.iter().map(|l| l.rows).sum();
            if acked > reported {
                let some: Vec<_> = ids.iter().take(8).collect();
                wrong.push(format!(
                    "{device}/{lane}: {acked} acknowledged events are lost and {reported} are reported; (input, event): {some:?}"
                ));
            }
            let exact: u64 = losses.iter().filter(|l| l.exact).map(|l| l.rows).sum();
            if exact > any && !state.forked.contains(&device) {
                wrong.push(format!(
                    "{device}/{lane}: {exact} events are reported lost as exact and {any} are"
                ));
            }
        }
    }
}

/// A hole exists only where a loss record names it.
fn judge_holes(state: &State, wrong: &mut Vec<String>) {
    for ((device, lane, epoch), seqs) in &state.seqs {
        if state.forked.contains(device) || state.renamed.contains(device) {
            continue;
        }
        let mut named: Vec<(u64, u64)> = state
            .losses
            .iter()
            .filter(|((run, _), loss)| run.0 == *device && *loss.lane == **lane && loss.epoch == *epoch)
            .map(|(_, loss)| (loss.from, loss.to))
            .collect();
        named.sort_unstable();
        let mut next = 1;
        for &seq in seqs {
            while next < seq {
                let cover = named.iter().filter(|(from, to)| *from <= next && next <= *to).map(|r| r.1).max();
                match cover {
                    Some(to) => next = to + 1,
                    None => {
                        wrong.push(format!(
                            "{device}/{lane}/{epoch:016x}: {next} is neither delivered nor named, and {seq} is delivered"
                        ));
                        next = seq;
                    }
                }
            }
            next = next.max(seq + 1);
        }
    }
}

/// Corrections may move the clock back by so much within one input.
const MAX_STEP_MS: u64 = 2_000;
/// No stamp may be further from the truth: half the difference of the delays, and drift.
const MAX_WRONG_MS: i64 = 2_000;

fn parse_id(headers: &str) -> Option<Id> {
    let value: serde_json::Value = serde_json::from_str(headers).ok()?;
    Some((value.get("i")?.as_u64()? as usize, value.get("n")?.as_u64()?))
}

pub(super) fn headers_of((input, n): Id) -> String {
    format!("{{\"i\":{input},\"n\":{n}}}")
}

fn mix(input: usize, n: u64) -> u64 {
    let x = (n ^ (input as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

pub(super) fn key_of(spec: &Input, n: u64) -> u64 {
    mix(3, n) % spec.keys
}

/// From 1 byte to the input's limit: mostly small.
fn size_of_payload(spec: &Input, (input, n): Id) -> usize {
    if n >= spec.small_from {
        return 20;
    }
    let x = mix(input, n);
    let most = match x % 16 {
        0 => spec.max_bytes,
        1..=3 => spec.max_bytes.min(2_000),
        _ => spec.max_bytes.min(120),
    };
    1 + (x >> 8) as usize % most.max(1)
}

/// What event `id` says.
pub(super) fn payload_of(spec: &Input, id: Id) -> Vec<u8> {
    let bytes = size_of_payload(spec, id);
    let text = format!("{:x}.{}.", mix(id.0, id.1), id.1);
    let filler: Vec<u8> = text.bytes().cycle().take(bytes).collect();
    if matches!(spec.policy, Policy::Downsample { .. }) {
        let pad = String::from_utf8_lossy(&filler);
        return format!("{{\"v\":{},\"p\":\"{pad}\"}}", id.1).into_bytes();
    }
    filler
}

/// As the input hands it on.
pub(super) fn as_payload<'a>(spec: &Input, raw: &'a [u8]) -> Payload<'a> {
    match std::str::from_utf8(raw) {
        Ok(text) if matches!(spec.policy, Policy::Downsample { .. }) => Payload::Json(text),
        Ok(text) if !raw.len().is_multiple_of(3) => Payload::Text(text),
        _ => Payload::Bytes(raw),
    }
}
