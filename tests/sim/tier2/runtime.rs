//! quinn's runtime on the virtual clock of the machine that is entered.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};

use crate::runtime::simulated::Timer;
use crate::runtime::{Mono, mono_now, spawn};

/// The instant of [`Mono`] 0. Only differences are ever looked at.
#[expect(
    clippy::disallowed_methods,
    reason = "an `Instant` cannot be made otherwise; which one does not matter"
)]
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

/// The first microsecond that is not before `at`.
fn mono_of(at: Instant) -> Mono {
    Mono(at.saturating_duration_since(base()).as_nanos().div_ceil(1000) as u64)
}

#[derive(Debug)]
pub(super) struct SimRuntime;

impl Runtime for SimRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(SimTimer(Timer::new(mono_of(at))))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        spawn(future).detach();
    }

    fn wrap_udp_socket(&self, _socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        base() + Duration::from_micros(mono_now().0)
    }
}

#[derive(Debug)]
struct SimTimer(Timer);

impl AsyncTimer for SimTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.reset(mono_of(at));
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
