//! `ALTER`.

use super::catalogue::{Catalogue, Found};
use super::column::{self, Definition, Place};
use super::create::{not_a_column, primary_key, version};
use super::cursor::Cursor;
use super::table::{Column, Table, Versioning, become_bytes};
use super::{Charset, Context};
use crate::source::mysql::charset;

/// What one part of an `ALTER TABLE` does.
enum Change {
    Nothing,
    Add {
        column: Box<Definition>,
        if_absent: bool,
    },
    Drop {
        name: String,
        if_exists: bool,
    },
    /// MODIFY, or CHANGE with a new name in the definition.
    Modify {
        name: String,
        column: Box<Definition>,
        if_exists: bool,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    RenameTable([String; 2]),
    Key(Vec<String>),
    DropKey,
    Default(Option<&'static Charset>),
    Convert(Option<&'static Charset>),
    AddVersioning,
    DropVersioning,
    /// MariaDB: a partition becomes a table.
    PartitionToTable([String; 2]),
    /// MariaDB: a table becomes a partition.
    TableToPartition([String; 2]),
}

impl Catalogue {
    pub(super) fn alter(&mut self, mut cursor: Cursor<'_>, cx: &Context<'_>) -> Option<Found> {
        cursor.skip_any(&["ONLINE", "OFFLINE", "IGNORE"]);
        if cursor.eat("DATABASE") || cursor.eat("SCHEMA") {
            let options =
                ["DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "READ", "ENCRYPTION", "COMMENT", "UPGRADE"];
            let name = if cursor.sees_any(&options) { cx.db.to_owned() } else { cursor.name()? };
            if let Some(charset) = column::options(cursor, cx.server_charset) {
                self.database(&name).charset = charset;
            }
            return Some(Found::applied(Vec::new()));
        }
        if !cursor.eat("TABLE") {
            return Some(Found::harmless(Vec::new()));
        }
        cursor.eat_all(&["IF", "EXISTS"]);
        let name = cursor.table(cx.db)?;
        if cursor.eat("WAIT") {
            cursor.next();
        }
        cursor.eat("NOWAIT");
        Some(self.alter_table(cursor, name, cx))
    }

    fn alter_table(&mut self, cursor: Cursor<'_>, name: [String; 2], cx: &Context<'_>) -> Found {
        let inherited = self.charset_of(&name[0], cx);
        let Some(changes) = changes(cursor, cx, inherited) else { return Found::unknown(vec![name]) };
        let mut tables = vec![name];
        let [name] = tables.as_slice() else { return Found::unknown(tables) };
        let shapes = |change: &Change| !matches!(change, Change::Nothing);
        if !changes.iter().any(shapes) {
            return Found::harmless(tables);
        }
        let target = changes.iter().find_map(|change| match change {
            Change::RenameTable(to) => Some(to.clone()),
            _ => None,
        });
        let others = changes.iter().filter_map(|change| match change {
            Change::PartitionToTable(other) | Change::TableToPartition(other) => Some(other.clone()),
            _ => None,
        });
        let others: Vec<_> = others.collect();
        let applied = self.table(&name[0], &name[1]).cloned().and_then(|table| apply(table, &changes));
        let Some(table) = applied else {
            tables.extend(target);
            tables.extend(others);
            return Found::unknown(tables);
        };
        for change in &changes {
            match change {
                Change::PartitionToTable([db, other]) => {
                    let copy = Table { db: db.clone(), name: other.clone(), ..table.clone() };
                    self.insert(copy);
                }
                Change::TableToPartition([db, other]) => drop(self.remove(db, other)),
                _ => {}
            }
        }
        self.remove(&name[0], &name[1]);
        self.insert(table);
        if let Some(to) = &target {
            self.move_table(name, to);
        }
        tables.extend(target);
        tables.extend(others);
        Found::applied(tables)
    }
}

/// The parts of an `ALTER TABLE`. `None` if one that may change columns is not understood.
fn changes(
    mut cursor: Cursor<'_>,
    cx: &Context<'_>,
    inherited: Option<&'static Charset>,
) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while let Some(mut item) = cursor.item() {
        // Table options are separated by blanks: the first word of each part is looked at, and then its options.
        if item.eat("ADD") {
            add(&mut item, &mut changes)?;
            continue;
        }
        let change = if item.eat("DROP") {
            drop_part(&mut item)?
        } else if item.eat("MODIFY") {
            item.eat("COLUMN");
            let if_exists = item.eat_all(&["IF", "EXISTS"]);
            let column = column::named(&mut item)?;
            Change::Modify { name: column.column.name.clone(), column: Box::new(column), if_exists }
        } else if item.eat("CHANGE") {
            item.eat("COLUMN");
            let if_exists = item.eat_all(&["IF", "EXISTS"]);
            let name = item.name()?;
            Change::Modify { name, column: Box::new(column::named(&mut item)?), if_exists }
        } else if item.eat("RENAME") {
            rename(&mut item, cx)?
        } else if item.eat_all(&["CONVERT", "TO"]) {
            // CHARACTER SET name [COLLATE name]
            let explicit = column::options(item, inherited);
            Change::Convert(explicit.unwrap_or(inherited))
        } else if item.eat_all(&["CONVERT", "PARTITION"]) {
            item.next();
            if !item.eat_all(&["TO", "TABLE"]) {
                return None;
            }
            Change::PartitionToTable(item.table(cx.db)?)
        } else if item.eat_all(&["CONVERT", "TABLE"]) {
            Change::TableToPartition(item.table(cx.db)?)
        } else if item.sees("ALTER") || item.sees("ORDER") {
            // Defaults, and the order of rows.
            Change::Nothing
        } else {
            column::options(item, inherited).map_or(Change::Nothing, Change::Default)
        };
        changes.push(change);
    }
    Some(changes)
}

fn add(item: &mut Cursor<'_>, changes: &mut Vec<Change>) -> Option<()> {
    if item.eat_all(&["SYSTEM", "VERSIONING"]) {
        changes.push(Change::AddVersioning);
        return Some(());
    }
    let explicit = item.eat("COLUMN");
    if !explicit && (not_a_column(item) || item.sees("PARTITION")) {
        let key = primary_key(*item);
        changes.push(if key.is_empty() { Change::Nothing } else { Change::Key(key) });
        return Some(());
    }
    let if_absent = item.eat_all(&["IF", "NOT", "EXISTS"]);
    let Some(mut list) = item.parens() else {
        let column = column::named(item)?;
        changes.push(Change::Add { column: Box::new(column), if_absent });
        return Some(());
    };
    while let Some(mut item) = list.item() {
        if not_a_column(&item) {
            let key = primary_key(item);
            changes.push(if key.is_empty() { Change::Nothing } else { Change::Key(key) });
        } else {
            let column = column::named(&mut item)?;
            changes.push(Change::Add { column: Box::new(column), if_absent });
        }
    }
    Some(())
}

fn drop_part(item: &mut Cursor<'_>) -> Option<Change> {
    if item.eat_all(&["PRIMARY", "KEY"]) {
        return Some(Change::DropKey);
    }
    if item.eat_all(&["SYSTEM", "VERSIONING"]) {
        return Some(Change::DropVersioning);
    }
    let explicit = item.eat("COLUMN");
    let period = item.sees("PERIOD") && item.sees_at(1, "FOR");
    let index = item.sees_any(&["INDEX", "KEY", "FOREIGN", "CHECK", "CONSTRAINT", "PARTITION"]);
    if !explicit && (period || index) {
        return Some(Change::Nothing);
    }
    let if_exists = item.eat_all(&["IF", "EXISTS"]);
    Some(Change::Drop { name: item.name()?, if_exists })
}

fn rename(item: &mut Cursor<'_>, cx: &Context<'_>) -> Option<Change> {
    if item.eat("COLUMN") {
        item.eat_all(&["IF", "EXISTS"]);
        let from = item.name()?;
        item.eat("TO");
        return Some(Change::RenameColumn { from, to: item.name()? });
    }
    if item.sees("INDEX") || item.sees("KEY") {
        return Some(Change::Nothing);
    }
    item.skip_any(&["TO", "AS"]);
    item.eat_sign('=');
    Some(Change::RenameTable(item.table(cx.db)?))
}

/// Does it the way that the server does (`sql/sql_table.cc`, `mysql_prepare_alter_table`): first the columns that there are, in
/// their order, dropped, changed in place, or held back to be moved; then, in the order of the statement, the new and the
/// moved ones at their places among those. `None` if the table cannot have looked as it is known.
fn apply(mut table: Table, changes: &[Change]) -> Option<Table> {
    for change in changes {
        match change {
            Change::Default(charset) => table.charset = *charset,
            Change::Convert(charset) => convert(&mut table, *charset),
            Change::DropKey => table.drop_key(),
            Change::DropVersioning if table.versioning == Versioning::Unseen => {
                let keep = table.columns.len().saturating_sub(2);
                table.columns.truncate(keep);
                table.versioning = Versioning::None;
            }
            _ => {}
        }
    }
    let unseen = match table.versioning {
        Versioning::Unseen => table.columns.split_off(table.columns.len().saturating_sub(2)),
        _ => Vec::new(),
    };
    let mut used = vec![false; changes.len()];
    let mut moved = vec![None; changes.len()];
    let mut columns = Vec::with_capacity(table.columns.len() + changes.len());
    'columns: for mut old in std::mem::take(&mut table.columns) {
        for ((change, used), moved) in changes.iter().zip(&mut used).zip(&mut moved) {
            match change {
                Change::Drop { name, .. } if same(name, &old.name) => {
                    *used = true;
                    continue 'columns;
                }
                Change::Modify { name, column, .. } if same(name, &old.name) => {
                    let new = Column { key: old.key, ..column.column.clone() };
                    match column.place {
                        Some(_) => *moved = Some(new),
                        None => {
                            *used = true;
                            columns.push(new);
                        }
                    }
                    continue 'columns;
                }
                Change::RenameColumn { from, to } if same(from, &old.name) => {
                    *used = true;
                    old.name.clone_from(to);
                    break;
                }
                _ => {}
            }
        }
        columns.push(old);
    }
    Some(Table { columns, ..table }).and_then(|table| finish(table, changes, &used, moved, unseen))
}

fn finish(
    mut table: Table,
    changes: &[Change],
    used: &[bool],
    moved: Vec<Option<Column>>,
    unseen: Vec<Column>,
) -> Option<Table> {
    let (mut key, mut periods) = (None, false);
    for ((change, used), moved) in changes.iter().zip(used).zip(moved) {
        match change {
            Change::Add { column, if_absent } => match table.find(&column.column.name) {
                Some(_) if *if_absent => {}
                Some(_) => return None,
                None => {
                    periods |= column.is_period;
                    place(&mut table, column.column.clone(), &column.place)?;
                }
            },
            Change::Modify { column, if_exists, .. } if !used => match moved {
                Some(moved) => place(&mut table, moved, &column.place)?,
                None if *if_exists => {}
                None => return None,
            },
            Change::Drop { if_exists, .. } if !used && !if_exists => return None,
            Change::RenameColumn { .. } if !used => return None,
            Change::Key(names) => key = Some(names.clone()),
            _ => {}
        }
        if let Change::Add { column, .. } | Change::Modify { column, .. } = change
            && column.is_key
        {
            key = Some(vec![column.column.name.clone()]);
        }
    }
    table.inherit();
    match key {
        Some(names) => table.set_key(&names),
        None => table.close_key(),
    }
    table.columns.extend(unseen);
    for change in changes {
        match change {
            Change::AddVersioning => version(&mut table, periods),
            Change::DropVersioning => table.versioning = Versioning::None,
            _ => {}
        }
    }
    (!table.columns.is_empty()).then_some(table)
}

fn place(table: &mut Table, column: Column, place: &Option<Place>) -> Option<()> {
    let at = match place {
        None => table.columns.len(),
        Some(Place::First) => 0,
        Some(Place::After(name)) => table.find(name)? + 1,
    };
    table.columns.insert(at, column);
    Some(())
}

fn convert(table: &mut Table, charset: Option<&'static Charset>) {
    table.charset = charset;
    let fixed = charset::by_name("binary").filter(|_| charset.is_some_and(Charset::is_binary));
    for column in &mut table.columns {
        if column.ty.is_text() && column.ty != super::ColumnType::Json {
            column.charset = charset;
            column.charset_is_own = false;
            if fixed.is_some() {
                become_bytes(column);
            }
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
