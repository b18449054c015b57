//! Bytes that wait to be written.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::codec::{self, ProtocolError};
use super::{Packet, Publish, Version, reason};

/// Payloads from this size on are queued as they are instead of being copied behind their header.
const SHARE_FROM_BYTES: usize = 4096;

#[derive(Default)]
pub(super) struct Outbox {
    ready: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `ready`.
    ready_len: usize,
}

impl Outbox {
    /// Bytes not yet taken.
    pub(super) fn len(&self) -> usize {
        self.ready_len + self.tail.len()
    }

    /// Queues a packet; an error if it cannot be written or is over `limit` bytes: then nothing is queued.
    pub(super) fn push(
        &mut self,
        packet: &Packet,
        version: Version,
        limit: usize,
    ) -> Result<(), ProtocolError> {
        let start = self.tail.len();
        codec::encode(packet, version, &mut self.tail)?;
        if self.tail.len() - start > limit {
            self.tail.truncate(start);
            return Err(ProtocolError::new(reason::PACKET_TOO_LARGE, "packet over the peer's size limit"));
        }
        Ok(())
    }

    /// Queues a PUBLISH; `Ok(Some(bytes))` if it would be over `limit`, and then nothing is queued.
    pub(super) fn push_publish(
        &mut self,
        publish: Publish,
        version: Version,
        limit: usize,
    ) -> Result<Option<usize>, ProtocolError> {
        let start = self.tail.len();
        if let Err(e) = codec::publish_head(&publish, version, &mut self.tail) {
            self.tail.truncate(start);
            return Err(e);
        }
        let bytes = self.tail.len() - start + publish.payload.len();
        if bytes > limit {
            self.tail.truncate(start);
            return Ok(Some(bytes));
        }
        if publish.payload.len() < SHARE_FROM_BYTES {
            self.tail.extend_from_slice(&publish.payload);
        } else {
            let head = std::mem::take(&mut self.tail).freeze();
            self.ready_len += head.len() + publish.payload.len();
            self.ready.extend([head, publish.payload]);
        }
        Ok(None)
    }

    /// Takes the next bytes. The memory goes with them, so that an idle connection holds none.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.ready.pop_front() {
            self.ready_len -= bytes.len();
            return Some(bytes);
        }
        self.ready = VecDeque::new();
        (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze())
    }
}
