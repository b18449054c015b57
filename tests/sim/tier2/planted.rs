//! Bugs of the link that the second tier must see within 100 seeds.

use crate::planted::{self, Bug};
use crate::sim::plan::Plan;
use crate::sim::run::attempt;

const SEEDS: u64 = 100;

/// The first seed from `hint` on, round the ring, that sees `bug`.
fn caught(bug: Bug, hint: u64) -> Option<(u64, String)> {
    (0..SEEDS).map(|n| (hint + n) % SEEDS).find_map(|seed| {
        planted::plant(Some(bug));
        let report = attempt(&Plan::quic(seed), false);
        planted::plant(None);
        let violation = report.violations.into_iter().next()?;
        // What fails without the bug proves nothing.
        attempt(&Plan::quic(seed), false).violations.is_empty().then_some((seed, violation))
    })
}

macro_rules! planted {
    ($($name:ident: $bug:ident = $seed:literal;)*) => {
        $(
            #[test]
            fn $name() {
                let (seed, violation) = caught(Bug::$bug, $seed).expect("no seed sees it");
                println!("{:?}: seed {seed}: {violation}", Bug::$bug);
            }
        )*

        /// `DTS_SIM_PLANTED=1`: the first seed of each, counted from 0.
        #[test]
        fn the_first_seed_that_sees_each() {
            if std::env::var_os("DTS_SIM_PLANTED").is_none() {
                return;
            }
            let found = [$((stringify!($name), caught(Bug::$bug, 0))),*];
            found.iter().for_each(|found| println!("{found:?}"));
            assert!(found.iter().all(|(_, found)| found.is_some()));
        }
    };
}

planted! {
    stay_on_the_old_socket: ForgetRebind = 52;
    never_try_quic_again: NeverProbe = 0;
    switch_without_draining: SwitchUndrained = 0;
    overlook_a_dead_link: OverlookStall = 45;
}
