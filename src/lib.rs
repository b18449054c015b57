//! dts moves data changes from where they happen to where they are needed, and loses none.
//!
//! The modules, in the order of a change's walk:

pub mod config;

pub mod event;
// A source reads a change and makes it an event,
pub mod source;
// stamps it with the hybrid clock,
pub mod clock;
// the pipeline takes it (on a device into the durable spool),
#[cfg(feature = "source-mysql")]
pub mod checkpoint;
pub mod pipeline;
#[cfg(feature = "spool")]
pub mod spool;
// a device frames it and ships it over MQTT on a QUIC or TLS link under its identity,
pub mod frame;
pub mod identity;
#[cfg(feature = "tls")]
pub mod link;
#[cfg(feature = "mqtt")]
pub mod mqtt;
// and a sink writes it where it is needed, in one of the text forms.
pub mod codec;
pub mod sink;

// The engine joins them as a config says.
pub mod engine;

// Which connectors there are, the commands, what dts says of itself, and the one room with a clock.
pub mod cli;
pub mod control;
#[allow(dead_code, reason = "only the parts that ship or store look at it")]
mod planted;
pub mod registry;
pub mod runtime;
pub mod telemetry;

// What `fuzz/` calls. Its kept inputs are replayed by plain `cargo test`.
#[cfg(any(feature = "fuzzing", all(test, feature = "full")))]
#[doc(hidden)]
pub mod fuzzing;

// Devices, links and the centre under simulated faults.
#[cfg(all(test, feature = "sink-centre", feature = "source-devices", feature = "sink-sqlite"))]
#[path = "../tests/sim/mod.rs"]
mod sim;
