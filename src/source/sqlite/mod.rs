//! Follows the row changes of an application's SQLite database that other processes write.
//!
//! Triggers in the application's database record each change in a table of dts's own, in the
//! application's own transaction; dts is woken by the kernel, reads what was recorded, hands it on
//! and deletes it when it is stored. Tables that were there before, and tables of which changes may
//! have been missed, are read in slices between the changes.
//!
//! | file | concept |
//! |---|---|
//! | [`config`] | what a user says |
//! | `sql`, `schema` | the application's tables, and what names a row in each |
//! | `shape` | what is recorded of a table, and the shape of the rows made of it |
//! | `triggers` | the triggers' text: what is recorded, REPLACE, the limit |
//! | `store` | dts's own tables, the connection |
//! | `install` | triggers and registry brought in line after a migration |
//! | `position` | where to go on after a restart |
//! | `rows`, `cells`, `emit` | captured rows and table rows become row records |
//! | `follower` | the core: step, stored, trim |
//! | `watch`, `run` | the shell: file events, waiting, receipts |
//! | [`admin`] | `dts sqlite install`, `status` and `uninstall` |
//!
//! What a mirror may rely on: rows come in the order in which they were committed, each true when it
//! was recorded; a table is read as of a known place in that order; after [`Op::Truncate`] everything
//! about the table comes again. So a mirror that applies the rows in order ends as the table stands.
//!
//! [`Op::Truncate`]: crate::event::Op::Truncate

pub mod admin;
mod cells;
pub mod config;
mod emit;
pub mod error;
mod follower;
mod install;
mod position;
mod rows;
mod run;
mod schema;
mod shape;
mod sql;
mod store;
mod triggers;
mod watch;

#[cfg(test)]
mod tests;

pub use admin::{Report, TableReport, install, status, uninstall};
pub use config::{Capture, Config, TableConfig};
pub use error::{Class, Error};
pub use schema::Skipped;

use super::{Outlet, Source, SourceConfig, SourceError};
use crate::runtime::{LocalFuture, Stop};

impl SourceConfig for Config {
    fn build(&self, _name: &str) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Sqlite(self.clone())))
    }

    fn as_any(&self) -> Option<&(dyn std::any::Any + 'static)> {
        Some(self)
    }
}

#[derive(Debug)]
struct Sqlite(Config);

impl Source for Sqlite {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(run::run(self.0, outlet, stop))
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async { Ok(run::probe(&self.0)?) })
    }
}
