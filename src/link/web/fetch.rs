//! GET of a small document.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Request, StatusCode};

use super::connect::Connector;
use crate::runtime::http::HyperIo;
use crate::runtime::spawn;

/// Gets the document that `connector` leads to, of at most `max_bytes`, on a connection of its own.
/// Redirects are not followed: the document is where the user said, or nowhere. The caller sets the time
/// limit. Cancel safe: dropping it closes the connection. The error is for people.
pub async fn fetch(connector: &Connector, max_bytes: usize) -> Result<Bytes, String> {
    let url = connector.url();
    let io = connector.connect().await.map_err(|e| format!("connect: {e}"))?;
    let (mut sender, driver) = http1::handshake(HyperIo(io)).await.map_err(|e| format!("connect: {e}"))?;
    // Its error is told by the sender. Dropping the task closes the connection.
    let _driver = spawn(async move { driver.await.unwrap_or_default() });
    let request = Request::get(&url.path)
        .header(header::HOST, &url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("dts/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("the request cannot be made: {e}"))?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(format!("it answered {}", status.as_u16()));
    }
    let body = Limited::new(answer.into_body(), max_bytes).collect().await;
    Ok(body
        .map_err(|e| format!("its answer cannot be read (at most {max_bytes} bytes are): {e}"))?
        .to_bytes())
}
