//! Bytes of one event in, the event out. No IO: the [`super::Reader`] and a replication client feed it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::bytes::Bytes;
use super::checksum::{self, Checksum};
use super::column::ColumnHint;
use super::error::{Malformed, Problem};
use super::event::{self, Event, Heartbeat, IntVar, Rotate, UserVar};
use super::format::{Flavour, FormatDescription};
use super::gtid::MySqlGtidSet;
use super::header::{EventType, HEADER_BYTES, Header, flags};
use super::inflate;
use super::payload::Payload;
use super::query::{Packed, Query};
use super::rows::{Rows, RowsHead, RowsKind, table_id};
use super::table_map::TableMap;
use super::transaction::{GtidEvent, GtidList, MariaDbGtidEvent, XaPrepare};

/// Shapes of tables that are kept, in bytes of memory: about what a server's own cache holds.
const MAX_TABLES_BYTES: usize = 32 << 20;

/// Reads events one by one, in the order of the log: later ones need what earlier ones told.
#[derive(Debug)]
pub struct Decoder {
    format: Option<FormatDescription>,
    /// How events end: as the format says, and before it as the client asked.
    checksum: Checksum,
    verify: bool,
    max_inflated_bytes: u64,
    tables: Tables,
    /// Inflated statement, or rows.
    scratch: Vec<u8>,
    /// The last one, which is lent.
    gtid: Option<GtidEvent>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that verifies checksums and has seen nothing.
    pub fn new() -> Self {
        Self {
            format: None,
            checksum: Checksum::None,
            verify: true,
            max_inflated_bytes: 64 << 20,
            tables: Tables::default(),
            scratch: Vec::new(),
            gtid: None,
        }
    }

    /// Whether checksums are verified. Default: yes.
    #[must_use]
    pub fn verify_checksums(self, verify: bool) -> Self {
        Self { verify, ..self }
    }

    /// Bytes that a compressed statement or event of rows (MariaDB) may have when inflated.
    /// Default: 64 MiB.
    #[must_use]
    pub fn max_inflated_bytes(self, max_inflated_bytes: u64) -> Self {
        Self { max_inflated_bytes, ..self }
    }

    /// How events end until the FORMAT_DESCRIPTION tells: what the client asked for with
    /// `@source_binlog_checksum`. Default: without checksum.
    #[must_use]
    pub fn checksum_before_format(self, checksum: Checksum) -> Self {
        Self { checksum, ..self }
    }

    /// What the file's first event said.
    pub fn format(&self) -> Option<&FormatDescription> {
        self.format.as_ref()
    }

    /// How events end now.
    #[inline]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Reads one whole event, its checksum included.
    pub fn decode<'a>(&'a mut self, event: &'a [u8]) -> Result<(Header, Event<'a>), Problem> {
        let header = Header::parse(event)?;
        let body = self.checked(&header, event)?;
        let event = self.read(&header, body).map_err(|problem| *problem)?;
        Ok((header, event))
    }

    /// The event without its checksum, which is verified.
    #[inline]
    pub(super) fn checked<'a>(&self, header: &Header, event: &'a [u8]) -> Result<&'a [u8], Problem> {
        if header.event_type == EventType::FORMAT_DESCRIPTION {
            if self.verify && FormatDescription::parse(event)?.checksum == Checksum::Crc32 {
                checksum::verify_format(event)?;
            }
            return Ok(event);
        }
        let least = (HEADER_BYTES + self.checksum.bytes()) as u32;
        if header.length < least || header.length as usize != event.len() {
            return Err(Problem::Length { found: header.length, least });
        }
        match self.checksum {
            Checksum::None => Ok(event),
            Checksum::Crc32 => {
                if self.verify {
                    checksum::verify(event)?;
                }
                Ok(event.get(..event.len() - 4).unwrap_or_default())
            }
        }
    }

    /// Reads an event that was checked. `event` has its header and not its checksum. A problem is
    /// boxed, so that an event is passed on as it is.
    #[inline]
    pub(super) fn read<'a>(
        &'a mut self,
        header: &Header,
        event: &'a [u8],
    ) -> Result<Event<'a>, Box<Problem>> {
        use EventType as T;
        self.tables.begin_event();
        let body = event.get(HEADER_BYTES..).unwrap_or_default();
        if header.event_type == T::FORMAT_DESCRIPTION {
            let format = FormatDescription::parse(event)?;
            self.tables.clear();
            self.tables.mariadb = format.flavour() == Flavour::MariaDb;
            self.checksum = format.checksum;
            return Ok(Event::FormatDescription(self.format.insert(format)));
        }
        let Some(format) = &self.format else {
            return match header.event_type {
                T::ROTATE => Ok(Event::Rotate(Rotate::parse(body)?)),
                T::HEARTBEAT => Ok(Event::Heartbeat(Heartbeat::parse(body, header.next_position)?)),
                T::HEARTBEAT_V2 => Ok(Event::Heartbeat(Heartbeat::parse_v2(body)?)),
                T::START_V3 => {
                    Err(Problem::OldFormat(super::bytes::le(body.get(..2).unwrap_or(&[])) as u16).into())
                }
                _ => Err(Problem::NoFormat.into()),
            };
        };
        Ok(match header.event_type {
            T::TABLE_MAP => {
                let id_bytes = format.table_id_bytes(T::TABLE_MAP);
                return Ok(Event::TableMap(self.tables.add(body, id_bytes)?));
            }
            ty if RowsKind::of(ty).is_some() => return self.read_rows(ty, body),
            T::QUERY => Event::Query(Query::parse(body, query_post_header(format, T::QUERY))?),
            T::MARIADB_QUERY_COMPRESSED => {
                let query = Query::parse(body, query_post_header(format, T::MARIADB_QUERY_COMPRESSED))?;
                let packed = Packed::parse(query.statement)?;
                let max = self.max_inflated_bytes;
                inflate::all("a statement", packed.zlib, true, packed.inflated_len, max, &mut self.scratch)?;
                Event::Query(Query { statement: &self.scratch, ..query })
            }
            T::XID => Event::Xid(Bytes(body).u64("the XID")?),
            T::GTID => Event::Gtid(self.gtid.insert(GtidEvent::parse(body, false)?)),
            T::ANONYMOUS_GTID => Event::Gtid(self.gtid.insert(GtidEvent::parse(body, true)?)),
            T::GTID_TAGGED => Event::Gtid(self.gtid.insert(GtidEvent::parse_tagged(body)?)),
            T::PREVIOUS_GTIDS => Event::PreviousGtids(Box::new(MySqlGtidSet::decode(body)?)),
            T::ROTATE => Event::Rotate(Rotate::parse(body)?),
            T::STOP => Event::Stop,
            T::XA_PREPARE => Event::XaPrepare(XaPrepare::parse(body)?),
            // A byte of length that a longer statement does not fit is not used by the server either.
            T::ROWS_QUERY => Event::RowsQuery(body.get(1..).ok_or(Malformed::Ends("the statement"))?),
            T::MARIADB_ANNOTATE_ROWS => Event::RowsQuery(body),
            T::TRANSACTION_PAYLOAD => Event::TransactionPayload(Payload::parse(body)?),
            T::MARIADB_GTID => Event::MariaDbGtid(Box::new(MariaDbGtidEvent::parse(body, header.server_id)?)),
            T::MARIADB_GTID_LIST => Event::MariaDbGtidList(GtidList::parse(body)?),
            T::MARIADB_BINLOG_CHECKPOINT => Event::MariaDbBinlogCheckpoint(event::checkpoint(body)?),
            T::MARIADB_START_ENCRYPTION => return Err(event::encrypted(body).into()),
            T::HEARTBEAT => Event::Heartbeat(Heartbeat::parse(body, header.next_position)?),
            T::HEARTBEAT_V2 => Event::Heartbeat(Heartbeat::parse_v2(body)?),
            T::INTVAR => Event::IntVar(IntVar::parse(body)?),
            T::RAND => {
                let mut b = Bytes(body);
                Event::Rand(b.u64("the first seed")?, b.u64("the second seed")?)
            }
            T::USER_VAR => Event::UserVar(UserVar::parse(body)?),
            T::INCIDENT => {
                let (number, message) = event::incident(body)?;
                Event::Incident(number, message)
            }
            T::SLAVE
            | T::LOAD
            | T::CREATE_FILE
            | T::APPEND_BLOCK
            | T::EXEC_LOAD
            | T::DELETE_FILE
            | T::NEW_LOAD
            | T::BEGIN_LOAD_QUERY
            | T::EXECUTE_LOAD_QUERY
            | T::TRANSACTION_CONTEXT
            | T::VIEW_CHANGE => Event::Other(body),
            T::IGNORABLE => Event::Ignorable(body),
            _ if header.flags & flags::IGNORABLE != 0 => Event::Ignorable(body),
            EventType(n) => return Err(Problem::UnknownEvent(n).into()),
        })
    }

    #[inline]
    fn read_rows<'a>(&'a mut self, ty: EventType, body: &'a [u8]) -> Result<Event<'a>, Box<Problem>> {
        let mut images = body;
        let head = self.rows_head(&mut images, ty)?;
        if head.names_no_table() {
            self.tables.end_statement(head.ends_statement());
            return Ok(Event::RowsEnd);
        }
        let compressed = RowsKind::of(ty).is_some_and(|(_, _, compressed)| compressed);
        if compressed && !images.is_empty() {
            let packed = Packed::parse(images)?;
            let max = self.max_inflated_bytes;
            inflate::all("an event of rows", packed.zlib, true, packed.inflated_len, max, &mut self.scratch)?;
            images = &self.scratch;
        }
        self.tables.end_statement(head.ends_statement());
        let table = self.tables.live(head.table_id)?;
        Ok(Event::Rows(head.rows(table, images)?))
    }

    #[inline]
    pub(super) fn rows_head<'a>(&self, body: &mut &'a [u8], ty: EventType) -> Result<RowsHead<'a>, Problem> {
        let format = self.format.as_ref().ok_or(Problem::NoFormat)?;
        Ok(RowsHead::take(body, ty, format.table_id_bytes(ty))?)
    }

    /// A part of a large event of rows: `head` is the event's body up to its images.
    pub(super) fn rows_part<'a>(
        &'a self,
        ty: EventType,
        mut head: &'a [u8],
        images: &'a [u8],
    ) -> Result<Rows<'a>, Problem> {
        let head = self.rows_head(&mut head, ty)?;
        Ok(head.rows(self.tables.live(head.table_id)?, images)?)
    }

    /// A large event of rows was given in parts.
    pub(super) fn rows_over(&mut self, ends_statement: bool) {
        self.tables.end_statement(ends_statement);
        self.tables.begin_event();
    }

    /// The table that `table_id` stands for, if a TABLE_MAP told.
    pub fn table(&self, table_id: u64) -> Option<&TableMap> {
        self.tables.find(table_id).map(|t| &t.map)
    }

    /// Tells what the DDL knows of the table's columns; best after each [`Event::TableMap`] whose
    /// [`TableMap::generation`] is new. Kept until the table's shape changes. `false` if there are
    /// not as many hints as columns, or no such table: then nothing is changed.
    ///
    /// Moves the generation on.
    pub fn describe(&mut self, table_id: u64, hints: &[ColumnHint]) -> Result<bool, Problem> {
        let generation = self.tables.next_generation();
        let Some(table) = self.tables.find_mut(table_id) else { return Ok(false) };
        let described = table.map.describe(hints)?;
        if described {
            table.map.generation = generation;
        }
        Ok(described)
    }
}

fn query_post_header(format: &FormatDescription, ty: EventType) -> usize {
    match format.post_header_length(ty) {
        0 => 13,
        n => n,
    }
}

#[derive(Debug)]
struct Known {
    map: TableMap,
    /// The statement that it was announced in.
    statement: u64,
}

/// Shapes by table id. One is kept beyond its statement, since the next will announce the same:
/// then a compare of its bytes is all that is done.
#[derive(Debug, Default)]
struct Tables {
    list: Vec<Known>,
    /// Place in `list` by table id.
    by_id: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    /// Place of the one announced last: rows mostly ask for it.
    last: usize,
    bytes: usize,
    statement: u64,
    over: bool,
    generation: u64,
    /// Whether MariaDB wrote the log.
    mariadb: bool,
}

impl Tables {
    /// Ids of a statement that is over are void from the next event on.
    #[inline]
    fn begin_event(&mut self) {
        self.statement += u64::from(std::mem::take(&mut self.over));
    }

    fn end_statement(&mut self, over: bool) {
        self.over |= over;
    }

    fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn clear(&mut self) {
        self.list.clear();
        self.by_id.clear();
        self.bytes = 0;
    }

    #[inline]
    fn place(&self, id: u64) -> Option<usize> {
        match self.list.get(self.last) {
            Some(known) if known.map.table_id == id => Some(self.last),
            _ => self.by_id.get(&id).copied(),
        }
    }

    #[inline]
    fn find(&self, id: u64) -> Option<&Known> {
        self.place(id).and_then(|i| self.list.get(i))
    }

    fn find_mut(&mut self, id: u64) -> Option<&mut Known> {
        self.place(id).and_then(|i| self.list.get_mut(i))
    }

    #[inline]
    fn add(&mut self, body: &[u8], id_bytes: usize) -> Result<&TableMap, Problem> {
        let id = table_id(&mut Bytes(body), id_bytes)?;
        let statement = self.statement;
        let place = match self.place(id) {
            Some(i) if self.list.get(i).is_some_and(|known| *known.map.raw == *body) => i,
            other => self.learn(body, id_bytes, other)?,
        };
        self.last = place;
        match self.list.get_mut(place) {
            Some(known) => {
                known.statement = statement;
                Ok(&known.map)
            }
            None => Err(Problem::NoTableMap { table_id: id }),
        }
    }

    /// A shape that is new, or another than the one at `place`.
    #[inline(never)]
    fn learn(&mut self, body: &[u8], id_bytes: usize, place: Option<usize>) -> Result<usize, Problem> {
        let map = TableMap::parse(body, id_bytes, self.next_generation(), self.mariadb)?;
        let (id, memory) = (map.table_id, map.memory());
        let statement = self.statement;
        if let Some(known) = place.and_then(|i| self.list.get_mut(i)) {
            self.bytes = (self.bytes + memory).saturating_sub(known.map.memory());
            *known = Known { map, statement };
            return Ok(place.unwrap_or(0));
        }
        if self.bytes + memory > MAX_TABLES_BYTES {
            self.list.retain(|known| known.statement == statement);
            self.by_id = self.list.iter().enumerate().map(|(i, known)| (known.map.table_id, i)).collect();
            self.bytes = self.list.iter().map(|known| known.map.memory()).sum();
        }
        self.bytes += memory;
        self.list.push(Known { map, statement });
        self.by_id.insert(id, self.list.len() - 1);
        Ok(self.list.len() - 1)
    }

    #[inline]
    fn live(&self, table_id: u64) -> Result<&TableMap, Problem> {
        match self.find(table_id) {
            Some(known) if known.statement == self.statement => Ok(&known.map),
            _ => Err(Problem::NoTableMap { table_id }),
        }
    }
}

/// Ids are small numbers that count up: a multiplication spreads them.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
