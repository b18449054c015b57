//! The dump for people: one block a transaction.

use std::io::{IsTerminal, Write};

use super::group::{Group, Place};
use super::record;
use super::rows::{Frame, Marks};
use super::session::Statement;
use super::view::View;
use crate::codec::text;
use crate::source::mysql::binlog::{Rows, RowsKind};

/// Between the images of a row.
pub(super) const MARKS: Marks =
    Marks { before: b" ", after: b" ", no_before: b"", no_after: b"", full: false };
/// Of an update.
pub(super) const UPDATE: Marks = Marks { after: b"\n      -> ", ..MARKS };

/// How it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colour: bool,
    pub(super) verbose: bool,
}

impl Style {
    /// Coloured on a terminal, unless `NO_COLOR` is set or the terminal has none.
    pub(super) fn new(verbose: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colour: wanted && std::io::stdout().is_terminal(), verbose }
    }

    fn paint(self, out: &mut Vec<u8>, code: &str, what: &str) {
        match self.colour {
            true => say(out, format_args!("\x1b[{code}m{what}\x1b[0m")),
            false => out.extend_from_slice(what.as_bytes()),
        }
    }

    pub(super) fn begin(self, out: &mut Vec<u8>, group: &Group, file: &str, place: Place) {
        out.push(b'\n');
        let name = if group.gtid.is_empty() { "transaction" } else { &group.gtid };
        self.paint(out, "1", name);
        out.extend_from_slice(b"  ");
        text::timestamp(out, i64::try_from(place.ts_ms).unwrap_or(0).saturating_mul(1000), 0);
        self.position(out, file, place);
        if let Some(xid) = &group.xa {
            say(out, format_args!("  xa {xid}"));
        }
        out.push(b'\n');
    }

    fn position(self, out: &mut Vec<u8>, file: &str, place: Place) {
        if self.verbose {
            say(out, format_args!("  {file}:{}", place.pos));
        }
    }

    pub(super) fn end(self, out: &mut Vec<u8>, what: &str, group: &Group, file: &str, place: Place) {
        let rows = group.rows;
        let s = if rows == 1 { "" } else { "s" };
        out.extend_from_slice(b"  ");
        self.paint(out, "2", &format!("{what}, {rows} row{s}"));
        self.position(out, file, place);
        out.push(b'\n');
    }

    pub(super) fn statement(self, out: &mut Vec<u8>, statement: &Statement, file: &str, place: Place) {
        out.extend_from_slice(b"  ");
        match &statement.sql {
            Ok(sql) => self.paint(out, "36", &sql.replace('\n', "\n  ")),
            Err(bytes) => self.paint(out, "36", &String::from_utf8_lossy(bytes)),
        }
        self.position(out, file, place);
        out.push(b'\n');
    }

    /// Something beside the changes: the statement behind the rows, a variable, an incident.
    pub(super) fn remark(self, out: &mut Vec<u8>, what: &str) {
        out.extend_from_slice(b"  ");
        self.paint(out, "2", &format!("# {}", what.replace('\n', "\n  # ")));
        out.push(b'\n');
    }

    pub(super) fn frame(self, frame: &mut Frame, view: &View, rows: &Rows<'_>, file: &str, place: Place) {
        frame.head.clear();
        frame.names.clear();
        let code = match rows.kind {
            RowsKind::Insert => "32",
            RowsKind::Update => "33",
            RowsKind::Delete => "31",
        };
        if self.verbose && rows.part.rows_before == 0 {
            // Before the first row of the event.
            let mut line = format!("{} bytes of rows", rows.image_bytes());
            line.push_str(&format!("  {file}:{}", place.pos));
            self.remark(&mut frame.tail, &line);
        }
        frame.head.extend_from_slice(b"  ");
        self.paint(&mut frame.head, code, record::op(rows.kind));
        say(&mut frame.head, format_args!(" {}", view.label));
        frame.end = b"\n";
    }
}

fn say(out: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // A Vec takes everything.
    out.write_fmt(what).unwrap_or_default();
}
