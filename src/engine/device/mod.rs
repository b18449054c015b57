//! Sources → spool → a centre, or → pipeline → sinks.
//!
//! Each source has its own way into the spool, with credit of its own: a full lane holds up the sources that write
//! to it and no other. The spool is emptied by [`ship`] where the sink is a centre, else by [`drain`].

pub(crate) mod buffer;
mod drain;
pub(crate) mod intake;
mod options;
#[cfg(feature = "sink-centre")]
mod ship;
#[cfg(not(feature = "sink-centre"))]
#[path = "ship_disabled.rs"]
mod ship;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::direct::watch_sources;
use super::{EngineError, Seen, answers, sources};
use crate::config::Plan;
use crate::identity::Identity;
use crate::runtime::{self, Stop};
use crate::source::Outlet;
use crate::spool::{Opened, Spool};

/// Where every source goes on after a restart, its own or that of dts: what was stored last.
#[derive(Debug, Default)]
pub(crate) struct Positions(RefCell<Vec<crate::spool::Position>>);

impl Positions {
    fn of(&self, source: &str) -> Arc<[(Box<str>, Box<[u8]>)]> {
        let all = self.0.borrow();
        let of_it = all.iter().filter(|(name, ..)| **name == *source);
        of_it.map(|(_, key, value)| (key.clone(), value.clone())).collect()
    }

    /// What came with a batch that is stored now.
    fn stored(&self, source: &Arc<str>, positions: Vec<(Box<str>, Box<[u8]>)>) {
        let mut all = self.0.borrow_mut();
        for (key, value) in positions {
            match all.iter_mut().find(|(name, k, _)| *name == *source && *k == key) {
                Some((_, _, old)) => *old = value,
                None => all.push((source.clone(), key, value)),
            }
        }
    }
}

pub(super) async fn run(plan: Rc<Plan>, seen: Seen, stop: Stop) -> Result<(), EngineError> {
    let identity = open_identity(&plan)?;
    let clock = ship::Clock::start(&plan, &identity)?;
    let buffer =
        plan.buffer.as_ref().ok_or_else(|| EngineError::Other("no buffer in the plan".to_owned()))?;
    let options = options::of(&plan, buffer);
    let max_row_bytes = options.max_row_bytes();
    let (spool, opened) = Spool::start(options, epochs(identity.clone()))
        .map_err(|error| EngineError::Other(format!("buffer: {error}")))?;
    report(&opened);
    answers::start(&plan, &seen, spool.clone(), &stop).await?;
    let positions = Rc::new(Positions(RefCell::new(opened.positions)));

    let (inputs, stop_inputs) = Stop::new();
    let mut running = Vec::new();
    for index in 0..plan.sources.len() {
        let (plan, spool, positions) = (plan.clone(), spool.clone(), positions.clone());
        let (stop, stamp, tap) = (stop_inputs.clone(), clock.stamp(), seen.tap.clone());
        running.push(runtime::spawn(async move {
            let Some(source) = plan.sources.get(index) else { return Ok(()) };
            let (tx, intake) =
                intake::start(spool, source.name.clone(), max_row_bytes, tap, positions.clone());
            let outlet = || {
                let of_it = positions.of(&source.name);
                let (name, lane) = (source.name.clone(), source.lane.clone());
                Outlet::new(name, lane, stamp.clone(), max_row_bytes, of_it, tx.clone())
            };
            let ended = sources::supervise(source, outlet, stop).await;
            drop(tx);
            intake.await;
            ended
        }));
    }
    // The way out goes on until the inputs are done, so that what they hand on at the end is at least on disk.
    let (out, stop_out) = Stop::new();
    let failed: Rc<RefCell<Option<EngineError>>> = Rc::default();
    let way_out = runtime::spawn({
        let (plan, spool, failed, stop_inputs) = (plan.clone(), spool.clone(), failed.clone(), stop.clone());
        async move {
            let result = if plan.is_agent() {
                ship::run(&plan, spool, identity, &clock, stop_out).await
            } else {
                drain::run(&plan, spool, &seen.ready, stop_out).await
            };
            // Inputs go on while the way out is shut only if somebody may open it again.
            if let Err(error) = result {
                failed.replace(Some(error));
            }
            drop(stop_inputs);
        }
    });
    let watched = watch(running, inputs, &stop, &failed).await;
    if !stop.is_set() && watched.is_ok() && failed.borrow().is_none() {
        // Standard input came to its end: what is buffered goes out first.
        drain::until_empty(&spool, &stop).await;
    }
    out.stop();
    way_out.await;
    spool.stop().await.map_err(|error| EngineError::Other(format!("buffer: {error}")))?;
    watched?;
    match failed.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Waits for the sources; a way out that failed for good ends them too.
async fn watch(
    running: Vec<runtime::Task<Result<(), EngineError>>>,
    inputs: runtime::Stopper,
    stop: &Stop,
    failed: &Rc<RefCell<Option<EngineError>>>,
) -> Result<(), EngineError> {
    let (both, stop_either) = Stop::new();
    let (stop, failed) = (stop.clone(), failed.clone());
    let _watcher = runtime::spawn(async move {
        while failed.borrow().is_none() {
            if stop.or(runtime::sleep(std::time::Duration::from_millis(200))).await.is_none() {
                break;
            }
        }
        both.stop();
    });
    watch_sources(running, &stop_either, inputs).await
}

/// New epochs come from the identity file, on the spool's thread.
pub(crate) fn epochs(identity: Arc<Mutex<Identity>>) -> crate::spool::Epochs {
    let mut rng = runtime::rng();
    Box::new(move |at_least| {
        // A panic cannot leave it half-changed: it is written to disk first.
        let mut identity = identity.lock().unwrap_or_else(PoisonError::into_inner);
        identity.next_epoch(at_least, &mut rng).map_err(|error| error.to_string())
    })
}

fn open_identity(plan: &Plan) -> Result<Arc<Mutex<Identity>>, EngineError> {
    let identity = Identity::open(&plan.device.state_dir, &mut runtime::rng());
    let identity = identity.map_err(|error| EngineError::Other(format!("identity: {error}")))?;
    Ok(Arc::new(Mutex::new(identity)))
}

fn report(opened: &Opened) {
    for file in &opened.quarantined {
        log::error!("buffer: {file} is damaged and was put aside; what could be read of it is kept");
        crate::telemetry::count("dts_spool_quarantined_total", &[], 1);
    }
    if opened.unclean {
        log::info!("buffer: the last run did not end in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_is_restarted_goes_on_where_it_was_stored_last() {
        let at = |key: &str, value: &[u8]| (Box::from(key), Box::from(value));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let positions = Positions(RefCell::new(vec![(a.clone(), "file".into(), Box::from(&b"1"[..]))]));
        positions.stored(&a, vec![at("file", b"2"), at("other", b"7")]);
        positions.stored(&b, vec![at("file", b"9")]);
        positions.stored(&a, vec![at("file", b"3")]);
        assert_eq!(*positions.of("a"), [at("file", b"3"), at("other", b"7")]);
        assert_eq!(*positions.of("b"), [at("file", b"9")]);
        assert!(positions.of("c").is_empty());
    }
}
