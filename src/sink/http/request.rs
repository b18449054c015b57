//! Bodies: rows cut into requests of bounded size, and halved again where one is refused.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::BodyFormat;
use crate::codec::json::{self, Format, JsonError};
use crate::codec::row_id;
use crate::event::{Batch, Origin, RowView};
use crate::sink::SinkError;

/// Where a row is in the write, and where its text ends in the buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    batch: usize,
    row: u32,
    ordinal: u64,
    /// Of the row's `id`, where it is not a device's; 0 without one.
    id: u64,
    end: usize,
}

/// A run of rows, encoded.
#[derive(Debug, Default)]
pub(super) struct Request {
    text: Vec<u8>,
    rows: Vec<Place>,
}

/// Cuts `batches` into requests of at most `max_bytes` (or one row), in order. An iterator, so that
/// only one is in memory.
pub(super) fn requests(
    batches: &[Batch],
    format: Format,
    body: BodyFormat,
    max_bytes: usize,
) -> impl Iterator<Item = Result<Request, SinkError>> + '_ {
    let rows = batches
        .iter()
        .enumerate()
        .flat_map(|(i, batch)| (0u32..).zip(batch).map(move |(row, view)| (i, batch, row, view)));
    let mut rows = rows.peekable();
    let mut line = Vec::new();
    let mut held = None;
    std::iter::from_fn(move || {
        let mut request = Request::default();
        if let Some((place, text)) = held.take() {
            request.push(place, text);
        }
        for (batch, of, row, view) in rows.by_ref() {
            line.clear();
            let written = view
                .map_err(JsonError::Row)
                .and_then(|view| json::write_row(&mut line, of, &view, format).map(|()| view));
            let (ordinal, id) = match written {
                Ok(view) => (view.head().ordinal, id_hash(of, &view)),
                Err(error) => return Some(Err(SinkError::Reject { batch, row, reason: error.to_string() })),
            };
            line.push(body.separator());
            let place = Place { batch, row, ordinal, id, end: 0 };
            if !request.rows.is_empty() && request.text.len() + line.len() > max_bytes {
                held = Some((place, std::mem::take(&mut line)));
                break;
            }
            request.push_slice(place, &line);
        }
        (!request.rows.is_empty()).then_some(Ok(request))
    })
}

fn id_hash(batch: &Batch, row: &RowView<'_>) -> u64 {
    match &batch.origin {
        Origin::Binlog(_) | Origin::Snapshot(_) => xxh3_64(row_id(batch, row).as_bytes()),
        Origin::Device { .. } | Origin::Input => 0,
    }
}

impl Request {
    fn push(&mut self, place: Place, text: Vec<u8>) {
        self.text = text;
        self.rows.push(Place { end: self.text.len(), ..place });
    }

    fn push_slice(&mut self, place: Place, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.rows.push(Place { end: self.text.len(), ..place });
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The body of rows `from..to`.
    pub(super) fn body(&self, from: usize, to: usize, format: BodyFormat) -> Bytes {
        let end = |i: usize| i.checked_sub(1).and_then(|i| self.rows.get(i)).map_or(0, |row| row.end);
        let text = self.text.get(end(from)..end(to)).unwrap_or_default();
        match format {
            BodyFormat::Ndjson => Bytes::copy_from_slice(text),
            BodyFormat::Json => {
                let inner = text.strip_suffix(b",").unwrap_or(text);
                Bytes::from([b"[", inner, b"]"].concat())
            }
        }
    }

    /// The error that names one row.
    pub(super) fn reject(&self, row: usize, reason: String) -> SinkError {
        match self.rows.get(row) {
            Some(place) => SinkError::Reject { batch: place.batch, row: place.row, reason },
            None => SinkError::Fatal(reason),
        }
    }

    /// Names the content of rows `from..to` by their identities, the same whenever they are sent
    /// again together: `<first row's id>+<rows>-<hash>`. `None` where a row has no identity.
    pub(super) fn idempotency_key(&self, batches: &[Batch], from: usize, to: usize) -> Option<String> {
        let rows = self.rows.get(from..to)?;
        let mut hash = Xxh3::new();
        for place in rows {
            let Origin::Device { device, lane, epoch, first_seq, .. } = &batches.get(place.batch)?.origin
            else {
                if place.id == 0 {
                    return None;
                }
                hash.update(&place.id.to_le_bytes());
                continue;
            };
            for part in [device.as_bytes(), &[0], lane.as_bytes(), &[0], &epoch.to_le_bytes()] {
                hash.update(part);
            }
            hash.update(&first_seq.wrapping_add(place.ordinal).to_le_bytes());
        }
        let first = rows.first()?;
        let batch = batches.get(first.batch)?;
        let id = row_id(batch, &batch.iter().nth(first.row as usize)?.ok()?);
        Some(format!("{id}+{}-{:016x}", rows.len(), hash.digest()))
    }
}
