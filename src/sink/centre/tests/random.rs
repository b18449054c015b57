//! Random runs: a core that ships and a model centre, data in random pieces, refusals at random, and the connection cut
//! at any point. What was stored must be delivered, in order, and leave the spool only when it is durable.

use std::time::Duration;

use super::world::{Verdict, World};
use crate::sink::centre::session::Trust;

fn run(seed: u64) {
    let mut w = World::new(seed);
    w.wild = true;
    let lanes = w.rng.usize(1..4);
    for lane in 0..lanes {
        let weight = w.rng.u32(1..8);
        w.store.lane(["data", "alarm", "bulk/2"][lane], weight);
    }
    let (window, bytes) = (w.rng.u16(1..12), w.rng.usize(500..20_000));
    (w.options().window, w.options().max_in_flight_bytes) = (window, bytes);
    w.centre.receive_maximum = w.rng.bool().then(|| w.rng.u16(1..10));
    w.centre.max_packet = (w.rng.u8(..) < 64).then(|| w.rng.u32(1_200..4_000));
    w.centre.max_body = (w.rng.u8(..) < 64).then(|| w.rng.usize(1_000..4_000));
    w.trust = if w.rng.bool() { Trust::AfterTime } else { Trust::Verified };
    let refuse = w.rng.u8(0..60);
    w.centre.judge = Box::new(move |_, rng| match rng.u8(..) {
        n if n < refuse => Verdict::Refuse([0x97, 0x80, 0x97, 0x83][rng.usize(0..4)]),
        255 => Verdict::Hang([0x8b, 0x97, 0x8e][rng.usize(0..3)]),
        _ => Verdict::Take,
    });
    let mut cuts = 0;
    for _ in 0..w.rng.usize(50..400) {
        match w.rng.u8(..) {
            0..40 => {
                let (lane, rows, size) = (w.rng.usize(0..lanes), w.rng.u32(1..12), w.rng.usize(1..300));
                w.append(lane, rows, size);
            }
            40..46 => {
                w.cut();
                cuts += 1;
            }
            46..60 => {
                let ms = w.rng.u64(0..200);
                w.pass(Duration::from_millis(ms));
            }
            60..64 => w.stalled = !w.stalled,
            _ if !w.is_up() => w.connect(),
            _ => {
                for _ in 0..w.rng.usize(1..20) {
                    w.step();
                }
            }
        }
    }
    // The faults end; what is left arrives.
    w.centre.judge = Box::new(|_, _| Verdict::Take);
    w.stalled = false;
    for _ in 0..8 {
        if !w.is_up() {
            w.connect();
        }
        w.pass(Duration::from_secs(20));
    }
    w.assert_all_delivered();
    assert!(w.store.shelves.iter().all(|s| s.aside.is_empty()), "something was set aside, {cuts} cuts");
    assert!(w.trust == Trust::Verified || w.centre.early == 0, "data before the time was known");
}

#[test]
fn what_was_stored_is_delivered_in_order_whatever_the_link_does() {
    for seed in 0..400 {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed} fails: repeat with `run({seed})`");
    }
}
