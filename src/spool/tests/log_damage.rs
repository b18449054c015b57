//! A damaged write-ahead log, and the file under one.

use crate::spool::fuzz::{Damage, open_damaged, size};

/// A buffer whose process was killed, with its newest rows in the write-ahead log.
#[test]
fn every_64th_byte_of_a_log_and_of_the_file_under_it() {
    let mut said = Vec::new();
    for name in ["buffer.db", "buffer.db-wal"] {
        let (bytes, mut missing, mut quarantined) = (size(1, name), 0, 0);
        assert!(bytes > 4096, "{name} has {bytes} bytes");
        for place in (0..bytes).step_by(64) {
            for damage in [Damage::Flip(place, 0x15), Damage::Cut(place)] {
                let found = open_damaged(1, &[(name, damage)]);
                missing += found.missing;
                quarantined += u32::from(found.quarantined);
                if matches!(damage, Damage::Flip(..)) && place % 1024 != 0 {
                    break;
                }
            }
        }
        said.push(format!("{name}: {bytes} bytes, {quarantined} quarantined, {missing} rows missing"));
    }
    println!("{said:?}");
}

#[test]
fn an_empty_file_beside_a_log_is_no_new_buffer() {
    // SQLite would remove the log, and with it rows that were acknowledged, without a word.
    let found = open_damaged(1, &[("buffer.db", Damage::Cut(0))]);
    assert!(found.quarantined && found.missing == 60, "{found:?}");
}

#[test]
fn rows_before_the_first_that_is_left_are_named_too() {
    // Found by fuzzing: what was missing behind the last row was named, and the first twenty rows were not.
    crate::fuzzing::spool(include_bytes!("../../../fuzz/corpus/spool/first-rows-missing"));
}

/// A page of the b-tree was overwritten so that it shows fewer batches, without an error: as long as others stand behind the
/// hole, rows were missing and nobody was told. The fuzz target `spool` found it.
#[test]
fn batches_that_a_damaged_tree_does_not_show_are_missed() {
    let found = open_damaged(0, &[("buffer.db", Damage::Fill(1_044_543, 151, 480))]);
    assert!(found.quarantined && found.missing > 0, "{found:?}");
}

/// The page of the counters shows no lane, without an error: the lane was taken for a new one, and its numbers were given again.
#[test]
fn a_lane_that_the_counters_do_not_show_is_no_new_one() {
    let damages = [("buffer.db", Damage::Fill(233_497, 11, 3_697)), ("buffer.db", Damage::Cut(1_011_724))];
    let found = open_damaged(0, &damages);
    assert!(found.quarantined && found.missing > 0, "{found:?}");
}
