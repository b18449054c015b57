//! Which connections of a device are live. Sans-IO.
//!
//! An agent's newer connection takes over its older one at once. Another agent under the same name
//! (another instance id: a second installation, a copied image) is an identity conflict: it is
//! reported, and takes over at most once in [`TAKEOVER_EVERY`], so that the two do not throw each
//! other out without end; what both send is kept apart by epoch. Plain MQTT clients stand beside
//! the agent; one takes over another of the same client id, as MQTT says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::Mono;

/// Two instances of a device take turns at most this often.
pub const TAKEOVER_EVERY: Duration = Duration::from_secs(60);

/// What happens to a second live installation under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The newer takes over, at most once a minute: data of both arrives.
    KeepBoth,
    /// The newer is refused while the first is connected.
    KeepFirst,
}

/// What kind of client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A dts agent, by its instance id.
    Agent(u64),
    /// Any MQTT client, by its instance (what stands behind the colon of its client id).
    Plain(Box<str>),
}

/// Whether a client may stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may. These connections are taken over.
    Welcome {
        /// Connections to close with 0x8E.
        evict: Vec<u64>,
        /// The other instance, if this is an identity conflict.
        conflict: Option<u64>,
    },
    /// Another instance holds the name.
    Conflict {
        /// Its instance id.
        other: u64,
        /// When to come again.
        retry_after: Duration,
    },
    /// Too many clients of this device.
    Full,
}

/// The live connections of all devices.
#[derive(Debug)]
pub struct Fence {
    on_conflict: OnConflict,
    max_per_device: usize,
    devices: HashMap<Arc<str>, Live>,
}

#[derive(Debug, Default)]
struct Live {
    clients: Vec<(u64, Kind)>,
    last_takeover: Option<Mono>,
}

impl Fence {
    /// Nobody is connected.
    pub fn new(on_conflict: OnConflict, max_per_device: usize) -> Self {
        Self { on_conflict, max_per_device, devices: HashMap::new() }
    }

    /// A client of `device` that is who it says has sent CONNECT on `connection`.
    pub fn enter(&mut self, now: Mono, device: &Arc<str>, connection: u64, kind: Kind) -> Verdict {
        let live = self.devices.entry(device.clone()).or_default();
        let mut conflict = None;
        let mut evict: Vec<u64> = Vec::new();
        for (other, other_kind) in &live.clients {
            match (&kind, other_kind) {
                (Kind::Agent(new), Kind::Agent(old)) if new != old => conflict = Some((*other, *old)),
                (new, old) if new == old => evict.push(*other),
                _ => {}
            }
        }
        if let Some((connection, other)) = conflict {
            let wait = match (self.on_conflict, live.last_takeover) {
                (OnConflict::KeepFirst, _) => Some(TAKEOVER_EVERY),
                (OnConflict::KeepBoth, Some(at)) => TAKEOVER_EVERY.checked_sub(now.since(at)),
                (OnConflict::KeepBoth, None) => None,
            };
            if let Some(retry_after) = wait.filter(|w| !w.is_zero()) {
                return Verdict::Conflict { other, retry_after };
            }
            live.last_takeover = Some(now);
            evict.push(connection);
        }
        if live.clients.len() - evict.len() >= self.max_per_device {
            return Verdict::Full;
        }
        live.clients.retain(|(c, _)| !evict.contains(c));
        live.clients.push((connection, kind));
        Verdict::Welcome { evict, conflict: conflict.map(|(_, other)| other) }
    }

    /// A connection is gone, or was taken over.
    pub fn leave(&mut self, now: Mono, device: &str, connection: u64) {
        if let Some(live) = self.devices.get_mut(device) {
            live.clients.retain(|(c, _)| *c != connection);
            let recent = live.last_takeover.is_some_and(|at| now.since(at) < TAKEOVER_EVERY);
            if live.clients.is_empty() && !recent {
                self.devices.remove(device);
            }
        }
    }

    /// Whether `connection` is still one of the device's.
    pub fn holds(&self, device: &str, connection: u64) -> bool {
        self.devices.get(device).is_some_and(|l| l.clients.iter().any(|(c, _)| *c == connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(evict: &[u64]) -> Verdict {
        Verdict::Welcome { evict: evict.to_vec(), conflict: None }
    }

    fn plain(id: &str) -> Kind {
        Kind::Plain(id.into())
    }

    #[test]
    fn a_newer_connection_of_the_same_agent_takes_over() {
        let mut fence = Fence::new(OnConflict::KeepBoth, 4);
        let box_ = "box".into();
        assert_eq!(fence.enter(Mono(0), &box_, 1, Kind::Agent(7)), welcome(&[]));
        assert_eq!(fence.enter(Mono(1), &box_, 2, Kind::Agent(7)), welcome(&[1]));
        assert!(!fence.holds("box", 1) && fence.holds("box", 2));
        // The end of the older one does not touch the newer one.
        fence.leave(Mono(2), "box", 1);
        assert!(fence.holds("box", 2));
        assert_eq!(fence.enter(Mono(3), &"other".into(), 3, Kind::Agent(7)), welcome(&[]));
    }

    #[test]
    fn two_instances_take_turns_once_a_minute() {
        let mut fence = Fence::new(OnConflict::KeepBoth, 4);
        let box_ = "box".into();
        fence.enter(Mono(0), &box_, 1, Kind::Agent(7));
        let turn = Verdict::Welcome { evict: vec![1], conflict: Some(7) };
        assert_eq!(fence.enter(Mono(1), &box_, 2, Kind::Agent(8)), turn);
        let refused = fence.enter(Mono(20_000_001), &box_, 3, Kind::Agent(7));
        assert_eq!(refused, Verdict::Conflict { other: 8, retry_after: Duration::from_secs(40) });
        assert!(fence.holds("box", 2));
        let turn = Verdict::Welcome { evict: vec![2], conflict: Some(8) };
        assert_eq!(fence.enter(Mono(60_000_001), &box_, 4, Kind::Agent(7)), turn);
        // Leaving in between does not make the next turn come earlier.
        fence.leave(Mono(60_000_002), "box", 4);
        fence.enter(Mono(60_000_003), &box_, 5, Kind::Agent(7));
        assert!(matches!(fence.enter(Mono(60_000_004), &box_, 6, Kind::Agent(8)), Verdict::Conflict { .. }));
    }

    #[test]
    fn the_first_is_kept_if_so_configured() {
        let mut fence = Fence::new(OnConflict::KeepFirst, 4);
        let box_ = "box".into();
        fence.enter(Mono(0), &box_, 1, Kind::Agent(7));
        let refused = fence.enter(Mono(900_000_000), &box_, 2, Kind::Agent(8));
        assert_eq!(refused, Verdict::Conflict { other: 7, retry_after: TAKEOVER_EVERY });
        fence.leave(Mono(900_000_001), "box", 1);
        assert_eq!(fence.enter(Mono(900_000_002), &box_, 3, Kind::Agent(8)), welcome(&[]));
    }

    #[test]
    fn plain_clients_stand_beside_the_agent_and_are_bounded() {
        let mut fence = Fence::new(OnConflict::KeepBoth, 3);
        let box_ = "box".into();
        fence.enter(Mono(0), &box_, 1, Kind::Agent(7));
        assert_eq!(fence.enter(Mono(0), &box_, 2, plain("")), welcome(&[]));
        assert_eq!(fence.enter(Mono(0), &box_, 3, plain("x")), welcome(&[]));
        assert_eq!(fence.enter(Mono(0), &box_, 4, plain("x")), welcome(&[3]));
        assert_eq!(fence.enter(Mono(0), &box_, 5, plain("y")), Verdict::Full);
        assert_eq!(fence.enter(Mono(0), &box_, 6, Kind::Agent(7)), welcome(&[1]));
    }
}
