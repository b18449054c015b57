//! Names to addresses, by the system's resolver on a short-lived thread, and the last good addresses
//! for when DNS is dead.
//!
//! At most one thread named `dns` exists in the process, however long the system's resolver hangs.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use async_channel::{Receiver, Sender};

use super::error::LinkError;
use super::race::MAX_ADDRESSES;
use crate::runtime::{Mono, mono_now, timeout};

/// glibc's resolver loads its modules on this stack.
const STACK_BYTES: usize = 256 << 10;
/// Two dials of one attempt share an answer.
const FRESH: Duration = Duration::from_secs(10);

/// Looks a name up, blocking.
pub(super) type Lookup = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The addresses of one host.
#[derive(Debug)]
pub(super) struct Resolver {
    host: String,
    file: Option<PathBuf>,
    lookup: Lookup,
    /// The last one that worked first.
    known: RefCell<Vec<IpAddr>>,
    answered: Cell<Option<Mono>>,
}

/// Whoever holds the token may have a thread.
fn token() -> &'static (Sender<()>, Receiver<()>) {
    static TOKEN: OnceLock<(Sender<()>, Receiver<()>)> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let (tx, rx) = async_channel::bounded(1);
        tx.try_send(()).ok();
        (tx, rx)
    })
}

fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
}

impl Resolver {
    /// For `host`. `file` keeps the addresses over restarts.
    pub(super) fn new(host: &str, file: Option<PathBuf>) -> Self {
        Self::with_lookup(host, file, system_lookup)
    }

    pub(super) fn with_lookup(host: &str, file: Option<PathBuf>, lookup: Lookup) -> Self {
        let known = RefCell::new(file.as_ref().map(|f| read_file(f, host)).unwrap_or_default());
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            file,
            lookup,
            known,
            answered: Cell::new(None),
        }
    }

    /// The host's addresses, the last one that worked first; at least one. If DNS does not answer
    /// within `limit`, those of last time.
    pub(super) async fn resolve(&self, limit: Duration) -> Result<Vec<IpAddr>, LinkError> {
        if let Ok(ip) = self.host.parse() {
            return Ok(vec![ip]);
        }
        let answer = match timeout(limit, self.ask()).await {
            Some(answer) => answer,
            None => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
        };
        let mut known = self.known.borrow_mut();
        match answer {
            Ok(new) if !new.is_empty() => {
                // What worked last stays first as long as DNS still names it.
                let mut order: Vec<_> =
                    known.first().copied().filter(|ip| new.contains(ip)).into_iter().collect();
                for ip in new.into_iter().take(2 * MAX_ADDRESSES) {
                    if !order.contains(&ip) {
                        order.push(ip);
                    }
                }
                self.answered.set(Some(mono_now()));
                *known = order;
                Ok(known.clone())
            }
            Ok(_) | Err(_) if !known.is_empty() => {
                log::debug!("DNS has no answer for {}: using the addresses of last time", self.host);
                Ok(known.clone())
            }
            Ok(_) => Err(LinkError::Dns { host: self.host.clone(), reason: "it has no address".to_owned() }),
            Err(e) => Err(LinkError::Dns { host: self.host.clone(), reason: e.to_string() }),
        }
    }

    /// The addresses known now, without asking.
    pub(super) fn known(&self) -> Vec<IpAddr> {
        match self.host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.known.borrow().clone(),
        }
    }

    /// This address led to the peer: it is tried first from now on, after a restart too.
    pub(super) fn worked(&self, ip: IpAddr) {
        let mut known = self.known.borrow_mut();
        if known.first() == Some(&ip) && self.file.as_ref().is_none_or(|f| f.exists()) {
            return;
        }
        known.retain(|other| *other != ip);
        known.insert(0, ip);
        if let Some(file) = &self.file {
            let lines = known.iter().take(MAX_ADDRESSES).map(|ip| format!("{ip}\n"));
            let text: String = std::iter::once(format!("{}\n", self.host)).chain(lines).collect();
            let new = file.with_extension("new");
            // A cache: if it cannot be written, the next start asks DNS.
            if let Err(e) = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)) {
                log::debug!("addresses not kept in {}: {e}", file.display());
            }
        }
    }

    async fn ask(&self) -> io::Result<Vec<IpAddr>> {
        let (give_back, take) = token();
        take.recv().await.ok();
        if self.answered.get().is_some_and(|at| mono_now().since(at) < FRESH) {
            give_back.try_send(()).ok();
            return Ok(self.known.borrow().clone());
        }
        let (tx, rx) = async_channel::bounded(1);
        let (host, lookup) = (self.host.clone(), self.lookup);
        let spawned =
            std::thread::Builder::new().name("dns".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                tx.try_send(lookup(&host)).ok();
                token().0.try_send(()).ok();
            });
        if let Err(e) = spawned {
            give_back.try_send(()).ok();
            return Err(e);
        }
        rx.recv().await.unwrap_or_else(|_| Err(io::Error::other("the resolver crashed")))
    }
}

fn read_file(file: &PathBuf, host: &str) -> Vec<IpAddr> {
    let text = match std::fs::metadata(file) {
        Ok(m) if m.len() < 4096 => std::fs::read_to_string(file).unwrap_or_default(),
        _ => return Vec::new(),
    };
    let mut lines = text.lines();
    if lines.next() != Some(host) {
        return Vec::new();
    }
    lines.filter_map(|line| line.parse().ok()).take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tests::TempDir;
    use crate::runtime::block_on;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMIT: Duration = Duration::from_secs(20);

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn what_worked_is_first_and_survives_dead_dns_and_a_restart() {
        let dir = TempDir::new();
        let file = Some(dir.path("addresses"));
        let alive = Resolver::with_lookup("centre.test", file.clone(), |_| Ok(vec![ip(1), ip(2)]));
        assert_eq!(block_on(alive.resolve(LIMIT)).unwrap(), [ip(1), ip(2)]);
        alive.worked(ip(2));
        assert_eq!(block_on(alive.resolve(LIMIT)).unwrap(), [ip(2), ip(1)]);

        let dead: Lookup = |_| Err(io::Error::other("no DNS"));
        let restarted = Resolver::with_lookup("centre.test", file.clone(), dead);
        assert_eq!(block_on(restarted.resolve(LIMIT)).unwrap(), [ip(2), ip(1)]);
        let other = Resolver::with_lookup("other.test", file, dead);
        assert!(matches!(block_on(other.resolve(LIMIT)), Err(LinkError::Dns { .. })));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = TempDir::new();
        for text in [&b""[..], b"centre.test\n\xff\xff", b"centre.test\nnot an address\n", &[b'x'; 9000]] {
            std::fs::write(dir.path("addresses"), text).unwrap();
            assert!(read_file(&dir.path("addresses"), "centre.test").is_empty());
        }
    }

    #[test]
    fn a_hanging_resolver_costs_one_thread_and_the_limit() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static GATE: OnceLock<(Sender<()>, Receiver<()>)> = OnceLock::new();
        let gate = GATE.get_or_init(|| async_channel::bounded(1));
        let hangs: Lookup = |_| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            GATE.get().map(|g| g.1.recv_blocking().is_ok());
            Ok(vec![ip(9)])
        };
        let resolver = Resolver::with_lookup("slow.test", None, hangs);
        let short = Duration::from_millis(30);
        while ASKED.load(Ordering::SeqCst) == 0 {
            // Other tests may hold the thread for a moment.
            assert!(block_on(resolver.resolve(short)).is_err());
        }
        assert!(block_on(resolver.resolve(short)).is_err());
        assert_eq!(ASKED.load(Ordering::SeqCst), 1, "a second thread was started");
        gate.0.close();
        // Well again when the resolver answers.
        assert_eq!(block_on(resolver.resolve(LIMIT)).unwrap(), [ip(9)]);
    }

    #[test]
    fn addresses_need_no_resolver() {
        let never: Lookup = |_| Err(io::Error::other("asked"));
        let resolver = Resolver::with_lookup("[::1]", None, never);
        assert_eq!(block_on(resolver.resolve(LIMIT)).unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
