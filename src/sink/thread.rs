//! A sink whose work blocks (files, SQLite): it lives on a named thread of its own and is asked over
//! a channel, one job at a time.

use std::fmt;
use std::sync::Arc;

use async_channel::{Receiver, Sender};

use super::{Abilities, Claimed, Mark, Sink, SinkError};
use crate::event::Batch;
use crate::runtime::{LocalFuture, timeout};

/// Plenty for SQLite and for encoding a row.
const STACK_BYTES: usize = 512 << 10;

/// How long [`Sink::close`] waits for a thread that is stuck in a system call.
const CLOSE_LIMIT: std::time::Duration = std::time::Duration::from_millis(950);

/// Where a job's result goes. Send with [`answer`].
pub(super) type Reply<T> = Sender<Result<T, SinkError>>;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// [`Sink::write`]. Only a sink that keeps marks looks at them.
    #[allow(dead_code)]
    Write(Vec<Batch>, Vec<Mark>, Reply<()>),
    /// [`Sink::marks`].
    Marks(Reply<Vec<Mark>>),
    /// [`Sink::claim`]. Only a sink that shares its state knows it.
    #[allow(dead_code)]
    Claim(Arc<str>, Reply<Claimed>),
    /// [`Sink::probe`].
    Probe(Reply<String>),
    /// [`Sink::close`]: the last job.
    Close(Reply<()>),
}

/// Sends a result to whoever waits for it; nobody may.
pub(super) fn answer<T>(reply: &Reply<T>, result: Result<T, SinkError>) {
    // The asker may have been cancelled: then nobody wants to know.
    drop(reply.try_send(result));
}

/// What a sink that shares nothing says to [`Job::Claim`].
#[allow(dead_code)]
pub(super) fn unshared() -> SinkError {
    SinkError::Fatal("this sink shares nothing with other nodes".to_owned())
}

/// The sink's end of the channel.
pub(super) struct ThreadSink {
    name: &'static str,
    abilities: Abilities,
    jobs: Sender<Job>,
}

impl fmt::Debug for ThreadSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadSink").field("name", &self.name).field("abilities", &self.abilities).finish()
    }
}

impl ThreadSink {
    /// Starts the thread `name` with `body`, which opens what it needs, answers the reply once, and then
    /// works off the jobs until the channel closes or a [`Job::Close`] comes.
    pub(super) async fn start(
        name: &'static str,
        abilities: Abilities,
        body: impl FnOnce(Receiver<Job>, Reply<()>) + Send + 'static,
    ) -> Result<Box<dyn Sink>, SinkError> {
        let (jobs, rx) = async_channel::bounded(abilities.writes_under_way.max(1));
        let (opened, open) = async_channel::bounded(1);
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || body(rx, opened))
            .map_err(|e| SinkError::Retry(format!("start thread {name}: {e}")))?;
        let sink = Self { name, abilities, jobs };
        open.recv().await.map_err(|_| sink.gone())??;
        Ok(Box::new(sink))
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, SinkError> {
        let (reply, answer) = async_channel::bounded(1);
        self.jobs.send(job(reply)).await.map_err(|_| self.gone())?;
        answer.recv().await.map_err(|_| self.gone())?
    }

    fn gone(&self) -> SinkError {
        gone(self.name)
    }
}

fn gone(thread: &str) -> SinkError {
    SinkError::Fatal(format!("thread {thread} has ended unexpectedly; restart dts and report this"))
}

impl Sink for ThreadSink {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn write(&mut self, batches: Vec<Batch>, marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(self.ask(|reply| Job::Write(batches, marks, reply)))
    }

    fn begin(
        &mut self,
        batches: Vec<Batch>,
        marks: Vec<Mark>,
    ) -> Option<LocalFuture<'static, Result<(), SinkError>>> {
        if self.abilities.writes_under_way <= 1 {
            return None;
        }
        let (reply, answer) = async_channel::bounded(1);
        // Full only if more were begun than the sink said; then the reply is dropped and reads as gone.
        drop(self.jobs.try_send(Job::Write(batches, marks, reply)));
        let name = self.name;
        Some(Box::pin(async move { answer.recv().await.map_err(|_| gone(name))? }))
    }

    fn marks(&mut self) -> LocalFuture<'_, Result<Vec<Mark>, SinkError>> {
        Box::pin(self.ask(Job::Marks))
    }

    fn claim(&mut self, device: Arc<str>) -> LocalFuture<'_, Result<Claimed, SinkError>> {
        Box::pin(self.ask(|reply| Job::Claim(device, reply)))
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(self.ask(Job::Probe))
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            let late = || SinkError::Retry(format!("{} did not finish in time; left behind", self.name));
            timeout(CLOSE_LIMIT, self.ask(Job::Close)).await.ok_or_else(late)?
        })
    }
}
