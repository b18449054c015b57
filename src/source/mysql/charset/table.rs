//! The tables of single- and double-byte character sets, unpacked when first used.
//!
//! `tables.bin` holds them one after the other as `gen.py` read them from real servers; `places.rs` says where. A table is
//! a grid of cells, lead byte by trail byte (a single-byte set: one row of 256), each a code point of the BMP or none.
//! It is a series of runs: a LEB128 number `count << 2 | kind`, then what the kind needs:
//!
//! | kind | the next `count` cells | follows |
//! |---|---|---|
//! | 0 | hold no character | – |
//! | 1 | are what the base predicts: an identity, or another set's table | – |
//! | 2 | count up | the first, u16 little-endian |
//! | 3 | are what stands here | `count` × u16 little-endian |

use std::ops::Range;
use std::sync::OnceLock;

static BLOB: &[u8] = include_bytes!("tables.bin");

/// No character there.
const NONE: u16 = 0xffff;

/// The cells of a table: rows by lead byte, columns by trail byte, both ends included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) lead: (u8, u8),
    pub(super) trail: (u8, u8),
}

impl Grid {
    /// One row of all bytes.
    pub(super) const SINGLE: Self = Self { lead: (0, 0), trail: (0, 255) };

    const fn width(self) -> usize {
        (self.trail.1 - self.trail.0) as usize + 1
    }

    fn cells(self) -> usize {
        self.width() * (usize::from(self.lead.1 - self.lead.0) + 1)
    }

    #[inline]
    fn place(self, lead: u8, trail: u8) -> Option<usize> {
        let inside =
            self.lead.0 <= lead && lead <= self.lead.1 && self.trail.0 <= trail && trail <= self.trail.1;
        inside.then(|| usize::from(lead - self.lead.0) * self.width() + usize::from(trail - self.trail.0))
    }

    fn code(self, place: usize) -> (u8, u8) {
        let (row, column) = (place / self.width(), place % self.width());
        (self.lead.0.wrapping_add(row as u8), self.trail.0.wrapping_add(column as u8))
    }
}

/// What a table mostly is.
#[derive(Debug)]
pub(super) enum Base {
    Nothing,
    /// A byte is its own code point.
    Identity,
    /// The same character as another table has at the code that the function makes of this one's.
    Like(&'static Table, fn(u8, u8) -> (u8, u8)),
}

/// A table, packed until somebody needs it.
#[derive(Debug)]
pub(super) struct Table {
    place: Range<usize>,
    grid: Grid,
    base: Base,
    cells: OnceLock<Box<[u16]>>,
}

impl Table {
    pub(super) const fn new(place: Range<usize>, grid: Grid, base: Base) -> Self {
        Self { place, grid, base, cells: OnceLock::new() }
    }

    /// For many look-ups in a row.
    pub(super) fn open(&self) -> Open<'_> {
        Open { cells: self.cells.get_or_init(|| self.unpack()), grid: self.grid }
    }

    fn predicted(&self, place: usize) -> u16 {
        match &self.base {
            Base::Nothing => NONE,
            Base::Identity => place as u16,
            Base::Like(table, code) => {
                let (lead, trail) = self.grid.code(place);
                let (lead, trail) = code(lead, trail);
                table.open().get(lead, trail).map_or(NONE, |found| found as u16)
            }
        }
    }

    fn unpack(&self) -> Box<[u16]> {
        let mut packed = Packed(BLOB.get(self.place.clone()).unwrap_or_default());
        let mut cells = Vec::with_capacity(self.grid.cells());
        while let Some(head) = packed.number() {
            let count = (head >> 2) as usize;
            let start = cells.len();
            match head & 3 {
                0 => cells.resize(start + count, NONE),
                1 => cells.extend((start..start + count).map(|place| self.predicted(place))),
                2 => {
                    let first = packed.cell();
                    cells.extend((0..count).map(|n| first.wrapping_add(n as u16)));
                }
                _ => cells.extend((0..count).map(|_| packed.cell())),
            }
        }
        debug_assert_eq!(cells.len(), self.grid.cells());
        cells.into()
    }
}

/// A table that is unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open<'t> {
    cells: &'t [u16],
    grid: Grid,
}

impl Open<'_> {
    #[inline]
    pub(super) fn get(self, lead: u8, trail: u8) -> Option<char> {
        let cell = *self.cells.get(self.grid.place(lead, trail)?)?;
        if cell == NONE { None } else { char::from_u32(u32::from(cell)) }
    }
}

/// Runs of consecutive codes that are consecutive characters (the four-byte part of GB18030).
#[derive(Debug)]
pub(super) struct Runs {
    place: Range<usize>,
    runs: OnceLock<Box<[Run]>>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u32,
    count: u32,
    char: u32,
}

impl Runs {
    pub(super) const fn new(place: Range<usize>) -> Self {
        Self { place, runs: OnceLock::new() }
    }

    pub(super) fn get(&self, number: u32) -> Option<char> {
        let runs = self.runs.get_or_init(|| self.unpack());
        let at = runs.partition_point(|run| run.first <= number).checked_sub(1)?;
        let run = runs.get(at)?;
        let offset = number - run.first;
        if offset < run.count { char::from_u32(run.char + offset) } else { None }
    }

    fn unpack(&self) -> Box<[Run]> {
        let mut packed = Packed(BLOB.get(self.place.clone()).unwrap_or_default());
        let mut next =
            || Some(Run { first: packed.number()?, count: packed.number()?, char: packed.number()? });
        std::iter::from_fn(&mut next).collect()
    }
}

/// Bytes of the blob that are not read yet.
struct Packed(&'static [u8]);

impl Packed {
    fn number(&mut self) -> Option<u32> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u32::from(byte & 127) << shift;
            if byte < 128 {
                return Some(number);
            }
            shift = (shift + 7).min(28);
        }
    }

    fn cell(&mut self) -> u16 {
        match self.0.split_first_chunk() {
            Some((&bytes, rest)) => {
                self.0 = rest;
                u16::from_le_bytes(bytes)
            }
            None => NONE,
        }
    }
}
