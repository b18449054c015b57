//! What dts says about itself: metrics ([`count`], [`gauge`], [`observe`]), the HTTP port, logs.

pub mod log;
mod metrics;
mod names;
#[cfg(feature = "http-port")]
pub mod port;
mod ready;

pub use metrics::{count, expose, gauge, observe, value};
pub use ready::Readiness;
