//! What the simulation found, each by itself, named after what broke.

use std::time::Duration;

use super::disk::{self, SimFolder};
use super::vfs;
use crate::event::builtin::{self, Loss, Payload};
use crate::event::{Batch, BatchBuilder, Op, Origin};
use crate::runtime::Mono;
use crate::spool::{Class, Epochs, LaneOptions, Options, Store, StoredBatch};

const DISK: u32 = 77;

fn store(lane: LaneOptions, now: Mono) -> Store {
    let mut options = Options::new("/sim/77", "d");
    options.lanes = vec![lane];
    options.reserve_bytes = 0;
    options.boot = 7;
    options.vfs = Some(vfs::NAME.to_owned());
    let mut number = 0;
    let epochs: Epochs = Box::new(move |least| {
        number = least.max(number) + 1;
        Ok(u64::from(number) << 32 | 9)
    });
    Store::open_in(options, Box::new(SimFolder(DISK)), epochs, now).unwrap().0
}

fn fresh_disk() {
    vfs::register();
    disk::clear();
    disk::Disk::make(DISK, 1);
}

fn batch(text: &str) -> Batch {
    let mut builder = BatchBuilder::new("app".into());
    let values = builtin::message_values("t", None, Payload::Text(text), None);
    builder.push(Op::Message, 1, builtin::message(), None, builtin::image(&values)).unwrap();
    builder.finish()
}

fn losses(batches: &[StoredBatch]) -> Vec<Loss> {
    let mut losses = Vec::new();
    for b in batches {
        let find = |hash| b.tables.iter().find(|t| t.hash() == hash).cloned();
        let batch = Batch::from_body(b.source.clone(), Origin::Input, b.clock, b.rows, b.body.clone(), find).unwrap();
        for row in &batch {
            let row = row.unwrap();
            if row.op() == Op::Loss {
                losses.push(Loss::from_image(&row.newest().unwrap().unwrap()).unwrap());
            }
        }
    }
    losses
}

/// The first try fails on the disk: the second must not take the batch for one that is gone.
#[test]
fn a_batch_that_could_not_be_set_aside_is_so_at_the_next_try() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    assert_eq!(store.append(now, &[("data".into(), batch("x"))]), [Ok(())]);
    let id = store.read(now, "data", None, 1 << 20).unwrap()[0].id;
    disk::with(DISK, |d| d.fail_writes = 1);
    assert!(store.set_aside(now, id, "too large", true).is_err());
    store.set_aside(now + Duration::from_secs(1), id, "too large", true).unwrap();
    let left = store.read(now, "data", None, 1 << 20).unwrap();
    let losses = losses(&left);
    assert_eq!((left.len(), losses.len()), (1, 1), "{left:?}");
    assert_eq!((&*losses[0].reason, losses[0].rows, losses[0].exact), ("refused", 1, true));
}

/// Some rows of a batch that went in parts arrived: what is named lost is then an upper bound.
#[test]
fn a_loss_after_parts_is_no_exact_number() {
    fresh_disk();
    let now = Mono(1_000_000);
    let mut store = store(LaneOptions::new("data", Class::Fsync), now);
    assert_eq!(store.append(now, &[("data".into(), batch("x"))]), [Ok(())]);
    let id = store.read(now, "data", None, 1 << 20).unwrap()[0].id;
    store.set_aside(now, id, "a part is too large", false).unwrap();
    let losses = losses(&store.read(now, "data", None, 1 << 20).unwrap());
    assert!(!losses[0].exact);
}
