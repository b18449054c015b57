//! Who may open a connection now. Sans-IO.
//!
//! The rate of handshakes and the connections of one address are judged before TLS, where a refusal
//! costs nearly nothing. When all seats are taken, a few newcomers still get in as far as CONNECT
//! (the lobby), to be told Server Busy and when to come again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::runtime::Mono;

/// Bounds of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub max_connections: usize,
    /// Of them from one address (IPv6: one /64).
    pub max_per_address: usize,
    /// TLS handshakes a second; a second's worth may come at once, of which they begin evenly.
    pub handshakes_per_s: u32,
    /// What a refused client is told to wait, at least; up to twice as long is drawn.
    pub retry_after: Duration,
}

/// A newcomer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// May stay.
    Seat,
    /// To be told Server Busy after CONNECT.
    Lobby,
}

/// Why a newcomer is turned away before TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All seats and the lobby are taken.
    Full,
    /// Too many connections of its address.
    Address,
    /// Too many handshakes this second.
    Rate,
}

impl Refusal {
    /// A word for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Rate => "rate",
        }
    }
}

/// Newcomers in the lobby at once.
const LOBBY: usize = 64;
/// Of a crowd that comes at once as many begin their handshakes together as this time allows: those within share the thread.
const TOGETHER: Duration = Duration::from_millis(20);

/// Counts connections.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    seats: usize,
    lobby: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Handshakes that may begin now, in millionths.
    credit: u64,
    refilled: Mono,
    /// When the handshakes that began would be over at the rate allowed.
    busy_until: Mono,
}

impl Admission {
    /// Nobody is in.
    pub fn new(limits: Limits, now: Mono) -> Self {
        let credit = u64::from(limits.handshakes_per_s) * 1_000_000;
        Self {
            limits,
            seats: 0,
            lobby: 0,
            by_address: HashMap::new(),
            credit,
            refilled: now,
            busy_until: now,
        }
    }

    /// A connection from `address` wants to begin its handshake. What gets a place must
    /// [`Self::leave`] it.
    pub fn enter(&mut self, now: Mono, address: IpAddr) -> Result<Place, Refusal> {
        self.refill(now);
        let address = network(address);
        if self.by_address.get(&address).is_some_and(|&n| n >= self.limits.max_per_address) {
            return Err(Refusal::Address);
        }
        let place = if self.seats < self.limits.max_connections {
            Place::Seat
        } else if self.lobby < LOBBY {
            Place::Lobby
        } else {
            return Err(Refusal::Full);
        };
        self.credit = self.credit.checked_sub(1_000_000).ok_or(Refusal::Rate)?;
        match place {
            Place::Seat => self.seats += 1,
            Place::Lobby => self.lobby += 1,
        }
        *self.by_address.entry(address).or_default() += 1;
        Ok(place)
    }

    /// How long one that has entered is to wait before it begins its handshake: a crowd is taken in evenly, within
    /// about a second.
    pub fn turn(&mut self, now: Mono) -> Duration {
        let begins = self.busy_until.max(now);
        self.busy_until = begins + Duration::from_secs(1) / self.limits.handshakes_per_s.max(1);
        begins.since(now).saturating_sub(TOGETHER)
    }

    /// It is closed.
    pub fn leave(&mut self, address: IpAddr, place: Place) {
        match place {
            Place::Seat => self.seats = self.seats.saturating_sub(1),
            Place::Lobby => self.lobby = self.lobby.saturating_sub(1),
        }
        let address = network(address);
        if let Some(n) = self.by_address.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// Connections that have a seat.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// Whether QUIC clients should prove their address first (RETRY): more than half of the
    /// second's handshakes are spent.
    pub fn is_pressed(&mut self, now: Mono) -> bool {
        self.refill(now);
        self.credit < u64::from(self.limits.handshakes_per_s) * 500_000
    }

    fn refill(&mut self, now: Mono) {
        let rate = u64::from(self.limits.handshakes_per_s);
        let passed = u64::try_from(now.since(self.refilled).as_micros()).unwrap_or(u64::MAX).min(1_000_000);
        self.refilled = self.refilled.max(now);
        self.credit = (self.credit + passed * rate).min(rate * 1_000_000);
    }
}

/// What a refused client is told to wait, in milliseconds: spread, so that they do not come back
/// together.
pub fn retry_after_ms(least: Duration, rng: &mut fastrand::Rng) -> u64 {
    let least = u64::try_from(least.as_millis()).unwrap_or(u64::MAX).clamp(1, 86_400_000);
    rng.u64(least..least * 2)
}

/// One customer's addresses: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_connections: 3,
        max_per_address: 2,
        handshakes_per_s: 10,
        retry_after: Duration::from_secs(5),
    };

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn seats_lobby_and_addresses_are_bounded_and_come_back() {
        let limits = Limits { handshakes_per_s: 1000, ..LIMITS };
        let mut all = Admission::new(limits, Mono(0));
        assert_eq!(all.enter(Mono(0), ip(1)), Ok(Place::Seat));
        assert_eq!(all.enter(Mono(0), ip(1)), Ok(Place::Seat));
        assert_eq!(all.enter(Mono(0), ip(1)), Err(Refusal::Address));
        assert_eq!(all.enter(Mono(0), ip(2)), Ok(Place::Seat));
        for n in 0..LOBBY as u8 {
            assert_eq!(all.enter(Mono(0), ip(n + 10)), Ok(Place::Lobby));
        }
        assert_eq!(all.enter(Mono(0), ip(3)), Err(Refusal::Full));
        all.leave(ip(10), Place::Lobby);
        assert_eq!(all.enter(Mono(0), ip(3)), Ok(Place::Lobby));
        all.leave(ip(1), Place::Seat);
        assert_eq!(all.enter(Mono(0), ip(1)), Ok(Place::Seat));
    }

    #[test]
    fn handshakes_a_second_are_bounded_however_they_come() {
        let limits = Limits { max_connections: 1000, max_per_address: 1000, ..LIMITS };
        let mut all = Admission::new(limits, Mono(0));
        let mut admitted = |from: u64, to: u64| {
            (from..to).step_by(1000).filter(|&t| all.enter(Mono(t), ip(1)).is_ok()).count()
        };
        assert_eq!(admitted(0, 1_000), 1);
        assert_eq!(admitted(1_000, 1_001_000), 19, "a burst of ten, then ten a second");
        assert_eq!(admitted(1_001_000, 4_001_000), 30);
        // A clock that jumps gives no more than a second's worth.
        assert_eq!(all.enter(Mono(u64::MAX / 4), ip(1)), Ok(Place::Seat));
        let more = (0..100).filter(|_| all.enter(Mono(u64::MAX / 4), ip(1)).is_ok()).count();
        assert_eq!(more, 9);
        assert!(all.is_pressed(Mono(u64::MAX / 4)));
    }

    #[test]
    fn a_crowd_begins_its_handshakes_evenly() {
        let limits = Limits { max_connections: 1000, max_per_address: 1000, handshakes_per_s: 500, ..LIMITS };
        let mut all = Admission::new(limits, Mono(0));
        let mut began: Vec<Mono> = Vec::new();
        for _ in 0..500 {
            assert!(all.enter(Mono(0), ip(1)).is_ok());
            began.push(Mono(0) + all.turn(Mono(0)));
        }
        assert_eq!(all.enter(Mono(0), ip(1)), Err(Refusal::Rate), "who is too many is told so at once");
        // TOGETHER is ten at this rate.
        let beside = |from: Mono| began.iter().filter(|t| **t >= from && t.since(from) < TOGETHER).count();
        assert!(began.iter().all(|&from| beside(from) <= 21));
        let over = began.last().unwrap().since(Mono(0));
        assert!((Duration::from_millis(970)..Duration::from_millis(1000)).contains(&over), "{over:?}");
        assert_eq!(all.turn(Mono(0) + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn an_ipv6_customer_is_its_64() {
        let v6 = |s: &str| network(s.parse().unwrap());
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::9"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
        assert_eq!(v6("::ffff:10.0.0.1"), ip(1));
    }

    #[test]
    fn the_wait_is_spread() {
        let mut rng = fastrand::Rng::with_seed(1);
        let waits: Vec<u64> = (0..100).map(|_| retry_after_ms(LIMITS.retry_after, &mut rng)).collect();
        assert!(waits.iter().all(|w| (5000..10_000).contains(w)));
        assert!(waits.iter().max() > waits.iter().min());
        assert!(retry_after_ms(Duration::ZERO, &mut rng) < 3);
    }
}
