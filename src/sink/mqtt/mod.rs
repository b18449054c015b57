//! Publishes each change on an MQTT broker, 5.0 or 3.1.1, with QoS 1. A write is done when the broker
//! has acknowledged every message.
//!
//! | file | concept |
//! |---|---|
//! | `topic` | where a change is published |
//! | `session` | one connection: publish a write, keep alive between writes |
//!
//! After a failure the whole write is published again: subscribers see doubles, which have the same
//! `id` (in the record, and with 5.0 as a user property). Whether an acknowledged message survives the broker's own crash is the
//! broker's matter.

#[cfg(test)]
mod mosquitto_tests;
mod session;
#[cfg(test)]
mod tests;
mod topic;

use std::path::PathBuf;

use self::session::{Failure, Messages, Session};
use super::{Abilities, Mark, Sink, SinkConfig, SinkError};
use crate::codec::json::{self, Format, Integers, JsonError, Meta};
use crate::config::node::{Kind, Node};
use crate::config::{ByteSize, Context, Duration, Field, Secret};
use crate::event::{Batch, Op, RowError, RowView, Value};
use crate::link::{DialOptions, Dialer, Target, TlsClient, Transport, TrustTime};
use crate::mqtt::{Connect, Publish, Version};
use crate::runtime::{self, LocalFuture, Stop, Stopper, Task};

pub use topic::Template;

/// What is published of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The change as dts JSON.
    Record,
    /// Of a message its body as it came; of all else the record.
    Body,
}

impl Field for Payload {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "record" => Some(Self::Record),
            Kind::Scalar { text, .. } if text == "body" => Some(Self::Body),
            _ => cx.expected(node, "`record` or `body`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["record", "body"] })
    }
}

/// MQTT's version, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolVersion(pub Version);

impl Field for ProtocolVersion {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if matches!(text.as_str(), "5" | "5.0") => Some(Self(Version::V5)),
            Kind::Scalar { text, .. } if text == "3.1.1" => Some(Self(Version::V311)),
            _ => cx.expected(node, "`5` or `3.1.1`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": [5, "5", "5.0", "3.1.1"] })
    }
}

crate::section! {
    /// Publishes changes on an MQTT broker, each acknowledged by it (QoS 1).
    pub struct Config {
        /// Host of the broker.
        host: String = "127.0.0.1",
        /// Port of the broker; 8883 is usual with TLS.
        port: u16 = "1883",
        /// Set it to connect with TLS: `{ca_file: …}`, or `{}` for the system's CAs.
        tls: Option<TlsClient>,
        /// Where to: `{topic}` is a message's own topic, or `db/table` of a row; also `{device}`, `{lane}`, `{source}`, `{db}`,
        /// `{table}`, `{kind}`, `{op}`.
        topic: Template = "changes/{device}/{topic}",
        /// `record`: the change as dts JSON; `body`: of a message its body as it came.
        payload: Payload = "record",
        /// Whether the broker keeps the last message of each topic for new subscribers.
        retain: bool = "false",
        /// Protocol version: `5` or `3.1.1`.
        version: ProtocolVersion = "5",
        /// Name at the broker; must be unique there. Left out: `dts-`, the sink's name and a random number.
        client_id: Option<String>,
        /// User name.
        username: Option<String>,
        /// Password. Better: `${NAME}` or `password_file`.
        password: Option<Secret>,
        /// File that holds the password; read at start.
        password_file: Option<PathBuf>,
        /// Messages published and not yet acknowledged; the broker may want fewer. Costs their bytes in memory.
        window: u16 = "100",
        /// MQTT keep-alive; 0 is none.
        keep_alive: Duration = "30s",
        /// Longest time without an acknowledgement while messages are out.
        timeout: Duration = "15s",
        /// What is written beside the values: `full`, `id` or `none`.
        meta: Meta = "full",
        /// How integers are written: `number`, or `string` for readers that lose precision beyond 2^53.
        integers: Integers = "number",
        /// Bytes of changes in one write.
        max_write_bytes: ByteSize = "1MiB",
    }
}

impl SinkConfig for Config {
    fn mistake(&self) -> Option<String> {
        (self.password.is_some() && self.password_file.is_some())
            .then(|| "`password` and `password_file` exclude each other".to_owned())
    }

    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let sink = self.sink(&name).map_err(SinkError::Fatal)?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }
}

impl Config {
    fn sink(&self, name: &str) -> Result<Broker, String> {
        if let Some(mistake) = self.mistake() {
            return Err(mistake);
        }
        let target =
            Target { host: self.host.clone(), quic_port: self.port, tcp_port: self.port, proxy: None };
        let dialer = Dialer::new(target, self.tls.clone(), TrustTime::system(), DialOptions::default())
            .map_err(|e| e.to_string())?;
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(path)) => {
                let text =
                    std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
                Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            (None, None) => None,
        };
        let random = runtime::rng().u32(..);
        let client_id = self.client_id.clone().unwrap_or_else(|| format!("dts-{name}-{random:08x}"));
        Ok(Broker { config: self.clone(), password, client_id, dialer, connection: Connection::None })
    }
}

/// Where the session is.
enum Connection {
    None,
    /// Its task keeps it alive until told to stop, and then hands it back.
    Idle(Stopper, Task<Result<Session, String>>),
}

/// The sink.
struct Broker {
    config: Config,
    password: Option<Secret>,
    client_id: String,
    dialer: Dialer,
    connection: Connection,
}

impl Broker {
    fn address(&self) -> String {
        format!("{}:{}", self.config.host, self.config.port)
    }

    async fn deliver(&mut self, batches: &[Batch]) -> Result<(), SinkError> {
        if batches.iter().all(|b| b.rows == 0) {
            return Ok(());
        }
        // A connection may have died since the last write: that is no failure of this one.
        if let Some(mut session) = self.take().await {
            let done = session.publish(&mut Rows::new(&self.config, batches)).await;
            match done {
                Err(Failure::Lost(why)) => log::info!("broker {}: {why}; connecting again", self.address()),
                done => return self.finish(session, done),
            }
        }
        let lost = |why: String| SinkError::Retry(format!("broker {}: {why}", self.address()));
        let mut session = self.connect(&self.client_id).await.map_err(lost)?;
        let done = session.publish(&mut Rows::new(&self.config, batches)).await;
        match done {
            Err(Failure::Lost(why)) => Err(lost(why)),
            done => self.finish(session, done),
        }
    }

    /// Keeps the session for the next write.
    fn finish(&mut self, session: Session, done: Result<(), Failure>) -> Result<(), SinkError> {
        let (stopper, stop) = Stop::new();
        let mut session = session;
        let task = runtime::spawn(async move { session.idle(&stop).await.map(|()| session) });
        self.connection = Connection::Idle(stopper, task);
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Error(error)) => Err(error),
            Err(Failure::Lost(why)) => Err(SinkError::Retry(why)),
        }
    }

    /// The session of the last write, if it still lives.
    async fn take(&mut self) -> Option<Session> {
        match std::mem::replace(&mut self.connection, Connection::None) {
            Connection::None => None,
            Connection::Idle(stopper, task) => {
                stopper.stop();
                task.await.map_err(|why| log::info!("broker {}: {why}", self.address())).ok()
            }
        }
    }

    async fn connect(&self, client_id: &str) -> Result<Session, String> {
        let transport = if self.config.tls.is_some() { Transport::Tls } else { Transport::Tcp };
        let connection = self.dialer.dial(transport).await.map_err(|e| e.to_string())?;
        let connect = Connect {
            version: self.config.version.0,
            clean_start: true,
            keep_alive_s: u16::try_from(self.config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            client_id: client_id.to_owned(),
            username: self.config.username.clone(),
            password: self.password.as_ref().map(|p| p.expose().as_bytes().to_vec().into()),
            will: None,
            session_expiry_s: 0,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_problem_information: true,
            authentication_method: None,
            user: Vec::new(),
        };
        Session::open(connection.io, connect, self.config.window, self.config.timeout).await
    }
}

impl Sink for Broker {
    fn abilities(&self) -> Abilities {
        let max_write_bytes = usize::try_from(self.config.max_write_bytes.0).unwrap_or(usize::MAX);
        Abilities { durable: true, ddl: true, max_write_bytes, ..Abilities::default() }
    }

    fn write(&mut self, batches: Vec<Batch>, _marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(async move { self.deliver(&batches).await })
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async move {
            // Under another name, so that a running sink is not disturbed.
            match self.connect(&format!("{}-check", self.client_id)).await {
                Ok(session) => {
                    session.close().await;
                    Ok(format!("the broker at {} takes the connection", self.address()))
                }
                Err(why) => Err(SinkError::Retry(format!("broker {}: {why}", self.address()))),
            }
        })
    }

    fn close(mut self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async move {
            let limit = std::time::Duration::from_millis(900);
            let goodbye = async {
                if let Some(session) = self.take().await {
                    session.close().await;
                }
            };
            // A broker that does not listen is left without a word.
            runtime::timeout(limit, goodbye).await.unwrap_or_default();
            Ok(())
        })
    }
}

/// The rows of a write as messages, encoded one at a time.
struct Rows<'a> {
    config: &'a Config,
    batches: &'a [Batch],
    rows: Box<dyn Iterator<Item = (usize, u32, Result<RowView<'a>, RowError>)> + 'a>,
    next: u64,
    buffer: Vec<u8>,
}

impl<'a> Rows<'a> {
    fn new(config: &'a Config, batches: &'a [Batch]) -> Self {
        let rows = batches
            .iter()
            .enumerate()
            .flat_map(|(i, batch)| (0u32..).zip(batch).map(move |(n, row)| (i, n, row)));
        Self { config, batches, rows: Box::new(rows), next: 0, buffer: Vec::new() }
    }

    fn message(&mut self, batch: &Batch, row: &RowView<'_>) -> Result<Publish, JsonError> {
        self.buffer.clear();
        let body = if self.config.payload == Payload::Body { body(row)? } else { None };
        let content_type = match &body {
            Some((bytes, content_type)) => {
                self.buffer.extend_from_slice(bytes);
                *content_type
            }
            None => {
                let format = Format { meta: self.config.meta, integers: self.config.integers };
                json::write_row(&mut self.buffer, batch, row, format)?;
                "application/json"
            }
        };
        // The packet id is the client's matter; not 0 makes it QoS 1.
        let mut message =
            Publish::new(self.config.topic.render(batch, row), 1, self.buffer.as_slice().to_vec());
        message.retain = self.config.retain;
        if self.config.version.0 == Version::V5 {
            message.content_type = Some(content_type.to_owned());
            let id = crate::codec::row_id(batch, row);
            if !id.is_empty() {
                message.user.push(("id".to_owned(), id));
            }
        }
        Ok(message)
    }
}

/// The body of a message as it came, with its content type; `None` for other rows.
fn body<'a>(row: &RowView<'a>) -> Result<Option<(&'a [u8], &'static str)>, JsonError> {
    if row.op() != Op::Message {
        return Ok(None);
    }
    let image = row.newest()?.ok_or(JsonError::Shape(Op::Message))?;
    // `json`, `text` and `bytes` are columns 2 to 4 of a message.
    match (image.get(2), image.get(3), image.get(4)) {
        (Some(Value::Text(json)), ..) => Ok(Some((json.as_bytes(), "application/json"))),
        (_, Some(Value::Text(text)), _) => Ok(Some((text.as_bytes(), "text/plain;charset=utf-8"))),
        (.., Some(Value::Bytes(bytes))) => Ok(Some((bytes, "application/octet-stream"))),
        _ => Err(JsonError::Shape(Op::Message)),
    }
}

impl Messages for Rows<'_> {
    fn next(&mut self) -> Option<Result<(u64, Publish), SinkError>> {
        let (index, row, view) = self.rows.next()?;
        let batch = self.batches.get(index)?;
        let message = view.map_err(JsonError::Row).and_then(|view| self.message(batch, &view));
        let number = self.next;
        self.next += 1;
        Some(message.map(|message| (number, message)).map_err(|e| SinkError::Reject {
            batch: index,
            row,
            reason: e.to_string(),
        }))
    }

    fn reject(&self, number: u64, reason: String) -> SinkError {
        let mut before = 0;
        for (batch, of) in self.batches.iter().enumerate() {
            let row = number - before;
            if row < u64::from(of.rows) {
                return SinkError::Reject { batch, row: row as u32, reason };
            }
            before += u64::from(of.rows);
        }
        SinkError::Fatal(reason)
    }
}
