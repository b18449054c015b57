//! Rows shown to whoever looks, as they pass. Looking never holds anything up.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;

use crate::codec::json;
use crate::event::Batch;

/// Batches that wait for a slow looker; more are missed.
const QUEUE: usize = 64;
/// Lookers at a time.
const MAX_LOOKERS: usize = 8;

/// The place where rows pass. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Tap(Rc<RefCell<Vec<Looker>>>);

#[derive(Debug)]
struct Looker {
    source: Option<String>,
    tx: async_channel::Sender<Bytes>,
    /// Rows that it was too slow for, to be said with the next ones.
    missed: u64,
}

impl Tap {
    /// Shows `batch`. Costs nothing while nobody looks.
    pub fn show(&self, batch: &Batch) {
        if !self.is_watched() {
            return;
        }
        let mut lines: Option<Bytes> = None;
        self.0.borrow_mut().retain_mut(|looker| {
            if looker.source.as_deref().is_some_and(|wanted| wanted != &*batch.source) {
                return !looker.tx.is_closed();
            }
            let rows = u64::from(batch.rows);
            if looker.missed > 0 {
                let said = format!("{{\"missed\":{}}}\n", looker.missed);
                if looker.tx.try_send(said.into()).is_ok() {
                    looker.missed = 0;
                }
            }
            let lines = lines.get_or_insert_with(|| text(batch)).clone();
            match looker.tx.try_send(lines) {
                Ok(()) => true,
                Err(async_channel::TrySendError::Full(_)) => {
                    looker.missed += rows;
                    true
                }
                Err(async_channel::TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Whether somebody looks.
    pub(super) fn is_watched(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// A new looker; `None` if there are too many.
    pub(super) fn look(&self, source: Option<String>) -> Option<async_channel::Receiver<Bytes>> {
        let mut lookers = self.0.borrow_mut();
        lookers.retain(|l| !l.tx.is_closed());
        if lookers.len() >= MAX_LOOKERS {
            return None;
        }
        let (tx, rx) = async_channel::bounded(QUEUE);
        lookers.push(Looker { source, tx, missed: 0 });
        Some(rx)
    }
}

/// dts JSON of every row.
pub(super) fn text(batch: &Batch) -> Bytes {
    let mut out = Vec::with_capacity(batch.bytes() * 2);
    if let Err(error) = json::write_batch(&mut out, batch, json::Format::default()) {
        let line = serde_json::json!({ "error": error.to_string() });
        out.extend_from_slice(line.to_string().as_bytes());
        out.push(b'\n');
    }
    out.into()
}
