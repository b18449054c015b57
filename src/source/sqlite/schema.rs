//! The application's tables as they are now, and what names a row in each.

use rusqlite::Connection;

use super::error::{Doing, Result};
use super::sql::{default_expr, ident, index_text, qualify};

/// Name of the column that carries the rowid where nothing else names a row.
pub(super) const ROWID: &str = "_dts_rowid";

/// Most key columns of a WITHOUT ROWID table: `_dts_note` has as many.
pub(super) const MAX_NOTE_KEYS: usize = 8;

/// One column, generated ones included.
#[derive(Clone, Debug)]
pub(super) struct ColumnInfo {
    pub(super) name: String,
    /// As `table_xinfo` prints it, with the collation of a key column.
    pub(super) declared: String,
    /// DEFAULT as an expression.
    pub(super) default: Option<String>,
    pub(super) not_null: bool,
    pub(super) generated: bool,
}

/// What names a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// An INTEGER PRIMARY KEY: index of the column.
    Alias(usize),
    /// Another PRIMARY KEY: indexes and collations of its columns, in key order.
    Key(Vec<(usize, String)>),
    /// The rowid: no primary key, or one that holds NULL. VACUUM may renumber it.
    Hidden,
}

/// A column or expression of a unique index.
#[derive(Clone, Debug)]
enum Term {
    Column { name: String, collation: String, default: Option<String> },
    Expr(String),
    Rowid,
}

/// Rows that agree in these terms displace each other.
#[derive(Clone, Debug)]
pub(super) struct UniqueSet {
    terms: Vec<Term>,
    condition: Option<String>,
}

/// A table that can be followed.
#[derive(Clone, Debug)]
pub(super) struct TableInfo {
    pub(super) name: String,
    /// Page of its root: another one, and it is another table.
    pub(super) root: i64,
    pub(super) columns: Vec<ColumnInfo>,
    pub(super) identity: Identity,
    /// How SQL says its rowid: the alias column or a name that no column hides. `None` without one.
    pub(super) rowid: Option<String>,
    pub(super) unique: Vec<UniqueSet>,
}

/// A table that is not followed, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// Its name.
    pub table: String,
    /// Why dts cannot follow it.
    pub reason: String,
}

/// All tables of the main database that are not dts's or SQLite's own.
#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) tables: Vec<TableInfo>,
    pub(super) skipped: Vec<Skipped>,
}

impl TableInfo {
    /// The terms that name a row, of `prefix`.
    pub(super) fn key_exprs(&self, prefix: &str) -> Vec<String> {
        match &self.identity {
            Identity::Alias(i) => vec![format!("{prefix}.{}", ident(&self.columns[*i].name))],
            Identity::Key(key) => {
                key.iter().map(|(i, _)| format!("{prefix}.{}", ident(&self.columns[*i].name))).collect()
            }
            Identity::Hidden => vec![self.rowid_of(prefix)],
        }
    }

    /// The rowid of `prefix`; only for tables with one.
    pub(super) fn rowid_of(&self, prefix: &str) -> String {
        format!("{prefix}.{}", self.rowid.as_deref().unwrap_or("rowid"))
    }

    /// What a note remembers of a row: the rowid, or the key of a WITHOUT ROWID table.
    pub(super) fn note_exprs(&self, prefix: &str) -> Vec<String> {
        if self.rowid.is_some() { vec![self.rowid_of(prefix)] } else { self.key_exprs(prefix) }
    }

    /// Whether `a` and `b` are the same row.
    pub(super) fn same_row(&self, a: &str, b: &str) -> String {
        let pairs = self.note_exprs(a).into_iter().zip(self.note_exprs(b));
        pairs.map(|(a, b)| format!("{a}={b}")).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether `r` has exactly the key of `b`, byte for byte; the index serves the first half.
    pub(super) fn same_key(&self, r: &str, b: &str) -> String {
        let pairs = self.key_exprs(r).into_iter().zip(self.key_exprs(b));
        let term = |(a, b): (String, String)| match self.identity {
            Identity::Key(_) => {
                format!("{a}={b} AND {a}={b} COLLATE BINARY AND typeof({a})=typeof({b})")
            }
            _ => format!("{a}={b}"),
        };
        pairs.map(term).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether the images `a` and `b` have different keys. NULL differs from nothing but a value.
    pub(super) fn key_changed(&self, a: &str, b: &str) -> String {
        let pairs = self.key_exprs(a).into_iter().zip(self.key_exprs(b));
        let term = |(a, b): (String, String)| match self.identity {
            Identity::Key(_) => {
                format!("({a} COLLATE BINARY IS NOT {b} OR typeof({a})<>typeof({b}))")
            }
            _ => format!("{a}<>{b}"),
        };
        pairs.map(term).collect::<Vec<_>>().join(" OR ")
    }

    /// Whether the row `r` stands in the way of `NEW` in `set`.
    pub(super) fn conflict(&self, set: &UniqueSet, r: &str) -> String {
        let names = self.names();
        let mut all: Vec<String> = set.terms.iter().map(|term| self.conflict_term(term, &names, r)).collect();
        if let Some(condition) = &set.condition {
            all.push(format!("({})", qualify(condition, &names, r)));
        }
        all.join(" AND ")
    }

    fn conflict_term(&self, term: &Term, names: &[&str], r: &str) -> String {
        match term {
            Term::Rowid => format!("{}={}", self.rowid_of(r), self.rowid_of("NEW")),
            Term::Expr(e) => format!("({})=({})", qualify(e, names, r), qualify(e, names, "NEW")),
            Term::Column { name, collation, default } => {
                let new = format!("NEW.{}", ident(name));
                // A NULL where none may be is replaced by the default, and that may be in the way.
                let new = default.as_ref().map_or_else(|| new.clone(), |d| format!("ifnull({new},{d})"));
                format!("{r}.{}={new} COLLATE {}", ident(name), ident(collation))
            }
        }
    }

    /// Whether an update changes what `set` looks at.
    pub(super) fn set_changed(&self, set: &UniqueSet) -> String {
        let names = self.names();
        let mut all: Vec<String> = set
            .terms
            .iter()
            .map(|term| match term {
                Term::Rowid => format!("{}<>{}", self.rowid_of("NEW"), self.rowid_of("OLD")),
                Term::Expr(e) => {
                    format!("({}) IS NOT ({})", qualify(e, &names, "NEW"), qualify(e, &names, "OLD"))
                }
                Term::Column { name, collation, .. } => {
                    let name = ident(name);
                    format!("NEW.{name} IS NOT OLD.{name} COLLATE {}", ident(collation))
                }
            })
            .collect();
        if let Some(c) = &set.condition {
            // The row may come under the condition without a change of the terms.
            all.push(format!("({}) IS NOT ({})", qualify(c, &names, "NEW"), qualify(c, &names, "OLD")));
        }
        all.join(" OR ")
    }

    fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|c| c.name.as_str()).collect()
    }

    /// What of the unique sets the triggers depend on, to tell when one was added.
    pub(super) fn unique_signature(&self) -> Vec<String> {
        let mut all: Vec<String> = self.unique.iter().map(|set| self.conflict(set, "r")).collect();
        all.sort();
        all
    }

    /// This table with the rowid as its identity, if it has one.
    pub(super) fn hidden(mut self) -> Self {
        if self.rowid.is_some() && !matches!(self.identity, Identity::Alias(_)) {
            self.identity = Identity::Hidden;
        }
        self
    }
}

/// Reads the schema. To be called in a transaction.
pub(super) fn load(conn: &Connection) -> Result<Schema> {
    let doing = "read the application's schema";
    let mut list = conn
        .prepare(
            "SELECT l.name, l.type, l.wr, m.rootpage FROM pragma_table_list l \
             JOIN main.sqlite_master m ON m.type='table' AND m.name=l.name WHERE l.schema='main' ORDER BY m.rowid",
        )
        .doing(doing)?;
    let rows = list
        .query_map([], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, bool>(2)?, r.get::<_, i64>(3)?))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .doing(doing)?;
    let virtuals: Vec<String> =
        rows.iter().filter(|(_, ty, ..)| ty == "virtual").map(|(name, ..)| format!("{name}_")).collect();
    let mut schema = Schema::default();
    for (table, ty, wr, root) in rows {
        let lower = table.to_ascii_lowercase();
        if lower.starts_with("sqlite_") || lower.starts_with("_dts_") {
            continue;
        }
        // Shadow tables are known as such only where their module is compiled in.
        let shadow = virtuals.iter().any(|v| lower.starts_with(&v.to_ascii_lowercase()));
        let reason = match ty.as_str() {
            "virtual" => Some("a virtual table: SQLite runs no triggers on it".to_owned()),
            "shadow" => Some("a shadow table of a virtual table".to_owned()),
            _ if shadow => Some("looks like a shadow table of a virtual table".to_owned()),
            _ => None,
        };
        match reason.map_or_else(|| load_table(conn, &table, wr, root), |reason| Ok(Err(reason)))? {
            Ok(info) => schema.tables.push(info),
            Err(reason) => schema.skipped.push(Skipped { table, reason }),
        }
    }
    Ok(schema)
}

/// The index columns of one index: (column id, name, collation); expressions have id −2.
type IndexColumns = Vec<(i64, Option<String>, String)>;

fn load_table(
    conn: &Connection,
    table: &str,
    without_rowid: bool,
    root: i64,
) -> Result<std::result::Result<TableInfo, String>> {
    let doing = "read a table's columns";
    let mut stmt = conn
        .prepare_cached(
            "SELECT cid, name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1,'main')",
        )
        .doing(doing)?;
    let mut columns = Vec::new();
    let mut pk: Vec<(i64, usize)> = Vec::new();
    let mut rows = stmt.query([table]).doing(doing)?;
    while let Some(r) = rows.next().doing(doing)? {
        let place: i64 = r.get(5).doing(doing)?;
        if place > 0 {
            pk.push((place, columns.len()));
        }
        let default: Option<String> = r.get(4).doing(doing)?;
        columns.push(ColumnInfo {
            name: r.get(1).doing(doing)?,
            declared: r.get(2).doing(doing)?,
            default: default.as_deref().map(default_expr),
            not_null: r.get(3).doing(doing)?,
            generated: r.get::<_, i64>(6).doing(doing)? > 1,
        });
    }
    pk.sort_unstable();
    let pk: Vec<usize> = pk.into_iter().map(|(_, i)| i).collect();
    let mut info = TableInfo {
        name: table.to_owned(),
        root,
        columns,
        identity: Identity::Hidden,
        rowid: None,
        unique: Vec::new(),
    };
    let pk_collations = load_unique(conn, &mut info)?;
    if !without_rowid {
        info.rowid = ["rowid", "_rowid_", "oid"]
            .into_iter()
            .find(|alias| !info.columns.iter().any(|c| c.name.eq_ignore_ascii_case(alias)))
            .map(str::to_owned);
    }
    // A primary key without an index of its own is the rowid itself.
    info.identity = match (pk.as_slice(), pk_collations) {
        ([one], None) if !without_rowid => {
            info.rowid = Some(ident(&info.columns[*one].name));
            Identity::Alias(*one)
        }
        ([], _) | (_, None) => Identity::Hidden,
        (key, Some(collations)) => Identity::Key(key.iter().copied().zip(collations).collect()),
    };
    if let Identity::Key(key) = &info.identity {
        // dts cannot walk an index in an order that only the application can compare.
        let foreign = key.iter().find(|(_, c)| !is_builtin(c)).map(|(_, c)| c.clone());
        if let Some(collation) = foreign {
            if without_rowid {
                return Ok(Err(format!(
                    "its key is ordered by `{collation}`, which only the application knows"
                )));
            }
            info.identity = Identity::Hidden;
        }
    }
    if let Identity::Key(key) = &info.identity {
        for (i, collation) in key.clone() {
            if !collation.eq_ignore_ascii_case("BINARY") {
                let declared = &mut info.columns[i].declared;
                *declared = format!("{declared} COLLATE {collation}").trim_start().to_owned();
            }
        }
    }
    if !without_rowid && info.rowid.is_none() {
        return Ok(Err("columns named rowid, _rowid_ and oid hide what names its rows".to_owned()));
    }
    if without_rowid && pk.len() > MAX_NOTE_KEYS {
        return Ok(Err(format!("WITHOUT ROWID and more than {MAX_NOTE_KEYS} key columns")));
    }
    if !without_rowid {
        info.unique.insert(0, UniqueSet { terms: vec![Term::Rowid], condition: None });
    }
    Ok(Ok(info))
}

fn is_builtin(collation: &str) -> bool {
    ["BINARY", "NOCASE", "RTRIM"].iter().any(|c| collation.eq_ignore_ascii_case(c))
}

/// Fills in the unique sets; the collations of the primary key's index, if it has one.
fn load_unique(conn: &Connection, info: &mut TableInfo) -> Result<Option<Vec<String>>> {
    let doing = "read a table's indexes";
    let mut stmt = conn
        .prepare_cached(
            "SELECT l.name, l.origin, m.sql FROM pragma_index_list(?1,'main') l \
             LEFT JOIN main.sqlite_master m ON m.type='index' AND m.name=l.name WHERE l.\"unique\" ORDER BY l.name",
        )
        .doing(doing)?;
    let indexes = stmt
        .query_map([&info.name], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, Option<String>>(2)?))
        })
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .doing(doing)?;
    let mut pk_collations = None;
    for (name, origin, sql) in indexes {
        let columns: IndexColumns = conn
            .prepare_cached(
                "SELECT cid, name, coll FROM pragma_index_xinfo(?1,'main') WHERE key ORDER BY seqno",
            )
            .and_then(|mut s| {
                s.query_map([&name], |r| Ok((r.get(0)?, r.get(1)?, r.get::<_, Option<String>>(2)?)))?
                    .map(|r| {
                        r.map(|(cid, name, coll)| (cid, name, coll.unwrap_or_else(|| "BINARY".to_owned())))
                    })
                    .collect()
            })
            .doing(doing)?;
        if origin == "pk" {
            pk_collations = Some(columns.iter().map(|(_, _, coll)| coll.clone()).collect());
        }
        if let Some(set) = unique_set(info, &columns, sql.as_deref()) {
            info.unique.push(set);
        }
    }
    Ok(pk_collations)
}

fn unique_set(info: &TableInfo, columns: &IndexColumns, sql: Option<&str>) -> Option<UniqueSet> {
    let text = sql.and_then(index_text);
    let mut terms = Vec::new();
    for (place, (cid, name, collation)) in columns.iter().enumerate() {
        terms.push(match (cid, name) {
            (-1, _) => Term::Rowid,
            (0.., Some(name)) => {
                let column = info.columns.iter().find(|c| c.name == *name);
                let default = column.filter(|c| c.not_null).and_then(|c| c.default.clone());
                Term::Column { name: name.clone(), collation: collation.clone(), default }
            }
            _ => Term::Expr(text.as_ref()?.terms.get(place)?.clone()),
        });
    }
    Some(UniqueSet { terms, condition: text.and_then(|t| t.condition) })
}
