//! What a link must do. Each promise is judged only where nothing else disturbs it.
//!
//! - while UDP is blocked and TCP is not, or the path has become too narrow for QUIC, the device is soon connected over TLS;
//! - afterwards it returns to QUIC, if the path carries it;
//! - a change of address that the device is told of, a NAT that forgets, and a path that carries less but enough, do not cost the
//!   connection over QUIC;
//! - a switch between two healthy connections sends nothing by the old one once the new one has begun;
//! - in quiet a connection over QUIC is not given up.

use super::Tier;
use crate::link::Transport;
use crate::sim::net::Way;
use crate::sim::plan::{Blocked, Fault, Plan, Transports};

/// From the start of a black-out of UDP to a connection over TLS.
const FALLBACK_US: u64 = 25_000_000;
/// From a change of address to the next word on the same connection.
const MOVE_US: u64 = 12_000_000;
/// After the faults, until a device is back on QUIC: pauses between probes double, from 5 s.
pub(in crate::sim) const RETURN_US: u64 = 400_000_000;
/// So long nothing happens, and nothing may be dialed: longer than QUIC's idle timeout and every NAT's patience.
pub(in crate::sim) const QUIET_US: u64 = 150_000_000;
/// QUIC's smallest path, headers of IPv4 and UDP included.
const NEEDED_MTU: u16 = 1228;
/// A disturbance is over so long after its end.
const AFTERMATH_US: u64 = 20_000_000;

/// Something that must have come true by a time.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Promise {
    /// Connected over TLS.
    Fallen { device: usize },
    /// This connection has said something since.
    Lives { device: usize, line: usize, since: u64, what: &'static str },
}

/// Whether a path of this kind carries QUIC.
fn carries_quic(way: &Way) -> bool {
    way.mtu >= NEEDED_MTU && !way.udp_blocked
}

impl Tier {
    /// What is promised at fault `number`, which happens now, and by when.
    pub(in crate::sim) fn promise(&self, plan: &Plan, number: usize, way: &Way) -> Option<(u64, Promise)> {
        let (now, fault) = &plan.faults[number];
        let device = fault.device()?;
        let quiet = |after| plan.is_quiet(number, device, AFTERMATH_US, after);
        let live = self.watch.of(device, |seen| {
            let number = seen.live_number()?;
            let line = &seen.lines[number];
            // One that has settled, and nothing else under way.
            let settled = line.heard_first? + 5_000_000 < *now && number + 1 == seen.lines.len();
            settled.then_some((number, line.transport))
        });
        let (line, transport) = live?;
        if transport != Transport::Quic || !carries_quic(way) {
            return None;
        }
        let both = plan.devices[device].transports == Transports::Both;
        let lasts = fault.lasts_ms() * 1000 > FALLBACK_US;
        let fallen = Some((now + FALLBACK_US, Promise::Fallen { device }));
        let lives = |what| Some((now + MOVE_US, Promise::Lives { device, line, since: *now, what }));
        match fault {
            Fault::BlackOut { blocked: Blocked::Udp, .. } if both && lasts && quiet(FALLBACK_US) => fallen,
            Fault::PathMtu { mtu, .. } if *mtu < NEEDED_MTU && both && lasts && quiet(FALLBACK_US) => fallen,
            Fault::NewAddress { told: true, .. } if quiet(MOVE_US) => lives("survived an address"),
            Fault::NatRebind { .. } if quiet(MOVE_US) => lives("survived a NAT"),
            Fault::PathMtu { mtu, .. } if *mtu >= NEEDED_MTU && quiet(MOVE_US) => {
                lives("survived a narrower path")
            }
            _ => None,
        }
    }

    /// What became of it: what was met, or what is wrong.
    pub(in crate::sim) fn kept(&self, promise: &Promise) -> Result<&'static str, String> {
        match *promise {
            Promise::Fallen { device } => self.watch.of(device, |seen| match seen.live() {
                Some(line) if line.transport == Transport::Tls => Ok("fell back in time"),
                other => Err(format!("machine {device} is not on TLS though UDP leads nowhere: {other:?}")),
            }),
            Promise::Lives { device, line, since, what } => self.watch.of(device, |seen| {
                let it = &seen.lines[line];
                if it.closed.is_none() && it.heard.is_some_and(|at| at > since) {
                    Ok(what)
                } else {
                    Err(format!("machine {device}: its connection would have {what} and has not: {it:?}"))
                }
            }),
        }
    }

    /// Whether a device is connected by what its path allows at best.
    pub(in crate::sim) fn is_at_home(&self, plan: &Plan, device: usize) -> bool {
        let wanted = if carries_quic(&plan.devices[device].way) { Transport::Quic } else { Transport::Tls };
        self.watch.of(device, |seen| seen.live().is_some_and(|line| line.transport == wanted))
    }

    /// What the run was for.
    pub(in crate::sim) fn met(&self, plan: &Plan) -> Vec<(&'static str, u32)> {
        let mut met = Vec::new();
        for (device, of) in plan.devices.iter().enumerate() {
            self.watch.of(device, |seen| {
                let ships: Vec<_> = seen.lines.iter().filter(|l| l.heard.is_some()).collect();
                let turns = |from, to| {
                    let turn = |w: &&[&super::dial::Line]| (w[0].transport, w[1].transport) == (from, to);
                    ships.windows(2).filter(turn).count() as u32
                };
                let dials = seen.dials.iter().filter(|(_, t)| *t == Transport::Quic).count();
                let quic = ships.iter().filter(|l| l.transport == Transport::Quic).count() as u32;
                met.push(("connections over QUIC", quic));
                met.push(("fallback to TLS", turns(Transport::Quic, Transport::Tls)));
                met.push(("return to QUIC", turns(Transport::Tls, Transport::Quic)));
                met.push(("rebind", seen.binds.saturating_sub(dials) as u32));
                met.push(("path MTU shrank", ships.iter().filter(|l| l.shrunk).count() as u32));
                let narrow =
                    of.way.mtu < NEEDED_MTU && ships.last().is_some_and(|l| l.transport == Transport::Tls);
                met.push(("narrow path, so TLS", u32::from(narrow)));
            });
        }
        met
    }
}
