//! The event model: what a change is, in plain data. No IO, no clock, no feature.
//!
//! A change is one *row record*: a compact byte buffer that is written once, where the change is
//! seen, and borrowed ever after. The spool stores these bytes, the wire carries them, sinks walk
//! them. A run of row records with the tables they refer to is a [`Batch`].
//!
//! | file | concept |
//! |---|---|
//! | [`value`] | [`Type`] and [`Value`]: what a column can hold and how it is encoded |
//! | [`table`] | [`Table`] and [`Column`]: the shape of a row, shared by `Arc`, known by hash |
//! | [`row`] | [`RowWriter`] and [`RowView`]: one change as bytes |
//! | [`batch`] | [`Batch`] and [`Origin`]: rows that travel together |
//! | [`binlog`] | where rows of a MySQL or MariaDB server come from |
//! | [`builtin`] | the shapes of events without a table: messages, losses, DDL |
//!
//! The byte layout is version 1 ([`batch::BODY_VERSION`]); golden bytes in `tests.rs` pin it.

pub mod batch;
pub mod binlog;
pub mod builtin;
pub mod row;
pub mod table;
pub mod value;
pub mod varint;

#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchBuilder, Origin, RowClock};
pub use row::{Image, ImageView, Op, OpenRow, RowError, RowHead, RowView, RowWriter, Walk};
pub use table::{Column, Table, TableKey, TableKind};
pub use value::{Type, Value};
