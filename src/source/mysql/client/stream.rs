//! The binlog as a server sends it, as a stream of bytes such as a file has: the magic number, then events.
//!
//! Nothing is joined: an event above 16 MiB passes through packet by packet.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use super::answer::ServerError;
use super::error::ClientError;
use super::packet::FULL;
use super::wire::Wire;
use crate::source::mysql::binlog::MAGIC;

/// What the server sends. As [`Read`] it blocks, and calls what [`Self::before_waiting`] was given before it does.
pub struct BinlogStream {
    wire: Wire,
    quiet: Duration,
    core: Unpack,
    idle: Box<dyn FnMut()>,
    error: Rc<RefCell<Option<ClientError>>>,
}

impl std::fmt::Debug for BinlogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BinlogStream").field("core", &self.core).finish_non_exhaustive()
    }
}

/// Takes the events' bytes out of packets. No IO.
#[derive(Debug, Default)]
pub(super) struct Unpack {
    /// Bytes of the magic number that were given.
    magic: usize,
    /// Bytes of the packet at hand that are still to come.
    left: usize,
    /// The packet at hand is full: the next has no status byte.
    goes_on: bool,
    /// The status byte of the packet at hand is still to come.
    status: bool,
}

impl Unpack {
    /// Moves bytes into `out`; how many. None if more must come first.
    pub(super) fn take(
        &mut self,
        packets: &mut super::packet::Packets,
        out: &mut [u8],
    ) -> Result<usize, ClientError> {
        if self.magic < MAGIC.len() {
            let rest = MAGIC.get(self.magic..).unwrap_or_default();
            let n = rest.len().min(out.len());
            out.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.magic += n;
            return Ok(n);
        }
        let mut made = 0;
        while made < out.len() {
            if self.left == 0 && !self.status {
                let Some(length) = packets.head()? else { break };
                self.status = !self.goes_on;
                self.goes_on = length == FULL;
                self.left = length;
                if self.status && length == 0 {
                    return Err(ClientError::Protocol("an empty packet in the binlog"));
                }
            }
            if self.status {
                match packets.data().first() {
                    None => break,
                    Some(0) => {
                        packets.consume(1);
                        self.left -= 1;
                        self.status = false;
                    }
                    // What was read before is given first.
                    Some(_) if made > 0 => break,
                    Some(0xff) if packets.data().len() < self.left.min(1024) => break,
                    Some(0xff) => {
                        let error =
                            packets.data().get(1..self.left.min(packets.data().len())).unwrap_or_default();
                        return Err(ServerError::parse(error).into());
                    }
                    Some(0xfe) => {
                        return Err(ClientError::Io {
                            what: "read the binlog",
                            error: std::io::Error::other("the server ended it"),
                        });
                    }
                    Some(_) => {
                        return Err(ClientError::Protocol("a packet of the binlog with an unknown status"));
                    }
                }
            }
            let here = packets.data();
            let n = here.len().min(self.left).min(out.len() - made);
            if let (Some(to), Some(from)) = (out.get_mut(made..made + n), here.get(..n)) {
                to.copy_from_slice(from);
            }
            packets.consume(n);
            self.left -= n;
            made += n;
            if n == 0 && self.left > 0 {
                break;
            }
        }
        Ok(made)
    }
}

impl BinlogStream {
    pub(super) fn new(wire: Wire, quiet: Duration) -> Self {
        Self { wire, quiet, core: Unpack::default(), idle: Box::new(|| ()), error: Rc::default() }
    }

    /// What to do when all that came was given, before more is waited for.
    #[must_use]
    pub fn before_waiting(self, idle: impl FnMut() + 'static) -> Self {
        Self { idle: Box::new(idle), ..self }
    }

    /// Where the reason is put when [`Read::read`] fails.
    pub fn error(&self) -> Rc<RefCell<Option<ClientError>>> {
        self.error.clone()
    }

    fn next(&mut self, out: &mut [u8]) -> Result<usize, ClientError> {
        loop {
            let n = self.core.take(&mut self.wire.packets, out)?;
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            if !self.wire.read_now()? {
                (self.idle)();
                self.wire.read(self.quiet, "an event or a heartbeat")?;
            }
        }
    }
}

impl Read for BinlogStream {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.next(out).map_err(|error| {
            let shown = std::io::Error::other(error.to_string());
            *self.error.borrow_mut() = Some(error);
            shown
        })
    }
}
