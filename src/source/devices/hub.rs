//! What all connections share: watermarks, who is live, what waits for the sinks. Sans-IO.
//!
//! Connections put [`Work`] in and get [`Mail`] back; the shell hands the work to the engine, one
//! device at a time ([`Fair`]), and tells [`Hub::resolved`] what the sinks said.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::clock::Stamp;
use crate::event::{Batch, Table};
use crate::frame::Dictionary;
use crate::runtime::Mono;
use crate::sink::Mark;
use crate::source::Refused;
use crate::telemetry::{count, gauge};

use super::fair::Fair;
use super::fence::{Fence, OnConflict};
use super::watermark::{self, Ticket, Waiter, Watermarks};

/// Bounds and choices of the listener that sessions need.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the source in the config.
    pub source: Arc<str>,
    /// Largest MQTT packet taken.
    pub max_packet_bytes: usize,
    /// Largest uncompressed body of a frame.
    pub max_body_bytes: usize,
    /// PUBLISHes of one connection that may wait for their answer.
    pub receive_maximum: u16,
    /// Bodies of one connection that may wait for the sinks, in bytes.
    pub connection_bytes: usize,
    /// Bodies of all connections that may wait for the sinks, in bytes.
    pub total_bytes: usize,
    /// Largest row that the engine takes, in bytes of its record.
    pub max_row_bytes: usize,
    /// Longest keep-alive that a client may choose, in seconds.
    pub keep_alive_max_s: u16,
    /// From the first byte of a connection to its CONNECT answered.
    pub connect_timeout: Duration,
    /// What a client that is told Server Busy waits at least.
    pub retry_after: Duration,
    /// What happens to a second live installation under one name.
    pub on_conflict: OnConflict,
    /// Connections of one device at once.
    pub max_per_device: usize,
    /// Lanes a device, epochs a lane.
    pub watermarks: watermark::Limits,
    /// Dictionaries that devices' frames may be compressed with.
    pub dictionaries: Vec<Dictionary>,
    /// Other nodes write to the same sink: an agent's session is claimed there.
    pub claims_sessions: bool,
}

/// A batch on its way to the sinks.
#[derive(Debug)]
pub struct Work {
    /// The batch.
    pub batch: Batch,
    /// The watermark that it moves.
    pub mark: Option<Mark>,
    /// Who wants to know.
    pub then: Then,
}

/// Who wants to know what became of a batch.
#[derive(Clone, Debug)]
pub struct Then {
    /// Bytes that it held.
    bytes: usize,
    kind: ThenKind,
}

#[derive(Clone, Debug)]
enum ThenKind {
    Frame(Ticket),
    Message(Waiter),
    Nobody,
}

/// What a connection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mail {
    /// A packet of it is durable, or why it is not.
    Answer {
        /// Packet id.
        packet: u16,
        /// What became of it.
        result: Result<(), Refused>,
    },
    /// A newer connection took over.
    TakenOver {
        /// By another instance: an identity conflict.
        conflict: Option<u64>,
    },
    /// There may be room again.
    Room,
}

/// The shared state of all connections.
#[derive(Debug)]
pub struct Hub {
    /// Bounds and choices.
    pub options: Options,
    /// Which frames are new.
    pub watermarks: Watermarks,
    /// Which connections are live.
    pub fence: Fence,
    /// Randomness for waits and ids.
    pub rng: fastrand::Rng,
    /// Stamps messages of plain clients.
    pub stamp: Stamp,
    /// Says the same thing not more often than once a minute.
    pub log: Once,
    queue: Fair<Work>,
    bytes: usize,
    /// Connections that wait for [`Mail::Room`].
    blocked: BTreeSet<u64>,
    mail: VecDeque<(u64, Mail)>,
    tables: HashMap<u64, Weak<Table>>,
    /// How often a device was sent away because of a fork, by epoch.
    forks: HashMap<(Arc<str>, u64), u8>,
}

/// Reads on below this share of [`Options::total_bytes`], in percent.
const RESUME: usize = 60;
/// What a batch holds beside its body, roughly: it keeps many tiny ones from being free.
const WORK_BYTES: usize = 512;
/// A device that comes back with the same fork is told to put the frame aside from this time on.
const FORKS: u8 = 3;
const MAX_FORKED: usize = 4096;

impl Hub {
    /// With the watermarks that the sinks hold.
    pub fn new(options: Options, marks: &[Mark], stamp: Stamp, rng: fastrand::Rng) -> Self {
        Self {
            watermarks: Watermarks::new(options.watermarks, marks),
            fence: Fence::new(options.on_conflict, options.max_per_device),
            rng,
            stamp,
            log: Once::default(),
            queue: Fair::default(),
            bytes: 0,
            blocked: BTreeSet::new(),
            mail: VecDeque::new(),
            tables: HashMap::new(),
            forks: HashMap::new(),
            options,
        }
    }

    /// A new frame of a device. Returns the bytes that it holds.
    pub fn frame(&mut self, device: &Arc<str>, batch: Batch, mark: Mark, ticket: Ticket) -> usize {
        self.push(device, batch, Some(mark), ThenKind::Frame(ticket))
    }

    /// A message of a plain client; `waiter` is answered with [`Mail::Answer`]. Returns the bytes
    /// that it holds.
    pub fn message(&mut self, device: &Arc<str>, batch: Batch, waiter: Option<Waiter>) -> usize {
        self.push(device, batch, None, waiter.map_or(ThenKind::Nobody, ThenKind::Message))
    }

    fn push(&mut self, device: &Arc<str>, batch: Batch, mark: Option<Mark>, kind: ThenKind) -> usize {
        let bytes = batch.bytes() + WORK_BYTES;
        self.bytes += bytes;
        self.queue.push(device, Work { batch, mark, then: Then { bytes, kind } });
        bytes
    }

    /// The next batch for the sinks: devices take turns.
    pub fn poll_work(&mut self) -> Option<Work> {
        self.queue.pop()
    }

    /// What the sinks said.
    pub fn resolved(&mut self, then: Then, result: Result<(), Refused>) {
        self.bytes = self.bytes.saturating_sub(then.bytes);
        match then.kind {
            ThenKind::Frame(ticket) => {
                self.watermarks.resolved(&ticket, &result);
                self.deliver_answers();
            }
            ThenKind::Message(waiter) => {
                self.mail.push_back((waiter.connection, Mail::Answer { packet: waiter.packet, result }));
            }
            ThenKind::Nobody => {}
        }
        if self.bytes * 100 < self.options.total_bytes.saturating_mul(RESUME) {
            let blocked = std::mem::take(&mut self.blocked);
            self.mail.extend(blocked.into_iter().map(|c| (c, Mail::Room)));
        }
        gauge("dts_devices_pending_bytes", &[], self.bytes as f64);
    }

    /// A flight ended before it was handed on; nobody is told.
    pub fn resolved_nothing(&mut self, ticket: &Ticket) {
        self.watermarks.resolved(ticket, &Err(Refused::Stopping));
        while self.watermarks.poll_answer().is_some() {}
    }

    /// Turns answers of the watermarks into mail.
    pub fn deliver_answers(&mut self) {
        while let Some(answer) = self.watermarks.poll_answer() {
            let mail = Mail::Answer { packet: answer.waiter.packet, result: answer.result };
            self.mail.push_back((answer.waiter.connection, mail));
        }
    }

    /// Puts mail for a connection.
    pub fn post(&mut self, connection: u64, mail: Mail) {
        self.mail.push_back((connection, mail));
    }

    /// The next mail and the connection that it is for, which may be gone.
    pub fn poll_mail(&mut self) -> Option<(u64, Mail)> {
        self.mail.pop_front()
    }

    /// Whether all connections together hold too much; `connection` then gets [`Mail::Room`].
    pub fn is_full(&mut self, connection: u64) -> bool {
        let full = self.bytes >= self.options.total_bytes;
        if full {
            self.blocked.insert(connection);
        }
        full
    }

    /// Bytes of bodies that wait for the sinks.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One `Arc` for all connections whose devices use the same shape.
    pub fn share(&mut self, hash: u64, table: Table) -> Arc<Table> {
        if let Some(known) = self.tables.get(&hash).and_then(Weak::upgrade) {
            // The hash is no proof: a device could make a table to match another's.
            return if *known == table { known } else { Arc::new(table) };
        }
        if self.tables.len() == self.tables.capacity() {
            self.tables.retain(|_, t| t.strong_count() > 0);
        }
        let table = Arc::new(table);
        self.tables.insert(hash, Arc::downgrade(&table));
        table
    }

    /// A device came with a fork. Whether to give it another chance to see that for itself, on a
    /// new connection.
    pub fn forked(&mut self, device: &Arc<str>, epoch: u64) -> bool {
        count("dts_forks_total", &[], 1);
        if self.forks.len() >= MAX_FORKED {
            self.forks.clear();
        }
        let times = self.forks.entry((device.clone(), epoch)).or_default();
        *times = times.saturating_add(1);
        *times < FORKS
    }
}

/// Says the same thing not more often than once a minute.
#[derive(Debug, Default)]
pub struct Once {
    /// By cause and device: when it was said, and how often it was not since.
    said: HashMap<Cause, (Mono, u64)>,
}

type Cause = (&'static str, Option<Arc<str>>);

const SAY_EVERY: Duration = Duration::from_secs(60);
const MAX_SAID: usize = 4096;

impl Once {
    /// Whether to say `what` (of `device`, or of anybody) now, and how often it was not said since.
    pub fn say(&mut self, now: Mono, what: &'static str, device: Option<&Arc<str>>) -> Option<u64> {
        if self.said.len() >= MAX_SAID {
            self.said.retain(|_, (at, _)| now.since(*at) < SAY_EVERY);
        }
        let full = self.said.len() >= MAX_SAID;
        let key = (what, device.cloned());
        match self.said.get_mut(&key) {
            Some((at, held)) if now.since(*at) < SAY_EVERY => {
                *held += 1;
                None
            }
            Some((at, held)) => {
                *at = now;
                Some(std::mem::take(held))
            }
            None if full => None,
            None => {
                self.said.insert(key, (now, 0));
                Some(0)
            }
        }
    }

    /// Logs a warning, at most once a minute for each cause and device.
    pub fn warn(
        &mut self,
        now: Mono,
        what: &'static str,
        device: Option<&Arc<str>>,
        text: impl FnOnce() -> String,
    ) {
        match self.say(now, what, device) {
            Some(0) => log::warn!("{}", text()),
            Some(more) => log::warn!("{} (and {more} more of this kind)", text()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_said_once_a_minute() {
        let mut once = Once::default();
        let (a, b) = ("a".into(), "b".into());
        assert_eq!(once.say(Mono(0), "x", Some(&a)), Some(0));
        assert_eq!(once.say(Mono(1), "x", Some(&a)), None);
        assert_eq!(once.say(Mono(1), "x", Some(&b)), Some(0));
        assert_eq!(once.say(Mono(1), "y", None), Some(0));
        assert_eq!(once.say(Mono(2), "x", Some(&a)), None);
        assert_eq!(once.say(Mono(60_000_001), "x", Some(&a)), Some(2));
        for n in 0..3 * MAX_SAID {
            once.say(Mono(60_000_002), "z", Some(&n.to_string().into()));
        }
        assert!(once.said.len() <= MAX_SAID);
    }
}
