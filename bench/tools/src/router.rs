//! A router between two network namespaces: a TUN device in each, and what goes in at one comes out at the other, later, or not
//! at all. By seed, so that a run can be repeated as far as its packets come in the same order.
//!
//! It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. The namespaces exist (`ip netns add`); `10.77.0.1` is in `--a`, `10.77.0.2` in `--b`.
//! SIGUSR1 prints the counts so far; SIGTERM prints them and ends it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::Args;
use crate::net::Result;

/// Packets that wait in one direction: more are dropped, as a full router does.
const QUEUE: usize = 20_000;

static REPORT: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    if signal == libc::SIGUSR1 { &REPORT } else { &STOP }.store(true, Ordering::Relaxed);
}

#[derive(Default)]
struct Way {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    packets: u64,
    bytes: u64,
    dropped: u64,
    overflowed: u64,
}

impl Way {
    fn take(&mut self, packet: &[u8], now: Instant, delay: Duration, loss: f64, rng: &mut fastrand::Rng) {
        // Router solicitations and the like are no traffic of ours.
        if packet.first().is_none_or(|b| b >> 4 != 4) {
            return;
        }
        self.packets += 1;
        self.bytes += packet.len() as u64;
        if rng.f64() < loss {
            self.dropped += 1;
        } else if self.waiting.len() >= QUEUE {
            self.overflowed += 1;
        } else {
            self.waiting.push_back((now + delay, packet.to_vec()));
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({"packets": self.packets, "bytes": self.bytes, "dropped": self.dropped, "overflowed": self.overflowed})
    }
}

pub fn run(args: &Args) -> Result<()> {
    let delay = Duration::from_secs_f64(args.or("delay-ms", 20.0)? / 1e3);
    let loss = args.or("loss", 0.0)? / 100.0;
    let mut rng = fastrand::Rng::with_seed(args.or("seed", 1)?);
    let mut ends = [tun(args.text("a")?, "10.77.0.1")?, tun(args.text("b")?, "10.77.0.2")?];
    for signal in [libc::SIGUSR1, libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal, on_signal as *const () as usize) };
    }
    let mut ways = [Way::default(), Way::default()];
    println!("{}", json!({"phase": "ready"}));
    let mut buffer = [0; 65_536];
    while !STOP.load(Ordering::Relaxed) {
        if REPORT.swap(false, Ordering::Relaxed) {
            println!("{}", json!({"a_to_b": ways[0].json(), "b_to_a": ways[1].json()}));
        }
        let next = ways.iter().filter_map(|w| w.waiting.front().map(|(at, _)| *at)).min();
        wait(&ends, next)?;
        let now = Instant::now();
        for i in 0..2 {
            loop {
                match ends[i].read(&mut buffer) {
                    Ok(n) => ways[i].take(&buffer[..n], now, delay, loss, &mut rng),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e.into()),
                }
            }
        }
        let now = Instant::now();
        for i in 0..2 {
            while ways[i].waiting.front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, packet)) = ways[i].waiting.pop_front() else { break };
                // A TUN device that is full drops, as any other.
                if ends[1 - i].write(&packet).is_err() {
                    ways[i].overflowed += 1;
                }
            }
        }
    }
    println!("{}", json!({"a_to_b": ways[0].json(), "b_to_a": ways[1].json()}));
    Ok(())
}

fn wait(ends: &[File; 2], next: Option<Instant>) -> Result<()> {
    let mut fds =
        ends.each_ref().map(|f| libc::pollfd { fd: f.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let left = next.map_or(Duration::from_secs(1), |at| at.saturating_duration_since(Instant::now()));
    let time = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
    // SAFETY: both pointers outlive the call.
    let n = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const time, std::ptr::null()) };
    if n < 0 && Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
        return Err(Error::last_os_error().into());
    }
    Ok(())
}

/// A TUN device in the namespace, up, with the address and a route to the other one.
fn tun(namespace: &str, address: &str) -> Result<File> {
    // A thread of its own enters the namespace, so that this one stays where it is.
    let (namespace, address) = (namespace.to_owned(), address.to_owned());
    let made = std::thread::spawn(move || -> std::io::Result<File> {
        let file = File::open(format!("/run/netns/{namespace}"))?;
        // SAFETY: a valid descriptor; affects this thread only.
        if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(Error::last_os_error());
        }
        let path = CString::new("/dev/net/tun")?;
        // SAFETY: a valid C string.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let tun = unsafe { File::from_raw_fd(fd) };
        // SAFETY: all zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(b"dts0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF takes an ifreq.
        if unsafe { libc::ioctl(fd, libc::TUNSETIFF as _, &raw mut request) } != 0 {
            return Err(Error::last_os_error());
        }
        for command in [
            format!("ip addr add {address}/24 dev dts0"),
            "ip link set dts0 mtu 1500 txqueuelen 10000 up".to_owned(),
            "ip link set lo up".to_owned(),
        ] {
            let mut words = command.split(' ');
            let status = std::process::Command::new(words.next().unwrap_or_default()).args(words).status()?;
            if !status.success() {
                return Err(Error::other(format!("{command}: {status}")));
            }
        }
        Ok(tun)
    });
    made.join().map_err(|_| "a thread panicked")?.map_err(Into::into)
}
