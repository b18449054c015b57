//! Where the stream's thread and the snapshot's meet.
//!
//! The stream's thread tells what it hands on, before it does, and up to where everything was handed on. The snapshot's thread
//! opens windows, waits for positions, and hands on a chunk while it holds the lock, so that nothing the stream gives can come
//! between the look at the window and the chunk. Whoever takes what both hand on takes no lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::window::{Position, Spoiled, Window};
use crate::event::binlog::Gtid;
use crate::event::{Batch, Origin};

/// How long a wait lasts before the world is looked at again.
const LOOK: Duration = Duration::from_millis(50);

/// See the module's page.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// A snapshot is under way: what the stream hands on is looked at.
    is_watching: AtomicBool,
    /// The stream is asked to stop somewhere.
    is_holding: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Who the stream's server is; empty while there is none.
    server: String,
    /// Everything before was handed on.
    place: Option<Position>,
    /// What was handed on last. The server may show it to the log's readers before it shows it to queries.
    given: Given,
    window: Option<Window>,
    hold: Option<Hold>,
    /// Where the stream stands still, and the transactions before (MySQL).
    held: Option<(Position, Option<String>)>,
}

/// What was handed on when a window was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Where its last rows end.
    pub end: Option<Position>,
    /// Its last transactions of each origin (MySQL), as `uuid[:tag]` and number.
    pub gtids: Vec<(String, u64)>,
    /// There are transactions without.
    pub is_anonymous: bool,
}

impl Given {
    fn add(&mut self, batch: &Batch) {
        let Origin::Binlog(log) = &batch.origin else { return };
        if let (Some(event), Some(transaction)) = (log.events.last(), log.transactions.last()) {
            self.end = Some(Position { file: transaction.file.clone(), pos: event.end });
        }
        for transaction in &log.transactions {
            let text = transaction.gtid.to_string();
            match (&transaction.gtid, text.rsplit_once(':')) {
                (Gtid::None, _) => self.is_anonymous = true,
                (Gtid::MySql { number, .. }, Some((origin, _))) => {
                    match self.gtids.iter_mut().find(|(known, _)| known == origin) {
                        Some((_, last)) => *last = (*last).max(*number),
                        None => self.gtids.push((origin.to_owned(), *number)),
                    }
                }
                _ => {}
            }
        }
    }
}

/// Where the stream is to stand still.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hold {
    Next,
    At(Position),
}

/// What became of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It came.
    Reached,
    /// It did not yet.
    NotYet,
    /// It cannot any more.
    Spoiled(Spoiled),
}

impl Shared {
    /// For a snapshot that is to be made, or goes on.
    pub fn new(is_watching: bool) -> Self {
        Self { is_watching: AtomicBool::new(is_watching), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The stream's side.

    /// The stream is connected to this server, or (empty) to none; it goes on at `begins`. What is before must be in what a
    /// snapshot reads, since it does not come in the stream.
    pub fn connected(&self, server: &str, begins: Option<Position>, is_anonymous: bool) {
        let mut state = self.state();
        server.clone_into(&mut state.server);
        state.place = None;
        let end = begins.filter(|begins| !begins.file.is_empty());
        state.given = Given { end, is_anonymous, ..Given::default() };
        state.held = None;
        if let Some(window) = &mut state.window {
            window.spoil(Spoiled::Reconnected);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// These rows are handed on next.
    pub fn batch(&self, batch: &Batch) {
        if !self.is_watching() {
            return;
        }
        let mut state = self.state();
        state.given.add(batch);
        if let Some(window) = &mut state.window {
            window.batch(batch);
        }
    }

    /// Whether anybody wants to know positions.
    pub fn is_watching(&self) -> bool {
        self.is_watching.load(Ordering::Acquire)
    }

    /// Whether the stream is to stop somewhere.
    pub fn is_holding(&self) -> bool {
        self.is_holding.load(Ordering::Acquire)
    }

    /// Everything before `place` was handed on.
    pub fn reached(&self, place: Position) {
        if self.is_watching() {
            self.state().place = Some(place);
            self.changed.notify_all();
        }
    }

    /// Stands still at `place`, a boundary between transactions, if that was asked for. `goes_on` says whether dts does.
    pub fn stand(&self, place: &Position, gtids: Option<String>, goes_on: impl Fn() -> bool) {
        let wanted = |state: &State| match &state.hold {
            Some(Hold::Next) => true,
            Some(Hold::At(at)) => place >= at,
            None => false,
        };
        if !self.is_holding() {
            return;
        }
        let mut state = self.state();
        if !wanted(&state) {
            return;
        }
        while wanted(&state) && goes_on() {
            // Whoever moved the place of holding is told anew where it stands.
            if state.held.is_none() {
                state.held = Some((place.clone(), gtids.clone()));
                self.changed.notify_all();
            }
            state = self.wait(state);
        }
        state.held = None;
    }

    // The snapshot's side.

    /// The stream's server; empty while there is none.
    pub fn server(&self) -> String {
        self.state().server.clone()
    }

    /// Opens a window on a table; the one before is gone. What the stream gave so far must be in what is read now.
    pub fn open(&self, db: &str, table: &str) -> Given {
        let mut state = self.state();
        let mut window = Window::open(db, table);
        // Until the stream stands, nothing is known of it.
        if state.server.is_empty() {
            window.spoil(Spoiled::Reconnected);
        }
        state.window = Some(window);
        state.given.clone()
    }

    /// Waits a moment for the stream to come to `high`.
    pub fn wait_for(&self, high: &Position) -> Waited {
        let look = |state: &State| match &state.window {
            None => Waited::Spoiled(Spoiled::Replaced),
            Some(window) => match window.spoiled() {
                Some(why) => Waited::Spoiled(why),
                None if state.place.as_ref().is_some_and(|place| place >= high) => Waited::Reached,
                None => Waited::NotYet,
            },
        };
        let state = self.state();
        match look(&state) {
            Waited::NotYet => look(&self.wait(state)),
            other => other,
        }
    }

    /// Closes the window: `take` sees it and hands on the chunk, while the stream cannot hand on anything.
    pub fn close<T>(&self, take: impl FnOnce(&Window) -> T) -> Result<T, Spoiled> {
        let mut state = self.state();
        let window = state.window.take().ok_or(Spoiled::Replaced)?;
        match window.spoiled() {
            Some(why) => Err(why),
            None => Ok(take(&window)),
        }
    }

    /// Asks the stream to stand still between two transactions, at once or at a place.
    pub fn hold(&self, at: Option<Position>) {
        let mut state = self.state();
        state.hold = Some(at.map_or(Hold::Next, Hold::At));
        state.held = None;
        self.is_holding.store(true, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Waits a moment for the stream to stand still: where, and what transactions are before.
    pub fn held(&self) -> Option<(Position, Option<String>)> {
        let state = self.state();
        if state.held.is_some() {
            return state.held.clone();
        }
        self.wait(state).held.clone()
    }

    /// The stream goes on.
    pub fn release(&self) {
        let mut state = self.state();
        state.hold = None;
        state.held = None;
        self.is_holding.store(false, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// No snapshot is under way any more.
    pub fn over(&self) {
        self.is_watching.store(false, Ordering::Release);
        self.state().window = None;
        self.release();
    }

    fn wait<'s>(&'s self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        match self.changed.wait_timeout(state, LOOK) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}
