//! What a session is told and what it wants.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::TimeKeeper;
use crate::frame::{Codec, Dictionary};
use crate::mqtt::reason;
use crate::runtime::Mono;
use crate::sink::centre::config::{AckBy, Peer};
use crate::sink::centre::memory::Memory;
use crate::spool::{CentreView, StoredBatch, StoredId};

/// What is the same in all sessions of an agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the device.
    pub device: Arc<str>,
    /// Id of this installation.
    pub instance: u64,
    /// This boot ([`crate::runtime::boot_id`]).
    pub boot: u64,
    /// What the other side must be.
    pub peer: Peer,
    /// Whose word lets a batch leave the spool.
    pub ack: AckBy,
    /// Most frames in flight.
    pub window: u16,
    /// Largest body that the spool stores. A peer that takes less gets batches in parts.
    pub max_stored_bytes: usize,
    /// Most bytes of bodies in flight. One batch always fits.
    pub max_in_flight_bytes: usize,
    /// Compression.
    pub codec: Codec,
    /// For zstd, where the other side has it, too.
    pub dictionary: Option<Dictionary>,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
    /// Between two questions for the time.
    pub time_interval: Duration,
}

/// What the sessions of an agent share.
#[derive(Debug)]
pub struct Common {
    /// What is the same in all of them.
    pub options: Options,
    /// The spool's lanes, by name and weight; their indexes name them in inputs and actions.
    pub lanes: Vec<(Arc<str>, u32)>,
    /// What outlives them.
    pub memory: RefCell<Memory>,
    /// The time of the process: set by them, and used to correct rows from before it was known.
    pub keeper: Rc<RefCell<TimeKeeper>>,
}

/// What the handshake's check of the certificates was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It was made with a good clock, or there are no certificates.
    Verified,
    /// The clock was not synced: no data before the time is known and the chain was checked with it.
    AfterTime,
}

/// What the session is told.
#[derive(Debug)]
pub enum Input {
    /// From now on ship by this session.
    Adopt,
    /// Send nothing new and wait for the answers until the time.
    Drain(Mono),
    /// Ship again after a drain.
    Resume,
    /// End it with a clean DISCONNECT.
    Disconnect,
    /// The spool may have something new.
    Changed,
    /// The answer to [`Action::Reconcile`].
    Reconciled {
        /// Index of the lane.
        lane: usize,
    },
    /// The answer to [`Action::Read`]; empty if there is no more.
    Batches {
        /// Index of the lane.
        lane: usize,
        /// In order, none of them given before.
        batches: Vec<StoredBatch>,
    },
    /// The answer to [`Action::SetAside`]: the batch is aside and its loss record durable.
    SetAside {
        /// Index of the lane.
        lane: usize,
    },
    /// The answer to [`Action::CheckChain`].
    ChainChecked(Result<(), String>),
    /// Publish this as the device's status.
    Status(String),
}

/// What the session wants.
#[derive(Debug)]
pub enum Action {
    /// CONNACK came and is good, and where that is awaited the time is known and the chain was checked with it.
    Connected,
    /// Compare a lane's positions with the centre's; answer with [`Input::Reconciled`].
    Reconcile {
        /// Index of the lane.
        lane: usize,
        /// What the centre knows.
        view: CentreView,
    },
    /// Read from the spool; answer with [`Input::Batches`].
    Read {
        /// Index of the lane.
        lane: usize,
        /// The last batch read.
        after: Option<StoredId>,
        /// Bytes of bodies.
        max_bytes: usize,
    },
    /// These are durable at the centre: forget them.
    Ack {
        /// Index of the lane.
        lane: usize,
        /// The batches.
        ids: Vec<StoredId>,
    },
    /// This will never be taken: keep it aside and report the loss; answer with [`Input::SetAside`].
    SetAside {
        /// Index of the lane.
        lane: usize,
        /// The batch.
        id: StoredId,
        /// For people.
        reason: String,
        /// Nothing of it arrived; of a batch that went in parts some may have.
        exact: bool,
    },
    /// The clock was set by the centre's time.
    TimeLearned,
    /// Check the peer's chain strictly at the time that it told; answer with [`Input::ChainChecked`]. Until then
    /// that time is not to be believed.
    CheckChain {
        /// Seconds since 1970 UTC.
        now_s: u64,
    },
    /// Everything in the spool is acknowledged.
    Idle,
    /// After [`Input::Drain`]: nothing is in flight any more, or the time is up.
    Drained,
    /// The session is over. Send what [`Session::poll_transmit`](super::Session::poll_transmit) still gives and close the link.
    Closed(End),
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// We wanted it.
    #[error("disconnected")]
    Stopped,
    /// CONNACK with an error.
    #[error("the peer refuses the connection: {text} (0x{reason:02x})")]
    Refused {
        /// MQTT 5 reason code.
        reason: u8,
        /// How long to stay away, if it said so.
        retry_after: Option<Duration>,
        /// In words.
        text: String,
    },
    /// DISCONNECT by the peer.
    #[error("the peer ends the connection: {text} (0x{reason:02x})")]
    Kicked {
        /// MQTT 5 reason code.
        reason: u8,
        /// How long to stay away, if it said so.
        retry_after: Option<Duration>,
        /// In words.
        text: String,
    },
    /// Another installation uses the device's name.
    #[error(
        "another installation ({other}) is connected under this device's name; give one of them another name"
    )]
    Conflict {
        /// Its instance id.
        other: String,
    },
    /// The peer broke MQTT's rules.
    #[error("the peer breaks the protocol: {0}")]
    Protocol(&'static str),
    /// No answer in time.
    #[error("the peer does not answer")]
    Silent,
    /// `peer: dts`, but it is none.
    #[error("the peer is no dts centre; for an MQTT broker set `peer: broker`")]
    NotACentre,
    /// The peer does not tell the time, and the clock is not to be trusted.
    #[error("the centre does not tell the time, and this device's clock cannot be trusted")]
    NoTime,
    /// The chain is not valid at the time that the centre told.
    #[error("the peer's certificate does not hold at the time it told: {0}")]
    Chain(String),
    /// The device may not publish, or not subscribe to its watermark.
    #[error("the peer does not let this device {0}")]
    Denied(&'static str),
}

impl End {
    /// The value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Refused { reason, .. } | Self::Kicked { reason, .. } => reason::name(*reason),
            Self::Conflict { .. } => "conflict",
            Self::Protocol(_) => "protocol",
            Self::Silent => "silent",
            Self::NotACentre => "no centre",
            Self::NoTime => "no time",
            Self::Chain(_) => "chain",
            Self::Denied(_) => "denied",
        }
    }
}
