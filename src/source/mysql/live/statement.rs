//! What the text of a statement tells, where an event tells no more.

use super::filter::Filter;
use crate::source::mysql::tables::Statement;

/// Why a statement changes rows of wanted tables that no event shows; `None` if it does not.
pub(super) fn loses_rows(filter: &Filter, db: &str, statement: &Statement) -> Option<&'static str> {
    let sql = statement.sql.as_deref().unwrap_or_default();
    let upper: String = sql.chars().take(4096).collect::<String>().to_ascii_uppercase();
    let words: Vec<&str> =
        upper.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).collect();
    let has = |pair: [&str; 2]| words.windows(2).any(|found| found == pair);
    let wanted: Vec<bool> = statement.tables.iter().map(|[db, table]| filter.wants(db, table)).collect();
    match words.as_slice() {
        ["DROP", "DATABASE" | "SCHEMA", rest @ ..] => {
            let name = rest.last().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
            (filter.wants_some_of(&name) || filter.wants_some_of(db) && db.eq_ignore_ascii_case(&name))
                .then_some("a database with tables that are followed was dropped")
        }
        ["RENAME", "TABLE" | "TABLES", ..] => {
            // Pairs of the old name and the new one. Where one table takes the name that another gives up, as gh-ost and
            // pt-online-schema-change do it, its rows are known to be the same.
            let moved = |from: usize| {
                let pairs = statement.tables.chunks(2).zip(wanted.chunks(2));
                let names = pairs.filter_map(|(names, wanted)| {
                    let (here, there) = (*wanted.get(from)?, *wanted.get(1 - from)?);
                    (here && !there).then_some(names.get(from)?)
                });
                let mut names: Vec<_> = names.collect();
                names.sort();
                names
            };
            (moved(0) != moved(1)).then_some("a table was renamed into or out of the filter")
        }
        ["ALTER", ..] if wanted.contains(&true) => {
            if wanted.contains(&false) && words.contains(&"RENAME") {
                return Some("a table was renamed into or out of the filter");
            }
            let partition = [["DROP", "PARTITION"], ["TRUNCATE", "PARTITION"], ["EXCHANGE", "PARTITION"]];
            if partition.into_iter().any(has) {
                return Some("rows went with a partition");
            }
            has(["IMPORT", "TABLESPACE"]).then_some("rows came with a tablespace")
        }
        _ => None,
    }
}

/// Whether the statement changes rows; others of its kind prepare or ask.
pub(super) fn changes_rows(sql: &str) -> bool {
    let upper: String = sql.chars().take(64).collect::<String>().to_ascii_uppercase();
    let mut words = upper.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    matches!(
        words.next(),
        Some("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "WITH" | "CALL" | "IMPORT")
    )
}

/// `SAVEPOINT a`, ``ROLLBACK TO SAVEPOINT `a` ``: the name.
pub(super) fn savepoint(sql: &str) -> Box<str> {
    sql.split_whitespace().last().unwrap_or_default().trim_matches('`').into()
}

/// Whether two spellings name one XID: `'a','b',1` and `X'61',X'62',1`.
pub(super) fn same_xid(a: &str, b: &str) -> bool {
    fn read(xid: &str) -> Option<(Vec<u8>, Vec<u8>, u64)> {
        let mut parts = xid.split(',').map(str::trim);
        let mut bytes = |or: &'static str| {
            let part = parts.next().unwrap_or(or);
            let hex = part.strip_prefix(['X', 'x']).or_else(|| part.strip_prefix("0x"));
            let inner = hex.unwrap_or(part).trim_matches('\'');
            match hex {
                None => Some(inner.as_bytes().to_vec()),
                Some(_) => (0..inner.len() / 2)
                    .map(|i| u8::from_str_radix(inner.get(2 * i..2 * i + 2)?, 16).ok())
                    .collect(),
            }
        };
        let (gtrid, bqual) = (bytes("")?, bytes("''")?);
        Some((gtrid, bqual, parts.next().map_or(Some(1), |n| n.parse().ok())?))
    }
    a == b || read(a).is_some_and(|a| read(b) == Some(a))
}

/// The beginning of a statement, for people.
pub(super) fn brief(sql: &str) -> String {
    let mut text: String = sql.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() < sql.len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::mysql::ddl::{Catalogue, Context};

    fn lost(filter: &Filter, sql: &str) -> Option<&'static str> {
        let reading = Catalogue::new().read(sql, &Context { db: "t", ..Context::default() });
        let (kind, outcome) = (reading.kind, reading.outcome);
        let statement =
            Statement { kind, tables: reading.tables, sql: Ok(sql.to_owned().into()), outcome, entry: None };
        loses_rows(filter, "t", &statement)
    }

    #[test]
    fn statements_that_lose_rows_are_known() {
        let filter = Filter::new(&["t.k".to_owned(), "t.both_*".to_owned()], &[]).unwrap();
        for (sql, says) in [
            ("rename table k to elsewhere", Some("out of the filter")),
            ("rename table elsewhere to k", Some("out of the filter")),
            ("rename table k to _k_del, _k_gho to k", None),
            ("rename table both_a to both_b", None),
            ("rename table other to another", None),
            ("alter table k rename to elsewhere", Some("out of the filter")),
            ("alter table k add column c int", None),
            ("alter table k drop partition p0", Some("partition")),
            ("alter table other drop partition p0", None),
            ("alter table k exchange partition p0 with table x", Some("partition")),
            ("alter table k import tablespace", Some("tablespace")),
            ("drop database t", Some("database")),
            ("drop database if exists u", None),
            ("truncate table k", None),
        ] {
            let found = lost(&filter, sql);
            match says {
                Some(says) => assert!(found.is_some_and(|found| found.contains(says)), "{sql}: {found:?}"),
                None => assert_eq!(found, None, "{sql}"),
            }
        }
    }

    #[test]
    fn one_xid_has_several_spellings() {
        assert!(same_xid("X'61',X'62',1", "'a','b'"));
        assert!(same_xid("'a'", "X'61',X'',1"));
        assert!(!same_xid("'a'", "'a','b'") && !same_xid("'a','',2", "'a'"));
        assert_eq!(&*savepoint("ROLLBACK TO SAVEPOINT `p`"), "p");
        assert!(changes_rows("/* x */ insert into t values (1)") || changes_rows("insert into t values (1)"));
        assert!(!changes_rows("SET PASSWORD = 'x'"));
    }
}
