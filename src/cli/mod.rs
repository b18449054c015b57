//! The command line. One table ([`COMMANDS`]) makes parsing, help, completions and the man page.
//!
//! A command is a file here: its rows in the table, its arguments as a struct, its body.

use std::ffi::OsString;
use std::process::ExitCode;

#[cfg(feature = "cmd-binlog")]
pub mod binlog;
pub mod check;
#[cfg(feature = "cmd-ingest")]
pub mod completions;
#[cfg(feature = "cmd-ingest")]
pub mod demo;
pub mod health;
pub mod help;
#[cfg(feature = "cmd-ingest")]
pub mod man;
#[cfg(feature = "source-mysql")]
pub mod offsets;
pub mod output;
pub mod parse;
pub mod run;
mod running;
#[cfg(feature = "cmd-ingest")]
pub mod schema;
pub mod signal;
#[cfg(all(feature = "cmd-edge", feature = "spool"))]
pub mod spool;
#[cfg(all(feature = "cmd-edge", feature = "source-sqlite"))]
pub mod sqlite;
pub mod table;
#[cfg(feature = "cmd-ingest")]
pub mod tap;
pub mod version;

#[cfg(test)]
mod tests;

use output::{Failure, complain, print};
use parse::Request;
use table::Row;

macro_rules! commands {
    ($($name:ident $($feature:literal)*;)*) => {
        /// Every command that dts knows, compiled in or not.
        pub static COMMANDS: &[Row] = &[$(
            #[cfg(all($(feature = $feature),*))]
            Row { name: stringify!($name), features: &[$($feature),*], commands: Some($name::COMMANDS) },
            #[cfg(not(all($(feature = $feature),*)))]
            Row { name: stringify!($name), features: &[$($feature),*], commands: None },
        )*];
    };
}

commands! {
    run;
    check;
    schema "cmd-ingest";
    version;
    health;
    tap "cmd-ingest";
    spool "cmd-edge" "spool";
    sqlite "cmd-edge" "source-sqlite";
    binlog "cmd-binlog";
    offsets "source-mysql";
    demo "cmd-ingest";
    completions "cmd-ingest";
    man "cmd-ingest";
}

/// Runs the command that `args` (without the program's name) ask for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A panic's message may hold data; the place is what a report needs.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        complain(&format!("dts: internal error at {place}; please report it"));
    }));
    match parse::parse(COMMANDS, args).and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { exit, message }) => {
            if !message.is_empty() {
                complain(&message);
            }
            exit.into()
        }
    }
}

fn execute(request: Request) -> Result<(), Failure> {
    match request {
        Request::Help(topic) => print(&help::help(COMMANDS, topic)),
        Request::Version => print(&format!("dts {}\n", help::version())),
        Request::Command(parsed) => (parsed.command.main)(&parsed),
    }
}
