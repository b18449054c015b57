//! From the config's words to the spool's.

use std::time::Duration;

use crate::config::Plan;
use crate::config::plan::{self, BufferPlan, LanePlan};
use crate::runtime::boot_id;
use crate::spool::{Class, KeepAcked, LaneOptions, Options, Policy};

/// A source waits at a full lane as long as it takes: what it read cannot be read again. One that must answer sooner
/// (HTTP) has a time limit of its own.
const PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn of(plan: &Plan, buffer: &BufferPlan) -> Options {
    let device = plan.device.name.as_deref().unwrap_or("local");
    let mut options = Options::new(&buffer.path, device);
    options.lanes = buffer.lanes.iter().map(lane).collect();
    options.max_bytes = buffer.max_bytes;
    options.reserve_bytes = buffer.reserve_bytes;
    options.max_body_bytes = usize::try_from(buffer.max_batch_bytes).unwrap_or(usize::MAX);
    options.memory_bytes = usize::try_from(buffer.max_memory_bytes).unwrap_or(usize::MAX);
    options.block_wait = PATIENCE;
    options.boot = boot_id();
    options
}

fn lane(plan: &LanePlan) -> LaneOptions {
    LaneOptions {
        name: plan.name.clone(),
        class: match plan.class {
            plan::Class::Fsync => Class::Fsync,
            plan::Class::Delayed => Class::Delayed,
            plan::Class::Ram => Class::Ram,
        },
        commit_interval: plan.commit_interval,
        weight: plan.weight,
        max_bytes: plan.max_bytes,
        max_age: plan.max_age,
        policy: match &plan.policy {
            plan::Policy::Block => Policy::Block,
            plan::Policy::DropOldest => Policy::DropOldest,
            plan::Policy::Compact => Policy::Compact,
            plan::Policy::Downsample { every, fields } => Policy::Downsample {
                every: *every,
                fields: fields.iter().map(|(name, keep)| (name.clone(), keep_of(*keep))).collect(),
            },
        },
        keep_acked: plan.keep_acked.map(|k| KeepAcked { max_bytes: k.max_bytes, max_age: k.max_age }),
    }
}

fn keep_of(keep: plan::Keep) -> crate::spool::options::Keep {
    use crate::spool::options::Keep;
    match keep {
        plan::Keep::First => Keep::First,
        plan::Keep::Last => Keep::Last,
        plan::Keep::Min => Keep::Min,
        plan::Keep::Max => Keep::Max,
        plan::Keep::Mean => Keep::Mean,
    }
}
