//! Empties the spool towards a centre.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Stamp, TimeKeeper};
use crate::config::Plan;
use crate::engine::EngineError;
use crate::identity::Identity;
use crate::link::TrustTime;
use crate::runtime::{Stop, boot_id, mono_now, wall_now_us};
use crate::sink::centre::{self, Agent};
use crate::spool::Spool;

/// The agent's time: told by the centre, or the machine's own where there is no centre to tell it.
pub(super) struct Clock {
    keeper: Rc<RefCell<TimeKeeper>>,
    trust: TrustTime,
}

impl Clock {
    pub(super) fn start(plan: &Plan, identity: &Arc<Mutex<Identity>>) -> Result<Self, EngineError> {
        let memory = lock(identity).memory().clone();
        let trust = TrustTime::unknown(memory.floor_s);
        let mut keeper =
            TimeKeeper::new(mono_now(), boot_id(), wall_now_us(), &memory.boots, trust.floor_s());
        if !plan.is_agent() {
            // Nobody will tell it the time: the machine's clock is all there is.
            keeper.local(mono_now(), wall_now_us(), Duration::from_secs(1));
        }
        Ok(Self { keeper: Rc::new(RefCell::new(keeper)), trust })
    }

    pub(super) fn stamp(&self) -> Stamp {
        crate::clock::stamp(&self.keeper, mono_now)
    }
}

fn lock(identity: &Arc<Mutex<Identity>>) -> MutexGuard<'_, Identity> {
    // A panic cannot leave it half-changed: it is written to disk first.
    identity.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn run(
    plan: &Plan,
    spool: Spool,
    identity: Arc<Mutex<Identity>>,
    clock: &Clock,
    stop: Stop,
) -> Result<(), EngineError> {
    let sink = plan.sinks.iter().find(|s| s.kind == "centre");
    let config = sink.and_then(|s| s.config.as_centre()).and_then(|c| c.downcast_ref::<centre::Config>());
    let (Some(sink), Some(config)) = (sink, config) else {
        return Err(EngineError::Other("the plan has no sink `centre`".to_owned()));
    };
    let device =
        plan.device.name.clone().ok_or_else(|| EngineError::Other("device.name is missing".to_owned()))?;
    let max_stored_bytes = plan.buffer.as_ref().map_or(usize::MAX, |b| b.max_batch_bytes as usize);
    let agent = Agent {
        device,
        identity: identity.clone(),
        keeper: clock.keeper.clone(),
        trust: clock.trust.clone(),
        boot: boot_id(),
        max_stored_bytes,
        data_dir: Some(plan.device.state_dir.clone()),
    };
    let shipping = centre::run(spool, config, agent, stop);
    let result = shipping.await;
    result.map_err(|error| EngineError::Sink { name: sink.name.to_string(), error })
}
