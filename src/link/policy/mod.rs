//! When to use which transport: the link policy. No sockets, no clock: inputs and `now` go in,
//! actions come out.
//!
//! ```text
//! Dial → Dialed → Connect → Connected (CONNACK) → Adopt … Drain → Drained → Close
//! ```
//!
//! QUIC is dialed first; after `race_delay`, or at once where QUIC failed on this network before, TCP
//! too; where QUIC's datagrams are known not to fit through ([`FailKind::PathMtu`]), TCP first. The
//! first CONNACK wins. On TCP, QUIC is probed from time to time: when its handshake is done
//! the old connection is drained, then CONNECT goes out, and after its CONNACK it is adopted. So at
//! most one CONNECT is under way at any time, and frames go one way only.
//!
//! Invariants: never two adopted; when started and neither busy, idle by choice nor over budget, either
//! a connection is being made or kept, or a timer is set; no timer is further away than the back-off's
//! cap, the server's `retry_after` (both at most an hour and a quarter), a burst's pause or a budget's
//! day.
//!
//! The shell reports each transport's latest dial only: after [`Action::Abandon`] or
//! [`Action::Close`] it drops that connection and says nothing more of it.

mod core;
mod options;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::Transport;
use super::error::FailKind;

pub use self::core::Policy;
pub use options::{LinkMode, LinkOptions, Mode, PolicyOptions};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin to connect.
    Start,
    /// The transport's handshake is done. Send CONNECT only on [`Action::Connect`].
    Dialed(Transport),
    /// CONNACK came and says yes (and, with a dts centre, the chain passed the strict check).
    Connected(Transport),
    /// Dialing or CONNECT failed.
    Failed(Transport, FailKind),
    /// A connection ended. [`FailKind::TakenOver`] is reason code 0x8E.
    Lost(Transport, FailKind),
    /// Data in flight has no acknowledgement for too long ([`super::Control::is_dead`]).
    Quiet(Transport),
    /// The peer acknowledged something.
    Progress(Transport),
    /// Addresses or routes changed in a way that concerns us.
    NetworkChanged,
    /// Server Busy, in CONNACK or DISCONNECT. Its connection is over.
    Busy {
        /// What the server asked for.
        retry_after: Duration,
    },
    /// Nothing is in flight any more on a connection that was told to [`Action::Drain`].
    Drained(Transport),
    /// An urgent lane has something (bursts; shortens a long back-off).
    Urgent,
    /// What the buffer holds and the peer has not acknowledged, in bytes (bursts).
    Backlog {
        /// Zero when everything is delivered.
        bytes: u64,
    },
    /// Bytes on the wire since the last report (budget).
    Spent {
        /// Both directions.
        bytes: u64,
    },
    /// End everything in order.
    Stop,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection (transport handshake only).
    Dial(Transport),
    /// Send CONNECT on it.
    Connect(Transport),
    /// Drop an attempt.
    Abandon(Transport),
    /// Send frames here from now on.
    Adopt(Transport),
    /// Send no new frames there; say [`Input::Drained`] when nothing is in flight.
    Drain(Transport),
    /// DISCONNECT and close.
    Close(Transport),
    /// The network changed: [`super::Control::rebind`] the adopted connection; if that fails, it is
    /// [`Input::Lost`] with [`FailKind::Unreachable`].
    Rebind(Transport),
}

/// What should outlive the process: plain data for [`crate::identity::Memory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyMemory {
    /// How far the back-off has grown.
    pub backoff_level: u8,
    /// Bytes of the budget used in the current day.
    pub budget_spent_bytes: u64,
    /// Seconds left of that day.
    pub budget_left_s: u32,
}
