//! `CREATE`.

use super::Context;
use super::catalogue::{Catalogue, Found};
use super::column::{self, Definition};
use super::cursor::Cursor;
use super::table::{Column, ColumnType, Table, Versioning};

/// What MariaDB logs of a sequence: rows of a table with these columns (`sql/sql_sequence.cc`, `sequence_structure`).
const SEQUENCE: [(&str, ColumnType); 8] = [
    ("next_not_cached_value", ColumnType::BigInt),
    ("minimum_value", ColumnType::BigInt),
    ("maximum_value", ColumnType::BigInt),
    ("start_value", ColumnType::BigInt),
    ("increment", ColumnType::BigInt),
    ("cache_size", ColumnType::BigInt),
    ("cycle_option", ColumnType::TinyInt),
    ("cycle_count", ColumnType::BigInt),
];

impl Catalogue {
    pub(super) fn create(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        let replace = cursor.eat_all(&["OR", "REPLACE"]);
        let temporary = cursor.eat("TEMPORARY");
        if cursor.eat("DATABASE") || cursor.eat("SCHEMA") {
            return self.create_database(cursor, cx);
        }
        if cursor.eat("SEQUENCE") {
            return self.create_sequence(cursor, replace, cx);
        }
        if cursor.eat("TABLE") {
            let exists = cursor.eat_all(&["IF", "NOT", "EXISTS"]);
            let name = cursor.table(cx.db)?;
            if temporary {
                return Some(Found::harmless(Vec::new()));
            }
            return Some(self.create_table(cursor, name, exists && !replace, cx));
        }
        // An index names its table; all else (views, routines, users, …) is no table.
        cursor.skip_any(&["ONLINE", "OFFLINE", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR"]);
        if cursor.eat("INDEX") {
            while !cursor.is_empty() && !cursor.eat("ON") {
                cursor.skip();
            }
            return Some(Found::harmless(cursor.table(cx.db).into_iter().collect()));
        }
        Some(Found::harmless(Vec::new()))
    }

    fn create_database(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        let exists = cursor.eat_all(&["IF", "NOT", "EXISTS"]);
        let name = cursor.name()?;
        let charset = column::options(cursor, cx.server_charset).unwrap_or(cx.server_charset);
        let database = self.database(&name);
        if !exists || database.charset.is_none() {
            database.charset = charset;
        }
        Some(Found::applied(Vec::new()))
    }

    fn create_sequence(&mut self, mut cursor: Cursor<'_>, replace: bool, cx: &Context<'_>) -> Option<Found> {
        let exists = cursor.eat_all(&["IF", "NOT", "EXISTS"]);
        let name = cursor.table(cx.db)?;
        if !exists || replace || self.table(&name[0], &name[1]).is_none() {
            self.insert(sequence(&name));
        }
        Some(Found::applied(vec![name]))
    }

    fn create_table(
        &mut self,
        mut cursor: Cursor<'_>,
        name: [String; 2],
        exists: bool,
        cx: &Context<'_>,
    ) -> Found {
        if exists && self.table(&name[0], &name[1]).is_some() {
            return Found::harmless(vec![name]);
        }
        let inner = cursor.parens();
        let mut like = inner.unwrap_or(cursor);
        if like.eat("LIKE") {
            return match like.table(cx.db).and_then(|from| self.table(&from[0], &from[1])) {
                Some(found) => {
                    let [db, table] = name.clone();
                    let copy = Table { db, name: table, ..found.clone() };
                    self.insert(copy);
                    Found::applied(vec![name])
                }
                None => Found::unknown(vec![name]),
            };
        }
        let inherited = self.charset_of(&name[0], cx);
        match inner.and_then(|inner| table(&name, inner, cursor, inherited)) {
            Some(table) => {
                self.insert(table);
                Found::applied(vec![name])
            }
            None => Found::unknown(vec![name]),
        }
    }
}

fn sequence(name: &[String; 2]) -> Table {
    let [db, table] = name.clone();
    let column = |(name, ty): (&str, ColumnType)| Column {
        name: name.to_owned(),
        // The cycle's flag, and MariaDB's BIGINT UNSIGNED sequences are told apart by metadata only.
        unsigned: matches!(name, "cache_size" | "cycle_option"),
        ty,
        charset: None,
        members: Vec::new(),
        compressed: false,
        key: None,
        is_virtual: false,
        charset_is_own: false,
    };
    let columns = SEQUENCE.into_iter().map(column).collect();
    Table { db, name: table, columns, charset: None, is_sequence: true, versioning: Versioning::None }
}

/// Reads `(definitions) options`. `None` if the columns cannot be known, as in `CREATE … SELECT`.
fn table(
    name: &[String; 2],
    mut definitions: Cursor<'_>,
    options: Cursor<'_>,
    inherited: Option<&'static super::Charset>,
) -> Option<Table> {
    if definitions.sees("SELECT") || selects(options) {
        return None;
    }
    let charset = column::options(options, inherited).unwrap_or(inherited);
    let [db, table] = name.clone();
    let mut table = Table {
        db,
        name: table,
        columns: Vec::new(),
        charset,
        is_sequence: false,
        versioning: Versioning::None,
    };
    let (mut key, mut periods) = (Vec::new(), 0);
    while let Some(mut item) = definitions.item() {
        match not_a_column(&item) {
            true => key.extend(primary_key(item)),
            false => {
                let Definition { column, is_key, is_period, .. } = column::named(&mut item)?;
                periods += usize::from(is_period);
                if is_key {
                    key = vec![column.name.clone()];
                }
                table.columns.push(column);
            }
        }
    }
    table.inherit();
    table.set_key(&key);
    if has_sequence(options) {
        return Some(sequence(name));
    }
    if has_versioning(options) {
        version(&mut table, periods > 0);
    }
    (!table.columns.is_empty()).then_some(table)
}

/// Whether rows of a query go into the new table: then it has that query's columns too.
fn selects(mut options: Cursor<'_>) -> bool {
    while !options.is_empty() {
        // PARTITION BY and its like stand in parentheses, or after it.
        let with = options.sees("WITH") && !options.sees_at(1, "SYSTEM") && !options.sees_at(1, "PARSER");
        let parens = options.parens();
        if with
            || options.sees_any(&["SELECT", "VALUES"])
                && !options.sees_at(1, "LESS")
                && !options.sees_at(1, "IN")
        {
            return true;
        }
        match parens {
            Some(inside) if inside.sees("SELECT") => return true,
            Some(_) => {}
            None => drop(options.next()),
        }
    }
    false
}

fn has_versioning(mut options: Cursor<'_>) -> bool {
    while !options.is_empty() {
        if options.eat_all(&["WITH", "SYSTEM", "VERSIONING"]) {
            return true;
        }
        options.skip();
    }
    false
}

/// `SEQUENCE=1`: how MariaDB shows a sequence as a table.
fn has_sequence(mut options: Cursor<'_>) -> bool {
    while !options.is_empty() {
        if options.eat("SEQUENCE") && options.eat_sign('=') {
            return true;
        }
        options.skip();
    }
    false
}

/// Makes a table keep its history; where the statement does not declare the two columns they come last.
pub(super) fn version(table: &mut Table, declared: bool) {
    if declared {
        table.versioning = Versioning::Declared;
        return;
    }
    table.versioning = Versioning::Unseen;
    let column = |name: &str| Column {
        name: name.to_owned(),
        ty: ColumnType::Timestamp { fsp: 6 },
        unsigned: false,
        charset: None,
        members: Vec::new(),
        compressed: false,
        key: None,
        is_virtual: false,
        charset_is_own: false,
    };
    table.columns.extend(["row_start", "row_end"].map(column));
}

/// Whether an item of a definition list is an index or a constraint.
pub(super) fn not_a_column(item: &Cursor<'_>) -> bool {
    item.sees_any(&["CONSTRAINT", "PRIMARY", "UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL", "FOREIGN"])
        || item.sees("CHECK") && check_follows(item)
        || item.sees("PERIOD") && item.sees_at(1, "FOR")
        || item.sees("VECTOR") && (item.sees_at(1, "INDEX") || item.sees_at(1, "KEY"))
}

fn check_follows(item: &Cursor<'_>) -> bool {
    let mut after = *item;
    after.next();
    after.sees_sign('(')
}

/// The columns of `[CONSTRAINT [name]] PRIMARY KEY … (columns)`. Empty for all else.
pub(super) fn primary_key(mut item: Cursor<'_>) -> Vec<String> {
    if item.eat("CONSTRAINT") && !item.sees("PRIMARY") {
        item.next();
    }
    if !item.eat_all(&["PRIMARY", "KEY"]) {
        return Vec::new();
    }
    while !item.is_empty() && !item.sees_sign('(') {
        item.next();
    }
    let mut names = Vec::new();
    if let Some(mut columns) = item.parens() {
        while let Some(mut column) = columns.item() {
            names.extend(column.name());
        }
    }
    names
}
