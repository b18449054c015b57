//! The identity under every kind of damage.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::clock::Boot;

struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("dts-identity-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn open(&self) -> Identity {
        Identity::open(&self.0, &mut fastrand::Rng::with_seed(7)).unwrap()
    }

    fn file(&self, copy: &str) -> PathBuf {
        self.0.join(format!("identity.{copy}"))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(1)
}

#[test]
fn numbers_grow_over_restarts_and_above_what_the_centre_knows() {
    let dir = Dir::new();
    let mut id = dir.open();
    assert_eq!((id.opened(), id.epoch_number()), (&Opened::Created, 0));
    let (instance, first) = (id.instance(), id.next_epoch(0, &mut rng()).unwrap());
    assert_eq!(first >> 32, 1);
    let mut id = dir.open();
    assert_eq!((id.opened(), id.instance()), (&Opened::Found, instance));
    assert_eq!(id.next_epoch(0, &mut rng()).unwrap() >> 32, 2);
    assert_eq!(id.next_epoch(40, &mut rng()).unwrap() >> 32, 41);
    assert_eq!(id.next_epoch(3, &mut rng()).unwrap() >> 32, 42);
    assert_eq!(dir.open().epoch_number(), 42);
    assert!(matches!(id.next_epoch(u32::MAX, &mut rng()), Err(IdentityError::Exhausted)));
    assert_eq!(dir.open().epoch_number(), 42);
}

#[test]
fn either_copy_may_be_damaged_at_any_byte_or_cut_anywhere() {
    let dir = Dir::new();
    let mut id = dir.open();
    id.next_epoch(9, &mut rng()).unwrap();
    let (instance, good) = (id.instance(), std::fs::read(dir.file("a")).unwrap());
    assert_eq!(good.len(), 512);
    for copy in ["a", "b"] {
        for at in (0..512).step_by(7).chain([511]) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x10;
            for bad in [&flipped[..], &good[..at]] {
                std::fs::write(dir.file(copy), bad).unwrap();
                let id = dir.open();
                assert_eq!((id.instance(), id.epoch_number()), (instance, 10), "{copy} at {at}");
                assert_eq!(id.opened(), &Opened::Repaired { copy: dir.file(copy) }, "{copy} at {at}");
                assert_eq!(std::fs::read(dir.file(copy)).unwrap(), good);
            }
        }
        std::fs::remove_file(dir.file(copy)).unwrap();
        assert_eq!(dir.open().opened(), &Opened::Repaired { copy: dir.file(copy) });
    }
}

#[test]
fn a_cut_between_the_copies_keeps_the_newer_one() {
    for (newer, older) in [("a", "b"), ("b", "a")] {
        let dir = Dir::new();
        let mut id = dir.open();
        let before = std::fs::read(dir.file(older)).unwrap();
        id.next_epoch(0, &mut rng()).unwrap();
        std::fs::write(dir.file(older), before).unwrap();
        let id = dir.open();
        assert_eq!((id.opened(), id.epoch_number()), (&Opened::Found, 1), "{newer} is newer");
        assert_eq!(std::fs::read(dir.file("a")).unwrap(), std::fs::read(dir.file("b")).unwrap());
    }
}

#[test]
fn both_damaged_is_a_new_instance_that_keeps_the_evidence() {
    let dir = Dir::new();
    let old = dir.open().instance();
    std::fs::write(dir.file("a"), b"").unwrap();
    std::fs::write(dir.file("b"), [0xff; 512]).unwrap();
    let id = Identity::open(&dir.0, &mut fastrand::Rng::with_seed(99)).unwrap();
    assert_ne!(id.instance(), old);
    let Opened::Replaced { kept } = id.opened() else { panic!("{:?}", id.opened()) };
    assert_eq!(kept.len(), 2);
    assert_eq!(std::fs::read(&kept[1]).unwrap(), [0xff; 512]);
    assert_eq!(dir.open().opened(), &Opened::Found);
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = Dir::new();
    dir.open();
    let mut raw: [u8; 512] = std::fs::read(dir.file("b")).unwrap().try_into().unwrap();
    raw[4] = 2;
    record::seal(&mut raw);
    std::fs::write(dir.file("b"), raw).unwrap();
    let refused = Identity::open(&dir.0, &mut rng());
    assert!(matches!(refused, Err(IdentityError::Newer { version: 2, .. })), "{refused:?}");
    assert_eq!(std::fs::read(dir.file("b")).unwrap(), raw);
}

#[test]
fn an_epoch_that_cannot_be_written_is_not_given_out() {
    let dir = Dir::new();
    let mut id = dir.open();
    std::fs::remove_file(dir.file("b")).unwrap();
    std::fs::create_dir(dir.file("b")).unwrap();
    assert!(matches!(id.next_epoch(0, &mut rng()), Err(IdentityError::Io { .. })));
    assert_eq!(id.epoch_number(), 0);
    std::fs::remove_dir(dir.file("b")).unwrap();
    assert_eq!(id.next_epoch(0, &mut rng()).unwrap() >> 32, 1);
}

#[test]
fn memory_survives_and_is_written_only_when_it_changed() {
    let dir = Dir::new();
    let mut id = dir.open();
    let boot = Boot { id: u64::MAX, wall_offset_us: i64::MIN, offset_us: Some(i64::MAX) };
    let memory = Memory {
        backoff_level: 255,
        floor_s: u64::MAX,
        budget_spent_bytes: u64::MAX,
        budget_left_s: u32::MAX,
        boots: vec![boot; 8],
    };
    assert!(id.remember(memory.clone()).unwrap());
    assert!(!id.remember(memory.clone()).unwrap());
    let mut id = dir.open();
    assert_eq!(id.memory(), &memory, "the largest memory fits");
    // More boots than fit: the oldest are forgotten.
    let mut more = memory.clone();
    more.boots.push(Boot { id: 1, wall_offset_us: 2, offset_us: None });
    id.remember(more.clone()).unwrap();
    more.boots.remove(0);
    assert_eq!(dir.open().memory(), &more);
}

#[test]
fn names_follow_the_rules() {
    for good in ["a", "pump-7", "a.b_c-D9", &"x".repeat(64), "..a"] {
        assert_eq!(DeviceName::new(good).unwrap().as_str(), good);
    }
    for bad in ["", ".", "..", "a/b", "a+", "#", "a b", "ä", "a:b", &"x".repeat(65), "a\n"] {
        assert!(DeviceName::new(bad).is_err(), "{bad}");
    }
}
