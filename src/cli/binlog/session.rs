//! Event by event through the files, and what is known of tables on the way.

use std::borrow::Cow;

use super::open::Opened;
use super::screen::Progress;
use crate::cli::output::{Exit, Failure};
use crate::source::mysql::binlog::{
    ColumnHint, ColumnType, Error, Event, Flavour, Item, KeyPart, Place, Problem, Query, Special, TableMap,
};
use crate::source::mysql::charset::{self, Charset};
use crate::source::mysql::ddl::{self, Catalogue, Context, Kind, redact};

/// Who looks at the events.
pub(super) trait Consumer {
    /// The next event. What is wrong with it stops the reading of its file.
    fn event(&mut self, item: &Item<'_>, seen: Seen<'_>) -> Result<Flow, Problem>;
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Go,
    /// No more of this file.
    Stop,
}

/// What is known beside the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) tables: &'a Tables,
    /// Of a query event.
    pub(super) statement: Option<&'a Statement>,
}

/// A statement, read.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) kind: Kind,
    /// `[db, table]`.
    pub(super) tables: Vec<[String; 2]>,
    /// Without passwords; the bytes where they are no text in the session's character set.
    pub(super) sql: Result<Cow<'static, str>, Vec<u8>>,
}

/// What the stream has told about tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    catalogue: Catalogue,
    mariadb: bool,
    /// MariaDB of before the change of how UUIDs are stored.
    swaps_uuids: bool,
    /// The newest shape that was described, or need not be: shapes are numbered as they come.
    handled: u64,
}

/// Why the reading of a file ended early.
#[derive(Debug)]
pub(super) struct Fault(Error);

impl Fault {
    /// As a command ends by it.
    pub(super) fn failure(self, path: &str) -> Failure {
        use std::io::ErrorKind as Io;
        let exit = match &self.0.problem {
            // A compressed file that is damaged is damaged data.
            Problem::Io(io)
                if !matches!(
                    io.kind(),
                    Io::InvalidData | Io::InvalidInput | Io::UnexpectedEof | Io::Other
                ) =>
            {
                Exit::Failed
            }
            _ => Exit::BadData,
        };
        Failure::new(exit, format!("{path}: {}", self.0))
    }
}

/// Reads one file; the offset where its last event ended.
pub(super) fn read(
    opened: &mut Opened,
    tables: &mut Tables,
    progress: &mut Progress,
    consumer: &mut impl Consumer,
) -> Result<u64, Fault> {
    let mut end = 0;
    tables.handled = 0;
    let reader = &mut opened.reader;
    loop {
        // Looked at where it is: to move it out costs more than to read most events.
        let next = reader.next();
        let Ok(Some(item)) = &next else {
            match next {
                Err(error) => return Err(Fault(error)),
                _ => break,
            }
        };
        end = item.end;
        progress.at(end);
        let statement = match &item.event {
            Event::FormatDescription(format) => {
                tables.server(format.flavour(), &format.server_version);
                None
            }
            Event::Query(query) => Some(tables.statement(query)),
            _ => None,
        };
        let flow =
            consumer.event(item, Seen { tables, statement: statement.as_ref() }).map_err(|problem| {
                let place =
                    Place { offset: item.start, inside: item.inside, event: Some(item.header.event_type) };
                Fault(problem.at(place))
            })?;
        if flow == Flow::Stop {
            break;
        }
        let new = match &item.event {
            Event::TableMap(map) if map.generation > tables.handled => {
                tables.handled = map.generation;
                tables.hints(map).map(|hints| (map.table_id, hints))
            }
            _ => None,
        };
        if let Some((id, hints)) = new {
            reader.describe(id, &hints).map_err(Fault)?;
            tables.handled = reader.decoder().table(id).map_or(tables.handled, |map| map.generation);
        }
    }
    progress.file(opened.bytes.unwrap_or(0));
    Ok(end)
}

impl Tables {
    fn server(&mut self, flavour: Flavour, version: &str) {
        self.mariadb = flavour == Flavour::MariaDb;
        let version = version.strip_prefix("5.5.5-").unwrap_or(version);
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
        let mut next = || numbers.next().unwrap_or(0);
        // MDEV-29959: 10.10.6, 10.11.5, 11.0.3, 11.1.2.
        self.swaps_uuids = match (next(), next(), next()) {
            (10, 10, patch) => patch < 6,
            (10, 11, patch) => patch < 5,
            (11, 0, patch) => patch < 3,
            (11, 1, patch) => patch < 2,
            (major, ..) => major < 11,
        };
    }

    /// What the statements say of a table, if that fits its table map.
    pub(super) fn described(&self, map: &TableMap) -> Option<&ddl::Table> {
        let table = self.catalogue.table(&map.db, &map.table)?;
        table.fits(map.columns.iter().map(|column| column.ty.0)).then_some(table)
    }

    /// Whether the server is MariaDB.
    pub(super) fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    fn hints(&self, map: &TableMap) -> Option<Vec<ColumnHint>> {
        let table = self.described(map)?;
        Some(table.columns.iter().map(|column| self.hint(column)).collect())
    }

    fn hint(&self, column: &ddl::Column) -> ColumnHint {
        use ddl::ColumnType as T;
        let special = match column.ty {
            T::Uuid if self.swaps_uuids => Some(Special::UuidSwapped),
            T::Uuid => Some(Special::Uuid),
            T::Inet4 => Some(Special::Inet4),
            T::Inet6 => Some(Special::Inet6),
            T::Vector => Some(Special::Vector),
            _ => None,
        };
        let fsp = match column.ty {
            T::Time { fsp } | T::DateTime { fsp } | T::Timestamp { fsp } => Some(fsp),
            _ => None,
        };
        let charset = match column.ty {
            T::Binary | T::VarBinary | T::Blob => Some(63),
            _ => column.charset.map(Charset::collation),
        };
        ColumnHint {
            name: Some(column.name.as_str().into()),
            unsigned: Some(column.unsigned),
            charset,
            labels: [].into(),
            key: column.key.map(|ordinal| KeyPart { ordinal, prefix: 0 }),
            special,
            fsp,
        }
    }

    fn statement(&mut self, query: &Query<'_>) -> Statement {
        // Nearly all of them, and nothing is to know of it.
        for known in ["BEGIN", "COMMIT"] {
            if query.statement == known.as_bytes() {
                return Statement { kind: Kind::Transaction, tables: Vec::new(), sql: Ok(known.into()) };
            }
        }
        let status = query.status();
        let set = |id: u16| charset::by_collation(id);
        let client = status.charset.and_then(|(client, ..)| set(client));
        let redacted = redact(query.statement);
        let bytes = redacted.as_deref().unwrap_or(query.statement);
        let mut text = String::new();
        let read = match client {
            Some(client) => client.to_utf8(bytes, &mut text).ok().map(str::to_owned),
            None => std::str::from_utf8(bytes).ok().map(str::to_owned),
        };
        let sql = read.map(Cow::Owned).ok_or_else(|| bytes.to_vec());
        let mode = status.sql_mode.unwrap_or(0);
        let cx = Context {
            db: query.db,
            ansi_quotes: mode & 4 != 0,
            no_backslash_escapes: mode & (1 << 20) != 0,
            database_charset: status.charset_database.and_then(set),
            server_charset: status.charset.and_then(|(.., server)| set(server)),
        };
        // Names may still be readable where some literal is not.
        let readable = match &sql {
            Ok(sql) => Cow::Borrowed(&**sql),
            Err(bytes) => String::from_utf8_lossy(bytes),
        };
        let reading = self.catalogue.read(&readable, &cx);
        Statement { kind: reading.kind, tables: reading.tables, sql }
    }
}

/// Whether a column has no time zone of its own to tell fractions by: MariaDB's and MySQL 5.5's first temporal types.
pub(super) fn is_old_temporal(ty: ColumnType) -> bool {
    matches!(ty, ColumnType::TIME | ColumnType::DATETIME | ColumnType::TIMESTAMP)
}
