//! A connection that asks.

use std::time::Duration;

use super::answer::{Answer, Rows};
use super::command::{Dump, Replica};
use super::dsn::Dsn;
use super::error::ClientError;
use super::login::{Greeting, Login, Step};
use super::packet::{Joiner, encode};
use super::stream::BinlogStream;
use super::wire::{Wake, Wire};

/// Bytes that the answer to a query may have: a list of files or of tables is far below.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes that a packet during login may have.
const MAX_LOGIN: usize = 64 << 10;

/// A connection to a server, logged in.
#[derive(Debug)]
pub struct Conn {
    pub(super) wire: Wire,
    greeting: Greeting,
    pub(super) read_timeout: Duration,
}

impl Conn {
    /// Dials and logs in.
    pub fn open(dsn: &Dsn, wake: &Wake) -> Result<Self, ClientError> {
        let mut wire = Wire::connect(dsn, wake.clone())?;
        let mut login = Login::new(dsn, wire.is_local());
        loop {
            let payload = payload(&mut wire, dsn.timeout, MAX_LOGIN, "the login")?;
            let mut seed = [0; 20];
            crate::runtime::rng().fill(&mut seed);
            match login.packet(&payload, seed)? {
                Step::Send(answer) => send(&mut wire, &answer, dsn.timeout)?,
                Step::StartTls(request) => {
                    send(&mut wire, &request, dsn.timeout)?;
                    wire.start_tls(dsn)?;
                    send(&mut wire, &login.encrypted(), dsn.timeout)?;
                }
                Step::Wait => {}
                Step::Done => break,
            }
        }
        let greeting = login.greeting;
        Ok(Self { wire, greeting, read_timeout: dsn.read_timeout })
    }

    /// The server's version as it calls itself.
    pub fn version(&self) -> &str {
        &self.greeting.version
    }

    /// Whether it is MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.greeting.version.contains("MariaDB")
    }

    /// Number of the connection at the server.
    pub fn thread(&self) -> u32 {
        self.greeting.thread
    }

    /// Runs a statement; the rows it shows.
    pub fn query(&mut self, sql: &str) -> Result<Rows, ClientError> {
        let mut command = vec![3];
        command.extend_from_slice(sql.as_bytes());
        self.command(&command)?;
        let mut answer = Answer::default();
        loop {
            let payload = payload(&mut self.wire, self.read_timeout, MAX_ANSWER, "the answer to a query")?;
            if let Some(rows) = answer.packet(&payload, MAX_ANSWER)? {
                return Ok(rows);
            }
        }
    }

    /// Asks whether the server is there.
    pub fn ping(&mut self) -> Result<(), ClientError> {
        self.command(&[0x0e])?;
        self.ok()
    }

    /// Becomes a replica that reads from `dump` on. `quiet` is the longest silence: longer than the heartbeats' period
    /// that the session was given.
    pub fn dump(
        mut self,
        dump: &Dump,
        replica: Replica,
        quiet: Duration,
    ) -> Result<BinlogStream, ClientError> {
        self.command(&replica.register())?;
        self.ok()?;
        self.command(&dump.command(replica))?;
        Ok(BinlogStream::new(self.wire, quiet))
    }

    pub(super) fn command(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        self.wire.packets.sequence = 0;
        send(&mut self.wire, payload, self.read_timeout)
    }

    fn ok(&mut self) -> Result<(), ClientError> {
        let payload = payload(&mut self.wire, self.read_timeout, MAX_LOGIN, "an answer")?;
        Answer::default().packet(&payload, MAX_LOGIN).map(|_| ())
    }
}

pub(super) fn payload(
    wire: &mut Wire,
    limit: Duration,
    max: usize,
    what: &'static str,
) -> Result<Vec<u8>, ClientError> {
    let mut joiner = Joiner::default();
    loop {
        if let Some(payload) = joiner.take(&mut wire.packets, max, what)? {
            return Ok(payload);
        }
        wire.read(limit, what)?;
    }
}

/// Sends the next packet of the exchange.
fn send(wire: &mut Wire, payload: &[u8], limit: Duration) -> Result<(), ClientError> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    let mut sequence = wire.packets.sequence;
    encode(payload, &mut sequence, &mut out);
    wire.packets.sequence = sequence;
    wire.send(&out, limit)
}
