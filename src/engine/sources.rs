//! One source: started, watched, started again after an error that is worth it.

use std::time::Duration;

use super::EngineError;
use crate::config::plan::SourcePlan;
use crate::runtime::{self, Stop};
use crate::source::{Outlet, SourceError};
use crate::telemetry;

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A source that ran this long starts its pauses anew.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Runs one source until `stop` or its end. `outlet` is made anew for each try, since what is stored of it may have
/// changed.
pub(super) async fn supervise(
    plan: &SourcePlan,
    outlet: impl Fn() -> Outlet,
    stop: Stop,
) -> Result<(), EngineError> {
    let fail = |error| EngineError::Source { name: plan.name.to_string(), error };
    let (mut pause, mut rng) = (MIN_PAUSE, runtime::rng());
    loop {
        let source = plan.config.build(&plan.name).map_err(fail)?;
        let started = runtime::mono_now();
        match source.run(outlet(), stop.clone()).await {
            Ok(()) => return Ok(()),
            Err(error @ SourceError::Fatal(_)) => return Err(fail(error)),
            Err(SourceError::Retry(_)) if stop.is_set() => return Ok(()),
            Err(SourceError::Retry(why)) => {
                if runtime::mono_now().since(started) > WELL_AFTER {
                    pause = MIN_PAUSE;
                }
                let wait = pause.mul_f64(0.5 + 0.5 * rng.f64());
                telemetry::count("dts_source_restarts_total", &[("source", &plan.name)], 1);
                log::warn!("source `{}`: {why}; again in {} ms", plan.name, wait.as_millis());
                if stop.or(runtime::sleep(wait)).await.is_none() {
                    return Ok(());
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}
