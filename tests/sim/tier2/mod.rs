//! The second tier: the shipped QUIC shell over quinn, on a simulated UDP.
//!
//! | file | concept |
//! |---|---|
//! | [`udp`] | datagrams that are lost, late, doubled, too long; NAT; addresses that change |
//! | [`runtime`] | quinn's clock, timers and tasks, in virtual time |
//! | [`null`] | a crypto session that protects nothing, and identifiers from a seed |
//! | [`dial`] | the shipped dialer for QUIC beside the first tier's model of TCP, and what is seen of their connections |
//! | [`promises`] | what a link must do, beyond what every event must |
//! | [`plan`] | what a seed says |
//! | [`run`], [`planted`] | seeds, and bugs that they must see |

pub(super) mod dial;
mod null;
mod plan;
mod planted;
pub(super) mod promises;
mod run;
mod runtime;
pub(super) mod udp;

use std::rc::Rc;
use std::sync::Arc;

use dial::Watch;
use udp::Udp;

use crate::link::quic::Net;

/// The second tier's part of a world.
#[derive(Clone)]
pub(super) struct Tier {
    pub(super) udp: Udp,
    pub(super) watch: Rc<Watch>,
}

impl Tier {
    pub(super) fn new(seed: u64) -> Self {
        Self { udp: Udp::new(seed), watch: Rc::default() }
    }

    /// What the shipped shell takes for the system's network. `machine`: of this device, or the centre's.
    pub(super) fn net(&self, machine: Option<usize>, name: &Arc<str>) -> Net {
        let (udp, watch) = (self.udp.clone(), self.watch.clone());
        Net {
            runtime: Arc::new(runtime::SimRuntime),
            bind: Rc::new(move |local, remote| {
                watch.bound(machine);
                udp.bind(machine, local, remote)
            }),
            null: Some(Rc::new(null::Nothing { name: name.clone() })),
        }
    }
}
