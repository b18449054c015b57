//! A world of one device and one centre on a virtual clock: the shipped session over the shipped MQTT cores, a model
//! of the spool, a model of the centre that says when a row is durable, and a link that can be cut anywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::TimeKeeper;
use crate::event::batch::{MONOTONIC, split_body};
use crate::event::builtin::{self, Payload};
use crate::event::{Batch, BatchBuilder, Op, Origin, RowClock, Table};
use crate::frame::{self, Codec, Header, HeaderV1};
use crate::mqtt::server::{Server, ServerEvent, ServerLimits};
use crate::mqtt::{ConnAck, Disconnect, Publish, QoS, SubAck, UserProperties};
use crate::runtime::Mono;
use crate::sink::centre::config::{AckBy, Peer};
use crate::sink::centre::session::{Action, Common, End, Input, Options, Session, Trust};
use crate::sink::centre::wire::Credentials;
use crate::spool::{StoredBatch, StoredId};

pub(super) const EPOCH: u64 = 0x0000_0003_dead_beef;

/// A batch of `rows` messages; the text of row n of sequence s is derived from s.
pub(super) fn batch(id: StoredId, lane: &str, first_seq: u64, rows: u32, row_bytes: usize) -> StoredBatch {
    let table = builtin::message();
    let mut builder = BatchBuilder::new("test".into());
    for n in 0..u64::from(rows) {
        let text = row_text(lane, first_seq + n, row_bytes);
        let values = builtin::message_values("t", None, Payload::Text(&text), None);
        builder.push(Op::Message, MONOTONIC | 500_000, table, None, builtin::image(&values)).unwrap();
    }
    stored(id, lane, first_seq, &builder.finish())
}

pub(super) fn row_text(lane: &str, seq: u64, bytes: usize) -> String {
    let mut text = format!("{lane}/{seq}/");
    let mut rng = fastrand::Rng::with_seed(seq);
    while text.len() < bytes {
        text.push(rng.alphanumeric());
    }
    text
}

fn stored(id: StoredId, lane: &str, first_seq: u64, batch: &Batch) -> StoredBatch {
    StoredBatch {
        id,
        lane: lane.into(),
        epoch: EPOCH,
        first_seq,
        last_seq: first_seq + u64::from(batch.rows) - 1,
        base: 1,
        rows: batch.rows,
        crc: crc32c::crc32c(&batch.body),
        boot: 7,
        clock: RowClock::default(),
        source: "test".into(),
        body: batch.body.clone(),
        tables: batch.tables.to_vec(),
    }
}

/// The model of a lane in the spool.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) name: Arc<str>,
    pub(super) weight: u32,
    /// In order of seq.
    pub(super) batches: Vec<StoredBatch>,
    /// Where ids stand that were given out, gone or not.
    seqs: HashMap<StoredId, u64>,
    pub(super) next_seq: u64,
    /// Sequence numbers acknowledged to the spool.
    pub(super) acked: HashSet<u64>,
    pub(super) aside: Vec<(u64, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) shelves: Vec<Shelf>,
    next_id: i64,
}

impl Store {
    pub(super) fn lane(&mut self, name: &str, weight: u32) {
        self.shelves.push(Shelf {
            name: name.into(),
            weight,
            batches: Vec::new(),
            seqs: HashMap::new(),
            next_seq: 1,
            acked: HashSet::new(),
            aside: Vec::new(),
        });
    }

    fn id(&mut self) -> StoredId {
        self.next_id += 1;
        StoredId::from_raw(self.next_id)
    }

    pub(super) fn append(&mut self, lane: usize, rows: u32, row_bytes: usize) {
        let id = self.id();
        let shelf = &mut self.shelves[lane];
        let stored = batch(id, &shelf.name, shelf.next_seq, rows, row_bytes);
        shelf.next_seq = stored.last_seq + 1;
        shelf.seqs.insert(id, stored.last_seq);
        shelf.batches.push(stored);
    }

    fn read(&self, lane: usize, after: Option<StoredId>, max_bytes: usize) -> Vec<StoredBatch> {
        let shelf = &self.shelves[lane];
        let after = after.map_or(0, |id| shelf.seqs[&id]);
        let base = shelf.batches.first().map_or(shelf.next_seq, |b| b.first_seq);
        let mut bytes = 0;
        let mut out = Vec::new();
        for b in shelf.batches.iter().filter(|b| b.first_seq > after) {
            if !out.is_empty() && bytes + b.body.len() > max_bytes {
                break;
            }
            bytes += b.body.len();
            out.push(StoredBatch { base, ..b.clone() });
        }
        out
    }

    fn remove(&mut self, lane: usize, id: StoredId) -> StoredBatch {
        let shelf = &mut self.shelves[lane];
        let at = shelf.batches.iter().position(|b| b.id == id).expect("a batch that the spool holds");
        shelf.batches.remove(at)
    }
}

/// What the centre does with a frame.
#[derive(Clone, Debug, Default)]
pub(super) enum Verdict {
    /// Takes it.
    #[default]
    Take,
    /// Answers with the reason.
    Refuse(u8),
    /// Ends the connection with the reason.
    Hang(u8),
}

type Judge = Box<dyn FnMut(&HeaderV1, &mut fastrand::Rng) -> Verdict>;

/// What outlives the centre's connections.
pub(super) struct Centre {
    pub(super) dts: bool,
    pub(super) max_packet: Option<u32>,
    pub(super) max_body: Option<usize>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) refuse_connect: Option<ConnAck>,
    /// Refuses what comes behind a refused frame.
    pub(super) keeps_order: bool,
    /// Answers questions for the time.
    pub(super) tells_time: bool,
    pub(super) judge: Judge,
    /// Durable: text of a row by lane and seq.
    pub(super) durable: BTreeMap<(String, u64), String>,
    /// The lowest sequence not durable, by lane.
    next: HashMap<String, u64>,
    /// Order of arrival of new rows, by lane.
    pub(super) arrivals: Vec<(String, u64)>,
    /// Headers of all frames seen, in order.
    pub(super) frames: Vec<HeaderV1>,
    pub(super) status: Vec<String>,
    /// Frames that came before the time was told, with `tells_time`.
    pub(super) early: usize,
    /// Shapes that any connection brought (a centre keeps them), off to test a centre that forgets.
    pub(super) doubles: usize,
    /// Time of the centre in microseconds at Mono(0).
    pub(super) epoch_us: i64,
    pub(super) connections: usize,
    /// `dts-time` in CONNACK.
    pub(super) connack_time: Option<i64>,
    /// Connections that ended with a clean DISCONNECT.
    pub(super) clean_ends: usize,
}

impl Default for Centre {
    fn default() -> Self {
        Self {
            dts: true,
            max_packet: None,
            max_body: None,
            receive_maximum: None,
            refuse_connect: None,
            keeps_order: true,
            tells_time: true,
            judge: Box::new(|_, _| Verdict::Take),
            durable: BTreeMap::new(),
            next: HashMap::new(),
            arrivals: Vec::new(),
            frames: Vec::new(),
            status: Vec::new(),
            early: 0,
            doubles: 0,
            epoch_us: 1_790_000_000_000_000,
            connections: 0,
            connack_time: None,
            clean_ends: 0,
        }
    }
}

impl Centre {
    fn limits(&self) -> ServerLimits {
        ServerLimits {
            max_packet_bytes: self.max_packet.unwrap_or(256 << 10),
            receive_maximum: self.receive_maximum.unwrap_or(64),
            topic_alias_maximum: 4,
            ..ServerLimits::default()
        }
    }

    fn connack(&mut self) -> ConnAck {
        self.connections += 1;
        if let Some(refusal) = &self.refuse_connect {
            return refusal.clone();
        }
        let mut user: UserProperties = Vec::new();
        if self.dts {
            user.push(("dts".into(), "1".into()));
            user.push(("dts-epoch".into(), (EPOCH >> 32).to_string()));
            if let Some(us) = self.connack_time {
                user.push(("dts-time".into(), us.to_string()));
            }
            if let Some(max) = self.max_body {
                user.push(("dts-max-body".into(), max.to_string()));
            }
        }
        ConnAck { user, ..ConnAck::default() }
    }

    /// Makes the rows of a frame durable.
    fn write(&mut self, header: &HeaderV1, body: &Bytes, tables: &HashMap<u64, Arc<Table>>) {
        let resolve = |h: u64| tables.get(&h).cloned();
        let rows = Batch::from_body(
            "centre".into(),
            Origin::Input,
            RowClock::default(),
            header.rows,
            body.clone(),
            resolve,
        );
        for row in rows.unwrap().iter() {
            let row = row.unwrap();
            let seq = header.first_seq + row.head().ordinal;
            let image = row.newest().unwrap().unwrap();
            let Some(crate::event::Value::Text(text)) = image.get(3) else { panic!("a text") };
            let key = (header.lane.clone(), seq);
            match self.durable.insert(key.clone(), text.to_owned()) {
                None => self.arrivals.push(key),
                Some(old) => {
                    assert_eq!(old, text, "a row changed on the way");
                    self.doubles += 1;
                }
            }
        }
    }
}

/// One connection of the centre.
struct Peer_ {
    server: Server,
    tables: HashMap<u64, Arc<Table>>,
    told_time: bool,
    topic: Option<String>,
    /// Taken and not yet durable: packet id, header, body.
    pending: VecDeque<(u16, HeaderV1, Bytes)>,
    closed: bool,
    /// Nothing comes from it.
    muted: bool,
}

/// One connection, both ends.
struct Link {
    session: Session,
    peer: Peer_,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    /// Wishes of the session not yet executed.
    wishes: VecDeque<Action>,
    /// What the spool answered, on its way.
    answers: VecDeque<Input>,
}

pub(super) struct World {
    pub(super) now: Mono,
    pub(super) rng: fastrand::Rng,
    pub(super) options: Options,
    /// Of the last session: what the next one remembers.
    common: Option<Rc<Common>>,
    pub(super) store: Store,
    pub(super) centre: Centre,
    pub(super) trust: Trust,
    /// What the device knows of the time.
    pub(super) keeper: Rc<RefCell<TimeKeeper>>,
    pub(super) learned: usize,
    /// What the strict check of the chain says.
    pub(super) chain: Result<(), String>,
    pub(super) chain_checks: usize,
    pub(super) ends: Vec<End>,
    pub(super) idles: usize,
    pub(super) drained: usize,
    /// Events happen in a random order, and data is cut in random pieces.
    pub(super) wild: bool,
    /// The centre writes nothing while set.
    pub(super) stalled: bool,
    /// The spool's answers do not arrive while set.
    pub(super) hold_answers: bool,
    link: Option<Link>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let options = Options {
            device: "pump-7".into(),
            instance: 0xabc,
            boot: 7,
            peer: Peer::Dts,
            ack: AckBy::Peer,
            window: 8,
            max_stored_bytes: 32 * 1024,
            max_in_flight_bytes: 64 * 1024,
            codec: Codec::Lz4,
            dictionary: None,
            keep_alive: Duration::from_secs(25),
            time_interval: Duration::from_secs(60),
        };
        Self {
            now: Mono(1_000_000),
            rng: fastrand::Rng::with_seed(seed),
            options,
            common: None,
            store: Store::default(),
            centre: Centre::default(),
            trust: Trust::Verified,
            keeper: Rc::new(RefCell::new(TimeKeeper::new(Mono(1_000_000), 7, 0, &[], 1_700_000_000))),
            learned: 0,
            chain: Ok(()),
            chain_checks: 0,
            ends: Vec::new(),
            idles: 0,
            drained: 0,
            wild: false,
            stalled: false,
            hold_answers: false,
            link: None,
        }
    }

    pub(super) fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Opens a connection and adopts it as soon as it is there.
    pub(super) fn connect(&mut self) {
        assert!(self.link.is_none());
        let lanes: Vec<_> = self.store.shelves.iter().map(|s| (s.name.clone(), s.weight)).collect();
        let rng = self.rng.fork();
        let memory = self.common.take().map(|c| c.memory.take()).unwrap_or_default();
        let common = Common {
            options: self.options.clone(),
            lanes,
            memory: RefCell::new(memory),
            keeper: self.keeper.clone(),
        };
        let common = Rc::new(common);
        let session = Session::new(common.clone(), Credentials::default(), self.trust, rng, self.now);
        self.common = Some(common);
        let session = session.unwrap();
        let peer = Peer_ {
            server: Server::new(self.centre.limits(), self.now),
            muted: false,
            tables: HashMap::new(),
            told_time: false,
            topic: None,
            pending: VecDeque::new(),
            closed: false,
        };
        self.link = Some(Link {
            session,
            peer,
            up: VecDeque::new(),
            down: VecDeque::new(),
            wishes: VecDeque::new(),
            answers: VecDeque::new(),
        });
    }

    /// The link dies without a word.
    pub(super) fn cut(&mut self) {
        // What the centre took it may write all the same.
        while self.wild && self.rng.bool() && self.write_one() {}
        self.link = None;
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_some()
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.link.as_mut().expect("a connection").session
    }

    pub(super) fn input(&mut self, input: Input) {
        let now = self.now;
        self.session().handle(now, input);
    }

    pub(super) fn append(&mut self, lane: usize, rows: u32, row_bytes: usize) {
        self.store.append(lane, rows, row_bytes);
        if self.link.is_some() {
            self.input(Input::Changed);
        }
    }

    /// Does one thing that can be done now. False if there is none.
    pub(super) fn step(&mut self) -> bool {
        let kinds = 6;
        let start = if self.wild { self.rng.usize(0..kinds) } else { 0 };
        (0..kinds).any(|n| match (start + n) % kinds {
            0 => self.do_wish(),
            1 => self.answer(),
            2 => self.carry_up(),
            3 => self.carry_down(),
            4 => self.write_one(),
            _ => self.collect(),
        })
    }

    /// Until nothing can be done without time passing.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass, timer by timer.
    pub(super) fn pass(&mut self, d: Duration) {
        let end = self.now + d;
        self.settle();
        for turn in 0.. {
            assert!(turn < 100_000, "a timer spins");
            let Some(link) = &self.link else { break };
            let server = link.peer.server.poll_timeout().filter(|_| !link.peer.muted);
            let timers = [link.session.poll_timeout(), server];
            let Some(at) = timers.into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            let now = self.now;
            if let Some(link) = &mut self.link {
                link.session.handle_timeout(now);
                if !link.peer.muted && link.peer.server.handle_timeout(now).is_err() {
                    link.peer.closed = true;
                }
            }
            self.settle();
        }
        self.now = self.now.max(end);
    }

    /// Moves what the cores give out into the queues between them.
    fn collect(&mut self) -> bool {
        let now = self.now;
        let Some(link) = &mut self.link else { return false };
        let mut any = false;
        while let Some(action) = link.session.poll_action() {
            link.wishes.push_back(action);
            any = true;
        }
        while link.up.len() < 4 {
            let Some(bytes) = link.session.poll_transmit(now) else { break };
            link.up.push_back(bytes);
            any = true;
        }
        while let Some(bytes) = link.peer.server.poll_transmit() {
            link.down.push_back(bytes);
            any = true;
        }
        any
    }

    fn do_wish(&mut self) -> bool {
        let now = self.now;
        let Some(link) = &mut self.link else { return false };
        let Some(wish) = link.wishes.pop_front() else { return false };
        let session = &mut link.session;
        match wish {
            Action::Connected => {
                session.handle(now, Input::Adopt);
            }
            Action::Reconcile { lane, .. } => link.answers.push_back(Input::Reconciled { lane }),
            Action::Read { lane, after, max_bytes } => {
                let batches = self.store.read(lane, after, max_bytes);
                link.answers.push_back(Input::Batches { lane, batches });
            }
            Action::Ack { lane, ids } => {
                for id in ids {
                    let gone = self.store.remove(lane, id);
                    for seq in gone.first_seq..=gone.last_seq {
                        let key = (gone.lane.to_string(), seq);
                        assert!(
                            self.centre.durable.contains_key(&key),
                            "{key:?} is acknowledged and not durable"
                        );
                        self.store.shelves[lane].acked.insert(seq);
                    }
                }
            }
            Action::SetAside { lane, id, reason, .. } => {
                let gone = self.store.remove(lane, id);
                let seqs = gone.first_seq..=gone.last_seq;
                self.store.shelves[lane].aside.extend(seqs.map(|seq| (seq, reason.clone())));
                link.answers.push_back(Input::SetAside { lane });
            }
            Action::TimeLearned => self.learned += 1,
            Action::CheckChain { now_s } => {
                assert!(now_s.abs_diff(1_790_000_000 + now.0 / 1_000_000) < 10);
                self.chain_checks += 1;
                session.handle(now, Input::ChainChecked(self.chain.clone()));
            }
            Action::Idle => self.idles += 1,
            Action::Drained => self.drained += 1,
            Action::Closed(end) => {
                link.up.extend(std::iter::from_fn(|| session.poll_transmit(now)));
                while let Some(bytes) = link.up.pop_front() {
                    link.peer.server.receive(now, &bytes).unwrap_or_default();
                }
                while let Some(event) = link.peer.server.poll_event() {
                    serve(&mut self.centre, &mut link.peer, event, now, &mut self.rng);
                }
                self.ends.push(end);
                self.link = None;
            }
        }
        true
    }

    /// An answer of the spool arrives.
    fn answer(&mut self) -> bool {
        let (now, held) = (self.now, self.hold_answers);
        let Some(link) = self.link.as_mut().filter(|_| !held) else { return false };
        let Some(answer) = link.answers.pop_front() else { return false };
        link.session.handle(now, answer);
        true
    }

    fn carry_up(&mut self) -> bool {
        let now = self.now;
        let Some(link) = &mut self.link else { return false };
        let Some(bytes) = piece(&mut link.up, self.wild.then_some(&mut self.rng)) else { return false };
        if link.peer.closed || link.peer.muted {
            return true;
        }
        if let Err(e) = link.peer.server.receive(now, &bytes) {
            panic!("the session breaks the protocol: {e:?}");
        }
        while let Some(event) = link.peer.server.poll_event() {
            serve(&mut self.centre, &mut link.peer, event, now, &mut self.rng);
        }
        true
    }

    fn carry_down(&mut self) -> bool {
        let now = self.now;
        let Some(link) = &mut self.link else { return false };
        let Some(bytes) = piece(&mut link.down, self.wild.then_some(&mut self.rng)) else { return false };
        link.session.receive(now, &bytes);
        true
    }

    /// The centre writes the oldest frame it holds, and answers.
    fn write_one(&mut self) -> bool {
        if self.stalled {
            return false;
        }
        let Some(link) = &mut self.link else { return false };
        let Some((packet_id, header, body)) = link.peer.pending.pop_front() else { return false };
        self.centre.write(&header, &body, &link.peer.tables);
        if !link.peer.closed {
            link.peer.server.ack(packet_id, 0, Vec::new());
        }
        true
    }

    /// The centre writes the `n` oldest frames it holds, though it is stalled.
    pub(super) fn write(&mut self, n: usize) {
        self.stalled = false;
        for _ in 0..n {
            assert!(self.write_one());
        }
        self.stalled = true;
    }

    /// Until the session has asked to read.
    pub(super) fn step_until_read(&mut self) {
        let reads = |w: &Self| {
            let link = w.link.as_ref().unwrap();
            link.answers.iter().any(|a| matches!(a, Input::Batches { .. }))
        };
        while !reads(self) {
            assert!(self.step());
        }
    }

    /// The centre forgets the shapes of this connection.
    pub(super) fn forget_tables(&mut self) {
        self.link.as_mut().unwrap().peer.tables.clear();
    }

    /// Nothing reaches the centre any more.
    pub(super) fn mute(&mut self) {
        self.link.as_mut().unwrap().peer.muted = true;
    }

    /// The centre behind the broker publishes a watermark.
    pub(super) fn watermark(&mut self, json: &str) {
        let peer = &mut self.link.as_mut().unwrap().peer;
        let message = Publish::new("dts/v1/pump-7/w", 1, json.to_owned());
        peer.server.publish(message, 0).unwrap();
    }

    /// The centre ends the connection.
    pub(super) fn kick(&mut self, reason: u8, user: &[(&str, &str)]) {
        let user = user.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let peer = &mut self.link.as_mut().unwrap().peer;
        peer.server.disconnect(Disconnect { reason, user, ..Disconnect::default() });
        peer.closed = true;
    }

    /// Every row stored was delivered with its content, or set aside; and in order.
    pub(super) fn assert_all_delivered(&self) {
        for shelf in &self.store.shelves {
            let aside: HashSet<u64> = shelf.aside.iter().map(|(seq, _)| *seq).collect();
            for seq in 1..shelf.next_seq {
                let there = self.centre.durable.contains_key(&(shelf.name.to_string(), seq));
                assert!(there || aside.contains(&seq), "{}/{seq} is lost", shelf.name);
            }
            assert!(shelf.batches.is_empty(), "{} batches stay in the spool", shelf.batches.len());
        }
        self.assert_order();
    }

    /// New rows of a lane came in the order of their sequence.
    pub(super) fn assert_order(&self) {
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (lane, seq) in &self.centre.arrivals {
            let before = last.insert(lane, *seq).unwrap_or(0);
            assert!(before < *seq, "{lane}: {seq} came after {before}");
        }
    }
}

/// The next bytes of a queue: a random prefix, or all.
fn piece(queue: &mut VecDeque<Bytes>, rng: Option<&mut fastrand::Rng>) -> Option<Bytes> {
    let mut bytes = queue.pop_front()?;
    if let Some(rng) = rng
        && bytes.len() > 1
        && rng.bool()
    {
        let head = bytes.split_to(rng.usize(1..bytes.len()));
        queue.push_front(bytes);
        return Some(head);
    }
    Some(bytes)
}

fn serve(centre: &mut Centre, peer: &mut Peer_, event: ServerEvent, now: Mono, rng: &mut fastrand::Rng) {
    match event {
        ServerEvent::Connect(connect) => {
            assert!(connect.clean_start && connect.session_expiry_s == 0);
            assert_eq!(connect.client_id, "pump-7:0000000000000abc");
            let connack = centre.connack();
            if connack.reason >= 0x80 {
                peer.server.refuse(connack);
            } else {
                peer.server.accept(connack);
            }
        }
        ServerEvent::Subscribe(subscribe) => {
            peer.topic = subscribe.filters.first().map(|f| f.filter.clone());
            let reasons = vec![0; subscribe.filters.len()];
            let packet_id = subscribe.packet_id;
            peer.server.suback(SubAck { packet_id, reasons, reason_string: None, user: Vec::new() });
        }
        ServerEvent::Publish(publish) => on_publish(centre, peer, &publish, now, rng),
        ServerEvent::Closed { clean, .. } => {
            peer.closed = true;
            centre.clean_ends += usize::from(clean);
        }
        _ => {}
    }
}

fn on_publish(centre: &mut Centre, peer: &mut Peer_, publish: &Publish, now: Mono, rng: &mut fastrand::Rng) {
    match publish.topic.as_str() {
        "dts/v1/pump-7/p" => {
            if !centre.tells_time {
                return;
            }
            peer.told_time = true;
            let us = centre.epoch_us + now.0 as i64;
            let mut answer = publish.payload.to_vec();
            answer.extend(us.to_le_bytes());
            answer.extend(us.to_le_bytes());
            let mut message = Publish::new("dts/v1/pump-7/t", 0, answer);
            message.qos = QoS::AtMostOnce;
            peer.server.publish(message, 0).unwrap();
        }
        "dts/v1/pump-7/s" => {
            assert!(publish.retain);
            centre.status.push(String::from_utf8(publish.payload.to_vec()).unwrap());
            peer.server.ack(publish.packet_id, 0, Vec::new());
        }
        "dts/v1/pump-7/c" => on_frame(centre, peer, publish, rng),
        other => panic!("a device publishes on {other}"),
    }
}

fn on_frame(centre: &mut Centre, peer: &mut Peer_, publish: &Publish, rng: &mut fastrand::Rng) {
    if !peer.told_time {
        centre.early += 1;
    }
    let (Header::V1(header), body) = frame::decode(&publish.payload, 1 << 20).unwrap();
    if let Some(max) = centre.max_body {
        assert!(body.len() <= max, "a body beyond dts-max-body");
    }
    centre.frames.push(header.clone());
    match (centre.judge)(&header, rng) {
        Verdict::Take => {}
        Verdict::Refuse(reason) => return peer.server.ack(publish.packet_id, reason, Vec::new()),
        Verdict::Hang(reason) => {
            peer.server.disconnect(Disconnect { reason, ..Disconnect::default() });
            peer.closed = true;
            return;
        }
    }
    for table in &header.tables {
        let table = Arc::new(Table::decode(table).unwrap());
        peer.tables.insert(table.hash(), table);
    }
    let (hashes, _) = split_body(&body).unwrap();
    if hashes.iter().any(|h| !peer.tables.contains_key(h)) {
        let user = vec![("dts-need".to_owned(), "tables".to_owned())];
        return peer.server.ack(publish.packet_id, 0x83, user);
    }
    // What follows a refused frame of its lane is refused too: order is kept. Only what the device says is
    // gone is passed over.
    let next = centre.next.entry(header.lane.clone()).or_insert(1);
    while centre.durable.contains_key(&(header.lane.clone(), *next)) {
        *next += 1;
    }
    let next = header.base.max(*next);
    let taken = peer.pending.iter().filter(|(_, h, _)| h.lane == header.lane).map(|(_, h, _)| h.last_seq + 1);
    let next = taken.max().unwrap_or(0).max(next);
    if header.first_seq > next && centre.keeps_order {
        return peer.server.ack(publish.packet_id, 0x97, Vec::new());
    }
    peer.pending.push_back((publish.packet_id, header, body));
}
