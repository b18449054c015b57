//! TCP or a Unix socket, behind one type.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use async_net::TcpListener;
use async_net::unix::{UnixListener, UnixStream};
use futures_lite::{AsyncRead, AsyncWrite};

use crate::runtime::Socket;
use crate::source::SourceError;

/// Bound and listening.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With its path, which is removed at the end.
    Unix(UnixListener, PathBuf),
}

/// One connection.
pub(super) enum Stream {
    Tcp(Socket<std::net::TcpStream>),
    Unix(Socket<std::os::unix::net::UnixStream>),
}

/// Whether only this machine can reach `listen`; an error if it is no address.
pub(super) fn is_local(listen: &str) -> Result<bool, String> {
    if listen.starts_with("unix:") {
        return Ok(true);
    }
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| format!("listen `{listen}` is neither `127.0.0.1:8080` nor `unix:/run/dts.sock`"))?;
    Ok(address.ip().is_loopback())
}

impl Listener {
    pub(super) async fn bind(listen: &str) -> Result<Self, SourceError> {
        let fatal = |error: io::Error| SourceError::Fatal(format!("listen {listen}: {error}"));
        let Some(path) = listen.strip_prefix("unix:") else {
            return TcpListener::bind(listen).await.map(Self::Tcp).map_err(fatal);
        };
        remove_stale(Path::new(path)).await.map_err(fatal)?;
        UnixListener::bind(path).map(|l| Self::Unix(l, path.into())).map_err(fatal)
    }

    pub(super) fn address(&self) -> String {
        match self {
            Self::Tcp(l) => l.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(l) => {
                let (stream, _) = l.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(Socket::new(stream)))
            }
            Self::Unix(l, _) => l.accept().await.map(|(stream, _)| Stream::Unix(Socket::new(stream))),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            std::fs::remove_file(path).ok();
        }
    }
}

/// A socket file that nobody listens on any more is in the way of a restart.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &*self {
            Self::Tcp(s) => Pin::new(&mut &**s.io()).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(&mut &**s.io()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &*self {
            Self::Tcp(s) => s.io().get_ref().shutdown(Shutdown::Write),
            Self::Unix(s) => s.io().get_ref().shutdown(Shutdown::Write),
        })
    }
}
