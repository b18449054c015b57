//! What a stream of events has told about tables, and what its statements say: shared by `dts binlog` and the live source.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::binlog::{ColumnHint, ColumnType, Flavour, KeyPart, Query, Special, TableMap, Xid};
use super::charset::{self, Charset};
use super::ddl::{self, Catalogue, Context, Kind, Outcome, redact};

/// A statement, read.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) kind: Kind,
    /// `[db, table]`.
    pub(crate) tables: Vec<[String; 2]>,
    /// Without passwords; the bytes where they are no text in the session's character set.
    pub(crate) sql: Result<Cow<'static, str>, Vec<u8>>,
    /// What it did to what is known of tables.
    pub(crate) outcome: Outcome,
    /// To be kept, so that a restart knows what the statement did.
    pub(crate) entry: Option<Entry>,
}

/// A statement that tells what tables look like, with what it was executed under.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Entry {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) sql: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) db: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ansi_quotes: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_backslash_escapes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) database_charset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_charset: Option<String>,
    /// In place of a statement: a table, a number for what it looks like, and the version of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<(String, u64, u32)>,
}

/// What the stream has told about tables.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    catalogue: Catalogue,
    mariadb: bool,
    /// MariaDB of before the change of how UUIDs are stored.
    swaps_uuids: bool,
    /// The newest shape that was described, or need not be: shapes are numbered as they come.
    handled: u64,
}

impl Tables {
    /// Who writes the stream.
    pub(crate) fn server(&mut self, flavour: Flavour, version: &str) {
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
    pub(crate) fn described(&self, map: &TableMap) -> Option<&ddl::Table> {
        let table = self.catalogue.table(&map.db, &map.table)?;
        table.fits(map.columns.iter().map(|column| column.ty.0)).then_some(table)
    }

    /// Whether the server is MariaDB.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    /// Shapes of another file have other numbers.
    pub(crate) fn next_file(&mut self) {
        self.handled = 0;
    }

    /// What the statements say of a shape that is seen for the first time.
    pub(crate) fn news(&mut self, map: &TableMap) -> Option<Vec<ColumnHint>> {
        if map.generation <= self.handled {
            return None;
        }
        self.handled = map.generation;
        self.hints(map)
    }

    /// The shape was described, and has a new number by that.
    pub(crate) fn handled(&mut self, map: &TableMap) {
        self.handled = map.generation;
    }

    /// Follows a statement that was not in the stream now: one that was kept, or the server's `SHOW CREATE TABLE`.
    pub(crate) fn learn(&mut self, entry: &Entry) {
        let charset = |name: &Option<String>| name.as_deref().and_then(charset::by_name);
        let cx = Context {
            db: &entry.db,
            ansi_quotes: entry.ansi_quotes,
            no_backslash_escapes: entry.no_backslash_escapes,
            database_charset: charset(&entry.database_charset),
            server_charset: charset(&entry.server_charset),
        };
        self.catalogue.read(&entry.sql, &cx);
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

    /// Follows a statement.
    pub(crate) fn statement(&mut self, query: &Query<'_>) -> Statement {
        // Nearly all of them, and nothing is to know of it.
        for known in ["BEGIN", "COMMIT"] {
            if query.statement == known.as_bytes() {
                let (tables, outcome, entry) = (Vec::new(), Outcome::Harmless, None);
                return Statement { kind: Kind::Transaction, tables, sql: Ok(known.into()), outcome, entry };
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
        let name = |set: Option<&Charset>| set.map(|set| set.name.to_owned());
        let entry = (reading.outcome != Outcome::Harmless).then(|| Entry {
            sql: readable.into_owned(),
            db: cx.db.to_owned(),
            ansi_quotes: cx.ansi_quotes,
            no_backslash_escapes: cx.no_backslash_escapes,
            database_charset: name(cx.database_charset),
            server_charset: name(cx.server_charset),
            version: None,
        });
        Statement { kind: reading.kind, tables: reading.tables, sql, outcome: reading.outcome, entry }
    }
}

/// Whether a column has no time zone of its own to tell fractions by: MariaDB's and MySQL 5.5's first temporal types.
pub(crate) fn is_old_temporal(ty: ColumnType) -> bool {
    matches!(ty, ColumnType::TIME | ColumnType::DATETIME | ColumnType::TIMESTAMP)
}

/// The XID of a statement: `XA COMMIT X'61',X'',1 ONE PHASE` has `X'61',X'',1`.
pub(crate) fn xid_of(sql: &str) -> String {
    let mut rest = sql.trim_start();
    for _ in 0..2 {
        rest = rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start());
    }
    let upper = rest.to_ascii_uppercase();
    let end = upper.find(" ONE PHASE").unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default().trim_end().to_owned()
}

/// As a statement has it.
pub(crate) fn xid_text(xid: &Xid<'_>) -> String {
    let mut out = String::new();
    for part in [xid.gtrid, xid.bqual] {
        out.push_str("X'");
        for byte in part {
            // A String takes everything.
            write!(out, "{byte:02x}").unwrap_or_default();
        }
        out.push_str("',");
    }
    out + &xid.format.to_string()
}

/// A number that is the same for tables that look the same.
pub(crate) fn shape(map: &TableMap) -> u64 {
    let mut bytes = Vec::new();
    for column in &map.columns {
        bytes.extend_from_slice(&[column.ty.0, column.fsp, u8::from(column.unsigned == Some(true))]);
        bytes.extend_from_slice(&column.meta.to_le_bytes());
        bytes.extend_from_slice(column.name.as_deref().unwrap_or_default().as_bytes());
        bytes.push(0);
        for label in &column.labels {
            bytes.extend_from_slice(label);
            bytes.push(0);
        }
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
