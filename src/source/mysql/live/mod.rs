//! The source `mysql-binlog`: follows the row changes of a MySQL or MariaDB server, as a replica does.
//!
//! | file | concept |
//! |---|---|
//! | [`config`] | what a user says |
//! | `filter` | which tables are wanted |
//! | `place` | where an event stands in the server's file, and what was read so far |
//! | `collect` | rows on their way into a batch, cut at transactions |
//! | `core` | events in; batches, marks and schemas out. No IO |
//! | `view` | a table as its rows are taken |
//! | `statement` | what the text of a statement tells |
//! | `server` | what is asked of a server before its binlog: who it is, whether it still has our position |
//! | `check` | what is wrong with a server, and the SQL that mends it |
//! | `thread` | the thread `mysql`: connect, read, again |
//! | `run` | hands batches on, and moves the checkpoint behind their receipts |
//!
//! Promises: rows of transactions that were committed, in the order of the binlog, each under an id that stays the same; a
//! checkpoint never lies ahead of what every sink has.

mod check;
mod collect;
pub mod config;
mod core;
mod error;
mod filter;
mod place;
mod run;
mod server;
mod statement;
#[cfg(test)]
mod tests;
mod thread;
mod view;

pub use config::Config;

use super::super::{Outlet, Source, SourceConfig, SourceError};
use crate::runtime::{LocalFuture, Stop};

impl SourceConfig for Config {
    fn mistake(&self) -> Option<String> {
        self.wrong()
    }

    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(MySql { config: self.clone(), name: name.to_owned() }))
    }

    fn as_any(&self) -> Option<&(dyn std::any::Any + 'static)> {
        Some(self)
    }

    /// The binlog is the durable queue.
    fn needs_buffer(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct MySql {
    config: Config,
    name: String,
}

impl Source for MySql {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(run::run(self.config, self.name, outlet, stop))
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(check::probe(self.config.clone()))
    }
}
