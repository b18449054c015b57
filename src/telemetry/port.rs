//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, `/debug/pprof/profile`.
//!
//! One small server on the main thread. On loopback it is open; anywhere else every request needs
//! `Authorization: Bearer <token>` (`/healthz` and `/readyz` tell nothing and stay open).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use async_net::{TcpListener, TcpStream};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};

use super::Readiness;
use crate::config::Secret;
use crate::runtime::http::HyperIo;
use crate::runtime::{Stop, spawn, timeout};

/// Connections at a time. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// A request must be there within this time, and its answer be taken.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// Serves until `stop`. `listener` is bound by the caller, so that a taken port is an error at start.
pub async fn serve(listener: TcpListener, token: Option<Secret>, ready: Readiness, stop: Stop) {
    let (permits, permit) = async_channel::bounded::<()>(MAX_CONNECTIONS);
    let token = Rc::new(token);
    while let Some(accepted) = stop.or(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            crate::runtime::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if permits.send(()).await.is_err() {
            return;
        }
        let (token, ready, permit) = (token.clone(), ready.clone(), permit.clone());
        spawn(async move {
            timeout(REQUEST_TIMEOUT, connection(stream, &token, &ready)).await;
            // Never empty: this connection's own permit is in it.
            let _taken = permit.try_recv();
        })
        .detach();
    }
}

async fn connection(stream: TcpStream, token: &Option<Secret>, ready: &Readiness) {
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(&request, token, ready).await) });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(16 * 1024)
        .keep_alive(true)
        .serve_connection(HyperIo(stream), service)
        .await;
    if let Err(error) = served {
        log::debug!("http port: {error}");
    }
}

async fn answer(
    request: &Request<Incoming>,
    token: &Option<Secret>,
    ready: &Readiness,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let open = matches!(path, "/healthz" | "/readyz");
    if !open && !authorised(request, token) {
        return text(StatusCode::UNAUTHORIZED, "needs `Authorization: Bearer <token>`\n".into());
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n".into()),
        "/readyz" => match ready.missing() {
            missing if missing.is_empty() => text(StatusCode::OK, "ready\n".into()),
            missing => text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
        },
        "/metrics" => {
            let body = super::expose();
            reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body.into())
        }
        "/debug/pprof/profile" => profile(request.uri().query().unwrap_or_default()).await,
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz, /readyz and /debug/pprof/profile?seconds=10\n".into(),
        ),
    }
}

fn authorised(request: &Request<Incoming>, token: &Option<Secret>) -> bool {
    let Some(token) = token else { return true };
    let given = request.headers().get(AUTHORIZATION).map(|v| v.as_bytes()).unwrap_or_default();
    token.matches(given.strip_prefix(b"Bearer ").unwrap_or_default())
}

/// CPU samples of this process for `seconds` (1–60, default 10), in pprof's protobuf.
async fn profile(query: &str) -> Response<Full<Bytes>> {
    use pprof::protos::Message;
    let seconds = query.split('&').find_map(|p| p.strip_prefix("seconds=")).unwrap_or("10");
    let Some(seconds) = seconds.parse().ok().filter(|s| (1..=60).contains(s)) else {
        return text(StatusCode::BAD_REQUEST, "seconds is 1 to 60\n".into());
    };
    let guard = match pprof::ProfilerGuardBuilder::default().frequency(99).build() {
        Ok(guard) => guard,
        Err(error) => return text(StatusCode::CONFLICT, format!("cannot profile now: {error}\n")),
    };
    crate::runtime::sleep(Duration::from_secs(seconds)).await;
    let body = guard.report().build().and_then(|report| report.pprof());
    match body {
        Ok(profile) => reply(StatusCode::OK, "application/octet-stream", profile.encode_to_vec().into()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", body.into())
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// Binds the port, or says what the user can do.
pub async fn bind(listen: SocketAddr, token: &Option<Secret>) -> Result<TcpListener, String> {
    if !listen.ip().is_loopback() && token.is_none() {
        return Err(format!("http.listen {listen} is not loopback: set http.token or http.token_file"));
    }
    TcpListener::bind(listen)
        .await
        .map_err(|error| format!("http.listen {listen}: {error}; choose another port"))
}
