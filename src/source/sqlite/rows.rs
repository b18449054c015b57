//! Reads rows of the application's tables: one by its key, or a page of keys in their order.
//!
//! A row is loaded only after its size was asked for, which SQLite answers from the record's header:
//! a value of any size costs no memory before it is known to fit.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::cells::Cells;
use super::error::{Doing, Result};
use super::position::KeyValue;
use super::schema::{Identity, TableInfo};
use super::shape::Shape;
use super::sql::{ident, sum};

/// The statements for one table.
#[derive(Clone, Debug)]
pub(super) struct RowSql {
    /// Key terms and total bytes of a row; the first page.
    first_page: String,
    /// As above, behind a key.
    next_page: String,
    /// All columns of the row with a key.
    row: String,
    /// Bytes of each of them.
    sizes: String,
    /// The columns of `row`, one by one.
    exprs: Vec<String>,
    from_key: String,
    key: Vec<usize>,
    keys: usize,
}

/// A key and how many bytes its row has.
pub(super) type Sized = (Vec<KeyValue>, usize);

impl RowSql {
    pub(super) fn new(info: &TableInfo, shape: &Shape) -> Self {
        let exprs = shape.exprs(info, "r");
        let keys = info.key_exprs("r");
        let ordered: Vec<String> = match &info.identity {
            Identity::Key(key) => {
                keys.iter().zip(key).map(|(e, (_, c))| format!("{e} COLLATE {}", ident(c))).collect()
            }
            _ => keys.clone(),
        };
        let length = |e: &String| format!("ifnull(octet_length({e}),0)");
        let total = sum(&exprs.iter().map(length).collect::<Vec<_>>());
        let from = format!("FROM main.{} r", ident(&info.name));
        let marks: Vec<String> = (1..=keys.len()).map(|i| format!("?{i}")).collect();
        let behind = format!("WHERE ({})>({})", ordered.join(","), marks.join(","));
        let page = |place: &str| {
            format!(
                "SELECT {},{total} {from} {place} ORDER BY {} LIMIT {PAGE}",
                keys.join(","),
                ordered.join(",")
            )
        };
        let equal: Vec<String> = keys.iter().zip(&marks).map(|(e, m)| format!("{e}={m}")).collect();
        let from_key = format!("{from} WHERE {}", equal.join(" AND "));
        let lengths: Vec<String> = exprs.iter().map(length).collect();
        Self {
            first_page: page(""),
            next_page: page(&behind),
            row: format!("SELECT {} {from_key}", exprs.join(",")),
            sizes: format!("SELECT {} {from_key}", lengths.join(",")),
            keys: keys.len(),
            key: shape.key.clone(),
            exprs,
            from_key,
        }
    }

    /// Keys behind `after` (from the start if that is empty) in their order, at most [`PAGE`], and
    /// no more than it takes to reach `bytes`.
    pub(super) fn page(&self, conn: &Connection, after: &[KeyValue], bytes: usize) -> Result<Vec<Sized>> {
        let doing = "read a table";
        let sql = if after.is_empty() { &self.first_page } else { &self.next_page };
        let mut stmt = conn.prepare_cached(sql).doing(doing)?;
        let mut rows = stmt.query(params_from_iter(after)).doing(doing)?;
        let (mut page, mut total) = (Vec::new(), 0);
        while total < bytes {
            let Some(row) = rows.next().doing(doing)? else { break };
            let mut key = Vec::with_capacity(self.keys);
            for i in 0..self.keys {
                key.push(KeyValue::of(row.get_ref(i).doing(doing)?));
            }
            let size: i64 = row.get(self.keys).doing(doing)?;
            let size = usize::try_from(size).unwrap_or(0) + 11 * self.exprs.len();
            total += size;
            page.push((key, size));
        }
        Ok(page)
    }

    /// Loads the row with exactly this key into `cells`, leaving out what makes it larger than
    /// `budget`. `None` if there is no such row, or else how many values were left out.
    pub(super) fn load(
        &self,
        conn: &Connection,
        key: &[KeyValue],
        budget: usize,
        cells: &mut Cells,
    ) -> Result<Option<usize>> {
        let doing = "read a row";
        let sizes: Option<Vec<usize>> = conn
            .prepare_cached(&self.sizes)
            .and_then(|mut s| {
                s.query_row(params_from_iter(key), |r| {
                    (0..self.exprs.len())
                        .map(|i| r.get::<_, i64>(i).map(|n| usize::try_from(n).unwrap_or(0) + 11))
                        .collect()
                })
                .optional()
            })
            .doing(doing)?;
        let Some(sizes) = sizes else { return Ok(None) };
        cells.reset(self.exprs.len());
        if sizes.iter().sum::<usize>() <= budget {
            conn.prepare_cached(&self.row)
                .and_then(|mut s| {
                    s.query_row(params_from_iter(key), |r| {
                        (0..self.exprs.len()).try_for_each(|i| r.get_ref(i).map(|v| cells.set(i, v)))
                    })
                })
                .doing(doing)?;
            return Ok(self.is_exactly(cells, key).then_some(0));
        }
        let sizes: Vec<_> =
            sizes.iter().enumerate().map(|(i, n)| (false, self.key.contains(&i), *n)).collect();
        let Some(fit) = super::cells::fitting(&sizes, budget) else { return Ok(Some(self.exprs.len())) };
        for (i, expr) in self.exprs.iter().enumerate().filter(|(i, _)| fit[*i]) {
            conn.prepare(&format!("SELECT {expr} {}", self.from_key))
                .and_then(|mut s| {
                    s.query_row(params_from_iter(key), |r| {
                        let value: ValueRef<'_> = r.get_ref(0)?;
                        cells.set(i, value);
                        Ok(())
                    })
                })
                .doing(doing)?;
        }
        let left_out = fit.iter().filter(|taken| !**taken).count();
        Ok(self.is_exactly(cells, key).then_some(left_out))
    }

    /// A collation may find a row whose key is written otherwise.
    fn is_exactly(&self, cells: &Cells, key: &[KeyValue]) -> bool {
        cells.key(&self.key) == key
    }
}

/// Most rows in a page.
pub(super) const PAGE: usize = 256;
