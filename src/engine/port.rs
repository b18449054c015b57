//! The HTTP port, where it is compiled in.

use super::EngineError;
use crate::config::Plan;
use crate::runtime::{Stop, spawn};
use crate::telemetry::Readiness;
use crate::telemetry::port::{bind, serve};

/// Binds the port if the plan has one, so that a taken port is an error at start.
pub(super) async fn start(plan: &Plan, ready: &Readiness, stop: &Stop) -> Result<(), EngineError> {
    if let Some(http) = &plan.http {
        let listener = bind(http.listen, &http.token).await.map_err(EngineError::Other)?;
        log::info!("metrics and health on http://{}", http.listen);
        spawn(serve(listener, http.token.clone(), ready.clone(), stop.clone())).detach();
    }
    Ok(())
}
