//! Lines out of a byte stream, and messages out of lines: what `stdin`, `exec` and `file` share.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Outlet, Receipt, Refused};
use crate::event::builtin::{self, Payload};
use crate::event::{BatchBuilder, Op};

/// Rows that go in one batch at the most; the spool joins batches, so this only bounds latency.
const MAX_BATCH_ROWS: u32 = 512;
/// Bytes after which a batch is handed on.
const MAX_BATCH_BYTES: usize = 64 * 1024;
/// Batches handed on and not yet safe. More are waited for.
const MAX_RECEIPTS: usize = 16;
/// What a message row needs beside its topic and payload, with some room.
pub(crate) const MESSAGE_OVERHEAD: usize = 96;

/// Splits bytes into lines. Holds at most one line of `max` bytes.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    max: usize,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// The line being read is too long: the rest of it is skipped.
    skipping: bool,
    /// Lines that were longer than `max` and dropped whole.
    pub(crate) too_long: u64,
}

impl LineSplitter {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: Vec::new(), skipping: false, too_long: 0 }
    }

    /// Takes `bytes`; calls `line` for each full line with the bytes taken up to its end. The line
    /// has no `\n` and no `\r` before it. Empty lines are skipped.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8], usize)) {
        let mut at = 0;
        for end in memchr_all(bytes) {
            let part = &bytes[at..end];
            at = end + 1;
            if self.skipping {
                self.skipping = false;
                continue;
            }
            if self.held.len() + part.len() > self.max {
                self.held.clear();
                self.too_long += 1;
                continue;
            }
            let whole = if self.held.is_empty() {
                part
            } else {
                self.held.extend_from_slice(part);
                &self.held
            };
            let trimmed = whole.strip_suffix(b"\r").unwrap_or(whole);
            if !trimmed.is_empty() {
                line(trimmed, at);
            }
            self.held.clear();
        }
        let rest = &bytes[at..];
        if self.skipping {
            return;
        }
        if self.held.len() + rest.len() > self.max {
            self.held = Vec::new();
            self.skipping = true;
            self.too_long += 1;
        } else {
            self.held.extend_from_slice(rest);
        }
    }

    /// The last line, if it has no end: at the end of the stream.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        let held = std::mem::take(&mut self.held);
        (!std::mem::take(&mut self.skipping) && !held.is_empty()).then_some(held)
    }

    /// Forgets a line that was begun.
    #[allow(dead_code, reason = "only `file` needs it, and each of the three can be built alone")]
    pub(crate) fn reset(&mut self) {
        self.held.clear();
        self.skipping = false;
    }
}

fn memchr_all(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i)
}

/// Collects messages into batches, hands them on and waits for their receipts.
#[derive(Debug)]
pub(crate) struct MessageWriter {
    outlet: Outlet,
    batch: BatchBuilder,
    receipts: VecDeque<Receipt>,
    /// Messages that no frame can carry: dropped and counted.
    pub(crate) too_large: u64,
}

impl MessageWriter {
    pub(crate) fn new(outlet: Outlet) -> Self {
        let batch = BatchBuilder::new(outlet.source.clone());
        Self { outlet, batch, receipts: VecDeque::new(), too_large: 0 }
    }

    pub(crate) fn source(&self) -> &Arc<str> {
        &self.outlet.source
    }

    /// Adds one message. Nothing is handed on before [`Self::flush`] or a full batch.
    pub(crate) fn push(&mut self, topic: &str, payload: &[u8], headers: Option<&str>) {
        let size = topic.len() + payload.len() + headers.map_or(0, str::len) + MESSAGE_OVERHEAD;
        let values = builtin::message_values(topic, None, Payload::guess(payload), headers);
        let stamp = self.outlet.stamp.next();
        if size > self.outlet.max_row_bytes
            || self.batch.push(Op::Message, stamp, builtin::message(), None, builtin::image(&values)).is_err()
        {
            self.too_large += 1;
        }
    }

    /// Notes where to go on after a restart, to be stored with what was pushed before.
    #[allow(dead_code, reason = "only `file` needs it, and each of the three can be built alone")]
    pub(crate) fn position(&mut self, key: &str, value: &[u8]) {
        self.batch.position(key, value);
    }

    /// Whether the batch should be handed on now.
    #[allow(dead_code, reason = "only `file` needs it, and each of the three can be built alone")]
    pub(crate) fn is_full(&self) -> bool {
        self.batch.rows() >= MAX_BATCH_ROWS || self.batch.bytes() >= MAX_BATCH_BYTES
    }

    /// Hands on what was pushed. Waits while too many batches are not yet safe. A batch that is
    /// refused for now is handed on again until it is taken: what was read cannot be read again.
    pub(crate) async fn flush(&mut self) -> Result<(), Refused> {
        if !self.batch.is_empty() {
            let next = BatchBuilder::new(self.outlet.source.clone());
            let batch = std::mem::replace(&mut self.batch, next).finish();
            self.receipts.push_back(self.outlet.submit(batch).await);
        }
        while self.receipts.len() >= MAX_RECEIPTS {
            self.settle_one().await?;
        }
        Ok(())
    }

    /// [`Self::flush`], then waits until everything is safe.
    pub(crate) async fn settle(&mut self) -> Result<(), Refused> {
        self.flush().await?;
        while !self.receipts.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), Refused> {
        match self.receipts.pop_front() {
            Some(receipt) => receipt.await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, chunks: &[&[u8]]) -> (Vec<String>, u64, Option<Vec<u8>>) {
        let mut splitter = LineSplitter::new(max);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |l, _| out.push(String::from_utf8_lossy(l).into_owned()));
        }
        let last = splitter.finish();
        (out, splitter.too_long, last)
    }

    #[test]
    fn lines_are_found_across_chunks() {
        let (out, long, last) = lines(10, &[b"ab", b"c\r\n\n", b"d\ne", b"f"]);
        assert_eq!((out, long, last), (vec!["abc".into(), "d".into()], 0, Some(b"ef".to_vec())));
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_whole_and_counted_once() {
        let (out, long, last) = lines(4, &[b"aaaaaaaa", b"aaaa\nok\nbbbbb\nfine\nccccc"]);
        assert_eq!((out, long, last), (vec!["ok".into(), "fine".into()], 3, None));
    }

    #[test]
    fn memory_is_one_line_however_long_the_input() {
        let mut splitter = LineSplitter::new(100);
        for _ in 0..1000 {
            splitter.feed(&[b'x'; 64], |_, _| {});
            assert!(splitter.held.capacity() <= 256);
        }
        assert_eq!(splitter.too_long, 1);
    }

    proptest::proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(text in "[a-c\n\r]{0,60}", cut in 1usize..7) {
            let whole = lines(5, &[text.as_bytes()]);
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            proptest::prop_assert_eq!(lines(5, &chunks), whole);
        }
    }
}
