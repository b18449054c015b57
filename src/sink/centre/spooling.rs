//! What the driver asks of the spool, done in order by one task: an acknowledgement is there before the release that
//! follows it, a release before the read of the next session.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::session::{Action, Input};
use crate::runtime::{Task, sleep, spawn};
use crate::spool::{CentreView, Spool, SpoolError, Stats, StoredId};
use crate::telemetry::count;

/// Pause before the spool is asked again when its disk does not work.
const RETRY: Duration = Duration::from_millis(500);

/// What the spool answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// For the session of that number.
    Input(u64, Input),
    /// Numbers.
    Stats(Stats),
    /// There may be something new to read.
    Changed,
    /// The spool is closed or unusable for good.
    Over(SpoolError),
}

#[derive(Debug)]
enum Job {
    Reconcile { lane: usize, view: CentreView },
    Read { lane: usize, after: Option<StoredId>, max_bytes: usize },
    Ack { lane: usize, ids: Vec<StoredId> },
    SetAside { lane: usize, id: StoredId, reason: String, exact: bool },
    Release,
    Stats,
}

/// The two tasks that speak with the spool, and their queue.
#[derive(Debug)]
pub(super) struct Jobs {
    queue: async_channel::Sender<(u64, Job)>,
    /// The session whose questions are still of interest; others are answered by nobody.
    current: Rc<Cell<u64>>,
    _worker: Task<()>,
    _watcher: Task<()>,
}

impl Jobs {
    /// `lanes` give the names behind the indexes; `say` hands an answer to the driver.
    pub(super) fn start<F>(
        spool: &Spool,
        lanes: Vec<Arc<str>>,
        say: impl Fn(Answer) -> F + Clone + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        // A session has at most one read a lane, and acknowledgements for its window.
        let (queue, jobs) = async_channel::unbounded::<(u64, Job)>();
        let current = Rc::new(Cell::new(0));
        let worker = Worker { spool: spool.clone(), lanes, current: current.clone() };
        let tell = say.clone();
        let worker = spawn(async move {
            while let Ok((session, job)) = jobs.recv().await {
                match worker.work(session, job).await {
                    Ok(Some(answer)) => tell(answer).await,
                    Ok(None) => {}
                    Err(e) => return tell(Answer::Over(e)).await,
                }
            }
        });
        let watched = spool.clone();
        let watcher = spawn(async move {
            loop {
                watched.changed().await;
                say(Answer::Changed).await;
            }
        });
        Self { queue, current, _worker: worker, _watcher: watcher }
    }

    /// From now on only this session's questions matter; what was handed out and not acknowledged is to be
    /// handed out again.
    pub(super) fn begin(&self, session: u64) {
        self.current.set(session);
        self.push(session, Job::Release);
    }

    /// No session: its questions are of no interest any more.
    pub(super) fn pause(&self) {
        self.current.set(0);
        self.push(0, Job::Release);
    }

    /// Executes an action of a session if it is the spool's. Gives it back if not.
    pub(super) fn take(&self, session: u64, action: Action) -> Option<Action> {
        let job = match action {
            Action::Reconcile { lane, view } => Job::Reconcile { lane, view },
            Action::Read { lane, after, max_bytes } => Job::Read { lane, after, max_bytes },
            Action::Ack { lane, ids } => Job::Ack { lane, ids },
            Action::SetAside { lane, id, reason, exact } => Job::SetAside { lane, id, reason, exact },
            other => return Some(other),
        };
        self.push(session, job);
        None
    }

    /// Asks for [`Answer::Stats`].
    pub(super) fn ask_stats(&self) {
        self.push(0, Job::Stats);
    }

    /// Waits until everything asked so far was done.
    pub(super) async fn finish(self) {
        let Self { queue, _worker, .. } = self;
        queue.close();
        _worker.await;
    }

    fn push(&self, session: u64, job: Job) {
        // If the worker is gone it has said why.
        let _gone = self.queue.try_send((session, job));
    }
}

/// Lets only the end of the spool through; everything else it has logged itself.
fn ended(result: Result<(), SpoolError>) -> Result<(), SpoolError> {
    match result {
        Err(e @ SpoolError::Stopped) => Err(e),
        _ => Ok(()),
    }
}

struct Worker {
    spool: Spool,
    lanes: Vec<Arc<str>>,
    current: Rc<Cell<u64>>,
}

impl Worker {
    async fn work(&self, session: u64, job: Job) -> Result<Option<Answer>, SpoolError> {
        let input = |input| Ok(Some(Answer::Input(session, input)));
        match job {
            Job::Stats => Ok(Some(Answer::Stats(self.spool.stats().await?))),
            Job::Release => {
                for lane in &self.lanes {
                    ended(self.spool.release(lane).await)?;
                }
                Ok(None)
            }
            Job::Ack { lane, ids } => {
                let Some(lane) = self.lanes.get(lane) else { return Ok(None) };
                // What is not acknowledged is sent again by the next session, and known to the centre.
                ended(self.spool.ack(lane, ids).await)?;
                Ok(None)
            }
            Job::SetAside { lane, id, reason, exact } => {
                // Whatever became of the session: the next one would meet the same batch.
                while let Err(e) = self.spool.set_aside(id, &reason, exact).await {
                    ended(Err(e))?;
                    sleep(RETRY).await;
                }
                input(Input::SetAside { lane })
            }
            Job::Reconcile { lane, view } => {
                let Some(name) = self.lanes.get(lane) else { return Ok(None) };
                let Some(done) = self.retry(session, || self.spool.reconcile(name, view.clone())).await?
                else {
                    return Ok(None);
                };
                if !done.restamped.is_empty() {
                    count("dts_ship_restamped_epochs_total", &[("lane", name)], done.restamped.len() as u64);
                }
                input(Input::Reconciled { lane })
            }
            Job::Read { lane, after, max_bytes } => {
                let Some(name) = self.lanes.get(lane) else { return Ok(None) };
                match self.retry(session, || self.spool.read(name, after, max_bytes)).await? {
                    Some(batches) => input(Input::Batches { lane, batches }),
                    None => Ok(None),
                }
            }
        }
    }

    /// Again and again while the disk does not work and the session lives. `None` if it is over, or there is no
    /// such lane any more.
    async fn retry<T, F: Future<Output = Result<T, SpoolError>>>(
        &self,
        session: u64,
        ask: impl Fn() -> F,
    ) -> Result<Option<T>, SpoolError> {
        while self.current.get() == session {
            match ask().await {
                Ok(done) => return Ok(Some(done)),
                Err(SpoolError::NoLane(_)) => return Ok(None),
                Err(e @ SpoolError::Stopped) => return Err(e),
                Err(e) => {
                    log::debug!("buffer: {e}");
                    sleep(RETRY).await;
                }
            }
        }
        Ok(None)
    }
}
