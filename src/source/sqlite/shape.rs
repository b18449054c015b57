//! What the triggers of one table record, and the shape of the rows that dts makes of it.
//!
//! A captured row names its shape by number; `_dts_shape` keeps the definition as JSON until no
//! captured row refers to it. A shape is never changed: another one takes its place.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Column, Table, TableKind, Type};

use super::config::{Capture, Config};
use super::schema::{Identity, ROWID, TableInfo};

/// One column of a [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ShapeColumn {
    pub(super) name: String,
    pub(super) declared: String,
    /// Whether rows that were there before the column came have NULL in it.
    pub(super) plain: bool,
}

/// The definition behind a shape's number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    pub(super) table: String,
    pub(super) capture: Capture,
    /// Without the columns that are left out; the first is [`ROWID`] where the rowid is the key.
    pub(super) columns: Vec<ShapeColumn>,
    /// Columns that are there and left out.
    pub(super) left_out: Vec<String>,
    /// Indexes of the key columns, in key order.
    pub(super) key: Vec<usize>,
    /// The terms of the unique indexes that the triggers watch.
    pub(super) unique: Vec<String>,
}

impl Shape {
    /// What is to be recorded of `info`.
    pub(super) fn of(info: &TableInfo, config: &Config) -> Self {
        let mut columns = Vec::new();
        let mut key = Vec::new();
        if info.identity == Identity::Hidden {
            key.push(0);
            columns.push(ShapeColumn {
                name: ROWID.to_owned(),
                declared: "INTEGER".to_owned(),
                plain: false,
            });
        }
        let key_of: Vec<usize> = match &info.identity {
            Identity::Alias(i) => vec![*i],
            Identity::Key(k) => k.iter().map(|(i, _)| *i).collect(),
            Identity::Hidden => Vec::new(),
        };
        let mut left_out = Vec::new();
        let mut place = vec![None; info.columns.len()];
        for (i, column) in info.columns.iter().enumerate() {
            if config.leaves_out(&info.name, &column.name) && !key_of.contains(&i) {
                left_out.push(column.name.clone());
                continue;
            }
            place[i] = Some(columns.len());
            let null = column.default.as_deref().is_none_or(|d| d.eq_ignore_ascii_case("(NULL)"));
            columns.push(ShapeColumn {
                name: column.name.clone(),
                declared: column.declared.clone(),
                plain: null && !column.generated,
            });
        }
        key.extend(key_of.iter().filter_map(|&i| place[i]));
        let capture = config.capture_of(&info.name);
        Self { table: info.name.clone(), capture, columns, left_out, key, unique: info.unique_signature() }
    }

    /// Indexes of the columns that a captured image holds, in its order.
    pub(super) fn recorded(&self) -> Vec<usize> {
        match self.capture {
            Capture::Images => (0..self.columns.len()).collect(),
            Capture::Keys => self.key.clone(),
        }
    }

    /// SQL of every column, of `prefix`.
    pub(super) fn exprs(&self, info: &TableInfo, prefix: &str) -> Vec<String> {
        self.columns
            .iter()
            .map(|c| {
                if c.name == ROWID && info.identity == Identity::Hidden {
                    info.rowid_of(prefix)
                } else {
                    format!("{prefix}.{}", super::sql::ident(&c.name))
                }
            })
            .collect()
    }

    /// The shape of its rows as dts sends them. `version` grows with each change.
    pub(super) fn table(&self, db: &str, version: u32) -> Arc<Table> {
        let columns = self.columns.iter().enumerate().map(|(i, c)| Column {
            key: self.key.iter().position(|&k| k == i).and_then(|k| u16::try_from(k).ok()),
            declared: c.declared.as_str().into(),
            ..Column::new(&c.name, Type::Any)
        });
        Arc::new(Table {
            kind: TableKind::Table,
            db: db.into(),
            name: self.table.as_str().into(),
            version,
            columns: columns.collect(),
        })
    }

    /// Whether both have the same key columns.
    pub(super) fn same_key(&self, other: &Self) -> bool {
        let names =
            |s: &Self| s.key.iter().map(|&i| s.columns[i].name.to_ascii_lowercase()).collect::<Vec<_>>();
        names(self) == names(other)
    }

    /// Whether rows in the shape `old` already say all there is: columns were only taken away, or
    /// added at the end with NULL for the rows that were there.
    pub(super) fn follows_from(&self, old: &Self) -> bool {
        let had = |name: &str| old.columns.iter().position(|c| c.name == name);
        let mut last = None;
        for column in &self.columns {
            match had(&column.name) {
                // A declared type may carry another affinity, and so other values.
                Some(i) if old.columns[i].declared != column.declared || last.is_some_and(|l| l >= i) => {
                    return false;
                }
                Some(i) => last = Some(i),
                // It was there, and only not captured.
                None if old.left_out.contains(&column.name) => return false,
                // As many gone as came may be a rename.
                None if !column.plain || old.columns.iter().any(|o| !self.has(&o.name)) => return false,
                None => {}
            }
        }
        true
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(columns: &[(&str, bool)]) -> Shape {
        let columns = columns.iter().map(|(n, plain)| ShapeColumn {
            name: (*n).to_owned(),
            declared: String::new(),
            plain: *plain,
        });
        Shape {
            table: "t".to_owned(),
            capture: Capture::Images,
            columns: columns.collect(),
            left_out: Vec::new(),
            key: vec![0],
            unique: Vec::new(),
        }
    }

    #[test]
    fn only_harmless_changes_need_no_reading_again() {
        let old = shape(&[("id", true), ("a", true), ("b", true)]);
        let added = |plain| shape(&[("id", true), ("a", true), ("b", true), ("c", plain)]);
        assert!(added(true).follows_from(&old), "ADD COLUMN without a default");
        assert!(!added(false).follows_from(&old), "ADD COLUMN with one");
        assert!(shape(&[("id", true), ("b", true)]).follows_from(&old), "DROP COLUMN");
        assert!(!shape(&[("id", true), ("a", true), ("x", true)]).follows_from(&old), "RENAME COLUMN");
        assert!(!shape(&[("id", true), ("b", true), ("a", true)]).follows_from(&old), "other order");
    }
}
