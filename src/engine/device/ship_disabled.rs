//! The way to a centre, where it is not compiled in. The registry refuses such a config by name before this is reached.

use std::sync::{Arc, Mutex};

use crate::clock::Stamp;
use crate::config::Plan;
use crate::engine::EngineError;
use crate::identity::Identity;
use crate::runtime::Stop;
use crate::spool::Spool;

/// The machine's own clock: nobody will tell it the time.
pub(super) struct Clock;

impl Clock {
    #[expect(clippy::unnecessary_wraps, reason = "the other build can fail")]
    pub(super) fn start(_plan: &Plan, _identity: &Arc<Mutex<Identity>>) -> Result<Self, EngineError> {
        Ok(Self)
    }

    pub(super) fn stamp(&self) -> Stamp {
        crate::engine::direct::wall_stamp()
    }
}

pub(super) async fn run(
    _plan: &Plan,
    _spool: Spool,
    _identity: Arc<Mutex<Identity>>,
    _clock: &Clock,
    _stop: Stop,
) -> Result<(), EngineError> {
    Err(EngineError::Other("`centre` is not compiled in: rebuild with `--features sink-centre`".to_owned()))
}
