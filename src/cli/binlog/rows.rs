//! Rows, written as they are decoded.

use super::screen::Output;
use super::view::{ColumnView, Form, View};
use crate::codec::{json, text};
use crate::source::mysql::binlog::json::{Json, JsonDiffs};
use crate::source::mysql::binlog::{Malformed, Problem, RowsKind, Side, Value, Visit};

/// What is the same for every row of an event.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Up to the row's number in its `id`.
    pub(super) head: Vec<u8>,
    /// From there up to the images.
    pub(super) names: Vec<u8>,
    /// From behind the images up to the row's number in its `pos`.
    pub(super) tail: Vec<u8>,
    /// From there up to the ordinal in its `hlc`.
    pub(super) clock: Vec<u8>,
    /// Behind that.
    pub(super) end: &'static [u8],
}

/// The marks around images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) before: &'static [u8],
    pub(super) after: &'static [u8],
    pub(super) no_before: &'static [u8],
    pub(super) no_after: &'static [u8],
    /// Whether keys, numbers and the like are written.
    pub(super) full: bool,
}

/// What the parts of the writer share, over all events: memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    bytes: Vec<u8>,
    inflated: Vec<u8>,
    /// Columns of the row at hand that could not be made what the format says.
    unresolved: Vec<usize>,
    /// Where the key's values of each image stand in the output.
    key: Vec<(usize, usize)>,
    new_key: Vec<(usize, usize)>,
}

/// Writes the rows of one event.
pub(super) struct RowWriter<'w, 'a> {
    pub(super) out: &'w mut Output,
    pub(super) scratch: &'w mut Scratch,
    pub(super) frame: &'w Frame,
    pub(super) marks: Marks,
    pub(super) view: &'w View,
    pub(super) kind: RowsKind,
    pub(super) max_bytes: usize,
    /// Number of the next row in its transaction, and of its record.
    pub(super) row: u64,
    pub(super) record: u64,
    /// Documents of the before image, by column.
    pub(super) documents: Vec<Option<Json<'a>>>,
    /// What went wrong in a value, where [`Malformed`] cannot say it.
    pub(super) problem: Option<Problem>,
    side: Side,
    open: bool,
    first: bool,
    /// Where the row at hand begins in the output.
    start: usize,
    /// Where the columns begin that tell whether it is the current row, and whether they are the image's first.
    unseen: Option<(usize, bool)>,
}

impl<'w, 'a> RowWriter<'w, 'a> {
    #[allow(clippy::too_many_arguments, reason = "a constructor of fields")]
    pub(super) fn new(
        out: &'w mut Output,
        scratch: &'w mut Scratch,
        frame: &'w Frame,
        marks: Marks,
        view: &'w View,
        kind: RowsKind,
        max_bytes: usize,
        (row, record): (u64, u64),
    ) -> Self {
        let documents = if view.has_json { vec![None; view.columns.len()] } else { Vec::new() };
        Self {
            out,
            scratch,
            frame,
            marks,
            view,
            kind,
            max_bytes,
            row,
            record,
            documents,
            problem: None,
            side: Side::Before,
            open: false,
            first: true,
            start: 0,
            unseen: None,
        }
    }

    /// Takes back the row at hand, which turned out to be damaged.
    pub(super) fn abandon(&mut self) {
        if std::mem::take(&mut self.open) {
            self.out.buf.truncate(self.start);
        }
    }

    /// Ends the last row.
    pub(super) fn finish(&mut self) {
        if std::mem::take(&mut self.open) {
            self.close_row();
        }
    }

    fn close_row(&mut self) {
        let out = &mut self.out.buf;
        // An image without columns has no brace yet.
        out.extend_from_slice(if self.first { b"{}" } else { b"}" });
        if self.kind == RowsKind::Delete {
            out.extend_from_slice(self.marks.no_after);
        }
        if self.marks.full {
            self.key();
            self.unresolved();
            let out = &mut self.out.buf;
            out.extend_from_slice(&self.frame.tail);
            text::padded(out, self.row, 1);
            out.extend_from_slice(&self.frame.clock);
            text::padded(out, self.record, 1);
        }
        self.out.buf.extend_from_slice(self.frame.end);
        self.row += 1;
        self.record += 1;
        self.out.written();
    }

    fn key(&mut self) {
        let out = &mut self.out.buf;
        if self.view.key.is_empty() {
            out.extend_from_slice(b",\"key\":null");
            return;
        }
        let Scratch { key, new_key, .. } = self.scratch;
        let old = if self.kind == RowsKind::Insert { &new_key } else { &key };
        out.extend_from_slice(b",\"key\":");
        object(out, self.view, old);
        // A column that the after image lacks did not change.
        let changed = |(old, new): (&(usize, usize), &(usize, usize))| {
            new.1 > 0 && out.get(old.0..old.1) != out.get(new.0..new.1)
        };
        if self.kind == RowsKind::Update && key.iter().zip(new_key.iter()).any(changed) {
            let filled: Vec<_> = key
                .iter()
                .zip(new_key.iter())
                .map(|(old, new)| if new.1 > 0 { *new } else { *old })
                .collect();
            out.extend_from_slice(b",\"new_key\":");
            object(out, self.view, &filled);
        }
    }

    fn unresolved(&mut self) {
        let columns = &mut self.scratch.unresolved;
        if columns.is_empty() {
            return;
        }
        columns.sort_unstable();
        columns.dedup();
        let out = &mut self.out.buf;
        out.extend_from_slice(b",\"unresolved\":[");
        for (i, column) in columns.iter().filter_map(|&i| self.view.columns.get(i)).enumerate() {
            let name = column.name.get(usize::from(i == 0)..column.name.len() - 1);
            out.extend_from_slice(name.unwrap_or_default());
        }
        out.push(b']');
        columns.clear();
    }

    fn json(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let bytes = &mut self.scratch.bytes;
        bytes.clear();
        write(bytes)?;
        let out = &mut self.out.buf;
        match std::str::from_utf8(bytes) {
            Ok(text) => json::string(out, text),
            Err(_) => json::base64_object(out, bytes),
        }
        Ok(())
    }

    fn diff(&mut self, column: usize, diffs: JsonDiffs<'a>) -> Result<(), Malformed> {
        if let Some(Some(document)) = self.documents.get(column).copied() {
            return self.json(|out| document.write_patched(&diffs, out));
        }
        self.scratch.unresolved.push(column);
        let out = &mut self.out.buf;
        out.extend_from_slice(b"{\"json_patch\":[");
        for (i, diff) in diffs.iter().enumerate() {
            let diff = diff?;
            out.extend_from_slice(if i > 0 { b",{\"op\":\"" } else { b"{\"op\":\"" });
            out.extend_from_slice(diff.op.as_str().as_bytes());
            out.extend_from_slice(b"\",\"path\":");
            match std::str::from_utf8(diff.path) {
                Ok(path) => json::string(out, path),
                Err(_) => json::base64_object(out, diff.path),
            }
            if let Some(value) = diff.value {
                out.extend_from_slice(b",\"value\":");
                value.write(out)?;
            }
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        Ok(())
    }

    /// What is not written in the loop itself.
    #[inline(never)]
    fn rare(&mut self, column: usize, value: Value<'a>) -> Result<(), Malformed> {
        let Some(view) = self.view.columns.get(column) else { return Ok(()) };
        let out = &mut self.out.buf;
        match value {
            Value::Float(n) => json::float(out, n),
            Value::Double(n) => match view.form {
                Form::Rounded(scale) => rounded(out, n, scale),
                _ => json::double(out, n),
            },
            Value::Date(n) => quoted(out, |out| text::date(out, u64::from(n))),
            Value::Time(n) => quoted(out, |out| text::time(out, n, view.fsp)),
            Value::DateTime(n) => quoted(out, |out| text::datetime(out, n, view.fsp)),
            Value::Timestamp(n) => quoted(out, |out| text::timestamp(out, n, view.fsp)),
            Value::Decimal(n) => {
                out.push(b'"');
                n.write(out)?;
                out.push(b'"');
            }
            Value::Year(n) => text::padded(out, u64::from(n), 1),
            Value::Bit(n) => text::padded(out, n, 1),
            Value::Enum(n) => match (&view.form, n) {
                (Form::Labels(_), 0) => out.extend_from_slice(b"\"\""),
                (Form::Labels(labels), n) if usize::from(n) <= labels.len() => {
                    let label = labels.get(usize::from(n) - 1).map(|label| &**label).unwrap_or_default();
                    quoted(out, |out| out.extend_from_slice(label));
                }
                _ => {
                    text::padded(out, u64::from(n), 1);
                    self.scratch.unresolved.push(column);
                }
            },
            Value::Set(bits) => match &view.form {
                Form::Labels(labels) if labels.len() >= 64 || bits >> labels.len() == 0 => {
                    quoted(out, |out| set(out, bits, labels));
                }
                _ => {
                    text::padded(out, bits, 1);
                    self.scratch.unresolved.push(column);
                }
            },
            Value::Compressed(packed) => {
                let mut inflated = std::mem::take(&mut self.scratch.inflated);
                let written = match packed.inflate(&mut inflated, self.max_bytes) {
                    Ok(bytes) => {
                        bytes_of(self, column, bytes);
                        Ok(())
                    }
                    Err(problem) => {
                        self.problem = Some(problem);
                        Err(Malformed::Ends("the compressed value's end"))
                    }
                };
                inflated.clear();
                inflated.shrink_to(1 << 20);
                self.scratch.inflated = inflated;
                return written;
            }
            Value::Json(document) => {
                if self.side == Side::Before
                    && let Some(place) = self.documents.get_mut(column)
                {
                    *place = Some(document);
                }
                return self.json(|out| document.write(out));
            }
            Value::JsonDiff(diffs) => return self.diff(column, diffs),
            Value::Geometry(bytes) => {
                if !json::geometry(out, bytes) {
                    self.scratch.unresolved.push(column);
                }
            }
            Value::Vector(bytes) => {
                if !json::vector(out, bytes) {
                    self.scratch.unresolved.push(column);
                }
            }
            Value::Uuid(bytes) => quoted(out, |out| text::uuid(out, &bytes)),
            Value::Inet4(bytes) => quoted(out, |out| text::inet4(out, bytes)),
            Value::Inet6(bytes) => quoted(out, |out| text::inet6(out, bytes)),
            Value::Absent | Value::Null | Value::Int(_) | Value::Uint(_) | Value::Bytes(_) => {}
        }
        if matches!(view.form, Form::Doubtful) {
            self.scratch.unresolved.push(column);
        }
        Ok(())
    }
}

/// `row_end` of a row that is the current one, in MariaDB before and since 11.5. Only what differs tells something.
const END_OF_TIME: [&[u8]; 2] = [b"\"2038-01-19T03:14:07.999999Z\"", b"\"2106-02-07T06:28:15.999999Z\""];

/// With no more digits after the point than are declared: as the server prints it.
fn rounded(out: &mut Vec<u8>, n: f64, scale: u8) {
    let start = out.len();
    json::double(out, n);
    let digits = out.get(start..).unwrap_or_default();
    let point = digits.iter().position(|&b| b == b'.').map_or(digits.len(), |at| at + 1);
    if digits.contains(&b'e') || digits.len() - point > usize::from(scale) {
        let text = format!("{n:.*}", usize::from(scale));
        if n.is_finite() && text.len() < 64 {
            out.truncate(start);
            let text =
                if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            out.extend_from_slice(if text == "-0" { b"0" } else { text.as_bytes() });
        }
    }
}

/// Text or bytes, as their column says.
#[inline]
fn bytes_of(writer: &mut RowWriter<'_, '_>, column: usize, bytes: &[u8]) {
    let Some(view) = writer.view.columns.get(column) else { return };
    let out = &mut writer.out.buf;
    match &view.form {
        Form::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => json::string(out, text),
            Err(_) => json::base64_object(out, bytes),
        },
        Form::Text(charset) => match charset.to_utf8(bytes, &mut writer.scratch.text) {
            Ok(text) => json::string(out, text),
            Err(_) => json::base64_object(out, bytes),
        },
        Form::Bytes => json::base64_string(out, bytes),
        Form::Padded(length) => padded(out, &mut writer.scratch.bytes, bytes, *length),
        Form::Vector => {
            if !json::vector(out, bytes) {
                writer.scratch.unresolved.push(column);
            }
        }
        Form::OpenPadded(length) => {
            padded(out, &mut writer.scratch.bytes, bytes, *length);
            writer.scratch.unresolved.push(column);
        }
        _ => {
            match std::str::from_utf8(bytes) {
                Ok(text) => json::string(out, text),
                Err(_) => json::base64_object(out, bytes),
            }
            writer.scratch.unresolved.push(column);
        }
    }
}

fn padded(out: &mut Vec<u8>, scratch: &mut Vec<u8>, bytes: &[u8], length: usize) {
    if bytes.len() >= length {
        return json::base64_string(out, bytes);
    }
    scratch.clear();
    scratch.extend_from_slice(bytes);
    scratch.resize(length, 0);
    json::base64_string(out, scratch);
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn set(out: &mut Vec<u8>, bits: u64, labels: &[Box<[u8]>]) {
    let mut first = true;
    for (_, label) in labels.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(label);
    }
}

/// The key as an object; its values stand in `out` already.
fn object(out: &mut Vec<u8>, view: &View, places: &[(usize, usize)]) {
    out.push(b'{');
    let mut first = true;
    for (&column, &(from, to)) in view.key.iter().zip(places) {
        let Some(column) = view.columns.get(column) else { continue };
        if to > 0 && to <= out.len() {
            out.extend_from_slice(
                column.name.get(usize::from(std::mem::take(&mut first))..).unwrap_or_default(),
            );
            out.extend_from_within(from..to);
        }
    }
    out.push(b'}');
}

impl<'a> Visit<'a> for RowWriter<'_, 'a> {
    #[inline]
    fn row(&mut self) {
        self.finish();
        self.open = true;
        self.first = false;
        self.scratch.unresolved.clear();
        for key in [&mut self.scratch.key, &mut self.scratch.new_key] {
            key.clear();
            key.resize(self.view.key.len(), (0, 0));
        }
        self.documents.fill(None);
        let out = &mut self.out.buf;
        self.start = out.len();
        out.extend_from_slice(&self.frame.head);
        if self.marks.full {
            text::padded(out, self.row, 1);
        }
        out.extend_from_slice(&self.frame.names);
    }

    #[inline]
    fn image(&mut self, side: Side) {
        let out = &mut self.out.buf;
        match side {
            Side::Before => out.extend_from_slice(self.marks.before),
            Side::After => {
                match self.kind {
                    RowsKind::Insert => out.extend_from_slice(self.marks.no_before),
                    _ => out.extend_from_slice(if self.first { b"{}" } else { b"}" }),
                }
                out.extend_from_slice(self.marks.after);
            }
        }
        self.side = side;
        self.first = true;
        self.unseen = None;
    }

    #[inline]
    fn value(&mut self, column: usize, value: Value<'a>) -> Result<(), Malformed> {
        let Some(view) = self.view.columns.get(column) else { return Ok(()) };
        if self.out.has_failed() {
            return Err(Malformed::Ends("standard output was closed"));
        }
        let ColumnView { name, key, form, .. } = view;
        let out = &mut self.out.buf;
        if self.view.unseen.is_some_and(|unseen| column >= unseen) && self.unseen.is_none() {
            self.unseen = Some((out.len(), self.first));
        }
        if std::mem::take(&mut self.first) {
            out.push(b'{');
            out.extend_from_slice(name.get(1..).unwrap_or_default());
        } else {
            out.extend_from_slice(name);
        }
        let start = out.len();
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Int(n) => {
                text::int(out, n);
                if n < 0 && matches!(form, Form::Sign) {
                    self.scratch.unresolved.push(column);
                }
            }
            Value::Uint(n) => text::padded(out, n, 1),
            Value::Bytes(bytes) => bytes_of(self, column, bytes),
            _ => self.rare(column, value)?,
        }
        if *key != u16::MAX {
            let keys = match self.side {
                Side::Before => &mut self.scratch.key,
                Side::After => &mut self.scratch.new_key,
            };
            if let Some(place) = keys.get_mut(usize::from(*key)) {
                *place = (start, self.out.buf.len());
            }
        }
        if self.view.unseen.is_some_and(|unseen| column == unseen + 1) {
            let out = &mut self.out.buf;
            let current = out.get(start..).is_some_and(|end| END_OF_TIME.contains(&end));
            if let (true, Some((place, first))) = (current, self.unseen) {
                out.truncate(place);
                self.first = first;
            }
        }
        Ok(())
    }
}
