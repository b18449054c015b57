//! The binlog of MySQL 5.0 to 9.x and MariaDB 5.3 to 12.x, decoded.
//!
//! A binlog file is the magic number `fe 62 69 6e` and events, one after the other. The first, the
//! FORMAT_DESCRIPTION, says how the others look; a TABLE_MAP names a table before its rows come; a
//! GTID begins a transaction, an XID ends it. Each structure's source (MySQL's or MariaDB's own
//! code) is named where it is read. Read the files in this order:
//!
//! | file | holds |
//! |---|---|
//! | `header`, `checksum`, `format` | what every event has |
//! | `event`, `transaction`, `query`, `payload` | the events |
//! | `gtid/` | GTIDs and sets of them |
//! | `column`, `table_map`, `metadata` | a table's shape |
//! | `plan`, `rows`, `value/`, `json/` | rows and their values |
//! | `decoder` | an event's bytes in, an [`Event`] out; no IO |
//! | `reader`, `window` | a file in, events out, large ones in parts |
//! | `fold`, `to_event` | what is done with rows |
//!
//! # Using it
//!
//! [`Reader`] reads a file or a stream. [`Reader::next`] lends one [`Item`] at a time: the header,
//! where it stands, and the [`Event`], which borrows from the reader's buffer.
//!
//! ```no_run
//! use dts::source::mysql::binlog::{Event, Options, Reader, Value};
//!
//! let file = std::fs::File::open("binlog.000001")?;
//! let mut reader = Reader::from_file(file, Options::default());
//! while let Some(item) = reader.next()? {
//!     match item.event {
//!         Event::TableMap(table) => println!("{} has {} columns", table.table, table.columns.len()),
//!         Event::Rows(rows) => {
//!             let mut cursor = rows.cursor();
//!             while let Some(row) = cursor.next() {
//!                 let row = row?;
//!                 for (column, value) in rows.table.columns.iter().zip(row.after.unwrap_or_default()) {
//!                     if let Value::Int(n) = value {
//!                         println!("{:?} = {n}", column.name);
//!                     }
//!                 }
//!             }
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - **Order.** Events come in the order of the file. Those of a compressed transaction follow their
//!   [`Event::TransactionPayload`], with [`Item::inside`] set and the payload's own position.
//! - **Rows.** [`Rows::cursor`] gives each row's values in slices, for who looks at columns by name;
//!   [`Rows::walk`] gives every value to a [`Visit`], for who wants speed. An event of rows above
//!   16 MiB comes as several [`Event::Rows`], each of whole rows (`Rows::part`).
//! - **What the log does not tell.** Names, signs and character sets stand in the TABLE_MAP if the
//!   server was told so (`binlog_row_metadata`). What a DDL reader knows goes in by
//!   [`Reader::describe`] after each [`Event::TableMap`] whose [`TableMap::generation`] is new. MariaDB's UUID, INET
//!   and old temporal types with fractions cannot be read right without it.
//! - **Character sets.** Text comes as the server stored it, with the column's collation id
//!   ([`Column::charset`]).
//! - **Errors.** Any bytes give events or an [`Error`], never a panic, and no memory in proportion to
//!   a number that a file claims. After an error the reader is at its end.

pub(crate) mod bytes;
pub mod checksum;
mod column;
mod crc32;
mod decoder;
mod error;
mod event;
mod fold;
mod format;
pub mod gtid;
mod header;
mod inflate;
mod input;
pub mod json;
mod metadata;
mod payload;
mod plan;
mod query;
mod reader;
mod rows;
mod table_map;
#[cfg(test)]
pub(super) mod tests;
pub mod to_event;
mod transaction;
pub mod value;
mod window;

pub use checksum::Checksum;
pub use column::{Column, ColumnHint, ColumnType, KeyPart, Special};
pub use decoder::Decoder;
pub use error::{Class, Error, Malformed, Place, Problem};
pub use event::{Event, Heartbeat, IntVar, Rotate, UserVar, UserVarValue};
pub use fold::Fold;
pub use format::{Flavour, FormatDescription};
pub use header::{EventType, HEADER_BYTES, Header, flags};
pub use payload::{Compression, Payload};
pub use query::{Query, Status};
pub use reader::{Item, MAGIC, Options, Reader};
pub use rows::{Part, Row, RowCursor, Rows, RowsKind, Side, Visit};
pub use table_map::TableMap;
pub use transaction::{GtidEvent, GtidList, MariaDbGtidEvent, XaPrepare, Xid};
pub use value::{Compressed, Decimal, Value};
