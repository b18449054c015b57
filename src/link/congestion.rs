//! How fast QUIC sends: CUBIC as quinn has it (RFC 9438), and not below what a new connection may send at once.
//!
//! On a radio link packets are lost without anything being congested. CUBIC takes each for a sign to halve: at 5 % and 40 ms of round
//! trip it keeps 4 packets in flight, which is half of what an agent with 1,000 small events a second needs, and events pile up
//! behind it. The floor is RFC 6928's initial window, ten packets a round trip, which is held to be harmless as a first burst. Where
//! everything is lost for a while (persistent congestion, RFC 9002, 7.6) it does not hold until CUBIC itself is above it again.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Packets in a round trip.
const FLOOR: u64 = 10;

/// Makes the controllers of an endpoint's connections.
#[derive(Debug, Default)]
pub(super) struct CubicWithFloor;

impl ControllerFactory for CubicWithFloor {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Floored { cubic, mtu: u64::from(current_mtu), collapsed: false })
    }
}

struct Floored {
    cubic: Box<dyn Controller>,
    mtu: u64,
    /// Everything was lost for a while.
    collapsed: bool,
}

impl Floored {
    fn floor(&self) -> u64 {
        FLOOR * self.mtu
    }

    fn look(&mut self) {
        self.collapsed &= self.cubic.window() < self.floor();
    }
}

impl Controller for Floored {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        self.look();
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
        self.look();
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
        self.collapsed |= persistent;
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.collapsed { self.cubic.window() } else { self.cubic.window().max(self.floor()) }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MTU: u16 = 1200;

    fn losses(controller: &mut dyn Controller, start: Instant, n: u32, persistent: bool) {
        for i in 1..=n {
            let now = start + Duration::from_secs(u64::from(i));
            controller.on_congestion_event(now, now, persistent, u64::from(MTU));
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "quinn wants an Instant; any will do")]
    fn single_losses_leave_a_floor_and_a_collapse_does_not() {
        let start = Instant::now();
        let mut controller = Arc::new(CubicWithFloor).build(start, MTU);
        let floor = FLOOR * u64::from(MTU);
        assert!(controller.window() >= floor);
        losses(&mut *controller, start, 20, false);
        assert_eq!(controller.window(), floor);
        controller.on_mtu_update(1400);
        assert_eq!(controller.window(), FLOOR * 1400);
        controller.on_mtu_update(MTU);
        let copy = controller.clone_box();
        assert_eq!(copy.window(), floor);
        losses(&mut *controller, start + Duration::from_secs(100), 1, true);
        assert!(controller.window() < floor, "{}", controller.window());
        // And stays down while what comes back is lost, too.
        losses(&mut *controller, start + Duration::from_secs(200), 5, false);
        assert!(controller.window() < floor, "{}", controller.window());
    }
}
