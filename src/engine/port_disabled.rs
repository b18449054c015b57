//! The HTTP port, where it is not compiled in: a config that asks for it is refused by name.

use super::EngineError;
use crate::config::Plan;
use crate::runtime::Stop;
use crate::telemetry::Readiness;

pub(super) async fn start(plan: &Plan, _ready: &Readiness, _stop: &Stop) -> Result<(), EngineError> {
    match &plan.http {
        None => Ok(()),
        Some(_) => Err(EngineError::Other(
            "`http:` is not compiled in: rebuild with `--features http-port`, or remove the section"
                .to_owned(),
        )),
    }
}
