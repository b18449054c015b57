//! Posts changes to a web server, many in a request.
//!
//! | file | concept |
//! |---|---|
//! | `request` | bodies of bounded size, halved where one is refused |
//! | `reply` | what a status means |
//!
//! One connection, kept alive; one request at a time, so order is kept. A 2xx answer is the peer's word that
//! it has the rows durably. After a failure the write comes again: each request carries
//! `Idempotency-Key`, made from the identities of its rows, and each row its `id`.

mod reply;
mod request;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration as Span;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use self::reply::Verdict;
use self::request::{Request, requests};
use super::{Abilities, Mark, Sink, SinkConfig, SinkError};
use crate::codec::json::{Format, Integers, Meta};
use crate::config::node::{Kind, Node};
use crate::config::{ByteSize, Context, Duration, Field, Secret};
use crate::event::Batch;
use crate::link::web::Connector;
use crate::runtime::http::HyperIo;
use crate::runtime::{LocalFuture, Mono, Task, mono_now, sleep_until, spawn, timeout};
use crate::telemetry;

pub use crate::link::web::Url;

/// Bytes of an answer that are read; what is longer ends the connection.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Bytes of an answer that are shown in a message.
const SHOWN_BYTES: usize = 200;
/// Longest wait within a write, so that dts can stop; the rest of a longer pause is waited for in the next.
const MAX_WAIT: Span = Span::from_secs(5);
/// Bytes of bodies in one write.
const MAX_WRITE_BYTES: usize = 8 << 20;

/// How rows are put into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// One object a line, `application/x-ndjson`.
    Ndjson,
    /// One array, `application/json`.
    Json,
}

impl BodyFormat {
    fn separator(self) -> u8 {
        match self {
            Self::Ndjson => b'\n',
            Self::Json => b',',
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Json => "application/json",
        })
    }
}

impl Field for BodyFormat {
    fn read(node: &Node, cx: &mut Context) -> Option<Self> {
        match &node.kind {
            Kind::Scalar { text, .. } if text == "ndjson" => Some(Self::Ndjson),
            Kind::Scalar { text, .. } if text == "json" => Some(Self::Json),
            _ => cx.expected(node, "`ndjson` or `json`"),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({ "enum": ["ndjson", "json"] })
    }
}

crate::section! {
    /// Posts dts JSON to a web server.
    pub struct Config {
        /// Where to: `http://` or `https://`. Redirects are not followed.
        url: Url,
        /// `ndjson`: one change a line; `json`: one array a request.
        format: BodyFormat = "ndjson",
        /// Sent as `Authorization: Bearer …`.
        token: Option<Secret>,
        /// File that holds the token; read at start.
        token_file: Option<PathBuf>,
        /// More headers, each `Name: value`. Treated as secrets.
        headers: Vec<Secret> = "[]",
        /// Certificates (PEM) that the server's must lead to. Default: those that the system trusts.
        ca_file: Option<PathBuf>,
        /// Own certificate (PEM), for servers that ask for one.
        cert_file: Option<PathBuf>,
        /// Its key (PEM).
        key_file: Option<PathBuf>,
        /// Largest body; a single larger row is sent alone. Memory: about twice that.
        max_request_bytes: ByteSize = "1MiB",
        /// Longest time for one request, connecting included.
        timeout: Duration = "30s",
        /// What is written beside the values: `full`, `id` or `none`.
        meta: Meta = "full",
        /// How integers are written: `number`, or `string` for readers that lose precision beyond 2^53.
        integers: Integers = "number",
    }
}

impl SinkConfig for Config {
    fn mistake(&self) -> Option<String> {
        if self.token.is_some() && self.token_file.is_some() {
            return Some("`token` and `token_file` exclude each other".to_owned());
        }
        let pair = self.cert_file.is_some() == self.key_file.is_some();
        (!pair).then(|| "`cert_file` and `key_file` go together".to_owned())
    }

    fn open(&self, name: &str) -> LocalFuture<'_, Result<Box<dyn Sink>, SinkError>> {
        let name = name.to_owned();
        Box::pin(async move {
            let sink = self.sink(name).map_err(SinkError::Fatal)?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }
}

impl Config {
    fn sink(&self, name: String) -> Result<Http, String> {
        if let Some(mistake) = self.mistake() {
            return Err(mistake);
        }
        let connector = Connector::new(
            &self.url,
            self.ca_file.as_deref(),
            self.cert_file.as_deref(),
            self.key_file.as_deref(),
        )?;
        Ok(Http {
            name,
            url: self.url.clone(),
            connector,
            headers: self.header_map()?,
            body: self.format,
            format: Format { meta: self.meta, integers: self.integers },
            max_request_bytes: usize::try_from(self.max_request_bytes.0).unwrap_or(usize::MAX),
            timeout: self.timeout,
            connection: None,
            not_before: Mono(0),
            max_wait: MAX_WAIT,
        })
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::try_from(&self.url.authority).map_err(|_| "`url` has an odd host")?;
        headers.insert(header::HOST, host);
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("dts/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::CONTENT_TYPE, self.format.content_type());
        for (n, line) in self.headers.iter().enumerate() {
            let parsed = line.expose().split_once(':').and_then(|(name, value)| {
                let value = HeaderValue::try_from(value.trim()).ok()?;
                Some((HeaderName::try_from(name.trim()).ok()?, value))
            });
            // The line itself may be a secret.
            let (name, mut value) = parsed.ok_or_else(|| format!("`headers[{n}]` is not `Name: value`"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let text =
                    std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
                Some(Secret::new(text.trim().to_owned()))
            }
            (None, None) => None,
        };
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| "the token holds bytes that no header can")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }
}

/// A connection and the task that drives it; dropping both closes it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: Task<()>,
}

/// What came back.
struct Answer {
    status: StatusCode,
    pause: Option<Span>,
    text: String,
}

/// The sink.
struct Http {
    name: String,
    url: Url,
    connector: Connector,
    headers: HeaderMap,
    body: BodyFormat,
    format: Format,
    max_request_bytes: usize,
    timeout: Span,
    connection: Option<Connection>,
    /// The peer asked not to be called before.
    not_before: Mono,
    max_wait: Span,
}

impl Http {
    async fn deliver(&mut self, batches: Vec<Batch>) -> Result<(), SinkError> {
        let now = mono_now();
        sleep_until(self.not_before.min(now + self.max_wait)).await;
        let rest = self.not_before.since(mono_now());
        if !rest.is_zero() {
            let authority = &self.url.authority;
            return Err(SinkError::Retry(format!("{authority} asked not to be called for another {rest:?}")));
        }
        for request in requests(&batches, self.format, self.body, self.max_request_bytes) {
            self.halves(&batches, &request?).await?;
        }
        Ok(())
    }

    /// Sends a request; where it is refused for its content, its halves, until the one bad row is
    /// found. What was good is delivered by then.
    async fn halves(&mut self, batches: &[Batch], request: &Request) -> Result<(), SinkError> {
        let mut open = vec![(0, request.len())];
        while let Some((from, to)) = open.pop() {
            let answer = self.post(batches, request, from, to).await?;
            let status = answer.status.as_u16();
            let told = || format!("{} answered {status}: {}", self.url.authority, answer.text);
            match reply::verdict(status) {
                Verdict::Done => {}
                Verdict::Reject if to - from == 1 => return Err(request.reject(from, told())),
                Verdict::Reject => {
                    let middle = from + (to - from) / 2;
                    open.extend([(middle, to), (from, middle)]);
                }
                Verdict::Retry => {
                    let text = format!("{}; {}", told(), reply::advice(status));
                    self.not_before = mono_now() + answer.pause.unwrap_or_default();
                    return Err(SinkError::Retry(text));
                }
                Verdict::Fatal => {
                    return Err(SinkError::Fatal(format!("{}; {}", told(), reply::advice(status))));
                }
            }
        }
        Ok(())
    }

    async fn post(
        &mut self,
        batches: &[Batch],
        request: &Request,
        from: usize,
        to: usize,
    ) -> Result<Answer, SinkError> {
        let body = request.body(from, to, self.body);
        let key = request.idempotency_key(batches, from, to);
        let key = key.and_then(|key| HeaderValue::try_from(key).ok());
        let started = mono_now();
        let answer = timeout(self.timeout, self.exchange(&body, key)).await;
        let labels = [("sink", self.name.as_str())];
        telemetry::observe("dts_sink_http_request_seconds", &labels, mono_now().since(started).as_secs_f64());
        let failed = |what: String| {
            SinkError::Retry(format!("post to {}: {what}; dts tries again", self.url.authority))
        };
        match answer {
            Some(Ok(answer)) => {
                let labels = [labels[0], ("status", answer.status.as_str())];
                telemetry::count("dts_sink_http_requests_total", &labels, 1);
                Ok(answer)
            }
            Some(Err(error)) => {
                self.connection = None;
                Err(failed(error))
            }
            None => {
                self.connection = None;
                Err(failed(format!("no answer within {:?}", self.timeout)))
            }
        }
    }

    /// One request and its answer. On a connection that was kept and has died meanwhile, once more
    /// on a new one.
    async fn exchange(&mut self, body: &Bytes, key: Option<HeaderValue>) -> Result<Answer, String> {
        let kept = self.connection.take().filter(|c| !c.sender.is_closed());
        if let Some(mut connection) = kept
            && let Ok(answer) = self.ask(&mut connection, body, key.as_ref()).await
        {
            self.connection = Some(connection);
            return Ok(answer);
        }
        let mut connection = self.connect().await?;
        let answer = self.ask(&mut connection, body, key.as_ref()).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let io = self.connector.connect().await.map_err(|e| format!("connect: {e}"))?;
        let (sender, driver) = http1::handshake(HyperIo(io)).await.map_err(|e| format!("connect: {e}"))?;
        // Its error is told by the sender.
        let driver = spawn(async move { driver.await.unwrap_or_default() });
        Ok(Connection { sender, _driver: driver })
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        body: &Bytes,
        key: Option<&HeaderValue>,
    ) -> Result<Answer, String> {
        let mut request = hyper::Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.path.parse().map_err(|_| "odd path".to_owned())?;
        *request.headers_mut() = self.headers.clone();
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.clone());
        }
        connection.sender.ready().await.map_err(|e| e.to_string())?;
        let response = connection.sender.send_request(request).await.map_err(|e| e.to_string())?;
        let (head, rest) = response.into_parts();
        let word = |name| head.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let pause = reply::pause(word(header::RETRY_AFTER), word(header::DATE));
        // An answer that is too long leaves the connection unfinished: hyper closes it.
        let rest = Limited::new(rest, MAX_ANSWER_BYTES).collect().await.map(|b| b.to_bytes());
        Ok(Answer { status: head.status, pause, text: shown(&rest.unwrap_or_default()) })
    }
}

/// The start of an answer, fit for a log line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..SHOWN_BYTES).unwrap_or(bytes));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

impl Sink for Http {
    fn abilities(&self) -> Abilities {
        Abilities { durable: true, ddl: true, max_write_bytes: MAX_WRITE_BYTES, ..Abilities::default() }
    }

    fn write(&mut self, batches: Vec<Batch>, _marks: Vec<Mark>) -> LocalFuture<'_, Result<(), SinkError>> {
        Box::pin(self.deliver(batches))
    }

    fn probe(&mut self) -> LocalFuture<'_, Result<String, SinkError>> {
        Box::pin(async move {
            let connected = timeout(self.timeout, self.connect()).await;
            let connected = connected.ok_or_else(|| format!("no connection within {:?}", self.timeout));
            match connected.and_then(|c| c) {
                Ok(_) => Ok(format!("{} takes connections", self.url.authority)),
                Err(e) => Err(SinkError::Retry(format!("{}: {e}", self.url.authority))),
            }
        })
    }

    fn close(self: Box<Self>) -> LocalFuture<'static, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}
