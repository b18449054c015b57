//! What the engine answers on the control socket.

use std::rc::Rc;

use super::{EngineError, Seen};
use crate::config::Plan;
use crate::control::{self, Answers};
use crate::event::Batch;
use crate::runtime::{LocalFuture, Mono, Stop, mono_now};
use crate::telemetry::Readiness;

/// The part of the answers that depends on what runs.
pub(super) trait Buffer {
    /// How full it is; an error if there is none.
    fn stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>>;
    /// Its oldest batches.
    fn peek(&self, lane: Option<String>, limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>>;
}

/// No buffer.
pub(super) struct Nothing;

impl Buffer for Nothing {
    fn stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>> {
        Box::pin(async { Err("this dts runs without a buffer".to_owned()) })
    }

    fn peek(&self, _lane: Option<String>, _limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>> {
        Box::pin(async { Err("this dts runs without a buffer".to_owned()) })
    }
}

struct Engine<B> {
    buffer: B,
    ready: Readiness,
    started: Mono,
    device: Option<String>,
    names: serde_json::Value,
}

impl<B: Buffer> Answers for Engine<B> {
    fn health(&self) -> LocalFuture<'_, serde_json::Value> {
        Box::pin(async {
            let mut problems = self.ready.missing();
            let buffer = self.buffer.stats().await.ok();
            if let Some(buffer) = &buffer {
                for (field, problem) in
                    [("disk_full", "the disk is full"), ("down", "the buffer cannot be used")]
                {
                    if buffer[field] == true {
                        problems.push(format!("buffer: {problem}"));
                    }
                }
            }
            serde_json::json!({
                "status": if problems.is_empty() { "ok" } else { "degraded" },
                "problems": problems,
                "version": env!("CARGO_PKG_VERSION"),
                "device": self.device,
                "uptime_s": mono_now().since(self.started).as_secs(),
                "runs": self.names,
                "buffer": buffer,
            })
        })
    }

    fn spool_stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>> {
        self.buffer.stats()
    }

    fn spool_peek(&self, lane: Option<String>, limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>> {
        self.buffer.peek(lane, limit)
    }
}

/// Starts the control socket.
pub(super) async fn start(
    plan: &Plan,
    seen: &Seen,
    buffer: impl Buffer + 'static,
    stop: &Stop,
) -> Result<(), EngineError> {
    let names = serde_json::json!({
        "sources": plan.sources.iter().map(|s| &*s.name).collect::<Vec<_>>(),
        "sinks": plan.sinks.iter().map(|s| &*s.name).collect::<Vec<_>>(),
    });
    let device = plan.device.name.as_deref().map(str::to_owned);
    let engine = Engine { buffer, ready: seen.ready.clone(), started: mono_now(), device, names };
    let socket = control::socket(&plan.device.state_dir);
    let served = control::serve(&socket, Rc::new(engine), seen.tap.clone(), stop.clone()).await;
    served.map_err(EngineError::Other)
}
