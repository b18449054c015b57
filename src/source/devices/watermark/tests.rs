use std::sync::Arc;

use super::*;

const EPOCH: u64 = 3 << 32 | 9;

struct Lab {
    marks: Watermarks,
    device: Arc<str>,
    packet: u16,
}

impl Lab {
    fn new(marks: &[Mark]) -> Self {
        let limits = Limits { max_lanes: 2, max_epochs: 3 };
        Self { marks: Watermarks::new(limits, marks), device: "box".into(), packet: 0 }
    }

    fn frame_of(&mut self, epoch: u64, base: u64, first: u64, last: u64, crc: u32) -> Decision {
        self.packet += 1;
        let frame = Frame { lane: "data", epoch, base, first, last, crc };
        let waiter = Waiter { connection: 1, packet: self.packet };
        self.marks.frame(&self.device.clone(), 1, &frame, &[], waiter)
    }

    fn frame(&mut self, base: u64, first: u64, last: u64, crc: u32) -> Decision {
        self.frame_of(EPOCH, base, first, last, crc)
    }

    fn new_frame(&mut self, base: u64, first: u64, last: u64, crc: u32) -> (Ticket, u64, Mark) {
        match self.frame(base, first, last, crc) {
            Decision::New { ticket, from, mark } => (ticket, from, mark),
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self, ticket: &Ticket) -> Vec<u16> {
        self.marks.resolved(ticket, &Ok(()));
        std::iter::from_fn(|| self.marks.poll_answer()).map(|a| a.waiter.packet).collect()
    }

    fn mark(&self) -> Option<(u64, u32)> {
        self.marks.marks("box").first().map(|m| (m.seq, m.crc))
    }
}

fn mark(epoch: u64, seq: u64, crc: u32) -> Mark {
    Mark { device: "box".into(), lane: "data".into(), epoch, seq, crc, session: 4 }
}

#[test]
fn frames_are_answered_in_order_whatever_order_the_receipts_have() {
    let mut lab = Lab::new(&[]);
    let (one, ..) = lab.new_frame(1, 1, 5, 0xa);
    let (two, _, mark) = lab.new_frame(1, 6, 9, 0xb);
    assert_eq!((mark.seq, mark.crc), (9, 0xb));
    assert_eq!(lab.done(&two), Vec::<u16>::new(), "the first is not durable yet");
    assert_eq!(lab.mark(), None);
    assert_eq!(lab.done(&one), [1, 2]);
    assert_eq!(lab.mark(), Some((9, 0xb)));
}

#[test]
fn a_resent_frame_waits_for_its_first_copy_and_is_then_known() {
    let mut lab = Lab::new(&[]);
    let (one, ..) = lab.new_frame(1, 1, 5, 0xa);
    assert_eq!(lab.frame(1, 1, 5, 0xa), Decision::InFlight);
    assert_eq!(lab.done(&one), [1, 2]);
    assert_eq!(lab.frame(1, 1, 5, 0xa), Decision::Durable);
    assert_eq!(lab.frame(1, 1, 5, 0xb), Decision::Fork { seq: 1 });
}

#[test]
fn a_refused_frame_refuses_its_copies_and_leaves_a_hole_that_it_fills() {
    let mut lab = Lab::new(&[]);
    let (one, ..) = lab.new_frame(1, 1, 5, 0xa);
    assert_eq!(lab.frame(1, 1, 5, 0xa), Decision::InFlight);
    let (two, ..) = lab.new_frame(1, 6, 9, 0xb);
    lab.marks.resolved(&one, &Err(Refused::Busy("full".into())));
    let refused: Vec<Answer> = std::iter::from_fn(|| lab.marks.poll_answer()).collect();
    assert!(refused.len() == 2 && refused.iter().all(|a| a.result.is_err()));
    assert_eq!(lab.done(&two), Vec::<u16>::new(), "behind a hole");
    assert_eq!(lab.frame(1, 10, 12, 0xc), Decision::Gap { next: 1 });
    let (one, from, mark) = lab.new_frame(1, 1, 5, 0xa);
    assert_eq!((from, mark.seq, mark.crc), (1, 9, 0xb), "what lies behind the hole counts");
    assert_eq!(lab.done(&one), [5, 3], "in the order of the numbers");
}

#[test]
fn marks_of_before_the_restart_drop_what_was_durable() {
    let mut lab = Lab::new(&[mark(EPOCH, 9, 0xb), mark(EPOCH, 20, 0xc)]);
    assert_eq!(lab.mark(), Some((9, 0xb)), "the sink that holds least counts");
    assert_eq!(lab.frame(1, 1, 5, 0xa), Decision::Durable);
    assert_eq!(lab.frame(1, 6, 9, 0xb), Decision::Durable);
    assert_eq!(lab.frame(1, 6, 9, 0xbad), Decision::Fork { seq: 6 });
    let (_, from, mark) = lab.new_frame(1, 8, 12, 0xd);
    assert_eq!((from, mark.seq), (10, 12), "8 and 9 are cut off");
    assert_eq!(lab.marks.next_session(&lab.device.clone()), 5);
    assert_eq!(lab.marks.greatest_epoch_number("box"), 3);
}

#[test]
fn the_device_s_word_moves_the_mark_and_is_counted_until_a_loss_names_it() {
    let mut lab = Lab::new(&[mark(EPOCH, 4, 0xa)]);
    assert_eq!(lab.frame(5, 8, 9, 0xb), Decision::Gap { next: 5 });
    let (ticket, _, mark) = lab.new_frame(8, 8, 9, 0xb);
    assert_eq!(mark.seq, 9);
    assert_eq!(lab.marks.acked_elsewhere("box"), 3);
    assert_eq!(lab.done(&ticket), [2]);
    let loss = Loss {
        lane: "data".into(),
        epoch: EPOCH,
        from: 5,
        to: 6,
        reason: "max_age".into(),
        exact: true,
        rows: 2,
    };
    let frame = Frame { lane: "data", epoch: EPOCH, base: 10, first: 10, last: 10, crc: 0xc };
    let waiter = Waiter { connection: 1, packet: 9 };
    let decision = lab.marks.frame(&lab.device.clone(), 1, &frame, &[loss], waiter);
    assert!(matches!(decision, Decision::New { .. }));
    assert_eq!(lab.marks.acked_elsewhere("box"), 1);
}

#[test]
fn a_named_loss_bridges_a_hole() {
    let mut lab = Lab::new(&[mark(EPOCH, 4, 0xa)]);
    let loss = |from, to| Loss {
        lane: "data".into(),
        epoch: EPOCH,
        from,
        to,
        reason: "max_bytes".into(),
        exact: true,
        rows: 1,
    };
    let frame = Frame { lane: "data", epoch: EPOCH, base: 5, first: 9, last: 9, crc: 0xc };
    let waiter = Waiter { connection: 1, packet: 9 };
    let device = lab.device.clone();
    let decision = lab.marks.frame(&device, 1, &frame, &[loss(6, 8)], waiter);
    assert_eq!(decision, Decision::Gap { next: 5 });
    let decision = lab.marks.frame(&device, 1, &frame, &[loss(5, 5), loss(u64::MAX, 3)], waiter);
    let Decision::New { ticket, mark, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(mark.seq, 9);
    lab.done(&ticket);
    assert_eq!((lab.mark(), lab.marks.acked_elsewhere("box")), (Some((9, 0xc)), 0));
}

#[test]
fn another_cut_of_what_is_in_flight_is_a_fork_unless_it_only_adds() {
    let mut lab = Lab::new(&[]);
    lab.new_frame(1, 1, 5, 0xa);
    assert_eq!(lab.frame(1, 1, 4, 0xa), Decision::Fork { seq: 1 });
    assert_eq!(lab.frame(1, 2, 3, 0xa), Decision::Fork { seq: 2 });
    let (_, from, mark) = lab.new_frame(1, 1, 8, 0xb);
    assert_eq!((from, mark.seq), (6, 8));
}

#[test]
fn late_data_of_an_older_epoch_has_its_own_mark_and_old_epochs_make_room() {
    let mut lab = Lab::new(&[]);
    let (newer, ..) = lab.new_frame(1, 1, 5, 0xa);
    lab.done(&newer);
    for old in [2u64, 1] {
        let Decision::New { ticket, .. } = lab.frame_of(old << 32, 1, 1, 2, 0xb) else { panic!() };
        lab.done(&ticket);
    }
    assert_eq!(lab.marks.marks("box").len(), 3);
    assert!(matches!(lab.frame_of(9 << 32, 1, 1, 2, 0xb), Decision::New { .. }));
    let epochs: Vec<u64> = lab.marks.marks("box").iter().map(|m| m.epoch >> 32).collect();
    assert_eq!(epochs, [1, 2], "the one that was silent longest made room");
}

#[test]
fn a_third_lane_is_refused() {
    let mut lab = Lab::new(&[]);
    let device = lab.device.clone();
    let waiter = Waiter { connection: 1, packet: 1 };
    for (lane, fits) in [("a", true), ("b", true), ("c", false)] {
        let frame = Frame { lane, epoch: 1, base: 1, first: 1, last: 1, crc: 1 };
        let decision = lab.marks.frame(&device, 1, &frame, &[], waiter);
        assert_eq!(matches!(decision, Decision::New { .. }), fits, "{lane}");
        assert_eq!(decision == Decision::TooManyLanes, !fits, "{lane}");
    }
}

#[test]
fn what_another_node_wrote_replaces_what_was_known_here() {
    let mut lab = Lab::new(&[mark(EPOCH, 5, 55)]);
    let (mine, _, _) = lab.new_frame(1, 6, 6, 66);
    let device = lab.device.clone();
    // The device was elsewhere, and is back with a session of its own.
    lab.marks.replace(&device, 9, &[mark(EPOCH, 8, 88)]);
    assert_eq!(lab.mark(), Some((8, 88)));
    // The answer for the flight of before moves nothing and wakes nobody.
    assert!(lab.done(&mine).is_empty());
    assert_eq!(lab.mark(), Some((8, 88)));
    assert_eq!(lab.frame(1, 6, 6, 66), Decision::Durable);
    let (next, from, _) = lab.new_frame(1, 9, 9, 99);
    assert_eq!(from, 9);
    assert_eq!(lab.done(&next).len(), 1);
    assert_eq!(lab.marks.next_session(&device), 10);
}
