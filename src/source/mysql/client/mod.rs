//! A small client of MySQL's and MariaDB's protocol: log in, ask, and read the binlog as a replica does.
//!
//! | file | concept |
//! |---|---|
//! | [`dsn`] | where the server is and how to get in, as Go's driver and as URLs write it |
//! | `packet` | bytes to packets and back; no IO |
//! | `login`, `auth`, `rsa` | handshake, capabilities, passwords; no IO |
//! | `answer` | OK, ERR, rows of a text result; no IO |
//! | `command` | the commands that a replica sends; no IO |
//! | `wire` | a socket, plain or TLS, that can be woken |
//! | [`statement`] | prepared statements, and rows of the binary protocol |
//! | `conn`, `stream` | a connection that asks; one that gives the binlog's bytes |
//!
//! Why our own: a transaction must stream through in bounded memory, and the libraries join packets and inflate payloads
//! whole. Sources: the manual's pages "Client/Server Protocol" (MySQL source, `page_protocol_*`), MariaDB's
//! "Connection" pages.
//!
//! Everything blocks, on a thread of its own; every wait ends at its limit or when the [`Wake`]'s other end goes away.
//! Bytes of a hostile server give an error, never a panic, and no memory in proportion to a number that it claims.

mod answer;
mod auth;
mod command;
mod conn;
pub mod dsn;
mod error;
mod login;
mod packet;
mod rsa;
pub mod statement;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::{Rows, ServerError};
pub use command::{Dump, Replica};
pub use conn::Conn;
pub use dsn::Dsn;
pub use error::ClientError;
pub use stream::BinlogStream;
pub use wire::{Wake, Waker};
