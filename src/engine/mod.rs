//! Joins the parts as a plan says, and runs them until they are told to stop.
//!
//! | file | what runs |
//! |---|---|
//! | `direct` | sources → pipeline → sinks: the centre, and whatever needs no buffer |
//! | `device` | sources → spool → a centre, or → pipeline → sinks |
//! | `sources` | one source: started, watched, started again |

mod answers;
mod direct;
mod sources;

use std::rc::Rc;

use crate::config::Plan;
use crate::control::Tap;
use crate::runtime::Stop;
use crate::telemetry::Readiness;

/// Why a run ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A source cannot go on.
    #[error("source `{name}`: {error}")]
    Source {
        /// Name in the config.
        name: String,
        /// What it said.
        error: crate::source::SourceError,
    },
    /// A sink cannot be opened, or cannot go on.
    #[error("sink `{name}`: {error}")]
    Sink {
        /// Name in the config.
        name: String,
        /// What it said.
        error: crate::sink::SinkError,
    },
    /// The reader of a sink has gone away: the end, and no failure.
    #[error("{0}")]
    Closed(String),
    /// Something else that the message names, with what to do.
    #[error("{0}")]
    Other(String),
}

impl From<crate::pipeline::PipelineError> for EngineError {
    fn from(error: crate::pipeline::PipelineError) -> Self {
        match error {
            crate::pipeline::PipelineError::Sink { sink, error } => Self::Sink { name: sink, error },
            crate::pipeline::PipelineError::Closed(why) => Self::Closed(why),
        }
    }
}

/// Runs `plan` until `stop`, or until every source came to its end, or until something cannot go on.
pub async fn run(plan: Plan, stop: Stop) -> Result<(), EngineError> {
    make_state_dir(&plan)?;
    let plan = Rc::new(plan);
    let seen = Seen::default();
    if !plan.is_agent() {
        // Before anybody can ask.
        seen.ready.set("sinks", Some("being opened"));
    }
    port::start(&plan, &seen.ready, &stop).await?;
    announce();
    if plan.buffer.is_some() {
        device::run(plan, seen, stop).await
    } else {
        direct::run(plan, seen, stop).await
    }
}

#[cfg(feature = "spool")]
pub(crate) mod device;
#[cfg(not(feature = "spool"))]
#[path = "device_disabled.rs"]
mod device;
#[cfg(feature = "source-devices")]
mod marks;
#[cfg(not(feature = "source-devices"))]
#[path = "marks_disabled.rs"]
mod marks;
#[cfg(feature = "http-port")]
mod port;
#[cfg(not(feature = "http-port"))]
#[path = "port_disabled.rs"]
mod port;

/// What can be looked at from outside while it runs.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// What is not ready.
    ready: Readiness,
    /// Rows as they pass.
    tap: Tap,
}

/// Only its user may look into it: it holds the identity and the data.
fn make_state_dir(plan: &Plan) -> Result<(), EngineError> {
    use std::os::unix::fs::DirBuilderExt;
    let dir = &plan.device.state_dir;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        EngineError::Other(format!("make {}: {error}; name another device.state_dir", dir.display()))
    })
}

fn announce() {
    let now = crate::runtime::wall_now_us() as f64 / 1e6;
    crate::telemetry::gauge("dts_start_time_seconds", &[], now);
    crate::telemetry::gauge("dts_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
}
