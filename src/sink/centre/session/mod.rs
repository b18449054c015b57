//! One MQTT session with the centre or a broker, from CONNECT to its end. Sans-IO: bytes, answers of the
//! spool and time come in by [`Session::receive`], [`Session::handle`] and [`Session::handle_timeout`]; bytes and
//! wishes go out by [`Session::poll_transmit`] and [`Session::poll_action`].
//!
//! ```text
//! Connecting ─CONNACK─▶ Standby ─Adopt─▶ Shipping ─Drain─▶ Draining ─▶ Closed
//!                                            ▲───Resume───────┘
//! ```
//!
//! Invariants:
//! - Nothing outlives the session but [`Memory`](super::memory::Memory): the spool is the session, the next one reads the window again.
//! - A batch is acknowledged to the spool only after the peer (or behind a broker the centre's watermark) said that
//!   it is durable, and is set aside only for a reason that repeats.
//! - Frames of a lane are sent in the spool's order; what is refused goes back to its place.
//! - To a centre no frame is sent before the spool compared its positions with the centre's, and none before the
//!   time is known and the chain was checked with it, where the clock could not be trusted during the handshake.
//! - Memory: `max_in_flight_bytes`, and a read ahead of at most 192 KiB a lane.

mod answers;
mod api;
mod peer;
mod send;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

pub use api::{Action, Common, End, Input, Options, Trust};
use send::MAX_QUEUED_BYTES;

use super::lanes::{Hold, Lane, Turns};
use super::split::Whole;
use super::wire::{self, Credentials, Server, Topics};
use crate::clock::RoundTrip;
use crate::mqtt::ProtocolError;
use crate::mqtt::client::{Client, ClientOptions};
use crate::runtime::Mono;
use crate::spool::StoredBatch;

/// A session without CONNACK by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Token of status messages; frames count from 1.
const STATUS: u64 = 0;
/// The one topic alias used: that of the frames' topic.
const ALIAS: u16 = 1;

#[derive(Debug)]
struct Flight {
    lane: usize,
    order: u64,
    batch: StoredBatch,
    whole: Option<Rc<Whole>>,
    packet_bytes: usize,
    /// Shapes that went along.
    shapes: Vec<u64>,
    all_tables: bool,
    /// The broker has it; the centre's watermark is awaited.
    confirmed: bool,
    sent: Mono,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting { until: Mono },
    Standby,
    Shipping,
    Draining { until: Mono },
    Drained,
    Closed,
}

/// What stands before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// The centre has not told the time.
    Time {
        until: Mono,
    },
    /// It has; whether it may be believed is being checked.
    Chain {
        trip: RoundTrip,
        until: Mono,
    },
    Open,
}

/// One session. See the module's header.
#[derive(Debug)]
pub struct Session {
    common: Rc<Common>,
    topics: Topics,
    trust: Trust,
    rng: fastrand::Rng,
    connection: u64,
    started: Mono,
    connected: Mono,
    client: Client,
    server: Server,
    /// Aliases that the peer takes, and whether ours was introduced.
    alias: Option<bool>,
    phase: Phase,
    gate: Gate,
    lanes: Vec<Lane>,
    turns: Turns,
    flights: BTreeMap<u64, Flight>,
    flight_bytes: usize,
    next_token: u64,
    next_order: u64,
    shapes: HashSet<u64>,
    /// Behind a broker: the centre's marks, and when the last one came or something was confirmed after it.
    marks: HashMap<(usize, u64), u64>,
    mark_due: Option<Mono>,
    status: Option<String>,
    questions: VecDeque<Mono>,
    asked: usize,
    next_question: Option<Mono>,
    /// Said that all is acknowledged, and nothing happened since.
    idle: bool,
    actions: VecDeque<Action>,
}

impl Session {
    /// Starts the session: CONNECT is ready to be sent. An error if CONNECT cannot be written: a name or a password that is
    /// too long.
    pub fn new(
        common: Rc<Common>,
        credentials: Credentials,
        trust: Trust,
        rng: fastrand::Rng,
        now: Mono,
    ) -> Result<Self, ProtocolError> {
        let options = &common.options;
        let connect = wire::connect(&options.device, options.instance, options.keep_alive, credentials);
        let client = Client::new(
            ClientOptions {
                connect,
                max_packet_bytes: wire::MAX_RECEIVED_BYTES,
                // One place is the status message's.
                window: options.window.saturating_add(1),
                ping_timeout: options.keep_alive.clamp(Duration::from_secs(5), Duration::from_secs(15)),
            },
            now,
        )?;
        let connection = common.memory.borrow_mut().connection();
        Ok(Self {
            topics: Topics::of(&options.device),
            trust,
            rng,
            connection,
            started: now,
            connected: now,
            client,
            server: Server::default(),
            alias: None,
            phase: Phase::Connecting { until: now + CONNECT_TIMEOUT },
            gate: Gate::Open,
            lanes: common.lanes.iter().map(|(name, weight)| Lane::new(name.clone(), *weight)).collect(),
            turns: Turns::default(),
            flights: BTreeMap::new(),
            flight_bytes: 0,
            next_token: STATUS + 1,
            next_order: 0,
            shapes: HashSet::new(),
            marks: HashMap::new(),
            mark_due: None,
            status: None,
            questions: VecDeque::new(),
            asked: 0,
            next_question: None,
            idle: false,
            actions: VecDeque::new(),
            common,
        })
    }

    /// Bytes came from the peer.
    pub fn receive(&mut self, now: Mono, bytes: &[u8]) {
        if self.phase == Phase::Closed {
            return;
        }
        // An error is an event too, behind those that came before it.
        let _event = self.client.receive(now, bytes);
        while self.phase != Phase::Closed {
            let Some(event) = self.client.poll_event() else { break };
            self.on_event(now, event);
        }
        self.pump(now);
    }

    /// Something else happened.
    pub fn handle(&mut self, now: Mono, input: Input) {
        if self.phase == Phase::Closed {
            return;
        }
        match input {
            Input::Adopt => self.adopt(),
            Input::Drain(until) => self.phase = Phase::Draining { until },
            Input::Resume => {
                if matches!(self.phase, Phase::Draining { .. } | Phase::Drained) {
                    self.phase = Phase::Shipping;
                }
            }
            Input::Disconnect => {
                self.client.disconnect(0);
                self.close(End::Stopped);
            }
            Input::Changed => self.changed(),
            Input::Reconciled { lane } => {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.reconciled = true;
                }
            }
            Input::Batches { lane, batches } => self.on_batches(lane, batches),
            Input::SetAside { lane } => {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.asides = lane.asides.saturating_sub(1);
                    // The loss record is a batch of its own.
                    lane.more = true;
                    lane.changed |= lane.reading;
                }
            }
            Input::ChainChecked(Ok(())) => {
                if let Gate::Chain { trip, until } = self.gate {
                    self.gate = Gate::Time { until };
                    self.learn(now, trip);
                }
            }
            Input::ChainChecked(Err(e)) => {
                self.client.disconnect(0);
                self.close(End::Chain(e));
            }
            Input::Status(json) => self.status = Some(json),
        }
        self.pump(now);
    }

    /// The time of [`Self::poll_timeout`] came.
    pub fn handle_timeout(&mut self, now: Mono) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.client.handle_timeout(now).is_err() {
            return self.close(End::Silent);
        }
        match self.phase {
            Phase::Connecting { until } if now >= until => return self.close(End::Silent),
            Phase::Draining { until } if now >= until => {
                self.phase = Phase::Drained;
                self.actions.push_back(Action::Drained);
            }
            _ => {}
        }
        if matches!(self.gate, Gate::Time { until } if now >= until) {
            self.use_connack_time(now);
        }
        if self.next_question.is_some_and(|at| now >= at) {
            self.ask_time(now);
        }
        if self.lanes.iter().any(|lane| matches!(lane.hold, Hold::Denied(at) if now >= at)) {
            self.client.disconnect(0);
            return self.close(End::Denied("publish"));
        }
        if self.mark_due.is_some_and(|at| now >= at) {
            self.resend_unmarked(now);
        }
        self.pump(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Mono> {
        if self.phase == Phase::Closed {
            return None;
        }
        let phase = match self.phase {
            Phase::Connecting { until } | Phase::Draining { until } => Some(until),
            _ => None,
        };
        let gate = if let Gate::Time { until } = self.gate { Some(until) } else { None };
        let lanes = self.lanes.iter().filter_map(Lane::wakes_at);
        let own = [phase, gate, self.next_question, self.mark_due, self.client.poll_timeout()];
        own.into_iter().flatten().chain(lanes).min()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next bytes for the peer. Take them only when the link takes them: what is not taken holds
    /// back new frames.
    pub fn poll_transmit(&mut self, now: Mono) -> Option<Bytes> {
        if self.client.queued_bytes() < MAX_QUEUED_BYTES / 2 {
            self.pump(now);
        }
        self.client.poll_transmit()
    }

    /// Frames sent and not settled.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether CONNACK came, be it over since.
    pub fn was_connected(&self) -> bool {
        self.client.server().is_some()
    }

    /// When the oldest frame left that is not settled.
    pub fn oldest_sent(&self) -> Option<Mono> {
        self.flights.values().next().map(|flight| flight.sent)
    }

    /// Whether it is over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// What the peer said of itself.
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn close(&mut self, end: End) {
        self.phase = Phase::Closed;
        self.actions.push_back(Action::Closed(end));
    }
}
