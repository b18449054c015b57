//! The thread `mysql`: connect, read, hand on; and again when the connection is lost.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;

use super::config::{Config, Start};
use super::core::{Core, Out};
use super::error::LiveError;
use super::filter::Filter;
use super::server;
use crate::checkpoint::Checkpoint;
use crate::runtime::mono_now;
use crate::source::mysql::binlog::{Event, Options, Reader};
use crate::source::mysql::client::{ClientError, Conn, Replica, Wake};
use crate::source::mysql::snapshot::window::Position;
use crate::source::mysql::snapshot::{self, Made, Shared};
use crate::source::mysql::tables::Entry;
use crate::telemetry;

const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A clash of `server_id`s is given up after so many.
const MAX_CLASHES: u32 = 3;
/// A connection that stood for so long was well.
const WELL_AFTER: Duration = Duration::from_secs(600);
/// The core looks at the clock once in so many events.
const EVENTS_A_LOOK: u64 = 64;

/// What the thread begins with.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) name: String,
    pub(super) filter: Filter,
    pub(super) start: Start,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) history: Vec<Entry>,
    /// Where large events are put aside.
    pub(super) temp_dir: std::path::PathBuf,
    /// Where it meets the snapshot.
    pub(super) shared: Arc<Shared>,
}

/// What is told about the server before anything of it comes.
#[derive(Debug)]
pub(super) enum Message {
    /// Whose binlog it is: MySQL's `server_uuid`; and how long it keeps a file, in seconds, 0 for ever.
    Server(String, u64),
    Out(Out),
    /// Of the snapshot's thread.
    Snapshot(Made),
    /// The snapshot cannot go on; why.
    SnapshotFailed(String),
}

struct Thread {
    setup: Setup,
    core: Rc<RefCell<Core>>,
    out: Sender<Message>,
    wake: Wake,
    /// Whose position it is.
    server: String,
    /// A place to begin was found.
    has_begun: bool,
}

/// Reads until dts stops, or until the user is needed.
pub(super) fn run(setup: Setup, core: Core, out: Sender<Message>, wake: Wake) -> Result<(), LiveError> {
    let (server, has_begun) = match &setup.checkpoint {
        Some(checkpoint) => (checkpoint.server.clone(), true),
        None => (String::new(), false),
    };
    let core = Rc::new(RefCell::new(core));
    core.borrow_mut().replay(&setup.history);
    let mut thread = Thread { setup, core, out, wake, server, has_begun };
    let (mut pause, mut clashes, mut rng) = (MIN_PAUSE, 0, crate::runtime::rng());
    loop {
        let (before, began) = (thread.core.borrow().events, mono_now());
        let Err(error) = thread.connect() else { return Ok(()) };
        let source = thread.setup.name.clone();
        telemetry::gauge("dts_mysql_connected", &[("source", &source)], 0.0);
        thread.setup.shared.connected("", None, false);
        let stopping = matches!(error, LiveError::Stopped | LiveError::Client(ClientError::Stopped));
        if stopping || thread.wake.is_over() || thread.out.is_closed() {
            return Ok(());
        }
        // What was read up to here is whole.
        if thread.hand_on().is_err() {
            return Ok(());
        }
        if mono_now().since(began) > WELL_AFTER {
            clashes = 0;
        }
        if matches!(error, LiveError::Clash(_)) {
            clashes += 1;
        }
        if !error.is_retriable() || clashes >= MAX_CLASHES {
            return Err(error);
        }
        if thread.core.borrow().events > before + EVENTS_A_LOOK {
            pause = MIN_PAUSE;
        }
        let wait = pause.mul_f64(0.5 + 0.5 * rng.f64());
        telemetry::count("dts_mysql_reconnects_total", &[("source", &source)], 1);
        log::warn!("source `{source}`: {error}; connecting again in {} ms", wait.as_millis());
        if !thread.wake.sleep(wait) {
            return Ok(());
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

impl Thread {
    /// One connection; ends with the reason of its end.
    fn connect(&mut self) -> Result<(), LiveError> {
        let config = &self.setup.config;
        let mut conn = Conn::open(&config.dsn, &self.wake)?;
        let facts = server::facts(&mut conn)?;
        if !self.has_begun {
            self.begin(&mut conn, &facts)?;
        }
        let replica = Replica { server_id: self.setup.config.server_id };
        let read = self.core.borrow().read.clone();
        let read = match (&self.setup.checkpoint, read.file.is_empty()) {
            // The first connection: only now it is known whose GTIDs those are.
            (Some(checkpoint), true) => {
                let read = server::resume(checkpoint, facts.is_mariadb)?;
                self.core.borrow_mut().resume(read.clone());
                read
            }
            _ => read,
        };
        let partial = self.setup.checkpoint.as_ref().and_then(|checkpoint| checkpoint.partial.as_deref());
        let config = &self.setup.config;
        let identity = snapshot::identity(&mut conn)?;
        server::session(&mut conn, &facts, replica, config.heartbeat)?;
        let dump = server::dump(&mut conn, &facts, &read, config.positions, &self.server, partial)?;
        self.server.clone_from(&facts.uuid);
        self.send(Message::Server(facts.uuid.clone(), facts.kept_s))?;
        self.hand_on()?;
        log::info!(
            "source `{}`: connected to {} ({}), reading from {}",
            self.setup.name,
            config.dsn.address,
            conn.version(),
            match &dump {
                crate::source::mysql::client::Dump::Gtid(_) => "its GTIDs".to_owned(),
                crate::source::mysql::client::Dump::File { file, .. } if file.is_empty() =>
                    "its GTIDs".to_owned(),
                crate::source::mysql::client::Dump::File { file, pos } => format!("{file}:{pos}"),
            }
        );
        telemetry::gauge("dts_mysql_connected", &[("source", &self.setup.name)], 1.0);
        let quiet = config.heartbeat * 3;
        let stream = conn
            .dump(&dump, replica, quiet)
            .map_err(|error| LiveError::from_dump(error, replica.server_id))?;
        self.core.borrow_mut().connected(&facts.uuid, &read.file);
        let begins = Position { file: read.file.clone(), pos: read.pos };
        self.setup.shared.connected(&identity, Some(begins), !facts.has_gtids);
        self.read(stream, facts.checksum, replica)
    }

    /// Finds where to begin, and what the tables look like there.
    fn begin(&mut self, conn: &mut Conn, facts: &server::Facts) -> Result<(), LiveError> {
        let read = server::begin(conn, facts, &self.setup.start)?;
        let mut core = self.core.borrow_mut();
        core.begin(read);
        // Elsewhere the tables may have looked otherwise.
        if self.setup.start == Start::Current {
            let entries = server::schemas(conn, &self.setup.filter)?;
            let status = server::status(conn)?;
            let pos = status.text(0, "position").parse().unwrap_or(u64::MAX);
            core.learn(entries, status.text(0, "file"), pos);
        }
        core.push_mark(mono_now());
        drop(core);
        self.has_begun = true;
        Ok(())
    }

    fn read(
        &mut self,
        stream: crate::source::mysql::client::BinlogStream,
        checksum: crate::source::mysql::binlog::Checksum,
        replica: Replica,
    ) -> Result<(), LiveError> {
        let (core, out, wake, shared) =
            (self.core.clone(), self.out.clone(), self.wake.clone(), self.setup.shared.clone());
        let stream = stream.before_waiting(move || {
            core.borrow_mut().idle(mono_now());
            // That nobody listens is seen at the next event.
            hand_on(&core, &out, &shared).ok();
            tell(&core, &out, &shared, &wake);
        });
        let why = stream.error();
        let max_row_bytes = usize::try_from(self.setup.config.max_row_bytes.0).unwrap_or(usize::MAX);
        let options = Options {
            max_row_bytes,
            checksum_before_format: checksum,
            temp_dir: self.setup.temp_dir.clone(),
            ..Options::default()
        };
        let mut reader = Reader::from_stream(stream, options);
        let (mut count, mut now) = (0u64, mono_now());
        loop {
            let item = match reader.next() {
                Ok(Some(item)) => item,
                Ok(None) => {
                    let error = std::io::ErrorKind::UnexpectedEof.into();
                    return Err(ClientError::Io { what: "read the binlog", error }.into());
                }
                Err(error) => {
                    return Err(match why.borrow_mut().take() {
                        Some(error) => LiveError::from_dump(error, replica.server_id),
                        None => LiveError::Log { file: self.core.borrow().file().to_owned(), error },
                    });
                }
            };
            count += 1;
            if count.is_multiple_of(EVENTS_A_LOOK) {
                now = mono_now();
            }
            let mut core = self.core.borrow_mut();
            let statement = match &item.event {
                Event::Query(query) => Some(core.tables.statement(query)),
                _ => None,
            };
            core.event(&item, statement.as_ref(), now)?;
            let new = match &item.event {
                Event::TableMap(map) => core.tables.news(map).map(|hints| (map.table_id, hints)),
                _ => None,
            };
            if let Some((id, hints)) = new {
                let file = core.file().to_owned();
                reader.describe(id, &hints).map_err(|error| LiveError::Log { file, error })?;
                if let Some(map) = reader.decoder().table(id) {
                    core.tables.handled(map);
                }
            }
            let is_held = self.setup.shared.is_holding() && core.open_is_over();
            if is_held {
                core.idle(now);
            }
            let has_out = !core.out.is_empty();
            drop(core);
            if has_out {
                self.hand_on()?;
            }
            if is_held || has_out || count.is_multiple_of(EVENTS_A_LOOK) {
                tell(&self.core, &self.out, &self.setup.shared, &self.wake);
            }
        }
    }

    fn send(&self, message: Message) -> Result<(), LiveError> {
        self.out.send_blocking(message).map_err(|_| LiveError::Stopped)
    }

    fn hand_on(&self) -> Result<(), LiveError> {
        hand_on(&self.core, &self.out, &self.setup.shared)
    }
}

/// Hands on what the core has. Waits while nobody takes it: the server waits then too.
fn hand_on(core: &Rc<RefCell<Core>>, out: &Sender<Message>, shared: &Shared) -> Result<(), LiveError> {
    loop {
        let next = core.borrow_mut().out.pop_front();
        let Some(next) = next else { return Ok(()) };
        if let Out::Batch(batch, _) = &next {
            shared.batch(batch);
        }
        out.send_blocking(Message::Out(next)).map_err(|_| LiveError::Stopped)?;
    }
}

/// Tells a snapshot how far everything was handed on, and stands still where it asks for that.
fn tell(core: &Rc<RefCell<Core>>, out: &Sender<Message>, shared: &Shared, wake: &Wake) {
    if !shared.is_watching() {
        return;
    }
    let (standing, gtids) = {
        let core = core.borrow();
        (core.standing(), shared.is_holding().then(|| core.read.gtids.text()).flatten())
    };
    let Some((file, pos, is_boundary)) = standing else { return };
    let place = Position { file, pos };
    shared.reached(place.clone());
    if is_boundary {
        shared.stand(&place, gtids, || !wake.is_over() && !out.is_closed());
    }
}
