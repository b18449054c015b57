//! The policy's settings.

use std::time::Duration;

use crate::config::ByteSize;
use crate::link::Transport;

words! {
    /// Whether the link is kept up.
    LinkMode {
        /// Always connected.
        Always = "always",
        /// Connected when there is a reason, then not: for radios that cost.
        Burst = "burst",
    }
}

crate::section! {
    /// When and how the link is used.
    pub struct LinkOptions {
        /// `always`, or `burst`: connect every `burst_interval`, at `burst_size` of backlog, or when an
        /// urgent lane has something; deliver, disconnect.
        mode: LinkMode = "always",
        /// Pause between bursts. Costs latency, saves radio time.
        burst_interval: Duration = "15m",
        /// Backlog that starts a burst early.
        burst_size: ByteSize = "256KiB",
        /// How long a burst waits for more after all is delivered.
        burst_linger: Duration = "2s",
        /// How long QUIC is tried alone before TCP is tried too.
        race_delay: Duration = "1s",
        /// On TCP, first pause before QUIC is tried again; doubles up to `probe_interval_max`.
        probe_interval: Duration = "30s",
        /// Longest pause between such tries.
        probe_interval_max: Duration = "15m",
        /// Longest pause between attempts to connect; at most 1h. Pauses grow up to it, at random.
        backoff_max: Duration = "5m",
        /// Silence after which a packet is sent to keep the way open; below 30s. Shortened by itself
        /// where the network forgets earlier.
        keep_alive: Duration = "25s",
        /// Most bytes on the wire in a day, both ways. When they are used up the link rests until the
        /// day is over; the buffer fills meanwhile. Default: no limit.
        data_budget: Option<ByteSize>,
    }
}

/// Whether the link is kept up, and if not, when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    Always,
    /// In bursts.
    Burst {
        /// Between bursts.
        every: Duration,
        /// Backlog that starts one early.
        size_bytes: u64,
        /// Wait for more after all is delivered.
        linger: Duration,
    },
}

/// All that the policy wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Whether to use QUIC.
    pub quic: bool,
    /// Whether to use TCP, with TLS or without.
    pub tcp: Option<Transport>,
    /// Always or in bursts.
    pub mode: Mode,
    /// QUIC's head start.
    pub race_delay: Duration,
    /// First pause before QUIC is probed on TCP.
    pub probe_initial: Duration,
    /// Last one.
    pub probe_max: Duration,
    /// First ceiling of the back-off.
    pub backoff_base: Duration,
    /// Last one; at most an hour.
    pub backoff_max: Duration,
    /// From Dial to Dialed.
    pub dial_timeout: Duration,
    /// From Connect to CONNACK.
    pub connack_timeout: Duration,
    /// From Drain to Drained.
    pub drain_timeout: Duration,
    /// The same when stopping.
    pub stop_timeout: Duration,
    /// Largest keep-alive.
    pub keep_alive: Duration,
    /// Bytes a day.
    pub data_budget_bytes: Option<u64>,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            quic: true,
            tcp: Some(Transport::Tls),
            mode: Mode::Always,
            race_delay: Duration::from_secs(1),
            probe_initial: Duration::from_secs(30),
            probe_max: Duration::from_secs(15 * 60),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(5 * 60),
            // The shell's own limits for DNS, connect, proxy and TLS end an attempt first.
            dial_timeout: Duration::from_secs(45),
            connack_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_millis(500),
            keep_alive: Duration::from_secs(25),
            data_budget_bytes: None,
        }
    }
}

impl LinkOptions {
    /// The policy's settings for these transports.
    pub fn policy(&self, quic: bool, tcp: Option<Transport>) -> PolicyOptions {
        let mode = match self.mode {
            LinkMode::Always => Mode::Always,
            LinkMode::Burst => Mode::Burst {
                every: self.burst_interval,
                size_bytes: self.burst_size.0,
                linger: self.burst_linger,
            },
        };
        PolicyOptions {
            quic,
            tcp,
            mode,
            race_delay: self.race_delay,
            probe_initial: self.probe_interval,
            probe_max: self.probe_interval_max,
            backoff_max: self.backoff_max,
            keep_alive: self.keep_alive,
            data_budget_bytes: self.data_budget.map(|b| b.0),
            ..PolicyOptions::default()
        }
    }
}
