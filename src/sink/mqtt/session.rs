//! One connection to the broker: publishes a write, and keeps the connection alive between writes.

use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};

use crate::link::Io;
use crate::mqtt::client::{Client, ClientEvent, ClientOptions};
use crate::mqtt::{Ack, Connect, Publish, PublishError, reason};
use crate::runtime::{self, Mono, Stop, mono_now};
use crate::sink::SinkError;

/// Largest packet taken from the broker: answers only.
const MAX_PACKET_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 4 << 10;

/// A connection that the broker took.
pub(super) struct Session {
    io: Box<dyn Io>,
    client: Client,
    chunk: Vec<u8>,
    /// Longest time without any progress.
    limit: Duration,
}

/// Why a write did not get through.
pub(super) enum Failure {
    /// The connection is of no more use.
    Lost(String),
    /// The broker said no; the connection goes on.
    Error(SinkError),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Lost(why)
    }
}

/// What is to be published next.
pub(super) trait Messages {
    /// The next message and its number; numbers go up. `None` at the end.
    fn next(&mut self) -> Option<Result<(u64, Publish), SinkError>>;

    /// The error that names a message by its number.
    fn reject(&self, number: u64, reason: String) -> SinkError;
}

enum Wake {
    Read(usize),
    Timeout,
    Stop,
}

impl Session {
    /// CONNECT to CONNACK.
    pub(super) async fn open(
        io: Box<dyn Io>,
        connect: Connect,
        window: u16,
        limit: Duration,
    ) -> Result<Self, String> {
        let options =
            ClientOptions { connect, max_packet_bytes: MAX_PACKET_BYTES, window, ping_timeout: limit };
        let client = Client::new(options, mono_now()).map_err(|e| e.to_string())?;
        let mut session = Self { io, client, chunk: vec![0; READ_BYTES], limit };
        loop {
            while let Some(event) = session.client.poll_event() {
                match event {
                    ClientEvent::Connected(_) => return Ok(session),
                    other => ended(other)?,
                }
            }
            session.flush().await?;
            session.step(None, None).await?;
        }
    }

    /// Publishes everything with QoS 1 and waits for every PUBACK.
    pub(super) async fn publish(&mut self, messages: &mut impl Messages) -> Result<(), Failure> {
        let (mut waiting, mut more) = (0usize, true);
        let mut verdict: Option<SinkError> = None;
        let mut deadline = mono_now() + self.limit;
        loop {
            while more && verdict.is_none() && self.client.capacity() > 0 {
                match messages.next() {
                    None => more = false,
                    Some(Err(error)) => verdict = Some(error),
                    Some(Ok((number, message))) => match self.client.publish(message, number) {
                        Ok(()) => waiting += 1,
                        Err(error) => verdict = Some(refused(messages, number, &error)?),
                    },
                }
            }
            // After a refusal what is out is waited for: the connection stays in step.
            if waiting == 0 && (!more || verdict.is_some()) {
                return verdict.map_or(Ok(()), |error| Err(Failure::Error(error)));
            }
            self.flush().await?;
            self.step(Some(deadline), None).await?;
            while let Some(event) = self.client.poll_event() {
                match event {
                    ClientEvent::Acked { token, ack } => {
                        waiting = waiting.saturating_sub(1);
                        deadline = mono_now() + self.limit;
                        if ack.reason >= 0x80 && verdict.is_none() {
                            verdict = Some(said_no(messages, token, &ack));
                        }
                    }
                    other => ended(other)?,
                }
            }
        }
    }

    /// Answers the broker and pings it until `stop`.
    pub(super) async fn idle(&mut self, stop: &Stop) -> Result<(), String> {
        loop {
            self.flush().await?;
            if self.step(None, Some(stop)).await? {
                return Ok(());
            }
            while let Some(event) = self.client.poll_event() {
                ended(event)?;
            }
        }
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) {
        self.client.disconnect(reason::SUCCESS);
        if self.flush().await.is_ok() {
            // The peer may be gone: then there is nobody to say it to.
            self.io.close().await.unwrap_or_default();
        }
    }

    async fn flush(&mut self) -> Result<(), String> {
        while let Some(bytes) = self.client.poll_transmit() {
            let written = runtime::timeout(self.limit, self.io.write_all(&bytes)).await;
            written.ok_or("the broker takes no bytes")?.map_err(|e| format!("write: {e}"))?;
        }
        let flushed = runtime::timeout(self.limit, self.io.flush()).await;
        flushed.ok_or("the broker takes no bytes")?.map_err(|e| format!("write: {e}"))
    }

    /// Waits for bytes, a timer of the client's, `deadline` (an error), or `stop` (`true`).
    async fn step(&mut self, deadline: Option<Mono>, stop: Option<&Stop>) -> Result<bool, String> {
        let timer = self.client.poll_timeout().into_iter().chain(deadline).min();
        let read =
            async { self.io.read(&mut self.chunk).await.map(Wake::Read).map_err(|e| format!("read: {e}")) };
        let timeout = async {
            match timer {
                Some(at) => runtime::sleep_until(at).await,
                None => std::future::pending().await,
            }
            Ok(Wake::Timeout)
        };
        let stopped = async {
            match stop {
                Some(stop) => stop.wait().await,
                None => std::future::pending().await,
            }
            Ok(Wake::Stop)
        };
        match read.or(stopped).or(timeout).await? {
            Wake::Read(0) => return Err("the broker closed the connection".to_owned()),
            // A violation comes back as an event.
            Wake::Read(n) => {
                self.client.receive(mono_now(), self.chunk.get(..n).unwrap_or_default()).unwrap_or_default();
            }
            Wake::Timeout if deadline.is_some_and(|at| at <= mono_now()) => {
                return Err(format!("no answer to a message within {:?}", self.limit));
            }
            Wake::Timeout => self.client.handle_timeout(mono_now()).unwrap_or_default(),
            Wake::Stop => return Ok(true),
        }
        Ok(false)
    }
}

/// An event that ends the connection is an error; others are of no interest to a publisher.
fn ended(event: ClientEvent) -> Result<(), String> {
    let why = |code: u8, text: Option<String>| {
        let text = text.map(|t| format!(" ({})", t.escape_debug())).unwrap_or_default();
        format!("{}{text}", reason::name(code))
    };
    match event {
        ClientEvent::Refused(connack) => {
            Err(format!("the broker refuses the connection: {}", why(connack.reason, connack.reason_string)))
        }
        ClientEvent::Closed(d) => Err(format!("the broker disconnects: {}", why(d.reason, d.reason_string))),
        ClientEvent::Failed(error) => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// A message that could not be queued.
fn refused(messages: &impl Messages, number: u64, error: &PublishError) -> Result<SinkError, Failure> {
    match error {
        PublishError::Full | PublishError::NotConnected => Err(Failure::Lost(error.to_string())),
        PublishError::TooLarge { .. } | PublishError::Invalid(_) => {
            Ok(messages.reject(number, error.to_string()))
        }
        PublishError::QosNotSupported | PublishError::RetainNotSupported => {
            Ok(SinkError::Fatal(format!("{error}: use another broker, or change `retain`")))
        }
    }
}

/// A message that the broker did not take (MQTT 5.0, section 3.4.2.1).
fn said_no(messages: &impl Messages, number: u64, ack: &Ack) -> SinkError {
    let text = format!("the broker does not take a message: {}", reason::name(ack.reason));
    match ack.reason {
        reason::TOPIC_NAME_INVALID | reason::PAYLOAD_FORMAT_INVALID | reason::PACKET_TOO_LARGE => {
            messages.reject(number, text)
        }
        reason::NOT_AUTHORIZED => {
            SinkError::Retry(format!("{text}: give this user the right to publish there; dts tries again"))
        }
        _ => SinkError::Retry(format!("{text}; dts tries again")),
    }
}
