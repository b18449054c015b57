//! The tables that are known, and the statements that say so.

use std::collections::HashMap;

use super::cursor::Cursor;
use super::lex::{self, Word};
use super::statement::{Kind, kind};
use super::table::Table;
use super::{Context, Outcome, Reading};
use crate::source::mysql::charset::Charset;

/// More tables are not kept: the oldest names are no use where a stream makes and drops them without end, and a table takes a few
/// KiB.
const MAX_TABLES: usize = 100_000;

/// What the statements of a stream have said about tables so far.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// By database, then by table, as the server spells them.
    databases: HashMap<String, Database>,
    tables: usize,
    version: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Database {
    /// Of tables that name none. `None` if the stream did not say.
    pub(super) charset: Option<&'static Charset>,
    tables: HashMap<String, Table>,
}

/// What a statement's reader found.
pub(super) struct Found {
    pub(super) outcome: Outcome,
    pub(super) tables: Vec<[String; 2]>,
}

impl Found {
    pub(super) fn harmless(tables: Vec<[String; 2]>) -> Self {
        Self { outcome: Outcome::Harmless, tables }
    }

    pub(super) fn applied(tables: Vec<[String; 2]>) -> Self {
        Self { outcome: Outcome::Applied, tables }
    }

    pub(super) fn unknown(tables: Vec<[String; 2]>) -> Self {
        Self { outcome: Outcome::Unknown { tables: tables.clone() }, tables }
    }
}

impl Catalogue {
    /// Without any table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows one statement.
    pub fn read(&mut self, sql: &str, cx: &Context<'_>) -> Reading {
        let kind = kind(sql);
        if kind != Kind::Ddl {
            return Reading { kind, outcome: Outcome::Harmless, tables: Vec::new() };
        }
        let found = match lex::words(sql, cx) {
            Some(words) => {
                let end = words.iter().rposition(|word| *word != Word::Sign(';')).map_or(0, |at| at + 1);
                self.statement(Cursor::new(words.get(..end).unwrap_or_default()), cx)
            }
            None if concerns_tables(sql) => None,
            None => Some(Found::harmless(Vec::new())),
        };
        let found = found.unwrap_or_else(|| Found::unknown(Vec::new()));
        if let Outcome::Unknown { tables } = &found.outcome {
            match tables.is_empty() {
                true => self.clear(),
                false => tables.iter().for_each(|[db, table]| drop(self.remove(db, table))),
            }
        }
        if found.outcome != Outcome::Harmless {
            self.version += 1;
        }
        Reading { kind, outcome: found.outcome, tables: found.tables }
    }

    /// The table of that name, if what it looks like is known.
    ///
    /// Names are compared as they are spelled. A name without capitals also finds one that differs from it in capitals only: a server
    /// with `lower_case_table_names=1` lowers them in its table maps and not in its statements.
    pub fn table(&self, db: &str, table: &str) -> Option<&Table> {
        let exact = self.databases.get(db).and_then(|found| found.tables.get(table));
        if exact.is_some() || has_capitals(db) || has_capitals(table) {
            return exact;
        }
        let mut all = self.databases.values().flat_map(|found| found.tables.values());
        all.find(|found| found.name.to_lowercase() == table && found.db.to_lowercase() == db)
    }

    /// Grows by each statement that changed something: what was looked up before may be outdated.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many tables are known.
    pub fn len(&self) -> usize {
        self.tables
    }

    /// Whether no table is known.
    pub fn is_empty(&self) -> bool {
        self.tables == 0
    }

    pub(super) fn insert(&mut self, table: Table) {
        let known = self.table_mut(&table.db, &table.name).is_some();
        if !known && self.tables >= MAX_TABLES {
            self.clear();
        }
        let tables = &mut self.databases.entry(table.db.clone()).or_default().tables;
        self.tables += usize::from(tables.insert(table.name.clone(), table).is_none());
    }

    pub(super) fn remove(&mut self, db: &str, table: &str) -> Option<Table> {
        let name = self.table(db, table).map(|found| [found.db.clone(), found.name.clone()])?;
        let [db, table] = &name;
        let removed = self.databases.get_mut(db)?.tables.remove(table);
        self.tables -= usize::from(removed.is_some());
        removed
    }

    pub(super) fn table_mut(&mut self, db: &str, table: &str) -> Option<&mut Table> {
        self.databases.get_mut(db)?.tables.get_mut(table)
    }

    pub(super) fn database(&mut self, db: &str) -> &mut Database {
        self.databases.entry(db.to_owned()).or_default()
    }

    pub(super) fn drop_database(&mut self, db: &str) {
        let removed = self.databases.remove(db);
        self.tables -= removed.map_or(0, |removed| removed.tables.len());
    }

    /// The character set of a new table in `db` that names none.
    pub(super) fn charset_of(&self, db: &str, cx: &Context<'_>) -> Option<&'static Charset> {
        let own = self.databases.get(db).and_then(|found| found.charset);
        own.or(if db == cx.db { cx.database_charset } else { None })
    }

    fn clear(&mut self) {
        for database in self.databases.values_mut() {
            database.tables.clear();
        }
        self.tables = 0;
    }

    /// `None` if which tables the statement changes is not known.
    fn statement(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        let Some(Word::Plain(verb)) = cursor.next() else { return Some(Found::harmless(Vec::new())) };
        match verb.to_ascii_uppercase().as_str() {
            "CREATE" => self.create(cursor, cx),
            "ALTER" => self.alter(cursor, cx),
            "DROP" => self.drop_objects(cursor, cx),
            "RENAME" => self.rename(cursor, cx),
            "TRUNCATE" => {
                cursor.eat("TABLE");
                Some(Found::harmless(cursor.table(cx.db).into_iter().collect()))
            }
            "OPTIMIZE" | "ANALYZE" | "REPAIR" | "CHECK" => {
                cursor.skip_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
                if !cursor.eat("TABLE") && !cursor.eat("TABLES") {
                    return Some(Found::harmless(Vec::new()));
                }
                let mut tables = Vec::new();
                while let Some(mut item) = cursor.item() {
                    tables.extend(item.table(cx.db));
                }
                Some(Found::harmless(tables))
            }
            _ => Some(Found::harmless(Vec::new())),
        }
    }

    fn drop_objects(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        let temporary = cursor.eat("TEMPORARY");
        if cursor.eat("DATABASE") || cursor.eat("SCHEMA") {
            cursor.eat_all(&["IF", "EXISTS"]);
            self.drop_database(&cursor.name()?);
            return Some(Found::applied(Vec::new()));
        }
        if cursor.eat("INDEX") {
            cursor.eat_all(&["IF", "EXISTS"]);
            cursor.name();
            cursor.eat("ON");
            return Some(Found::harmless(cursor.table(cx.db).into_iter().collect()));
        }
        if !cursor.eat("TABLE") && !cursor.eat("TABLES") && !cursor.eat("SEQUENCE") {
            return Some(Found::harmless(Vec::new()));
        }
        cursor.eat_all(&["IF", "EXISTS"]);
        let mut tables = Vec::new();
        while let Some(mut item) = cursor.item() {
            tables.push(item.table(cx.db)?);
        }
        if temporary {
            return Some(Found::harmless(Vec::new()));
        }
        for [db, table] in &tables {
            self.remove(db, table);
        }
        Some(Found::applied(tables))
    }

    fn rename(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        if !cursor.eat("TABLE") && !cursor.eat("TABLES") {
            return Some(Found::harmless(Vec::new()));
        }
        cursor.eat_all(&["IF", "EXISTS"]);
        let mut tables = Vec::new();
        while let Some(mut item) = cursor.item() {
            let from = item.table(cx.db)?;
            // MariaDB: how long to wait for a lock.
            if item.eat("WAIT") {
                item.next();
            }
            item.eat("NOWAIT");
            if !item.eat("TO") {
                return None;
            }
            let to = item.table(cx.db)?;
            self.move_table(&from, &to);
            tables.extend([from, to]);
        }
        Some(Found::applied(tables))
    }

    /// Gives a table its new name; what is not known stays so under both.
    pub(super) fn move_table(&mut self, from: &[String; 2], to: &[String; 2]) {
        let moved = self.remove(&from[0], &from[1]);
        self.remove(&to[0], &to[1]);
        if let Some(mut table) = moved {
            [table.db, table.name] = to.clone();
            self.insert(table);
        }
    }
}

fn has_capitals(name: &str) -> bool {
    name.chars().any(char::is_uppercase)
}

/// Whether a statement that cannot be taken apart may change a table's shape, by its first words.
fn concerns_tables(sql: &str) -> bool {
    let words = sql.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let objects = ["TABLE", "TABLES", "DATABASE", "SCHEMA", "SEQUENCE"];
    words.take(12).any(|word| objects.iter().any(|object| word.eq_ignore_ascii_case(object)))
}
