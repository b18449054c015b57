//! What dts says about itself: metrics ([`count`], [`gauge`], [`observe`]), the HTTP port, logs.
//!
//! Without `http-port` nobody can ask for metrics, and none are kept.

pub mod log;
#[cfg_attr(not(feature = "http-port"), path = "metrics_disabled.rs")]
mod metrics;
mod names;
#[cfg(feature = "http-port")]
pub mod port;
mod ready;

pub use metrics::{count, expose, gauge, observe, value};
pub use ready::Readiness;
