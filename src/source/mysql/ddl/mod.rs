//! What tables look like, as the statements in a binlog say: a catalogue that follows `CREATE`, `ALTER`, `DROP` and `RENAME`.
//!
//! A table map without full metadata (MySQL's default, and all of MariaDB before 10.5) names no columns, no ENUM labels, no signs, no
//! precision of old temporals, and no MariaDB UUID or INET. The statements in the same stream do.
//!
//! Invariants
//! - A table that is in the catalogue looks as it says after the last statement that was read. Where a statement was not
//!   understood, every table that it may have changed is forgotten: no name is better than a wrong one.
//! - Nothing here fails and nothing stops the stream. [`Outcome::Unknown`] tells what is not known any more.
//!
//! The words come from sqlparser's tokenizer (`lex`); the grammar is a tolerant one of our own, since sqlparser's refuses a whole
//! statement for one option that it does not know, and MariaDB has many. What stands in a column's definition after
//! its type is skimmed for the few words that matter.

mod alter;
mod catalogue;
mod column;
mod create;
mod cursor;
mod lex;
mod redact;
mod statement;
mod table;
#[cfg(test)]
mod tests;

pub use catalogue::Catalogue;
pub use redact::redact;
pub use statement::{Kind, kind};
pub use table::{Column, ColumnType, Table};

use super::charset::Charset;

/// What a statement was executed under, from its query event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The current database; empty if there was none.
    pub db: &'a str,
    /// Double quotes are for identifiers (`sql_mode` `ANSI_QUOTES`).
    pub ansi_quotes: bool,
    /// A backslash in a string is a backslash (`sql_mode` `NO_BACKSLASH_ESCAPES`).
    pub no_backslash_escapes: bool,
    /// `character_set_database`, where the event tells it.
    pub database_charset: Option<&'static Charset>,
    /// `character_set_server`, where the event tells it.
    pub server_charset: Option<&'static Charset>,
}

/// What a statement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What sort of statement it is.
    pub kind: Kind,
    /// What became of the catalogue.
    pub outcome: Outcome,
    /// The tables that the statement names as its objects: `[db, table]`.
    pub tables: Vec<[String; 2]>,
}

/// What became of the catalogue by a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It says now what the statement did.
    Applied,
    /// The statement changes the shape of no table.
    Harmless,
    /// The statement may have changed these tables, and how is not known: they are forgotten. Without a table: all are forgotten.
    Unknown {
        /// `[db, table]`.
        tables: Vec<[String; 2]>,
    },
}
