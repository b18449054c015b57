//! A device, its connections, the centre and a sink, driven by a seed: frames are resent, reordered
//! across connections, refused, cut, lost and forked; the centre is killed and restored.
//!
//! The oracle: a sequence number is submitted exactly once per durable history; a frame is answered
//! only when all of it is durable with the device's own content, or given up by the device; a mark
//! is never past a hole.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;

use super::*;

/// A batch as the device stores it.
#[derive(Clone, Debug, PartialEq)]
struct Stored {
    epoch: u64,
    first: u64,
    last: u64,
    /// Which life of the device made each row: a restored device makes other rows under old numbers.
    lives: Vec<u32>,
    losses: Vec<(u64, u64)>,
    sent: bool,
}

impl Stored {
    fn crc(&self) -> u32 {
        let mut bytes = format!("{} {} {:?}", self.epoch, self.first, self.losses).into_bytes();
        bytes.extend(self.lives.iter().flat_map(|l| l.to_le_bytes()));
        crc32c::crc32c(&bytes) | 1
    }
}

/// A device's disk at an earlier time: epoch, batches, losses to be told, next sequence number.
type Image = (u64, Vec<Stored>, Vec<(u64, u64)>, u64);

struct Sub {
    ticket: Ticket,
    from: u64,
    frame: Stored,
    mark: Mark,
}

#[derive(Default)]
struct Connection {
    id: u64,
    wire: VecDeque<(u16, u64, Stored)>,
    packet: u16,
    sent: HashMap<u16, Stored>,
    /// Index into what the device holds.
    cursor: usize,
    open: bool,
}

#[derive(Clone, Default)]
struct Sink {
    rows: BTreeMap<(u64, u64), u32>,
    marks: BTreeMap<u64, Mark>,
}

#[derive(Default, Debug)]
struct Seen {
    duplicates: u32,
    in_flight: u32,
    gaps: u32,
    forks: u32,
    cuts: u32,
    elsewhere: u32,
    late: u32,
    refused: u32,
}

struct World {
    rng: Rng,
    device: Arc<str>,
    // The device.
    epoch: u64,
    next_seq: u64,
    life: u32,
    held: Vec<Stored>,
    pending_losses: Vec<(u64, u64)>,
    given_up: BTreeSet<(u64, u64)>,
    image: Option<Image>,
    acked: BTreeSet<(u64, u64)>,
    // The way.
    connections: Vec<Connection>,
    // The centre.
    marks: Watermarks,
    queue: VecDeque<Sub>,
    sink: Sink,
    backup: Option<Sink>,
    elsewhere: BTreeSet<(u64, u64)>,
    seen: Seen,
}

const LIMITS: Limits = Limits { max_lanes: 4, max_epochs: 64 };

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: Rng::with_seed(seed),
            device: "box".into(),
            epoch: 1 << 32 | 7,
            next_seq: 1,
            life: 0,
            held: Vec::new(),
            pending_losses: Vec::new(),
            given_up: BTreeSet::new(),
            image: None,
            acked: BTreeSet::new(),
            connections: Vec::new(),
            marks: Watermarks::new(LIMITS, &[]),
            queue: VecDeque::new(),
            sink: Sink::default(),
            backup: None,
            elsewhere: BTreeSet::new(),
            seen: Seen::default(),
        };
        world.reconnect();
        world
    }

    fn store(&mut self) {
        let rows = self.rng.u64(1..=4);
        let (first, last) = (self.next_seq, self.next_seq + rows - 1);
        self.next_seq = last + 1;
        let lives = vec![self.life; rows as usize];
        let losses = std::mem::take(&mut self.pending_losses);
        self.held.push(Stored { epoch: self.epoch, first, last, lives, losses, sent: false });
    }

    /// What was held of the old epoch is stamped anew.
    fn fork(&mut self) {
        self.seen.forks += 1;
        self.epoch = ((self.epoch >> 32) + 1) << 32 | self.rng.u64(..) >> 32;
        self.next_seq = 1;
        self.pending_losses.clear();
        for stored in &mut self.held {
            let rows = stored.lives.len() as u64;
            (stored.epoch, stored.first, stored.last) = (self.epoch, self.next_seq, self.next_seq + rows - 1);
            stored.losses.clear();
            stored.sent = false;
            self.next_seq += rows;
        }
        // Its old window is void.
        for connection in &mut self.connections {
            connection.open = false;
        }
    }

    fn reconnect(&mut self) {
        let id = self.connections.len() as u64;
        for connection in &mut self.connections {
            connection.open = false;
            if self.rng.bool() {
                connection.wire.clear();
            }
        }
        // CONNACK: what is durable is dropped, a fork is seen.
        let marks = self.marks.marks("box");
        if let Some(mark) = marks.iter().find(|m| m.epoch == self.epoch) {
            let ahead = mark.seq >= self.next_seq;
            let other = mark.crc != 0
                && self.held.iter().any(|s| {
                    s.first <= mark.seq && mark.seq <= s.last && (s.last != mark.seq || s.crc() != mark.crc)
                });
            let joined = self.held.iter().any(|s| s.first <= mark.seq && mark.seq < s.last && !s.sent);
            if ahead || (other && !joined) {
                self.fork();
            } else {
                let (epoch, life) = (self.epoch, &mut self.acked);
                self.held.retain(|s| {
                    let drop = s.last <= mark.seq;
                    if drop {
                        life.extend((s.first..=s.last).map(|seq| (epoch, seq)));
                    }
                    !drop
                });
            }
        }
        self.connections.push(Connection { id, open: true, ..Connection::default() });
    }

    fn send(&mut self) {
        let base = self.held.first().map_or(self.next_seq, |s| s.first);
        let Some(connection) = self.connections.last_mut().filter(|c| c.open) else { return };
        let Some(stored) = self.held.get_mut(connection.cursor) else { return };
        stored.sent = true;
        connection.cursor += 1;
        connection.packet += 1;
        connection.wire.push_back((connection.packet, base, stored.clone()));
        connection.sent.insert(connection.packet, stored.clone());
    }

    fn deliver(&mut self) {
        let ready: Vec<usize> =
            (0..self.connections.len()).filter(|&i| !self.connections[i].wire.is_empty()).collect();
        if ready.is_empty() {
            return;
        }
        let at = ready[self.rng.usize(..ready.len())];
        self.seen.late += u32::from(at + 1 != self.connections.len());
        let (packet, base, stored) = self.connections[at].wire.pop_front().unwrap();
        let frame = Frame {
            lane: "data",
            epoch: stored.epoch,
            base,
            first: stored.first,
            last: stored.last,
            crc: stored.crc(),
        };
        let loss = |&(from, to): &(u64, u64)| Loss {
            lane: "data".into(),
            epoch: stored.epoch,
            from,
            to,
            reason: "max_bytes".into(),
            exact: true,
            rows: to - from + 1,
        };
        let losses: Vec<Loss> = stored.losses.iter().map(loss).collect();
        let waiter = Waiter { connection: self.connections[at].id, packet };
        let before = self.marks.acked_elsewhere("box");
        let decision = self.marks.frame(&self.device.clone(), 1, &frame, &losses, waiter);
        self.seen.elsewhere += u32::from(self.marks.acked_elsewhere("box") > before);
        match decision {
            Decision::New { ticket, from, mark } => {
                self.seen.cuts += u32::from(from > stored.first);
                self.queue.push_back(Sub { ticket, from, frame: stored, mark });
            }
            Decision::Durable => {
                self.seen.duplicates += 1;
                self.answered(waiter, true);
            }
            Decision::InFlight => self.seen.in_flight += 1,
            Decision::Gap { .. } => {
                self.seen.gaps += 1;
                self.answered(waiter, false);
            }
            Decision::Fork { .. } => {
                // The connection is closed; the device compares with CONNACK's marks.
                self.seen.forks += 1;
                self.connections[at].wire.clear();
                if at + 1 == self.connections.len() {
                    if self.life > 0 && stored.epoch == self.epoch {
                        self.fork();
                    }
                    self.reconnect();
                }
            }
            Decision::TooManyLanes => panic!("one lane only"),
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(Answer { waiter, result }) = self.marks.poll_answer() {
            self.answered(waiter, result.is_ok());
        }
    }

    fn answered(&mut self, waiter: Waiter, ok: bool) {
        let at = waiter.connection as usize;
        let Some(stored) = self.connections[at].sent.remove(&waiter.packet) else {
            panic!("answered twice: {waiter:?}");
        };
        if !ok {
            self.seen.refused += 1;
        } else {
            for (seq, life) in (stored.first..=stored.last).zip(&stored.lives) {
                let key = (stored.epoch, seq);
                let durable = self.sink.rows.get(&key) == Some(life);
                // What the device gave up it no longer holds; a late copy of it may be dropped.
                assert!(
                    durable || self.given_up.contains(&key) || self.elsewhere.contains(&key),
                    "{key:?} of life {life} is answered but not durable: {:?}",
                    self.sink.rows.get(&key)
                );
            }
        }
        // The answers of a connection that is gone are not heard.
        if !self.connections[at].open {
            return;
        }
        if ok {
            let at_held = self.held.iter().position(|s| *s == Stored { sent: true, ..stored.clone() });
            if let Some(i) = at_held {
                self.held.remove(i);
                let connection = &mut self.connections[at];
                connection.cursor = connection.cursor.saturating_sub(usize::from(i < connection.cursor));
                self.acked.extend((stored.first..=stored.last).map(|s| (stored.epoch, s)));
            }
        } else {
            self.connections[at].cursor = 0;
        }
    }

    /// The sink commits the first of what it was given, with the marks in the same transaction.
    fn commit(&mut self, answer: bool) {
        let n = self.rng.usize(0..=self.queue.len());
        let mut done: Vec<Sub> = self.queue.drain(..n).collect();
        for sub in &done {
            for (seq, life) in (sub.frame.first..=sub.frame.last).zip(&sub.frame.lives) {
                if seq >= sub.from {
                    let twice = self.sink.rows.insert((sub.frame.epoch, seq), *life);
                    assert_eq!(twice, None, "{seq} is written twice");
                }
            }
            self.sink.marks.insert(sub.mark.epoch, sub.mark.clone());
        }
        self.check_marks();
        if answer {
            // Receipts resolve in any order.
            self.rng.shuffle(&mut done);
            for sub in done {
                self.marks.resolved(&sub.ticket, &Ok(()));
            }
            self.drain();
        }
    }

    fn check_marks(&self) {
        for mark in self.sink.marks.values() {
            for seq in 1..=mark.seq {
                let key = (mark.epoch, seq);
                assert!(
                    self.sink.rows.contains_key(&key)
                        || self.given_up.contains(&key)
                        || self.elsewhere.contains(&key),
                    "mark {mark:?} is past the hole {key:?}"
                );
            }
        }
    }

    /// The engine refuses a suffix.
    fn refuse(&mut self) {
        let n = self.rng.usize(0..=self.queue.len());
        let gone: Vec<Sub> = self.queue.drain(n..).collect();
        for sub in gone {
            self.marks.resolved(&sub.ticket, &Err(Refused::Busy("full".into())));
        }
        self.drain();
    }

    fn restart(&mut self) {
        self.commit(false);
        self.queue.clear();
        for connection in &mut self.connections {
            connection.wire.clear();
            connection.open = false;
        }
        let marks: Vec<Mark> = self.sink.marks.values().cloned().collect();
        self.marks = Watermarks::new(LIMITS, &marks);
        self.reconnect();
    }

    /// The centre comes back from a backup: what was acknowledged since is not here.
    fn restore_centre(&mut self) {
        match self.backup.take() {
            None => self.backup = Some(self.sink.clone()),
            Some(old) => {
                let lost = self.sink.rows.keys().filter(|k| !old.rows.contains_key(k));
                self.elsewhere.extend(lost.filter(|k| self.acked.contains(k)).copied());
                self.sink = old;
                self.queue.clear();
                self.restart();
            }
        }
    }

    /// Drops a batch that is not in the window.
    fn evict(&mut self) {
        let in_window = self.connections.last().map_or(0, |c| c.cursor);
        if self.held.len() > in_window + 1 {
            let gone = self.held.remove(self.rng.usize(in_window..self.held.len() - 1));
            self.given_up.extend((gone.first..=gone.last).map(|s| (gone.epoch, s)));
            self.pending_losses.extend(gone.losses);
            self.pending_losses.push((gone.first, gone.last));
        }
    }

    /// Joins a batch that was sent on an older connection with one that never was.
    fn join(&mut self) {
        let in_window = self.connections.last().map_or(0, |c| c.cursor);
        for i in in_window + 1..self.held.len() {
            let (a, b) = (&self.held[i - 1], &self.held[i]);
            if i > in_window && a.sent && !b.sent && a.last + 1 == b.first && a.losses.is_empty() {
                let b = self.held.remove(i);
                let a = &mut self.held[i - 1];
                (a.last, a.sent) = (b.last, false);
                a.lives.extend(b.lives);
                a.losses.extend(b.losses);
                return;
            }
        }
    }

    /// The device comes back as it was at an earlier time.
    fn restore_device(&mut self) {
        match self.image.take() {
            None => {
                self.image =
                    Some((self.epoch, self.held.clone(), self.pending_losses.clone(), self.next_seq));
            }
            Some((epoch, held, losses, next)) => {
                self.life += 1;
                (self.epoch, self.held, self.pending_losses, self.next_seq) = (epoch, held, losses, next);
                // Rows that were held are sent again by the image: their numbers are not new lives.
                for connection in &mut self.connections {
                    connection.open = false;
                    connection.wire.clear();
                }
                // Its identity file is older too; the centre tells the number.
                self.reconnect();
            }
        }
    }

    fn step(&mut self, forks: bool) {
        match self.rng.u32(0..100) {
            0..20 => self.store(),
            20..45 => self.send(),
            45..75 => self.deliver(),
            75..85 => self.commit(true),
            85..88 => self.refuse(),
            88..92 => self.reconnect(),
            92..94 => self.restart(),
            94..96 if !forks => self.evict(),
            96..98 if !forks => self.join(),
            98 if !forks => self.restore_centre(),
            99 if forks => self.restore_device(),
            _ => {}
        }
    }

    /// No more faults: everything held must come through.
    fn settle(&mut self) {
        // The last loss has a frame to travel in.
        self.store();
        self.restart();
        for _ in 0..10_000 {
            if self.held.is_empty() {
                break;
            }
            match self.rng.u32(0..4) {
                0 => self.send(),
                1 | 2 => self.deliver(),
                _ => self.commit(true),
            }
            if self.connections.last().is_none_or(|c| !c.open) {
                self.reconnect();
            }
        }
        assert!(self.held.is_empty(), "never came through: {:?}", self.held);
        while self.connections.iter().any(|c| !c.wire.is_empty()) || !self.queue.is_empty() {
            self.deliver();
            self.commit(true);
        }
        self.check_marks();
        let last = self.connections.last().unwrap();
        assert!(last.sent.is_empty(), "never answered: {:?}", last.sent);
    }
}

#[test]
fn nothing_is_lost_doubled_or_answered_early() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step(false);
        }
        world.settle();
        // Every row of the only epoch is there, given up, or at the other centre.
        for seq in 1..world.next_seq {
            let key = (world.epoch, seq);
            assert!(
                world.sink.rows.contains_key(&key)
                    || world.given_up.contains(&key)
                    || world.elsewhere.contains(&key),
                "seed {seed}: {key:?} is gone"
            );
        }
        add(&mut seen, &world.seen);
    }
    // The faults did happen.
    let Seen { duplicates, in_flight, gaps, cuts, elsewhere, late, refused, forks: _ } = seen;
    for (n, what) in [
        (duplicates, "duplicates"),
        (in_flight, "in flight"),
        (gaps, "gaps"),
        (cuts, "cuts"),
        (elsewhere, "elsewhere"),
        (late, "late"),
        (refused, "refused"),
    ] {
        assert!(n > 20, "{what}: {n}");
    }
}

#[test]
fn a_restored_device_loses_nothing_to_its_former_self() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step(true);
        }
        world.settle();
        add(&mut seen, &world.seen);
    }
    assert!(seen.forks > 100, "{seen:?}");
}

fn add(sum: &mut Seen, one: &Seen) {
    sum.duplicates += one.duplicates;
    sum.in_flight += one.in_flight;
    sum.gaps += one.gaps;
    sum.forks += one.forks;
    sum.cuts += one.cuts;
    sum.elsewhere += one.elsewhere;
    sum.late += one.late;
    sum.refused += one.refused;
}
