//! The SELECT of a chunk: rows in the order of the primary key, behind the last one that was read.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::table::{Ask, Described, quoted};
use crate::event::Type;
use crate::source::mysql::client::statement::{Cell, Date};

/// A column of a key as it is kept between chunks, and in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A number, as SQL writes it.
    Number(String),
    /// A date, a time, an address: letters, digits and marks.
    Text(String),
    /// Bytes in hexadecimal digits: of text, in the column's character set.
    Bytes(String),
}

impl Part {
    /// A value of a key. `None` for what cannot be in one.
    pub fn of(cell: Cell<'_>, ty: Type) -> Option<Self> {
        Some(match cell {
            Cell::Int(n) => Self::Number(n.to_string()),
            Cell::Uint(n) => Self::Number(n.to_string()),
            // The double that the single is; both print so that they read back the same.
            Cell::Float(n) => Self::Number(format!("{:e}", f64::from(n))),
            Cell::Double(n) => Self::Number(format!("{n:e}")),
            Cell::Date(date) => Self::Text(date_text(date, ty)),
            Cell::Time(micros) => {
                let mut text = Vec::new();
                crate::codec::text::time(&mut text, micros, 6);
                Self::Text(String::from_utf8(text).ok()?)
            }
            Cell::Bytes(raw) => match ty {
                Type::Decimal { .. } => Self::Number(String::from_utf8(raw.to_vec()).ok()?),
                Type::Uuid | Type::Inet4 | Type::Inet6 => Self::Text(String::from_utf8(raw.to_vec()).ok()?),
                _ => {
                    let mut hex = String::with_capacity(raw.len() * 2);
                    for byte in raw {
                        write!(hex, "{byte:02x}").ok()?;
                    }
                    Self::Bytes(hex)
                }
            },
            Cell::Null => return None,
        })
    }

    /// As a literal. `None` for what was not made by [`Self::of`]: a checkpoint may come from anywhere.
    fn literal(&self, charset: Option<&str>) -> Option<String> {
        match self {
            Self::Number(text) => {
                let fits = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e');
                (!text.is_empty() && text.chars().all(fits)).then(|| text.clone())
            }
            Self::Text(text) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | ' ');
                text.chars().all(fits).then(|| format!("'{text}'"))
            }
            Self::Bytes(hex) => {
                let fits = hex.len() % 2 == 0 && hex.chars().all(|c| c.is_ascii_hexdigit());
                fits.then(|| match charset {
                    Some(name) => format!("_{name} X'{hex}'"),
                    None => format!("X'{hex}'"),
                })
            }
        }
    }
}

fn date_text(date: Date, ty: Type) -> String {
    let Date { year, month, day, hour, minute, second, micros } = date;
    match ty {
        Type::Date => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}"),
    }
}

/// The columns, each by its name.
fn columns(table: &Described) -> String {
    let asked = table.columns.iter().map(|column| match column.ask {
        Ask::Plain => quoted(&column.name),
        Ask::Number => format!("CAST({} AS UNSIGNED)", quoted(&column.name)),
    });
    asked.collect::<Vec<_>>().join(",")
}

fn from(table: &Described) -> String {
    format!("{}.{}", quoted(&table.table.db), quoted(&table.table.name))
}

/// The statement of a chunk of a table with a key. `None` if `after` is no key of it.
pub fn select(table: &Described, after: Option<&[Part]>, only: Option<&str>, limit: u32) -> Option<String> {
    let key: Vec<_> = table.key.iter().filter_map(|&i| table.columns.get(i)).collect();
    if key.is_empty() {
        return None;
    }
    let mut conditions = Vec::new();
    if let Some(after) = after {
        if after.len() != key.len() {
            return None;
        }
        let mut behind = String::new();
        let mut ends = String::new();
        for (i, (column, part)) in key.iter().zip(after).enumerate() {
            // What is asked as a number is compared as one.
            let charset = column.charset.filter(|_| column.ask == Ask::Plain).map(|charset| charset.name);
            let (name, literal) = (quoted(&column.name), part.literal(charset)?);
            // Where the index is entered; the rest alone would not tell every optimizer.
            if i == 0 && key.len() > 1 {
                conditions.push(format!("{name} >= {literal}"));
            }
            if i + 1 < key.len() {
                write!(behind, "({name} > {literal} OR ({name} = {literal} AND ").ok()?;
                ends.push_str("))");
            } else {
                write!(behind, "{name} > {literal}").ok()?;
            }
        }
        conditions.push(behind + &ends);
    }
    conditions.extend(only.map(|only| format!("({only})")));
    let condition = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let order = key.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(",");
    Some(format!(
        "SELECT {} FROM {} FORCE INDEX (PRIMARY){condition} ORDER BY {order} LIMIT {limit}",
        columns(table),
        from(table)
    ))
}

/// The statement that reads a table without a key.
pub fn select_all(table: &Described, only: Option<&str>) -> String {
    let condition = only.map_or(String::new(), |only| format!(" WHERE ({only})"));
    format!("SELECT {} FROM {}{condition}", columns(table), from(table))
}

/// How many rows the next chunk has: chunks of about this time each.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rows: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: 2048 }
    }
}

/// Microseconds that a chunk is to take.
const CHUNK_US: u64 = 250_000;
/// Rows of a chunk, at least and at most.
const ROWS: std::ops::RangeInclusive<u32> = 16..=131_072;

impl Pace {
    /// Rows of the next chunk.
    pub fn rows(self) -> u32 {
        self.rows
    }

    /// A chunk of `rows` took so long.
    pub fn took(&mut self, rows: u32, micros: u64) {
        let wanted = u64::from(rows.max(1)) * CHUNK_US / micros.max(1);
        let (low, high) = (u64::from(self.rows / 2), u64::from(self.rows) * 2);
        self.set(wanted.clamp(low, high));
    }

    /// A chunk was in vain, or too large.
    pub fn smaller(&mut self) {
        self.set(u64::from(self.rows / 4));
    }

    fn set(&mut self, rows: u64) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.rows = rows.clamp(*ROWS.start(), *ROWS.end());
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::describe;
    use super::*;

    fn table(sql: &str) -> Described {
        describe("d", "t", sql, false).unwrap()
    }

    #[test]
    fn a_chunk_begins_behind_the_last_key() {
        let one = table(
            "CREATE TABLE `t` (`a` bigint unsigned NOT NULL, `e` enum('x','y'), PRIMARY KEY (`a`)) DEFAULT CHARSET=latin1",
        );
        assert_eq!(
            select(&one, None, None, 10).unwrap(),
            "SELECT `a`,CAST(`e` AS UNSIGNED) FROM `d`.`t` FORCE INDEX (PRIMARY) ORDER BY `a` LIMIT 10"
        );
        let after = [Part::of(Cell::Uint(u64::MAX), Type::U64).unwrap()];
        assert!(
            select(&one, Some(&after), Some("e = 1"), 10)
                .unwrap()
                .contains("WHERE `a` > 18446744073709551615 AND (e = 1) ORDER BY")
        );
        let three = table(
            "CREATE TABLE `t` (`a` int NOT NULL, `b` varchar(9) NOT NULL, `c` varbinary(9) NOT NULL, \
             PRIMARY KEY (`c`,`b`,`a`)) DEFAULT CHARSET=latin1",
        );
        let after = [
            Part::of(Cell::Bytes(b"\0'"), Type::Bytes).unwrap(),
            Part::of(Cell::Bytes(b"\xe9"), Type::Text).unwrap(),
            Part::of(Cell::Int(-1), Type::I32).unwrap(),
        ];
        assert!(select(&three, Some(&after), None, 1).unwrap().contains(
            "WHERE `c` >= X'0027' AND (`c` > X'0027' OR (`c` = X'0027' AND (`b` > _latin1 X'e9' OR \
             (`b` = _latin1 X'e9' AND `a` > -1)))) ORDER BY `c`,`b`,`a` LIMIT 1"
        ));
    }

    #[test]
    fn a_key_of_a_strange_checkpoint_is_refused() {
        let one = table("CREATE TABLE `t` (`a` int NOT NULL, PRIMARY KEY (`a`))");
        for part in [
            Part::Number("1 OR 1".into()),
            Part::Number(String::new()),
            Part::Text("' OR '".into()),
            Part::Bytes("0".into()),
            Part::Bytes("zz".into()),
        ] {
            assert_eq!(select(&one, Some(&[part]), None, 1), None);
        }
        assert_eq!(select(&one, Some(&[]), None, 1), None);
    }

    #[test]
    fn chunks_follow_their_time() {
        let mut pace = Pace::default();
        pace.took(2048, 10_000);
        assert_eq!(pace.rows(), 4096);
        pace.took(4096, 250_000);
        assert_eq!(pace.rows(), 4096);
        pace.took(4096, 500_000_000);
        assert_eq!(pace.rows(), 2048);
        (0..20).for_each(|_| pace.smaller());
        assert_eq!(pace.rows(), 16);
        (0..40).for_each(|_| pace.took(u32::MAX, 0));
        assert_eq!(pace.rows(), 131_072);
    }
}
