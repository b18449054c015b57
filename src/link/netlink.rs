//! Hears from the kernel when addresses or routes change (rtnetlink).

use std::io;
use std::os::fd::OwnedFd;

use async_io::Async;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE of linux/rtnetlink.h. Links are left
/// out: a radio reports its signal there.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// A watch on the machine's network. The kernel also reports what changes nothing for us (an address'
/// lifetime prolonged): compare [`super::Dialer::local_addresses`] before and after.
#[derive(Debug)]
pub struct NetWatch(Async<OwnedFd>);

impl NetWatch {
    /// Starts to listen. Fails where a sandbox forbids netlink; dts works without, by stall alone.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(Async::new(socket)?))
    }

    /// Waits until something changed, and takes all that is there. Wait a moment before looking: changes
    /// come in bursts. Cancel safe.
    pub async fn changed(&self) {
        let mut buf = [0u8; 4096];
        loop {
            if self.0.readable().await.is_err() {
                // No watch any more: nothing will ever be heard.
                return std::future::pending().await;
            }
            let mut heard = false;
            loop {
                match recv(&self.0, &mut buf, RecvFlags::DONTWAIT) {
                    Ok((_, 0)) | Err(rustix::io::Errno::AGAIN) => break,
                    Ok(_) => heard = true,
                    Err(rustix::io::Errno::INTR) => {}
                    // The kernel had more to say than the socket holds: something changed.
                    Err(rustix::io::Errno::NOBUFS) => heard = true,
                    Err(_) => return std::future::pending().await,
                }
            }
            if heard {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, timeout};
    use std::time::Duration;

    /// In a network of its own, so that nothing else is heard and nothing else is touched.
    #[test]
    fn a_new_address_is_heard() {
        let heard = std::thread::spawn(|| {
            // SAFETY: only this thread, which ends with the test, leaves the network.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return None;
            }
            let watch = NetWatch::open().ok()?;
            let ip = |args: &[&str]| std::process::Command::new("ip").args(args).status().ok();
            block_on(async {
                assert!(timeout(Duration::from_millis(20), watch.changed()).await.is_none());
                ip(&["address", "add", "127.0.0.9/8", "dev", "lo"])?;
                Some(timeout(Duration::from_secs(30), watch.changed()).await.is_some())
            })
        });
        match heard.join().unwrap() {
            Some(heard) => assert!(heard),
            None => println!("skipped: no rights for a network namespace, or no `ip`"),
        }
    }
}
