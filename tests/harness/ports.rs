//! Ports on 127.0.0.1 that nobody has, below those that the system gives out by itself.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

const FIRST: u16 = 15_000;
const LAST: u16 = 32_000;

/// One port, free for TCP and UDP.
pub(crate) fn port() -> u16 {
    ports(1)
}

/// The first of `count` free ports in a row.
pub(crate) fn ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time start at different places.
    let start = (std::process::id() % 500) as u16 * 32;
    for _ in 0..2000 {
        let offset = NEXT.fetch_add(count, Relaxed);
        let first = FIRST + (start.wrapping_add(offset)) % (LAST - FIRST - count);
        if (first..first + count).all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

fn is_free(port: u16) -> bool {
    let at = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()
}
