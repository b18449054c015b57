//! What is the same for all rows of a table, made ready to be copied.

use std::sync::Arc;

use super::json;
use super::text;
use crate::event::{Table, Value};

/// Shapes remembered by an encoder; beyond, it begins anew.
const KNOWN: usize = 1024;

/// A table's names as they stand in a record.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) table: Arc<Table>,
    /// `,"db":"…","table":"…"`
    pub(super) names: Box<[u8]>,
    /// `,"schema":3`
    pub(super) schema: Box<[u8]>,
    /// By column: `,"name":`, and the column's place in the key.
    pub(super) columns: Box<[(Box<[u8]>, Option<u16>)]>,
    /// Columns of the primary key, in its order.
    pub(super) key: Box<[usize]>,
}

/// The shapes seen so far, the one used last at hand.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Shape>,
    last: usize,
}

impl Shapes {
    /// The shape of `table`.
    pub(super) fn of(&mut self, table: &Arc<Table>) -> Option<&Shape> {
        let is = |shape: &Shape| Arc::ptr_eq(&shape.table, table);
        if !self.known.get(self.last).is_some_and(is) {
            self.last = match self.known.iter().position(is) {
                Some(place) => place,
                None => {
                    if self.known.len() >= KNOWN {
                        self.known.clear();
                    }
                    self.known.push(Shape::new(table));
                    self.known.len() - 1
                }
            };
        }
        self.known.get(self.last)
    }
}

impl Shape {
    fn new(table: &Arc<Table>) -> Self {
        let mut names = b",\"db\":".to_vec();
        json::string(&mut names, &table.db);
        names.extend_from_slice(b",\"table\":");
        json::string(&mut names, &table.name);
        let mut schema = b",\"schema\":".to_vec();
        text::padded(&mut schema, u64::from(table.version), 1);
        let key = table.key_columns();
        let columns = table.columns.iter().enumerate().map(|(i, column)| {
            let mut name = b",".to_vec();
            json::string(&mut name, &column.name);
            name.push(b':');
            let place = key.iter().position(|&k| k == i).and_then(|place| u16::try_from(place).ok());
            (name.into(), place)
        });
        let columns = columns.collect();
        Self { table: table.clone(), names: names.into(), schema: schema.into(), columns, key: key.into() }
    }

    /// `,"name":`, or `"name":` where it is the `first` of its object.
    pub(super) fn name(&self, column: usize, first: bool) -> &[u8] {
        let name = self.columns.get(column).map_or(&[][..], |(name, _)| name);
        name.get(usize::from(first)..).unwrap_or_default()
    }
}

/// Values of the key's columns, gathered while an image is walked. Nothing is allocated for a key of up to four.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    few: [Option<Value<'a>>; 4],
    many: Vec<Option<Value<'a>>>,
}

impl<'a> Keys<'a> {
    pub(super) fn set(&mut self, place: u16, value: Value<'a>) {
        let place = usize::from(place);
        if let Some(few) = self.few.get_mut(place) {
            *few = Some(value);
            return;
        }
        let place = place - self.few.len();
        if self.many.len() <= place {
            self.many.resize(place + 1, None);
        }
        if let Some(many) = self.many.get_mut(place) {
            *many = Some(value);
        }
    }

    /// The value of the column at `place` of the key; `None` if the image did not hold it.
    pub(super) fn get(&self, place: usize) -> Option<Value<'a>> {
        match self.few.get(place) {
            Some(few) => *few,
            None => self.many.get(place - self.few.len()).copied().flatten(),
        }
    }
}
