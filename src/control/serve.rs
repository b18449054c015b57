//! The side of the running dts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use async_net::unix::{UnixListener, UnixStream};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::{Ask, Head, Tap, tap};
use crate::event::Batch;
use crate::runtime::{LocalFuture, Stop, sleep, spawn, timeout};

/// A request is this long at the most, and there within this time.
const MAX_REQUEST: u64 = 4096;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 16;
/// Most rows of one `spool_peek`.
const MAX_PEEK: u64 = 10_000;

/// What the engine knows.
pub trait Answers {
    /// How it is; `"status"` is `"ok"` or `"degraded"`.
    fn health(&self) -> LocalFuture<'_, serde_json::Value>;
    /// How full the buffer is; an error if there is none.
    fn spool_stats(&self) -> LocalFuture<'_, Result<serde_json::Value, String>>;
    /// The oldest batches of the buffer, with at least `limit` rows if there are so many.
    fn spool_peek(&self, lane: Option<String>, limit: usize) -> LocalFuture<'_, Result<Vec<Batch>, String>>;
}

/// Serves until `stop`. An error if the socket cannot be made, or another dts listens on it.
pub async fn serve(path: &Path, answers: Rc<dyn Answers>, tap: Tap, stop: Stop) -> Result<(), String> {
    let listener = bind(path).await?;
    let (permits, permit) = async_channel::bounded::<()>(MAX_CONNECTIONS);
    let path = path.to_owned();
    spawn(async move {
        while let Some(accepted) = stop.or(listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if stop.or(permits.send(())).await.is_none() {
                break;
            }
            let (answers, tap, permit, stop) = (answers.clone(), tap.clone(), permit.clone(), stop.clone());
            spawn(async move {
                // An asker that went away is nothing to tell anybody.
                stop.or(connection(stream, &*answers, &tap)).await;
                permit.try_recv().ok();
            })
            .detach();
        }
        std::fs::remove_file(&path).ok();
    })
    .detach();
    Ok(())
}

async fn bind(path: &Path) -> Result<UnixListener, String> {
    let fail = |error: std::io::Error| format!("control socket {}: {error}", path.display());
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(format!("another dts runs here: it listens on {}", path.display()));
        }
        std::fs::remove_file(path).map_err(fail)?;
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

async fn connection(mut stream: UnixStream, answers: &dyn Answers, tap: &Tap) -> std::io::Result<()> {
    let ask = match timeout(REQUEST_TIMEOUT, read_ask(&mut stream)).await {
        Some(Ok(ask)) => ask,
        Some(Err(why)) => return head(&mut stream, &Head::Error(why)).await,
        None => return Ok(()),
    };
    match answer(ask, &mut stream, answers, tap).await? {
        Ok(()) => stream.close().await,
        Err(why) => head(&mut stream, &Head::Error(why)).await,
    }
}

async fn read_ask(stream: &mut UnixStream) -> Result<Ask, String> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut limited = stream.take(MAX_REQUEST);
    while limited.read(&mut byte).await.map_err(|e| e.to_string())? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).map_err(|error| format!("no request that this dts knows: {error}"))
}

async fn head(stream: &mut UnixStream, head: &Head) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// The inner error is for the asker.
async fn answer(
    ask: Ask,
    stream: &mut UnixStream,
    answers: &dyn Answers,
    tap: &Tap,
) -> std::io::Result<Result<(), String>> {
    let object = match ask {
        Ask::Health {} => Ok(answers.health().await),
        Ask::SpoolStats {} => answers.spool_stats().await,
        Ask::SpoolPeek { lane, limit } => {
            let limit = limit.min(MAX_PEEK) as usize;
            let batches = match answers.spool_peek(lane, limit).await {
                Ok(batches) => batches,
                Err(why) => return Ok(Err(why)),
            };
            head(stream, &Head::Ok(true)).await?;
            for batch in &batches {
                stream.write_all(&tap::text(batch)).await?;
            }
            return Ok(Ok(()));
        }
        Ask::Tap { source } => {
            let Some(rows) = tap.look(source) else { return Ok(Err("too many look already".to_owned())) };
            head(stream, &Head::Ok(true)).await?;
            while let Ok(lines) = rows.recv().await {
                stream.write_all(&lines).await?;
            }
            return Ok(Ok(()));
        }
    };
    match object {
        Ok(object) => {
            head(stream, &Head::Ok(true)).await?;
            stream.write_all(format!("{object}\n").as_bytes()).await?;
            Ok(Ok(()))
        }
        Err(why) => Ok(Err(why)),
    }
}
