//! Sources → pipeline → sinks, without a buffer between.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{EngineError, Seen, answers, sources};
use crate::clock::Stamp;
use crate::config::Plan;
use crate::config::plan::SinkPlan;
use crate::pipeline::core::Limits;
use crate::pipeline::{self, NamedSink};
use crate::runtime::{self, Stop, wall_now_us};
use crate::sink::{Mark, Sink, SinkError};
use crate::source::{Claim, Outlet, Submission};

/// Submissions that wait for the pipeline to take them; its own credit bounds what it has taken.
const QUEUE: usize = 64;
/// First pause before a sink that could not be opened is tried again; doubled each time, and the one that is not waited
/// for any more.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Largest row that a source without a frame in its way may hand on.
const MAX_ROW_BYTES: usize = 64 << 20;

pub(super) async fn run(plan: Rc<Plan>, seen: Seen, stop: Stop) -> Result<(), EngineError> {
    answers::start(&plan, &seen, answers::Nothing, &stop).await?;
    let Some(sinks) = stop.or(open_sinks(&plan)).await else { return Ok(()) };
    let mut sinks = sinks?;
    // Watermarks that a sink cannot store are kept beside the state; those returned are what every sink has reached.
    let (keep, marks) = super::marks::load(&plan, &mut sinks).await?;
    let claims = claims(&plan, &mut sinks);
    seen.ready.set("sinks", None);
    let marks: Arc<[Mark]> = marks.into();
    let (tx, submissions) = async_channel::bounded::<Submission>(QUEUE);
    // A source that fails ends the others too.
    let (all, stop_sources) = Stop::new();
    let mut running = Vec::new();
    for index in 0..plan.sources.len() {
        let (plan, tx, marks, stop) = (plan.clone(), tx.clone(), marks.clone(), stop_sources.clone());
        let claims = claims.clone();
        running.push(runtime::spawn(async move {
            let Some(source) = plan.sources.get(index) else { return Ok(()) };
            let outlet = || {
                let (name, lane) = (source.name.clone(), source.lane.clone());
                let outlet = Outlet::new(name, lane, wall_stamp(), MAX_ROW_BYTES, Arc::new([]), tx.clone());
                outlet
                    .with_marks(marks.clone())
                    .with_claims(claims.clone())
                    .with_state_dir(&plan.device.state_dir)
            };
            sources::supervise(source, outlet, stop).await
        }));
    }
    drop((tx, claims));
    let pipeline = runtime::spawn(pipeline::run(
        sinks,
        keep,
        Limits::default(),
        submissions,
        seen.tap,
        stop_sources.clone(),
    ));
    let sources = watch_sources(running, &stop, all);
    let (from_sources, from_pipeline) = both(sources, pipeline).await;
    from_pipeline?;
    from_sources
}

/// Where sessions are claimed, if the only sink is shared with other nodes.
fn claims(plan: &Plan, sinks: &mut [NamedSink]) -> Option<async_channel::Sender<Claim>> {
    plan.sources.iter().find(|source| source.config.has_other_nodes())?;
    // The config was refused if there were more.
    let sink = sinks.first_mut()?;
    let (tx, rx) = async_channel::bounded(QUEUE);
    sink.claims = Some(rx);
    Some(tx)
}

/// Stamps rows that are made here with the system's clock; a centre's is disciplined.
pub(super) fn wall_stamp() -> Stamp {
    Stamp::new(|| ((wall_now_us() / 1000).max(0) as u64) << 16)
}

/// Waits for all sources. The first that fails, or `stop`, ends the others.
pub(super) async fn watch_sources(
    running: Vec<runtime::Task<Result<(), EngineError>>>,
    stop: &Stop,
    all: runtime::Stopper,
) -> Result<(), EngineError> {
    let (tx, rx) = async_channel::unbounded();
    let count = running.len();
    for task in running {
        let tx = tx.clone();
        runtime::spawn(async move { tx.send(task.await).await.ok() }).detach();
    }
    let mut result = Ok(());
    for _ in 0..count {
        let ended =
            if result.is_ok() && !stop.is_set() { stop.or(rx.recv()).await } else { Some(rx.recv().await) };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                all.stop();
                rx.recv().await
            }
        };
        if let Ok(Err(error)) = ended
            && result.is_ok()
        {
            result = Err(error);
            all.stop();
        }
    }
    result
}

/// Runs two futures until both are done; if the second ends with an error it does not wait for the first.
async fn both<E>(
    sources: impl Future<Output = Result<(), EngineError>>,
    pipeline: impl Future<Output = Result<(), E>>,
) -> (Result<(), EngineError>, Result<(), E>) {
    use futures_lite::FutureExt;
    enum First<E> {
        Sources(Result<(), EngineError>),
        Pipeline(Result<(), E>),
    }
    let (mut sources, mut pipeline) = (Box::pin(sources), Box::pin(pipeline));
    let first = async { First::Sources((&mut sources).await) };
    let first = first.or(async { First::Pipeline((&mut pipeline).await) }).await;
    match first {
        First::Sources(result) => (result, pipeline.await),
        First::Pipeline(Ok(())) => (sources.await, Ok(())),
        First::Pipeline(Err(error)) => (Ok(()), Err(error)),
    }
}

/// Opens a sink. One that may be well soon (a disk that failed a write) gets some seconds; what stays wrong ends dts, and
/// who watches it sees that.
async fn open(sink: &SinkPlan) -> Result<Box<dyn Sink>, SinkError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match sink.config.open(&sink.name).await {
            Err(SinkError::Retry(why)) if pause < LAST_PAUSE => {
                log::warn!("sink `{}`: {why}; next try in {pause:?}", sink.name);
                runtime::sleep(pause).await;
                pause *= 2;
            }
            other => return other,
        }
    }
}

/// Opens every sink.
pub(super) async fn open_sinks(plan: &Plan) -> Result<Vec<NamedSink>, EngineError> {
    let mut sinks = Vec::new();
    for sink in &plan.sinks {
        let fail = |error| EngineError::Sink { name: sink.name.to_string(), error };
        let opened = open(sink).await.map_err(fail)?;
        sinks.push(NamedSink { name: sink.name.to_string(), sink: opened, marks: Vec::new(), claims: None });
    }
    Ok(sinks)
}
