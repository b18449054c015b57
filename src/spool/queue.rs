//! Commands on their way to the thread `sqlite`.
//!
//! While the thread waits for a commit to have company, a store that would wait for that commit anyway does not wake it: at a
//! thousand small stores a second a wake-up each would cost more than the stores.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::worker::Command;
use crate::runtime::Mono;

/// A commit that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// When.
    pub(super) at: Mono,
    /// Bytes that may still join before it is due at once.
    pub(super) room: usize,
}

/// What [`Receiver::next`] found.
#[allow(clippy::large_enum_variant, reason = "one at a time, and nearly always the large one")]
pub(super) enum Next {
    Command(Command),
    Timeout,
    /// Every handle is gone.
    Closed,
}

struct State {
    commands: VecDeque<Command>,
    sleep: Sleep,
    closed: bool,
    over: bool,
}

#[derive(PartialEq, Eq)]
enum Sleep {
    Awake,
    /// Until a command comes.
    Deep,
    /// Until the commit, or a command that cannot wait for it.
    Until(Commit),
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handles' end.
pub(super) struct Sender(Arc<Queue>);

/// The thread's end.
pub(super) struct Receiver(Arc<Queue>);

pub(super) fn channel() -> (Sender, Receiver) {
    let state = State { commands: VecDeque::new(), sleep: Sleep::Awake, closed: false, over: false };
    let queue = Arc::new(Queue { state: Mutex::new(state), wake: Condvar::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl Sender {
    /// Hands on a command; `false` if the thread has ended. `joins`: it is a store of so many bytes that would wait for a commit
    /// until then.
    pub(super) fn send(&self, command: Command, joins: Option<(Mono, usize)>) -> bool {
        let mut state = self.0.lock();
        if state.over {
            return false;
        }
        state.commands.push_back(command);
        if let (Sleep::Until(commit), Some((until, bytes))) = (&mut state.sleep, joins)
            && until >= commit.at
            && bytes < commit.room
        {
            commit.room -= bytes;
            return true;
        }
        if std::mem::replace(&mut state.sleep, Sleep::Awake) != Sleep::Awake {
            drop(state);
            self.0.wake.notify_one();
        }
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.sleep = Sleep::Awake;
        drop(state);
        self.0.wake.notify_one();
    }
}

impl Receiver {
    /// The next command; waits for it no longer than `wait`. With a `commit` that is due, stores that join it may lie there until the
    /// time is up.
    pub(super) fn next(&self, wait: Duration, commit: Option<Commit>) -> Next {
        let mut state = self.0.lock();
        if state.commands.is_empty() && !state.closed {
            state.sleep = commit.map_or(Sleep::Deep, Sleep::Until);
            let asleep = |s: &mut State| s.sleep != Sleep::Awake;
            let woken = self.0.wake.wait_timeout_while(state, wait, asleep);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            state.sleep = Sleep::Awake;
        }
        match state.commands.pop_front() {
            Some(command) => Next::Command(command),
            None if state.closed => Next::Closed,
            None => Next::Timeout,
        }
    }

    /// The next command, if one is there.
    pub(super) fn try_next(&self) -> Option<Command> {
        self.0.lock().commands.pop_front()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.over = true;
        // Who asked sees that the answer's sender is gone.
        let left = std::mem::take(&mut state.commands);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn ask() -> Command {
        Command::LinkUp(true)
    }

    fn is_asleep(sender: &Sender) -> bool {
        sender.0.lock().sleep != Sleep::Awake
    }

    #[test]
    fn a_store_that_joins_the_commit_lets_the_thread_sleep_and_others_wake_it() {
        let (tx, rx) = channel();
        let (said, heard) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let commit = Commit { at: Mono(1_000), room: 100 };
            for _ in 0..4 {
                let woken = matches!(rx.next(LONG, Some(commit)), Next::Command(_));
                said.send((woken, std::iter::from_fn(|| rx.try_next()).count())).unwrap();
            }
        });
        let sleeps = || {
            while !is_asleep(&tx) {
                std::thread::yield_now();
            }
        };
        // It would wait until the commit or longer: it lies there. One that wants an answer takes it along.
        sleeps();
        assert!(tx.send(ask(), Some((Mono(1_000), 40))) && is_asleep(&tx));
        assert!(tx.send(ask(), Some((Mono(2_000), 40))) && is_asleep(&tx));
        assert!(tx.send(ask(), None));
        assert_eq!(heard.recv().unwrap(), (true, 2));
        // It wants an earlier commit.
        sleeps();
        assert!(tx.send(ask(), Some((Mono(999), 1))));
        assert_eq!(heard.recv().unwrap(), (true, 0));
        // The commit is full.
        sleeps();
        assert!(tx.send(ask(), Some((Mono(1_000), 60))) && is_asleep(&tx));
        assert!(tx.send(ask(), Some((Mono(1_000), 40))));
        assert_eq!(heard.recv().unwrap(), (true, 1));
        // Nobody is left to ask.
        sleeps();
        drop(tx);
        assert_eq!(heard.recv().unwrap(), (false, 0));
        thread.join().unwrap();
    }

    #[test]
    fn time_runs_out_and_the_end_is_seen_on_both_sides() {
        let (tx, rx) = channel();
        assert!(matches!(rx.next(Duration::ZERO, None), Next::Timeout));
        assert!(tx.send(ask(), None));
        assert!(matches!(rx.next(LONG, None), Next::Command(_)));
        drop(rx);
        assert!(!tx.send(ask(), None));
        let (tx, rx) = channel();
        drop(tx);
        assert!(matches!(rx.next(LONG, None), Next::Closed));
    }
}
