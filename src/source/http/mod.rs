//! HTTP POST: a small server for applications on the same machine.
//!
//! | request | answer |
//! |---|---|
//! | `POST /<topic>`, `application/json` | one event |
//! | `POST /<topic>`, `application/x-ndjson` | one event a line, all or none |
//! | `POST /<topic>`, anything else | one event, text or bytes |
//!
//! 202 comes only when the durability class of the lane is met. 400 bad JSON, 401 token, 404 path, 405 method,
//! 413 too large, 415 encoding: nothing is stored then. 503 with `Retry-After` when it was not stored in time; it may
//! still be stored later, which an `Idempotency-Key` makes harmless.
//! A request with `Idempotency-Key` that was stored in the last minutes is answered 200 and not stored again.

#[cfg(any(feature = "fuzzing", all(test, feature = "full")))]
pub(crate) mod fuzz;
mod idempotency;
mod listen;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::{AsyncRead, AsyncWrite};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use self::idempotency::Recent;
use self::listen::Listener;
use super::{Outlet, Refused, Source, SourceConfig, SourceError};
use crate::config::{ByteSize, Duration as Span, Secret};
use crate::event::builtin::{self, Payload};
use crate::event::{BatchBuilder, Op};
use crate::runtime::http::HyperIo;
use crate::runtime::{self, LocalFuture, Stop};
use crate::telemetry;

/// What a message row needs beside topic, key and payload, with some room.
const MESSAGE_OVERHEAD: usize = 96;

crate::section! {
    /// Takes events by HTTP POST from applications on this machine. The path is the topic.
    pub struct Config {
        /// Where to listen: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/dts.sock`.
        listen: String = "127.0.0.1:8080",
        /// Needed in `Authorization: Bearer …` if set. Must be set where `listen` is not loopback.
        token: Option<Secret>,
        /// Largest body, in bytes. A connection holds at most this much.
        max_body_bytes: ByteSize = "1MiB",
        /// Connections at a time; more wait in the kernel's queue.
        max_connections: u32 = "64",
        /// A request must be complete within this time, and an answer is given within it.
        timeout: Span = "10s",
        /// Field of a JSON object that names what the event is about: the buffer's policy `compact` keeps the
        /// newest event of each topic and key.
        key_field: Option<String>,
    }
}

impl SourceConfig for Config {
    fn build(&self, name: &str) -> Result<Box<dyn Source>, SourceError> {
        let open = !listen::is_local(&self.listen).map_err(SourceError::Fatal)?;
        if open && self.token.is_none() {
            let why =
                format!("source `{name}`: listen {} is not loopback: set token or token_file", self.listen);
            return Err(SourceError::Fatal(why));
        }
        Ok(Box::new(Http { config: self.clone() }))
    }
}

struct Http {
    config: Config,
}

/// What the connections share.
struct Shared {
    config: Config,
    outlet: Outlet,
    recent: RefCell<Recent>,
}

impl Source for Http {
    fn run(self: Box<Self>, outlet: Outlet, stop: Stop) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let listener = Listener::bind(&self.config.listen).await?;
            log::info!("source `{}`: listening on {}", outlet.source, listener.address());
            let recent = RefCell::new(Recent::restore(&outlet.positions));
            let max = (self.config.max_connections as usize).max(1);
            let shared = Rc::new(Shared { config: self.config, outlet, recent });
            let (permits, permit) = async_channel::bounded::<()>(max);
            while let Some(accepted) = stop.or(listener.accept()).await {
                let Ok(stream) = accepted else {
                    // Out of file descriptors: the others go on, and this one is tried again.
                    runtime::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                if stop.or(permits.send(())).await.is_none() {
                    break;
                }
                let (shared, permit, stop) = (shared.clone(), permit.clone(), stop.clone());
                runtime::spawn(async move {
                    stop.or(connection(stream, &shared)).await;
                    // Never empty: this connection's own permit is in it.
                    permit.try_recv().ok();
                })
                .detach();
            }
            Ok(())
        })
    }

    fn probe(&self) -> LocalFuture<'_, Result<String, SourceError>> {
        Box::pin(async move {
            let listener = Listener::bind(&self.config.listen).await?;
            Ok(format!("{} is free", listener.address()))
        })
    }
}

async fn connection<S>(stream: S, shared: &Rc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request, shared).await) });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.max_buf_size(16 * 1024).timer(runtime::http::HyperTimer).header_read_timeout(shared.config.timeout);
    if let Err(error) = http.serve_connection(HyperIo(stream), service).await {
        log::debug!("source `{}`: connection: {error}", shared.outlet.source);
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let result = match runtime::timeout(shared.config.timeout, take(request, shared)).await {
        Some(result) => result,
        None => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not stored in time; send it again with the same Idempotency-Key",
        )),
    };
    let (status, text) = match result {
        Ok(Taken::Stored(rows)) => (StatusCode::ACCEPTED, format!("{{\"stored\":{rows}}}\n")),
        Ok(Taken::Before) => (StatusCode::OK, "{\"stored\":0,\"known\":true}\n".to_owned()),
        Err(Problem { status, message }) => {
            let label = [("source", &*shared.outlet.source), ("status", status.as_str())];
            telemetry::count("dts_http_refused_total", &label, 1);
            (status, format!("{}\n", serde_json::json!({ "error": message })))
        }
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

enum Taken {
    Stored(u32),
    Before,
}

struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

async fn take(request: Request<Incoming>, shared: &Shared) -> Result<Taken, Problem> {
    let (head, body) = request.into_parts();
    authorise(&head.headers, &shared.config.token)?;
    if head.method != Method::POST {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "only POST /<topic>"));
    }
    let topic = topic_of(head.uri.path())?;
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the body without Content-Encoding",
        ));
    }
    let header = |name| head.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let key = header("idempotency-key");
    if let Some(key) = key {
        if key.is_empty() || key.len() > 200 {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "Idempotency-Key has 1 to 200 characters"));
        }
        if shared.recent.borrow().contains(key, runtime::wall_now_us()) {
            return Ok(Taken::Before);
        }
    }
    let max = usize::try_from(shared.config.max_body_bytes.0).unwrap_or(usize::MAX);
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is over {max} bytes"));
    let body = match Limited::new(body, max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
        Err(error) => return Err(Problem::new(StatusCode::BAD_REQUEST, format!("read the body: {error}"))),
    };
    let content_type = header("content-type").unwrap_or("").split(';').next().unwrap_or("").trim();
    let mut batch = rows(shared, &topic, content_type, &body)?;
    if batch.is_empty() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is empty"));
    }
    if let Some(key) = key {
        shared.recent.borrow().note(key, runtime::wall_now_us(), &mut batch);
    }
    let count = batch.rows();
    let receipt = shared.outlet.submit(batch.finish()).await;
    receipt.await.map_err(refusal)?;
    if let Some(key) = key {
        shared.recent.borrow_mut().insert(key, runtime::wall_now_us());
    }
    Ok(Taken::Stored(count))
}

fn refusal(refused: Refused) -> Problem {
    let status = match refused {
        Refused::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refused::Busy(_) | Refused::TakenOver | Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem::new(status, refused.to_string())
}

fn authorise(headers: &hyper::HeaderMap, token: &Option<Secret>) -> Result<(), Problem> {
    let Some(token) = token else { return Ok(()) };
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    if token.matches(given.strip_prefix(b"Bearer ").unwrap_or_default()) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::UNAUTHORIZED, "needs `Authorization: Bearer <token>`"))
    }
}

/// `/a/b%20c` → `a/b c`. Topics have no control characters and none of MQTT's wildcards.
fn topic_of(path: &str) -> Result<String, Problem> {
    let bad = |why| Problem::new(StatusCode::NOT_FOUND, why);
    let raw = path.strip_prefix('/').unwrap_or(path).as_bytes();
    let mut topic = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            topic.push(*byte);
            continue;
        }
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        let code = hex.and_then(|h| u8::from_str_radix(h, 16).ok());
        topic.push(code.ok_or_else(|| bad("the path has a broken %-escape"))?);
        rest = &tail[2..];
    }
    let topic = String::from_utf8(topic).map_err(|_| bad("the topic is not UTF-8"))?;
    if topic.is_empty() {
        return Err(bad("the path names the topic: POST /<topic>"));
    }
    if topic.len() > 256 || topic.contains(|c: char| c.is_control() || c == '+' || c == '#') {
        return Err(bad("a topic has at most 256 bytes and none of + # and control characters"));
    }
    Ok(topic)
}

fn rows(shared: &Shared, topic: &str, content_type: &str, body: &[u8]) -> Result<BatchBuilder, Problem> {
    let mut batch = BatchBuilder::new(shared.outlet.source.clone());
    match content_type {
        "application/x-ndjson" | "application/jsonl" | "application/ndjson" => {
            let lines = body.split(|b| *b == b'\n').enumerate();
            for (n, line) in lines.filter(|(_, l)| !l.trim_ascii().is_empty()) {
                push(shared, &mut batch, topic, json(line, n + 1)?)?;
            }
        }
        "application/json" => push(shared, &mut batch, topic, json(body, 1)?)?,
        _ if body.is_empty() => {}
        _ => push(shared, &mut batch, topic, Payload::guess(body))?,
    }
    Ok(batch)
}

/// Checks that `bytes` is one JSON value that is not too deep for its later readers.
fn json(bytes: &[u8], line: usize) -> Result<Payload<'_>, Problem> {
    let at = |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("line {line}: {why}"));
    let text =
        std::str::from_utf8(bytes).map_err(|e| at(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| at(format!("not JSON: {e}")))?;
    if builtin::json_depth(text) > builtin::MAX_JSON_DEPTH {
        return Err(at(format!("nested deeper than {} levels", builtin::MAX_JSON_DEPTH)));
    }
    Ok(Payload::Json(text.trim()))
}

fn push(shared: &Shared, batch: &mut BatchBuilder, topic: &str, payload: Payload<'_>) -> Result<(), Problem> {
    let key = match (&shared.config.key_field, payload) {
        (Some(field), Payload::Json(text)) => key_of(text, field),
        _ => None,
    };
    let len = match payload {
        Payload::Json(t) | Payload::Text(t) => t.len(),
        Payload::Bytes(b) => b.len(),
    };
    let size = len + topic.len() + key.as_ref().map_or(0, String::len) + MESSAGE_OVERHEAD;
    let max = shared.outlet.max_row_bytes;
    if size > max {
        return Err(refusal(Refused::TooLarge { bytes: size, max }));
    }
    let values = builtin::message_values(topic, key.as_deref(), payload, None);
    let stamp = shared.outlet.stamp.next();
    batch
        .push(Op::Message, stamp, builtin::message(), None, builtin::image(&values))
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

/// The text or number under `field` of a JSON object.
fn key_of(json: &str, field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    match value.get(field)? {
        serde_json::Value::String(s) => Some(s.clone()),
        serde_json::Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}
