//! The values of one image on their way from SQLite into a row record.

use rusqlite::types::ValueRef;

use crate::event::Value;

use super::position::KeyValue;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    /// The image does not hold the column.
    Absent,
    Null,
    Int(i64),
    Real(f64),
    /// Bytes `from..to` of the arena.
    Text(usize, usize),
    Blob(usize, usize),
}

/// One image, reused from row to row: values lie in one buffer.
#[derive(Debug, Default)]
pub(super) struct Cells {
    cells: Vec<Cell>,
    arena: Vec<u8>,
}

impl Cells {
    /// Makes it an image of `columns` absent values.
    pub(super) fn reset(&mut self, columns: usize) {
        self.cells.clear();
        self.cells.resize(columns, Cell::Absent);
        self.arena.clear();
        // One large row must not keep its memory for ever.
        self.arena.shrink_to(1 << 17);
    }

    /// Sets the value of `column`.
    pub(super) fn set(&mut self, column: usize, value: ValueRef<'_>) {
        let mut put = |bytes: &[u8]| {
            let from = self.arena.len();
            self.arena.extend_from_slice(bytes);
            (from, self.arena.len())
        };
        let cell = match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(n) => Cell::Int(n),
            ValueRef::Real(n) => Cell::Real(n),
            ValueRef::Text(t) => {
                let (from, to) = put(t);
                Cell::Text(from, to)
            }
            ValueRef::Blob(b) => {
                let (from, to) = put(b);
                Cell::Blob(from, to)
            }
        };
        if let Some(place) = self.cells.get_mut(column) {
            *place = cell;
        }
    }

    /// Takes a value out of the image again.
    pub(super) fn leave_out(&mut self, column: usize) {
        if let Some(place) = self.cells.get_mut(column) {
            *place = Cell::Absent;
        }
    }

    /// The values in column order; NULL where one is absent.
    pub(super) fn values(&self) -> Vec<Value<'_>> {
        (0..self.cells.len()).map(|i| self.value(i)).collect()
    }

    fn value(&self, column: usize) -> Value<'_> {
        match self.cells.get(column) {
            None | Some(Cell::Absent | Cell::Null) => Value::Null,
            Some(Cell::Int(n)) => Value::Int(*n),
            Some(Cell::Real(n)) => Value::F64(*n),
            Some(&Cell::Text(from, to)) => {
                let bytes = self.arena.get(from..to).unwrap_or_default();
                std::str::from_utf8(bytes).map_or(Value::RawText(bytes), Value::Text)
            }
            Some(&Cell::Blob(from, to)) => Value::Bytes(self.arena.get(from..to).unwrap_or_default()),
        }
    }

    /// Which columns the image holds; `None` if all.
    pub(super) fn present(&self) -> Option<Vec<bool>> {
        let has = |c: &Cell| *c != Cell::Absent;
        (!self.cells.iter().all(has)).then(|| self.cells.iter().map(has).collect())
    }

    /// The key of the image.
    pub(super) fn key(&self, columns: &[usize]) -> Vec<KeyValue> {
        let one = |&i: &usize| match self.value(i) {
            Value::Int(n) => KeyValue::Int(n),
            Value::F64(n) => KeyValue::Real(n),
            Value::Text(t) => KeyValue::Text(t.as_bytes().to_vec()),
            Value::RawText(t) => KeyValue::Text(t.to_vec()),
            Value::Bytes(b) => KeyValue::Blob(b.to_vec()),
            _ => KeyValue::Null,
        };
        columns.iter().map(one).collect()
    }

    /// Whether a part of the key is NULL.
    pub(super) fn has_null(&self, columns: &[usize]) -> bool {
        columns.iter().any(|&i| self.cells.get(i) == Some(&Cell::Null))
    }

    /// Bytes that the value of `column` takes in a record, at most.
    pub(super) fn bytes_of(&self, column: usize) -> usize {
        match self.cells.get(column) {
            None | Some(Cell::Absent | Cell::Null) => 0,
            Some(Cell::Int(_) | Cell::Real(_)) => 11,
            Some(Cell::Text(from, to) | Cell::Blob(from, to)) => 11 + to - from,
        }
    }
}

/// Which values of one row fit into `budget` bytes, the key first, then the new image, then the old
/// one, each from its smallest value on. `sizes` says (old image, key, bytes) per value.
///
/// `None` if not even the keys fit.
pub(super) fn fitting(sizes: &[(bool, bool, usize)], budget: usize) -> Option<Vec<bool>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| {
        let (old, key, bytes) = sizes[i];
        (!key, old, bytes)
    });
    let mut taken = vec![false; sizes.len()];
    let mut left = budget;
    // Once one of the new image does not fit, the old image is not worth more than its key.
    let mut full = false;
    for i in order {
        let (old, key, bytes) = sizes[i];
        if bytes <= left && !(full && old && !key) {
            taken[i] = true;
            left -= bytes;
        } else if key {
            return None;
        } else {
            full = true;
        }
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_from_the_old_image_first() {
        let sizes = [(true, true, 9), (true, false, 50), (false, true, 9), (false, false, 50)];
        assert_eq!(fitting(&sizes, 200), Some(vec![true; 4]));
        assert_eq!(fitting(&sizes, 100), Some(vec![true, false, true, true]));
        assert_eq!(fitting(&sizes, 60), Some(vec![true, false, true, false]));
        assert_eq!(fitting(&sizes, 10), None);
    }

    #[test]
    fn text_that_is_not_utf8_stays_what_it_is() {
        let mut cells = Cells::default();
        cells.reset(3);
        cells.set(0, ValueRef::Text(b"\xff\x00a"));
        cells.set(1, ValueRef::Text("é".as_bytes()));
        assert_eq!(cells.values(), [Value::RawText(b"\xff\x00a"), Value::Text("é"), Value::Null]);
        assert_eq!(cells.present(), Some(vec![true, true, false]));
        assert!(!cells.has_null(&[0, 1, 2]), "what is absent is not NULL");
        cells.set(2, ValueRef::Null);
        assert!(cells.has_null(&[0, 2]));
    }
}
