//! WRITE, UPDATE, DELETE and PARTIAL_UPDATE_ROWS: the changed rows of one table.
//!
//! ```text
//! table id u48 | flags u16 | [extra length u16, which counts itself | extra]       (extra: version 2 only)
//!   | columns packed | present bitmap | [present bitmap of the after image]        (second: updates only)
//!   | image…                                                                       (updates: before, after, before, …)
//! image = [options packed | [partial bitmap, a bit each JSON column]]              (after images of PARTIAL_UPDATE_ROWS)
//!   | null bitmap, a bit each present column | values of the present columns that are not NULL
//! ```
//!
//! Source: MySQL's `libs/mysql/binlog/event/rows_event.h`, `Rows_event`; `sql/rpl_record.cc`,
//! `unpack_row`; WL#2955 for the partial form.

use super::bytes::{Bytes, le};
use super::error::{Malformed, Problem};
use super::header::EventType;
use super::json::JsonDiffs;
use super::plan::{Read, Step};
use super::table_map::TableMap;
use super::value::{Value, read};

/// What happened to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowsKind {
    /// After images only.
    Insert,
    /// Before and after images.
    Update,
    /// Before images only.
    Delete,
}

impl RowsKind {
    /// Of an event type; `None` if it holds no rows. The second is whether it is of version 2, the
    /// third whether it is compressed.
    pub(super) fn of(event: EventType) -> Option<(Self, bool, bool)> {
        use EventType as T;
        Some(match event {
            T::WRITE_ROWS_V1 => (Self::Insert, false, false),
            T::UPDATE_ROWS_V1 => (Self::Update, false, false),
            T::DELETE_ROWS_V1 => (Self::Delete, false, false),
            T::WRITE_ROWS => (Self::Insert, true, false),
            T::UPDATE_ROWS | T::PARTIAL_UPDATE_ROWS => (Self::Update, true, false),
            T::DELETE_ROWS => (Self::Delete, true, false),
            T::MARIADB_WRITE_ROWS_COMPRESSED_V1 => (Self::Insert, false, true),
            T::MARIADB_UPDATE_ROWS_COMPRESSED_V1 => (Self::Update, false, true),
            T::MARIADB_DELETE_ROWS_COMPRESSED_V1 => (Self::Delete, false, true),
            T::MARIADB_WRITE_ROWS_COMPRESSED => (Self::Insert, true, true),
            T::MARIADB_UPDATE_ROWS_COMPRESSED => (Self::Update, true, true),
            T::MARIADB_DELETE_ROWS_COMPRESSED => (Self::Delete, true, true),
            _ => return None,
        })
    }
}

/// What stands before the images.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsHead<'a> {
    pub(super) table_id: u64,
    columns: usize,
    flags: u16,
    extra_len: u16,
    kind: RowsKind,
    partial: bool,
    /// From the extra data to the end of the bitmaps.
    raw: &'a [u8],
}

/// The last rows of the statement: table ids are void after it.
const STATEMENT_END: u16 = 1;
/// A table id that stands for none: only [`STATEMENT_END`] counts.
const NO_TABLE: u64 = 0xff_ffff;

impl<'a> RowsHead<'a> {
    /// Takes the head off `body`, which begins behind the event's header; the images remain.
    #[inline]
    pub(super) fn take(body: &mut &'a [u8], event: EventType, id_bytes: usize) -> Result<Self, Malformed> {
        let expected = "an event of rows";
        let (kind, v2, _) =
            RowsKind::of(event).ok_or_else(|| Malformed::Invalid { expected, found: u64::from(event.0) })?;
        let mut b = Bytes(body);
        let table_id = table_id(&mut b, id_bytes)?;
        let flags = b.u16("the flags")?;
        let extra_len = if v2 {
            let len = b.u16("the extra data's length")?;
            let expected = "at least 2 bytes of extra data";
            len.checked_sub(2).ok_or_else(|| Malformed::Invalid { expected, found: u64::from(len) })?
        } else {
            0
        };
        let start = b.0;
        b.take(usize::from(extra_len), "the extra data")?;
        let columns = b.packed_len("the number of columns")?;
        let bitmap = columns.div_ceil(8);
        b.take(bitmap, "the bitmap of present columns")?;
        if kind == RowsKind::Update {
            b.take(bitmap, "the bitmap of the after image's columns")?;
        }
        *body = b.0;
        let raw = start.get(..start.len() - b.len()).unwrap_or_default();
        let partial = event == EventType::PARTIAL_UPDATE_ROWS;
        Ok(Self { table_id, columns, flags, extra_len, kind, partial, raw })
    }

    #[inline]
    pub(super) fn ends_statement(&self) -> bool {
        self.flags & STATEMENT_END != 0
    }

    #[inline]
    pub(super) fn names_no_table(&self) -> bool {
        self.table_id == NO_TABLE && self.columns == 0
    }

    /// With its table and images.
    #[inline]
    pub(super) fn rows(self, table: &'a TableMap, images: &'a [u8]) -> Result<Rows<'a>, Malformed> {
        let columns = table.columns.len();
        if self.columns != columns {
            let expected = "as many columns as in the TABLE_MAP";
            return Err(Malformed::Invalid { expected, found: self.columns as u64 });
        }
        let Self { flags, extra_len, kind, partial, raw: head, .. } = self;
        let mut rows =
            Rows { table, kind, flags, extra_len, plain: false, partial, part: Part::WHOLE, head, images };
        rows.plain = !partial && Side::BOTH.iter().all(|&side| !rows.is_partial(side));
        Ok(rows)
    }
}

/// A table's number.
#[inline]
pub(super) fn table_id(b: &mut Bytes<'_>, bytes: usize) -> Result<u64, Malformed> {
    let what = "the table id";
    if bytes == 6 {
        return Ok(u64::from(b.u32(what)?) | u64::from(b.u16(what)?) << 32);
    }
    b.take(bytes, what).map(le)
}

#[inline]
fn bit(bitmap: &[u8], i: usize) -> bool {
    bitmap.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
}

/// How many of the first `columns` bits are set.
fn held(bitmap: &[u8], columns: usize) -> usize {
    let whole: u32 = bitmap.get(..columns / 8).unwrap_or_default().iter().map(|b| b.count_ones()).sum();
    let rest = bitmap.get(columns / 8).map_or(0, |b| b & ((1u8 << (columns % 8)) - 1));
    (whole + rest.count_ones()) as usize
}

/// Whether all of the first `columns` bits are set.
#[inline]
fn all(bitmap: &[u8], columns: usize) -> bool {
    let rest = (1u8 << (columns % 8)) - 1;
    bitmap.iter().take(columns / 8).all(|&b| b == 0xff)
        && (rest == 0 || bitmap.get(columns / 8).is_some_and(|b| b & rest == rest))
}

/// Which columns an image holds.
#[derive(Clone, Copy, Debug)]
struct Present<'a> {
    /// `None` if all.
    bitmap: Option<&'a [u8]>,
    held: usize,
}

/// A large event of rows comes in parts of whole rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rows of the event in the parts before.
    pub rows_before: u64,
    /// Whether no part follows.
    pub last: bool,
}

impl Part {
    const WHOLE: Self = Self { rows_before: 0, last: true };
}

/// Which image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The row before the change.
    Before,
    /// The row after the change.
    After,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Before, Self::After];
}

/// The rows of one event, or of a part of it.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Their table.
    pub table: &'a TableMap,
    /// What happened to them.
    pub kind: RowsKind,
    /// Flags: 1 last of the statement, 2 no foreign key checks, 4 no unique checks, 8 every row has
    /// all columns.
    pub flags: u16,
    /// Which part of the event this is.
    pub part: Part,
    extra_len: u16,
    /// Every image has all columns, each value whole: nearly always.
    plain: bool,
    /// PARTIAL_UPDATE_ROWS.
    partial: bool,
    head: &'a [u8],
    images: &'a [u8],
}

/// Takes the values of rows as they are read: the way with the least work a value.
///
/// What is done in it should be small: it becomes part of the loop over the columns.
pub trait Visit<'a> {
    /// A row begins.
    #[inline]
    fn row(&mut self) {}

    /// An image of the row begins.
    #[inline]
    fn image(&mut self, _side: Side) {}

    /// A value of the image. Columns come in order; absent ones do not come.
    fn value(&mut self, column: usize, value: Value<'a>) -> Result<(), Malformed>;
}

/// Counts bytes only.
struct Skip;

impl<'a> Visit<'a> for Skip {
    #[inline(always)]
    fn value(&mut self, _column: usize, _value: Value<'a>) -> Result<(), Malformed> {
        Ok(())
    }
}

/// A value that went wrong.
type Wrong = (usize, Malformed);

impl<'a> Rows<'a> {
    /// Which of the event's parts it is.
    pub(super) fn part(self, rows_before: u64, last: bool) -> Self {
        Self { part: Part { rows_before, last }, ..self }
    }

    /// Whether these are the last rows of the statement.
    pub fn ends_statement(&self) -> bool {
        self.flags & STATEMENT_END != 0 && self.part.last
    }

    /// The bitmap of the columns that images of this side hold; `None` if there are no such images.
    #[inline]
    fn bitmap(&self, side: Side) -> Option<&'a [u8]> {
        let bytes = self.table.columns.len().div_ceil(8);
        match (self.kind, side) {
            (RowsKind::Insert, Side::Before) | (RowsKind::Delete, Side::After) => None,
            // The head ends with both of an update, and with the one of the others.
            (RowsKind::Update, Side::Before) => {
                self.head.len().checked_sub(2 * bytes).and_then(|at| self.head.get(at..at + bytes))
            }
            _ => self.head.len().checked_sub(bytes).and_then(|at| self.head.get(at..)),
        }
    }

    /// Whether images of this side lack columns.
    #[inline]
    pub fn is_partial(&self, side: Side) -> bool {
        self.bitmap(side).is_some_and(|bitmap| !all(bitmap, self.table.columns.len()))
    }

    fn present(&self, side: Side) -> Present<'a> {
        let columns = self.table.columns.len();
        match self.bitmap(side) {
            Some(bitmap) if !all(bitmap, columns) => {
                Present { bitmap: Some(bitmap), held: held(bitmap, columns) }
            }
            _ => Present { bitmap: None, held: columns },
        }
    }

    /// The extra data of version 2, unread.
    pub fn extra(&self) -> &'a [u8] {
        self.head.get(..usize::from(self.extra_len)).unwrap_or_default()
    }

    /// The partitions that the rows are in and, for updates, were in, if the event tells.
    pub fn partitions(&self) -> Option<(u16, Option<u16>)> {
        let mut b = Bytes(self.extra());
        // Type 1 of the extra data: partition u16, and for an update that of before.
        match b.u8("") {
            Ok(1) => Some((b.u16("").ok()?, b.u16("").ok())),
            _ => None,
        }
    }

    /// Bytes of the images.
    pub fn image_bytes(&self) -> usize {
        self.images.len()
    }

    /// Counts the rows, checking that each is whole.
    pub fn count(&self) -> Result<u64, Problem> {
        struct Count(u64);
        impl<'a> Visit<'a> for Count {
            fn row(&mut self) {
                self.0 += 1;
            }
            fn value(&mut self, _column: usize, _value: Value<'a>) -> Result<(), Malformed> {
                Ok(())
            }
        }
        let mut count = Count(0);
        self.walk(&mut count)?;
        Ok(count.0)
    }

    /// Gives every value of every row to `visit`.
    #[inline]
    pub fn walk<V: Visit<'a>>(&self, visit: &mut V) -> Result<(), Problem> {
        let mut rest = self.images;
        let mut row = 0;
        let walked = if self.plain {
            self.walk_full(&mut rest, visit, &mut row)
        } else {
            self.walk_any(&mut rest, visit, &mut row)
        };
        walked.map_err(|wrong| self.problem(row, wrong))
    }

    /// All columns are there, in every image: the loop that counts.
    #[inline(always)]
    fn walk_full<V: Visit<'a>>(
        &self,
        rest: &mut &'a [u8],
        visit: &mut V,
        row: &mut u64,
    ) -> Result<(), Wrong> {
        let steps = &self.table.plan.steps;
        let (before, after) = match self.kind {
            RowsKind::Insert => (false, true),
            RowsKind::Update => (true, true),
            RowsKind::Delete => (true, false),
        };
        while !rest.is_empty() {
            visit.row();
            if before {
                visit.image(Side::Before);
                full_image(steps, rest, visit)?;
            }
            if after {
                visit.image(Side::After);
                full_image(steps, rest, visit)?;
            }
            if steps.is_empty() {
                return Err((0, Malformed::Trailing(rest.len())));
            }
            *row += 1;
        }
        Ok(())
    }

    #[inline(never)]
    fn walk_any<V: Visit<'a>>(&self, rest: &mut &'a [u8], visit: &mut V, row: &mut u64) -> Result<(), Wrong> {
        let present = Side::BOTH.map(|side| self.present(side));
        while !rest.is_empty() {
            let before = rest.len();
            visit.row();
            self.one(present, rest, visit)?;
            if rest.len() == before {
                // Images without columns: there is no end to them.
                return Err((0, Malformed::Trailing(before)));
            }
            *row += 1;
        }
        Ok(())
    }

    fn one<V: Visit<'a>>(
        &self,
        [before, after]: [Present<'a>; 2],
        rest: &mut &'a [u8],
        visit: &mut V,
    ) -> Result<(), Wrong> {
        let plan = &self.table.plan;
        if self.kind != RowsKind::Insert {
            visit.image(Side::Before);
            image(&plan.steps, before, &[], rest, visit)?;
        }
        if self.kind != RowsKind::Delete {
            visit.image(Side::After);
            let partial = match self.partial {
                true => partial_bitmap(rest, plan.json_columns).map_err(|e| (0, e))?,
                false => &[],
            };
            image(&plan.steps, after, partial, rest, visit)?;
        }
        Ok(())
    }

    /// Bytes of the whole rows at the front of the images, and how many they are; for cutting a
    /// large event into parts. `more` bytes may follow.
    pub(super) fn whole(&self, more: bool) -> Result<(usize, u64), Problem> {
        let (mut rest, mut row) = (self.images, 0);
        let mut end = 0;
        let present = Side::BOTH.map(|side| self.present(side));
        while !rest.is_empty() {
            match self.one(present, &mut rest, &mut Skip) {
                Ok(()) if self.images.len() - rest.len() == end => {
                    return Err(self.problem(row, (0, Malformed::Trailing(rest.len()))));
                }
                Ok(()) => {}
                Err((_, Malformed::Ends(_))) if more => break,
                Err(wrong) => return Err(self.problem(row, wrong)),
            }
            end = self.images.len() - rest.len();
            row += 1;
        }
        Ok((end, row))
    }

    /// The rows one by one, each with its values in a slice.
    pub fn cursor(&self) -> RowCursor<'a> {
        let present = Side::BOTH.map(|side| self.present(side));
        RowCursor { rows: *self, present, rest: self.images, next: 0, before: Vec::new(), after: Vec::new() }
    }

    #[cold]
    fn problem(&self, row: u64, (column, why): Wrong) -> Problem {
        Problem::Row { table: self.table.full_name().into(), row: self.part.rows_before + row, column, why }
    }
}

/// An image, whatever it holds.
fn image<'a, V: Visit<'a>>(
    steps: &[Step],
    present: Present<'_>,
    partial: &[u8],
    rest: &mut &'a [u8],
    visit: &mut V,
) -> Result<(), Wrong> {
    if present.bitmap.is_none() && partial.is_empty() {
        full_image(steps, rest, visit)
    } else {
        some_image(steps, present, partial, rest, visit)
    }
}

/// An image that holds every column.
#[inline(always)]
fn full_image<'a, V: Visit<'a>>(steps: &[Step], rest: &mut &'a [u8], visit: &mut V) -> Result<(), Wrong> {
    let Some((nulls, mut values)) = rest.split_at_checked(steps.len().div_ceil(8)) else {
        return Err((0, Malformed::Ends("the null bitmap")));
    };
    let mut column = 0;
    for (eight, &nulls) in steps.chunks(8).zip(nulls) {
        let mut nulls = nulls;
        for &step in eight {
            if nulls & 1 == 0 {
                let value = read(step, &mut values).map_err(|e| (column, e))?;
                visit.value(column, value).map_err(|e| (column, e))?;
            } else {
                visit.value(column, Value::Null).map_err(|e| (column, e))?;
            }
            nulls >>= 1;
            column += 1;
        }
    }
    *rest = values;
    Ok(())
}

/// `options packed | [bitmap]`, before the after image of a PARTIAL_UPDATE_ROWS.
fn partial_bitmap<'a>(rest: &mut &'a [u8], json_columns: usize) -> Result<&'a [u8], Malformed> {
    /// `PARTIAL_JSON_UPDATES`
    const PARTIAL_JSON: u64 = 1;
    let mut b = Bytes(rest);
    let options = b.packed("the row's options")?;
    if options & !PARTIAL_JSON != 0 {
        return Err(Malformed::Invalid { expected: "known options of a row", found: options });
    }
    let bitmap = if options & PARTIAL_JSON != 0 {
        b.take(json_columns.div_ceil(8), "the bitmap of partial columns")?
    } else {
        &[]
    };
    *rest = b.0;
    Ok(bitmap)
}

/// An image that lacks columns or holds JSON as differences.
#[inline(never)]
fn some_image<'a, V: Visit<'a>>(
    steps: &[Step],
    present: Present<'_>,
    partial: &[u8],
    rest: &mut &'a [u8],
    visit: &mut V,
) -> Result<(), Wrong> {
    let Some((nulls, mut values)) = rest.split_at_checked(present.held.div_ceil(8)) else {
        return Err((0, Malformed::Ends("the null bitmap")));
    };
    let (mut place, mut json) = (0, 0);
    for (column, &step) in steps.iter().enumerate() {
        // Counted for all JSON columns of the table, present or not.
        let mut diff = false;
        if step.read == Read::Json {
            diff = bit(partial, json);
            json += 1;
        }
        if present.bitmap.is_some_and(|bitmap| !bit(bitmap, column)) {
            continue;
        }
        let value = if bit(nulls, place) {
            Ok(Value::Null)
        } else if diff {
            let mut b = Bytes(values);
            let diffs =
                b.u32("a JSON difference's length").and_then(|n| b.take(n as usize, "a JSON difference"));
            values = b.0;
            diffs.map(|raw| Value::JsonDiff(JsonDiffs::new(raw)))
        } else {
            read(step, &mut values)
        };
        place += 1;
        visit.value(column, value.map_err(|e| (column, e))?).map_err(|e| (column, e))?;
    }
    *rest = values;
    Ok(())
}

/// One row: a value for each column of the table, [`Value::Absent`] where the image lacks it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'s, 'a> {
    /// Place in the event, from 0.
    pub index: u64,
    /// The row before the change; `None` for inserts.
    pub before: Option<&'s [Value<'a>]>,
    /// The row after the change; `None` for deletes.
    pub after: Option<&'s [Value<'a>]>,
}

/// Reads the rows of an event one by one.
#[derive(Debug)]
pub struct RowCursor<'a> {
    rows: Rows<'a>,
    present: [Present<'a>; 2],
    rest: &'a [u8],
    next: u64,
    before: Vec<Value<'a>>,
    after: Vec<Value<'a>>,
}

struct Fill<'s, 'a> {
    before: &'s mut Vec<Value<'a>>,
    after: &'s mut Vec<Value<'a>>,
    side: Side,
}

impl<'a> Visit<'a> for Fill<'_, 'a> {
    fn image(&mut self, side: Side) {
        self.side = side;
    }

    #[inline(always)]
    fn value(&mut self, column: usize, value: Value<'a>) -> Result<(), Malformed> {
        let values = match self.side {
            Side::Before => &mut *self.before,
            Side::After => &mut *self.after,
        };
        while values.len() < column {
            values.push(Value::Absent);
        }
        values.push(value);
        Ok(())
    }
}

impl<'a> RowCursor<'a> {
    /// The next row; `None` behind the last. After an error there is no next row.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Result<Row<'_, 'a>, Problem>> {
        if self.rest.is_empty() {
            return None;
        }
        let index = self.next;
        let before_len = self.rest.len();
        self.before.clear();
        self.after.clear();
        let mut fill = Fill { before: &mut self.before, after: &mut self.after, side: Side::Before };
        let mut read = self.rows.one(self.present, &mut self.rest, &mut fill);
        if read.is_ok() && self.rest.len() == before_len {
            read = Err((0, Malformed::Trailing(before_len)));
        }
        if let Err(wrong) = read {
            self.rest = &[];
            return Some(Err(self.rows.problem(index, wrong)));
        }
        self.next += 1;
        let columns = self.rows.table.columns.len();
        let kind = self.rows.kind;
        self.before.resize(columns, Value::Absent);
        self.after.resize(columns, Value::Absent);
        Some(Ok(Row {
            index: self.rows.part.rows_before + index,
            before: (kind != RowsKind::Insert).then_some(&self.before[..]),
            after: (kind != RowsKind::Delete).then_some(&self.after[..]),
        }))
    }
}
