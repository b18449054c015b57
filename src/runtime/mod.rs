//! The one room with a clock, an executor and randomness. Everything else takes time as an argument
//! ([`Mono`], microseconds) and randomness as `&mut fastrand::Rng`.

mod exec;
#[cfg(feature = "http1")]
pub mod http;
#[cfg(feature = "quic")]
mod quic;
#[cfg(test)]
pub(crate) mod simulated;
mod socket;
mod stop;
mod time;
mod timer;

pub use exec::{Task, block_on, sleep, sleep_until, spawn, timeout};
#[cfg(feature = "quic")]
pub use quic::{QuicRuntime, route_mtu, udp_socket};
pub use socket::Socket;
pub use stop::{Stop, Stopper};
pub use time::{Mono, boot_id, mono_now, wall_now_us};
pub use timer::Sleep;

/// A boxed future that stays on its thread.
pub type LocalFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

/// A generator seeded by the kernel: devices of one image that start at one moment must differ.
pub fn rng() -> fastrand::Rng {
    use std::io::Read;
    #[cfg(test)]
    if let Some(node) = simulated::node() {
        return node.rng();
    }
    let mut seed = [0; 8];
    match std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed)) {
        Ok(()) => fastrand::Rng::with_seed(u64::from_le_bytes(seed)),
        Err(_) => fastrand::Rng::new(),
    }
}
