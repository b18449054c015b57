//! The two tasks of a connection: one reads, one writes. They speak to the driver by its one queue of events,
//! which is bounded: a driver that is behind stops the reading.

use std::time::Duration;

use bytes::Bytes;
use futures_lite::{AsyncReadExt, AsyncWriteExt, io};

use crate::link::{Connection, Control, FailKind, LinkError};
use crate::runtime::{Task, spawn, timeout};

/// One read. Answers are small.
const READ_BYTES: usize = 8 * 1024;
/// Bytes given to the writer and not yet taken by the link, above which it gets no more.
const MAX_UNWRITTEN_BYTES: usize = 32 * 1024;
/// How long the last bytes of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);

/// What a connection says to the driver.
#[derive(Debug)]
pub(super) enum Said {
    /// The peer sent this.
    Bytes(Bytes),
    /// The link took so many bytes.
    Written(usize),
    /// The link is gone: why, and of what kind that is.
    Gone(String, FailKind),
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) control: Control,
    out: async_channel::Sender<Bytes>,
    unwritten: usize,
    /// Bytes on the wire that were asked for.
    wire: u64,
    reader: Task<()>,
    writer: Task<()>,
}

impl Conn {
    /// Starts the tasks; `say` hands what happens to the driver and waits until it has room.
    pub(super) fn start<F>(connection: Connection, say: impl Fn(Said) -> F + Clone + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let Connection { io, control, remote, .. } = connection;
        let gone = move |error| {
            let error = LinkError::from_io("connection with", &remote.to_string(), error);
            Said::Gone(error.to_string(), error.kind())
        };
        let (mut from, mut to) = io::split(io);
        // As many pieces as there may be: the bytes are bounded by the driver.
        let (out, pieces) = async_channel::unbounded::<Bytes>();
        let heard = say.clone();
        let reader = spawn(async move {
            let mut buf = vec![0; READ_BYTES];
            loop {
                match from.read(&mut buf).await {
                    Ok(0) => {
                        break {
                            let why = "the peer closed the connection".to_owned();
                            heard(Said::Gone(why, FailKind::Lost)).await
                        };
                    }
                    Ok(n) => {
                        heard(Said::Bytes(Bytes::copy_from_slice(buf.get(..n).unwrap_or_default()))).await
                    }
                    Err(e) => break heard(gone(e)).await,
                }
            }
        });
        let writer = spawn(async move {
            let written: io::Result<()> = async {
                while let Ok(bytes) = pieces.recv().await {
                    to.write_all(&bytes).await?;
                    if pieces.is_empty() {
                        to.flush().await?;
                    }
                    say(Said::Written(bytes.len())).await;
                }
                // The driver wants no more: what was written is delivered first.
                to.close().await
            }
            .await;
            if let Err(e) = written {
                say(gone(e)).await;
            }
        });
        Self { control, out, unwritten: 0, wire: 0, reader, writer }
    }

    /// Whether it takes more bytes now.
    pub(super) fn has_room(&self) -> bool {
        self.unwritten < MAX_UNWRITTEN_BYTES
    }

    pub(super) fn write(&mut self, bytes: Bytes) {
        self.unwritten += bytes.len();
        // If the writer is gone it has said so.
        let _gone = self.out.try_send(bytes);
    }

    pub(super) fn written(&mut self, n: usize) {
        self.unwritten = self.unwritten.saturating_sub(n);
    }

    /// Bytes on the wire, both ways, since the last call.
    pub(super) fn new_wire_bytes(&mut self) -> u64 {
        let bytes = self.control.wire_bytes();
        let all = bytes.sent.saturating_add(bytes.received);
        all.saturating_sub(std::mem::replace(&mut self.wire, all))
    }

    /// Delivers what was written and ends the connection, within [`CLOSE_TIMEOUT`].
    pub(super) async fn close(self, reason: &'static str) {
        let Self { control, out, reader, writer, .. } = self;
        out.close();
        timeout(CLOSE_TIMEOUT, writer).await;
        drop(reader);
        control.close(reason);
    }
}
